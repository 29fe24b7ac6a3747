//! The only way in which this crate bounds a wait.

use std::time::{Duration, Instant};

/// The moment at which a call gives up.
///
/// It is a point in time and not a duration: several calls can share one deadline, and a daemon
/// that sends one byte per second cannot extend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The given duration from now. A duration that is too long for the clock becomes a day.
    pub fn after(duration: Duration) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let now = Instant::now();
        Self(now.checked_add(duration).or_else(|| now.checked_add(DAY)).unwrap_or(now))
    }

    /// The current time: do not wait.
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// Whether it has passed.
    pub fn is_over(self) -> bool {
        self.remaining().is_zero()
    }

    /// The time left. Zero if it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

impl From<Instant> for Deadline {
    fn from(instant: Instant) -> Self {
        Self(instant)
    }
}
