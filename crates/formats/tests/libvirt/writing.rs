//! Generated domains.

use vusb_formats::libvirt::device_element;
use vusb_formats::{ConfigFormat as _, Libvirt};
use vusb_model::address::Address;
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::{Hardware, PciAddress};
use vusb_model::models::{Companion, Model, RootPorts};

use super::edits::{at, controller, device};
use super::{domain, read};

fn hardware(
    controllers: &[vusb_model::hardware::Controller],
    devices: &[(&str, &str, &str)],
) -> Hardware {
    let mut hardware = Hardware::new();
    for controller in controllers {
        hardware.add_controller(controller.clone()).unwrap();
    }
    for (address, name, kind) in devices {
        hardware.plug(at(address), device(name, kind)).unwrap();
    }
    hardware
}

fn write(guest: &Guest, hardware: &Hardware) -> (String, Vec<String>) {
    let written = Libvirt.write(guest, hardware);
    (written.text, written.lost.into_iter().map(|lost| lost.what).collect())
}

#[test]
fn a_whole_domain() {
    let guest = Guest {
        name: Some("web1 & <co>".to_owned()),
        uuid: Some("e2c0f1a2-5b6c-4f6f-9c0b-8f3a4a1f0001".to_owned()),
        arch: Some("x86_64".to_owned()),
        machine: Some("pc-i440fx-9.2".to_owned()),
        memory_kib: Some(65_536),
        vcpus: Some(2),
        ..Guest::default()
    };
    let mut xhci = controller("0", "usb", Model::QemuXhci, 8);
    xhci.pci = Some(PciAddress { bus: "pci.0".to_owned(), slot: 4, function: 0 });
    let mut group = controller("1", "fast", Model::Ich9Ehci1, 6);
    group.companions = vec![Companion::GROUP[1]];
    let hardware = hardware(
        &[xhci, group],
        &[
            ("0:1", "hub0", "hub"),
            ("0:1.2", "stick", "0781:5581"),
            ("0:2", "input0", "tablet:usbversion=2"),
            ("0:3", "serial0", "serial:pty"),
            ("1:1", "usb-disk0", "storage:/stick.qcow2"),
        ],
    );
    let (text, lost) = write(&guest, &hardware);
    assert_eq!(lost, [""; 0]);
    assert_eq!(
        text,
        "\
<domain type='kvm'>
  <name>web1 &amp; &lt;co&gt;</name>
  <uuid>e2c0f1a2-5b6c-4f6f-9c0b-8f3a4a1f0001</uuid>
  <memory unit='KiB'>65536</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='pc-i440fx-9.2'>hvm</type>
  </os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/stick.qcow2'/>
      <target dev='sda' bus='usb'/>
      <address type='usb' bus='1' port='1'/>
    </disk>
    <controller type='usb' index='0' model='qemu-xhci' ports='8'>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x04' function='0x0'/>
    </controller>
    <controller type='usb' index='1' model='ich9-ehci1'>
      <alias name='ua-fast'/>
    </controller>
    <controller type='usb' index='1' model='ich9-uhci2'>
      <master startport='2'/>
    </controller>
    <serial type='pty'>
      <target type='usb-serial'>
        <model name='usb-serial'/>
      </target>
      <address type='usb' bus='0' port='3'/>
    </serial>
    <input type='tablet' bus='usb'>
      <address type='usb' bus='0' port='2'/>
    </input>
    <hostdev mode='subsystem' type='usb' managed='yes'>
      <source>
        <vendor id='0x0781'/>
        <product id='0x5581'/>
      </source>
      <alias name='ua-stick'/>
      <address type='usb' bus='0' port='1.2'/>
    </hostdev>
    <hub type='usb'>
      <address type='usb' bus='0' port='1'/>
    </hub>
  </devices>
</domain>
"
    );
}

#[test]
fn usb_is_turned_off_if_there_is_no_controller() {
    let (text, lost) = write(&Guest::default(), &Hardware::new());
    assert!(
        text.contains("<name>guest</name>")
            && text.contains("<controller type='usb' model='none'/>"),
        "{text}"
    );
    assert!(lost.is_empty() && read(&text).spec.disabled);
}

