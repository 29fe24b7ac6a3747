//! A guest's memory and rings, accessed through Xen's grant tables.

use vusb_usbif::Page;
use vusb_xen::grant::{CopyBatch, GrantRef, Grants, MappedPage};
use vusb_xen::{DomId, SharedPage};

use crate::engine::{BadMemory, Memory, Piece};

/// How many pieces are passed to the kernel in one call. The kernel makes one hypercall for every
/// sixteen of them.
const PIECES_PER_CALL: usize = 64;

/// The page of a ring, mapped from the guest.
#[derive(Debug)]
pub struct RingPage(pub MappedPage);

impl Page for RingPage {
    fn load(&self, word: usize) -> u32 {
        SharedPage::load(&self.0, word)
    }

    fn store(&self, word: usize, value: u32) {
        SharedPage::store(&self.0, word, value);
    }

    fn fence(&self) {
        SharedPage::fence(&self.0);
    }
}

/// The memory that a guest has granted to this domain.
#[derive(Debug)]
pub struct GuestMemory {
    grants: Grants,
    domain: DomId,
    revoked: bool,
}

impl GuestMemory {
    /// The memory of the guest with this domain id.
    pub const fn new(grants: Grants, domain: DomId) -> GuestMemory {
        GuestMemory { grants, domain, revoked: false }
    }

    /// Stops all copies. The guest has released the controller, so it may have reused its grant
    /// references for other pages.
    pub const fn revoke(&mut self) {
        self.revoked = true;
    }

    fn copy(&self, batch: &mut CopyBatch<'_, PIECES_PER_CALL>) -> Result<(), BadMemory> {
        self.grants.copy(batch).map_err(bad)?;
        batch.all_done().map_err(bad)
    }
}

fn bad(error: impl ToString) -> BadMemory {
    BadMemory(error.to_string())
}

fn out_of_range() -> BadMemory {
    BadMemory("a piece lies outside the transfer".to_owned())
}

impl Memory for GuestMemory {
    /// The pieces must be in ascending order in `into` and must not overlap. Each is split off the
    /// rest of the buffer, so that no byte is borrowed twice.
    fn read(&mut self, pieces: &[Piece], into: &mut [u8]) -> Result<(), BadMemory> {
        if self.revoked {
            return Err(BadMemory("the guest has released the controller".to_owned()));
        }
        let mut rest = into;
        let mut start = 0;
        for pieces in pieces.chunks(PIECES_PER_CALL) {
            let mut batch = CopyBatch::new();
            for piece in pieces {
                let skip = piece.buffer_offset.checked_sub(start).ok_or_else(out_of_range)?;
                let (_, tail) = rest.split_at_mut_checked(skip).ok_or_else(out_of_range)?;
                let (part, tail) =
                    tail.split_at_mut_checked(piece.length.into()).ok_or_else(out_of_range)?;
                start = piece.buffer_offset + part.len();
                rest = tail;
                batch
                    .from_guest(self.domain, GrantRef(piece.gref), piece.offset, part)
                    .map_err(bad)?;
            }
            self.copy(&mut batch)?;
        }
        Ok(())
    }

    fn write(&mut self, pieces: &[Piece], from: &[u8]) -> Result<(), BadMemory> {
        if self.revoked {
            return Ok(());
        }
        for pieces in pieces.chunks(PIECES_PER_CALL) {
            let mut batch = CopyBatch::new();
            for piece in pieces {
                let end = piece.buffer_offset + usize::from(piece.length);
                let part = from.get(piece.buffer_offset..end).ok_or_else(out_of_range)?;
                batch
                    .to_guest(self.domain, GrantRef(piece.gref), piece.offset, part)
                    .map_err(bad)?;
            }
            self.copy(&mut batch)?;
        }
        Ok(())
    }
}
