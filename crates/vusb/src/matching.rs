//! Which of the things that a domain has are those that a spec asks for.
//!
//! A spec leaves things open, and what was decided for them once stays: applying the same spec again finds what is there,
//! wherever it is, and changes nothing. So before a spec is resolved, what it asks for is matched with what is there, and
//! what matches is pinned: the spec says its index, name and port from then on. What is vusb's own and matches nothing goes.
//!
//! ```text
//!   has ───┬─ somebody else's ────────────────▶ stays
//!          ├─ vusb's own, asked for ──────────▶ stays, and is pinned in the spec
//!          └─ vusb's own, asked for no more ──▶ goes, unless something that stays is plugged into it
//! ```
//!
//! A controller that was added because a device needed it stays as long as a device of the spec is on it; one that was asked
//! for and is not any more goes, and what is on it moves.
//!
//! Something of somebody else's is what a spec asks for only where the spec says its name, or where it is what a guest that
//! is started with the spec would have: then nothing is to be done.

use std::collections::BTreeSet;

use vusb_model::address::{Address, Index};
use vusb_model::capabilities::Capabilities;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::name::Name;
use vusb_model::resolve::{Resolved, resolve};
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

use crate::controllers::find;

/// What matching comes to.
pub(crate) struct Matched {
    /// The spec, with all that is there pinned.
    pub(crate) spec: Spec,
    /// What stays.
    pub(crate) stays: Hardware,
}

/// What of a domain's hardware is vusb's own.
#[derive(Clone, Copy)]
pub(crate) struct Owned<'a> {
    /// All of it.
    pub(crate) managed: &'a BTreeSet<Name>,
    /// The controllers of it that nobody asked for: devices needed them.
    pub(crate) added: &'a BTreeSet<Name>,
}

struct Matching<'a> {
    has: &'a Hardware,
    owned: Owned<'a>,
    capabilities: Capabilities,
    /// What a guest that is started with the spec has, if that can be.
    fresh: Option<Resolved>,
    controllers: BTreeSet<Index>,
    devices: BTreeSet<Address>,
}

/// Matches what `has` with what `spec` asks for.
pub(crate) fn pin(
    has: &Hardware,
    owned: &Owned<'_>,
    spec: &Spec,
    capabilities: &Capabilities,
) -> Matched {
    let default_type = capabilities.default_type;
    let capabilities = Capabilities { default_type, ..Capabilities::everything() };
    let mut matching = Matching {
        has,
        owned: *owned,
        fresh: resolve(&Hardware::new(), spec, &capabilities).ok(),
        capabilities,
        controllers: BTreeSet::new(),
        devices: BTreeSet::new(),
    };
    let mut pinned = spec.clone();
    matching.pin_controllers(&mut pinned.controllers);
    matching.pin_devices(&mut pinned.devices);
    Matched { spec: pinned, stays: matching.stays() }
}

