//! A parsed text with the hardware that results from it, and the edits that change that hardware.

use std::collections::BTreeSet;

use vusb_formats::Format;
use vusb_formats::config::{Config, Edit, Inexpressible};
use vusb_model::address::{Address, Index};
use vusb_model::diff::Step;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::resolve::Resolved;

use super::compare::same_device;

/// A text, what it specifies, and the hardware that results.
///
/// Items of the hardware that the text does not mention are called automatic: the format's tool
/// adds them.
pub(super) struct Parsed {
    pub(super) text: String,
    pub(super) config: Config,
    pub(super) resolved: Resolved,
    /// The devices that the spec does not have: those of arguments that bypass the format's tool.
    pub(super) bypassing: BTreeSet<Address>,
}

/// How much of the existing hardware an edit specifies besides the requested steps. Each level
/// includes those before it.
#[derive(Clone, Copy)]
pub(super) enum Explicit {
    /// Automatic controllers and hubs.
    Automatic,
    /// The addresses of what would move otherwise.
    Moved,
    /// The addresses of everything.
    Everything,
    /// A statement that the guest has no USB, if no controller is wanted.
    NoUsb,
}

impl Explicit {
    /// All of them, in the order in which they are tried.
    pub(super) const ALL: [Explicit; 4] =
        [Explicit::Automatic, Explicit::Moved, Explicit::Everything, Explicit::NoUsb];
}

