//! libxl's JSON: what it says, how it is changed, what is wrong with it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use insta::assert_snapshot;
use proptest::prelude::*;
use vusb_formats::Format;
use vusb_formats::config::{Config, Edit, Field};
use vusb_model::address::{Address, Index};
use vusb_model::capabilities::Capabilities;
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Model, RootPorts};
use vusb_model::resolve::resolve;

/// As `xl list -l web1` prints it, with much that is nobody's business here.
const LISTED: &str = r#"[
    {
        "domid": 3,
        "config": {
            "c_info": {
                "type": "hvm",
                "name": "web1",
                "uuid": "9c1ed4f0-22a4-4c1e-a56e-61b8b3f3c2d4",
                "run_hotplug_scripts": "True"
            },
            "b_info": {
                "max_vcpus": 2,
                "avail_vcpus": [
                    0,
                    1
                ],
                "max_memkb": 2097152,
                "target_memkb": 1048576,
                "type.hvm": {
                    "bios": "seabios",
                    "usb": "True",
                    "usbdevice_list": [
                        "tablet"
                    ],
                    "spice": {

                    }
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
                    "devid": 2
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
            ],
            "on_reboot": "restart"
        }
    }
]
"#;

fn read(text: &str) -> Config {
    Format::Json.read(text, "web1.json").unwrap_or_else(|error| panic!("{error}"))
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
    Format::Json.read(text, "web1.json").unwrap_err().to_string()
}

