//! Transfers: what is submitted to a device, and how it completed.

use std::ffi::c_int;

use rustix::io::Errno;

use super::buffer::Buffer;
use super::ioctls::{URB_BULK, URB_CONTROL, URB_INTERRUPT, URB_ISO};

/// The maximum number of packets in an isochronous URB (Linux, `devio.c`, `proc_do_submiturb`).
pub const MAX_PACKETS: usize = 128;

/// The length of the setup packet in bytes (USB 2.0 specification, section 9.3).
pub(super) const SETUP: usize = 8;

/// Bit 7 of an endpoint's address and of `bmRequestType`: device to host.
const IN: u8 = 0x80;

/// A USB request block: one transfer. It owns its memory.
#[derive(Debug)]
pub struct Urb {
    /// The transfer type.
    pub kind: Kind,
    /// `bEndpointAddress`: number in bits 0 to 3, bit 7 set for IN. 0 for a control transfer, whose
    /// direction is in the setup packet.
    pub endpoint: u8,
    /// Options.
    pub flags: Flags,
    /// The data to send, or the space for the data to receive: all of [`Buffer::data`]. In a
    /// control URB the first 8 bytes are the setup packet as on the wire, followed by the data
    /// stage, at least `wLength` bytes.
    pub buffer: Buffer,
}

/// The type of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request to endpoint 0.
    Control,
    /// Whenever the bus has bandwidth left.
    Bulk,
    /// Small, with bounded latency.
    Interrupt,
    /// Isochronous: 1 to [`MAX_PACKETS`] packets at consecutive positions in the buffer. Only their
    /// lengths are used.
    Iso(Vec<Packet>),
}

impl Kind {
    pub(super) const fn raw(&self) -> u8 {
        match self {
            Kind::Control => URB_CONTROL,
            Kind::Bulk => URB_BULK,
            Kind::Interrupt => URB_INTERRUPT,
            Kind::Iso(_) => URB_ISO,
        }
    }
}

/// Options of a URB. A flag that does not apply to the kind or direction is ignored. The kernel
/// would reject some of them, and log a warning for others, so that a guest could flood the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// A short packet from the device is an error ([`Status::ShortRead`]). Only IN.
    pub short_not_ok: bool,
    /// Start as soon as possible. Only isochronous. Without it the kernel starts at frame 0, or
    /// continues the stream.
    pub iso_asap: bool,
    /// Append an empty packet if the last one is full. Only bulk and interrupt OUT.
    pub zero_packet: bool,
    /// Continues the transfer of the previous URB: not started if that one ends short or fails.
    /// Only bulk, and only with
    /// [`Capabilities::bulk_continuation`](super::Capabilities::bulk_continuation).
    pub bulk_continuation: bool,
}

impl Flags {
    /// `USBDEVFS_URB_*` of `<linux/usbdevice_fs.h>`.
    pub(super) fn raw(self, kind: &Kind, is_in: bool) -> u32 {
        const SHORT_NOT_OK: u32 = 0x01;
        const ISO_ASAP: u32 = 0x02;
        const BULK_CONTINUATION: u32 = 0x04;
        const ZERO_PACKET: u32 = 0x40;
        let stream = matches!(kind, Kind::Bulk | Kind::Interrupt);
        let iso = matches!(kind, Kind::Iso(_));
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        flag(self.short_not_ok && is_in && !iso, SHORT_NOT_OK)
            | flag(self.iso_asap && iso, ISO_ASAP)
            | flag(self.zero_packet && !is_in && stream, ZERO_PACKET)
            | flag(self.bulk_continuation && *kind == Kind::Bulk, BULK_CONTINUATION)
    }
}

impl Urb {
    /// Whether data is transferred from the device.
    pub fn is_in(&self) -> bool {
        match self.kind {
            Kind::Control => match *self.buffer.data() {
                [request_type, _, _, _, _, _, low, high, ..] => {
                    request_type & IN != 0 && (low, high) != (0, 0)
                }
                _ => false,
            },
            _ => self.endpoint & IN != 0,
        }
    }

