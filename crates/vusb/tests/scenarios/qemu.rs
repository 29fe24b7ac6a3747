//! The same house with a real QEMU in it, which never runs its guest.

use std::time::Duration;

use serde_json::json;
use vusb::model::spec::{ControllerSpec, DeviceSpec};
use vusb::{ArgumentOptions, DomainId, Error, ExitCode, Settings, Wanted};
use vusb_rig::BareQemu;

use crate::house::{House, at, steps};
use crate::killed::Another;

fn start(more: &[&str]) -> BareQemu {
    BareQemu::start(["-machine", "pc", "-nodefaults"].iter().chain(more)).unwrap()
}

fn domain(house: &House, qemu: &BareQemu) -> DomainId {
    house.vusb().domain(&format!("qemu:{}", qemu.qmp_socket().display())).unwrap()
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_real_qemu_is_given_things_and_they_are_found_again() {
    let (house, qemu) = (House::new(), start(&[]));
    let web = domain(&house, &qemu);
    house.file("a.img", &"x".repeat(4096));
    let vusb = house.vusb();
    let add = |text: &str| vusb.device_add(&web, &DeviceSpec::new(text.parse().unwrap())).unwrap();
    let stick = add("storage:a.img");
    assert_eq!(at(&stick), "hci0:1");
    assert_eq!(at(&add("hub")), "hci0:2");
    assert!(add("storage:a.img").already);
    let view = vusb.list(&web).unwrap();
    assert!(view.notes.is_empty() && view.foreign.is_empty(), "{view:?}");
    let controller = &view.controllers[0];
    assert_eq!(json!(controller.origin), "vusb");
    assert!(controller.pci.is_some(), "learnt from QEMU");
    let names: Vec<&str> = controller.devices.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["storage0", "hub0"]);
    let cold = ControllerSpec { model: "ich9-ehci1".parse().ok(), ..ControllerSpec::default() };
    let error = vusb.controller_add(&web, &cold).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotImplemented);
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn what_was_given_is_put_back_when_qemu_was_started_anew() {
    let house = House::new();
    house.file("a.img", &"x".repeat(4096));
    let first = start(&[]);
    let socket = first.qmp_socket().to_owned();
    let web = domain(&house, &first);
    let stick = DeviceSpec::new("storage:a.img".parse().unwrap());
    house.vusb().device_add(&web, &stick).unwrap();
    drop(first);
    let error = house.vusb().list(&web).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Unreachable);

    // The next QEMU has another socket; a link makes it the same address.
    let second = start(&[]);
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(second.qmp_socket(), &socket).unwrap();
    let outcome = house.vusb().apply_recorded(&web).unwrap();
    assert_eq!(outcome.steps.len(), 2, "{:?}", steps(&outcome));
    let view = house.vusb().list(&web).unwrap();
    assert_eq!(json!(view.controllers[0].devices[0].state), "attached");
    std::fs::remove_dir_all(socket.parent().unwrap()).unwrap();
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn what_the_command_line_gives_after_a_restart_is_not_ours() {
    let house = House::new();
    let first = start(&[]);
    let socket = first.qmp_socket().to_owned();
    let web = domain(&house, &first);
    let tablet = DeviceSpec::new("tablet".parse().unwrap());
    house.vusb().device_add(&web, &tablet).unwrap();
    drop(first);
    let usb = ["qemu-xhci,id=usb,p2=15,p3=15", "usb-tablet,usb_version=1,id=input0"];
    let second = start(&["-device", usb[0], "-device", usb[1]]);
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(second.qmp_socket(), &socket).unwrap();
    let view = house.vusb().list(&web).unwrap();
    let origins: Vec<_> = view
        .controllers
        .iter()
        .flat_map(|it| std::iter::once(it.origin).chain(it.devices.iter().map(|it| it.origin)))
        .collect();
    assert_eq!(json!(origins), json!(["other", "other"]), "{view:?}");
    let empty = Wanted::read(&house.file("empty.toml", &format!("driver = \"{web}\"\n"))).unwrap();
    let outcome = house.vusb().plan(&empty).unwrap();
    assert!(outcome.steps.is_empty(), "{:?}", steps(&outcome));
    std::fs::remove_dir_all(socket.parent().unwrap()).unwrap();
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_qemu_that_is_silent_keeps_what_it_has() {
    let (house, qemu) = (House::new(), start(&[]));
    let web = domain(&house, &qemu);
    house.file("a.img", &"x".repeat(4096));
    let stick = DeviceSpec::new("storage:a.img".parse().unwrap());
    house.vusb().device_add(&web, &stick).unwrap();
    let before = std::fs::read(house.records().remove(0)).unwrap();
    // QEMU talks to one at a time: to this one, from here on.
    let holder = std::os::unix::net::UnixStream::connect(qemu.qmp_socket()).unwrap();
    let short =
        Settings { timeout: Duration::from_millis(500), ..house.forced().settings().clone() };
    let forced = house.vusb().with_settings(short);
    let error = forced.device_remove(&web, &"storage0".parse().unwrap()).unwrap_err();
    assert!(error.hints().iter().all(|it| !it.contains("--force")), "{error}");
    assert_eq!(std::fs::read(house.records().remove(0)).unwrap(), before);
    let error = house.vusb().device_add(&house.guest("mail"), &stick).unwrap_err();
    let Error::Claimed { gone, free, .. } = &error else { panic!("{error}") };
    assert!(gone.is_none() && !free.contains("--force"), "{error} {free}");
    drop(holder);
    // When it has ended, it may be forgotten.
    drop(qemu);
    forced.device_remove(&web, &"storage0".parse().unwrap()).unwrap();
    house.vusb().device_add(&house.guest("mail"), &stick).unwrap();
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_guest_that_is_started_with_a_spec_has_it_already() {
    let house = House::new();
    house.file("a.img", &"x".repeat(4096));
    let text = "[[controller]]\nusbversion = 2\n[[device]]\nkind = \"tablet\"\n\
                [[device]]\nkind = \"storage\"\nfile = \"a.img\"\n[[controller]]\nmodel = \"qemu-xhci\"\nname = \"fast\"\n";
    let unbound = Wanted::read(&house.file("web.toml", text)).unwrap();
    let arguments = house.vusb().qemu_args(&unbound, &ArgumentOptions::default()).unwrap();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let qemu = start(&arguments);
    let driver = format!("driver = \"{}\"\n{text}", domain(&house, &qemu));
    let spec = Wanted::read(&house.file("web.toml", &driver)).unwrap();
    let outcome = house.vusb().apply(&spec).unwrap();
    assert!(outcome.already, "{:?}", steps(&outcome));
    let digest = |domain: &DomainId| house.vusb().digest(domain).unwrap();
    let file = house.vusb().domain("web.toml").unwrap();
    assert_eq!(digest(&domain(&house, &qemu)), digest(&file));
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_command_may_be_killed_at_any_moment_and_the_next_one_works() {
    let (house, qemu) = (House::new(), start(&[]));
    let web = domain(&house, &qemu);
    house.file("a.img", &"x".repeat(4096));
    let stick = DeviceSpec::new("storage:a.img".parse().unwrap());
    // How long a command takes from its start to its end, killed or not: the moments to kill it at.
    let mut moment = Duration::ZERO;
    let mut unfinished = 0;
    // A slow machine is given more moments, until one of them was in the middle.
    while moment < Duration::from_millis(60) || (unfinished == 0 && moment.as_secs() < 2) {
        let another = Another::on(&house, &web.to_string(), "add storage:a.img");
        std::thread::sleep(moment);
        another.kill();
        let outcome = house.vusb().device_add(&web, &stick).unwrap();
        unfinished += usize::from(!outcome.notes.is_empty());
        assert_eq!(at(&outcome), "hci0:1", "killed after {moment:?}: {outcome:?}");
        let view = house.vusb().list(&web).unwrap();
        assert_eq!((view.controllers.len(), view.controllers[0].devices.len()), (1, 1));
        house.vusb().device_remove(&web, &"storage0".parse().unwrap()).unwrap();
        moment += Duration::from_micros(750).max(moment / 50);
    }
    // Some of the moments were between the intent and the record, or this has shown nothing.
    assert!(unfinished > 0);
}
