//! Memory for URBs: aligned to pages, of a fixed size, and used again.
//!
//! ```text
//! Buffers::new(size, limit)  ──take──▶  Buffer  ──submit──▶  in flight  ──reap──▶  Buffer  ──drop──▶  back in the pool
//! ```

#![allow(unsafe_code, reason = "owns memory that the kernel writes to")]

use std::fmt;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// The size of a page in bytes, and the alignment of every buffer. Xen's pages have this size on all machines.
pub const PAGE: usize = 4096;

/// The largest buffer in bytes.
pub const MAX_BUFFER: usize = 1 << 20;

/// A pool of buffers of one size. A clone is the same pool.
///
/// A buffer that is dropped goes back to its pool, which keeps it for the next [`Buffers::take`]: once as many have been made as are
/// needed at one time, nothing is allocated any more.
#[derive(Clone)]
pub struct Buffers {
    pool: Arc<Pool>,
}

struct Pool {
    size: usize,
    limit: usize,
    shelf: Mutex<Shelf>,
}

struct Shelf {
    free: Vec<Memory>,
    /// How many there are, in use or not.
    made: usize,
}

impl Buffers {
    /// A pool of buffers of `size` bytes each, rounded up to whole pages (1 page to [`MAX_BUFFER`]), of which at most `limit` exist
    /// at one time. None is made before it is taken.
    pub fn new(size: usize, limit: usize) -> Buffers {
        let size = size.clamp(1, MAX_BUFFER).next_multiple_of(PAGE);
        let shelf = Mutex::new(Shelf { free: Vec::new(), made: 0 });
        Buffers { pool: Arc::new(Pool { size, limit, shelf }) }
    }

    /// The size of each buffer in bytes.
    pub fn size(&self) -> usize {
        self.pool.size
    }

    /// A buffer whose data is all of it; `None` if `limit` of them are in use, or there is no memory.
    ///
    /// A new one is zeroed. One that was used before holds what it last held: show nobody more than was received.
    pub fn take(&self) -> Option<Buffer> {
        let memory = self.pool.take()?;
        Some(Buffer {
            start: 0,
            length: self.pool.size,
            memory: Some(memory),
            pool: Arc::clone(&self.pool),
        })
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers")
            .field("size", &self.pool.size)
            .field("limit", &self.pool.limit)
            .finish()
    }
}

impl Pool {
    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        // Nothing panics while it is held, and nothing in it is ever half done.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Memory> {
        let mut shelf = self.shelf();
        if let Some(memory) = shelf.free.pop() {
            return Some(memory);
        }
        if shelf.made >= self.limit {
            return None;
        }
        let memory = Memory::new(self.size)?;
        shelf.made += 1;
        Some(memory)
    }
}

/// Memory for the data of one URB. Its data is a part of it, all of it at first.
///
/// The memory begins at a page and where its data begins can be chosen ([`Buffer::set_range`]), so that it lies in its page as the
/// guest's does in the guest's: one copy for each page then, not two.
pub struct Buffer {
    start: usize,
    length: usize,
    /// Always there, but while it is being dropped.
    memory: Option<Memory>,
    pool: Arc<Pool>,
}

/// A range that a buffer does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a buffer of {capacity} bytes has no {length} bytes from {start} on, {start} being below {PAGE}; use a larger one"
)]
pub struct NoSuchRange {
    /// Where the data should have begun, in bytes from the start of the memory.
    pub start: usize,
    /// How long it should have been, in bytes.
    pub length: usize,
    /// How long the memory is, in bytes.
    pub capacity: usize,
}

impl Buffer {
    /// The length of all the memory in bytes: a multiple of [`PAGE`].
    pub fn capacity(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.size)
    }

    /// Where the data begins, in bytes from the start of the memory, which is the start of a page: 0 to 4095.
    pub const fn offset(&self) -> usize {
        self.start
    }

    /// The length of the data in bytes.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no data.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Lets the data be `length` bytes that begin `offset_in_page` bytes (0 to 4095) into the memory. What is in it stays.
    ///
    /// # Errors
    /// If the memory has no such range; nothing has changed then.
    pub fn set_range(&mut self, offset_in_page: usize, length: usize) -> Result<(), NoSuchRange> {
        let capacity = self.capacity();
        let fits = offset_in_page < PAGE
            && offset_in_page <= capacity
            && length <= capacity - offset_in_page;
        if !fits {
            return Err(NoSuchRange { start: offset_in_page, length, capacity });
        }
        self.start = offset_in_page;
        self.length = length;
        Ok(())
    }

    /// Lets the data be the first `length` bytes of the memory.
    ///
    /// # Errors
    /// If the memory is shorter; nothing has changed then.
    pub fn set_len(&mut self, length: usize) -> Result<(), NoSuchRange> {
        self.set_range(0, length)
    }

    /// The data.
    pub fn data(&self) -> &[u8] {
        let Some(memory) = &self.memory else { return &[] };
        memory.bytes().get(self.start..self.start + self.length).unwrap_or_default()
    }

    /// The data, to be written to. It begins at [`Buffer::offset`] in a page.
    pub fn data_mut(&mut self) -> &mut [u8] {
        let range = self.start..self.start + self.length;
        let Some(memory) = &mut self.memory else { return &mut [] };
        memory.bytes_mut().get_mut(range).unwrap_or_default()
    }

    /// Where the data begins in memory.
    pub fn as_ptr(&self) -> *const u8 {
        self.data().as_ptr()
    }

    /// Never gives the memory back: somebody may still write to it.
    pub(super) fn leak(mut self) {
        std::mem::forget(self.memory.take());
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.pool.shelf().free.push(memory);
        }
    }
}

