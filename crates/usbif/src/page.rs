//! One page of shared memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// Size of a page, in bytes: Xen's rings are made of 4 KiB pages on every architecture.
pub const PAGE_BYTES: usize = 4096;
/// Size of a page, in 32-bit words.
pub const PAGE_WORDS: usize = PAGE_BYTES / 4;

/// One page of memory that an untrusted peer reads and writes concurrently.
///
/// Word `n` is the aligned 32-bit word at byte `4 * n`. Callers in this crate stay below
/// [`PAGE_WORDS`]; for any other number an implementation must read 0 and write nothing.
///
/// Two loads of the same word may return different values. No value may be used before it is
/// checked.
pub trait Page {
    /// Reads a word atomically. Later loads and stores of this side are not reordered before it
    /// (acquire).
    fn load(&self, word: usize) -> u32;

    /// Writes a word atomically. Earlier loads and stores of this side are not reordered after it
    /// (release).
    fn store(&self, word: usize, value: u32);

    /// A full barrier: every store before it is visible to the other side before any load after it
    /// is performed. Acquire and release do not guarantee this, and without it a wake-up can be
    /// lost.
    fn fence(&self);
}

impl<T: Page + ?Sized> Page for &T {
    fn load(&self, word: usize) -> u32 {
        (**self).load(word)
    }

    fn store(&self, word: usize, value: u32) {
        (**self).store(word, value);
    }

    fn fence(&self) {
        (**self).fence();
    }
}

impl<T: Page + ?Sized> Page for Arc<T> {
    fn load(&self, word: usize) -> u32 {
        (**self).load(word)
    }

    fn store(&self, word: usize, value: u32) {
        (**self).store(word, value);
    }

    fn fence(&self) {
        (**self).fence();
    }
}

/// A page in this process's own memory, initially zero: for tests, and for both ends in one
/// process.
#[derive(Debug)]
pub struct MemoryPage([AtomicU32; PAGE_WORDS]);

impl MemoryPage {
    /// A page of zeros.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; PAGE_WORDS])
    }
}

impl Default for MemoryPage {
    fn default() -> Self {
        Self::new()
    }
}

impl Page for MemoryPage {
    fn load(&self, word: usize) -> u32 {
        self.0.get(word).map_or(0, |cell| cell.load(Ordering::Acquire))
    }

    fn store(&self, word: usize, value: u32) {
        if let Some(cell) = self.0.get(word) {
            cell.store(value, Ordering::Release);
        }
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}
