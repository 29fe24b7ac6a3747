//! Turns what was found in QEMU into hardware: indexes, names and models. `kinds.rs` determines the
//! kinds of devices.
//!
//! The index of a controller comes from the first of these sources that has one:
//!
//! 1. Its id, if vusb added it: the id contains index and name.
//! 2. The record, by model and PCI address. A part of the machine that is not on PCI is found by
//!    its model alone.
//! 3. Another tool's alias: `usb` is 0 and `usb2` is 2 for libvirt, `xenusb-2` is 2 for libxl.
//! 4. The lowest free index. The controllers take these in the order in which QEMU created them, so
//!    that one that is added later gets a higher index, whatever its slot.
//!
//! Its name is the recorded name for this index, or else the one in vusb's id, or else the id that
//! another tool gave it, or else `hci` with a number.

mod kinds;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;

use vusb_model::address::{Address, Index};
use vusb_model::device::{Kind, Other};
use vusb_model::hardware::{Controller, Device, Hardware, Item, PciAddress};
use vusb_model::models::{Companion, Model, QEMU_XHCI_PORTS, RootPorts};
use vusb_model::name::Name;
use vusb_model::selector::Selector;

use super::details::Details;
use super::names::{CD_BRIDGE, companion_model, model_of, parse_controller_id, parse_device_id};
use super::qtree::Dev;
use super::scan::{Scan, ScannedController, ScannedDevice};
use crate::driver::{DeviceState, Foreign, Observed};

/// How to address each controller and device in QEMU.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) controllers: BTreeMap<Index, Handle>,
    pub(super) devices: BTreeMap<Address, Handle>,
}

/// How to address one controller or device.
#[derive(Clone, Debug, Default)]
pub(super) struct Handle {
    /// Empty if the object has none.
    pub(super) id: String,
    /// Its path in QEMU's object model. Empty if it was not found.
    pub(super) qom_path: String,
    /// QEMU's name for the USB bus of a controller.
    pub(super) bus: String,
}

impl Handle {
    /// What `device_del` takes: the id, or the path if there is no id.
    pub(super) fn target(&self) -> &str {
        if self.id.is_empty() { &self.qom_path } else { &self.id }
    }
}

/// Assembles the hardware, and how to address each part of it in QEMU.
pub(super) fn assemble(scan: &Scan, details: &Details, recorded: &Hardware) -> (Observed, View) {
    let mut assembly =
        Assembly { recorded, details, observed: Observed::default(), view: View::default() };
    let controllers: Vec<&ScannedController> =
        scan.controllers.iter().filter(|scanned| scanned.is_controller()).collect();
    for (scanned, index) in assign_indexes(&controllers, recorded) {
        assembly.add_controller(scan, scanned, index);
    }
    (assembly.observed, assembly.view)
}

/// The model of a controller; [`Model::OtherUsb`] if its driver is not known.
fn shown_model(scanned: &ScannedController) -> Model {
    model_of(&scanned.driver).unwrap_or(Model::OtherUsb)
}

/// The ports and companions of a controller. `None` if it has no ports.
fn ports_and_companions(
    scan: &Scan,
    scanned: &ScannedController,
) -> Option<(RootPorts, Vec<Companion>)> {
    let model = shown_model(scanned);
    let uniform = |ports: u8| Some(RootPorts::uniform(model, NonZeroU8::new(ports)?));
    let ports = match (model, scanned.port_counts) {
        (model, Some((usb2, usb3))) if model.is_xhci() => RootPorts::xhci(usb2, usb3)?,
        // QEMU did not answer the query: assume its default.
        (model, None) if model.is_xhci() => RootPorts::xhci(QEMU_XHCI_PORTS, QEMU_XHCI_PORTS)?,
        (Model::SysbusOhci, _) => {
            let range = model.port_range();
            uniform(scanned.ports.filter(|ports| range.contains(ports)).unwrap_or(1))?
        }
        // Port 1 always exists. It is not known whether there are ports above those in use.
        (Model::OtherUsb, _) => uniform(highest_port(scanned).clamp(1, *model.port_range().end()))?,
        _ => uniform(*model.port_range().end())?,
    };
    let companion = |other: &ScannedController| {
        let (bus, first_port) = other.serves.as_ref()?;
        let serves_this = scanned.usb_bus.as_ref() == Some(bus);
        serves_this.then_some(Companion {
            model: companion_model(&other.driver)?,
            first_port: *first_port,
        })
    };
    let mut companions: Vec<Companion> = scan.controllers.iter().filter_map(companion).collect();
    companions.sort_by_key(|companion| companion.first_port);
    Some((ports, companions))
}

