//! How long a driver may wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The limits of one call: for each single wait, and for all of them together.
///
/// Clones share the deadline, so that the caller can extend it in all of them with
/// [`Limits::begin_rollback`].
#[derive(Clone, Debug)]
pub struct Limits {
    single_wait: Duration,
    deadline: Arc<Mutex<Deadline>>,
}

/// The end of a call.
#[derive(Debug)]
struct Deadline {
    end: Option<Instant>,
    /// Whether it is the end of a rollback.
    extended: bool,
}

/// How many single waits a rollback may take. As many as a whole command.
const WAITS_PER_ROLLBACK: u32 = 30;

impl Limits {
    /// At most `single_wait` for each single wait, and nothing beyond `deadline`.
    pub fn new(single_wait: Duration, deadline: Option<Instant>) -> Limits {
        let deadline = Deadline { end: deadline, extended: false };
        Limits { single_wait, deadline: Arc::new(Mutex::new(deadline)) }
    }

    /// How long the next wait may take. Zero once the deadline has passed.
    pub fn next_wait(&self) -> Duration {
        let left = self.deadline().map(|end| end.saturating_duration_since(Instant::now()));
        left.map_or(self.single_wait, |left| left.min(self.single_wait))
    }

    /// How long a single wait may take, whatever is left until the deadline.
    pub const fn single_wait(&self) -> Duration {
        self.single_wait
    }

    /// Whether the deadline has passed.
    pub fn has_expired(&self) -> bool {
        self.deadline().is_some_and(|end| end <= Instant::now())
    }

    /// The end of the whole call; `None` if only single waits are limited.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.lock().unwrap_or_else(PoisonError::into_inner).end
    }

    /// Gives a rollback a deadline of its own: it must not be cut short because the steps before it
    /// used up the time, and it must end, however slow the hypervisor is. Has an effect once.
    pub fn begin_rollback(&self) {
        let mut deadline = self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        if deadline.end.is_some() && !deadline.extended {
            let time = self.single_wait.saturating_mul(WAITS_PER_ROLLBACK);
            *deadline = Deadline { end: Instant::now().checked_add(time), extended: true };
        }
    }
}

impl From<Duration> for Limits {
    /// Limits single waits alone.
    fn from(single_wait: Duration) -> Limits {
        Limits::new(single_wait, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_shortens_a_wait_until_the_rollback() {
        let second = Duration::from_secs(1);
        assert_eq!(Limits::from(second).next_wait(), second);
        let limits = Limits::new(second, Some(Instant::now()));
        let clone = limits.clone();
        assert!(clone.has_expired());
        assert_eq!(clone.next_wait(), Duration::ZERO);
        limits.begin_rollback();
        assert!(!clone.has_expired());
        assert_eq!(clone.next_wait(), second);
        let end = clone.deadline();
        assert!(end.is_some_and(|end| end <= Instant::now() + second * 30));
        limits.begin_rollback();
        assert_eq!(clone.deadline(), end);
        let unlimited = Limits::from(second);
        unlimited.begin_rollback();
        assert_eq!(unlimited.deadline(), None);
        let soon = Limits::new(Duration::MAX, Some(Instant::now() + second));
        assert!(soon.next_wait() <= second);
    }
}
