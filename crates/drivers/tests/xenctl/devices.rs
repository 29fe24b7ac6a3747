//! Plugging host devices into paravirtual controllers, and unplugging them.

use std::time::{Duration, Instant};

use vusb_drivers::{DeviceState, Driver, Error};
use vusb_model::device::{Input, Kind};
use vusb_model::diff::Step;
use vusb_model::hardware::Device;
use vusb_model::remedy::Remedy;

use crate::world::{
    BACKEND, FRONTEND, LIBXL, LONG, SHORT, World, at, controller, domain, exported, host, remove,
    stick,
};

fn plug(port: u8, device: &Device) -> Step {
    Step::Plug(at(0, port), device.clone())
}

fn unplug(port: u8, device: &Device) -> Step {
    Step::Unplug(at(0, port), device.clone())
}

/// web1 with the controller 0, and a stick in port 1-4 of this machine.
fn world() -> World {
    let world = World::new();
    world.plug_in(4, "0781:5581", "4C53");
    world.add_controller(0, "pv0");
    world
}

#[test]
fn a_device_is_plugged_in_and_unplugged_again() {
    let world = world();
    let before = world.tree();
    let mut web1 = world.web1(LONG);
    web1.perform(&plug(2, &stick())).unwrap();
    let mut after = world.tree();
    after.retain(|path, value| before.get(path) != Some(value));
    let expected = [
        (LIBXL, "device/2", "0781:5581"),
        (LIBXL, "device/2/name", "stick"),
        (LIBXL, "device/2/selector", "0781:5581"),
        (LIBXL, "port/2", "1-4"),
        (BACKEND, "device/2", "0781:5581"),
        (BACKEND, "port/2", "1-4"),
        (BACKEND, "status/2", "configured"),
    ];
    let mut expected =
        expected.map(|(folder, key, value)| (format!("{folder}/{key}"), value.to_owned()));
    expected.sort();
    assert_eq!(after.into_iter().collect::<Vec<_>>(), expected);
    web1.perform(&unplug(2, &stick())).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn a_device_requested_by_its_port_is_identified_by_what_is_plugged_in_now() {
    let world = world();
    let mut web1 = world.web1(LONG);
    web1.perform(&plug(1, &host("stick", "1-4", Some(14)))).unwrap();
    assert_eq!(world.node(&format!("{BACKEND}/device/1")).as_deref(), Some("0781:5581:4C53"));
    assert_eq!(world.node(&format!("{LIBXL}/device/1/selector")).as_deref(), Some("1-4"));
}

#[test]
fn unplugging_one_device_leaves_the_others() {
    let world = world();
    world.plug_in(5, "0951:1666", "A1");
    let other = host("other", "0951:1666", Some(15));
    let mut web1 = world.web1(LONG);
    web1.perform(&plug(1, &stick())).unwrap();
    let one = world.tree();
    web1.perform(&plug(2, &other)).unwrap();
    web1.perform(&unplug(2, &other)).unwrap();
    assert_eq!(world.tree(), one);
}

#[test]
fn a_device_that_is_not_configured_is_unplugged_again() {
    let world = world();
    let before = world.tree();
    let limit = Duration::from_millis(900);
    for (status, error, why) in [
        ("refused it is a\u{1b} hub", "failed", "the backend refuses it: it is a? hub"),
        ("refused", "failed", "it does not give a reason"),
        ("absent", "is not there", "0781:5581 (1-4) is not there: it was unplugged"),
        ("offered", "timed out", "has not reacted"),
        ("addressed", "timed out", "chose no configuration"),
        ("", "timed out", "has not looked at it"),
        ("unknown", "timed out", "has not looked at it"),
    ] {
        world.behaviour(|it| it.port_status = status.to_owned());
        let failure = world.web1(limit).perform(&plug(1, &stick())).unwrap_err().to_string();
        assert!(failure.contains(error) && failure.contains(why), "{status}: {failure}");
        assert_eq!(world.tree(), before, "{status}");
    }
}

#[test]
fn a_refusal_is_not_waited_for_any_longer() {
    let world = world();
    world.behaviour(|it| it.port_status = "refused it is a hub".to_owned());
    let begun = Instant::now();
    world.web1(LONG).perform(&plug(1, &stick())).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_device_may_be_absent_for_a_moment() {
    let world = world();
    world.behaviour(|it| it.port_status = "absent".to_owned());
    let mut web1 = world.web1(LONG);
    std::thread::scope(|scope| {
        let plugging = scope.spawn(move || web1.perform(&plug(1, &stick())));
        world.until(&format!("{BACKEND}/status/1"), Some("absent"));
        world.behaviour(|it| it.port_status = "configured".to_owned());
        plugging.join().unwrap().unwrap();
    });
}

#[test]
fn a_device_that_is_not_configured_yet_is_waited_for() {
    let world = world();
    world.behaviour(|it| it.port_status = "addressed".to_owned());
    let mut web1 = world.web1(LONG);
    std::thread::scope(|scope| {
        let plugging = scope.spawn(move || web1.perform(&plug(1, &stick())));
        world.until(&format!("{BACKEND}/status/1"), Some("addressed"));
        world.behaviour(|it| it.port_status = "configured".to_owned());
        plugging.join().unwrap().unwrap();
    });
}

#[test]
fn a_device_that_is_not_given_back_after_a_failure_is_not_waited_for_forever() {
    let world = world();
    world.behaviour(|it| {
        it.port_status = "refused it is a hub".to_owned();
        it.returns_devices = false;
    });
    let begun = Instant::now();
    let error = world.web1(LONG).perform(&plug(1, &stick())).unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(15), "3 s at most");
    assert_eq!(world.node(&format!("{BACKEND}/port/1")).as_deref(), Some(""));
}

#[test]
fn a_port_that_another_tool_filled_is_not_touched() {
    let world = world();
    let mut web1 = world.web1(LONG);
    world.write(&format!("{BACKEND}/port/1"), "1-9");
    world.until(&format!("{BACKEND}/status/1"), Some("configured"));
    let before = world.tree();
    let error = web1.perform(&plug(1, &stick())).unwrap_err();
    assert!(error.to_string().contains("another tool put 1-9 into port 1"), "{error}");
    assert_eq!(world.tree(), before);
    world.remove(BACKEND);
    let error = web1.perform(&plug(1, &stick())).unwrap_err();
    assert!(error.to_string().contains("the controller is gone"), "{error}");
    assert_eq!(world.node(&format!("{BACKEND}/port/1")), None);
}

#[test]
fn a_broken_controller_has_to_be_restored_first() {
    let world = world();
    world.behaviour(|it| it.backend_runs = false);
    world.write(&format!("{BACKEND}/error"), "the backend was restarted");
    let error = world.web1(LONG).perform(&plug(1, &stick())).unwrap_err();
    assert!(error.to_string().contains("disconnected: the backend dropped it"), "{error}");
    assert_eq!(error.remedies(), [Remedy::Restore { domain: "xen:web1".to_owned() }]);
}

#[test]
fn only_a_plugged_in_host_device_can_be_attached() {
    let world = world();
    let mut web1 = world.web1(LONG);
    let absent = host("stick", "0781:5581", None);
    let error = web1.perform(&plug(1, &absent)).unwrap_err();
    assert!(error.to_string().contains("0781:5581 is not there: it is not plugged in"), "{error}");
    let gone = host("stick", "0781:5581", Some(99));
    let error = web1.perform(&plug(1, &gone)).unwrap_err();
    assert!(error.to_string().contains("it was unplugged just now"), "{error}");
    let tablet = Device { name: "tablet".parse().unwrap(), kind: Kind::Tablet(Input::default()) };
    let error = web1.perform(&plug(1, &tablet)).unwrap_err();
    assert!(matches!(&error, Error::NotImplemented { by, .. } if by == "PVUSB"), "{error}");
}

#[test]
fn a_device_of_a_backend_domain_is_looked_up_there() {
    let world = World::new();
    world.machine.add_guest(domain(3), "usbvm", "pv");
    world.machine.announce_backend(domain(3));
    world.machine.export(domain(3), &exported("2-1.4", "0951:1666", "001.014"));
    // This machine has another device at the same address.
    world.plug_in(4, "0781:5581", "4C53");
    let mut far = controller(0, "pv0");
    far.backend = Some("usbvm".to_owned());
    let mut web1 = world.web1(LONG);
    web1.perform(&Step::AddController(far)).unwrap();
    web1.perform(&plug(1, &host("far", "2-1.4", Some(14)))).unwrap();
    let folder = "/local/domain/3/backend/vusb/5/0";
    assert_eq!(world.node(&format!("{folder}/port/1")).as_deref(), Some("2-1.4"));
    assert_eq!(world.node(&format!("{folder}/device/1")).as_deref(), Some("0951:1666:AB12"));
}

#[test]
fn unplugging_waits_until_the_device_is_given_back() {
    let world = world();
    let before = world.tree();
    world.web1(LONG).perform(&plug(1, &stick())).unwrap();
    world.behaviour(|it| it.returns_devices = false);
    let error = world.web1(SHORT).perform(&unplug(1, &stick())).unwrap_err();
    assert!(matches!(error, Error::TimedOut { limit: SHORT, .. }), "{error}");
    assert!(error.to_string().starts_with("unplugging stick (host:0781:5581)"), "{error}");
    assert_eq!(error.remedies(), [Remedy::ListDomain, Remedy::Force]);
    assert_eq!(world.node(&format!("{BACKEND}/port/1")).as_deref(), Some(""));
    // Until it is given back it counts as plugged in, under its own name.
    let observed = world.observe();
    assert_eq!(observed.hardware.device(at(0, 1)).unwrap().name.as_str(), "stick");
    assert!(!observed.states.contains_key(&at(0, 1)), "it is attached");

    world.behaviour(|it| it.returns_devices = true);
    world.web1(LONG).perform(&unplug(1, &stick())).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn a_device_that_is_given_back_late_is_waited_for() {
    let world = world();
    world.web1(LONG).perform(&plug(1, &stick())).unwrap();
    world.behaviour(|it| it.returns_devices = false);
    let mut web1 = world.web1(LONG);
    std::thread::scope(|scope| {
        let unplugging = scope.spawn(move || web1.perform(&unplug(1, &stick())));
        world.until(&format!("{BACKEND}/port/1"), Some(""));
        assert_eq!(world.node(&format!("{LIBXL}/port/1")).as_deref(), Some("1-4"));
        world.behaviour(|it| it.returns_devices = true);
        unplugging.join().unwrap().unwrap();
    });
    assert_eq!(world.node(&format!("{LIBXL}/port/1")).as_deref(), Some(""));
}

#[test]
fn a_forced_unplug_gives_a_running_backend_two_seconds() {
    let world = world();
    world.web1(LONG).perform(&plug(1, &stick())).unwrap();
    world.behaviour(|it| it.returns_devices = false);
    let mut forced = world.forced(LONG);
    let begun = Instant::now();
    forced.perform(&unplug(1, &stick())).unwrap();
    let taken = begun.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(10)).contains(&taken), "{taken:?}");
    assert_eq!(world.node(&format!("{LIBXL}/port/1")).as_deref(), Some(""));
    assert_eq!(world.node(&format!("{LIBXL}/device/1")), None);
}

