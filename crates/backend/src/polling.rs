//! When a controller's thread looks for the guest's next request instead of sleeping.
//!
//! After a response, the guest's next request often follows within microseconds. A thread that
//! looks for it that long saves the guest an event, the kernel an interrupt and a wake-up, and
//! itself four system calls. If no request comes, the time was wasted. So polling has to pay for
//! itself:
//!
//! ```text
//!                  credit for one poll                  credit used up
//!        ┌────────────────────────────────┐    ┌─────────────────────────────┐
//!        ▼                                │    │                             ▼
//!     polling ── a request: + SAVED, − the time ──▶ polling             sleeping
//!        ▲       none:               − the time                               │
//!        │                                                                    │
//!        └──────────── a probe after 16, 32, … 1,024 responses ◀──────────────┘
//!                      that finds a request; one that finds none doubles the pause
//! ```
//!
//! * One poll takes at most the limit of [`Setting`], and usually at most twice the mean time after
//!   which requests have arrived.
//! * All polls of a controller together take at most [`SAVED`] per request that they found, plus
//!   [`CREDIT`] once, plus a probe per [`FIRST_PAUSE`] responses: about as much as the wake-ups
//!   that they replace. If a guest's requests always come too late, only the probes remain.
//! * The first 32 readings of the ring in a poll take a few microseconds and are not charged:
//!   reading the clock would cost more.
//! * All controllers together leave at least one processor to other threads. On a machine with one
//!   processor, no thread polls.
//!
//! [`Budget`] is pure: it has no clock.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use thiserror::Error;

/// The polling time that each request found by a poll pays for. Under Xen in software emulation, at
/// one instruction per nanosecond and without polling, each of a series of small requests costs 140
/// µs of processor time (`docs/benchmarks.md`), most of it for events and wake-ups.
pub const SAVED: Duration = Duration::from_micros(100);
/// The credit at the start, and the maximum that is kept: time to find out how the guest behaves.
pub const CREDIT: Duration = Duration::from_millis(2);
/// How long to wait for the rest of a train of requests (`engine::train`): many times the few
/// microseconds that a guest needs per request, but less than a separate transfer would take.
pub const TRAIN_TIMEOUT: Duration = Duration::from_micros(50);
/// The longest poll that can be set, and the default.
pub const MAX_LIMIT: Duration = Duration::from_millis(1);
const DEFAULT_LIMIT: Duration = Duration::from_micros(200);
/// The shortest poll. A shorter one would miss most requests of a guest that has become a little
/// slower.
const MIN_LIMIT: Duration = Duration::from_micros(20);
/// How many responses pass between two probes while the credit is used up: at first, and at most.
pub const FIRST_PAUSE: u32 = 16;
const MAX_PAUSE: u32 = 1024;

/// The argument of `--spin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Never.
    Off,
    /// While it pays, each time for at most this long: at most [`MAX_LIMIT`].
    Adaptive(Duration),
}

impl Default for Setting {
    fn default() -> Setting {
        Setting::Adaptive(DEFAULT_LIMIT)
    }
}

/// Not a value of `--spin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected adaptive, off, or a number of microseconds from 1 to 1000")]
pub struct InvalidSetting;

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Off => f.write_str("off"),
            Setting::Adaptive(limit) => limit.as_micros().fmt(f),
        }
    }
}

impl FromStr for Setting {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Setting, InvalidSetting> {
        match text {
            "off" => Ok(Setting::Off),
            "adaptive" => Ok(Setting::default()),
            number => {
                let micros = number.parse().map_err(|_| InvalidSetting)?;
                let limit = Duration::from_micros(micros);
                let valid = (1..=1000).contains(&micros);
                valid.then_some(Setting::Adaptive(limit)).ok_or(InvalidSetting)
            }
        }
    }
}

/// The budget of one controller.
#[derive(Clone, Debug)]
pub struct Budget {
    setting: Setting,
    credit: Duration,
    /// The mean time until a request was found.
    mean: Duration,
    /// Responses until the next probe, while the credit is used up.
    pause_left: u32,
    /// The length of the current pause, in responses.
    pause: u32,
}

