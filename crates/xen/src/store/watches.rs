//! Watches, and the events that have not been taken yet.

use std::collections::VecDeque;

use super::error::Error;
use super::wire::texts;

/// A watched node has changed, or the watch has just been set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WatchEvent {
    /// The node that has changed: the watched node or one below it. If it is the watched node,
    /// anything below it may have changed too: the first event of a watch has this path, and so has
    /// the single event that replaces the queued ones when there are too many.
    pub path: String,
    /// The token of the watch.
    pub token: String,
}

impl WatchEvent {
    /// From a payload: path and token. Newer versions of xenstored may append more.
    pub(super) fn decode(payload: &[u8]) -> Result<Self, Error> {
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec())
                .map_err(|_| Error::Protocol("a watch event that is not text".into()))
        };
        // Not with `texts`, because a token may be empty.
        let mut parts = payload.split(|byte| *byte == 0);
        match (parts.next(), parts.next()) {
            (Some(path), Some(token)) => Ok(Self { path: text(path)?, token: text(token)? }),
            _ => Err(Error::Protocol("a watch event without a token".into())),
        }
    }
}

/// The most events that are queued. A guest can cause any number of them between two calls of
/// `take_event`.
pub const MAX_EVENTS: usize = 1024;

/// Watches and their queued events.
///
/// An event that is already queued is not queued again. When there are too many events, those of
/// each watch are replaced by a single one for the watched node itself. So no change is lost and
/// memory is bounded.
#[derive(Debug, Default)]
pub(super) struct Watches {
    watched: Vec<WatchEvent>,
    events: VecDeque<WatchEvent>,
}

impl Watches {
    pub(super) fn add(&mut self, path: &str, token: &str) {
        self.watched.push(WatchEvent { path: path.into(), token: token.into() });
    }

    /// Removes a watch, and its events if no other watch has its token.
    pub(super) fn remove(&mut self, path: &str, token: &str) {
        if let Some(at) = self.watched.iter().position(|it| it.path == path && it.token == token) {
            self.watched.remove(at);
        }
        if !self.watched.iter().any(|it| it.token == token) {
            self.events.retain(|event| event.token != token);
        }
    }

    pub(super) fn push(&mut self, event: WatchEvent) {
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

    /// Replaces the queued events of each watch by one for the watched path. For a special path
    /// that is the event itself.
    fn collapse(&mut self) {
        let queued = std::mem::take(&mut self.events);
        self.events = self
            .watched
            .iter()
            .filter(|watch| queued.iter().any(|event| event.token == watch.token))
            .cloned()
            .collect();
    }
}

/// The names of children in a reply to `Directory`.
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
        watches.add("/a", "A");
        watches.add("/b", "B");
        for number in 0..=MAX_EVENTS {
            watches.push(event(&format!("/a/{number}"), "A"));
        }
        assert_eq!(watches.take(), Some(event("/a", "A")));
        assert_eq!(watches.take(), Some(event(&format!("/a/{MAX_EVENTS}"), "A")));
        assert_eq!(watches.take(), None);
    }

    #[test]
    fn an_event_is_queued_once_and_removed_with_its_watch() {
        let mut watches = Watches::default();
        watches.add("/a", "A");
        watches.push(event("/a/1", "A"));
        watches.push(event("/a/1", "A"));
        watches.push(event("/c", "unknown"));
        assert_eq!(watches.events.len(), 1);
        watches.remove("/a", "A");
        assert_eq!(watches.take(), None);
    }

    #[test]
    fn an_event_has_a_path_and_a_token() {
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
