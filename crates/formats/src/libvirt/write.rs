//! Generates a domain: what libvirt's schema requires, and the USB controllers and devices.
//!
//! Unknown properties of the guest get the defaults of libvirt's tools: the type `kvm`, one
//! processor, 1 GiB of memory.

use std::collections::BTreeMap;
use std::iter::once;

use vusb_model::address::{Address, Index};
use vusb_model::device::{Chardev, Hub, Input, Kind};
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{ControllerType, Model, UsbVersion};

use super::address::{PciBuses, root_bus};
use super::element::{Element, Style};
use super::express::{self, Numbers};
use crate::config::{Generated, Inexpressible};

/// The default memory, in KiB.
const MEMORY_KIB: u64 = 1 << 20;

/// Generates a domain. See [`ConfigFormat::write`](crate::ConfigFormat::write).
pub(crate) fn write(guest: &Guest, hardware: &Hardware) -> Generated {
    let mut lost = Vec::new();
    let mut elements = usb(guest, hardware, &mut lost);
    // libvirt's own order.
    elements.sort_by_key(|element| rank(element.name));
    let domain = Element::new("domain")
        .with("type", domain_type(guest))
        .and([Element::text("name", name(guest))])
        .and(
            guest
                .uuid
                .as_ref()
                .filter(|uuid| is_uuid(uuid))
                .map(|uuid| Element::text("uuid", uuid)),
        )
        .and([
            Element::text("memory", guest.memory_kib.unwrap_or(MEMORY_KIB).to_string())
                .with("unit", "KiB"),
            Element::text("vcpu", guest.vcpus.unwrap_or(1).to_string()),
            Element::new("os").and([os_type(guest)]),
            Element::new("devices").and(elements),
        ]);
    let mut text = domain.render(&Style::libvirt(), "");
    text.push('\n');
    Generated { text, lost }
}

/// The position of an element in the order in which libvirt writes `<devices>`
/// (`virDomainDefFormatInternal`). `None` for unknown ones.
pub(super) fn rank(name: &str) -> Option<usize> {
    const ORDER: [&str; 26] = [
        "emulator",
        "disk",
        "controller",
        "lease",
        "filesystem",
        "interface",
        "smartcard",
        "serial",
        "parallel",
        "console",
        "channel",
        "input",
        "tpm",
        "graphics",
        "sound",
        "audio",
        "video",
        "hostdev",
        "redirdev",
        "redirfilter",
        "hub",
        "watchdog",
        "memballoon",
        "rng",
        "panic",
        "memory",
    ];
    ORDER.iter().position(|known| *known == name)
}

fn domain_type(guest: &Guest) -> &'static str {
    match guest.hypervisor {
        Hypervisor::Qemu => "kvm",
        Hypervisor::Xen => "xen",
        Hypervisor::Vmware => "vmware",
        Hypervisor::VirtualBox => "vbox",
    }
}

/// The guest's name without the characters that libvirt does not allow: slashes and control
/// characters. The result is never empty.
fn name(guest: &Guest) -> String {
    let name = guest.name.as_deref().unwrap_or_default();
    let name: String = name.chars().filter(|char| !char.is_control() && *char != '/').collect();
    if name.trim().is_empty() { "guest".to_owned() } else { name }
}

