//! A domain's items: its hardware, and what vusb knows about each controller and device.
//!
//! ```text
//!   observed ───────────────┐
//!   recorded, managed by    ├─▶ inventory: new items are placed around all of it
//!   vusb, and not observed ─┘              (missing items keep their address and name)
//! ```
//!
//! Observed items take precedence. A missing item whose index or name is in use gets another (the
//! guest sees neither); a missing device whose port is in use is dropped, with a note. Items that
//! other tools created and removed are dropped too, unless an item that vusb manages is plugged
//! into them.
//!
//! vusb manages an observed item if the driver recognizes it as created by vusb. Equality with a
//! recorded item is not enough: after a restart, another tool may have created it.

use std::collections::{BTreeMap, BTreeSet};

use vusb_model::address::{Address, Index};
use vusb_model::device::{HostRef, Kind};
use vusb_model::hardware::{Controller, Device, Hardware, Item};
use vusb_model::models::ControllerType;
use vusb_model::name::Name;

use crate::host_identity::HostIdentity;
use crate::note::Note;

/// Who created an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The hypervisor's command line, or another tool.
    #[default]
    Other,
    /// vusb, because a person requested it. Older records do not say who requested an item. Their
    /// items count as requested by a person, because it is worse to remove an item by mistake than
    /// to keep one.
    Hand,
    /// vusb, because an applied spec has it.
    Spec,
    /// vusb, because a device needed this controller, or because a rule attached this device.
    OnDemand,
}

impl Origin {
    /// Whether a person or a spec gave it, rather than a rule or a need.
    pub(crate) const fn is_given(self) -> bool {
        matches!(self, Origin::Hand | Origin::Spec)
    }

    /// Whether vusb manages the item.
    pub(crate) const fn is_managed(self) -> bool {
        !matches!(self, Origin::Other)
    }
}

/// What vusb knows about an item.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    pub(crate) origin: Origin,
    /// Whether it is recorded and the guest does not have it.
    pub(crate) missing: bool,
    /// Whether its absence is a failure.
    pub(crate) required: bool,
    /// For a host device, which one was given.
    pub(crate) identity: Option<HostIdentity>,
    /// The names of the claims on it: see [`crate::claim_files`].
    pub(crate) claims: BTreeSet<String>,
}

/// The key of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Controller(Index),
    Device(Address),
}

/// Hardware with the facts about each of its items.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Inventory {
    hardware: Hardware,
    facts: BTreeMap<Key, Facts>,
}

/// The facts about an item for which none are stored.
static NO_FACTS: Facts = Facts {
    origin: Origin::Other,
    missing: false,
    required: false,
    identity: None,
    claims: BTreeSet::new(),
};

impl Inventory {
    /// Hardware of other tools.
    pub(crate) fn new(hardware: Hardware) -> Inventory {
        Inventory { hardware, facts: BTreeMap::new() }
    }

