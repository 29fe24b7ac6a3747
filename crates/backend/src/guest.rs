//! A guest's memory and rings, through Xen.

use vusb_usbif::Page;
use vusb_xen::grant::{CopyBatch, GrantRef, Grants, MappedPage};
use vusb_xen::{DomId, SharedPage};

use crate::engine::{BadMemory, Memory, Piece};

/// How many pieces go to the kernel in one call. It makes a hypercall of each sixteen.
const CALL: usize = 64;

/// A page of a ring.
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

/// The memory that a guest has granted.
#[derive(Debug)]
pub struct GuestMemory {
    grants: Grants,
    domain: DomId,
    shut: bool,
}

impl GuestMemory {
    /// The memory of a guest.
    pub const fn new(grants: Grants, domain: DomId) -> GuestMemory {
        GuestMemory { grants, domain, shut: false }
    }

    /// The guest has let go of the controller: its grants may mean something else by now, so nothing is copied any more.
    pub const fn shut(&mut self) {
        self.shut = true;
    }

    fn copy(&self, batch: &mut CopyBatch<'_, CALL>) -> Result<(), BadMemory> {
        self.grants.copy(batch).map_err(bad)?;
        batch.all_done().map_err(bad)
    }
}

fn bad(error: impl ToString) -> BadMemory {
    BadMemory(error.to_string())
}

fn outside() -> BadMemory {
    BadMemory("a piece lies outside of the transfer".to_owned())
}

impl Memory for GuestMemory {
    /// The pieces must follow one another in `into`: they are cut off one by one, so that no byte is lent twice.
    fn read(&mut self, pieces: &[Piece], into: &mut [u8]) -> Result<(), BadMemory> {
        if self.shut {
            return Err(BadMemory("the guest has let go of the controller".to_owned()));
        }
        let mut rest = into;
        let mut start = 0;
        for pieces in pieces.chunks(CALL) {
            let mut batch = CopyBatch::new();
            for piece in pieces {
                let skip = piece.at.checked_sub(start).ok_or_else(outside)?;
                let (_, behind) = rest.split_at_mut_checked(skip).ok_or_else(outside)?;
                let (part, behind) =
                    behind.split_at_mut_checked(piece.length.into()).ok_or_else(outside)?;
                start = piece.at + part.len();
                rest = behind;
                batch
                    .from_guest(self.domain, GrantRef(piece.gref), piece.offset, part)
                    .map_err(bad)?;
            }
            self.copy(&mut batch)?;
        }
        Ok(())
    }

    fn write(&mut self, pieces: &[Piece], from: &[u8]) -> Result<(), BadMemory> {
        if self.shut {
            return Ok(());
        }
        for pieces in pieces.chunks(CALL) {
            let mut batch = CopyBatch::new();
            for piece in pieces {
                let end = piece.at + usize::from(piece.length);
                let part = from.get(piece.at..end).ok_or_else(outside)?;
                batch
                    .to_guest(self.domain, GrantRef(piece.gref), piece.offset, part)
                    .map_err(bad)?;
            }
            self.copy(&mut batch)?;
        }
        Ok(())
    }
}
