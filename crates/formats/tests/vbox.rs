//! VirtualBox's machine settings: what is read, and edits that lose nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::num::NonZeroU8;

use vusb_formats::config::{Config, Edit, Generated, Inexpressible};
use vusb_formats::{ConfigFormat as _, HeldBy, HostNaming, Vbox};
use vusb_model::address::{Address, Index};
use vusb_model::device::Kind;
use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Model, RootPorts};
use vusb_model::profile::Profile;
use vusb_model::resolve::resolve;

const MODERN: &str = include_str!("fixtures/modern.vbox");
const OLD: &str = include_str!("fixtures/old.vbox");

fn read(text: &str) -> Config {
    Vbox.read(text, "web1.vbox").unwrap_or_else(|error| panic!("{error}"))
}

fn hardware(text: &str) -> Hardware {
    let config = read(text);
    resolve(&Hardware::new(), &config.spec, &Vbox.capabilities(&config.guest)).unwrap().hardware
}

/// The hardware of a text, a line for each controller and device.
fn shown(text: &str) -> Vec<String> {
    let hardware = hardware(text);
    let mut lines = Vec::new();
    for controller in hardware.controllers() {
        let (usb2, usb3) = (controller.ports.usb2(), controller.ports.usb3());
        lines.push(format!("{} {} {usb2}+{usb3}", controller.name, controller.model));
        lines.extend(controller.devices().map(|(port, device)| format!("{port} {}", device.kind)));
    }
    lines
}

fn warnings(text: &str) -> Vec<String> {
    read(text).warnings.iter().map(|it| it.brief().to_owned()).collect()
}

fn error(text: &str) -> String {
    Vbox.read(text, "web1.vbox").unwrap_err().to_string()
}

fn controller(index: u16, model: Model) -> Controller {
    let ports = model.virtualbox_ports().unwrap();
    Controller::new(
        Index::new(index).unwrap(),
        format!("hci{index}").parse().unwrap(),
        model,
        ports,
    )
}

fn device(kind: &str) -> Device {
    let kind: Kind = kind.parse().unwrap();
    Device { name: format!("{}9", kind.name()).parse().unwrap(), kind }
}

fn at(bus: u16, port: &str) -> Address {
    Address { bus: Index::new(bus).unwrap(), port: port.parse().unwrap() }
}

fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
    Vbox.edit(text, edits)
}

fn refused(text: &str, edits: &[Edit<'_>]) -> String {
    let Inexpressible { what, why } = edit(text, edits).unwrap_err();
    format!("{what}: {why}")
}

/// A machine with this hardware, in the style of VirtualBox.
fn machine(hardware: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<VirtualBox xmlns=\"http://www.virtualbox.org/\" version=\"1.19-linux\">\n  \
         <Machine uuid=\"{{2a1b5b0e-3c6f-4c1d-9a55-0d7c7a0c2f11}}\" name=\"web1\" OSType=\"Other\">\n    <Hardware>\n      \
         <Memory RAMSize=\"64\"/>\n{hardware}    </Hardware>\n  </Machine>\n</VirtualBox>\n"
    )
}

#[test]
fn a_modern_file_is_read() {
    let config = read(MODERN);
    assert_eq!(config.spec.profile, Profile::Vbox);
    assert_eq!(config.spec.domain.unwrap().to_string(), "web1");
    let Guest { name, uuid, hypervisor, arch, memory_kib, vcpus, .. } = config.guest;
    assert_eq!(name.as_deref(), Some("web1"));
    assert_eq!(uuid.as_deref(), Some("2a1b5b0e-3c6f-4c1d-9a55-0d7c7a0c2f11"));
    assert_eq!((hypervisor, arch.as_deref()), (Hypervisor::VirtualBox, Some("x86_64")));
    assert_eq!((memory_kib, vcpus), (Some(2048 * 1024), Some(2)));
    assert_eq!(
        shown(MODERN),
        [
            "hci0 pci-ohci 12+0",
            "1 tablet",
            "2 host:0781:5530:2005224340054CF32B4D",
            "3 host:10c4:ea60",
            "hci1 ehci 12+0",
        ]
    );
    let remarks = &config.devices[1].remarks;
    assert_eq!(
        remarks,
        &["only with revision 0126", "only with manufacturer SanDisk", "only with product Cruzer"]
    );
    assert_eq!(
        warnings(MODERN),
        [
            "web1.vbox:52:11: the filter `camera` is not a device of the guest: it is not active; it is left unchanged"
        ]
    );
}