    /// Hardware that vusb manages entirely.
    pub(crate) fn managed(hardware: Hardware) -> Inventory {
        let mut all = Inventory::new(hardware);
        let keys: Vec<Key> = all.keys().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| all.facts_mut(key).origin = Origin::Hand);
        all
    }

    /// All items, present and missing.
    pub(crate) const fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// The facts about an item.
    pub(crate) fn facts(&self, key: Key) -> &Facts {
        self.facts.get(&key).unwrap_or(&NO_FACTS)
    }

    /// The facts about an item, mutable.
    pub(crate) fn facts_mut(&mut self, key: Key) -> &mut Facts {
        self.facts.entry(key).or_default()
    }

    /// Every item with its name: controllers first, then devices, hubs before the devices behind
    /// them.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (Key, &Name)> {
        keys(&self.hardware)
    }

    /// The names of the items that vusb manages.
    pub(crate) fn managed_names(&self) -> impl Iterator<Item = &Name> {
        self.keys().filter(|(key, _)| self.is_managed(*key)).map(|(_, name)| name)
    }

    /// Whether vusb manages the item.
    pub(crate) fn is_managed(&self, key: Key) -> bool {
        self.facts(key).origin.is_managed()
    }

    /// Whether the item is recorded and missing in the guest.
    pub(crate) fn is_missing(&self, key: Key) -> bool {
        self.facts(key).missing
    }

    /// The key of the item with this name.
    pub(crate) fn named(&self, name: &Name) -> Option<Key> {
        self.hardware.named(name).map(|item| match item {
            Item::Controller(index) => Key::Controller(index),
            Item::Device(address) => Key::Device(address),
        })
    }

    /// The addresses of the missing devices.
    pub(crate) fn missing_devices(&self) -> Vec<Address> {
        let devices = self.hardware.devices().map(|(at, _)| at);
        devices.filter(|at| self.is_missing(Key::Device(*at))).collect()
    }

    /// The hardware without its missing items.
    pub(crate) fn present(&self) -> Hardware {
        let mut present = self.hardware.clone();
        for address in self.missing_devices().into_iter().rev() {
            present.unplug(address);
        }
        for controller in self.hardware.controllers() {
            if self.is_missing(Key::Controller(controller.index)) {
                present.remove_controller(controller.index);
            }
        }
        present
    }

    /// Requires the device at `address`: it, its hubs and its controller are no longer marked
    /// missing.
    pub(crate) fn require(&mut self, address: Address) {
        let hubs = std::iter::successors(Some(address.port), |port| port.parent());
        let devices = hubs.map(|port| Key::Device(Address { bus: address.bus, port }));
        for key in devices.chain([Key::Controller(address.bus)]) {
            if let Some(facts) = self.facts.get_mut(&key) {
                facts.missing = false;
            }
        }
    }

    /// Other hardware. Items that keep their address and name keep their facts. But a device that
    /// is now another one, or is requested in another way, loses its identity and its claims, and
    /// is no longer required.
    #[must_use]
    pub(crate) fn with_hardware(&self, hardware: Hardware) -> Inventory {
        let before: BTreeMap<Key, &Name> = self.keys().collect();
        let kept = keys(&hardware).filter(|(key, name)| before.get(key) == Some(name));
        let facts = kept.filter_map(|(key, _)| Some((key, self.facts.get(&key)?.clone())));
        let facts: BTreeMap<Key, Facts> = facts.collect();
        let mut all = Inventory { hardware, facts };
        for (key, facts) in &mut all.facts {
            let Key::Device(at) = *key else { continue };
            if all.hardware.device(at).map(|it| &it.kind)
                != self.hardware.device(at).map(|it| &it.kind)
            {
                facts.identity = None;
                facts.required = false;
                facts.claims.clear();
            }
        }
        all
    }

    /// Changes the hardware. Items that keep their address and name keep their facts.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Hardware)) {
        let mut hardware = self.hardware.clone();
        change(&mut hardware);
        *self = self.with_hardware(hardware);
    }

    /// The recorded identity of a host device.
    pub(crate) fn identity(&self, at: Address) -> Option<&HostIdentity> {
        self.facts(Key::Device(at)).identity.as_ref()
    }

    /// The host device at `at`.
    pub(crate) fn host_ref(&self, at: Address) -> Option<&HostRef> {
        match &self.hardware.device(at)?.kind {
            Kind::Host(host) => Some(host),
            _ => None,
        }
    }

    /// Every host device, with its address.
    pub(crate) fn host_refs(&self) -> impl Iterator<Item = (Address, &HostRef)> {
        self.hardware.devices().filter_map(|(at, device)| match &device.kind {
            Kind::Host(host) => Some((at, host)),
            _ => None,
        })
    }

    /// The names of all claims.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &String> {
        self.facts.values().flat_map(|facts| &facts.claims)
    }

    /// Takes over what `before` knows of host devices that have another address or name there:
    /// their identities and claims, and whether they are required.
    pub(crate) fn keep_identities(&mut self, before: &Inventory) {
        let mut kept = Vec::new();
        for (at, host) in self.host_refs().filter(|(at, _)| self.identity(*at).is_none()) {
            let old = before.host_refs().find(|(_, old)| *old == host);
            let old = old.map(|(old, _)| before.facts(Key::Device(old)));
            kept.extend(old.map(|old| (at, old.clone())));
        }
        for (at, old) in kept {
            let facts = self.facts_mut(Key::Device(at));
            (facts.identity, facts.claims) = (old.identity, old.claims);
            facts.required = old.required;
        }
    }

    /// The observed items, with the recorded items that vusb manages and that were not observed.
    /// `ours` names the observed items that vusb created.
    pub(crate) fn merge(
        observed: &Hardware,
        ours: &BTreeSet<Name>,
        recorded: &Inventory,
    ) -> (Inventory, Vec<Note>) {
        let mut merge = Merge { all: Inventory::new(observed.clone()), notes: Vec::new() };
        for (key, name) in keys(observed) {
            if ours.contains(name) {
                merge.all.facts_mut(key).origin = Origin::Hand;
            }
        }
        for controller in recorded.hardware.controllers() {
            merge.controller(observed, recorded, controller);
        }
        (merge.all, merge.notes)
    }
}

