//! Matches the items of a domain with those of a spec.
//!
//! What a spec leaves open is decided only once: applying the same spec again must change nothing.
//! So before a spec is resolved, its items are matched with those of the domain, and each match is
//! pinned: its index, name and port are written into the spec. Items of an earlier version of the
//! spec without a match are removed, and with `prune` also those that were added by hand.
//!
//! ```text
//!   item ──┬─ of another tool ─────────────────▶ stays
//!          ├─ managed, in the spec ────────────▶ stays, and is pinned in the spec
//!          ├─ added by hand, not in the spec ──▶ stays, unless `prune`
//!          └─ only in an earlier spec ─────────▶ is removed, unless an item that stays is on it
//! ```
//!
//! A controller that was added on demand stays as long as a device that stays is on it. A
//! controller that only an earlier spec has is removed if no item that stays is on it, and the
//! spec's devices on it move to another controller. An item that was added by hand belongs to the
//! spec as soon as a spec that has it is applied.
//!
//! An item of another tool matches only if the spec names it, if it has something that a domain can
//! have only once (a host device, an image), or if a guest that is started with the spec would have
//! the same item at the same address.

use std::collections::BTreeSet;

use vusb_model::address::{Address, Index};
use vusb_model::capabilities::Capabilities;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::resolve::{Resolved, resolve};
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

use crate::controllers::find;
use crate::inventory::{Inventory, Key, Origin};

/// The result of matching.
pub(crate) struct Matched {
    /// The spec, with every match pinned.
    pub(crate) spec: Spec,
    /// The hardware that stays.
    pub(crate) stays: Hardware,
}

struct Matching<'a> {
    inventory: &'a Inventory,
    /// Whether to remove what was added by hand.
    prune: bool,
    capabilities: Capabilities,
    /// The hardware of a guest that is started with the spec; `None` if the spec is impossible.
    fresh: Option<Resolved>,
    /// The controllers and devices that have been matched so far.
    controllers: BTreeSet<Index>,
    devices: BTreeSet<Address>,
}

/// Matches the items of a domain with those of a spec.
pub(crate) fn pin(
    inventory: &Inventory,
    spec: &Spec,
    capabilities: &Capabilities,
    prune: bool,
) -> Matched {
    let default_type = capabilities.default_type;
    let capabilities = Capabilities { default_type, ..Capabilities::everything() };
    let mut matching = Matching {
        inventory,
        prune,
        fresh: resolve(&Hardware::new(), spec, &capabilities).ok(),
        capabilities,
        controllers: BTreeSet::new(),
        devices: BTreeSet::new(),
    };
    let mut pinned = spec.clone();
    matching.pin_controllers(&mut pinned.controllers);
    matching.pin_ports(&mut pinned);
    matching.pin_devices(&mut pinned.devices);
    Matched { spec: pinned, stays: matching.stays() }
}

