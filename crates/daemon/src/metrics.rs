//! Metrics for a monitoring system, in the text format of Prometheus.
//!
//! No label has a serial number or a name that a device has given itself: what is plugged into a
//! machine is private, and each new value would be a new time series.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The upper limits of the buckets for the time to attach, in seconds.
const ATTACH_BUCKETS: [f64; 10] = [0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttachResult {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRule {
    rule: String,
}

/// The metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    devices: Family<State, Gauge>,
    attempts: Family<AttachResult, Counter>,
    seconds: Histogram,
    denied: Family<ByRule, Counter>,
    rules: Gauge,
    guests: Gauge,
    required_absent: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("vusb");
        let metrics = Metrics {
            registry: Mutex::default(),
            devices: Family::default(),
            attempts: Family::default(),
            seconds: Histogram::new(ATTACH_BUCKETS),
            denied: Family::default(),
            rules: Gauge::default(),
            guests: Gauge::default(),
            required_absent: Gauge::default(),
        };
        let devices = metrics.devices.clone();
        registry.register(
            "devices",
            "USB devices of this machine, by their state in vusbd",
            devices,
        );
        // The encoder adds `_total` to the name of a counter.
        registry.register("attach", "Attempts to attach a device", metrics.attempts.clone());
        registry.register(
            "attach_seconds",
            "Time until a device is attached, from when it is plugged in and the guest runs",
            metrics.seconds.clone(),
        );
        registry.register("denied", "Devices that a rule has denied", metrics.denied.clone());
        registry.register("rules", "Rules in force", metrics.rules.clone());
        registry.register("guests", "Guests that run", metrics.guests.clone());
        registry.register(
            "required_absent",
            "Devices that guests require and that are not plugged in",
            metrics.required_absent.clone(),
        );
        for result in ["attached", "failed"] {
            // Created now, so that the counter is 0, and not absent, before the first attempt.
            drop(metrics.attempts.get_or_create(&AttachResult { result }));
        }
        Metrics { registry: Mutex::new(registry), ..metrics }
    }
}

impl Metrics {
    /// All metrics as text.
    pub(crate) fn text(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }

    /// How many devices there are in each state.
    pub(crate) fn set_devices(&self, states: &BTreeMap<&'static str, usize>) {
        for (state, count) in states {
            let gauge = self.devices.get_or_create(&State { state });
            gauge.set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn set_rules(&self, count: usize) {
        self.rules.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_guests(&self, count: usize) {
        self.guests.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_required_absent(&self, count: usize) {
        self.required_absent.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// An attempt to attach a device. `waited`: the time since the device is plugged in and the
    /// guest runs.
    pub(crate) fn add_attempt(&self, succeeded: bool, waited: Option<Duration>) {
        let result = if succeeded { "attached" } else { "failed" };
        self.attempts.get_or_create(&AttachResult { result }).inc();
        if let Some(waited) = waited.filter(|_| succeeded) {
            self.seconds.observe(waited.as_secs_f64());
        }
    }

    pub(crate) fn add_denied(&self, rule: &str) {
        self.denied.get_or_create(&ByRule { rule: rule.to_owned() }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_what_was_counted() {
        let metrics = Metrics::default();
        metrics.set_devices(&BTreeMap::from([("attached", 2), ("held", 0)]));
        metrics.add_attempt(true, Some(Duration::from_millis(250)));
        metrics.add_attempt(false, Some(Duration::from_secs(2)));
        metrics.add_denied("keyboards");
        let text = metrics.text();
        for line in [
            "# TYPE vusb_devices gauge",
            "vusb_devices{state=\"attached\"} 2",
            // node_exporter reads this format, and not that of OpenMetrics.
            "# TYPE vusb_attach_total counter",
            "vusb_attach_total{result=\"attached\"} 1",
            "vusb_attach_total{result=\"failed\"} 1",
            "vusb_attach_seconds_bucket{le=\"0.3\"} 1",
            "vusb_attach_seconds_bucket{le=\"0.2\"} 0",
            "vusb_attach_seconds_count 1",
            "vusb_denied_total{rule=\"keyboards\"} 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in:\n{text}");
        }
    }
}
