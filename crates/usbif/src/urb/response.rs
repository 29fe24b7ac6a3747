//! What a request came to.

/// Words of a response: it lies at the beginning of its slot.
pub const RESPONSE_WORDS: usize = 4;

/// How a transfer ended. The numbers are Linux errors of x86, negated (`USBIF_STATUS_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Status {
    /// Done, perhaps short. To an unlink: taken note of.
    Ok = 0,
    /// The device is gone. Linux: `ENODEV`, drivers give up.
    NoDevice = -19,
    /// The request makes no sense. Linux: `EINVAL`.
    Invalid = -22,
    /// The endpoint is halted, or the device refuses a control request. Linux: `EPIPE`, and drivers
    /// clear the halt.
    Stall = -32,
    /// Errors on the bus, a timeout, or cancelled by the backend. Linux: `EPROTO`, and drivers try again.
    IoError = -71,
    /// The device sent more than was asked for. Linux: `EOVERFLOW`.
    Babble = -75,
    /// The controller goes away. Linux: `ESHUTDOWN`, which drivers read as "never submit again"; so it
    /// does with every number that is not in this list. Not for an error that may pass.
    Shutdown = -108,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::NoDevice,
        Self::Invalid,
        Self::Stall,
        Self::IoError,
        Self::Babble,
        Self::Shutdown,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn wire(self) -> i32 {
        self as i32
    }

    /// What a frontend makes of a number: every one that it does not know is a shutdown.
    #[must_use]
    pub const fn from_wire(number: i32) -> Self {
        match number {
            0 => Self::Ok,
            -19 => Self::NoDevice,
            -22 => Self::Invalid,
            -32 => Self::Stall,
            -71 => Self::IoError,
            -75 => Self::Babble,
            _ => Self::Shutdown,
        }
    }
}

/// The answer to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// How it ended.
    pub status: Status,
    /// Bytes that were moved, at most the transfer's length; of an isochronous transfer the sum of its
    /// packets. On the wire it is signed, and `xen-hcd` takes a negative number for the whole length.
    pub actual_length: u32,
    /// Isochronous: packets that failed.
    pub error_count: u32,
    /// Isochronous: the frame in which the transfer began.
    pub start_frame: u16,
}

impl Response {
    /// Done, with this many bytes.
    #[must_use]
    pub const fn done(actual_length: u32) -> Self {
        Self { status: Status::Ok, actual_length, error_count: 0, start_frame: 0 }
    }

    /// Ended so, with no bytes moved. With [`Status::Ok`] it is the answer to an unlink.
    #[must_use]
    pub const fn failed(status: Status) -> Self {
        Self { status, actual_length: 0, error_count: 0, start_frame: 0 }
    }

    /// `id` and `start_frame`, `status`, `actual_length`, `error_count`.
    pub(crate) fn to_words(self, id: u16) -> [u32; RESPONSE_WORDS] {
        [
            u32::from(id) | u32::from(self.start_frame) << 16,
            self.status.wire().cast_unsigned(),
            signed_part(self.actual_length),
            signed_part(self.error_count),
        ]
    }
}

/// These numbers are signed on the wire; none that a backend can mean gets near to the sign.
fn signed_part(number: u32) -> u32 {
    number.min(i32::MAX.cast_unsigned())
}
