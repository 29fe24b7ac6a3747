//! The backend's end of the URB ring.

use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use super::{REQUEST_WORDS, Request, RequestWords, Response};
use crate::shared::{self, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, SLOTS};
use crate::{Broken, Notify, Page};

/// Slots of the ring: 27 of 148 bytes would fit into the page, rounded down to a power of two
/// (`__CONST_RING_SIZE` of `ring.h`).
pub const RING_SLOTS: u32 = 16;

/// The duty to answer one request, once: [`Ring::respond`] takes it and it cannot be copied.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a request that is not answered is lost to the guest for good"]
pub struct Ticket {
    id: u16,
    ring: u64,
}

impl Ticket {
    /// The guest's number for the request, by which an unlink names it. Linux uses 0 to 15 and gives a
    /// number to the next request as soon as the response is read. A guest may lie and use one twice.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }
}

/// A ticket of another ring, such as the one before the guest connected anew. Nothing was written; the
/// request that it belongs to is gone with its ring.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("request {id} belongs to a connection that is no more, so nobody waits for its answer")]
pub struct ForeignTicket {
    /// The guest's number for the request.
    pub id: u16,
}

/// The backend's end of a URB ring.
///
/// Between `rsp_prod_pvt` and `req_cons` lie the requests in flight: read, and not yet answered.
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
    /// Which ring of this process it is, for its tickets.
    number: u64,
}

impl<P: Page> Ring<P> {
    /// The ring in a page that a frontend has just connected with: indexes start at 0.
    pub fn new(page: P) -> Self {
        static RINGS: AtomicU64 = AtomicU64::new(0);
        let number = RINGS.fetch_add(1, Ordering::Relaxed);
        Self { page, req_cons: 0, rsp_prod_pvt: 0, rsp_prod: 0, broken: None, number }
    }

    /// The next request of the guest, if there is one, and the ticket to answer it.
    ///
    /// The slot is copied once; what the guest does to it later has no effect. There are never more than
    /// 16 tickets without an answer, and never more than 16 requests between two calls of
    /// [`Ring::publish`]: no guest can keep a backend in a loop around this.
    ///
    /// # Errors
    /// [`Broken`] if the guest's index cannot be true; so will be every later call.
    #[expect(clippy::should_implement_trait, reason = "an iterator would hide that it can break")]
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
        // A guest sends no more than it has room for, and knows of no room but what was published. So
        // this is counted from `rsp_prod`. Xen's `ring.h` counts from `rsp_prod_pvt`, and a guest that
        // lies could then go on for ever. With 16 requests in flight what waits is 0 or an error.
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

    /// Writes the answer to a request. The guest sees it after [`Ring::publish`].
    ///
    /// # Errors
    /// [`ForeignTicket`] if the ticket came from another ring.
    pub fn respond(&mut self, ticket: Ticket, response: Response) -> Result<(), ForeignTicket> {
        if ticket.ring != self.number {
            return Err(ForeignTicket { id: ticket.id });
        }
        // Each ticket stands for one request between `rsp_prod_pvt` and `req_cons`: the slot has been read.
        let first = slot(self.rsp_prod_pvt);
        for (word, value) in response.to_words(ticket.id).into_iter().enumerate() {
            self.page.store(first + word, value);
        }
        self.rsp_prod_pvt = self.rsp_prod_pvt.wrapping_add(1);
        Ok(())
    }

    /// Shows the guest all answers written so far, and says whether it has to be woken.
    pub fn publish(&mut self) -> Notify {
        let old = self.rsp_prod;
        self.rsp_prod = self.rsp_prod_pvt;
        shared::publish(&self.page, RSP_PROD, RSP_EVENT, old, self.rsp_prod)
    }

    /// Before sleeping: asks to be woken by the next request, and says whether there is one already.
    ///
    /// While it is not called the guest sends no events, and saves itself the trouble. If it says true,
    /// do not sleep: call [`Ring::next`] again. It says true for ever of a broken ring, whose `next`
    /// then says why.
    #[must_use = "if a request is there already, no event will come for it"]
    pub fn rearm(&mut self) -> bool {
        self.broken.is_some() || shared::rearm(&self.page, REQ_PROD, REQ_EVENT, self.req_cons)
    }

    /// How many requests are in flight, 0 to 16.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.req_cons.wrapping_sub(self.rsp_prod_pvt)
    }
}

/// The first word of an index's slot.
pub(crate) const fn slot(index: u32) -> usize {
    SLOTS + (index % RING_SLOTS) as usize * REQUEST_WORDS
}
