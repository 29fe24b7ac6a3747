//! Steps that the driver takes, and what they leave behind.

use std::time::Duration;

use serde_json::json;
use vusb_drivers::Error;
use vusb_model::capabilities::Capabilities;
use vusb_model::device::{Kind, Other};
use vusb_model::diff::{Step, diff};
use vusb_model::digest::digest;
use vusb_model::hardware::{Device, Hardware};
use vusb_model::refusal::Category;
use vusb_model::remedy::Remedy;
use vusb_model::resolve::resolve;
use vusb_model::selector::BusAddress;

use super::{Scenario, StartedAs, X86, scenarios};
use crate::stage::{Stage, address, expect, hardware, lines, pci, spec, without_devices};

const EMPTY: &[&str] = &["-machine", "pc", "-nodefaults"];

scenarios! {
    every_model_that_can_be_added = Scenario {
        name: "pc-add-controllers",
        arguments: EMPTY,
        kind: X86,
        script: add_controllers,
    };
    a_device_of_each_kind_is_added_and_removed = Scenario {
        name: "pc-add-devices",
        arguments: EMPTY,
        kind: X86,
        script: add_devices,
    };
    spare_slots = Scenario {
        name: "q35-spare-slots",
        // As `arguments` writes them.
        arguments: &[
            "-machine", "q35", "-nodefaults",
            "-device", "{\"driver\":\"pcie-root-port\",\"id\":\"vusb-slot0\",\"chassis\":100}",
            "-device", "{\"driver\":\"pcie-root-port\",\"id\":\"vusb-slot1\",\"chassis\":101}",
        ],
        kind: X86,
        script: |stage| {
            stage.apply(&spec(&["qemu-xhci", "ehci"], &[])).unwrap();
            let hardware = stage.observe().hardware;
            assert_eq!(pci(&hardware), ["hci0 vusb-slot0/00.0", "hci1 vusb-slot1/00.0"]);
            let refusal = stage.apply(&spec(&["qemu-xhci"], &[])).unwrap_err();
            assert_eq!(refusal.category(), Category::NotImplemented);
        },
    };
    devices_without_ids_are_removed = Scenario {
        name: "pc-remove-without-ids",
        arguments: &[
            "-machine", "pc", "-nodefaults", "-device", "qemu-xhci,p2=8,p3=8", "-device", "piix3-usb-uhci",
            "-device", "usb-tablet,bus=usb-bus.0", "-device", "usb-mouse,bus=usb-bus.0",
            "-device", "usb-tablet,bus=usb-bus.0", "-device", "usb-kbd,bus=usb-bus.0",
        ],
        kind: X86,
        script: remove_without_ids,
    };
    a_leftover_back_end_is_replaced = Scenario {
        name: "pc-leftover-back-end",
        arguments: EMPTY,
        kind: X86,
        script: |stage| {
            let file = stage.path("stick.img");
            let left = json!({"driver": "raw", "node-name": "vusb-storage0", "file": {"driver": "file", "filename": file}});
            stage.other_tool("blockdev-add", left);
            stage.apply(&spec(&[], &[&format!("storage:{file}")])).unwrap();
            expect(&stage.observe().hardware, &["0 hci0 qemu-xhci 15/15", &format!("0:1 storage0 storage:{file}")]);
        },
    };
    a_back_end_in_use_is_not_replaced = Scenario {
        name: "pc-back-end-in-use",
        arguments: &[
            "-machine", "pc", "-nodefaults", "-device", "qemu-xhci",
            "-blockdev", "driver=null-co,node-name=vusb-stick,size=4096,read-zeroes=on",
            "-device", "usb-storage,drive=vusb-stick",
        ],
        kind: X86,
        script: |stage| {
            stage.observe();
            let stick = format!("0:2 stick storage:{}", stage.path("stick.img"));
            let steps = diff(&hardware(&["0 hci0 qemu-xhci 4/4"]), &hardware(&["0 hci0 qemu-xhci 4/4", &stick]));
            assert!(matches!(stage.perform(&steps[0]), Err(Error::Failed { .. })));
            assert_eq!(stage.observe().hardware.devices().count(), 1);
        },
    };
    a_refused_device_leaves_no_back_end = Scenario {
        name: "pc-port-in-use",
        arguments: &["-machine", "pc", "-nodefaults", "-device", "qemu-xhci", "-device", "usb-mouse,port=1"],
        kind: X86,
        script: port_in_use,
    };
    a_stopped_guest_keeps_its_controllers = Scenario {
        name: "pc-stopped",
        arguments: &["-machine", "pc", "-nodefaults", "-device", "qemu-xhci"],
        kind: X86,
        script: |stage| {
            let base = stage.observe().hardware;
            let steps = diff(&base, &Hardware::new());
            for error in [stage.check(&steps).unwrap_err(), stage.perform(&steps[0]).unwrap_err()] {
                assert!(matches!(&error, Error::Failed { why, .. } if why.text.contains("not been started")), "{error}");
            }
            assert_eq!(stage.observe().hardware, base);
        },
    };
    a_guest_that_does_not_answer = Scenario {
        name: "pc-no-answer",
        arguments: &["-machine", "pc", "-nodefaults", "-device", "qemu-xhci", "-device", "pci-ohci"],
        kind: X86,
        script: no_answer,
    };
    a_linux_guest_releases_controllers_on_pc = Scenario {
        name: "pc-guest",
        arguments: &[],
        kind: StartedAs::Guest("pc"),
        script: release,
    };
    a_linux_guest_releases_controllers_on_q35 = Scenario {
        name: "q35-guest",
        arguments: &["-device", "pcie-root-port,id=rp0,chassis=1", "-device", "pcie-root-port,id=rp1,chassis=2"],
        kind: StartedAs::Guest("q35"),
        script: release,
    };
    controllers_come_back_at_their_addresses = Scenario {
        name: "pc-addresses",
        arguments: &["-machine", "pc", "-nodefaults", "-device", "virtio-balloon-pci,id=balloon,addr=3"],
        kind: X86,
        script: addresses,
    };
    devices_that_another_tool_removed = Scenario {
        name: "pc-gone",
        arguments: &[
            "-machine", "pc", "-nodefaults", "-device", "qemu-xhci,id=x",
            "-chardev", "null,id=theirs", "-device", "usb-serial,chardev=theirs,id=line",
            "-device", "usb-mouse,id=rodent",
        ],
        kind: X86,
        script: gone,
    };
    a_qemu_that_ends = Scenario {
        name: "pc-killed",
        arguments: EMPTY,
        kind: X86,
        script: |stage| {
            stage.observe();
            stage.with_real("QEMU is killed", |qemu| qemu.kill());
            let error = stage.fail_to_observe();
            assert!(matches!(error, Error::Unreachable { midway: true, .. }), "{error}");
        },
    };
}

