//! A request of the guest: 37 words, and how they are decoded.
//!
//! ```text
//! word 0     id: u16                    nr_buffer_segs: u16
//!      1     pipe: u32
//!      2     transfer_flags: u16        buffer_length: u16 (0 for 65536: not used)
//!      3, 4  control: setup packet      interrupt: interval: u16        unlink: unlink_id: u16
//!            isochronous: interval: u16, start_frame: u16, number_of_packets: u16, nr_frame_desc_segs: u16
//!      5 …   16 times: gref: u32, offset: u16, length: u16
//!
//! pipe  31 30 29 ──── 19 18 ── 15 14 ──── 8   7     6      5    4 ── 0
//!       type    unused   endpoint   address  IN  unused unlink   port
//! ```
//!
//! `xen-hcd` builds each request in a buffer that it has used before. So unused fields may contain
//! anything, and are ignored.

use thiserror::Error;

use super::{Direction, Segment, SegmentError, Segments, Setup};
use crate::{Port, arrays, iso};

/// Size of a request, and so of a slot, in bytes (`struct usbif_urb_request`).
pub const REQUEST_BYTES: usize = 148;
/// Size of a request in 32-bit words.
pub const REQUEST_WORDS: usize = REQUEST_BYTES / 4;

/// Bits of `pipe` (`USBIF_PIPE_*`).
pub(crate) mod pipe {
    pub(crate) const PORT_MASK: u32 = 0x1f;
    pub(crate) const UNLINK: u32 = 1 << 5;
    pub(crate) const IN: u32 = 1 << 7;
    pub(crate) const ADDRESS_SHIFT: u32 = 8;
    pub(crate) const ADDRESS_MASK: u32 = 0x7f;
    pub(crate) const ENDPOINT_SHIFT: u32 = 15;
    pub(crate) const ENDPOINT_MASK: u32 = 0xf;
    pub(crate) const TYPE_SHIFT: u32 = 30;
    pub(crate) const ISOCHRONOUS: u32 = 0;
    pub(crate) const INTERRUPT: u32 = 1;
    pub(crate) const CONTROL: u32 = 2;
    pub(crate) const BULK: u32 = 3;
}

/// The only bit of `transfer_flags` (`USBIF_SHORT_NOT_OK`). The comment in `usbif.h` contradicts
/// the name of the flag; Linux implements what the name says.
pub(crate) const SHORT_NOT_OK: u32 = 1;

/// The words of a request, copied out of its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestWords(pub [u32; REQUEST_WORDS]);

impl RequestWords {
    /// Converts the bytes of a slot.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; REQUEST_BYTES]) -> Self {
        let mut words = [0; REQUEST_WORDS];
        for (word, four) in words.iter_mut().zip(arrays(bytes)) {
            *word = u32::from_le_bytes(*four);
        }
        Self(words)
    }

    /// Converts to the bytes of a slot.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        for (four, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            four.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The guest's id for the request.
    #[must_use]
    pub const fn id(&self) -> u16 {
        halves(self.0[0]).0
    }

    /// The segments `from` to `from + count - 1` of the request.
    fn segments(&self, from: usize, count: usize) -> Result<Segments, SegmentError> {
        let mut list = [Segment::default(); super::MAX_SEGMENTS];
        let pairs = arrays(self.0.split_at(5).1);
        for (segment, [gref, range]) in list.iter_mut().zip(pairs) {
            let (offset, length) = halves(*range);
            *segment = Segment { gref: *gref, offset, length };
        }
        Segments::new(list.get(from..from + count).ok_or(SegmentError::TooMany(from + count))?)
    }
}

/// The low and the high half of a word.
const fn halves(word: u32) -> (u16, u16) {
    ((word & 0xffff) as u16, (word >> 16) as u16)
}

/// A decoded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for every request")]
pub enum Request {
    /// Transfer data.
    Submit(Transfer),
    /// Cancel the request with this id. The guest expects two responses, in any order: one to the
    /// request itself, whatever its result, and one to the unlink. The request may have been
    /// answered already.
    Unlink {
        /// The id of the request to cancel.
        target: u16,
    },
    /// An invalid request. Answer it with [`Status::Invalid`](super::Status::Invalid), or end the
    /// controller.
    Invalid(Invalid),
}

