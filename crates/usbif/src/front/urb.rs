//! The guest's end of the URB ring.

use thiserror::Error;

use super::{Violation, encode_submit, encode_unlink, initialise, responses};
use crate::shared::{self, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD};
use crate::urb::{REQUEST_WORDS, RING_SLOTS, RequestWords, Status, Transfer, slot};
use crate::{Notify, Page};

/// A request that went into the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Its number, 0 to 15, until it is answered.
    pub id: u16,
    /// Whether the backend has to be woken.
    pub notify: Notify,
}

/// Why a request did not go into the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotSent {
    /// There are 16 in it. `xen-hcd` keeps it in a list, and looks again after a while.
    #[error("all 16 slots of the ring are taken; take responses first")]
    Full,
    /// An unlink of what is not there.
    #[error("request {0} is not in flight, so it cannot be cancelled")]
    NotInFlight(u16),
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// A transfer.
    Transfer,
    /// The unlink of this request.
    Unlink {
        /// Its number.
        target: u16,
    },
}

/// A response of the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The number of the request, which is free again.
    pub id: u16,
    /// What it was.
    pub to: Answered,
    /// How it ended, as `xen-hcd` understands it.
    pub status: Status,
    /// Bytes moved.
    pub actual_length: u32,
    /// Isochronous packets that failed.
    pub error_count: i32,
    /// The frame in which an isochronous transfer began.
    pub start_frame: u16,
}

/// What a number stands for.
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
    /// What each number stands for.
    shadow: Vec<Shadow>,
    /// Where each number's request is put together; never cleared, as in `xen-hcd`.
    buffers: Vec<RequestWords>,
    /// Numbers that are free; the last one is used next.
    free: Vec<u16>,
}

impl<P: Page> UrbRing<P> {
    /// Sets the page up.
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

    /// Asks to cancel a transfer. It stays in flight until it is answered.
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

    /// Puts any words into the next slot and shows them to the backend, without keeping any books and
    /// whether there is room or not. A response to it is a [`Violation`] to [`UrbRing::take`].
    pub fn push_raw(&mut self, words: &RequestWords) -> Notify {
        let first = slot(self.req_prod);
        for (word, value) in words.0.into_iter().enumerate() {
            self.page.store(first + word, value);
        }
        let old = self.req_prod;
        self.req_prod = old.wrapping_add(1);
        shared::publish(&self.page, REQ_PROD, REQ_EVENT, old, self.req_prod)
    }

    /// The next response, if there is one.
    ///
    /// # Errors
    /// [`Violation`]: `xen-hcd` would give the controller up, or go wrong in silence.
    pub fn take(&mut self) -> Result<Option<Answer>, Violation> {
        if responses(&self.page, self.rsp_cons, self.req_prod)? == 0 {
            return Ok(None);
        }
        let first = slot(self.rsp_cons);
        let words = std::array::from_fn(|word| self.page.load(first + word));
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        self.account(words).map(Some)
    }

    /// Looks up what a response is to, and frees its number.
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
            return Err(Violation::Length { id, actual: actual.cast_signed(), length });
        }
        Ok(Answer {
            id,
            to,
            status: Status::from_wire(status.cast_signed()),
            actual_length: actual,
            error_count: error_count.cast_signed(),
            start_frame,
        })
    }

    /// Before sleeping: asks to be woken by the next response, and says whether there is one already.
    #[must_use = "if a response is there already, no wake-up will come for it"]
    pub fn rest(&mut self) -> bool {
        shared::rearm(&self.page, RSP_PROD, RSP_EVENT, self.rsp_cons)
    }

    /// How many requests have no response that was taken, 0 to 16; raw ones count.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.req_prod.wrapping_sub(self.rsp_cons)
    }

    /// The shared page, every word of it.
    pub const fn page(&self) -> &P {
        &self.page
    }
}
