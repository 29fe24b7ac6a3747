//! The steps from one hardware to another, each with its undo.
//!
//! Removals come first, deepest first; then controllers are added, those with a PCI address first,
//! and then devices, hubs before the devices behind them. The hardware is valid between any two
//! steps, so a change that stops halfway leaves a guest that can be described.

use std::fmt;

use crate::address::Address;
use crate::hardware::{Controller, Device, Hardware};
use crate::list::few;
use crate::refusal::Refusal;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add this controller, without devices.
    AddController(Controller),
    /// Remove this controller, which has no devices.
    RemoveController(Controller),
    /// Plug this device in.
    Plug(Address, Device),
    /// Unplug this device, which has no devices behind it.
    Unplug(Address, Device),
}

impl Step {
    /// The step that undoes this one.
    pub fn undo(&self) -> Step {
        match self.clone() {
            Step::AddController(controller) => Step::RemoveController(controller),
            Step::RemoveController(controller) => Step::AddController(controller),
            Step::Plug(address, device) => Step::Unplug(address, device),
            Step::Unplug(address, device) => Step::Plug(address, device),
        }
    }

    /// Applies the step to `hardware`.
    ///
    /// # Errors
    /// The step is not possible on this hardware. Nothing is changed then.
    pub fn apply(&self, hardware: &mut Hardware) -> Result<(), Refusal> {
        match self {
            Step::AddController(controller) => {
                hardware.add_controller(controller.without_devices())
            }
            Step::RemoveController(controller) => {
                if let Some(occupied) =
                    hardware.controller(controller.index).filter(|it| it.devices().len() > 0)
                {
                    let devices: Vec<&str> =
                        occupied.devices().map(|(_, device)| device.name.as_str()).collect();
                    return Err(Refusal::NotEmpty {
                        controller: occupied.name.clone(),
                        devices: few(&devices),
                    });
                }
                hardware.remove_controller(controller.index);
                Ok(())
            }
            Step::Plug(address, device) => hardware.plug(*address, device.clone()),
            Step::Unplug(address, _) => {
                hardware.unplug(*address);
                Ok(())
            }
        }
    }
}

impl fmt::Display for Step {
    /// `add controller hci0 (qemu-xhci, 15 ports, index 0)`, `plug tablet0 (tablet) into 0:1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let controller = |f: &mut fmt::Formatter<'_>, verb, c: &Controller| {
            write!(
                f,
                "{verb} controller {} ({}, {} ports, index {})",
                c.name,
                c.model,
                c.ports.count(),
                c.index
            )
        };
        match self {
            Step::AddController(it) => controller(f, "add", it),
            Step::RemoveController(it) => controller(f, "remove", it),
            Step::Plug(address, device) => {
                write!(f, "plug {} ({}) into {address}", device.name, device.kind)
            }
            Step::Unplug(address, device) => {
                write!(f, "unplug {} ({}) from {address}", device.name, device.kind)
            }
        }
    }
}

/// The steps that turn `from` into `to`. A different name is not a step, because the guest does not
/// see it. An unknown PCI address matches any.
pub fn diff(from: &Hardware, to: &Hardware) -> Vec<Step> {
    let mut unplug = Vec::new();
    let mut remove = Vec::new();
    for old in from.controllers() {
        let new = to.controller(old.index).filter(|new| old.same_hardware(new));
        unplug.extend(removals(old, new));
        if new.is_none() {
            remove.push(Step::RemoveController(old.without_devices()));
        }
    }
    let mut add = Vec::new();
    let mut plug = Vec::new();
    for new in to.controllers() {
        let old = from.controller(new.index).filter(|old| old.same_hardware(new));
        if old.is_none() {
            add.push(Step::AddController(new.without_devices()));
        }
        // The devices to plug in are those that the opposite change would unplug.
        plug.extend(removals(new, old).into_iter().rev().map(|step| step.undo()));
    }
    // Those with a PCI address take it before the hypervisor chooses addresses for the others.
    add.sort_by_key(|step| !matches!(step, Step::AddController(it) if it.pci.is_some()));
    [unplug, remove, add, plug].concat()
}

/// The unplug steps for the devices of `old` that `new` does not have, deepest first. All devices
/// behind a removed hub are removed with it.
fn removals(old: &Controller, new: Option<&Controller>) -> Vec<Step> {
    let is_kept = |(port, device): (crate::address::PortPath, &Device)| {
        let mut hubs = std::iter::successors(port.parent(), |hub| hub.parent());
        let hub_is_kept = |port| {
            let kept = new.and_then(|new| new.device(port)).map(|device| &device.kind);
            kept.is_some() && kept == old.device(port).map(|device| &device.kind)
        };
        new.and_then(|new| new.device(port)).is_some_and(|kept| kept.kind == device.kind)
            && hubs.all(hub_is_kept)
    };
    let mut steps: Vec<Step> = old
        .devices()
        .filter(|entry| !is_kept(*entry))
        .map(|(port, device)| Step::Unplug(Address { bus: old.index, port }, device.clone()))
        .collect();
    steps.reverse();
    steps
}
