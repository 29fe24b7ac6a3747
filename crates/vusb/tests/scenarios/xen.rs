//! What happens to guests of Xen.

use std::time::{Duration, Instant};

use vusb::model::models::UsbVersion;
use vusb::model::spec::{ControllerRef, ControllerSpec, DeviceSpec};
use vusb::{Error, ExitCode, Wanted};
use vusb_xen::DomId;
use vusb_xen::store::Perms;

use crate::house::{at, steps};
use crate::killed::Another;
use crate::xen_world::{World, code};

fn backend(name: &str) -> ControllerSpec {
    ControllerSpec { backend: Some(name.to_owned()), ..ControllerSpec::default() }
}

fn reference(name: &str) -> ControllerRef {
    name.parse().unwrap()
}

#[test]
fn a_controller_comes_and_goes_and_nothing_is_left() {
    let world = World::new();
    let before = world.tree();
    let outcome = world.controller(&ControllerSpec::default()).unwrap();
    assert_eq!(at(&outcome), "pv0");
    let view = world.vusb().list(&world.web1()).unwrap();
    assert_eq!(view.address, "xen:web1");
    let controller = &view.controllers[0];
    assert_eq!((controller.model.name(), controller.ports), ("xenusb2", 16));
    // As libxl writes it, for xl to list it and clean it up.
    let own = "/libxl/5/device/vusb/0";
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
        assert_eq!(world.node(&format!("{own}/{key}")).as_deref(), Some(value), "{key}");
    }
    let (zero, guest) = (DomId::ZERO, DomId::new(5).unwrap());
    let perms = |path: &str| world.store.permissions(path).unwrap();
    assert_eq!(perms("/local/domain/5/device/vusb/0"), Perms::readable_by(guest, zero));
    assert_eq!(perms("/local/domain/0/backend/vusb/5/0/port/1"), Perms::readable_by(zero, guest));
    assert_eq!(at(&world.controller(&ControllerSpec::default()).unwrap()), "pv1");
    for name in ["pv0", "pv1"] {
        world.vusb().controller_remove(&world.web1(), &reference(name)).unwrap();
    }
    assert_eq!(world.tree(), before);
}

