//! What both rings have in common: the head of the page, and the arithmetic of its indexes.
//!
//! ```text
//! word    0         1          2         3          4..15     16..
//!      ┌─────────┬──────────┬─────────┬──────────┬─────────┬──────┬──────┬───
//!      │req_prod │req_event │rsp_prod │rsp_event │ private │slot 0│slot 1│ …
//!      └─────────┴──────────┴─────────┴──────────┴─────────┴──────┴──────┴───
//! who    front     back       back      front                 request, then response
//! ```
//!
//! An index counts for ever and wraps at 2^32; its slot is the index modulo the number of slots, a power
//! of two. `*_event` says at which value of `*_prod` its writer wants to be woken (Xen `ring.h`).

use thiserror::Error;

use crate::Page;

/// Word of `req_prod`: requests that the frontend has written, ever.
pub(crate) const REQ_PROD: usize = 0;
/// Word of `req_event`: the backend wants to be woken when `req_prod` gets here.
pub(crate) const REQ_EVENT: usize = 1;
/// Word of `rsp_prod`: responses that the backend has written, ever.
pub(crate) const RSP_PROD: usize = 2;
/// Word of `rsp_event`: the frontend wants to be woken when `rsp_prod` gets here.
pub(crate) const RSP_EVENT: usize = 3;
/// Word at which the slots begin: the head is 16 bytes of indexes and 48 of padding.
pub(crate) const SLOTS: usize = 16;

/// Whether the other side is to be woken. It must be when it is due, and must not when it is not:
/// Linux answers needless events by taking later ones later, up to a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a wake-up that is due and not sent leaves the other side asleep"]
pub enum Notify {
    /// The other side sleeps: send it an event.
    Due,
    /// It is awake, or waits for something else: send none.
    NotDue,
}

impl Notify {
    /// Whether an event is to be sent.
    #[must_use]
    pub const fn is_due(self) -> bool {
        matches!(self, Self::Due)
    }

    /// One event for both: the two rings of a controller share an event channel.
    pub const fn or(self, other: Self) -> Self {
        match self {
            Self::Due => Self::Due,
            Self::NotDue => other,
        }
    }

    /// What is due when an index has moved from `old` to `new`, and is waited for at `event`
    /// (`RING_PUSH_*_AND_CHECK_NOTIFY`). All three wrap.
    pub(crate) const fn after(old: u32, new: u32, event: u32) -> Self {
        if new.wrapping_sub(event) < new.wrapping_sub(old) { Self::Due } else { Self::NotDue }
    }
}

/// The indexes of a ring cannot be true: the other side is broken or lies. Nothing in the ring can be
/// believed from here on, and the controller has to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Broken {
    /// More entries are announced than the ring has slots.
    #[error(
        "the guest announced requests up to number {announced}, but the ring has only {slots} slots \
         and was shown no response after number {answered}; drop this controller"
    )]
    Overrun {
        /// The index that the other side wrote.
        announced: u32,
        /// Responses that were published.
        answered: u32,
        /// How many slots the ring has.
        slots: u32,
    },
    /// Entries that were announced, and read, are announced no more.
    #[error(
        "the guest announced requests up to number {announced} after it had announced them up to \
         {consumed}; drop this controller"
    )]
    Backwards {
        /// The index that the other side wrote.
        announced: u32,
        /// What was already read.
        consumed: u32,
    },
}

/// How many requests wait, with `consumed` read and `answered` responses published.
///
/// # Errors
/// [`Broken`] if `announced` is not between what is consumed and what fits.
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

/// Publishes a producer's index and says whether its reader has to be woken.
pub(crate) fn publish<P: Page>(page: &P, prod: usize, event: usize, old: u32, new: u32) -> Notify {
    if old == new {
        return Notify::NotDue;
    }
    page.store(prod, new);
    // The reader writes its event and then looks at our index; we do it the other way round. With a
    // full barrier on both sides at least one of us sees what the other wrote.
    page.fence();
    Notify::after(old, new, page.load(event))
}

/// Before a consumer sleeps: asks for an event at the next entry, and says whether it is there already.
/// True also for an index that cannot be true: reading on then says so.
pub(crate) fn rearm<P: Page>(page: &P, prod: usize, event: usize, consumed: u32) -> bool {
    if page.load(prod) != consumed {
        return true;
    }
    page.store(event, consumed.wrapping_add(1));
    // The other half of what `publish` says.
    page.fence();
    page.load(prod) != consumed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Broken, Notify, waiting};

    /// The same rules with numbers that do not wrap: counted from `base`.
    fn wide(announced: u64, consumed: u64, answered: u64, slots: u64) -> Option<u64> {
        (announced >= consumed && announced <= answered + slots).then(|| announced - consumed)
    }

    proptest! {
        /// Wherever the indexes stand, the end of the 32 bits included.
        #[test]
        fn indexes_wrap(
            base in prop_oneof![any::<u32>(), u32::MAX - 40..=u32::MAX],
            ahead in 0_u32..=16, announced in 0_u32..40,
        ) {
            let at = |distance: u32| base.wrapping_add(distance);
            let real = waiting(at(announced), at(ahead), base, 16);
            let expected = wide(announced.into(), ahead.into(), 0, 16);
            prop_assert_eq!(real.ok().map(u64::from), expected);
        }

        /// Due if and only if the event lies in what is new: after `old`, up to and with `new`.
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
    fn too_far_and_too_near_are_told_apart() {
        let overrun = Broken::Overrun { announced: 17, answered: 0, slots: 16 };
        assert_eq!(waiting(17, 3, 0, 16), Err(overrun));
        let backwards = Broken::Backwards { announced: 2, consumed: 3 };
        assert_eq!(waiting(2, 3, 0, 16), Err(backwards));
        assert_eq!(waiting(16, 3, 0, 16), Ok(13));
    }
}
