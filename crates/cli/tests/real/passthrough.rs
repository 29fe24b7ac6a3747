//! A real USB device of a real machine, given to a guest and taken back.
//!
//! The machine (L1) is itself a guest under an outer QEMU, whose monitor plugs its devices in and pulls them out: for L1's kernel a
//! real plug. L1 runs vusb and a QEMU of its own, whose guest (L2) sees what it is given.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use vusb_rig::Outer;
use vusb_rig::outer::{INNER_QMP, INNER_XHCI};

use crate::support::{checksum, noise};

/// Emulation within emulation is slow.
const SHORT: Duration = Duration::from_secs(180);

/// A machine with a stick and a mouse, and a guest that has an xHCI.
struct Machine {
    outer: Outer,
    sum: String,
    _folder: tempfile::TempDir,
}

/// What a command in L1 answered: exit code, and standard output and error together.
fn vusb(machine: &Machine, words: &str) -> (i32, String) {
    let said = machine.outer.sh(&format!("vusb {words} 2>&1"), SHORT).unwrap();
    (said.code, said.text)
}

#[track_caller]
fn ok(machine: &Machine, words: &str) -> String {
    let (code, text) = vusb(machine, words);
    assert_eq!(code, 0, "vusb {words}: {text}");
    text
}

fn stick() -> serde_json::Value {
    json!({"driver": "usb-storage", "id": "stick", "drive": "disk", "port": "1", "serial": "4C530001"})
}

impl Machine {
    fn start() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let content = noise(7);
        let image = folder.path().join("stick.img");
        std::fs::write(&image, &content).unwrap();
        let outer = Outer::builder()
            .binary(Path::new(env!("CARGO_BIN_EXE_vusb")))
            .drive("disk", &image)
            .inner("pc", INNER_XHCI)
            .usb(json!({"driver": "usb-mouse", "id": "mouse", "port": "2"}))
            .start()
            .unwrap();
        let machine = Machine { outer, sum: checksum(&content), _folder: folder };
        machine.plug_stick();
        machine
    }

    fn plug_stick(&self) {
        self.outer.plug(stick()).unwrap();
        self.outer.wait_until("[ -b /dev/sda ]", SHORT).unwrap();
    }

    /// L2 reads the stick, and it is the stick. One that came back has another letter if the old one is still held.
    fn guest_reads_it(&self) {
        self.outer
            .inner()
            .wait_until(&format!("sha256sum /dev/sd? 2>/dev/null | grep -q {}", self.sum), SHORT)
            .unwrap();
    }

    fn guest_has_lost_it(&self) {
        self.outer.inner().wait_until("! ls /dev/sd?", SHORT).unwrap();
    }

    /// What `list --json` says of the device of this name.
    fn state(&self, name: &str) -> String {
        let list: serde_json::Value =
            serde_json::from_str(&ok(self, &format!("-q list qemu:{INNER_QMP} --json"))).unwrap();
        let controllers = list["controllers"].as_array().unwrap().iter();
        let mut devices =
            controllers.flat_map(|controller| controller["devices"].as_array().unwrap());
        devices.find(|device| device["name"] == name).unwrap()["state"].as_str().unwrap().to_owned()
    }
}

#[test]
#[ignore = "boots a machine with a guest inside; run by cargo xtask test"]
fn a_stick_goes_to_the_guest_and_comes_back() {
    let machine = Machine::start();
    let domain = format!("qemu:{INNER_QMP}");

    // What this machine has: both devices, and who holds them.
    let list = ok(&machine, "host list");
    assert!(list.contains("46f4:0001") && list.contains("0627:0001"), "{list}");

    // Given by vendor and product; the guest reads what is on it, and the host has lost the disk.
    let said = ok(&machine, &format!("device add {domain} 46f4:0001 --name stick"));
    assert!(said.contains("hci0:1"), "{said}");
    machine.guest_reads_it();
    machine.outer.wait_until("[ ! -b /dev/sda ]", SHORT).unwrap();
    assert_eq!(machine.state("stick"), "attached");
    assert!(ok(&machine, "host list").contains("inner"), "it says who holds the stick");

    // It is nobody else's meanwhile, whatever it is called.
    for selector in ["46f4:0001", "46f4:0001:4C530001", "2-1"] {
        let (code, text) = vusb(&machine, &format!("device add sim:/tmp/other.json {selector}"));
        assert_eq!(code, 4, "{text}");
        assert!(text.contains("inner.qmp"), "{text}");
    }
    // And not twice in the same guest.
    assert!(ok(&machine, &format!("device add {domain} 46f4:0001")).contains("already"));

    // Taken back: the guest has lost it, and the host's own driver has it again.
    let _ = ok(&machine, &format!("device remove {domain} 46f4:0001"));
    machine.guest_has_lost_it();
    machine.outer.wait_until("[ -b /dev/sda ]", SHORT).unwrap();
    let read = machine.outer.sh("sha256sum /dev/sda", SHORT).unwrap().ok().unwrap();
    assert!(read.starts_with(&machine.sum), "{read}");
}

#[test]
#[ignore = "boots a machine with a guest inside; run by cargo xtask test"]
fn a_stick_that_was_pulled_out_is_absent_and_comes_back_when_plugged_in() {
    let machine = Machine::start();
    let domain = format!("qemu:{INNER_QMP}");
    let _ = ok(&machine, &format!("device add {domain} 46f4:0001:4C530001 --name stick"));
    machine.guest_reads_it();

    // Pulled out: a state, not an error, and no obstacle to others. QEMU itself notices only when a transfer fails.
    machine.outer.unplug("stick").unwrap();
    assert_eq!(machine.state("stick"), "absent");
    let said = ok(&machine, &format!("device add {domain} 0627:0001 --name mouse --force"));
    assert!(said.contains("hci0:2"), "{said}");
    assert_eq!(machine.state("mouse"), "attached");

    // Back in: it has another address now, and is the same device in the same place.
    machine.plug_stick();
    let _ = ok(&machine, &format!("apply {domain}"));
    machine.guest_reads_it();
    assert_eq!(machine.state("stick"), "attached");

    // Pulled out again, and taken out of the guest while it is away.
    machine.outer.unplug("stick").unwrap();
    let _ = ok(&machine, &format!("device remove {domain} stick"));
    machine.guest_has_lost_it();
    let list = ok(&machine, &format!("list {domain}"));
    assert!(!list.contains("stick"), "{list}");
}
