//! Memory for URBs: page-aligned, of a fixed size, and reused.
//!
//! ```text
//! BufferPool::new(size, limit) ──take──▶ Buffer ──submit──▶ in flight ──reap──▶ Buffer
//!         ▲                                                                       │
//!         └─────────────────────────────────drop──────────────────────────────────┘
//! ```

#![allow(unsafe_code, reason = "owns memory that the kernel writes to")]

use std::fmt;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// The size of a page in bytes, and the alignment of every buffer. Xen's pages have this size on
/// all architectures.
pub const PAGE: usize = 4096;

/// The largest buffer in bytes.
pub const MAX_BUFFER: usize = 1 << 20;

/// A pool of buffers of one size. Clones share the pool.
///
/// A dropped buffer returns to its pool and is reused by the next [`BufferPool::take`]. So
/// allocation stops once the pool has as many buffers as are in use at the same time.
#[derive(Clone)]
pub struct BufferPool {
    pool: Arc<Pool>,
}

struct Pool {
    size: usize,
    limit: usize,
    state: Mutex<State>,
}

struct State {
    free: Vec<Memory>,
    /// The number of buffers that exist, in use or free.
    allocated: usize,
}

impl BufferPool {
    /// A pool of at most `limit` buffers of `size` bytes each, rounded up to whole pages (1 page to
    /// [`MAX_BUFFER`]). Buffers are allocated when they are taken for the first time.
    pub fn new(size: usize, limit: usize) -> BufferPool {
        let size = size.clamp(1, MAX_BUFFER).next_multiple_of(PAGE);
        let state = Mutex::new(State { free: Vec::new(), allocated: 0 });
        BufferPool { pool: Arc::new(Pool { size, limit, state }) }
    }

    /// The size of each buffer in bytes.
    pub fn size(&self) -> usize {
        self.pool.size
    }

    /// A buffer whose data is the whole memory. `None` if all `limit` buffers are in use, or
    /// allocation fails.
    ///
    /// A new buffer is zeroed, but a reused one still contains its old data: never expose more of
    /// it than was received.
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

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool")
            .field("size", &self.pool.size)
            .field("limit", &self.pool.limit)
            .finish()
    }
}

impl Pool {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // No code panics while the lock is held, and the state is consistent at all times.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Memory> {
        let mut state = self.state();
        if let Some(memory) = state.free.pop() {
            return Some(memory);
        }
        if state.allocated >= self.limit {
            return None;
        }
        let memory = Memory::new(self.size)?;
        state.allocated += 1;
        Some(memory)
    }
}

/// Memory for the data of one URB. The data is a range of the memory, initially all of it.
///
/// The memory is page-aligned. The start of the data can be chosen ([`Buffer::set_range`]) so that
/// its offset in the page equals that of the guest's data. Then each page needs one copy instead of
/// two.
pub struct Buffer {
    start: usize,
    length: usize,
    /// `None` only while it is being dropped.
    memory: Option<Memory>,
    pool: Arc<Pool>,
}

/// The requested range is outside of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{length} bytes at offset {start} do not fit into a buffer of {capacity} bytes with an offset below {PAGE}; use a larger buffer"
)]
pub struct RangeError {
    /// The requested start of the data, in bytes from the start of the memory.
    pub start: usize,
    /// The requested length of the data in bytes.
    pub length: usize,
    /// The size of the memory in bytes.
    pub capacity: usize,
}

impl Buffer {
    /// The size of the memory in bytes, a multiple of [`PAGE`].
    pub fn capacity(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.size)
    }

    /// The start of the data, in bytes from the start of the memory and of its first page: 0 to
    /// 4095.
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

    /// Sets the data to the `length` bytes at `offset_in_page` (0 to 4095) in the memory. The
    /// content is unchanged.
    ///
    /// # Errors
    /// If the range is outside of the memory. Nothing is changed in this case.
    pub fn set_range(&mut self, offset_in_page: usize, length: usize) -> Result<(), RangeError> {
        let capacity = self.capacity();
        let fits = offset_in_page < PAGE
            && offset_in_page <= capacity
            && length <= capacity - offset_in_page;
        if !fits {
            return Err(RangeError { start: offset_in_page, length, capacity });
        }
        self.start = offset_in_page;
        self.length = length;
        Ok(())
    }

    /// Sets the data to the first `length` bytes of the memory.
    ///
    /// # Errors
    /// If the memory is shorter. Nothing is changed in this case.
    pub fn set_len(&mut self, length: usize) -> Result<(), RangeError> {
        self.set_range(0, length)
    }

    /// The data.
    pub fn data(&self) -> &[u8] {
        let Some(memory) = &self.memory else { return &[] };
        memory.bytes().get(self.start..self.start + self.length).unwrap_or_default()
    }

    /// The data for writing. It starts at [`Buffer::offset`] in its page.
    pub fn data_mut(&mut self) -> &mut [u8] {
        let range = self.start..self.start + self.length;
        let Some(memory) = &mut self.memory else { return &mut [] };
        memory.bytes_mut().get_mut(range).unwrap_or_default()
    }

    /// The address of the data.
    pub fn as_ptr(&self) -> *const u8 {
        self.data().as_ptr()
    }

    /// Leaks the memory, because the kernel may still write to it.
    pub(super) fn leak(mut self) {
        std::mem::forget(self.memory.take());
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.pool.state().free.push(memory);
        }
    }
}

