//! Xen guests, on a simulated machine.

use std::time::{Duration, Instant};

use serde_json::json;
use vusb::model::models::UsbVersion;
use vusb::model::remedy::Remedy;
use vusb::model::rules::Effect;
use vusb::model::spec::{ControllerRef, ControllerSpec, DeviceSpec};
use vusb::{Advice, Error, ExitCode};
use vusb_xen::DomId;
use vusb_xen::store::Perms;

use crate::hosts::used_by;
use crate::killed::Another;
use crate::rules::explained;
use crate::sandbox::{at, library_with, steps, texts};
use crate::xen_world::{World, code, id};

fn backend(name: &str) -> ControllerSpec {
    ControllerSpec { backend: Some(name.to_owned()), ..ControllerSpec::default() }
}

fn reference(name: &str) -> ControllerRef {
    name.parse().unwrap()
}

#[test]
fn a_controller_is_added_and_removed_without_leftovers() {
    let world = World::new();
    let before = world.tree();
    let outcome = world.controller(&ControllerSpec::default()).unwrap();
    assert_eq!(at(&outcome), "pv0");
    let view = world.vusb().list(&world.web1()).unwrap();
    assert_eq!(view.address, "xen:web1");
    let controller = &view.controllers[0];
    assert_eq!((controller.model.name(), controller.ports), ("xenusb2", 16));
    // libxl's nodes, so that xl lists the controller and cleans it up.
    let libxl_folder = "/libxl/5/device/vusb/0";
    for (key, value) in [
        ("frontend", "/local/domain/5/device/vusb/0"),
        ("backend", "/local/domain/0/backend/vusb/5/0"),
        ("frontend-id", "5"),
        ("online", "1"),
        ("type", "pv"),
        ("usb-ver", "2"),
        ("num-ports", "16"),
        ("port/16", ""),
        ("name", "pv0"),
    ] {
        assert_eq!(world.node(&format!("{libxl_folder}/{key}")).as_deref(), Some(value), "{key}");
    }
    let (zero, guest) = (DomId::ZERO, id(5));
    let perms = |path: &str| world.xenstored().permissions(path).unwrap();
    assert_eq!(perms("/local/domain/5/device/vusb/0"), Perms::readable_by(guest, zero));
    assert_eq!(perms("/local/domain/0/backend/vusb/5/0/port/1"), Perms::readable_by(zero, guest));
    assert_eq!(at(&world.controller(&ControllerSpec::default()).unwrap()), "pv1");
    for name in ["pv0", "pv1"] {
        world.vusb().controller_remove(&world.web1(), &reference(name)).unwrap();
    }
    assert_eq!(world.tree(), before);
}

#[test]
fn a_device_is_plugged_in_and_unplugged() {
    let world = World::new();
    world.sandbox.plug(4, "0781:5581", "4C53");
    let before = world.tree();
    let outcome = world.add("0781:5581").unwrap();
    assert_eq!(at(&outcome), "pv0:1");
    let backend_folder = "/local/domain/0/backend/vusb/5/0";
    assert_eq!(world.node(&format!("{backend_folder}/port/1")).as_deref(), Some("1-4"));
    assert_eq!(world.node(&format!("{backend_folder}/device/1")).as_deref(), Some("0781:5581"));
    assert_eq!(world.shows(), "pv0 present[1 host0 attached]");
    assert!(world.add("0781:5581").unwrap().already);
    world.vusb().device_remove(&world.web1(), &"0781:5581".parse().unwrap()).unwrap();
    world.vusb().controller_remove(&world.web1(), &reference("pv0")).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn a_lost_record_loses_neither_names_nor_origin() {
    let world = World::new();
    world.sandbox.plug(4, "0781:5581", "4C53");
    let spec = DeviceSpec { name: "stick".parse().ok(), ..DeviceSpec::new("1-4".parse().unwrap()) };
    world.vusb().device_add(&world.web1(), &spec).unwrap();
    for record in world.sandbox.records() {
        std::fs::remove_file(record).unwrap();
    }
    let view = world.vusb().list(&world.web1()).unwrap();
    assert_eq!(world.shows(), "pv0 present[1 stick attached]");
    assert_eq!(view.controllers[0].devices[0].origin, vusb::view::Creator::Vusb);
    assert!(world.add("1-4").unwrap().already);
}

#[test]
fn a_domain_may_be_named_by_its_id() {
    let world = World::new();
    assert_eq!(world.vusb().domain("xen:5").unwrap(), world.web1());
    let error = world.vusb().domain("xen:7").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotFound);
    assert!(error.to_string().contains("web1 (id 5)"), "{error}");
    let error = world.vusb().list(&world.vusb().domain("xen:web2").unwrap()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotFound);
    let error = world.vusb().list(&world.vusb().domain("xen:Domain-0").unwrap()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotImplemented);
}

