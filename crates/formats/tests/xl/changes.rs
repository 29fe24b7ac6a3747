//! Edits: each changes one entry, and everything else is kept as it is.

use vusb_formats::config::Edit;
use vusb_model::models::{Companion, Model};
use vusb_model::resolve::libxl::BOOT_BUS;
use vusb_model::spec::{ControllerRef, DeviceSpec};

use crate::support::{at, controller, device, edit, hardware, lines, with_device};

/// Adds host device 3.9 to `text`, on port 7 of controller 0.
fn stick(text: &str) -> String {
    let stick = device("003.009", "host0");
    edit(text, &[Edit::AddDevice(at("0:7"), &stick)]).unwrap()
}

const STICK: &str = "type=hostdev,hostbus=3,hostaddr=9,controller=0,port=7";

/// In a commented file of 200 lines, one line is added and no other changes.
#[test]
fn one_line_of_two_hundred_changes() {
    let mut text = String::from("# web1: the shop's web server\nname = \"web1\"\ntype = 'hvm'\n\n");
    for number in 0..180 {
        text += &format!("# note {number}: see the [ticket], it's \"done\"\n");
    }
    text += "disk = [ 'phy:/dev/vg/web1,hda,w', ]\n\
             usbctrl = [ 'type=devicemodel,version=3,ports=8' ]   # for the sticks\n\
             usbdev = [\n\
             \t# the label printer\n\
             \t'type=hostdev,hostbus=1,hostaddr=4,controller=0,port=1',  # second drawer\n\
             \t'type=hostdev,hostbus=1,hostaddr=5',\n\
             ]\n\n\
             on_crash = 'restart'\n# the end\n";
    let requested = DeviceSpec {
        controller: Some(ControllerRef::Name("hci0".parse().unwrap())),
        port: "5".parse().ok(),
        ..DeviceSpec::new("003.009".parse().unwrap())
    };
    let changed = with_device(&text, requested);
    let new = "\t'type=hostdev,hostbus=3,hostaddr=9,controller=0,port=5',";
    let without: Vec<&str> = changed.lines().filter(|line| *line != new).collect();
    assert_eq!(without, text.lines().collect::<Vec<_>>());
    assert_eq!(changed.len(), text.len() + new.len() + 1);
}

/// A new entry follows the style of its list.
#[test]
fn a_new_entry_follows_the_style_of_its_list() {
    for (before, after) in [
        // Everything on one line.
        ("usbdev = [ 'hostbus=1,hostaddr=2' ]\n", "usbdev = [ 'hostbus=1,hostaddr=2', 'STICK' ]\n"),
        ("usbdev=['hostbus=1,hostaddr=2']", "usbdev=['hostbus=1,hostaddr=2', 'STICK']"),
        (
            "usbdev=[\"hostbus=1,hostaddr=2\",\"hostbus=1,hostaddr=3\"]\n",
            "usbdev=[\"hostbus=1,hostaddr=2\",\"hostbus=1,hostaddr=3\",\"STICK\"]\n",
        ),
        (
            "usbdev = [ 'hostbus=1,hostaddr=2', ] # x\n",
            "usbdev = [ 'hostbus=1,hostaddr=2', 'STICK', ] # x\n",
        ),
        // One entry per line.
        (
            "usbdev = [\n  'hostbus=1,hostaddr=2',\n]\n",
            "usbdev = [\n  'hostbus=1,hostaddr=2',\n  'STICK',\n]\n",
        ),
        (
            "usbdev = [\n  \"hostbus=1,hostaddr=2\"  # a\n]",
            "usbdev = [\n  \"hostbus=1,hostaddr=2\",  # a\n  \"STICK\"\n]",
        ),
        (
            "usbdev = [ 'hostbus=1,hostaddr=2', # a\n           'hostbus=1,hostaddr=3', # b\n         ]\n",
            "usbdev = [ 'hostbus=1,hostaddr=2', # a\n           'hostbus=1,hostaddr=3', # b\n           'STICK',\n         ]\n",
        ),
        (
            "usbdev = [ 'hostbus=1,hostaddr=2',\n           'hostbus=1,hostaddr=3' ]\n",
            "usbdev = [ 'hostbus=1,hostaddr=2',\n           'hostbus=1,hostaddr=3',\n           'STICK' ]\n",
        ),
        // Empty.
        ("usbdev = []\n", "usbdev = ['STICK']\n"),
        ("usbdev = [ ]\n", "usbdev = [ 'STICK' ]\n"),
        ("usbdev = [\n]\n", "usbdev = [\n    'STICK',\n]\n"),
        ("usbdev = [\n  # none yet\n]\n", "usbdev = [\n  # none yet\n    'STICK',\n]\n"),
        // In two parts.
        (
            "usbdev = [ 'hostbus=1,hostaddr=2' ]\nusbdev += [ 'hostbus=1,hostaddr=3' ]\n",
            "usbdev = [ 'hostbus=1,hostaddr=2' ]\nusbdev += [ 'hostbus=1,hostaddr=3', 'STICK' ]\n",
        ),
        // Commas at the start of lines.
        (
            "usbdev = [ 'hostbus=1,hostaddr=2'\n, 'hostbus=1,hostaddr=3'\n]\n",
            "usbdev = [ 'hostbus=1,hostaddr=2'\n, 'hostbus=1,hostaddr=3', 'STICK'\n]\n",
        ),
    ] {
        let after = after.replace("STICK", STICK);
        assert_eq!(stick(before), after, "{before}");
    }
}