impl fmt::Debug for Buffer {
    /// Prints the range and not the content, which belongs to a guest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({}+{} of {})", self.start, self.length, self.capacity())
    }
}

/// Whole pages from the kernel, zeroed initially, unmapped on drop.
struct Memory {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: this value owns the pages exclusively, so it can be sent like a `Box<[u8]>`.
unsafe impl Send for Memory {}
// SAFETY: as above, and `&Memory` only provides `&[u8]`.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(size: usize) -> Option<Memory> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is requested, so the new pages do not overlap existing memory.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), size, protection, MapFlags::PRIVATE) };
        let start = NonNull::new(start.ok()?.cast())?;
        Some(Memory { start, size })
    }

    const fn bytes(&self) -> &[u8] {
        // SAFETY: `size` bytes are mapped at `start`, readable and initialised, for the lifetime of
        // `self`. Writing requires `&mut self`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.size) }
    }

    const fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` guarantees exclusive access.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.size) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `size` bytes are mapped at `start`, and are no longer borrowed. Unmapping a
        // complete mapping cannot fail.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_buffer_is_page_aligned_and_zeroed() {
        let buffer = BufferPool::new(5000, 1).take().unwrap();
        assert_eq!(buffer.capacity(), 8192);
        assert_eq!(buffer.as_ptr() as usize % PAGE, 0);
        assert_eq!(buffer.data(), [0; 8192]);
    }

    #[test]
    fn sizes_are_between_a_page_and_a_mebibyte() {
        assert_eq!(BufferPool::new(0, 1).size(), PAGE);
        assert_eq!(BufferPool::new(PAGE, 1).size(), PAGE);
        assert_eq!(BufferPool::new(usize::MAX, 1).size(), MAX_BUFFER);
    }

    #[test]
    fn the_limit_holds_and_dropped_buffers_are_reused() {
        let buffers = BufferPool::new(PAGE, 2);
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
    fn data_starts_at_the_given_offset() {
        let mut buffer = BufferPool::new(2 * PAGE, 1).take().unwrap();
        buffer.set_range(24, 100).unwrap();
        buffer.data_mut().copy_from_slice(&[9; 100]);
        assert_eq!((buffer.offset(), buffer.len()), (24, 100));
        assert_eq!(buffer.as_ptr() as usize % PAGE, 24);
        buffer.set_range(0, 2 * PAGE).unwrap();
        assert_eq!(buffer.data().iter().map(|it| usize::from(*it)).sum::<usize>(), 900);
        assert_eq!(buffer.data()[24], 9);
    }

    #[test]
    fn a_range_outside_of_the_memory_changes_nothing() {
        let mut buffer = BufferPool::new(PAGE, 1).take().unwrap();
        buffer.set_range(8, 8).unwrap();
        for (start, length) in
            [(PAGE, 0), (1, PAGE), (0, PAGE + 1), (4095, 2), (usize::MAX, 1), (1, usize::MAX)]
        {
            let refused = buffer.set_range(start, length);
            assert_eq!(refused, Err(RangeError { start, length, capacity: PAGE }));
        }
        assert_eq!((buffer.offset(), buffer.len()), (8, 8));
        assert_eq!(buffer.set_range(4095, 1), Ok(()));
    }

    #[test]
    fn a_buffer_outlives_its_pool() {
        let mut buffer = BufferPool::new(PAGE, 1).take().unwrap();
        buffer.data_mut().fill(1);
        assert_eq!(buffer.data(), [1; PAGE]);
    }
}
