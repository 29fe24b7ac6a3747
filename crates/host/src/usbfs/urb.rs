//! What is asked of a device, and what became of it.

use std::ffi::c_int;

use rustix::io::Errno;

use super::buffer::Buffer;
use super::ioctls::{URB_BULK, URB_CONTROL, URB_INTERRUPT, URB_ISO};

/// The most packets of one isochronous URB (Linux, `devio.c`, `proc_do_submiturb`).
pub const MAX_PACKETS: usize = 128;

/// The setup packet in bytes (USB 2.0 specification, section 9.3).
pub(super) const SETUP: usize = 8;

/// Bit 7 of an endpoint's address and of `bmRequestType`: from the device to the host.
const IN: u8 = 0x80;

/// USB request block: one transfer. It owns its memory.
#[derive(Debug)]
pub struct Urb {
    /// Which of the four kinds of transfer.
    pub kind: Kind,
    /// `bEndpointAddress`: number in bits 0 to 3, bit 7 set for IN. 0 for a control transfer, whose setup packet has the direction.
    pub endpoint: u8,
    /// How it is to be done.
    pub flags: Flags,
    /// What is sent, or where to put what is received: all of [`Buffer::data`]. In a control URB the first 8 bytes are the setup
    /// packet as on the wire, and the data stage lies behind it, `wLength` bytes or more.
    pub buffer: Buffer,
}

/// How a transfer is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request to endpoint 0.
    Control,
    /// When the bus is free.
    Bulk,
    /// Small and in time.
    Interrupt,
    /// At a constant rate: 1 to [`MAX_PACKETS`] packets that follow one another in the buffer without gaps. Only their lengths count.
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

/// How an URB is to be done. A flag that means nothing for a kind or direction is left out: the kernel would refuse some, and write a
/// line to its log for others, as often as a guest likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// A short packet from the device is an error ([`Status::ShortRead`]), not the end. Only IN.
    pub short_not_ok: bool,
    /// Begin as soon as the controller can. Only isochronous; without it the kernel begins at frame 0 or where the stream is.
    pub iso_asap: bool,
    /// End with an empty packet if the last one is full. Only bulk and interrupt OUT.
    pub zero_packet: bool,
    /// This URB goes on with the transfer of the one before: if that ends short or fails, this is not done. Only bulk, and only where
    /// [`Capabilities::bulk_continuation`](super::Capabilities::bulk_continuation) is.
    pub bulk_continuation: bool,
}

impl Flags {
    /// `USBDEVFS_URB_*`, of `<linux/usbdevice_fs.h>`.
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
    /// Whether data flows from the device.
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

    /// Why the kernel must not see this, or may not; the number of bytes that it will use of the buffer otherwise.
    pub(super) fn check(&self) -> Result<c_int, Refused> {
        let have = self.buffer.len();
        let need = match &self.kind {
            Kind::Control => match *self.buffer.data() {
                [_, _, _, _, _, _, low, high, ..] => {
                    SETUP + usize::from(u16::from_le_bytes([low, high]))
                }
                _ => SETUP,
            },
            // The kernel counts on as many bytes as the packets have together, whatever the length of the buffer.
            Kind::Iso(packets) if (1..=MAX_PACKETS).contains(&packets.len()) => {
                let lengths = packets.iter().map(|packet| packet.length as usize);
                lengths.fold(0, usize::saturating_add)
            }
            Kind::Iso(packets) => return Err(Refused::Packets { count: packets.len() }),
            Kind::Bulk | Kind::Interrupt => have,
        };
        if need > have {
            return Err(Refused::BufferTooSmall { need, have });
        }
        c_int::try_from(have).map_err(|_| Refused::BufferTooSmall { need, have })
    }
}

/// One packet of an isochronous URB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// How long it may be, in bytes.
    pub length: u32,
    /// How many bytes were moved; 0 before.
    pub actual_length: u32,
    /// What became of it; [`Status::Ok`] before.
    pub status: Status,
}

impl Packet {
    /// A packet of this length in bytes, not yet sent.
    pub const fn new(length: u32) -> Packet {
        Packet { length, actual_length: 0, status: Status::Ok }
    }
}

/// A finished URB. When an isochronous one began, usbfs does not tell.
#[derive(Debug)]
pub struct Done {
    /// What it was submitted with.
    pub token: u64,
    /// What became of it. An isochronous one can be well with packets that are not.
    pub status: Status,
    /// How many bytes were moved; never more than there was room for. In a control URB those of the data stage, which lies behind the
    /// 8 bytes of the setup packet. In an isochronous one the sum of the packets, each at its own place.
    pub actual_length: usize,
    /// How many isochronous packets failed.
    pub error_count: u32,
    /// The packets of an isochronous URB, with their results; else none. The memory is that of [`Kind::Iso`], to be used again.
    pub packets: Vec<Packet>,
    /// The memory.
    pub buffer: Buffer,
}

