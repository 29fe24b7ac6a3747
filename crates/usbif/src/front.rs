//! The guest's side of both rings, for tests and tools; a backend has no use for it.
//!
//! It does what Linux `xen-hcd` does, keeps its books in the same way, and says so with a [`Violation`]
//! when the backend does what would make `xen-hcd` give the controller up or go wrong in silence. A tool
//! that means ill gets at every word: [`UrbRing::push_raw`], [`UrbRing::page`].

mod connect;
mod encode;
mod urb;

use thiserror::Error;

use crate::shared::{REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD};
use crate::{BadPort, BadSpeed, Page};
pub use connect::{ConnectRing, Event};
pub use encode::{encode_submit, encode_unlink};
pub use urb::{Answer, Answered, NotSent, Pushed, UrbRing};

/// What the backend did against the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// More responses than requests, or responses taken back.
    #[error(
        "the backend announced responses up to number {announced}, with {consumed} read and {sent} requests sent"
    )]
    Index {
        /// The index that the backend wrote.
        announced: u32,
        /// Responses read.
        consumed: u32,
        /// Requests sent.
        sent: u32,
    },
    /// A response to a request that was never sent.
    #[error("the backend answered request {id}, but there are only 0 to 15")]
    UnknownId {
        /// The request's number.
        id: u16,
    },
    /// A response to a request that has got one.
    #[error("the backend answered request {id}, which is not in flight")]
    NotInFlight {
        /// The request's number.
        id: u16,
    },
    /// More bytes than were asked for, or fewer than none. `xen-hcd` takes it for the whole length.
    #[error("the backend says that request {id} moved {actual} bytes of {length}")]
    Length {
        /// The request's number.
        id: u16,
        /// What the backend says.
        actual: i32,
        /// What was asked for, in bytes.
        length: u32,
    },
    /// An event for a port that cannot be.
    #[error("the backend sent a connection event: {0}")]
    Port(#[from] BadPort),
    /// An event with a speed that cannot be.
    #[error("the backend sent a connection event: {0}")]
    Speed(#[from] BadSpeed),
}

/// Sets up the head of a page that is about to be shared (`SHARED_RING_INIT`).
fn initialise<P: Page>(page: &P) {
    page.store(REQ_PROD, 0);
    page.store(RSP_PROD, 0);
    page.store(REQ_EVENT, 1);
    page.store(RSP_EVENT, 1);
}

/// How many responses wait.
fn responses<P: Page>(page: &P, consumed: u32, sent: u32) -> Result<u32, Violation> {
    let announced = page.load(RSP_PROD);
    let waiting = announced.wrapping_sub(consumed);
    if waiting > sent.wrapping_sub(consumed) {
        return Err(Violation::Index { announced, consumed, sent });
    }
    Ok(waiting)
}