/// A new key follows the style of its neighbours, and is added next to them.
#[test]
fn a_new_key_follows_the_style_of_its_neighbours() {
    for (before, after) in [
        ("", "usbdev = [ 'STICK' ]\n"),
        ("name = 'x'\n", "name = 'x'\nusbdev = [ 'STICK' ]\n"),
        ("name = \"x\"", "name = \"x\"\nusbdev = [ \"STICK\" ]"),
        ("name=\"x\"\nvif=['']\n", "name=\"x\"\nvif=['']\nusbdev=['STICK']\n"),
        (
            "usbctrl = [ '' ]  # c\nvcpus = 2\n",
            "usbctrl = [ '' ]  # c\nusbdev = [ 'STICK' ]\nvcpus = 2\n",
        ),
        ("usbctrl=['',\n''];vcpus=2\nb=1\n", "usbctrl=['',\n''];vcpus=2\nusbdev=['STICK']\nb=1\n"),
        ("usb = 0\n\nname = 'x'\n", "usb = 0\nusbdev = [ 'STICK' ]\n\nname = 'x'\n"),
        ("usbctrl = [ '' ]", "usbctrl = [ '' ]\nusbdev = [ 'STICK' ]"),
        (
            "usbctrl = [ '' ]; a = [ 1,\n2 ] # z\n",
            "usbctrl = [ '' ]; a = [ 1,\n2 ] # z\nusbdev = [ 'STICK' ]\n",
        ),
    ] {
        assert_eq!(stick(before), after.replace("STICK", STICK), "{before}");
    }
}

/// The first device of a guest comes with a controller.
#[test]
fn the_first_device_comes_with_a_controller() {
    let text = "name = 'web1'\ntype = 'pv'\n";
    assert_eq!(
        with_device(text, DeviceSpec::new("003.009".parse().unwrap())),
        "name = 'web1'\ntype = 'pv'\n\
         usbctrl = [ 'type=qusb,version=2,ports=8' ]\n\
         usbdev = [ 'type=hostdev,hostbus=3,hostaddr=9,controller=0,port=1' ]\n"
    );
    // The device does not go on the boot controller, which has a tablet: it still gets a new one.
    let text = "type = 'hvm'\nusb = 1\nusbdevice = 'tablet'\n";
    let with = with_device(text, DeviceSpec::new("003.009".parse().unwrap()));
    assert_eq!(
        with,
        "type = 'hvm'\nusb = 1\nusbdevice = 'tablet'\n\
         usbctrl = [ 'type=devicemodel,version=2,ports=6' ]\n\
         usbdev = [ 'type=hostdev,hostbus=3,hostaddr=9,controller=0,port=1' ]\n"
    );
    assert_eq!(
        with_device(&with, DeviceSpec::new("mouse".parse().unwrap())).lines().nth(2),
        Some("usbdevice = [ 'tablet', 'mouse' ]")
    );
}

