//! Pages that this domain grants to another, as a frontend does. Used to test the backend.
#![allow(unsafe_code, reason = "ioctls")]

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::ioctl::{Setter, Updater, ioctl};

use crate::abi::gntalloc as abi;
use crate::device::open_device;
use crate::grant::GrantRef;
use crate::page::SharedPage;
use crate::{DeviceError, DomId};

/// `/dev/xen/gntalloc`. Threads may share it; a clone is the same descriptor.
#[derive(Debug, Clone)]
pub struct Allocator {
    fd: Arc<OwnedFd>,
}

impl Allocator {
    /// Opens the device.
    ///
    /// # Errors
    /// It does not exist, or this process is not permitted to open it.
    pub fn open() -> Result<Self, DeviceError> {
        open_device("/dev/xen/gntalloc", "xen-gntalloc").map(Self::from_fd)
    }

    /// Uses a descriptor that another process opened.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd) }
    }

    /// Allocates a zeroed page, grants it to `domain`, and maps it here.
    ///
    /// # Errors
    /// The kernel's limit is reached (module parameter `limit`, 1024), or the kernel's pages are
    /// larger than Xen's.
    pub fn allocate(&self, domain: DomId, writable: bool) -> Result<Shared, DeviceError> {
        let what = "allocating a page for another domain";
        let flags = if writable { abi::WRITABLE } else { 0 };
        let (index, gref) =
            allocate(self.fd.as_fd(), domain.get(), flags).map_err(DeviceError::refused(what))?;
        let allocated = Allocated { fd: Arc::clone(&self.fd), index };
        let page = SharedPage::map(self.fd.as_fd(), index, what)?;
        Ok(Shared { gref, page, _allocated: allocated })
    }
}

/// A page that is granted to another domain. Dropping it frees it: at once, or as soon as that
/// domain has unmapped it.
#[derive(Debug)]
pub struct Shared {
    gref: GrantRef,
    // In this order: fields are dropped top down, and the page must be unmapped before it is freed.
    page: SharedPage,
    _allocated: Allocated,
}

impl Shared {
    /// The reference by which the other domain uses it.
    #[must_use]
    pub const fn gref(&self) -> GrantRef {
        self.gref
    }
}

impl Deref for Shared {
    type Target = SharedPage;

    fn deref(&self) -> &SharedPage {
        &self.page
    }
}

#[derive(Debug)]
struct Allocated {
    fd: Arc<OwnedFd>,
    index: u64,
}

impl Drop for Allocated {
    fn drop(&mut self) {
        if let Err(errno) = deallocate(self.fd.as_fd(), self.index) {
            tracing::error!(%errno, "cannot free a page that is granted to another domain");
        }
    }
}

fn allocate(fd: BorrowedFd<'_>, domid: u16, flags: u16) -> rustix::io::Result<(u64, GrantRef)> {
    let mut alloc = abi::AllocGref { domid, flags, count: 1, index: 0, gref: 0 };
    // SAFETY: the opcode reads and writes an `AllocGref` with `count` references: one.
    unsafe { ioctl(fd, Updater::<{ abi::ALLOC_GREF }, _>::new(&mut alloc)) }?;
    Ok((alloc.index, GrantRef(alloc.gref)))
}

fn deallocate(fd: BorrowedFd<'_>, index: u64) -> rustix::io::Result<()> {
    // SAFETY: the opcode reads a `DeallocGref`.
    unsafe {
        ioctl(fd, Setter::<{ abi::DEALLOC_GREF }, _>::new(abi::DeallocGref { index, count: 1 }))
    }
}
