//! Resolving devices: rules 6 to 9 of [`vusb_1`](super::vusb_1). Other profiles use parts of them.

use std::collections::{HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use super::controllers::{Context, FreeNames, add_default};
use super::port_allocator::{Candidates, Pool, PortAllocator};
use super::{Placed, Refused, RequestedItem, existing, not_implemented, without_slot};
use crate::address::{Address, Index};
use crate::device::{Kind, Mac, UniqueResource};
use crate::hardware::{Controller, Device, Hardware, wrong_speed};
use crate::models::ControllerType;
use crate::refusal::Refusal;
use crate::remedy::{Reason, Remedy};
use crate::spec::{ControllerRef, DeviceSpec, Spec};
use crate::speed::SpeedSet;

/// Where pv is the default type: while there are fewer pv controllers than this, each device gets
/// one of its own.
const UNSHARED_PV: usize = 8;

/// Places the devices of a spec.
pub(super) struct Placement<'a> {
    base: &'a Hardware,
    hardware: Hardware,
    spec: &'a Spec,
    /// The devices of the base that have been requested so far.
    matched: HashSet<Address>,
    context: Context<'a>,
    ports: PortAllocator,
    /// The addresses of the devices that a domain can have only once.
    unique: HashMap<UniqueResource<'a>, Address>,
    names: FreeNames<'a>,
    added: Vec<Index>,
}

