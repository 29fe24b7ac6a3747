//! libxl's JSON: reading, editing, writing, and mistakes in it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use insta::assert_snapshot;
use proptest::prelude::*;
use vusb_formats::config::{Config, Edit, Field};
use vusb_formats::{ConfigFormat as _, LibxlJson};
use vusb_model::address::{Address, Index};
use vusb_model::capabilities::Capabilities;
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Model, RootPorts};
use vusb_model::resolve::resolve;

/// The output of `xl list -l web1`, with many unrelated keys.
const LISTED: &str = include_str!("fixtures/list.json");

fn read(text: &str) -> Config {
    LibxlJson.read(text, "web1.json").unwrap_or_else(|error| panic!("{error}"))
}

fn hardware(text: &str) -> Hardware {
    let config = read(text);
    let capabilities = Capabilities { guest: config.guest.clone(), ..Capabilities::everything() };
    resolve(&Hardware::new(), &config.spec, &capabilities).unwrap().hardware
}

fn lines(text: &str) -> Vec<String> {
    let hardware = hardware(text);
    let controllers = hardware
        .controllers()
        .map(|it| format!("{} {} {} {}", it.index, it.name, it.model, it.ports.count()));
    let devices = hardware.devices().map(|(at, it)| format!("{at} {} {}", it.name, it.kind));
    controllers.chain(devices).collect()
}

fn error(text: &str) -> String {
    LibxlJson.read(text, "web1.json").unwrap_err().to_string()
}

