//! What a domain has and what it should have, as one hardware.
//!
//! ```text
//!   observed ───────────────┐
//!   recorded, vusb's own,   ├─▶ base: new things are placed around all of it
//!   and not observed ───────┘         (what is missing keeps its place and its name)
//! ```
//!
//! What is observed wins. A missing thing whose index or name somebody else took meanwhile gets another (the guest sees
//! neither); one whose port was taken is forgotten, and a note says so. What others made and took away is forgotten too,
//! unless something of vusb's own was plugged into it.
//!
//! What the guest has is vusb's own if the driver says so, and never for being like something that is recorded: after a restart
//! it may be another tool's.

use std::collections::{BTreeMap, BTreeSet};

use vusb_model::address::{Address, Index};
use vusb_model::hardware::{Controller, Device, Hardware, Item};
use vusb_model::models::ControllerType;
use vusb_model::name::Name;

/// Observed and missing things together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base {
    /// All of them.
    pub(crate) hardware: Hardware,
    /// Which of them the guest does not have.
    pub(crate) missing: Missing,
    /// Which of them are vusb's own: what the driver says of those that are there, and the record of those that are missing.
    pub(crate) managed: BTreeSet<Name>,
    /// What each recorded thing is called now.
    pub(crate) called: BTreeMap<Name, Name>,
    /// What became of missing things that could not keep their places.
    pub(crate) notes: Vec<String>,
}

/// Things that are recorded and that the guest does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) controllers: BTreeSet<Index>,
    pub(crate) devices: BTreeSet<Address>,
}

impl Missing {
    /// `hardware` without what is missing.
    pub(crate) fn taken_from(&self, hardware: &Hardware) -> Hardware {
        let mut rest = hardware.clone();
        for address in self.devices.iter().rev() {
            rest.unplug(*address);
        }
        for index in &self.controllers {
            rest.remove_controller(*index);
        }
        rest
    }

    /// The device at `address` is wanted: it, the hubs on the way to it and its controller are missing no more.
    pub(crate) fn want(&mut self, address: Address) {
        self.controllers.remove(&address.bus);
        for port in std::iter::successors(Some(address.port), |port| port.parent()) {
            self.devices.remove(&Address { bus: address.bus, port });
        }
    }

    /// Leaves out what `hardware` does not have.
    pub(crate) fn keep_to(&mut self, hardware: &Hardware) {
        self.controllers.retain(|index| hardware.controller(*index).is_some());
        self.devices.retain(|address| hardware.device(*address).is_some());
    }
}

/// Puts what is `recorded`, `managed` and not observed beside what is observed. `ours` is what of the observed is vusb's own.
pub(crate) fn merge(
    observed: &Hardware,
    ours: &BTreeSet<Name>,
    recorded: &Hardware,
    managed: &BTreeSet<Name>,
) -> Base {
    let managed_now = only_named(ours, observed);
    let mut base = Base { hardware: observed.clone(), managed: managed_now, ..Base::default() };
    for controller in recorded.controllers() {
        let there =
            observed.controller(controller.index).filter(|there| there.same_hardware(controller));
        if let Some(there) = there {
            if there.pci.is_none() {
                base.hardware.set_pci(controller.index, controller.pci.clone());
            }
            base.recognize(managed, &controller.name, &there.name);
        }
        let lost = base.devices_of(controller, there, managed);
        let bus = match there {
            Some(there) => Some(there.index),
            None if lost.is_empty() && !managed.contains(&controller.name) => None,
            None => base.add_missing(controller, managed),
        };
        if let Some(bus) = bus {
            for (address, device) in lost {
                base.plug_missing(Address { bus, ..address }, device, managed);
            }
        }
    }
    base
}

impl Base {
    /// Whether something of the record that is vusb's own, if `managed` has it, is not what is there in its place, `new`: that is
    /// another tool's.
    fn is_replaced(&self, managed: &BTreeSet<Name>, old: &Name, new: &Name) -> bool {
        managed.contains(old) && !self.managed.contains(new)
    }

    /// Takes note that the controller that was recorded as `old` is there and called `new`. If it is another tool's now, it serves
    /// as well, and vusb's own is forgotten.
    fn recognize(&mut self, managed: &BTreeSet<Name>, old: &Name, new: &Name) {
        if self.is_replaced(managed, old, new) {
            self.notes.push(format!(
                "{new} is another tool's now: vusb's own of that place is forgotten"
            ));
        }
        self.called.insert(old.clone(), new.clone());
    }

