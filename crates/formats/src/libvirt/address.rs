//! Where something is: `<address type='usb'>` of devices, `<address type='pci'>` of controllers.
//!
//! libvirt's parser of `port` takes more than it should, and its schema and its documentation promise other things again. What is read
//! here is what cannot be misunderstood; the rest is refused, with what libvirt would have made of it.
//!
//! | `port` | libvirt | here |
//! |---|---|---|
//! | `1`, `1.2`, `2.1.3.1` | that path | that path |
//! | `1 2`, `1+2` | 1.2 | refused |
//! | `1.0`, `01` | 1 | refused |
//! | `0` | as if no port were given | refused |
//! | `0x1`, `1.`, `1..2`, `-1`, five numbers | refused | refused |

use std::collections::BTreeMap;
use std::ops::Range;

use vusb_model::address::{Index, PortPath};
use vusb_model::guest::Guest;
use vusb_model::hardware::PciAddress;

use super::numbers::{base_zero, decimal};
use super::xml::{Attr, Node, all, attr, child};
use crate::config::Field;
use crate::error::Problem;

/// Where a device is plugged in, as far as it is said.
#[derive(Debug, Default)]
pub(super) struct Plugged {
    pub(super) bus: Option<Index>,
    pub(super) port: Option<PortPath>,
    pub(super) fields: Vec<(Field, Range<usize>)>,
}

/// The element that says where a USB device is.
pub(super) fn usb_address_of(device: Node<'_>) -> Option<Node<'_>> {
    child(device, "address")
}

/// Reads where a USB device is.
///
/// # Errors
/// Its address is of another type, or no address.
pub(super) fn usb(device: Node<'_>) -> Result<Plugged, Problem> {
    let Some(address) = usb_address_of(device) else {
        return Ok(Plugged::default());
    };
    match attr(address, "type") {
        Some(kind) if kind.value == "usb" => {}
        Some(kind) => {
            let what =
                format!("this is a USB device, and its address is of type `{}`", kind.short());
            return Err(kind
                .refuse(what)
                .help("a USB device has <address type='usb' bus='0' port='1'/>, or none"));
        }
        None => {
            return Err(Problem::new(address.range(), "this address has no type").help(
                "write <address type='usb' bus='0' port='1'/>, or leave it out and libvirt chooses",
            ));
        }
    }
    let mut plugged = Plugged::default();
    let bus = attr(address, "bus");
    if let Some(bus) = &bus {
        plugged.fields.push((Field::Controller, bus.span.clone()));
    }
    // libvirt's own default.
    plugged.bus = Some(bus.as_ref().map_or(Ok(Index::ZERO), index_of)?);
    if let Some(port) = attr(address, "port") {
        plugged.fields.push((Field::Port, port.span.clone()));
        plugged.port = Some(port_of(&port)?);
    }
    Ok(plugged)
}

/// The index of a controller.
///
/// # Errors
/// It is no decimal number, or too high.
pub(super) fn index_of(text: &Attr<'_>) -> Result<Index, Problem> {
    text.value.parse().map_err(|error| {
        let problem = text.refuse(format!("{error}"));
        match base_zero(text.value).map(|(number, _)| number) {
            Some(number) if number <= u32::from(Index::MAX) && decimal::<u32>(text.value).is_none() => {
                problem.help(format!("write {number} if that is meant: libvirt reads these numbers in decimal, whatever its schema allows"))
            }
            _ => problem,
        }
    })
}

fn port_of(text: &Attr<'_>) -> Result<PortPath, Problem> {
    text.value.parse().map_err(|error| {
        let problem = text.refuse(format!("{error}"));
        match why_no_port(text.value) {
            Some(why) => problem.help(why),
            None => problem,
        }
    })
}

/// What most likely went wrong with a port, and what libvirt makes of it.
fn why_no_port(text: &str) -> Option<String> {
    const SENTENCE: &str = "libvirt says: Cannot parse <address> 'port' attribute";
    let parts: Vec<&str> = text.split('.').take(PortPath::MAX_DEPTH + 1).collect();
    let number = |part: &&str| decimal::<u32>(part);
    if text.split([' ', '+']).all(|part| decimal::<u8>(part).is_some()) && text.contains([' ', '+'])
    {
        let dotted = text.replace([' ', '+'], ".");
        return Some(format!("libvirt reads it as {dotted}: write that"));
    }
    if text == "0" {
        return Some(
            "libvirt reads 0 as if no port were given: leave it out and it chooses one".to_owned(),
        );
    }
    if parts.len() > PortPath::MAX_DEPTH {
        return Some(format!(
            "libvirt takes four numbers at the most, though QEMU takes five. {SENTENCE}"
        ));
    }
    if text.contains("0x") || text.contains("0X") {
        return Some(format!(
            "ports are decimal, though libvirt's schema allows hexadecimal. {SENTENCE}"
        ));
    }
    if let Some(without) = text.strip_suffix(".0").filter(|rest| rest.parse::<PortPath>().is_ok()) {
        return Some(format!("libvirt reads it as {without}: write that"));
    }
    if parts.contains(&"0") {
        return Some("ports are counted from 1. libvirt says: port 0 out of range".to_owned());
    }
    if parts.iter().any(|part| number(part).is_some_and(|number| number > 255)) {
        return Some("no hub has more than 255 ports".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && !parts.contains(&"") {
        return Some(
            "leave out the zeros in front: libvirt reads it in decimal, others in octal".to_owned(),
        );
    }
    Some(SENTENCE.to_owned())
}

/// What QEMU calls the PCI buses of a guest that libvirt starts.
pub(super) struct PciBuses {
    root: &'static str,
    /// The aliases that a person gave to PCI controllers, by index: QEMU's name of the bus is the controller's.
    own: BTreeMap<u32, String>,
}

impl PciBuses {
    /// The buses of the guest that `domain` describes.
    pub(super) fn of(domain: Node<'_>, guest: &Guest) -> PciBuses {
        let mut buses = PciBuses { root: root_bus(guest), own: BTreeMap::new() };
        let controllers = all(domain, "devices").flat_map(|devices| all(devices, "controller"));
        for controller in
            controllers.filter(|controller| controller.attribute("type") == Some("pci"))
        {
            let index = controller.attribute("index").and_then(decimal::<u32>);
            match (controller.attribute("model"), index) {
                (Some("pcie-root"), _) => buses.root = PCIE,
                (Some("pci-root"), None | Some(0)) => buses.root = PCI,
                (_, Some(index)) => {
                    let alias =
                        child(controller, "alias").and_then(|alias| alias.attribute("name"));
                    if let Some(alias) = alias.filter(|alias| alias.starts_with("ua-")) {
                        buses.own.insert(index, alias.to_owned());
                    }
                }
                _ => {}
            }
        }
        buses
    }

    fn name(&self, number: u32) -> String {
        match (number, self.own.get(&number)) {
            (0, _) => self.root.to_owned(),
            (_, Some(own)) => own.clone(),
            (number, None) => format!("pci.{number}"),
        }
    }

    /// The number of the bus that QEMU calls so.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        if name == self.root {
            return Some(0);
        }
        let own = self.own.iter().find(|(_, own)| own.as_str() == name).map(|(number, _)| *number);
        own.or_else(|| {
            decimal(name.strip_prefix("pci.")?).filter(|number| (1..=255).contains(number))
        })
    }

    /// The buses of a guest that has no PCI controllers but those of its machine.
    pub(super) const fn plain(guest_root: &'static str) -> PciBuses {
        PciBuses { root: guest_root, own: BTreeMap::new() }
    }
}

const PCI: &str = "pci.0";
const PCIE: &str = "pcie.0";

/// What QEMU calls the first PCI bus: machines with PCI Express call it `pcie.0` (`qemuDomainHasPCIeRoot`).
pub fn root_bus(guest: &Guest) -> &'static str {
    let machine = guest.machine.as_deref().unwrap_or_default();
    let virt = machine == "virt" || machine.starts_with("virt-");
    let express = match guest.arch() {
        "x86_64" | "i686" => machine == "q35" || machine.starts_with("pc-q35-"),
        "aarch64" | "armv7l" | "armv6l" | "riscv64" | "riscv32" | "loongarch64" => virt,
        _ => false,
    };
    if express { PCIE } else { PCI }
}

