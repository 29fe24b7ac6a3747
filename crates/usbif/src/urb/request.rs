//! What the guest asks for: 37 words, and what they say.
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
//! `xen-hcd` builds each request in a buffer that it has used before, so what is unused may hold
//! anything, and is not looked at.

use thiserror::Error;

use super::{Direction, Segment, SegmentError, Segments, Setup};
use crate::{Port, iso};

/// Size of a request, and so of a slot, in bytes (`struct usbif_urb_request`).
pub const REQUEST_BYTES: usize = 148;
/// The same in 32-bit words.
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

/// The one bit of `transfer_flags` (`USBIF_SHORT_NOT_OK`). The words of `usbif.h` say the opposite of
/// its name; Linux goes by the name.
pub(crate) const SHORT_NOT_OK: u32 = 1;

/// A request as it was copied out of its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestWords(pub [u32; REQUEST_WORDS]);

impl RequestWords {
    /// The words of a slot's bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; REQUEST_BYTES]) -> Self {
        let mut words = [0; REQUEST_WORDS];
        let (fours, _) = bytes.as_chunks::<4>();
        for (word, four) in words.iter_mut().zip(fours) {
            *word = u32::from_le_bytes(*four);
        }
        Self(words)
    }

    /// The bytes of a slot.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        let (fours, _) = bytes.as_chunks_mut::<4>();
        for (four, word) in fours.iter_mut().zip(self.0) {
            *four = word.to_le_bytes();
        }
        bytes
    }

    /// The guest's number for the request.
    #[must_use]
    pub const fn id(&self) -> u16 {
        halves(self.0[0]).0
    }

    /// The segments in the slots `from` up to `from + count`.
    fn segments(&self, from: usize, count: usize) -> Result<Segments, SegmentError> {
        let mut list = [Segment::default(); super::MAX_SEGMENTS];
        let (pairs, _) = self.0.split_at(5).1.as_chunks::<2>();
        for (segment, [gref, place]) in list.iter_mut().zip(pairs) {
            let (offset, length) = halves(*place);
            *segment = Segment { gref: *gref, offset, length };
        }
        Segments::new(list.get(from..from + count).ok_or(SegmentError::TooMany(from + count))?)
    }
}

/// The low and the high half of a word.
const fn halves(word: u32) -> (u16, u16) {
    ((word & 0xffff) as u16, (word >> 16) as u16)
}

/// What a request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for every request")]
pub enum Request {
    /// Move data.
    Submit(Transfer),
    /// Cancel the request with this number. The guest expects two answers, in any order: that of the
    /// request itself, whatever has become of it, and that of the unlink. It may be answered by now.
    Unlink {
        /// The number of the request to cancel.
        target: u16,
    },
    /// It makes no sense. Answer it with [`Status::Invalid`](super::Status::Invalid).
    Invalid(Invalid),
}

/// A transfer that makes sense. Whether the device and the endpoint exist is for others to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// The port that the device is in.
    pub port: Port,
    /// The guest's address of the device, 0 to 127; 0 until it has given it one.
    pub address: u8,
    /// Number of the endpoint: 0 for control transfers, else 1 to 15.
    pub endpoint: u8,
    /// Which way the data goes; for control transfers what the setup packet says.
    pub direction: Direction,
    /// What kind of transfer it is.
    pub kind: Kind,
    /// The guest wants to be told (by its own controller driver) if less data than asked for arrives;
    /// further transfers that are queued behind this one then make no sense (`URB_SHORT_NOT_OK`).
    pub short_not_ok: bool,
    /// Where the data is.
    pub data: Segments,
}

impl Transfer {
    /// How many bytes are to be moved, 0 to 65536: `wLength` for a control transfer, for which there may
    /// be more room than that, else all that `data` has.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        match self.kind {
            Kind::Control(setup) => usize::from(setup.length),
            _ => self.data.len_bytes(),
        }
    }
}

/// The four kinds of transfer, with what each has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Control.
    Control(Setup),
    /// Bulk.
    Bulk,
    /// Interrupt.
    Interrupt {
        /// Linux `urb->interval`: frames (1 ms) at low and full speed, microframes (125 µs) at high speed.
        interval: u16,
    },
    /// Isochronous.
    Isochronous(Isochronous),
}

/// What an isochronous transfer has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isochronous {
    /// Linux `urb->interval`: frames (1 ms) at full speed, microframes (125 µs) at high speed.
    pub interval: u16,
    /// The frame in which the guest would like to begin. Linux sends what it has, which says nothing.
    pub start_frame: u16,
    /// How many packets, 0 to [`iso::MAX_PACKETS`]. 0 if there is nothing to move: `xen-hcd` sends no
    /// table for a transfer without data. Such a transfer is done at once.
    pub packets: u16,
    /// Where the table of packets is ([`iso`]), readable and writable; at least 16 bytes for each packet.
    pub descriptors: Segments,
}