#[test]
fn an_old_file_is_read() {
    assert_eq!(shown(OLD), ["hci0 pci-ohci 12+0", "1 host:096e:0006"]);
    let config = read(OLD);
    assert_eq!((config.guest.arch.as_deref(), config.spec.domain), (Some("i686"), None));
    // VirtualBox reads both attributes into one variable.
    let missing = OLD.replace(" enabledEhci=\"false\"", "");
    assert_eq!(shown(&missing)[..2], ["hci0 pci-ohci 12+0", "1 host:096e:0006"]);
    assert_eq!(shown(&missing)[2..], ["hci1 ehci 12+0"]);
}

#[test]
fn input_devices_are_those_that_virtualbox_makes_usb_devices() {
    let usb = "      <USB>\n        <Controllers>\n          <Controller name=\"xHCI\" type=\"XHCI\"/>\n        </Controllers>\n      </USB>\n";
    let devices = |hid: &str| shown(&machine(&format!("      {hid}\n{usb}")))[1..].to_vec();
    assert_eq!(devices("<HID Pointing=\"USBMouse\"/>"), ["1 mouse"]);
    let both = "<HID Pointing=\"USBTablet\" Keyboard=\"USBKeyboard\"/>";
    assert_eq!(devices(both), ["1 tablet", "2 keyboard"]);
    let combo = "<HID Pointing=\"ComboMouse\" Keyboard=\"ComboKeyboard\"/>";
    assert_eq!(devices(combo), [""; 0]);
    let touch = machine(&format!("      <HID Pointing=\"USBMultiTouch\"/>\n{usb}"));
    assert_eq!(read(&touch).devices[0].settings, ["the touch screen beside the tablet"]);
}

#[test]
fn filters_that_are_no_devices_stay_with_a_warning() {
    let text = |filter: &str| {
        machine(&format!(
            "      <USB>\n        <Controllers>\n          <Controller name=\"OHCI\" type=\"OHCI\"/>\n        </Controllers>\n        \
             <DeviceFilters>\n          <DeviceFilter {filter}/>\n        </DeviceFilters>\n      </USB>\n"
        ))
    };
    for (filter, why) in [
        ("name='a' active='false' vendorId='0781' productId='5581'", "it is not active"),
        ("active='true' vendorId='0781' productId='5581'", "it has no name"),
        ("name='a' active='true' remote='1' vendorId='0781' productId='5581'", "remote desktop"),
        ("name='a' active='true' remote='yes' vendorId='0781' productId='5581'", "remote desktop"),
        ("name='a' active='true'", "neither a vendorId nor a productId"),
        ("name='a' active='true' port='3'", "neither a vendorId nor a productId"),
        (
            "name='a' active='true' vendorId='0780-0790' productId='5581'",
            "not a hexadecimal number",
        ),
        ("name='a' active='true' vendorId='10781' productId='5581'", "above FFFF"),
        ("name='a' active='true' vendorId='99999999999999999999' productId='1'", "hexadecimal"),
        ("name='a' active='true' vendorId='0781' productId='5581' serialNumber='AB*'", "wildcard"),
        ("name='a' active='true' vendorId='0781' serialNumber='AB'", "not both"),
    ] {
        let text = text(filter);
        assert_eq!(shown(&text).len(), 1, "{filter}");
        let warnings = warnings(&text);
        assert!(warnings.len() == 1 && warnings[0].contains(why), "{filter}: {warnings:?}");
    }
    for (filter, device) in [
        ("name='a' active='true' vendorId='0X781' productId='5581'", "host:0781:5581"),
        ("name='a' active='yes' vendorId='781' productId='5581' remote='0'", "host:0781:5581"),
        ("name='a' active='1' vendorId='781'", "host:vendorid=0x0781"),
    ] {
        assert_eq!(shown(&text(filter))[1..], [format!("1 {device}")], "{filter}");
    }
    let masked = text(
        "name='a' active='true' vendorId='781' productId='5581' port='2' maskedInterfaces='3'",
    );
    assert_eq!(
        read(&masked).devices[0].settings,
        ["the condition of port 2", "the masked interfaces 3"]
    );
}

