//! What goes wrong in a simulated hypervisor, and when.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Something that goes wrong. See the module [`super`] for what each field means.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Fault {
    step: String,
    #[serde(default = "first")]
    nth: u32,
    fault: What,
    /// How many steps it matched so far.
    #[serde(default)]
    seen: u32,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What befalls a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum What {
    Fail,
    Timeout,
    Unreachable,
    HappensAnyway,
    Hang,
    HangAfter,
}

const fn first() -> u32 {
    1
}

impl Fault {
    /// Whether it is about the step whose text is `text`.
    pub(super) fn matches(&self, text: &str) -> bool {
        text.starts_with(&self.step)
    }

    /// Counts one more step that it matches. Whether it befalls this one.
    fn count(&mut self) -> bool {
        self.seen = self.seen.saturating_add(1);
        self.nth == 0 || self.nth == self.seen
    }
}

/// What befalls the step whose text is `text`: the first fault whose turn it is. All that match count it.
pub(super) fn next(faults: &mut [Fault], text: &str) -> Option<What> {
    let matching = faults.iter_mut().filter(|fault| fault.matches(text));
    let due: Vec<What> =
        matching.filter_map(|fault| fault.count().then_some(fault.fault)).collect();
    due.first().copied()
}
