//! Deciding on devices: rules 8 to 12.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::machine::Machine;
use super::names::Names;
use super::sentences;
use crate::address::{Address, Index};
use crate::capabilities::Capabilities;
use crate::device::{HUB_PORTS, Hub, Identity, Input, Kind};
use crate::guest::Hypervisor;
use crate::hardware::{Controller, Device, Hardware};
use crate::models::UsbVersion;
use crate::name::Name;
use crate::refusal::Refusal;
use crate::resolve::controllers::Slots;
use crate::resolve::devices::with_mac;
use crate::resolve::room::{Among, May, Room};
use crate::resolve::{Asked, Refused, Settled, already, not_implemented};
use crate::spec::{ControllerRef, DeviceSpec, Spec};
use crate::speed::SpeedSet;

/// What a spec's devices come to.
pub(super) struct Devices {
    /// For each device of the spec, in its order, where it is.
    pub(super) settled: Vec<Settled<Address>>,
    /// Devices that nobody asked for.
    pub(super) added: Vec<Address>,
    /// Controllers that nobody asked for and that a device needs: on Xen alone.
    pub(super) controllers: Vec<Index>,
}

/// A device that the guest does not have yet.
struct New<'a> {
    /// Its place in the spec; `None` if nobody asked for it.
    asked: Option<usize>,
    spec: Cow<'a, DeviceSpec>,
    name: Name,
    /// The controller that it says.
    bus: Option<Index>,
}

impl New<'_> {
    fn refused(&self, refusal: Refusal) -> Refused {
        Refused { refusal, asked: self.asked.map(Asked::Device) }
    }

    /// When it is its turn: rule 10.
    fn turn(&self) -> (Turn, u8) {
        let hub = self.spec.kind.hub_ports() > 0;
        match (self.spec.port.is_some(), hub) {
            (true, true) => (Turn::SaidHub, 0),
            (true, false) => (Turn::Said, rank(&self.spec.kind)),
            (false, true) => (Turn::Hub, 0),
            (false, false) => (Turn::Rest, rank(&self.spec.kind)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    SaidHub,
    Said,
    Hub,
    Rest,
}

/// The order of kinds in which libvirt looks through a guest (`virDomainUSBDeviceDefForeach` in its `conf/domain_conf.c`, 11.3;
/// others had another).
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

/// Decides on all devices of a spec, and on those that the guest has by itself, and plugs them in.
pub(super) fn settle(
    base: &Hardware,
    hardware: &mut Hardware,
    spec: &Spec,
    slots: &mut Slots<'_>,
    names: &mut Names<'_>,
) -> Result<Devices, Refused> {
    let capabilities = slots.capabilities;
    let there = there(base, hardware, spec)?;
    let mut new = new(hardware, spec, &there, capabilities, names)?;
    own_devices(hardware, spec, capabilities, names, &mut new);
    has_controllers(hardware, spec, &new, capabilities)?;
    more_hubs(hardware, capabilities, names, &mut new);
    new.sort_by_key(New::turn);

    let mut placing = Placing {
        room: Room::new(hardware),
        hardware,
        spec,
        slots,
        names,
        controllers: Vec::new(),
        added: Vec::new(),
    };
    let mut places = there;
    for device in new {
        let at = placing.one(&device)?;
        match device.asked.and_then(|number| places.get_mut(number)) {
            Some(slot) => *slot = Some(Settled { at, already: false }),
            None => placing.added.push(at),
        }
    }
    let settled = places.into_iter().flatten().collect();
    Ok(Devices { settled, added: placing.added, controllers: placing.controllers })
}

/// Where the devices are that the base has already.
fn there(
    base: &Hardware,
    hardware: &Hardware,
    spec: &Spec,
) -> Result<Vec<Option<Settled<Address>>>, Refused> {
    let present: HashMap<Identity<'_>, Address> = base
        .devices()
        .filter_map(|(address, device)| Some((device.kind.identity()?, address)))
        .collect();
    let mut meant = HashSet::new();
    let mut hosts = HashSet::new();
    let mut there = Vec::with_capacity(spec.devices.len());
    for (number, device) in spec.devices.iter().enumerate() {
        let refused = |refusal| Refused::of(Asked::Device(number), refusal);
        let bus = bus(device, hardware).map_err(refused)?;
        // A port without a controller is one of index 0.
        let said = bus.or(device.port.and(Some(Index::ZERO)));
        let at = already::device(device, said, base, base, &present).map_err(refused)?;
        let host = matches!(device.kind, Kind::Host(_)).then(|| device.kind.identity()).flatten();
        let again = host.is_some_and(|host| !hosts.insert(host));
        if again || at.is_some_and(|at| !meant.insert(at)) {
            let twice = Refusal::Twice { what: device.kind.to_string() };
            return Err(refused(if again {
                twice.libvirt_says(sentences::HOSTDEV_TWICE)
            } else {
                twice
            }));
        }
        there.push(at.map(|at| Settled { at, already: true }));
    }
    Ok(there)
}

/// The controller that a device says. One that is not there is refused only with the port, if that is said too.
fn bus(device: &DeviceSpec, hardware: &Hardware) -> Result<Option<Index>, Refusal> {
    match (&device.controller, device.port) {
        (None, _) => Ok(None),
        (Some(ControllerRef::Index(index)), Some(_)) => Ok(Some(*index)),
        (Some(asked), _) => match (already::controller(asked, hardware), asked) {
            // A guest without any controller is refused with more to say.
            (Err(_), _) if hardware.controllers().len() == 0 => Ok(Some(Index::ZERO)),
            (Err(refusal), ControllerRef::Index(index)) => Err(refusal.libvirt_says(format!(
                "USB bus {index} requested but no controller with that index is present"
            ))),
            (found, _) => found.map(Some),
        },
    }
}

/// The devices that the guest does not have yet, with their names.
fn new<'a>(
    hardware: &Hardware,
    spec: &'a Spec,
    there: &[Option<Settled<Address>>],
    capabilities: &Capabilities,
    names: &mut Names<'_>,
) -> Result<Vec<New<'a>>, Refused> {
    let mut new = Vec::with_capacity(spec.devices.len());
    for (number, (device, there)) in spec.devices.iter().zip(there).enumerate() {
        if there.is_some() {
            continue;
        }
        let refused = |refusal| Refused::of(Asked::Device(number), refusal);
        available(&device.kind, capabilities).map_err(refused)?;
        let given = || names.device(hardware, &device.kind);
        new.push(New {
            asked: Some(number),
            name: device.name.clone().unwrap_or_else(given),
            bus: bus(device, hardware).map_err(refused)?,
            spec: Cow::Borrowed(device),
        });
    }
    Ok(new)
}

