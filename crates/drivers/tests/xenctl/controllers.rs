//! Adding and removing paravirtual controllers.

use std::time::{Duration, Instant};

use vusb_drivers::{Driver, Error};
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;
use vusb_model::remedy::Remedy;
use vusb_xen::DomId;
use vusb_xen::store::Perms;

use crate::world::{
    BACKEND, FRONTEND, LIBXL, LONG, SHORT, World, add, at, controller, controller_of, domain,
    index, remove, stick,
};

#[test]
fn a_controller_has_libxls_three_folders_and_leaves_nothing_behind() {
    let world = World::new();
    let before = world.tree();
    let controller = controller_of(0, "usb", Model::Xenusb2, 2);
    let mut web1 = world.web1(LONG);
    web1.perform(&add(&controller)).unwrap();
    let mut after = world.tree();
    after.retain(|path, _| !before.contains_key(path));
    let nodes = |folder: &str, nodes: &[(&str, &str)]| {
        nodes
            .iter()
            .map(|(key, value)| (format!("{folder}/{key}"), (*value).to_owned()))
            .collect::<Vec<_>>()
    };
    let shared = [
        ("frontend-id", "5"),
        ("num-ports", "2"),
        ("online", "1"),
        ("port/1", ""),
        ("port/2", ""),
        ("type", "pv"),
        ("usb-ver", "2"),
    ];
    let mut expected = nodes(LIBXL, &shared);
    expected.extend(nodes(BACKEND, &shared));
    let own = [("frontend", FRONTEND), ("backend", BACKEND), ("name", "usb"), ("state", "1")];
    expected.extend(nodes(LIBXL, &own));
    expected.extend(nodes(BACKEND, &[("frontend", FRONTEND), ("state", "4")]));
    let guest = [("backend", BACKEND), ("backend-id", "0"), ("state", "4")];
    expected.extend(nodes(FRONTEND, &guest));
    expected.sort();
    assert_eq!(after.into_iter().collect::<Vec<_>>(), expected);

    let perms = |path: &str| world.machine.xenstored().permissions(path).unwrap();
    let (zero, guest) = (DomId::ZERO, domain(5));
    assert_eq!(perms(FRONTEND), Perms::readable_by(guest, zero));
    assert_eq!(perms(&format!("{BACKEND}/port/1")), Perms::readable_by(zero, guest));

    web1.perform(&remove(&controller)).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn a_usb_1_controller_is_stored_and_observed_as_such() {
    let world = World::new();
    world.web1(LONG).perform(&add(&controller_of(0, "slow", Model::Xenusb1, 31))).unwrap();
    assert_eq!(world.node(&format!("{BACKEND}/usb-ver")).as_deref(), Some("1"));
    assert_eq!(world.node(&format!("{BACKEND}/port/31")).as_deref(), Some(""));
    let observed = world.observe();
    let controller = observed.hardware.controller(index(0)).unwrap();
    assert_eq!((controller.model, controller.ports.count()), (Model::Xenusb1, 31));
}

#[test]
fn an_index_whose_number_is_taken_is_stored_and_observed() {
    let world = World::new();
    let mut web1 = world.web1(LONG);
    // Another tool takes the numbers 0 and 3 after the guest was observed.
    world.write("/libxl/5/device/vusb/0/type", "devicemodel");
    world.write("/libxl/5/device/vusb/3/type", "devicemodel");
    web1.perform(&add(&controller(3, "pv3"))).unwrap();
    assert_eq!(world.node("/libxl/5/device/vusb/1/index").as_deref(), Some("3"));
    assert_eq!(world.node("/libxl/5/device/vusb/1/name").as_deref(), Some("pv3"));
    web1.perform(&add(&controller(2, "pv2"))).unwrap();
    assert_eq!(world.node("/libxl/5/device/vusb/2/index"), None, "it equals the number");
    let hardware = world.observe().hardware;
    let indexes: Vec<(u16, &str)> =
        hardware.controllers().map(|it| (it.index.get(), it.name.as_str())).collect();
    assert_eq!(indexes, [(2, "pv2"), (3, "pv3")]);
}

#[test]
fn a_backend_domain_is_named_or_numbered() {
    let world = World::new();
    world.machine.add_guest(domain(3), "usbvm", "pv");
    world.machine.announce_backend(domain(3));
    for (number, backend) in [(0, "usbvm"), (1, "3")] {
        let mut new = controller(number, &format!("pv{number}"));
        new.backend = Some(backend.to_owned());
        let mut web1 = world.web1(LONG);
        web1.perform(&add(&new)).unwrap();
        assert!(world.node(&format!("/local/domain/3/backend/vusb/5/{number}/state")).is_some());
        let observed = world.observe();
        let seen = observed.hardware.controller(index(number)).unwrap();
        assert_eq!(seen.backend.as_deref(), Some("usbvm"));
    }
    let mut nowhere = controller(2, "pv2");
    nowhere.backend = Some("nobody".to_owned());
    let error = world.web1(LONG).perform(&add(&nowhere)).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

/// Adding fails with this error, and leaves nothing behind.
fn fails_to_add(world: &World, limit: Duration) -> Error {
    let before = world.tree();
    let mut web1 = world.web1(limit);
    let error = web1.perform(&add(&controller(0, "pv0"))).unwrap_err();
    assert_eq!(world.tree(), before, "{error}");
    // The driver does not consider the controller present either.
    web1.perform(&remove(&controller(0, "pv0"))).unwrap();
    error
}

#[test]
fn a_backend_that_does_not_accept_a_controller_is_reported() {
    let world = World::new();
    world.behaviour(|it| it.accepts = false);
    let error = fails_to_add(&world, SHORT);
    assert!(matches!(error, Error::TimedOut { limit: SHORT, .. }), "{error}");
    assert!(error.to_string().starts_with("adding controller pv0 (xenusb2) timed out"), "{error}");
    assert!(error.to_string().contains("did not accept it"), "{error}");
}

#[test]
fn a_guest_that_does_not_connect_is_reported_with_what_to_do() {
    let world = World::new();
    world.behaviour(|it| it.guest_connects = false);
    let error = fails_to_add(&world, SHORT);
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("xen-hcd"), "{error}");
    assert_eq!(error.remedies(), [Remedy::MoreTime]);
}

#[test]
fn a_backend_that_does_not_follow_the_guest_is_reported() {
    let world = World::new();
    world.behaviour(|it| it.backend_connects = false);
    let error = fails_to_add(&world, SHORT);
    assert!(error.to_string().contains("the backend has not"), "{error}");
}

#[test]
fn a_guest_that_stops_halfway_is_reported() {
    let world = World::new();
    world.behaviour(|it| it.guest_connects = false);
    let before = world.tree();
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| {
            world.web1(Duration::from_secs(1)).perform(&add(&controller(0, "pv0"))).unwrap_err()
        });
        world.until(&format!("{BACKEND}/state"), Some("2"));
        world.write(&format!("{FRONTEND}/state"), "3");
        let error = adding.join().unwrap();
        assert!(error.to_string().contains("did not finish"), "{error}");
    });
    assert_eq!(world.tree(), before);
}

