//! Examples of reading, editing and writing VMX files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use insta::assert_snapshot;
use vusb_formats::config::{Config, Edit, Field, Inexpressible};
use vusb_formats::{ConfigFormat as _, Vmx};
use vusb_model::address::{Address, Index};
use vusb_model::capabilities::Capabilities;
use vusb_model::device::{HostRef, Kind};
use vusb_model::digest::digest;
use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Companion, Model, RootPorts};
use vusb_model::resolve::resolve;
use vusb_model::speed::{Speed, SpeedSet};

/// A new VMware Workstation guest, with a few additions.
const WORKSTATION: &str = include_str!("fixtures/workstation.vmx");

fn read(text: &str) -> Config {
    Vmx.read(text, "web1.vmx").unwrap_or_else(|error| panic!("{error}"))
}

fn warnings(text: &str) -> String {
    let all: Vec<String> = read(text).warnings.iter().map(ToString::to_string).collect();
    all.join("\n")
}

fn hardware_of(text: &str) -> Hardware {
    let resolved = resolve(&Hardware::new(), &read(text).spec, &Capabilities::everything());
    resolved.unwrap_or_else(|refused| panic!("{refused}\n{text}")).hardware
}

/// One line for each controller and each device.
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
    Vmx.edit(text, edits).unwrap_or_else(|lost| panic!("{lost:?}"))
}

