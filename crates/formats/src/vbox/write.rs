//! Generates the settings of a machine.

use std::collections::BTreeMap;

use vusb_model::address::Address;
use vusb_model::device::{HostRef, Kind};
use vusb_model::guest::Guest;
use vusb_model::hardware::Hardware;
use vusb_model::resolve::resolve;

use super::Vbox;
use super::edit::Editor;
use super::settings::{DeviceKey, Machine, parse};
use crate::config::{Generated, Inexpressible};
use crate::format::ConfigFormat as _;
use crate::xml::element::{Element, Style};

/// The settings version of a generated text: VirtualBox 7.0 writes it, and newer ones read it.
const VERSION: &str = "1.19-linux";

/// The memory of a guest for which none is known, in MiB: VirtualBox requires a number.
const MEMORY: u64 = 1024;

pub(crate) fn write(guest: &Guest, hardware: &Hardware) -> Generated {
    let mut lost = Vec::new();
    let head = head(guest, &mut lost);
    // The text is this module's own, so it can be read.
    let Ok(document) = parse(&head) else { return Generated { text: head.clone(), lost } };
    let Ok(machine) = Machine::read(document.root_element()) else {
        return Generated { text: head.clone(), lost };
    };
    let mut editor = Editor::new(&head, &machine);
    for controller in hardware.controllers() {
        lost.extend(editor.add_controller(controller).err());
    }
    let mut addresses = BTreeMap::new();
    // VirtualBox adds the input devices first, whatever their order is here.
    for (at, device) in hardware.devices() {
        match editor.add_device(at, device) {
            Ok(key) => drop(addresses.insert(key, at)),
            Err(inexpressible) => lost.push(inexpressible),
        }
    }
    match editor.finish() {
        Ok((text, _)) => {
            lost.extend(displaced(&text, hardware, &addresses));
            Generated { text, lost }
        }
        Err(inexpressible) => {
            lost.push(inexpressible);
            Generated { text: head.clone(), lost }
        }
    }
}

/// A machine without USB.
fn head(guest: &Guest, lost: &mut Vec<Inexpressible>) -> String {
    let (os_type, wide) = match guest.arch() {
        "x86_64" => ("Other_64", true),
        "i686" => ("Other", false),
        arch => {
            let what = format!("the architecture {arch}");
            let why = "the generated settings are for x86_64 or i686; the text contains x86_64";
            lost.push(Inexpressible { what, why: why.into() });
            ("Other_64", true)
        }
    };
    let name: String = guest.name.as_deref().unwrap_or("guest").chars().collect();
    let is_plain = |it: &char| !it.is_control() && !matches!(it, '\u{fffe}' | '\u{ffff}');
    let name: String = name.chars().filter(is_plain).collect();
    let name = if name.trim().is_empty() { "guest".to_owned() } else { name };
    let uuid = guest.uuid.as_deref().and_then(uuid).unwrap_or_else(|| derived_uuid(&name));
    let cpu = Element::new("CPU").with("count", guest.vcpus.unwrap_or(1));
    let cpu = cpu.and([Element::new("LongMode").with("enabled", wide)]);
    let memory = guest.memory_kib.map_or(MEMORY, |kib| kib.div_ceil(1024));
    let hardware =
        Element::new("Hardware").and([cpu, Element::new("Memory").with("RAMSize", memory)]);
    let machine = Element::new("Machine")
        .with("uuid", format!("{{{uuid}}}"))
        .with("name", name)
        .with("OSType", os_type)
        .with("snapshotFolder", "Snapshots")
        .and([hardware]);
    let root = Element::new("VirtualBox")
        .with("xmlns", "http://www.virtualbox.org/")
        .with("version", VERSION)
        .and([machine]);
    format!("<?xml version=\"1.0\"?>\n{}\n", root.render(&Style::virtualbox(), ""))
}

/// A UUID with hyphens and in lower case. `None` if the text is not a UUID, or is the zero one,
/// which VirtualBox refuses.
fn uuid(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|it| !matches!(it, '-' | ' ' | '{' | '}')).collect();
    let valid = digits.len() == 32 && digits.bytes().all(|it| it.is_ascii_hexdigit());
    if !valid || digits.bytes().all(|it| it == b'0') {
        return None;
    }
    let digits = digits.to_ascii_lowercase();
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    let parts: Vec<&str> = parts.into_iter().filter_map(|part| digits.get(part)).collect();
    Some(parts.join("-"))
}

/// A UUID for a guest without one: the same for the same name, so that a conversion is repeatable.
/// Version 8 of RFC 9562, from the 128-bit FNV-1a hash of the name.
fn derived_uuid(name: &str) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash =
        name.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    let versioned = hash & !(0xf << 76) | 0x8 << 76;
    let variant = versioned & !(0x3 << 62) | 0x2 << 62;
    uuid(&format!("{variant:032x}")).unwrap_or_default()
}

/// The devices that a reader of this text would find on another port.
fn displaced(
    text: &str,
    hardware: &Hardware,
    addresses: &BTreeMap<DeviceKey, Address>,
) -> Vec<Inexpressible> {
    let Ok(document) = parse(text) else { return Vec::new() };
    let Ok(machine) = Machine::read(document.root_element()) else { return Vec::new() };
    let mut spec = super::spec(&machine, None);
    for (device, read) in spec.devices.iter_mut().zip(&machine.devices) {
        // The placement of a device also depends on its speed.
        let requested = addresses.get(&read.key).and_then(|at| hardware.device(*at));
        if let (Kind::Host(read), Some(Kind::Host(requested))) =
            (&mut device.kind, requested.map(|it| &it.kind))
        {
            *read = HostRef { speeds: requested.speeds, ..read.clone() };
        }
    }
    let lost = |at: Address, consequence: String| {
        let kind = hardware.device(at).map(|device| device.kind.to_string()).unwrap_or_default();
        let what = format!("the port of {kind}, {}", hardware.location(at));
        let why = format!("VirtualBox's settings contain no ports; {consequence}");
        Inexpressible { what, why: why.into() }
    };
    let capabilities = Vbox.capabilities(&Guest::default());
    let Ok(resolved) = resolve(&Hardware::new(), &spec, &capabilities) else {
        let full = || "read back, not every device would have a port".to_owned();
        return addresses.values().map(|at| lost(*at, full())).collect();
    };
    let model = |hardware: &Hardware, at: Address| hardware.controller(at.bus).map(|it| it.model);
    let moved = machine.devices.iter().zip(&resolved.devices).filter_map(|(read, settled)| {
        let (was, is) = (*addresses.get(&read.key)?, settled.address);
        let same = was.port == is.port && model(hardware, was) == model(&resolved.hardware, is);
        (!same).then(|| {
            lost(was, format!("read back, it would be at {}", resolved.hardware.location(is)))
        })
    });
    moved.collect()
}