/// Whether the hypervisor can have the kind. What is not known here is kept: it is another tool's.
fn available(kind: &Kind, capabilities: &Capabilities) -> Result<(), Refusal> {
    if matches!(kind, Kind::Other(_)) {
        return Ok(());
    }
    capabilities.kind(kind.word()).map_err(|why| {
        not_implemented(format!("a device of kind {}", kind.word()), capabilities, why, None)
    })
}

/// A device that nobody asked for.
fn added<'a>(kind: Kind, hardware: &Hardware, names: &mut Names<'_>) -> New<'a> {
    let name = names.device(hardware, &kind);
    New { asked: None, spec: Cow::Owned(DeviceSpec::new(kind)), name, bus: None }
}

/// Rule 8.
fn own_devices(
    hardware: &Hardware,
    spec: &Spec,
    capabilities: &Capabilities,
    names: &mut Names<'_>,
    new: &mut Vec<New<'_>>,
) {
    let guest = &capabilities.guest;
    let has_own = guest.hypervisor != Hypervisor::Xen
        && Machine::of(guest).has_usb_keyboard()
        && guest.graphics;
    if !has_own || spec.disabled || capabilities.running {
        return;
    }
    let kinds = || {
        let there = hardware.devices().map(|(_, device)| &device.kind);
        there.chain(spec.devices.iter().map(|device| &device.kind))
    };
    // As QEMU makes them unless told otherwise.
    let input = Input { usbversion: UsbVersion::V2 };
    if !kinds().any(|kind| matches!(kind, Kind::Keyboard(_))) {
        new.push(added(Kind::Keyboard(input), hardware, names));
    }
    if !kinds().any(|kind| matches!(kind, Kind::Mouse(_) | Kind::Tablet(_))) {
        new.push(added(Kind::Mouse(input), hardware, names));
    }
}