/// A valid transfer. Whether its device and endpoint exist is not checked here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// The port of the device.
    pub port: Port,
    /// The address that the guest gave the device, 0 to 127; 0 before it has given one.
    pub address: u8,
    /// Number of the endpoint: 0 for control transfers, otherwise 1 to 15.
    pub endpoint: u8,
    /// The direction of the data. For control transfers it comes from the setup packet.
    pub direction: Direction,
    /// The type of the transfer.
    pub kind: Kind,
    /// A short transfer is an error to the guest's driver: if less data than requested arrives, the
    /// transfers that are queued after this one must not be executed (`URB_SHORT_NOT_OK`).
    pub short_not_ok: bool,
    /// Where the data is.
    pub data: Segments,
}

impl Transfer {
    /// The number of bytes to transfer, 0 to 65536. For a control transfer it is `wLength`, and
    /// `data` may be longer. For all others it is the length of `data`.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        match self.kind {
            Kind::Control(setup) => usize::from(setup.length),
            _ => self.data.len_bytes(),
        }
    }
}

/// The four types of transfer, with their specific fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Control.
    Control(Setup),
    /// Bulk.
    Bulk,
    /// Interrupt.
    Interrupt {
        /// Linux `urb->interval`: frames (1 ms) at low and full speed, microframes (125 µs) at high
        /// speed.
        interval: u16,
    },
    /// Isochronous.
    Isochronous(Isochronous),
}

/// The specific fields of an isochronous transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isochronous {
    /// Linux `urb->interval`: frames (1 ms) at full speed, microframes (125 µs) at high speed.
    pub interval: u16,
    /// The frame in which the transfer should start. Linux does not set it to anything meaningful.
    pub start_frame: u16,
    /// The number of packets, 0 to [`iso::MAX_PACKETS`]. 0 if there is no data: `xen-hcd` sends no
    /// table for a transfer without data. Such a transfer completes immediately.
    pub packets: u16,
    /// The packet table ([`iso`]), readable and writable; at least 16 bytes per packet.
    pub descriptors: Segments,
}

/// Why a request is invalid. `xen-hcd` sends such a request only if a driver of the guest asks for
/// it ([`Invalid::TooManyPackets`], [`Invalid::ControlTooShort`], [`Invalid::ControlDirection`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Invalid {
    /// Port 0.
    #[error("the guest's request is for port 0, but ports are 1 to 31")]
    PortZero,
    /// More segments than fit into a request.
    #[error(
        "the guest's request has {data} segments of data and {descriptors} segments of packet \
         descriptors, but at most 16 fit into a request"
    )]
    TooManySegments {
        /// Segments of data.
        data: u16,
        /// Segments of packet descriptors.
        descriptors: u16,
    },
    /// An invalid segment.
    #[error("the guest's request has a bad segment: {0}")]
    Segment(#[from] SegmentError),
    /// A bulk, interrupt or isochronous transfer to the control endpoint.
    #[error("the guest's request is not a control transfer, but is for endpoint 0")]
    EndpointZero,
    /// Less memory than the data stage needs.
    #[error("the guest's control request is for {length} bytes, but its segments have only {room}")]
    ControlTooShort {
        /// `wLength`.
        length: u16,
        /// Bytes in the segments.
        room: usize,
    },
    /// The data stage is from the device, but the guest granted its memory read-only.
    #[error("the guest's control request reads from the device, but its pipe is for writing")]
    ControlDirection,
    /// Data, but no packets.
    #[error("the guest's isochronous request has data, but no packets")]
    NoPackets,
    /// More packets than are supported.
    #[error("the guest's isochronous request has {0} packets, but at most 128 are supported")]
    TooManyPackets(u16),
    /// The packet table is too short.
    #[error(
        "the guest's isochronous request has {packets} packets, but a table of only {room} bytes"
    )]
    DescriptorsTooShort {
        /// `number_of_packets`.
        packets: u16,
        /// Bytes in the descriptor segments.
        room: usize,
    },
}

impl Request {
    /// Decodes a request. Every combination of words is a request, possibly a [`Request::Invalid`].
    #[must_use]
    pub fn decode(words: &RequestWords) -> Self {
        if words.0[1] & pipe::UNLINK != 0 {
            return Self::Unlink { target: halves(words.0[3]).0 };
        }
        match transfer(words) {
            Ok(transfer) => Self::Submit(transfer),
            Err(invalid) => Self::Invalid(invalid),
        }
    }
}

