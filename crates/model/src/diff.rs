//! From one hardware to another: the steps, each with its undo.
//!
//! What goes is taken away first, deepest first; then controllers come, those with a PCI address first, and then devices, hubs
//! before what is behind them.
//! Between any two steps the hardware is sound, so a change that stops halfway leaves a guest that can be described.

use std::fmt;

use crate::address::Address;
use crate::hardware::{Controller, Device, Hardware};
use crate::refusal::Refusal;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add this controller. Nothing is on it.
    AddController(Controller),
    /// Remove this controller. Nothing is on it.
    RemoveController(Controller),
    /// Plug this device in.
    Plug(Address, Device),
    /// Pull this device out. Nothing is behind it.
    Unplug(Address, Device),
}

impl Step {
    /// The step that takes this one back.
    pub fn undo(&self) -> Step {
        match self.clone() {
            Step::AddController(controller) => Step::RemoveController(controller),
            Step::RemoveController(controller) => Step::AddController(controller),
            Step::Plug(address, device) => Step::Unplug(address, device),
            Step::Unplug(address, device) => Step::Plug(address, device),
        }
    }

    /// Takes the step on a model.
    ///
    /// # Errors
    /// The step does not fit the hardware. Nothing is changed then.
    pub fn apply(&self, hardware: &mut Hardware) -> Result<(), Refusal> {
        match self {
            Step::AddController(controller) => hardware.add_controller(controller.bare()),
            Step::RemoveController(controller) => {
                if let Some(there) =
                    hardware.controller(controller.index).filter(|there| there.devices().len() > 0)
                {
                    let devices: Vec<&str> =
                        there.devices().map(|(_, device)| device.name.as_str()).collect();
                    return Err(Refusal::NotEmpty {
                        controller: there.name.clone(),
                        devices: devices.join(", "),
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
    /// `add controller hci0 (qemu-xhci, 15 ports)`, `plug storage:stick.img into 0:1`.
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

/// The steps that make `to` of `from`. A name that differs is no step: the guest does not see it. A PCI address that is not
/// known on either side fits.
pub fn diff(from: &Hardware, to: &Hardware) -> Vec<Step> {
    let mut unplug = Vec::new();
    let mut remove = Vec::new();
    for old in from.controllers() {
        let new = to.controller(old.index).filter(|new| old.same_hardware(new));
        unplug.extend(gone(old, new));
        if new.is_none() {
            remove.push(Step::RemoveController(old.bare()));
        }
    }
    let mut add = Vec::new();
    let mut plug = Vec::new();
    for new in to.controllers() {
        let old = from.controller(new.index).filter(|old| old.same_hardware(new));
        if old.is_none() {
            add.push(Step::AddController(new.bare()));
        }
        // What comes is what would go in the opposite direction.
        plug.extend(gone(new, old).into_iter().rev().map(|step| step.undo()));
    }
    // Before the hypervisor chooses a place for one, those that have theirs take it.
    add.sort_by_key(|step| !matches!(step, Step::AddController(it) if it.pci.is_some()));
    [unplug, remove, add, plug].concat()
}

/// The devices of `old` that `new` does not have, deepest first. What is behind a hub that goes, goes with it.
fn gone(old: &Controller, new: Option<&Controller>) -> Vec<Step> {
    let stays = |(port, device): (crate::address::PortPath, &Device)| {
        let mut on_the_way = std::iter::successors(port.parent(), |hub| hub.parent());
        let same = |port| {
            let there = new.and_then(|new| new.device(port)).map(|device| &device.kind);
            there.is_some() && there == old.device(port).map(|device| &device.kind)
        };
        new.and_then(|new| new.device(port)).is_some_and(|there| there.kind == device.kind)
            && on_the_way.all(same)
    };
    let mut steps: Vec<Step> = old
        .devices()
        .filter(|entry| !stays(*entry))
        .map(|(port, device)| Step::Unplug(Address { bus: old.index, port }, device.clone()))
        .collect();
    steps.reverse();
    steps
}
