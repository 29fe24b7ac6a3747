//! What both rings have in common: the header of the page, and index arithmetic.
//!
//! ```text
//! word    0         1          2         3          4..15     16..
//!      ┌─────────┬──────────┬─────────┬──────────┬─────────┬──────┬──────┬───
//!      │req_prod │req_event │rsp_prod │rsp_event │ private │slot 0│slot 1│ …
//!      └─────────┴──────────┴─────────┴──────────┴─────────┴──────┴──────┴───
//! writer front     back       back      front                 request, then response
//! ```
//!
//! An index only increases, and wraps at 2^32. The slot of an index is the index modulo the number
//! of slots, which is a power of two. `*_event` is the value of `*_prod` at which its writer wants
//! to be woken (Xen `ring.h`).

use thiserror::Error;

use crate::Page;

/// Word of `req_prod`: how many requests the frontend has written since it connected.
pub(crate) const REQ_PROD: usize = 0;
/// Word of `req_event`: the backend wants to be woken when `req_prod` gets here.
pub(crate) const REQ_EVENT: usize = 1;
/// Word of `rsp_prod`: how many responses the backend has written since the frontend connected.
pub(crate) const RSP_PROD: usize = 2;
/// Word of `rsp_event`: the frontend wants to be woken when `rsp_prod` gets here.
pub(crate) const RSP_EVENT: usize = 3;
/// First word of the slots: the header is 16 bytes of indexes and 48 bytes of padding.
pub(crate) const SLOTS: usize = 16;

/// Whether the other side has to be woken. An event must be sent if it is due, and must not be sent
/// otherwise: Linux responds to spurious events by delaying later ones, for up to a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a wake-up that is due and not sent leaves the other side asleep"]
pub enum Notify {
    /// The other side is asleep: send an event.
    Due,
    /// It is awake, or waits for something else: do not send an event.
    NotDue,
}

impl Notify {
    /// Whether an event has to be sent.
    #[must_use]
    pub const fn is_due(self) -> bool {
        matches!(self, Self::Due)
    }

    /// Combines the notifications of two rings: those of a controller share an event channel.
    pub const fn or(self, other: Self) -> Self {
        match self {
            Self::Due => Self::Due,
            Self::NotDue => other,
        }
    }

    /// Whether an event is due after an index has moved from `old` to `new`, when the other side
    /// waits for `event` (`RING_PUSH_*_AND_CHECK_NOTIFY`). All three wrap.
    pub(crate) const fn after(old: u32, new: u32, event: u32) -> Self {
        if new.wrapping_sub(event) < new.wrapping_sub(old) { Self::Due } else { Self::NotDue }
    }
}

/// The indexes of a ring are impossible: the other side is broken or malicious. Nothing in the ring
/// can be trusted, and the controller has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Broken {
    /// More entries are announced than the ring has slots.
    #[error(
        "the guest announced requests up to number {announced}, but the ring has only {slots} \
         slots and responses were published only up to number {answered}"
    )]
    Overrun {
        /// The index that the other side wrote.
        announced: u32,
        /// The number of published responses.
        answered: u32,
        /// The number of slots.
        slots: u32,
    },
    /// The index went back: it is behind entries that were already read.
    #[error(
        "the guest announced requests up to number {announced} after it had announced them up to \
         {consumed}"
    )]
    Backwards {
        /// The index that the other side wrote.
        announced: u32,
        /// The number of entries that were read.
        consumed: u32,
    },
}

/// The number of requests that have not been read, if `consumed` were read and `answered` responses
/// were published.
///
/// # Errors
/// [`Broken`] if `announced` is less than `consumed`, or more than fits into the ring.
pub(crate) const fn waiting(
    announced: u32,
    consumed: u32,
    answered: u32,
    slots: u32,
) -> Result<u32, Broken> {
    let unanswered = announced.wrapping_sub(answered);
    if unanswered > slots {
        return Err(Broken::Overrun { announced, answered, slots });
    }
    if unanswered < consumed.wrapping_sub(answered) {
        return Err(Broken::Backwards { announced, consumed });
    }
    Ok(announced.wrapping_sub(consumed))
}