impl Matching<'_> {
    fn hardware(&self) -> &Hardware {
        self.inventory.hardware()
    }

    fn manages_controller(&self, index: Index) -> bool {
        self.inventory.is_managed(Key::Controller(index))
    }

    fn manages_device(&self, address: Address) -> bool {
        self.inventory.is_managed(Key::Device(address))
    }

    /// Whether the item is from an earlier version of the spec.
    fn is_from_earlier_spec(&self, key: Key) -> bool {
        self.inventory.facts(key).origin == Origin::Spec
    }

    /// Whether the item is removed if nothing in the spec matches it and nothing needs it.
    fn is_removable(&self, key: Key) -> bool {
        match self.inventory.facts(key).origin {
            Origin::Other => false,
            Origin::Hand => self.prune,
            Origin::Spec => true,
            // A rule attached a device with this origin, and a spec does not remove it.
            Origin::OnDemand => matches!(key, Key::Controller(_)),
        }
    }

    fn pin_controllers(&mut self, specs: &mut [ControllerSpec]) {
        let is_named = |spec: &ControllerSpec| spec.name.is_some() || spec.index.is_some();
        for spec in specs.iter_mut().filter(|spec| is_named(spec)) {
            let found = self.named_controller(spec);
            self.controllers.extend(found);
        }
        for spec in specs.iter_mut().filter(|spec| !is_named(spec)) {
            let found = self.resolved_alone(spec).and_then(|wanted| self.similar(&wanted));
            self.controllers.extend(found);
            spec.index = found;
        }
    }

    /// A device with a port but without a controller goes to the spec's only controller, even if
    /// the domain has more controllers.
    fn pin_ports(&self, spec: &mut Spec) {
        let [only] = spec.controllers.as_mut_slice() else { return };
        let has_others = self.hardware().controllers().any(|it| Some(it.index) != only.index);
        let is_open = |it: &&mut DeviceSpec| it.port.is_some() && it.controller.is_none();
        let mut open = spec.devices.iter_mut().filter(is_open).peekable();
        if !has_others || open.peek().is_none() {
            return;
        }
        if only.name.is_none() && only.index.is_none() {
            only.index = Index::all().find(|it| self.hardware().controller(*it).is_none());
        }
        let name = only.name.clone().map(ControllerRef::Name);
        let controller = name.or_else(|| only.index.map(ControllerRef::Index));
        open.for_each(|device| device.controller.clone_from(&controller));
    }

    /// The controller that has the spec's name or index and fulfils the spec.
    fn named_controller(&self, spec: &ControllerSpec) -> Option<Index> {
        let request = Spec { controllers: vec![spec.clone()], ..Spec::default() };
        let resolved = resolve(self.hardware(), &request, &self.capabilities).ok()?;
        resolved.controllers.first().filter(|it| it.existing).map(|it| it.address)
    }

    /// The controller that the spec resolves to on an empty guest.
    fn resolved_alone(&self, spec: &ControllerSpec) -> Option<Controller> {
        let request = Spec { controllers: vec![spec.clone()], ..Spec::default() };
        let resolved = resolve(&Hardware::new(), &request, &self.capabilities).ok()?;
        resolved.hardware.controllers().next().cloned()
    }

    /// An unmatched controller with the hardware of `wanted`, if vusb manages it or a guest that is
    /// started with the spec would have it.
    fn similar(&self, wanted: &Controller) -> Option<Index> {
        let fresh = self.fresh.as_ref().map(|fresh| &fresh.hardware);
        let as_started = |it: &Controller| {
            let there = fresh.and_then(|fresh| fresh.controller(it.index));
            there.is_some_and(|there| there.same_hardware(it))
        };
        let all = self.hardware().controllers().filter(|it| {
            !self.controllers.contains(&it.index)
                && it.same_hardware(wanted)
                && (self.manages_controller(it.index) || as_started(it))
        });
        all.map(|it| it.index)
            .min_by_key(|index| !self.is_from_earlier_spec(Key::Controller(*index)))
    }

    /// Hubs first, because a device behind a hub can stay only if the hub stays; then devices with
    /// a name or a port in the spec; then the rest.
    fn pin_devices(&mut self, specs: &mut [DeviceSpec]) {
        let rank = |spec: &DeviceSpec| {
            (spec.kind.hub_ports() == 0, spec.name.is_none(), spec.port.is_none())
        };
        let mut order: Vec<(usize, &mut DeviceSpec)> = specs.iter_mut().enumerate().collect();
        order.sort_by_key(|(_, spec)| rank(spec));
        for (number, spec) in order {
            let Some(address) = self.device(spec, number) else { continue };
            self.devices.insert(address);
            spec.controller = Some(ControllerRef::Index(address.bus));
            spec.port = Some(address.port);
            spec.name = self.hardware().device(address).map(|it| it.name.clone());
        }
    }

    /// The device that fulfils the spec's device `number`; those of an earlier version of the spec
    /// are preferred, and then other managed ones.
    fn device(&self, spec: &DeviceSpec, number: usize) -> Option<Address> {
        let bus = match &spec.controller {
            Some(controller) => Some(find(self.hardware(), controller).ok()?),
            None => None,
        };
        let fits = |(address, it): &(Address, &Device)| {
            it.kind.matches_request(&spec.kind)
                && spec.name.as_ref().is_none_or(|name| *name == it.name)
                && bus.is_none_or(|bus| bus == address.bus)
                && spec.port.is_none_or(|port| port == address.port)
                && !self.devices.contains(address)
                && self.may_stay(*address)
        };
        let as_started = self
            .fresh
            .as_ref()
            .and_then(|fresh| fresh.devices.get(number))
            .map(|placed| placed.address);
        let candidates: Vec<(Address, &Device)> = self.hardware().devices().filter(fits).collect();
        let managed = candidates.iter().filter(|(address, _)| self.manages_device(*address));
        let managed =
            managed.min_by_key(|(address, _)| !self.is_from_earlier_spec(Key::Device(*address)));
        let may_match_unmanaged = |(address, it): &&(Address, &Device)| {
            spec.name.is_some()
                || it.kind.unique_resource().is_some()
                || Some(*address) == as_started
        };
        managed.or_else(|| candidates.iter().find(may_match_unmanaged)).map(|(address, _)| *address)
    }

    /// Whether the controller of an address stays, and the hubs that are in front of the address.
    fn may_stay(&self, address: Address) -> bool {
        let bus = address.bus;
        let Some(controller) = self.hardware().controller(bus) else { return false };
        let key = Key::Controller(bus);
        let on_demand = self.inventory.facts(key).origin == Origin::OnDemand;
        let keeps = |port| !self.is_removable(Key::Device(Address { bus, port }));
        let stays = on_demand
            || !self.is_removable(key)
            || self.controllers.contains(&bus)
            || controller.devices().any(|(port, _)| keeps(port));
        let mut hubs = std::iter::successors(address.port.parent(), |port| port.parent());
        stays
            && hubs.all(|port| {
                let kept = controller.device(port).is_some() && keeps(port);
                self.devices.contains(&Address { bus, port }) || kept
            })
    }

    /// All items that are not removed, and the hubs and controllers that they need.
    fn stays(&self) -> Hardware {
        let mut stays = self.hardware().clone();
        let devices: Vec<Address> = self.hardware().devices().map(|(at, _)| at).collect();
        // In reverse order, so that devices behind a hub are decided before the hub.
        for address in devices.into_iter().rev() {
            let in_use = stays.controller(address.bus).is_some_and(|controller| {
                controller.devices().any(|(port, _)| port.is_below(address.port))
            });
            let removable = self.is_removable(Key::Device(address));
            if removable && !self.devices.contains(&address) && !in_use {
                stays.unplug(address);
            }
        }
        for controller in self.hardware().controllers() {
            let index = controller.index;
            let empty = stays.controller(index).is_some_and(|it| it.devices().len() == 0);
            let removable = self.is_removable(Key::Controller(index));
            if empty && removable && !self.controllers.contains(&index) {
                stays.remove_controller(index);
            }
        }
        stays
    }
}
