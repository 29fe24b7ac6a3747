//! What must be unique among all devices of a domain, on USB or not, and what libvirt derives from
//! all of them: the functions of a PCI slot, user aliases, names of disks, the boot order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::names::{USER, disk_number};
use super::numbers::base_zero;
use super::xml::{Attr, Node, all, attr, child, elements, is};
use crate::error::Problem;

/// A PCI slot: domain, bus, slot.
type Slot = (u32, u32, u32);

/// The devices of a domain, on all buses.
fn devices<'d>(domain: Node<'d>) -> impl Iterator<Item = Node<'d>> {
    all(domain, "devices").flat_map(elements)
}

/// Checks that no two devices have the same user alias, and no two disks the same name.
///
/// # Errors
/// Two devices have the same user alias, or two disks the same name.
pub(super) fn check_names(domain: Node<'_>) -> Result<(), Problem> {
    let mut aliases: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    // The first console is the first serial device again, with the same alias.
    for node in devices(domain).filter(|node| !is(*node, "console")) {
        if let Some(alias) = user_alias(node) {
            if let Some(first) = aliases.insert(alias.value, alias.span.clone()) {
                let what = format!("two devices have the alias {}", alias.excerpt());
                let says = format!("libvirt says: non unique alias detected: {}", alias.excerpt());
                return Err(alias.problem(what).other(first, "the first one").help(says));
            }
        }
    }
    let mut targets: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    for disk in devices(domain).filter(|node| is(*node, "disk")) {
        let Some(name) = child(disk, "target").and_then(|it| attr(it, "dev")) else { continue };
        if let Some(first) = targets.insert(name.value, name.span.clone()) {
            let says = format!("libvirt says: target '{}' duplicated", name.excerpt());
            let what = format!("two disks are named {}", name.excerpt());
            return Err(name.problem(what).other(first, "the first one").help(says));
        }
    }
    Ok(())
}

/// The alias that a user gave to an element.
fn user_alias(node: Node<'_>) -> Option<Attr<'_>> {
    attr(child(node, "alias")?, "name").filter(|alias| alias.value.starts_with(USER))
}

/// Whether a device of the domain has this user alias. Devices whose elements start at a position
/// in `except` are ignored.
pub(super) fn has_alias(domain: Node<'_>, alias: &str, except: &BTreeSet<usize>) -> bool {
    let others = devices(domain).filter(|node| !except.contains(&node.range().start));
    others.filter_map(user_alias).any(|it| it.value == alias)
}

/// The PCI functions that the devices of a domain request.
#[derive(Default)]
pub(super) struct PciFunctions {
    slots: BTreeMap<Slot, BTreeSet<u32>>,
}

impl PciFunctions {
    /// The functions that the devices of `domain` request.
    ///
    /// # Errors
    /// A USB controller requests the function of another device.
    pub(super) fn of(domain: Node<'_>) -> Result<PciFunctions, Problem> {
        let mut functions = PciFunctions::default();
        let mut first: BTreeMap<(Slot, u32), (Range<usize>, bool)> = BTreeMap::new();
        for node in devices(domain) {
            let Some((address, slot, function)) = requested(node) else { continue };
            functions.slots.entry(slot).or_default().insert(function);
            let usb = is(node, "controller") && node.attribute("type") == Some("usb");
            let before = first.insert((slot, function), (address.range(), usb));
            if let Some((before, before_usb)) = before {
                if usb || before_usb {
                    return Err(clash(address, before, slot, function));
                }
            }
        }
        Ok(functions)
    }

    /// Whether QEMU has to be told that a controller's slot has more than one function: if this is
    /// requested, or, as in libvirt, for function 0 of a slot with other functions
    /// (`virDomainPCIAddressSetAllMulti`).
    pub(super) fn is_multifunction(&self, controller: Node<'_>) -> bool {
        let Some((address, slot, function)) = requested(controller) else { return false };
        let others = self.slots.get(&slot).is_some_and(|all| all.len() > 1);
        match address.attribute("multifunction") {
            Some(word) => word == "on",
            None => function == 0 && others,
        }
    }
}

/// The address that a device requests. All zeros, the host bridge, means none.
fn requested(device: Node<'_>) -> Option<(Node<'_>, Slot, u32)> {
    let address = child(device, "address").filter(|it| it.attribute("type") == Some("pci"))?;
    let part = |name: &str| match address.attribute(name) {
        Some(text) => base_zero(text).map(|(number, _)| number),
        None => Some(0),
    };
    let slot = (part("domain")?, part("bus")?, part("slot")?);
    let function = part("function")?;
    (slot != (0, 0, 0) || function != 0).then_some((address, slot, function))
}

fn clash(address: Node<'_>, before: Range<usize>, slot: Slot, function: u32) -> Problem {
    let (domain, bus, slot) = slot;
    let at = format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}");
    Problem::new(address.range(), format!("two devices have the PCI address {at}"))
        .other(before, "the first one")
        .help(format!("libvirt says: Attempted double use of PCI Address {at}"))
}

