//! A real USB device of a real machine, attached to a guest and detached again.
//!
//! The machine (L1) is itself a guest under an outer QEMU, whose monitor plugs and unplugs its
//! devices: for L1's kernel these are real plugs. L1 runs vusb and a QEMU, whose guest (L2) sees
//! the attached devices.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use vusb_rig::NestedHost;
use vusb_rig::nested::{INNER_QMP, INNER_XHCI};

use crate::support::{checksum, noise};

/// How long a condition may take to come true: emulation within emulation is slow.
const WAIT_LIMIT: Duration = Duration::from_secs(180);

/// A machine with a stick and a mouse, and a guest that has an xHCI.
struct Machine {
    outer: NestedHost,
    sum: String,
    _folder: tempfile::TempDir,
}

/// Runs a command in L1. Returns its exit code, and standard output and error together.
fn vusb(machine: &Machine, words: &str) -> (i32, String) {
    let output = machine.outer.sh(&format!("vusb {words} 2>&1"), WAIT_LIMIT).unwrap();
    (output.code, output.text)
}

#[track_caller]
fn ok(machine: &Machine, words: &str) -> String {
    let (code, text) = vusb(machine, words);
    assert_eq!(code, 0, "vusb {words}: {text}");
    text
}

pub(crate) fn stick() -> serde_json::Value {
    json!({"driver": "usb-storage", "id": "stick", "drive": "disk", "port": "1", "serial": "4C530001"})
}

/// A machine with a stick that can be plugged in, a guest, and `setpriv` to start programs as other
/// users.
pub(crate) fn machine_of_users(image: &Path) -> NestedHost {
    std::fs::write(image, noise(7)).unwrap();
    let machine = NestedHost::builder()
        .binary(Path::new(env!("CARGO_BIN_EXE_vusb")))
        .binary(Path::new("/usr/bin/setpriv"))
        .drive("disk", image)
        .inner("pc", INNER_XHCI);
    machine.start().unwrap()
}

impl Machine {
    fn start() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let content = noise(7);
        let image = folder.path().join("stick.img");
        std::fs::write(&image, &content).unwrap();
        let outer = NestedHost::builder()
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
        self.outer.wait_until("[ -b /dev/sda ]", WAIT_LIMIT).unwrap();
    }

    /// Asserts that L2 can read the stick. After a replug it has another letter if the old one is
    /// still held.
    fn guest_reads_it(&self) {
        self.outer
            .inner()
            .wait_until(
                &format!("sha256sum /dev/sd? 2>/dev/null | grep -q {}", self.sum),
                WAIT_LIMIT,
            )
            .unwrap();
    }

    fn guest_has_lost_it(&self) {
        self.outer.inner().wait_until("! ls /dev/sd?", WAIT_LIMIT).unwrap();
    }

    /// The state of the device of this name in `list --json`.
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
fn a_stick_is_attached_to_the_guest_and_detached() {
    let machine = Machine::start();
    let domain = format!("qemu:{INNER_QMP}");

    // The machine lists both devices.
    let list = ok(&machine, "host list");
    assert!(list.contains("46f4:0001") && list.contains("0627:0001"), "{list}");

    // Attached by vendor and product: the guest can read it, and the host has lost the disk.
    let output = ok(&machine, &format!("device add {domain} 46f4:0001 --name stick"));
    assert!(output.contains("hci0:1"), "{output}");
    machine.guest_reads_it();
    machine.outer.wait_until("[ ! -b /dev/sda ]", WAIT_LIMIT).unwrap();
    assert_eq!(machine.state("stick"), "attached");
    assert!(ok(&machine, "host list").contains("inner"), "the holder of the stick is named");

    // Meanwhile no other domain can have it, under any selector.
    for selector in ["46f4:0001", "46f4:0001:4C530001", "2-1"] {
        let (code, text) = vusb(&machine, &format!("device add sim:/tmp/other.json {selector}"));
        assert_eq!(code, 4, "{text}");
        assert!(text.contains("inner.qmp"), "{text}");
    }
    // The same guest cannot have it twice, either.
    assert!(ok(&machine, &format!("device add {domain} 46f4:0001")).contains("already"));

    // Detached: the guest has lost it, and the host's own driver has it again.
    let _ = ok(&machine, &format!("device remove {domain} 46f4:0001"));
    machine.guest_has_lost_it();
    machine.outer.wait_until("[ -b /dev/sda ]", WAIT_LIMIT).unwrap();
    let read = machine.outer.sh("sha256sum /dev/sda", WAIT_LIMIT).unwrap().ok().unwrap();
    assert!(read.starts_with(&machine.sum), "{read}");
}

