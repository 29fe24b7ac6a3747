//! Steps as values that are stored and sent.

use std::fmt;

use serde::{Deserialize, Serialize};
use vusb_model::address::Address;
use vusb_model::diff::Step;
use vusb_model::hardware::{Controller, Device, Hardware};

/// A [`Step`] as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum StepView {
    /// Add a controller.
    AddController {
        /// The controller: hardware that contains it alone.
        controller: Hardware,
    },
    /// Remove a controller.
    RemoveController {
        /// The controller: hardware that contains it alone.
        controller: Hardware,
    },
    /// Attach a device.
    Plug {
        /// Its address.
        address: Address,
        /// The device.
        device: Device,
    },
    /// Detach a device.
    Unplug {
        /// Its address.
        address: Address,
        /// The device.
        device: Device,
    },
}

impl StepView {
    /// The step; `None` if the stored controller is missing.
    pub fn step(&self) -> Option<Step> {
        let only = |hardware: &Hardware| hardware.controllers().next().cloned();
        Some(match self {
            StepView::AddController { controller } => Step::AddController(only(controller)?),
            StepView::RemoveController { controller } => Step::RemoveController(only(controller)?),
            StepView::Plug { address, device } => Step::Plug(*address, device.clone()),
            StepView::Unplug { address, device } => Step::Unplug(*address, device.clone()),
        })
    }
}

impl From<&Step> for StepView {
    fn from(step: &Step) -> StepView {
        let alone = |controller: &Controller| {
            let mut hardware = Hardware::new();
            // The controller comes from valid hardware, and nothing else is here to conflict with.
            let _ = hardware.add_controller(controller.without_devices());
            hardware
        };
        match step {
            Step::AddController(it) => StepView::AddController { controller: alone(it) },
            Step::RemoveController(it) => StepView::RemoveController { controller: alone(it) },
            Step::Plug(address, device) => {
                StepView::Plug { address: *address, device: device.clone() }
            }
            Step::Unplug(address, device) => {
                StepView::Unplug { address: *address, device: device.clone() }
            }
        }
    }
}

/// A step with its sentence, as in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DescribedStep {
    /// The step.
    #[serde(flatten)]
    pub step: StepView,
    /// Its sentence: `plug stick (storage:stick.img) into 0:1`.
    pub text: String,
}

impl From<&Step> for DescribedStep {
    fn from(step: &Step) -> DescribedStep {
        DescribedStep { step: step.into(), text: step.to_string() }
    }
}

impl fmt::Display for StepView {
    /// As [`Step`]'s.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step() {
            Some(step) => write!(f, "{step}"),
            None => f.write_str("a step without its controller"),
        }
    }
}

/// Steps as JSON: the fields of each, and its sentence as `text`.
pub(crate) mod with_text {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};
    use vusb_model::diff::Step;

    use super::DescribedStep;

    pub(crate) fn serialize<S: Serializer>(steps: &[Step], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(steps.iter().map(DescribedStep::from))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Step>, D::Error> {
        let described = Vec::<DescribedStep>::deserialize(from)?;
        let step = |it: DescribedStep| {
            it.step.step().ok_or_else(|| D::Error::custom("a step lacks its controller"))
        };
        described.into_iter().map(step).collect()
    }
}

#[cfg(test)]
mod tests {
    use vusb_model::capabilities::Capabilities;
    use vusb_model::diff::diff;
    use vusb_model::resolve::resolve;
    use vusb_model::spec::{DeviceSpec, Spec};

    use super::*;

    fn hardware(devices: &[&str]) -> Hardware {
        let devices = devices.iter().map(|text| DeviceSpec::new(text.parse().unwrap()));
        let spec = Spec { devices: devices.collect(), ..Spec::default() };
        resolve(&Hardware::new(), &spec, &Capabilities::everything()).unwrap().hardware
    }

    #[test]
    fn steps_are_stored_and_read_back() {
        let steps = diff(&hardware(&["hub", "storage:a"]), &hardware(&["host:0781:5581", "net"]));
        let from_nothing = diff(&Hardware::new(), &hardware(&["tablet"]));
        for step in steps.iter().chain(&from_nothing) {
            let text = serde_json::to_string(&StepView::from(step)).unwrap();
            let back: StepView = serde_json::from_str(&text).unwrap();
            assert_eq!(back.step().as_ref(), Some(step), "{text}");
            assert_eq!(back.to_string(), step.to_string());
        }
    }
}