fn keys(hardware: &Hardware) -> impl Iterator<Item = (Key, &Name)> {
    let controllers = hardware.controllers().map(|it| (Key::Controller(it.index), &it.name));
    controllers.chain(hardware.devices().map(|(at, it)| (Key::Device(at), &it.name)))
}

/// A merge in progress.
struct Merge {
    all: Inventory,
    notes: Vec<Note>,
}

impl Merge {
    fn controller(&mut self, observed: &Hardware, recorded: &Inventory, controller: &Controller) {
        let there =
            observed.controller(controller.index).filter(|there| there.same_hardware(controller));
        let key = Key::Controller(controller.index);
        if let Some(there) = there {
            if there.pci.is_none() {
                self.all.hardware.set_pci(controller.index, controller.pci.clone());
            }
            self.recognize(recorded.facts(key), key, &there.name);
        }
        let lost = self.lost_devices(recorded, controller, there);
        let bus = match there {
            Some(there) => Some(there.index),
            None if lost.is_empty() && !recorded.is_managed(key) => None,
            None => self.add_missing(controller, recorded.facts(key)),
        };
        if let Some(bus) = bus {
            for (address, device) in lost {
                let facts = recorded.facts(Key::Device(address));
                self.plug_missing(Address { bus, ..address }, device, facts);
            }
        }
    }

    /// Whether vusb managed an item and another tool's item has taken its place.
    fn is_replaced(&self, recorded: &Facts, key: Key) -> bool {
        recorded.origin.is_managed() && !self.all.is_managed(key)
    }

    /// Copies the recorded facts to the item that is observed at `key` and now named `name`. If
    /// another tool created it, it replaces the recorded one, and vusb stops managing it.
    fn recognize(&mut self, recorded: &Facts, key: Key, name: &Name) {
        if self.is_replaced(recorded, key) {
            self.notes.push(Note::TakenOver { name: name.clone() });
        }
        let facts = self.all.facts_mut(key);
        if facts.origin.is_managed() && recorded.origin.is_managed() {
            facts.origin = recorded.origin;
        }
        facts.identity.clone_from(&recorded.identity);
        facts.required = recorded.required;
        facts.claims.clone_from(&recorded.claims);
    }

    /// The missing devices of a recorded controller and the hubs that they need, hubs first. For
    /// its observed devices, the recorded facts are copied.
    fn lost_devices(
        &mut self,
        recorded: &Inventory,
        controller: &Controller,
        there: Option<&Controller>,
    ) -> Vec<(Address, Device)> {
        let mut lost = BTreeMap::new();
        for (port, device) in controller.devices() {
            let key = Key::Device(Address { bus: controller.index, port });
            let facts = recorded.facts(key);
            let now = there.and_then(|there| there.device(port));
            // This also holds if the device belongs to another tool now: the guest has it, so its
            // claim stays.
            if let Some(now) = now.filter(|now| now.kind == device.kind) {
                self.recognize(facts, key, &now.name);
                continue;
            }
            if !facts.origin.is_managed() {
                continue;
            }
            for port in std::iter::successors(Some(port), |port| port.parent()) {
                let observed = there.and_then(|there| there.device(port)).is_some();
                if let Some(device) = controller.device(port).filter(|_| !observed) {
                    lost.insert(Address { bus: controller.index, port }, device.clone());
                }
            }
            // If another device is on the port, `plug_missing` fails and drops this one.
            lost.insert(Address { bus: controller.index, port }, device.clone());
        }
        lost.into_iter().collect()
    }

