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

use super::flight::Flights;
use super::handle::Handle;
use super::ioctls;
use super::urb::{Done, Refused, Urb};

/// An open USB device and its URBs in flight.
///
/// All that waits for the device is in [`Handle`], whose calls can be made here as well.
pub struct UsbFs {
    handle: Handle,
    flights: Flights,
}

/// Why a device could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The node is not there, or may not be opened.
    #[error("the USB device cannot be opened at {}: {source}; check that it is plugged in, and run as root", path.display())]
    Node {
        /// The node.
        path: PathBuf,
        /// What the system said.
        source: Errno,
    },
    /// What was opened is no USB device, or may not be written to.
    #[error(
        "what was opened is no USB device that can be written to: {source}; open a node of /dev/bus/usb for writing"
    )]
    NotUsbFs {
        /// What the system said.
        source: Errno,
    },
}

/// The device was unplugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the device is gone; plug it in again")]
pub struct Gone;

impl UsbFs {
    /// Opens a node, such as `/dev/bus/usb/003/014`, for reading and writing. Nothing is claimed yet.
    ///
    /// # Errors
    /// If the node is not there, may not be opened, or is no USB device. Just after a device is plugged in its node can be missing or
    /// not yet have its permissions: try again for a moment.
    pub fn open(path: &Path) -> Result<UsbFs, OpenError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let fd = rustix::fs::open(path, flags, Mode::empty());
        UsbFs::from_fd(fd.map_err(|source| OpenError::Node { path: path.to_owned(), source })?)
    }

    /// Takes a node that somebody else has opened for reading and writing.
    ///
    /// # Errors
    /// If it is no USB device, is not open for writing, or the device is gone.
    pub fn from_fd(fd: OwnedFd) -> Result<UsbFs, OpenError> {
        ioctls::capabilities(fd.as_fd()).map_err(|source| OpenError::NotUsbFs { source })?;
        Ok(UsbFs { handle: Handle::new(Arc::new(fd)), flights: Flights::default() })
    }

    /// The calls that wait for the device, to be cloned for another thread.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// How many URBs are in flight: submitted, and not yet reaped.
    pub const fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Starts a transfer. `token` is its name until it is reaped. It can be of any kind, and there can be [`MAX_IN_FLIGHT`] of them.
    ///
    /// The interface of the endpoint must be claimed: the kernel would claim it by itself, and complain in its log.
    ///
    /// # Errors
    /// Why it was not taken, and the URB as it was.
    ///
    /// [`MAX_IN_FLIGHT`]: super::MAX_IN_FLIGHT
    pub fn submit(&mut self, urb: Urb, token: u64) -> Result<(), (Refused, Urb)> {
        self.flights.submit(self.handle.fd(), urb, token)
    }

    /// A finished URB, in the order in which they were finished; `None` if none is. Never waits for the device, only for a call of
    /// [`Handle`] on another thread.
    ///
    /// # Errors
    /// [`Gone`] if the device is gone and none is finished. While [`UsbFs::in_flight`] is not 0 then, the kernel is about to finish
    /// the others: ask again when epoll says EPOLLERR (all are finished then), or a little later.
    pub fn reap(&mut self) -> Result<Option<Done>, Gone> {
        self.flights.reap(self.handle.fd())
    }

    /// Asks for a transfer to end. It is reaped all the same, as [`Status::Cancelled`] or as whatever it ended with before. When this
    /// returns it is finished. One that is not in flight is none to end, and that is fine.
    ///
    /// [`Status::Cancelled`]: super::Status::Cancelled
    pub fn discard(&mut self, token: u64) {
        self.flights.discard(self.handle.fd(), token);
    }

    /// As [`UsbFs::discard`], for all that are in flight.
    pub fn discard_all(&mut self) {
        self.flights.discard_all(self.handle.fd());
    }

    /// Ends and reaps all that is in flight; false if some could not be reaped within a second.
    fn settle(&mut self) -> bool {
        const STEP: Duration = Duration::from_millis(10);
        self.discard_all();
        for _ in 0..100 {
            while let Ok(Some(_)) = self.reap() {}
            if self.in_flight() == 0 {
                return true;
            }
            thread::sleep(STEP);
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
    /// For epoll: EPOLLOUT if there is something to reap; EPOLLHUP if the device is gone; EPOLLERR if it is gone and nothing is in
    /// flight that could not be reaped now. All of them stay as long as they are so.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.fd()
    }
}

impl Drop for UsbFs {
    /// Ends what is in flight and closes the device. What was claimed is released, unless a [`Handle`] is left; its drivers do not
    /// come back by themselves ([`Handle::connect`]).
    fn drop(&mut self) {
        if self.in_flight() > 0 && !self.settle() {
            self.flights.leak();
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
