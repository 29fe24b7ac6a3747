//! The backend's end of the URB ring.

use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use super::{REQUEST_WORDS, Request, RequestWords, Response};
use crate::shared::{self, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, SLOTS};
use crate::{Broken, Notify, Page};

/// Number of slots: 27 slots of 148 bytes fit into the page, rounded down to a power of two
/// (`__CONST_RING_SIZE` of `ring.h`).
pub const RING_SLOTS: u32 = 16;

/// The obligation to answer one request exactly once: [`Ring::respond`] consumes it, and it cannot
/// be copied.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "if a request is not answered, the guest waits for the response forever"]
pub struct Ticket {
    id: u16,
    ring: u64,
}

impl Ticket {
    /// The guest's id for the request, which an unlink refers to. Linux uses 0 to 15, and reuses an
    /// id as soon as it has read the response. A malicious guest may use the same id twice.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }
}

/// A ticket of another ring, for example of the one before the guest reconnected. Nothing was
/// written: the request is gone with its ring.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("request {id} belongs to another connection, so it cannot be answered on this one")]
pub struct ForeignTicket {
    /// The guest's id for the request.
    pub id: u16,
}

/// The backend's end of a URB ring.
///
/// The requests between `rsp_prod_pvt` and `req_cons` are in flight: read, but not answered yet.
#[derive(Debug)]
pub struct Ring<P> {
    page: P,
    /// Requests read.
    req_cons: u32,
    /// Responses written.
    rsp_prod_pvt: u32,
    /// Responses published.
    rsp_prod: u32,
    broken: Option<Broken>,
    /// The guest may send an event with its next request.
    armed: bool,
    /// The number of the ring in this process, which its tickets carry.
    number: u64,
}

impl<P: Page> Ring<P> {
    /// The ring in the page of a frontend that has just connected: indexes start at 0.
    pub fn new(page: P) -> Self {
        static RINGS: AtomicU64 = AtomicU64::new(0);
        let number = RINGS.fetch_add(1, Ordering::Relaxed);
        Self { page, req_cons: 0, rsp_prod_pvt: 0, rsp_prod: 0, broken: None, armed: true, number }
    }

    /// The next request of the guest, if there is one, and the ticket to answer it.
    ///
    /// The slot is copied once, so later changes by the guest have no effect. There are never more
    /// than 16 unanswered tickets, and never more than 16 requests between two calls of
    /// [`Ring::publish`]. So a guest cannot keep a backend in a loop around this function.
    ///
    /// # Errors
    /// [`Broken`] if the guest's index is impossible. Every later call fails in the same way.
    #[expect(clippy::should_implement_trait, reason = "an iterator would hide that it can fail")]
    pub fn next(&mut self) -> Result<Option<(Ticket, Request)>, Broken> {
        Ok(self.next_words()?.map(|words| {
            let ticket = Ticket { id: words.id(), ring: self.number };
            (ticket, Request::decode(&words))
        }))
    }

    /// Copies the next request out of its slot.
    fn next_words(&mut self) -> Result<Option<RequestWords>, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let announced = self.page.load(REQ_PROD);
        // A correct guest sends only as many requests as there are free slots, and it learns of
        // free slots only from published responses. So the limit is computed from `rsp_prod`. Xen's
        // `ring.h` uses `rsp_prod_pvt`, which would let a malicious guest keep this side reading
        // forever. With 16 requests in flight, the number of waiting requests is 0 or an error.
        let waiting = shared::waiting(announced, self.req_cons, self.rsp_prod, RING_SLOTS)
            .inspect_err(|broken| self.broken = Some(*broken))?;
        if waiting == 0 {
            return Ok(None);
        }
        let first = slot(self.req_cons);
        let words = RequestWords(std::array::from_fn(|word| self.page.load(first + word)));
        self.req_cons = self.req_cons.wrapping_add(1);
        Ok(Some(words))
    }

    /// Writes the response to a request. The guest sees it after [`Ring::publish`].
    ///
    /// # Errors
    /// [`ForeignTicket`] if the ticket came from another ring.
    pub fn respond(&mut self, ticket: Ticket, response: Response) -> Result<(), ForeignTicket> {
        if ticket.ring != self.number {
            return Err(ForeignTicket { id: ticket.id });
        }
        // Each ticket stands for one request between `rsp_prod_pvt` and `req_cons`. So there is a
        // slot whose request has been read, and overwriting it loses nothing.
        let first = slot(self.rsp_prod_pvt);
        for (word, value) in response.to_words(ticket.id).into_iter().enumerate() {
            self.page.store(first + word, value);
        }
        self.rsp_prod_pvt = self.rsp_prod_pvt.wrapping_add(1);
        Ok(())
    }

    /// Publishes all responses written so far. Returns whether the guest has to be woken.
    pub fn publish(&mut self) -> Notify {
        let old = self.rsp_prod;
        self.rsp_prod = self.rsp_prod_pvt;
        shared::publish(&self.page, RSP_PROD, RSP_EVENT, old, self.rsp_prod)
    }

    /// Whether there are responses that [`Ring::publish`] has not published.
    #[must_use]
    pub const fn has_unpublished(&self) -> bool {
        self.rsp_prod != self.rsp_prod_pvt
    }

    /// To be called before sleeping: asks to be woken by the next request. Returns true if there is
    /// one already.
    ///
    /// From [`Ring::park`] until this is called, the guest sends no events, which saves work on
    /// both sides. If it returns true, do not sleep: call [`Ring::next`] again. For a broken ring
    /// it always returns true, and `next` returns the error.
    #[must_use = "if a request is there already, no event will come for it"]
    pub fn rearm(&mut self) -> bool {
        self.armed = true;
        self.broken.is_some() || shared::rearm(&self.page, REQ_PROD, REQ_EVENT, self.req_cons)
    }

    /// To be called when this side is awake: the guest sends no events until [`Ring::rearm`]. An
    /// event that is already on its way may still arrive.
    pub fn park(&mut self) {
        if std::mem::take(&mut self.armed) {
            shared::park(&self.page, REQ_EVENT, self.req_cons);
        }
    }

    /// Whether there is something for [`Ring::next`]: a request, or an impossible index. One load
    /// of shared memory, for a side that waits without sleeping.
    #[must_use]
    pub fn has_request(&self) -> bool {
        self.broken.is_some() || self.page.load(REQ_PROD) != self.req_cons
    }

    /// The number of requests in flight, 0 to 16.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.req_cons.wrapping_sub(self.rsp_prod_pvt)
    }
}

/// The first word of the slot with this index.
pub(crate) const fn slot(index: u32) -> usize {
    SLOTS + (index % RING_SLOTS) as usize * REQUEST_WORDS
}