impl Parsed {
    /// The edits for these steps, if one of them moves a device: its new address is written into
    /// its item, and nothing else of the item changes. `None` if no device moves.
    pub(super) fn moving_edits<'a>(&self, steps: &'a [Step]) -> Option<Vec<Edit<'a>>> {
        let target = |device: &Device| {
            steps.iter().find_map(|step| match step {
                Step::Plug(at, it) if it.name == device.name && it.kind == device.kind => Some(*at),
                _ => None,
            })
        };
        let moves = steps.iter().filter_map(|step| match step {
            Step::Unplug(from, device) => Some((*from, target(device)?, self.device_at(*from)?)),
            _ => None,
        });
        let moves: Vec<(Address, Address, usize)> = moves.collect();
        let stays = |step: &&Step| match step {
            Step::Unplug(at, _) => moves.iter().all(|(from, ..)| from != at),
            Step::Plug(at, _) => moves.iter().all(|(_, to, _)| to != at),
            _ => true,
        };
        let rest =
            steps.iter().filter(stays).flat_map(|step| self.edits(std::slice::from_ref(step)));
        let pins = moves.iter().map(|(_, to, number)| Edit::PinDevice(*number, *to));
        (!moves.is_empty()).then(|| rest.chain(pins).collect())
    }

    /// The edits for these steps. The removal of an automatic item needs none: its tool has to
    /// leave it out.
    pub(super) fn edits<'a>(&self, steps: &'a [Step]) -> Vec<Edit<'a>> {
        let mut edits = Vec::new();
        for step in steps {
            match step {
                Step::AddController(controller) => edits.push(Edit::AddController(controller)),
                Step::Plug(at, device) => edits.push(Edit::AddDevice(*at, device)),
                Step::RemoveController(controller) => {
                    let numbers = self.controllers_at(controller.index);
                    edits.extend(numbers.map(Edit::RemoveController));
                }
                Step::Unplug(at, _) => edits.extend(self.device_at(*at).map(Edit::RemoveDevice)),
            }
        }
        edits
    }

    /// Edits that specify existing hardware. `result` is what the text would mean without them.
    pub(super) fn explicit<'a>(
        &self,
        explicit: Explicit,
        result: &Hardware,
        wanted: &'a Hardware,
    ) -> Vec<Edit<'a>> {
        let mut edits = self.automatic(wanted);
        match explicit {
            Explicit::Automatic => {}
            Explicit::Moved => edits.extend(self.pins(result, wanted)),
            Explicit::Everything | Explicit::NoUsb => {
                edits.extend(self.pins(&Hardware::new(), wanted));
            }
        }
        let nothing = wanted.controllers().len() == 0;
        if nothing && matches!(explicit, Explicit::NoUsb) {
            edits.push(Edit::NoUsb);
        }
        edits
    }

    /// Edits that write out the automatic controllers and devices that are still wanted.
    fn automatic<'a>(&self, wanted: &'a Hardware) -> Vec<Edit<'a>> {
        let before = &self.resolved.hardware;
        let controllers = wanted.controllers().filter(|controller| {
            let index = controller.index;
            before.controller(index).is_some() && self.controllers_at(index).next().is_none()
        });
        let devices = wanted
            .devices()
            .filter(|(at, _)| before.device(*at).is_some() && self.device_at(*at).is_none())
            .filter(|(at, _)| !self.bypassing.contains(at));
        let devices = devices.map(|(at, device)| Edit::AddDevice(at, device));
        controllers.map(Edit::AddController).chain(devices).collect()
    }

    /// Edits that write out the items that the text mentions, but that differ between `result` and
    /// `wanted`.
    fn pins<'a>(&self, result: &Hardware, wanted: &'a Hardware) -> Vec<Edit<'a>> {
        let controllers = wanted.controllers().filter(|controller| {
            let found = result.controller(controller.index);
            !found.is_some_and(|found| found.same_hardware(controller))
        });
        let controllers = controllers.flat_map(|controller| {
            let numbers = self.controllers_at(controller.index);
            numbers.map(move |number| Edit::PinController(number, controller))
        });
        let devices = wanted.devices().filter(|(at, device)| {
            result.device(*at).is_none_or(|found| !same_device(&found.kind, &device.kind))
        });
        let devices = devices.filter_map(|(at, _)| Some(Edit::PinDevice(self.device_at(at)?, at)));
        controllers.chain(devices).collect()
    }

    /// The first automatic device whose removal is requested, but that `result` still has.
    pub(super) fn automatic_removal(
        &self,
        steps: &[Step],
        result: &Hardware,
    ) -> Option<Inexpressible> {
        steps.iter().find_map(|step| match step {
            Step::Unplug(at, device) if self.device_at(*at).is_none() => {
                result.device(*at).filter(|remaining| remaining.kind == device.kind)?;
                let why = if self.bypassing.contains(at) {
                    "it is one of the arguments that bypass the format's tool; remove it by hand"
                } else {
                    "the file does not mention it: the format's tool adds it, because there are more devices than ports"
                };
                let what = format!("removing {}", device.name);
                Some(Inexpressible { what, why: why.into() })
            }
            _ => None,
        })
    }

    /// The `wanted` hardware without automatic hubs that have nothing behind them, and without the
    /// controllers that the format's tool only has while they have devices.
    pub(super) fn without_idle(&self, wanted: &Hardware, format: &Format) -> Hardware {
        let mut hardware = wanted.clone();
        let automatic = |(at, device): &(Address, &Device)| {
            device.kind.hub_ports() > 0
                && self.device_at(*at).is_none()
                && !self.bypassing.contains(at)
        };
        let hubs: Vec<Address> = wanted.devices().filter(automatic).map(|(at, _)| at).collect();
        // Devices are in the order of their ports: a hub precedes the hubs behind it.
        for hub in hubs.into_iter().rev() {
            let behind =
                |(at, _): (Address, _)| at.bus == hub.bus && at.port.parent() == Some(hub.port);
            if !hardware.devices().any(behind) {
                hardware.unplug(hub);
            }
        }
        let is_idle =
            |it: &&Controller| it.devices().next().is_none() && format.comes_with_devices(it);
        let idle: Vec<Index> = wanted.controllers().filter(is_idle).map(|it| it.index).collect();
        for index in idle {
            hardware.remove_controller(index);
        }
        hardware
    }

    /// The numbers of the text's items that form the controller at `index`. There are several if
    /// the format has companions as items.
    fn controllers_at(&self, index: Index) -> impl Iterator<Item = usize> + '_ {
        let all = self.resolved.controllers.iter().enumerate();
        all.filter(move |(_, placed)| placed.address == index).map(|(number, _)| number)
    }

    /// The number of the item in the text that is the device at an address.
    fn device_at(&self, at: Address) -> Option<usize> {
        self.resolved.devices.iter().position(|placed| placed.address == at)
    }

    /// Notes about the text, for the user.
    pub(super) fn notes(&self) -> Vec<String> {
        let warnings = self.config.warnings.iter().map(|warning| warning.brief().to_owned());
        let remarks = self.config.devices.iter().zip(&self.resolved.devices);
        let remarks = remarks.filter(|(source, _)| !source.remarks.is_empty());
        let remarks = remarks.filter_map(|(source, placed)| {
            let name = &self.resolved.hardware.device(placed.address)?.name;
            Some(format!("{name}: {}", source.remarks.join("; ")))
        });
        warnings.chain(remarks).collect()
    }
}
