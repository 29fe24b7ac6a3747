//! A change that was begun. It is saved before its first step, so that a killed command leaves a
//! trace.
//!
//! ```text
//!              save intent                 all steps taken, observed
//!   settled ───────────────▶ going forward ─────────────────────────▶ settled (the new hardware)
//!                                │
//!                                │ a step failed, or cancelled: saved as going back
//!                                ▼
//!                            going back ────────────────────────────▶ settled (the old hardware)
//!
//!   killed at any moment: the next call observes, finds out how many of the steps are in
//!   effect, and continues in the same direction. If going forward fails, it goes back.
//! ```
//!
//! Steps are taken in order, so the progress of a change is one number: the first K steps are in
//! effect ([`in_effect`]).

use std::collections::BTreeSet;

use vusb_model::address::Address;
use vusb_model::diff::Step;
use vusb_model::hardware::{Controller, Device, Hardware};

use crate::inventory::{Inventory, Key};
use crate::record::header::Header;

/// A change that was begun.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pending {
    /// What to record once all steps are taken.
    pub(crate) target: Inventory,
    /// The steps, in order.
    pub(crate) steps: Vec<Step>,
    /// Whether a step failed or the change was cancelled, so that all steps are being undone.
    pub(crate) back: bool,
    /// What the record says about the domain once all steps are taken; `None` if that stays.
    pub(crate) header: Option<Header>,
}

/// The item that the step changes.
pub(crate) const fn key(step: &Step) -> Key {
    match step {
        Step::AddController(it) | Step::RemoveController(it) => Key::Controller(it.index),
        Step::Plug(address, _) | Step::Unplug(address, _) => Key::Device(*address),
    }
}

/// Whether the step is in effect: what it adds exists, or what it removes does not.
pub(crate) fn is_done(step: &Step, hardware: &Hardware) -> bool {
    let controller = |it: &Controller| {
        hardware.controller(it.index).is_some_and(|there| there.same_hardware(it))
    };
    let device =
        |at: Address, it: &Device| hardware.device(at).is_some_and(|there| there.kind == it.kind);
    match step {
        Step::AddController(it) => controller(it),
        Step::RemoveController(it) => !controller(it),
        Step::Plug(at, it) => device(*at, it),
        Step::Unplug(at, it) => !device(*at, it),
    }
}

/// Whether the item of the step is as the step leaves it: exactly the added item, or none at all.
fn leaves(step: &Step, hardware: &Hardware) -> bool {
    match step {
        Step::AddController(_) | Step::Plug(..) => is_done(step, hardware),
        Step::RemoveController(it) => hardware.controller(it.index).is_none(),
        Step::Unplug(address, _) => hardware.device(*address).is_none(),
    }
}

/// How many of the steps, from the first on, are in effect. `None` if no number fits, because
/// another tool changed the same items.
///
/// K fits if each item is as the last of the first K steps that concerns it left it. An item that
/// none of these steps concerns must be as it was before the first of the other steps.
pub(crate) fn in_effect(steps: &[Step], hardware: &Hardware) -> Option<usize> {
    (0..=steps.len()).rev().find(|count| {
        let (taken, open) = steps.split_at(*count);
        let mut seen = BTreeSet::new();
        let mut last = taken.iter().rev().filter(|step| seen.insert(key(step)));
        let as_left = last.all(|step| leaves(step, hardware));
        let mut first = open.iter().filter(|step| seen.insert(key(step)));
        as_left && first.all(|step| leaves(&step.undo(), hardware))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vusb_model::capabilities::Capabilities;
    use vusb_model::diff::diff;
    use vusb_model::resolve::resolve;
    use vusb_model::spec::{DeviceSpec, Spec};

    fn hardware(devices: &[&str]) -> Hardware {
        let devices = devices.iter().map(|text| DeviceSpec::new(text.parse().unwrap()));
        let spec = Spec { devices: devices.collect(), ..Spec::default() };
        resolve(&Hardware::new(), &spec, &Capabilities::everything()).unwrap().hardware
    }

    #[test]
    fn progress_is_recognized_after_each_step() {
        // In the first case, one hub replaces another at the same address: two steps concern one
        // item.
        let from = hardware(&["hub", "tablet"]);
        for to in [hardware(&["hub:ports=4", "mouse"]), hardware(&[]), hardware(&["storage:a"])] {
            let steps = diff(&from, &to);
            let mut now = from.clone();
            assert_eq!(in_effect(&steps, &now), Some(0));
            for (number, step) in steps.iter().enumerate() {
                step.apply(&mut now).unwrap();
                assert_eq!(in_effect(&steps, &now), Some(number + 1));
            }
        }
    }

    #[test]
    fn changes_by_another_tool_are_recognized() {
        let steps = diff(&hardware(&["hub", "tablet"]), &hardware(&["mouse", "tablet"]));
        assert_eq!(in_effect(&steps, &hardware(&["keyboard", "tablet"])), None);
    }
}
