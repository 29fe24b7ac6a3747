//! Finds the USB controllers in QEMU's device tree, and the PCI buses that more can be added to.

use std::ops::RangeInclusive;

use super::names::{companion_model, model_of, parse_controller_id};
use super::qtree::{Bus, Dev, has_untrusted_product};

/// The relevant parts of the tree.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// USB controllers, in the order in which they were created.
    pub(super) controllers: Vec<ScannedController>,
    /// The PCI buses with free slots that support hot plug, in order of preference.
    pub(super) hotplug_buses: Vec<HotplugBus>,
    /// Every PCI bus, with what is on it.
    pub(super) pci_buses: Vec<PciBus>,
    /// Which kind of PCI the machine has.
    pub(super) pci: Pci,
    /// Whether the tree contains product strings that do not come from QEMU, which can imitate and
    /// hide devices.
    pub(super) untrusted: bool,
}

/// The PCI of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pci {
    /// No PCI bus.
    #[default]
    Absent,
    /// PCI without PCI Express, and whether the root bus supports hot plug.
    Conventional { hotplug: bool },
    /// PCI Express: controllers are added to ports.
    Express,
}

/// A USB controller.
#[derive(Debug, Default)]
pub(super) struct ScannedController {
    pub(super) driver: String,
    pub(super) id: String,
    /// Bus, slot and function, if it is a PCI device.
    pub(super) pci: Option<(String, u8, u8)>,
    /// The name of its USB bus. A companion has none.
    pub(super) usb_bus: Option<String>,
    /// For a companion, the USB bus that it serves, and its first port there.
    pub(super) serves: Option<(String, u8)>,
    pub(super) devices: Vec<ScannedDevice>,
    /// Its path in QEMU's object model. Without an id, it has to be looked up later.
    pub(super) qom_path: Option<String>,
    /// The numbers of USB 2 and USB 3 ports of an xHCI: from its id, or looked up later.
    pub(super) port_counts: Option<(u8, u8)>,
    /// The number of ports of an OHCI, if it has that property.
    pub(super) ports: Option<u8>,
}

/// A USB device.
#[derive(Debug)]
pub(super) struct ScannedDevice {
    pub(super) dev: Dev,
    /// Its path in QEMU's object model. Without an id, it has to be looked up later.
    pub(super) qom_path: Option<String>,
}

/// A PCI bus that supports hot plug and has free slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HotplugBus {
    /// QEMU's name for the bus.
    pub(super) name: String,
    /// The number of free slots.
    pub(super) free: usize,
}

/// A PCI bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PciBus {
    /// QEMU's name for the bus.
    pub(super) name: String,
    /// Whether it supports hot plug.
    pub(super) hotplug: bool,
    /// The slots in use, each with a description of the device in it.
    pub(super) occupied: Vec<(u8, String)>,
}

impl PciBus {
    /// Describes the device in the slot. `None` if the slot is free.
    pub(super) fn occupant(&self, slot: u8) -> Option<&str> {
        self.occupied.iter().find(|(used, _)| *used == slot).map(|(_, device)| device.as_str())
    }
}

impl Scan {
    /// Whether there are controllers or devices without ids, whose paths have to be looked up in
    /// QEMU's object model.
    pub(super) fn has_missing_paths(&self) -> bool {
        let missing = |controller: &ScannedController| {
            controller.is_controller()
                && (controller.id.is_empty()
                    || controller.devices.iter().any(|device| device.dev.id.is_empty()))
        };
        self.controllers.iter().any(missing)
    }

    /// All USB devices.
    pub(super) fn devices(&self) -> impl Iterator<Item = &ScannedDevice> {
        self.controllers.iter().flat_map(|controller| &controller.devices)
    }

    /// Whether any device has this driver.
    pub(super) fn has_device(&self, driver: &str) -> bool {
        self.devices().any(|device| device.dev.driver == driver)
    }
}

impl ScannedController {
    /// Whether it has a bus of its own and so is not a companion.
    pub(super) const fn is_controller(&self) -> bool {
        self.usb_bus.is_some()
    }
}

