//! QEMU's arguments for each kind of hardware, against QEMU's and libvirt's documentation.

use vusb_formats::config::{AUDIO_DRIVER, AUDIO_NUMBER, Property};
use vusb_model::address::Address;
use vusb_model::hardware::{Controller, Device, Hardware, PciAddress};
use vusb_model::models::{Companion, CompanionModel, Model, RootPorts};

use super::*;

/// Hardware from lines: `0 hci0 qemu-xhci 8/4 @pci.0/1d.7`, `0:1 tablet0 tablet`.
fn hardware(lines: &[&str]) -> Hardware {
    let mut hardware = Hardware::new();
    for line in lines {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        if let Some((bus, port)) = words[0].split_once(':') {
            let address = Address { bus: bus.parse().unwrap(), port: port.parse().unwrap() };
            let device =
                Device { name: words[1].parse().unwrap(), kind: words[2].parse().unwrap() };
            hardware.plug(address, device).unwrap();
            continue;
        }
        let words: Vec<&str> = line.split(' ').collect();
        let model: Model = words[2].parse().unwrap();
        let (usb2, usb3) = words[3].split_once('/').unwrap();
        let ports = if model.is_xhci() {
            RootPorts::xhci(usb2.parse().unwrap(), usb3.parse().unwrap()).unwrap()
        } else {
            RootPorts::uniform(model, usb2.parse().unwrap())
        };
        let mut controller =
            Controller::new(words[0].parse().unwrap(), words[1].parse().unwrap(), model, ports);
        for word in &words[4..] {
            if *word == "group" {
                controller.companions = group();
                continue;
            }
            let (bus, address) = word.strip_prefix('@').unwrap().split_once('/').unwrap();
            let (slot, function) = address.split_once('.').unwrap();
            let slot = u8::from_str_radix(slot, 16).unwrap();
            controller.pci =
                Some(PciAddress { bus: bus.to_owned(), slot, function: function.parse().unwrap() });
        }
        hardware.add_controller(controller).unwrap();
    }
    hardware
}

fn group() -> Vec<Companion> {
    [CompanionModel::Ich9Uhci1, CompanionModel::Ich9Uhci2, CompanionModel::Ich9Uhci3]
        .into_iter()
        .zip([0, 2, 4])
        .map(|(model, first_port)| Companion { model, first_port })
        .collect()
}

fn command_line(lines: &[&str]) -> Vec<String> {
    pairs(&arguments(&hardware(lines), &ArgumentOptions::default()).unwrap())
}

/// Each option with its value, as one string.
fn pairs(arguments: &[String]) -> Vec<String> {
    arguments.chunks(2).map(|pair| pair.join(" ")).collect()
}

#[test]
fn a_controller_of_each_form_has_its_arguments() {
    assert_eq!(
        command_line(&[
            "0 hci0 qemu-xhci 8/4",
            "1 hci1 nec-xhci 15/15 @pci.0/1f.0",
            "2 hci2 ehci 6/0",
            "3 hci3 pci-ohci 3/0",
        ]),
        [
            r#"-device {"driver":"qemu-xhci","id":"vusb-0x8x4-hci0","p2":8,"p3":4}"#,
            r#"-device {"addr":"1f.0","bus":"pci.0","driver":"nec-usb-xhci","id":"vusb-1x15-hci1","p2":15,"p3":15}"#,
            r#"-device {"driver":"usb-ehci","id":"vusb-2-hci2"}"#,
            r#"-device {"driver":"pci-ohci","id":"vusb-3-hci3"}"#,
        ]
    );
    let pv = arguments(&hardware(&["0 pv0 xenusb2 8/0"]), &ArgumentOptions::default()).unwrap_err();
    assert!(matches!(&pv, Error::NotImplemented { .. }), "{pv}");
}

