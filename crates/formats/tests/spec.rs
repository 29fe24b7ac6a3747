//! Examples of everything that a spec can contain.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use insta::assert_snapshot;
use vusb_formats::spec::{SpecFile, read, write};
use vusb_model::models::{Companion, ControllerType, Model, UsbVersion};
use vusb_model::spec::{ControllerRef, Spec};

fn file(text: &str) -> SpecFile {
    read(text, "web1.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// The devices of a spec in the short form.
fn kinds(text: &str) -> Vec<String> {
    file(text).spec.devices.iter().map(|device| device.kind.to_string()).collect()
}

/// An empty text is a valid spec: no USB at all.
#[test]
fn everything_is_optional() {
    assert_eq!(file("").spec, Spec::default());
    assert_eq!(file("# nothing\n\n").driver, None);
}

#[test]
fn the_example_of_the_manual() {
    let file = file(
        r#"
        domain = "web1"
        driver = "qemu:/run/web1.qmp"
        [[controller]]
        usbversion = 3
        [[device]]
        host = "0781:5581"
        controller = "hci0"
        port = "1"
        name = "stick"
        "#,
    );
    assert_eq!(file.driver.as_deref(), Some("qemu:/run/web1.qmp"));
    assert_eq!(file.spec.domain.as_ref().map(|name| name.as_str()), Some("web1"));
    let [controller] = file.spec.controllers.as_slice() else { panic!("one controller") };
    assert_eq!(controller.usbversion, Some(UsbVersion::V3));
    assert_eq!(controller.model, None, "what is left open stays open");
    let [stick] = file.spec.devices.as_slice() else { panic!("one device") };
    assert_eq!(stick.kind.to_string(), "host:0781:5581");
    assert_eq!(stick.controller, Some(ControllerRef::Name("hci0".parse().unwrap())));
    assert_eq!(stick.port, Some("1".parse().unwrap()));
}

#[test]
fn every_key_of_a_controller() {
    let file = file(
        r#"
        [[controller]]
        name = "front"
        index = 7
        type = "emulated"
        usbversion = 2
        model = "ich9-ehci1"
        ports = 6
        companions = [{ model = "ich9-uhci1", first_port = 0 }]
        pci = "pci.0/1d.7"

        [[controller]]
        type = "pv"
        model = "qusb2"         # libvirt's name of xenusb2
        backend = "usbvm"

        [[controller]]
        backend = 3             # a domain by its id

        [[controller]]
        type = "auto"           # as if it were not there
        usb2ports = 4
        usb3ports = 2

        [[controller]]
        model = "ich9-ehci1"
        companions = "none"
        "#,
    );
    let [front, pv, by_id, halves, bare] = file.spec.controllers.as_slice() else {
        panic!("five controllers")
    };
    assert_eq!(front.index.unwrap().get(), 7);
    assert_eq!(front.companions, Some(vec![Companion::GROUP[0]]));
    assert_eq!(front.pci.as_ref().unwrap().to_string(), "pci.0/1d.7");
    assert_eq!((pv.controller_type, pv.model), (Some(ControllerType::Pv), Some(Model::Xenusb2)));
    assert_eq!(pv.backend.as_deref(), Some("usbvm"));
    assert_eq!(by_id.backend.as_deref(), Some("3"));
    assert_eq!((halves.controller_type, halves.separate_ports), (None, Some((4, 2))));
    assert_eq!(bare.companions, Some(vec![]));
}

#[test]
fn every_kind_of_device() {
    let text = r#"
        device = [
            { host = "1-4.2" },
            { kind = "host", host = "003.014" },
            { kind = "storage", file = "stick.img" },
            { kind = "storage", file = "disk.img", format = "qcow2", readonly = true },
            { kind = "tablet" },
            { kind = "mouse", usbversion = 2 },
            { kind = "keyboard" },
            { kind = "hub" },
            { kind = "hub", ports = 4 },
            { kind = "serial", chardev = "pty" },
            { kind = "audio" },
            { kind = "audio", audiodev = "snd0" },
            { kind = "net" },
            { kind = "net", backend = "id:tap0", mac = "52:54:00:12:34:56" },
            { kind = "mtp", dir = "/srv/photos", writable = true },
            { kind = "ccid" },
            { kind = "redir", chardev = "tcp:localhost:4000" },
            { kind = "other", driver = "usb-bot" },
        ]
        "#;
    assert_eq!(
        kinds(text),
        [
            "host:1-4.2",
            "host:003.014",
            "storage:stick.img",
            "storage:disk.img,format=qcow2,readonly",
            "tablet",
            "mouse:usbversion=2",
            "keyboard",
            "hub",
            "hub:ports=4",
            "serial:pty",
            "audio",
            "audio:snd0",
            "net",
            "net:id:tap0,mac=52:54:00:12:34:56",
            "mtp:/srv/photos,writable",
            "ccid",
            "redir:tcp:localhost:4000",
            "other:usb-bot",
        ]
    );
}

/// The short form is exactly what the command line takes.
#[test]
fn the_short_form() {
    let short = r#"device = [{ device = "storage:stick.img,readonly" }, { device = "0781:5581" }]"#;
    assert_eq!(kinds(short), ["storage:stick.img,readonly", "host:0781:5581"]);
}

/// Numbers and strings are equivalent where both are plausible.
#[test]
fn ports_and_controllers_as_numbers() {
    let numbers = file("[[device]]\nkind = 'tablet'\ncontroller = 3\nport = 2");
    let texts = file("[[device]]\nkind = 'tablet'\ncontroller = '3'\nport = '2'");
    assert_eq!(numbers, texts);
}

/// Paths are passed on as written.
#[test]
fn paths_are_passed_on_as_written() {
    assert_eq!(kinds("device = [{ device = 'storage:../a b/ü.img' }]"), ["storage:../a b/ü.img"]);
}

#[test]
fn writing_a_spec() {
    let text = r#"
        domain = "web1"
        controller = [
            { model = "qusb1", backend = 3, ports = 8 },
            { model = "ich9-ehci1", companions = [{ first_port = 2, model = "ich9-uhci2" }] },
        ]
        device = [{ device = 'storage:say "hi".img,readonly', port = 1, controller = 0 }, { kind = "hub" }]
        "#;
    assert_snapshot!(write(&file(text)), @r#"
    profile = "vusb-1"
    domain = "web1"

    [[controller]]
    model = "xenusb1"
    ports = 8
    backend = "3"

    [[controller]]
    model = "ich9-ehci1"
    companions = [{ model = "ich9-uhci2", first_port = 2 }]

    [[device]]
    kind = "storage"
    file = 'say "hi".img'
    readonly = true
    controller = 0
    port = "1"

    [[device]]
    kind = "hub"
    "#);
}

#[test]
fn a_host_device_may_return_with_other_ids() {
    let text = "[[device]]\nhost = \"1-4\"\nalso = [\"0483:DF11\", \"0781:5582\"]\n";
    let read_back = file(&write(&file(text)));
    let [device] = read_back.spec.devices.as_slice() else { panic!("one device") };
    let vusb_model::device::Kind::Host(host) = &device.kind else { panic!("a host device") };
    let also: Vec<String> = host.also.iter().map(ToString::to_string).collect();
    assert_eq!(also, ["0483:df11", "0781:5582"]);
    for (text, expected) in [
        ("[[device]]\nhost = \"1-4\"\nalso = \"0483:df11\"", "`also` must be a list of ids"),
        ("[[device]]\nhost = \"1-4\"\nalso = [\"483:df11\"]", "`483:df11` is not a vendor and"),
        ("[[device]]\nkind = \"mouse\"\nalso = []", "`also` is a key of kind host"),
    ] {
        let error = read(text, "web1.toml").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