    /// Validates the URB and returns the number of bytes that the kernel may use of the buffer.
    pub(super) fn check(&self) -> Result<c_int, SubmitError> {
        let have = self.buffer.len();
        let need = match &self.kind {
            Kind::Control => match *self.buffer.data() {
                [_, _, _, _, _, _, low, high, ..] => {
                    SETUP + usize::from(u16::from_le_bytes([low, high]))
                }
                _ => SETUP,
            },
            // The kernel ignores the length of the buffer and uses the sum of the packets.
            Kind::Iso(packets) if (1..=MAX_PACKETS).contains(&packets.len()) => {
                let lengths = packets.iter().map(|packet| packet.length as usize);
                lengths.fold(0, usize::saturating_add)
            }
            Kind::Iso(packets) => return Err(SubmitError::PacketCount { count: packets.len() }),
            Kind::Bulk | Kind::Interrupt => have,
        };
        if need > have {
            return Err(SubmitError::BufferTooSmall { need, have });
        }
        c_int::try_from(have).map_err(|_| SubmitError::BufferTooSmall { need, have })
    }
}

/// One packet of an isochronous URB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The maximum length in bytes.
    pub length: u32,
    /// The number of bytes transferred; 0 before completion.
    pub actual_length: u32,
    /// The result; [`Status::Ok`] before completion.
    pub status: Status,
}

impl Packet {
    /// A packet of this length in bytes.
    pub const fn new(length: u32) -> Packet {
        Packet { length, actual_length: 0, status: Status::Ok }
    }
}

/// A completed URB. For isochronous ones, usbfs does not report the start frame.
#[derive(Debug)]
pub struct Completion {
    /// The token it was submitted with.
    pub token: u64,
    /// The result. An isochronous URB can succeed although some of its packets failed.
    pub status: Status,
    /// The number of bytes transferred, at most what was requested. In a control URB, the bytes of
    /// the data stage, which follows the 8 bytes of the setup packet. In an isochronous URB, the
    /// sum over the packets, each of which is at its own position.
    pub actual_length: usize,
    /// The number of isochronous packets that failed.
    pub error_count: u32,
    /// The packets of an isochronous URB with their results, otherwise empty. This is the vector of
    /// [`Kind::Iso`], for reuse.
    pub packets: Vec<Packet>,
    /// The memory of the URB.
    pub buffer: Buffer,
}

/// The result of a URB or of a packet. Source: Linux,
/// `Documentation/driver-api/usb/error-codes.rst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Success. Less may have been received than was requested.
    Ok,
    /// EPIPE: the endpoint is halted until the halt is cleared, or the device does not support the
    /// request.
    Stalled,
    /// EOVERFLOW: the device sent more than was requested, in one packet or in total.
    Overflow,
    /// EREMOTEIO: less was received than was requested, and [`Flags::short_not_ok`] was set. The
    /// received data is valid.
    ShortRead,
    /// ENODEV, ESHUTDOWN: the device was unplugged, or its endpoint disabled because the interface
    /// was released, or the device reset or configured. [`UsbFs::reap`](super::UsbFs::reap) reports
    /// whether the device is gone.
    Gone,
    /// ENOENT, ECONNRESET: it was discarded, or the interface was set.
    Cancelled,
    /// EPROTO, EILSEQ, ETIME, ECOMM, ENOSR: no response or a garbled one, or the host was too slow.
    /// Contains the positive error number. Often the first sign of an unplugged device.
    Protocol(i32),
    /// Any other positive error number, such as EXDEV for a partial isochronous transfer.
    Other(i32),
}

impl Status {
    /// From the kernel's status: 0 or a negative error number.
    pub(super) const fn from_raw(status: c_int) -> Status {
        if status == 0 {
            return Status::Ok;
        }
        let number = status.saturating_neg();
        match Errno::from_raw_os_error(if number > 0 && number < 4096 { number } else { EIO }) {
            Errno::PIPE => Status::Stalled,
            Errno::OVERFLOW => Status::Overflow,
            Errno::REMOTEIO => Status::ShortRead,
            Errno::NODEV | Errno::SHUTDOWN => Status::Gone,
            Errno::NOENT | Errno::CONNRESET => Status::Cancelled,
            it @ (Errno::PROTO | Errno::ILSEQ | Errno::TIME | Errno::COMM | Errno::NOSR) => {
                Status::Protocol(it.raw_os_error())
            }
            it => Status::Other(it.raw_os_error()),
        }
    }