fn add_controllers(stage: &mut Stage<'_>) {
    // Unsupported models are refused before anything is changed.
    for model in ["ich9-ehci1", "pci-ohci", "vt82c686b-uhci", "xenusb2", "xenusb3"] {
        let refusal = stage.apply(&spec(&["qemu-xhci", model], &[])).unwrap_err();
        assert_eq!(refusal.category(), Category::NotImplemented, "{model}");
    }
    assert_eq!(stage.observe().hardware, Hardware::new());
    let models = ["piix3-uhci", "piix4-uhci", "ehci", "nec-xhci", "qemu-xhci"];
    let wanted = stage.apply(&spec(&models, &[])).unwrap();
    let observed = stage.observe();
    let expected = [
        "0 hci0 piix3-uhci 2/0",
        "1 hci1 piix4-uhci 2/0",
        "2 hci2 ehci 6/0",
        "3 hci3 nec-xhci 15/15",
        "4 hci4 qemu-xhci 15/15",
    ];
    expect(&observed.hardware, &expected);
    assert_eq!(digest(&observed.hardware), digest(&wanted));
    assert_eq!(observed.ours.len(), 5);
    let slots = ["02", "03", "04", "05", "06"];
    let slots =
        slots.iter().enumerate().map(|(number, slot)| format!("hci{number} pci.0/{slot}.0"));
    assert_eq!(pci(&observed.hardware), slots.collect::<Vec<_>>());
    assert_eq!(stage.capabilities(None).slots.unwrap().free, 25);
}

