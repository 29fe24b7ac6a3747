//! Which device a person means.

use vusb_host::{HostDevice, SelectError, select};

use crate::support::{Gadget, Machine};

/// Selects by text.
fn find<'a>(devices: &'a [HostDevice], text: &str) -> Result<&'a HostDevice, SelectError> {
    select(devices, &text.parse().unwrap())
}

#[test]
fn a_device_answers_to_each_of_its_names() {
    let machine = Machine::new();
    machine.plug("1-3", &Gadget::keyboard());
    machine.plug("1-4", &Gadget::hub());
    machine.plug("1-4.2", &Gadget::stick().serial("4C53:00-01"));
    let devices = machine.devices();
    let address = devices[2].at.to_string();
    for text in [
        "0781:5581",
        "0781:5581:4C53:00-01",
        "1-4.2",
        address.as_str(),
        "pci-0000:00:14.0-usb-0:4.2",
    ] {
        assert_eq!(find(&devices, text).unwrap().bus_id.to_string(), "1-4.2", "{text}");
    }
}

#[test]
fn names_are_compared_in_full() {
    let machine = Machine::new();
    machine.plug("1-4", &Gadget::stick().serial("4C530001"));
    let devices = machine.devices();
    for text in [
        "0781:5582",
        "0782:5581",
        "0781:5581:4C53",
        "0781:5581:4c530001",
        "0781:5581:4C5300010",
        "1-4.1",
        "2-4",
        "001.127",
        "pci-0000:00:14.0-usb-0:4.1",
        "pci-0000:00:14.1-usb-0:4",
    ] {
        let error = find(&devices, text).unwrap_err();
        let SelectError::Absent { selector } = &error else {
            panic!("{error}");
        };
        assert_eq!(selector.to_string(), text);
    }
}

#[test]
fn an_absent_device_is_answered_with_what_to_do() {
    let error = find(&[], "0781:5581").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no USB device of this machine is `0781:5581`: plug it in, or see `vusb host list` for what there is"
    );
}

#[test]
fn two_alike_sticks_are_told_apart_by_serial_number() {
    let machine = Machine::new();
    machine.plug("1-3", &Gadget::stick().serial("4C530001"));
    machine.plug("1-4.2", &Gadget::stick().serial("4C530002"));
    let devices = machine.devices();
    let error = find(&devices, "0781:5581").unwrap_err();
    let (first, second) = (devices[0].at, devices[1].at);
    assert_eq!(
        error.to_string(),
        format!(
            "`0781:5581` is 2 devices of this machine: 1-3 (at {first}, serial 4C530001), 1-4.2 (at {second}, serial \
             4C530002); say which by `0781:5581:4C530001` or `0781:5581:4C530002`"
        )
    );
    assert_eq!(find(&devices, "0781:5581:4C530002").unwrap().at, second);
}

#[test]
fn two_sticks_alike_to_the_last_digit_are_told_apart_by_port() {
    let machine = Machine::new();
    machine.plug("1-3", &Gadget::stick().serial("000000"));
    machine.plug("1-4.2", &Gadget::stick().serial("000000"));
    machine.plug("1-5", &Gadget::stick());
    let devices = machine.devices();
    let error = find(&devices, "0781:5581").unwrap_err().to_string();
    assert!(error.ends_with("say which by `1-3` or `1-4.2` or `1-5`"), "{error}");
    assert!(error.contains("no serial"), "{error}");
    let error = find(&devices, "0781:5581:000000").unwrap_err();
    let SelectError::Ambiguous { matches, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(matches.len(), 2);
}

#[test]
fn the_two_halves_of_a_controller_share_their_paths() {
    let machine = Machine::new();
    machine.plug("1-1", &Gadget::keyboard());
    machine.plug("2-1", &Gadget::stick());
    let error = find(&machine.devices(), "pci-0000:00:14.0-usb-0:1").unwrap_err();
    assert!(error.to_string().ends_with("say which by `1-1` or `2-1`"), "{error}");
}

#[test]
fn the_same_serial_number_on_another_product_is_another_device() {
    let machine = Machine::new();
    machine.plug("1-1", &Gadget::keyboard().serial("1"));
    machine.plug("2-1", &Gadget::stick().serial("1"));
    let error = find(&machine.devices(), "pci-0000:00:14.0-usb-0:1").unwrap_err();
    let error = error.to_string();
    assert!(error.ends_with("`046d:c31c:1` or `0781:5581:1`"), "{error}");
}

#[test]
fn every_hint_names_exactly_one_device() {
    let machine = Machine::new();
    machine.plug("1-1", &Gadget::stick().serial("A"));
    machine.plug("1-2", &Gadget::stick().serial("B\u{7}"));
    machine.plug("1-3", &Gadget::stick().serial("C`D"));
    machine.plug("1-4", &Gadget::stick());
    let devices = machine.devices();
    let error = find(&devices, "0781:5581").unwrap_err().to_string();
    let (_, hints) = error.split_once("say which by ").unwrap();
    let named: Vec<String> = hints
        .split(" or ")
        .map(|hint| hint.strip_prefix('`').unwrap().strip_suffix('`').unwrap())
        .map(|hint| find(&devices, hint).unwrap().bus_id.to_string())
        .collect();
    assert_eq!(named, ["1-1", "1-2", "1-3", "1-4"]);
}

#[test]
fn a_device_has_a_node_and_hangs_on_a_hub_that_has_one() {
    let machine = Machine::new();
    machine.plug("1-4", &Gadget::new(0x0424, 0x2514).class(9));
    machine.plug("1-4.12", &Gadget::stick());
    let (hub, stick) = (machine.device("1-4"), machine.device("1-4.12"));
    let node = format!("/dev/bus/usb/001/{:03}", stick.at.address);
    assert_eq!(stick.node(), std::path::Path::new(&node));
    assert_eq!(machine.host().hub(&stick), Some((hub.node(), 12)));
    assert_eq!(machine.host().hub(&hub), Some(("/dev/bus/usb/001/001".into(), 4)));

    // Another in its place is not the device that was meant.
    let descriptors = machine.host().raw_descriptors(&stick).unwrap();
    assert_eq!(descriptors[..2], [18, 1]);
    machine.write("sys/bus/usb/devices/1-4.12/devnum", "99\n");
    assert_eq!(machine.host().raw_descriptors(&stick), None);
    assert_eq!(machine.host().hub(&stick), None);
}
