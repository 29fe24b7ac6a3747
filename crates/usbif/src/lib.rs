//! The PVUSB wire protocol (usbif), as the backend sees it.
//!
//! A guest's virtual USB controller is two pages that guest (frontend) and backend share, each with a
//! Xen ring in it, and one event channel on which each side wakes the other:
//!
//! ```text
//!              URB ring: 16 slots                       connection ring: 512 slots
//!  guest ──── request: submit, unlink ───▶ backend    guest ──── blank requests (credit) ───▶ backend
//!        ◀─── response: status, length ───                  ◀─── port P has speed S now ─────
//! ```
//!
//! * [`urb::Ring`] reads requests and writes responses, each request answered once by construction.
//! * [`connect::Ring`] tells the guest what was plugged in and pulled out.
//! * [`iso`] is the table of packets that an isochronous request carries in the guest's memory.
//! * [`front`] is the guest's side, with the rules of Linux `xen-hcd`. It is for tests and tools.
//!
//! There is no I/O here and no unsafe code: whoever maps the pages implements [`Page`]. The guest may
//! change every word of both pages at any time. So each word is read once, and only the copy is looked
//! at. Three outcomes are kept apart: nothing to do, a request that is wrong in itself
//! ([`urb::Invalid`], to be answered), and a ring whose indexes cannot be true ([`Broken`], the end of
//! the controller).
//!
//! Numbers and layouts are those of Xen's `xen/include/public/io/usbif.h` and `ring.h`; where these are
//! silent or differ from the one frontend that exists, Linux `drivers/usb/host/xen-hcd.c` decides.

#![forbid(unsafe_code)]

pub mod connect;
pub mod front;
pub mod iso;
mod page;
mod port;
mod shared;
pub mod urb;

pub use page::{MemoryPage, PAGE_BYTES, PAGE_WORDS, Page};
pub use port::{BadPort, BadSpeed, Port, Speed};
pub use shared::{Broken, Notify};

// The words of a page are read as numbers; Xen has no big-endian guests.
const _: () = assert!(cfg!(target_endian = "little"));