/// Publishes a producer's index. Returns whether its reader has to be woken.
pub(crate) fn publish<P: Page>(page: &P, prod: usize, event: usize, old: u32, new: u32) -> Notify {
    if old == new {
        return Notify::NotDue;
    }
    page.store(prod, new);
    // This side stores its index and then loads the reader's event. The reader (in `rearm`) stores
    // its event and then loads this index. With a full barrier between the two accesses on both
    // sides, at least one side sees what the other has stored: either the event is sent, or the
    // reader does not sleep.
    page.fence();
    Notify::after(old, new, page.load(event))
}

/// To be called before a consumer sleeps: asks for an event at the next entry, and returns whether
/// the entry is there already. Also returns true for an impossible index: the next read reports it.
pub(crate) fn rearm<P: Page>(page: &P, prod: usize, event: usize, consumed: u32) -> bool {
    if page.load(prod) != consumed {
        return true;
    }
    page.store(event, consumed.wrapping_add(1));
    // The counterpart of the barrier in `publish`.
    page.fence();
    page.load(prod) != consumed
}

/// To be called by a consumer that is awake: no entry is worth an event until the next [`rearm`].
///
/// The condition of [`Notify::after`], `new - event < new - old`, is false for every `old` from
/// `consumed` on if `event` is `consumed`. Needs no barrier: an event that is sent because its
/// sender has not seen this store yet is only superfluous, and no event is lost, because a consumer
/// only sleeps after a later `rearm`, whose store replaces this one (both are made by this side, so
/// the other side never sees them in the opposite order).
pub(crate) fn park<P: Page>(page: &P, event: usize, consumed: u32) {
    page.store(event, consumed);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Broken, Notify, waiting};

    /// The same rules for numbers that do not wrap; `None` if an index is impossible.
    fn waiting_without_wrapping(
        announced: u64,
        consumed: u64,
        answered: u64,
        slots: u64,
    ) -> Option<u64> {
        (announced >= consumed && announced <= answered + slots).then(|| announced - consumed)
    }

    proptest! {
        /// For all positions of the indexes, including those around 2^32.
        #[test]
        fn indexes_wrap(
            base in prop_oneof![any::<u32>(), u32::MAX - 40..=u32::MAX],
            ahead in 0_u32..=16, announced in 0_u32..40,
        ) {
            let at = |distance: u32| base.wrapping_add(distance);
            let real = waiting(at(announced), at(ahead), base, 16);
            let expected = waiting_without_wrapping(announced.into(), ahead.into(), 0, 16);
            prop_assert_eq!(real.ok().map(u64::from), expected);
        }

        /// A parked consumer is not woken, however many entries are added.
        #[test]
        fn no_event_is_due_for_a_parked_consumer(
            consumed in prop_oneof![any::<u32>(), u32::MAX - 40..=u32::MAX],
            unread in 0_u32..=512, step in 1_u32..=512,
        ) {
            let old = consumed.wrapping_add(unread);
            let notify = Notify::after(old, old.wrapping_add(step), consumed);
            prop_assert_eq!(notify, Notify::NotDue);
        }

        /// An event is due if and only if it is among the new entries: after `old`, up to and
        /// including `new`.
        #[test]
        fn an_event_is_due_when_it_is_passed(
            old in prop_oneof![any::<u32>(), u32::MAX - 40..=u32::MAX],
            step in 1_u32..=512, event in -600_i32..600,
        ) {
            let notify = Notify::after(old, old.wrapping_add(step), old.wrapping_add_signed(event));
            prop_assert_eq!(notify.is_due(), event > 0 && event.unsigned_abs() <= step);
        }
    }

    #[test]
    fn an_index_too_far_ahead_is_distinguished_from_one_that_went_back() {
        let overrun = Broken::Overrun { announced: 17, answered: 0, slots: 16 };
        assert_eq!(waiting(17, 3, 0, 16), Err(overrun));
        let backwards = Broken::Backwards { announced: 2, consumed: 3 };
        assert_eq!(waiting(2, 3, 0, 16), Err(backwards));
        assert_eq!(waiting(16, 3, 0, 16), Ok(13));
    }
}
