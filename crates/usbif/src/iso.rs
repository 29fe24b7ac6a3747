//! The table of packets of an isochronous transfer.
//!
//! It lies in the guest's memory, in segments of its own behind those of the data, and its layout is that
//! of Linux `struct usb_iso_packet_descriptor` (`usbif.h` does not say):
//!
//! ```text
//!  0         4         8               12        16
//!  ┌─────────┬─────────┬───────────────┬─────────┐
//!  │ offset  │ length  │ actual_length │ status  │   once for each packet
//!  └─────────┴─────────┴───────────────┴─────────┘
//!    guest writes        backend writes (status: i32)
//! ```
//!
//! With `xen-hcd` this is the live table of the guest's driver: it may begin anywhere in a page and go on
//! in the next, and the guest may change it at any time. So it is copied once, and only the last two
//! fields of each packet are written back.

use std::ops::Range;

use thiserror::Error;

/// Size of a packet's descriptor, in bytes.
pub const DESCRIPTOR_BYTES: usize = 16;
/// Size of what is written back of each, in bytes.
pub const RESULT_BYTES: usize = 8;
/// The most packets that one transfer may have: Linux usbfs takes no more (`USBFS_MAX_ISO`, 128 in
/// `drivers/usb/core/devio.c`).
pub const MAX_PACKETS: usize = 128;

/// One packet, as the guest wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packet {
    /// Where its data begins in the transfer's, in bytes.
    pub offset: u32,
    /// How many bytes there are, or are room for.
    pub length: u32,
}

impl Packet {
    /// Its bytes within the transfer's data.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        // Both are within the data, of at most 65536 bytes.
        self.offset as usize..(self.offset as usize).saturating_add(self.length as usize)
    }
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketResult {
    /// Bytes that were moved.
    pub actual_length: u32,
    /// 0, or a negated Linux error number: the guest's driver gets it as it is.
    pub status: i32,
}

/// A table of packets that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadTable {
    /// More packets than can be done.
    #[error("the guest's table has {0} packets, but 128 is the most that can be done")]
    TooManyPackets(u16),
    /// Fewer bytes than the packets need.
    #[error(
        "the guest's table of {packets} packets has only {bytes} bytes, but each packet needs 16"
    )]
    TooShort {
        /// How many packets there should be.
        packets: u16,
        /// How many bytes there are.
        bytes: usize,
    },
    /// A packet reaches over the end of the data.
    #[error(
        "packet {index} of the guest's table begins at byte {offset} and has {length} bytes, \
         but the transfer has only {data}"
    )]
    OverEnd {
        /// Which packet, from 0.
        index: usize,
        /// Where it begins.
        offset: u32,
        /// Its length in bytes.
        length: u32,
        /// Bytes of the transfer.
        data: usize,
    },
    /// All packets together have more bytes than the data: they overlap.
    #[error(
        "the packets of the guest's table overlap: together they are more than the transfer's {data} bytes"
    )]
    Overlap {
        /// Bytes of the transfer.
        data: usize,
    },
}

/// The packets of a transfer, up to [`MAX_PACKETS`]. Each lies within the data, and together they are no
/// longer than it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packets {
    list: [Packet; MAX_PACKETS],
    count: usize,
}

impl Packets {
    /// Reads a table of this many packets, for a transfer with this many bytes of data.
    ///
    /// # Errors
    /// [`BadTable`] says which packet cannot be.
    pub fn parse(table: &[u8], packets: u16, data: usize) -> Result<Self, BadTable> {
        let count = usize::from(packets);
        let mut all = Self { list: [Packet::default(); MAX_PACKETS], count };
        let list = all.list.get_mut(..count).ok_or(BadTable::TooManyPackets(packets))?;
        let (descriptors, _) = table.as_chunks::<DESCRIPTOR_BYTES>();
        if descriptors.len() < count {
            return Err(BadTable::TooShort { packets, bytes: table.len() });
        }
        let mut left = data;
        for (index, (packet, descriptor)) in list.iter_mut().zip(descriptors).enumerate() {
            *packet = read_packet(descriptor);
            let Packet { offset, length } = *packet;
            if u64::from(offset) + u64::from(length) > data as u64 {
                return Err(BadTable::OverEnd { index, offset, length, data });
            }
            left = left.checked_sub(length as usize).ok_or(BadTable::Overlap { data })?;
        }
        Ok(all)
    }

    /// The packets.
    #[must_use]
    pub fn as_slice(&self) -> &[Packet] {
        self.list.get(..self.count).unwrap_or_default()
    }
}

/// The first two fields of a descriptor.
const fn read_packet(descriptor: &[u8; DESCRIPTOR_BYTES]) -> Packet {
    let [a, b, c, d, e, f, g, h, ..] = *descriptor;
    Packet { offset: u32::from_le_bytes([a, b, c, d]), length: u32::from_le_bytes([e, f, g, h]) }
}

/// Where in the table the result of a packet belongs: with
/// [`Segments::chunks`](crate::urb::Segments::chunks) of the descriptors, where in the guest's memory.
#[must_use]
pub const fn result_range(packet: usize) -> Range<usize> {
    let end = (packet + 1) * DESCRIPTOR_BYTES;
    end - RESULT_BYTES..end
}

/// The bytes that belong there.
#[must_use]
pub const fn result_bytes(result: PacketResult) -> [u8; RESULT_BYTES] {
    let [a, b, c, d] = result.actual_length.to_le_bytes();
    let [e, f, g, h] = result.status.to_le_bytes();
    [a, b, c, d, e, f, g, h]
}
