//! The response to a request.

/// Size of a response in words. It is at the beginning of its slot.
pub const RESPONSE_WORDS: usize = 4;

/// The result of a transfer. The numbers are negative Linux error numbers of x86
/// (`USBIF_STATUS_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Status {
    /// Success, possibly short. For an unlink: accepted.
    Ok = 0,
    /// The device is gone. Linux: `ENODEV`; drivers give up.
    NoDevice = -19,
    /// The request is invalid. Linux: `EINVAL`.
    Invalid = -22,
    /// The endpoint is halted, or the device refused a control request. Linux: `EPIPE`; drivers
    /// clear the halt.
    Stall = -32,
    /// A bus error or a timeout, or the request was cancelled. Linux: `EPROTO`; drivers retry.
    IoError = -71,
    /// The device sent more data than requested. Linux: `EOVERFLOW`.
    Babble = -75,
    /// The controller is being removed. Linux: `ESHUTDOWN`, which drivers interpret as "never
    /// submit again". Linux treats every number that is not in this list in the same way. Not for
    /// temporary errors.
    Shutdown = -108,
}

impl Status {
    /// All statuses.
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

    /// How a frontend interprets a number: every unknown number is a shutdown.
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

/// The response to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// The result.
    pub status: Status,
    /// Bytes that were transferred, at most the transfer's length; for an isochronous transfer the
    /// sum of its packets. The field is signed on the wire, and `xen-hcd` interprets a negative
    /// number as the whole length.
    pub actual_length: u32,
    /// Isochronous: how many packets failed.
    pub error_count: u32,
    /// Isochronous: the frame in which the transfer started.
    pub start_frame: u16,
}

impl Response {
    /// Success, with this many bytes transferred.
    #[must_use]
    pub const fn done(actual_length: u32) -> Self {
        Self { status: Status::Ok, actual_length, error_count: 0, start_frame: 0 }
    }

    /// This status, with no bytes transferred. With [`Status::Ok`] it is the response to an unlink.
    #[must_use]
    pub const fn failed(status: Status) -> Self {
        Self { status, actual_length: 0, error_count: 0, start_frame: 0 }
    }

    /// The words on the wire: `id` and `start_frame`, `status`, `actual_length`, `error_count`.
    pub(crate) fn to_words(self, id: u16) -> [u32; RESPONSE_WORDS] {
        [
            u32::from(id) | u32::from(self.start_frame) << 16,
            self.status.wire() as u32,
            signed_part(self.actual_length),
            signed_part(self.error_count),
        ]
    }
}

/// Limits a number to the positive range of the signed field on the wire. No meaningful value comes
/// close to the limit.
fn signed_part(number: u32) -> u32 {
    number.min(i32::MAX as u32)
}
