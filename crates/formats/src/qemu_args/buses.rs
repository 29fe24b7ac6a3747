//! The USB buses of a QEMU, and how it chooses a bus and a port for a device that names none.
//!
//! These are the rules of QEMU's `hw/usb/bus.c` (`usb_claim_port`) and `system/qdev-monitor.c`
//! (`qbus_find_recursive`), the same in all versions from 2.12 on:
//!
//! * A device without a bus goes to the bus that a search of the whole machine finds first. The
//!   search visits the newest device of each bus first, and what is behind it before older ones.
//! * A device without a port gets the port that has been free for the longest time. The ports of a
//!   hub become free, in their order, when the hub is plugged in.
//! * If only one port is free and the device is not a hub, a hub is plugged in there first. A bus
//!   that does not take full speed gets no hub.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU8;

use vusb_model::address::PortPath;
use vusb_model::hardware::Controller;
use vusb_model::models::{Companion, Model};
use vusb_model::speed::Speed;

use super::device::Properties;

/// The number of ports of a hub (`MAX_PORTS` in `hw/usb/dev-hub.c`; in old versions `NUM_PORTS`).
const HUB_PORTS: u8 = 8;

/// The maximum depth of a hub: the most that a [`PortPath`] can express. QEMU's limit is 5
/// (`usb_hub_realize`: `hubcount == 5` is an error).
const MAX_DEPTH: usize = 4;

/// The maximum number of bridges that a controller is behind. Deeper bridges are ignored: no
/// machine has that many.
const MAX_BRIDGES: usize = 32;

/// A USB controller and its bus.
#[derive(Clone, Debug)]
pub(crate) struct Bus {
    /// QEMU's name for the bus: `usb-bus.0`, or `ID.0` for a controller with an id.
    pub(crate) name: String,
    /// The id of the controller; empty if it has none.
    pub(crate) id: String,
    pub(crate) model: Model,
    /// The numbers of USB 2 and USB 3 ports.
    pub(crate) ports: (u8, u8),
    pub(crate) companions: Vec<Companion>,
    /// The PCI bus, slot and function, if they are specified.
    pub(crate) pci: Option<(String, u8, u8)>,
    /// The path in the device tree: see [`Buses::path_below`].
    path: Vec<usize>,
    /// The free ports, the one that has been free for the longest time first.
    free: VecDeque<PortPath>,
}

/// A USB device, with its bus and port.
#[derive(Clone, Debug)]
pub(crate) struct Plugged {
    /// The position of its bus in [`Buses::list`].
    pub(crate) bus: usize,
    pub(crate) port: PortPath,
    pub(crate) device: Properties,
}

/// All USB buses, and what is plugged into them.
#[derive(Debug, Default)]
pub(crate) struct Buses {
    /// In the order in which they were created.
    pub(crate) list: Vec<Bus>,
    pub(crate) plugged: Vec<Plugged>,
    /// The paths of the devices that others may be behind, by id.
    parents: BTreeMap<String, Vec<usize>>,
    /// The positions of the buses in the list, by name. If several have a name, it is the first
    /// one's.
    names: BTreeMap<String, usize>,
    /// The position of the bus that a search finds first.
    newest: Option<usize>,
    /// The number of devices so far.
    count: usize,
    /// The number of USB buses of controllers without an id.
    unnamed: usize,
}

impl Buses {
    /// The path of a new device in the device tree: the numbers of the devices that it is behind,
    /// and its own number. Devices are numbered as they are created. `bus` is the name of the bus
    /// that it is on; `None` is the machine's main bus.
    fn path_below(&mut self, id: &str, bus: Option<&str>) -> Vec<usize> {
        self.count += 1;
        // The bus of a bridge has its id as the name, or the id and `.0`.
        let parent = bus.and_then(|bus| {
            let before_dot = || bus.rsplit_once('.').and_then(|(id, _)| self.parents.get(id));
            self.parents.get(bus).or_else(before_dot)
        });
        let mut path = parent.cloned().unwrap_or_default();
        path.truncate(MAX_BRIDGES);
        path.push(self.count);
        if !id.is_empty() {
            self.parents.insert(id.to_owned(), path.clone());
        }
        path
    }

    /// Adds a bus to the list.
    fn push(&mut self, bus: Bus) {
        let number = self.list.len();
        let newest = self.newest.and_then(|it| self.list.get(it));
        if newest.is_none_or(|newest| newest.path < bus.path) {
            self.newest = Some(number);
        }
        self.names.entry(bus.name.clone()).or_insert(number);
        self.list.push(bus);
    }

    /// Adds a device that is neither a USB controller nor a USB device: others may be behind it.
    pub(crate) fn other(&mut self, device: &Properties) {
        self.path_below(device.id(), device.get("bus"));
    }

    /// Adds a controller. `device` has its id and the bus that it is on itself.
    pub(crate) fn controller(&mut self, model: Model, ports: (u8, u8), device: &Properties) {
        let path = self.path_below(device.id(), device.get("bus"));
        let name = if device.id().is_empty() {
            self.unnamed += 1;
            format!("usb-bus.{}", self.unnamed - 1)
        } else {
            format!("{}.0", device.id())
        };
        let id = device.id().to_owned();
        self.push(Bus { name, id, path, pci: pci(device), ..Bus::new(model, ports) });
    }

