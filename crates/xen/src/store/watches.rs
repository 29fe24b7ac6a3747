//! What is watched, and what has been told and not been taken yet.

use std::collections::VecDeque;

use super::error::Error;
use super::wire::texts;

/// Something that is watched has changed, or the watch has just begun.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WatchEvent {
    /// What has changed: the watched node or one below it. For the watched node itself take it that anything below may
    /// have changed: so a watch begins, and so too many events are told as one.
    pub path: String,
    /// The token that was given with the watch.
    pub token: String,
}

impl WatchEvent {
    /// From a payload: path and token. Newer xenstored may add more.
    pub(super) fn decode(payload: &[u8]) -> Result<Self, Error> {
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec())
                .map_err(|_| Error::Protocol("a watch event that is not text".into()))
        };
        // By zero bytes, and not by `texts`: a token may be empty.
        let mut parts = payload.split(|byte| *byte == 0);
        match (parts.next(), parts.next()) {
            (Some(path), Some(token)) => Ok(Self { path: text(path)?, token: text(token)? }),
            _ => Err(Error::Protocol("a watch event without a token".into())),
        }
    }
}

/// The most events that are kept: a guest can cause as many as it likes while nobody takes them.
pub const MAX_EVENTS: usize = 1024;

/// What is watched and what was told.
///
/// An event that waits already is not kept twice: it says no more than once. When there are too many, those of a watch
/// become a single one, for the watched node itself. So none is lost and memory is bounded.
#[derive(Debug, Default)]
pub(super) struct Watches {
    watched: Vec<WatchEvent>,
    events: VecDeque<WatchEvent>,
}

impl Watches {
    pub(super) fn begin(&mut self, path: &str, token: &str) {
        self.watched.push(WatchEvent { path: path.into(), token: token.into() });
    }

    /// Forgets a watch; and its events, if no other has its token.
    pub(super) fn end(&mut self, path: &str, token: &str) {
        if let Some(at) = self.watched.iter().position(|it| it.path == path && it.token == token) {
            self.watched.remove(at);
        }
        if !self.watched.iter().any(|it| it.token == token) {
            self.events.retain(|event| event.token != token);
        }
    }

    pub(super) fn told(&mut self, event: WatchEvent) {
        let known = self.watched.iter().any(|it| it.token == event.token);
        if !known || self.events.contains(&event) {
            return;
        }
        if self.events.len() >= MAX_EVENTS {
            self.collapse();
        }
        self.events.push_back(event);
    }

    pub(super) fn take(&mut self) -> Option<WatchEvent> {
        self.events.pop_front()
    }

    /// One event for each watch that has any. Special watches are kept as they are: they are as good as the watch itself.
    fn collapse(&mut self) {
        let told = std::mem::take(&mut self.events);
        self.events = self
            .watched
            .iter()
            .filter(|watch| told.iter().any(|event| event.token == watch.token))
            .cloned()
            .collect();
    }
}

/// Names of children, from a reply to `Directory`.
pub(super) fn names(payload: &[u8], path: &str) -> Result<Vec<String>, Error> {
    texts(payload)
        .map(|name| {
            String::from_utf8(name.to_vec())
                .map_err(|_| Error::Protocol(format!("a child of {path} whose name is not text")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(path: &str, token: &str) -> WatchEvent {
        WatchEvent { path: path.into(), token: token.into() }
    }

    #[test]
    fn a_flood_becomes_one_event_for_the_watched_node() {
        let mut watches = Watches::default();
        watches.begin("/a", "A");
        watches.begin("/b", "B");
        for number in 0..=MAX_EVENTS {
            watches.told(event(&format!("/a/{number}"), "A"));
        }
        assert_eq!(watches.take(), Some(event("/a", "A")));
        assert_eq!(watches.take(), Some(event(&format!("/a/{MAX_EVENTS}"), "A")));
        assert_eq!(watches.take(), None);
    }

    #[test]
    fn what_waits_already_is_not_kept_twice_and_goes_with_its_watch() {
        let mut watches = Watches::default();
        watches.begin("/a", "A");
        watches.told(event("/a/1", "A"));
        watches.told(event("/a/1", "A"));
        watches.told(event("/c", "nobody's"));
        assert_eq!(watches.events.len(), 1);
        watches.end("/a", "A");
        assert_eq!(watches.take(), None);
    }

    #[test]
    fn events_that_make_no_sense() {
        assert_eq!(WatchEvent::decode(b"/a\0t\0").unwrap(), event("/a", "t"));
        assert_eq!(WatchEvent::decode(b"/a\0\0").unwrap(), event("/a", ""));
        assert_eq!(
            WatchEvent::decode(b"@releaseDomain\0t\x003\0").unwrap(),
            event("@releaseDomain", "t")
        );
        for payload in [&b""[..], b"/a", b"/\xff\0t\0"] {
            assert!(WatchEvent::decode(payload).is_err(), "{payload:?}");
        }
    }
}
