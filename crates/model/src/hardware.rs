//! A guest's USB hardware, with everything decided: the controllers and devices exactly as the
//! guest sees them.
//!
//! ```text
//! Hardware ── Controller (index, model, ports, companions)
//!                └── Device at a port path: 1, 2, 2.1 (behind the hub at 2), ...
//! ```
//!
//! A [`Hardware`] is always valid: each index and name is unique, and each device is on a port of
//! its own that exists and supports its speed. No operation creates an invalid one, including
//! reading a stored one.

mod stored;

use std::collections::btree_map::{self, BTreeMap};
use std::collections::hash_map::{Entry, HashMap};
use std::fmt;
use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};

use crate::address::{Address, Index, PortPath};
use crate::device::{HUB_PORTS, HUB_SPEEDS, Kind};
use crate::models::{Companion, Model, RootPorts, UsbVersion};
use crate::name::Name;
use crate::refusal::Refusal;
use crate::remedy::Remedy;
use crate::speed::{Speed, SpeedSet};

/// The PCI address of a controller: the bus, by the hypervisor's name for it, and the slot and
/// function on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciAddress {
    /// The hypervisor's name for the bus: `pci.0`, `rp0`.
    pub bus: String,
    /// The slot: 0 to 31.
    pub slot: u8,
    /// The function: 0 to 7.
    pub function: u8,
}

impl fmt::Display for PciAddress {
    /// `pci.0/04.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:02x}.{:x}", self.bus, self.slot, self.function)
    }
}

/// A controller with the devices on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Its index in the domain: the `bus` of the addresses on it.
    pub index: Index,
    /// Its name.
    pub name: Name,
    /// Its model.
    pub model: Model,
    /// Its ports.
    pub ports: RootPorts,
    /// The UHCIs that serve the slow devices on its ports.
    pub companions: Vec<Companion>,
    /// The backend domain, by name or id; `None` is domain 0. For pv only.
    pub backend: Option<String>,
    /// Its PCI address, if it is known.
    pub pci: Option<PciAddress>,
    devices: BTreeMap<PortPath, Device>,
}

/// A device on a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: Name,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
}

impl Controller {
    /// A controller without devices, companions, backend or PCI address.
    pub const fn new(index: Index, name: Name, model: Model, ports: RootPorts) -> Controller {
        let devices = BTreeMap::new();
        Controller {
            index,
            name,
            model,
            ports,
            companions: Vec::new(),
            backend: None,
            pci: None,
            devices,
        }
    }

    /// The devices on it, hubs before the devices behind them.
    pub fn devices(&self) -> impl ExactSizeIterator<Item = (PortPath, &Device)> {
        self.devices.iter().map(|(port, device)| (*port, device))
    }

    /// The device at `port`.
    pub fn device(&self, port: PortPath) -> Option<&Device> {
        self.devices.get(&port)
    }

    /// The same controller without its devices.
    pub fn without_devices(&self) -> Controller {
        Controller { devices: BTreeMap::new(), ..self.clone() }
    }

    /// The speeds that the controller's own port `port` supports.
    pub fn root_port_speeds(&self, port: u8) -> SpeedSet {
        const USB2: SpeedSet = SpeedSet::of(&[Speed::Low, Speed::Full, Speed::High]);
        if self.model.is_xhci() {
            let up_to = |last: u8, speeds: SpeedSet| {
                if port <= last { speeds } else { SpeedSet::NONE }
            };
            let usb2 = up_to(self.ports.usb2(), USB2);
            return usb2.union(up_to(self.ports.usb3(), Speed::Super.into()));
        }
        let slow = self.companions.iter().any(|companion| companion.serves(port));
        self.model.speeds().union(if slow { HUB_SPEEDS } else { SpeedSet::NONE })
    }

    /// All speeds that any of its own ports supports.
    pub fn speeds(&self) -> SpeedSet {
        (1..=self.ports.count())
            .fold(SpeedSet::NONE, |all, port| all.union(self.root_port_speeds(port)))
    }

