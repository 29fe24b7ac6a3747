//! A guest's USB hardware, with everything decided: the controllers and devices exactly as the guest sees them.
//!
//! ```text
//! Hardware ── Controller (index, model, ports, companions)
//!                └── Device at a port path: 1, 2, 2.1 (behind the hub at 2), ...
//! ```
//!
//! A [`Hardware`] is sound at all times: each index and name is used once, each device is on a port that exists, is free
//! and takes its speed. Nothing makes one that is not, reading a stored one included.

mod stored;

use std::collections::btree_map::{self, BTreeMap};
use std::collections::hash_map::{Entry, HashMap};
use std::fmt;
use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};

use crate::address::{Address, Index, PortPath};
use crate::device::{HUB_PORTS, HUB_TAKES, Kind};
use crate::models::{Companion, Model, RootPorts};
use crate::name::Name;
use crate::refusal::Refusal;
use crate::speed::{Speed, SpeedSet};

/// Where a controller sits on the guest's PCI: the hypervisor's name of the bus, and slot and function on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciAddress {
    /// The hypervisor's name of the bus: `pci.0`, `rp0`.
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

/// A controller, with what is plugged into it.
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
    /// The UHCIs that serve slow devices on its ports.
    pub companions: Vec<Companion>,
    /// The domain whose USB devices it carries, by name or id; `None` is domain 0. For pv only.
    pub backend: Option<String>,
    /// Where it sits on PCI, if that is known.
    pub pci: Option<PciAddress>,
    devices: BTreeMap<PortPath, Device>,
}

/// A device that is plugged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: Name,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
}

impl Controller {
    /// A controller with nothing on it, without companions, backend or PCI address.
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

    /// The devices on it, hubs before what is behind them.
    pub fn devices(&self) -> impl ExactSizeIterator<Item = (PortPath, &Device)> {
        self.devices.iter().map(|(port, device)| (*port, device))
    }

    /// The device at `port`.
    pub fn device(&self, port: PortPath) -> Option<&Device> {
        self.devices.get(&port)
    }

    /// The same controller with nothing on it.
    pub fn bare(&self) -> Controller {
        Controller { devices: BTreeMap::new(), ..self.clone() }
    }

    /// The speeds that the controller's own port `port` takes.
    pub fn root_takes(&self, port: u8) -> SpeedSet {
        const USB2: SpeedSet = SpeedSet::of(&[Speed::Low, Speed::Full, Speed::High]);
        if self.model.is_xhci() {
            let half = |reach: u8, speeds: SpeedSet| {
                if port <= reach { speeds } else { SpeedSet::NONE }
            };
            return half(self.ports.usb2(), USB2).or(half(self.ports.usb3(), Speed::Super.into()));
        }
        let slow = self.companions.iter().any(|companion| companion.serves(port));
        self.model.takes().or(if slow { HUB_TAKES } else { SpeedSet::NONE })
    }

    /// All the speeds that any of its own ports takes.
    pub fn takes(&self) -> SpeedSet {
        (1..=self.ports.count()).fold(SpeedSet::NONE, |all, port| all.or(self.root_takes(port)))
    }

    /// The speeds that the port takes, be it the controller's or a hub's.
    ///
    /// # Errors
    /// The port or a hub on the way to it does not exist.
    pub fn port_takes(&self, port: PortPath) -> Result<SpeedSet, Refusal> {
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
                Ok(self.root_takes(port.port()))
            } else {
                Err(missing("it".to_owned(), ports))
            };
        };
        match self.devices.get(&hub).map(|device| device.kind.hub_ports()) {
            None | Some(0) => Err(Refusal::NoHub { controller: self.name.clone(), hub, port }),
            Some(ports) if port.port() > ports => Err(missing(format!("the hub at {hub}"), ports)),
            Some(_) => Ok(HUB_TAKES),
        }
    }

    /// Whether the guest sees the same controller, leaving aside what is plugged in. A PCI address that is not known fits
    /// any.
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

    /// In a few words: `hci0, a nec-xhci with 15 ports`.
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

