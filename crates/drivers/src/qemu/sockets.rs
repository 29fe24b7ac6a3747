//! What is known about each socket of the watched folders: observations in, events out. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::identity::GuestIdentity;
use crate::watch::Guests;

/// The shortest and the longest wait before another attempt to connect.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(10);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// How long a socket may be bound without listening. QEMU calls `listen` right after `bind`.
const LISTEN_GRACE: Duration = Duration::from_secs(10);

/// Identifies a file. Changes when the file is replaced, or its permissions change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Time of the last status change, in seconds and nanoseconds.
    pub(super) changed: (i64, i64),
}

/// What an attempt to connect showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// No process listens on the socket.
    NotListening,
    /// A process listens, and its queue of connections is full.
    Busy,
    /// Not a guest, or not permitted to connect.
    Ignored,
    /// A QEMU listens, or a process that cannot be examined: `None`.
    Guest(Option<GuestIdentity>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ignored,
    Guest,
    /// To be tried again.
    Retry {
        since: Instant,
        delay: Duration,
        due: Instant,
    },
}

/// All sockets, by the operand of their address.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    sockets: BTreeMap<String, (Stamp, State)>,
    pub(super) guests: Guests,
}

impl Sockets {
    /// Whether to connect to a socket. Each file is connected to once, because a connection takes a
    /// place in QEMU's queue while another client holds the monitor. Retries are the exception.
    pub(super) fn wants_probe(&self, operand: &str, stamp: Stamp, now: Instant) -> bool {
        match self.sockets.get(operand) {
            Some((known, _)) if *known != stamp => true,
            Some((_, State::Retry { due, .. })) => *due <= now,
            Some(_) => false,
            None => true,
        }
    }

    /// Records the result of an attempt to connect.
    pub(super) fn answered(&mut self, operand: &str, stamp: Stamp, answer: Answer, now: Instant) {
        let retry = |since, delay: Duration| State::Retry { since, delay, due: now + delay };
        let before = self.sockets.get(operand).filter(|(known, _)| *known == stamp);
        let (since, delay) = match before {
            Some((_, State::Retry { since, delay, .. })) => {
                (*since, (*delay * 2).min(MAX_RETRY_DELAY))
            }
            _ => (now, MIN_RETRY_DELAY),
        };
        let state = match answer {
            Answer::Guest(identity) => {
                self.guests.started(operand, identity);
                State::Guest
            }
            // Only the file has changed: the guest still runs.
            Answer::Busy if self.guests.contains(operand) => State::Guest,
            Answer::Busy => retry(since, delay),
            Answer::NotListening if now.saturating_duration_since(since) < LISTEN_GRACE => {
                self.guests.ended(operand);
                retry(since, delay)
            }
            Answer::NotListening | Answer::Ignored => {
                self.guests.ended(operand);
                State::Ignored
            }
        };
        self.sockets.insert(operand.to_owned(), (stamp, state));
    }

    /// A guest's process ended. Its socket remains if it was killed.
    pub(super) fn process_ended(&mut self, operand: &str) {
        self.guests.ended(operand);
        if let Some((_, state)) = self.sockets.get_mut(operand) {
            *state = State::Ignored;
        }
    }

    /// A socket is gone.
    pub(super) fn removed(&mut self, operand: &str) {
        self.guests.ended(operand);
        self.sockets.remove(operand);
    }

    /// Removes all sockets except these.
    pub(super) fn retain(&mut self, present: &BTreeSet<String>) {
        let gone: Vec<String> =
            self.sockets.keys().filter(|it| !present.contains(*it)).cloned().collect();
        for operand in gone {
            self.removed(&operand);
        }
    }

    /// Forgets the sockets that are not watched any more. Their guests may still run, so nothing is
    /// reported.
    pub(super) fn forget_unless(&mut self, is_watched: impl Fn(&str) -> bool) {
        self.sockets.retain(|operand, _| is_watched(operand));
        self.guests.retain(is_watched);
    }

    /// The sockets whose next attempt is due.
    pub(super) fn due(&self, now: Instant) -> Vec<String> {
        let is_due = |state: &State| matches!(state, State::Retry { due, .. } if *due <= now);
        let due = self.sockets.iter().filter(|(_, (_, state))| is_due(state));
        due.map(|(operand, _)| operand.clone()).collect()
    }