/// Decodes a request that is not an unlink.
fn transfer(words: &RequestWords) -> Result<Transfer, Invalid> {
    let pipe = words.0[1];
    // The number has five bits, so 0 is the only invalid one.
    let port = Port::new((pipe & pipe::PORT_MASK) as u8).map_err(|_| Invalid::PortZero)?;
    let address = (pipe >> pipe::ADDRESS_SHIFT & pipe::ADDRESS_MASK) as u8;
    let endpoint = (pipe >> pipe::ENDPOINT_SHIFT & pipe::ENDPOINT_MASK) as u8;
    let direction = if pipe & pipe::IN == 0 { Direction::Out } else { Direction::In };
    let short_not_ok = words.0[2] & SHORT_NOT_OK != 0;
    let kind = pipe >> pipe::TYPE_SHIFT;
    // Only isochronous requests have descriptors. In other requests these bits are part of another
    // field.
    let descriptors = if kind == pipe::ISOCHRONOUS { halves(words.0[4]).1 } else { 0 };
    let (data, descriptors) = segments(words, descriptors)?;

    let (kind, endpoint, direction) = match kind {
        // Linux fills in the endpoint, but it can only be 0.
        pipe::CONTROL => {
            let setup = control(words, direction, &data)?;
            (Kind::Control(setup), 0, setup.direction())
        }
        _ if endpoint == 0 => return Err(Invalid::EndpointZero),
        pipe::BULK => (Kind::Bulk, endpoint, direction),
        pipe::INTERRUPT => {
            (Kind::Interrupt { interval: halves(words.0[3]).0 }, endpoint, direction)
        }
        _ => (Kind::Isochronous(isochronous(words, &data, descriptors)?), endpoint, direction),
    };
    Ok(Transfer { port, address, endpoint, direction, kind, short_not_ok, data })
}

/// The segments of the data, and those of the packet descriptors, which follow them.
fn segments(words: &RequestWords, descriptors: u16) -> Result<(Segments, Segments), Invalid> {
    let data = halves(words.0[0]).1;
    let (first, second) = (usize::from(data), usize::from(descriptors));
    if first + second > super::MAX_SEGMENTS {
        return Err(Invalid::TooManySegments { data, descriptors });
    }
    Ok((words.segments(0, first)?, words.segments(first, second)?))
}

/// The specific fields of a control transfer.
fn control(words: &RequestWords, pipe: Direction, data: &Segments) -> Result<Setup, Invalid> {
    let [a, b, c, d] = words.0[3].to_le_bytes();
    let [e, f, g, h] = words.0[4].to_le_bytes();
    let setup = Setup::from_bytes([a, b, c, d, e, f, g, h]);
    let room = data.len_bytes();
    if usize::from(setup.length) > room {
        return Err(Invalid::ControlTooShort { length: setup.length, room });
    }
    // Without data, Linux drivers use either direction. With data, the direction of the pipe
    // decides whether the backend may write to the guest's memory.
    if setup.length > 0 && setup.direction() == Direction::In && pipe == Direction::Out {
        return Err(Invalid::ControlDirection);
    }
    Ok(setup)
}

/// The specific fields of an isochronous transfer.
fn isochronous(
    words: &RequestWords,
    data: &Segments,
    descriptors: Segments,
) -> Result<Isochronous, Invalid> {
    let (interval, start_frame) = halves(words.0[3]);
    let (packets, _) = halves(words.0[4]);
    if data.is_empty() && descriptors.is_empty() {
        return Ok(Isochronous { interval, start_frame, packets: 0, descriptors });
    }
    if packets == 0 {
        return Err(Invalid::NoPackets);
    }
    if usize::from(packets) > iso::MAX_PACKETS {
        return Err(Invalid::TooManyPackets(packets));
    }
    let room = descriptors.len_bytes();
    if usize::from(packets) * iso::DESCRIPTOR_BYTES > room {
        return Err(Invalid::DescriptorsTooShort { packets, room });
    }
    Ok(Isochronous { interval, start_frame, packets, descriptors })
}
