//! A page of memory that two domains share.
#![allow(
    unsafe_code,
    reason = "maps memory that another domain writes, and exposes it only as atomic words"
)]

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::DeviceError;

/// Size of a page, in bytes (Xen's `XEN_PAGE_SIZE`: 4 KiB on every architecture).
pub const PAGE_BYTES: usize = 4096;
/// Size of a page, in 32-bit words.
pub const PAGE_WORDS: usize = PAGE_BYTES / 4;

/// A page that another domain may read and write at the same time. Threads may share it.
///
/// It can only be accessed in aligned 32-bit words, each atomically. Two loads of the same word may
/// return different values, and every value must be validated.
#[derive(Debug)]
pub struct SharedPage {
    words: NonNull<[AtomicU32; PAGE_WORDS]>,
}

// SAFETY: the page is only accessed through atomics and belongs to no thread; any thread may call
// munmap.
unsafe impl Send for SharedPage {}
// SAFETY: a shared reference only exposes atomics.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// Maps the page at this offset of a device, for reading and writing.
    pub(crate) fn map(
        fd: BorrowedFd<'_>,
        offset: u64,
        what: &'static str,
    ) -> Result<Self, DeviceError> {
        check_page_size()?;
        // SAFETY: the kernel chooses the address, so the new mapping replaces no other.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                PAGE_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                fd,
                offset,
            )
        }
        .map_err(DeviceError::refused(what))?;
        let words = NonNull::new(address.cast()).ok_or(DeviceError::ImpossibleResult { what })?;
        Ok(Self { words })
    }

    /// All its words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU32; PAGE_WORDS] {
        // SAFETY: the mapping is one page long, page-aligned, and valid until `self` is dropped.
        // The other domain writes to it without Rust's knowledge, but an atomic may change at any
        // time, and every bit pattern is a valid `u32`.
        unsafe { self.words.as_ref() }
    }

    /// Reads a word; 0 if it lies outside the page. Later loads and stores stay after it (acquire).
    #[must_use]
    pub fn load(&self, word: usize) -> u32 {
        self.words().get(word).map_or(0, |cell| cell.load(Ordering::Acquire))
    }

    /// Writes a word; does nothing if it lies outside the page. Earlier loads and stores stay
    /// before it (release).
    pub fn store(&self, word: usize, value: u32) {
        if let Some(cell) = self.words().get(word) {
            cell.store(value, Ordering::Release);
        }
    }

    /// A full barrier: the other side sees every earlier store before any later load is executed.
    /// Acquire and release do not guarantee this, and without it a wake-up can be lost: a ring
    /// needs it between requesting a notification and checking for more work.
    pub fn fence(&self) {
        fence(Ordering::SeqCst);
    }

    /// Copies bytes out of the page, starting at byte `offset`. Does nothing and returns `false` if
    /// they are not all in the page. The bytes need not have been there at the same time.
    #[must_use]
    pub fn copy_out(&self, offset: usize, into: &mut [u8]) -> bool {
        if !fits(offset, into.len()) {
            return false;
        }
        for (at, byte) in (offset..).zip(into) {
            let word = self.load(at / 4).to_ne_bytes();
            *byte = word.get(at % 4).copied().unwrap_or_default();
        }
        true
    }

    /// Copies bytes into the page, starting at byte `offset`. Does nothing and returns `false` if
    /// they do not fit.
    ///
    /// Whole words are written: a concurrent write to the rest of the first or last word can be
    /// lost.
    #[must_use]
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> bool {
        if !fits(offset, from.len()) {
            return false;
        }
        for (at, byte) in (offset..).zip(from) {
            let mut word = self.load(at / 4).to_ne_bytes();
            if let Some(target) = word.get_mut(at % 4) {
                *target = *byte;
            }
            self.store(at / 4, u32::from_ne_bytes(word));
        }
        true
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: this is exactly the mapping that `map` created, and nothing borrows from it any
        // more.
        if let Err(errno) = unsafe { munmap(self.words.as_ptr().cast(), PAGE_BYTES) } {
            tracing::error!(%errno, "a shared page could not be unmapped");
        }
    }
}

/// Whether that many bytes from `offset` lie in one page.
pub(crate) fn fits(offset: usize, bytes: usize) -> bool {
    offset.checked_add(bytes).is_some_and(|end| end <= PAGE_BYTES)
}

fn check_page_size() -> Result<(), DeviceError> {
    let bytes = rustix::param::page_size();
    if bytes == PAGE_BYTES { Ok(()) } else { Err(DeviceError::PageSize { bytes }) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    fn two_views() -> (SharedPage, SharedPage) {
        let memory = memfd_create("page", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memory, 4096).unwrap();
        let view = || SharedPage::map(memory.as_fd(), 0, "mapping").unwrap();
        (view(), view())
    }

    #[test]
    fn both_sides_see_one_page() {
        let (ours, theirs) = two_views();
        ours.store(0, 7);
        ours.store(1023, 9);
        ours.fence();
        assert_eq!((theirs.load(0), theirs.load(1023)), (7, 9));
    }

    #[test]
    fn nothing_outside_the_page_is_accessed() {
        let (ours, _theirs) = two_views();
        ours.store(1024, 1);
        ours.store(usize::MAX, 1);
        assert_eq!((ours.load(1024), ours.load(usize::MAX)), (0, 0));
        assert!(!ours.copy_in(4095, &[1, 2]));
        assert!(!ours.copy_out(usize::MAX, &mut [0]));
        assert!(ours.words().iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn unaligned_bytes_are_copied() {
        let (ours, theirs) = two_views();
        assert!(ours.copy_in(4089, b"xenbus!"));
        assert!(ours.copy_in(4089, b"X"));
        let mut read = [1; 8];
        assert!(theirs.copy_out(4088, &mut read));
        assert_eq!(&read, b"\0Xenbus!");
    }
}