    /// Adds a missing controller. It gets another index or name, or no PCI address, if its own are
    /// in use.
    fn add_missing(&mut self, controller: &Controller, facts: &Facts) -> Option<Index> {
        let hardware = &self.all.hardware;
        let mut moved = controller.without_devices();
        if hardware.controller(moved.index).is_some() {
            moved.index = Index::all().find(|it| hardware.controller(*it).is_none())?;
        }
        let slot = |it: &Controller| it.pci.as_ref().map(|pci| (pci.bus.clone(), pci.slot));
        if hardware.controllers().any(|it| slot(it).is_some() && slot(it) == slot(&moved)) {
            moved.pci = None;
        }
        let stem = match moved.model.controller_type() {
            ControllerType::Emulated => "hci",
            ControllerType::Pv => "pv",
        };
        moved.name = self.free_name(&moved.name, stem)?;
        let (index, to) = (moved.index, moved.name.clone());
        let from = controller.name.clone();
        if let Err(refusal) = self.all.hardware.add_controller(moved) {
            self.notes.push(Note::Forgotten { name: from, why: refusal.to_string() });
            return None;
        }
        if (index, &to) != (controller.index, &from) {
            self.notes.push(Note::Moved { from, to, index });
        }
        let missing = Facts { missing: true, ..facts.clone() };
        self.all.facts.insert(Key::Controller(index), missing);
        Some(index)
    }

    fn plug_missing(&mut self, address: Address, device: Device, facts: &Facts) {
        let old = device.name.clone();
        let Some(name) = self.free_name(&old, device.kind.name()) else {
            return;
        };
        match self.all.hardware.plug(address, Device { name, ..device }) {
            Ok(()) => {
                let missing = Facts { missing: true, ..facts.clone() };
                self.all.facts.insert(Key::Device(address), missing);
            }
            Err(refusal) => {
                self.notes.push(Note::Forgotten { name: old, why: refusal.to_string() });
            }
        }
    }

