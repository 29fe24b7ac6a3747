//! The URB ring: 16 slots of 148 bytes, which carry the guest's transfers and their responses.
//!
//! ```text
//!                next()                     respond(ticket, …)            publish()
//!  guest ──▶ slot ──▶ copy ──▶ Request, Ticket ─ ─ ─▶ slot of the oldest ──▶ rsp_prod ──▶ guest
//!                              (in flight: at most 16)    answered request
//! ```
//!
//! Requests are read in order and answered in any order. A response takes the next slot, not the
//! slot of its request. That is why a request is copied out completely before anything is answered.
//!
//! A backend's round:
//!
//! ```
//! use vusb_usbif::urb::{Request, Response, Ring, Status};
//! use vusb_usbif::{Broken, Notify, Page};
//!
//! fn round<P: Page>(ring: &mut Ring<P>) -> Result<Notify, Broken> {
//!     loop {
//!         while let Some((ticket, request)) = ring.next()? {
//!             let response = match request {
//!                 // This backend has no devices at all.
//!                 Request::Submit(_) => Response::failed(Status::NoDevice),
//!                 Request::Unlink { .. } => Response::failed(Status::Ok),
//!                 Request::Invalid(reason) => {
//!                     eprintln!("guest: {reason}");
//!                     Response::failed(Status::Invalid)
//!                 }
//!             };
//!             // Fails only if the ticket belongs to another ring.
//!             let _ = ring.respond(ticket, response);
//!         }
//!         if !ring.rearm() {
//!             return Ok(ring.publish());
//!         }
//!     }
//! }
//! # let page = vusb_usbif::MemoryPage::new();
//! # let _guest = vusb_usbif::frontend::UrbRing::new(&page);
//! # assert_eq!(round(&mut Ring::new(&page)), Ok(Notify::NotDue));
//! ```

mod request;
mod response;
mod ring;
mod segments;
mod setup;

pub use request::{
    Invalid, Isochronous, Kind, REQUEST_BYTES, REQUEST_WORDS, Request, RequestWords, Transfer,
};
pub(crate) use request::{SHORT_NOT_OK, pipe};
pub use response::{RESPONSE_WORDS, Response, Status};
pub(crate) use ring::slot;
pub use ring::{ForeignTicket, RING_SLOTS, Ring, Ticket};
pub use segments::{Chunk, Chunks, MAX_SEGMENTS, Segment, SegmentError, Segments};
pub use setup::{Direction, Setup, StandardRequest};
