//! A bounded queue of received events.

use std::collections::VecDeque;

use crate::codec::Event;

/// The maximum number of queued events. A guest that starts or stops causes a few dozen. QEMU
/// limits the rate of events that a guest can cause at will.
pub const MAX_EVENTS: usize = 1024;

/// The maximum size in bytes of all queued events together, as received. An event has a few hundred
/// bytes; the limit is for a peer that sends huge ones. An event that exceeds it alone is still
/// queued, as the only one.
pub const MAX_EVENT_BYTES: usize = 4 << 20;

/// A first-in, first-out queue. A new event is always kept; the oldest are dropped to make room.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    /// The events with their sizes in bytes.
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

    /// Removes the first event for which `pick` returns `Some`. `pick` is not called for later
    /// events.
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