impl<'a> Placement<'a> {
    /// `hardware` is `base` with the controllers of the spec.
    pub(super) fn new(
        base: &'a Hardware,
        hardware: Hardware,
        spec: &'a Spec,
        context: Context<'a>,
        names: FreeNames<'a>,
    ) -> Placement<'a> {
        let identity = |(address, device): (Address, &'a Device)| {
            Some((device.kind.unique_resource()?, address))
        };
        let mut ports = PortAllocator::new(&hardware);
        let reserved =
            hardware.controllers().filter(|it| Some(it.name.as_str()) == context.reserved);
        reserved.for_each(|it| ports.withhold(it.index));
        Placement {
            ports,
            unique: base.devices().filter_map(identity).collect(),
            base,
            hardware,
            spec,
            matched: HashSet::new(),
            context,
            names,
            added: Vec::new(),
        }
    }

    /// The hardware, and the controllers that were added for devices.
    pub(super) fn finish(self) -> (Hardware, Vec<Index>) {
        (self.hardware, self.added)
    }

    /// Places all devices, in the order of rule 6. The results are in the order of the spec.
    pub(super) fn place_all(&mut self) -> Result<Vec<Placed<Address>>, Refused> {
        let spec = self.spec;
        let mut placed = vec![None; spec.devices.len()];
        let mut waiting = Vec::new();
        let mut order: Vec<usize> = (0..spec.devices.len()).collect();
        order.sort_by_key(|number| spec.devices.get(*number).map(order_key));
        for number in order {
            let Some(device) = spec.devices.get(number) else { continue };
            if order_key(device).0 == OrderGroup::Other && !waiting.is_empty() {
                self.place_waiting(&mut waiting, &mut placed)?;
            }
            let result = self.place(device);
            // The hub that has the device's port may not have been placed yet.
            if matches!(result, Err(Refusal::NoHub { .. })) {
                waiting.push(number);
            } else if let Some(slot) = placed.get_mut(number) {
                let refused = |refusal| Refused::of(RequestedItem::Device(number), refusal);
                *slot = Some(result.map_err(refused)?);
            }
        }
        self.place_waiting(&mut waiting, &mut placed)?;
        Ok(placed.into_iter().flatten().collect())
    }

    /// Places the devices that wait for a hub.
    fn place_waiting(
        &mut self,
        waiting: &mut Vec<usize>,
        placed: &mut [Option<Placed<Address>>],
    ) -> Result<(), Refused> {
        let spec = self.spec;
        for number in waiting.drain(..) {
            if let (Some(device), Some(slot)) = (spec.devices.get(number), placed.get_mut(number)) {
                let refused = |refusal| Refused::of(RequestedItem::Device(number), refusal);
                *slot = Some(self.place(device).map_err(refused)?);
            }
        }
        Ok(())
    }

    fn place(&mut self, spec: &'a DeviceSpec) -> Result<Placed<Address>, Refusal> {
        if let Some(address) = self.find_existing(spec)? {
            // This spec added it or already requested it, so it is a duplicate.
            if self.base.device(address).is_none() || !self.matched.insert(address) {
                return Err(self.duplicate(spec, address));
            }
            return Ok(Placed { address, existing: true });
        }
        self.check_available(&spec.kind)?;
        let address = self.allocate(spec)?;
        self.check_type(&spec.kind, address.bus)?;
        let name = match &spec.name {
            Some(name) => name.clone(),
            None => self.names.device_name(&self.hardware, spec.kind.name()),
        };
        let kind = with_mac(&spec.kind, self.spec, address);
        self.hardware.plug(address, Device { name, kind })?;
        if spec.name.is_none() {
            self.names.device_name_used(spec.kind.name());
        }
        self.ports.take(address, &spec.kind);
        if let Some(identity) = spec.kind.unique_resource() {
            self.unique.insert(identity, address);
        }
        Ok(Placed { address, existing: false })
    }

    /// The address of the device, if the domain has it.
    fn find_existing(&self, spec: &DeviceSpec) -> Result<Option<Address>, Refusal> {
        let controller =
            spec.controller.as_ref().map(|controller| self.controller(controller)).transpose()?;
        existing::device(spec, controller, &self.hardware, self.base, &self.unique)
    }

    /// The refusal of a device that this spec has already requested.
    fn duplicate(&self, spec: &DeviceSpec, at: Address) -> Refusal {
        let location = self.hardware.location(at);
        match spec.kind.unique_resource() {
            Some(_) => Refusal::AlreadyPlugged {
                device: spec.kind.to_string(),
                location: format!("{location}, by this same request"),
            },
            None => Refusal::Duplicate { what: format!("port {location}") },
        }
    }

    fn check_available(&self, kind: &Kind) -> Result<(), Refusal> {
        if let Kind::Other(other) = kind {
            // Another tool's configuration may contain such a device, and that tool's profile
            // places it.
            if !self.spec.profile.is_own() {
                return Ok(());
            }
            return Err(Refusal::NotRequestable { driver: other.driver.clone() });
        }
        let capabilities = self.context.capabilities;
        capabilities.check_kind(kind.name()).map_err(|why| {
            not_implemented(format!("a device of kind {}", kind.name()), capabilities, why)
        })
    }

    /// Checks that the controller at `bus` can have a device of this kind.
    fn check_type(&self, kind: &Kind, bus: Index) -> Result<(), Refusal> {
        let Some(controller) = self.hardware.controller(bus) else { return Ok(()) };
        if matches!(kind, Kind::Other(_)) {
            return Ok(());
        }
        let capabilities = self.context.capabilities;
        let on = |controller_type| capabilities.check_kind_on(kind.name(), controller_type);
        on(controller.model.controller_type()).map_err(|why| {
            let (name, model) = (&controller.name, controller.model);
            let what = format!("a device of kind {} on {name} ({model})", kind.name());
            let emulated = on(ControllerType::Emulated).is_ok();
            let mut why = Reason::from(why);
            why.remedies.extend(emulated.then_some(Remedy::OmitController));
            not_implemented(what, capabilities, why)
        })
    }

    fn controller(&self, requested: &ControllerRef) -> Result<Index, Refusal> {
        existing::controller(requested, &self.hardware)
    }

    /// Rules 7 and 8.
    fn allocate(&mut self, spec: &DeviceSpec) -> Result<Address, Refusal> {
        let only = || {
            let mut all = self.hardware.controllers();
            all.next().filter(|_| all.next().is_none()).map(|controller| controller.index)
        };
        match (&spec.controller, spec.port) {
            (Some(controller), Some(port)) => {
                Ok(Address { bus: self.controller(controller)?, port })
            }
            (None, Some(port)) => match only() {
                Some(bus) => Ok(Address { bus, port }),
                None => Err(Refusal::PortWithoutController {
                    port,
                    count: self.hardware.controllers().len(),
                }),
            },
            (Some(controller), None) => self.allocate_on(self.controller(controller)?, &spec.kind),
            (None, None) => self.allocate_anywhere(&spec.kind),
        }
    }

    fn allocate_on(&self, bus: Index, kind: &Kind) -> Result<Address, Refusal> {
        let [native, possible] = preferred_speeds(kind);
        let port = self.ports.lowest(bus, native).or_else(|| self.ports.lowest(bus, possible));
        if let Some(port) = port {
            return Ok(Address { bus, port });
        }
        let Some(controller) = self.hardware.controller(bus) else {
            return Err(Refusal::NoIndex);
        };
        if self.ports.has_any(bus) {
            let location = format!("{} ({})", controller.name, controller.model);
            return Err(wrong_speed(&self.hardware, kind, location, controller.speeds()));
        }
        let ports = all_ports(controller);
        Err(Refusal::Full { controller: controller.name.clone(), model: controller.model, ports })
    }

    fn allocate_anywhere(&mut self, kind: &Kind) -> Result<Address, Refusal> {
        let speeds = preferred_speeds(kind);
        let capabilities = self.context.capabilities;
        let candidates = Candidates {
            pv: capabilities.check_kind_on(kind.name(), ControllerType::Pv).is_ok(),
            other_backends: !matches!(kind, Kind::Host(_)),
        };
        let unshared =
            capabilities.default_type == ControllerType::Pv && self.ports.pv < UNSHARED_PV;
        let pools: &[Pool] = if unshared { &[Pool::Open] } else { &[Pool::Open, Pool::Shared] };
        for pool in pools {
            for speeds in speeds {
                if let Some(at) = self.ports.first(*pool, speeds, candidates) {
                    return Ok(at);
                }
            }
        }
        let added = add_default(&mut self.hardware, &mut self.context, &mut self.names);
        let bus = added.map_err(|refusal| {
            without_slot(refusal, self.context.capabilities, |_| self.why_no_port(kind))
        })?;
        self.added.push(bus);
        if let Some(controller) = self.hardware.controller(bus) {
            self.ports.add_controller(controller);
        }
        self.allocate_on(bus, kind)
    }
}