#[test]
fn nothing_is_attached_without_a_controller() {
    let text = machine("      <HID Pointing=\"USBTablet\"/>\n");
    assert!(read(&text).spec.devices.is_empty());
    assert!(warnings(&text)[0].contains("the machine has no USB controller"));
    // A controller would make them devices, which was not requested.
    let ohci = controller(0, Model::PciOhci);
    let refused = refused(&text, &[Edit::AddController(&ohci)]);
    assert!(refused.contains("it would enable filters or input devices"), "{refused}");
}

#[test]
fn other_usb_devices_of_virtualbox_are_named() {
    let text = machine(
        "      <USB>\n        <Controllers>\n          <Controller name=\"xHCI\" type=\"XHCI\"/>\n        </Controllers>\n      </USB>\n      \
         <EmulatedUSB>\n        <CardReader enabled=\"true\"/>\n        <Webcam enabled=\"false\"/>\n      </EmulatedUSB>\n      \
         <StorageControllers>\n        <StorageController name=\"USB\" type=\"USB\" PortCount=\"8\"/>\n      </StorageControllers>\n",
    );
    let warnings = warnings(&text);
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].contains("this CardReader is a USB device of VirtualBox"), "{warnings:?}");
    assert!(warnings[1].contains("this StorageController is"), "{warnings:?}");
}

#[test]
fn a_controller_is_added_and_removed() {
    let xhci = controller(2, Model::QemuXhci);
    let more = edit(MODERN, &[Edit::AddController(&xhci)]).unwrap();
    let line = "          <Controller name=\"xHCI\" type=\"XHCI\"/>\n";
    let before = "          <Controller name=\"EHCI\" type=\"EHCI\"/>\n";
    assert_eq!(more, MODERN.replace(before, &format!("{before}{line}")));
    assert_eq!(edit(&more, &[Edit::RemoveController(2)]).unwrap(), MODERN);
    let less = edit(MODERN, &[Edit::RemoveController(1)]).unwrap();
    assert_eq!(less, MODERN.replace(before, ""));
}

#[test]
fn a_filter_is_added_and_removed() {
    let stick = device("0bda:8153:00E04C");
    let more = edit(MODERN, &[Edit::AddDevice(at(0, "4"), &stick)]).unwrap();
    let line = "          <DeviceFilter name=\"0bda:8153:00E04C\" active=\"true\" vendorId=\"0BDA\" productId=\"8153\" serialNumber=\"00E04C\" remote=\"0\"/>\n";
    let end = "        </DeviceFilters>\n      </USB>\n      <Network>";
    assert_eq!(more, MODERN.replace(end, &format!("{line}{end}")));
    assert_eq!(edit(&more, &[Edit::RemoveDevice(3)]).unwrap(), MODERN);
    // The comment before the removed filter stays.
    let less = edit(MODERN, &[Edit::RemoveDevice(2)]).unwrap();
    assert!(less.contains("<!-- on the front panel -->") && !less.contains("serial adapter"));
}

