//! Faults of a simulated hypervisor: what goes wrong, and when.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A fault. The table in [`super`] describes the fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Fault {
    step: String,
    #[serde(default = "first")]
    nth: u32,
    fault: Effect,
    /// How many steps it has matched so far.
    #[serde(default)]
    seen: u32,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The effect of a fault on a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Effect {
    Fail,
    Timeout,
    Unreachable,
    HappensAnyway,
    Slow,
    Hang,
    HangAfter,
}

const fn first() -> u32 {
    1
}

impl Fault {
    /// Whether the fault is for the step with this text.
    pub(super) fn matches(&self, text: &str) -> bool {
        text.starts_with(&self.step)
    }

    /// Counts one more matching step. Returns whether the fault affects it.
    fn count(&mut self) -> bool {
        self.seen = self.seen.saturating_add(1);
        self.nth == 0 || self.nth == self.seen
    }
}

/// The fault that affects the step with this text: the first that is due. Every matching fault
/// counts the step.
pub(super) fn next(faults: &mut [Fault], text: &str) -> Option<Effect> {
    let matching = faults.iter_mut().filter(|fault| fault.matches(text));
    let due: Vec<Effect> =
        matching.filter_map(|fault| fault.count().then_some(fault.fault)).collect();
    due.first().copied()
}