/// Why a request makes no sense. `xen-hcd` sends none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Invalid {
    /// Port 0.
    #[error("the guest's request names port 0, but ports are 1 to 31")]
    PortZero,
    /// More segments than there is room for.
    #[error(
        "the guest's request has {data} segments of data and {descriptors} of packet descriptors, \
         but there is room for 16 together"
    )]
    TooManySegments {
        /// Segments of data.
        data: u16,
        /// Segments of packet descriptors.
        descriptors: u16,
    },
    /// A segment that is none.
    #[error("the guest's request has a bad segment: {0}")]
    Segment(#[from] SegmentError),
    /// A bulk, interrupt or isochronous transfer to the control endpoint.
    #[error("the guest's request is no control transfer, but names endpoint 0")]
    EndpointZero,
    /// Less room than the data stage needs.
    #[error("the guest's control request is for {length} bytes, but has room for only {room}")]
    ControlTooShort {
        /// `wLength`.
        length: u16,
        /// Bytes in the segments.
        room: usize,
    },
    /// The data stage comes in, but the guest lent its memory for reading only.
    #[error("the guest's control request reads from the device, but its pipe is for writing")]
    ControlDirection,
    /// Data, but no packets to carry it.
    #[error("the guest's isochronous request has data, but no packets")]
    NoPackets,
    /// More packets than can be done.
    #[error(
        "the guest's isochronous request has {0} packets, but 128 is the most that can be done"
    )]
    TooManyPackets(u16),
    /// The table of packets is cut off.
    #[error(
        "the guest's isochronous request has {packets} packets, but describes them in {room} bytes"
    )]
    DescriptorsTooShort {
        /// `number_of_packets`.
        packets: u16,
        /// Bytes in the descriptor segments.
        room: usize,
    },
}

impl Request {
    /// Reads what a request says. Any words are a request, if perhaps an [`Request::Invalid`] one.
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

/// Reads a request that is no unlink.
fn transfer(words: &RequestWords) -> Result<Transfer, Invalid> {
    let pipe = words.0[1];
    // Five bits: 0 is the only number that is no port.
    let port = Port::new((pipe & pipe::PORT_MASK) as u8).map_err(|_| Invalid::PortZero)?;
    let address = (pipe >> pipe::ADDRESS_SHIFT & pipe::ADDRESS_MASK) as u8;
    let endpoint = (pipe >> pipe::ENDPOINT_SHIFT & pipe::ENDPOINT_MASK) as u8;
    let direction = if pipe & pipe::IN == 0 { Direction::Out } else { Direction::In };
    let short_not_ok = words.0[2] & SHORT_NOT_OK != 0;
    let kind = pipe >> pipe::TYPE_SHIFT;
    // What follows has them only if it is isochronous; else these bits are of something else.
    let descriptors = if kind == pipe::ISOCHRONOUS { halves(words.0[4]).1 } else { 0 };
    let (data, descriptors) = segments(words, descriptors)?;

    let (kind, endpoint, direction) = match kind {
        // Linux fills in the endpoint, but there is only one that it can be.
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

/// The segments of data, and behind them those of packet descriptors.
fn segments(words: &RequestWords, descriptors: u16) -> Result<(Segments, Segments), Invalid> {
    let data = halves(words.0[0]).1;
    let (first, second) = (usize::from(data), usize::from(descriptors));
    if first + second > super::MAX_SEGMENTS {
        return Err(Invalid::TooManySegments { data, descriptors });
    }
    Ok((words.segments(0, first)?, words.segments(first, second)?))
}

/// What a control transfer has of its own.
fn control(words: &RequestWords, pipe: Direction, data: &Segments) -> Result<Setup, Invalid> {
    let [a, b, c, d] = words.0[3].to_le_bytes();
    let [e, f, g, h] = words.0[4].to_le_bytes();
    let setup = Setup::from_bytes([a, b, c, d, e, f, g, h]);
    let room = data.len_bytes();
    if usize::from(setup.length) > room {
        return Err(Invalid::ControlTooShort { length: setup.length, room });
    }
    // Without data Linux drivers use either pipe; with data the pipe decides whether we may write to it.
    if setup.length > 0 && setup.direction() == Direction::In && pipe == Direction::Out {
        return Err(Invalid::ControlDirection);
    }
    Ok(setup)
}

/// What an isochronous transfer has of its own.
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