fn is_uuid(text: &str) -> bool {
    text.bytes().filter(u8::is_ascii_hexdigit).count() == 32
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn os_type(guest: &Guest) -> Element {
    let kind = match guest.virtualization {
        Virtualization::Hvm => "hvm",
        Virtualization::Pv => "xen",
        Virtualization::Pvh => "xenpvh",
    };
    let word =
        |text: &&String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let mut element = Element::text("type", kind);
    if let Some(arch) = guest.arch.as_ref().filter(word) {
        element = element.with("arch", arch);
    }
    if let Some(machine) = guest.machine.as_ref().filter(word) {
        element = element.with("machine", machine);
    }
    element
}

/// The elements of the controllers and devices. What they cannot express is added to `lost`.
fn usb(guest: &Guest, hardware: &Hardware, lost: &mut Vec<Inexpressible>) -> Vec<Element> {
    let buses = PciBuses::plain(root_bus(guest));
    let implied = of_device_model(guest, hardware);
    let written: Vec<&Controller> = hardware
        .controllers()
        .filter(|it| Some(it.index) != implied && refused_by_xen(guest, it).is_none())
        .collect();
    let moved = moved(guest, &written, lost);
    let index = |index: Index| moved.get(&index).copied().unwrap_or(index);
    let mut elements = Vec::new();
    let mut numbers = Numbers::default();
    numbers.keep(hardware.devices().map(|(_, device)| device));
    for controller in hardware.controllers() {
        if Some(controller.index) == implied {
            elements.extend(controller.devices().filter_map(|(_, it)| express::pointer(it)));
            continue;
        }
        if let Some(refused) = refused_by_xen(guest, controller) {
            lost.push(refused);
            lost.extend(controller.devices().map(|(_, device)| lost_with(device, controller)));
            continue;
        }
        let mut bare = controller.without_devices();
        bare.index = index(controller.index);
        match express::controller(&bare, &buses) {
            Ok(group) => elements.extend(group),
            Err(inexpressible) => {
                lost.push(inexpressible);
                lost.extend(controller.devices().map(|(_, device)| lost_with(device, controller)));
                continue;
            }
        }
        lost.extend(express::controller_losses(controller, &buses));
        for (port, device) in controller.devices() {
            let address = Address { bus: index(controller.index), port };
            lost.extend(lost_version(device));
            match express::device(address, device, numbers.take(device)) {
                Ok((element, losses)) => {
                    elements.push(element);
                    lost.extend(losses);
                }
                Err(inexpressible) => lost.push(inexpressible),
            }
        }
    }
    lost.extend(lost_ports(guest, hardware, implied));
    // A SPICE channel needs a display.
    if hardware.devices().any(|(_, device)| is_spice(&device.kind)) {
        elements.push(Element::new("graphics").with("type", "spice").with("autoport", "yes"));
    }
    // A Xen guest has no USB by default, and libvirt's Xen driver refuses the model `none`.
    if hardware.controllers().len() == 0 && guest.hypervisor != Hypervisor::Xen {
        elements.push(express::no_usb());
    }
    elements
}

fn is_spice(kind: &Kind) -> bool {
    let chardev = match kind {
        Kind::Redir(redir) => &redir.chardev,
        Kind::Serial(serial) => &serial.chardev,
        _ => return false,
    };
    *chardev == Chardev::Spicevmc
}

/// The indexes of these controllers that change, each with its new one. The guest does not see
/// them, but libvirt gives PCI slots to controllers in the order of their indexes, which stays the
/// same.
fn moved(
    guest: &Guest,
    controllers: &[&Controller],
    lost: &mut Vec<Inexpressible>,
) -> BTreeMap<Index, Index> {
    let mut moved = BTreeMap::new();
    let first = controllers.first().map(|it| it.index);
    let first = first.filter(|it| guest.hypervisor != Hypervisor::Xen && *it != Index::ZERO);
    if let Some(from) = first {
        lost.push(Inexpressible {
            what: format!("the index {from} of the first controller"),
            why: "libvirt adds a controller unless one has the index 0: this one gets it".into(),
        });
        moved.insert(from, Index::ZERO);
    }
    // From the last one down, each gets its own index or the next lower free one.
    let mut controllers: Vec<_> = controllers.iter().filter(|it| Some(it.index) != first).collect();
    controllers.sort_by_key(|it| it.index);
    let mut highest = Some(express::MAX_BUS);
    let mut high = Vec::new();
    for controller in controllers.into_iter().rev() {
        let Some(to) = highest.map(|it| it.min(controller.index)) else { break };
        highest = to.get().checked_sub(1).and_then(Index::new);
        if to == controller.index {
            continue;
        }
        high.push(Inexpressible {
            what: format!("the index {} of {}", controller.index, controller.name),
            why: format!(
                "the highest bus of a device in libvirt's schema is {}: this controller gets the index {to}",
                express::MAX_BUS
            )
            .into(),
        });
        moved.insert(controller.index, to);
    }
    lost.extend(high.into_iter().rev());
    moved
}

fn lost_with(device: &Device, controller: &Controller) -> Inexpressible {
    Inexpressible {
        what: format!("{}, {}", device.name, device.kind),
        why: format!("it is on {}, which libvirt cannot express", controller.name).into(),
    }
}

/// The USB version of a full-speed input device. libvirt does not override QEMU's default, which is
/// high speed.
fn lost_version(device: &Device) -> Option<Inexpressible> {
    let (Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input)) = &device.kind else {
        return None;
    };
    (*input == Input { usbversion: UsbVersion::V1 }).then(|| Inexpressible {
        what: format!("the USB version 1 of {}", device.name),
        why: "libvirt does not set QEMU's usb_version, whose default is 2".into(),
    })
}