#[test]
fn a_forced_unplug_does_not_wait_for_a_dead_backend() {
    let world = world();
    world.web1(LONG).perform(&plug(1, &stick())).unwrap();
    world.behaviour(|it| it.backend_runs = false);
    // The ping takes its 300 ms, and nothing else is waited for.
    let begun = Instant::now();
    world.forced(SHORT).perform(&unplug(1, &stick())).unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert_eq!(world.node(&format!("{BACKEND}/port/1")).as_deref(), Some(""));
}

#[test]
fn a_broken_controllers_device_is_unplugged_without_waiting() {
    let world = world();
    world.web1(LONG).perform(&plug(1, &stick())).unwrap();
    world.behaviour(|it| it.backend_runs = false);
    world.write(&format!("{BACKEND}/error"), "the backend was restarted");
    world.web1(SHORT).perform(&unplug(1, &stick())).unwrap();
    assert_eq!(world.node(&format!("{LIBXL}/device/1")), None);
    assert_eq!(world.node(&format!("{BACKEND}/status/1")).as_deref(), Some("configured"));
    world.web1(SHORT).perform(&remove(&controller(0, "pv0"))).unwrap();
}

#[test]
fn unplugging_does_not_create_a_folder_that_is_gone() {
    let world = world();
    world.web1(LONG).perform(&plug(1, &stick())).unwrap();
    let mut web1 = world.web1(LONG);
    world.remove(BACKEND);
    web1.perform(&unplug(1, &stick())).unwrap();
    assert_eq!(world.node(&format!("{BACKEND}/port/1")), None);
    assert_eq!(world.node(BACKEND), None);
}

