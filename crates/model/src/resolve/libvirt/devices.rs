//! Resolving devices: rules 8 to 12.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::Platform;
use super::messages::{self, LibvirtSays as _};
use super::names::Names;
use crate::address::{Address, Index};
use crate::capabilities::Capabilities;
use crate::device::{HUB_PORTS, Hub, Kind, UniqueResource};
use crate::hardware::{Controller, Device, Hardware};
use crate::name::Name;
use crate::refusal::Refusal;
use crate::resolve::controllers::Context;
use crate::resolve::devices::with_mac;
use crate::resolve::port_allocator::{Candidates, Pool, PortAllocator};
use crate::resolve::{Placed, Refused, RequestedItem, existing, not_implemented};
use crate::spec::{ControllerRef, DeviceSpec, Spec};
use crate::speed::SpeedSet;

/// The devices of a spec, resolved.
pub(super) struct Devices {
    /// The address of each device of the spec, in the order of the spec.
    pub(super) placed: Vec<Placed<Address>>,
    /// Devices that were added without a request.
    pub(super) added: Vec<Address>,
    /// Controllers that were added without a request because a device needs them (only on Xen).
    pub(super) controllers: Vec<Index>,
}

/// A device that the guest does not have yet.
struct NewDevice<'a> {
    /// Its position in the spec; `None` if it was not requested.
    number: Option<usize>,
    spec: Cow<'a, DeviceSpec>,
    name: Name,
    /// The controller that it requests.
    bus: Option<Index>,
}

