//! The packet table of an isochronous transfer.
//!
//! The table is in the guest's memory, in separate segments after those of the data. Its layout is
//! that of Linux `struct usb_iso_packet_descriptor` (`usbif.h` does not specify it):
//!
//! ```text
//!  0         4         8               12        16
//!  ┌─────────┬─────────┬───────────────┬─────────┐
//!  │ offset  │ length  │ actual_length │ status  │   one row per packet
//!  └─────────┴─────────┴───────────────┴─────────┘
//!    guest writes        backend writes (status: i32)
//! ```
//!
//! With `xen-hcd` this is the live table of the guest's driver: it may begin anywhere in a page and
//! continue in the next, and the guest may change it at any time. So it is copied once, and only
//! the last two fields of each packet are written back.

use std::ops::Range;

use thiserror::Error;

use crate::arrays;

/// Size of a packet descriptor in bytes.
pub const DESCRIPTOR_BYTES: usize = 16;
/// Size of the part of a descriptor that is written back, in bytes.
pub const RESULT_BYTES: usize = 8;
/// The most packets that one transfer may have: the limit of Linux usbfs (`USBFS_MAX_ISO`, 128 in
/// `drivers/usb/core/devio.c`).
pub const MAX_PACKETS: usize = 128;

/// One packet, as the guest requests it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packet {
    /// Offset of its data in the transfer's data, in bytes.
    pub offset: u32,
    /// Length of its data or of the space for it, in bytes.
    pub length: u32,
}

impl Packet {
    /// Its range of bytes in the transfer's data.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        // Both are at most the length of the data, 65536 bytes, so this does not overflow.
        self.offset as usize..(self.offset as usize).saturating_add(self.length as usize)
    }
}

/// The result of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketResult {
    /// Bytes that were transferred.
    pub actual_length: u32,
    /// 0, or a negative Linux error number. The guest's driver receives it unchanged.
    pub status: i32,
}

/// Why a packet table is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadTable {
    /// More packets than are supported.
    #[error("the guest's table has {0} packets, but at most 128 are supported")]
    TooManyPackets(u16),
    /// Fewer bytes than the packets need.
    #[error(
        "the guest's table of {packets} packets has only {bytes} bytes, but each packet needs 16"
    )]
    TooShort {
        /// How many packets the table should have.
        packets: u16,
        /// How many bytes the table has.
        bytes: usize,
    },
    /// A packet extends beyond the end of the data.
    #[error(
        "packet {index} of the guest's table begins at byte {offset} and has {length} bytes, \
         but the transfer has only {data}"
    )]
    OverEnd {
        /// Its index, from 0.
        index: usize,
        /// Its offset in bytes.
        offset: u32,
        /// Its length in bytes.
        length: u32,
        /// Bytes of the transfer.
        data: usize,
    },
    /// All packets together are longer than the data, so they must overlap.
    #[error(
        "the packets of the guest's table overlap: together they are longer than the transfer's \
         {data} bytes"
    )]
    Overlap {
        /// Bytes of the transfer.
        data: usize,
    },
}

/// The packets of a transfer, at most [`MAX_PACKETS`]. Each lies within the data, and together they
/// are at most as long as the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packets {
    list: [Packet; MAX_PACKETS],
    count: usize,
}

impl Packets {
    /// Parses a table of this many packets, for a transfer with this many bytes of data.
    ///
    /// # Errors
    /// [`BadTable`]: the table is invalid.
    pub fn parse(table: &[u8], packets: u16, data: usize) -> Result<Self, BadTable> {
        let count = usize::from(packets);
        let mut all = Self { list: [Packet::default(); MAX_PACKETS], count };
        let list = all.list.get_mut(..count).ok_or(BadTable::TooManyPackets(packets))?;
        if table.len() / DESCRIPTOR_BYTES < count {
            return Err(BadTable::TooShort { packets, bytes: table.len() });
        }
        let mut left = data;
        for (index, (packet, descriptor)) in list.iter_mut().zip(arrays(table)).enumerate() {
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

/// Reads the first two fields of a descriptor.
const fn read_packet(descriptor: &[u8; DESCRIPTOR_BYTES]) -> Packet {
    let [a, b, c, d, e, f, g, h, ..] = *descriptor;
    Packet { offset: u32::from_le_bytes([a, b, c, d]), length: u32::from_le_bytes([e, f, g, h]) }
}

/// The bytes of the table that hold the result of a packet.
/// [`Segments::chunks`](crate::urb::Segments::chunks) of the descriptors maps them to the guest's
/// memory.
#[must_use]
pub const fn result_range(packet: usize) -> Range<usize> {
    let end = (packet + 1) * DESCRIPTOR_BYTES;
    end - RESULT_BYTES..end
}

/// The result of a packet, as it is written to the table.
#[must_use]
pub const fn result_bytes(result: PacketResult) -> [u8; RESULT_BYTES] {
    let [a, b, c, d] = result.actual_length.to_le_bytes();
    let [e, f, g, h] = result.status.to_le_bytes();
    [a, b, c, d, e, f, g, h]
}
