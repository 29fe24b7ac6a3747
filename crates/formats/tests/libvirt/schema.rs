//! What libvirt's own schema says of what is written: that of libvirt 11.3, which the rig brings.

use vusb_formats::Format;
use vusb_formats::config::Edit;
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::{Hardware, PciAddress};
use vusb_model::models::{Companion, ControllerType, Model};

use vusb_rig::Libvirt;

use super::domain;
use super::edits::{at, controller, device};

/// Every kind of device, with every way to say it that libvirt has.
const KINDS: [&str; 17] = [
    "0781:5581",
    "003.014",
    "storage:/a.qcow2",
    "storage:/dev/sdx,readonly",
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
        let place = format!("{}:{}", number / 15, number % 15 + 1);
        hardware.plug(at(&place), device(&format!("device{number}"), kind)).unwrap();
    }
    hardware
}

#[test]
#[ignore = "runs libvirt's tools; run by cargo xtask test"]
fn every_model_is_valid() {
    let libvirt = Libvirt::start().unwrap();
    let unsayable = [Model::Xenusb3, Model::Ich9Uhci1, Model::Ich9Uhci2, Model::Ich9Uhci3];
    for model in Model::ALL.into_iter().filter(|model| !unsayable.contains(model)) {
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
        let written = Format::Libvirt.write(&guest, &hardware);
        assert_eq!(written.lost, []);
        validate(&libvirt, &written.text);
    }
}

#[test]
#[ignore = "runs libvirt's tools; run by cargo xtask test"]
fn every_kind_is_valid() {
    let libvirt = Libvirt::start().unwrap();
    let written = Format::Libvirt.write(&Guest::default(), &all_kinds());
    assert!(
        written.lost.iter().all(|lost| lost.what.ends_with("is a USB 1 device")),
        "{:?}",
        written.lost
    );
    validate(&libvirt, &written.text);
    validate(&libvirt, &Format::Libvirt.write(&Guest::default(), &Hardware::new()).text);
}

#[test]
#[ignore = "runs libvirt's tools; run by cargo xtask test"]
fn what_was_added_to_a_text_is_valid() {
    let libvirt = Libvirt::start().unwrap();
    let hardware = all_kinds();
    let bare: Vec<_> = hardware.controllers().map(|one| one.bare()).collect();
    let controllers = bare.iter().map(Edit::AddController);
    let devices = hardware.devices().map(|(address, device)| Edit::AddDevice(address, device));
    let edits: Vec<Edit<'_>> = controllers.chain(devices).collect();
    for text in [
        domain(""),
        domain("").replace("  <devices>\n  </devices>\n", ""),
        domain("").replace('\n', ""),
    ] {
        validate(&libvirt, &text);
        validate(&libvirt, &Format::Libvirt.edit(&text, &edits).unwrap());
    }
    let text = domain(
        "    <controller type='usb'/>\n    <smartcard mode='host'/>\n    <input type='tablet' bus='usb'/>\n    <hub type='usb'/>\n",
    );
    let pins = [
        Edit::PinController(0, &bare[0]),
        Edit::PinDevice(0, at("0:1")),
        Edit::PinDevice(1, at("0:2")),
        Edit::PinDevice(2, at("0:3.1")),
    ];
    validate(&libvirt, &Format::Libvirt.edit(&text, &pins).unwrap());
    let none = [Edit::RemoveController(0), Edit::NoUsb];
    validate(&libvirt, &Format::Libvirt.edit(&text, &none).unwrap());
}
