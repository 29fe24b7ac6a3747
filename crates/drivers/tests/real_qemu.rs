//! The QEMU driver on a real QEMU, without a running guest: what it observes, adds and refuses.
//!
//! Each test starts a QEMU that never runs its guest. Steps that need the guest's consent are
//! tested with real guests elsewhere.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use vusb_drivers::qemu::{ArgumentOptions, Qemu, arguments, installed};
use vusb_drivers::{Driver, Error, Observed};
use vusb_model::capabilities::{Capabilities, Support};
use vusb_model::diff::{Step, diff};
use vusb_model::digest::digest;
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;
use vusb_model::refusal::{Category, Refusal};
use vusb_model::remedy::Remedy;
use vusb_model::resolve::resolve;
use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};
use vusb_rig::BareQemu;

const NOTHING: [&str; 3] = ["-machine", "pc", "-nodefaults"];

fn start(machine: &[&str], more: &[&str]) -> BareQemu {
    BareQemu::start(machine.iter().chain(more)).unwrap()
}

fn connect(qemu: &BareQemu) -> Qemu {
    Qemu::at(qemu.qmp_socket(), Duration::from_secs(20))
}

fn observe(driver: &mut Qemu) -> Observed {
    driver.observe(&Hardware::new()).unwrap()
}

/// The hardware of a domain, one line for each controller and device: `0 hci0 qemu-xhci 8/4`, `0:1
/// tablet0 tablet`.
fn lines(hardware: &Hardware) -> Vec<String> {
    let mut lines = Vec::new();
    for controller in hardware.controllers() {
        let companions = if controller.companions.is_empty() { "" } else { " group" };
        lines.push(format!(
            "{} {} {} {}/{}{companions}",
            controller.index,
            controller.name,
            controller.model,
            controller.ports.usb2(),
            controller.ports.usb3()
        ));
        for (port, device) in controller.devices() {
            lines.push(format!("{}:{port} {} {}", controller.index, device.name, device.kind));
        }
    }
    lines
}

fn spec(controllers: &[&str], devices: &[&str]) -> Spec {
    let controllers = controllers
        .iter()
        .map(|model| ControllerSpec { model: Some(model.parse().unwrap()), ..Default::default() });
    Spec {
        controllers: controllers.collect(),
        devices: devices.iter().map(|device| DeviceSpec::new(device.parse().unwrap())).collect(),
        ..Spec::default()
    }
}

/// Resolves a spec on the existing hardware, and takes all steps.
fn apply(driver: &mut Qemu, spec: &Spec) -> Result<Hardware, Refusal> {
    let base = observe(driver).hardware;
    let wanted = resolve(&base, spec, &driver.capabilities(None).unwrap())?.hardware;
    take(driver, &diff(&base, &wanted));
    Ok(wanted)
}

fn take(driver: &mut Qemu, steps: &[Step]) {
    driver.check(steps).unwrap();
    for step in steps {
        driver.perform(step).unwrap_or_else(|error| panic!("{step}: {error}"));
    }
}

