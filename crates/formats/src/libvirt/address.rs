//! Addresses: `<address type='usb'>` of devices, `<address type='pci'>` of controllers.
//!
//! libvirt's parser of `port` accepts more than it should, and its schema and its documentation
//! both differ from it. Only unambiguous ports are accepted here. Others are refused, with a hint
//! about how libvirt would read them.
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

/// The USB address of a device, as far as it is specified.
#[derive(Debug, Default)]
pub(super) struct UsbAddress {
    pub(super) bus: Option<Index>,
    pub(super) port: Option<PortPath>,
    pub(super) fields: Vec<(Field, Range<usize>)>,
}

/// The element with the address of a USB device.
pub(super) fn usb_address_element(device: Node<'_>) -> Option<Node<'_>> {
    child(device, "address")
}

/// Reads the address of a USB device.
///
/// # Errors
/// The address is invalid, has no type, or is of another type.
pub(super) fn read_usb(device: Node<'_>) -> Result<UsbAddress, Problem> {
    let Some(address) = usb_address_element(device) else {
        return Ok(UsbAddress::default());
    };
    match attr(address, "type") {
        Some(kind) if kind.value == "usb" => {}
        Some(kind) => {
            let what =
                format!("the address of a USB device cannot be of type `{}`", kind.excerpt());
            return Err(kind
                .problem(what)
                .help("write <address type='usb' bus='0' port='1'/>, or remove it and libvirt chooses one"));
        }
        None => {
            return Err(Problem::new(address.range(), "this address has no type").help(
                "write <address type='usb' bus='0' port='1'/>, or remove it and libvirt chooses one",
            ));
        }
    }
    let mut read = UsbAddress::default();
    let bus = attr(address, "bus");
    if let Some(bus) = &bus {
        read.fields.push((Field::Controller, bus.span.clone()));
    }
    // 0 is libvirt's default.
    read.bus = Some(bus.as_ref().map_or(Ok(Index::ZERO), index_of)?);
    if let Some(port) = attr(address, "port") {
        read.fields.push((Field::Port, port.span.clone()));
        read.port = Some(port_of(&port)?);
    }
    Ok(read)
}

/// Reads the index of a controller.
///
/// # Errors
/// It is not a decimal number, or too high.
pub(super) fn index_of(text: &Attr<'_>) -> Result<Index, Problem> {
    text.value.parse().map_err(|error| {
        let problem = text.problem(format!("{error}"));
        match base_zero(text.value).map(|(number, _)| number) {
            Some(number) if number <= u32::from(Index::MAX) && decimal::<u32>(text.value).is_none() => {
                problem.help(format!("use decimal: {number}; libvirt does not accept other bases here, although its schema does"))
            }
            _ => problem,
        }
    })
}

fn port_of(text: &Attr<'_>) -> Result<PortPath, Problem> {
    text.value.parse().map_err(|error| {
        let problem = text.problem(format!("{error}"));
        match port_hint(text.value) {
            Some(why) => problem.help(why),
            None => problem,
        }
    })
}

/// The likely mistake in a port that is invalid, and how libvirt reads it.
fn port_hint(text: &str) -> Option<String> {
    const SENTENCE: &str = "libvirt says: Cannot parse <address> 'port' attribute";
    let parts: Vec<&str> = text.split('.').take(PortPath::MAX_DEPTH + 1).collect();
    let number = |part: &&str| decimal::<u32>(part);
    if text.split([' ', '+']).all(|part| decimal::<u8>(part).is_some()) && text.contains([' ', '+'])
    {
        let dotted = text.replace([' ', '+'], ".");
        return Some(format!("write {dotted}, which is how libvirt reads it"));
    }
    if text == "0" {
        return Some(
            "libvirt treats 0 like a missing port; remove it and libvirt chooses one".to_owned(),
        );
    }
    if parts.len() > PortPath::MAX_DEPTH {
        return Some(format!(
            "libvirt accepts at most four numbers, although QEMU accepts five; {SENTENCE}"
        ));
    }
    if text.contains("0x") || text.contains("0X") {
        return Some(format!(
            "use decimal: libvirt does not accept hexadecimal here, although its schema does; {SENTENCE}"
        ));
    }
    if let Some(without) = text.strip_suffix(".0").filter(|rest| rest.parse::<PortPath>().is_ok()) {
        return Some(format!("write {without}, which is how libvirt reads it"));
    }
    if parts.contains(&"0") {
        return Some("ports are numbered from 1; libvirt says: port 0 out of range".to_owned());
    }
    if parts.iter().any(|part| number(part).is_some_and(|number| number > 255)) {
        return Some("a hub has at most 255 ports".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && !parts.contains(&"") {
        return Some(
            "remove the leading zeros: libvirt reads the number as decimal, other programs as octal".to_owned(),
        );
    }
    Some(SENTENCE.to_owned())
}

/// QEMU's names of the PCI buses of a guest that libvirt starts.
pub(super) struct PciBuses {
    root: &'static str,
    /// User aliases of PCI controllers, by index. QEMU names a bus after its controller.
    aliases: BTreeMap<u32, String>,
}

impl PciBuses {
    /// The buses of the guest that `domain` describes.
    pub(super) fn of(domain: Node<'_>, guest: &Guest) -> PciBuses {
        let mut buses = PciBuses { root: root_bus(guest), aliases: BTreeMap::new() };
        let controllers = all(domain, "devices").flat_map(|devices| all(devices, "controller"));
        for controller in
            controllers.filter(|controller| controller.attribute("type") == Some("pci"))
        {
            let index = controller.attribute("index").and_then(decimal::<u32>);
            match (controller.attribute("model"), index) {
                (Some("pcie-root"), _) => buses.root = PCIE,
                (Some("pci-root"), None | Some(0)) => buses.root = conventional_root(guest),
                (_, Some(index)) => {
                    let alias =
                        child(controller, "alias").and_then(|alias| alias.attribute("name"));
                    if let Some(alias) = alias.filter(|alias| alias.starts_with("ua-")) {
                        buses.aliases.insert(index, alias.to_owned());
                    }
                }
                _ => {}
            }
        }
        buses
    }

    fn name(&self, number: u32) -> String {
        match (number, self.aliases.get(&number)) {
            (0, _) => self.root.to_owned(),
            (_, Some(alias)) => alias.clone(),
            (number, None) => format!("pci.{number}"),
        }
    }

    /// The number of the bus with this name.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        if name == self.root {
            return Some(0);
        }
        let mut aliases = self.aliases.iter();
        let user = aliases.find(|(_, alias)| alias.as_str() == name).map(|(number, _)| *number);
        user.or_else(|| {
            decimal(name.strip_prefix("pci.")?).filter(|number| (1..=255).contains(number))
        })
    }

    /// The buses of a guest without PCI controllers other than those of its machine.
    pub(super) const fn plain(guest_root: &'static str) -> PciBuses {
        PciBuses { root: guest_root, aliases: BTreeMap::new() }
    }
}

const PCIE: &str = "pcie.0";

/// The name of the first PCI bus of a machine without PCI Express. Boards that can only have one
/// call it `pci` (`virQEMUCapsHasPCIMultiBus`).
fn conventional_root(guest: &Guest) -> &'static str {
    match guest.arch() {
        "x86_64" | "i686" | "ppc" | "ppc64" | "ppc64le" | "s390" | "s390x" => "pci.0",
        _ => "pci",
    }
}