#[test]
fn a_backend_that_drops_a_controller_gives_the_reason() {
    let world = World::new();
    world.behaviour(|it| it.drops = Some("no event\u{1b}[2J channel".to_owned()));
    let error = fails_to_add(&world, LONG);
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    assert!(error.to_string().contains("the backend dropped it: no event?[2J channel"), "{error}");
    world.behaviour(|it| it.drops = Some(String::new()));
    let error = fails_to_add(&world, LONG);
    assert!(error.to_string().contains("closed it without giving a reason"), "{error}");
}

#[test]
fn a_controller_that_is_deleted_while_it_connects_is_not_waited_for() {
    let world = World::new();
    world.behaviour(|it| it.guest_connects = false);
    std::thread::scope(|scope| {
        let adding =
            scope.spawn(|| world.web1(LONG).perform(&add(&controller(0, "pv0"))).unwrap_err());
        world.until(&format!("{BACKEND}/state"), Some("2"));
        world.remove(BACKEND);
        assert!(matches!(adding.join().unwrap(), Error::Failed { .. }));
    });
}

/// Linux may take a controller that was removed and added again for the previous one.
#[test]
fn a_controller_that_the_guest_overlooks_is_recreated_once() {
    let world = World::new();
    world.behaviour(|it| it.guest_connects = false);
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| {
            let begun = Instant::now();
            world.web1(LONG).perform(&add(&controller(0, "pv0"))).unwrap();
            begun.elapsed()
        });
        world.until(&format!("{BACKEND}/state"), Some("2"));
        world.until(&format!("{BACKEND}/state"), None);
        assert_eq!(world.node(&format!("{LIBXL}/type")), None);
        world.behaviour(|it| it.guest_connects = true);
        let taken = adding.join().unwrap();
        // 3 s until it is removed, 1 s until it is back.
        assert!((Duration::from_secs(4)..LONG).contains(&taken), "{taken:?}");
    });
    assert_eq!(world.node(&format!("{FRONTEND}/state")).as_deref(), Some("4"));
}

