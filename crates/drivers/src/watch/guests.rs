//! Which guests run: observations in, events out. No I/O.

use std::collections::BTreeMap;

use crate::identity::GuestIdentity;
use crate::scheme::GuestEvent;

/// The guests that run, and the events that were not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    /// By operand. The identity tells a guest from a later one with the same operand, where that
    /// is known.
    running: BTreeMap<String, Option<GuestIdentity>>,
    events: Vec<GuestEvent>,
}

impl Guests {
    /// A guest runs. Reported if it is new, or not the same as before.
    pub(crate) fn started(&mut self, operand: &str, identity: Option<GuestIdentity>) {
        if self.running.get(operand) == Some(&identity) {
            return;
        }
        self.ended(operand);
        self.running.insert(operand.to_owned(), identity);
        self.push(GuestEvent::Started(operand.to_owned()));
    }

    /// A guest does not run. Reported if it did.
    pub(crate) fn ended(&mut self, operand: &str) {
        if self.running.remove(operand).is_some() {
            self.push(GuestEvent::Ended(operand.to_owned()));
        }
    }

    /// These guests run, and no others. Those that ended are reported first.
    pub(crate) fn replace(&mut self, now: BTreeMap<String, Option<GuestIdentity>>) {
        let ended: Vec<String> =
            self.running.keys().filter(|it| !now.contains_key(*it)).cloned().collect();
        for operand in ended {
            self.ended(&operand);
        }
        for (operand, identity) in now {
            self.started(&operand, identity);
        }
    }

    /// Forgets the guests that are no longer watched. They may still run, so nothing is reported.
    pub(crate) fn retain(&mut self, is_watched: impl Fn(&str) -> bool) {
        self.running.retain(|operand, _| is_watched(operand));
    }

    /// Events were lost. Nothing else is reported until this was taken, because the caller has to
    /// compare all guests anyway.
    pub(crate) fn lost(&mut self) {
        self.push(GuestEvent::Rescan);
    }

    /// Whether this guest runs.
    pub(crate) fn contains(&self, operand: &str) -> bool {
        self.running.contains_key(operand)
    }

    /// The guests that run and whose identity is unknown.
    pub(crate) fn unidentified(&self) -> impl Iterator<Item = &str> {
        let unknown = self.running.iter().filter(|(_, identity)| identity.is_none());
        unknown.map(|(operand, _)| operand.as_str())
    }

    /// Whether there are events to take.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// The events since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<GuestEvent> {
        std::mem::take(&mut self.events)
    }

    /// The guests that run. Queued events are dropped.
    pub(crate) fn running(&mut self) -> Vec<String> {
        self.events.clear();
        self.running.keys().cloned().collect()
    }

    fn push(&mut self, event: GuestEvent) {
        if self.events.last() != Some(&GuestEvent::Rescan) {
            self.events.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(number: u32) -> Option<GuestIdentity> {
        Some(GuestIdentity::new("test", number))
    }

    fn started(operand: &str) -> GuestEvent {
        GuestEvent::Started(operand.to_owned())
    }

    fn ended(operand: &str) -> GuestEvent {
        GuestEvent::Ended(operand.to_owned())
    }

    #[test]
    fn each_change_is_reported_once_and_in_order() {
        let mut guests = Guests::default();
        guests.started("b", identity(1));
        guests.started("b", identity(1));
        guests.started("a", None);
        guests.ended("c");
        guests.ended("b");
        guests.ended("b");
        assert_eq!(guests.take_events(), [started("b"), started("a"), ended("b")]);
        assert!(!guests.has_events());
        assert_eq!(guests.running(), ["a"]);
        assert_eq!(guests.unidentified().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn another_guest_with_the_same_operand_is_an_end_and_a_start() {
        let mut guests = Guests::default();
        guests.started("a", identity(1));
        guests.take_events();
        guests.started("a", identity(2));
        assert_eq!(guests.take_events(), [ended("a"), started("a")]);
    }

    #[test]
    fn a_complete_list_is_compared() {
        let mut guests = Guests::default();
        for (operand, number) in [("a", 1), ("b", 2), ("c", 3)] {
            guests.started(operand, identity(number));
        }
        guests.take_events();
        let now = [("0", 4), ("b", 2), ("c", 5)];
        guests.replace(now.map(|(operand, number)| (operand.to_owned(), identity(number))).into());
        assert_eq!(guests.take_events(), [ended("a"), started("0"), ended("c"), started("c")]);
    }

    #[test]
    fn a_rescan_is_the_last_event_and_covers_what_follows() {
        let mut guests = Guests::default();
        guests.started("a", None);
        guests.lost();
        guests.lost();
        guests.ended("a");
        guests.started("b", None);
        assert_eq!(guests.take_events(), [started("a"), GuestEvent::Rescan]);
        guests.ended("b");
        assert_eq!(guests.take_events(), [ended("b")]);
    }

    #[test]
    fn events_are_relative_to_the_list() {
        let mut guests = Guests::default();
        guests.started("a", None);
        guests.lost();
        assert_eq!(guests.running(), ["a"]);
        assert!(!guests.has_events());
        guests.ended("a");
        assert_eq!(guests.take_events(), [ended("a")]);
    }
}