#[test]
fn without_a_backend_nothing_is_changed() {
    let world = World::new();
    world.behaviour(|it| it.backend_runs = false);
    let before = world.tree();
    let error =
        world.impatient().controller_add(&world.web1(), &ControllerSpec::default()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Unreachable);
    assert!(error.to_string().contains("start it with `systemctl start vusb-backend`"), "{error}");
    assert_eq!(world.tree(), before);
    world.xenstored().remove("/local/domain/0/data");
    assert_eq!(code(world.controller(&ControllerSpec::default())), ExitCode::Unreachable);
    world.xenstored().write("/local/domain/0/data/vusb-backend/version", "2");
    assert_eq!(code(world.controller(&ControllerSpec::default())), ExitCode::Unreachable);
    world.machine.add_guest(id(6), "usbvm", "pv");
    assert_eq!(code(world.controller(&backend("usbvm"))), ExitCode::Unreachable);
    assert_eq!(code(world.controller(&backend("nobody"))), ExitCode::NotFound);
}

#[test]
fn a_guest_without_a_driver_is_reported() {
    let world = World::new();
    world.behaviour(|it| it.guest_connects = false);
    let before = world.tree();
    let error =
        world.impatient().controller_add(&world.web1(), &ControllerSpec::default()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::TimedOut);
    assert!(error.to_string().contains("xen-hcd"), "{error}");
    assert_eq!(world.tree(), before);
    assert_eq!(world.shows(), "");
}

#[test]
fn a_backend_that_drops_a_controller_gives_the_reason() {
    let world = World::new();
    let before = world.tree();
    world.behaviour(|it| it.drops = Some("no event channel".to_owned()));
    let error = world.controller(&ControllerSpec::default()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Failed);
    assert!(error.to_string().contains("the backend dropped it: no event channel"), "{error}");
    assert_eq!(world.tree(), before);
}

#[test]
fn a_device_that_fails_is_rolled_back_with_the_controller_added_for_it() {
    let world = World::new();
    world.sandbox.plug(4, "0781:5581", "4C53");
    let before = world.tree();
    for (status, wanted, why) in [
        ("refused it is a hub", ExitCode::Failed, "the backend refuses it: it is a hub"),
        ("absent", ExitCode::NotFound, "unplugged from the backend's machine"),
        ("offered", ExitCode::TimedOut, "has not reacted"),
        ("addressed", ExitCode::TimedOut, "chose no configuration"),
        ("", ExitCode::TimedOut, "the vusb-backend has not looked at it"),
    ] {
        world.behaviour(|it| it.port_status = status.to_owned());
        let vusb = world.with_limit(Duration::from_millis(900), false);
        let spec = DeviceSpec::new("1-4".parse().unwrap());
        let error = vusb.device_add(&world.web1(), &spec).unwrap_err();
        assert_eq!(error.exit_code(), wanted, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(world.tree(), before, "{status}");
    }
}

#[test]
fn a_controller_that_the_guest_does_not_release_can_be_removed_with_force() {
    let world = World::new();
    let before = world.tree();
    world.controller(&ControllerSpec::default()).unwrap();
    world.behaviour(|it| it.guest_releases = false);
    let error = world.impatient().controller_remove(&world.web1(), &reference("pv0")).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::TimedOut);
    let Error::Failed { cause, .. } = &error else { panic!("{error}") };
    let Error::Driver(cause) = &**cause else { panic!("{error}") };
    assert!(cause.remedies().contains(&Remedy::Force), "{error}");
    assert_eq!(world.shows(), "pv0 broken[]");
    let forced = world.with_limit(Duration::from_millis(300), true);
    forced.controller_remove(&world.web1(), &reference("pv0")).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn force_removes_a_controller_with_its_devices_from_a_dead_backend() {
    let world = World::new();
    world.sandbox.plug(4, "0781:5581", "4C53");
    let before = world.tree();
    world.add("1-4").unwrap();
    world.behaviour(|it| it.backend_runs = false);
    let error =
        world.impatient().device_remove(&world.web1(), &"1-4".parse().unwrap()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::TimedOut, "{error}");
    assert_eq!(world.shows(), "pv0 present[1 host0 attached]", "the backend still holds it");
    let forced = world.with_limit(Duration::from_millis(300), true);
    forced.controller_remove(&world.web1(), &reference("pv0")).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn devices_that_pvusb_cannot_carry_are_refused() {
    let world = World::new();
    let before = world.tree();
    let error = world.add("tablet").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotImplemented);
    assert!(error.to_string().contains("PVUSB carries real devices"), "{error}");
    for (model, wanted) in [("qemu-xhci", "has no device model"), ("xenusb3", "no version 3")] {
        let error = world.controller(&crate::sandbox::model(model)).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::NotImplemented);
        assert!(error.to_string().contains(wanted), "{error}");
    }
    assert_eq!(world.tree(), before);
}