/// What became of an URB or of a packet. Source: Linux, `Documentation/driver-api/usb/error-codes.rst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All well. Less may have been received than there was room for.
    Ok,
    /// EPIPE: the endpoint is halted until it is cleared; or the device does not know the request.
    Stalled,
    /// EOVERFLOW: the device sent more than there was room for, in a packet or in all.
    Overflow,
    /// EREMOTEIO: less was received than there was room for, and [`Flags::short_not_ok`] was set. What was received is good.
    ShortRead,
    /// ENODEV, ESHUTDOWN: the device was unplugged, or its endpoint taken away: the interface was released, or the device reset or
    /// configured. Whether the device is there still, [`UsbFs::reap`](super::UsbFs::reap) tells.
    Gone,
    /// ENOENT, ECONNRESET: it was discarded, or the interface was set anew.
    Cancelled,
    /// EPROTO, EILSEQ, ETIME, ECOMM, ENOSR: no answer or a garbled one, or the host was too slow. Which it was, as a positive
    /// error number. Often the first sign of an unplugged device.
    Protocol(i32),
    /// Any other positive error number: EXDEV for an isochronous transfer that was done in part, for one.
    Other(i32),
}

impl Status {
    /// What the kernel says, 0 or a negative error number.
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

    /// As Linux counts errors, and PVUSB with it: 0, or a negative number, such as -32 for a stall.
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

/// What stands for an error number that is none.
const EIO: i32 = Errno::IO.raw_os_error();

/// Why an URB was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The device was unplugged.
    #[error("the device is gone; plug it in again")]
    Gone,
    /// Another URB with this token is in flight.
    #[error("a transfer with the token {0} is in flight already; take another token")]
    TokenInUse(u64),
    /// As many are in flight as are allowed.
    #[error("{0} transfers are in flight, and no more are allowed; wait for one of them")]
    TooMany(usize),
    /// The setup packet or the packets speak of more bytes than there are.
    #[error("the transfer needs {need} bytes and its buffer has {have}; use a larger one")]
    BufferTooSmall {
        /// What the setup packet or the packets ask for, in bytes.
        need: usize,
        /// The length of the buffer's data in bytes.
        have: usize,
    },
    /// An isochronous URB with no packets or too many.
    #[error("an isochronous transfer has 1 to {MAX_PACKETS} packets and not {count}; split it")]
    Packets {
        /// How many it has.
        count: usize,
    },
    /// ENOMEM: the kernel has no memory for it.
    #[error(
        "the kernel has no memory for the transfer; wait for others to finish, or raise usbcore.usbfs_memory_mb"
    )]
    NoMemory,
    /// ENOENT: no such endpoint in the settings that the interfaces are in.
    #[error("the device has no such endpoint in its present settings; set the interface first")]
    NoEndpoint,
    /// EBUSY: a driver or another program has the interface.
    #[error("a driver or another program has the interface; claim it first")]
    Busy,
    /// EHOSTUNREACH: the device has no configuration.
    #[error("the device is not configured; set a configuration first")]
    NotConfigured,
    /// EREMOTEIO: the transfer that this one goes on with has failed.
    #[error("the transfer that this one goes on with has failed; begin a new one")]
    Interrupted,
    /// Any other error number: EINVAL for a kind that does not fit the endpoint, ENOSPC for a bus without room, EMSGSIZE for
    /// packets that are too long.
    #[error("the kernel refuses the transfer: {}", Errno::from_raw_os_error(*.0))]
    Other(i32),
}

impl Refused {
    pub(super) const fn from_errno(errno: Errno) -> Refused {
        match errno {
            Errno::NODEV | Errno::SHUTDOWN => Refused::Gone,
            Errno::NOMEM => Refused::NoMemory,
            Errno::NOENT => Refused::NoEndpoint,
            Errno::BUSY => Refused::Busy,
            Errno::HOSTUNREACH => Refused::NotConfigured,
            Errno::REMOTEIO => Refused::Interrupted,
            other => Refused::Other(other.raw_os_error()),
        }
    }

    /// As Linux counts errors, and PVUSB with it: a negative number.
    pub const fn errno(self) -> i32 {
        let errno = match self {
            Refused::Gone => Errno::SHUTDOWN,
            Refused::TokenInUse(_) | Refused::BufferTooSmall { .. } | Refused::Packets { .. } => {
                Errno::INVAL
            }
            Refused::TooMany(_) | Refused::NoMemory => Errno::NOMEM,
            Refused::NoEndpoint => Errno::NOENT,
            Refused::Busy => Errno::BUSY,
            Refused::NotConfigured => Errno::HOSTUNREACH,
            Refused::Interrupted => Errno::REMOTEIO,
            Refused::Other(number) => return number.saturating_neg(),
        };
        -errno.raw_os_error()
    }
}
