//! The guest that a domain describes, apart from its devices.

use vusb_model::guest::{Guest, Hypervisor, Virtualization};

use super::numbers::decimal;
use super::xml::{Node, all, attr, child, content, excerpt, is};
use crate::error::Problem;

/// The domain types that are supported, and their hypervisors.
const TYPES: [(&str, Hypervisor); 7] = [
    ("kvm", Hypervisor::Qemu),
    ("qemu", Hypervisor::Qemu),
    ("hvf", Hypervisor::Qemu),
    ("tcg", Hypervisor::Qemu),
    ("xen", Hypervisor::Xen),
    ("vmware", Hypervisor::Vmware),
    ("vbox", Hypervisor::VirtualBox),
];

/// Reads the guest that `domain` describes.
///
/// # Errors
/// Its type is missing or not supported, or its memory or its number of processors is invalid.
pub(super) fn read(domain: Node<'_>) -> Result<Guest, Problem> {
    let hypervisor = hypervisor(domain)?;
    let os = child(domain, "os");
    let kind = os.and_then(|os| child(os, "type"));
    let os_attribute = |name: &str| kind.and_then(|kind| kind.attribute(name)).map(str::to_owned);
    let text = |name: &str| child(domain, name).map(content).filter(|text| !text.is_empty());
    let graphics = all(domain, "devices").any(|devices| child(devices, "graphics").is_some());
    Ok(Guest {
        name: text("name"),
        uuid: text("uuid"),
        hypervisor,
        virtualization: virtualization(domain, kind),
        arch: os_attribute("arch"),
        machine: os_attribute("machine"),
        graphics,
        memory_kib: child(domain, "memory").map(memory).transpose()?,
        vcpus: child(domain, "vcpu").map(vcpus).transpose()?,
        os: None,
    })
}

/// Returns the document's root if it is a domain.
///
/// # Errors
/// It is not a domain.
pub(super) fn root<'d>(root: Node<'d>) -> Result<Node<'d>, Problem> {
    if is(root, "domain") {
        return Ok(root);
    }
    let start = root.range().start + 1;
    let name = root.tag_name().name();
    let what = format!("the root element is `{}`; a guest is described by `domain`", excerpt(name));
    let inside = root.descendants().any(|node| is(node, "domain"));
    let help = match name {
        "domain" => "libvirt's `domain` has no namespace: remove xmlns=...",
        _ if inside => "copy the <domain> inside it into a separate file",
        _ => "`virsh dumpxml DOMAIN` prints one",
    };
    Err(Problem::new(start..start + name.len(), what).help(help))
}

fn hypervisor(domain: Node<'_>) -> Result<Hypervisor, Problem> {
    let known = TYPES.map(|(name, _)| name).join(", ");
    let Some(kind) = attr(domain, "type") else {
        let start = domain.range().start + 1;
        return Err(Problem::new(start..start + "domain".len(), "the domain has no type")
            .help(format!("add a type: one of {known}")));
    };
    TYPES
        .iter()
        .find(|(name, _)| *name == kind.value)
        .map(|(_, hypervisor)| *hypervisor)
        .ok_or_else(|| {
            kind.problem(format!(
                "domains of type `{}` are not supported; supported are {known}",
                kind.excerpt()
            ))
        })
}

/// The kind of virtualization, from `<os><type>`. A bootloader without it starts a paravirtual
/// guest on Xen.
fn virtualization(domain: Node<'_>, kind: Option<Node<'_>>) -> Virtualization {
    match kind.map(content).as_deref() {
        Some("xen" | "linux") => Virtualization::Pv,
        Some("xenpvh") => Virtualization::Pvh,
        None if child(domain, "bootloader").is_some() => Virtualization::Pv,
        _ => Virtualization::Hvm,
    }
}

/// Memory in KiB, rounded up as libvirt does (`virDomainParseMemory`).
fn memory(memory: Node<'_>) -> Result<u64, Problem> {
    let text = content(memory);
    let unit = attr(memory, "unit");
    let bytes = match &unit {
        None => Some(1024),
        Some(unit) => unit_bytes(unit.value),
    };
    let Some(bytes) = bytes else {
        let unit = unit.map_or_else(String::new, |unit| unit.excerpt());
        return Err(Problem::new(memory.range(), format!("`{unit}` is not a unit of memory")).help(
            "the units are b and bytes; KiB, MiB, GiB, TiB, PiB, EiB (or k, M, G, T, P, E) of 1024; KB, MB, GB, TB, PB, EB of 1000",
        ));
    };
    let total = decimal::<u64>(&text).and_then(|number| number.checked_mul(bytes));
    total.map(|total| total.div_ceil(1024)).ok_or_else(|| {
        Problem::new(memory.range(), format!("`{}` is not an amount of memory", excerpt(&text)))
            .help("write a decimal number; the memory must be less than 16 EiB")
    })
}

/// The number of bytes in a unit, as `virScaleInteger` reads it.
fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    if matches!(unit.as_str(), "b" | "byte" | "bytes") {
        return Some(1);
    }
    let mut letters = unit.chars();
    let power = letters.next().and_then(|first| "kmgtpe".find(first))?;
    let base: u64 = match letters.as_str() {
        "" | "ib" => 1024,
        "b" => 1000,
        _ => return None,
    };
    base.checked_pow(u32::try_from(power).ok()? + 1)
}

fn vcpus(vcpu: Node<'_>) -> Result<u32, Problem> {
    let text = content(vcpu);
    decimal(&text).filter(|count| *count > 0).ok_or_else(|| {
        Problem::new(vcpu.range(), format!("`{}` is not a number of processors", excerpt(&text)))
    })
}
