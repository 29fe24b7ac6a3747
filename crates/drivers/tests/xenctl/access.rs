//! Queries to Xen that need no guest: names of domains, and vusb-backends with their devices.

use vusb_drivers::Error;
use vusb_drivers::xenctl::{XenAccess, is_domain_id};
use vusb_host::Host;
use vusb_model::speed::{Speed, SpeedSet};
use vusb_xen::usb::ExportedDevice;

use crate::world::{LONG, SHORT, World, domain, exported};

#[test]
fn a_domain_is_recorded_by_its_name() {
    let world = World::new();
    let access = world.access();
    world.machine.add_guest(domain(3), "usbvm", "pv");
    world.write("/local/domain/7/device", "");
    assert_eq!(access.name_of("3", LONG).unwrap().as_deref(), Some("usbvm"));
    assert_eq!(access.name_of("7", LONG).unwrap(), None);
    for (name, recorded) in [
        ("usbvm", Some("usbvm")),
        ("3", Some("usbvm")),
        ("7", Some("7")),
        ("0", None),
        ("Domain-0", None),
    ] {
        assert_eq!(access.backend(name, LONG).unwrap().as_deref(), recorded, "{name}");
    }
    for name in ["nobody", "8"] {
        assert!(matches!(access.backend(name, LONG), Err(Error::Missing { .. })), "{name}");
        assert!(matches!(access.name_of(name, LONG), Err(Error::Missing { .. })), "{name}");
    }
    // Domain 0 need not have a name.
    world.remove("/local/domain/0/name");
    assert_eq!(access.backend("0", LONG).unwrap(), None);
}

#[test]
fn an_id_is_a_number() {
    assert!(is_domain_id("0") && is_domain_id("32751"));
    for text in ["", "web1", "05", "-1", "32752"] {
        assert!(!is_domain_id(text), "{text}");
    }
}

#[test]
fn the_system_has_the_paths_of_all_distributions() {
    let access = XenAccess::system(Host::new("/"));
    assert_eq!(access.xenstored, None);
    assert_eq!(access.qmp.to_str(), Some("/var/run/xen"));
}

#[test]
fn pv_is_served_by_a_backend_that_answers() {
    let world = World::new();
    let access = world.access();
    assert_eq!(access.pv_served(LONG).unwrap(), Some(true));
    // An old answer is not taken for a new one.
    world.behaviour(|it| it.backend_runs = false);
    assert_eq!(access.pv_served(SHORT).unwrap(), Some(false));
    world.behaviour(|it| it.backend_runs = true);
    world.remove("/local/domain/0/data/vusb-backend");
    assert_eq!(access.pv_served(LONG).unwrap(), Some(false), "none is announced");
    assert_eq!(world.node("/local/domain/0/data/vusb-backend/ping"), None);
    let nowhere = XenAccess { xenstored: Some(world.path("nothing")), ..access };
    assert_eq!(nowhere.pv_served(LONG).unwrap(), None);
}

/// The answer to another program's ping also shows that the backend runs.
#[test]
fn two_programs_may_ping_at_once() {
    let world = World::new();
    let access = world.access();
    world.behaviour(|it| it.backend_runs = false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| access.pv_served(LONG).unwrap());
        let ping = "/local/domain/0/data/vusb-backend/ping";
        world.until_exists(ping);
        world.write(ping, "another");
        world.write("/local/domain/0/data/vusb-backend/pong", "another");
        assert_eq!(asking.join().unwrap(), Some(true));
    });
    // An answer to neither ping does not count: `pong` still belongs to the other program.
    assert_eq!(access.pv_served(SHORT).unwrap(), Some(false));
}

#[test]
fn a_backends_devices_are_listed_by_bus_id() {
    let world = World::new();
    world.machine.add_guest(domain(3), "usbvm", "pv");
    world.machine.announce_backend(domain(3));
    let full = ExportedDevice {
        speed: Some(Speed::High),
        speeds: SpeedSet::of(&[Speed::Full, Speed::High]),
        manufacturer: Some("A \u{1b}maker".to_owned()),
        product: Some("x".repeat(200)),
        protection: Some("a disk\u{202e} that is mounted".to_owned()),
        ..exported("2-1.4", "0951:1666", "002.007")
    };
    world.machine.export(domain(3), &full);
    let hub = ExportedDevice { serial: None, class: 9, ..exported("1-2", "05e3:0608", "001.002") };
    world.machine.export(domain(3), &hub);
    let folder = "/local/domain/3/data/vusb-backend/device";
    world.write(&format!("{folder}/nonsense/id"), "0781:5581");
    world.write(&format!("{folder}/1-3/id"), "0781:5581");
    let all = world.access().backend_devices("usbvm", LONG).unwrap();
    let [hub, device] = &all[..] else { panic!("{all:?}") };
    assert_eq!((hub.device.bus_id.to_string().as_str(), hub.device.is_hub), ("1-2", true));
    assert_eq!((&hub.device.serial, &hub.protection), (&None, &None));
    let it = &device.device;
    assert_eq!((it.bus_id.to_string(), it.id.to_string()), ("2-1.4".into(), "0951:1666".into()));
    assert_eq!(it.serial.as_deref(), Some("AB12"));
    assert_eq!((it.speed, it.speeds), (full.speed, full.speeds));
    assert_eq!((it.class, it.is_hub), (8, false));
    assert_eq!(it.manufacturer.as_deref(), Some("A ?maker"));
    assert_eq!(it.product.as_ref().map(String::len), Some(126));
    assert_eq!(device.protection.as_deref(), Some("a disk? that is mounted"));
    assert_eq!((it.bus_address.bus, it.bus_address.address, &it.path), (2, 7, &None));
}

#[test]
fn a_backend_that_cannot_be_used_is_reported_with_what_to_do() {
    let world = World::new();
    let access = world.access();
    world.machine.add_guest(domain(3), "usb\u{1b}vm", "pv");
    let why = |limit| match access.backend_devices("3", limit).unwrap_err() {
        error @ Error::Unreachable { midway: false, .. } => error.to_string(),
        other => panic!("{other}"),
    };
    let text = why(LONG);
    assert!(text.starts_with("cannot reach the backend in domain usb?vm (id 3)"), "{text}");
    assert!(text.contains("no vusb-backend answers in domain usb?vm (id 3): none is"), "{text}");
    assert!(text.contains("`systemctl start vusb-backend`"), "{text}");

    world.machine.announce_backend(domain(3));
    world.behaviour(|it| it.backend_runs = false);
    assert!(why(SHORT).contains("is announced in xenstore but does not answer"), "{}", why(SHORT));
    world.write("/local/domain/3/data/vusb-backend/version", "2\u{1b}");
    let text = why(LONG);
    assert!(text.contains("version 2?, but this vusb supports version 1"), "{text}");

    world.remove("/local/domain/0/data/vusb-backend");
    world.remove("/local/domain/0/name");
    let text = access.backend_devices("0", LONG).unwrap_err().to_string();
    assert!(text.contains("answers in domain 0: none is"), "{text}");
}

#[test]
fn all_devices_of_a_large_machine_are_listed() {
    let world = World::new();
    for bus in 1..=20 {
        for port in 1..=12 {
            let device = exported(&format!("{bus}-{port}"), "0951:1666", "002.007");
            world.machine.export(domain(0), &device);
        }
    }
    let all = world.access().backend_devices("0", LONG).unwrap();
    assert_eq!(all.len(), 240);
    assert!(all.is_sorted_by_key(|it| it.device.bus_id.clone()));
}