#[test]
fn xens_controllers_have_libvirts_names() {
    let guest = Guest {
        hypervisor: Hypervisor::Xen,
        virtualization: Virtualization::Pv,
        ..Guest::default()
    };
    let pv = |index: &str, model| controller(index, &format!("pv{index}"), model, 8);
    let both = hardware(
        &[pv("0", Model::Xenusb1), pv("3", Model::Xenusb2)],
        &[("0:1", "a", "0781:5581"), ("0:2", "b", "046d:0825")],
    );
    let (text, lost) = write(&guest, &both);
    assert_eq!(lost, [""; 0]);
    assert!(text.starts_with("<domain type='xen'>") && text.contains("<type>xen</type>"), "{text}");
    for line in ["index='0' model='qusb1' ports='8'>", "index='3' model='qusb2' ports='8'>"] {
        assert!(text.contains(line), "{text}");
    }
    // libxl gives each device the first free port, and libvirt does not pass another one.
    let elsewhere = hardware(&[pv("0", Model::Xenusb2)], &[("0:2", "a", "0781:5581")]);
    assert_eq!(write(&guest, &elsewhere).1, ["the ports of the devices"]);
    let emulated = hardware(&[controller("0", "hci0", Model::NecXhci, 4)], &[]);
    assert_eq!(write(&guest, &emulated).1, ["hci0, nec-xhci"]);
}

#[test]
fn everything_inexpressible_is_listed() {
    let mut halves = controller("2", "hci.2", Model::NecXhci, 8);
    halves.ports = RootPorts::xhci(8, 4).unwrap();
    halves.pci = Some(PciAddress { bus: "rp0".to_owned(), slot: 0, function: 0 });
    let mut foreign = controller("3", "pv0", Model::Xenusb2, 8);
    foreign.backend = Some("sys-usb".to_owned());
    let xenusb3 = controller("4", "pv1", Model::Xenusb3, 8);
    let uhci = controller("5", "hci5", Model::Ich9Uhci2, 2);
    let hardware = hardware(
        &[halves, foreign, xenusb3, uhci],
        &[
            ("2:1", "a", "tablet"),
            ("2:2", "b", "0781:5581:4C53"),
            ("2:3", "c", "1-4.2"),
            ("2:4", "d", "storage:stick.img"),
            ("2:5", "e", "net:id:net7"),
            ("2:6", "f", "serial:id:com1"),
            ("2:7", "g", "mtp:photos"),
            ("4:1", "h", "046d:0825"),
        ],
    );
    assert_eq!(
        write(&Guest::default(), &hardware).1,
        [
            "the index 2 of the first controller",
            "the separate USB 2 and USB 3 ports of hci.2 (8 and 4)",
            "the PCI address of hci.2",
            "the name hci.2",
            "the USB version 1 of a",
            "the serial number 4C53 of b",
            "c, the host device 1-4.2",
            "the relative path stick.img of d",
            "the network back end id:net7 of e",
            "the character device com1 of f",
            "the relative path photos of g",
            "the backend domain sys-usb of pv0",
            "pv1, xenusb3",
            "h, host:046d:0825",
            "hci5, a single ich9-uhci2",
        ]
    );
}

/// Whatever their order, readers and disks keep the numbers in their names.
#[test]
fn several_readers_get_indexes_of_their_own() {
    let hardware = hardware(
        &[controller("0", "usb", Model::QemuXhci, 8)],
        &[
            ("0:1", "card", "ccid"),
            ("0:2", "ccid1", "ccid"),
            ("0:3", "ccid0", "ccid"),
            ("0:4", "stick", "storage:/a.img"),
            ("0:5", "usb-disk0", "storage:/b.img"),
        ],
    );
    let (text, lost) = write(&Guest::default(), &hardware);
    assert_eq!(lost, Vec::<String>::new());
    for device in read(&text).spec.devices {
        let at = device.port.unwrap().to_string().parse().unwrap();
        let bus: vusb_model::address::Index = "0".parse().unwrap();
        let (_, wanted) =
            hardware.devices().find(|(it, _)| *it == Address { bus, port: at }).unwrap();
        assert_eq!(device.name.as_ref(), Some(&wanted.name), "{text}");
    }
    let count = |word: &str| text.matches(word).count();
    for index in 0..3 {
        assert_eq!(count(&format!("type='ccid' index='{index}'")), 1, "{text}");
    }
}

