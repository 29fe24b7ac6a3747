//! Edits to a text, and what they do not change.

use std::num::NonZeroU8;

use vusb_formats::config::{Edit, Inexpressible};
use vusb_formats::{ConfigFormat as _, Libvirt};
use vusb_model::address::Address;
use vusb_model::hardware::{Controller, Device, PciAddress};
use vusb_model::models::{Companion, Model, RootPorts};

use super::domain;

fn edited(text: &str, edits: &[Edit<'_>]) -> String {
    Libvirt.edit(text, edits).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

fn rejected(text: &str, edits: &[Edit<'_>]) -> Inexpressible {
    Libvirt.edit(text, edits).unwrap_err()
}

pub(crate) fn controller(index: &str, name: &str, model: Model, ports: u8) -> Controller {
    let ports = RootPorts::uniform(model, NonZeroU8::new(ports).unwrap());
    Controller::new(index.parse().unwrap(), name.parse().unwrap(), model, ports)
}

pub(crate) fn device(name: &str, kind: &str) -> Device {
    Device { name: name.parse().unwrap(), kind: kind.parse().unwrap() }
}

pub(crate) fn at(text: &str) -> Address {
    let (bus, port) = text.split_once(':').unwrap();
    Address { bus: bus.parse().unwrap(), port: port.parse().unwrap() }
}

const COMMENTED: &str = "\
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <!-- the disk -->
    <disk type='file' device='disk'>
      <source file='/web1.img'/>
      <target dev='sda' bus='virtio'/>
    </disk>
    <controller type='usb' index='0' model='qemu-xhci' ports='4'/> <!-- fast -->
    <input type='tablet' bus='usb'/>
    <hostdev mode='subsystem' type='usb' managed='yes'>
      <source>
        <vendor id='0x0781'/>
        <product id='0x5581'/>
      </source>
    </hostdev>
    <!-- end -->
";

#[test]
fn a_new_device_goes_after_the_last_of_its_group() {
    let cam = device("cam", "046d:0825");
    assert_eq!(
        edited(&domain(COMMENTED), &[Edit::AddDevice(at("0:3"), &cam)]),
        domain(&COMMENTED.replace(
            "    <!-- end -->\n",
            "    <hostdev mode='subsystem' type='usb' managed='yes'>
      <source>
        <vendor id='0x046d'/>
        <product id='0x0825'/>
      </source>
      <alias name='ua-cam'/>
      <address type='usb' bus='0' port='3'/>
    </hostdev>
    <!-- end -->\n"
        ))
    );
}

#[test]
fn a_new_device_without_a_group_goes_where_libvirt_would_write_it() {
    let stick = device("usb-disk1", "storage:/stick.img,readonly");
    let hub = device("hub0", "hub");
    let serial = device("serial0", "serial:tcp:localhost:4000,server");
    let edits = [
        Edit::AddDevice(at("0:4"), &hub),
        Edit::AddDevice(at("0:2"), &stick),
        Edit::AddDevice(at("0:4.1"), &serial),
    ];
    let text = COMMENTED
        .replace(
            "    <controller",
            "    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/stick.img'/>
      <target dev='sdb' bus='usb'/>
      <readonly/>
      <address type='usb' bus='0' port='2'/>
    </disk>
    <controller",
        )
        .replace(
            "<!-- fast -->\n",
            "<!-- fast -->
    <serial type='tcp'>
      <source mode='bind' host='localhost' service='4000'/>
      <protocol type='raw'/>
      <target type='usb-serial'>
        <model name='usb-serial'/>
      </target>
      <address type='usb' bus='0' port='4.1'/>
    </serial>\n",
        )
        .replace(
            "    <!-- end -->\n",
            "    <hub type='usb'>
      <address type='usb' bus='0' port='4'/>
    </hub>
    <!-- end -->\n",
        );
    assert_eq!(edited(&domain(COMMENTED), &edits), domain(&text));
}

#[test]
fn a_controller_is_added_with_its_companions() {
    let mut group = controller("1", "usb1", Model::Ich9Ehci1, 6);
    group.companions = Companion::GROUP.to_vec();
    group.pci = Some(PciAddress { bus: "pci.0".to_owned(), slot: 5, function: 7 });
    let text = COMMENTED.replace(
        "<!-- fast -->\n",
        "<!-- fast -->
    <controller type='usb' index='1' model='ich9-ehci1'>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x7'/>
    </controller>
    <controller type='usb' index='1' model='ich9-uhci1'>
      <master startport='0'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0' multifunction='on'/>
    </controller>
    <controller type='usb' index='1' model='ich9-uhci2'>
      <master startport='2'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x1'/>
    </controller>
    <controller type='usb' index='1' model='ich9-uhci3'>
      <master startport='4'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x2'/>
    </controller>\n",
    );
    assert_eq!(edited(&domain(COMMENTED), &[Edit::AddController(&group)]), domain(&text));
}

#[test]
fn removing_an_element_removes_its_lines_but_no_comment() {
    let text = domain(COMMENTED);
    // Device 1 is the stick: the disk is on virtio, and the tablet comes first.
    let (start, end) =
        (COMMENTED.find("    <hostdev").unwrap(), COMMENTED.find("    <!-- end").unwrap());
    let without = COMMENTED[..start].to_owned() + &COMMENTED[end..];
    assert_eq!(edited(&text, &[Edit::RemoveDevice(1)]), domain(&without));
    let without =
        COMMENTED.replace("<controller type='usb' index='0' model='qemu-xhci' ports='4'/>", "");
    assert_eq!(edited(&text, &[Edit::RemoveController(0)]), domain(&without));
}

#[test]
fn a_pin_opens_a_self_closing_element_or_changes_an_address() {
    let text = domain(COMMENTED);
    let pinned = COMMENTED.replace(
        "<input type='tablet' bus='usb'/>",
        "<input type='tablet' bus='usb'>
      <address type='usb' bus='0' port='1'/>
    </input>",
    );
    assert_eq!(edited(&text, &[Edit::PinDevice(0, at("0:1"))]), domain(&pinned));
    let pinned = COMMENTED.replace(
        "      </source>\n",
        "      </source>\n      <address type='usb' bus='0' port='2'/>\n",
    );
    assert_eq!(edited(&text, &[Edit::PinDevice(1, at("0:2"))]), domain(&pinned));
    for (before, after) in [
        ("<address type='usb' bus='0'/>", "<address type='usb' bus='1' port='2.1'/>"),
        ("<address type=\"usb\"/>", "<address type=\"usb\" bus=\"1\" port=\"2.1\"/>"),
        (
            "<address bus = '1'\n  port ='4'  type='usb' />",
            "<address bus = '1'\n  port ='2.1'  type='usb' />",
        ),
        ("<address type='usb' bus='1' port='2.1'/>", "<address type='usb' bus='1' port='2.1'/>"),
    ] {
        let hub = |address| domain(&format!("    <hub type='usb'>{address}</hub>\n"));
        assert_eq!(edited(&hub(before), &[Edit::PinDevice(0, at("1:2.1"))]), hub(after));
    }
}

#[test]
fn pinning_a_controller_writes_what_it_leaves_open() {
    let mut xhci = controller("0", "usb", Model::QemuXhci, 4);
    xhci.pci = Some(PciAddress { bus: "pci.0".to_owned(), slot: 1, function: 2 });
    let text = domain("    <controller type='usb'/>\n");
    let pinned = domain(
        "    <controller type='usb' index='0' model='qemu-xhci' ports='4'>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x2'/>
    </controller>\n",
    );
    assert_eq!(edited(&text, &[Edit::PinController(0, &xhci)]), pinned);
    // Nothing changes if nothing was left open.
    assert_eq!(edited(&pinned, &[Edit::PinController(0, &xhci)]), pinned);
    let mut group = controller("2", "usb2", Model::Ich9Ehci1, 6);
    group.companions = Companion::GROUP.to_vec();
    let text = domain(
        "    <controller type='usb' model='ich9-ehci1'/>\n    <controller type='usb' model='ich9-uhci2'/>\n",
    );
    assert_eq!(
        edited(&text, &[Edit::PinController(0, &group), Edit::PinController(1, &group)]),
        domain(
            "    <controller type='usb' model='ich9-ehci1' index='2'/>
    <controller type='usb' model='ich9-uhci2' index='2'>
      <master startport='2'/>
    </controller>\n"
        )
    );
}

#[test]
fn a_reader_that_is_implied_by_a_card_is_pinned_by_adding_its_element() {
    let text = domain("    <smartcard mode='host'/>\n");
    assert_eq!(
        edited(&text, &[Edit::PinDevice(0, at("0:1"))]),
        domain(
            "    <controller type='ccid' index='0'>
      <address type='usb' bus='0' port='1'/>
    </controller>
    <smartcard mode='host'/>\n"
        )
    );
    let why = rejected(&text, &[Edit::RemoveDevice(0)]).why.text;
    assert_eq!(why, "libvirt adds it for the smart card: remove the <smartcard>");
}

#[test]
fn usb_is_turned_off_and_on_again() {
    let text = domain("    <controller type='usb' index='0' model='piix3-uhci'/>\n");
    let none = domain("    <controller type='usb' model='none'/>\n");
    assert_eq!(edited(&text, &[Edit::RemoveController(0), Edit::NoUsb]), none);
    assert_eq!(edited(&none, &[Edit::NoUsb]), none);
    let uhci = controller("0", "usb", Model::Piix3Uhci, 2);
    assert_eq!(edited(&none, &[Edit::AddController(&uhci)]), text);
    assert_eq!(rejected(&text, &[Edit::NoUsb]).what, "turning USB off");
}

#[test]
fn new_lines_have_the_style_of_their_neighbours() {
    let hub = device("hub1", "hub");
    let add = [Edit::AddDevice(at("0:2"), &hub)];
    let text = "<domain type=\"kvm\">\r\n\t<devices>\r\n\t\t<hub type=\"usb\"/>\r\n\t</devices>\r\n</domain>";
    assert_eq!(
        edited(text, &add),
        "<domain type=\"kvm\">\r\n\t<devices>\r\n\t\t<hub type=\"usb\"/>\r\n\t\t<hub type=\"usb\">\r\n\t\t\t<address \
         type=\"usb\" bus=\"0\" port=\"2\"/>\r\n\t\t</hub>\r\n\t</devices>\r\n</domain>"
    );
    let line = "<domain type='kvm'><devices><hub type='usb'/></devices></domain>";
    let new = "<hub type='usb'><address type='usb' bus='0' port='2'/></hub>";
    assert_eq!(
        edited(line, &add),
        format!("<domain type='kvm'><devices><hub type='usb'/>{new}</devices></domain>")
    );
}

#[test]
fn a_domain_without_devices_gets_the_element() {
    let hub = device("hub1", "hub");
    let add = [Edit::AddDevice(at("0:2"), &hub)];
    let lines = "\
<domain type='kvm'>
   <name>a</name>
   <devices>
      <hub type='usb'>
         <address type='usb' bus='0' port='2'/>
      </hub>
   </devices>
</domain>
";
    for before in [
        "<domain type='kvm'>\n   <name>a</name>\n   <devices/>\n</domain>\n",
        "<domain type='kvm'>\n   <name>a</name>\n   <devices />\n</domain>\n",
        "<domain type='kvm'>\n   <name>a</name>\n   <devices>\n   </devices>\n</domain>\n",
        "<domain type='kvm'>\n   <name>a</name>\n</domain>\n",
    ] {
        assert_eq!(edited(before, &add), lines, "{before}");
    }
    let line = "<domain type='kvm'><devices><hub type='usb'><address type='usb' bus='0' port='2'/></hub></devices></domain>";
    let alone = edited("<domain type='kvm'/>", &add);
    let wanted = lines.replace("   <name>a</name>\n", "").replace("   ", "  ");
    assert_eq!(alone, wanted.trim_end());
    for before in [
        "<domain type='kvm'></domain>",
        "<domain type='kvm'><devices/></domain>",
        "<domain type='kvm'><devices></devices></domain>",
    ] {
        assert_eq!(edited(before, &add), line, "{before}");
    }
}

#[test]
fn new_disks_and_readers_get_free_numbers() {
    let disk = device("a", "storage:/dev/sdx");
    let reader = device("ccid7", "ccid");
    let text =
        domain("    <disk type='file'>\n      <target dev='vda' bus='virtio'/>\n    </disk>\n");
    let edits = [
        Edit::AddDevice(at("0:1"), &disk),
        Edit::AddDevice(at("0:2"), &disk),
        Edit::AddDevice(at("0:3"), &reader),
        Edit::AddDevice(at("0:4"), &reader),
    ];
    let text = edited(&text, &edits);
    let count = |word: &str| text.match_indices(word).count();
    assert_eq!([count("dev='sdb' bus='usb'"), count("dev='sdc' bus='usb'")], [1, 1], "{text}");
    assert_eq!([count("type='ccid' index='7'"), count("type='ccid' index='0'")], [1, 1], "{text}");
}

#[test]
fn a_new_device_does_not_get_the_number_in_the_name_of_another() {
    let devices = [device("a", "ccid"), device("ccid0", "ccid")];
    let [first, second] = &devices;
    let edits = [Edit::AddDevice(at("0:1"), first), Edit::AddDevice(at("0:2"), second)];
    let config = super::read(&edited(&domain(""), &edits));
    let names = config.spec.devices.iter().map(|it| it.name.as_ref().unwrap().to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["a", "ccid0"]);
}

#[test]
fn what_libvirt_refuses_is_not_written() {
    // Its schema has no bus above 999.
    let high = controller("1000", "high", Model::QemuXhci, 4);
    assert_eq!(rejected(&domain(""), &[Edit::AddController(&high)]).what, "the index 1000 of high");
    let text = domain("    <controller type='usb' index='4095' model='qemu-xhci'/>\n");
    let mouse = device("a", "mouse:usbversion=2");
    let what = rejected(&text, &[Edit::AddDevice(at("4095:1"), &mouse)]).what;
    assert_eq!(what, "the index 4095 of the controller of a");
}

#[test]
fn an_inexpressible_edit_is_an_error() {
    let text = domain("");
    let what = |kind: &str| rejected(&text, &[Edit::AddDevice(at("0:1"), &device("a", kind))]).what;
    assert_eq!(what("host:1-4.2"), "a, the host device 1-4.2");
    assert_eq!(what("0781:5581:4C53"), "the serial number 4C53 of a");
    assert_eq!(what("storage:stick.img"), "the relative path stick.img of a");
    assert_eq!(what("storage:/a\u{1}"), "a, storage:/a\u{1}");
    assert_eq!(what("redir:id:char0"), "the character device char0 of a");
    assert_eq!(what("net:none"), "the network back end none of a");
    assert_eq!(what("audio:snd0"), "the audio back end snd0 of a");
    assert_eq!(what("hub:ports=4"), "the number of ports of a (4)");
    let xenusb3 = controller("0", "pv0", Model::Xenusb3, 8);
    assert_eq!(rejected(&text, &[Edit::AddController(&xenusb3)]).what, "pv0, xenusb3");
    let mut halves = controller("0", "hci0", Model::NecXhci, 8);
    halves.ports = RootPorts::xhci(8, 4).unwrap();
    assert!(
        rejected(&text, &[Edit::AddController(&halves)])
            .what
            .contains("separate USB 2 and USB 3 ports")
    );
    assert_eq!(rejected(&text, &[Edit::RemoveDevice(0)]).why.text, "the text has 0 of them");
    assert!(rejected("<domain", &[]).why.text.contains("the domain:1:"));
}

/// libvirt adds a serial port for the console only if the domain has no `<serial>`.
#[test]
fn the_serial_port_of_the_console_stays() {
    let console = "    <console type='tcp'>
      <source mode='bind' host='localhost' service='4000'/>
      <target type='serial' port='0'/>
    </console>\n";
    let port = "    <serial type='tcp'>
      <source mode='bind' host='localhost' service='4000'/>
      <target port='0'/>
    </serial>\n";
    let usb = "    <serial type='null'>
      <target type='usb-serial'>
        <model name='usb-serial'/>
      </target>
      <address type='usb' bus='0' port='1'/>
    </serial>\n";
    let serial = device("serial0", "serial:null");
    let add = [Edit::AddDevice(at("0:1"), &serial)];
    assert_eq!(edited(&domain(console), &add), domain(&format!("{port}{usb}{console}")));
    // A virtio console is not a serial port.
    let virtio = "    <console type='pty'>\n      <target type='virtio'/>\n    </console>\n";
    assert_eq!(edited(&domain(virtio), &add), domain(&format!("{usb}{virtio}")));
    // Without the removal of the console, libvirt would add a port of the machine for it.
    let both = domain(&format!("{usb}{console}"));
    assert_eq!(edited(&both, &[Edit::RemoveDevice(0)]), domain(""));
    let unknown = domain("    <console type='pty'><source path='/x' wiremode='y'/></console>\n");
    let refused = rejected(&unknown, &add);
    assert!(
        refused.why.text.contains("vusb does not support the console's wiremode"),
        "{refused:?}"
    );
}

#[test]
fn a_spice_channel_needs_a_spice_display() {
    let redir = device("redir0", "redir:spicevmc");
    let add = [Edit::AddDevice(at("0:1"), &redir)];
    let refused = rejected(&domain("    <graphics type='vnc'/>\n"), &add);
    assert!(refused.why.text.contains("has no SPICE display"), "{refused:?}");
    assert!(edited(&domain("    <graphics type='spice'/>\n"), &add).contains("<redirdev"));
}

/// A Xen guest has no USB by default, and libvirt's Xen driver refuses the model `none`.
#[test]
fn usb_of_a_xen_guest_is_not_turned_off() {
    let text = domain("").replace("'kvm'", "'xen'");
    assert_eq!(edited(&text, &[Edit::NoUsb]), text);
}