/// A device needs a controller, and one that can be.
fn has_controllers(
    hardware: &Hardware,
    spec: &Spec,
    new: &[New<'_>],
    capabilities: &Capabilities,
) -> Result<(), Refused> {
    // On Xen, one may be added still.
    let is_xen = capabilities.guest.hypervisor == Hypervisor::Xen && !spec.disabled;
    let Some(device) = new.first().filter(|_| hardware.controllers().len() == 0 && !is_xen) else {
        return Ok(());
    };
    let guest = Machine::of(&capabilities.guest).describe();
    Err(device.refused(if spec.disabled {
        sentences::disabled(&device.spec.kind)
    } else {
        sentences::no_controller(&device.spec.kind, guest)
    }))
}

/// Rule 9.
fn more_hubs(
    hardware: &Hardware,
    capabilities: &Capabilities,
    names: &mut Names<'_>,
    new: &mut Vec<New<'_>>,
) {
    if capabilities.running || capabilities.guest.hypervisor == Hypervisor::Xen {
        return;
    }
    let roots = hardware.controllers().map(|controller| usize::from(controller.ports.count()));
    let kinds = || {
        let there = hardware.devices().map(|(_, device)| &device.kind);
        there.chain(new.iter().map(|device| &device.spec.kind))
    };
    let behind = kinds().map(|kind| usize::from(kind.hub_ports()));
    let (available, needed) = (roots.sum::<usize>() + behind.sum::<usize>(), kinds().count());
    if needed > available {
        let gain = usize::from(HUB_PORTS) - 1;
        let hubs = (needed - available + 1).div_ceil(gain);
        new.extend((0..hubs).map(|_| added(Kind::Hub(Hub::default()), hardware, names)));
    }
}

/// The work of placing devices.
pub(super) struct Placing<'a, 's, 'n> {
    pub(super) hardware: &'a mut Hardware,
    spec: &'a Spec,
    pub(super) slots: &'a mut Slots<'s>,
    pub(super) names: &'a mut Names<'n>,
    pub(super) room: Room,
    /// Controllers and devices that nobody asked for.
    pub(super) controllers: Vec<Index>,
    pub(super) added: Vec<Address>,
}

impl Placing<'_, '_, '_> {
    fn one(&mut self, device: &New<'_>) -> Result<Address, Refused> {
        let refused = |refusal| device.refused(refusal);
        let bus = match self.slots.capabilities.guest.hypervisor {
            Hypervisor::Xen => self.home(&device.spec, device.bus).map_err(refused)?,
            _ => device.bus,
        };
        let at = match device.spec.port {
            Some(port) => Address { bus: bus.unwrap_or(Index::ZERO), port },
            None => self.free(bus).map_err(refused)?,
        };
        let kind = with_mac(&device.spec.kind, self.spec, at);
        self.plug(at, device.name.clone(), kind).map_err(refused)?;
        Ok(at)
    }

    /// Plugs a device in.
    pub(super) fn plug(&mut self, at: Address, name: Name, kind: Kind) -> Result<(), Refusal> {
        let device = Device { name, kind };
        self.hardware
            .plug(at, device.clone())
            .map_err(|refusal| sentences::at_port(refusal, at, &device.kind, self.hardware))?;
        self.room.take(at, &device.kind);
        Ok(())
    }

    /// Rule 11.
    fn free(&mut self, bus: Option<Index>) -> Result<Address, Refusal> {
        let found = match bus {
            Some(bus) => {
                let port = self.room.lowest(bus, SpeedSet::ALL);
                port.map(|port| Address { bus, port })
            }
            None => self.first(),
        };
        found.ok_or_else(|| self.full(bus))
    }

    /// The lowest free port of the lowest index that has one. Whether it is shared is nothing to libvirt or libxl.
    fn first(&mut self) -> Option<Address> {
        let may = May { pv: true, elsewhere: true };
        let found =
            [Among::Open, Among::Shared].map(|among| self.room.first(among, SpeedSet::ALL, may));
        found.into_iter().flatten().min()
    }

    /// The refusal of a device that there is no room for: on one controller, or on any.
    pub(super) fn full(&self, bus: Option<Index>) -> Refusal {
        let ports_of = |controller: &Controller| {
            let hubs = controller.devices().map(|(_, it)| usize::from(it.kind.hub_ports()));
            usize::from(controller.ports.count()) + hubs.sum::<usize>()
        };
        let (of, ports) = match bus.and_then(|bus| self.hardware.controller(bus)) {
            Some(controller) => (format!("{} and its hubs", controller.name), ports_of(controller)),
            None => (
                "the domain's controllers and hubs".to_owned(),
                self.hardware.controllers().map(ports_of).sum(),
            ),
        };
        Refusal::NoPort { of, ports }.libvirt_says(sentences::NO_FREE_PORT)
    }
}