/// The functions of a group are in one slot: that of the record, or the next of [`ICH9_SLOTS`].
#[test]
fn a_group_is_in_one_slot() {
    assert_eq!(
        command_line(&[
            "0 a ich9-ehci1 6/0 group",
            "1 b ich9-ehci1 6/0 group @pci.2/05.7",
            "2 c ich9-ehci1 6/0"
        ]),
        [
            r#"-device {"addr":"1d.7","driver":"ich9-usb-ehci1","id":"vusb-0-a","multifunction":true}"#,
            r#"-device {"addr":"1d.0","driver":"ich9-usb-uhci1","firstport":0,"masterbus":"vusb-0-a.0","multifunction":true}"#,
            r#"-device {"addr":"1d.1","driver":"ich9-usb-uhci2","firstport":2,"masterbus":"vusb-0-a.0","multifunction":true}"#,
            r#"-device {"addr":"1d.2","driver":"ich9-usb-uhci3","firstport":4,"masterbus":"vusb-0-a.0","multifunction":true}"#,
            r#"-device {"addr":"05.7","bus":"pci.2","driver":"ich9-usb-ehci1","id":"vusb-1-b","multifunction":true}"#,
            r#"-device {"addr":"05.0","bus":"pci.2","driver":"ich9-usb-uhci1","firstport":0,"masterbus":"vusb-1-b.0","multifunction":true}"#,
            r#"-device {"addr":"05.1","bus":"pci.2","driver":"ich9-usb-uhci2","firstport":2,"masterbus":"vusb-1-b.0","multifunction":true}"#,
            r#"-device {"addr":"05.2","bus":"pci.2","driver":"ich9-usb-uhci3","firstport":4,"masterbus":"vusb-1-b.0","multifunction":true}"#,
            r#"-device {"driver":"ich9-usb-ehci1","id":"vusb-2-c"}"#,
        ]
    );
    let many: Vec<String> =
        (0..9).map(|index| format!("{index} c{index} ich9-ehci1 6/0 group")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(command_line(&many[..8]).len(), 32);
    let error = arguments(&hardware(&many), &ArgumentOptions::default()).unwrap_err();
    assert!(error.to_string().contains("already 8 such groups"), "{error}");
    let error =
        libvirt_arguments(&hardware(&many), &[], &DeviceProperties::new(), "pci.0").unwrap_err();
    assert!(error.to_string().contains("already 8 such groups"), "{error}");
}

#[test]
fn spare_slots_are_root_ports() {
    let spare = arguments(&Hardware::new(), &ArgumentOptions { spare_slots: 2 }).unwrap();
    assert_eq!(
        pairs(&spare),
        [
            r#"-device {"chassis":100,"driver":"pcie-root-port","id":"vusb-slot0"}"#,
            r#"-device {"chassis":101,"driver":"pcie-root-port","id":"vusb-slot1"}"#,
        ]
    );
}

/// The arguments after the controller's, for one device at port 1.
fn device_arguments(kind: &str) -> Vec<String> {
    let line = format!("0:1 a {kind}");
    let mut all = command_line(&["0 hci0 qemu-xhci 4/4", &line]);
    all.remove(0);
    all
}

#[test]
fn a_device_of_each_kind_has_its_arguments() {
    let on_port = |driver: &str, before: &str, after: &str| {
        format!(
            r#"-device {{{before}"bus":"vusb-0x4-hci0.0",{after}"driver":"{driver}","id":"vusb-a""#
        )
    };
    for (kind, arguments) in [
        ("tablet", vec![on_port("usb-tablet", "", "") + r#","port":"1","usb_version":1}"#]),
        ("mouse:usbversion=2", vec![on_port("usb-mouse", "", "") + r#","port":"1","usb_version":2}"#]),
        ("keyboard", vec![on_port("usb-kbd", "", "") + r#","port":"1","usb_version":1}"#]),
        ("hub", vec![on_port("usb-hub", "", "") + r#","port":"1","ports":8}"#]),
        ("ccid", vec![on_port("usb-ccid", "", "") + r#","port":"1"}"#]),
        (
            "storage:/a.qcow2,readonly",
            vec![
                r#"-blockdev {"driver":"qcow2","file":{"driver":"file","filename":"/a.qcow2"},"node-name":"vusb-a","read-only":true}"#.to_owned(),
                r#"-device {"bus":"vusb-0x4-hci0.0","drive":"vusb-a","driver":"usb-storage","id":"vusb-a","port":"1"}"#.to_owned(),
            ],
        ),
        (
            "storage:/dev/vusb-none,serial=S-1,removable=on",
            vec![
                r#"-blockdev {"driver":"raw","file":{"driver":"host_device","filename":"/dev/vusb-none"},"node-name":"vusb-a","read-only":false}"#.to_owned(),
                r#"-device {"bus":"vusb-0x4-hci0.0","drive":"vusb-a","driver":"usb-storage","id":"vusb-a","port":"1","removable":true,"serial":"S-1"}"#.to_owned(),
            ],
        ),
        // The USB part need not stay detached as in a hot plug: the guest starts after the drive
        // was added.
        (
            "storage:/a.iso,media=cdrom,serial=S-2",
            vec![
                r#"-blockdev {"driver":"raw","file":{"driver":"file","filename":"/a.iso"},"node-name":"vusb-a","read-only":true}"#.to_owned(),
                r#"-device {"bus":"vusb-0x4-hci0.0","driver":"usb-bot","id":"vusb-a","port":"1","serial":"S-2"}"#.to_owned(),
                r#"-device {"bus":"vusb-a.0","drive":"vusb-a","driver":"scsi-cd","lun":0,"serial":"S-2"}"#.to_owned(),
            ],
        ),
        (
            "serial:pty",
            vec![
                "-chardev pty,id=vusb-a".to_owned(),
                on_port("usb-serial", r#""always-plugged":true,"#, r#""chardev":"vusb-a","#) + r#","port":"1"}"#,
            ],
        ),
        (
            "serial:id:c0",
            vec![on_port("usb-serial", r#""always-plugged":true,"#, r#""chardev":"c0","#) + r#","port":"1"}"#],
        ),
        (
            "redir:tcp:[::1]:4000,server",
            vec![
                "-chardev socket,id=vusb-a,host=::1,port=4000,server=on,wait=off".to_owned(),
                on_port("usb-redir", "", r#""chardev":"vusb-a","#) + r#","port":"1"}"#,
            ],
        ),
        ("audio:snd", vec![on_port("usb-audio", r#""audiodev":"snd","#, "") + r#","port":"1"}"#]),
        ("audio", vec![on_port("usb-audio", "", "") + r#","port":"1"}"#]),
        (
            "net:user,mac=52:54:00:00:00:01",
            vec![
                "-netdev user,id=vusb-a".to_owned(),
                on_port("usb-net", "", "") + r#","mac":"52:54:00:00:00:01","netdev":"vusb-a","port":"1"}"#,
            ],
        ),
        ("net:id:n0", vec![on_port("usb-net", "", "") + r#","netdev":"n0","port":"1"}"#]),
        ("net:none", vec![on_port("usb-net", "", "") + r#","port":"1"}"#]),
        ("mtp:/srv", vec![on_port("usb-mtp", "", "") + r#","port":"1","readonly":true,"rootdir":"/srv"}"#]),
        ("mtp:/srv,writable", vec![on_port("usb-mtp", "", "") + r#","port":"1","readonly":false,"rootdir":"/srv"}"#]),
    ] {
        assert_eq!(device_arguments(kind), arguments, "{kind}");
    }
}

#[test]
fn a_host_device_has_to_be_plugged_in() {
    let absent = hardware(&["0 hci0 qemu-xhci 4/4", "0:1 stick host:0781:5581"]);
    let error = arguments(&absent, &ArgumentOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::Missing { .. }), "{error}");
    assert_eq!(error.remedies(), [Remedy::RestoreLater]);
    let order = [Address { bus: "0".parse().unwrap(), port: "1".parse().unwrap() }];
    let error = libvirt_arguments(&absent, &order, &DeviceProperties::new(), "pci.0").unwrap_err();
    assert!(matches!(&error, Error::Missing { .. }), "{error}");

    let (present, _) = plugged_in();
    let all = pairs(&arguments(&present, &ArgumentOptions::default()).unwrap());
    assert_eq!(
        all[1],
        r#"-device {"bus":"vusb-0x4-hci0.0","driver":"usb-host","id":"vusb-stick","port":"1","productid":21889,"vendorid":1921}"#
    );
}

/// A host device at 001.004.
fn plugged_in() -> (Hardware, Address) {
    let address = Address { bus: "0".parse().unwrap(), port: "1".parse().unwrap() };
    let mut present = hardware(&["0 hci0 qemu-xhci 4/4"]);
    let Kind::Host(mut host) = "host:0781:5581".parse().unwrap() else { panic!() };
    host.bus_address = Some(vusb_model::selector::BusAddress { bus: 1, address: 4 });
    let device = Device { name: "stick".parse().unwrap(), kind: Kind::Host(host) };
    present.plug(address, device).unwrap();
    (present, address)
}

/// An address changes with each plug. QEMU has no properties for serial numbers and paths.
#[test]
fn a_host_device_is_found_by_what_survives_a_replug() {
    let by_port = r#"hostbus":1,"hostport":"4.2""#;
    for (selector, port, expected) in [
        ("0781:5581", Some("1-4.2"), r#""productid":21889,"vendorid":1921"#),
        ("0781:5581:A1", Some("1-4.2"), by_port),
        ("pci-0000:00:14.0-usb-0:4.2", Some("1-4.2"), by_port),
        ("001.004", Some("1-4.2"), by_port),
        ("1-4.2", Some("1-4.2"), by_port),
        ("1-4.2", None, by_port),
        ("hostbus=1,vendorid=0x0781", Some("1-4.2"), by_port),
        ("0781:5581:A1", None, r#"hostaddr":4,"hostbus":1"#),
    ] {
        let (mut all, address) = plugged_in();
        let mut device = all.unplug(address).remove(0).1;
        let Kind::Host(host) = &mut device.kind else { panic!() };
        host.selector = selector.parse().unwrap();
        host.port = port.map(|it| it.parse().unwrap());
        all.plug(address, device).unwrap();
        let all = pairs(&arguments(&all, &ArgumentOptions::default()).unwrap());
        assert!(all[1].contains(expected), "{selector}: {}", all[1]);
        let keys = ["hostbus", "hostaddr", "hostport", "vendorid", "productid"];
        assert_eq!(keys.iter().filter(|it| all[1].contains(*it)).count(), 2, "{}", all[1]);
    }
}

#[test]
fn a_device_of_another_tool_cannot_be_created() {
    let mut other = hardware(&["0 hci0 qemu-xhci 4/4"]);
    let address = Address { bus: "0".parse().unwrap(), port: "1".parse().unwrap() };
    let kind = Kind::Other(vusb_model::device::Other { driver: "usb-wacom-tablet".to_owned() });
    other.plug(address, Device { name: "pen".parse().unwrap(), kind }).unwrap();
    for result in [
        arguments(&other, &ArgumentOptions::default()),
        libvirt_arguments(&other, &[address], &DeviceProperties::new(), "pci.0"),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::NotImplemented { .. }), "{error}");
        assert!(error.to_string().contains("usb-wacom-tablet"), "{error}");
    }
}

/// A comma in a value of `-chardev` is doubled; a socket that listens does not wait for its peer.
#[test]
fn a_character_device_of_each_form_has_its_argument() {
    for (chardev, argument) in [
        ("null", "null,id=c"),
        ("id:x", "null,id=c"),
        ("pty", "pty,id=c"),
        ("file:/a,b", "file,id=c,path=/a,,b"),
        ("spicevmc", "spicevmc,id=c,name=usbredir"),
        ("unix:/a,b", "socket,id=c,path=/a,,b"),
        ("unix:/a,server", "socket,id=c,path=/a,server=on,wait=off"),
        ("tcp:h:4000", "socket,id=c,host=h,port=4000"),
        ("tcp:[fe80::1]:4000,server", "socket,id=c,host=fe80::1,port=4000,server=on,wait=off"),
    ] {
        let chardev: Chardev = chardev.parse().unwrap();
        assert_eq!(command_line_chardev(&chardev, "c"), argument);
    }
}

#[test]
fn a_character_device_is_written_as_qmp_takes_it() {
    let socket = |data: Value| Some(json!({"type": "socket", "data": data}));
    for (chardev, expected) in [
        ("id:x", None),
        ("null", Some(json!({"type": "null", "data": {}}))),
        ("pty", Some(json!({"type": "pty", "data": {}}))),
        ("file:/a,b", Some(json!({"type": "file", "data": {"out": "/a,b"}}))),
        ("spicevmc", Some(json!({"type": "spicevmc", "data": {"type": "usbredir"}}))),
        (
            "unix:/a",
            socket(json!({"addr": {"type": "unix", "data": {"path": "/a"}}, "server": false})),
        ),
        (
            "unix:/a,server",
            socket(
                json!({"addr": {"type": "unix", "data": {"path": "/a"}}, "server": true, "wait": false}),
            ),
        ),
        (
            "tcp:[::1]:4000",
            socket(
                json!({"addr": {"type": "inet", "data": {"host": "::1", "port": "4000"}}, "server": false}),
            ),
        ),
    ] {
        assert_eq!(chardev_backend(&chardev.parse().unwrap()), expected, "{chardev}");
    }
}

/// A block node's name has at most 31 characters, 5 of which are the prefix `vusb-`.
#[test]
fn a_long_name_is_hashed() {
    let short = "a".repeat(26);
    assert_eq!(backend_id(&short), format!("vusb-{short}"));
    let long = backend_id(&"a".repeat(27));
    assert!(long.len() <= 31 && long.starts_with("vusb-") && !long.contains("aaaa"), "{long}");
    assert_ne!(long, backend_id(&"a".repeat(28)));
}

#[test]
fn only_a_back_end_of_vusb_is_removed() {
    let of = |kind: &str| Device { name: "a".parse().unwrap(), kind: kind.parse().unwrap() };
    assert_eq!(
        backend_to_remove(&of("serial:id:vusb-a")),
        Some(DeviceBackend::Chardev("vusb-a".to_owned(), Value::Null))
    );
    assert_eq!(
        backend_to_remove(&of("redir:id:vusb-a")),
        Some(DeviceBackend::Chardev("vusb-a".to_owned(), Value::Null))
    );
    assert_eq!(backend_to_remove(&of("serial:id:vusb-b")), None);
    assert_eq!(backend_to_remove(&of("serial:pty")), backend(&of("serial:pty")));
    assert!(backend(&of("serial:pty")).is_some());
    assert_eq!(backend(&of("net:none")), None);
    assert_eq!(backend(&of("mouse")), None);
}

fn libvirt_command_line(
    lines: &[&str],
    order: &[&str],
    properties: &DeviceProperties,
    root: &str,
) -> Vec<String> {
    let order: Vec<Address> = order
        .iter()
        .map(|at| at.split_once(':').unwrap())
        .map(|(bus, port)| Address { bus: bus.parse().unwrap(), port: port.parse().unwrap() })
        .collect();
    pairs(&libvirt_arguments(&hardware(lines), &order, properties, root).unwrap())
}

/// As in libvirt's `tests/qemuxmlconfdata`: the fields in libvirt's order, slots in hexadecimal,
/// the first function of a group as multifunction.
#[test]
fn controllers_are_written_as_libvirt_does() {
    assert_eq!(
        libvirt_command_line(
            &[
                "0 usb ich9-ehci1 6/0 group @pci.0/04.7",
                "1 usb1 nec-xhci 4/4 @pci.0/05.0",
                "2 mine qemu-xhci 15/15 @pci.0/1f.0",
                "3 usb3 piix3-uhci 2/0",
                "4 usb4 qemu-xhci 4/8",
            ],
            &[],
            &DeviceProperties::new(),
            "pci.0",
        ),
        [
            r#"-device {"driver":"ich9-usb-ehci1","id":"usb","bus":"pci.0","addr":"0x4.0x7"}"#,
            r#"-device {"driver":"ich9-usb-uhci1","masterbus":"usb.0","firstport":0,"bus":"pci.0","multifunction":true,"addr":"0x4"}"#,
            r#"-device {"driver":"ich9-usb-uhci2","masterbus":"usb.0","firstport":2,"bus":"pci.0","addr":"0x4.0x1"}"#,
            r#"-device {"driver":"ich9-usb-uhci3","masterbus":"usb.0","firstport":4,"bus":"pci.0","addr":"0x4.0x2"}"#,
            r#"-device {"driver":"nec-usb-xhci","id":"usb1","bus":"pci.0","addr":"0x5"}"#,
            r#"-device {"driver":"qemu-xhci","p2":15,"p3":15,"id":"ua-mine","bus":"pci.0","addr":"0x1f"}"#,
            r#"-device {"driver":"piix3-usb-uhci","id":"usb3"}"#,
            r#"-device {"driver":"qemu-xhci","p2":4,"p3":8,"id":"usb4"}"#,
        ]
    );
    let pv = libvirt_arguments(
        &hardware(&["0 usb xenusb2 8/0"]),
        &[],
        &DeviceProperties::new(),
        "pci.0",
    );
    assert!(matches!(pv, Err(Error::NotImplemented { .. })));
    // A group without an address.
    let group = libvirt_command_line(
        &["0 usb ich9-ehci1 6/0 group"],
        &[],
        &DeviceProperties::new(),
        "pci.0",
    );
    assert_eq!(group[0], r#"-device {"driver":"ich9-usb-ehci1","id":"usb","addr":"0x1d.0x7"}"#);
    assert_eq!(
        group[1],
        r#"-device {"driver":"ich9-usb-uhci1","masterbus":"usb.0","firstport":0,"multifunction":true,"addr":"0x1d"}"#
    );
}

/// Each bus that the machine does not have by itself gets one bridge, numbered from 1.
#[test]
fn buses_are_written_as_libvirt_does() {
    let none = DeviceProperties::new();
    let first = |lines: &[&str], root: &str, number: usize| {
        libvirt_command_line(lines, &[], &none, root)[..number].to_vec()
    };
    assert_eq!(
        first(
            &[
                "0 usb qemu-xhci 4/4 @pci.2/00.0",
                "1 usb1 ehci 6/0 @pci.3/04.0",
                "2 usb2 ehci 6/0 @pcie.0/05.0"
            ],
            "pcie.0",
            2
        ),
        [
            r#"-device {"driver":"pcie-root-port","chassis":1,"id":"pci.2"}"#,
            r#"-device {"driver":"pcie-pci-bridge","id":"pci.3"}"#,
        ]
    );
    assert_eq!(
        first(
            &[
                "0 usb ehci 6/0 @pci.1/01.0",
                "1 usb1 ehci 6/0 @pci.1/02.0",
                "2 usb2 ehci 6/0 @pci.0/02.0"
            ],
            "pci.0",
            2
        ),
        [
            r#"-device {"driver":"pci-bridge","chassis_nr":1,"id":"pci.1"}"#,
            r#"-device {"driver":"usb-ehci","id":"usb","bus":"pci.1","addr":"0x1"}"#,
        ]
    );
    assert_eq!(
        first(&["0 usb ehci 6/0"], "pci.0", 1),
        [r#"-device {"driver":"usb-ehci","id":"usb"}"#]
    );
}

/// The kinds are in the order of libvirt's command line, and the devices of one kind in that of the
/// configuration.
#[test]
fn devices_are_written_as_libvirt_does() {
    let mut properties = DeviceProperties::new();
    properties.insert("usb-disk0".parse().unwrap(), vec![("bootindex", Property::Number(1))]);
    let written = libvirt_command_line(
        &[
            "0 usb qemu-xhci 15/15",
            "0:1 redir0 redir:spicevmc",
            "0:2 sound0 audio",
            "0:3 input1 mouse",
            "0:4 input0 tablet:usbversion=2",
            "0:5 serial7 serial:pty",
            "0:6 net2 net:user,mac=52:54:00:00:00:01",
            "0:7 net3 net:id:hostnet9",
            "0:8 fs0 mtp:/srv",
            "0:9 usb-disk0 storage:/a.img,serial=x-y,removable=on",
            "0:10 stick storage:/b.qcow2,readonly",
            "0:11 ccid0 ccid",
            "0:12 hub0 hub",
            "0:13 sound1 audio:audio2",
            "0:14 net4 net:none",
            "0:15 usb-disk3 storage:/dev/vusb-none,media=cdrom,serial=CD",
        ],
        // The last two are not in the hardware.
        &[
            "0:1", "0:2", "0:4", "0:3", "0:5", "0:6", "0:7", "0:8", "0:9", "0:10", "0:11", "0:12",
            "0:13", "0:14", "0:15", "0:1.1", "5:1",
        ],
        &properties,
        "pci.0",
    );
    assert_eq!(
        written[1..],
        [
            r#"-device {"driver":"usb-hub","id":"hub0","bus":"usb.0","port":"12"}"#,
            r#"-device {"driver":"usb-ccid","id":"ccid0","bus":"usb.0","port":"11"}"#,
            r#"-blockdev {"driver":"file","filename":"/a.img","node-name":"libvirt-3-storage","read-only":false}"#,
            r#"-device {"driver":"usb-storage","drive":"libvirt-3-storage","id":"usb-disk0","bootindex":1,"removable":true,"serial":"x-y","bus":"usb.0","port":"9"}"#,
            r#"-blockdev {"driver":"file","filename":"/b.qcow2","node-name":"libvirt-2-storage","read-only":true}"#,
            r#"-blockdev {"driver":"qcow2","node-name":"libvirt-2-format","read-only":true,"file":"libvirt-2-storage"}"#,
            r#"-device {"driver":"usb-storage","drive":"libvirt-2-format","id":"ua-stick","removable":false,"bus":"usb.0","port":"10"}"#,
            r#"-blockdev {"driver":"host_device","filename":"/dev/vusb-none","node-name":"libvirt-1-storage","read-only":true}"#,
            r#"-device {"driver":"usb-bot","id":"usb-disk3","serial":"CD","bus":"usb.0","port":"15"}"#,
            r#"-device {"driver":"scsi-cd","bus":"usb-disk3.0","scsi-id":0,"lun":0,"drive":"libvirt-1-storage","id":"usb-disk3-device","serial":"CD"}"#,
            r#"-device {"driver":"usb-mtp","rootdir":"/srv","readonly":true,"id":"fs0","bus":"usb.0","port":"8"}"#,
            r#"-netdev {"id":"hostnet2","type":"user"}"#,
            r#"-device {"driver":"usb-net","netdev":"hostnet2","mac":"52:54:00:00:00:01","id":"net2","bus":"usb.0","port":"6"}"#,
            r#"-device {"driver":"usb-net","netdev":"hostnet9","id":"net3","bus":"usb.0","port":"7"}"#,
            r#"-device {"driver":"usb-net","id":"net4","bus":"usb.0","port":"14"}"#,
            "-chardev pty,id=charserial7",
            r#"-device {"driver":"usb-serial","chardev":"charserial7","id":"serial7","bus":"usb.0","port":"5"}"#,
            r#"-device {"driver":"usb-tablet","id":"input0","bus":"usb.0","port":"4"}"#,
            r#"-device {"driver":"usb-mouse","id":"input1","bus":"usb.0","port":"3"}"#,
            r#"-audiodev {"driver":"none","id":"audio1"}"#,
            r#"-device {"driver":"usb-audio","audiodev":"audio1","id":"sound0","bus":"usb.0","port":"2"}"#,
            r#"-audiodev {"driver":"none","id":"audio2"}"#,
            r#"-device {"driver":"usb-audio","audiodev":"audio2","id":"sound1","bus":"usb.0","port":"13"}"#,
            "-chardev spicevmc,id=charredir0,name=usbredir",
            r#"-device {"driver":"usb-redir","chardev":"charredir0","id":"redir0","bus":"usb.0","port":"1"}"#,
        ]
    );
    let (present, address) = plugged_in();
    let host =
        pairs(&libvirt_arguments(&present, &[address], &DeviceProperties::new(), "pci.0").unwrap());
    assert_eq!(
        host[1],
        r#"-device {"driver":"usb-host","hostdevice":"/dev/bus/usb/001/004","id":"ua-stick","bus":"ua-hci0.0","port":"1"}"#
    );
}

/// A sound card that names no back end has the only one of the domain, whatever its number.
#[test]
fn a_sound_card_gets_the_back_end_of_its_domain() {
    let mut properties = DeviceProperties::new();
    let own = vec![
        (AUDIO_NUMBER, Property::Number(3)),
        (AUDIO_DRIVER, Property::Text("alsa".to_owned())),
    ];
    properties.insert("sound0".parse().unwrap(), own);
    let lines = ["0 usb qemu-xhci 4/4", "0:1 sound0 audio"];
    let written = libvirt_command_line(&lines, &["0:1"], &properties, "pci.0");
    assert_eq!(
        written[1..],
        [
            r#"-audiodev {"driver":"alsa","id":"audio3"}"#,
            r#"-device {"driver":"usb-audio","audiodev":"audio3","id":"sound0","bus":"usb.0","port":"1"}"#,
        ]
    );
}

/// Only libvirt's own aliases stay as they are: a prefix and a number.
#[test]
fn names_become_aliases_of_libvirt() {
    let tablet = |name: &str| {
        let line = format!("0:1 {name} tablet");
        libvirt_command_line(
            &["0 usb qemu-xhci 4/4", &line],
            &["0:1"],
            &DeviceProperties::new(),
            "pci.0",
        )
        .remove(1)
    };
    for (name, id) in [
        ("input12", "input12"),
        ("input", "ua-input"),
        ("inputs1", "ua-inputs1"),
        ("mouse0", "ua-mouse0"),
    ] {
        assert!(tablet(name).contains(&format!(r#""id":"{id}""#)), "{name}: {}", tablet(name));
    }
}

#[test]
fn a_device_whose_back_end_is_only_known_by_its_id_cannot_be_restored() {
    let device = |kind: &str| Device { name: "t".parse().unwrap(), kind: kind.parse().unwrap() };
    assert!(not_restorable(&device("serial:id:vusb-t")).is_some());
    assert!(not_restorable(&device("redir:id:vusb-t")).is_some());
    // Another tool's character device is not removed with the device.
    for kind in ["serial:id:mine", "serial:pty", "storage:/a.img", "net", "tablet"] {
        assert_eq!(not_restorable(&device(kind)), None, "{kind}");
    }
    let other = Kind::Other(vusb_model::device::Other { driver: "usb-wacom-tablet".to_owned() });
    assert!(not_restorable(&Device { kind: other, ..device("tablet") }).is_some());
}

/// The settings of a disk that libvirt puts on its block node, and those of a character device.
#[test]
fn options_of_back_ends_are_written_as_libvirt_does() {
    let text = |text: &str| Property::Text(text.to_owned());
    let properties = DeviceProperties::from([
        (
            "usb-disk0".parse().unwrap(),
            vec![
                ("blockdev.cache", text("directsync")),
                ("blockdev.discard", text("unmap")),
                ("logical_block_size", Property::Number(512)),
            ],
        ),
        (
            "redir0".parse().unwrap(),
            vec![("chardev.reconnect", text("5")), ("chardev.logfile", text("/a,b"))],
        ),
    ]);
    let written = libvirt_command_line(
        &[
            "0 usb qemu-xhci 4/4",
            "0:1 usb-disk0 storage:/a.img",
            "0:2 redir0 redir:tcp:localhost:1",
        ],
        &["0:1", "0:2"],
        &properties,
        "pci.0",
    );
    assert_eq!(
        written[1..],
        [
            r#"-blockdev {"driver":"file","filename":"/a.img","node-name":"libvirt-1-storage","read-only":false,"cache":{"direct":true,"no-flush":false},"discard":"unmap"}"#,
            r#"-device {"driver":"usb-storage","drive":"libvirt-1-storage","id":"usb-disk0","logical_block_size":512,"write-cache":"off","removable":false,"bus":"usb.0","port":"1"}"#,
            "-chardev socket,id=charredir0,host=localhost,port=1,reconnect=5,logfile=/a,,b",
            r#"-device {"driver":"usb-redir","chardev":"charredir0","id":"redir0","bus":"usb.0","port":"2"}"#,
        ]
    );
}