    /// Takes note that what was recorded as `old` is missing, and called `new` now.
    fn miss(&mut self, managed: &BTreeSet<Name>, old: &Name, new: &Name) {
        if managed.contains(old) {
            self.managed.insert(new.clone());
        }
        self.called.insert(old.clone(), new.clone());
    }

    /// The devices of a recorded controller that are missing, and the hubs that they need; hubs first. What is there is noted.
    fn devices_of(
        &mut self,
        recorded: &Controller,
        there: Option<&Controller>,
        managed: &BTreeSet<Name>,
    ) -> Vec<(Address, Device)> {
        let mut lost = BTreeMap::new();
        for (port, device) in recorded.devices() {
            let now = there.and_then(|there| there.device(port));
            if let Some(now) = now.filter(|now| {
                now.kind == device.kind && !self.is_replaced(managed, &device.name, &now.name)
            }) {
                self.called.insert(device.name.clone(), now.name.clone());
                continue;
            }
            if !managed.contains(&device.name) {
                continue;
            }
            for port in std::iter::successors(Some(port), |port| port.parent()) {
                let on_the_way = there.and_then(|there| there.device(port)).is_some();
                if let Some(device) = recorded.device(port).filter(|_| !on_the_way) {
                    lost.insert(Address { bus: recorded.index, port }, device.clone());
                }
            }
            // What is in its place is in the way, and is found out when it is plugged in.
            lost.insert(Address { bus: recorded.index, port }, device.clone());
        }
        lost.into_iter().collect()
    }

    /// Adds a missing controller, under another index or name, or without a PCI address, if its own are taken.
    fn add_missing(&mut self, controller: &Controller, managed: &BTreeSet<Name>) -> Option<Index> {
        let mut moved = controller.bare();
        if self.hardware.controller(moved.index).is_some() {
            moved.index = Index::all().find(|it| self.hardware.controller(*it).is_none())?;
        }
        let slot = |it: &Controller| it.pci.as_ref().map(|pci| (pci.bus.clone(), pci.slot));
        if self.hardware.controllers().any(|it| slot(it).is_some() && slot(it) == slot(&moved)) {
            moved.pci = None;
        }
        let stem = match moved.model.controller_type() {
            ControllerType::Emulated => "hci",
            ControllerType::Pv => "pv",
        };
        moved.name = self.free_name(&moved.name, stem)?;
        let (index, name) = (moved.index, moved.name.clone());
        if let Err(refusal) = self.hardware.add_controller(moved) {
            self.notes.push(format!("{} is forgotten: {refusal}", controller.name));
            return None;
        }
        if (index, &name) != (controller.index, &controller.name) {
            self.notes.push(format!(
                "{} is missing, and something else took its place: it is {name} at index {index} from now on",
                controller.name
            ));
        }
        self.miss(managed, &controller.name, &name);
        self.missing.controllers.insert(index);
        Some(index)
    }

    fn plug_missing(&mut self, address: Address, device: Device, managed: &BTreeSet<Name>) {
        let old = device.name.clone();
        let Some(name) = self.free_name(&old, device.kind.word()) else {
            return;
        };
        match self.hardware.plug(address, Device { name: name.clone(), ..device }) {
            Ok(()) => {
                self.miss(managed, &old, &name);
                self.missing.devices.insert(address);
            }
            Err(refusal) => {
                self.notes.push(format!("{old} is missing, and is forgotten: {refusal}"));
            }
        }
    }

    /// `name` if it is free, else `stem` with the lowest number that makes a free one.
    fn free_name(&self, name: &Name, stem: &str) -> Option<Name> {
        let free = |name: &Name| self.hardware.named(name).is_none();
        if free(name) {
            return Some(name.clone());
        }
        (0..=u32::MAX).filter_map(|it| format!("{stem}{it}").parse().ok()).find(free)
    }
}

/// The names of everything in `hardware`.
pub(crate) fn names(hardware: &Hardware) -> impl Iterator<Item = &Name> {
    let devices = hardware.devices().map(|(_, device)| &device.name);
    hardware.controllers().map(|controller| &controller.name).chain(devices)
}

/// `owned` without the names that nothing in `hardware` has.
pub(crate) fn only_named(owned: &BTreeSet<Name>, hardware: &Hardware) -> BTreeSet<Name> {
    owned.iter().filter(|name| hardware.named(name).is_some()).cloned().collect()
}