impl Budget {
    /// A controller that has not polled yet.
    pub const fn new(setting: Setting) -> Budget {
        let (pause_left, pause) = (FIRST_PAUSE, FIRST_PAUSE);
        Budget { setting, credit: CREDIT, mean: DEFAULT_LIMIT, pause_left, pause }
    }

    /// How long to poll after a response; `None` for not at all. Each `Some` has to be followed by
    /// [`Budget::poll_ended`].
    pub fn next_poll(&mut self) -> Option<Duration> {
        let usual = self.mean.saturating_mul(2).max(MIN_LIMIT);
        // A probe takes the longest time, because it is not known how slow the guest is now.
        self.grant(usual, MAX_LIMIT)
    }

    /// A poll has ended after this time, with a request or without.
    pub fn poll_ended(&mut self, spent: Duration, found: bool) {
        self.charge(spent, found);
        self.mean = if found {
            (self.mean * 7 + spent) / 8
        } else {
            // The guest may have become slower. If it has not, the credit limits the longer polls.
            (self.mean * 9 / 8).min(MAX_LIMIT)
        };
    }

    /// How long to wait for the rest of a train; `None` for not at all. Each `Some` has to be
    /// followed by [`Budget::train_ended`].
    pub fn next_train(&mut self) -> Option<Duration> {
        self.grant(TRAIN_TIMEOUT, TRAIN_TIMEOUT)
    }

    /// The wait for a train has ended after this time, with the whole train or without.
    pub fn train_ended(&mut self, spent: Duration, complete: bool) {
        self.charge(spent, complete);
    }

    /// Grants the usual time if the credit suffices, and otherwise sometimes that of a probe.
    fn grant(&mut self, usual: Duration, probe: Duration) -> Option<Duration> {
        let Setting::Adaptive(limit) = self.setting else { return None };
        let usual = usual.min(limit);
        if usual <= self.credit {
            return Some(usual);
        }
        self.pause_left = self.pause_left.saturating_sub(1);
        if self.pause_left > 0 {
            return None;
        }
        self.pause_left = self.pause;
        Some(probe.min(limit))
    }

    fn charge(&mut self, spent: Duration, found: bool) {
        self.credit = self.credit.saturating_sub(spent);
        if found {
            self.credit = (self.credit + SAVED).min(CREDIT);
            self.pause = FIRST_PAUSE;
        } else {
            self.pause = (self.pause * 2).min(MAX_PAUSE);
        }
    }
}

/// The right to poll on one processor, until it is dropped.
#[derive(Debug)]
pub struct Turn<'a>(&'a AtomicUsize);

/// How many threads of this process poll.
static POLLING: AtomicUsize = AtomicUsize::new(0);

