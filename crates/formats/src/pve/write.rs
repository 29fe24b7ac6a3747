//! Generates a configuration for a guest.

use std::collections::BTreeMap;

use vusb_model::address::Address;
use vusb_model::device::Kind;
use vusb_model::guest::Guest;
use vusb_model::hardware::{Controller, Hardware};
use vusb_model::models::Model;
use vusb_model::resolve::pve_1;

use super::document::Document;
use super::settings::Settings;
use super::usb::host_value;
use crate::config::{Generated, Inexpressible};

/// Generates the configuration. Its keys are sorted, as `qm` writes them. If the guest has no
/// `ostype`, it gets that of Linux: without one, Proxmox VE does not use a qemu-xhci.
pub(super) fn write(guest: &Guest, hardware: &Hardware) -> Generated {
    let mut lost = Vec::new();
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |key: &str, value: String| drop(keys.insert(key.to_owned(), value));
    set("ostype", guest.os.clone().filter(|it| is_word(it)).unwrap_or_else(|| "l26".to_owned()));
    match guest.arch() {
        "x86_64" => {}
        "aarch64" => set("arch", "aarch64".to_owned()),
        arch => {
            let what = format!("the architecture {arch}");
            let why = "Proxmox VE runs x86_64 and aarch64; the text has x86_64".into();
            lost.push(Inexpressible { what, why });
        }
    }
    if guest.machine.as_deref().is_some_and(|it| it.contains("q35")) {
        set("machine", "q35".to_owned());
    }
    if let Some(name) = guest.name.as_deref().filter(|it| is_word(it)) {
        set("name", name.to_owned());
    }
    if let Some(kib) = guest.memory_kib {
        set("memory", kib.div_ceil(1024).to_string());
    }
    if let Some(count) = guest.vcpus {
        set("cores", count.to_string());
    }
    if let Some(uuid) = guest.uuid.as_deref().filter(|it| is_word(it)) {
        set("smbios1", format!("uuid={uuid}"));
    }
    let (devices, has_tablet) = devices(hardware, &mut lost);
    if !has_tablet {
        set("tablet", "0".to_owned());
    }
    keys.extend(devices);
    let text: String = keys.into_iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
    lost.extend(lost_controllers(&text, hardware));
    Generated { text, lost }
}

/// The controllers that the guest does not get: Proxmox VE decides which ones it has.
fn lost_controllers(text: &str, hardware: &Hardware) -> Vec<Inexpressible> {
    let mut given = Hardware::new();
    super::set_hardware(&Settings::read(&Document::read(text)), &mut given, &mut Vec::new());
    let mut given: Vec<_> = given.controllers().map(|it| (it.model, it.ports)).collect();
    let is_lost = |it: &&Controller| match given.iter().position(|had| *had == (it.model, it.ports))
    {
        Some(number) => {
            given.swap_remove(number);
            false
        }
        None => true,
    };
    let lost: Vec<_> = hardware.controllers().filter(is_lost).collect();
    let inexpressible = |it: &Controller| Inexpressible {
        what: it.describe(),
        why: "Proxmox VE decides which controllers a guest has".into(),
    };
    lost.into_iter().map(inexpressible).collect()
}

/// The lines of `usbN`, and whether there is a tablet.
fn devices(hardware: &Hardware, lost: &mut Vec<Inexpressible>) -> (BTreeMap<String, String>, bool) {
    let (mut keys, mut has_tablet) = (BTreeMap::new(), false);
    let is_own = |at: Address| {
        hardware
            .controller(at.bus)
            .is_some_and(|it| it.model == Model::QemuXhci && it.ports.count() == pve_1::PORTS)
    };
    // The devices that keep their ports come first.
    let mut all: Vec<_> = hardware.devices().collect();
    all.sort_by_key(|(at, _)| !is_own(*at));
    for (at, device) in all {
        let what = || format!("{} ({}), {}", device.name, device.kind, hardware.location(at));
        if matches!(device.kind, Kind::Tablet(_)) && !has_tablet {
            has_tablet = true;
            continue;
        }
        let Some(value) = host_value(&device.kind) else {
            let why = "Proxmox VE only has host devices, by vendor and product or by bus and port, and redirections over SPICE";
            lost.push(Inexpressible { what: what(), why: why.into() });
            continue;
        };
        let wanted = at.port.port().saturating_sub(1);
        let is_free = |place: &u8| !keys.contains_key(&format!("usb{place}"));
        let keeps = is_own(at) && at.port.parent().is_none() && wanted < pve_1::PLACES;
        let place = if keeps && is_free(&wanted) {
            wanted
        } else if let Some(place) = (0..pve_1::PLACES).find(is_free) {
            let why = format!("Proxmox VE has it at port {} of xhci", place + 1);
            lost.push(Inexpressible { what: format!("the port of {}", what()), why: why.into() });
            place
        } else {
            let why = format!("Proxmox VE has {} devices at most", pve_1::PLACES);
            lost.push(Inexpressible { what: what(), why: why.into() });
            continue;
        };
        keys.insert(format!("usb{place}"), value);
    }
    (keys, has_tablet)
}

/// Whether a text can be a value: it has no blank, no comma and no line break.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || b".-_".contains(&it))
}
