//! What a guest has, from the nodes in xenstore.

use vusb_drivers::{Counters, DeviceState, Driver, Error, Observed};
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;
use vusb_model::selector::Selector;

use crate::world::{
    BACKEND, FRONTEND, LIBXL, LONG, World, add, at, controller, controller_of, domain, host, index,
    stick,
};

/// The controllers: index, name, model, ports.
fn controllers(observed: &Observed) -> Vec<(u16, String, Model, u8)> {
    let all = observed.hardware.controllers();
    all.map(|it| (it.index.get(), it.name.to_string(), it.model, it.ports.count())).collect()
}

/// A paravirtual controller in xenstore that another tool created, with both ends connected.
fn write_pv(world: &World, number: u8) {
    let backend = format!("/local/domain/0/backend/vusb/5/{number}");
    world.write_all(
        &format!("/libxl/5/device/vusb/{number}"),
        &[("type", "pv"), ("backend", &backend), ("usb-ver", "2"), ("num-ports", "4")],
    );
    world.write(&format!("{backend}/state"), "4");
    world.write(&format!("/local/domain/5/device/vusb/{number}/state"), "4");
}

/// web1 with a vusb-backend that does not run, so that only the test changes nodes.
fn still_world() -> World {
    let world = World::new();
    world.behaviour(|it| {
        it.backend_runs = false;
        it.guest_connects = false;
        it.guest_releases = false;
    });
    world
}

#[test]
fn a_guest_without_controllers_has_nothing() {
    let observed = World::new().observe();
    assert_eq!(controllers(&observed), []);
    assert!(observed.foreign.is_empty() && observed.notes.is_empty());
}

#[test]
fn what_vusb_created_has_its_names_and_belongs_to_vusb() {
    let world = World::new();
    world.plug_in(4, "0781:5581", "4C53");
    world.add_controller(0, "usb");
    let mut web1 = world.web1(LONG);
    web1.perform(&vusb_model::diff::Step::Plug(at(0, 3), stick())).unwrap();
    world.behaviour(|it| it.backend_runs = false);
    let stats = "requests=12 bytes-in=4096 bytes-out=31 errors=1 in-flight=2 wakeups=5";
    world.write(&format!("{BACKEND}/stats"), stats);
    let observed = world.observe();
    assert_eq!(controllers(&observed), [(0, "usb".to_owned(), Model::Xenusb2, 4)]);
    assert_eq!(observed.hardware.device(at(0, 3)), Some(&stick()));
    let ours: Vec<&str> = observed.ours.iter().map(|it| it.as_str()).collect();
    assert_eq!(ours, ["stick", "usb"]);
    assert!(observed.states.is_empty() && observed.broken.is_empty() && observed.notes.is_empty());
    let counters =
        Counters { requests: 12, bytes_in: 4096, bytes_out: 31, errors: 1, in_flight: 2 };
    assert_eq!(observed.counters.get(&index(0)), Some(&counters));
}

#[test]
fn what_another_tool_created_gets_free_names() {
    let world = still_world();
    for number in 0..2 {
        write_pv(&world, number);
    }
    world.write("/libxl/5/device/vusb/1/name", "pv0");
    world.write_all(BACKEND, &[("port/1", "1-4"), ("port/2", "nonsense"), ("port/5", "1-5")]);
    world.write(&format!("{LIBXL}/port/1"), "1-4");
    let observed = world.observe();
    let names: Vec<String> = controllers(&observed).into_iter().map(|it| it.1).collect();
    assert_eq!(names, ["pv0", "pv1"], "the name of the second is taken");
    let device = observed.hardware.device(at(0, 1)).unwrap();
    assert_eq!(device, &host("host0", "1-4", None));
    assert_eq!(observed.hardware.devices().count(), 1, "port 2 is invalid, and there is no port 5");
    assert_eq!(observed.ours.iter().map(|it| it.as_str()).collect::<Vec<_>>(), ["pv1"]);
}

#[test]
fn recorded_names_are_kept_for_what_another_tool_created() {
    let world = still_world();
    write_pv(&world, 0);
    write_pv(&world, 1);
    world.write_all(BACKEND, &[("port/1", "1-4"), ("port/2", "1-5")]);
    let mut recorded = Hardware::new();
    recorded.add_controller(controller(0, "usb")).unwrap();
    // An emulated controller is recorded at the other index: its name is not for this one.
    recorded.add_controller(controller_of(1, "hci0", Model::NecXhci, 4)).unwrap();
    recorded.plug(at(0, 1), host("stick", "1-4", None)).unwrap();
    recorded.plug(at(0, 2), host("other", "1-6", None)).unwrap();
    let observed = world.guest("web1", LONG).observe(&recorded).unwrap();
    let names: Vec<String> = controllers(&observed).into_iter().map(|it| it.1).collect();
    assert_eq!(names, ["usb", "pv0"]);
    let name = |port| observed.hardware.device(at(0, port)).unwrap().name.to_string();
    assert_eq!(name(1), "stick");
    assert_eq!(name(2), "host0", "another device is recorded there");
}

