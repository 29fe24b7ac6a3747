//! The guest's memory: pieces of pages, each granted for reading or for writing too, until the guest takes the grant back.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use vusb_usbif::urb::{Direction, Segment, Segments};

use super::super::{BadMemory, Memory, Piece};

const PAGE: usize = 4096;
/// A page that nobody has written to.
const BLANK: [u8; PAGE] = [0xee; PAGE];

/// The memory of a guest. A clone is the same.
#[derive(Clone, Default)]
pub(super) struct GuestMemory(Rc<RefCell<Inside>>);

#[derive(Default)]
struct Inside {
    grants: HashMap<u32, Grant>,
    next: u32,
}

struct Grant {
    writable: bool,
    /// What of the page belongs to the request. Xen would let the engine touch all of it; nobody else would.
    range: Range<usize>,
    page: Vec<u8>,
}

impl GuestMemory {
    fn inside(&self) -> RefMut<'_, Inside> {
        self.0.borrow_mut()
    }

    /// Grants pieces of these lengths, a page each, the first of which begins at `offset` and the others where their pages begin.
    pub(super) fn lend(&self, direction: Direction, offset: u16, lengths: &[u16]) -> Segments {
        let mut inside = self.inside();
        let mut place = offset;
        let mut list = Vec::new();
        for length in lengths {
            inside.next += 1;
            let (gref, start) = (inside.next, usize::from(place));
            let grant = Grant {
                writable: direction == Direction::In,
                range: start..start + usize::from(*length),
                page: BLANK.to_vec(),
            };
            inside.grants.insert(gref, grant);
            list.push(Segment { gref, offset: place, length: *length });
            place = 0;
        }
        Segments::new(&list).unwrap()
    }

    /// Grants one buffer of so many bytes, as Linux lays it out: it begins at `offset` in a page and goes on in the next ones.
    pub(super) fn buffer(&self, direction: Direction, offset: u16, bytes: usize) -> Segments {
        let mut lengths = Vec::new();
        let (mut left, mut room) = (bytes, PAGE - usize::from(offset));
        while left > 0 {
            let part = left.min(room);
            lengths.push(part as u16);
            left -= part;
            room = PAGE;
        }
        self.lend(direction, offset, &lengths)
    }

    /// What the guest reads there.
    pub(super) fn get(&self, segments: &Segments) -> Vec<u8> {
        let inside = self.inside();
        let parts: Vec<&[u8]> =
            segments.as_slice().iter().map(|it| inside.grants[&it.gref].part(it)).collect();
        parts.concat()
    }

    /// The guest writes there.
    pub(super) fn put(&self, segments: &Segments, bytes: &[u8]) {
        let mut inside = self.inside();
        for chunk in segments.chunks(0..bytes.len()) {
            let (start, length) = (usize::from(chunk.offset), usize::from(chunk.length));
            let grant = inside.grants.get_mut(&chunk.gref).unwrap();
            let from = &bytes[chunk.at..chunk.at + length];
            grant.page[start..start + length].copy_from_slice(from);
        }
    }

    /// The guest takes its grants back. Nothing around them was written to.
    pub(super) fn revoke(&self, segments: &Segments) {
        for segment in segments.as_slice() {
            let Some(grant) = self.inside().grants.remove(&segment.gref) else { continue };
            assert!(is_blank(&grant.page[..grant.range.start]), "written outside");
            assert!(is_blank(&grant.page[grant.range.end..]), "written outside");
        }
    }

    /// How many pages are granted.
    pub(super) fn granted(&self) -> usize {
        self.inside().grants.len()
    }
}

/// Whether nothing was ever written to these bytes of one page or more.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.chunks(PAGE).all(|it| *it == BLANK[..it.len()])
}

impl Grant {
    fn part(&self, segment: &Segment) -> &[u8] {
        let start = usize::from(segment.offset);
        &self.page[start..start + usize::from(segment.length)]
    }
}

impl Inside {
    fn grant(&mut self, piece: &Piece) -> Result<&mut [u8], BadMemory> {
        let bad = || BadMemory(format!("grant {} is none", piece.gref));
        let grant = self.grants.get_mut(&piece.gref).ok_or_else(bad)?;
        let start = usize::from(piece.offset);
        let end = start + usize::from(piece.length);
        assert!(grant.range.start <= start && end <= grant.range.end, "outside of the request");
        Ok(&mut grant.page[start..end])
    }
}

impl Memory for GuestMemory {
    /// As with Xen, the pieces must follow one another in `into`.
    fn read(&mut self, pieces: &[Piece], into: &mut [u8]) -> Result<(), BadMemory> {
        let mut inside = self.inside();
        let mut end = 0;
        for piece in pieces {
            assert!(piece.at >= end, "the pieces overlap");
            end = piece.at + usize::from(piece.length);
            into[piece.at..end].copy_from_slice(inside.grant(piece)?);
        }
        Ok(())
    }

    fn write(&mut self, pieces: &[Piece], from: &[u8]) -> Result<(), BadMemory> {
        let mut inside = self.inside();
        for piece in pieces {
            if inside.grants.get(&piece.gref).is_some_and(|it| !it.writable) {
                return Err(BadMemory(format!("grant {} is for reading", piece.gref)));
            }
            let bytes = &from[piece.at..piece.at + usize::from(piece.length)];
            inside.grant(piece)?.copy_from_slice(bytes);
        }
        Ok(())
    }
}