/// The address of the device called `name`.
pub(crate) fn device_named(hardware: &Hardware, name: &Name) -> Option<Address> {
    match hardware.named(name)? {
        Item::Device(address) => Some(address),
        Item::Controller(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vusb_model::capabilities::Capabilities;
    use vusb_model::hardware::PciAddress;
    use vusb_model::resolve::resolve;
    use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};

    fn hardware(controllers: &[ControllerSpec], devices: &[&str]) -> Hardware {
        let devices = devices.iter().map(|text| DeviceSpec::new(text.parse().unwrap())).collect();
        let spec = Spec { controllers: controllers.to_vec(), devices, ..Spec::default() };
        resolve(&Hardware::new(), &spec, &Capabilities::everything()).unwrap().hardware
    }

    fn all(hardware: &Hardware) -> BTreeSet<Name> {
        names(hardware).cloned().collect()
    }

    #[test]
    fn after_a_restart_everything_of_ours_is_missing() {
        let recorded = hardware(&[], &["hub", "tablet"]);
        let base = merge(&Hardware::new(), &BTreeSet::new(), &recorded, &all(&recorded));
        assert_eq!(base.hardware, recorded);
        assert_eq!(base.missing.taken_from(&base.hardware), Hardware::new());
        assert_eq!(base.managed, all(&recorded));
    }

    #[test]
    fn what_is_not_ours_is_forgotten_unless_something_of_ours_needs_it() {
        let recorded = hardware(&[], &["hub", "tablet"]);
        let none = merge(&Hardware::new(), &BTreeSet::new(), &recorded, &BTreeSet::new());
        assert_eq!(none.hardware, Hardware::new());
        let tablet = BTreeSet::from(["tablet0".parse().unwrap()]);
        let base = merge(&Hardware::new(), &BTreeSet::new(), &recorded, &tablet);
        assert_eq!((base.missing.controllers.len(), base.missing.devices.len()), (1, 1));
        assert_eq!(base.managed, tablet);
    }

    #[test]
    fn a_missing_controller_moves_when_its_index_is_taken() {
        let recorded = hardware(&[], &["tablet"]);
        let model = |text: &str| ControllerSpec { model: text.parse().ok(), ..Default::default() };
        let observed = hardware(&[model("piix3-uhci")], &[]);
        let base = merge(&observed, &BTreeSet::new(), &recorded, &all(&recorded));
        assert_eq!(base.hardware.controllers().len(), 2);
        assert_eq!(base.notes.len(), 1, "{:?}", base.notes);
        let tablet = device_named(&base.hardware, &"tablet0".parse().unwrap()).unwrap();
        assert_eq!(base.hardware.place(tablet), "hci1:1");
        assert!(!base.managed.contains(&"hci0".parse().unwrap()), "that one is somebody else's");
    }

    #[test]
    fn a_missing_device_whose_port_is_taken_is_forgotten_and_said() {
        let base = merge(
            &hardware(&[], &["mouse"]),
            &BTreeSet::new(),
            &hardware(&[], &["tablet"]),
            &BTreeSet::from(["tablet0".parse().unwrap()]),
        );
        assert_eq!(base.hardware.devices().count(), 1);
        assert!(base.notes[0].contains("tablet0 is missing, and is forgotten"), "{:?}", base.notes);
    }

    #[test]
    fn what_is_like_ours_and_is_not_ours_is_another_tools() {
        let there = hardware(&[], &["tablet"]);
        let none = merge(&there, &BTreeSet::new(), &there, &all(&there));
        assert_eq!((&none.hardware, none.managed.len()), (&there, 0));
        assert_eq!(none.notes.len(), 2, "{:?}", none.notes);
        let both = merge(&there, &all(&there), &there, &all(&there));
        assert_eq!((both.managed, both.notes.len()), (all(&there), 0));
    }

    #[test]
    fn a_pci_address_that_was_learnt_is_kept_where_the_hypervisor_does_not_say() {
        let observed = hardware(&[], &["tablet"]);
        let mut recorded = observed.clone();
        let pci = PciAddress { bus: "pci.0".to_owned(), slot: 4, function: 0 };
        recorded.set_pci(Index::ZERO, Some(pci.clone()));
        let base = merge(&observed, &BTreeSet::new(), &recorded, &BTreeSet::new());
        assert_eq!(base.hardware.controller(Index::ZERO).and_then(|it| it.pci.clone()), Some(pci));
        assert_eq!(base.missing, Missing::default());
    }
}
