//! What a VMX file says, by example; how it is edited, and how one is written.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use insta::assert_snapshot;
use vusb_formats::Format;
use vusb_formats::config::{Config, Edit, Field, Unsayable};
use vusb_model::address::{Address, Index};
use vusb_model::capabilities::Capabilities;
use vusb_model::device::HostRef;
use vusb_model::digest::digest;
use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Companion, Model, RootPorts};
use vusb_model::resolve::resolve;
use vusb_model::speed::{Speed, SpeedSet};

/// What VMware Workstation makes of a new guest, and a little more.
const WORKSTATION: &str = r##"#!/usr/bin/vmware
.encoding = "UTF-8"
config.version = "8"
virtualHW.version = "18"
# our build machine
displayName = "Build |22one|22"
guestOS = "debian11-64"
memsize = "2048"
numvcpus = "2"
uuid.bios = "56 4d 11 bf 3a b4 e1 66-c6 c6 56 64 46 7a 42 c7"
usb.present = "TRUE"
ehci.present = "TRUE"
usb_xhci.present = "TRUE"
ehci.pciSlotNumber = "34"
usb:0.present = "TRUE"
usb:0.deviceType = "hid"
usb:0.port = "0"
usb:0.parent = "-1"
usb:1.speed = "2"
usb:1.present = "TRUE"
usb:1.deviceType = "hub"
usb:1.port = "1"
usb:1.parent = "-1"
usb_xhci:4.present = "TRUE"
usb_xhci:4.deviceType = "hid"
usb_xhci:4.port = "4"
usb_xhci:4.parent = "-1"
usb_xhci:7.speed = "4"
usb_xhci:7.present = "TRUE"
usb_xhci:7.deviceType = "hub"
usb_xhci:7.port = "7"
usb_xhci:7.parent = "-1"
usb.autoConnect.device0 = "vid:0781 pid:5581 autoclean:1"
usb.autoConnect.device1 = ""
sound.present = "FALSE"
"##;

fn read(text: &str) -> Config {
    Format::Vmx.read(text, "web1.vmx").unwrap_or_else(|error| panic!("{error}"))
}

fn warnings(text: &str) -> String {
    let all: Vec<String> = read(text).warnings.iter().map(ToString::to_string).collect();
    all.join("\n")
}

fn hardware_of(text: &str) -> Hardware {
    let resolved = resolve(&Hardware::new(), &read(text).spec, &Capabilities::everything());
    resolved.unwrap_or_else(|refused| panic!("{refused}\n{text}")).hardware
}