#[test]
#[ignore = "boots a machine with a guest inside; run by cargo xtask test"]
fn an_unplugged_stick_is_absent_and_returns_when_plugged_in() {
    let machine = Machine::start();
    let domain = format!("qemu:{INNER_QMP}");
    let _ = ok(&machine, &format!("device add {domain} 46f4:0001:4C530001 --name stick"));
    machine.guest_reads_it();

    // Unplugged: a state and not an error, so that it does not block other devices. QEMU only
    // notices when a transfer fails.
    machine.outer.unplug("stick").unwrap();
    assert_eq!(machine.state("stick"), "absent");
    let output = ok(&machine, &format!("device add {domain} 0627:0001 --name mouse --force"));
    assert!(output.contains("hci0:2"), "{output}");
    assert_eq!(machine.state("mouse"), "attached");

    // Plugged in again: it has another address, and is the same device in the same port.
    machine.plug_stick();
    let _ = ok(&machine, &format!("apply {domain}"));
    machine.guest_reads_it();
    assert_eq!(machine.state("stick"), "attached");

    // Unplugged again, and removed from the guest while it is absent.
    machine.outer.unplug("stick").unwrap();
    let _ = ok(&machine, &format!("device remove {domain} stick"));
    machine.guest_has_lost_it();
    let list = ok(&machine, &format!("list {domain}"));
    assert!(!list.contains("stick"), "{list}");
}

#[test]
#[ignore = "boots a machine with a guest inside; run by cargo xtask test"]
fn a_stick_that_is_not_there_yet_is_attached_once_it_is_plugged_in() {
    let machine = Machine::start();
    let domain = format!("qemu:{INNER_QMP}");
    machine.outer.unplug("stick").unwrap();
    machine.outer.wait_until("[ ! -b /dev/sda ]", WAIT_LIMIT).unwrap();
    let (code, text) = vusb(&machine, &format!("device add {domain} 46f4:0001"));
    assert_eq!(code, 3, "{text}");
    let add = format!("device add {domain} 46f4:0001 --name stick --when-there");
    assert!(ok(&machine, &add).contains("its port is kept for it"));
    assert_eq!(machine.state("stick"), "absent");
    let _ = ok(&machine, &format!("device add {domain} 0627:0001"));

    machine.plug_stick();
    assert!(ok(&machine, &format!("apply {domain}")).contains("1 step taken"));
    machine.guest_reads_it();
    assert_eq!(machine.state("stick"), "attached");
    // It moves to another port, and the guest reads it there.
    assert!(ok(&machine, &format!("device move {domain} stick --port 4")).contains("hci0:4"));
    machine.guest_reads_it();
}

#[test]
#[ignore = "boots a machine with a guest inside; run by cargo xtask test"]
fn a_suspended_guest_has_no_host_devices_and_gets_them_back_at_their_places() {
    let machine = Machine::start();
    let domain = format!("qemu:{INNER_QMP}");
    let _ = ok(&machine, &format!("device add {domain} 46f4:0001 --name stick --port 3"));
    machine.guest_reads_it();

    // The guest loses the stick, the machine has it again, and no other guest can have it.
    let _ = ok(&machine, &format!("suspend {domain}"));
    machine.guest_has_lost_it();
    machine.outer.wait_until("[ -b /dev/sda ]", WAIT_LIMIT).unwrap();
    assert_eq!(machine.state("stick"), "suspended");
    let (code, text) = vusb(&machine, "device add sim:/tmp/other.json 46f4:0001");
    assert_eq!(code, 4, "{text}");
    let text = ok(&machine, "apply --all");
    assert!(text.contains("stay out: stick"), "{text}");

    let _ = ok(&machine, &format!("resume {domain}"));
    machine.guest_reads_it();
    let list = ok(&machine, &format!("device list {domain}"));
    assert!(list.contains("hci0:3"), "{list}");

    // Suspend is killed in the middle. Whatever it has done, a resume puts back.
    let command = format!("timeout -s KILL 0.05 vusb suspend {domain}; true");
    let _ = machine.outer.sh(&command, WAIT_LIMIT).unwrap();
    let _ = ok(&machine, &format!("suspend {domain}"));
    let _ = ok(&machine, &format!("resume {domain}"));
    machine.guest_reads_it();
    assert_eq!(machine.state("stick"), "attached");
}

/// The kernel announces a device before it configures it, and does not configure one that is not
/// authorized. What the device is for is known from its descriptors.
#[test]
#[ignore = "boots a machine with a guest inside; run by cargo xtask test"]
fn a_device_without_a_configuration_is_judged_by_its_descriptors() {
    let machine = Machine::start();
    let sh = |script: &str| machine.outer.sh(script, WAIT_LIMIT).unwrap().ok().unwrap();
    let list: serde_json::Value =
        serde_json::from_str(&ok(&machine, "-q host list --json")).unwrap();
    let mut devices = list["devices"].as_array().unwrap().iter();
    let stick = devices.find(|it| it["id"] == "46f4:0001").unwrap()["busid"].as_str().unwrap();
    let folder = format!("/sys/bus/usb/devices/{stick}");
    let explained = || ok(&machine, &format!("explain {stick}"));
    let add = format!("device add qemu:{INNER_QMP} {stick}");

    sh(&format!("echo 0 > {folder}/bConfigurationValue"));
    assert_eq!(sh(&format!("cat {folder}/bConfigurationValue")).trim(), "");
    assert!(explained().contains("[08:06:50]"), "{}", explained());
    sh(&format!("echo 1 > {folder}/bConfigurationValue"));
    assert!(explained().contains("[08:06:50]"), "{}", explained());

    sh(&format!("echo 0 > {folder}/authorized"));
    assert!(explained().contains("[08:06:50]"), "{}", explained());
    let (code, text) = vusb(&machine, &add);
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("has not authorized it"), "{text}");
    // The command starts before the kernel has configured the device.
    sh(&format!("echo 1 > {folder}/authorized & vusb {add}"));
    machine.guest_reads_it();
}
