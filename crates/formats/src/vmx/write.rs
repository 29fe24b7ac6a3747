//! A VMX text for a guest.

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
use super::edit::{Editor, ehci_alone};
use super::found::{Found, Said};
use crate::config::{Unsayable, Written};

pub(crate) fn write(guest: &Guest, hardware: &Hardware) -> Written {
    let mut lost = Vec::new();
    let head = head(guest, hardware, &mut lost);
    // What this module writes itself can be read.
    let Ok(dictionary) = Dictionary::read(&head) else { return Written { text: head, lost } };
    let mut editor = Editor::new(Document::new(&head, dictionary), &Found::default());
    let uhci = hardware.controllers().any(|controller| controller.model == Model::Piix4Uhci);
    for controller in hardware.controllers() {
        let said = match controller.model {
            Model::Ehci if !uhci => Err(ehci_alone()),
            _ => editor.add_controller(controller),
        };
        lost.extend(said.err());
    }
    let mut places = BTreeMap::new();
    for (at, device) in hardware.devices() {
        match editor.add_device(at, device) {
            Ok(said) => drop(places.insert(said, at)),
            Err(unsayable) => lost.push(unsayable),
        }
    }
    match editor.finish() {
        Ok(text) => {
            lost.extend(displaced(&text, hardware, &places));
            Written { text, lost }
        }
        Err(unsayable) => {
            lost.push(unsayable);
            Written { text: head, lost }
        }
    }
}

/// A guest without USB. `config.version` 8 is that of all products since Workstation 5.5. `virtualHW.version` 11 is the first whose xHCI has
/// eight ports, 20 the first for ARM. The bridges are what newer controllers need a slot of: VMware's own files have them.
fn head(guest: &Guest, hardware: &Hardware, lost: &mut Vec<Unsayable>) -> String {
    let (guest_os, version) = match guest.arch() {
        "x86_64" => ("other-64", "11"),
        "i686" => ("other", "11"),
        "aarch64" => ("arm-other-64", "20"),
        arch => {
            let what = format!("the architecture {arch}");
            let why = "VMware runs x86_64, i686 and aarch64; this says x86_64".to_owned();
            lost.push(Unsayable { what, why });
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

/// A UUID as VMware writes it: `56 4d 11 bf 3a b4 e1 66-c6 c6 56 64 46 7a 42 c7`. `None` for a text that is no UUID.
fn uuid(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|it| !matches!(it, '-' | ' ')).collect();
    if digits.len() != 32 || !digits.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    let bytes: Vec<&str> = (0..32).step_by(2).filter_map(|at| digits.get(at..at + 2)).collect();
    let (first, second) = bytes.split_at_checked(8)?;
    Some(format!("{}-{}", first.join(" "), second.join(" ")).to_ascii_lowercase())
}

/// The devices that whoever reads this text would find on another port.
fn displaced(text: &str, hardware: &Hardware, places: &BTreeMap<Said, Address>) -> Vec<Unsayable> {
    let Ok(found) = Dictionary::read(text).and_then(|dictionary| Found::new(&dictionary)) else {
        return Vec::new();
    };
    let mut spec = super::spec(&found, None);
    for (device, said) in spec.devices.iter_mut().zip(&found.devices) {
        // Where a device goes depends on its speed, too.
        let there = places.get(&said.said).and_then(|at| hardware.device(*at));
        if let (Kind::Host(read), Some(Kind::Host(there))) =
            (&mut device.kind, there.map(|it| &it.kind))
        {
            *read = HostRef { speeds: there.speeds, ..read.clone() };
        }
    }
    let lost = |at: Address, where_to: String| {
        let kind = hardware.device(at).map(|device| device.kind.to_string()).unwrap_or_default();
        Unsayable {
            what: format!("the port of {kind}, {}", hardware.place(at)),
            why: format!("VMX has no ports for keyboards and devices of the host; {where_to}"),
        }
    };
    let Ok(resolved) = resolve(&Hardware::new(), &spec, &Capabilities::everything()) else {
        return places
            .values()
            .map(|at| lost(*at, "read back, not all would find one".to_owned()))
            .collect();
    };
    let model = |hardware: &Hardware, at: Address| hardware.controller(at.bus).map(|it| it.model);
    let moved = found.devices.iter().zip(&resolved.devices).filter_map(|(said, settled)| {
        let (was, is) = (*places.get(&said.said)?, settled.at);
        let same = was.port == is.port && model(hardware, was) == model(&resolved.hardware, is);
        (!same)
            .then(|| lost(was, format!("read back it would be at {}", resolved.hardware.place(is))))
    });
    moved.collect()
}