/// The highest root port in use; 0 if none is.
fn highest_port(scanned: &ScannedController) -> u8 {
    let ports = scanned.devices.iter().filter_map(|device| {
        let port = device.dev.usb.as_ref()?.port.as_ref().ok()?;
        port.numbers().next()
    });
    ports.max().unwrap_or(0)
}

fn foreign(scanned: &ScannedController) -> Foreign {
    let port = |device: &ScannedDevice| match device.dev.usb.as_ref().map(|usb| &usb.port) {
        Some(Ok(port)) => port.to_string(),
        Some(Err(port)) => port.clone(),
        None => String::new(),
    };
    let devices = scanned.devices.iter().map(|device| (port(device), device.dev.driver.clone()));
    Foreign { driver: scanned.driver.clone(), id: scanned.id.clone(), devices: devices.collect() }
}

/// A rule that determines the index of some controllers.
type IndexRule<'a> = &'a dyn Fn(&ScannedController) -> Option<Index>;

/// Assigns each controller an index. A recorded controller that was not found keeps its index,
/// unless the id of another controller contains that index.
fn assign_indexes<'a>(
    scanned: &[&'a ScannedController],
    recorded: &Hardware,
) -> Vec<(&'a ScannedController, Index)> {
    let is_recorded = |index: Index| recorded.controller(index).is_some();
    let mut taken: BTreeSet<Index> = BTreeSet::new();
    let mut assigned: Vec<(&ScannedController, Index)> = Vec::new();
    let mut rest = scanned.to_vec();
    let own = |scanned: &ScannedController| Index::new(parse_controller_id(&scanned.id)?.index);
    let known = |scanned: &ScannedController| recorded_index(scanned, recorded);
    let aliased = |scanned: &ScannedController| alias_index(&scanned.id);
    // In order of precedence, each with whether it may assign a recorded index. An alias may not:
    // the recorded controller may be another one, which may come back.
    let rules: [(IndexRule<'_>, bool); 3] = [(&own, true), (&known, true), (&aliased, false)];
    for (rule, may_be_recorded) in rules {
        rest.retain(|scanned| {
            let free =
                |index: &Index| (may_be_recorded || !is_recorded(*index)) && taken.insert(*index);
            let index = rule(scanned).filter(free);
            assigned.extend(index.map(|index| (*scanned, index)));
            index.is_none()
        });
    }
    let mut free = Index::all().filter(|index| !is_recorded(*index) && !taken.contains(index));
    assigned.extend(rest.into_iter().zip(&mut free));
    assigned
}

/// The index of the recorded controller of the same model at the same PCI address. A part of the
/// machine that is not on PCI corresponds to the first recorded controller of its model without an
/// address.
fn recorded_index(scanned: &ScannedController, recorded: &Hardware) -> Option<Index> {
    let pci = pci_address(scanned);
    let model = shown_model(scanned);
    let is_same = |controller: &&Controller| {
        let can_be_compared = pci.is_some() || model.is_built_in();
        controller.pci == pci && controller.model == model && can_be_compared
    };
    recorded.controllers().find(is_same).map(|controller| controller.index)
}

/// The index in another tool's alias: libvirt's alias for index 0 is `usb` and for index N `usbN`;
/// libxl's for index N is `xenusb-N`.
fn alias_index(id: &str) -> Option<Index> {
    if let Some(number) = id.strip_prefix("xenusb-") {
        return number.parse().ok();
    }
    match id.strip_prefix("usb")? {
        "" => Some(Index::ZERO),
        number => number.parse().ok(),
    }
}

fn pci_address(scanned: &ScannedController) -> Option<PciAddress> {
    let (bus, slot, function) = scanned.pci.clone()?;
    Some(PciAddress { bus, slot, function })
}

/// The state of [`assemble`].
struct Assembly<'a> {
    recorded: &'a Hardware,
    details: &'a Details,
    observed: Observed,
    view: View,
}

impl Assembly<'_> {
    fn add_controller(&mut self, scan: &Scan, scanned: &ScannedController, index: Index) {
        let model = shown_model(scanned);
        let Some((ports, companions)) = ports_and_companions(scan, scanned) else {
            self.observed.foreign.push(foreign(scanned));
            return;
        };
        let own = parse_controller_id(&scanned.id).and_then(|id| id.name.parse::<Name>().ok());
        let recorded = self.recorded.controller(index).map(|controller| controller.name.clone());
        // Another item is recorded under this name, and may come back.
        let id = scanned.id.parse().ok().filter(|name| self.recorded.named(name).is_none());
        let name = self.free_name([recorded, own.clone(), id], "hci");
        let mut new = Controller::new(index, name.clone(), model, ports);
        new.pci = pci_address(scanned);
        new.companions = companions;
        // If the model does not have these companions, show the controller without them.
        if self.observed.hardware.add_controller(new.clone()).is_err() {
            new.companions.clear();
            if self.observed.hardware.add_controller(new).is_err() {
                self.observed.foreign.push(foreign(scanned));
                return;
            }
        }
        if own.is_some() {
            self.observed.ours.insert(name);
        }
        let handle = Handle {
            id: scanned.id.clone(),
            qom_path: scanned.qom_path.clone().unwrap_or_default(),
            bus: scanned.usb_bus.clone().unwrap_or_default(),
        };
        self.view.controllers.insert(index, handle);
        let mut devices: Vec<&ScannedDevice> = scanned.devices.iter().collect();
        // A hub has to be added before the devices behind it.
        devices.sort_by_key(|device| device.dev.usb.as_ref().and_then(|usb| usb.port.clone().ok()));
        for device in devices {
            self.add_device(index, device);
        }
    }

    fn add_device(&mut self, bus: Index, scanned: &ScannedDevice) {
        let Some(usb) = &scanned.dev.usb else { return };
        // QEMU's port paths can be one level longer than those of an address. Devices at that level
        // are not shown.
        let Ok(port) = usb.port else { return };
        let at = Address { bus, port };
        let own = parse_device_id(&scanned.dev.id).and_then(|name| name.parse::<Name>().ok());
        if let Some(name) = own.as_ref().filter(|_| is_unfinished(&scanned.dev)) {
            self.observed.notes.push(format!(
                "a CD drive {name} was left unfinished by an interrupted command, and the guest does not see it; adding {name} again completes it"
            ));
            return;
        }
        let recorded = self.recorded.device(at);
        let same_name = recorded.filter(|device| Some(&device.name) == own.as_ref());
        let kind = kinds::kind(&scanned.dev, same_name.map(|device| &device.kind), self.details);
        let recorded = recorded.filter(|device| device.kind.name() == kind.name());
        let recorded = recorded.map(|device| device.name.clone());
        let is_controller =
            |name: &Name| matches!(self.recorded.named(name), Some(Item::Controller(_)));
        let id = scanned.dev.id.parse().ok().filter(|name| !is_controller(name));
        let name = self.free_name([own.clone(), recorded, id], kind.name());
        let ambiguous = (scanned.dev.driver == "usb-host")
            .then(|| kinds::given_selector(&scanned.dev, &self.details.passed_paths))
            .flatten()
            .filter(Selector::may_match_several);
        if let Some(selector) = ambiguous {
            self.observed.notes.push(format!(
                "{name}: QEMU takes any device of this machine that matches {selector}"
            ));
        }
        let device = |kind: Kind| Device { name: name.clone(), kind };
        let other = Kind::Other(Other { driver: scanned.dev.driver.clone() });
        let given = match &kind {
            Kind::Host(host) => host.bus_address,
            _ => None,
        };
        // The model may rule out this kind of device in this port, although QEMU has it. It is then
        // shown by its driver.
        let plugged = self.observed.hardware.plug(at, device(kind)).is_ok()
            || self.observed.hardware.plug(at, device(other)).is_ok();
        if !plugged {
            return;
        }
        if own.is_some() {
            self.observed.ours.insert(name);
        }
        if !usb.attached {
            self.observed.states.insert(at, DeviceState::Absent);
        }
        self.observed.given.extend(given.map(|given| (at, given)));
        let terminal = scanned.dev.property("chardev").and_then(|id| self.details.chardevs.get(id));
        let terminal = terminal.and_then(|text| text.strip_prefix("pty:"));
        self.observed.terminals.extend(terminal.map(|path| (at, path.to_owned())));
        let handle = Handle {
            id: scanned.dev.id.clone(),
            qom_path: scanned.qom_path.clone().unwrap_or_default(),
            bus: String::new(),
        };
        self.view.devices.insert(at, handle);
    }

    /// The first of the `preferred` names that is free, or else the first free `prefixN` that is
    /// not recorded either.
    fn free_name<const N: usize>(&self, preferred: [Option<Name>; N], prefix: &str) -> Name {
        let hardware = &self.observed.hardware;
        let numbered = (0u32..)
            .filter_map(|number| format!("{prefix}{number}").parse().ok())
            .filter(|name| self.recorded.named(name).is_none());
        let mut names = preferred.into_iter().flatten().chain(numbered);
        #[expect(
            clippy::expect_used,
            reason = "the numbered names never run out, and only finitely many are used"
        )]
        names.find(|name| hardware.named(name).is_none()).expect("the iterator does not end")
    }
}