#[test]
fn an_index_belongs_to_one_controller() {
    let world = still_world();
    for number in 0..3 {
        write_pv(&world, number);
    }
    world.write("/libxl/5/device/vusb/1/index", "0");
    world.write("/libxl/5/device/vusb/2/index", "7");
    let mut recorded = Hardware::new();
    recorded.add_controller(controller(1, "recorded")).unwrap();
    let observed = world.guest("web1", LONG).observe(&recorded).unwrap();
    let indexes: Vec<u16> = controllers(&observed).into_iter().map(|it| it.0).collect();
    assert_eq!(indexes, [0, 2, 7], "1 is recorded for another controller");
}

#[test]
fn a_disconnected_controller_is_broken_and_has_a_reason() {
    let world = still_world();
    for (backend, guest, error, why) in [
        (None, Some("4"), None, Some("its backend is gone")),
        (Some("4"), None, None, Some("the guest's side of it is gone")),
        (Some("5"), Some("4"), None, Some("the backend closed it")),
        (Some("6"), Some("4"), Some("a \u{1b}reason"), Some("the backend dropped it: a ?reason")),
        (Some("4"), Some("5"), None, Some("the guest's driver released it")),
        (Some("4"), Some("6"), None, Some("the guest's driver released it")),
        (Some("4"), Some("4"), Some("a reason"), Some("the backend dropped it: a reason")),
        (Some("4"), Some("4"), Some(""), None),
        (Some("4"), Some("4"), None, None),
        (Some("2"), Some("1"), None, None),
        (Some("nonsense"), Some("nonsense"), None, None),
    ] {
        write_pv(&world, 0);
        for (path, value) in [
            (format!("{BACKEND}/state"), backend),
            (format!("{FRONTEND}/state"), guest),
            (format!("{BACKEND}/error"), error),
        ] {
            match value {
                Some(value) => world.write(&path, value),
                None => world.remove(&path),
            }
        }
        let observed = world.observe();
        let case = format!("{backend:?} {guest:?} {error:?}");
        assert_eq!(observed.broken.get(&index(0)).map(String::as_str), why, "{case}");
        let waiting = why.is_none() && backend != Some("4");
        let note = "pv0: the guest has not connected to it".to_owned();
        assert_eq!(observed.notes, if waiting { vec![note] } else { vec![] }, "{case}");
    }
}

#[test]
fn a_device_has_the_state_that_the_backend_reports() {
    let world = still_world();
    for (status, state, note) in [
        ("configured", None, None),
        ("addressed", None, None),
        ("offered", Some(DeviceState::Offered), None),
        ("absent", Some(DeviceState::Absent), None),
        ("refused it is a\u{1b} hub", Some(DeviceState::Absent), Some("it is a? hub")),
        ("refused", Some(DeviceState::Absent), Some("it does not give a reason")),
        ("something new", None, None),
    ] {
        write_pv(&world, 0);
        world.write_all(BACKEND, &[("port/4", "1-4"), ("status/4", status)]);
        let observed = world.observe();
        assert!(observed.hardware.device(at(0, 4)).is_some());
        assert_eq!(observed.states.get(&at(0, 4)).copied(), state, "{status}");
        let note = note.map(|why| format!("host0: the backend refuses it: {why}"));
        assert_eq!(observed.notes, note.into_iter().collect::<Vec<_>>(), "{status}");
    }
    world.write(&format!("{BACKEND}/state"), "6");
    world.write(&format!("{BACKEND}/status/4"), "configured");
    assert_eq!(world.observe().states.get(&at(0, 4)), Some(&DeviceState::Absent), "broken");
}

#[test]
fn a_device_that_is_not_given_back_yet_is_still_there() {
    let world = still_world();
    write_pv(&world, 0);
    world.write_all(
        LIBXL,
        &[("port/1", "1-4"), ("device/1/name", "stick"), ("device/1/selector", "0781:5581")],
    );
    world.write_all(BACKEND, &[("port/1", ""), ("status/1", "configured")]);
    assert_eq!(world.observe().hardware.device(at(0, 1)), Some(&stick()));
    world.remove(&format!("{BACKEND}/status"));
    assert_eq!(world.observe().hardware.device(at(0, 1)), None);
}

#[test]
fn a_label_is_that_of_the_device_that_vusb_plugged_in() {
    let world = still_world();
    write_pv(&world, 0);
    world.write_all(
        LIBXL,
        &[("port/1", "1-4"), ("device/1/name", "stick"), ("device/1/selector", "0781:5581")],
    );
    world.write(&format!("{BACKEND}/port/1"), "1-9");
    let observed = world.observe();
    let device = observed.hardware.device(at(0, 1)).unwrap();
    assert_eq!(device, &host("host0", "1-9", None), "another tool replaced it");
    assert!(observed.ours.is_empty());
    // A label without a selector does not count.
    world.write(&format!("{BACKEND}/port/1"), "1-4");
    world.remove(&format!("{LIBXL}/device/1/selector"));
    let observed = world.observe();
    assert_eq!(observed.hardware.device(at(0, 1)), Some(&host("host0", "1-4", None)));
}

