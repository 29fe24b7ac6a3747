//! How long a controller that failed has to wait before it may connect again.

use std::time::{Duration, Instant};

/// The wait after the first failure. It doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// The number of doublings from [`FIRST_WAIT`] to [`MAX_WAIT`].
const MAX_LEVEL: u32 = 9;
/// Each period of this length without a failure undoes one doubling. It is longer than
/// [`MAX_WAIT`], so a guest that breaks the protocol at every connection stays at the longest wait.
const FADE_TIME: Duration = Duration::from_secs(60);

/// The failures of a controller: protocol violations by its guest, and errors of its nodes in
/// xenstore.
#[derive(Clone, Copy, Debug, Default)]
pub struct Penalty {
    level: u32,
    last_failure: Option<Instant>,
}

impl Penalty {
    /// Counts a failure. Returns how long the controller has to wait.
    pub fn add(&mut self, now: Instant) -> Duration {
        let quiet = self.last_failure.map_or(Duration::ZERO, |it| now.duration_since(it));
        let faded = quiet.as_secs() / FADE_TIME.as_secs();
        self.level = self.level.saturating_sub(u32::try_from(faded).unwrap_or(u32::MAX));
        let wait = FIRST_WAIT.saturating_mul(1 << self.level).min(MAX_WAIT);
        self.level = (self.level + 1).min(MAX_LEVEL);
        self.last_failure = Some(now);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_maximum() {
        let (mut penalty, start) = (Penalty::default(), Instant::now());
        let waits: Vec<u128> = (0..12).map(|_| penalty.add(start).as_millis()).collect();
        assert_eq!(
            waits,
            [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000]
        );
    }

    #[test]
    fn one_failure_expires_each_minute() {
        let (mut penalty, start) = (Penalty::default(), Instant::now());
        for _ in 0..4 {
            penalty.add(start);
        }
        let later = start + FADE_TIME * 2;
        assert_eq!(penalty.add(later).as_millis(), 400);
        assert_eq!(penalty.add(later + FADE_TIME * 60).as_millis(), 100);
    }

    #[test]
    fn a_guest_that_fails_at_every_connection_waits_the_longest_time() {
        let (mut penalty, mut now) = (Penalty::default(), Instant::now());
        for _ in 0..20 {
            now += penalty.add(now);
        }
        assert_eq!(penalty.add(now), MAX_WAIT);
    }
}
