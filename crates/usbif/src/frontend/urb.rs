//! The guest's end of the URB ring.

use thiserror::Error;

use super::{Violation, encode_submit, encode_unlink, initialise, responses};
use crate::shared::{self, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD};
use crate::urb::{REQUEST_WORDS, RING_SLOTS, RequestWords, Status, Transfer, slot};
use crate::{Notify, Page};

/// A request that was put into the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Its id, 0 to 15, until it is answered.
    pub id: u16,
    /// Whether the backend has to be woken.
    pub notify: Notify,
}

/// Why a request was not put into the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotSent {
    /// The ring has 16 requests. `xen-hcd` keeps the request in a list, and retries later.
    #[error("all 16 slots of the ring are in use; take responses first")]
    Full,
    /// An unlink of a request that is not in flight.
    #[error("request {0} is not in flight, so it cannot be cancelled")]
    NotInFlight(u16),
}

/// The kind of request that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// A transfer.
    Transfer,
    /// The unlink of this request.
    Unlink {
        /// Its id.
        target: u16,
    },
}

/// A response from the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The id of the request, which is free again.
    pub id: u16,
    /// The kind of request.
    pub to: Answered,
    /// The result, as `xen-hcd` interprets it.
    pub status: Status,
    /// Bytes transferred.
    pub actual_length: u32,
    /// How many isochronous packets failed.
    pub error_count: i32,
    /// The frame in which an isochronous transfer started.
    pub start_frame: u16,
}

/// The request that an id stands for.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::large_enum_variant, reason = "there are sixteen of them")]
enum Shadow {
    Free,
    Transfer(Transfer),
    Unlink { target: u16 },
}

/// The guest's end of a URB ring.
#[derive(Debug)]
pub struct UrbRing<P> {
    page: P,
    req_prod: u32,
    rsp_cons: u32,
    /// The request of each id.
    shadow: Vec<Shadow>,
    /// The buffer in which the request of each id is encoded; never cleared, as in `xen-hcd`.
    buffers: Vec<RequestWords>,
    /// Free ids; the last one is used next.
    free: Vec<u16>,
}

impl<P: Page> UrbRing<P> {
    /// Initialises the page.
    pub fn new(page: P) -> Self {
        initialise(&page);
        Self {
            page,
            req_prod: 0,
            rsp_cons: 0,
            shadow: vec![Shadow::Free; RING_SLOTS as usize],
            buffers: vec![RequestWords([0; REQUEST_WORDS]); RING_SLOTS as usize],
            free: (0..RING_SLOTS as u16).rev().collect(),
        }
    }

    /// Sends a transfer.
    ///
    /// # Errors
    /// [`NotSent::Full`].
    pub fn submit(&mut self, transfer: &Transfer) -> Result<Pushed, NotSent> {
        self.send(Shadow::Transfer(*transfer), |words, id| encode_submit(words, id, transfer))
    }

    /// Requests the cancellation of a transfer. It remains in flight until it is answered.
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn unlink(&mut self, target: u16) -> Result<Pushed, NotSent> {
        let Some(Shadow::Transfer(transfer)) = self.shadow.get(usize::from(target)).copied() else {
            return Err(NotSent::NotInFlight(target));
        };
        self.send(Shadow::Unlink { target }, |words, id| {
            encode_unlink(words, id, target, &transfer);
        })
    }

    fn send(
        &mut self,
        shadow: Shadow,
        encode: impl FnOnce(&mut RequestWords, u16),
    ) -> Result<Pushed, NotSent> {
        if self.req_prod.wrapping_sub(self.rsp_cons) >= RING_SLOTS {
            return Err(NotSent::Full);
        }
        let id = self.free.pop().ok_or(NotSent::Full)?;
        let at = usize::from(id);
        let (Some(entry), Some(buffer)) = (self.shadow.get_mut(at), self.buffers.get_mut(at))
        else {
            return Err(NotSent::NotInFlight(id));
        };
        *entry = shadow;
        encode(buffer, id);
        let words = *buffer;
        Ok(Pushed { id, notify: self.push_raw(&words) })
    }

    /// Writes arbitrary words into the next slot and publishes them, without tracking the request
    /// and even if the ring is full. [`UrbRing::take`] regards a response to it as a [`Violation`].
    pub fn push_raw(&mut self, words: &RequestWords) -> Notify {
        let first = slot(self.req_prod);
        for (word, value) in words.0.into_iter().enumerate() {
            self.page.store(first + word, value);
        }
        let old = self.req_prod;
        self.req_prod = old.wrapping_add(1);
        shared::publish(&self.page, REQ_PROD, REQ_EVENT, old, self.req_prod)
    }

    /// Takes the next response, if there is one.
    ///
    /// # Errors
    /// [`Violation`]: `xen-hcd` would give up the controller, or silently misbehave.
    pub fn take(&mut self) -> Result<Option<Answer>, Violation> {
        if responses(&self.page, self.rsp_cons, self.req_prod)? == 0 {
            return Ok(None);
        }
        let first = slot(self.rsp_cons);
        let words = std::array::from_fn(|word| self.page.load(first + word));
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        self.account(words).map(Some)
    }

    /// Looks up the request of a response, and frees its id.
    fn account(&mut self, words: [u32; 4]) -> Result<Answer, Violation> {
        let [ids, status, actual, error_count] = words;
        let (id, start_frame) = ((ids & 0xffff) as u16, (ids >> 16) as u16);
        let shadow = self.shadow.get_mut(usize::from(id)).ok_or(Violation::UnknownId { id })?;
        let (to, length) = match std::mem::replace(shadow, Shadow::Free) {
            Shadow::Free => return Err(Violation::NotInFlight { id }),
            Shadow::Transfer(transfer) => (Answered::Transfer, transfer.data.len_bytes() as u32),
            Shadow::Unlink { target } => (Answered::Unlink { target }, 0),
        };
        self.free.push(id);
        if actual > length {
            return Err(Violation::Length { id, actual: actual as i32, length });
        }
        Ok(Answer {
            id,
            to,
            status: Status::from_wire(status as i32),
            actual_length: actual,
            error_count: error_count as i32,
            start_frame,
        })
    }

    /// To be called before sleeping: asks to be woken by the next response. Returns true if there
    /// is one already.
    #[must_use = "if a response is there already, no wake-up will come for it"]
    pub fn rearm(&mut self) -> bool {
        shared::rearm(&self.page, RSP_PROD, RSP_EVENT, self.rsp_cons)
    }

    /// The number of requests whose response has not been taken, 0 to 16; raw requests count too.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.req_prod.wrapping_sub(self.rsp_cons)
    }

    /// The shared page.
    pub const fn page(&self) -> &P {
        &self.page
    }
}
