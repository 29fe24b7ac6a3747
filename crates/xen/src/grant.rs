//! Pages of other domains: mapping them, and copying to and from them.
//!
//! Map memory that both sides access all the time (a ring), and copy memory that is transferred
//! once (data): one call copies many pages, and the guest can revoke its page right afterwards.

mod calls;
mod copy;

use std::fmt;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::str::FromStr;
use std::sync::Arc;

pub use self::copy::{BATCH, CopyBatch, CopyError, GrantStatus};
use crate::device::open_device;
use crate::domain::strict_decimal;
use crate::page::SharedPage;
use crate::{DeviceError, DomId};

/// A domain's reference to a page that it grants to another domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantRef(pub u32);

impl fmt::Display for GrantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is not a grant reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a grant reference: it must be decimal, 0 to 4294967295")]
pub struct NotAGrantRef(String);

/// Strict decimal, as frontends write it to xenstore.
impl FromStr for GrantRef {
    type Err = NotAGrantRef;

    fn from_str(text: &str) -> Result<Self, NotAGrantRef> {
        strict_decimal(text).map(Self).ok_or_else(|| NotAGrantRef(text.chars().take(16).collect()))
    }
}

/// `/dev/xen/gntdev`. Threads may share it; a clone is the same descriptor.
#[derive(Debug, Clone)]
pub struct Grants {
    fd: Arc<OwnedFd>,
}

impl Grants {
    /// Opens the device.
    ///
    /// # Errors
    /// It does not exist, or this process is not permitted to open it.
    pub fn open() -> Result<Self, DeviceError> {
        open_device("/dev/xen/gntdev", "xen-gntdev").map(Self::from_fd)
    }

    /// Uses a descriptor that another process opened (Linux 5.5 or later: before, only the process
    /// that opened it could map).
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd) }
    }

    /// Maps a page of another domain for reading and writing, until it is dropped.
    ///
    /// # Errors
    /// The domain did not grant that page to this one, or only for reading; or the kernel's pages
    /// are larger than Xen's.
    pub fn map_page(&self, domain: DomId, gref: GrantRef) -> Result<MappedPage, DeviceError> {
        let what = "mapping a page of another domain";
        let index = calls::map(self.fd.as_fd(), domain.get(), gref.0)
            .map_err(DeviceError::refused(what))?;
        let registered = Registered { fd: Arc::clone(&self.fd), index };
        let page = SharedPage::map(self.fd.as_fd(), index, what)?;
        Ok(MappedPage { page, _registered: registered })
    }
}

/// A page of another domain. It stays mapped when that domain is gone, until this is dropped.
#[derive(Debug)]
pub struct MappedPage {
    // In this order: fields are dropped top down, and the page must be unmapped before its grant is
    // released.
    page: SharedPage,
    _registered: Registered,
}

impl Deref for MappedPage {
    type Target = SharedPage;

    fn deref(&self) -> &SharedPage {
        &self.page
    }
}

#[derive(Debug)]
struct Registered {
    fd: Arc<OwnedFd>,
    index: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Err(errno) = calls::unmap(self.fd.as_fd(), self.index) {
            tracing::error!(%errno, "cannot release the grant of another domain's page");
        }
    }
}