    /// 0 or the negative error number, as Linux and PVUSB define it, such as -32 for a stall.
    pub const fn errno(self) -> i32 {
        match self {
            Status::Ok => 0,
            Status::Stalled => -Errno::PIPE.raw_os_error(),
            Status::Overflow => -Errno::OVERFLOW.raw_os_error(),
            Status::ShortRead => -Errno::REMOTEIO.raw_os_error(),
            Status::Gone => -Errno::SHUTDOWN.raw_os_error(),
            Status::Cancelled => -Errno::CONNRESET.raw_os_error(),
            Status::Protocol(number) | Status::Other(number) => number.saturating_neg(),
        }
    }
}

/// Replaces invalid error numbers.
const EIO: i32 = Errno::IO.raw_os_error();

/// Why a URB was not submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The device was unplugged.
    #[error("the device is gone; plug it in again")]
    Gone,
    /// Another URB with this token is in flight.
    #[error("a transfer with token {0} is already in flight; use another token")]
    TokenInUse(u64),
    /// The maximum number of URBs is in flight.
    #[error("{0} transfers are in flight, which is the maximum; wait for one of them to complete")]
    TooMany(usize),
    /// The setup packet or the packets specify more bytes than the buffer has.
    #[error("the transfer needs {need} bytes, but its buffer has {have}; use a larger one")]
    BufferTooSmall {
        /// The number of bytes that the setup packet or the packets specify.
        need: usize,
        /// The length of the buffer's data in bytes.
        have: usize,
    },
    /// An isochronous URB without packets or with too many.
    #[error("an isochronous transfer must have 1 to {MAX_PACKETS} packets, not {count}")]
    PacketCount {
        /// The number of packets in the URB.
        count: usize,
    },
    /// ENOMEM: the kernel lacks memory for it.
    #[error(
        "the kernel lacks memory for the transfer; wait for others to complete, or raise usbcore.usbfs_memory_mb"
    )]
    NoMemory,
    /// ENOENT: no such endpoint in the current settings of the interfaces.
    #[error("the device has no such endpoint in its current settings; set the interface first")]
    NoEndpoint,
    /// EBUSY: the interface is claimed elsewhere.
    #[error("a driver or another program uses the interface; claim it first")]
    Busy,
    /// EHOSTUNREACH: the device is not configured.
    #[error("the device is not configured; set a configuration first")]
    NotConfigured,
    /// EREMOTEIO: the transfer that this URB continues has failed.
    #[error("the transfer that this one continues has failed; start a new one")]
    ContinuationFailed,
    /// Any other error number: EINVAL for a kind that does not match the endpoint, ENOSPC if the
    /// bus lacks bandwidth, EMSGSIZE for packets that are too long.
    #[error("the kernel rejected the transfer: {}", Errno::from_raw_os_error(*.0))]
    Other(i32),
}

impl SubmitError {
    pub(super) const fn from_errno(errno: Errno) -> SubmitError {
        match errno {
            Errno::NODEV | Errno::SHUTDOWN => SubmitError::Gone,
            Errno::NOMEM => SubmitError::NoMemory,
            Errno::NOENT => SubmitError::NoEndpoint,
            Errno::BUSY => SubmitError::Busy,
            Errno::HOSTUNREACH => SubmitError::NotConfigured,
            Errno::REMOTEIO => SubmitError::ContinuationFailed,
            other => SubmitError::Other(other.raw_os_error()),
        }
    }

    /// The negative error number, as Linux and PVUSB define it.
    pub const fn errno(self) -> i32 {
        let errno = match self {
            SubmitError::Gone => Errno::SHUTDOWN,
            SubmitError::TokenInUse(_)
            | SubmitError::BufferTooSmall { .. }
            | SubmitError::PacketCount { .. } => Errno::INVAL,
            SubmitError::TooMany(_) | SubmitError::NoMemory => Errno::NOMEM,
            SubmitError::NoEndpoint => Errno::NOENT,
            SubmitError::Busy => Errno::BUSY,
            SubmitError::NotConfigured => Errno::HOSTUNREACH,
            SubmitError::ContinuationFailed => Errno::REMOTEIO,
            SubmitError::Other(number) => return number.saturating_neg(),
        };
        -errno.raw_os_error()
    }
}
