//! When the devices of this machine are read.
//!
//! ```text
//!   an event, a reload, a device that has waited for udev, an error ──▶ request
//!                                                                          │ not before the pause ends
//!                                                                          ▼
//!                                               pause ◀── finished ◀── the devices are read
//! ```
//!
//! The more devices there are, the longer a read takes. So each read is followed by a pause that is
//! a multiple of its time, whatever requests the next one: a storm of events never takes a whole
//! processor.

use std::time::{Duration, Instant};

/// The shortest time between two reads: a storm of events causes one read in this time.
pub(crate) const SCAN_PAUSE: Duration = Duration::from_millis(50);

/// The pause after the devices were read, as a multiple of the time that reading them and reacting
/// took.
const PAUSE_FACTOR: u32 = 3;

/// When the devices are read next.
#[derive(Debug, Default)]
pub(crate) struct ScanTimes {
    /// `None` if nothing has changed.
    requested: Option<Instant>,
    pause_end: Option<Instant>,
}

impl ScanTimes {
    /// The devices are to be read at this time, or as soon as the pause has ended.
    pub(crate) fn request(&mut self, at: Instant) {
        self.requested = Some(self.requested.map_or(at, |requested| requested.min(at)));
    }

    /// When they are to be read; `None` if nothing has requested it.
    pub(crate) fn due(&self) -> Option<Instant> {
        let at = self.requested?;
        Some(self.pause_end.map_or(at, |end| end.max(at)))
    }

    /// Whether they are to be read now. The requests so far are then fulfilled.
    pub(crate) fn begin(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            (self.requested, self.pause_end) = (None, Some(now + SCAN_PAUSE));
        }
        is_due
    }

    /// The read that began at `begun` has finished, and so have the reactions to it.
    pub(crate) fn finished(&mut self, begun: Instant, now: Instant) {
        let end = now + now.saturating_duration_since(begun) * PAUSE_FACTOR;
        self.pause_end = Some(self.pause_end.map_or(end, |it| it.max(end)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_request_shortens_the_pause() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut times = ScanTimes::default();
        assert_eq!(times.due(), None);
        assert!(!times.begin(start));
        times.request(start);
        assert!(times.begin(start));
        // A request that was made during the read, and one after it.
        times.request(at(10));
        times.finished(start, at(100));
        times.request(at(110));
        assert_eq!(times.due(), Some(at(400)));
        assert!(!times.begin(at(399)));
        assert!(times.begin(at(400)));
        assert_eq!(times.due(), None);
        // A fast read is followed by the shortest pause.
        times.finished(at(400), at(401));
        times.request(at(401));
        assert_eq!(times.due(), Some(at(450)));
        assert!(times.begin(at(450)));
        // The first of several requests counts.
        times.request(at(900));
        times.request(at(800));
        times.request(at(1000));
        assert_eq!(times.due(), Some(at(800)));
    }
}
