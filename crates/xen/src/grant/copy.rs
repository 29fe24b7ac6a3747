//! Copying to and from pages of other domains, many pieces in one call.
#![allow(unsafe_code, reason = "passes addresses of borrowed slices to the kernel")]

use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use super::{GrantRef, Grants, calls};
use crate::abi::gntdev::{CopyEnd, CopySegment, DEST_GREF, Foreign, SOURCE_GREF};
use crate::abi::status;
use crate::page::fits;
use crate::{DeviceError, DomId};

/// How many pieces the kernel passes to Xen in one hypercall (Linux's `gntdev.c`,
/// `GNTDEV_COPY_BATCH`). A piece whose slice crosses a page boundary in this process counts as two.
pub const BATCH: usize = 16;

/// `GNTST_general_error`.
const NOT_DONE: i16 = -1;

/// Up to `N` pieces to copy in one call. It lives on the stack: nothing is allocated.
///
/// The slices stay borrowed until the batch is dropped.
pub struct CopyBatch<'memory, const N: usize = BATCH> {
    segments: [CopySegment; N],
    used: usize,
    borrowed: PhantomData<&'memory mut [u8]>,
}

/// Why a piece was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The batch is full.
    #[error("a batch holds at most {0} pieces")]
    Full(usize),
    /// The piece crosses the end of the other domain's page.
    #[error("{bytes} bytes at offset {offset} do not lie in one page")]
    CrossesPage {
        /// Its offset in the page.
        offset: u16,
        /// Its length in bytes.
        bytes: usize,
    },
}

/// Why a piece was not copied: a `GNTST_*` code of Xen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("Xen refused a grant: {name} ({code})", name = self.name(), code = .0)]
pub struct GrantStatus(i16);

impl GrantStatus {
    /// The code, never 0.
    #[must_use]
    pub const fn code(self) -> i16 {
        self.0
    }

    /// The code's name without `GNTST_`: `bad_gntref`.
    #[must_use]
    pub fn name(self) -> &'static str {
        status::NAMES.iter().find(|(code, _)| *code == self.0).map_or("unknown", |(_, name)| name)
    }
}

const EMPTY: CopySegment = CopySegment {
    source: CopyEnd { virt: std::ptr::null_mut() },
    dest: CopyEnd { virt: std::ptr::null_mut() },
    len: 0,
    flags: 0,
    status: NOT_DONE,
};

impl<'memory, const N: usize> CopyBatch<'memory, N> {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self { segments: [EMPTY; N], used: 0, borrowed: PhantomData }
    }

    /// Adds a piece to copy out of another domain's page.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn from_guest(
        &mut self,
        domain: DomId,
        gref: GrantRef,
        offset: u16,
        into: &'memory mut [u8],
    ) -> Result<(), CopyError> {
        let source = CopyEnd { foreign: foreign(domain, gref, offset) };
        let dest = CopyEnd { virt: into.as_mut_ptr().cast() };
        self.add(CopySegment { source, dest, flags: SOURCE_GREF, ..EMPTY }, offset, into.len())
    }

    /// Adds a piece to copy into another domain's page.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn to_guest(
        &mut self,
        domain: DomId,
        gref: GrantRef,
        offset: u16,
        from: &'memory [u8],
    ) -> Result<(), CopyError> {
        // The kernel only reads from it; the type covers both directions.
        let source = CopyEnd { virt: from.as_ptr().cast::<c_void>().cast_mut() };
        let dest = CopyEnd { foreign: foreign(domain, gref, offset) };
        self.add(CopySegment { source, dest, flags: DEST_GREF, ..EMPTY }, offset, from.len())
    }

    fn add(&mut self, segment: CopySegment, offset: u16, bytes: usize) -> Result<(), CopyError> {
        let crosses = CopyError::CrossesPage { offset, bytes };
        if !fits(offset.into(), bytes) {
            return Err(crosses);
        }
        let len = u16::try_from(bytes).map_err(|_| crosses)?;
        let slot = self.segments.get_mut(self.used).ok_or(CopyError::Full(N))?;
        *slot = CopySegment { len, ..segment };
        self.used += 1;
        Ok(())
    }

    /// The number of pieces.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Whether there are no pieces.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The result of each piece, in the order in which they were added. Before [`Grants::copy`]
    /// each is an error.
    pub fn outcomes(&self) -> impl Iterator<Item = Result<(), GrantStatus>> {
        self.segments.iter().take(self.used).map(|segment| match segment.status {
            0 => Ok(()),
            code => Err(GrantStatus(code)),
        })
    }

    /// The first error, if any.
    ///
    /// # Errors
    /// A piece was not copied.
    pub fn all_done(&self) -> Result<(), GrantStatus> {
        self.outcomes().collect()
    }
}

impl<const N: usize> Default for CopyBatch<'_, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for CopyBatch<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.outcomes()).finish()
    }
}

impl Grants {
    /// Copies all pieces. One that fails does not affect the others: check [`CopyBatch::outcomes`]
    /// or [`CopyBatch::all_done`].
    ///
    /// # Errors
    /// The kernel refused the whole batch. Every piece then counts as failed, although some may
    /// have been copied.
    pub fn copy<const N: usize>(&self, batch: &mut CopyBatch<'_, N>) -> Result<(), DeviceError> {
        let segments = batch.segments.get_mut(..batch.used).unwrap_or_default();
        if segments.is_empty() {
            return Ok(());
        }
        for segment in &mut *segments {
            segment.status = NOT_DONE;
        }
        // SAFETY: each address is that of a slice of exactly that length, borrowed as long as the
        // batch exists: mutably if it is the destination.
        let done = unsafe { calls::copy(self.fd.as_fd(), segments) };
        done.map_err(|errno| {
            // The kernel sets the status of a piece to "done" before it passes the piece to Xen.
            // So after an error the statuses mean nothing.
            for segment in segments {
                segment.status = NOT_DONE;
            }
            DeviceError::refused("copying to or from another domain")(errno)
        })
    }
}

const fn foreign(domain: DomId, gref: GrantRef, offset: u16) -> Foreign {
    Foreign { gref: gref.0, offset, domid: domain.get() }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_piece_stays_in_its_page() {
        let mut memory = [0; 4097];
        let mut batch = CopyBatch::<2>::new();
        let (whole, rest) = memory.split_at_mut(4096);
        assert_eq!(batch.from_guest(DomId::ZERO, GrantRef(1), 0, whole), Ok(()));
        let crosses = CopyError::CrossesPage { offset: 4096, bytes: 1 };
        assert_eq!(batch.from_guest(DomId::ZERO, GrantRef(1), 4096, rest), Err(crosses));
        let long = [0; 65537];
        assert!(batch.to_guest(DomId::ZERO, GrantRef(1), 0, &long).is_err());
        assert_eq!(batch.to_guest(DomId::ZERO, GrantRef(1), 4095, &long[..1]), Ok(()));
        assert_eq!(batch.to_guest(DomId::ZERO, GrantRef(1), 4096, &[]), Err(CopyError::Full(2)));
    }

    #[test]
    fn a_piece_counts_as_failed_until_it_is_copied() {
        let mut memory = [0; 8];
        let mut batch = CopyBatch::<16>::new();
        batch.from_guest(DomId::ZERO, GrantRef(1), 0, &mut memory).unwrap();
        assert_eq!(batch.all_done().unwrap_err().name(), "general_error");
        let nothing: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        assert!(Grants::from_fd(nothing).copy(&mut batch).is_err());
        assert_eq!(batch.outcomes().collect::<Vec<_>>(), [Err(GrantStatus(-1))]);
    }
}
