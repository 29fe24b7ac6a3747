//! The guest's end of the connection ring.

use super::{Violation, initialise, responses};
use crate::connect::{RING_SLOTS, slot};
use crate::shared::{self, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD};
use crate::{Notify, Page, Port, Speed};

/// A connection event: what is in a port, according to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The port.
    pub port: Port,
    /// The speed of the device in it, or [`Speed::None`].
    pub speed: Speed,
}

/// The guest's end of a connection ring.
#[derive(Debug)]
pub struct ConnectRing<P> {
    page: P,
    req_prod_pvt: u32,
    req_prod: u32,
    rsp_cons: u32,
}

impl<P: Page> ConnectRing<P> {
    /// Initialises the page. Call [`ConnectRing::fill`] next.
    pub fn new(page: P) -> Self {
        initialise(&page);
        Self { page, req_prod_pvt: 0, req_prod: 0, rsp_cons: 0 }
    }

    /// Puts a request into every slot, numbered from 0, as `xen-hcd` does when it connects.
    pub fn fill(&mut self) -> Notify {
        while self.req_prod_pvt.wrapping_sub(self.rsp_cons) < RING_SLOTS {
            let id = (self.req_prod_pvt & 0xffff) as u16;
            self.queue(id);
        }
        self.push()
    }

    /// Takes the next event, if there is one. A new request replaces it, and is published by
    /// [`ConnectRing::push`].
    ///
    /// # Errors
    /// [`Violation`]: `xen-hcd` would give up the controller.
    pub fn take(&mut self) -> Result<Option<Event>, Violation> {
        if responses(&self.page, self.rsp_cons, self.req_prod)? == 0 {
            return Ok(None);
        }
        let word = self.page.load(slot(self.rsp_cons));
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        let [low, high, port, speed] = word.to_le_bytes();
        let event = Event { port: Port::new(port)?, speed: Speed::from_wire(speed)? };
        self.queue(u16::from_le_bytes([low, high]));
        Ok(Some(event))
    }

    /// To be called before sleeping: asks to be woken by the next event. Returns true if there is
    /// one already.
    #[must_use = "if an event is there already, no wake-up will come for it"]
    pub fn rearm(&mut self) -> bool {
        shared::rearm(&self.page, RSP_PROD, RSP_EVENT, self.rsp_cons)
    }

    /// Publishes the requests written so far.
    pub fn push(&mut self) -> Notify {
        let old = self.req_prod;
        self.req_prod = self.req_prod_pvt;
        shared::publish(&self.page, REQ_PROD, REQ_EVENT, old, self.req_prod)
    }

    /// The shared page.
    pub const fn page(&self) -> &P {
        &self.page
    }

    fn queue(&mut self, id: u16) {
        self.page.store(slot(self.req_prod_pvt), u32::from(id));
        self.req_prod_pvt = self.req_prod_pvt.wrapping_add(1);
    }
}
