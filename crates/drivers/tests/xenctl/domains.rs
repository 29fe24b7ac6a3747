//! Domains are found by name and by id.

use vusb_drivers::{Driver, Error};
use vusb_model::hardware::Hardware;

use crate::world::{LONG, World, domain};

fn observe(world: &World, name: &str) -> Result<(), Error> {
    world.guest(name, LONG).observe(&Hardware::new()).map(drop)
}

#[test]
fn a_guest_has_a_name_and_an_id() {
    let world = World::new();
    observe(&world, "web1").unwrap();
    observe(&world, "5").unwrap();
    for name in ["web", "05", "6", "", "web1 "] {
        let error = observe(&world, name).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Missing { .. }), "{name}: {text}");
        assert!(text.contains("the running guests are web1 (id 5)"), "{text}");
    }
}

#[test]
fn the_newer_of_two_domains_with_the_same_name_is_the_guest() {
    let world = World::new();
    world.machine.add_guest(domain(10), "web1", "pv");
    world.machine.add_guest(domain(9), "web1", "pvh");
    let mut web1 = world.web1(LONG);
    assert_eq!(web1.capabilities(None).unwrap().hypervisor, "Xen (PV guest)");
    world.machine.destroy_guest(domain(10));
    let mut web1 = world.web1(LONG);
    assert_eq!(web1.capabilities(None).unwrap().hypervisor, "Xen (PVH guest)");
}

#[test]
fn an_error_lists_the_running_guests() {
    let world = World::new();
    world.machine.add_guest(domain(6), "evil\u{1b}[2J", "pv");
    world.write("/local/domain/7/device", "");
    let text = observe(&world, "web2\u{1b}").unwrap_err().to_string();
    assert!(text.contains("web1 (id 5), evil?[2J (id 6), 7"), "{text}");
    assert!(text.contains("the domain web2\\u{1b}"), "{text}");
    for id in [5, 6, 7] {
        world.machine.destroy_guest(domain(id));
    }
    let text = observe(&world, "web2").unwrap_err().to_string();
    assert!(text.contains("no guest is running"), "{text}");
}

#[test]
fn a_domain_that_is_not_a_guest_is_refused() {
    let world = World::new();
    world.machine.add_guest(domain(6), "odd", "unikernel\u{1b}");
    world.machine.add_guest(domain(7), "dying", "pv");
    world.remove("/libxl/7");
    for (name, why) in [
        ("0", "domain 0 is this machine"),
        ("Domain-0", "domain 0 is this machine"),
        ("odd", "its type in libxl is `unikernel\\u{1b}`"),
        ("dying", "libxl does not know it"),
    ] {
        let error = observe(&world, name).unwrap_err();
        assert!(matches!(error, Error::NotImplemented { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn without_xenstored_the_guest_is_unreachable() {
    let world = World::new();
    let mut access = world.access();
    access.xenstored = Some(world.path("nothing"));
    let mut web1 = vusb_drivers::xenctl::Xen::at("web1", &access, LONG, false);
    let error = web1.observe(&Hardware::new()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { midway: false, .. }), "{error}");
    assert!(error.to_string().contains("xenstored"), "{error}");
    assert!(!error.is_uncertain());
}

#[test]
fn a_guest_is_identified_by_its_uuid() {
    let world = World::new();
    assert!(world.web1(LONG).identity().is_none(), "it has none");
    world.write("/local/domain/5/vm", "/vm/9f5c4b0e-0001");
    let identity = world.web1(LONG).identity().unwrap();
    assert_eq!(world.web1(LONG).identity(), Some(identity.clone()));
    world.write("/local/domain/5/vm", "/vm/9f5c4b0e-0002");
    assert_ne!(world.web1(LONG).identity(), Some(identity));
    world.write("/local/domain/5/vm", "9f5c4b0e-0002");
    assert!(world.web1(LONG).identity().is_none());
    assert!(world.guest("web1", LONG).identity().is_none(), "it has not been observed");
}
