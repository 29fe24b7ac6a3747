//! Events that wait for somebody to take them, within bounds.

use std::collections::VecDeque;

use crate::codec::Event;

/// How many events a client keeps for later. A guest that starts or stops sends a few dozen; QEMU
/// limits the rate of those that a guest can cause at will.
pub const MAX_EVENTS: usize = 1024;

/// How many bytes, counted as they came in, the kept events may have together. An event has some
/// hundred bytes; the bound is for a peer that sends huge ones.
pub const MAX_EVENT_BYTES: usize = 4 << 20;

/// First in, first out; the oldest is dropped for a new one, the newest is always kept.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    /// Each event with its size on the wire.
    queue: VecDeque<(Event, usize)>,
    bytes: usize,
    dropped: u64,
}

impl EventQueue {
    pub(crate) fn push(&mut self, event: Event, bytes: usize) {
        while self.queue.len() >= MAX_EVENTS || self.bytes.saturating_add(bytes) > MAX_EVENT_BYTES {
            let Some((_, oldest)) = self.queue.pop_front() else {
                break;
            };
            self.bytes -= oldest;
            self.dropped += 1;
        }
        self.bytes += bytes;
        self.queue.push_back((event, bytes));
    }

    pub(crate) fn take(&mut self) -> Vec<Event> {
        self.bytes = 0;
        self.queue.drain(..).map(|(event, _)| event).collect()
    }

    /// Removes the first event that `pick` answers with `Some`; shows it none after that.
    pub(crate) fn pick<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> Option<T> {
        let (position, found) = self
            .queue
            .iter()
            .enumerate()
            .find_map(|(position, (event, _))| Some((position, pick(event)?)))?;
        if let Some((_, bytes)) = self.queue.remove(position) {
            self.bytes -= bytes;
        }
        Some(found)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}
