//! What the engine needs from its environment: an open USB device, and the guest's memory.
//!
//! Both are traits, so that tests can drive the engine step by step with a simulated device and
//! guest.

use thiserror::Error;
use vusb_host::usbfs::{Completion, Gone, Handle, SubmitError, Urb, UsbFs};

/// An open USB device, to which transfers are submitted. They complete asynchronously.
pub trait Usb {
    /// Gives jobs on other threads access to the device.
    type Handle: Clone;

    /// Submits a transfer. `token` is returned with its completion.
    ///
    /// # Errors
    /// The reason why the transfer was not accepted, and the transfer.
    fn submit(&mut self, urb: Urb, token: u64) -> Result<(), (SubmitError, Urb)>;

    /// Takes a completed transfer, if there is one.
    ///
    /// # Errors
    /// The device was unplugged, and all completed transfers have been taken.
    fn reap(&mut self) -> Result<Option<Completion>, Gone>;

    /// Cancels a transfer. Its completion still has to be reaped.
    fn discard(&mut self, token: u64);

    /// The number of submitted transfers that have not been reaped.
    fn in_flight(&self) -> usize;

    /// A handle for jobs on other threads.
    fn handle(&self) -> Self::Handle;
}

impl Usb for UsbFs {
    type Handle = Handle;

    fn submit(&mut self, urb: Urb, token: u64) -> Result<(), (SubmitError, Urb)> {
        UsbFs::submit(self, urb, token)
    }

    fn reap(&mut self) -> Result<Option<Completion>, Gone> {
        UsbFs::reap(self)
    }

    fn discard(&mut self, token: u64) {
        UsbFs::discard(self, token);
    }

    fn in_flight(&self) -> usize {
        UsbFs::in_flight(self)
    }

    fn handle(&self) -> Handle {
        UsbFs::handle(self).clone()
    }
}

/// A piece of a page that the guest has granted, and its position in the backend's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The grant reference.
    pub gref: u32,
    /// Offset in the page, in bytes. `offset + length` is within the page.
    pub offset: u16,
    /// Length in bytes.
    pub length: u16,
    /// Offset in the backend's buffer, in bytes.
    pub buffer_offset: usize,
}

/// The memory that the guest has granted.
pub trait Memory {
    /// Copies pieces of the guest's memory to their positions in `into`, which must be ascending
    /// and must not overlap.
    ///
    /// # Errors
    /// A piece is not granted, lies outside `into`, or is out of order, or the guest has released
    /// the controller.
    fn read(&mut self, pieces: &[Piece], into: &mut [u8]) -> Result<(), BadMemory>;

    /// Copies pieces of `from` to the guest's memory. Does nothing if the guest has released the
    /// controller.
    ///
    /// # Errors
    /// A piece is not granted for writing, or lies outside `from`.
    fn write(&mut self, pieces: &[Piece], from: &[u8]) -> Result<(), BadMemory>;
}

/// The guest's memory cannot be accessed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot access the guest's memory: {0}")]
pub struct BadMemory(pub String);