/// One line a controller, one a device.
fn listed(hardware: &Hardware) -> String {
    let lines = hardware.controllers().flat_map(|controller| {
        let (index, ports) = (controller.index, controller.ports.count());
        let devices = controller.devices();
        let devices = devices.map(move |(port, device)| format!("{index}:{port} {}", device.kind));
        std::iter::once(format!("{index} {} {ports}", controller.model)).chain(devices)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn edited(text: &str, edits: &[Edit<'_>]) -> String {
    Format::Vmx.edit(text, edits).unwrap_or_else(|lost| panic!("{lost:?}"))
}

fn refused(text: &str, edits: &[Edit<'_>]) -> String {
    let Unsayable { what, why } = Format::Vmx.edit(text, edits).unwrap_err();
    format!("{what}: {why}")
}

/// The lines that are in one text alone: `-` for the old, `+` for the new.
fn changes(old: &str, new: &str) -> String {
    let only = |a: &str, b: &str, sign: char| -> Vec<String> {
        let there: Vec<&str> = b.lines().collect();
        a.lines().filter(|line| !there.contains(line)).map(|line| format!("{sign}{line}")).collect()
    };
    [only(old, new, '-'), only(new, old, '+')].concat().join("\n")
}

fn index(number: u16) -> Index {
    Index::new(number).unwrap()
}

fn at(bus: u16, port: &str) -> Address {
    Address { bus: index(bus), port: port.parse().unwrap() }
}

fn device(name: &str, kind: &str) -> Device {
    Device { name: name.parse().unwrap(), kind: kind.parse().unwrap() }
}

fn controller(number: u16, model: Model, ports: u8) -> Controller {
    let name = format!("hci{number}").parse().unwrap();
    Controller::new(index(number), name, model, RootPorts::of(model, ports.try_into().unwrap()))
}

#[test]
fn a_guest_of_workstation() {
    let config = read(WORKSTATION);
    assert_eq!(
        config.guest,
        Guest {
            name: Some("Build \"one\"".to_owned()),
            uuid: Some("56 4d 11 bf 3a b4 e1 66-c6 c6 56 64 46 7a 42 c7".to_owned()),
            hypervisor: Hypervisor::Vmware,
            arch: Some("x86_64".to_owned()),
            graphics: true,
            memory_kib: Some(2 * 1024 * 1024),
            vcpus: Some(2),
            ..Guest::default()
        }
    );
    assert_eq!(config.warnings, []);
    // Both of the UHCI's ports are in use, so that the stick, of which no speed is known, goes behind its hub.
    assert_snapshot!(listed(&hardware_of(WORKSTATION)), @"
    0 piix4-uhci 2
    0:1 mouse
    0:2 hub:ports=7
    0:2.1 host:0781:5581
    1 ehci 6
    2 qemu-xhci 4
    2:1 mouse
    2:4 hub:ports=7
    ");
}

#[test]
fn each_thing_has_its_place_and_its_remarks() {
    let config = read(WORKSTATION);
    let text = |span: &std::ops::Range<usize>| &WORKSTATION[span.clone()];
    assert_eq!(text(&config.controllers[1].span), "ehci.present = \"TRUE\"");
    assert_eq!(text(&config.controllers[1].fields[&Field::Model]), "TRUE");
    let hub = &config.devices[3];
    assert_eq!(text(&hub.span), "usb_xhci:7.present = \"TRUE\"");
    assert_eq!(text(&hub.fields[&Field::Port]), "7");
    assert_eq!(hub.remarks, ["VMware makes it a high-speed hub"]);
    let stick = &config.devices[4];
    assert_eq!(text(&stick.fields[&Field::What]), "vid:0781 pid:5581 autoclean:1");
    assert_eq!(stick.remarks, ["VMware forgets it when it is pulled out"]);
}

/// A fast stick goes to the EHCI, once its speed is known.
#[test]
fn the_speed_of_a_device_decides() {
    let mut spec = read(WORKSTATION).spec;
    let stick = spec.devices.last_mut().unwrap();
    let selector = "0781:5581".parse().unwrap();
    let speeds = Some(SpeedSet::of(&[Speed::Full, Speed::High]));
    stick.kind = vusb_model::device::Kind::Host(HostRef { speeds, ..HostRef::new(selector) });
    let resolved = resolve(&Hardware::new(), &spec, &Capabilities::everything()).unwrap();
    assert_eq!(resolved.devices.last().unwrap().at, at(1, "1"));
}

/// Keys in any case, no quotes, a mark of UTF-8, Windows' line ends, none at the end.
#[test]
fn files_as_people_leave_them() {
    let text = "\u{feff}config.version = 8\r\nUSB.Present = true # on\r\n\tKeyboard.vusb.enable=\"True\"\r\n\r\n# usb_xhci.present = \"TRUE\"\r\nUSB.AUTOCONNECT.DEVICE3 = \"path:1/3/0\"";
    assert_snapshot!(listed(&hardware_of(text)), @"
    0 piix4-uhci 2
    0:1 keyboard
    0:2 host:1-4.1
    ");
}

#[test]
fn a_guest_without_usb() {
    for text in ["", "usb.present = \"FALSE\"\nusb:0.port = \"0\"\n", "usb.present = \"\"\n"] {
        assert_eq!(hardware_of(text), Hardware::new());
        assert_eq!(read(text).warnings, []);
    }
}

#[test]
fn the_architecture_is_told_from_the_system() {
    for (guest_os, arch) in
        [("windows7", "i686"), ("other5xlinux-64", "x86_64"), ("arm-ubuntu-64", "aarch64")]
    {
        let config = read(&format!("guestOS = \"{guest_os}\"\n"));
        assert_eq!(config.guest.arch(), arch);
    }
}

#[test]
fn devices_behind_hubs() {
    let text = r#"
        usb.present = "TRUE"
        usb:1.present = "TRUE"
        usb:1.deviceType = "hub"
        usb:1.port = "1"
        usb:2.present = "TRUE"
        usb:2.deviceType = "hub"
        usb:2.port = "6"
        usb:2.parent = "1"
        usb:3.present = "TRUE"
        usb:3.deviceType = "mouse"
        usb:3.port = "0"
        usb:3.parent = "2"
    "#;
    assert_snapshot!(listed(&hardware_of(text)), @"
    0 piix4-uhci 2
    0:2 hub:ports=7
    0:2.7 hub:ports=7
    0:2.7.1 mouse
    ");
    let again = Format::Vmx.write(&Guest::default(), &hardware_of(text));
    assert_eq!(again.lost, []);
    assert_eq!(digest(&hardware_of(&again.text)), digest(&hardware_of(text)));
}

/// What VMware alone has is left out, and said to be.
#[test]
fn what_is_warned_of() {
    let text = r#"usb.present = "TRUE"
ehci.present = "TRUE"
ehci:0.present = "TRUE"
ehci:0.deviceType = "video"
ehci:0.port = "0"
usb:0.present = "TRUE"
usb:0.deviceType = "hid"
usb:0.parent = "1"
usb:0.port = "1"
usb_xhci:4.present = "TRUE"
usb_xhci:4.deviceType = "hid"
usb.autoConnect.device0 = "deviceType:virtual-smartcard"
usb.autoConnect.device1 = "vid:0781 pid:5581"
usb.autoConnect.device2 = "0x781:0x5581"
"#;
    assert_snapshot!(warnings(text), @r#"
    warning: usb:0: its parent 1 is no hub; it gets any port that is free
     --> web1.vmx:8:17
      |
    8 | usb:0.parent = "1"
      |                 ^
    warning: ehci:0 is a video of VMware's, which no other hypervisor has; it is left as it is
     --> web1.vmx:3:1
      |
    3 | ehci:0.present = "TRUE"
      | ^^^^^^^^^^^^^^^^^^^^^^^
    warning: usb_xhci:4 is on a controller that is not there
      --> web1.vmx:10:1
       |
    10 | usb_xhci:4.present = "TRUE"
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: say usb_xhci.present = "TRUE" to have it
    warning: this names no USB device of the host: virtual-smartcard is a device that VMware makes up; it is left as it is
      --> web1.vmx:12:28
       |
    12 | usb.autoConnect.device0 = "deviceType:virtual-smartcard"
       |                            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    warning: this device is named before; it is connected once
      --> web1.vmx:14:28
       |
    14 | usb.autoConnect.device2 = "0x781:0x5581"
       |                            ^^^^^^^^^^^^
    "#);
    assert_snapshot!(listed(&hardware_of(text)), @"
    0 piix4-uhci 2
    0:1 mouse
    0:2 host:0781:5581
    1 ehci 6
    ");
}

#[test]
fn an_ehci_is_not_alone() {
    assert_snapshot!(warnings("ehci.present = \"TRUE\"\n"), @r#"
    warning: VMware has its EHCI beside its UHCI alone: without `usb.present` there is neither
     --> web1.vmx:1:1
      |
    1 | ehci.present = "TRUE"
      | ^^^^^^^^^^^^^^^^^^^^^
      |
      = help: say usb.present = "TRUE" too, or take this line out
    "#);
    let ehci = controller(0, Model::Ehci, 6);
    assert_snapshot!(refused("", &[Edit::AddController(&ehci)]), @"an EHCI without a UHCI: VMware has its EHCI (`ehci.present`) beside its UHCI (`usb.present`) alone: have a piix4-uhci too, or a qemu-xhci in place of both");
    let uhci = controller(1, Model::Piix4Uhci, 2);
    let both = edited("", &[Edit::AddController(&ehci), Edit::AddController(&uhci)]);
    assert_eq!(both, "ehci.present = \"TRUE\"\nusb.present = \"TRUE\"\n");
}

#[test]
fn no_change_is_no_change() {
    assert_eq!(edited(WORKSTATION, &[]), WORKSTATION);
}

#[test]
fn a_device_of_the_host_takes_a_line_that_vmware_emptied() {
    let camera = device("camera", "046d:0825");
    let new = edited(WORKSTATION, &[Edit::AddDevice(at(0, "2.2"), &camera)]);
    assert_snapshot!(changes(WORKSTATION, &new), @r#"
    -usb.autoConnect.device1 = ""
    +usb.autoConnect.device1 = "vid:046d pid:0825"
    "#);
    let port = device("rear", "1-4.1");
    let new = edited(&new, &[Edit::AddDevice(at(0, "2.3"), &port)]);
    assert!(new.contains("0825\"\nusb.autoConnect.device2 = \"path:1/3/0\"\nsound"), "{new}");
}

#[test]
fn a_device_is_taken_out() {
    // The mouse with all its lines.
    let new = edited(WORKSTATION, &[Edit::RemoveDevice(0)]);
    assert_snapshot!(changes(WORKSTATION, &new), @r#"
    -usb:0.present = "TRUE"
    -usb:0.deviceType = "hid"
    -usb:0.port = "0"
    -usb:0.parent = "-1"
    "#);
    // A line with others after it is emptied, as VMware does it.
    let new = edited(WORKSTATION, &[Edit::RemoveDevice(4)]);
    assert_snapshot!(changes(WORKSTATION, &new), @r#"
    -usb.autoConnect.device0 = "vid:0781 pid:5581 autoclean:1"
    +usb.autoConnect.device0 = ""
    "#);
    let last = "usb.present = \"TRUE\"\nusb.autoConnect.device0 = \"vid:0781 pid:5581\"\n";
    assert_eq!(edited(last, &[Edit::RemoveDevice(0)]), "usb.present = \"TRUE\"\n");
}

#[test]
fn controllers_come_and_go() {
    let new = edited(WORKSTATION, &[Edit::RemoveController(1)]);
    assert_snapshot!(changes(WORKSTATION, &new), @r#"
    -ehci.present = "TRUE"
    +ehci.present = "FALSE"
    "#);
    let ehci = controller(2, Model::Ehci, 6);
    assert_eq!(edited(&new, &[Edit::AddController(&ehci)]), WORKSTATION);
    let none = edited(WORKSTATION, &[Edit::NoUsb]);
    assert_eq!(hardware_of(&none), Hardware::new());
}

/// New lines look like their neighbours: indent, blanks, line ends, TRUE or true; and the last line stays without an end.
#[test]
fn new_lines_look_like_their_neighbours() {
    let text = "a = \"b\"\r\n  usb.present=\"true\"\r\nc = \"d\"";
    let (mouse, keyboard) = (device("m", "mouse"), device("k", "keyboard"));
    let new = edited(
        text,
        &[Edit::AddDevice(at(0, "2"), &mouse), Edit::AddDevice(at(0, "1"), &keyboard)],
    );
    assert_eq!(
        new,
        "a = \"b\"\r\n  usb.present=\"true\"\r\n  usb:1.present=\"true\"\r\n  usb:1.deviceType=\"hid\"\r\n  usb:1.port=\"1\"\r\n  \
         usb:1.parent=\"-1\"\r\n  keyboard.vusb.enable=\"true\"\r\nc = \"d\""
    );
    let xhci = controller(0, Model::QemuXhci, 4);
    assert_eq!(
        edited("a = b", &[Edit::AddController(&xhci)]),
        "a = b\nusb_xhci.present = \"TRUE\""
    );
}

#[test]
fn an_item_is_moved() {
    let hub = device("hub1", "hub:ports=7");
    let text = "usb_xhci.present = \"TRUE\"\nusb_xhci:4.present = \"TRUE\"\nusb_xhci:4.deviceType = \"hid\"\n";
    let new = edited(text, &[Edit::AddDevice(at(0, "3"), &hub), Edit::PinDevice(0, at(0, "3.7"))]);
    assert_eq!(
        new,
        format!(
            "{text}usb_xhci:6.present = \"TRUE\"\nusb_xhci:6.deviceType = \"hub\"\nusb_xhci:6.speed = \"2\"\nusb_xhci:6.port = \"6\"\nusb_xhci:6.parent = \"-1\"\n\
             usb_xhci:4.port = \"6\"\nusb_xhci:4.parent = \"6\"\n"
        )
    );
    assert_eq!(hardware_of(&new).device(at(0, "3.7")).unwrap().kind.word(), "mouse");
}

#[test]
fn what_vmx_cannot_say() {
    let add = |kind: &str, port: &str| {
        refused(WORKSTATION, &[Edit::AddDevice(at(2, port), &device("x", kind))])
    };
    assert_snapshot!(add("0781:5583", "4.7"), @"port 4.7 for host:0781:5583: VMX has no ports for keyboards and devices of the host: VMware chooses one, and here they get the lowest that is free");
    assert_snapshot!(add("0781:5583:4C53", "2"), @"host:0781:5583:4C53 (x): VMware does not look at serial numbers; name it by vendor and product, or by its port");
    assert_snapshot!(add("storage:a.img", "2"), @"storage:a.img (x): VMware makes no such device: on USB it has mice, keyboards, hubs and devices of the host");
    assert_snapshot!(add("tablet", "2"), @"tablet (x): VMware's pointer on USB is a mouse (`mouse`)");
    assert_snapshot!(add("hub", "2"), @"hub (x): VMware's hubs have 7 ports (`hub:ports=7`)");
    let pin = Edit::PinDevice(4, at(2, "2"));
    assert_snapshot!(refused(WORKSTATION, &[pin]), @"port 2 for host:0781:5581: VMX has no ports for keyboards and devices of the host: VMware chooses one, and here they get the lowest that is free");

    let controller = |it: Controller| refused("", &[Edit::AddController(&it)]);
    assert_snapshot!(controller(controller_with_companions()), @"hci0, an ich9-ehci1 and companions with 6 ports at index 0: VMware has no such controller; for USB 2 there is an ehci beside a piix4-uhci (`--model ehci`)");
    assert_snapshot!(controller(self::controller(0, Model::QemuXhci, 15)), @"the 15 ports of hci0 (qemu-xhci): VMware's has 4, and nothing in VMX changes that (`--model qemu-xhci --ports 4`)");
    let second = self::controller(3, Model::QemuXhci, 4);
    assert_snapshot!(refused(WORKSTATION, &[Edit::AddController(&second)]), @"a second qemu-xhci (hci3): VMware has one controller of each sort at the most");
}

fn controller_with_companions() -> Controller {
    let mut group = controller(0, Model::Ich9Ehci1, 6);
    group.companions = Companion::GROUP.to_vec();
    group
}

/// A camera of VMware's is not known here, and keeps its port.
#[test]
fn a_port_that_is_held() {
    let text = "usb_xhci.present = \"TRUE\"\nusb_xhci:4.present = \"TRUE\"\nusb_xhci:4.deviceType = \"video\"\nusb_xhci:4.port = \"4\"\n";
    let mouse = device("m", "mouse");
    assert_snapshot!(refused(text, &[Edit::AddDevice(at(0, "1"), &mouse)]), @"a device on port 1: a device that VMware alone has is there");
}

#[test]
fn a_whole_file() {
    let mut hardware = Hardware::new();
    hardware.add_controller(controller(0, Model::Piix4Uhci, 2)).unwrap();
    hardware.add_controller(controller(1, Model::QemuXhci, 4)).unwrap();
    hardware.plug(at(0, "1"), device("stick", "0781:5581")).unwrap();
    hardware.plug(at(1, "2"), device("hub0", "hub:ports=7")).unwrap();
    hardware.plug(at(1, "2.7"), device("mouse0", "mouse")).unwrap();
    let guest = Guest {
        name: Some("a|b".to_owned()),
        uuid: Some("564d11bf-3ab4-e166-c6c6-5664467a42c7".to_owned()),
        memory_kib: Some(1_048_577),
        vcpus: Some(4),
        ..Guest::default()
    };
    let written = Format::Vmx.write(&guest, &hardware);
    assert_eq!(written.lost, []);
    assert_snapshot!(written.text, @r#"
    .encoding = "UTF-8"
    config.version = "8"
    virtualHW.version = "11"
    displayName = "a|7Cb"
    guestOS = "other-64"
    memsize = "1025"
    numvcpus = "4"
    uuid.bios = "56 4d 11 bf 3a b4 e1 66-c6 c6 56 64 46 7a 42 c7"
    pciBridge0.present = "TRUE"
    pciBridge4.present = "TRUE"
    pciBridge4.virtualDev = "pcieRootPort"
    pciBridge4.functions = "8"
    usb.present = "TRUE"
    usb_xhci.present = "TRUE"
    usb.autoConnect.device0 = "vid:0781 pid:5581"
    usb_xhci:5.present = "TRUE"
    usb_xhci:5.deviceType = "hub"
    usb_xhci:5.speed = "2"
    usb_xhci:5.port = "5"
    usb_xhci:5.parent = "-1"
    usb_xhci:6.present = "TRUE"
    usb_xhci:6.deviceType = "hid"
    usb_xhci:6.port = "6"
    usb_xhci:6.parent = "5"
    "#);
    assert_eq!(digest(&hardware_of(&written.text)), digest(&hardware));
}

/// A controller does not bring to life what the text had said in vain.
#[test]
fn what_would_come_with_a_controller() {
    let text = "ehci.present = \"TRUE\"\nusb_xhci:4.present = \"TRUE\"\nusb_xhci:4.deviceType = \"hid\"\n\
                usb.autoConnect.device0 = \"vid:0781 pid:5581\"\n";
    let uhci = controller(0, Model::Piix4Uhci, 2);
    assert_snapshot!(refused(text, &[Edit::AddController(&uhci)]), @r#"this change: what the text says in vain so far would come with it: ehci.present = "TRUE", usb.autoConnect.device0 = "vid:0781 pid:5581"; take that out first"#);
    let xhci = controller(0, Model::QemuXhci, 4);
    assert_snapshot!(refused(text, &[Edit::AddController(&xhci)]), @r#"this change: what the text says in vain so far would come with it: usb_xhci:4.present = "TRUE", usb.autoConnect.device0 = "vid:0781 pid:5581"; take that out first"#);
}

/// Who takes out a device that is named twice learns of the second line, rather than keep the device.
#[test]
fn a_device_that_is_named_twice() {
    let text = "usb.present = TRUE\nusb.autoConnect.device0 = 0x781:0x5581\nusb.autoConnect.device1 = 0x781:0x5581\n";
    assert_snapshot!(refused(text, &[Edit::RemoveDevice(0)]), @"this change: what the text says in vain so far would come with it: usb.autoConnect.device1 = 0x781:0x5581; take that out first");
}

/// Several changes at once, each on top of the one before.
#[test]
fn changes_at_once() {
    let (uhci, mouse) = (controller(0, Model::Piix4Uhci, 2), device("m", "mouse"));
    let all = [
        Edit::RemoveDevice(0),
        Edit::AddDevice(at(0, "1"), &mouse),
        Edit::RemoveDevice(4),
        Edit::AddDevice(at(0, "2.1"), &device("stick", "0781:5581")),
    ];
    let new = edited(WORKSTATION, &all);
    assert_eq!(digest(&hardware_of(&new)), digest(&hardware_of(WORKSTATION)));
    assert_eq!(edited("", &[Edit::AddController(&uhci), Edit::NoUsb]), "usb.present = \"FALSE\"\n");
}

/// An EHCI without a UHCI does not take the rest with it.
#[test]
fn an_ehci_alone_is_lost_alone() {
    let mut hardware = Hardware::new();
    hardware.add_controller(controller(0, Model::Ehci, 6)).unwrap();
    hardware.add_controller(controller(1, Model::QemuXhci, 4)).unwrap();
    let written = Format::Vmx.write(&Guest::default(), &hardware);
    assert_eq!(written.lost.len(), 1);
    assert_eq!(listed(&hardware_of(&written.text)), "0 qemu-xhci 4");
}

/// What is lost is named, and all else is written.
#[test]
fn what_is_lost() {
    let mut hardware = Hardware::new();
    hardware.add_controller(controller_with_companions()).unwrap();
    hardware.add_controller(controller(1, Model::QemuXhci, 4)).unwrap();
    hardware.plug(at(0, "1"), device("mouse0", "mouse")).unwrap();
    hardware.plug(at(1, "1"), device("disk", "storage:a.img")).unwrap();
    hardware.plug(at(1, "3"), device("stick", "0781:5581")).unwrap();
    let guest = Guest { arch: Some("ppc64".to_owned()), ..Guest::default() };
    let written = Format::Vmx.write(&guest, &hardware);
    let lost: Vec<String> =
        written.lost.iter().map(|it| format!("{}: {}", it.what, it.why)).collect();
    assert_snapshot!(lost.join("\n"), @"
    the architecture ppc64: VMware runs x86_64, i686 and aarch64; this says x86_64
    hci0, an ich9-ehci1 and companions with 6 ports at index 0: VMware has no such controller; for USB 2 there is an ehci beside a piix4-uhci (`--model ehci`)
    mouse (mouse0): its controller is none that VMX can say
    storage:a.img (disk): VMware makes no such device: on USB it has mice, keyboards, hubs and devices of the host
    the port of host:0781:5581, hci1:3: VMX has no ports for keyboards and devices of the host; read back it would be at hci0:1
    ");
    assert_snapshot!(listed(&hardware_of(&written.text)), @"
    0 qemu-xhci 4
    0:1 host:0781:5581
    ");
}
