//! The events, for callers that watch.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use vusb_log::Output;

use crate::timestamp::utc;

/// How many events are kept.
const MAX_EVENTS: usize = 1000;

/// Something that happened. The keys are those of the interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Event {
    /// Its number: 1 for the first.
    pub(crate) number: u64,
    /// When it happened: see [`utc`].
    pub(crate) time: String,
    /// What it is: `attached`, for example.
    pub(crate) event: String,
    /// The domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) domain: Option<String>,
    /// The port of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<String>,
    /// The bus and address of the device, valid until it is unplugged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// The domains to choose from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) domains: Option<Vec<String>>,
    /// The rules that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rules: Option<Vec<String>>,
    /// What happened, in words.
    pub(crate) text: String,
}

impl Event {
    /// An event without a domain or a device.
    pub(crate) fn new(event: &str, text: impl Into<String>) -> Event {
        Event { event: event.to_owned(), text: text.into(), ..Event::default() }
    }
}

impl Event {
    /// The message ID of this kind of entry in the journal. The catalog
    /// (`packaging/systemd/vusb.catalog`) explains each of them.
    fn message_id(&self) -> Option<&'static str> {
        Some(match self.event.as_str() {
            "attached" => "b1f0ea613b6e4e4c9b06f572ee871ec2",
            "failed" => "f5aef3f65eb9448b950fe3b5e5fc9337",
            "denied" => "98c629287a2b495db520d85645182c70",
            "question" => "02e0865f040f465fb8730850436caa33",
            "held" => "1ffa88023c23448c91b5998530536594",
            "failing" => "9eaf82f85e5c4162a91ff92955a7e7f2",
            "required-absent" => "5d1c3b5b0a4f4e2e9d0a8a7c6f21b7e4",
            "rules-rejected" => "769dd172e77449ceb29a4b1b98bbe86b",
            _ => return None,
        })
    }

    fn log(&self, output: Output) {
        macro_rules! entry {
            ($level:ident) => {
                tracing::$level!(
                    vusb_action = self.event,
                    vusb_domain = self.domain,
                    vusb_port = self.port,
                    vusb_rule = self.rules.as_ref().map(|it| it.join(", ")),
                    message_id = self.message_id().filter(|_| output == Output::Journal),
                    "{}",
                    self.text
                )
            };
        }
        match self.event.as_str() {
            "failed" | "failing" | "required-absent" => entry!(warn),
            "rules-rejected" => entry!(error),
            _ => entry!(info),
        }
    }
}

/// The last events.
#[derive(Debug)]
pub(crate) struct Events {
    output: Output,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    kept: VecDeque<Event>,
}

impl Events {
    /// Creates an empty list. Each event is also logged to `output`.
    pub(crate) fn new(output: Output) -> Events {
        Events { output, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event, and numbers and logs it. Returns its number.
    pub(crate) fn add(&self, event: Event) -> u64 {
        event.log(self.output);
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        let time = utc(SystemTime::now());
        state.kept.push_back(Event { number, time, ..event });
        if state.kept.len() > MAX_EVENTS {
            state.kept.pop_front();
        }
        self.changed.notify_all();
        number
    }

    /// The number of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.lock().last
    }

    /// The event with this number, if it is kept.
    pub(crate) fn get(&self, number: u64) -> Option<Event> {
        self.lock().kept.iter().find(|it| it.number == number).cloned()
    }

    /// The events that are kept and are about the device with this bus and address.
    pub(crate) fn about(&self, address: &str) -> Vec<Event> {
        let is_about = |it: &&Event| it.address.as_deref() == Some(address);
        self.lock().kept.iter().filter(is_about).cloned().collect()
    }

    /// The events after the one with this number. Waits for one, at most `limit`.
    pub(crate) fn after(&self, number: u64, limit: Duration) -> Vec<Event> {
        let state = self.lock();
        let nothing = |state: &mut State| state.last <= number;
        let waited = self.changed.wait_timeout_while(state, limit, nothing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.kept.iter().filter(|it| it.number > number).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each kind of entry has a text in the catalog.
    #[test]
    fn the_catalog_is_complete() {
        let catalog = include_str!("../../../packaging/systemd/vusb.catalog");
        let kinds = [
            "attached",
            "failed",
            "denied",
            "question",
            "held",
            "failing",
            "required-absent",
            "rules-rejected",
        ];
        for kind in kinds {
            let id = Event::new(kind, "").message_id().unwrap();
            assert!(catalog.contains(&format!("\n-- {id}\nSubject: ")), "{kind}");
        }
        assert_eq!(catalog.matches("\n-- ").count(), kinds.len());
        assert_eq!(Event::new("guest-started", "").message_id(), None);
    }

    #[test]
    fn events_are_numbered_and_the_last_ones_are_kept() {
        let events = Events::new(Output::StandardError);
        for number in 1..=MAX_EVENTS + 5 {
            events.add(Event { text: number.to_string(), ..Event::default() });
        }
        let all = events.after(0, Duration::ZERO);
        assert_eq!((all.len(), all.first().unwrap().number), (MAX_EVENTS, 6));
        assert_eq!(events.get(7).unwrap().text, "7");
        assert_eq!(events.get(5), None);
        assert_eq!(events.after(events.last(), Duration::ZERO), []);
    }
}
