//! The PVUSB wire protocol (usbif), from the backend's side.
//!
//! A guest's virtual USB controller consists of two pages that the guest (frontend) and the backend
//! share, each with a Xen ring in it, and of one event channel on which each side wakes the other:
//!
//! ```text
//!              URB ring: 16 slots                       connection ring: 512 slots
//!  guest ──── request: submit, unlink ───▶ backend    guest ──── blank requests (credit) ───▶ backend
//!        ◀─── response: status, length ───                  ◀─── port P has speed S now ─────
//! ```
//!
//! * [`urb::Ring`] reads requests and writes responses. The types ensure that each request is
//!   answered at most once.
//! * [`connect::Ring`] tells the guest what was plugged in and unplugged.
//! * [`iso`] is the packet table that an isochronous request carries in the guest's memory.
//! * [`frontend`] is the guest's side, with the rules of Linux `xen-hcd`, for tests and tools.
//!
//! This crate does no I/O and has no unsafe code: the code that maps the pages implements [`Page`].
//! The guest may change every word of both pages at any time. So each word is read once, and only
//! the copy is used. Apart from a valid request, a read has three distinct outcomes: nothing to do;
//! a request that is invalid in itself ([`urb::Invalid`], which has to be answered, or ends the
//! controller); and a ring with impossible indexes ([`Broken`], which ends the controller).
//!
//! Numbers and layouts follow Xen's `xen/include/public/io/usbif.h` and `ring.h`. Where these are
//! silent, or differ from the only existing frontend, Linux `drivers/usb/host/xen-hcd.c` is the
//! reference.

#![forbid(unsafe_code)]

pub mod connect;
pub mod frontend;
pub mod iso;
mod page;
mod port;
mod shared;
pub mod urb;

pub use page::{MemoryPage, PAGE_BYTES, PAGE_WORDS, Page};
pub use port::{BadPort, BadSpeed, Port, Speed};
pub use shared::{Broken, Notify};

/// Splits a slice into arrays and drops a shorter remainder. `slice::as_chunks` does the same, but
/// needs Rust 1.88.
fn arrays<T, const N: usize>(slice: &[T]) -> impl Iterator<Item = &[T; N]> {
    slice.chunks_exact(N).filter_map(|chunk| chunk.first_chunk())
}

// The words of a page are read in native byte order; Xen has no big-endian guests.
const _: () = assert!(cfg!(target_endian = "little"));