#[test]
fn the_first_and_the_last_item_bring_and_take_the_elements_around_them() {
    let text = machine("");
    let ohci = controller(0, Model::PciOhci);
    let keyboard = device("keyboard");
    let stick = device("0781:5581");
    let edits = [
        Edit::AddController(&ohci),
        Edit::AddDevice(at(0, "1"), &keyboard),
        Edit::AddDevice(at(0, "2"), &stick),
    ];
    let more = edit(&text, &edits).unwrap();
    let expected = machine(
        "      <HID Keyboard=\"USBKeyboard\"/>\n      <USB>\n        <Controllers>\n          \
         <Controller name=\"OHCI\" type=\"OHCI\"/>\n        </Controllers>\n        <DeviceFilters>\n          \
         <DeviceFilter name=\"0781:5581\" active=\"true\" vendorId=\"0781\" productId=\"5581\" remote=\"0\"/>\n        \
         </DeviceFilters>\n      </USB>\n",
    );
    assert_eq!(more, expected);
    let removals = [Edit::RemoveDevice(0), Edit::RemoveDevice(1), Edit::RemoveController(0)];
    assert_eq!(edit(&more, &removals).unwrap(), text);
    for windows in [text.replace('\n', "\r\n"), text.replace('\n', "").replace("  ", "")] {
        let more = edit(&windows, &edits).unwrap();
        assert_eq!(shown(&more), shown(&expected));
        assert_eq!(edit(&more, &removals).unwrap(), windows);
    }
}

#[test]
fn an_old_file_keeps_its_form() {
    let ehci = controller(1, Model::Ehci);
    let more = edit(OLD, &[Edit::AddController(&ehci)]).unwrap();
    assert_eq!(more, OLD.replace("enabledEhci=\"false\"", "enabledEhci=\"true\""));
    assert_eq!(edit(&more, &[Edit::RemoveController(1)]).unwrap(), OLD);
    let mouse = device("mouse");
    let more = edit(OLD, &[Edit::AddDevice(at(0, "2"), &mouse)]).unwrap();
    assert_eq!(more, OLD.replace("PS2Mouse", "USBMouse"));
    assert_eq!(edit(&more, &[Edit::RemoveDevice(0)]).unwrap(), OLD);
    let bare = edit(OLD, &[Edit::RemoveDevice(0)]).unwrap();
    assert!(bare.contains("<USBController enabled=\"true\" enabledEhci=\"false\"/>\n"), "{bare}");
    let stick = device("0781:5581");
    let more = edit(&bare, &[Edit::AddDevice(at(0, "1"), &stick)]).unwrap();
    assert_eq!(shown(&more), ["hci0 pci-ohci 12+0", "1 host:0781:5581"]);
    assert_eq!(edit(&more, &[Edit::RemoveDevice(0)]).unwrap(), bare);
    let xhci = controller(1, Model::QemuXhci);
    let refused = refused(OLD, &[Edit::AddController(&xhci)]);
    assert!(refused.contains("settings version 1.12 has no xHCI"), "{refused}");
}

#[test]
fn input_devices_are_written_as_the_file_has_them() {
    let usb = "      <USB>\n        <Controllers>\n          <Controller name=\"OHCI\" type=\"OHCI\"/>\n        </Controllers>\n      </USB>\n";
    for (version, hid) in [
        ("1.19", ""),
        ("1.19", "<HID Pointing=\"USBTablet\"/>"),
        ("1.19", "<HID Pointing=\"PS2Mouse\" Keyboard=\"PS2Keyboard\"/>"),
        ("1.15", ""),
        ("1.15", "<HID Pointing=\"USBTablet\" Keyboard=\"PS2Keyboard\"/>"),
        ("1.15", "<HID Pointing=\"PS2Mouse\" Keyboard=\"PS2Keyboard\"/>"),
    ] {
        let line = if hid.is_empty() { String::new() } else { format!("      {hid}\n") };
        let text = machine(&format!("{line}{usb}")).replace("1.19", version);
        let keyboard = device("keyboard");
        let more = edit(&text, &[Edit::AddDevice(at(0, "1"), &keyboard)]).unwrap();
        assert!(more.contains("Keyboard=\"USBKeyboard\"/>"), "{more}");
        let number = read(&more).spec.devices.len() - 1;
        assert_eq!(edit(&more, &[Edit::RemoveDevice(number)]).unwrap(), text, "{more}");
    }
}

