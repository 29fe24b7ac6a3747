//! Selecting devices.

use std::path::Path;

use vusb_host::{HostDevice, NodeError, SelectError, select};
use vusb_model::remedy::Remedy;

use crate::support::{Gadget, Machine};

/// Selects by text.
fn find<'a>(devices: &'a [HostDevice], text: &str) -> Result<&'a HostDevice, SelectError> {
    select(devices, &text.parse().unwrap())
}

#[test]
fn a_device_is_matched_by_each_kind_of_selector() {
    let machine = Machine::new();
    machine.plug("1-3", &Gadget::keyboard());
    machine.plug("1-4", &Gadget::hub());
    machine.plug("1-4.2", &Gadget::stick().serial("4C53:00-01"));
    let devices = machine.devices();
    let address = devices[2].bus_address.to_string();
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
fn selectors_must_match_completely() {
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
fn an_absent_device_is_reported_with_a_remedy() {
    let error = find(&[], "0781:5581").unwrap_err();
    assert_eq!(error.to_string(), "no USB device of this machine matches `0781:5581`");
    assert_eq!(error.remedies(), [Remedy::ListHost { backend: None }]);
}

#[test]
fn two_identical_sticks_are_distinguished_by_serial_number() {
    let machine = Machine::new();
    machine.plug("1-3", &Gadget::stick().serial("4C530001"));
    machine.plug("1-4.2", &Gadget::stick().serial("4C530002"));
    let devices = machine.devices();
    let error = find(&devices, "0781:5581").unwrap_err();
    let (first, second) = (devices[0].bus_address, devices[1].bus_address);
    assert_eq!(
        error.to_string(),
        format!(
            "`0781:5581` matches 2 USB devices of this machine: 1-3 (at {first}, serial 4C530001), 1-4.2 \
             (at {second}, serial 4C530002); specify one of them as `0781:5581:4C530001` or `0781:5581:4C530002`"
        )
    );
    assert_eq!(find(&devices, "0781:5581:4C530002").unwrap().bus_address, second);
}

#[test]
fn two_sticks_with_one_serial_number_are_distinguished_by_port() {
    let machine = Machine::new();
    machine.plug("1-3", &Gadget::stick().serial("000000"));
    machine.plug("1-4.2", &Gadget::stick().serial("000000"));
    machine.plug("1-5", &Gadget::stick());
    let devices = machine.devices();
    let error = find(&devices, "0781:5581").unwrap_err().to_string();
    assert!(error.ends_with("specify one of them as `1-3` or `1-4.2` or `1-5`"), "{error}");
    assert!(error.contains("no serial"), "{error}");
    let error = find(&devices, "0781:5581:000000").unwrap_err();
    let SelectError::Ambiguous { candidates, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(candidates.len(), 2);
}

/// Advice is copied into a shell.
#[test]
fn a_serial_number_that_a_shell_would_run_is_not_part_of_the_advice() {
    let machine = Machine::new();
    machine.plug("1-3", &Gadget::stick().serial("$(reboot)"));
    machine.plug("1-4.2", &Gadget::stick().serial("4C:5-3_0.1"));
    let error = find(&machine.devices(), "0781:5581").unwrap_err().to_string();
    assert!(error.ends_with("specify one of them as `1-3` or `0781:5581:4C:5-3_0.1`"), "{error}");
}

#[test]
fn the_two_buses_of_a_controller_share_their_paths() {
    let machine = Machine::new();
    machine.plug("1-1", &Gadget::keyboard());
    machine.plug("2-1", &Gadget::stick());
    let error = find(&machine.devices(), "pci-0000:00:14.0-usb-0:1").unwrap_err();
    assert!(error.to_string().ends_with("specify one of them as `1-1` or `2-1`"), "{error}");
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
fn a_long_list_of_matches_shows_five_and_a_count() {
    let machine = Machine::new();
    for port in 1..=8 {
        machine.plug(&format!("1-{port}"), &Gadget::stick());
    }
    let devices = machine.devices();
    let error = find(&devices, "0781:5581").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("matches 8 USB devices"), "{text}");
    let fifth = format!("1-5 (at {}, no serial) and 3 more; specify", devices[4].bus_address);
    assert!(text.contains(&fifth), "{text}");
    assert!(text.ends_with("as `1-1` or `1-2` or `1-3` or `1-4` or `1-5`"), "{text}");
    assert_eq!(error.remedies(), [Remedy::ListHost { backend: None }]);
}

#[test]
fn a_device_is_found_by_its_nodes() {
    let machine = Machine::new();
    machine.plug("1-4", &Gadget::hub());
    let stick = machine.plug("1-4.2", &Gadget::stick());
    let disk = machine.disk(&stick.join("1-4.2:1.0/host6/target6:0:0/6:0:0:0"), "sdb", "8:16");
    machine.partition(&disk, "sdb1", "8:17");
    let serial = stick.join("1-4.2:1.1/ttyUSB0/tty/ttyUSB0");
    std::fs::create_dir_all(&serial).unwrap();
    machine.link("sys/class/tty", "ttyUSB0", &serial);
    let host = machine.host();
    let found = |node: &str| host.device_of_node(Path::new(node)).map(|it| it.bus_id.to_string());
    for node in ["/dev/sdb", "/dev/sdb1", "/dev/ttyUSB0"] {
        assert_eq!(found(node).unwrap(), "1-4.2", "{node}");
    }
    assert!(matches!(found("/dev/sda"), Err(NodeError::NotUsb { .. })));
    for node in ["/dev/sdc", "/dev/", "/dev/..", "/dev/../sdb", "/sdb", "sdb", ""] {
        assert!(matches!(found(node), Err(NodeError::Missing { .. })), "{node}");
    }
}

#[test]
fn every_suggested_selector_matches_exactly_one_device() {
    let machine = Machine::new();
    machine.plug("1-1", &Gadget::stick().serial("A"));
    machine.plug("1-2", &Gadget::stick().serial("B\u{7}"));
    machine.plug("1-3", &Gadget::stick().serial("C`D"));
    machine.plug("1-4", &Gadget::stick());
    let devices = machine.devices();
    let error = find(&devices, "0781:5581").unwrap_err().to_string();
    let (_, selectors) = error.split_once("specify one of them as ").unwrap();
    let matched: Vec<String> = selectors
        .split(" or ")
        .map(|text| text.strip_prefix('`').unwrap().strip_suffix('`').unwrap())
        .map(|text| find(&devices, text).unwrap().bus_id.to_string())
        .collect();
    assert_eq!(matched, ["1-1", "1-2", "1-3", "1-4"]);
}

#[test]
fn a_device_and_its_hub_have_nodes() {
    let machine = Machine::new();
    machine.plug("1-4", &Gadget::new(0x0424, 0x2514).class(9));
    machine.plug("1-4.12", &Gadget::stick());
    let (hub, stick) = (machine.device("1-4"), machine.device("1-4.12"));
    let node = format!("/dev/bus/usb/001/{:03}", stick.bus_address.address);
    assert_eq!(stick.node(), std::path::Path::new(&node));
    assert_eq!(machine.host().hub(&stick), Some((hub.node(), 12)));
    assert_eq!(machine.host().hub(&hub), Some(("/dev/bus/usb/001/001".into(), 4)));

    // Another device in the same port is not the requested one.
    let descriptors = machine.host().raw_descriptors(&stick).unwrap();
    assert_eq!(descriptors[..2], [18, 1]);
    machine.write("sys/bus/usb/devices/1-4.12/devnum", "99\n");
    assert_eq!(machine.host().raw_descriptors(&stick), None);
    assert_eq!(machine.host().hub(&stick), None);
}