/// A controller that libxl adds by itself gets an entry when another is added. Otherwise libxl
/// would put the devices on the new one.
#[test]
fn a_controller_that_libxl_adds_by_itself_gets_an_entry() {
    let text = "usbdev = [ 'type=hostdev,hostbus=1,hostaddr=2' ]\n";
    let second = controller(1, "pv1", Model::Xenusb1, 4);
    let with = edit(text, &[Edit::AddController(&second)]).unwrap();
    assert_eq!(
        lines(&hardware(&with)),
        ["0 pv0 xenusb2 8", "1 pv1 xenusb1 4", "0:1 host0 host:001.002"]
    );
    assert!(
        with.ends_with(
            "usbctrl = [ 'type=qusb,version=2,ports=8', 'type=qusb,version=1,ports=4' ]\n"
        )
    );
    let first = controller(0, "pv0", Model::Xenusb2, 8);
    let with = edit(text, &[Edit::AddController(&first)]).unwrap();
    assert_eq!(lines(&hardware(&with)), ["0 pv0 xenusb2 8", "0:1 host0 host:001.002"]);
}

#[test]
fn tablets_and_redirected_devices() {
    let requested = |kind: &str| DeviceSpec::new(kind.parse().unwrap());
    assert_eq!(
        with_device("type = 'hvm'\n", requested("tablet")),
        "type = 'hvm'\nusb = 1\nusbdevice = [ 'tablet' ]\n"
    );
    assert_eq!(
        with_device("type = 'hvm'\nspice = 1\n", requested("redir:spicevmc")),
        "type = 'hvm'\nspice = 1\nusbversion = 2\nspiceusbredirection = 1\n"
    );
    assert_eq!(
        with_device(
            "type = 'hvm'\nspice = 1\nspiceusbredirection = 2 # two\n",
            requested("redir:spicevmc")
        ),
        "type = 'hvm'\nspice = 1\nspiceusbredirection = 3 # two\n"
    );
}

/// Removing an entry also removes its line if nothing else is on it.
#[test]
fn removing_an_entry_also_removes_its_line() {
    let one = "'hostbus=1,hostaddr=2'";
    let two = "'hostbus=1,hostaddr=3'";
    let three = "'hostbus=1,hostaddr=4'";
    for (number, before, after) in [
        (0, "a = 1\nusbdev = [ ONE ]\nb = 1\n", "a = 1\nb = 1\n"),
        (0, "usbdev = [\n  ONE,\n]\n", ""),
        (0, "a = 1\nusbdev = [ ONE ]", "a = 1"),
        (0, "usbdev = [ ONE ] # why\n", "usbdev = [ ] # why\n"),
        (0, "usbdev = [ ONE ]; b = 1\n", "usbdev = [ ]; b = 1\n"),
        (0, "usbdev = [\n  # a\n  ONE,\n]\n", "usbdev = [\n  # a\n]\n"),
        (0, "usbdev = [ THREE ]\nusbdev = [ ONE ]\n", "usbdev = [ THREE ]\nusbdev = [ ]\n"),
        (0, "usbdev = [ ONE, TWO, THREE ]\n", "usbdev = [ TWO, THREE ]\n"),
        (1, "usbdev = [ ONE, TWO, THREE ]\n", "usbdev = [ ONE, THREE ]\n"),
        (2, "usbdev = [ ONE, TWO, THREE ]\n", "usbdev = [ ONE, TWO ]\n"),
        (2, "usbdev = [ ONE, TWO, THREE, ]\n", "usbdev = [ ONE, TWO, ]\n"),
        (
            1,
            "usbdev = [\n  ONE, # a\n  TWO, # b\n  THREE # c\n]\n",
            "usbdev = [\n  ONE, # a\n  THREE # c\n]\n",
        ),
        (
            2,
            "usbdev = [\n  ONE, # a\n  TWO, # b\n  THREE # c\n]\n",
            // The last entry had no comma.
            "usbdev = [\n  ONE, # a\n  TWO # b\n]\n",
        ),
        (1, "usbdev = [\n  ONE,\n  TWO,\n]\n", "usbdev = [\n  ONE,\n]\n"),
        (1, "usbdev = [ ONE,\n           TWO ] # c\n", "usbdev = [ ONE ] # c\n"),
        (0, "usbdev = [\n  ONE, TWO ]\n", "usbdev = [\n  TWO ]\n"),
        (1, "usbdev = [ ONE, # a\n  TWO ]\n", "usbdev = [ ONE # a\n  ]\n"),
        (1, "usbdev = [ ONE ]\nusbdev += [ TWO ]\n", "usbdev = [ ONE ]\nusbdev += [ ]\n"),
    ] {
        let words =
            |text: &str| text.replace("ONE", one).replace("TWO", two).replace("THREE", three);
        let edited = edit(&words(before), &[Edit::RemoveDevice(number)]).unwrap();
        assert_eq!(edited, words(after), "{before}");
    }
}