impl fmt::Debug for Buffer {
    /// Its place and size; not what it holds, which is a guest's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({}+{} of {})", self.start, self.length, self.capacity())
    }
}

/// Whole pages from the kernel, zeroed at first, given back when dropped.
struct Memory {
    at: NonNull<u8>,
    size: usize,
}

// SAFETY: the pages belong to this value alone; it can be sent and looked at like a `Box<[u8]>`.
unsafe impl Send for Memory {}
// SAFETY: as above: `&Memory` gives nothing but `&[u8]`.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(size: usize) -> Option<Memory> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for, so the new pages overlap nothing.
        let at = unsafe { mmap_anonymous(ptr::null_mut(), size, protection, MapFlags::PRIVATE) };
        let at = NonNull::new(at.ok()?.cast())?;
        Some(Memory { at, size })
    }

    const fn bytes(&self) -> &[u8] {
        // SAFETY: `size` bytes were mapped at `at`, readable and zeroed, and live as long as `self`. Writing takes `&mut self`.
        unsafe { slice::from_raw_parts(self.at.as_ptr(), self.size) }
    }

    const fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is the only way to them.
        unsafe { slice::from_raw_parts_mut(self.at.as_ptr(), self.size) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `size` bytes were mapped at `at`, and nothing borrows them any more. Unmapping what was mapped cannot fail.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_at_a_page_and_is_zeroed() {
        let buffer = Buffers::new(5000, 1).take().unwrap();
        assert_eq!(buffer.capacity(), 8192);
        assert_eq!(buffer.as_ptr() as usize % PAGE, 0);
        assert_eq!(buffer.data(), [0; 8192]);
    }

    #[test]
    fn sizes_stay_between_a_page_and_a_mebibyte() {
        assert_eq!(Buffers::new(0, 1).size(), PAGE);
        assert_eq!(Buffers::new(PAGE, 1).size(), PAGE);
        assert_eq!(Buffers::new(usize::MAX, 1).size(), MAX_BUFFER);
    }

    #[test]
    fn no_more_than_the_limit_and_those_that_are_dropped_are_used_again() {
        let buffers = Buffers::new(PAGE, 2);
        let mut first = buffers.take().unwrap();
        first.data_mut().fill(7);
        let _second = buffers.take().unwrap();
        assert!(buffers.take().is_none());
        let at = first.as_ptr();
        drop(first);
        let again = buffers.clone().take().unwrap();
        assert_eq!(again.as_ptr(), at);
        assert!(buffers.take().is_none());
    }

    #[test]
    fn data_begins_where_it_was_told_to() {
        let mut buffer = Buffers::new(2 * PAGE, 1).take().unwrap();
        buffer.set_range(24, 100).unwrap();
        buffer.data_mut().copy_from_slice(&[9; 100]);
        assert_eq!((buffer.offset(), buffer.len()), (24, 100));
        assert_eq!(buffer.as_ptr() as usize % PAGE, 24);
        buffer.set_range(0, 2 * PAGE).unwrap();
        assert_eq!(buffer.data().iter().map(|it| usize::from(*it)).sum::<usize>(), 900);
        assert_eq!(buffer.data()[24], 9);
    }

    #[test]
    fn a_range_that_is_not_there_changes_nothing() {
        let mut buffer = Buffers::new(PAGE, 1).take().unwrap();
        buffer.set_range(8, 8).unwrap();
        for (start, length) in
            [(PAGE, 0), (1, PAGE), (0, PAGE + 1), (4095, 2), (usize::MAX, 1), (1, usize::MAX)]
        {
            let refused = buffer.set_range(start, length);
            assert_eq!(refused, Err(NoSuchRange { start, length, capacity: PAGE }));
        }
        assert_eq!((buffer.offset(), buffer.len()), (8, 8));
        assert_eq!(buffer.set_range(4095, 1), Ok(()));
    }

    #[test]
    fn a_buffer_outlives_its_pool() {
        let mut buffer = Buffers::new(PAGE, 1).take().unwrap();
        buffer.data_mut().fill(1);
        assert_eq!(buffer.data(), [1; PAGE]);
    }
}