fn file(dir: &Path, name: &str, content: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Every distribution's QEMU has the xHCI and the ICH9 group.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn the_installed_qemu_reports_its_models() {
    let program = installed::find(Path::new("/")).unwrap();
    let qemu = installed::probe(&program, Duration::from_secs(20)).unwrap();
    assert!(qemu.version.starts_with("QEMU "), "{}", qemu.version);
    assert_eq!(qemu.models[&Model::QemuXhci], Support::Hot);
    assert!(matches!(qemu.models[&Model::Ich9Ehci1], Support::Cold { .. }));
    assert!(matches!(qemu.models[&Model::Xenusb2], Support::Unsupported { .. }));
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn hardware_from_a_command_line_is_observed() {
    let q35 = ["-machine", "q35", "-nodefaults"];
    let line = [
        "-usb",
        "-usbdevice",
        "tablet",
        "-device",
        "usb-mouse",
        "-device",
        "usb-kbd,usb_version=1,port=6",
        "-device",
        "pcie-root-port,id=rp0",
        "-device",
        "qemu-xhci,id=usb1,bus=rp0,p2=8,p3=4",
        "-device",
        "usb-hub,id=hub0,bus=usb1.0,port=3",
        "-device",
        "usb-wacom-tablet,bus=usb1.0,port=3.2",
        "-device",
        "usb-ccid,bus=usb1.0,port=3.8",
        "-device",
        "piix3-usb-uhci,id=my-uhci",
        "-chardev",
        "pty,id=term",
        "-device",
        "usb-serial,chardev=term,bus=my-uhci.0",
    ];
    let qemu = start(&q35, &line);
    let observed = observe(&mut connect(&qemu));
    assert_eq!(
        lines(&observed.hardware),
        [
            // `usb1` is libvirt's alias of index 1; the others are numbered in order of creation.
            "0 hci0 ich9-ehci1 6/0 group",
            "0:1 tablet0 tablet:usbversion=2",
            "0:2 mouse0 mouse:usbversion=2",
            "0:6 keyboard0 keyboard",
            "1 usb1 qemu-xhci 8/4",
            "1:3 hub0 hub",
            "1:3.2 other0 other:usb-wacom-tablet",
            "1:3.8 ccid0 ccid",
            "2 my-uhci piix3-uhci 2/0",
            "2:1 serial0 serial:pty",
        ]
    );
    assert!(observed.ours.is_empty());
    assert!(observed.foreign.is_empty());
    // No process has the other end of the pseudo terminal open, so QEMU does not show the adapter
    // to the guest.
    let absent: Vec<String> =
        observed.states.iter().map(|(at, state)| format!("{at} {state}")).collect();
    assert_eq!(absent, ["2:1 absent"]);
}

/// Another tool's controller at a lower slot does not change the indexes of existing controllers.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_controller_that_is_added_later_gets_a_later_index() {
    let qemu = start(&NOTHING, &["-device", "qemu-xhci,addr=9"]);
    let mut driver = connect(&qemu);
    let before = lines(&observe(&mut driver).hardware);
    qemu.qmp("device_add", json!({"driver": "usb-ehci", "addr": "3"})).unwrap();
    assert_eq!(before, ["0 hci0 qemu-xhci 4/4"]);
    assert_eq!(lines(&observe(&mut driver).hardware), ["0 hci0 qemu-xhci 4/4", "1 hci1 ehci 6/0"]);
}

/// A recorded controller that is missing may come back, so its index and name stay reserved.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn recorded_indexes_and_names_stay_reserved() {
    let qemu = start(&NOTHING, &["-device", "usb-ehci,id=usb", "-device", "usb-ehci,id=front"]);
    let named = |name: &str| ControllerSpec {
        name: Some(name.parse().unwrap()),
        ..ControllerSpec::default()
    };
    let recorded = Spec { controllers: ["hci0", "front"].map(named).to_vec(), ..Spec::default() };
    let recorded = resolve(&Hardware::new(), &recorded, &Capabilities::everything()).unwrap();
    let observed = connect(&qemu).observe(&recorded.hardware).unwrap();
    assert_eq!(lines(&observed.hardware), ["2 usb ehci 6/0", "3 hci1 ehci 6/0"]);
}