    /// When the next attempt is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = self.sockets.values().filter_map(|(_, state)| match state {
            State::Retry { due, .. } => Some(*due),
            State::Ignored | State::Guest => None,
        });
        due.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::GuestEvent;

    const SOCKET: &str = "/run/qemu/web.qmp";

    fn stamp(inode: u64) -> Stamp {
        Stamp { device: 1, inode, changed: (0, 0) }
    }

    fn guest(number: u32) -> Answer {
        Answer::Guest(Some(GuestIdentity::new("qemu", number)))
    }

    fn started() -> GuestEvent {
        GuestEvent::Started(SOCKET.to_owned())
    }

    fn ended() -> GuestEvent {
        GuestEvent::Ended(SOCKET.to_owned())
    }

    #[test]
    fn a_socket_is_connected_to_once() {
        let (mut sockets, now) = (Sockets::default(), Instant::now());
        for answer in [guest(1), Answer::Ignored] {
            assert!(sockets.wants_probe(SOCKET, stamp(1), now));
            sockets.answered(SOCKET, stamp(1), answer, now);
            assert!(!sockets.wants_probe(SOCKET, stamp(1), now + MAX_RETRY_DELAY));
            assert!(sockets.wants_probe(SOCKET, stamp(2), now), "another file");
            sockets.removed(SOCKET);
        }
        assert_eq!(sockets.guests.take_events(), [started(), ended()]);
        assert_eq!(sockets.next_due(), None);
    }

    #[test]
    fn a_socket_that_does_not_listen_yet_is_retried_for_a_bounded_time() {
        let mut sockets = Sockets::default();
        let begin = Instant::now();
        let mut now = begin;
        let mut attempts = 0;
        sockets.answered(SOCKET, stamp(1), Answer::NotListening, now);
        while let Some(due) = sockets.next_due() {
            assert!(sockets.due(now).is_empty());
            assert!(!sockets.wants_probe(SOCKET, stamp(1), now));
            now = due;
            assert_eq!(sockets.due(now), [SOCKET]);
            assert!(sockets.wants_probe(SOCKET, stamp(1), now));
            sockets.answered(SOCKET, stamp(1), Answer::NotListening, now);
            attempts += 1;
        }
        assert!(now - begin >= LISTEN_GRACE && now - begin < LISTEN_GRACE + MAX_RETRY_DELAY);
        assert!(attempts < 20, "{attempts}");
        assert!(!sockets.wants_probe(SOCKET, stamp(1), now), "given up");
        assert!(!sockets.guests.has_events());
    }

    #[test]
    fn a_socket_that_listens_after_a_while_is_a_guest() {
        let (mut sockets, now) = (Sockets::default(), Instant::now());
        sockets.answered(SOCKET, stamp(1), Answer::NotListening, now);
        sockets.answered(SOCKET, stamp(1), guest(1), now + MIN_RETRY_DELAY);
        assert_eq!(sockets.guests.take_events(), [started()]);
        assert_eq!(sockets.next_due(), None);
    }

    #[test]
    fn a_busy_socket_is_retried_forever_and_a_busy_guest_is_still_running() {
        let (mut sockets, mut now) = (Sockets::default(), Instant::now());
        for _ in 0..100 {
            sockets.answered(SOCKET, stamp(1), Answer::Busy, now);
            let due = sockets.next_due().unwrap();
            assert!(due - now <= MAX_RETRY_DELAY);
            now = due;
        }
        sockets.answered(SOCKET, stamp(1), guest(1), now);
        sockets.answered(SOCKET, stamp(2), Answer::Busy, now);
        assert_eq!(sockets.next_due(), None);
        assert_eq!(sockets.guests.take_events(), [started()]);
    }

    #[test]
    fn a_killed_guest_leaves_a_socket_that_is_ignored_until_it_is_replaced() {
        let (mut sockets, now) = (Sockets::default(), Instant::now());
        sockets.answered(SOCKET, stamp(1), guest(1), now);
        sockets.process_ended(SOCKET);
        assert!(!sockets.wants_probe(SOCKET, stamp(1), now + MAX_RETRY_DELAY));
        sockets.removed(SOCKET);
        sockets.answered(SOCKET, stamp(2), guest(2), now);
        assert_eq!(sockets.guests.take_events(), [started(), ended(), started()]);
    }

    #[test]
    fn a_replaced_socket_of_another_process_is_an_end_and_a_start() {
        let (mut sockets, now) = (Sockets::default(), Instant::now());
        sockets.answered(SOCKET, stamp(1), guest(1), now);
        sockets.answered(SOCKET, stamp(2), guest(1), now);
        assert_eq!(sockets.guests.take_events(), [started()], "its permissions were changed");
        sockets.answered(SOCKET, stamp(3), guest(2), now);
        assert_eq!(sockets.guests.take_events(), [ended(), started()]);
    }

    #[test]
    fn a_guest_that_cannot_be_examined_ends_when_its_socket_refuses() {
        let (mut sockets, now) = (Sockets::default(), Instant::now());
        sockets.answered(SOCKET, stamp(1), Answer::Guest(None), now);
        sockets.answered(SOCKET, stamp(1), Answer::NotListening, now);
        assert_eq!(sockets.guests.take_events(), [started(), ended()]);
    }

    #[test]
    fn a_scan_removes_what_it_did_not_find() {
        let (mut sockets, now) = (Sockets::default(), Instant::now());
        sockets.answered(SOCKET, stamp(1), guest(1), now);
        sockets.answered("/run/qemu/other", stamp(2), Answer::Ignored, now);
        sockets.retain(&BTreeSet::from([SOCKET.to_owned()]));
        assert!(!sockets.guests.contains("/run/qemu/other"));
        assert_eq!(sockets.guests.take_events(), [started()]);
        sockets.retain(&BTreeSet::new());
        assert_eq!(sockets.guests.take_events(), [ended()]);
    }
}