#[test]
fn a_device_is_given_and_taken_back() {
    let world = World::new();
    world.house.plug(4, "0781:5581", "4C53");
    let before = world.tree();
    let outcome = world.add("0781:5581").unwrap();
    assert_eq!(at(&outcome), "pv0:1");
    let there = "/local/domain/0/backend/vusb/5/0";
    assert_eq!(world.node(&format!("{there}/port/1")).as_deref(), Some("1-4"));
    assert_eq!(world.node(&format!("{there}/device/1")).as_deref(), Some("0781:5581"));
    assert_eq!(world.shows(), "pv0 present[1 host0 attached]");
    assert!(world.add("0781:5581").unwrap().already);
    world.vusb().device_remove(&world.web1(), &"0781:5581".parse().unwrap()).unwrap();
    world.vusb().controller_remove(&world.web1(), &reference("pv0")).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn a_lost_record_loses_neither_names_nor_whose_it_is() {
    let world = World::new();
    world.house.plug(4, "0781:5581", "4C53");
    let spec = DeviceSpec { name: "stick".parse().ok(), ..DeviceSpec::new("1-4".parse().unwrap()) };
    world.vusb().device_add(&world.web1(), &spec).unwrap();
    for record in world.house.records() {
        std::fs::remove_file(record).unwrap();
    }
    let view = world.vusb().list(&world.web1()).unwrap();
    assert_eq!(world.shows(), "pv0 present[1 stick attached]");
    assert_eq!(view.controllers[0].devices[0].origin, vusb::view::Origin::Vusb);
    assert!(world.add("1-4").unwrap().already);
}

#[test]
fn the_domain_may_be_named_by_its_number() {
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
fn without_a_backend_nothing_is_touched() {
    let world = World::new();
    world.manners().alive = false;
    let before = world.tree();
    let error =
        world.hasty().controller_add(&world.web1(), &ControllerSpec::default()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Unreachable);
    assert!(error.to_string().contains("start it with `systemctl start vusb-backend`"), "{error}");
    assert_eq!(world.tree(), before);
    world.store.remove("/local/domain/0/data");
    assert_eq!(code(world.controller(&ControllerSpec::default())), ExitCode::Unreachable);
    world.store.write("/local/domain/0/data/vusb-backend/version", "2");
    assert_eq!(code(world.controller(&ControllerSpec::default())), ExitCode::Unreachable);
    world.guest(6, "usbvm", "pv");
    assert_eq!(code(world.controller(&backend("usbvm"))), ExitCode::Unreachable);
    assert_eq!(code(world.controller(&backend("nobody"))), ExitCode::NotFound);
}

#[test]
fn a_guest_without_a_driver_is_said_to_have_none() {
    let world = World::new();
    world.manners().connects = false;
    let before = world.tree();
    let error =
        world.hasty().controller_add(&world.web1(), &ControllerSpec::default()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::TimedOut);
    assert!(error.to_string().contains("xen-hcd"), "{error}");
    assert_eq!(world.tree(), before);
    assert_eq!(world.shows(), "");
}

#[test]
fn a_backend_that_drops_it_says_why() {
    let world = World::new();
    let before = world.tree();
    world.manners().drops = Some("no event channel".to_owned());
    let error = world.controller(&ControllerSpec::default()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Failed);
    assert!(error.to_string().contains("the backend dropped it: no event channel"), "{error}");
    assert_eq!(world.tree(), before);
}

#[test]
fn a_device_that_does_not_get_through_is_taken_back_with_the_controller_it_needed() {
    let world = World::new();
    world.house.plug(4, "0781:5581", "4C53");
    let before = world.tree();
    for (status, wanted, why) in [
        ("refused it is a hub", ExitCode::Failed, "the backend refuses it: it is a hub"),
        ("absent", ExitCode::NotFound, "pulled out of the backend's machine"),
        ("offered", ExitCode::TimedOut, "has not looked at it"),
        ("addressed", ExitCode::TimedOut, "chosen no configuration"),
        ("", ExitCode::TimedOut, "the vusb-backend has not looked at it"),
    ] {
        world.manners().status = status.to_owned();
        let vusb = world.patient(Duration::from_millis(900), false);
        let spec = DeviceSpec::new("1-4".parse().unwrap());
        let error = vusb.device_add(&world.web1(), &spec).unwrap_err();
        assert_eq!(error.exit_code(), wanted, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(world.tree(), before, "{status}");
    }
}

#[test]
fn a_guest_that_does_not_let_go_keeps_it_until_it_is_forced() {
    let world = World::new();
    let before = world.tree();
    world.controller(&ControllerSpec::default()).unwrap();
    world.manners().lets_go = false;
    let error = world.hasty().controller_remove(&world.web1(), &reference("pv0")).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::TimedOut);
    assert!(error.to_string().contains("--force"), "{error}");
    assert_eq!(world.shows(), "pv0 broken[]");
    let forced = world.patient(Duration::from_millis(300), true);
    forced.controller_remove(&world.web1(), &reference("pv0")).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn force_takes_a_controller_with_all_that_is_on_it_from_a_dead_backend() {
    let world = World::new();
    world.house.plug(4, "0781:5581", "4C53");
    let before = world.tree();
    world.add("1-4").unwrap();
    world.manners().alive = false;
    let error = world.hasty().device_remove(&world.web1(), &"1-4".parse().unwrap()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::TimedOut, "{error}");
    assert_eq!(world.shows(), "pv0 present[1 host0 attached]", "it is not given back");
    let forced = world.patient(Duration::from_millis(300), true);
    forced.controller_remove(&world.web1(), &reference("pv0")).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn what_pvusb_does_not_carry_is_refused() {
    let world = World::new();
    let before = world.tree();
    let error = world.add("tablet").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotImplemented);
    assert!(error.to_string().contains("PVUSB carries real devices"), "{error}");
    for (model, wanted) in [("qemu-xhci", "has no device model"), ("xenusb3", "no version 3")] {
        let error = world.controller(&crate::house::model(model)).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::NotImplemented);
        assert!(error.to_string().contains(wanted), "{error}");
    }
    assert_eq!(world.tree(), before);
}

#[test]
fn a_restart_of_the_guest_loses_nothing() {
    let world = World::new();
    world.house.plug(4, "0781:5581", "4C53");
    world.add("0781:5581").unwrap();
    world.destroy(5);
    let all = world.vusb().list_all().unwrap();
    assert_eq!(all.unreachable[0].holds, ["0781:5581"]);
    world.guest(9, "web1", "pvh");
    assert_eq!(world.shows(), "pv0 missing[1 host0 missing]");
    let outcome = world.vusb().apply_recorded(&world.web1()).unwrap();
    assert_eq!(outcome.steps.len(), 2);
    assert_eq!(world.shows(), "pv0 present[1 host0 attached]");
    assert_eq!(world.node("/local/domain/0/backend/vusb/9/0/port/1").as_deref(), Some("1-4"));
}

#[test]
fn what_a_backend_dropped_is_made_anew() {
    let world = World::new();
    world.house.plug(4, "0781:5581", "4C53");
    world.add("0781:5581").unwrap();
    let good = world.tree();
    world.store.write("/local/domain/0/backend/vusb/5/0/error", "the backend was started anew");
    world.store.write("/local/domain/0/backend/vusb/5/0/state", "6");
    world.store.remove("/local/domain/0/backend/vusb/5/0/status");
    assert_eq!(world.shows(), "pv0 broken[1 host0 absent]");
    let notes = world.vusb().list(&world.web1()).unwrap().notes.join("; ");
    assert!(notes.contains("the backend dropped it: the backend was started anew"), "{notes}");
    assert_eq!(code(world.add("1-4")), ExitCode::Done, "it is there already, if not well");
    let outcome = world.vusb().apply_recorded(&world.web1()).unwrap();
    assert_eq!(outcome.steps.len(), 4, "{:?}", steps(&outcome));
    assert_eq!(world.shows(), "pv0 present[1 host0 attached]");
    assert_eq!(world.tree(), good);
    assert!(world.vusb().apply_recorded(&world.web1()).unwrap().already);
}

#[test]
fn a_guest_is_told_of_the_very_controller_that_goes() {
    let world = World::new();
    world.controller(&ControllerSpec::default()).unwrap();
    let mut guest = world.store.client_of(DomId::new(5).unwrap());
    guest.watch("/local/domain/5/device", "").unwrap();
    world.vusb().controller_remove(&world.web1(), &reference("pv0")).unwrap();
    let mut told = Vec::new();
    while let Some(event) = guest.next_event(Duration::from_millis(200)).unwrap() {
        told.push(event.path);
    }
    // Linux's xenbus looks at no shorter path.
    assert!(told.contains(&"/local/domain/5/device/vusb/0".to_owned()), "{told:?}");
}

#[test]
fn a_backend_domain_lends_its_own_devices() {
    let world = World::new();
    world.guest(3, "usbvm", "pv");
    world.backend(3);
    world.lends(3, "2-1.4", "0951:1666", "002.007");
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
    world.house.plug(4, "0781:5581", "4C53");
    let error = world.vusb().device_add(&world.web1(), &on).unwrap_err();
    assert!(matches!(&error, Error::AbsentThere { .. }), "this machine's is not usbvm's: {error}");
    world.vusb().device_remove(&world.web1(), &"0951:1666".parse().unwrap()).unwrap();
    world.vusb().controller_remove(&world.web1(), &reference("pv0")).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn a_device_of_this_machine_does_not_go_where_anothers_are() {
    let world = World::new();
    world.guest(3, "usbvm", "pv");
    world.backend(3);
    world.house.plug(4, "0781:5581", "4C53");
    world.controller(&backend("usbvm")).unwrap();
    let outcome = world.add("0781:5581").unwrap();
    assert_eq!((at(&outcome).as_str(), outcome.added_controllers.len()), ("pv1:1", 1));
}

#[test]
fn one_device_is_not_given_twice_and_two_alike_in_two_domains_are_two() {
    let world = World::new();
    world.guest(3, "usbvm", "pv");
    world.backend(3);
    world.lends(3, "1-4", "0781:5581", "001.014");
    world.house.plug(4, "0781:5581", "4C53");
    world.guest(6, "web2", "pv");
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
fn what_xl_made_is_shown_and_used() {
    let world = World::new();
    world.house.plug(4, "0781:5581", "4C53");
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
        world.store.write(&path, value);
    }
    let before = world.tree();
    let view = world.vusb().list(&world.web1()).unwrap();
    assert_eq!(view.controllers[0].origin, vusb::view::Origin::Other);
    assert_eq!(view.foreign[0].driver, "something");
    assert_eq!(at(&world.add("1-4").unwrap()), "pv0:1");
    assert_eq!(world.node(&format!("{backend}/port/1")).as_deref(), Some("1-4"));
    world.vusb().device_remove(&world.web1(), &"1-4".parse().unwrap()).unwrap();
    assert_eq!(world.tree(), before);
    world.store.write(&format!("{backend}/port/1"), "1-4");
    assert_eq!(world.shows(), "pv0 present[1 host0 attached]");
}

#[test]
fn what_was_carried_is_counted() {
    let world = World::new();
    world.controller(&ControllerSpec::default()).unwrap();
    let stats = "requests=12 bytes-in=4096 bytes-out=31 errors=1 in-flight=2";
    world.store.write("/local/domain/0/backend/vusb/5/0/stats", stats);
    let view = world.vusb().list(&world.web1()).unwrap();
    let counters = view.controllers[0].counters.unwrap();
    assert_eq!((counters.requests, counters.bytes_in, counters.in_flight), (12, 4096, 2));
}

#[test]
fn a_spec_makes_it_so() {
    let world = World::new();
    world.house.plug(4, "0781:5581", "4C53");
    let text = "domain = \"web\"\ndriver = \"xen:5\"\n[[controller]]\nname = \"usb\"\nusbversion = 1\nbackend = \"0\"\n\
                [[device]]\nhost = \"0781:5581\"\ncontroller = \"usb\"\n";
    let wanted = Wanted::read(&world.house.file("web.toml", text)).unwrap();
    assert_eq!(code(world.vusb().apply(&wanted)), ExitCode::NoRoom, "a high-speed device on USB 1");
    let text = text.replace("usbversion = 1", "usbversion = 2");
    let wanted = Wanted::read(&world.house.file("web.toml", &text)).unwrap();
    assert_eq!(world.vusb().apply(&wanted).unwrap().steps.len(), 2);
    assert!(world.vusb().apply(&wanted).unwrap().already);
    assert_eq!(world.vusb().domain("web").unwrap(), world.web1());
}

#[test]
fn nobody_is_taken_for_gone_who_cannot_be_asked() {
    let world = World::new();
    world.house.plug(4, "0781:5581", "4C53");
    world.add("1-4").unwrap();
    let vusb = world.vusb();
    let nowhere = Some(world.house.at("nothing"));
    let settings = vusb::Settings { xenstored: nowhere, force: true, ..vusb.settings().clone() };
    let vusb = vusb.with_settings(settings);
    let error = vusb.device_remove(&world.web1(), &"1-4".parse().unwrap()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Unreachable);
    world.destroy(5);
    let forced = world.patient(Duration::from_secs(1), true);
    forced.device_remove(&vusb::DomainId::Xen("web1".to_owned()), &"1-4".parse().unwrap()).unwrap();
}

#[test]
fn disturbed_transactions_are_taken_again() {
    let world = World::new();
    world.store.disturb(3);
    world.controller(&ControllerSpec::default()).unwrap();
    assert_eq!(world.shows(), "pv0 present[]");
}

/// Waits until something is so in xenstore.
fn until(world: &World, what: &str, is: impl Fn(&World) -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is(world) {
        assert!(Instant::now() < end, "{what}: {:#?}", world.tree());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn who_was_killed_while_the_guest_was_waited_for_is_finished_by_the_next() {
    let world = World::new();
    world.house.plug(4, "0781:5581", "4C53");
    let there = "/local/domain/0/backend/vusb/5/0";
    for (status, connects) in [("configured", false), ("offered", true)] {
        let before = world.tree();
        world.manners().connects = connects;
        world.manners().status = status.to_owned();
        let another = Another::with(&world.house, "xen:web1", "add 1-4", world.store.socket());
        let waits = if connects { "status/1" } else { "state" };
        let at = if connects { status } else { "2" };
        until(&world, waits, |it| it.node(&format!("{there}/{waits}")).as_deref() == Some(at));
        another.kill();
        if !connects {
            let notes = world.vusb().list(&world.web1()).unwrap().notes.join("; ");
            assert!(notes.contains("a change is under way"), "{notes}");
            assert!(notes.contains("the guest has not connected to it"), "{notes}");
        }
        world.manners().connects = true;
        world.manners().status = "configured".to_owned();
        world.vusb().apply_recorded(&world.web1()).unwrap();
        until(&world, "attached", |it| it.shows() == "pv0 present[1 host0 attached]");
        let notes = world.vusb().list(&world.web1()).unwrap().notes;
        assert!(notes.is_empty(), "{notes:?}");
        world.vusb().device_remove(&world.web1(), &"1-4".parse().unwrap()).unwrap();
        world.vusb().controller_remove(&world.web1(), &reference("pv0")).unwrap();
        assert_eq!(world.tree(), before);
    }
}

#[test]
fn a_xenstored_that_dies_in_the_middle_is_connected_to_anew() {
    let world = World::new();
    world.manners().connects = false;
    std::thread::scope(|scope| {
        let add = scope.spawn(|| world.controller(&ControllerSpec::default()));
        until(&world, "taken", |it| {
            it.node("/local/domain/0/backend/vusb/5/0/state").as_deref() == Some("2")
        });
        world.store.hang_up();
        let outcome = add.join().unwrap().unwrap();
        assert!(outcome.notes.join("; ").contains("but it is done"), "{:?}", outcome.notes);
    });
}

#[test]
fn two_commands_at_once_find_two_places() {
    let world = World::new();
    world.house.plug(4, "0781:5581", "4C53");
    world.house.plug(5, "0951:1666", "A1");
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
fn an_hvm_guest_has_both_types_each_under_its_own_index() {
    let world = World::new();
    world.guest(7, "hvm1", "hvm");
    let qemu = vusb_rig::BareQemu::start(["-machine", "pc", "-nodefaults"]).unwrap();
    std::os::unix::fs::symlink(qemu.qmp_socket(), world.house.at("qmp-libxl-7")).unwrap();
    world.house.plug(4, "0781:5581", "4C53");
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
    // A guest that is stopped lets go of no PCI device.
    assert_eq!(code(vusb.controller_remove(&hvm1, &reference("hci0"))), ExitCode::Failed);
    world.store.remove("/libxl/7/device/vusb");
    assert_eq!(world.tree(), before);
}

#[test]
fn a_fast_device_does_not_go_into_a_controller_of_usb_1() {
    let world = World::new();
    world.house.plug(4, "0781:5581", "4C53");
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
