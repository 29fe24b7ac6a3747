//! Turns options into hardware.

use std::collections::BTreeMap;
use std::num::NonZeroU8;
use std::ops::Range;

use vusb_model::address::{Address, Index};
use vusb_model::device::{Kind, Other};
use vusb_model::hardware::{Controller, Device, Hardware, PciAddress};
use vusb_model::models::{Companion, CompanionModel, Model, QEMU_XHCI_PORTS, RootPorts};
use vusb_model::name::Name;

use super::buses::{Bus, Buses, Plugged};
use super::device::Properties;
use super::kinds::{self, BackEnds};
use super::machine;
use super::options::Options;
use super::words::Word;
use crate::error::Problem;

/// The maximum number of ports of an OHCI (`OHCI_MAX_PORTS` in QEMU's `hw/usb/hcd-ohci.h`).
const OHCI_PORTS: u8 = 15;

/// The prefix of the ids of vusb's own controllers and devices.
const OWN_PREFIX: &str = "vusb-";

/// The hardware of a QEMU with these options. Each option that cannot be part of the hardware is
/// added to the warnings.
pub(crate) fn from_options(options: &mut Options) -> Hardware {
    let mut buses = Buses::default();
    let machine = options.machine.get("type").unwrap_or_default().to_owned();
    let usb = options.machine.flag("usb") == Some(true);
    if !machine::add(&mut buses, &options.arch, &machine, usb) {
        let what =
            "the built-in USB of this machine is unknown; only what is added to it is listed";
        options.warnings.push(Problem::new(0..0, what));
    }
    for (value, span) in std::mem::take(&mut options.usbdevices) {
        let plugged = match kinds::of_usbdevice(&value) {
            // `-usbdevice` uses the first bus. Only a `-device` without `bus=` uses the bus that
            // QEMU's search finds.
            Some(driver) => buses.plug_into(0, options.plain(driver)),
            None => Err("the device is unknown".to_owned()),
        };
        options.warnings.extend(plugged.err().map(|why| refused(span, &why)));
    }
    let mut warnings = Vec::new();
    for it in &options.devices {
        let added = add(&mut buses, &it.device);
        warnings.extend(added.err().map(|why| refused(it.span.clone(), &why)));
    }
    let mut hardware = Hardware::new();
    let mut names = Names::default();
    let add_controller = |bus: &Bus| controller(bus, &mut hardware, &mut names);
    let indexes: Vec<Option<Index>> = buses.list.iter().map(add_controller).collect();
    for plugged in &buses.plugged {
        if let Some(Some(bus)) = indexes.get(plugged.bus) {
            let at = Address { bus: *bus, port: plugged.port };
            plug(plugged, at, &options.back_ends, &mut hardware, &mut names);
        }
    }
    options.warnings.extend(warnings);
    hardware
}

fn refused(span: Range<usize>, why: &str) -> Problem {
    Problem::new(span, format!("QEMU does not start with this: {why}"))
}

/// Adds the device of an option `-device`.
fn add(buses: &mut Buses, device: &Properties) -> Result<(), String> {
    let driver = device.driver();
    if let Some(model) = kinds::controller(driver) {
        if let Some(master) = device.get("masterbus") {
            let is_it = |it: &CompanionModel| it.model() == model;
            let companion = CompanionModel::ALL.into_iter().find(is_it);
            let first_port = device.number("firstport").unwrap_or(0);
            return match (companion, u8::try_from(first_port)) {
                (Some(model), Ok(first_port)) => {
                    buses.companion(master, Companion { model, first_port })
                }
                _ => Err(format!("a {driver} cannot be a companion")),
            };
        }
        let (model, ports) = ports(model, device);
        buses.controller(model, ports, device);
        Ok(())
    } else if kinds::is_device(driver) {
        buses.plug(device.clone())
    } else {
        buses.other(device);
        Ok(())
    }
}

/// The model of a controller, and its numbers of USB 2 and USB 3 ports. An OHCI with an unusual
/// number of ports is [`Model::OtherUsb`].
fn ports(model: Model, device: &Properties) -> (Model, (u8, u8)) {
    let count = |key: &str, most: u8| {
        device.number(key).map(|it| u8::try_from(it).unwrap_or(most).min(most))
    };
    let usual = *model.port_range().end();
    match model {
        _ if model.is_xhci() => {
            let ports = ["p2", "p3"].map(|key| count(key, usual).unwrap_or(QEMU_XHCI_PORTS));
            (model, ports.into())
        }
        Model::PciOhci => match count("num-ports", OHCI_PORTS) {
            Some(ports) if ports != usual => (Model::OtherUsb, (ports, 0)),
            _ => (model, (usual, 0)),
        },
        _ => (model, (usual, 0)),
    }
}