#[test]
fn removing_devices_of_the_boot_controller() {
    let text = "type = 'hvm'\nusbdevice = [ 'tablet', 'mouse' ]\n";
    // The controller only existed because of its devices, and is kept.
    let none = edit(text, &[Edit::RemoveDevice(0), Edit::RemoveDevice(1)]).unwrap();
    assert_eq!(lines(&hardware(&none)), ["4095 hci0 piix3-uhci 2"]);
    assert_eq!(none, "type = 'hvm'\nusb = 1\n");
    let gone = [Edit::RemoveDevice(0), Edit::RemoveDevice(1), Edit::RemoveController(0)];
    assert_eq!(edit(text, &gone).unwrap(), "type = 'hvm'\n");
    assert_eq!(
        edit(text, &[Edit::RemoveDevice(1)]).unwrap(),
        "type = 'hvm'\nusbdevice = [ 'tablet' ]\n"
    );
    let moved = edit(text, &[Edit::RemoveDevice(0)]).unwrap_err();
    assert!(moved.why.text.contains("those after it would move"), "{moved:?}");

    let text = "type = 'hvm'\nusbdevice = 'tablet'\nusb = 1\n";
    assert_eq!(edit(text, &[Edit::RemoveDevice(0)]).unwrap(), "type = 'hvm'\nusb = 1\n");
    let text = "type='hvm'\nspice=1\nspiceusbredirection=1\n";
    let none = edit(text, &[Edit::RemoveDevice(0)]).unwrap();
    assert_eq!(lines(&hardware(&none)), ["4095 hci0 ich9-ehci1 6"]);
}

#[test]
fn controllers_keep_their_numbers() {
    let text = "usbctrl = [ '', 'version=1' ]\nusbdev = [ 'hostbus=1,hostaddr=2,controller=1' ]\n";
    let first = edit(text, &[Edit::RemoveController(0)]).unwrap_err();
    assert!(first.why.text.contains("by their position in usbctrl"), "{first:?}");
    let with_device = edit(text, &[Edit::RemoveController(1)]).unwrap_err();
    assert_eq!(with_device.what, "the devices on it");
    let both = [Edit::RemoveDevice(0), Edit::RemoveController(1)];
    assert_eq!(edit(text, &both).unwrap(), "usbctrl = [ '' ]\n");
    let all = [Edit::RemoveDevice(0), Edit::RemoveController(0), Edit::RemoveController(1)];
    assert_eq!(edit(text, &all).unwrap(), "");
    let third = controller(2, "pv2", Model::Xenusb1, 5);
    let fourth = controller(3, "pv3", Model::Xenusb2, 31);
    assert_eq!(
        edit("usbctrl = [ '', '' ]", &[Edit::AddController(&third), Edit::AddController(&fourth)])
            .unwrap(),
        "usbctrl = [ '', '', 'type=qusb,version=1,ports=5', 'type=qusb,version=2,ports=31' ]"
    );
}

