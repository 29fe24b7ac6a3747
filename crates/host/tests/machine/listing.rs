//! Listing the devices.

use std::fs;

use vusb_host::{Host, HostError, Interface, Protection};
use vusb_model::speed::{Speed, SpeedSet};

use crate::support::gadget::interrupt;
use crate::support::{Gadget, Machine};

#[test]
fn a_stick_is_listed_with_all_its_properties() {
    let machine = Machine::new();
    machine.plug("1-4", &Gadget::stick().serial("4C530001"));
    let devices = machine.devices();
    let [stick] = devices.as_slice() else {
        panic!("{devices:?}");
    };
    assert_eq!(stick.bus_id.to_string(), "1-4");
    assert_eq!(stick.bus_address.bus, 1);
    assert_eq!(stick.id.to_string(), "0781:5581");
    assert_eq!(stick.serial.as_deref(), Some("4C530001"));
    assert_eq!(stick.manufacturer.as_deref(), Some("SanDisk"));
    assert_eq!(stick.product.as_deref(), Some("Ultra"));
    assert_eq!(stick.speed, Some(Speed::High));
    assert_eq!(stick.class, 0);
    assert_eq!(
        stick.interfaces,
        [Interface {
            number: 0,
            class: 8,
            subclass: 6,
            protocol: 0x50,
            driver: Some("usb-storage".to_owned()),
        }]
    );
    assert_eq!(stick.path.as_ref().unwrap().as_str(), "pci-0000:00:14.0-usb-0:4");
    assert_eq!(stick.protection, []);
    assert!(!stick.is_hub);
    assert_eq!(stick.describe(), "0781:5581 SanDisk Ultra");
}

#[test]
fn a_device_without_names_is_described_by_the_usb_id_database() {
    let machine = Machine::new();
    machine.plug("1-1", &Gadget::new(0x0781, 0x5581));
    machine.plug("1-2", &Gadget::new(0x0781, 0x5581).named("", "  "));
    machine.plug("1-3", &Gadget::new(0xf055, 0xffff));
    assert_eq!(machine.device("1-1").describe(), "0781:5581 SanDisk Corp. Ultra");
    assert_eq!(machine.device("1-2").describe(), "0781:5581 SanDisk Corp. Ultra");
    assert_eq!(machine.device("1-2").product, None);
    assert!(machine.device("1-3").describe().starts_with("f055:ffff"));
}

#[test]
fn names_are_trimmed_and_serial_numbers_are_not() {
    let machine = Machine::new();
    let padded = Gadget::stick().named("Generic ", "  Flash Disk  ").serial("0001 ");
    machine.plug("1-1", &padded);
    let stick = machine.device("1-1");
    assert_eq!(stick.describe(), "0781:5581 Generic Flash Disk");
    assert_eq!(stick.serial.as_deref(), Some("0001 "));
}

#[test]
fn a_composite_device_has_all_its_interfaces() {
    let machine = Machine::new();
    let headset = Gadget::new(0x046d, 0x0a44)
        .interface(1, 1, 0, Some("snd-usb-audio"))
        .interface(1, 2, 0, Some("snd-usb-audio"))
        .interface(3, 0, 0, None)
        .endpoint(&interrupt(0x83, 4));
    machine.plug("1-2", &headset);
    let interfaces = machine.device("1-2").interfaces;
    let read: Vec<_> =
        interfaces.iter().map(|it| (it.number, it.class, it.driver.as_deref())).collect();
    assert_eq!(read, [(0, 1, Some("snd-usb-audio")), (1, 1, Some("snd-usb-audio")), (2, 3, None)]);
}

#[test]
fn hubs_are_listed_and_marked_and_root_hubs_are_not_listed() {
    let machine = Machine::new();
    machine.plug("1-4", &Gadget::hub());
    let devices = machine.devices();
    assert_eq!(devices.len(), 1);
    assert!(devices[0].is_hub);
    assert_eq!(devices[0].protection, [Protection::Hub]);
}

#[test]
fn interfaces_are_in_the_order_of_their_numbers() {
    let machine = Machine::new();
    let many = (0..12).fold(Gadget::new(1, 2), |it, _| it.interface(255, 0, 0, None));
    machine.plug("1-1", &many);
    let interfaces = machine.device("1-1").interfaces;
    let numbers: Vec<u8> = interfaces.iter().map(|it| it.number).collect();
    assert_eq!(numbers, (0..12).collect::<Vec<u8>>());
}

#[test]
fn a_hub_is_recognized_by_its_interface_class() {
    let machine = Machine::new();
    machine.plug("1-4", &Gadget::hub().class(0));
    assert!(machine.device("1-4").is_hub);
}

#[test]
fn a_hub_is_recognized_by_its_ports() {
    let machine = Machine::new();
    let dir = machine.plug("1-4", &Gadget::new(0x05e3, 0x0608));
    assert!(!machine.device("1-4").is_hub);
    fs::write(dir.join("maxchild"), "4\n").unwrap();
    assert!(machine.device("1-4").is_hub);
}

#[test]
fn the_list_is_sorted_by_bus_and_ports() {
    let machine = Machine::new();
    for bus_id in ["2-1", "1-10", "1-4", "1-4.10.1", "1-4.2", "1-2"] {
        machine.plug(bus_id, &Gadget::hub());
    }
    let order: Vec<String> =
        machine.devices().iter().map(|device| device.bus_id.to_string()).collect();
    assert_eq!(order, ["1-2", "1-4", "1-4.2", "1-4.10.1", "1-10", "2-1"]);
}