/// Adds the controller of a bus, and returns its index. If [`Hardware`] does not allow the
/// companions, the controller is added without them. A controller without ports has no bus, and is
/// left out.
fn controller(bus: &Bus, hardware: &mut Hardware, names: &mut Names) -> Option<Index> {
    let own = own_controller(&bus.id);
    let is_free = |index: &Index| hardware.controller(*index).is_none();
    let index = own.as_ref().map(|(index, _)| *index).filter(is_free);
    let index = index.or_else(|| Index::all().find(is_free))?;
    let id = own.map(|(_, name)| name).or_else(|| bus.id.parse().ok());
    let name = names.free(hardware, id, "hci")?;
    let (usb2, usb3) = bus.ports;
    let ports = match bus.model.is_xhci() {
        true => RootPorts::xhci(usb2, usb3),
        false => NonZeroU8::new(usb2).map(|ports| RootPorts::uniform(bus.model, ports)),
    };
    let mut new = Controller::new(index, name, bus.model, ports?);
    new.companions.clone_from(&bus.companions);
    new.pci = bus.pci.clone().map(|(bus, slot, function)| PciAddress { bus, slot, function });
    let added = hardware.add_controller(new.clone()).or_else(|_| {
        new.companions.clear();
        hardware.add_controller(new)
    });
    added.ok().map(|()| index)
}

/// The index and the name in the id of one of vusb's own controllers, `vusb-INDEX[xPORTS]-NAME`:
/// `vusb-1x15-hci0` has index 1 and the name `hci0`.
fn own_controller(id: &str) -> Option<(Index, Name)> {
    let (head, name) = id.strip_prefix(OWN_PREFIX)?.split_once('-')?;
    Some((head.split('x').next()?.parse().ok()?, name.parse().ok()?))
}

/// Plugs a device in. If [`Hardware`] does not allow the device at this port, for example because
/// of its speed, it becomes [`Kind::Other`] with its driver. Returns whether the device could be
/// plugged in.
fn plug(
    plugged: &Plugged,
    at: Address,
    back_ends: &BackEnds,
    hardware: &mut Hardware,
    names: &mut Names,
) -> bool {
    let kind = kinds::kind(&plugged.device, back_ends);
    let id = plugged.device.id();
    let id = id.strip_prefix(OWN_PREFIX).unwrap_or(id).parse().ok();
    let Some(name) = names.free(hardware, id, kind.name()) else { return false };
    let other = Kind::Other(Other { driver: plugged.device.driver().to_owned() });
    let mut device = |kind| hardware.plug(at, Device { name: name.clone(), kind }).is_ok();
    device(kind) || device(other)
}

/// Names for new items.
#[derive(Default)]
struct Names {
    /// The number to try next, by the stem of the name.
    next: BTreeMap<&'static str, u32>,
}

impl Names {
    /// The preferred name if it is free, otherwise the stem with the lowest number that results in
    /// a free name.
    fn free(
        &mut self,
        hardware: &Hardware,
        preferred: Option<Name>,
        stem: &'static str,
    ) -> Option<Name> {
        let is_free = |name: &Name| hardware.named(name).is_none();
        if let Some(preferred) = preferred.filter(is_free) {
            return Some(preferred);
        }
        let next = self.next.entry(stem).or_default();
        loop {
            let name = format!("{stem}{next}").parse().ok()?;
            *next = next.checked_add(1)?;
            if is_free(&name) {
                return Some(name);
            }
        }
    }
}

/// The hardware that these arguments add to a machine without built-in USB, and the arguments that
/// cannot be part of it, as problems.
pub(crate) fn hardware_of_words(words: &[Word], arch: &str) -> (Hardware, Vec<Problem>) {
    let mut options = Options::read(words);
    arch.clone_into(&mut options.arch);
    options.machine = Properties::read("none", "type");
    let hardware = from_options(&mut options);
    (hardware, options.warnings)
}

/// Plugs the devices of `arguments`, which libvirt passes to QEMU after its own, into the buses of
/// `hardware`. Returns the addresses of these devices.
pub(crate) fn add_arguments(arguments: &[String], hardware: &mut Hardware) -> Vec<Address> {
    let word = |text: &String| Word { text: text.clone(), span: 0..0, opaque: false };
    let options = Options::read(&arguments.iter().map(word).collect::<Vec<_>>());
    let mut buses = Buses::default();
    let indexes: Vec<Index> = hardware.controllers().map(|it| it.index).collect();
    for it in hardware.controllers() {
        let name = match it.index.get() {
            0 => "usb.0".to_owned(),
            number => format!("usb{number}.0"),
        };
        buses.named(name, it);
    }
    for (at, device) in hardware.devices() {
        let Some(bus) = indexes.iter().position(|it| *it == at.bus) else { continue };
        let mut occupant = Properties::default();
        if device.kind.hub_ports() > 0 {
            occupant = Properties::read("usb-hub", "driver");
            occupant.set("ports", &device.kind.hub_ports().to_string());
        }
        buses.take(bus, at.port, occupant);
    }
    let existing = buses.plugged.len();
    for it in &options.devices {
        // A device that QEMU would refuse takes no port. The domain has a warning about it.
        let _ = add(&mut buses, &it.device);
    }
    let (mut added, mut names) = (Vec::new(), Names::default());
    for plugged in buses.plugged.iter().skip(existing) {
        let Some(bus) = indexes.get(plugged.bus).copied() else { continue };
        let at = Address { bus, port: plugged.port };
        let plugged = plug(plugged, at, &options.back_ends, hardware, &mut names);
        added.extend(plugged.then_some(at));
    }
    added
}