/// The positions in the boot order that libvirt derives from `<os><boot>`, for the first disk, CD
/// drive and network card, by the start of the element. Empty if any device has its own position.
pub(super) fn boot_order(domain: Node<'_>) -> BTreeMap<usize, u64> {
    let mut order = BTreeMap::new();
    if devices(domain).any(|node| child(node, "boot").is_some()) {
        return order;
    }
    let os = child(domain, "os");
    let words = os.into_iter().flat_map(|os| all(os, "boot")).filter_map(|it| it.attribute("dev"));
    let mut words: Vec<&str> = words.collect();
    if words.is_empty() {
        // `virDomainDefBootOrderPostParse`.
        words.push("hd");
    }
    let disks = sorted_disks(domain);
    for (word, position) in words.into_iter().zip(1..) {
        let disk = |kinds: &[&str]| {
            disks.iter().find(|it| kinds.contains(&it.attribute("device").unwrap_or("disk")))
        };
        let device = match word {
            "hd" => disk(&["disk", "lun"]).copied(),
            "cdrom" => disk(&["cdrom"]).copied(),
            "network" => devices(domain).find(|node| is(*node, "interface")),
            // No floppy drive is on USB.
            _ => None,
        };
        order.extend(device.map(|node| (node.range().start, position)));
    }
    order
}

/// All disks in libvirt's order: as in the text, but the disks of each bus are together, sorted by
/// name (`virDomainDiskInsert`).
fn sorted_disks(domain: Node<'_>) -> Vec<Node<'_>> {
    let mut sorted: Vec<(&str, Option<u32>, Node<'_>)> = Vec::new();
    for disk in devices(domain).filter(|node| is(*node, "disk")) {
        let target = child(disk, "target");
        let name = target.and_then(|it| it.attribute("dev")).unwrap_or_default();
        let bus = target.and_then(|it| it.attribute("bus")).unwrap_or_else(|| bus_of(name));
        let number = disk_number(name);
        let is_on_bus = |it: &&(&str, Option<u32>, Node<'_>)| it.0 == bus;
        let later = sorted.iter().position(|it| is_on_bus(&it) && it.1 > number);
        let last = sorted.iter().rposition(|it| is_on_bus(&it)).map(|at| at + 1);
        sorted.insert(later.or(last).unwrap_or(sorted.len()), (bus, number, disk));
    }
    sorted.into_iter().map(|(.., disk)| disk).collect()
}

/// The bus of a disk without the attribute `bus` (`virDomainDiskDefPostParse`).
fn bus_of(name: &str) -> &'static str {
    let prefixes = [("fd", "fdc"), ("hd", "ide"), ("sd", "scsi"), ("vd", "virtio"), ("xvd", "xen")];
    prefixes.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or("", |(_, bus)| bus)
}
