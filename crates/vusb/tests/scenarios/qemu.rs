//! Scenarios with a real QEMU that never runs its guest.

use std::time::Duration;

use serde_json::json;
use vusb::model::remedy::Remedy;
use vusb::model::spec::{ControllerSpec, DeviceSpec};
use vusb::{DomainAddress, Error, ExitCode, Options};
use vusb_rig::BareQemu;

use crate::claims::elsewhere;
use crate::killed::Another;
use crate::sandbox::{Sandbox, at, steps};

fn start(more: &[&str]) -> BareQemu {
    BareQemu::start(["-machine", "pc", "-nodefaults"].iter().chain(more)).unwrap()
}

fn domain(sandbox: &Sandbox, qemu: &BareQemu) -> DomainAddress {
    sandbox.vusb().domain(&format!("qemu:{}", qemu.qmp_socket().display())).unwrap()
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn items_added_to_a_real_qemu_are_recognized() {
    let (sandbox, qemu) = (Sandbox::new(), start(&[]));
    let web = domain(&sandbox, &qemu);
    sandbox.file("a.img", &"x".repeat(4096));
    let vusb = sandbox.vusb();
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
fn items_are_restored_after_qemu_restarted() {
    let sandbox = Sandbox::new();
    sandbox.file("a.img", &"x".repeat(4096));
    let first = start(&[]);
    let socket = first.qmp_socket().to_owned();
    let web = domain(&sandbox, &first);
    let stick = DeviceSpec::new("storage:a.img".parse().unwrap());
    sandbox.vusb().device_add(&web, &stick).unwrap();
    drop(first);
    let view = sandbox.vusb().list(&web).unwrap();
    assert_eq!(json!(view.state), "gone");
    assert_eq!(json!(view.controllers[0].devices[0].state), "missing");

    // The next QEMU has another socket; a link gives it the same address.
    let second = start(&[]);
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(second.qmp_socket(), &socket).unwrap();
    let outcome = sandbox.vusb().restore(&web).unwrap();
    assert_eq!(outcome.steps.len(), 2, "{:?}", steps(&outcome));
    let view = sandbox.vusb().list(&web).unwrap();
    assert_eq!(json!(view.controllers[0].devices[0].state), "attached");
    std::fs::remove_dir_all(socket.parent().unwrap()).unwrap();
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn what_the_command_line_creates_after_a_restart_is_not_managed() {
    let sandbox = Sandbox::new();
    let first = start(&[]);
    let socket = first.qmp_socket().to_owned();
    let web = domain(&sandbox, &first);
    let tablet = DeviceSpec::new("tablet".parse().unwrap());
    sandbox.vusb().device_add(&web, &tablet).unwrap();
    drop(first);
    let usb = ["qemu-xhci,id=usb,p2=15,p3=15", "usb-tablet,usb_version=1,id=input0"];
    let second = start(&["-device", usb[0], "-device", usb[1]]);
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(second.qmp_socket(), &socket).unwrap();
    let view = sandbox.vusb().list(&web).unwrap();
    let origins: Vec<_> = view
        .controllers
        .iter()
        .flat_map(|it| std::iter::once(it.origin).chain(it.devices.iter().map(|it| it.origin)))
        .collect();
    assert_eq!(json!(origins), json!(["other", "other"]), "{view:?}");
    let empty =
        sandbox.vusb().read(&sandbox.file("empty.toml", &format!("driver = \"{web}\"\n"))).unwrap();
    let outcome = sandbox.vusb().plan(&empty).unwrap();
    assert!(outcome.steps.is_empty(), "{:?}", steps(&outcome));
    std::fs::remove_dir_all(socket.parent().unwrap()).unwrap();
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_silent_qemu_keeps_its_claims() {
    let (sandbox, qemu) = (Sandbox::new(), start(&[]));
    let web = domain(&sandbox, &qemu);
    sandbox.file("a.img", &"x".repeat(4096));
    let stick = DeviceSpec::new("storage:a.img".parse().unwrap());
    sandbox.vusb().device_add(&web, &stick).unwrap();
    let before = std::fs::read(sandbox.records().remove(0)).unwrap();
    // QEMU serves one client at a time. From here on, it serves this one.
    let holder = std::os::unix::net::UnixStream::connect(qemu.qmp_socket()).unwrap();
    let short = Options { wait: Duration::from_millis(500), ..sandbox.forced().options.clone() };
    let forced = sandbox.vusb().with_options(short);
    let error = forced.device_remove(&web, &"storage0".parse().unwrap()).unwrap_err();
    assert!(!error.remedies().contains(&Remedy::Force), "{error}");
    assert_eq!(std::fs::read(sandbox.records().remove(0)).unwrap(), before);
    let error = sandbox.vusb().device_add(&sandbox.guest("mail"), &stick).unwrap_err();
    let Error::Claimed { gone, .. } = &error else { panic!("{error}") };
    assert!(gone.is_none(), "{error}");
    drop(holder);
    // Once QEMU has ended, its devices can be forgotten.
    drop(qemu);
    forced.device_remove(&web, &"storage0".parse().unwrap()).unwrap();
    sandbox.vusb().device_add(&sandbox.guest("mail"), &stick).unwrap();
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_claim_holds_for_all_state_directories_until_its_qemu_ends() {
    let (sandbox, qemu) = (Sandbox::new(), start(&[]));
    sandbox.file("a.img", &"x".repeat(4096));
    let stick = DeviceSpec::new("storage:a.img".parse().unwrap());
    let web = domain(&sandbox, &qemu);
    sandbox.vusb().device_add(&web, &stick).unwrap();
    let (other, second) = (elsewhere(&sandbox), start(&[]));
    let mail = domain(&sandbox, &second);
    let error = other.device_add(&mail, &stick).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Busy);
    assert!(error.to_string().contains(&format!("{web} (as storage0 at hci0:1, pid ")), "{error}");
    drop(qemu);
    other.device_add(&mail, &stick).unwrap();
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_guest_that_is_started_with_a_spec_matches_it() {
    let sandbox = Sandbox::new();
    sandbox.file("a.img", &"x".repeat(4096));
    let text = "[[controller]]\nusbversion = 2\n[[device]]\nkind = \"tablet\"\n\
                [[device]]\nkind = \"storage\"\nfile = \"a.img\"\n[[controller]]\nmodel = \"qemu-xhci\"\nname = \"fast\"\n";
    let unbound = sandbox.vusb().read(&sandbox.file("web.toml", text)).unwrap();
    let arguments = sandbox.vusb().qemu_args(&unbound).unwrap();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let qemu = start(&arguments);
    let driver = format!("driver = \"{}\"\n{text}", domain(&sandbox, &qemu));
    let spec = sandbox.vusb().read(&sandbox.file("web.toml", &driver)).unwrap();
    let outcome = sandbox.vusb().apply(&spec).unwrap();
    assert!(outcome.already, "{:?}", steps(&outcome));
    let digest = |domain: &DomainAddress| sandbox.vusb().digest(domain).unwrap();
    let file = sandbox.vusb().domain("web.toml").unwrap();
    assert_eq!(digest(&domain(&sandbox, &qemu)), digest(&file));
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn after_a_kill_at_any_moment_the_next_command_works() {
    let (sandbox, qemu) = (Sandbox::new(), start(&[]));
    let web = domain(&sandbox, &qemu);
    sandbox.file("a.img", &"x".repeat(4096));
    let stick = DeviceSpec::new("storage:a.img".parse().unwrap());
    // The time from the start of the command to the kill.
    let mut moment = Duration::ZERO;
    let mut unfinished = 0;
    // On a slow machine, the loop goes on until a kill comes in the middle of a command.
    while moment < Duration::from_millis(60) || (unfinished == 0 && moment.as_secs() < 2) {
        let another = Another::on(&sandbox, &web.to_string(), "add storage:a.img");
        std::thread::sleep(moment);
        another.kill();
        let outcome = sandbox.vusb().device_add(&web, &stick).unwrap();
        unfinished += usize::from(!outcome.notes.is_empty());
        assert_eq!(at(&outcome), "hci0:1", "killed after {moment:?}: {outcome:?}");
        let view = sandbox.vusb().list(&web).unwrap();
        assert_eq!((view.controllers.len(), view.controllers[0].devices.len()), (1, 1));
        sandbox.vusb().device_remove(&web, &"storage0".parse().unwrap()).unwrap();
        moment += Duration::from_micros(750).max(moment / 50);
    }
    // At least one kill came between the intent and the record; otherwise this tested nothing.
    assert!(unfinished > 0);
}
