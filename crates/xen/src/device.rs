//! Xen's devices in `/dev/xen`: opening them, and their errors.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

/// Why an operation on one of Xen's devices failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The device does not exist.
    #[error(
        "{path} does not exist: this is not a Xen domain, or the kernel module {module} is not loaded"
    )]
    Missing {
        /// The device.
        path: &'static str,
        /// The kernel module that creates it.
        module: &'static str,
    },
    /// This process is not permitted to open it.
    #[error("cannot open {path}: permission denied; run as root")]
    Denied {
        /// The device.
        path: &'static str,
    },
    /// The operation failed.
    #[error("{what}: {source}")]
    Refused {
        /// The operation.
        what: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// More event channels fired than the kernel's buffer holds. Assume that all of them did.
    #[error("event channels fired faster than they were read: some notifications were lost")]
    Overflowed,
    /// The kernel returned an impossible result.
    #[error("{what}: the kernel returned an impossible result")]
    ImpossibleResult {
        /// The operation.
        what: &'static str,
    },
    /// The kernel's pages are larger than Xen's.
    #[error("this kernel has pages of {bytes} bytes; only 4096 are supported")]
    PageSize {
        /// The kernel's page size.
        bytes: usize,
    },
}

impl DeviceError {
    pub(crate) fn refused(what: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Refused { what, source: errno.into() }
    }
}

/// Opens a device for reading and writing; reads never block.
pub(crate) fn open_device(
    path: &'static str,
    module: &'static str,
) -> Result<OwnedFd, DeviceError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => DeviceError::Missing { path, module },
        Errno::ACCESS | Errno::PERM => DeviceError::Denied { path },
        source => DeviceError::Refused { what: path, source: source.into() },
    })
}
