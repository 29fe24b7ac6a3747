//! When something that has failed is tried again.

use std::time::{Duration, Instant};

/// The time until the first retry.
const FIRST: Duration = Duration::from_millis(500);

/// The longest time until a retry.
pub(super) const LONGEST: Duration = Duration::from_secs(10);

/// The retries of one source. The time between them doubles. It starts from the shortest again if
/// the last failure was long ago.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retry {
    wait: Duration,
    failed: Option<Instant>,
    due: Option<Instant>,
}

impl Retry {
    /// Records a failure.
    pub(super) fn fail(&mut self, now: Instant) {
        let is_recent = self.failed.is_some_and(|it| now.duration_since(it) < LONGEST * 2);
        self.wait = if is_recent { (self.wait * 2).min(LONGEST) } else { FIRST };
        self.failed = Some(now);
        self.due = now.checked_add(self.wait);
    }

    /// Records a success.
    pub(super) fn succeed(&mut self) {
        self.due = None;
    }

    /// When the next try is due; `None` if the last one succeeded.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the last try failed, and it is too early for the next one.
    pub(super) fn is_waiting(&self, now: Instant) -> bool {
        self.due.is_some_and(|it| it > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_retries_grows() {
        let mut retry = Retry::default();
        let mut now = Instant::now();
        assert!(!retry.is_waiting(now));
        let mut waits = Vec::new();
        for _ in 0..6 {
            retry.fail(now);
            assert!(retry.is_waiting(now));
            waits.push(retry.due().unwrap().duration_since(now).as_millis());
            now = retry.due().unwrap();
            assert!(!retry.is_waiting(now));
        }
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 10_000]);
        retry.succeed();
        assert_eq!(retry.due(), None);
        now += LONGEST * 2;
        retry.fail(now);
        assert_eq!(retry.due(), Some(now + FIRST));
    }
}