fn edit(text: &str, edits: &[Edit<'_>]) -> String {
    Format::Json.edit(text, edits).unwrap()
}

fn device(kind: &str, name: &str) -> Device {
    Device { name: name.parse().unwrap(), kind: kind.parse().unwrap() }
}

fn at(bus: u16, port: &str) -> Address {
    Address { bus: Index::new(bus).unwrap(), port: port.parse().unwrap() }
}

/// The lines that are in one text and not in the other, in both directions.
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
fn what_is_listed() {
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

/// One domain's configuration by itself; what has its default is not said.
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
fn one_device_more() {
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
    // Taking it away leaves what was.
    assert_eq!(edit(&after, &[Edit::RemoveDevice(2)]), LISTED);
}

#[test]
fn one_controller_more_and_less() {
    let ports = RootPorts::of(Model::Ehci, 6.try_into().unwrap());
    let third =
        Controller::new(Index::new(3).unwrap(), "hci2".parse().unwrap(), Model::Ehci, ports);
    let after = edit(LISTED, &[Edit::AddController(&third)]);
    assert!(lines(&after).contains(&"3 hci2 ehci 6".to_owned()), "{after}");
    assert_eq!(edit(&after, &[Edit::RemoveController(3)]), LISTED);
    // Each has its own number, so that one in the middle can go.
    let less = edit(LISTED, &[Edit::RemoveDevice(1), Edit::RemoveController(1)]);
    assert_eq!(lines(&less)[..2], ["2 pv0 xenusb2 8", "4095 hci0 piix3-uhci 2"]);
}

#[test]
fn what_qemu_is_started_with() {
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

/// Lists that are not there yet, on one line and on many.
#[test]
fn the_first_of_all() {
    let ports = RootPorts::of(Model::Xenusb2, 8.try_into().unwrap());
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
fn pinning() {
    let ports = RootPorts::of(Model::Xenusb2, 8.try_into().unwrap());
    let pv = Controller::new(Index::new(2).unwrap(), "pv0".parse().unwrap(), Model::Xenusb2, ports);
    let after = edit(LISTED, &[Edit::PinController(2, &pv), Edit::PinDevice(1, at(2, "2"))]);
    let (gone, new) = changed(LISTED, &after);
    assert_eq!(gone, ["\"devid\": 2", "\"ctrl\": 0,"]);
    assert_eq!(new, ["\"devid\": 2,", "\"version\": 2,", "\"ports\": 8", "\"ctrl\": 2,"]);
}

#[test]
fn a_whole_configuration() {
    let guest = Guest { memory_kib: Some(1_048_576), vcpus: Some(2), ..read(LISTED).guest };
    let written = Format::Json.write(&guest, &hardware(LISTED));
    assert_eq!(written.lost, []);
    assert_snapshot!(written.text, @r#"
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
fn mistakes() {
    assert_snapshot!(error("{\n  \"c_info\": { \"type\": \"hvm\" },\n  \"usbctrls\": [ { \"version\": \"2\" } ]\n}"), @r#"
    error: `version` is a whole number
     --> web1.json:3:30
      |
    3 |   "usbctrls": [ { "version": "2" } ]
      |                              ^^^
    "#);
    assert_snapshot!(error("[ { \"domid\": 1,\n    \"config\": }"), @r#"
    error: this is no JSON: expected value
     --> web1.json:2:15
      |
    2 |     "config": }
      |               ^
    "#);
    assert_snapshot!(error("[ { \"domid\": 1 },\n  { \"domid\": 2 } ]"), @r#"
    error: 2 domains are listed here, and it takes one at a time
     --> web1.json:2:3
      |
    2 |   { "domid": 2 } ]
      |   ^^^^^^^^^^^^^^ the second
      |
      = help: ask for one: xl list -l NAME
    "#);
    let hvm = |rest: &str| format!("{{\"c_info\":{{\"type\":\"hvm\"}},{rest}}}");
    for (text, says) in [
        ("[]".to_owned(), "no domain is listed here"),
        ("[ 1 ]".to_owned(), "a domain is an object"),
        ("7".to_owned(), "a domain is an object"),
        ("{}".to_owned(), "domain type unspecified"),
        (r#"{"c_info":{"type":"xen"}}"#.to_owned(), "`type` is \"hvm\", \"pv\" or \"pvh\""),
        (hvm(r#""usbctrls":{}"#), "`usbctrls` is a list"),
        (hvm(r#""usbctrls":[1]"#), "an entry of `usbctrls` is an object"),
        (hvm(r#""usbctrls":[{"ports":7}]"#), "of version 2 is always 6"),
        (hvm(r#""usbdevs":[{"ctrl":0}]"#), "said without type=hostdev"),
        (
            hvm(r#""usbdevs":[{"type.hostdev":{"hostbus":256}}]"#),
            "`hostbus` is a number of 0 to 255",
        ),
        (hvm(r#""b_info":{"type.hvm":{"usb":true}}"#), "`usb` is \"True\", \"False\" or"),
        (
            hvm(r#""b_info":{"type.hvm":{"usbdevice":"a","usbdevice_list":["b"]}}"#),
            "Both usbdevice and usbdevice_list set",
        ),
        (hvm(r#""b_info":{"type.hvm":{"usbversion":2,"usbdevice_list":[]}}"#), "exclude"),
    ] {
        assert!(error(&text).contains(says), "{}", error(&text));
    }
}

/// Nesting is bounded by memory alone, for there is no recursion; size is bounded.
#[test]
fn bounds() {
    let deep = format!(
        "{{\"c_info\":{{\"type\":\"pv\"}},\"x\":{}{}}}",
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    assert_eq!(lines(&deep), [""; 0]);
    assert!(!error(&"[".repeat(1_000_000)).is_empty());
    assert!(error(&" ".repeat((16 << 20) + 1)).contains("larger than 16 MiB"));
}

proptest! {
    /// One character of a good text is made another.
    #[test]
    fn a_typing_error_is_read_or_refused(at in any::<prop::sample::Index>(), new in "[\\PC\n\"{}\\[\\],:0-9-]") {
        let mut text: Vec<String> = LISTED.chars().map(String::from).collect();
        let at = at.index(text.len());
        text[at] = new;
        let text = text.concat();
        if let Err(error) = Format::Json.read(&text, "x") {
            prop_assert!((1..=text.matches('\n').count() + 1).contains(&error.line()));
        }
    }
}
