//! The result of a call that changes a domain.

use std::fmt;

use serde::{Deserialize, Serialize};
use vusb_model::address::{Address, Index};
use vusb_model::diff::Step;
use vusb_model::hardware::Hardware;
use vusb_model::name::Name;
use vusb_model::selector::BusId;

use crate::error::ExitCode;
use crate::note::{self, Note};
use crate::step;
use crate::view::api::API;
use crate::view::error::ErrorView;
use crate::view::plan::PlannedController;

/// What was done, or would be done in a dry run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The version of the JSON layout.
    pub api: u32,
    /// The domain's name, or its address if it has none. Empty for a guest without a name that is
    /// yet to be started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Whether the request was already fulfilled.
    pub already: bool,
    /// Whether this is a dry run.
    pub dry_run: bool,
    /// The item that was requested; `None` if several were, or none in particular.
    #[serde(flatten)]
    pub chosen: Option<Chosen>,
    /// The devices of a request for several devices, in its order; empty for every other request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceOutcome>,
    /// The controllers that were added because a device needed them.
    pub added_controllers: Vec<Name>,
    /// The steps that were taken, or would be, in order.
    #[serde(with = "step::with_text")]
    pub steps: Vec<Step>,
    /// The recorded devices that could not be restored. A device that is merely not plugged in has
    /// a note instead, unless it is required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_restored: Vec<NotRestored>,
    /// The ports of the devices that had been detached by hand and that a daemon held back because
    /// of that. Rules and records apply to them again. In a dry run, those that it would no longer
    /// hold back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lifted_holds: Vec<BusId>,
    /// What else the caller should know.
    #[serde(with = "note::with_text")]
    pub notes: Vec<Note>,
    /// The hardware afterwards, as it is recorded.
    pub hardware: Hardware,
}

impl Outcome {
    /// An outcome of no steps.
    pub(crate) fn new(domain: String, hardware: Hardware) -> Outcome {
        Outcome {
            api: API,
            domain,
            already: false,
            dry_run: false,
            chosen: None,
            devices: Vec::new(),
            added_controllers: Vec::new(),
            steps: Vec::new(),
            not_restored: Vec::new(),
            lifted_holds: Vec::new(),
            notes: Vec::new(),
            hardware,
        }
    }
}

impl Outcome {
    /// The kind of the result: [`ExitCode::Done`], or what keeps recorded devices from being
    /// restored.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::of_all(self.not_restored.iter().map(|it| it.error.kind))
    }
}

/// A recorded device that could not be restored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotRestored {
    /// Its name.
    pub name: Name,
    /// The location that is kept for it: `hci0:1`.
    pub at: String,
    /// Why.
    pub error: ErrorView,
}

/// The controller or device that a request was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// Its name.
    pub name: Name,
    /// Its location: `hci0` for a controller, `hci0:1` for a device. What an add prints.
    #[serde(rename = "at")]
    pub location: String,
    /// The controller's index.
    pub bus: Index,
    /// The device's port; `None` for a controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<vusb_model::address::PortPath>,
}

/// What became of one device of a request for several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceOutcome {
    /// The device.
    #[serde(flatten)]
    pub chosen: Chosen,
    /// Whether the request for it was already fulfilled.
    pub already: bool,
}

impl Outcome {
    /// The outcome of a request that also made a daemon lift the holds on the devices at these
    /// ports.
    #[must_use]
    pub fn with_lifted_holds(self, ports: Vec<BusId>) -> Outcome {
        Outcome { already: self.already && ports.is_empty(), lifted_holds: ports, ..self }
    }

    /// The outcome of a request for these devices.
    pub(crate) fn of_devices(self, mut devices: Vec<DeviceOutcome>) -> Outcome {
        let already = devices.iter().all(|it| it.already);
        if devices.len() > 1 {
            return Outcome { already, devices, ..self };
        }
        let chosen = devices.pop().map(|it| it.chosen);
        Outcome { already, chosen, ..self }
    }
}

impl Chosen {
    /// A controller of `hardware`; `None` if there is no such controller.
    pub(crate) fn controller(hardware: &Hardware, index: Index) -> Option<Chosen> {
        let name = hardware.controller(index)?.name.clone();
        Some(Chosen { location: name.to_string(), name, bus: index, port: None })
    }

    /// A device of `hardware`; `None` if there is no such device.
    pub(crate) fn device(hardware: &Hardware, address: Address) -> Option<Chosen> {
        let name = hardware.device(address)?.name.clone();
        let location = hardware.location(address);
        Some(Chosen { name, location, bus: address.bus, port: Some(address.port) })
    }

    /// Its address; `None` for a controller.
    pub fn address(&self) -> Option<Address> {
        Some(Address { bus: self.bus, port: self.port? })
    }
}

impl fmt::Display for Chosen {
    /// Its location.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location)
    }
}

/// The outcome of applying a spec or planning a start, with all resulting controllers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What was done, or would be.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Whether it is for a guest that is yet to be started.
    pub fresh: bool,
    /// The hardware afterwards, with what each model implies.
    pub controllers: Vec<PlannedController>,
}

impl Plan {
    pub(crate) fn new(outcome: Outcome, fresh: bool) -> Plan {
        let controllers = outcome.hardware.controllers().map(PlannedController::from).collect();
        Plan { outcome, fresh, controllers }
    }
}

impl std::ops::Deref for Plan {
    type Target = Outcome;

    fn deref(&self) -> &Outcome {
        &self.outcome
    }
}
