//! The ioctls of `/dev/xen/gntdev`.
#![allow(unsafe_code, reason = "ioctls")]

use std::os::fd::BorrowedFd;

use rustix::io::Result;
use rustix::ioctl::{Setter, Updater, ioctl};

use crate::abi::gntdev as abi;

/// Registers a grant for mmap; returns the offset.
pub(super) fn map(fd: BorrowedFd<'_>, domid: u16, gref: u32) -> Result<u64> {
    let mut map = abi::MapGrantRef { count: 1, pad: 0, index: 0, domid: domid.into(), gref };
    // SAFETY: the opcode reads and writes a `MapGrantRef` with `count` grants: one.
    unsafe { ioctl(fd, Updater::<{ abi::MAP_GRANT_REF }, _>::new(&mut map)) }?;
    Ok(map.index)
}

/// Releases a grant that [`map`] registered.
pub(super) fn unmap(fd: BorrowedFd<'_>, index: u64) -> Result<()> {
    let unmap = abi::UnmapGrantRef { index, count: 1, pad: 0 };
    // SAFETY: the opcode reads an `UnmapGrantRef`.
    unsafe { ioctl(fd, Setter::<{ abi::UNMAP_GRANT_REF }, _>::new(unmap)) }
}

/// Copies, and sets each segment's status.
///
/// # Safety
/// Each segment's address must be valid for its length until the call returns: for writing if it is
/// the destination, for reading if it is the source.
pub(super) unsafe fn copy(fd: BorrowedFd<'_>, segments: &mut [abi::CopySegment]) -> Result<()> {
    let count = u32::try_from(segments.len()).unwrap_or(u32::MAX);
    let copy = abi::GrantCopy { count, segments: segments.as_mut_ptr() };
    // SAFETY: the opcode reads a `GrantCopy`, which points to at least `count` segments that are
    // borrowed exclusively. The caller guarantees that their addresses are valid.
    unsafe { ioctl(fd, Setter::<{ abi::GRANT_COPY }, _>::new(copy)) }
}