fn add_devices(stage: &mut Stage<'_>) {
    let (raw, qcow2) = (stage.path("stick.img"), stage.path("disk.qcow2"));
    let devices = [
        format!("storage:{raw}"),
        format!("storage:{qcow2},readonly"),
        "tablet".to_owned(),
        "mouse:usbversion=2".to_owned(),
        "keyboard".to_owned(),
        "hub".to_owned(),
        "serial:pty".to_owned(),
        format!("serial:unix:{},server", stage.path("serial")),
        format!("serial:file:{}", stage.path("log")),
        "redir:tcp:[::1]:47103,server".to_owned(),
        "net".to_owned(),
        "net:none".to_owned(),
        format!("mtp:{}", stage.path("").trim_end_matches('/')),
        "ccid".to_owned(),
        format!("redir:unix:{},server", stage.path("redir")),
    ];
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    let wanted = stage.apply(&spec(&[], &devices)).unwrap();

    // With the record, the observation equals the wanted hardware. The redirections have no peer.
    let observed = stage.observe_with(&wanted);
    assert_eq!(lines(&observed.hardware), lines(&wanted));
    assert_eq!(digest(&observed.hardware), digest(&wanted));
    let absent =
        observed.states.keys().map(|at| observed.hardware.device(*at).unwrap().kind.name());
    assert_eq!(absent.collect::<Vec<_>>(), ["redir", "redir"]);

    // Without it, QEMU reports the same, except for the path of a file.
    let unrecorded = stage.observe().hardware;
    let but_files = |hardware: &Hardware| {
        let lines = lines(hardware).into_iter().filter(|line| !line.contains("serial2"));
        lines.collect::<Vec<_>>()
    };
    assert_eq!(but_files(&unrecorded), but_files(&wanted));
    assert_eq!(digest(&unrecorded), digest(&wanted));

    // Removing the devices also removes their back ends, even if the record does not name them.
    stage.take(&diff(&unrecorded, &without_devices(&unrecorded)));
    assert_eq!(stage.observe().hardware.devices().count(), 0);
}

fn remove_without_ids(stage: &mut Stage<'_>) {
    let before = stage.observe().hardware;
    expect(
        &before,
        &[
            "0 hci0 qemu-xhci 8/8",
            "0:1 tablet0 tablet:usbversion=2",
            "0:2 mouse0 mouse:usbversion=2",
            "0:3 tablet1 tablet:usbversion=2",
            "0:4 keyboard0 keyboard:usbversion=2",
            "1 hci1 piix3-uhci 2/0",
        ],
    );
    let mut after = before.clone();
    after.unplug(address("0:1"));
    stage.take(&diff(&before, &after));
    // The first tablet is gone, and the second is not.
    let left: Vec<String> =
        stage.observe().hardware.devices().map(|(at, _)| at.to_string()).collect();
    assert_eq!(left, ["0:2", "0:3", "0:4"]);
    let before = stage.observe().hardware;
    let mut after = before.clone();
    after.unplug(address("0:3"));
    after.unplug(address("0:4"));
    stage.take(&diff(&before, &after));
    expect(
        &stage.observe().hardware,
        &["0 hci0 qemu-xhci 8/8", "0:2 mouse0 mouse:usbversion=2", "1 hci1 piix3-uhci 2/0"],
    );
}

fn port_in_use(stage: &mut Stage<'_>) {
    let base = stage.observe().hardware;
    // As if the mouse had been plugged in after the observation.
    let mut outdated = base.clone();
    outdated.unplug(address("0:1"));
    let everything = Capabilities::everything();
    for device in
        [format!("storage:{}", stage.path("stick.img")), "serial:null".to_owned(), "net".to_owned()]
    {
        let wanted = resolve(&outdated, &spec(&[], &[&device]), &everything).unwrap().hardware;
        let error = stage.perform(&diff(&outdated, &wanted)[0]).unwrap_err();
        assert!(
            matches!(&error, Error::Failed { why, .. } if why.text.contains("in use")),
            "{error}"
        );
    }
    // A host device has to be plugged in, and a device of another tool cannot be recreated.
    let plug =
        |kind: Kind| Step::Plug(address("0:2"), Device { name: "new".parse().unwrap(), kind });
    let Kind::Host(mut host) = "host:0781:5581".parse().unwrap() else { panic!() };
    let checked = stage.check(&[plug(Kind::Host(host.clone()))]);
    assert!(matches!(checked, Err(Error::Missing { .. })));
    host.bus_address = Some(BusAddress { bus: 1, address: 4 });
    stage.check(&[plug(Kind::Host(host))]).unwrap();
    let checked =
        stage.check(&[plug(Kind::Other(Other { driver: "usb-wacom-tablet".to_owned() }))]);
    assert!(matches!(checked, Err(Error::NotImplemented { .. })));
    // A controller that is gone has no ports.
    let step = Step::Plug(address("7:1"), any_device(&everything));
    assert!(matches!(stage.perform(&step), Err(Error::Missing { .. })));
    assert_eq!(stage.observe().hardware, base);
}