/// `a` or `an`, as the word after it wants it.
pub(crate) fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }
}

/// What a name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A controller.
    Controller(Index),
    /// A device.
    Device(Address),
}

/// A guest's USB hardware. See the module's text.
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
    /// No USB at all.
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

    /// What `name` belongs to.
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

    /// In a few words, what has `name`.
    pub fn describe(&self, name: &Name) -> Option<String> {
        match self.named(name)? {
            Item::Controller(index) => self.controller(index).map(Controller::describe),
            Item::Device(address) => self
                .device(address)
                .map(|device| format!("{} at {}", device.kind, self.place(address))),
        }
    }

    /// An address as a person writes it: `hci0:1.2`.
    pub fn place(&self, address: Address) -> String {
        match self.controller(address.bus) {
            Some(controller) => format!("{}:{}", controller.name, address.port),
            None => address.to_string(),
        }
    }

    /// Adds a controller, with all that is on it.
    ///
    /// # Errors
    /// Its index or a name is taken, or its ports or companions are none that its model can have. Nothing is changed then.
    pub fn add_controller(&mut self, controller: Controller) -> Result<(), Refusal> {
        check_ports(&controller)?;
        check_companions(&controller)?;
        if let Some(there) = self.controllers.get(&controller.index) {
            return Err(Refusal::IndexInUse {
                index: controller.index.get(),
                by: there.describe(),
            });
        }
        let index = controller.index;
        self.take_name(&controller.name, Item::Controller(index))?;
        let devices: Vec<(PortPath, Device)> =
            controller.devices.iter().map(|(port, device)| (*port, device.clone())).collect();
        self.controllers.insert(index, controller.bare());
        for (port, device) in devices {
            if let Err(refusal) = self.plug(Address { bus: index, port }, device) {
                self.remove_controller(index);
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// Removes the controller at `index` with all that is on it, and returns it. `None` if there is none.
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
    /// There is no such controller or port, it is in use, it does not take the device's speed, or the name is taken.
    /// Nothing is changed then.
    pub fn plug(&mut self, address: Address, device: Device) -> Result<(), Refusal> {
        let known = || self.controllers().map(|controller| controller.name.clone()).collect();
        let Some(controller) = self.controllers.get(&address.bus) else {
            return Err(Refusal::NoSuchController {
                asked: address.bus.to_string(),
                known: known(),
            });
        };
        check_port(self, controller, address.port, &device.kind)?;
        self.take_name(&device.name, Item::Device(address))?;
        if let Some(controller) = self.controllers.get_mut(&address.bus) {
            controller.devices.insert(address.port, device);
        }
        Ok(())
    }

    /// Pulls the device at `address` out, with all that is plugged in behind it. The devices come back deepest first;
    /// none if there is nothing.
    pub fn unplug(&mut self, address: Address) -> Vec<(Address, Device)> {
        let Some(controller) = self.controllers.get_mut(&address.bus) else {
            return Vec::new();
        };
        let gone: Vec<PortPath> = controller
            .devices
            .range(address.port..)
            .map(|(port, _)| *port)
            .take_while(|port| *port == address.port || port.is_below(address.port))
            .collect();
        let mut out = Vec::new();
        for port in gone.into_iter().rev() {
            if let btree_map::Entry::Occupied(entry) = controller.devices.entry(port) {
                let device = entry.remove();
                self.names.remove(&device.name);
                out.push((Address { bus: address.bus, port }, device));
            }
        }
        out
    }

    /// Changes what is known of the controller at `index` and is none of its hardware: its PCI address.
    pub fn set_pci(&mut self, index: Index, pci: Option<PciAddress>) {
        if let Some(controller) = self.controllers.get_mut(&index) {
            controller.pci = pci;
        }
    }

    /// Gives what has the name `old` the name `new`.
    ///
    /// # Errors
    /// `new` is taken. Nothing happens if nothing has the name `old`.
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

    /// Makes room for so many more names at once.
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

/// Whether the model can have these ports.
fn check_ports(controller: &Controller) -> Result<(), Refusal> {
    let (ports, can) = (controller.ports, controller.model.port_range());
    let good = if controller.model.is_xhci() {
        can.contains(&ports.count())
    } else {
        can.contains(&ports.count()) && ports.usb3() == 0
    };
    if good {
        Ok(())
    } else {
        Err(Refusal::PortCount { model: controller.model, asked: ports.count(), can })
    }
}

/// Whether the model has companions, and each of them serves ports of its own.
fn check_companions(controller: &Controller) -> Result<(), Refusal> {
    let refuse = |why| Err(Refusal::Companions { model: controller.model, why });
    if controller.companions.is_empty() {
        return Ok(());
    }
    // QEMU lets any UHCI be the companion of any EHCI; so another tool may have made one of plain `ehci` too.
    if !matches!(controller.model, Model::Ich9Ehci1 | Model::Ehci) {
        return refuse("only an EHCI has companions");
    }
    let mut served = [false; u8::MAX as usize + 1];
    for companion in &controller.companions {
        for port in (1..=u8::MAX).filter(|port| companion.serves(*port)) {
            let Some(slot) =
                served.get_mut(usize::from(port)).filter(|_| port <= controller.ports.count())
            else {
                return refuse("one of them serves a port that is not there");
            };
            if std::mem::replace(slot, true) {
                return refuse("two of them serve the same port");
            }
        }
    }
    Ok(())
}

/// Whether a device of this kind can be plugged in there.
fn check_port(
    hardware: &Hardware,
    controller: &Controller,
    port: PortPath,
    kind: &Kind,
) -> Result<(), Refusal> {
    let takes = controller.port_takes(port)?;
    if let Kind::Hub(hub) = kind
        && !(1..=HUB_PORTS).contains(&hub.ports)
    {
        return Err(Refusal::HubPorts { asked: hub.ports });
    }
    if let Some(there) = controller.device(port) {
        return Err(Refusal::PortInUse {
            controller: controller.name.clone(),
            port,
            by: format!("{} ({})", there.name, there.kind),
        });
    }
    match kind.speeds() {
        Some(speeds) if speeds.possible.and(takes).is_empty() => {
            let place = match port.parent() {
                None => format!("{} ({})", controller.name, controller.model),
                Some(hub) => format!("the hub at {}:{hub}", controller.name),
            };
            Err(wrong_speed(hardware, kind, place, takes))
        }
        _ => Ok(()),
    }
}

/// The refusal of a device by a place that does not take its speed, with what would take it.
pub(crate) fn wrong_speed(
    hardware: &Hardware,
    kind: &Kind,
    place: String,
    takes: SpeedSet,
) -> Refusal {
    let speed = kind.speeds().map_or(SpeedSet::NONE, |speeds| speeds.possible);
    let others: Vec<&str> = hardware
        .controllers()
        .filter(|controller| !controller.takes().and(speed).is_empty())
        .map(|controller| controller.name.as_str())
        .collect();
    let version = if speed.contains(Speed::Full) || speed.contains(Speed::Low) {
        "a UHCI, an OHCI, an ICH9 group or an xHCI (`--usbversion 1` or `3`)"
    } else {
        "an EHCI or an xHCI (`--usbversion 3`, or `--model ehci`)"
    };
    let remedy = match others.as_slice() {
        [] => format!("{version} would take it: leave the controller out and one is added"),
        names => {
            format!("{version} would take it, and so would {} of this domain", names.join(", "))
        }
    };
    Refusal::WrongSpeed {
        device: match kind {
            Kind::Host(host) => format!("the host device {}", host.selector),
            made_up => format!("{} {}", article(made_up.word()), made_up.word()),
        },
        speed,
        place,
        takes,
        remedy,
    }
}
