//! Parsing the kernel's device notifications, valid and invalid ones.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use proptest::prelude::*;
use vusb_host::uevent::{Action, Event, Uevents, parse};

const PATH: &str = "/devices/pci0000:00/0000:00:14.0/usb1/1-4/1-4.2";

/// A message as Linux 6.1 sends it.
fn message(action: &str, path: &str, subsystem: &str, kind: &str) -> Vec<u8> {
    let fields = [
        format!("{action}@{path}"),
        format!("ACTION={action}"),
        format!("DEVPATH={path}"),
        format!("SUBSYSTEM={subsystem}"),
        "MAJOR=189".to_owned(),
        "MINOR=13".to_owned(),
        "DEVNAME=bus/usb/001/014".to_owned(),
        format!("DEVTYPE={kind}"),
        "PRODUCT=781/5581/100".to_owned(),
        "TYPE=0/0/0".to_owned(),
        "BUSNUM=001".to_owned(),
        "DEVNUM=014".to_owned(),
        "SEQNUM=1234".to_owned(),
    ];
    fields.iter().flat_map(|field| field.bytes().chain([0])).collect()
}

fn device(action: Action, bus_id: &str) -> Option<Event> {
    Some(Event::Device { action, bus_id: bus_id.parse().unwrap() })
}

#[test]
fn every_action_on_a_device_is_parsed() {
    for (name, action) in [
        ("add", Action::Add),
        ("remove", Action::Remove),
        ("change", Action::Change),
        ("move", Action::Move),
        ("online", Action::Online),
        ("offline", Action::Offline),
        ("bind", Action::Bind),
        ("unbind", Action::Unbind),
    ] {
        assert_eq!(parse(&message(name, PATH, "usb", "usb_device")), device(action, "1-4.2"));
    }
    assert_eq!(parse(&message("explode", PATH, "usb", "usb_device")), None);
}

#[test]
fn interfaces_root_hubs_and_other_subsystems_are_skipped() {
    let interface = format!("{PATH}/1-4.2:1.0");
    for (path, subsystem, kind) in [
        (interface.as_str(), "usb", "usb_interface"),
        (interface.as_str(), "usb", "usb_device"),
        ("/devices/pci0000:00/0000:00:14.0/usb1", "usb", "usb_device"),
        (PATH, "block", "usb_device"),
        (PATH, "usb", "disk"),
        ("/module/1-4.2", "usb", "usb_device"),
    ] {
        assert_eq!(parse(&message("add", path, subsystem, kind)), None, "{path}");
    }
}

#[test]
fn inconsistent_and_truncated_messages_are_skipped() {
    let good = message("add", PATH, "usb", "usb_device");
    assert!(parse(&good).is_some());
    for length in 0..good.len() {
        let cut = &good[..length];
        // Truncated after the last relevant field, it is a valid shorter message.
        assert!(parse(cut).is_none() || cut.ends_with(b"\0"), "cut at {length}");
    }
    let text = |from: &str, to: &str| {
        String::from_utf8(good.clone()).unwrap().replace(from, to).into_bytes()
    };
    assert_eq!(parse(&text("ACTION=add", "ACTION=remove")), None);
    assert_eq!(parse(&text("DEVPATH=/devices", "DEVPATH=/elsewhere")), None);
    assert_eq!(parse(&text("MAJOR=189", "MAJOR")), None);
    assert_eq!(parse(&text("MAJOR=189", "ACTION=add")), None);
    assert_eq!(parse(b"libudev\0\xfe\xed\xca\xfe"), None);
}

#[test]
fn without_events_there_is_nothing_to_read() {
    // The machine that runs the tests may not allow the subscription, and events may occur on it.
    if let Ok(mut uevents) = Uevents::listen() {
        for _ in 0..100 {
            if uevents.next().unwrap().is_none() {
                return;
            }
        }
        panic!("too many events");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_not_an_event(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(parse(&bytes), None);
    }

    #[test]
    fn a_device_is_parsed_from_any_path(bus in 1u16..=0xfff, port in 1u8..=15, below in "[a-z0-9:./]{0,40}") {
        let name = format!("{bus}-{port}");
        let path = format!("/devices/{below}/{name}");
        prop_assert_eq!(parse(&message("add", &path, "usb", "usb_device")), device(Action::Add, &name));
    }
}