fn refused(text: &str, edits: &[Edit<'_>]) -> String {
    let Inexpressible { what, why } = Vmx.edit(text, edits).unwrap_err();
    format!("{what}: {why}")
}

/// The lines that only one text has: `-` for the old one, `+` for the new one.
fn changes(old: &str, new: &str) -> String {
    let only = |a: &str, b: &str, sign: char| -> Vec<String> {
        let other: Vec<&str> = b.lines().collect();
        a.lines().filter(|line| !other.contains(line)).map(|line| format!("{sign}{line}")).collect()
    };
    [only(old, new, '-'), only(new, old, '+')].concat().join("\n")
}

fn index(number: u16) -> Index {
    Index::new(number).unwrap()
}

fn at(bus: u16, port: &str) -> Address {
    Address { bus: index(bus), port: port.parse().unwrap() }
}

/// A device with the name that it gets by default.
fn unnamed(kind: &str) -> Device {
    let kind: Kind = kind.parse().unwrap();
    Device { name: format!("{}0", kind.name()).parse().unwrap(), kind }
}

fn device(name: &str, kind: &str) -> Device {
    Device { name: name.parse().unwrap(), kind: kind.parse().unwrap() }
}

fn controller(number: u16, model: Model, ports: u8) -> Controller {
    let name = format!("hci{number}").parse().unwrap();
    Controller::new(
        index(number),
        name,
        model,
        RootPorts::uniform(model, ports.try_into().unwrap()),
    )
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
    // Both ports of the UHCI are in use, so the stick, whose speed is unknown, is placed behind its
    // hub.
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
fn items_have_a_source_and_remarks() {
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
    assert_eq!(stick.remarks, ["VMware removes it from the file when it is unplugged"]);
}

/// A fast stick is placed on the EHCI if its speed is known.
#[test]
fn the_placement_depends_on_the_speed() {
    let mut spec = read(WORKSTATION).spec;
    let stick = spec.devices.last_mut().unwrap();
    let selector = "0781:5581".parse().unwrap();
    let speeds = Some(SpeedSet::of(&[Speed::Full, Speed::High]));
    stick.kind = vusb_model::device::Kind::Host(HostRef { speeds, ..HostRef::new(selector) });
    let resolved = resolve(&Hardware::new(), &spec, &Capabilities::everything()).unwrap();
    assert_eq!(resolved.devices.last().unwrap().address, at(1, "1"));
}

/// Keys in any case, no quotes, a byte order mark, Windows line endings, and no newline at the end.
#[test]
fn untidy_files() {
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
fn the_architecture_follows_from_the_guest_system() {
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
    let again = Vmx.write(&Guest::default(), &hardware_of(text));
    assert_eq!(again.lost, []);
    assert_eq!(digest(&hardware_of(&again.text)), digest(&hardware_of(text)));
}

/// What only VMware has is skipped, with a warning.
#[test]
fn warnings_about_what_only_vmware_has() {
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
    warning: usb:0: its parent 1 is not a hub; it is placed on any free port
     --> web1.vmx:8:17
      |
    8 | usb:0.parent = "1"
      |                 ^
    warning: ehci:0 is a VMware video, which no other hypervisor has; it is left unchanged
     --> web1.vmx:3:1
      |
    3 | ehci:0.present = "TRUE"
      | ^^^^^^^^^^^^^^^^^^^^^^^
    warning: usb_xhci:4 is on a controller that does not exist
      --> web1.vmx:10:1
       |
    10 | usb_xhci:4.present = "TRUE"
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: set usb_xhci.present = "TRUE" to add it
    warning: this does not select a USB device of the host: virtual-smartcard is a device that VMware emulates; it is left unchanged
      --> web1.vmx:12:28
       |
    12 | usb.autoConnect.device0 = "deviceType:virtual-smartcard"
       |                            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    warning: this device is selected by an earlier line; it is attached only once
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
fn an_ehci_needs_a_uhci() {
    assert_snapshot!(warnings("ehci.present = \"TRUE\"\n"), @r#"
    warning: VMware's EHCI only exists together with its UHCI: without `usb.present` there is neither
     --> web1.vmx:1:1
      |
    1 | ehci.present = "TRUE"
      | ^^^^^^^^^^^^^^^^^^^^^
      |
      = help: set usb.present = "TRUE" too, or remove this line
    "#);
    let ehci = controller(0, Model::Ehci, 6);
    assert_snapshot!(refused("", &[Edit::AddController(&ehci)]), @"an EHCI without a UHCI: VMware's EHCI (ehci.present) only exists together with its UHCI (usb.present): add a piix4-uhci, or use a qemu-xhci instead of both");
    let uhci = controller(1, Model::Piix4Uhci, 2);
    let both = edited("", &[Edit::AddController(&ehci), Edit::AddController(&uhci)]);
    assert_eq!(both, "ehci.present = \"TRUE\"\nusb.present = \"TRUE\"\n");
}

#[test]
fn no_edits_change_nothing() {
    assert_eq!(edited(WORKSTATION, &[]), WORKSTATION);
}

#[test]
fn a_host_device_reuses_a_line_that_vmware_emptied() {
    let camera = unnamed("046d:0825");
    let new = edited(WORKSTATION, &[Edit::AddDevice(at(0, "2.2"), &camera)]);
    assert_snapshot!(changes(WORKSTATION, &new), @r#"
    -usb.autoConnect.device1 = ""
    +usb.autoConnect.device1 = "vid:046d pid:0825"
    "#);
    let port = unnamed("1-4.1");
    let new = edited(&new, &[Edit::AddDevice(at(0, "2.3"), &port)]);
    assert!(new.contains("0825\"\nusb.autoConnect.device2 = \"path:1/3/0\"\nsound"), "{new}");
}

#[test]
fn removing_a_device() {
    // The mouse is removed with all its lines.
    let new = edited(WORKSTATION, &[Edit::RemoveDevice(0)]);
    assert_snapshot!(changes(WORKSTATION, &new), @r#"
    -usb:0.present = "TRUE"
    -usb:0.deviceType = "hid"
    -usb:0.port = "0"
    -usb:0.parent = "-1"
    "#);
    // A line that has others after it is emptied, as VMware does it.
    let new = edited(WORKSTATION, &[Edit::RemoveDevice(4)]);
    assert_snapshot!(changes(WORKSTATION, &new), @r#"
    -usb.autoConnect.device0 = "vid:0781 pid:5581 autoclean:1"
    +usb.autoConnect.device0 = ""
    "#);
    let last = "usb.present = \"TRUE\"\nusb.autoConnect.device0 = \"vid:0781 pid:5581\"\n";
    assert_eq!(edited(last, &[Edit::RemoveDevice(0)]), "usb.present = \"TRUE\"\n");
}

/// VMware numbers the lines of host devices without a gap.
#[test]
fn a_host_device_replaces_another_in_one_edit_without_a_gap() {
    let last = "usb.present = \"TRUE\"\nusb.autoConnect.device0 = \"vid:0781 pid:5581\"\n";
    let camera = unnamed("046d:0825");
    let add = |port: &str| Edit::AddDevice(at(0, port), &camera);
    let expected = "usb.present = \"TRUE\"\nusb.autoConnect.device0 = \"vid:046d pid:0825\"\n";
    assert_eq!(edited(last, &[Edit::RemoveDevice(0), add("1")]), expected);
    let new = edited(last, &[add("2"), Edit::RemoveDevice(0)]);
    assert!(new.contains("device0 = \"\"\nusb.autoConnect.device1"), "{new}");
}

#[test]
fn adding_and_removing_controllers() {
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

/// New lines follow the style of their neighbours: indentation, blanks, line endings, TRUE or true.
/// A last line without a newline stays without one.
#[test]
fn new_lines_follow_the_style_of_their_neighbours() {
    let text = "a = \"b\"\r\n  usb.present=\"true\"\r\nc = \"d\"";
    let (mouse, keyboard) = (unnamed("mouse"), unnamed("keyboard"));
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
fn moving_an_item() {
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
    assert_eq!(hardware_of(&new).device(at(0, "3.7")).unwrap().kind.name(), "mouse");
}

#[test]
fn chosen_names_are_refused() {
    let mut fast = controller(0, Model::QemuXhci, 4);
    fast.name = "fast".parse().unwrap();
    let refusals = [
        refused("a = b", &[Edit::AddController(&fast)]),
        refused(WORKSTATION, &[Edit::AddDevice(at(0, "2"), &device("pen", "mouse"))]),
    ];
    assert_eq!(
        refusals,
        ["fast", "pen"].map(|it| format!("the name {it}: VMware has no names; leave it out"))
    );
}

#[test]
fn hardware_that_vmx_cannot_express() {
    let add = |kind: &str, port: &str| {
        refused(WORKSTATION, &[Edit::AddDevice(at(2, port), &unnamed(kind))])
    };
    assert_snapshot!(add("0781:5583", "4.7"), @"port 4.7 for host:0781:5583: VMX cannot specify the port of a keyboard or a host device: VMware chooses one, and vusb assumes the lowest free one");
    assert_snapshot!(add("0781:5583:4C53", "2"), @"host:0781:5583:4C53 (host0): VMware does not match serial numbers; select the device by vendor and product, or by its port");
    assert_snapshot!(add("storage:a.img", "2"), @"storage:a.img (storage0): VMware has no such device: its USB devices are mice, keyboards, hubs and host devices");
    assert_snapshot!(add("tablet", "2"), @"tablet (tablet0): VMware's USB pointing device is a mouse; use that");
    assert_snapshot!(add("hub", "2"), @"hub (hub0): VMware's hubs have 7 ports (hub:ports=7)");
    let pin = Edit::PinDevice(4, at(2, "2"));
    assert_snapshot!(refused(WORKSTATION, &[pin]), @"port 2 for host:0781:5581: VMX cannot specify the port of a keyboard or a host device: VMware chooses one, and vusb assumes the lowest free one");

    let controller = |it: Controller| refused("", &[Edit::AddController(&it)]);
    assert_snapshot!(controller(controller_with_companions()), @"hci0, an ich9-ehci1 and companions with 6 ports at index 0: VMware has no such controller; for USB 2 it has an ehci together with a piix4-uhci");
    assert_snapshot!(controller(self::controller(0, Model::QemuXhci, 15)), @"the 15 ports of hci0 (qemu-xhci): VMware's has 4, and VMX cannot change that");
    let second = self::controller(3, Model::QemuXhci, 4);
    assert_snapshot!(refused(WORKSTATION, &[Edit::AddController(&second)]), @"a second qemu-xhci (hci3): VMware has at most one controller of each type");
}

fn controller_with_companions() -> Controller {
    let mut group = controller(0, Model::Ich9Ehci1, 6);
    group.companions = Companion::GROUP.to_vec();
    group
}

/// The model has no equivalent of VMware's camera, and its port stays in use.
#[test]
fn a_port_in_use_by_an_unknown_device() {
    let text = "usb_xhci.present = \"TRUE\"\nusb_xhci:4.present = \"TRUE\"\nusb_xhci:4.deviceType = \"video\"\nusb_xhci:4.port = \"4\"\n";
    let mouse = unnamed("mouse");
    assert_snapshot!(refused(text, &[Edit::AddDevice(at(0, "1"), &mouse)]), @"a device on port 1: the port is in use by a device that only VMware has");
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
    let generated = Vmx.write(&guest, &hardware);
    assert_eq!(generated.lost, []);
    assert_snapshot!(generated.text, @r#"
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
    assert_eq!(digest(&hardware_of(&generated.text)), digest(&hardware));
}

/// Adding a controller must not enable settings that had no effect before.
#[test]
fn a_controller_enables_nothing_else() {
    let text = "ehci.present = \"TRUE\"\nusb_xhci:4.present = \"TRUE\"\nusb_xhci:4.deviceType = \"hid\"\n\
                usb.autoConnect.device0 = \"vid:0781 pid:5581\"\n";
    let uhci = controller(0, Model::Piix4Uhci, 2);
    assert_snapshot!(refused(text, &[Edit::AddController(&uhci)]), @r#"this edit: it would enable something that has no effect now: ehci.present = "TRUE", usb.autoConnect.device0 = "vid:0781 pid:5581"; remove that first"#);
    let xhci = controller(0, Model::QemuXhci, 4);
    assert_snapshot!(refused(text, &[Edit::AddController(&xhci)]), @r#"this edit: it would enable something that has no effect now: usb_xhci:4.present = "TRUE", usb.autoConnect.device0 = "vid:0781 pid:5581"; remove that first"#);
}

/// Removing a device that two lines select is refused, because the second line would keep it.
#[test]
fn a_device_that_two_lines_select() {
    let text = "usb.present = TRUE\nusb.autoConnect.device0 = 0x781:0x5581\nusb.autoConnect.device1 = 0x781:0x5581\n";
    assert_snapshot!(refused(text, &[Edit::RemoveDevice(0)]), @"this edit: it would enable something that has no effect now: usb.autoConnect.device1 = 0x781:0x5581; remove that first");
}

/// Several edits at once, each based on the one before.
#[test]
fn several_edits_at_once() {
    let uhci = controller(0, Model::Piix4Uhci, 2);
    let (mouse, stick) = (unnamed("mouse"), unnamed("0781:5581"));
    let all = [
        Edit::RemoveDevice(0),
        Edit::AddDevice(at(0, "1"), &mouse),
        Edit::RemoveDevice(4),
        Edit::AddDevice(at(0, "2.1"), &stick),
    ];
    let new = edited(WORKSTATION, &all);
    assert_eq!(digest(&hardware_of(&new)), digest(&hardware_of(WORKSTATION)));
    assert_eq!(edited("", &[Edit::AddController(&uhci), Edit::NoUsb]), "usb.present = \"FALSE\"\n");
}

/// If an EHCI without a UHCI is lost, nothing else is.
#[test]
fn an_ehci_without_a_uhci_is_lost() {
    let mut hardware = Hardware::new();
    hardware.add_controller(controller(0, Model::Ehci, 6)).unwrap();
    hardware.add_controller(controller(1, Model::QemuXhci, 4)).unwrap();
    let generated = Vmx.write(&Guest::default(), &hardware);
    assert_eq!(generated.lost.len(), 1);
    assert_eq!(listed(&hardware_of(&generated.text)), "0 qemu-xhci 4");
}

/// What is lost is reported, and everything else is generated.
#[test]
fn lost_hardware() {
    let mut hardware = Hardware::new();
    hardware.add_controller(controller_with_companions()).unwrap();
    hardware.add_controller(controller(1, Model::QemuXhci, 4)).unwrap();
    hardware.plug(at(0, "1"), device("mouse0", "mouse")).unwrap();
    hardware.plug(at(1, "1"), device("disk", "storage:a.img")).unwrap();
    hardware.plug(at(1, "3"), device("stick", "0781:5581")).unwrap();
    let guest = Guest { arch: Some("ppc64".to_owned()), ..Guest::default() };
    let generated = Vmx.write(&guest, &hardware);
    let lost: Vec<String> =
        generated.lost.iter().map(|it| format!("{}: {}", it.what, it.why)).collect();
    assert_snapshot!(lost.join("\n"), @"
    the architecture ppc64: VMware runs x86_64, i686 and aarch64; the text contains x86_64
    hci0, an ich9-ehci1 and companions with 6 ports at index 0: VMware has no such controller; for USB 2 it has an ehci together with a piix4-uhci
    mouse (mouse0): VMX cannot express its controller
    storage:a.img (disk): VMware has no such device: its USB devices are mice, keyboards, hubs and host devices
    the port of host:0781:5581, hci1:3: VMX cannot specify the port of a keyboard or a host device; read back, it would be at hci0:1
    ");
    assert_snapshot!(listed(&hardware_of(&generated.text)), @"
    0 qemu-xhci 4
    0:1 host:0781:5581
    ");
}