/// QEMU's name of the first PCI bus: `pcie.0` on machines with PCI Express
/// (`qemuDomainHasPCIeRoot`), otherwise `pci.0` or `pci`.
pub fn root_bus(guest: &Guest) -> &'static str {
    let machine = guest.machine.as_deref().unwrap_or_default();
    let virt = machine == "virt" || machine.starts_with("virt-");
    let express = match guest.arch() {
        "x86_64" | "i686" => machine == "q35" || machine.starts_with("pc-q35-"),
        "aarch64" | "armv7l" | "armv6l" | "riscv64" | "riscv32" | "loongarch64" => virt,
        _ => false,
    };
    if express { PCIE } else { conventional_root(guest) }
}

/// Reads the PCI address of a controller. `None` if libvirt chooses it.
///
/// # Errors
/// A QEMU guest cannot have this address.
pub(super) fn read_pci(
    controller: Node<'_>,
    buses: &PciBuses,
) -> Result<Option<PciAddress>, Problem> {
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
                text.problem(format!(
                    "`{}` is not a PCI {name}: write a number from 0 to {most:#x}",
                    text.excerpt()
                ))
            }),
    };
    let domain = part("domain", 0xffff)?;
    let (bus, slot, function) = (part("bus", 0xff)?, part("slot", 0x1f)?, part("function", 7)?);
    if domain != 0 {
        let at = attr(address, "domain").map_or(address.range(), |domain| domain.span);
        return Err(Problem::new(at, "a QEMU guest has only the PCI domain 0"));
    }
    // libvirt treats all zeros, the address of the host bridge, as no address
    // (virPCIDeviceAddressIsEmpty).
    if (bus, slot, function) == (0, 0, 0) {
        return Ok(None);
    }
    let small = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    Ok(Some(PciAddress { bus: buses.name(bus), slot: small(slot), function: small(function) }))
}
