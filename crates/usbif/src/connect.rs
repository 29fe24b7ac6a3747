//! The connection ring: 512 slots of 4 bytes, in which the guest is told what is in its ports.
//!
//! ```text
//! request   id: u16, 2 bytes unused        blank: leave to tell one event
//! response  id: u16, port: u8, speed: u8   port 1..31, speed 0 (nothing), 1 low, 2 full, 3 high
//! ```
//!
//! A guest posts 512 requests when it connects, and one more for each event that it has read. Each event
//! uses up one. An event is a level: a guest that is told the speed it knows already does nothing, so
//! that a device that is replaced by another has to be told as [`Speed::None`] first.

use crate::shared::{self, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, SLOTS};
use crate::{Broken, Notify, Page, Port, Speed};

/// Slots of the ring: as many of 4 bytes as fit into a page behind its head, rounded down to a power
/// of two (`__CONST_RING_SIZE` of `ring.h`).
pub const RING_SLOTS: u32 = 512;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an event without credit has to be posted again, and a wake-up that is due has to be sent"]
pub enum Posted {
    /// It is in the ring.
    Sent(Notify),
    /// The guest has left no request to use up. Post it again when there is one: [`Ring::rearm`].
    NoCredit,
}

/// The backend's end of a connection ring.
#[derive(Debug)]
pub struct Ring<P> {
    page: P,
    /// Requests read and responses written: each event does both at once.
    next: u32,
    broken: Option<Broken>,
}

impl<P: Page> Ring<P> {
    /// The ring in a page that a frontend has just connected with: indexes start at 0.
    pub const fn new(page: P) -> Self {
        Self { page, next: 0, broken: None }
    }

    /// Tells the guest what is in a port, and publishes it.
    ///
    /// # Errors
    /// [`Broken`] if the guest's index cannot be true; so will be every later call.
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

    /// Asks to be woken when the guest leaves a request, and says whether one is there already.
    ///
    /// Only for a backend that has got [`Posted::NoCredit`]: without it the guest sends no events for
    /// its requests, and needs to send none.
    #[must_use = "if a request is there already, no event will come for it"]
    pub fn rearm(&mut self) -> bool {
        shared::rearm(&self.page, REQ_PROD, REQ_EVENT, self.next)
    }
}

/// The word of an index: a slot is one word.
pub(crate) const fn slot(index: u32) -> usize {
    SLOTS + (index % RING_SLOTS) as usize
}
