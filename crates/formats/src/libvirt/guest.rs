//! What a domain says of the guest itself.

use vusb_model::guest::{Guest, Hypervisor, Virtualization};

use super::numbers::decimal;
use super::xml::{Node, all, attr, child, content, is, short};
use crate::error::Problem;

/// The types of domains whose USB is known here, and whose guests they are.
const TYPES: [(&str, Hypervisor); 6] = [
    ("kvm", Hypervisor::Qemu),
    ("qemu", Hypervisor::Qemu),
    ("hvf", Hypervisor::Qemu),
    ("tcg", Hypervisor::Qemu),
    ("xen", Hypervisor::Xen),
    ("vmware", Hypervisor::Vmware),
];

/// Reads the guest that `domain` describes.
///
/// # Errors
/// It is another hypervisor's, or its memory or processors are no numbers.
pub(super) fn read(domain: Node<'_>) -> Result<Guest, Problem> {
    let hypervisor = hypervisor(domain)?;
    let os = child(domain, "os");
    let kind = os.and_then(|os| child(os, "type"));
    let said = |name: &str| kind.and_then(|kind| kind.attribute(name)).map(str::to_owned);
    let text = |name: &str| child(domain, name).map(content).filter(|text| !text.is_empty());
    let graphics = all(domain, "devices").any(|devices| child(devices, "graphics").is_some());
    Ok(Guest {
        name: text("name"),
        uuid: text("uuid"),
        hypervisor,
        virtualization: virtualization(domain, kind),
        arch: said("arch"),
        machine: said("machine"),
        graphics,
        memory_kib: child(domain, "memory").map(memory).transpose()?,
        vcpus: child(domain, "vcpu").map(vcpus).transpose()?,
    })
}

/// The document's root, if it is a domain.
///
/// # Errors
/// It is something else of libvirt's, or nothing of it.
pub(super) fn root<'d>(root: Node<'d>) -> Result<Node<'d>, Problem> {
    if is(root, "domain") {
        return Ok(root);
    }
    let start = root.range().start + 1;
    let name = root.tag_name().name();
    let what = format!("this is a `{}`, and a guest is described by a `domain`", short(name));
    let inside = root.descendants().any(|node| is(node, "domain"));
    let help = match name {
        "domain" => "libvirt's `domain` is in no namespace: take xmlns=... out",
        _ if inside => "the <domain> is inside of it: hand that over by itself",
        _ => "`virsh dumpxml DOMAIN` prints one",
    };
    Err(Problem::new(start..start + name.len(), what).help(help))
}

fn hypervisor(domain: Node<'_>) -> Result<Hypervisor, Problem> {
    let known = TYPES.map(|(name, _)| name).join(", ");
    let Some(kind) = attr(domain, "type") else {
        let start = domain.range().start + 1;
        return Err(Problem::new(
            start..start + "domain".len(),
            "this domain does not say whose it is",
        )
        .help(format!("add a type, which is one of {known}")));
    };
    TYPES
        .iter()
        .find(|(name, _)| *name == kind.value)
        .map(|(_, hypervisor)| *hypervisor)
        .ok_or_else(|| {
            kind.refuse(format!(
                "the USB of a domain of type `{}` is not known here: known are {known}",
                kind.short()
            ))
        })
}

/// How it is virtualized: `<os><type>`; a bootloader alone is Xen's way to start a paravirtual guest.
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
        let unit = unit.map_or_else(String::new, |unit| unit.short());
        return Err(Problem::new(memory.range(), format!("`{unit}` is no unit of memory")).help(
            "the units are b and bytes; KiB, MiB, GiB, TiB, PiB, EiB (or k, M, G, T, P, E) of 1024; KB, MB, GB, TB, PB, EB of 1000",
        ));
    };
    let kib = decimal::<u64>(&text).and_then(|number| number.checked_mul(bytes));
    kib.map(|bytes| bytes.div_ceil(1024)).ok_or_else(|| {
        Problem::new(memory.range(), format!("`{}` is no amount of memory", short(&text)))
            .help("it is a decimal number, of less than 16 EiB in all")
    })
}

/// How many bytes a unit has, as `virScaleInteger` reads it.
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
        Problem::new(vcpu.range(), format!("`{}` is no number of processors", short(&text)))
    })
}
