//! What a controller has done, for `vusb list --json`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vusb_usbif::urb::Direction;

/// What a controller has done since the guest connected. Counted by one thread, read by another.
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
    /// The guest asked for something.
    pub fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Bytes were moved.
    pub fn moved(&self, direction: Direction, bytes: u32) {
        let counter = if direction == Direction::In { &self.bytes_in } else { &self.bytes_out };
        counter.fetch_add(bytes.into(), Relaxed);
    }

    /// A request was not answered with success.
    pub fn error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    /// So many requests are not answered yet.
    pub fn in_flight(&self, count: usize) {
        self.in_flight.store(count as u64, Relaxed);
    }

    /// The thread woke up.
    pub fn wakeup(&self) {
        self.wakeups.fetch_add(1, Relaxed);
    }

    /// The thread that is done has nothing in flight.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}

impl fmt::Display for Counters {
    /// As it stands in the store: `requests=7 bytes-in=512 bytes-out=31 errors=0 in-flight=1 wakeups=9`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        write!(
            f,
            "requests={} bytes-in={} bytes-out={} errors={} in-flight={} wakeups={}",
            read(&self.requests),
            read(&self.bytes_in),
            read(&self.bytes_out),
            read(&self.errors),
            read(&self.in_flight),
            read(&self.wakeups)
        )
    }
}
