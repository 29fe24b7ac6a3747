//! Malicious devices, and devices that disappear.

use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use vusb_host::HostDevice;
use vusb_model::speed::SpeedSet;

use crate::support::{Gadget, Machine, write};

#[test]
fn strings_cannot_reach_the_terminal() {
    let machine = Machine::new();
    let gadget = Gadget::stick()
        .named("Acme\n1-5 0781:5581", "\x1b[2J\x1b]0;owned\x07\u{202e}")
        .serial(b"\xff\x00\r\nX");
    machine.plug("1-1", &gadget);
    let device = machine.device("1-1");
    assert_eq!(device.manufacturer.as_deref(), Some("Acme?1-5 0781:5581"));
    assert_eq!(device.product.as_deref(), Some("?[2J?]0;owned??"));
    assert_eq!(device.serial.as_deref(), Some("????X"));
    assert!(!device.describe().contains(char::is_control));
}

#[test]
fn a_string_that_is_too_long_is_truncated() {
    let machine = Machine::new();
    machine.plug("1-1", &Gadget::stick().serial(vec![b'A'; 10 << 20]));
    assert_eq!(machine.device("1-1").serial, Some("A".repeat(126)));
}

#[test]
fn a_device_that_disappears_is_left_out() {
    let machine = Machine::new();
    machine.plug("1-1", &Gadget::stick());
    symlink("../../../devices/gone", machine.path("sys/bus/usb/devices/1-2")).unwrap();
    let half = machine.plug("1-3", &Gadget::stick());
    fs::remove_file(half.join("devnum")).unwrap();
    assert_eq!(machine.devices().len(), 1);
}

#[test]
fn entries_that_are_not_devices_are_skipped() {
    let machine = Machine::new();
    for name in ["0-1", "1-", "-1", "1-0", "1-1.", "01-1", "1-1:1.0", "usb9", "x"] {
        let dir = machine.device_dir(&format!("odd/{name}"), None);
        machine.link("sys/bus/usb/devices", name, &dir);
    }
    machine.write("sys/bus/usb/devices/1-7", "a file");
    assert_eq!(machine.devices(), []);
}

#[test]
fn a_device_without_a_valid_identity_is_left_out() {
    for (file, text) in [
        ("idVendor", "781"),
        ("idVendor", "+781"),
        ("idProduct", "0x5581"),
        ("idProduct", ""),
        ("busnum", "0"),
        ("busnum", "-1"),
        ("devnum", "0"),
        ("devnum", "128"),
        ("devnum", "99999999999999999999"),
        ("devnum", "+3"),
        ("devnum", "3 "),
    ] {
        let machine = Machine::new();
        let dir = machine.plug("1-1", &Gadget::stick());
        assert_eq!(machine.devices().len(), 1);
        write(&dir.join(file), format!("{text}\n"));
        assert_eq!(machine.devices(), [], "{file} is {text:?}");
    }
}

#[test]
fn an_invalid_attribute_affects_only_its_own_field() {
    let machine = Machine::new();
    let dir = machine.plug("1-1", &Gadget::stick());
    for file in ["speed", "bDeviceClass", "maxchild", "descriptors", "1-1:1.0/bInterfaceClass"] {
        write(&dir.join(file), b"\xff\x00garbage\n");
    }
    let device = machine.device("1-1");
    assert_eq!(device.speed, None);
    assert_eq!(device.speeds, SpeedSet::NONE);
    assert_eq!(device.class, 0);
    assert_eq!(device.interfaces, []);
    assert_eq!(device.serial, None);
    assert!(!device.is_hub);
}

#[test]
fn directories_in_place_of_attributes_are_ignored() {
    let machine = Machine::new();
    let dir = machine.plug("1-1", &Gadget::stick());
    fs::remove_file(dir.join("product")).unwrap();
    fs::create_dir(dir.join("product")).unwrap();
    assert_eq!(machine.device("1-1").product, None);
}

#[test]
fn cyclic_links_terminate() {
    let machine = Machine::new();
    let stick = machine.plug("1-1", &Gadget::stick());
    let sdb = machine.disk(&stick, "sdb", "8:16");
    let dm = machine.stacked("dm-0", "253:0", &[&sdb]);
    // Two block devices on top of each other.
    machine.stacked("dm-1", "253:1", &[&dm]);
    symlink(&dm, machine.path("sys/devices/virtual/block/dm-1/holders/dm-0")).unwrap();
    symlink("1-2", machine.path("sys/bus/usb/devices/1-2")).unwrap();
    assert_eq!(machine.devices().len(), 1);
}

#[test]
fn no_content_of_any_file_breaks_the_list() {
    let machine = Machine::new();
    let dir = machine.plug("1-1", &Gadget::stick().serial("4C530001"));
    machine.plug("1-2", &Gadget::keyboard());
    let files = prop::sample::select(vec![
        "idVendor",
        "idProduct",
        "busnum",
        "devnum",
        "speed",
        "serial",
        "manufacturer",
        "product",
        "bDeviceClass",
        "descriptors",
        "1-1:1.0/bInterfaceNumber",
        "1-1:1.0/bInterfaceProtocol",
    ]);
    let content = proptest::collection::vec(any::<u8>(), 0..300);
    let run = |(file, content): (&str, Vec<u8>)| {
        let before = fs::read(dir.join(file)).unwrap();
        write(&dir.join(file), content);
        let devices = machine.devices();
        write(&dir.join(file), before);
        let other = |device: &HostDevice| device.bus_id.to_string() == "1-2";
        prop_assert!(devices.iter().any(other));
        for device in devices {
            prop_assert!(!device.describe().contains(char::is_control));
            prop_assert!((1..=127).contains(&device.bus_address.address));
        }
        Ok(())
    };
    TestRunner::default().run(&(files, content), run).unwrap();
}

#[test]
fn no_content_of_proc_breaks_the_list() {
    let machine = Machine::new();
    let stick = machine.plug("1-1", &Gadget::stick());
    machine.disk(&stick, "sdb", "8:16");
    let files = prop::sample::select(vec!["self/mountinfo", "1/mountinfo", "swaps"]);
    let content = "[ \\\\0-9a-z:/\n\t-]{0,200}";
    let run = |(file, content): (&str, String)| {
        machine.write(&format!("proc/{file}"), content);
        prop_assert_eq!(machine.devices().len(), 1);
        Ok(())
    };
    TestRunner::default().run(&(files, content), run).unwrap();
}