#[test]
fn a_device_behind_hubs_is_named_by_its_whole_chain() {
    let machine = Machine::new();
    machine.plug("1-4", &Gadget::hub());
    machine.plug("1-4.2", &Gadget::hub());
    machine.plug("1-4.2.7", &Gadget::stick());
    let path = machine.device("1-4.2.7").path.unwrap();
    assert_eq!(path.as_str(), "pci-0000:00:14.0-usb-0:4.2.7");
}

#[test]
fn a_device_of_a_controller_that_is_not_on_pci_has_a_path() {
    let machine = Machine::new();
    machine.device_dir("platform/dummy_hcd.0", Some("platform"));
    machine.device_dir("platform/vhci_hcd.0", Some("platform"));
    machine.device_dir("vusb-0", Some("xen"));
    machine.bus(3, "platform/dummy_hcd.0");
    machine.bus(4, "platform/vhci_hcd.0");
    machine.bus(5, "vusb-0");
    for bus_id in ["3-1", "4-1", "5-1"] {
        machine.plug(bus_id, &Gadget::stick());
    }
    let path = |bus_id| machine.device(bus_id).path.unwrap().to_string();
    assert_eq!(path("3-1"), "platform-dummy_hcd.0-usb-0:1");
    assert_eq!(path("4-1"), "platform-vhci_hcd.0-usb-0:1");
    assert_eq!(path("5-1"), "xen-vusb-0-usb-0:1");
}

#[test]
fn behind_bridges_the_nearest_pci_address_counts() {
    let machine = Machine::new();
    machine.device_dir("pci0000:00/0000:00:1c.0", Some("pci"));
    machine.device_dir("pci0000:00/0000:00:1c.0/0000:03:00.0", Some("pci"));
    machine.bus(3, "pci0000:00/0000:00:1c.0/0000:03:00.0");
    machine.plug("3-1", &Gadget::stick());
    let path = machine.device("3-1").path.unwrap();
    assert_eq!(path.as_str(), "pci-0000:03:00.0-usb-0:1");
}

#[test]
fn a_pci_bridge_on_a_platform_adds_the_platform_device_to_the_path() {
    let machine = Machine::new();
    let pcie = "platform/scb/fd500000.pcie";
    machine.device_dir("platform/scb", Some("platform"));
    machine.device_dir(pcie, Some("platform"));
    machine.device_dir(&format!("{pcie}/pci0000:00"), None);
    machine.device_dir(&format!("{pcie}/pci0000:00/0000:01:00.0"), Some("pci"));
    machine.bus(3, &format!("{pcie}/pci0000:00/0000:01:00.0"));
    machine.plug("3-1.3", &Gadget::stick());
    assert_eq!(
        machine.device("3-1.3").path.unwrap().as_str(),
        "platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.3"
    );
}

#[test]
fn a_controller_without_a_known_parent_has_no_path() {
    let machine = Machine::new();
    machine.bus(3, "mystery");
    machine.plug("3-1", &Gadget::stick());
    assert_eq!(machine.device("3-1").path, None);
}

#[test]
fn a_device_of_unknown_speed_has_no_speeds() {
    let machine = Machine::new();
    machine.plug("1-1", &Gadget::stick().speed(None));
    machine.plug("1-2", &Gadget::stick().speed(Some("unknown")));
    for bus_id in ["1-1", "1-2"] {
        let device = machine.device(bus_id);
        assert_eq!(device.speed, None);
        assert_eq!(device.speeds, SpeedSet::NONE);
        let reference = device.reference("0781:5581".parse().unwrap());
        assert_eq!(reference.speeds, None);
        assert_eq!(reference.bus_address, Some(device.bus_address));
    }
}

#[test]
fn a_reference_has_the_address_and_the_speeds() {
    let machine = Machine::new();
    machine.plug("1-1", &Gadget::stick());
    let device = machine.device("1-1");
    let reference = device.reference("1-1".parse().unwrap());
    assert_eq!(reference.selector.to_string(), "1-1");
    assert_eq!(reference.bus_address, Some(device.bus_address));
    assert_eq!(reference.speeds, Some(SpeedSet::of(&[Speed::Full, Speed::High])));
}

#[test]
fn a_machine_without_usb_has_no_devices() {
    assert_eq!(Machine::without_usb().devices(), []);
    assert_eq!(Host::new("/nowhere/at/all").devices().unwrap(), []);
}

#[test]
fn a_machine_with_nothing_plugged_in_has_no_devices() {
    assert_eq!(Machine::new().devices(), []);
}

#[test]
fn an_unreadable_list_is_an_error_with_its_path() {
    let machine = Machine::without_usb();
    machine.write("sys/bus/usb/devices", "a file in place of the directory");
    let error = machine.host().devices().unwrap_err();
    let HostError::Unreadable { path, .. } = &error;
    assert!(path.ends_with("sys/bus/usb/devices"));
    assert!(error.to_string().contains("sysfs"), "{error}");
}

#[test]
fn the_devices_of_this_machine_can_be_read() {
    for device in Host::system().devices().unwrap() {
        assert!(device.bus_address.bus > 0);
        assert!(device.describe().len() >= "0781:5581".len());
        if let Some(speed) = device.speed {
            assert!(device.speeds.contains(speed), "{device:?}");
        }
    }
}
