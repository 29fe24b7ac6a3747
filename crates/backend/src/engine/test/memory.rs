//! The guest's memory: pages that are granted read-only or writable until the guest revokes the
//! grant.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use vusb_usbif::urb::{Direction, Segment, Segments};

use super::super::{BadMemory, Memory, Piece};

const PAGE: usize = 4096;
/// The contents of a page that has not been written to.
const BLANK: [u8; PAGE] = [0xee; PAGE];

/// The memory of a guest. A clone is the same memory.
#[derive(Clone, Default)]
pub(super) struct GuestMemory(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    grants: HashMap<u32, Grant>,
    next: u32,
}

struct Grant {
    writable: bool,
    /// The part of the page that belongs to the request. Xen would let the engine access the whole
    /// page, but the rest may contain other data of the guest.
    range: Range<usize>,
    page: Vec<u8>,
}

impl GuestMemory {
    fn inner(&self) -> RefMut<'_, Inner> {
        self.0.borrow_mut()
    }

    /// Grants pieces of these lengths, each in its own page. The first begins at `offset`, the
    /// others at the start of their pages.
    pub(super) fn grant(&self, direction: Direction, offset: u16, lengths: &[u16]) -> Segments {
        let mut inner = self.inner();
        let mut page_offset = offset;
        let mut list = Vec::new();
        for length in lengths {
            inner.next += 1;
            let (gref, start) = (inner.next, usize::from(page_offset));
            let grant = Grant {
                writable: direction == Direction::In,
                range: start..start + usize::from(*length),
                page: BLANK.to_vec(),
            };
            inner.grants.insert(gref, grant);
            list.push(Segment { gref, offset: page_offset, length: *length });
            page_offset = 0;
        }
        Segments::new(&list).unwrap()
    }

    /// Grants one buffer of this many bytes, as Linux lays it out: it begins at `offset` in a page
    /// and continues in the following pages.
    pub(super) fn buffer(&self, direction: Direction, offset: u16, bytes: usize) -> Segments {
        let mut lengths = Vec::new();
        let (mut left, mut space) = (bytes, PAGE - usize::from(offset));
        while left > 0 {
            let part = left.min(space);
            lengths.push(part as u16);
            left -= part;
            space = PAGE;
        }
        self.grant(direction, offset, &lengths)
    }

    /// The guest reads this memory.
    pub(super) fn get(&self, segments: &Segments) -> Vec<u8> {
        let inner = self.inner();
        let parts: Vec<&[u8]> =
            segments.as_slice().iter().map(|it| inner.grants[&it.gref].part(it)).collect();
        parts.concat()
    }

    /// The guest writes this memory.
    pub(super) fn put(&self, segments: &Segments, bytes: &[u8]) {
        let mut inner = self.inner();
        for chunk in segments.chunks(0..bytes.len()) {
            let (start, length) = (usize::from(chunk.offset), usize::from(chunk.length));
            let grant = inner.grants.get_mut(&chunk.gref).unwrap();
            let from = &bytes[chunk.at..chunk.at + length];
            grant.page[start..start + length].copy_from_slice(from);
        }
    }

    /// The guest revokes its grants. Checks that nothing around them was written to.
    pub(super) fn revoke(&self, segments: &Segments) {
        for segment in segments.as_slice() {
            let Some(grant) = self.inner().grants.remove(&segment.gref) else { continue };
            assert!(
                is_blank(&grant.page[..grant.range.start]),
                "memory outside the request was written"
            );
            assert!(
                is_blank(&grant.page[grant.range.end..]),
                "memory outside the request was written"
            );
        }
    }

    /// The number of granted pages.
    pub(super) fn granted(&self) -> usize {
        self.inner().grants.len()
    }
}

/// Whether these bytes, of one or more pages, were never written to.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.chunks(PAGE).all(|it| *it == BLANK[..it.len()])
}

impl Grant {
    fn part(&self, segment: &Segment) -> &[u8] {
        let start = usize::from(segment.offset);
        &self.page[start..start + usize::from(segment.length)]
    }
}

impl Inner {
    fn grant(&mut self, piece: &Piece) -> Result<&mut [u8], BadMemory> {
        let bad = || BadMemory(format!("grant {} does not exist", piece.gref));
        let grant = self.grants.get_mut(&piece.gref).ok_or_else(bad)?;
        let start = usize::from(piece.offset);
        let end = start + usize::from(piece.length);
        assert!(grant.range.start <= start && end <= grant.range.end, "access outside the request");
        Ok(&mut grant.page[start..end])
    }
}

impl Memory for GuestMemory {
    /// As with Xen, the pieces must be in ascending order in `into`.
    fn read(&mut self, pieces: &[Piece], into: &mut [u8]) -> Result<(), BadMemory> {
        let mut inner = self.inner();
        let mut end = 0;
        for piece in pieces {
            assert!(piece.buffer_offset >= end, "the pieces overlap");
            end = piece.buffer_offset + usize::from(piece.length);
            into[piece.buffer_offset..end].copy_from_slice(inner.grant(piece)?);
        }
        Ok(())
    }

    fn write(&mut self, pieces: &[Piece], from: &[u8]) -> Result<(), BadMemory> {
        let mut inner = self.inner();
        for piece in pieces {
            if inner.grants.get(&piece.gref).is_some_and(|it| !it.writable) {
                return Err(BadMemory(format!("grant {} is read-only", piece.gref)));
            }
            let bytes = &from[piece.buffer_offset..piece.buffer_offset + usize::from(piece.length)];
            inner.grant(piece)?.copy_from_slice(bytes);
        }
        Ok(())
    }
}
