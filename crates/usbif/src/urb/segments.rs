//! The guest's memory of a transfer: up to 16 pieces of its pages, each lent by a grant.

use std::ops::Range;

use thiserror::Error;

use crate::PAGE_BYTES;

/// Pieces in one request, those of isochronous packet descriptors included
/// (`USBIF_MAX_SEGMENTS_PER_REQUEST`).
pub const MAX_SEGMENTS: usize = 16;

/// A piece of one granted page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Segment {
    /// The grant reference of the page.
    pub gref: u32,
    /// Where the piece begins, in bytes from the start of the page.
    pub offset: u16,
    /// How long it is, in bytes. May be 0; offset and length together are at most 4096.
    pub length: u16,
}

impl Segment {
    /// Whether it lies in its page.
    #[must_use]
    pub fn fits(&self) -> bool {
        usize::from(self.offset) + usize::from(self.length) <= PAGE_BYTES
    }
}

/// What cannot be a list of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SegmentError {
    /// More than fit into a request.
    #[error("{0} segments, but a request carries at most 16")]
    TooMany(usize),
    /// A piece reaches over the end of its page.
    #[error(
        "segment {index} begins at byte {offset} and has {length} bytes, which is more than a page of 4096"
    )]
    OverEnd {
        /// Which one, from 0.
        index: usize,
        /// Where it begins, in bytes.
        offset: u16,
        /// Its length in bytes.
        length: u16,
    },
}

/// Up to 16 segments in order, together one range of bytes. Each is known to lie in its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segments {
    // Slots from `count` on are all zero, so that equal lists are equal.
    list: [Segment; MAX_SEGMENTS],
    count: u8,
}

impl Segments {
    /// No segments: a transfer without data.
    pub const NONE: Self =
        Self { list: [Segment { gref: 0, offset: 0, length: 0 }; MAX_SEGMENTS], count: 0 };

    /// These segments, in this order.
    ///
    /// # Errors
    /// [`SegmentError`] for more than 16, or one that does not lie in its page.
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

    /// How many bytes they are together: 0 to 65536. This is the length of a transfer; the field
    /// `buffer_length` of the request has 16 bits and is 0 for 65536.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.as_slice().iter().map(|segment| usize::from(segment.length)).sum()
    }

    /// Where the bytes `range` of the transfer lie in the guest's memory, in order and without empty
    /// pieces. Bytes behind the end are left out.
    #[must_use]
    pub fn chunks(&self, range: Range<usize>) -> Chunks<'_> {
        Chunks { segments: self.as_slice().iter(), start: 0, range }
    }
}

/// A piece of a transfer that lies in one page: one grant copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Where it begins in the transfer, in bytes.
    pub at: usize,
    /// The grant reference of its page.
    pub gref: u32,
    /// Where it begins in the page, in bytes.
    pub offset: u16,
    /// How long it is, in bytes; never 0.
    pub length: u16,
}

/// The pieces of a range of a transfer: [`Segments::chunks`].
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    segments: std::slice::Iter<'a, Segment>,
    /// Where the next segment begins in the transfer.
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
                // Both are within the segment, whose offset and length together are at most 4096.
                let skipped = u16::try_from(from - start).ok()?;
                let length = u16::try_from(to - from).ok()?;
                let offset = segment.offset + skipped;
                return Some(Chunk { at: from, gref: segment.gref, offset, length });
            }
        }
        None
    }
}
