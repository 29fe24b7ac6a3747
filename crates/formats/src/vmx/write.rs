//! Generates a VMX text for a guest.

use std::collections::BTreeMap;

use vusb_model::address::Address;
use vusb_model::capabilities::Capabilities;
use vusb_model::device::{HostRef, Kind};
use vusb_model::guest::Guest;
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;
use vusb_model::resolve::resolve;

use super::dictionary::{Dictionary, escaped};
use super::document::Document;
use super::edit::{Editor, ehci_without_uhci};
use super::usb::{DeviceKey, UsbSettings};
use crate::config::{Generated, Inexpressible};

pub(crate) fn write(guest: &Guest, hardware: &Hardware) -> Generated {
    let mut lost = Vec::new();
    let head = head(guest, hardware, &mut lost);
    // The text is this module's own, so it can be read.
    let Ok(dictionary) = Dictionary::read(&head) else { return Generated { text: head, lost } };
    let mut editor = Editor::new(Document::new(&head, dictionary), &UsbSettings::default());
    let uhci = hardware.controllers().any(|controller| controller.model == Model::Piix4Uhci);
    for controller in hardware.controllers() {
        let key = match controller.model {
            Model::Ehci if !uhci => Err(ehci_without_uhci()),
            _ => editor.add_controller(controller),
        };
        lost.extend(key.err());
    }
    let mut addresses = BTreeMap::new();
    for (at, device) in hardware.devices() {
        match editor.add_device(at, device) {
            Ok(key) => drop(addresses.insert(key, at)),
            Err(inexpressible) => lost.push(inexpressible),
        }
    }
    match editor.finish() {
        Ok(text) => {
            lost.extend(displaced(&text, hardware, &addresses));
            Generated { text, lost }
        }
        Err(inexpressible) => {
            lost.push(inexpressible);
            Generated { text: head, lost }
        }
    }
}

/// A guest without USB. `config.version` 8 is that of all products since Workstation 5.5.
/// `virtualHW.version` 11 is the first whose xHCI has eight ports, and 20 the first for ARM. Newer
/// controllers need a slot on the bridges, which VMware's own files also have.
fn head(guest: &Guest, hardware: &Hardware, lost: &mut Vec<Inexpressible>) -> String {
    let (guest_os, version) = match guest.arch() {
        "x86_64" => ("other-64", "11"),
        "i686" => ("other", "11"),
        "aarch64" => ("arm-other-64", "20"),
        arch => {
            let what = format!("the architecture {arch}");
            let why = "VMware runs x86_64, i686 and aarch64; the text contains x86_64".into();
            lost.push(Inexpressible { what, why });
            ("other-64", "11")
        }
    };
    let mut lines = vec![(".encoding", "UTF-8".to_owned()), ("config.version", "8".to_owned())];
    lines.push(("virtualHW.version", version.to_owned()));
    lines.extend(guest.name.clone().map(|name| ("displayName", name)));
    lines.push(("guestOS", guest_os.to_owned()));
    lines.extend(guest.memory_kib.map(|kib| ("memsize", kib.div_ceil(1024).to_string())));
    lines.extend(guest.vcpus.map(|count| ("numvcpus", count.to_string())));
    lines.extend(guest.uuid.as_deref().and_then(uuid).map(|uuid| ("uuid.bios", uuid)));
    if hardware.controllers().len() > 0 {
        let bridges = [
            ("pciBridge0.present", "TRUE"),
            ("pciBridge4.present", "TRUE"),
            ("pciBridge4.virtualDev", "pcieRootPort"),
            ("pciBridge4.functions", "8"),
        ];
        lines.extend(bridges.map(|(key, value)| (key, value.to_owned())));
    }
    lines.into_iter().map(|(key, value)| format!("{key} = \"{}\"\n", escaped(&value))).collect()
}

/// A UUID in VMware's format: `56 4d 11 bf 3a b4 e1 66-c6 c6 56 64 46 7a 42 c7`. `None` if the text
/// is not a UUID.
fn uuid(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|it| !matches!(it, '-' | ' ')).collect();
    if digits.len() != 32 || !digits.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    let bytes: Vec<&str> = (0..32).step_by(2).filter_map(|at| digits.get(at..at + 2)).collect();
    let (first, second) = bytes.split_at_checked(8)?;
    Some(format!("{}-{}", first.join(" "), second.join(" ")).to_ascii_lowercase())
}

/// The devices that a reader of this text would find on another port.
fn displaced(
    text: &str,
    hardware: &Hardware,
    addresses: &BTreeMap<DeviceKey, Address>,
) -> Vec<Inexpressible> {
    let Ok(settings) = Dictionary::read(text).and_then(|dictionary| UsbSettings::read(&dictionary))
    else {
        return Vec::new();
    };
    let mut spec = super::spec(&settings, None);
    for (device, key) in spec.devices.iter_mut().zip(&settings.devices) {
        // The placement of a device also depends on its speed.
        let requested = addresses.get(&key.key).and_then(|at| hardware.device(*at));
        if let (Kind::Host(read), Some(Kind::Host(requested))) =
            (&mut device.kind, requested.map(|it| &it.kind))
        {
            *read = HostRef { speeds: requested.speeds, ..read.clone() };
        }
    }
    let lost = |at: Address, consequence: String| {
        let kind = hardware.device(at).map(|device| device.kind.to_string()).unwrap_or_default();
        Inexpressible {
            what: format!("the port of {kind}, {}", hardware.location(at)),
            why: format!(
                "VMX cannot specify the port of a keyboard or a host device; {consequence}"
            )
            .into(),
        }
    };
    let Ok(resolved) = resolve(&Hardware::new(), &spec, &Capabilities::everything()) else {
        return addresses
            .values()
            .map(|at| lost(*at, "read back, not every device would have a port".to_owned()))
            .collect();
    };
    let model = |hardware: &Hardware, at: Address| hardware.controller(at.bus).map(|it| it.model);
    let moved = settings.devices.iter().zip(&resolved.devices).filter_map(|(key, settled)| {
        let (was, is) = (*addresses.get(&key.key)?, settled.address);
        let same = was.port == is.port && model(hardware, was) == model(&resolved.hardware, is);
        (!same).then(|| {
            lost(was, format!("read back, it would be at {}", resolved.hardware.location(is)))
        })
    });
    moved.collect()
}