impl Turn<'_> {
    /// A turn. `None` if threads already poll on all of these processors but one.
    pub fn take(processors: usize) -> Option<Turn<'static>> {
        Turn::of(&POLLING, processors)
    }

    fn of(polling: &AtomicUsize, processors: usize) -> Option<Turn<'_>> {
        let one_more = |count: usize| (count + 1 < processors).then_some(count + 1);
        polling.fetch_update(Relaxed, Relaxed, one_more).ok().map(|_| Turn(polling))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn micros(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    /// A guest whose next request comes after this time. Returns for each of `count` responses how
    /// long the poll took, and whether it found the request.
    fn run(budget: &mut Budget, comes: Duration, count: usize) -> Vec<(Duration, bool)> {
        let mut polls = Vec::new();
        for _ in 0..count {
            let Some(limit) = budget.next_poll() else { continue };
            let found = comes <= limit;
            polls.push((comes.min(limit), found));
            budget.poll_ended(comes.min(limit), found);
        }
        polls
    }

    #[test]
    fn a_guest_that_answers_quickly_is_polled_after_each_response() {
        let mut budget = Budget::new(Setting::default());
        let polls = run(&mut budget, micros(15), 1000);
        assert_eq!(polls.len(), 1000);
        assert!(polls.iter().all(|(_, found)| *found));
        assert_eq!(budget.next_poll(), Some(micros(30)), "and no longer than twice the usual time");
    }

    #[test]
    fn a_guest_that_answers_slowly_is_hardly_polled() {
        let mut budget = Budget::new(Setting::default());
        let first = run(&mut budget, micros(5000), 1000);
        let later = run(&mut budget, micros(5000), 10_000);
        assert!(first.len() < 30, "{}", first.len());
        assert!(later.len() <= 12, "a probe for every 1024 responses, not {}", later.len());
        assert_eq!(later.last(), Some(&(micros(200), false)), "a probe takes the longest time");
    }

    #[test]
    fn a_guest_that_becomes_fast_is_polled_again() {
        let mut budget = Budget::new(Setting::default());
        run(&mut budget, micros(5000), 10_000);
        let polls = run(&mut budget, micros(10), 10_000);
        assert!(polls.len() > 8000, "{}", polls.len());
    }

    #[test]
    fn requests_that_come_too_late_to_pay_for_a_poll_are_not_polled_for() {
        let mut budget = Budget::new(Setting::default());
        let polls = run(&mut budget, micros(190), 10_000);
        assert!(polls.len() < 800, "{} of 10,000", polls.len());
    }

    #[test]
    fn the_values_of_the_option_are_parsed_and_printed() {
        assert_eq!("off".parse(), Ok(Setting::Off));
        assert_eq!("adaptive".parse(), Ok(Setting::Adaptive(micros(200))));
        assert_eq!("1000".parse(), Ok(Setting::Adaptive(MAX_LIMIT)));
        for text in ["", "0", "1001", "-1", "on", "50us", "99999999999999999999"] {
            assert_eq!(text.parse::<Setting>(), Err(InvalidSetting), "{text}");
        }
        for setting in [Setting::Off, Setting::default(), Setting::Adaptive(MAX_LIMIT)] {
            assert_eq!(setting.to_string().parse(), Ok(setting), "for the unprivileged process");
        }
        let mut off = Budget::new(Setting::Off);
        assert_eq!(run(&mut off, micros(1), 10_000), []);
    }

    #[test]
    fn one_processor_is_left_to_others() {
        let polling = AtomicUsize::new(0);
        assert!(Turn::of(&polling, 1).is_none());
        let first = Turn::of(&polling, 3).unwrap();
        let second = Turn::of(&polling, 3).unwrap();
        assert!(Turn::of(&polling, 3).is_none());
        drop(first);
        let third = Turn::of(&polling, 3).unwrap();
        drop((second, third));
        assert_eq!(polling.into_inner(), 0);
    }

    proptest! {
        /// A malicious guest chooses when each request comes. Whatever it chooses, all polls
        /// together take no more time than what they saved, the initial credit, and the probes.
        #[test]
        fn no_guest_makes_the_backend_poll_more_than_it_saves(
            limit in 1_u64..=1000,
            times in prop::collection::vec(
                (prop_oneof![0_u64..60, 0_u64..2000], any::<bool>()), 1..3000),
        ) {
            let mut budget = Budget::new(Setting::Adaptive(micros(limit)));
            let (mut spent, mut found) = (Duration::ZERO, 0);
            let total = times.len() as u32;
            for (comes, train) in times {
                let comes = micros(comes);
                let longest = if train { budget.next_train() } else { budget.next_poll() };
                let Some(longest) = longest else { continue };
                prop_assert!(longest <= micros(limit));
                let hit = comes <= longest;
                spent += comes.min(longest);
                found += u32::from(hit);
                if train {
                    budget.train_ended(comes.min(longest), hit);
                } else {
                    budget.poll_ended(comes.min(longest), hit);
                }
            }
            let probes = total / FIRST_PAUSE + 1;
            prop_assert!(spent <= SAVED * found + CREDIT + micros(limit) * probes);
        }
    }
}
