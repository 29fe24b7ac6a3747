//! A domain written anew: what libvirt's schema demands, the USB controllers and devices, and nothing else.
//!
//! What is not known of the guest is what libvirt's own tools take for it: the type `kvm`, one processor and 1 GiB of memory.

use std::iter::once;

use vusb_model::address::{Address, Index};
use vusb_model::device::{Input, Kind};
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{ControllerType, UsbVersion};

use super::address::{PciBuses, root_bus};
use super::element::{self, Element, Free, Style};
use crate::config::{Unsayable, Written};

/// The memory of a guest of which that is not known, in KiB.
const MEMORY_KIB: u64 = 1 << 20;

/// Writes a domain.
pub(crate) fn write(guest: &Guest, hardware: &Hardware) -> Written {
    let mut lost = Vec::new();
    let mut elements = usb(guest, hardware, &mut lost);
    // In the order in which libvirt itself writes them.
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
    Written { text, lost }
}

/// Where libvirt writes an element among those of `<devices>` (`virDomainDefFormatInternal`). `None` for those that it does not know.
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
    }
}

/// libvirt takes any name but an empty one and one with a slash or a line end in it.
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

/// The controllers and devices; what cannot be said is put to `lost`.
fn usb(guest: &Guest, hardware: &Hardware, lost: &mut Vec<Unsayable>) -> Vec<Element> {
    let buses = PciBuses::plain(root_bus(guest));
    let moved = moved_to_zero(guest, hardware);
    let index = |index: Index| if Some(index) == moved { Index::ZERO } else { index };
    if let Some(from) = moved {
        lost.push(Unsayable {
            what: format!("that the lowest index of a controller is {from}"),
            why:
                "libvirt adds a controller of its own where none has the index 0: this one gets it"
                    .to_owned(),
        });
    }
    let mut elements = Vec::new();
    let mut free = Free::default();
    for controller in hardware.controllers() {
        let mut said = controller.bare();
        said.index = index(controller.index);
        match element::controller(&said, &buses) {
            Ok(group) => elements.extend(group),
            Err(unsayable) => {
                lost.push(unsayable);
                lost.extend(controller.devices().map(|(_, device)| goes_with(device, controller)));
                continue;
            }
        }
        lost.extend(element::lost_of(controller, &buses));
        lost.extend(refused_by_xen(guest, controller));
        for (port, device) in controller.devices() {
            let address = Address { bus: index(controller.index), port };
            lost.extend(lost_version(device));
            match element::device(address, device, free) {
                Ok((element, lost_of_it)) => {
                    free.disk += u32::from(matches!(device.kind, Kind::Storage(_)));
                    free.reader += u32::from(matches!(device.kind, Kind::Ccid));
                    elements.push(element);
                    lost.extend(lost_of_it);
                }
                Err(unsayable) => lost.push(unsayable),
            }
        }
    }
    lost.extend(lost_places(guest, hardware));
    if hardware.controllers().len() == 0 {
        elements.push(element::no_usb());
    }
    elements
}

/// The index of the controller that has to have the index 0, so that libvirt adds none of its own.
fn moved_to_zero(guest: &Guest, hardware: &Hardware) -> Option<Index> {
    let first = hardware.controllers().next()?.index;
    (guest.hypervisor != Hypervisor::Xen && first != Index::ZERO).then_some(first)
}

fn goes_with(device: &Device, controller: &Controller) -> Unsayable {
    Unsayable {
        what: format!("{}, {}", device.name, device.kind),
        why: format!("it is on {}, which libvirt cannot say", controller.name),
    }
}

/// An input that cannot run at high speed: libvirt leaves QEMU's default, which can.
fn lost_version(device: &Device) -> Option<Unsayable> {
    let (Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input)) = &device.kind else {
        return None;
    };
    (*input == Input { usbversion: UsbVersion::V1 }).then(|| Unsayable {
        what: format!("that {} is a USB 1 device", device.name),
        why: "libvirt leaves QEMU's usb_version alone, whose default is 2".to_owned(),
    })
}

/// libvirt's driver for Xen knows PVUSB alone (`libxlMakeUSBController`).
fn refused_by_xen(guest: &Guest, controller: &Controller) -> Option<Unsayable> {
    let emulated = controller.model.controller_type() == ControllerType::Emulated;
    (guest.hypervisor == Hypervisor::Xen && emulated).then(|| Unsayable {
        what: format!("{}, {}", controller.name, controller.model),
        why: "the XML says it, but libvirt's driver for Xen takes qusb1 and qusb2 alone".to_owned(),
    })
}

/// libvirt's driver for Xen reads no `<address type='usb'>`: libxl gives each device the first free port. That is lost where it is not
/// where the device is.
fn lost_places(guest: &Guest, hardware: &Hardware) -> Option<Unsayable> {
    if guest.hypervisor != Hypervisor::Xen {
        return None;
    }
    let ports = hardware.controllers().flat_map(|controller| {
        (1..=controller.ports.count())
            .map(move |port| (controller.index, once(port).collect::<Vec<_>>()))
    });
    let places = hardware.devices().map(|(at, _)| (at.bus, at.port.numbers().collect::<Vec<_>>()));
    let first_fit = places.zip(ports).all(|(place, port)| place == port);
    (!first_fit).then(|| Unsayable {
        what: "which ports the devices are on".to_owned(),
        why: "libvirt's driver for Xen does not hand <address type='usb'> on: each gets the first free port".to_owned(),
    })
}