#[test]
fn snapshots_stay_byte_for_byte() {
    let start = MODERN.find("<Snapshot ").unwrap();
    let end = MODERN.find("</Snapshot>").unwrap();
    let snapshot = &MODERN[start..end];
    let removals: Vec<Edit<'_>> = (0..3).map(Edit::RemoveDevice).collect();
    let bare = edit(MODERN, &[removals, vec![Edit::NoUsb]].concat()).unwrap();
    assert!(bare.contains(snapshot));
    assert!(shown(&bare).is_empty());
}

#[test]
fn a_saved_state_is_read_and_not_edited() {
    let saved = MODERN.replace(" currentState", " stateFile=\"Snapshots/a.sav\" currentState");
    assert_eq!(shown(&saved), shown(MODERN));
    assert!(warnings(&saved)[0].contains("the machine has a saved state"));
    let refused = refused(&saved, &[Edit::RemoveDevice(0)]);
    assert!(refused.starts_with("an edit of a machine with a saved state: "), "{refused}");
    assert_eq!(edit(&saved, &[]).unwrap(), saved);
    // An aborted machine has no state that the edit could contradict.
    let aborted = MODERN.replace(" currentState", " aborted=\"true\" currentState");
    assert!(edit(&aborted, &[Edit::RemoveDevice(0)]).is_ok());
}

#[test]
fn the_backup_is_named() {
    let config = Vbox.read(MODERN, "/vms/web1.vbox-prev").unwrap();
    assert!(config.warnings[0].brief().contains("the previous version of a file"));
}

#[test]
fn what_virtualbox_does_not_have_is_refused_by_name() {
    let with_4_ports = |model| {
        let ports = RootPorts::uniform(model, NonZeroU8::new(4).unwrap());
        Controller::new(Index::new(2).unwrap(), "hci2".parse().unwrap(), model, ports)
    };
    let nec = with_4_ports(Model::NecXhci);
    let no = refused(MODERN, &[Edit::AddController(&nec)]);
    assert!(no.contains("VirtualBox has no such controller; for USB 3 it has a qemu-xhci"), "{no}");
    let many = with_4_ports(Model::QemuXhci);
    let no = refused(MODERN, &[Edit::AddController(&many)]);
    assert!(no.contains("VirtualBox's has 8 USB 2 and 6 USB 3 ports"), "{no}");
    let second = controller(2, Model::Ehci);
    let no = refused(MODERN, &[Edit::AddController(&second)]);
    assert!(no.contains("at most one controller of each type"), "{no}");
    for (kind, why) in [
        ("storage:a.img", "VirtualBox's settings have no such device"),
        ("hub", "no such device"),
        ("1-4", "neither the bus nor the chain of ports"),
        ("003.014", "neither the bus nor the chain of ports"),
        ("pci-0000:00:14.0-usb-0:4", "neither the bus nor the chain of ports"),
        ("0781:5581:A*", "are wildcards"),
        ("mouse", "VirtualBox has only one pointing device"),
        ("keyboard:usbversion=2", "are USB 1 devices"),
    ] {
        let item = device(kind);
        let no = refused(MODERN, &[Edit::AddDevice(at(0, "4"), &item)]);
        assert!(no.contains(why), "{kind}: {no}");
    }
    let stick = device("0781:5581");
    for port in ["9", "1.1"] {
        let no = refused(MODERN, &[Edit::AddDevice(at(0, port), &stick)]);
        assert!(no.contains("contain no ports"), "{no}");
    }
    let named = Device { name: "stick".parse().unwrap(), ..stick };
    let no = refused(MODERN, &[Edit::AddDevice(at(0, "4"), &named)]);
    assert!(no.contains("the name stick: VirtualBox has no names"), "{no}");
    let combo = MODERN.replace("\"USBTablet\"", "\"ComboMouse\"");
    let tablet = device("tablet");
    let no = refused(&combo, &[Edit::AddDevice(at(0, "3"), &tablet)]);
    assert!(no.contains("the machine has Pointing=\"ComboMouse\"; set it to PS2Mouse"), "{no}");
}

