//! The connection ring: 512 slots of 4 bytes, which tell the guest what is in its ports.
//!
//! ```text
//! request   id: u16, 2 bytes unused        blank: credit for one event
//! response  id: u16, port: u8, speed: u8   port 1..31, speed 0 (nothing), 1 low, 2 full, 3 high
//! ```
//!
//! A guest posts 512 requests when it connects, and one more for each event that it has read. Each
//! event consumes one. Events are level-triggered: a guest ignores a speed that it knows already.
//! So if one device replaces another, [`Speed::None`] has to be sent in between.

use crate::shared::{self, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, SLOTS};
use crate::{Broken, Notify, Page, Port, Speed};

/// Number of slots: as many slots of 4 bytes as fit into a page after its header, rounded down to a
/// power of two (`__CONST_RING_SIZE` of `ring.h`).
pub const RING_SLOTS: u32 = 512;

/// The outcome of posting an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an event without credit has to be posted again, and a wake-up that is due has to be sent"]
pub enum Posted {
    /// It is in the ring.
    Sent(Notify),
    /// The guest has left no request to consume. Post the event again when there is one:
    /// [`Ring::rearm`].
    NoCredit,
}

/// The backend's end of a connection ring.
#[derive(Debug)]
pub struct Ring<P> {
    page: P,
    /// Requests read and responses written: each event does both.
    next: u32,
    broken: Option<Broken>,
}

impl<P: Page> Ring<P> {
    /// The ring in the page of a frontend that has just connected: indexes start at 0.
    pub const fn new(page: P) -> Self {
        Self { page, next: 0, broken: None }
    }

    /// Publishes what is in a port.
    ///
    /// # Errors
    /// [`Broken`] if the guest's index is impossible. Every later call fails in the same way.
    pub fn post(&mut self, port: Port, speed: Speed) -> Result<Posted, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let announced = self.page.load(REQ_PROD);
        let credit = shared::waiting(announced, self.next, self.next, RING_SLOTS)
            .inspect_err(|broken| self.broken = Some(*broken))?;
        if credit == 0 {
            return Ok(Posted::NoCredit);
        }
        let slot = slot(self.next);
        let id = self.page.load(slot) & 0xffff;
        let response = id | u32::from(port.number()) << 16 | u32::from(speed.wire()) << 24;
        self.page.store(slot, response);
        let old = self.next;
        self.next = old.wrapping_add(1);
        Ok(Posted::Sent(shared::publish(&self.page, RSP_PROD, RSP_EVENT, old, self.next)))
    }

    /// Asks to be woken when the guest leaves a request. Returns true if one is there already.
    ///
    /// Only needed after [`Posted::NoCredit`]: otherwise the guest does not send events for its
    /// requests, and need not.
    #[must_use = "if a request is there already, no event will come for it"]
    pub fn rearm(&mut self) -> bool {
        shared::rearm(&self.page, REQ_PROD, REQ_EVENT, self.next)
    }
}

/// The word of the slot with this index: a slot is one word.
pub(crate) const fn slot(index: u32) -> usize {
    SLOTS + (index % RING_SLOTS) as usize
}
