//! From QEMU's device tree to the USB controllers in it, and to the places where another could be plugged in.

use std::ops::RangeInclusive;

use super::names::{companion_of, model_of, own_controller};
use super::qtree::{Bus, Dev};

/// What of the tree matters here.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// USB controllers, in the order in which they were made.
    pub(super) controllers: Vec<Found>,
    /// Where a PCI device can be hot-plugged, the best place first.
    pub(super) places: Vec<Place>,
    /// Every PCI bus, with what is on it.
    pub(super) buses: Vec<PciBus>,
}

/// A USB controller.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) driver: String,
    pub(super) id: String,
    /// Bus, slot and function, if it is a PCI device.
    pub(super) pci: Option<(String, u8, u8)>,
    /// The name of its USB bus; a companion has none.
    pub(super) usb_bus: Option<String>,
    /// For a companion, the USB bus that it serves, and its first port there.
    pub(super) serves: Option<(String, u8)>,
    pub(super) devices: Vec<FoundDevice>,
    /// Its place in QEMU's object model; found out later.
    pub(super) path: Option<String>,
    /// For an xHCI, how many USB 2 and USB 3 ports it has: its id says it, or it is found out later.
    pub(super) halves: Option<(u8, u8)>,
}

/// A USB device.
#[derive(Debug)]
pub(super) struct FoundDevice {
    pub(super) dev: Dev,
    /// Its place in QEMU's object model; found out later.
    pub(super) path: Option<String>,
}

/// A PCI bus that takes hot plug, with its free slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// QEMU's name of the bus.
    pub(super) bus: String,
    /// How many devices it has room for.
    pub(super) free: usize,
}

/// A PCI bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PciBus {
    /// QEMU's name of the bus.
    pub(super) name: String,
    /// Whether it takes hot plug.
    pub(super) hot: bool,
    /// The slots in use, each with the driver and the id of what is there.
    pub(super) taken: Vec<(u8, String)>,
}

impl PciBus {
    /// What is in the slot; `None` if it is free.
    pub(super) fn holder(&self, slot: u8) -> Option<&str> {
        self.taken.iter().find(|(used, _)| *used == slot).map(|(_, by)| by.as_str())
    }
}

impl Scan {
    /// Whether QEMU's object model must be asked for the places of things without ids.
    pub(super) fn has_nameless(&self) -> bool {
        let nameless = |found: &Found| {
            found.is_controller()
                && (found.id.is_empty()
                    || found.devices.iter().any(|device| device.dev.id.is_empty()))
        };
        self.controllers.iter().any(nameless)
    }

    /// Whether any device's driver is this one.
    pub(super) fn has_device(&self, driver: &str) -> bool {
        self.controllers
            .iter()
            .flat_map(|found| &found.devices)
            .any(|device| device.dev.driver == driver)
    }
}

impl Found {
    /// Whether it is a bus of its own, and not a companion.
    pub(super) const fn is_controller(&self) -> bool {
        self.usb_bus.is_some()
    }
}

/// Finds the controllers and places below `root`.
pub(super) fn scan(root: &Bus) -> Scan {
    let mut scan = Scan::default();
    // Root ports come first: what is behind one is on PCI Express, where an xHCI belongs, and they are there to be used.
    let mut bridges = Vec::new();
    let mut roots = Vec::new();
    walk(root, None, &mut |bus, parent| {
        if matches!(bus.kind.as_str(), "PCI" | "PCIE") {
            let takes = hot_slots(root, bus, parent);
            let known = pci_bus(bus, takes.is_some());
            if let Some((slots, rank)) = takes {
                let free = slots.filter(|slot| known.holder(*slot).is_none()).count();
                let place = Place { bus: bus.name.clone(), free };
                match rank {
                    _ if free == 0 => {}
                    Rank::Port => scan.places.push(place),
                    Rank::Bridge => bridges.push(place),
                    Rank::Root => roots.push(place),
                }
            }
            scan.buses.push(known);
        }
        scan.controllers.extend(bus.devices.iter().filter_map(|dev| controller(bus, dev)));
    });
    // The tree lists what is newest first.
    scan.places.reverse();
    scan.places.splice(0..0, roots);
    scan.places.extend(bridges);
    scan.controllers.reverse();
    scan
}