/// Whether the device is the USB part of a CD drive that is not attached yet: adding a drive takes
/// several commands, and the last one attaches it.
fn is_unfinished(dev: &Dev) -> bool {
    dev.driver == CD_BRIDGE && dev.usb.as_ref().is_some_and(|usb| !usb.attached)
}

#[cfg(test)]
mod tests {
    use super::super::qtree::Usb;
    use super::*;

    /// A device in QEMU's tree.
    pub(super) fn dev(driver: &str, properties: &[(&str, &str)]) -> Dev {
        let property = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Dev {
            driver: driver.to_owned(),
            properties: properties.iter().map(property).collect(),
            ..Dev::default()
        }
    }

    #[test]
    fn a_cd_drive_is_unfinished_until_it_is_attached() {
        let with = |driver: &str, attached| {
            let usb = Usb { port: Ok("1".parse().unwrap()), attached };
            is_unfinished(&Dev { usb: Some(usb), ..dev(driver, &[]) })
        };
        assert!(with("usb-bot", false));
        assert!(!with("usb-bot", true));
        assert!(!with("usb-storage", false));
    }

    #[test]
    fn a_selector_that_several_devices_can_match_is_noted() {
        let notes = |properties: &[(&str, &str)]| {
            let mut xhci = scanned("qemu-xhci", "x", 1);
            let usb = Usb { port: Ok("1".parse().unwrap()), attached: true };
            let dev = Dev { usb: Some(usb), id: "stick".to_owned(), ..dev("usb-host", properties) };
            xhci.devices = vec![ScannedDevice { dev, qom_path: None }];
            assembled(vec![xhci], &Hardware::new()).notes
        };
        let note = |selector: &str| {
            [format!("stick: QEMU takes any device of this machine that matches {selector}")]
        };
        assert_eq!(notes(&[("hostbus", "1"), ("hostport", "\"2\"")]), [""; 0]);
        assert_eq!(notes(&[("hostbus", "1"), ("hostaddr", "4")]), [""; 0]);
        assert_eq!(notes(&[("hostbus", "1"), ("hostaddr", "4"), ("vendorid", "9")]), [""; 0]);
        assert_eq!(notes(&[("vendorid", "1921")]), note("vendorid=0x0781"));
        assert_eq!(notes(&[("vendorid", "1921"), ("productid", "1")]), note("0781:0001"));
        assert_eq!(notes(&[]), note("hostbus=any"));
    }

