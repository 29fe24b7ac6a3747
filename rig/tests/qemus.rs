//! Two versions of QEMU on one machine.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use vusb_rig::{BareQemu, Guest, Qemu, qemus};

/// The USB controllers that QEMU has, from its monitor.
fn controllers(qemu: &Qemu) -> BTreeSet<String> {
    let bare = BareQemu::start_with(qemu, ["-machine", "pc", "-nodefaults"]).unwrap();
    let arguments = json!({ "implements": "pci-device", "abstract": false });
    let types = bare.qmp("qom-list-types", arguments).unwrap();
    let names = types.as_array().unwrap().iter().filter_map(|t| t["name"].as_str());
    names.filter(|name| name.contains("hci")).map(str::to_owned).collect()
}

#[test]
fn a_second_qemu_runs_next_to_the_installed_one() {
    let (installed, second) = (Qemu::installed(), qemus::second().unwrap());
    let versions = [installed.version().unwrap(), second.version().unwrap()];
    eprintln!("QEMU {versions:?}");
    assert_ne!(versions[0], versions[1]);
    for qemu in [&installed, &second] {
        let have = controllers(qemu);
        for name in ["qemu-xhci", "nec-usb-xhci", "ich9-usb-ehci1", "piix3-usb-uhci"] {
            assert!(have.contains(name), "{name} is not among {have:?}");
        }
    }
}

#[test]
fn the_second_qemu_boots_the_same_guest() {
    let second = qemus::second().unwrap();
    let guest = Guest::builder()
        .qemu(&second)
        .args(["-device", "qemu-xhci,id=x", "-device", "usb-tablet,bus=x.0"])
        .start()
        .unwrap();
    guest.wait_booted(Duration::from_secs(120)).unwrap();
    let wanted = |d: &vusb_rig::sysfs::GuestUsbDevice| d.drivers == ["usbhid"];
    guest.wait_for_usb(wanted, Duration::from_secs(30)).unwrap();
    let version: Value = guest.qemu().qmp("query-version", json!({})).unwrap();
    eprintln!("{version}");
}