    /// The speeds that a port supports, the controller's own or a hub's.
    ///
    /// # Errors
    /// The port or a hub on the way to it does not exist.
    pub fn port_speeds(&self, port: PortPath) -> Result<SpeedSet, Refusal> {
        let missing = |on: String, ports: u8| Refusal::NoSuchPort {
            controller: self.name.clone(),
            port,
            on,
            ports,
        };
        let Some(hub) = port.parent() else {
            let ports = self.ports.count();
            let exists = port.port() <= ports;
            return if exists {
                Ok(self.root_port_speeds(port.port()))
            } else {
                Err(missing("it".to_owned(), ports))
            };
        };
        match self.devices.get(&hub).map(|device| device.kind.hub_ports()) {
            None | Some(0) => Err(Refusal::NoHub { controller: self.name.clone(), hub, port }),
            Some(ports) if port.port() > ports => Err(missing(format!("the hub at {hub}"), ports)),
            Some(_) => Ok(HUB_SPEEDS),
        }
    }

    /// Whether the guest sees the same controller, apart from the devices. An unknown PCI address
    /// matches any.
    pub fn same_hardware(&self, other: &Controller) -> bool {
        let pci = match (&self.pci, &other.pci) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        pci && self.model == other.model
            && self.ports == other.ports
            && self.companions == other.companions
            && self.backend == other.backend
    }

    /// A description for use in a sentence: `hci0, a nec-xhci with 15 ports at index 0`.
    pub fn describe(&self) -> String {
        let group = if self.companions.is_empty() { "" } else { " and companions" };
        format!(
            "{}, {} {}{group} with {} ports at index {}",
            self.name,
            article(self.model.name()),
            self.model,
            self.ports.count(),
            self.index
        )
    }
}

/// The article for a word: `a` or `an`.
pub fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }
}

/// The owner of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A controller.
    Controller(Index),
    /// A device.
    Device(Address),
}

/// A guest's USB hardware. See the module documentation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<stored::Controller>", into = "Vec<stored::Controller>")]
pub struct Hardware {
    controllers: BTreeMap<Index, Controller>,
    names: HashMap<Name, Item>,
}

impl PartialEq for Hardware {
    fn eq(&self, other: &Self) -> bool {
        self.controllers == other.controllers
    }
}

impl Eq for Hardware {}

impl Hardware {
    /// Hardware without any USB.
    pub fn new() -> Hardware {
        Hardware::default()
    }

    /// The controllers, by index.
    pub fn controllers(&self) -> impl ExactSizeIterator<Item = &Controller> {
        self.controllers.values()
    }

    /// The controller at `index`.
    pub fn controller(&self, index: Index) -> Option<&Controller> {
        self.controllers.get(&index)
    }

    /// The owner of `name`.
    pub fn named(&self, name: &Name) -> Option<Item> {
        self.names.get(name).copied()
    }

    /// Every device with its address, by controller and port.
    pub fn devices(&self) -> impl Iterator<Item = (Address, &Device)> {
        self.controllers().flat_map(|controller| {
            let bus = controller.index;
            controller.devices().map(move |(port, device)| (Address { bus, port }, device))
        })
    }

    /// The device at `address`.
    pub fn device(&self, address: Address) -> Option<&Device> {
        self.controller(address.bus)?.device(address.port)
    }

    /// A description of the owner of `name`.
    pub fn describe(&self, name: &Name) -> Option<String> {
        match self.named(name)? {
            Item::Controller(index) => self.controller(index).map(Controller::describe),
            Item::Device(address) => self
                .device(address)
                .map(|device| format!("{} at {}", device.kind, self.location(address))),
        }
    }

    /// The display form of an address: `hci0:1.2`.
    pub fn location(&self, address: Address) -> String {
        match self.controller(address.bus) {
            Some(controller) => format!("{}:{}", controller.name, address.port),
            None => address.to_string(),
        }
    }

