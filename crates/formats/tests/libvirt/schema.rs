//! Generated and edited domains are validated against the schema of libvirt 11.3, which the rig
//! provides.

use vusb_formats::config::Edit;
use vusb_formats::{ConfigFormat as _, Libvirt as Xml};
use vusb_model::device::Kind;
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::{Hardware, PciAddress};
use vusb_model::models::{Companion, ControllerType, Model};

use vusb_rig::Libvirt;

use super::domain;
use super::edits::{at, controller, device};

/// Every kind of device that libvirt has, in many of its forms.
const KINDS: [&str; 18] = [
    "0781:5581",
    "003.014",
    "storage:/a.qcow2",
    "storage:/dev/sdx,readonly",
    "storage:/a.img,serial=SN 1,removable=on",
    "tablet",
    "mouse",
    "keyboard",
    "hub",
    "serial:pty",
    "serial:unix:/run/a,server",
    "serial:tcp:localhost:4000",
    "serial:file:/log",
    "audio",
    "net:user,mac=52:54:00:12:34:56",
    "mtp:/srv/photos,writable",
    "ccid",
    "redir:spicevmc",
];

fn validate(libvirt: &Libvirt, text: &str) {
    libvirt.validate(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
}

/// Two controllers with a device of each kind.
fn all_kinds() -> Hardware {
    let mut hardware = Hardware::new();
    for index in ["0", "1"] {
        hardware
            .add_controller(controller(index, &format!("hci{index}"), Model::QemuXhci, 15))
            .unwrap();
    }
    for (number, kind) in KINDS.iter().enumerate() {
        let address = format!("{}:{}", number / 15, number % 15 + 1);
        hardware.plug(at(&address), device(&format!("device{number}"), kind)).unwrap();
    }
    hardware
}

#[test]
#[ignore = "runs libvirt's tools; run by cargo xtask test"]
fn every_model_is_valid() {
    let libvirt = Libvirt::start().unwrap();
    let inexpressible = [Model::Xenusb3, Model::Ich9Uhci1, Model::Ich9Uhci2, Model::Ich9Uhci3];
    for model in Model::ALL.into_iter().filter(|model| !inexpressible.contains(model)) {
        let pv = model.controller_type() == ControllerType::Pv;
        let mut one = controller("0", "first", model, *model.port_range().end());
        if !pv {
            one.pci = Some(PciAddress { bus: "pci.0".to_owned(), slot: 5, function: 7 });
        }
        if model == Model::Ich9Ehci1 {
            one.companions = Companion::GROUP.to_vec();
        }
        let mut hardware = Hardware::new();
        hardware.add_controller(one).unwrap();
        let guest = Guest {
            name: Some("web1".to_owned()),
            hypervisor: if pv { Hypervisor::Xen } else { Hypervisor::Qemu },
            virtualization: if pv { Virtualization::Pv } else { Virtualization::Hvm },
            arch: Some("x86_64".to_owned()),
            ..Guest::default()
        };
        let written = Xml.write(&guest, &hardware);
        assert_eq!(written.lost, []);
        validate(&libvirt, &written.text);
    }
}

#[test]
#[ignore = "runs libvirt's tools; run by cargo xtask test"]
fn every_kind_is_valid() {
    let libvirt = Libvirt::start().unwrap();
    let written = Xml.write(&Guest::default(), &all_kinds());
    assert!(
        written.lost.iter().all(|lost| lost.what.starts_with("the USB version 1 of ")),
        "{:?}",
        written.lost
    );
    validate(&libvirt, &written.text);
    validate(&libvirt, &Xml.write(&Guest::default(), &Hardware::new()).text);
}

#[test]
#[ignore = "runs libvirt's tools; run by cargo xtask test"]
fn an_edited_text_is_valid() {
    let libvirt = Libvirt::start().unwrap();
    let hardware = all_kinds();
    let bare: Vec<_> = hardware.controllers().map(|one| one.without_devices()).collect();
    let controllers = bare.iter().map(Edit::AddController);
    let devices = hardware.devices().map(|(address, device)| Edit::AddDevice(address, device));
    let edits: Vec<Edit<'_>> = controllers.chain(devices).collect();
    // A redirection by SPICE needs a SPICE display, which an empty domain does not have.
    let (redirections, others): (Vec<_>, Vec<_>) = edits.iter().cloned().partition(
        |edit| matches!(edit, Edit::AddDevice(_, device) if matches!(device.kind, Kind::Redir(_))),
    );
    assert_eq!(redirections.len(), 1);
    for text in [
        domain(""),
        domain("").replace("  <devices>\n  </devices>\n", ""),
        domain("").replace('\n', ""),
    ] {
        validate(&libvirt, &text);
        validate(&libvirt, &Xml.edit(&text, &others).unwrap());
        Xml.edit(&text, &redirections).unwrap_err();
    }
    let text = domain("    <graphics type='spice' autoport='yes'/>\n");
    validate(&libvirt, &Xml.edit(&text, &edits).unwrap());
    let text = domain(
        "    <controller type='usb'/>\n    <smartcard mode='host'/>\n    <input type='tablet' bus='usb'/>\n    <hub type='usb'/>\n",
    );
    let pins = [
        Edit::PinController(0, &bare[0]),
        Edit::PinDevice(0, at("0:1")),
        Edit::PinDevice(1, at("0:2")),
        Edit::PinDevice(2, at("0:3.1")),
    ];
    validate(&libvirt, &Xml.edit(&text, &pins).unwrap());
    let none = [Edit::RemoveController(0), Edit::NoUsb];
    validate(&libvirt, &Xml.edit(&text, &none).unwrap());
}