#[test]
fn texts_that_are_no_machine_are_refused_by_name() {
    let edited = |from: &str, to: &str| error(&MODERN.replacen(from, to, 1));
    let usb = "<Controller name=\"EHCI\" type=\"EHCI\"/>\n        </Controllers>\n        <DeviceFilters>\n          <DeviceFilter name=\"San";
    let with = |kind: &str| usb.replace("type=\"EHCI\"", &format!("type=\"{kind}\""));
    for (error, what) in [
        (edited("1.19-linux", "1.23-linux"), "settings version 1.23 is newer than this vusb"),
        (edited("1.19-linux", "2.0-linux"), "settings version 2.0 is newer than this vusb"),
        (edited("1.19-linux", "1.11-linux"), "settings version 1.11 is from before VirtualBox 4.1"),
        (edited("1.19-linux", "one"), "`one` is not a settings version"),
        (edited("1.19-linux", "1.99999999999"), "is not a settings version"),
        (edited(" version=\"1.19-linux\"", ""), "the attribute `version` is missing"),
        (edited("www.virtualbox.org", "example.org"), "the root element is `VirtualBox`"),
        (edited(usb, &with("UHCI")), "`UHCI` is not a type of USB controller"),
        (edited(usb, &with("OHCI")), "a second OHCI: a machine has at most one"),
        (error(&machine("").replace("Memory", "Memories")), "no <Hardware> with <Memory>"),
        (error(&machine("").replace("Machine", "MachineEncrypted")), "the machine is encrypted"),
        (error(&machine("").replace("Machine", "Global")), "the settings of VirtualBox itself"),
        (error(&format!("{MODERN}{MODERN}")), "not well-formed XML"),
        (
            error(&format!("<!DOCTYPE a [<!ENTITY b 'c'>]>{MODERN}")),
            "a document type is not allowed",
        ),
        (error(&MODERN.replace("old stick", "&lol;")), "not well-formed XML"),
        (error("<VirtualBox"), "not well-formed XML"),
    ] {
        assert!(error.contains(what), "{what}: {error}");
    }
    let both = OLD.replace("<Network/>", "<USB/>");
    assert!(error(&both).contains("both <USB> and <USBController>"));
}

#[test]
fn absurd_texts_are_refused_or_read_in_time() {
    let deep = machine(&format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000)));
    assert!(error(&deep).contains("nested more than 256 levels deep"));
    let filter = "<DeviceFilter name=\"a\" active=\"true\" vendorId=\"1\" productId=\"2\"/>";
    let many = machine(&format!(
        "<USB><Controllers><Controller type=\"OHCI\"/></Controllers><DeviceFilters>{}</DeviceFilters></USB>",
        filter.repeat(10_000)
    ));
    let config = read(&many);
    assert_eq!((config.spec.devices.len(), config.warnings.len()), (1, 100));
    let long = machine(&format!("<!-- {} -->", "a".repeat(3 << 20)));
    assert!(error(&long).contains("larger than 2 MiB, the limit for VirtualBox's settings"));
}