#[test]
fn a_restarted_guest_gets_everything_back() {
    let world = World::new();
    world.sandbox.plug(4, "0781:5581", "4C53");
    world.add("0781:5581").unwrap();
    world.machine.destroy_guest(id(5));
    let all = world.vusb().list_all().unwrap();
    assert_eq!(all.unreachable[0].holds, ["0781:5581"]);
    world.machine.add_guest(id(9), "web1", "pvh");
    assert_eq!(world.shows(), "pv0 missing[1 host0 missing]");
    let outcome = world.vusb().restore(&world.web1()).unwrap();
    assert_eq!(outcome.steps.len(), 2);
    assert_eq!(world.shows(), "pv0 present[1 host0 attached]");
    assert_eq!(world.node("/local/domain/0/backend/vusb/9/0/port/1").as_deref(), Some("1-4"));
}

#[test]
fn a_controller_that_the_backend_dropped_is_recreated() {
    let world = World::new();
    world.sandbox.plug(4, "0781:5581", "4C53");
    world.add("0781:5581").unwrap();
    let good = world.tree();
    world.xenstored().write("/local/domain/0/backend/vusb/5/0/error", "the backend was restarted");
    world.xenstored().write("/local/domain/0/backend/vusb/5/0/state", "6");
    world.xenstored().remove("/local/domain/0/backend/vusb/5/0/status");
    assert_eq!(world.shows(), "pv0 broken[1 host0 absent]");
    let notes = texts(&world.vusb().list(&world.web1()).unwrap().notes).join("; ");
    assert!(notes.contains("the backend dropped it: the backend was restarted"), "{notes}");
    assert_eq!(code(world.add("1-4")), ExitCode::Done, "it is already plugged in, although broken");
    let outcome = world.vusb().restore(&world.web1()).unwrap();
    assert_eq!(outcome.steps.len(), 4, "{:?}", steps(&outcome));
    assert_eq!(world.shows(), "pv0 present[1 host0 attached]");
    assert_eq!(world.tree(), good);
    assert!(world.vusb().restore(&world.web1()).unwrap().already);
}

#[test]
fn the_guest_gets_an_event_for_the_removed_controllers_own_folder() {
    let world = World::new();
    world.controller(&ControllerSpec::default()).unwrap();
    let mut guest = world.xenstored().client_of(id(5));
    guest.watch("/local/domain/5/device", "").unwrap();
    world.vusb().controller_remove(&world.web1(), &reference("pv0")).unwrap();
    let mut changed = Vec::new();
    while let Some(event) = guest.next_event(Duration::from_millis(200)).unwrap() {
        changed.push(event.path);
    }
    // Linux's xenbus ignores shorter paths.
    assert!(changed.contains(&"/local/domain/5/device/vusb/0".to_owned()), "{changed:?}");
}