/// A controller that xl created, served by a QEMU.
#[test]
fn a_qemu_that_serves_pvusb_gets_only_the_port() {
    let world = World::new();
    world.plug_in(4, "0781:5581", "4C53");
    let backend = "/local/domain/0/backend/qusb/5/0";
    world.write_all(
        LIBXL,
        &[("type", "qusb"), ("backend", backend), ("usb-ver", "2"), ("num-ports", "2")],
    );
    for folder in [LIBXL, backend] {
        world.write_all(folder, &[("port/1", ""), ("port/2", "")]);
    }
    world.write(&format!("{backend}/state"), "4");
    world.write(&format!("{FRONTEND}/state"), "4");
    let before = world.tree();
    let mut web1 = world.web1(SHORT);
    web1.perform(&plug(1, &stick())).unwrap();
    assert_eq!(world.node(&format!("{backend}/port/1")).as_deref(), Some("1-4"));
    assert_eq!(world.node(&format!("{backend}/device/1")), None);
    assert_eq!(world.node(&format!("{LIBXL}/device/1/name")).as_deref(), Some("stick"));
    let observed = world.observe();
    assert_eq!(observed.hardware.device(at(0, 1)).unwrap().name.as_str(), "stick");
    assert_eq!(observed.states.get(&at(0, 1)), None::<&DeviceState>);
    web1.perform(&unplug(1, &stick())).unwrap();
    assert_eq!(world.tree(), before);
}