impl Matching<'_> {
    fn is_ours(&self, name: &Name) -> bool {
        self.owned.managed.contains(name)
    }

    fn pin_controllers(&mut self, specs: &mut [ControllerSpec]) {
        let says = |spec: &ControllerSpec| spec.name.is_some() || spec.index.is_some();
        for spec in specs.iter_mut().filter(|spec| says(spec)) {
            let found = self.named_controller(spec);
            self.controllers.extend(found);
        }
        for spec in specs.iter_mut().filter(|spec| !says(spec)) {
            let found = self.wanted(spec).and_then(|wanted| self.like(&wanted));
            self.controllers.extend(found);
            spec.index = found;
        }
    }

    /// The controller that has the spec's name or index and is what it asks for.
    fn named_controller(&self, spec: &ControllerSpec) -> Option<Index> {
        let asked = Spec { controllers: vec![spec.clone()], ..Spec::default() };
        let resolved = resolve(self.has, &asked, &self.capabilities).ok()?;
        resolved.controllers.first().filter(|it| it.already).map(|it| it.at)
    }

    /// What a controller spec comes to, standing alone.
    fn wanted(&self, spec: &ControllerSpec) -> Option<Controller> {
        let asked = Spec { controllers: vec![spec.clone()], ..Spec::default() };
        let resolved = resolve(&Hardware::new(), &asked, &self.capabilities).ok()?;
        resolved.hardware.controllers().next().cloned()
    }

    /// A controller that is like `wanted`, is nobody's match yet, and may be one.
    fn like(&self, wanted: &Controller) -> Option<Index> {
        let fresh = self.fresh.as_ref().map(|fresh| &fresh.hardware);
        let as_started = |it: &Controller| {
            let there = fresh.and_then(|fresh| fresh.controller(it.index));
            there.is_some_and(|there| there.same_hardware(it))
        };
        let mut all = self.has.controllers();
        all.find(|it| {
            !self.controllers.contains(&it.index)
                && it.same_hardware(wanted)
                && (self.is_ours(&it.name) || as_started(it))
        })
        .map(|it| it.index)
    }

    /// Hubs first, for what is behind one can stay only if the hub does; then what says its name or port, then all others.
    fn pin_devices(&mut self, specs: &mut [DeviceSpec]) {
        let turn = |spec: &DeviceSpec| {
            (spec.kind.hub_ports() == 0, spec.name.is_none(), spec.port.is_none())
        };
        let mut order: Vec<(usize, &mut DeviceSpec)> = specs.iter_mut().enumerate().collect();
        order.sort_by_key(|(_, spec)| turn(spec));
        for (number, spec) in order {
            let Some(address) = self.device(spec, number) else { continue };
            self.devices.insert(address);
            spec.controller = Some(ControllerRef::Index(address.bus));
            spec.port = Some(address.port);
            spec.name = self.has.device(address).map(|it| it.name.clone());
        }
    }

    /// The device that is what the spec asks for: vusb's own rather than somebody else's.
    fn device(&self, spec: &DeviceSpec, number: usize) -> Option<Address> {
        let bus = match &spec.controller {
            Some(controller) => Some(find(self.has, controller).ok()?),
            None => None,
        };
        let fits = |(address, it): &(Address, &Device)| {
            it.kind.satisfies(&spec.kind)
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
            .map(|settled| settled.at);
        let candidates: Vec<(Address, &Device)> = self.has.devices().filter(fits).collect();
        let ours = candidates.iter().find(|(_, it)| self.is_ours(&it.name));
        let meant = |(address, it): &&(Address, &Device)| {
            spec.name.is_some() || it.kind.identity().is_some() || Some(*address) == as_started
        };
        ours.or_else(|| candidates.iter().find(meant)).map(|(address, _)| *address)
    }

    /// Whether the controller and the hubs on the way to an address stay.
    fn may_stay(&self, address: Address) -> bool {
        let controller = self.has.controller(address.bus).is_some_and(|it| {
            let added = self.owned.added.contains(&it.name);
            added || self.controllers.contains(&it.index) || !self.is_ours(&it.name)
        });
        let mut hubs = std::iter::successors(address.port.parent(), |port| port.parent())
            .map(|port| Address { bus: address.bus, port });
        controller
            && hubs.all(|hub| {
                let others = |it: &Device| !self.is_ours(&it.name);
                self.devices.contains(&hub) || self.has.device(hub).is_some_and(others)
            })
    }

    /// What stays: all that is somebody else's, all that was matched, and what those are plugged into.
    fn stays(&self) -> Hardware {
        let mut stays = self.has.clone();
        let devices: Vec<(Address, &Device)> = self.has.devices().collect();
        // From the end, so that what is behind a hub is looked at before the hub.
        for (address, device) in devices.into_iter().rev() {
            let in_use = stays.controller(address.bus).is_some_and(|controller| {
                controller.devices().any(|(port, _)| port.is_below(address.port))
            });
            if self.is_ours(&device.name) && !self.devices.contains(&address) && !in_use {
                stays.unplug(address);
            }
        }
        for controller in self.has.controllers() {
            let index = controller.index;
            let empty = stays.controller(index).is_some_and(|it| it.devices().len() == 0);
            if empty && self.is_ours(&controller.name) && !self.controllers.contains(&index) {
                stays.remove_controller(index);
            }
        }
        stays
    }
}