/// Scans the tree below `root`.
pub(super) fn scan(root: &Bus) -> Scan {
    let mut scan = Scan::default();
    let (mut root_buses, mut ports, mut bridges) = (Vec::new(), Vec::new(), Vec::new());
    walk(root, None, &mut |bus, parent| {
        scan.untrusted |= bus.devices.iter().any(|dev| has_untrusted_product(&dev.driver));
        if matches!(bus.kind.as_str(), "PCI" | "PCIE") {
            if scan.pci == Pci::Absent {
                // The root bus comes before those behind it.
                scan.pci = match bus.kind.as_str() {
                    "PCIE" => Pci::Express,
                    _ => Pci::Conventional { hotplug: acpi_announces_root_hotplug(root) },
                };
            }
            let hotplug = hotplug_slots(root, bus, parent);
            let pci_bus = pci_bus(bus, hotplug.is_some());
            if let Some((slots, provider)) = hotplug {
                let free = slots.filter(|slot| pci_bus.occupant(*slot).is_none()).count();
                let list = match provider {
                    Provider::Root => &mut root_buses,
                    Provider::Port => &mut ports,
                    Provider::Bridge => &mut bridges,
                };
                if free > 0 {
                    list.push(HotplugBus { name: bus.name.clone(), free });
                }
            }
            scan.pci_buses.push(pci_bus);
        }
        scan.controllers.extend(bus.devices.iter().filter_map(|dev| controller(bus, dev)));
    });
    // The tree lists the newest device first.
    ports.reverse();
    scan.controllers.reverse();
    // Ports come before bridges: an xHCI belongs on PCI Express, and ports exist for hot plug.
    scan.hotplug_buses = [root_buses, ports, bridges].concat();
    scan
}

fn walk<'a>(
    bus: &'a Bus,
    parent: Option<&'a Dev>,
    visit: &mut impl FnMut(&'a Bus, Option<&'a Dev>),
) {
    visit(bus, parent);
    for dev in &bus.devices {
        for child in &dev.buses {
            walk(child, Some(dev), visit);
        }
    }
}

/// What provides a PCI bus that supports hot plug.
enum Provider {
    Root,
    Port,
    Bridge,
}

fn pci_bus(bus: &Bus, hotplug: bool) -> PciBus {
    let occupied = bus.devices.iter().filter_map(|dev| {
        let (slot, _) = dev.pci_address()?;
        let description = if dev.id.is_empty() {
            dev.driver.clone()
        } else {
            format!("{} ({})", dev.id, dev.driver)
        };
        Some((slot, description))
    });
    PciBus { name: bus.name.clone(), hotplug, occupied: occupied.collect() }
}

/// The slots of `bus` that a PCI device can be hot plugged into, free or not. `None` if the bus
/// does not support hot plug.
fn hotplug_slots(
    root: &Bus,
    bus: &Bus,
    parent: Option<&Dev>,
) -> Option<(RangeInclusive<u8>, Provider)> {
    let parent = parent?;
    let (slots, provider, usable) = match parent.driver.as_str() {
        // A port's bus is named after the port's id. Without an id it has the root bus's name, and
        // cannot be addressed.
        "pcie-root-port" | "ioh3420" | "xio3130-downstream" => {
            let usable = !parent.id.is_empty() && parent.property("hotplug") != Some("false");
            (0..=0, Provider::Port, usable)
        }
        // With a hot-plug controller, slot 0 of a bridge is not used (`SHPC_IDX_TO_PHYSICAL` in
        // QEMU's `shpc.c`).
        "pci-bridge" | "pcie-pci-bridge" => {
            let usable = !parent.id.is_empty() && parent.property("shpc") != Some("false");
            (1..=31, Provider::Bridge, usable)
        }
        // The root bus of i440fx supports hot plug through ACPI.
        host if host.ends_with("pcihost") && bus.kind == "PCI" => {
            (1..=31, Provider::Root, acpi_announces_root_hotplug(root))
        }
        _ => return None,
    };
    usable.then_some((slots, provider))
}

/// Whether the machine's ACPI tables announce hot plug on the PCI root bus.
fn acpi_announces_root_hotplug(root: &Bus) -> bool {
    let mut announced = false;
    walk(root, None, &mut |bus, _| {
        announced |=
            bus.devices.iter().any(|dev| dev.property("acpi-root-pci-hotplug") == Some("true"));
    });
    announced
}

