//! How many guests are worked on at a time.
//!
//! A guest that does not reply must not delay others, and a hundred guests that start at once must
//! not take the memory of a hundred threads. So the number is limited, but work that takes long is
//! no longer counted: it only waits for its guest.
//!
//! Time is a [`Duration`] since any fixed moment, as in [`reconcile`](crate::reconcile).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many guests are worked on at a time, besides those whose work takes long. More would only
/// share the processors, and wait for the lock of the claims.
pub const MAX_WORKERS: usize = 4;

/// Work that takes longer than this no longer counts.
pub const LONG_WORK: Duration = Duration::from_secs(1);

/// The domains that are worked on, with the time when the work began.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    begun: BTreeMap<String, Duration>,
    busy: BTreeSet<String>,
}

impl Slots {
    /// Work for a domain begins.
    pub fn begin(&mut self, domain: &str, now: Duration) {
        self.begun.insert(domain.to_owned(), now);
        self.busy.insert(domain.to_owned());
    }

    /// Work for a domain has ended.
    pub fn end(&mut self, domain: &str) {
        self.begun.remove(domain);
        self.busy.remove(domain);
    }

    /// The domains that are worked on.
    pub const fn busy(&self) -> &BTreeSet<String> {
        &self.busy
    }

    /// For how many further domains work may begin now.
    pub fn free(&self, now: Duration) -> usize {
        MAX_WORKERS.saturating_sub(self.counted(now).count())
    }

    /// When work that is due at `due` can begin, if no other work ends before.
    pub fn earliest(&self, due: Duration, now: Duration) -> Duration {
        if self.free(now) > 0 {
            return due;
        }
        let next = self.counted(now).map(|begun| begun + LONG_WORK).min();
        next.map_or(due, |next| due.max(next))
    }

    /// The start times of the work that counts.
    fn counted(&self, now: Duration) -> impl Iterator<Item = Duration> + '_ {
        self.begun.values().copied().filter(move |begun| now.saturating_sub(*begun) < LONG_WORK)
    }
}
