//! The one way in which this crate bounds a wait.

use std::time::{Duration, Instant};

/// The moment at which a call gives up.
///
/// It is a point in time and not a length: a call that reads a hundred times, or a caller that makes
/// five calls, shares one deadline, and a peer that sends a byte a second does not stretch it.
///
/// ```
/// use std::time::Duration;
/// use vusb_qmp::Deadline;
///
/// let deadline = Deadline::after(Duration::from_secs(10));
/// assert!(!deadline.is_over());
/// assert!(Deadline::now().is_over());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// That long from now. A length beyond what the clock can count is cut to a day.
    pub fn after(length: Duration) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let now = Instant::now();
        Self(now.checked_add(length).or_else(|| now.checked_add(DAY)).unwrap_or(now))
    }

    /// This moment: look at what is there and do not wait.
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// Whether it has passed.
    pub fn is_over(self) -> bool {
        self.remaining().is_zero()
    }

    /// The time left; zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

impl From<Instant> for Deadline {
    fn from(instant: Instant) -> Self {
        Self(instant)
    }
}
