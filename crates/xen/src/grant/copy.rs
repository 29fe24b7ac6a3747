//! Copying to and from pages of other domains, many pieces in one call.
#![allow(unsafe_code, reason = "hands addresses of borrowed slices to the kernel")]

use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use super::{GrantRef, Grants, calls};
use crate::abi::gntdev::{CopyEnd, CopySegment, DEST_GREF, Foreign, SOURCE_GREF};
use crate::abi::status;
use crate::page::fits;
use crate::{DeviceError, DomId};

/// How many pieces the kernel gives to Xen in one hypercall (Linux's `gntdev.c`, `GNTDEV_COPY_BATCH`). A piece whose slice
/// lies in two pages of this process counts as two.
pub const BATCH: usize = 16;

/// `GNTST_general_error`.
const NOT_DONE: i16 = -1;

/// Pieces that are copied together, at most `N`. Made on the stack: nothing is allocated.
///
/// The slices stay borrowed until the batch is gone.
pub struct CopyBatch<'memory, const N: usize = BATCH> {
    segments: [CopySegment; N],
    used: usize,
    borrowed: PhantomData<&'memory mut [u8]>,
}

/// A piece that cannot be copied. Nothing was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The batch has no room.
    #[error("no more than {0} pieces can be copied together")]
    Full(usize),
    /// It would leave the other domain's page.
    #[error("{bytes} bytes from byte {offset} on do not lie in one page")]
    CrossesPage {
        /// Where it begins in the page.
        offset: u16,
        /// How long it is, in bytes.
        bytes: usize,
    },
}

/// How a piece that was not copied failed: a `GNTST_*` code of Xen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("Xen refused a grant: {name} ({code})", name = self.name(), code = .0)]
pub struct GrantStatus(i16);

impl GrantStatus {
    /// Its number, never 0.
    #[must_use]
    pub const fn code(self) -> i16 {
        self.0
    }

    /// Its name without `GNTST_`: `bad_gntref`.
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
    /// No pieces yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { segments: [EMPTY; N], used: 0, borrowed: PhantomData }
    }

    /// Adds a piece that is copied out of another domain's page.
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

    /// Adds a piece that is copied into another domain's page.
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
        // The kernel only reads there: the type is that of both directions.
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
        let place = self.segments.get_mut(self.used).ok_or(CopyError::Full(N))?;
        *place = CopySegment { len, ..segment };
        self.used += 1;
        Ok(())
    }

    /// How many pieces there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// How each piece went, in the order in which they were added. Before [`Grants::copy`] none is done.
    pub fn outcomes(&self) -> impl Iterator<Item = Result<(), GrantStatus>> {
        self.segments.iter().take(self.used).map(|segment| match segment.status {
            0 => Ok(()),
            code => Err(GrantStatus(code)),
        })
    }

    /// The first failure, if any.
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
    /// Copies all pieces. One that fails does not keep the others from being done: look at [`CopyBatch::outcomes`], or
    /// [`CopyBatch::all_done`].
    ///
    /// # Errors
    /// The kernel refused the whole. Then no piece counts as done, though some may be.
    pub fn copy<const N: usize>(&self, batch: &mut CopyBatch<'_, N>) -> Result<(), DeviceError> {
        let segments = batch.segments.get_mut(..batch.used).unwrap_or_default();
        if segments.is_empty() {
            return Ok(());
        }
        for segment in &mut *segments {
            segment.status = NOT_DONE;
        }
        // SAFETY: each address is that of a slice of just that length, borrowed for as long as the batch is there: mutably
        // where it is the destination.
        let done = unsafe { calls::copy(self.fd.as_fd(), segments) };
        done.map_err(|errno| {
            // The kernel calls a piece done before it hands it to Xen; after an error it may not have got so far.
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
    fn nothing_counts_as_done_before_it_is() {
        let mut memory = [0; 8];
        let mut batch = CopyBatch::<16>::new();
        batch.from_guest(DomId::ZERO, GrantRef(1), 0, &mut memory).unwrap();
        assert_eq!(batch.all_done().unwrap_err().name(), "general_error");
        let nothing: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        assert!(Grants::from_fd(nothing).copy(&mut batch).is_err());
        assert_eq!(batch.outcomes().collect::<Vec<_>>(), [Err(GrantStatus(-1))]);
    }
}