fn written(guest: &Guest, models: &[Model], kinds: &[&str]) -> Generated {
    let mut hardware = Hardware::new();
    for (index, model) in (0u16..).zip(models) {
        hardware.add_controller(controller(index, *model)).unwrap();
    }
    for (port, kind) in (1..).zip(kinds) {
        let mut device = device(kind);
        device.name = format!("{}{port}", device.kind.name()).parse().unwrap();
        hardware.plug(at(0, &port.to_string()), device).unwrap();
    }
    Vbox.write(guest, &hardware)
}

#[test]
fn a_machine_is_generated() {
    let guest = Guest {
        name: Some("web <1>".to_owned()),
        uuid: Some("0B2A46CA-C48E-4706-BF7B-CEF2C43FF445".to_owned()),
        memory_kib: Some(512 * 1024),
        vcpus: Some(2),
        ..Guest::default()
    };
    let Generated { text, lost } =
        written(&guest, &[Model::PciOhci, Model::QemuXhci], &["tablet", "keyboard", "0781:5581"]);
    assert_eq!(lost, []);
    assert_eq!(
        text,
        "<?xml version=\"1.0\"?>
<VirtualBox xmlns=\"http://www.virtualbox.org/\" version=\"1.19-linux\">
  <Machine uuid=\"{0b2a46ca-c48e-4706-bf7b-cef2c43ff445}\" name=\"web &lt;1&gt;\" OSType=\"Other_64\" snapshotFolder=\"Snapshots\">
    <Hardware>
      <CPU count=\"2\">
        <LongMode enabled=\"true\"/>
      </CPU>
      <Memory RAMSize=\"512\"/>
      <HID Pointing=\"USBTablet\" Keyboard=\"USBKeyboard\"/>
      <USB>
        <Controllers>
          <Controller name=\"OHCI\" type=\"OHCI\"/>
          <Controller name=\"xHCI\" type=\"XHCI\"/>
        </Controllers>
        <DeviceFilters>
          <DeviceFilter name=\"0781:5581\" active=\"true\" vendorId=\"0781\" productId=\"5581\" remote=\"0\"/>
        </DeviceFilters>
      </USB>
    </Hardware>
  </Machine>
</VirtualBox>
"
    );
    let same = written(&Guest::default(), &[], &[]).text;
    assert_eq!(same, written(&Guest::default(), &[], &[]).text);
    assert!(read(&same).guest.uuid.is_some());
}

#[test]
fn what_is_lost_is_named() {
    let Generated { lost, .. } =
        written(&Guest::default(), &[Model::QemuXhci], &["storage:a.img", "1-4", "tablet"]);
    let what: Vec<&str> = lost.iter().map(|it| it.what.as_str()).collect();
    assert_eq!(
        what,
        ["storage:a.img (storage1)", "host:1-4 (host2)", "the port of tablet, hci0:3"]
    );
}

#[test]
fn processes_of_virtualbox_are_recognized() {
    let processes = Vbox.processes(MODERN).unwrap();
    let uuid = "2A1B5B0E-3C6F-4C1D-9A55-0D7C7A0C2F11";
    let held = |arguments: &[&str]| processes.held_by(arguments);
    let window = ["/usr/lib/virtualbox/VirtualBoxVM", "--comment", "web1", "--startvm", uuid];
    assert_eq!(held(&window), Some(HeldBy::Guest));
    assert_eq!(held(&["VBoxHeadless", "--startvm", "web1"]), Some(HeldBy::Guest));
    assert_eq!(held(&["VBoxHeadless", "--startvm", "web2"]), None);
    assert_eq!(held(&["/usr/lib/virtualbox/VBoxSVC", "--auto-shutdown"]), Some(HeldBy::Service));
    assert_eq!(held(&["VBoxManage", "startvm", "web1"]), None);
    assert_eq!(held(&[]), None);
    assert_eq!(Vbox.processes("<a/>"), None);
    assert_eq!(Vbox.host_naming(), HostNaming::Id);
}
