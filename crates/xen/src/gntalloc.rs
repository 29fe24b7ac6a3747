//! Pages of this domain that another may use: what a frontend does. For tests of the other end.
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
    /// It is not there, or this process may not.
    pub fn open() -> Result<Self, DeviceError> {
        open_device("/dev/xen/gntalloc", "xen-gntalloc").map(Self::from_fd)
    }

    /// From a descriptor that another process opened.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd) }
    }

    /// Makes a page of zeros that `domain` may use, and maps it here.
    ///
    /// # Errors
    /// The kernel has given out as many as it may (its parameter `limit`, 1024).
    pub fn allocate(&self, domain: DomId, writable: bool) -> Result<Shared, DeviceError> {
        let what = "making a page for another domain";
        let flags = if writable { abi::WRITABLE } else { 0 };
        let (index, gref) =
            allocate(self.fd.as_fd(), domain.get(), flags).map_err(DeviceError::refused(what))?;
        let allocated = Allocated { fd: Arc::clone(&self.fd), index };
        let page = SharedPage::map(self.fd.as_fd(), index, what)?;
        Ok(Shared { gref, page, _allocated: allocated })
    }
}

/// A page that another domain may use. Given back when it is dropped: at once, or as soon as that domain has let it go.
#[derive(Debug)]
pub struct Shared {
    gref: GrantRef,
    // In this order: fields are dropped from above, and the page is unmapped before it is given back.
    page: SharedPage,
    _allocated: Allocated,
}

impl Shared {
    /// What the other domain has to call it.
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
            tracing::error!(%errno, "a page for another domain could not be given back");
        }
    }
}

fn allocate(fd: BorrowedFd<'_>, domid: u16, flags: u16) -> rustix::io::Result<(u64, GrantRef)> {
    let mut alloc = abi::AllocGref { domid, flags, count: 1, index: 0, gref: 0 };
    // SAFETY: the opcode reads and writes an `AllocGref` with room for as many references as `count` says: one.
    unsafe { ioctl(fd, Updater::<{ abi::ALLOC_GREF }, _>::new(&mut alloc)) }?;
    Ok((alloc.index, GrantRef(alloc.gref)))
}

fn deallocate(fd: BorrowedFd<'_>, index: u64) -> rustix::io::Result<()> {
    // SAFETY: the opcode reads a `DeallocGref`.
    unsafe {
        ioctl(fd, Setter::<{ abi::DEALLOC_GREF }, _>::new(abi::DeallocGref { index, count: 1 }))
    }
}