fn walk<'a>(
    bus: &'a Bus,
    parent: Option<&'a Dev>,
    visit: &mut impl FnMut(&'a Bus, Option<&'a Dev>),
) {
    visit(bus, parent);
    for dev in &bus.devices {
        for below in &dev.buses {
            walk(below, Some(dev), visit);
        }
    }
}

/// What a hot-plug place is behind.
enum Rank {
    Root,
    Port,
    Bridge,
}

fn pci_bus(bus: &Bus, hot: bool) -> PciBus {
    let taken = bus.devices.iter().filter_map(|dev| {
        let (slot, _) = dev.pci_address()?;
        let by = if dev.id.is_empty() {
            dev.driver.clone()
        } else {
            format!("{} ({})", dev.id, dev.driver)
        };
        Some((slot, by))
    });
    PciBus { name: bus.name.clone(), hot, taken: taken.collect() }
}

/// The slots of `bus` that a PCI device can be hot-plugged into, free or not. `None` if it takes no hot plug.
fn hot_slots(root: &Bus, bus: &Bus, parent: Option<&Dev>) -> Option<(RangeInclusive<u8>, Rank)> {
    let parent = parent?;
    let (slots, rank, usable) = match parent.driver.as_str() {
        // A port's bus has the port's id for a name; without an id the name is the root's too, and cannot be addressed.
        "pcie-root-port" | "ioh3420" | "xio3130-downstream" => {
            let usable = !parent.id.is_empty() && parent.property("hotplug") != Some("false");
            (0..=0, Rank::Port, usable)
        }
        // With a hot-plug controller, slot 0 of a bridge is not used (`SHPC_IDX_TO_PHYSICAL` in QEMU's `shpc.c`).
        "pci-bridge" | "pcie-pci-bridge" => {
            let usable = !parent.id.is_empty() && parent.property("shpc") != Some("false");
            (1..=31, Rank::Bridge, usable)
        }
        // The root bus of i440fx takes hot plug by way of ACPI.
        host if host.ends_with("pcihost") && bus.kind == "PCI" => {
            (1..=31, Rank::Root, root_takes_hotplug(root))
        }
        _ => return None,
    };
    usable.then_some((slots, rank))
}

/// Whether the machine's ACPI announces hot plug on the PCI root bus.
fn root_takes_hotplug(root: &Bus) -> bool {
    let mut takes = false;
    walk(root, None, &mut |bus, _| {
        takes |=
            bus.devices.iter().any(|dev| dev.property("acpi-root-pci-hotplug") == Some("true"));
    });
    takes
}

/// The controller that `dev` is, if it is one: it has a USB bus, or it serves one.
fn controller(bus: &Bus, dev: &Dev) -> Option<Found> {
    let usb = dev.buses.iter().find(|below| below.kind == "usb-bus");
    let serves = dev.property("masterbus").filter(|master| !master.is_empty());
    let serves = serves.map(|master| {
        let first = dev.number("firstport").and_then(|first| u8::try_from(first).ok()).unwrap_or(0);
        (master.to_owned(), first)
    });
    if usb.is_none()
        && (serves.is_none()
            || (model_of(&dev.driver).is_none() && companion_of(&dev.driver).is_none()))
    {
        return None;
    }
    let devices = usb
        .map(|usb| usb.devices.iter().filter(|dev| dev.usb.is_some()).map(found_device).collect());
    Some(Found {
        driver: dev.driver.clone(),
        id: dev.id.clone(),
        pci: dev.pci_address().map(|(slot, function)| (bus.name.clone(), slot, function)),
        usb_bus: usb.map(|usb| usb.name.clone()),
        serves,
        devices: devices.unwrap_or_default(),
        path: (!dev.id.is_empty()).then(|| peripheral(&dev.id)),
        halves: own_controller(&dev.id).and_then(|own| own.halves),
    })
}

fn found_device(dev: &Dev) -> FoundDevice {
    let path = (!dev.id.is_empty()).then(|| peripheral(&dev.id));
    FoundDevice { dev: dev.clone(), path }
}

/// Where QEMU's object model has the device of this id.
pub(super) fn peripheral(id: &str) -> String {
    format!("/machine/peripheral/{id}")
}
