//! What the engine needs of the world: a device to hand transfers to, and the guest's memory.
//!
//! Both are traits so that the engine can be driven in a test, step by step, by a device and a guest that do what the test wants.

use thiserror::Error;
use vusb_host::usbfs::{Done, Gone, Handle, Refused, Urb, UsbFs};

/// A device that takes transfers and finishes them later.
pub trait Usb {
    /// What jobs on other threads are given to work on it.
    type Handle: Clone;

    /// Hands over a transfer. `token` comes back with it.
    ///
    /// # Errors
    /// Why it was not taken, and the transfer.
    fn submit(&mut self, urb: Urb, token: u64) -> Result<(), (Refused, Urb)>;

    /// A transfer that is finished, if there is one.
    ///
    /// # Errors
    /// The device was unplugged, and nothing that is finished is left.
    fn reap(&mut self) -> Result<Option<Done>, Gone>;

    /// Asks to finish a transfer early. It is reaped as ever.
    fn discard(&mut self, token: u64);

    /// How many transfers it has.
    fn in_flight(&self) -> usize;

    /// For jobs on other threads.
    fn handle(&self) -> Self::Handle;
}

impl Usb for UsbFs {
    type Handle = Handle;

    fn submit(&mut self, urb: Urb, token: u64) -> Result<(), (Refused, Urb)> {
        UsbFs::submit(self, urb, token)
    }

    fn reap(&mut self) -> Result<Option<Done>, Gone> {
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

/// A piece of a page that the guest has granted, and the bytes of ours that belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The grant reference.
    pub gref: u32,
    /// Where in the page, in bytes. With `length` within the page.
    pub offset: u16,
    /// How long, in bytes.
    pub length: u16,
    /// Where in our bytes.
    pub at: usize,
}

/// The guest's memory, as far as it has granted it.
pub trait Memory {
    /// Copies pieces of the guest's memory to where they belong in `into`.
    ///
    /// # Errors
    /// A piece is not granted, or lies outside of `into`.
    fn read(&mut self, pieces: &[Piece], into: &mut [u8]) -> Result<(), BadMemory>;

    /// Copies bytes of `from` to the guest's memory.
    ///
    /// # Errors
    /// A piece is not granted for writing, or lies outside of `from`.
    fn write(&mut self, pieces: &[Piece], from: &[u8]) -> Result<(), BadMemory>;
}

/// The guest's memory is not there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the guest's memory cannot be reached: {0}")]
pub struct BadMemory(pub String);
