//! A change that has been begun: saved before its first step, so that a command that is killed leaves a trace.
//!
//! ```text
//!              save intent                 all steps taken, observed
//!   settled ───────────────▶ going forward ─────────────────────────▶ settled (the new hardware)
//!                                │
//!                                │ a step failed: saved as going back
//!                                ▼
//!                            going back ────────────────────────────▶ settled (the old hardware)
//!
//!   killed at any moment: the next command observes, finds out how many of the steps are in effect, and goes on in the
//!   same direction. When going forward fails, it goes back.
//! ```
//!
//! Steps are taken one after the other, so what is in effect is a number: the first K of them ([`in_effect`]).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use vusb_model::address::{Address, Index};
use vusb_model::diff::Step;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::name::Name;

/// A change that has been begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// What is to be recorded when all is done.
    pub(crate) target: Hardware,
    /// What is vusb's own then.
    pub(crate) managed: BTreeSet<Name>,
    /// The steps, in their order.
    pub(crate) steps: Vec<Stored>,
    /// Whether a step failed, so that all are being taken back.
    #[serde(default)]
    pub(crate) back: bool,
}

impl Pending {
    /// The steps.
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.steps.iter().filter_map(Stored::step).collect()
    }
}

/// A step, as it is stored. A controller is stored as the hardware that has it alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum Stored {
    AddController { controller: Hardware },
    RemoveController { controller: Hardware },
    Plug { address: Address, device: Device },
    Unplug { address: Address, device: Device },
}

impl Stored {
    fn step(&self) -> Option<Step> {
        let only = |hardware: &Hardware| hardware.controllers().next().cloned();
        Some(match self {
            Stored::AddController { controller } => Step::AddController(only(controller)?),
            Stored::RemoveController { controller } => Step::RemoveController(only(controller)?),
            Stored::Plug { address, device } => Step::Plug(*address, device.clone()),
            Stored::Unplug { address, device } => Step::Unplug(*address, device.clone()),
        })
    }
}

impl From<&Step> for Stored {
    fn from(step: &Step) -> Self {
        let alone = |controller: &Controller| {
            let mut hardware = Hardware::new();
            // A controller of a step comes from sound hardware; alone it cannot be in anything's way.
            let _ = hardware.add_controller(controller.bare());
            hardware
        };
        match step {
            Step::AddController(it) => Stored::AddController { controller: alone(it) },
            Step::RemoveController(it) => Stored::RemoveController { controller: alone(it) },
            Step::Plug(address, device) => {
                Stored::Plug { address: *address, device: device.clone() }
            }
            Step::Unplug(address, device) => {
                Stored::Unplug { address: *address, device: device.clone() }
            }
        }
    }
}

/// A place that a step changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Controller(Index),
    Device(Address),
}

/// The place that the step changes.
pub(crate) const fn place(step: &Step) -> Place {
    match step {
        Step::AddController(it) | Step::RemoveController(it) => Place::Controller(it.index),
        Step::Plug(address, _) | Step::Unplug(address, _) => Place::Device(*address),
    }
}

/// Whether the step's own effect is there: what it adds is, or what it removes is not.
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

/// Whether the step's place is exactly as the step leaves it: with what it adds, or with nothing.
fn leaves(step: &Step, hardware: &Hardware) -> bool {
    match step {
        Step::AddController(_) | Step::Plug(..) => is_done(step, hardware),
        Step::RemoveController(it) => hardware.controller(it.index).is_none(),
        Step::Unplug(address, _) => hardware.device(*address).is_none(),
    }
}

/// How many of the steps, from the first on, are in effect. `None` if no number fits: somebody else changed the same
/// places.
///
/// For each number, each place must be as the last step so far left it, or as it was before the first that is to come.
pub(crate) fn in_effect(steps: &[Step], hardware: &Hardware) -> Option<usize> {
    (0..=steps.len()).rev().find(|count| {
        let (taken, open) = steps.split_at(*count);
        let mut seen = BTreeSet::new();
        let mut last = taken.iter().rev().filter(|step| seen.insert(place(step)));
        let as_left = last.all(|step| leaves(step, hardware));
        let mut first = open.iter().filter(|step| seen.insert(place(step)));
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
    fn how_far_a_change_came_is_seen_after_each_step() {
        // The mouse behind the hub goes and comes back with another hub: the same place twice.
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
    fn what_somebody_else_changed_is_not_guessed_at() {
        let steps = diff(&hardware(&["hub", "tablet"]), &hardware(&["mouse", "tablet"]));
        assert_eq!(in_effect(&steps, &hardware(&["keyboard", "tablet"])), None);
    }

    #[test]
    fn steps_are_stored_and_read_back() {
        let steps = diff(&hardware(&["hub", "storage:a"]), &hardware(&["host:0781:5581", "net"]));
        let from_nothing = diff(&Hardware::new(), &hardware(&["tablet"]));
        for step in steps.iter().chain(&from_nothing) {
            let text = serde_json::to_string(&Stored::from(step)).unwrap();
            let back: Stored = serde_json::from_str(&text).unwrap();
            assert_eq!(back.step().as_ref(), Some(step), "{text}");
        }
    }
}