    /// `name` if it is free, else `stem` with the lowest number that makes a free name.
    fn free_name(&self, name: &Name, stem: &str) -> Option<Name> {
        let free = |name: &Name| self.all.hardware.named(name).is_none();
        if free(name) {
            return Some(name.clone());
        }
        (0..=u32::MAX).filter_map(|it| format!("{stem}{it}").parse().ok()).find(free)
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

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn key(all: &Inventory, text: &str) -> Key {
        all.named(&name(text)).unwrap()
    }

    /// `recorded`, of which vusb manages the items with these names.
    fn managing(recorded: Hardware, names: &[&str]) -> Inventory {
        let mut all = Inventory::new(recorded);
        for text in names {
            let key = key(&all, text);
            all.facts_mut(key).origin = Origin::Hand;
        }
        all
    }

    fn merge(observed: &Hardware, ours: &[&str], recorded: &Inventory) -> (Inventory, Vec<Note>) {
        Inventory::merge(observed, &ours.iter().map(|it| name(it)).collect(), recorded)
    }

    fn missing(all: &Inventory) -> Vec<String> {
        let missing = all.keys().filter(|(key, _)| all.is_missing(*key));
        missing.map(|(_, name)| name.to_string()).collect()
    }

    #[test]
    fn after_a_restart_every_managed_item_is_missing() {
        let recorded = Inventory::managed(hardware(&[], &["hub", "tablet"]));
        let (all, _) = merge(&Hardware::new(), &[], &recorded);
        assert_eq!(all.hardware(), recorded.hardware());
        assert_eq!(all.present(), Hardware::new());
        assert_eq!(all.managed_names().count(), 3);
    }

    #[test]
    fn what_another_tool_removed_is_dropped_unless_a_managed_item_needs_it() {
        let recorded = hardware(&[], &["hub", "tablet"]);
        let (all, _) = merge(&Hardware::new(), &[], &Inventory::new(recorded.clone()));
        assert_eq!(all, Inventory::default());
        let (all, _) = merge(&Hardware::new(), &[], &managing(recorded, &["tablet0"]));
        assert_eq!(missing(&all), ["hci0", "tablet0"]);
        assert_eq!(all.managed_names().collect::<Vec<_>>(), [&name("tablet0")]);
    }

    #[test]
    fn a_missing_controller_moves_when_its_index_is_in_use() {
        let recorded = Inventory::managed(hardware(&[], &["tablet"]));
        let model = |text: &str| ControllerSpec { model: text.parse().ok(), ..Default::default() };
        let (all, notes) = merge(&hardware(&[model("piix3-uhci")], &[]), &[], &recorded);
        assert_eq!(all.hardware().controllers().len(), 2);
        assert!(matches!(&notes[..], [Note::Moved { .. }]), "{notes:?}");
        let Key::Device(tablet) = key(&all, "tablet0") else { panic!("a device") };
        assert_eq!(all.hardware().location(tablet), "hci1:1");
        assert!(!all.is_managed(key(&all, "hci0")), "the observed one is another tool's");
    }

    #[test]
    fn a_missing_device_whose_port_is_in_use_is_forgotten() {
        let recorded = managing(hardware(&[], &["tablet"]), &["tablet0"]);
        let (all, notes) = merge(&hardware(&[], &["mouse"]), &[], &recorded);
        assert_eq!(all.hardware().devices().count(), 1);
        assert!(matches!(&notes[..], [Note::Forgotten { .. }]), "{notes:?}");
    }

    #[test]
    fn an_equal_item_of_another_tool_is_not_managed() {
        let there = hardware(&[], &["tablet"]);
        let recorded = Inventory::managed(there.clone());
        let (all, notes) = merge(&there, &[], &recorded);
        assert_eq!((all.hardware(), all.managed_names().count()), (&there, 0));
        assert_eq!(notes.len(), 2, "{notes:?}");
        let (all, notes) = merge(&there, &["hci0", "tablet0"], &recorded);
        assert_eq!((all.managed_names().count(), notes.len()), (2, 0));
    }

    #[test]
    fn a_known_pci_address_is_kept_where_the_hypervisor_does_not_report_it() {
        let observed = hardware(&[], &["tablet"]);
        let mut recorded = observed.clone();
        let pci = PciAddress { bus: "pci.0".to_owned(), slot: 4, function: 0 };
        recorded.set_pci(Index::ZERO, Some(pci.clone()));
        let (all, _) = merge(&observed, &[], &Inventory::new(recorded));
        let controller = all.hardware().controller(Index::ZERO).unwrap();
        assert_eq!(controller.pci, Some(pci));
        assert_eq!(missing(&all), Vec::<String>::new());
    }

    #[test]
    fn another_host_device_does_not_take_over_an_identity() {
        let mut all = Inventory::managed(hardware(&[], &["0781:5581"]));
        let at = all.host_refs().next().unwrap().0;
        let place = "pci-0000:00:14.0-usb-0:4".to_owned();
        let given = HostIdentity { place, seen: None, also: BTreeSet::new() };
        all.facts_mut(Key::Device(at)).identity = Some(given.clone());
        let other = all.with_hardware(hardware(&[], &["0781:5582"]));
        assert_eq!((other.identity(at), other.managed_names().count()), (None, 2));
        assert_eq!(all.with_hardware(all.hardware().clone()).identity(at), Some(&given));
        // It stays with a device that moves in the guest.
        let mut moved = Inventory::new(hardware(&[], &["tablet", "0781:5581"]));
        moved.keep_identities(&all);
        assert_eq!(moved.identity(moved.host_refs().next().unwrap().0), Some(&given));
    }

    #[test]
    fn facts_stay_with_items_that_keep_their_address_and_name() {
        let mut all = Inventory::managed(hardware(&[], &["tablet", "mouse"]));
        let tablet = key(&all, "tablet0");
        all.facts_mut(tablet).origin = Origin::OnDemand;
        let changed = all.with_hardware(hardware(&[], &["tablet", "keyboard"]));
        assert_eq!(changed.facts(tablet).origin, Origin::OnDemand);
        assert_eq!(changed.facts(key(&changed, "keyboard0")).origin, Origin::Other);
    }

    #[test]
    fn a_device_that_vusb_manages_is_not_taken_for_another_one_in_the_same_port() {
        let mut recorded = Inventory::managed(hardware(&[], &["tablet"]));
        let tablet = key(&recorded, "tablet0");
        recorded.facts_mut(tablet).claims.insert("a".to_owned());
        // Another command of vusb, with records of its own, has replaced the tablet.
        let (all, notes) = merge(&hardware(&[], &["mouse"]), &["hci0", "mouse0"], &recorded);
        assert!(matches!(&notes[..], [Note::Forgotten { .. }]), "{notes:?}");
        assert_eq!((all.claims().count(), missing(&all).len()), (0, 0));
    }

    #[test]
    fn a_missing_hub_of_another_tool_is_kept_for_the_managed_device_behind_it() {
        let mut recorded = hardware(&[], &["hub"]);
        let behind = Address { bus: Index::ZERO, port: "1.1".parse().unwrap() };
        let kind = "tablet".parse().unwrap();
        recorded.plug(behind, Device { name: name("tablet0"), kind }).unwrap();
        let recorded = managing(recorded, &["tablet0"]);
        let (all, notes) = merge(&Hardware::new(), &[], &recorded);
        assert_eq!(
            (missing(&all), notes.len()),
            (vec!["hci0".into(), "hub0".into(), "tablet0".into()], 0)
        );
        assert_eq!(all.hardware(), recorded.hardware());
    }
}