    /// Only for host devices: those with the driver `usb-host`.
    #[test]
    fn the_bus_address_of_a_host_device_is_reported() {
        let device = |port: &str, driver: &str| ScannedDevice {
            dev: Dev {
                usb: Some(Usb { port: Ok(port.parse().unwrap()), attached: true }),
                ..dev(driver, &[("hostbus", "1 (0x1)"), ("hostaddr", "4 (0x4)")])
            },
            qom_path: None,
        };
        let mut xhci = scanned("qemu-xhci", "x", 1);
        xhci.devices = vec![device("1", "usb-kbd"), device("2", "usb-host")];
        let observed = assembled(vec![xhci], &Hardware::new());
        let given = observed.given.iter().map(|(at, given)| format!("{at} {given}"));
        assert_eq!(given.collect::<Vec<_>>(), ["0:2 001.004"]);
        assert!(observed.states.is_empty());
    }

    #[test]
    fn an_alias_contains_an_index() {
        let index = |id: &str| alias_index(id).map(Index::get);
        for (id, expected) in [
            ("usb", Some(0)),
            ("usb0", Some(0)),
            ("usb12", Some(12)),
            ("xenusb-3", Some(3)),
            ("xenusb-", None),
            ("usbx", None),
            ("hci0", None),
            ("", None),
        ] {
            assert_eq!(index(id), expected, "{id}");
        }
    }