/// A host device that QEMU looks for by its ids is known by them, whether or not it is plugged in.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_host_device_given_by_its_ids_is_observed() {
    let host = "usb-host,vendorid=0x0781,productid=0x5581";
    let qemu = start(&NOTHING, &["-device", "qemu-xhci", "-device", host]);
    let observed = observe(&mut connect(&qemu));
    assert_eq!(lines(&observed.hardware)[1], "0:1 host0 host:0781:5581");
    assert_eq!(observed.states.len(), 1);
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_device_without_an_id_can_be_removed() {
    let qemu = start(
        &NOTHING,
        &[
            "-device",
            "qemu-xhci",
            "-device",
            "usb-tablet",
            "-device",
            "usb-mouse",
            "-device",
            "usb-tablet",
        ],
    );
    let mut driver = connect(&qemu);
    let before = observe(&mut driver).hardware;
    assert_eq!(
        lines(&before)[1..],
        [
            "0:1 tablet0 tablet:usbversion=2",
            "0:2 mouse0 mouse:usbversion=2",
            "0:3 tablet1 tablet:usbversion=2"
        ]
    );
    let mut after = before.clone();
    after.unplug("0:1".parse_address());
    take(&mut driver, &diff(&before, &after));
    // The first tablet is gone, and the second is not.
    assert_eq!(
        observe(&mut driver).hardware.devices().map(|(at, _)| at.to_string()).collect::<Vec<_>>(),
        ["0:2", "0:3"]
    );
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_controller_that_cannot_be_added_takes_devices() {
    let qemu =
        start(&NOTHING, &["-device", "ich9-usb-ehci2,id=odd", "-device", "usb-tablet,bus=odd.0"]);
    let observed = observe(&mut connect(&qemu));
    assert!(observed.foreign.is_empty(), "{:?}", observed.foreign);
    let models: Vec<&str> =
        observed.hardware.controllers().map(|controller| controller.model.name()).collect();
    assert_eq!(models, ["ich9-ehci2"]);
    let at: Vec<String> = observed.hardware.devices().map(|(at, _)| at.to_string()).collect();
    assert_eq!(at, ["0:1"]);
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn every_hot_pluggable_model_can_be_added() {
    let qemu = start(&NOTHING, &[]);
    let mut driver = connect(&qemu);
    let models = ["piix3-uhci", "piix4-uhci", "ehci", "nec-xhci", "qemu-xhci"];
    let wanted = apply(&mut driver, &spec(&models, &[])).unwrap();
    let observed = observe(&mut driver);
    assert_eq!(digest(&observed.hardware), digest(&wanted));
    assert_eq!(lines(&observed.hardware), lines(&wanted));
    assert_eq!(observed.ours.len(), 5);
    assert!(observed.hardware.controllers().all(|controller| controller.pci.is_some()));
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn unsupported_models_are_refused_before_anything_is_changed() {
    let qemu = start(&NOTHING, &[]);
    let mut driver = connect(&qemu);
    for (model, why) in [
        ("ich9-ehci1", "cannot hot add the ICH9 group"),
        ("pci-ohci", "cannot hot add OHCI"),
        ("vt82c686b-uhci", "built without vt82c686b-usb-uhci"),
        ("xenusb2", "no paravirtual USB controller"),
        ("xenusb3", "no version 3"),
    ] {
        let refusal = apply(&mut driver, &spec(&["qemu-xhci", model], &[])).unwrap_err();
        assert_eq!(refusal.category(), Category::NotImplemented, "{model}");
        assert!(refusal.to_string().contains(why), "{refusal}");
    }
    assert_eq!(observe(&mut driver).hardware, Hardware::new());
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_q35_guest_needs_a_free_root_port() {
    let q35 = ["-machine", "q35", "-nodefaults"];
    let bare = start(&q35, &[]);
    let mut driver = connect(&bare);
    let refusal = apply(&mut driver, &spec(&["qemu-xhci"], &[])).unwrap_err();
    assert_eq!(refusal.category(), Category::NotImplemented);
    assert!(refusal.to_string().contains("-device pcie-root-port"), "{refusal}");

    let spare = arguments(&Hardware::new(), &ArgumentOptions { spare_slots: 2 }).unwrap();
    let spare: Vec<&str> = spare.iter().map(String::as_str).collect();
    let qemu = start(&q35, &spare);
    let mut driver = connect(&qemu);
    apply(&mut driver, &spec(&["qemu-xhci", "ehci"], &[])).unwrap();
    let buses: Vec<String> = observe(&mut driver)
        .hardware
        .controllers()
        .map(|c| c.pci.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(buses, ["vusb-slot0/00.0", "vusb-slot1/00.0"]);
    assert!(apply(&mut driver, &spec(&["qemu-xhci"], &[])).is_err());
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn removing_a_device_of_each_kind_leaves_nothing_behind() {
    let qemu = start(&NOTHING, &[]);
    let dir = tempfile::tempdir().unwrap();
    let raw = file(dir.path(), "stick.img", &[7; 1 << 20]);
    let qcow2 = dir.path().join("disk.qcow2").to_str().unwrap().to_owned();
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", &qcow2, "1M"])
        .status();
    assert!(made.unwrap().success());
    let socket = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let devices = [
        format!("storage:{raw}"),
        format!("storage:{qcow2},readonly"),
        "tablet".to_owned(),
        "mouse:usbversion=2".to_owned(),
        "keyboard".to_owned(),
        "hub".to_owned(),
        "serial:pty".to_owned(),
        format!("serial:unix:{},server", socket("serial")),
        "audio".to_owned(),
        "net".to_owned(),
        "net:none".to_owned(),
        format!("mtp:{}", dir.path().display()),
        "ccid".to_owned(),
        format!("redir:unix:{},server", socket("redir")),
    ];
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    let mut driver = connect(&qemu);
    let behind = |qemu: &BareQemu| {
        ["query-named-block-nodes", "query-chardev", "query-rx-filter"]
            .map(|command| qemu.qmp(command, json!({})).unwrap_or_default())
    };
    observe(&mut driver);
    let clean = behind(&qemu);
    let wanted = apply(&mut driver, &spec(&[], &devices)).unwrap();

    // With the record, the observation equals the wanted hardware. Only the redirection is absent,
    // because it has no peer.
    let observed = driver.observe(&wanted).unwrap();
    assert_eq!(lines(&observed.hardware), lines(&wanted));
    assert_eq!(digest(&observed.hardware), digest(&wanted));
    let absent: Vec<_> = observed
        .states
        .keys()
        .map(|at| observed.hardware.device(*at).unwrap().kind.name())
        .collect();
    assert_eq!(absent, ["redir"]);

    // Without the record, QEMU reports the same, except for the audio back end: it shows its
    // default.
    let unrecorded = observe(&mut driver).hardware;
    let without_audio = |hardware: &Hardware| {
        lines(hardware).into_iter().filter(|line| !line.contains("audio")).collect::<Vec<_>>()
    };
    assert_eq!(without_audio(&unrecorded), without_audio(&wanted));
    assert_eq!(digest(&unrecorded), digest(&wanted));

    let empty = observed.hardware.controllers().fold(Hardware::new(), |mut empty, controller| {
        empty.add_controller(controller.without_devices()).unwrap();
        empty
    });
    take(&mut driver, &diff(&observed.hardware, &empty));
    assert_eq!(observe(&mut driver).hardware.devices().count(), 0);
    assert_eq!(behind(&qemu), clean);
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn the_leftover_of_a_killed_command_is_replaced() {
    let qemu = start(&NOTHING, &[]);
    let dir = tempfile::tempdir().unwrap();
    let raw = file(dir.path(), "stick.img", &[0; 4096]);
    let left = json!({"driver": "raw", "node-name": "vusb-storage0", "file": {"driver": "file", "filename": raw}});
    qemu.qmp("blockdev-add", left).unwrap();
    let mut driver = connect(&qemu);
    apply(&mut driver, &spec(&[], &[&format!("storage:{raw}")])).unwrap();
    assert_eq!(observe(&mut driver).hardware.devices().count(), 1);
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_refused_device_leaves_no_back_end() {
    let qemu = start(&NOTHING, &["-device", "qemu-xhci", "-device", "usb-mouse,port=1"]);
    let dir = tempfile::tempdir().unwrap();
    let raw = file(dir.path(), "stick.img", &[0; 4096]);
    let mut driver = connect(&qemu);
    let base = observe(&mut driver).hardware;
    // As if the mouse had been plugged in after the observation.
    let mut outdated = base.clone();
    outdated.unplug("0:1".parse_address());
    let wanted =
        resolve(&outdated, &spec(&[], &[&format!("storage:{raw}")]), &Capabilities::everything())
            .unwrap()
            .hardware;
    let error = driver.perform(&diff(&outdated, &wanted)[0]).unwrap_err();
    assert!(matches!(&error, Error::Failed { why, .. } if why.text.contains("in use")), "{error}");
    assert_eq!(qemu.qmp("query-named-block-nodes", json!({})).unwrap(), json!([]));
    assert_eq!(observe(&mut driver).hardware, base);
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_cold_start_has_exactly_the_planned_hardware() {
    let dir = tempfile::tempdir().unwrap();
    let raw = file(dir.path(), "stick, the second.img", &[0; 4096]);
    let devices = [
        "hub".to_owned(),
        "mouse".to_owned(),
        "tablet:usbversion=2".to_owned(),
        format!("storage:{raw},readonly"),
        "serial:pty".to_owned(),
        "net".to_owned(),
        "keyboard".to_owned(),
        "ccid".to_owned(),
        format!("redir:unix:{},server", dir.path().join("a,b").display()),
    ];
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    let models = [
        "ich9-ehci1",
        "pci-ohci",
        "piix4-uhci",
        "ehci",
        "qemu-xhci",
        "ich9-ehci1",
        "nec-xhci",
        "ich9-uhci2",
    ];
    let wanted = resolve(&Hardware::new(), &spec(&models, &devices), &Capabilities::everything())
        .unwrap()
        .hardware;
    for machine in [["-machine", "pc", "-nodefaults"], ["-machine", "q35", "-nodefaults"]] {
        let args = arguments(&wanted, &ArgumentOptions::default()).unwrap();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let qemu = start(&machine, &args);
        let observed = observe(&mut connect(&qemu));
        assert_eq!(lines(&observed.hardware), lines(&wanted), "{machine:?}");
        assert_eq!(digest(&observed.hardware), digest(&wanted));
    }
}

/// A guest that was started with a spec has its devices, even if observed without a record.
/// Removing them also removes their back ends.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_guest_that_was_started_with_a_spec_has_its_devices() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let raw = file(dir.path(), "stick.img", &[0; 4096]);
    let _far = std::os::unix::net::UnixListener::bind(at("far")).unwrap();
    let far = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let devices = [
        format!("storage:{raw}"),
        "tablet".to_owned(),
        "mouse:usbversion=2".to_owned(),
        "keyboard".to_owned(),
        "hub:ports=4".to_owned(),
        "serial:pty".to_owned(),
        "serial:null".to_owned(),
        format!("serial:file:{}", at("log")),
        format!("serial:unix:{},server", at("near")),
        format!("serial:unix:{}", at("far")),
        format!("redir:tcp:localhost:{},server", free()),
        format!("redir:tcp:[::1]:{},server", free()),
        format!("redir:tcp:localhost:{}", far.local_addr().unwrap().port()),
        "audio".to_owned(),
        "net".to_owned(),
        "net:none".to_owned(),
        format!("mtp:{}", dir.path().display()),
        "ccid".to_owned(),
    ];
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    let spec = spec(&[], &devices);
    let everything = Capabilities::everything();
    let wanted = resolve(&Hardware::new(), &spec, &everything).unwrap().hardware;
    let args = arguments(&wanted, &ArgumentOptions::default()).unwrap();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let qemu = start(&NOTHING, &args);
    let mut driver = connect(&qemu);
    let observed = observe(&mut driver).hardware;
    for (address, device) in wanted.devices() {
        let found = observed.device(address).unwrap();
        assert_eq!(found.name, device.name);
        assert!(found.kind.matches_request(&device.kind), "{} is not {}", found.kind, device.kind);
    }
    let again = resolve(&observed, &Spec::from(&wanted), &everything).unwrap();
    assert!(again.devices.iter().all(|device| device.existing));
    assert_eq!(diff(&observed, &again.hardware), []);

    let empty = observed.controllers().fold(Hardware::new(), |mut empty, controller| {
        empty.add_controller(controller.without_devices()).unwrap();
        empty
    });
    take(&mut driver, &diff(&observed, &empty));
    let left = qemu.qmp("query-chardev", json!({})).unwrap();
    let left = left.to_string();
    assert!(!left.contains("vusb-serial") && !left.contains("vusb-redir"), "{left}");
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_controller_of_a_guest_that_does_not_run_cannot_be_removed() {
    let qemu = start(&NOTHING, &["-device", "qemu-xhci"]);
    let mut driver = connect(&qemu);
    let base = observe(&mut driver).hardware;
    let steps = diff(&base, &Hardware::new());
    for error in [driver.check(&steps).unwrap_err(), driver.perform(&steps[0]).unwrap_err()] {
        assert!(
            matches!(&error, Error::Failed { why, .. } if why.text.contains("has not been started")),
            "{error}"
        );
    }
}

/// A recorded controller comes back at its address, or is refused before anything is changed.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_controller_comes_back_at_its_address_or_not_at_all() {
    let mut was = Hardware::new();
    let models = resolve(&was, &spec(&["ehci", "qemu-xhci"], &[]), &Capabilities::everything());
    for controller in models.unwrap().hardware.controllers() {
        was.add_controller(controller.clone()).unwrap();
    }
    let at = |bus: &str, slot| {
        Some(vusb_model::hardware::PciAddress { bus: bus.to_owned(), slot, function: 0 })
    };
    // The controller without an address would get slot 2 if it were added first.
    was.set_pci("1".parse().unwrap(), at("pci.0", 2));
    let steps = diff(&Hardware::new(), &was);

    let free = start(&NOTHING, &[]);
    let mut driver = connect(&free);
    observe(&mut driver);
    take(&mut driver, &steps);
    let observed = observe(&mut driver).hardware;
    let xhci = observed.controller("1".parse().unwrap()).unwrap();
    assert_eq!(xhci.pci, at("pci.0", 2));

    let refused = |machine: &[&str], more: &[&str], steps: &[Step]| {
        let qemu = start(machine, more);
        let mut driver = connect(&qemu);
        observe(&mut driver);
        let error = driver.check(steps).unwrap_err();
        assert!(observe(&mut driver).hardware.controllers().len() == 0);
        error
    };
    let taken = refused(&NOTHING, &["-device", "virtio-balloon-pci,id=balloon,addr=2"], &steps);
    assert!(
        matches!(&taken, Error::Failed { what, why } if what.contains("pci.0/02.0") && why.text.contains("taken by balloon (virtio-balloon-pci)")),
        "{taken}"
    );
    let q35 = ["-machine", "q35", "-nodefaults"];
    let gone = refused(&q35, &[], &steps);
    assert!(
        matches!(&gone, Error::Failed { why, .. } if why.text.contains("no PCI bus pci.0") && matches!(why.remedies.as_slice(), [Remedy::ReplaceController { controller }] if controller.as_str() == "hci1")),
        "{gone}"
    );
    was.set_pci("1".parse().unwrap(), at("pcie.0", 2));
    let cold = refused(&q35, &[], &diff(&Hardware::new(), &was));
    assert!(matches!(cold, Error::NotImplemented { .. }), "{cold}");
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_qemu_that_is_killed_is_unreachable() {
    let qemu = start(&NOTHING, &[]);
    let mut driver = connect(&qemu);
    observe(&mut driver);
    qemu.kill();
    let error = driver.observe(&Hardware::new()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let again =
        Qemu::at(qemu.qmp_socket(), Duration::from_secs(2)).observe(&Hardware::new()).unwrap_err();
    assert!(matches!(again, Error::Unreachable { midway: false, .. }), "{again}");
}

/// Parses an address in the form that tests use.
trait ParseAddress {
    fn parse_address(&self) -> vusb_model::address::Address;
}

impl ParseAddress for str {
    fn parse_address(&self) -> vusb_model::address::Address {
        let (bus, port) = self.split_once(':').unwrap();
        vusb_model::address::Address { bus: bus.parse().unwrap(), port: port.parse().unwrap() }
    }
}
