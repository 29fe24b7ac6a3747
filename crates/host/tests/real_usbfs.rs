//! usbfs on a real kernel: runs `examples/usbfs.rs` in a guest with USB devices of QEMU.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use vusb_rig::image::Image;
use vusb_rig::{Guest, bundle};

const BOOT_TIMEOUT: Duration = Duration::from_secs(180);
/// For everything after that.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The example, which cargo builds with the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/usbfs")
}

/// A guest with a stick, a sound card, a serial adapter on a silent line, and the example as
/// `usbfs`.
fn guest(controller: &str) -> (Guest, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("stick.img");
    std::fs::write(&disk, vec![7; 1 << 20]).unwrap();
    let drive = format!("if=none,id=disk,format=raw,file={}", disk.display());
    let stick = "usb-storage,bus=x.0,port=1,drive=disk";
    let guest = Guest::builder()
        .image(Image::default().files(bundle::program("/bin/usbfs", &example()).unwrap()))
        .args(["-device", controller, "-drive", &drive, "-device", stick])
        .args(["-audiodev", "none,id=silence"])
        .args(["-device", "usb-audio,bus=x.0,port=2,audiodev=silence"])
        .args(["-chardev", "null,id=nothing"])
        .args(["-device", "usb-serial,id=serial,bus=x.0,port=3,chardev=nothing,always-plugged=on"])
        .start()
        .unwrap();
    guest.wait_booted(BOOT_TIMEOUT).unwrap();
    guest.wait_until("[ -b /dev/sda ]", TIMEOUT).unwrap();
    (guest, dir)
}

/// The name of the device with this product string in sysfs.
fn bus_id(guest: &Guest, product: &str) -> String {
    let command = format!("cd /sys/bus/usb/devices; grep -l '{product}' */product");
    let found = guest.wait_until(&command, TIMEOUT).unwrap();
    found.trim().strip_suffix("/product").unwrap().to_owned()
}

/// Runs the example in the guest.
#[track_caller]
fn run_usbfs(guest: &Guest, words: &str) {
    let output = guest.sh(&format!("usbfs {words}"), TIMEOUT).unwrap();
    assert_eq!(output.code, 0, "{}\n{}", output.text, guest.console());
    eprintln!("{}", output.text);
}

fn exercise_stick(controller: &str) {
    let (guest, _dir) = guest(controller);
    let stick = bus_id(&guest, "QEMU USB HARDDRIVE");
    run_usbfs(&guest, &format!("inquiry {stick}"));
    guest.wait_until("[ -b /dev/sd? ]", TIMEOUT).unwrap();
    run_usbfs(&guest, &format!("inquiry {stick}"));
    // usbfs logs "Requested nonsensical USBDEVFS_URB_..." for a flag that does not apply to a URB.
    assert!(!guest.console().contains("nonsensical"), "{}", guest.console());
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_super_speed_stick_responds_and_returns_to_its_driver() {
    exercise_stick("qemu-xhci,id=x");
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_high_speed_stick_responds_and_returns_to_its_driver() {
    exercise_stick("qemu-xhci,id=x,p3=0");
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn the_users_of_a_stick_are_known() {
    let (guest, _dir) = guest("qemu-xhci,id=x");
    let stick = bus_id(&guest, "QEMU USB HARDDRIVE");
    guest.wait_until("[ -b /dev/sda ]", TIMEOUT).unwrap();
    run_usbfs(&guest, &format!("users {stick}"));
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_sound_card_plays_isochronous_transfers() {
    let (guest, _dir) = guest("qemu-xhci,id=x");
    let card = bus_id(&guest, "QEMU USB Audio");
    run_usbfs(&guest, &format!("sound {card}"));
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn transfers_in_flight_are_reaped_after_an_unplug() {
    let (guest, _dir) = guest("qemu-xhci,id=x");
    let serial = bus_id(&guest, "QEMU USB SERIAL");
    let start = format!("usbfs unplug {serial} >/tmp/output 2>&1; echo $? >/tmp/code");
    guest.sh(&format!("({start}) &"), TIMEOUT).unwrap().ok().unwrap();
    guest.wait_until("[ -e /tmp/waiting ] || [ -s /tmp/code ]", TIMEOUT).unwrap();
    guest.qemu().qmp("device_del", json!({"id": "serial"})).unwrap();
    guest.wait_until("[ -s /tmp/code ]", TIMEOUT).unwrap();
    let output = guest.sh("cat /tmp/output; exit $(cat /tmp/code)", TIMEOUT).unwrap();
    assert_eq!(output.code, 0, "{}\n{}", output.text, guest.console());
    eprintln!("{}", output.text);
}