    fn scanned(driver: &str, id: &str, slot: u8) -> ScannedController {
        ScannedController {
            driver: driver.to_owned(),
            id: id.to_owned(),
            pci: Some(("pci.0".to_owned(), slot, 0)),
            usb_bus: Some(format!("{id}.0")),
            ..ScannedController::default()
        }
    }

    fn assembled(controllers: Vec<ScannedController>, recorded: &Hardware) -> Observed {
        let scan = Scan { controllers, ..Scan::default() };
        assemble(&scan, &Details::default(), recorded).0
    }

    fn names(observed: &Observed) -> Vec<String> {
        let controllers = observed.hardware.controllers();
        controllers.map(|controller| format!("{} {}", controller.index, controller.name)).collect()
    }

    /// vusb's own id takes precedence over the record, and the record over an alias. An alias does
    /// not take a recorded index.
    #[test]
    fn indexes_have_an_order_of_precedence() {
        let mut recorded = Hardware::new();
        let mut controller = assembled(vec![scanned("usb-ehci", "usb5", 9)], &recorded)
            .hardware
            .controllers()
            .next()
            .unwrap()
            .clone();
        controller.name = "front".parse().unwrap();
        recorded.add_controller(controller).unwrap();
        let own = |slot| scanned("usb-ehci", "vusb-5-own", slot);
        let expect = |controllers: Vec<ScannedController>, expected: &[&str]| {
            assert_eq!(names(&assembled(controllers, &recorded)), expected);
        };
        expect(vec![scanned("usb-ehci", "x", 9)], &["5 front"]);
        expect(vec![scanned("usb-ehci", "x", 9), own(3)], &["0 x", "5 front"]);
        expect(vec![scanned("usb-ehci", "usb5", 3)], &["0 usb5"]);
        expect(vec![scanned("usb-ehci", "front", 3)], &["0 hci0"]);
        // Of another model, or at another address.
        expect(vec![scanned("piix3-usb-uhci", "x", 9)], &["0 x"]);
        expect(vec![scanned("usb-ehci", "x", 8)], &["0 x"]);
    }

    /// Two controllers cannot have one index or one name.
    #[test]
    fn indexes_and_names_are_unique() {
        let none = Hardware::new();
        let observed = assembled(
            vec![
                scanned("usb-ehci", "vusb-1-a", 2),
                scanned("usb-ehci", "vusb-1-b", 3),
                scanned("usb-ehci", "a", 4),
                scanned("usb-ehci", "usb1", 5),
            ],
            &none,
        );
        assert_eq!(names(&observed), ["0 b", "1 a", "2 hci0", "3 usb1"]);
        let ours: Vec<String> = observed.ours.iter().map(ToString::to_string).collect();
        assert_eq!(ours, ["a", "b"]);
    }

    /// The ICH9 companions belong to the EHCI controller whose bus they serve. A controller is
    /// shown without its companions if its model cannot have them: an EHCI has 6 ports, and the
    /// last companion here would start at the seventh.
    #[test]
    fn companions_belong_to_the_bus_that_they_serve() {
        let companion = |driver: &str, bus: &str, first_port: u8| ScannedController {
            driver: driver.to_owned(),
            serves: Some((bus.to_owned(), first_port)),
            ..ScannedController::default()
        };
        let observed = assembled(
            vec![
                scanned("ich9-usb-ehci1", "a", 2),
                companion("ich9-usb-uhci3", "a.0", 4),
                companion("ich9-usb-uhci1", "a.0", 0),
                companion("ich9-usb-uhci2", "a.0", 2),
                scanned("ich9-usb-ehci1", "b", 3),
                scanned("usb-ehci", "c", 4),
                companion("ich9-usb-uhci1", "c.0", 0),
                scanned("ich9-usb-ehci1", "d", 5),
                companion("ich9-usb-uhci1", "d.0", 6),
            ],
            &Hardware::new(),
        );
        let companions = observed.hardware.controllers().map(|controller| {
            let ports = controller.companions.iter().map(|companion| companion.first_port);
            ports.collect::<Vec<u8>>()
        });
        assert_eq!(companions.collect::<Vec<_>>(), [vec![0, 2, 4], vec![], vec![0], vec![]]);
    }

