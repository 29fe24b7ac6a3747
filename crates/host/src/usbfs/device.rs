//! An open device, and its URBs in flight.

use std::fmt;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

use super::handle::Handle;
use super::in_flight::InFlight;
use super::ioctls;
use super::urb::{Completion, SubmitError, Urb};

/// An open USB device and its URBs in flight.
///
/// Blocking calls are methods of [`Handle`], which are available here as well.
pub struct UsbFs {
    handle: Handle,
    urbs: InFlight,
}

/// Why a device could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The node does not exist or cannot be opened.
    #[error("cannot open the USB device {}: {source}; check that it is plugged in, and run as root", path.display())]
    Node {
        /// The node.
        path: PathBuf,
        /// The system's error.
        source: Errno,
    },
    /// The file is not a USB device, or not open for writing, or the device is gone.
    #[error(
        "not a USB device that is open for writing: {source}; open a node in /dev/bus/usb for reading and writing"
    )]
    NotUsbFs {
        /// The system's error.
        source: Errno,
    },
}

/// The device was unplugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the device is gone; plug it in again")]
pub struct Gone;

impl UsbFs {
    /// Opens a node, such as `/dev/bus/usb/003/014`, for reading and writing. No interface is
    /// claimed.
    ///
    /// # Errors
    /// If the node does not exist, cannot be opened, or is not a USB device. Just after a device is
    /// plugged in, its node may be missing or lack its final permissions: retry for a moment.
    pub fn open(path: &Path) -> Result<UsbFs, OpenError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let fd = rustix::fs::open(path, flags, Mode::empty());
        UsbFs::from_fd(fd.map_err(|source| OpenError::Node { path: path.to_owned(), source })?)
    }

    /// Uses a node that is already open for reading and writing.
    ///
    /// # Errors
    /// If it is not a USB device, is not open for writing, or the device is gone.
    pub fn from_fd(fd: OwnedFd) -> Result<UsbFs, OpenError> {
        ioctls::capabilities(fd.as_fd()).map_err(|source| OpenError::NotUsbFs { source })?;
        Ok(UsbFs { handle: Handle::new(Arc::new(fd)), urbs: InFlight::default() })
    }

    /// The blocking calls. Clone it for use on another thread.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The number of URBs in flight: submitted, and not yet reaped.
    pub fn in_flight(&self) -> usize {
        self.urbs.len()
    }

    /// Starts a transfer of any kind. `token` identifies it until it is reaped. At most
    /// [`MAX_IN_FLIGHT`] URBs can be in flight.
    ///
    /// Claim the endpoint's interface first. Otherwise the kernel claims it and logs a warning.
    ///
    /// # Errors
    /// Returns the reason and the unchanged URB.
    ///
    /// [`MAX_IN_FLIGHT`]: super::MAX_IN_FLIGHT
    pub fn submit(&mut self, urb: Urb, token: u64) -> Result<(), (SubmitError, Urb)> {
        self.urbs.submit(self.handle.fd(), urb, token)
    }

    /// The next completion, in the order in which the URBs have ended; `None` if there is none.
    /// Never waits for the device, only for calls of [`Handle`] on other threads.
    ///
    /// # Errors
    /// [`Gone`] if the device is gone and there is no completion. If [`UsbFs::in_flight`] is not 0
    /// then, the kernel is about to end the other URBs: call again when epoll reports EPOLLERR (all
    /// have ended), or a little later.
    pub fn reap(&mut self) -> Result<Option<Completion>, Gone> {
        self.urbs.reap(self.handle.fd())
    }

    /// Cancels a transfer. It has ended when this returns, and must still be reaped. Its status is
    /// [`Status::Cancelled`], or another one if it ended earlier. Does nothing if no such transfer
    /// is in flight.
    ///
    /// [`Status::Cancelled`]: super::Status::Cancelled
    pub fn discard(&mut self, token: u64) {
        self.urbs.discard(self.handle.fd(), token);
    }

    /// [`UsbFs::discard`] for everything in flight.
    pub fn discard_all(&mut self) {
        self.urbs.discard_all(self.handle.fd());
    }

    /// Cancels and reaps everything in flight; false if some URBs could not be reaped within a
    /// second.
    fn cancel_all(&mut self) -> bool {
        const INTERVAL: Duration = Duration::from_millis(10);
        self.discard_all();
        for _ in 0..100 {
            while let Ok(Some(_)) = self.reap() {}
            if self.in_flight() == 0 {
                return true;
            }
            thread::sleep(INTERVAL);
        }
        false
    }
}

impl Deref for UsbFs {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl AsFd for UsbFs {
    /// For epoll: EPOLLOUT if there is a completion; EPOLLHUP if the device is gone; EPOLLERR if it
    /// is gone and every URB in flight has ended. All of them are level-triggered.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.fd()
    }
}

impl Drop for UsbFs {
    /// Cancels everything in flight and closes the device. Its interfaces are released, unless a
    /// [`Handle`] is left. Kernel drivers are not bound to them again: see [`Handle::connect`].
    fn drop(&mut self) {
        if self.in_flight() > 0 && !self.cancel_all() {
            self.urbs.leak();
        }
    }
}

impl fmt::Debug for UsbFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsbFs")
            .field("fd", &self.handle)
            .field("in_flight", &self.in_flight())
            .finish()
    }
}
