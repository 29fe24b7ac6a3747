//! Xen's devices in `/dev/xen`: opening them, and what they refuse.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

/// Why one of Xen's devices could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// It is not there.
    #[error(
        "{path} is not there: this is not a Xen domain, or the kernel's module {module} is not loaded"
    )]
    Missing {
        /// The device.
        path: &'static str,
        /// What makes it.
        module: &'static str,
    },
    /// This process may not open it.
    #[error("no permission for {path}: run as root")]
    Denied {
        /// The device.
        path: &'static str,
    },
    /// It refused.
    #[error("{what}: {source}")]
    Refused {
        /// What could not be done.
        what: &'static str,
        /// How it said so.
        source: io::Error,
    },
    /// More event channels fired than the kernel has room for. Take it that all of them did.
    #[error("event channels fired faster than they were read: some were not told")]
    Overflowed,
    /// The kernel gave what it never gives.
    #[error("{what}: the kernel's answer makes no sense")]
    Nonsense {
        /// What was asked.
        what: &'static str,
    },
    /// The kernel has larger pages than Xen.
    #[error("this kernel has pages of {bytes} bytes; only 4096 are supported")]
    PageSize {
        /// What it has.
        bytes: usize,
    },
}

impl DeviceError {
    pub(crate) fn refused(what: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Refused { what, source: errno.into() }
    }
}

/// Opens a device for reading and writing; reads never wait.
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