#[test]
fn controllers_that_vusb_has_no_model_for_are_listed() {
    let world = still_world();
    for number in 0..3 {
        write_pv(&world, number);
    }
    world.write_all(LIBXL, &[("type", "new\u{1b}type")]);
    // Without ports it is not a controller.
    world.write("/libxl/5/device/vusb/1/num-ports", "0");
    // vusb must not write to a path that is not libxl's.
    world.write("/libxl/5/device/vusb/2/backend", "/local/domain/0/backend/vusb/6/2");
    world.write_all("/libxl/5/device/vusb/3", &[("type", "qusb")]);
    let backend = "/local/domain/0/backend/qusb/5/4";
    world.write_all("/libxl/5/device/vusb/4", &[("type", "qusb"), ("backend", backend)]);
    world.write("/libxl/5/device/vusb/nonsense/type", "pv");
    world.write("/libxl/5/device/vusb/05/type", "pv");
    world.write("/libxl/5/device/vusb/6/name", "no-type");
    let observed = world.observe();
    assert_eq!(controllers(&observed), []);
    let foreign: Vec<(String, String)> =
        observed.foreign.iter().map(|it| (it.id.clone(), it.driver.clone())).collect();
    let expected = [("0", "new?type"), ("1", "pv"), ("2", "pv"), ("3", "qusb"), ("4", "qusb")];
    assert_eq!(foreign, expected.map(|(id, driver)| (id.to_owned(), driver.to_owned())));
}

#[test]
fn an_emulated_controller_in_libxls_list_is_reported_only_by_the_device_model() {
    let world = still_world();
    world.write_all(LIBXL, &[("type", "devicemodel"), ("usb-ver", "3"), ("num-ports", "4")]);
    let observed = world.observe();
    assert!(observed.foreign.is_empty() && observed.hardware.controllers().len() == 0);
}

#[test]
fn a_controller_of_a_backend_domain_that_is_gone_is_broken() {
    let world = still_world();
    let backend = "/local/domain/3/backend/vusb/5/0";
    write_pv(&world, 0);
    world.write(&format!("{LIBXL}/backend"), backend);
    world.write(&format!("{backend}/state"), "4");
    world.remove("/local/domain/3");
    let observed = world.observe();
    let why = "its backend domain (id 3) is gone";
    assert_eq!(observed.broken.get(&index(0)).map(String::as_str), Some(why));
    let name = |observed: &Observed| {
        observed.hardware.controller(index(0)).unwrap().backend.clone().unwrap()
    };
    assert_eq!(name(&observed), "3");
    let mut recorded = Hardware::new();
    let mut known = controller(0, "pv0");
    known.backend = Some("usbvm".to_owned());
    recorded.add_controller(known).unwrap();
    let observed = world.guest("web1", LONG).observe(&recorded).unwrap();
    assert_eq!(name(&observed), "usbvm", "the record still has its name");
    // A domain without a name is known by its id.
    world.write("/local/domain/3/device", "");
    world.write(&format!("{backend}/state"), "4");
    let observed = world.observe();
    assert_eq!((name(&observed).as_str(), observed.broken.len()), ("3", 0));
}

#[test]
fn a_guest_that_restarted_is_found_by_its_name() {
    let world = World::new();
    world.add_controller(0, "pv0");
    let mut web1 = world.web1(LONG);
    world.machine.destroy_guest(domain(5));
    let error = web1.observe(&Hardware::new()).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    world.machine.add_guest(domain(9), "web1", "pvh");
    let observed = web1.observe(&Hardware::new()).unwrap();
    assert_eq!(controllers(&observed), []);
    web1.perform(&add(&controller(0, "pv0"))).unwrap();
    assert!(world.node("/libxl/9/device/vusb/0/name").is_some());
}

#[test]
fn a_lost_connection_to_xenstored_is_replaced() {
    let world = World::new();
    world.add_controller(0, "pv0");
    let mut web1 = world.web1(LONG);
    world.machine.xenstored().hang_up();
    assert_eq!(controllers(&web1.observe(&Hardware::new()).unwrap()).len(), 1);
    world.machine.xenstored().hang_up();
    let error = web1.perform(&add(&controller(1, "pv1"))).unwrap_err();
    assert!(error.is_uncertain(), "{error}");
}

#[test]
fn selectors_are_read_as_they_were_written() {
    let world = still_world();
    write_pv(&world, 0);
    world.write(&format!("{BACKEND}/port/1"), "1-4");
    for text in ["0781:5581:AB:CD", "1-4", "003.014", "pci-0000:00:14.0-usb-0:4"] {
        world.write_all(
            LIBXL,
            &[("port/1", "1-4"), ("device/1/name", "stick"), ("device/1/selector", text)],
        );
        let observed = world.observe();
        let device = observed.hardware.device(at(0, 1)).unwrap();
        let vusb_model::device::Kind::Host(host) = &device.kind else { panic!("{device:?}") };
        assert_eq!(host.selector, text.parse::<Selector>().unwrap());
    }
}