/// Pinning adds the values that were left open, and keeps the rest of an entry.
#[test]
fn pinning_specifies_the_values_that_were_left_open() {
    let text = "usbctrl = [ 'ports=8, type=PV', '' ]\nusbdev = [ \"hostbus=1,hostaddr=0x2\" ]\n";
    let second = controller(1, "pv1", Model::Xenusb2, 8);
    let first = controller(0, "pv0", Model::Xenusb2, 8);
    let edits = [
        Edit::PinController(0, &first),
        Edit::PinController(1, &second),
        Edit::PinDevice(0, at("1:4")),
    ];
    assert_eq!(
        edit(text, &edits).unwrap(),
        "usbctrl = [ 'ports=8, type=PV,version=2', 'type=qusb,version=2,ports=8' ]\n\
         usbdev = [ \"hostbus=1,hostaddr=0x2,controller=1,port=4\" ]\n"
    );
    let pinned = edit(
        "usbdev = [ 'controller=0,port=1,hostbus=1,hostaddr=2' ]\n",
        &[Edit::PinDevice(0, at("0:3"))],
    );
    assert_eq!(pinned.unwrap(), "usbdev = [ 'controller=0,port=3,hostbus=1,hostaddr=2' ]\n");
    assert_eq!(edit(text, &[Edit::NoUsb]).unwrap(), text);
}

#[test]
fn hardware_that_xl_cannot_express() {
    let hvm = "type='hvm'\nusbctrl=['version=3']\nusb=1\n";
    let mut companions = controller(1, "hci1", Model::Ehci, 6);
    companions.companions = Companion::GROUP[..1].to_vec();
    let mut backend = controller(1, "pv0", Model::Xenusb2, 8);
    backend.backend = Some("usbvm".to_owned());
    let named = controller(1, "front", Model::Ehci, 6);
    for (what, controller) in [
        ("companions outside the ICH9 group", &companions),
        ("a backend", &backend),
        ("a name", &named),
        ("a model", &controller(1, "hci1", Model::QemuXhci, 8)),
        ("pv of version 3", &controller(1, "pv0", Model::Xenusb3, 8)),
        ("another index", &controller(5, "hci1", Model::Ehci, 6)),
        ("a second boot controller", &controller(BOOT_BUS.get(), "hci1", Model::Piix3Uhci, 2)),
    ] {
        assert!(edit(hvm, &[Edit::AddController(controller)]).is_err(), "{what}");
    }
    for (address, kind, name) in [
        ("0:1", "1-4", "host0"),
        ("0:1", "0781:5581", "host0"),
        ("0:1", "tablet", "tablet0"),
        ("0:1.2", "001.002", "host0"),
        ("0:1", "001.002", "stick"),
        ("0:1", "storage:x.img", "storage0"),
        ("4095:1", "tablet", "tablet0"),
        ("4095:1", "redir:spicevmc", "redir0"),
        ("4095:1", "audio", "audio0"),
    ] {
        assert!(
            edit(hvm, &[Edit::AddDevice(at(address), &device(kind, name))]).is_err(),
            "{kind} at {address}"
        );
    }
    // It is known where this device is plugged in, so it can be expressed.
    let mut found = device("0781:5581", "host0");
    let vusb_model::device::Kind::Host(host) = &mut found.kind else { unreachable!() };
    host.bus_address = Some(vusb_model::selector::BusAddress { bus: 2, address: 7 });
    let text = edit(hvm, &[Edit::AddDevice(at("0:1"), &found)]).unwrap();
    assert!(text.contains("hostbus=2,hostaddr=7"), "{text}");
    let broken = edit("name = 'x'\nusbctrl = [", &[]).unwrap_err();
    assert_eq!(broken.why.text, "line 2: a list is not closed at the end of the file");
    let many = "type='hvm'\nspice=1\nspiceusbredirection=9000000000000000000\n";
    assert!(edit(many, &[Edit::RemoveDevice(0)]).unwrap_err().why.text.contains("cannot redirect"));
    let parts = "type='hvm'\nusbdevice='tab'\nusbdevice+='let'\n";
    assert!(
        edit(parts, &[Edit::RemoveDevice(0)]).unwrap_err().why.text.contains("several assignments")
    );
}