#[test]
fn a_backend_domain_exports_its_own_devices() {
    let world = World::new();
    world.add_usbvm();
    world.export("2-1.4", "0951:1666", "002.007");
    let list = world.vusb().host_list_of("usbvm").unwrap();
    assert_eq!(list.backend.as_deref(), Some("usbvm"));
    assert_eq!(list.devices[0].busid.to_string(), "2-1.4");
    let before = world.tree();
    world.controller(&backend("3")).unwrap();
    assert!(world.node("/local/domain/3/backend/vusb/5/0/state").is_some());
    assert_eq!(at(&world.add("0951:1666").unwrap()), "pv0:1");
    assert_eq!(world.node("/local/domain/3/backend/vusb/5/0/port/1").as_deref(), Some("2-1.4"));
    let view = world.vusb().list(&world.web1()).unwrap();
    assert_eq!(view.controllers[0].backend.as_deref(), Some("usbvm"));
    assert_eq!(
        world.vusb().host_list_of("3").unwrap().devices[0].holder.as_ref().unwrap().domain,
        "xen:web1"
    );
    let on = DeviceSpec {
        controller: reference("pv0").into(),
        ..DeviceSpec::new("0781:5581".parse().unwrap())
    };
    world.sandbox.plug(4, "0781:5581", "4C53");
    let error = world.vusb().device_add(&world.web1(), &on).unwrap_err();
    assert!(
        matches!(&error, Error::AbsentInBackend { .. }),
        "this machine's device is not usbvm's: {error}"
    );
    world.vusb().device_remove(&world.web1(), &"0951:1666".parse().unwrap()).unwrap();
    world.vusb().controller_remove(&world.web1(), &reference("pv0")).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn a_device_of_this_machine_is_not_placed_on_another_backends_controller() {
    let world = World::new();
    world.add_usbvm();
    world.sandbox.plug(4, "0781:5581", "4C53");
    world.controller(&backend("usbvm")).unwrap();
    let outcome = world.add("0781:5581").unwrap();
    assert_eq!((at(&outcome).as_str(), outcome.added_controllers.len()), ("pv1:1", 1));
}

#[test]
fn a_device_is_claimed_once_and_equal_devices_of_two_domains_are_distinct() {
    let world = World::new();
    world.add_usbvm();
    world.export("1-4", "0781:5581", "001.014");
    world.sandbox.plug(4, "0781:5581", "4C53");
    world.machine.add_guest(id(6), "web2", "pv");
    let web2 = world.vusb().domain("xen:web2").unwrap();
    world.add("1-4").unwrap();
    let spec = DeviceSpec::new("0781:5581".parse().unwrap());
    assert_eq!(code(world.vusb().device_add(&web2, &spec)), ExitCode::Busy);
    world.vusb().controller_add(&web2, &backend("usbvm")).unwrap();
    let spec = DeviceSpec { controller: reference("pv0").into(), ..spec };
    world.vusb().device_add(&web2, &spec).unwrap();
    world.controller(&ControllerSpec { name: "far".parse().ok(), ..backend("usbvm") }).unwrap();
    let again = DeviceSpec {
        controller: reference("far").into(),
        ..DeviceSpec::new("001.014".parse().unwrap())
    };
    assert_eq!(code(world.vusb().device_add(&world.web1(), &again)), ExitCode::Busy);
}

#[test]
fn controllers_that_xl_created_are_shown_and_used() {
    let world = World::new();
    world.sandbox.plug(4, "0781:5581", "4C53");
    let (copy, backend) = ("/libxl/5/device/vusb/0", "/local/domain/0/backend/qusb/5/0");
    for (path, value) in [
        (format!("{copy}/type"), "qusb"),
        (format!("{copy}/backend"), backend),
        (format!("{copy}/usb-ver"), "2"),
        (format!("{copy}/num-ports"), "8"),
        (format!("{copy}/port/1"), ""),
        (format!("{backend}/state"), "4"),
        (format!("{backend}/port/1"), ""),
        ("/local/domain/5/device/vusb/0/state".to_owned(), "4"),
        ("/libxl/5/device/vusb/1/type".to_owned(), "something"),
    ] {
        world.xenstored().write(&path, value);
    }
    let before = world.tree();
    let view = world.vusb().list(&world.web1()).unwrap();
    assert_eq!(view.controllers[0].origin, vusb::view::Creator::Other);
    assert_eq!(view.foreign[0].driver, "something");
    assert_eq!(at(&world.add("1-4").unwrap()), "pv0:1");
    assert_eq!(world.node(&format!("{backend}/port/1")).as_deref(), Some("1-4"));
    world.vusb().device_remove(&world.web1(), &"1-4".parse().unwrap()).unwrap();
    assert_eq!(world.tree(), before);
    world.xenstored().write(&format!("{backend}/port/1"), "1-4");
    assert_eq!(world.shows(), "pv0 present[1 host0 attached]");
}

/// A controller that a spec leaves open is pv in a PV guest, also when the spec is applied again.
#[test]
fn an_open_controller_of_a_spec_is_found_again() {
    let world = World::new();
    let text = "driver = \"xen:5\"\n[[controller]]\n";
    let spec = world.vusb().read(&world.sandbox.file("open.toml", text)).unwrap();
    assert_eq!(world.vusb().apply(&spec).unwrap().steps.len(), 1);
    assert_eq!(world.shows(), "pv0 present[]");
    assert!(world.vusb().apply(&spec).unwrap().already);
}

#[test]
fn counters_are_shown() {
    let world = World::new();
    world.controller(&ControllerSpec::default()).unwrap();
    let stats = "requests=12 bytes-in=4096 bytes-out=31 errors=1 in-flight=2";
    world.xenstored().write("/local/domain/0/backend/vusb/5/0/stats", stats);
    let view = world.vusb().list(&world.web1()).unwrap();
    let counters = view.controllers[0].counters.unwrap();
    assert_eq!((counters.requests, counters.bytes_in, counters.in_flight), (12, 4096, 2));
}

#[test]
fn a_spec_is_applied() {
    let world = World::new();
    world.sandbox.plug(4, "0781:5581", "4C53");
    let text = "domain = \"web\"\ndriver = \"xen:5\"\n[[controller]]\nname = \"usb\"\nusbversion = 1\nbackend = \"0\"\n\
                [[device]]\nhost = \"0781:5581\"\ncontroller = \"usb\"\n";
    let wanted = world.vusb().read(&world.sandbox.file("web.toml", text)).unwrap();
    assert_eq!(code(world.vusb().apply(&wanted)), ExitCode::NoRoom, "a high-speed device on USB 1");
    let text = text.replace("usbversion = 1", "usbversion = 2");
    let wanted = world.vusb().read(&world.sandbox.file("web.toml", &text)).unwrap();
    assert_eq!(world.vusb().apply(&wanted).unwrap().steps.len(), 2);
    assert!(world.vusb().apply(&wanted).unwrap().already);
    assert_eq!(world.vusb().domain("web").unwrap(), world.web1());
}

#[test]
fn a_guest_does_not_count_as_gone_while_xenstored_is_unreachable() {
    let world = World::new();
    world.sandbox.plug(4, "0781:5581", "4C53");
    world.add("1-4").unwrap();
    let vusb = library_with(world.sandbox.path(), Duration::from_secs(5), |host| {
        let xenstored = Some(world.sandbox.at("nothing"));
        vusb::Registry::builtin(vusb::drivers::Locations { xenstored, ..host.into() })
    });
    let vusb = vusb.with_options(vusb::Options { force: true, ..vusb.options.clone() });
    let web1 = vusb.domain("xen:web1").unwrap();
    let error = vusb.device_remove(&web1, &"1-4".parse().unwrap()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Unreachable);
    world.machine.destroy_guest(id(5));
    let forced = world.with_limit(Duration::from_secs(1), true);
    forced.device_remove(&world.web1(), &"1-4".parse().unwrap()).unwrap();
}

#[test]
fn transactions_with_conflicts_are_retried() {
    let world = World::new();
    world.xenstored().cause_conflicts(3);
    world.controller(&ControllerSpec::default()).unwrap();
    assert_eq!(world.shows(), "pv0 present[]");
}

/// Waits until a condition on xenstore holds.
fn until(world: &World, what: &str, is: impl Fn(&World) -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is(world) {
        assert!(Instant::now() < end, "{what}: {:#?}", world.tree());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_command_that_was_killed_while_waiting_is_completed_by_the_next_one() {
    let world = World::new();
    world.sandbox.plug(4, "0781:5581", "4C53");
    let backend_folder = "/local/domain/0/backend/vusb/5/0";
    for (status, connects) in [("configured", false), ("offered", true)] {
        let before = world.tree();
        world.behaviour(|it| it.guest_connects = connects);
        world.behaviour(|it| it.port_status = status.to_owned());
        let another =
            Another::with(&world.sandbox, "xen:web1", "add 1-4", world.xenstored().socket());
        let waits = if connects { "status/1" } else { "state" };
        let at = if connects { status } else { "2" };
        until(&world, waits, |it| {
            it.node(&format!("{backend_folder}/{waits}")).as_deref() == Some(at)
        });
        another.kill();
        if !connects {
            let notes = texts(&world.vusb().list(&world.web1()).unwrap().notes).join("; ");
            assert!(notes.contains("a change is under way"), "{notes}");
            assert!(notes.contains("the guest has not connected to it"), "{notes}");
        }
        world.behaviour(|it| it.guest_connects = true);
        world.behaviour(|it| it.port_status = "configured".to_owned());
        world.vusb().restore(&world.web1()).unwrap();
        until(&world, "attached", |it| it.shows() == "pv0 present[1 host0 attached]");
        let notes = world.vusb().list(&world.web1()).unwrap().notes;
        assert!(notes.is_empty(), "{notes:?}");
        world.vusb().device_remove(&world.web1(), &"1-4".parse().unwrap()).unwrap();
        world.vusb().controller_remove(&world.web1(), &reference("pv0")).unwrap();
        assert_eq!(world.tree(), before);
    }
}

#[test]
fn a_connection_to_xenstored_that_is_lost_midway_is_replaced() {
    let world = World::new();
    world.behaviour(|it| it.guest_connects = false);
    std::thread::scope(|scope| {
        let add = scope.spawn(|| world.controller(&ControllerSpec::default()));
        until(&world, "taken", |it| {
            it.node("/local/domain/0/backend/vusb/5/0/state").as_deref() == Some("2")
        });
        world.xenstored().hang_up();
        let outcome = add.join().unwrap().unwrap();
        assert!(
            texts(&outcome.notes).join("; ").contains("but it took effect"),
            "{:?}",
            outcome.notes
        );
    });
}

#[test]
fn two_concurrent_commands_use_two_ports() {
    let world = World::new();
    world.sandbox.plug(4, "0781:5581", "4C53");
    world.sandbox.plug(5, "0951:1666", "A1");
    std::thread::scope(|scope| {
        for device in ["1-4", "1-5"] {
            let world = &world;
            scope.spawn(move || world.add(device).unwrap());
        }
    });
    let shown = world.shows();
    assert_eq!(shown.matches("attached").count(), 2, "{shown}");
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn an_hvm_guest_has_controllers_of_both_types_with_distinct_indexes() {
    let world = World::new();
    world.machine.add_guest(id(7), "hvm1", "hvm");
    let qemu = vusb_rig::BareQemu::start(["-machine", "pc", "-nodefaults"]).unwrap();
    std::os::unix::fs::symlink(qemu.qmp_socket(), world.sandbox.at("qmp-libxl-7")).unwrap();
    world.sandbox.plug(4, "0781:5581", "4C53");
    let before = world.tree();
    let (vusb, hvm1) = (world.vusb(), world.vusb().domain("xen:7").unwrap());
    let pv = ControllerSpec { model: "xenusb2".parse().ok(), ..ControllerSpec::default() };
    assert_eq!(at(&vusb.controller_add(&hvm1, &pv).unwrap()), "pv0");
    let tablet = vusb.device_add(&hvm1, &DeviceSpec::new("tablet".parse().unwrap())).unwrap();
    assert_eq!(at(&tablet), "hci0:1");
    let view = vusb.list(&hvm1).unwrap();
    let indexes: Vec<(u16, &str)> =
        view.controllers.iter().map(|it| (it.index.get(), it.model.name())).collect();
    assert_eq!(indexes, [(0, "xenusb2"), (1, "qemu-xhci")]);
    assert_eq!(world.node("/libxl/7/device/vusb/1/type").as_deref(), Some("devicemodel"));
    assert_eq!(world.node("/libxl/7/device/vusb/1/usb-ver").as_deref(), Some("3"));
    let on = DeviceSpec {
        controller: reference("pv0").into(),
        ..DeviceSpec::new("mouse".parse().unwrap())
    };
    assert_eq!(code(vusb.device_add(&hvm1, &on)), ExitCode::NotImplemented);
    let stick = vusb.device_add(&hvm1, &DeviceSpec::new("1-4".parse().unwrap())).unwrap();
    assert_eq!(at(&stick), "pv0:1");
    vusb.device_remove(&hvm1, &"1-4".parse().unwrap()).unwrap();
    vusb.device_remove(&hvm1, &"tablet0".parse().unwrap()).unwrap();
    vusb.controller_remove(&hvm1, &reference("pv0")).unwrap();
    // A stopped guest does not release a PCI device.
    assert_eq!(code(vusb.controller_remove(&hvm1, &reference("hci0"))), ExitCode::Failed);
    world.xenstored().remove("/libxl/7/device/vusb");
    assert_eq!(world.tree(), before);
}

#[test]
fn a_high_speed_device_is_refused_on_a_usb_1_controller() {
    let world = World::new();
    world.sandbox.plug(4, "0781:5581", "4C53");
    let slow = ControllerSpec { usbversion: Some(UsbVersion::V1), ..ControllerSpec::default() };
    world.controller(&slow).unwrap();
    let before = world.tree();
    let into = DeviceSpec {
        controller: Some(reference("pv0")),
        ..DeviceSpec::new("0781:5581".parse().unwrap())
    };
    let error = world.vusb().device_add(&world.web1(), &into).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NoRoom, "{error}");
    assert!(error.to_string().contains("low and full speed"), "{error}");
    assert_eq!(world.tree(), before);
}

#[test]
fn a_device_of_a_backend_domain_goes_to_an_empty_controller_of_it() {
    let world = World::new();
    world.add_usbvm();
    world.export("2-1", "0951:1666", "002.007");
    world.export("2-2", "0951:1667", "002.008");
    world.sandbox.plug(4, "0781:5581", "4C53");
    for _ in 0..2 {
        world.controller(&backend("usbvm")).unwrap();
    }
    assert_eq!(at(&world.add("0951:1666").unwrap()), "pv0:1");
    assert_eq!(at(&world.add("0951:1667").unwrap()), "pv1:1");
    // What this machine has itself goes to a controller of this machine.
    assert_eq!(at(&world.add("0781:5581").unwrap()), "pv2:1");
    // A device that no machine has is absent on this machine.
    let error = world.add("0781:5590").unwrap_err();
    assert!(matches!(error, Error::Select(_)), "{error}");
    assert_eq!(error.advice(), [Advice::PlugIn]);
}

#[test]
fn a_device_of_a_backend_domain_is_held_by_its_guest_alone() {
    let world = World::new();
    world.add_usbvm();
    world.export("1-4", "0781:5581", "001.014");
    world.sandbox.plug(4, "0781:5581", "4C53");
    world.controller(&backend("usbvm")).unwrap();
    let far = DeviceSpec {
        controller: Some(reference("pv0")),
        ..DeviceSpec::new("0781:5581".parse().unwrap())
    };
    world.vusb().device_add(&world.web1(), &far).unwrap();
    let holder = |list: vusb::view::HostView| list.devices[0].holder.clone();
    assert_eq!(holder(world.vusb().host_list().unwrap()), None, "this machine's stick is free");
    let held = holder(world.vusb().host_list_of("usbvm").unwrap()).unwrap();
    assert_eq!((held.domain.as_str(), held.at.as_str()), ("xen:web1", "pv0:1"));
    // A dry run looks in the same places.
    world.machine.add_guest(id(6), "web2", "pv");
    let web2 = world.vusb().domain("xen:web2").unwrap();
    world.vusb().controller_add(&web2, &backend("usbvm")).unwrap();
    let dry = world.vusb();
    let dry = dry.with_options(vusb::Options { dry_run: true, ..dry.options.clone() });
    assert_eq!(code(dry.device_add(&web2, &far)), ExitCode::Busy);
    let near = DeviceSpec::new("1-4".parse().unwrap());
    assert_eq!(at(&dry.device_add(&web2, &near).unwrap()), "pv1:1");
}

/// After a reboot there are no claims, and the records decide.
#[test]
fn the_records_of_two_domains_tell_the_devices_of_two_machines_apart() {
    let world = World::new();
    world.add_usbvm();
    world.export("1-4", "0781:5581", "001.014");
    world.sandbox.plug(4, "0781:5581", "4C53");
    world.controller(&backend("usbvm")).unwrap();
    let far = DeviceSpec {
        controller: Some(reference("pv0")),
        ..DeviceSpec::new("0781:5581".parse().unwrap())
    };
    world.vusb().device_add(&world.web1(), &far).unwrap();
    world.machine.add_guest(id(6), "web2", "pv");
    let web2 = world.vusb().domain("xen:web2").unwrap();
    world.vusb().controller_add(&web2, &backend("usbvm")).unwrap();
    std::fs::remove_dir_all(world.sandbox.at("machine/run")).unwrap();
    assert_eq!(code(world.vusb().device_add(&web2, &far)), ExitCode::Busy);
    let near = DeviceSpec::new("0781:5581".parse().unwrap());
    assert_eq!(at(&world.vusb().device_add(&web2, &near).unwrap()), "pv1:1");
}

#[test]
fn a_device_that_a_backend_domain_protects_needs_force() {
    let world = World::new();
    world.add_usbvm();
    world.export_protected("2-1", "0951:1666", "002.007", "it is the disk of usbvm");
    let view = world.vusb().host_list_of("usbvm").unwrap();
    assert_eq!(view.devices[0].protection, ["it is the disk of usbvm"]);
    world.controller(&backend("usbvm")).unwrap();
    let error = world.add("0951:1666").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Policy, "{error}");
    assert!(error.to_string().ends_with("is protected: it is the disk of usbvm"), "{error}");
    let forced = world.with_limit(Duration::from_secs(5), true);
    let spec = DeviceSpec::new("0951:1666".parse().unwrap());
    assert_eq!(at(&forced.device_add(&world.web1(), &spec).unwrap()), "pv0:1");
}

#[test]
fn guests_without_a_record_are_listed_separately() {
    let world = World::new();
    world.machine.add_guest(id(6), "web2", "pv");
    world.controller(&ControllerSpec::default()).unwrap();
    let all = world.vusb().list_all().unwrap();
    let recorded: Vec<&str> = all.domains.iter().map(|it| it.address.as_str()).collect();
    assert_eq!(recorded, ["xen:web1"]);
    let others: Vec<Option<&str>> = all.unrecorded.iter().map(|it| it.address.as_deref()).collect();
    assert_eq!(others, [Some("xen:web2")]);
}

#[test]
fn a_device_of_a_backend_domain_is_not_taken_for_one_of_this_machine_by_rules() {
    let world = World::new();
    world.add_usbvm();
    // The stick was in usbvm's machine, and is in this one now.
    let serial = |it: &mut vusb_xen::usb::ExportedDevice| it.serial = Some("4C53".to_owned());
    world.export_with("2-1", "0781:5581", "002.007", serial);
    world.controller(&backend("usbvm")).unwrap();
    assert_eq!(at(&world.add("0781:5581:4C53").unwrap()), "pv0:1");
    world.sandbox.plug(4, "0781:5581", "4C53");
    assert_eq!(explained(&world.vusb(), "1-4").effect, Effect::Nothing);
    let assigned = world
        .vusb()
        .context
        .assignments(&vusb::DeviceList::default(), &world.vusb().options)
        .unwrap();
    assert_eq!(assigned.domains[0].devices[0].what, vusb::Assigned::Other);
}

#[test]
fn two_domains_with_one_name_are_known_to_rules_by_their_addresses() {
    let world = World::new();
    let (vusb, other) = (world.vusb(), world.sandbox.guest("other"));
    let names = || -> Vec<String> {
        let domains = vusb.context.named_domains(&vusb.options).unwrap();
        domains.into_iter().map(|it| it.name).collect()
    };
    vusb.context.domain_rename(&other, &"mail".parse().unwrap(), &vusb.options).unwrap();
    assert_eq!(names(), ["mail", "web1"]);
    vusb.context.domain_rename(&other, &"web1".parse().unwrap(), &vusb.options).unwrap();
    assert_eq!(names(), [other.as_str(), "xen:web1"]);
}

/// A device in a spec gives its controller by name or index. The controller is in the same spec, or
/// the guest already has it.
#[test]
fn the_devices_of_a_spec_are_those_of_the_backend_of_their_controller() {
    let world = World::new();
    world.add_usbvm();
    world.export("2-1", "0781:5581", "002.007");
    world.sandbox.plug(4, "0781:5581", "4C53");
    world.machine.add_guest(id(6), "web2", "pv");
    let controller = "[[controller]]\nindex = 1\nname = \"far\"\nbackend = \"usbvm\"\n";
    let device = |on: &str| format!("[[device]]\nhost = \"0781:5581\"\ncontroller = {on}\n");
    for on in ["\"far\"", "1"] {
        let text = format!("driver = \"xen:web2\"\n{controller}{}", device(on));
        let spec = world.vusb().read(&world.sandbox.file("web2.toml", &text)).unwrap();
        world.vusb().apply(&spec).unwrap();
        let port = "/local/domain/3/backend/vusb/6/1/port/1";
        assert_eq!(world.node(port).as_deref(), Some("2-1"), "{on}");
        assert!(world.vusb().apply(&spec).unwrap().already, "{on}");
        let nothing = world.sandbox.file("nothing.toml", "driver = \"xen:web2\"");
        world.vusb().apply(&world.vusb().read(&nothing).unwrap()).unwrap();
    }
    world.controller(&ControllerSpec { name: "own".parse().ok(), ..backend("usbvm") }).unwrap();
    for on in ["\"own\"", "0"] {
        let text = format!("driver = \"xen:web1\"\n{}", device(on));
        let spec = world.vusb().read(&world.sandbox.file("web1.toml", &text)).unwrap();
        world.vusb().apply(&spec).unwrap();
        let port = "/local/domain/3/backend/vusb/5/0/port/1";
        assert_eq!(world.node(port).as_deref(), Some("2-1"), "{on}");
        world.vusb().device_remove(&world.web1(), &"0:1".parse().unwrap()).unwrap();
    }
}

#[test]
fn a_device_that_only_the_backend_has_open_is_not_in_use() {
    let world = World::new();
    for (port, serial) in [(4, "4C53"), (5, "4C54")] {
        world.sandbox.plug(port, "0781:5581", serial);
    }
    used_by(&world.sandbox, 4, 4711, "vusb-backend");
    used_by(&world.sandbox, 5, 4712, "usbip");
    assert_eq!(at(&world.add("1-4").unwrap()), "pv0:1");
    let error = world.add("1-5").unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
}

/// A state that existed before the change is not reported as its result.
#[test]
fn an_outcome_has_the_hypervisors_notes_that_are_new() {
    let world = World::new();
    world.controller(&ControllerSpec::default()).unwrap();
    // The simulated guest must not connect again.
    world.behaviour(|it| it.guest_connects = false);
    world.xenstored().write("/local/domain/5/device/vusb/0/state", "1");
    world.xenstored().write("/local/domain/0/backend/vusb/5/0/state", "2");
    let note = "pv0: the guest has not connected to it";
    let listed = texts(&world.vusb().list(&world.web1()).unwrap().notes);
    assert_eq!(listed, [note]);
    world.behaviour(|it| it.guest_connects = true);
    let outcome = world.controller(&ControllerSpec::default()).unwrap();
    assert_eq!(texts(&outcome.notes), [""; 0]);
}

#[test]
fn a_spec_that_names_a_device_by_its_address_records_it_by_its_port() {
    let world = World::new();
    world.add_usbvm();
    world.export("2-1", "0781:5581", "002.007");
    for on in ["\"far\"", "1"] {
        let text = format!(
            "driver = \"xen:web1\"\n[[controller]]\nindex = 1\nname = \"far\"\nbackend = \"usbvm\"\n\
             [[device]]\nhost = \"002.007\"\ncontroller = {on}\n"
        );
        let spec = world.vusb().read(&world.sandbox.file("web1.toml", &text)).unwrap();
        world.vusb().apply(&spec).unwrap();
        let view = world.vusb().list(&world.web1()).unwrap();
        assert_eq!(json!(view.controllers[0].devices[0])["selector"], "2-1", "{on}");
        let nothing = world.sandbox.file("nothing.toml", "driver = \"xen:web1\"");
        world.vusb().apply(&world.vusb().read(&nothing).unwrap()).unwrap();
    }
}
