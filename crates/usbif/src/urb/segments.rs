//! The guest's memory of a transfer: up to 16 pieces of its pages, each accessible through a grant.

use std::ops::Range;

use thiserror::Error;

use crate::PAGE_BYTES;

/// The most segments in one request, including those of isochronous packet descriptors
/// (`USBIF_MAX_SEGMENTS_PER_REQUEST`).
pub const MAX_SEGMENTS: usize = 16;

/// A piece of one granted page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Segment {
    /// The grant reference of the page.
    pub gref: u32,
    /// Offset in the page, in bytes.
    pub offset: u16,
    /// Length in bytes. May be 0; offset and length together are at most 4096.
    pub length: u16,
}

impl Segment {
    /// Whether it lies within its page.
    #[must_use]
    pub fn fits(&self) -> bool {
        usize::from(self.offset) + usize::from(self.length) <= PAGE_BYTES
    }
}

/// Why a list of segments is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SegmentError {
    /// More than fit into a request.
    #[error("{0} segments, but a request carries at most 16")]
    TooMany(usize),
    /// A segment extends beyond the end of its page.
    #[error("segment {index} begins at byte {offset} and has {length} bytes, but a page has 4096")]
    OverEnd {
        /// Its index, from 0.
        index: usize,
        /// Its offset in bytes.
        offset: u16,
        /// Its length in bytes.
        length: u16,
    },
}

/// Up to 16 segments, which form one range of bytes. Each has been checked to lie within its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segments {
    // Entries from `count` on are zero, so that the derived equality is correct.
    list: [Segment; MAX_SEGMENTS],
    count: u8,
}

impl Segments {
    /// No segments: a transfer without data.
    pub const NONE: Self =
        Self { list: [Segment { gref: 0, offset: 0, length: 0 }; MAX_SEGMENTS], count: 0 };

    /// A list of these segments, in this order.
    ///
    /// # Errors
    /// [`SegmentError`] if there are more than 16, or one does not lie within its page.
    pub fn new(segments: &[Segment]) -> Result<Self, SegmentError> {
        let mut all = Self::NONE;
        let Some(list) = all.list.get_mut(..segments.len()) else {
            return Err(SegmentError::TooMany(segments.len()));
        };
        for (index, (to, from)) in list.iter_mut().zip(segments).enumerate() {
            if !from.fits() {
                let Segment { offset, length, .. } = *from;
                return Err(SegmentError::OverEnd { index, offset, length });
            }
            *to = *from;
            all.count += 1;
        }
        Ok(all)
    }

    /// The segments.
    #[must_use]
    pub fn as_slice(&self) -> &[Segment] {
        self.list.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The total length in bytes, 0 to 65536. This is the length of a transfer. The field
    /// `buffer_length` of the request has only 16 bits, and is 0 for 65536.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.as_slice().iter().map(|segment| usize::from(segment.length)).sum()
    }

    /// Maps the bytes `range` of the transfer to the guest's memory. The chunks are in order, and
    /// none is empty. Bytes after the end of the transfer are omitted.
    #[must_use]
    pub fn chunks(&self, range: Range<usize>) -> Chunks<'_> {
        Chunks { segments: self.as_slice().iter(), start: 0, range }
    }
}

/// A part of a transfer that lies in one page, and can be copied by one grant copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Offset in the transfer, in bytes.
    pub at: usize,
    /// The grant reference of the page.
    pub gref: u32,
    /// Offset in the page, in bytes.
    pub offset: u16,
    /// Length in bytes; never 0.
    pub length: u16,
}

/// Iterator over the chunks of a range of a transfer: [`Segments::chunks`].
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    segments: std::slice::Iter<'a, Segment>,
    /// Offset of the next segment in the transfer.
    start: usize,
    range: Range<usize>,
}

impl Iterator for Chunks<'_> {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        for segment in self.segments.by_ref() {
            let start = self.start;
            let end = start + usize::from(segment.length);
            self.start = end;
            let from = start.max(self.range.start);
            let to = end.min(self.range.end);
            if from < to {
                // Both are within the segment, whose offset and length together are at most 4096,
                // so nothing here overflows.
                let skipped = u16::try_from(from - start).ok()?;
                let length = u16::try_from(to - from).ok()?;
                let offset = segment.offset + skipped;
                return Some(Chunk { at: from, gref: segment.gref, offset, length });
            }
        }
        None
    }
}
