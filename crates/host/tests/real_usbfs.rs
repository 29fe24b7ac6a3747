//! usbfs on a real kernel: `examples/usbfs.rs` runs in a guest whose USB devices are QEMU's.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use vusb_rig::image::Image;
use vusb_rig::{Guest, parcel};

const BOOT: Duration = Duration::from_secs(180);
const SHORT: Duration = Duration::from_secs(60);

/// The example, which cargo builds with the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/usbfs")
}

/// A guest with a stick, a sound card and a serial adapter with a silent line, and the example as `usbfs`.
fn guest(controller: &str) -> (Guest, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("stick.img");
    std::fs::write(&disk, vec![7; 1 << 20]).unwrap();
    let drive = format!("if=none,id=disk,format=raw,file={}", disk.display());
    let stick = "usb-storage,bus=x.0,port=1,drive=disk";
    let guest = Guest::builder()
        .image(Image::default().files(parcel::program("/bin/usbfs", &example()).unwrap()))
        .args(["-device", controller, "-drive", &drive, "-device", stick])
        .args(["-audiodev", "none,id=silence"])
        .args(["-device", "usb-audio,bus=x.0,port=2,audiodev=silence"])
        .args(["-chardev", "null,id=nothing"])
        .args(["-device", "usb-serial,id=serial,bus=x.0,port=3,chardev=nothing,always-plugged=on"])
        .start()
        .unwrap();
    guest.wait_booted(BOOT).unwrap();
    guest.wait_until("[ -b /dev/sda ]", SHORT).unwrap();
    (guest, dir)
}

/// Where the device of this product hangs, as sysfs has it.
fn bus_id(guest: &Guest, product: &str) -> String {
    let command = format!("cd /sys/bus/usb/devices; grep -l '{product}' */product");
    let found = guest.wait_until(&command, SHORT).unwrap();
    found.trim().strip_suffix("/product").unwrap().to_owned()
}

#[track_caller]
fn run(guest: &Guest, words: &str) {
    let said = guest.sh(&format!("usbfs {words}"), SHORT).unwrap();
    assert_eq!(said.code, 0, "{}\n{}", said.text, guest.console());
    eprintln!("{}", said.text);
}

fn all_of_a_stick(controller: &str) {
    let (guest, _dir) = guest(controller);
    let stick = bus_id(&guest, "QEMU USB HARDDRIVE");
    run(&guest, &format!("inquiry {stick}"));
    guest.wait_until("[ -b /dev/sd? ]", SHORT).unwrap();
    run(&guest, &format!("inquiry {stick}"));

    assert!(!guest.console().contains("nonsensical"), "{}", guest.console());
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_super_speed_stick_answers_and_goes_back_to_its_driver() {
    all_of_a_stick("qemu-xhci,id=x");
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_high_speed_stick_answers_and_goes_back_to_its_driver() {
    all_of_a_stick("qemu-xhci,id=x,p3=0");
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_sound_card_takes_isochronous_transfers() {
    let (guest, _dir) = guest("qemu-xhci,id=x");
    let card = bus_id(&guest, "QEMU USB Audio");
    run(&guest, &format!("sound {card}"));
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn what_is_in_flight_comes_back_when_the_device_is_pulled_out() {
    let (guest, _dir) = guest("qemu-xhci,id=x");
    let serial = bus_id(&guest, "QEMU USB SERIAL");
    let start = format!("usbfs unplug {serial} >/tmp/said 2>&1; echo $? >/tmp/code");
    guest.sh(&format!("({start}) &"), SHORT).unwrap().ok().unwrap();
    guest.wait_until("[ -e /tmp/waiting ] || [ -s /tmp/code ]", SHORT).unwrap();
    guest.qemu().qmp("device_del", json!({"id": "serial"})).unwrap();
    guest.wait_until("[ -s /tmp/code ]", SHORT).unwrap();
    let said = guest.sh("cat /tmp/said; exit $(cat /tmp/code)", SHORT).unwrap();
    assert_eq!(said.code, 0, "{}\n{}", said.text, guest.console());
    eprintln!("{}", said.text);
}