fn edit(text: &str, edits: &[Edit<'_>]) -> String {
    LibxlJson.edit(text, edits).unwrap()
}

fn device(kind: &str, name: &str) -> Device {
    Device { name: name.parse().unwrap(), kind: kind.parse().unwrap() }
}

fn at(bus: u16, port: &str) -> Address {
    Address { bus: Index::new(bus).unwrap(), port: port.parse().unwrap() }
}

/// The lines that only one of two texts has: removed lines and added lines.
fn changed(before: &str, after: &str) -> (Vec<String>, Vec<String>) {
    let only = |a: &str, b: &str| {
        let mut rest: Vec<&str> = b.lines().collect();
        let gone = |line: &&str| match rest.iter().position(|it| it == line) {
            Some(at) => {
                rest.remove(at);
                false
            }
            None => true,
        };
        a.lines().filter(gone).map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    (only(before, after), only(after, before))
}

#[test]
fn a_listed_domain() {
    let config = read(LISTED);
    assert_eq!(
        config.guest,
        Guest {
            name: Some("web1".to_owned()),
            uuid: Some("9c1ed4f0-22a4-4c1e-a56e-61b8b3f3c2d4".to_owned()),
            hypervisor: Hypervisor::Xen,
            virtualization: Virtualization::Hvm,
            memory_kib: Some(1_048_576),
            vcpus: Some(2),
            ..Guest::default()
        }
    );
    assert_eq!(
        lines(LISTED),
        [
            "0 hci1 nec-xhci 8",
            "2 pv0 xenusb2 8",
            "4095 hci0 piix3-uhci 2",
            "0:2 host0 host:003.014",
            "4095:1 tablet0 tablet:usbversion=2",
        ]
    );
    assert_eq!(&LISTED[config.controllers[1].fields[&Field::Ports].clone()], "8");
    assert_eq!(&LISTED[config.devices[1].fields[&Field::What].clone()], "14");
    assert!(config.warnings.is_empty());
}

/// One domain's configuration by itself, without the values that are the default.
#[test]
fn a_bare_configuration() {
    let text = r#"{"c_info":{"type":"pv"},"usbctrls":[{},{"devid":4,"version":1,"backend_domname":"usbvm"},{"type":"pv"}],
                   "usbdevs":[{"type.hostdev":{"hostbus":1,"hostaddr":3}}]}"#;
    assert_eq!(
        lines(text),
        ["0 pv0 xenusb2 8", "4 pv1 xenusb1 8", "5 pv2 xenusb2 8", "0:1 host0 host:001.003"]
    );
    assert_eq!(read(text).spec.controllers[1].backend.as_deref(), Some("usbvm"));
    let spice = r#"{"c_info":{"type":"hvm"},"b_info":{"type.hvm":{"spice":{"enable":"True","usbredirection":1}}}}"#;
    assert_eq!(lines(spice), ["4095 hci0 ich9-ehci1 6", "4095:1 redir0 redir:spicevmc"]);
}

#[test]
fn adding_a_device() {
    let stick = device("003.015", "host1");
    let after = edit(LISTED, &[Edit::AddDevice(at(2, "7"), &stick)]);
    let new = [
        "},",
        "{",
        "\"ctrl\": 2,",
        "\"port\": 7,",
        "\"type.hostdev\": {",
        "\"hostbus\": 3,",
        "\"hostaddr\": 15",
        "}",
    ];
    assert_eq!(changed(LISTED, &after), (vec![], new.map(str::to_owned).to_vec()));
    assert!(lines(&after).contains(&"2:7 host1 host:003.015".to_owned()));
    // Removing it restores the original text.
    assert_eq!(edit(&after, &[Edit::RemoveDevice(2)]), LISTED);
}

#[test]
fn adding_and_removing_a_controller() {
    let ports = RootPorts::uniform(Model::Ehci, 6.try_into().unwrap());
    let third =
        Controller::new(Index::new(3).unwrap(), "hci2".parse().unwrap(), Model::Ehci, ports);
    let after = edit(LISTED, &[Edit::AddController(&third)]);
    assert!(lines(&after).contains(&"3 hci2 ehci 6".to_owned()), "{after}");
    assert_eq!(edit(&after, &[Edit::RemoveController(3)]), LISTED);
    // Controllers contain their number, so one in the middle can be removed.
    let removed = edit(LISTED, &[Edit::RemoveDevice(1), Edit::RemoveController(1)]);
    assert_eq!(lines(&removed)[..2], ["2 pv0 xenusb2 8", "4095 hci0 piix3-uhci 2"]);
}

#[test]
fn the_boot_controller() {
    let mouse = device("mouse:usbversion=2", "mouse0");
    let after = edit(LISTED, &[Edit::AddDevice(at(4095, "2.1"), &mouse)]);
    assert_eq!(
        changed(LISTED, &after),
        (vec!["\"tablet\"".to_owned()], vec!["\"tablet\",".to_owned(), "\"mouse\"".to_owned()])
    );
    let none = edit(LISTED, &[Edit::RemoveDevice(0), Edit::RemoveController(0)]);
    assert_eq!(lines(&none).len(), 3);
    assert!(!none.contains("usbdevice_list") && !none.contains("\"usb\""), "{none}");
    let word = r#"{"c_info":{"type":"hvm"},"b_info":{"type.hvm":{"usbdevice":"tablet"}}}"#;
    assert_eq!(
        edit(word, &[Edit::AddDevice(at(4095, "2.1"), &mouse)]),
        r#"{"c_info":{"type":"hvm"},"b_info":{"type.hvm":{"usbdevice_list":["tablet","mouse"]}}}"#
    );
}

/// Missing lists are created, in a text on one line and in one on many.
#[test]
fn the_first_controller_and_device() {
    let ports = RootPorts::uniform(Model::Xenusb2, 8.try_into().unwrap());
    let first = Controller::new(Index::ZERO, "pv0".parse().unwrap(), Model::Xenusb2, ports);
    let stick = device("003.015", "host0");
    let edits = [Edit::AddController(&first), Edit::AddDevice(at(0, "1"), &stick)];
    assert_eq!(
        edit(r#"{"c_info":{"type":"pv"}}"#, &edits),
        r#"{"c_info":{"type":"pv"},"usbctrls":[{"type":"qusb","devid":0,"version":2,"ports":8}],"usbdevs":[{"ctrl":0,"port":1,"type.hostdev":{"hostbus":3,"hostaddr":15}}]}"#
    );
    assert_snapshot!(edit("{\n  \"c_info\": {\n    \"type\": \"pv\"\n  },\n  \"usbctrls\": [ ]\n}", &edits), @r#"
    {
      "c_info": {
        "type": "pv"
      },
      "usbctrls": [
        {
          "type": "qusb",
          "devid": 0,
          "version": 2,
          "ports": 8
        }
      ],
      "usbdevs": [
        {
          "ctrl": 0,
          "port": 1,
          "type.hostdev": {
            "hostbus": 3,
            "hostaddr": 15
          }
        }
      ]
    }
    "#);
}

#[test]
fn pinning_specifies_the_values_that_were_left_open() {
    let ports = RootPorts::uniform(Model::Xenusb2, 8.try_into().unwrap());
    let pv = Controller::new(Index::new(2).unwrap(), "pv0".parse().unwrap(), Model::Xenusb2, ports);
    let after = edit(LISTED, &[Edit::PinController(2, &pv), Edit::PinDevice(1, at(2, "2"))]);
    let (gone, new) = changed(LISTED, &after);
    assert_eq!(gone, ["\"devid\": 2", "\"ctrl\": 0,"]);
    assert_eq!(new, ["\"devid\": 2,", "\"version\": 2,", "\"ports\": 8", "\"ctrl\": 2,"]);
}

#[test]
fn a_whole_configuration() {
    let guest = Guest { memory_kib: Some(1_048_576), vcpus: Some(2), ..read(LISTED).guest };
    let generated = LibxlJson.write(&guest, &hardware(LISTED));
    assert_eq!(generated.lost, []);
    assert_snapshot!(generated.text, @r#"
    {
        "c_info": {
            "type": "hvm",
            "name": "web1",
            "uuid": "9c1ed4f0-22a4-4c1e-a56e-61b8b3f3c2d4"
        },
        "b_info": {
            "max_vcpus": 2,
            "max_memkb": 1048576,
            "target_memkb": 1048576,
            "type.hvm": {
                "usb": "True",
                "usbdevice_list": [
                    "tablet"
                ]
            }
        },
        "usbctrls": [
            {
                "type": "devicemodel",
                "devid": 0,
                "version": 3,
                "ports": 8
            },
            {
                "type": "qusb",
                "devid": 1,
                "version": 2,
                "ports": 8
            }
        ],
        "usbdevs": [
            {
                "ctrl": 0,
                "port": 2,
                "type.hostdev": {
                    "hostbus": 3,
                    "hostaddr": 14
                }
            }
        ]
    }
    "#);
}

#[test]
fn mistakes_are_rejected_as_libxl_rejects_them() {
    assert_snapshot!(error("{\n  \"c_info\": { \"type\": \"hvm\" },\n  \"usbctrls\": [ { \"version\": \"2\" } ]\n}"), @r#"
    error: `version` must be a whole number
     --> web1.json:3:30
      |
    3 |   "usbctrls": [ { "version": "2" } ]
      |                              ^^^
    "#);
    assert_snapshot!(error("[ { \"domid\": 1,\n    \"config\": }"), @r#"
    error: this is not JSON: expected value
     --> web1.json:2:15
      |
    2 |     "config": }
      |               ^
    "#);
    assert_snapshot!(error("[ { \"domid\": 1 },\n  { \"domid\": 2 } ]"), @r#"
    error: there are 2 domains in this list, and only one can be read
     --> web1.json:2:3
      |
    2 |   { "domid": 2 } ]
      |   ^^^^^^^^^^^^^^ the second
      |
      = help: list only one: xl list -l NAME
    "#);
    let hvm = |rest: &str| format!("{{\"c_info\":{{\"type\":\"hvm\"}},{rest}}}");
    for (text, message) in [
        ("[]".to_owned(), "there is no domain in this list"),
        ("[ 1 ]".to_owned(), "a domain must be an object"),
        ("7".to_owned(), "a domain must be an object"),
        ("{}".to_owned(), "domain type unspecified"),
        (r#"{"c_info":{"type":"xen"}}"#.to_owned(), "`type` must be \"hvm\", \"pv\" or \"pvh\""),
        (hvm(r#""usbctrls":{}"#), "`usbctrls` must be a list"),
        (hvm(r#""usbctrls":[1]"#), "an entry of `usbctrls` must be an object"),
        (hvm(r#""usbctrls":[{"ports":7}]"#), "of version 2 is always 6"),
        (
            hvm(r#""usbdevs":[{"type.hostdev":{"hostbus":256}}]"#),
            "`hostbus` must be a number from 0 to 255",
        ),
        (hvm(r#""b_info":{"type.hvm":{"usb":true}}"#), "`usb` must be \"True\", \"False\" or"),
        (
            hvm(r#""b_info":{"type.hvm":{"usbdevice":"a","usbdevice_list":["b"]}}"#),
            "Both usbdevice and usbdevice_list set",
        ),
        (hvm(r#""b_info":{"type.hvm":{"usbversion":2,"usbdevice_list":[]}}"#), "exclude"),
    ] {
        assert!(error(&text).contains(message), "{}", error(&text));
    }
}

/// `xl` writes such an entry for a device that was configured without `type=hostdev`.
#[test]
fn a_device_without_an_address_is_left_out_and_the_text_is_not_edited() {
    let text = r#"{"c_info":{"type":"pv"},"usbctrls":[{"type":"qusb","devid":0,"version":2,"ports":8}],"usbdevs":[{"ctrl":0,"port":1}]}"#;
    let config = LibxlJson.read(text, "x").unwrap();
    assert_eq!((config.controllers.len(), config.devices.len()), (1, 0));
    let warning = config.warnings[0].to_string();
    assert!(warning.contains("the device on port 1 of controller 0 has no address"), "{warning}");
    let refused = LibxlJson.edit(text, &[Edit::RemoveController(0)]).unwrap_err();
    assert!(refused.why.text.contains("its port is not known to be free"), "{refused:?}");
}

/// Nesting is not limited because nothing recurses; size is limited.
#[test]
fn nesting_is_not_limited_but_size_is() {
    let deep = format!(
        "{{\"c_info\":{{\"type\":\"pv\"}},\"x\":{}{}}}",
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    assert_eq!(lines(&deep), [""; 0]);
    assert!(!error(&"[".repeat(1_000_000)).is_empty());
    assert!(error(&" ".repeat((2 << 20) + 1)).contains("larger than 2 MiB"));
}

proptest! {
    /// One character of a valid text is replaced by another.
    #[test]
    fn a_typing_error_is_read_or_rejected(at in any::<prop::sample::Index>(), new in "[\\PC\n\"{}\\[\\],:0-9-]") {
        let mut text: Vec<String> = LISTED.chars().map(String::from).collect();
        let at = at.index(text.len());
        text[at] = new;
        let text = text.concat();
        if let Err(error) = LibxlJson.read(&text, "x") {
            prop_assert!((1..=text.matches('\n').count() + 1).contains(&error.line()));
        }
    }
}