fn any_device(everything: &Capabilities) -> Device {
    let any = resolve(&Hardware::new(), &spec(&[], &["ccid"]), everything).unwrap().hardware;
    any.devices().next().unwrap().1.clone()
}

fn no_answer(stage: &mut Stage<'_>) {
    let base = stage.observe().hardware;
    stage.other_tool("cont", json!({}));
    // OHCI is refused by name, whatever the guest's state.
    let ohci = diff(&base, &hardware(&["0 hci0 qemu-xhci 4/4"]));
    assert!(matches!(stage.check(&ohci), Err(Error::NotImplemented { .. })));
    assert!(matches!(
        stage.perform(&ohci[0]),
        Err(Error::NotImplemented { .. } | Error::Failed { .. })
    ));
    // The firmware does not release a controller. The second attempt finds the first one pending.
    let xhci = diff(&base, &hardware(&["1 hci1 pci-ohci 3/0"]));
    for _ in 0..2 {
        stage.reconnect(Duration::from_millis(300));
        stage.observe();
        stage.check(&xhci).unwrap();
        let error = stage.perform(&xhci[0]).unwrap_err();
        assert!(matches!(&error, Error::TimedOut { .. }) && error.is_uncertain(), "{error}");
        assert!(error.remedies().contains(&Remedy::MoreTime), "{error}");
        assert!(error.remedies().contains(&Remedy::ListDomain), "{error}");
    }
    assert_eq!(stage.observe().hardware, base);
}

fn release(stage: &mut Stage<'_>) {
    stage.apply(&spec(&["qemu-xhci", "ehci"], &["tablet"])).unwrap();
    let given = stage.observe().hardware;
    assert_eq!(given.controllers().len(), 2);
    let first = hardware(&["1 hci1 ehci 6/0"]);
    stage.take(&diff(&given, &first));
    let left = stage.observe().hardware;
    expect(&left, &["1 hci1 ehci 6/0"]);
    stage.take(&diff(&left, &Hardware::new()));
    assert_eq!(stage.observe().hardware, Hardware::new());
}

fn addresses(stage: &mut Stage<'_>) {
    stage.observe();
    let none = Hardware::new();
    let refuse = |stage: &mut Stage<'_>, lines: &[&str], texts: &[&str]| {
        let error = stage.check(&diff(&none, &hardware(lines))).unwrap_err();
        let text = error.to_string();
        assert!(texts.iter().all(|part| text.contains(part)), "{text}");
        assert!(error.remedies().iter().any(|it| matches!(it, Remedy::ReplaceController { .. })));
    };
    refuse(stage, &["0 hci0 ehci 6/0 @pci.0/3"], &["pci.0/03.0", "balloon (virtio-balloon-pci)"]);
    refuse(stage, &["0 hci0 ehci 6/0 @pci.1/3"], &["no PCI bus pci.1"]);
    // Two controllers that are recorded at one address.
    refuse(
        stage,
        &["0 hci0 ehci 6/0 @pci.0/5", "1 hci1 ehci 6/0 @pci.0/5"],
        &["pci.0/05.0", "hci0"],
    );
    assert_eq!(stage.observe().hardware, none);

    // The controller without an address does not take the other's address, although its index is
    // lower.
    let wanted = hardware(&["0 hci0 ehci 6/0", "1 hci1 qemu-xhci 4/4 @pci.0/2"]);
    stage.take(&diff(&none, &wanted));
    let observed = stage.observe().hardware;
    assert_eq!(pci(&observed), ["hci0 pci.0/04.0", "hci1 pci.0/02.0"]);
}

fn gone(stage: &mut Stage<'_>) {
    let base = stage.observe().hardware;
    stage.other_tool("device_del", json!({"id": "rodent"}));
    let mut after = base.clone();
    after.unplug(address("0:2"));
    stage.take(&diff(&base, &after));
    // The back end of another tool's device is kept.
    let mut bare = after.clone();
    bare.unplug(address("0:1"));
    stage.take(&diff(&after, &bare));
    assert_eq!(stage.observe().hardware.devices().count(), 0);
    // An item that the guest does not have is removed without a query.
    let absent = hardware(&["5 hci5 qemu-xhci 4/4", "5:1 mouse0 mouse"]);
    for step in diff(&absent, &Hardware::new()) {
        stage.perform(&step).unwrap();
    }
}