#[test]
fn a_number_that_is_taken_during_the_recreation_is_an_error() {
    let world = World::new();
    world.behaviour(|it| it.guest_connects = false);
    std::thread::scope(|scope| {
        let adding =
            scope.spawn(|| world.web1(LONG).perform(&add(&controller(0, "pv0"))).unwrap_err());
        world.until(&format!("{BACKEND}/state"), Some("2"));
        world.until(&format!("{LIBXL}/type"), None);
        world.write(&format!("{LIBXL}/type"), "devicemodel");
        let error = adding.join().unwrap();
        assert!(error.to_string().contains("took libxl's number 0 in the meantime"), "{error}");
    });
}

#[test]
fn removing_waits_for_the_guest() {
    let world = World::new();
    let before = world.tree();
    world.add_controller(0, "pv0");
    world.behaviour(|it| it.guest_releases = false);
    let error = world.web1(SHORT).perform(&remove(&controller(0, "pv0"))).unwrap_err();
    assert!(matches!(error, Error::TimedOut { limit: SHORT, .. }), "{error}");
    assert!(error.is_uncertain());
    assert!(error.to_string().starts_with("removing controller pv0 (xenusb2)"), "{error}");
    assert_eq!(error.remedies(), [Remedy::ListDomain, Remedy::Force]);
    assert_eq!(world.node(&format!("{BACKEND}/online")).as_deref(), Some("0"));
    assert_eq!(world.node(&format!("{BACKEND}/state")).as_deref(), Some("5"));

    // The guest releases it later, and the removal is repeated.
    world.behaviour(|it| it.guest_releases = true);
    world.until(&format!("{BACKEND}/state"), Some("6"));
    world.web1(SHORT).perform(&remove(&controller(0, "pv0"))).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn a_guest_that_releases_late_is_waited_for() {
    let world = World::new();
    world.add_controller(0, "pv0");
    world.behaviour(|it| it.guest_releases = false);
    let mut web1 = world.web1(LONG);
    std::thread::scope(|scope| {
        let removing = scope.spawn(move || web1.perform(&remove(&controller(0, "pv0"))));
        world.until(&format!("{BACKEND}/state"), Some("5"));
        world.behaviour(|it| it.guest_releases = true);
        removing.join().unwrap().unwrap();
    });
    assert_eq!(world.node(&format!("{LIBXL}/type")), None);
}

#[test]
fn a_forced_removal_does_not_wait() {
    let world = World::new();
    let before = world.tree();
    world.add_controller(0, "pv0");
    world.behaviour(|it| {
        it.guest_releases = false;
        it.backend_runs = false;
    });
    let begun = Instant::now();
    world.forced(LONG).perform(&remove(&controller(0, "pv0"))).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(world.tree(), before);
}

#[test]
fn a_broken_controller_is_removed_without_waiting() {
    let world = World::new();
    let before = world.tree();
    world.add_controller(0, "pv0");
    world.behaviour(|it| it.backend_runs = false);
    world.write(&format!("{BACKEND}/error"), "the backend was restarted");
    world.web1(SHORT).perform(&remove(&controller(0, "pv0"))).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn a_removed_controller_is_gone_for_the_driver_too() {
    let world = World::new();
    world.add_controller(0, "pv0");
    let mut web1 = world.web1(LONG);
    web1.perform(&remove(&controller(0, "pv0"))).unwrap();
    web1.perform(&remove(&controller(0, "pv0"))).unwrap();
    let step = vusb_model::diff::Step::Plug(at(0, 1), stick());
    let error = web1.perform(&step).unwrap_err();
    assert!(matches!(error, Error::NotImplemented { .. }), "{error}");
}

/// Linux ignores an event for the folder of all controllers.
#[test]
fn the_guest_gets_an_event_for_the_controllers_own_folder() {
    let world = World::new();
    world.add_controller(0, "pv0");
    let mut guest = world.machine.xenstored().client_of(domain(5));
    guest.watch("/local/domain/5/device", "").unwrap();
    world.web1(LONG).perform(&remove(&controller(0, "pv0"))).unwrap();
    let mut paths = Vec::new();
    while let Some(event) = guest.next_event(Duration::from_millis(100)).unwrap() {
        paths.push(event.path);
    }
    assert!(paths.contains(&FRONTEND.to_owned()), "{paths:?}");
}

#[test]
fn parents_that_are_not_empty_or_have_their_own_permissions_stay() {
    let world = World::new();
    world.add_controller(0, "pv0");
    world.add_controller(1, "pv1");
    let mut web1 = world.web1(LONG);
    web1.perform(&remove(&controller(0, "pv0"))).unwrap();
    assert_eq!(world.node("/libxl/5/device/vusb/1/name").as_deref(), Some("pv1"));
    // A parent with a value is not empty.
    world.write("/libxl/5/device/vusb", "kept");
    // A parent that libxl created for the guest has the guest's permissions.
    let mut store = world.machine.xenstored().client();
    let perms = Perms::readable_by(domain(5), DomId::ZERO);
    vusb_xen::store::Nodes::set_permissions(&mut store, "/local/domain/5/device/vusb", &perms)
        .unwrap();
    web1.perform(&remove(&controller(1, "pv1"))).unwrap();
    assert_eq!(world.node("/libxl/5/device/vusb").as_deref(), Some("kept"));
    assert_eq!(world.node("/local/domain/5/device/vusb").as_deref(), Some(""));
    assert_eq!(world.node("/local/domain/0/backend/vusb"), None);
    assert!(world.node("/local/domain/5/name").is_some());
}

#[test]
fn a_domains_own_folder_stays_even_if_it_is_empty() {
    let world = World::new();
    world.machine.add_guest(domain(3), "usbvm", "pv");
    world.machine.announce_backend(domain(3));
    let mut far = controller(0, "pv0");
    far.backend = Some("usbvm".to_owned());
    world.web1(LONG).perform(&add(&far)).unwrap();
    let mut forced = world.forced(LONG);
    // Nothing else is left of the three domains.
    for path in [
        "/local/domain/3/name",
        "/local/domain/3/device",
        "/local/domain/3/data",
        "/local/domain/5/name",
        "/local/domain/5/device/suspend",
        "/libxl/5/type",
        "/libxl/5/device/console",
    ] {
        world.remove(path);
    }
    forced.perform(&remove(&far)).unwrap();
    for folder in ["/local/domain/3", "/local/domain/5", "/libxl/5"] {
        assert_eq!(world.node(folder).as_deref(), Some(""), "{folder}");
    }
}

#[test]
fn steps_need_an_observation() {
    let world = World::new();
    let error = world.guest("web1", LONG).perform(&add(&controller(0, "pv0"))).unwrap_err();
    assert!(error.to_string().contains("has not been observed"), "{error}");
    assert!(world.guest("web1", LONG).capabilities(None).is_err());
    assert!(world.guest("web1", LONG).check(&[]).is_err());
    assert!(world.guest("web1", LONG).observe(&Hardware::new()).is_ok());
}