/// The UHCI of a Xen guest's device model, if elements for its mice and tablets are enough to give
/// the guest exactly this controller with all of its devices. libvirt's driver for Xen accepts no
/// element for the controller itself (`libxlMakeUSBController`).
fn of_device_model(guest: &Guest, hardware: &Hardware) -> Option<Index> {
    if guest.hypervisor != Hypervisor::Xen || guest.virtualization != Virtualization::Hvm {
        return None;
    }
    let is_emulated = |it: &Controller| it.model.controller_type() == ControllerType::Emulated;
    let mut emulated = hardware.controllers().filter(|it| is_emulated(it));
    let only = emulated.next().filter(|_| emulated.next().is_none())?;
    // Before QEMU plugs a device into the last free port, it puts a hub there.
    let expected = ["1", "2", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7"];
    let devices: Vec<_> = only.devices().collect();
    let fits = devices.iter().zip(expected).all(|((port, device), expected)| {
        let is_hub = matches!(&device.kind, Kind::Hub(hub) if *hub == Hub::default());
        port.to_string() == expected
            && is_hub == (expected == "2")
            && (is_hub || express::pointer(device).is_some())
    });
    let counts = [1, 3, 4, 5, 6, 7, 8, 9];
    (only.model == Model::Piix3Uhci && fits && counts.contains(&devices.len()))
        .then_some(only.index)
}

/// An emulated controller of a Xen guest. libvirt's driver for Xen only supports PVUSB
/// (`libxlMakeUSBController`).
fn refused_by_xen(guest: &Guest, controller: &Controller) -> Option<Inexpressible> {
    let emulated = controller.model.controller_type() == ControllerType::Emulated;
    (guest.hypervisor == Hypervisor::Xen && emulated).then(|| Inexpressible {
        what: format!("{}, {}", controller.name, controller.model),
        why: "libvirt's driver for Xen accepts only qusb1 and qusb2".into(),
    })
}

/// The ports of a Xen guest's devices, unless each is the first free one. libvirt's driver for Xen
/// ignores `<address type='usb'>`, and libxl then gives each device the first free port.
fn lost_ports(guest: &Guest, hardware: &Hardware, implied: Option<Index>) -> Option<Inexpressible> {
    if guest.hypervisor != Hypervisor::Xen {
        return None;
    }
    let explicit = hardware.controllers().filter(|it| Some(it.index) != implied);
    let ports = explicit.flat_map(|controller| {
        (1..=controller.ports.count())
            .map(move |port| (controller.index, once(port).collect::<Vec<_>>()))
    });
    let devices = hardware.devices().filter(|(at, _)| Some(at.bus) != implied);
    let addresses = devices.map(|(at, _)| (at.bus, at.port.numbers().collect::<Vec<_>>()));
    let first_fit = addresses.zip(ports).all(|(address, port)| address == port);
    (!first_fit).then(|| Inexpressible {
        what: "the ports of the devices".to_owned(),
        why: "libvirt's driver for Xen ignores <address type='usb'>: each device gets the first free port".into(),
    })
}