/// `dev` as a USB controller: it has a USB bus, or it is a companion that serves one. `None` if it
/// is neither.
fn controller(bus: &Bus, dev: &Dev) -> Option<ScannedController> {
    let usb = dev.buses.iter().find(|child| child.kind == "usb-bus");
    let serves = dev.property("masterbus").filter(|master| !master.is_empty());
    let serves = serves.map(|master| {
        let first = dev.number("firstport").and_then(|first| u8::try_from(first).ok()).unwrap_or(0);
        (master.to_owned(), first)
    });
    let modelled = model_of(&dev.driver).is_some() || companion_model(&dev.driver).is_some();
    if usb.is_none() && !(serves.is_some() && modelled) {
        return None;
    }
    let devices = usb.into_iter().flat_map(|usb| &usb.devices).filter(|dev| dev.usb.is_some());
    Some(ScannedController {
        driver: dev.driver.clone(),
        id: dev.id.clone(),
        pci: dev.pci_address().map(|(slot, function)| (bus.name.clone(), slot, function)),
        usb_bus: usb.map(|usb| usb.name.clone()),
        serves,
        devices: devices
            .map(|dev| ScannedDevice { dev: dev.clone(), qom_path: qom_path_of_id(&dev.id) })
            .collect(),
        qom_path: qom_path_of_id(&dev.id),
        port_counts: parse_controller_id(&dev.id).and_then(|id| id.port_counts),
        ports: dev.number("num-ports").and_then(|ports| u8::try_from(ports).ok()),
    })
}

fn qom_path_of_id(id: &str) -> Option<String> {
    (!id.is_empty()).then(|| peripheral(id))
}

/// The path in QEMU's object model of a device with this id.
pub(super) fn peripheral(id: &str) -> String {
    format!("/machine/peripheral/{id}")
}

#[cfg(test)]
mod tests {
    use super::super::qtree;
    use super::*;

    /// A tree with one PCI bus behind `parent`, which has one device in slot 3.
    fn hotplug_of(parent: &str, kind: &str, acpi: &str) -> Vec<(String, usize)> {
        let text = format!(
            "\
bus: main-system-bus
  type System
  dev: {parent}
    bus: the-bus
      type {kind}
      dev: PIIX4_PM, id \"\"
        addr = 03.0
        acpi-root-pci-hotplug = {acpi}
"
        );
        let scan = scan(&qtree::parse(&text).unwrap());
        let buses = scan.hotplug_buses.into_iter().map(|bus| (bus.name, bus.free)).collect();
        let expected = match (kind, acpi) {
            ("PCI", acpi) => Pci::Conventional { hotplug: acpi == "true" },
            ("PCIE", _) => Pci::Express,
            _ => Pci::Absent,
        };
        assert_eq!(scan.pci, expected);
        for bus in scan.pci_buses {
            assert_eq!((bus.occupant(3), bus.occupant(4)), (Some("PIIX4_PM"), None));
        }
        buses
    }

    #[test]
    fn a_bus_supports_hot_plug_if_its_parent_does() {
        let free = |number| vec![("the-bus".to_owned(), number)];
        // The host bridge is in slot 0 of a root bus, and slot 3 is taken.
        assert_eq!(hotplug_of("i440FX-pcihost, id \"\"", "PCI", "true"), free(30));
        assert_eq!(hotplug_of("i440FX-pcihost, id \"\"", "PCI", "false"), []);
        // The root bus of q35.
        assert_eq!(hotplug_of("q35-pcihost, id \"\"", "PCIE", "true"), []);
        assert_eq!(hotplug_of("pci-bridge, id \"b\"", "PCI", "false"), free(30));
        assert_eq!(hotplug_of("pci-bridge, id \"b\"\n    shpc = false", "PCI", "true"), []);
        assert_eq!(hotplug_of("pci-bridge, id \"\"", "PCI", "true"), []);
        // A port has one slot, the first.
        assert_eq!(hotplug_of("pcie-root-port, id \"p\"", "PCIE", "false"), free(1));
        assert_eq!(hotplug_of("xio3130-downstream, id \"p\"", "PCIE", "false"), free(1));
        assert_eq!(hotplug_of("pcie-root-port, id \"p\"\n    hotplug = false", "PCIE", "true"), []);
        assert_eq!(hotplug_of("pcie-root-port, id \"\"", "PCIE", "true"), []);
        assert_eq!(hotplug_of("x3130-upstream, id \"p\"", "PCIE", "true"), []);
        // A bus of another type.
        assert_eq!(hotplug_of("pcie-root-port, id \"p\"", "SCSI", "true").len(), 0);
    }
}