    /// Adds the controller of a machine, at this PCI address.
    pub(crate) fn built_in(
        &mut self,
        model: Model,
        ports: (u8, u8),
        companions: &[Companion],
        pci: Option<(&str, u8, u8)>,
    ) {
        self.controller(model, ports, &Properties::default());
        if let Some(bus) = self.list.last_mut() {
            bus.companions = companions.to_vec();
            bus.pci = pci.map(|(bus, slot, function)| (bus.to_owned(), slot, function));
        }
    }

    /// Adds a controller with a bus of this name.
    pub(crate) fn named(&mut self, name: String, it: &Controller) {
        let path = self.path_below("", None);
        let ports = (it.ports.usb2(), it.ports.usb3());
        let companions = it.companions.clone();
        self.push(Bus { name, path, companions, ..Bus::new(it.model, ports) });
    }

    /// Makes a UHCI the companion of the EHCI with the bus `name`.
    ///
    /// # Errors
    /// There is no such EHCI.
    pub(crate) fn companion(&mut self, name: &str, companion: Companion) -> Result<(), String> {
        self.path_below("", None);
        let number = self.find(Some(name))?;
        if let Some(bus) = self.list.get_mut(number) {
            bus.companions.push(companion);
            bus.companions.sort_by_key(|it| it.first_port);
        }
        Ok(())
    }

    /// The position of the bus with this name, or of the one that QEMU finds first.
    ///
    /// # Errors
    /// There is no such bus.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<usize, String> {
        match name {
            Some(name) => {
                self.names.get(name).copied().ok_or_else(|| format!("there is no USB bus {name}"))
            }
            None => self.newest.ok_or_else(|| "there is no USB controller".to_owned()),
        }
    }

    /// Plugs a USB device in.
    ///
    /// # Errors
    /// There is no such bus or port, no port is free, or a hub is behind too many hubs: QEMU does
    /// not start.
    pub(crate) fn plug(&mut self, device: Properties) -> Result<(), String> {
        let number = self.find(device.get("bus"))?;
        self.plug_into(number, device)
    }

    /// Plugs a USB device into the bus at this position.
    ///
    /// # Errors
    /// As [`Buses::plug`].
    pub(crate) fn plug_into(&mut self, number: usize, device: Properties) -> Result<(), String> {
        let Some(bus) = self.list.get_mut(number) else {
            return Err("there is no USB controller".to_owned());
        };
        let is_hub = device.driver() == "usb-hub";
        let port = match device.get("port") {
            Some(text) => text
                .parse()
                .ok()
                .filter(|port| bus.free.contains(port))
                .ok_or_else(|| format!("{} has no free port {text}", bus.name))?,
            None => {
                let takes_hub = bus.takes_full_speed();
                if let ([only], false, true) = (bus.free.make_contiguous(), is_hub, takes_hub) {
                    let hub = *only;
                    self.take(number, hub, Properties::read("usb-hub", "driver"));
                }
                let free = self.list.get(number).and_then(|bus| bus.free.front().copied());
                free.ok_or_else(|| "all ports of the bus are in use".to_owned())?
            }
        };
        if is_hub && port.depth() > MAX_DEPTH {
            return Err("the hub is behind too many hubs".to_owned());
        }
        self.take(number, port, device);
        Ok(())
    }

    /// Occupies a port, which need not be free. If the device is a hub, its ports become free.
    pub(crate) fn take(&mut self, number: usize, port: PortPath, device: Properties) {
        let Some(bus) = self.list.get_mut(number) else { return };
        if bus.free.front() == Some(&port) {
            bus.free.pop_front();
        } else {
            bus.free.retain(|it| *it != port);
        }
        if device.driver() == "usb-hub" {
            let ports = device.number("ports").and_then(|it| u8::try_from(it).ok());
            let ports = 1..=ports.unwrap_or(HUB_PORTS).min(HUB_PORTS);
            bus.free.extend(ports.filter_map(NonZeroU8::new).filter_map(|it| port.child(it)));
        }
        self.plugged.push(Plugged { bus: number, port, device });
    }
}

/// The PCI address that a device requests: `addr=1d.7` on `bus=pcie.0`.
fn pci(device: &Properties) -> Option<(String, u8, u8)> {
    let bus = device.get("bus")?;
    let (slot, function) = match device.get("addr")?.split_once('.') {
        Some((slot, function)) => (slot, function),
        None => (device.get("addr")?, "0"),
    };
    // QEMU reads both as hexadecimal numbers (`set_pci_devfn`).
    let hex = |text: &str| u8::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok();
    Some((bus.to_owned(), hex(slot)?, hex(function)?))
}

impl Bus {
    fn new(model: Model, ports: (u8, u8)) -> Bus {
        let all = (1..=ports.0.max(ports.1)).filter_map(NonZeroU8::new).map(PortPath::root);
        Bus {
            name: String::new(),
            id: String::new(),
            model,
            ports,
            companions: Vec::new(),
            pci: None,
            path: Vec::new(),
            free: all.collect(),
        }
    }

    fn takes_full_speed(&self) -> bool {
        let has_usb2 = self.ports.0 > 0;
        has_usb2 && (self.model.speeds().contains(Speed::Full) || !self.companions.is_empty())
    }
}
