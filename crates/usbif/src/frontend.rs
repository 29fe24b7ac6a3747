//! The guest's side of both rings, for tests and tools. A backend does not need it.
//!
//! It behaves like Linux `xen-hcd` and tracks its requests in the same way. It returns a
//! [`Violation`] if the backend does something that would make `xen-hcd` give up the controller or
//! silently misbehave. A malicious frontend can access every word: [`UrbRing::push_raw`],
//! [`UrbRing::page`].

mod connect;
mod encode;
mod urb;

use thiserror::Error;

use crate::shared::{REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD};
use crate::{BadPort, BadSpeed, Page};
pub use connect::{ConnectRing, Event};
pub use encode::{encode_submit, encode_unlink};
pub use urb::{Answer, Answered, NotSent, Pushed, UrbRing};

/// A protocol violation by the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// More responses than requests, or an index that went back.
    #[error(
        "the backend announced responses up to number {announced}, but {sent} requests were sent \
         and {consumed} responses read"
    )]
    Index {
        /// The index that the backend wrote.
        announced: u32,
        /// Responses read.
        consumed: u32,
        /// Requests sent.
        sent: u32,
    },
    /// A response with an id that no request can have.
    #[error("the backend answered request {id}, but ids are 0 to 15")]
    UnknownId {
        /// The request's id.
        id: u16,
    },
    /// A response to a request that was not sent, or that was answered already.
    #[error("the backend answered request {id}, which is not in flight")]
    NotInFlight {
        /// The request's id.
        id: u16,
    },
    /// More bytes than requested, or a negative number. `xen-hcd` interprets it as the whole
    /// length.
    #[error("the backend reports {actual} bytes for request {id}, which is for {length} bytes")]
    Length {
        /// The request's id.
        id: u16,
        /// The length that the backend reported.
        actual: i32,
        /// The length of the request, in bytes.
        length: u32,
    },
    /// An event with an invalid port.
    #[error("the backend sent an invalid connection event: {0}")]
    Port(#[from] BadPort),
    /// An event with an invalid speed.
    #[error("the backend sent an invalid connection event: {0}")]
    Speed(#[from] BadSpeed),
}

/// Initialises the header of a page that is about to be shared (`SHARED_RING_INIT`).
fn initialise<P: Page>(page: &P) {
    page.store(REQ_PROD, 0);
    page.store(RSP_PROD, 0);
    page.store(REQ_EVENT, 1);
    page.store(RSP_EVENT, 1);
}

/// The number of responses that have not been read.
fn responses<P: Page>(page: &P, consumed: u32, sent: u32) -> Result<u32, Violation> {
    let announced = page.load(RSP_PROD);
    let waiting = announced.wrapping_sub(consumed);
    if waiting > sent.wrapping_sub(consumed) {
        return Err(Violation::Index { announced, consumed, sent });
    }
    Ok(waiting)
}