impl Placement<'_> {
    /// Why no controller has a port for a device of this kind, and why none is added.
    fn why_no_port(&self, kind: &Kind) -> String {
        /// How many controllers are named.
        const MAX_NAMED: usize = 5;
        const REMOVE_OR_ADD: &str = "remove a device, plug in a hub in place of one, or add slots";
        let controllers: Vec<_> = self.hardware.controllers().collect();
        if controllers.is_empty() {
            return "the guest has no USB controller, and no slot for one".to_owned();
        }
        let named = controllers.iter().take(MAX_NAMED).map(|it| it.name.as_str());
        let mut names = named.collect::<Vec<_>>().join(", ");
        if controllers.len() > MAX_NAMED {
            names.push_str(&format!(" and {} more", controllers.len() - MAX_NAMED));
        }
        let no_slot = "and this guest has no slot for another controller";
        if controllers.iter().any(|it| self.ports.has_any(it.index)) {
            let [_, possible] = preferred_speeds(kind);
            let takes = |it: &&Controller| !it.speeds().intersection(possible).is_empty();
            // Another free port, or a hub, would not take it either.
            let advice = if controllers.iter().any(takes) { REMOVE_OR_ADD } else { "add slots" };
            return format!("no free port of {names} takes the device, {no_slot}; {advice}");
        }
        let ports: usize = controllers.iter().map(|it| all_ports(it)).sum();
        let present = match ports {
            1 => format!("the only port of {names} is in use"),
            ports => format!("all {ports} ports of {names} are in use"),
        };
        format!("{present}, {no_slot}; {REMOVE_OR_ADD}")
    }
}

/// The number of a controller's ports, those of its hubs included.
fn all_ports(controller: &Controller) -> usize {
    let behind_hubs = controller.devices().map(|(_, device)| usize::from(device.kind.hub_ports()));
    usize::from(controller.ports.count()) + behind_hubs.sum::<usize>()
}

/// The groups of rule 6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum OrderGroup {
    /// A device with a port.
    WithPort,
    /// A hub without a port.
    Hub,
    /// All others.
    Other,
}

/// A device's position in the order of rule 6: its group, and the depth of its port, because hubs
/// precede the devices behind them.
fn order_key(spec: &DeviceSpec) -> (OrderGroup, usize) {
    match spec.port {
        Some(port) => (OrderGroup::WithPort, port.depth()),
        None if spec.kind.hub_ports() > 0 => (OrderGroup::Hub, 0),
        None => (OrderGroup::Other, 0),
    }
}

/// The speeds to search ports for, first choice first. A device of unknown speed fits any port.
fn preferred_speeds(kind: &Kind) -> [SpeedSet; 2] {
    match kind.speeds() {
        Some(speeds) => [speeds.native.into(), speeds.possible],
        None => [SpeedSet::ALL; 2],
    }
}

/// Rule 9. The first three bytes are QEMU's prefix (52:54:00, locally administered); the others are
/// the first three bytes of a SHA-256.
pub(super) fn with_mac(kind: &Kind, spec: &Spec, at: Address) -> Kind {
    let mut kind = kind.clone();
    if let Kind::Net(net) = &mut kind {
        // A name has no colon, so an address is never mistaken for a name.
        let domain = match (&spec.domain, &spec.address) {
            (Some(name), _) => name.to_string(),
            (None, Some(address)) => format!("address:{address}"),
            (None, None) => String::new(),
        };
        let hash: [u8; 32] = Sha256::digest(format!("vusb-1 net {domain} {at}").as_bytes()).into();
        let [a, b, c, ..] = hash;
        net.mac.get_or_insert(Mac([0x52, 0x54, 0x00, a, b, c]));
    }
    kind
}