#[test]
fn a_new_reader_of_a_running_domain_gets_a_free_index() {
    let element = |domains: &[&str]| {
        device_element(at("0:1"), &device("ua-reader", "ccid"), None, domains).unwrap()
    };
    assert!(element(&[]).contains("type='ccid' index='0'"));
    let live = domain("<controller type='ccid' index='0'/>");
    let stored = domain(
        "<controller type='ccid'/><smartcard mode='host'><address type='ccid' controller='1' slot='0'/></smartcard>",
    );
    let added = element(&[&live, &stored]);
    assert!(added.contains("type='ccid' index='2'"), "{added}");
}

/// libvirt's schema has no bus above 999 in the address of a device.
#[test]
fn a_controller_above_the_highest_bus_gets_another_index() {
    let hardware = hardware(
        &[
            controller("0", "usb", Model::QemuXhci, 8),
            controller("999", "usb999", Model::PciOhci, 3),
            controller("1000", "old", Model::PciOhci, 3),
            controller("4095", "last", Model::PciOhci, 3),
        ],
        &[("999:1", "hub0", "hub"), ("1000:1", "hub1", "hub"), ("4095:1", "hub2", "hub")],
    );
    let (text, lost) = write(&Guest::default(), &hardware);
    let indexes = ["the index 999 of usb999", "the index 1000 of old", "the index 4095 of last"];
    assert_eq!(lost, indexes);
    let config = read(&text);
    let indexes: Vec<u16> =
        config.spec.controllers.iter().map(|one| one.index.unwrap().get()).collect();
    // libvirt gives PCI slots in the order of the indexes.
    assert_eq!(indexes, [0, 997, 998, 999]);
    for bus in [997, 998, 999] {
        assert_eq!(text.matches(&format!("bus='{bus}' port='1'")).count(), 1, "{text}");
    }
}

/// The UHCI of a Xen guest's device model has the highest index, and no element.
#[test]
fn a_controller_without_an_element_keeps_its_index() {
    let guest = Guest {
        hypervisor: Hypervisor::Xen,
        virtualization: Virtualization::Hvm,
        ..Guest::default()
    };
    let uhci = controller("4095", "usb4095", Model::Piix3Uhci, 2);
    let hardware = hardware(&[uhci], &[("4095:1", "input0", "tablet:usbversion=2")]);
    let (text, lost) = write(&guest, &hardware);
    assert_eq!(lost, Vec::<String>::new(), "{text}");
}

#[test]
fn the_first_controller_gets_index_0_so_that_libvirt_adds_none() {
    let hardware = hardware(
        &[controller("3", "usb3", Model::Piix3Uhci, 2), controller("5", "usb5", Model::PciOhci, 3)],
        &[("3:2", "hub0", "hub"), ("5:1", "hub1", "hub")],
    );
    let (text, lost) = write(&Guest::default(), &hardware);
    assert_eq!(lost, ["the index 3 of the first controller"]);
    let config = read(&text);
    let indexes: Vec<u16> =
        config.spec.controllers.iter().map(|one| one.index.unwrap().get()).collect();
    assert_eq!(indexes, [0, 5]);
    let addresses: Vec<Address> = config
        .spec
        .devices
        .iter()
        .map(|device| match &device.controller {
            Some(vusb_model::spec::ControllerRef::Index(bus)) => {
                Address { bus: *bus, port: device.port.unwrap() }
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(addresses, [at("0:2"), at("5:1")]);
}