impl<'a> NewDevice<'a> {
    /// A device that was not requested.
    fn added(kind: Kind, hardware: &Hardware, names: &mut Names<'_>) -> NewDevice<'a> {
        let name = names.device(hardware, &kind);
        NewDevice { number: None, spec: Cow::Owned(DeviceSpec::new(kind)), name, bus: None }
    }

    fn item(&self) -> Option<RequestedItem> {
        self.number.map(RequestedItem::Device)
    }

    /// Its position in the order of rule 10.
    fn order_key(&self) -> (OrderGroup, u8) {
        let hub = self.spec.kind.hub_ports() > 0;
        match (self.spec.port.is_some(), hub) {
            (true, true) => (OrderGroup::HubWithPort, 0),
            (true, false) => (OrderGroup::WithPort, rank(&self.spec.kind)),
            (false, true) => (OrderGroup::Hub, 0),
            (false, false) => (OrderGroup::Other, rank(&self.spec.kind)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum OrderGroup {
    HubWithPort,
    WithPort,
    Hub,
    Other,
}

/// The order in which libvirt visits the kinds of a guest's devices (`virDomainUSBDeviceDefForeach`
/// in its `conf/domain_conf.c`, 11.3; other versions use a different order).
const fn rank(kind: &Kind) -> u8 {
    match kind {
        Kind::Storage(_) => 0,
        Kind::Net(_) => 1,
        Kind::Audio(_) => 2,
        Kind::Host(_) => 3,
        Kind::Ccid => 4,
        Kind::Serial(_) => 5,
        Kind::Tablet(_) | Kind::Mouse(_) | Kind::Keyboard(_) => 6,
        Kind::Mtp(_) => 7,
        Kind::Hub(_) => 8,
        Kind::Redir(_) => 9,
        Kind::Other(_) => 10,
    }
}

/// Decides on all devices of a spec and on the default ones, and plugs them in.
pub(super) fn place(
    base: &Hardware,
    hardware: &mut Hardware,
    spec: &Spec,
    platform: &mut dyn Platform,
    context: &mut Context<'_>,
    names: &mut Names<'_>,
) -> Result<Devices, Refused> {
    let capabilities = context.capabilities;
    let mut addresses = find_existing(base, hardware, spec)?;
    let mut new = new_devices(hardware, spec, &addresses, capabilities, names)?;
    if !spec.disabled && !capabilities.running {
        add_default_devices(hardware, spec, platform, names, &mut new);
    }
    check_any_controller(hardware, spec, &new, platform)?;
    if platform.adds_hubs() {
        add_hubs(hardware, names, &mut new);
    }
    new.sort_by_key(NewDevice::order_key);

    let mut placement = Placement {
        ports: PortAllocator::new(hardware),
        hardware,
        spec,
        context,
        names,
        controllers: Vec::new(),
        added: Vec::new(),
    };
    for device in new {
        let address = placement
            .place(&device, platform)
            .map_err(|refused| refused.because_of(device.item()))?;
        match device.number.and_then(|number| addresses.get_mut(number)) {
            Some(slot) => *slot = Some(Placed { address, existing: false }),
            None => placement.added.push(address),
        }
    }
    let placed = addresses.into_iter().flatten().collect();
    Ok(Devices { placed, added: placement.added, controllers: placement.controllers })
}

/// The addresses of the devices that the base already has.
fn find_existing(
    base: &Hardware,
    hardware: &Hardware,
    spec: &Spec,
) -> Result<Vec<Option<Placed<Address>>>, Refused> {
    let unique: HashMap<UniqueResource<'_>, Address> = base
        .devices()
        .filter_map(|(address, device)| Some((device.kind.unique_resource()?, address)))
        .collect();
    let mut matched = HashSet::new();
    let mut hosts = HashSet::new();
    let mut addresses = Vec::with_capacity(spec.devices.len());
    for (number, device) in spec.devices.iter().enumerate() {
        let item = RequestedItem::Device(number);
        let bus = requested_bus(device, hardware).map_err(|refused| refused.because_of(item))?;
        // A port without a controller means a port of index 0.
        let bus = bus.or(device.port.and(Some(Index::ZERO)));
        let address = existing::device(device, bus, base, base, &unique)
            .map_err(|refusal| Refused::of(item, refusal))?;
        let host =
            matches!(device.kind, Kind::Host(_)).then(|| device.kind.unique_resource()).flatten();
        let duplicate = || Refusal::Duplicate { what: device.kind.to_string() };
        if host.is_some_and(|host| !hosts.insert(host)) {
            return Err(duplicate().libvirt_says(messages::DUPLICATE_HOSTDEV).because_of(item));
        }
        if address.is_some_and(|address| !matched.insert(address)) {
            return Err(Refused::of(item, duplicate()));
        }
        addresses.push(address.map(|address| Placed { address, existing: true }));
    }
    Ok(addresses)
}

/// The controller that a device requests. If the device also requests a port, a missing controller
/// is refused later, together with the port.
fn requested_bus(device: &DeviceSpec, hardware: &Hardware) -> Result<Option<Index>, Refused> {
    match (&device.controller, device.port) {
        (None, _) => Ok(None),
        (Some(ControllerRef::Index(index)), Some(_)) => Ok(Some(*index)),
        (Some(requested), _) => match (existing::controller(requested, hardware), requested) {
            // A guest without any controller is refused later, with a better explanation.
            (Err(_), _) if hardware.controllers().len() == 0 => Ok(Some(Index::ZERO)),
            (Err(refusal), ControllerRef::Index(index)) => Err(refusal.libvirt_says(format!(
                "USB bus {index} requested but no controller with that index is present"
            ))),
            (found, _) => Ok(found.map(Some)?),
        },
    }
}

/// The devices that the guest does not have yet, with their names.
fn new_devices<'a>(
    hardware: &Hardware,
    spec: &'a Spec,
    addresses: &[Option<Placed<Address>>],
    capabilities: &Capabilities,
    names: &mut Names<'_>,
) -> Result<Vec<NewDevice<'a>>, Refused> {
    let mut new = Vec::with_capacity(spec.devices.len());
    for (number, (device, address)) in spec.devices.iter().zip(addresses).enumerate() {
        if address.is_some() {
            continue;
        }
        let item = RequestedItem::Device(number);
        check_available(&device.kind, capabilities)
            .map_err(|refusal| Refused::of(item, refusal))?;
        let default_name = || names.device(hardware, &device.kind);
        new.push(NewDevice {
            number: Some(number),
            name: device.name.clone().unwrap_or_else(default_name),
            bus: requested_bus(device, hardware).map_err(|refused| refused.because_of(item))?,
            spec: Cow::Borrowed(device),
        });
    }
    Ok(new)
}

/// Checks that the hypervisor has the kind. An unknown device belongs to another tool and is kept.
fn check_available(kind: &Kind, capabilities: &Capabilities) -> Result<(), Refusal> {
    if matches!(kind, Kind::Other(_)) {
        return Ok(());
    }
    capabilities.check_kind(kind.name()).map_err(|why| {
        not_implemented(format!("a device of kind {}", kind.name()), capabilities, why)
    })
}

/// Rule 8.
fn add_default_devices(
    hardware: &Hardware,
    spec: &Spec,
    platform: &dyn Platform,
    names: &mut Names<'_>,
    new: &mut Vec<NewDevice<'_>>,
) {
    let has = |is_wanted: fn(&Kind) -> bool| {
        let present = hardware.devices().map(|(_, device)| &device.kind);
        present.chain(spec.devices.iter().map(|device| &device.kind)).any(is_wanted)
    };
    for kind in platform.default_devices(&has) {
        new.push(NewDevice::added(kind, hardware, names));
    }
}

/// Refuses devices for a guest without a controller, unless one may still be added.
fn check_any_controller(
    hardware: &Hardware,
    spec: &Spec,
    new: &[NewDevice<'_>],
    platform: &dyn Platform,
) -> Result<(), Refused> {
    let Some(device) = new.first().filter(|_| hardware.controllers().len() == 0) else {
        return Ok(());
    };
    let kind = &device.spec.kind;
    if spec.disabled {
        return Err(messages::disabled(kind).because_of(device.item()));
    }
    platform.check_without_controller(kind).map_err(|refused| refused.because_of(device.item()))
}

/// Rule 9.
fn add_hubs(hardware: &Hardware, names: &mut Names<'_>, new: &mut Vec<NewDevice<'_>>) {
    let roots = hardware.controllers().map(|controller| usize::from(controller.ports.count()));
    let kinds = || {
        let present = hardware.devices().map(|(_, device)| &device.kind);
        present.chain(new.iter().map(|device| &device.spec.kind))
    };
    let behind_hubs = kinds().map(|kind| usize::from(kind.hub_ports()));
    let (available, needed) = (roots.sum::<usize>() + behind_hubs.sum::<usize>(), kinds().count());
    if needed > available {
        let gain = usize::from(HUB_PORTS) - 1;
        let hubs = (needed - available + 1).div_ceil(gain);
        new.extend((0..hubs).map(|_| NewDevice::added(Kind::Hub(Hub::default()), hardware, names)));
    }
}

/// Places devices one by one.
pub(super) struct Placement<'a, 'c, 'n> {
    pub(super) hardware: &'a mut Hardware,
    spec: &'a Spec,
    pub(super) context: &'a mut Context<'c>,
    pub(super) names: &'a mut Names<'n>,
    pub(super) ports: PortAllocator,
    /// Controllers that were added without a request.
    pub(super) controllers: Vec<Index>,
    /// Devices that were added without a request.
    pub(super) added: Vec<Address>,
}

impl Placement<'_, '_, '_> {
    fn place(
        &mut self,
        device: &NewDevice<'_>,
        platform: &mut dyn Platform,
    ) -> Result<Address, Refused> {
        let bus = platform.controller_for(&device.spec, device.bus, self)?;
        let at = match device.spec.port {
            Some(port) => Address { bus: bus.unwrap_or(Index::ZERO), port },
            None => self.free_port(bus)?,
        };
        let kind = with_mac(&device.spec.kind, self.spec, at);
        self.plug(at, device.name.clone(), kind)?;
        Ok(at)
    }

    /// Plugs a device in.
    pub(super) fn plug(&mut self, at: Address, name: Name, kind: Kind) -> Result<(), Refused> {
        let device = Device { name, kind };
        self.hardware
            .plug(at, device.clone())
            .map_err(|refusal| messages::at_port(refusal, at, &device.kind, self.hardware))?;
        self.ports.take(at, &device.kind);
        Ok(())
    }

    /// Rule 11.
    fn free_port(&mut self, bus: Option<Index>) -> Result<Address, Refused> {
        let found = match bus {
            Some(bus) => {
                let port = self.ports.lowest(bus, SpeedSet::ALL);
                port.map(|port| Address { bus, port })
            }
            None => self.first_free_port(),
        };
        found.ok_or_else(|| self.full(bus))
    }

    /// The lowest free port of the lowest index that has one. libvirt and libxl do not prefer
    /// controllers without devices.
    fn first_free_port(&mut self) -> Option<Address> {
        let any = Candidates { pv: true, other_backends: true };
        let found =
            [Pool::Open, Pool::Shared].map(|pool| self.ports.first(pool, SpeedSet::ALL, any));
        found.into_iter().flatten().min()
    }

    /// The refusal of a device that finds no free port: on one controller, or on any.
    pub(super) fn full(&self, bus: Option<Index>) -> Refused {
        let ports_of = |controller: &Controller| {
            let hubs = controller.devices().map(|(_, it)| usize::from(it.kind.hub_ports()));
            usize::from(controller.ports.count()) + hubs.sum::<usize>()
        };
        let (scope, ports) = match bus.and_then(|bus| self.hardware.controller(bus)) {
            Some(controller) => (format!("{} and its hubs", controller.name), ports_of(controller)),
            None => (
                "the domain's controllers and hubs".to_owned(),
                self.hardware.controllers().map(ports_of).sum(),
            ),
        };
        Refusal::NoPort { scope, ports }.libvirt_says(messages::NO_FREE_PORT)
    }
}
