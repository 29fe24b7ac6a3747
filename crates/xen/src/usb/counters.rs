//! Counters of a controller's traffic: the `stats` node.

use std::fmt;

/// Counters of a controller since the guest connected to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests of the guest.
    pub requests: u64,
    /// Bytes that devices sent to the guest.
    pub bytes_in: u64,
    /// Bytes that the guest sent to devices.
    pub bytes_out: u64,
    /// Requests that did not succeed.
    pub errors: u64,
    /// Requests that are not completed yet.
    pub in_flight: u64,
    /// How many times the thread that serves the controller woke up. Optional for a backend.
    pub wakeups: u64,
}

impl Counters {
    /// Reads `requests=N bytes-in=N bytes-out=N errors=N in-flight=N wakeups=N`, in any order.
    /// Unknown words are skipped. `None` if a counter other than `wakeups` is missing or not a
    /// number.
    pub fn parse(text: &str) -> Option<Counters> {
        let value = |key: &str| {
            let mut words = text.split_ascii_whitespace();
            words.find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
        };
        Some(Counters {
            requests: value("requests")?,
            bytes_in: value("bytes-in")?,
            bytes_out: value("bytes-out")?,
            errors: value("errors")?,
            in_flight: value("in-flight")?,
            wakeups: value("wakeups").unwrap_or(0),
        })
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "requests={} bytes-in={} bytes-out={} errors={} in-flight={} wakeups={}",
            self.requests, self.bytes_in, self.bytes_out, self.errors, self.in_flight, self.wakeups
        )
    }
}