    /// Devices are also shown on a controller that is part of the machine, or whose driver is not
    /// known. A device whose port path is too long is not.
    #[test]
    fn every_usb_bus_is_a_controller() {
        let port = |port: Result<&str, &str>| Usb {
            port: port.map(|port| port.parse().unwrap()).map_err(str::to_owned),
            attached: true,
        };
        let device = |usb: Usb| ScannedDevice {
            dev: Dev { usb: Some(usb), ..dev("usb-kbd", &[]) },
            qom_path: None,
        };
        let of = |driver: &str, ports: Option<u8>| {
            let mut controller = ScannedController { pci: None, ports, ..scanned(driver, "", 1) };
            controller.devices = vec![device(port(Ok("1"))), device(port(Err("1.2.3.4.5")))];
            let observed = assembled(vec![controller], &Hardware::new());
            assert!(observed.foreign.is_empty(), "{driver}");
            let controller = observed.hardware.controllers().next().unwrap();
            assert_eq!((controller.devices().len(), &controller.pci), (1, &None));
            format!("{} {}", controller.model, controller.ports.count())
        };
        assert_eq!(of("sysbus-xhci", None), "sysbus-xhci 4");
        assert_eq!(of("dwc2-usb", None), "dwc2 1");
        assert_eq!(of("platform-ehci-usb", None), "platform-ehci 6");
        assert_eq!(of("sysbus-ohci", Some(2)), "sysbus-ohci 2");
        assert_eq!(of("sysbus-ohci", Some(99)), "sysbus-ohci 1");
        assert_eq!(of("musb-hdrc", None), "other-usb 1");
        // On other machines, this model is a PCI device.
        assert_eq!(of("qemu-xhci", None), "qemu-xhci 4");
    }

    /// No port above the highest one in use is known to exist. Port 1 always exists.
    #[test]
    fn a_controller_with_an_unknown_driver_ends_at_the_highest_port_in_use() {
        let mut unknown = ScannedController { pci: None, ..scanned("musb-hdrc", "", 1) };
        let usb = Usb { port: Ok("3.1".parse().unwrap()), attached: true };
        unknown.devices =
            vec![ScannedDevice { dev: Dev { usb: Some(usb), ..Dev::default() }, qom_path: None }];
        assert_eq!(ports_and_companions(&Scan::default(), &unknown).unwrap().0.count(), 3);
        unknown.devices.clear();
        assert_eq!(ports_and_companions(&Scan::default(), &unknown).unwrap().0.count(), 1);
    }

    /// A controller without a PCI address keeps its recorded index and name.
    #[test]
    fn a_recorded_part_of_the_machine_is_recognized() {
        let xhci = || ScannedController { pci: None, ..scanned("sysbus-xhci", "", 1) };
        let mut recorded = Hardware::new();
        let first = assembled(vec![xhci()], &recorded);
        let mut controller = first.hardware.controllers().next().unwrap().clone();
        controller.index = Index::new(7).unwrap();
        controller.name = "front".parse().unwrap();
        recorded.add_controller(controller).unwrap();
        assert_eq!(names(&assembled(vec![xhci()], &recorded)), ["7 front"]);
    }

    /// Without an answer, an xHCI has QEMU's default of 4 ports of each kind (`NUMPORTS` in its
    /// `hcd-xhci.h`).
    #[test]
    fn an_xhci_has_the_reported_ports_or_the_default() {
        let mut known = scanned("nec-usb-xhci", "b", 2);
        known.port_counts = Some((8, 3));
        let observed = assembled(vec![scanned("qemu-xhci", "a", 1), known], &Hardware::new());
        let ports = observed.hardware.controllers().map(|it| (it.ports.usb2(), it.ports.usb3()));
        assert_eq!(ports.collect::<Vec<_>>(), [(4, 4), (8, 3)]);
    }

    #[test]
    fn device_del_takes_an_id_or_else_a_path() {
        let handle = |id: &str| Handle {
            id: id.to_owned(),
            qom_path: "/machine/x".to_owned(),
            bus: String::new(),
        };
        assert_eq!((handle("a").target(), handle("").target()), ("a", "/machine/x"));
    }
}