/// Reads where a controller is on PCI; `None` if that is left to libvirt.
///
/// # Errors
/// It is no address that a guest of QEMU's can have.
pub(super) fn pci(controller: Node<'_>, buses: &PciBuses) -> Result<Option<PciAddress>, Problem> {
    let Some(address) =
        child(controller, "address").filter(|address| address.attribute("type") == Some("pci"))
    else {
        return Ok(None);
    };
    let part = |name: &str, most: u32| match attr(address, name) {
        None => Ok(0),
        Some(text) => base_zero(text.value)
            .map(|(number, _)| number)
            .filter(|number| *number <= most)
            .ok_or_else(|| {
                text.refuse(format!(
                    "`{}` is no PCI {name}: it is a number from 0 to {most:#x}",
                    text.short()
                ))
            }),
    };
    let domain = part("domain", 0xffff)?;
    let (bus, slot, function) = (part("bus", 0xff)?, part("slot", 0x1f)?, part("function", 7)?);
    if domain != 0 {
        let at = attr(address, "domain").map_or(address.range(), |domain| domain.span);
        return Err(Problem::new(at, "a guest of QEMU's has the PCI domain 0 alone"));
    }
    // libvirt takes all zeros for no address (virPCIDeviceAddressIsEmpty): the host bridge is there.
    if (bus, slot, function) == (0, 0, 0) {
        return Ok(None);
    }
    let small = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    Ok(Some(PciAddress { bus: buses.name(bus), slot: small(slot), function: small(function) }))
}
