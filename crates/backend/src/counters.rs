//! Counters of one controller, which a toolstack shows (`vusb list --json`).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vusb_usbif::urb::Direction;
use vusb_xen::usb;

/// A controller's traffic since the guest connected. Written by the controller's thread, read by
/// the supervisor.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    errors: AtomicU64,
    in_flight: AtomicU64,
    wakeups: AtomicU64,
}

impl Counters {
    /// Counts a request of the guest.
    pub fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Counts bytes that were transferred.
    pub fn moved(&self, direction: Direction, bytes: u32) {
        let counter = if direction == Direction::In { &self.bytes_in } else { &self.bytes_out };
        counter.fetch_add(bytes.into(), Relaxed);
    }

    /// Counts a request that failed.
    pub fn error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    /// Sets the number of requests that are not answered yet.
    pub fn in_flight(&self, count: usize) {
        self.in_flight.store(count as u64, Relaxed);
    }

    /// Counts a wake-up of the thread.
    pub fn wakeup(&self) {
        self.wakeups.fetch_add(1, Relaxed);
    }

    /// How many requests the guest has made.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}

impl fmt::Display for Counters {
    /// The form used in xenstore, see [`usb::Counters`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let now = usb::Counters {
            requests: read(&self.requests),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            errors: read(&self.errors),
            in_flight: read(&self.in_flight),
            wakeups: read(&self.wakeups),
        };
        now.fmt(f)
    }
}