    /// Adds a controller together with its devices.
    ///
    /// # Errors
    /// Its index or a name is taken, its model cannot have its ports or companions, or one of its
    /// devices does not fit. Nothing is changed in that case.
    pub fn add_controller(&mut self, controller: Controller) -> Result<(), Refusal> {
        check_ports(&controller)?;
        check_companions(&controller)?;
        if let Some(existing) = self.controllers.get(&controller.index) {
            return Err(Refusal::IndexInUse {
                index: controller.index.get(),
                by: existing.describe(),
            });
        }
        let index = controller.index;
        self.take_name(&controller.name, Item::Controller(index))?;
        let devices: Vec<(PortPath, Device)> =
            controller.devices.iter().map(|(port, device)| (*port, device.clone())).collect();
        self.controllers.insert(index, controller.without_devices());
        for (port, device) in devices {
            if let Err(refusal) = self.plug(Address { bus: index, port }, device) {
                self.remove_controller(index);
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// Removes the controller at `index` together with its devices, and returns it. `None` if there
    /// is none.
    pub fn remove_controller(&mut self, index: Index) -> Option<Controller> {
        let controller = self.controllers.remove(&index)?;
        self.names.remove(&controller.name);
        for device in controller.devices.values() {
            self.names.remove(&device.name);
        }
        Some(controller)
    }

    /// Plugs a device in.
    ///
    /// # Errors
    /// There is no such controller or port, the port is in use or does not support the device's
    /// speed, a hub has an invalid number of ports, or the name is taken. Nothing is changed in
    /// that case.
    pub fn plug(&mut self, address: Address, device: Device) -> Result<(), Refusal> {
        let existing = || self.controllers().map(|controller| controller.name.clone()).collect();
        let Some(controller) = self.controllers.get(&address.bus) else {
            return Err(Refusal::NoSuchController {
                requested: address.bus.to_string(),
                existing: existing(),
            });
        };
        check_port(self, controller, address.port, &device.kind)?;
        self.take_name(&device.name, Item::Device(address))?;
        if let Some(controller) = self.controllers.get_mut(&address.bus) {
            controller.devices.insert(address.port, device);
        }
        Ok(())
    }

    /// Unplugs the device at `address` and all devices behind it. Returns them deepest first; empty
    /// if there is no device.
    pub fn unplug(&mut self, address: Address) -> Vec<(Address, Device)> {
        let Some(controller) = self.controllers.get_mut(&address.bus) else {
            return Vec::new();
        };
        let removed: Vec<PortPath> = controller
            .devices
            .range(address.port..)
            .map(|(port, _)| *port)
            .take_while(|port| *port == address.port || port.is_below(address.port))
            .collect();
        let mut out = Vec::new();
        for port in removed.into_iter().rev() {
            if let btree_map::Entry::Occupied(entry) = controller.devices.entry(port) {
                let device = entry.remove();
                self.names.remove(&device.name);
                out.push((Address { bus: address.bus, port }, device));
            }
        }
        out
    }

    /// Sets the PCI address of the controller at `index`. The address may become known later than
    /// the rest of the controller.
    pub fn set_pci(&mut self, index: Index, pci: Option<PciAddress>) {
        if let Some(controller) = self.controllers.get_mut(&index) {
            controller.pci = pci;
        }
    }

    /// Renames the controller or device `old` to `new`. Does nothing if there is no `old`.
    ///
    /// # Errors
    /// `new` is taken.
    pub fn rename(&mut self, old: &Name, new: &Name) -> Result<(), Refusal> {
        let Some(item) = self.named(old).filter(|_| old != new) else {
            return Ok(());
        };
        self.take_name(new, item)?;
        self.names.remove(old);
        match item {
            Item::Controller(index) => {
                if let Some(controller) = self.controllers.get_mut(&index) {
                    controller.name = new.clone();
                }
            }
            Item::Device(address) => {
                let controller = self.controllers.get_mut(&address.bus);
                if let Some(device) =
                    controller.and_then(|controller| controller.devices.get_mut(&address.port))
                {
                    device.name = new.clone();
                }
            }
        }
        Ok(())
    }

    /// Reserves capacity for `more` names.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.names.reserve(more);
    }

    fn take_name(&mut self, name: &Name, item: Item) -> Result<(), Refusal> {
        match self.names.entry(name.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(item);
                Ok(())
            }
            Entry::Occupied(_) => {
                let by = self.describe(name).unwrap_or_default();
                Err(Refusal::NameInUse { name: name.clone(), by })
            }
        }
    }
}

/// Checks that the model can have these ports.
fn check_ports(controller: &Controller) -> Result<(), Refusal> {
    let (ports, can) = (controller.ports, controller.model.port_range());
    let good = if controller.model.is_xhci() {
        can.contains(&ports.count())
    } else {
        can.contains(&ports.count()) && ports.usb3() == 0
            || controller.model.virtualbox_ports() == Some(ports)
    };
    if good {
        Ok(())
    } else {
        Err(Refusal::PortCount {
            model: controller.model,
            requested: ports.count(),
            supported: can,
        })
    }
}

/// Checks that the model can have companions, and that each of them serves ports that exist and
/// that no other companion serves.
fn check_companions(controller: &Controller) -> Result<(), Refusal> {
    let refuse = |why| Err(Refusal::Companions { model: controller.model, why });
    if controller.companions.is_empty() {
        return Ok(());
    }
    // In QEMU any UHCI can be the companion of any EHCI, so another tool may have given one to a
    // plain `ehci`.
    if !matches!(controller.model, Model::Ich9Ehci1 | Model::Ich9Ehci2 | Model::Ehci) {
        return refuse("only an EHCI has companions");
    }
    let mut served = [false; u8::MAX as usize + 1];
    for companion in &controller.companions {
        for port in (1..=u8::MAX).filter(|port| companion.serves(*port)) {
            let Some(slot) =
                served.get_mut(usize::from(port)).filter(|_| port <= controller.ports.count())
            else {
                return refuse("one of them serves a port that does not exist");
            };
            if std::mem::replace(slot, true) {
                return refuse("two of them serve the same port");
            }
        }
    }
    Ok(())
}

/// Checks that a device of this kind can be plugged in at this port.
fn check_port(
    hardware: &Hardware,
    controller: &Controller,
    port: PortPath,
    kind: &Kind,
) -> Result<(), Refusal> {
    let supported = controller.port_speeds(port)?;
    match kind {
        Kind::Hub(hub) if !(1..=HUB_PORTS).contains(&hub.ports) => {
            return Err(Refusal::HubPorts { requested: hub.ports });
        }
        _ => {}
    }
    if let Some(existing) = controller.device(port) {
        return Err(Refusal::PortInUse {
            controller: controller.name.clone(),
            port,
            by: format!("{} ({})", existing.name, existing.kind),
        });
    }
    match kind.speeds() {
        Some(speeds) if speeds.possible.intersection(supported).is_empty() => {
            let location = match port.parent() {
                None => format!("{} ({})", controller.name, controller.model),
                Some(hub) => format!("the hub at {}:{hub}", controller.name),
            };
            Err(wrong_speed(hardware, kind, location, supported))
        }
        _ => Ok(()),
    }
}

/// The refusal of a device at a location that does not support its speed, with alternatives that
/// do.
pub(crate) fn wrong_speed(
    hardware: &Hardware,
    kind: &Kind,
    location: String,
    supported: SpeedSet,
) -> Refusal {
    let speed = kind.speeds().map_or(SpeedSet::NONE, |speeds| speeds.possible);
    let fitting: Vec<Name> = hardware
        .controllers()
        .filter(|controller| !controller.speeds().intersection(speed).is_empty())
        .map(|controller| controller.name.clone())
        .collect();
    let version = |usbversion| Remedy::UseVersion { usbversion };
    // Only an xHCI supports a device that runs only at SuperSpeed.
    let models = if speed.has_slow() {
        vec![version(UsbVersion::V1), version(UsbVersion::V3)]
    } else if speed.contains(Speed::High) {
        vec![version(UsbVersion::V3), Remedy::UseModel { model: Model::Ehci, ports: None }]
    } else {
        vec![version(UsbVersion::V3)]
    };
    let omit = fitting.is_empty().then_some(Remedy::OmitController);
    Refusal::WrongSpeed {
        device: match kind {
            Kind::Host(host) => format!("the host device {}", host.selector),
            emulated => format!("{} {}", article(emulated.name()), emulated.name()),
        },
        speed,
        location,
        supported,
        fitting,
        alternatives: omit.into_iter().chain(models).collect(),
    }
}
