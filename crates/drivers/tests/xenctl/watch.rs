//! Guests that start and end, as xenstore shows them.

use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vusb_drivers::xenctl::XenScheme;
use vusb_drivers::{Error, GuestEvent, GuestWatch, Locations, Scheme as _, WatchOptions};
use vusb_host::Host;

use crate::world::{LONG, SHORT, World, domain};

const INTRODUCE: &str = "@introduceDomain";
const RELEASE: &str = "@releaseDomain";

fn locations(world: &World) -> Locations {
    let xenstored = Some(world.machine.xenstored().socket().to_owned());
    Locations { host: Host::new(world.path("")), xenstored, xen_qmp: None, runtime: None }
}

/// A watch that has listed web1.
fn watched(world: &World) -> Box<dyn GuestWatch> {
    let scheme = XenScheme::new(locations(world));
    let mut watch = scheme.watch(&WatchOptions::default()).unwrap().unwrap();
    assert_eq!(watch.running().unwrap(), ["web1"]);
    watch
}

fn started(name: &str) -> GuestEvent {
    GuestEvent::Started(name.to_owned())
}

fn ended(name: &str) -> GuestEvent {
    GuestEvent::Ended(name.to_owned())
}

#[test]
fn guests_that_run_already_are_reported_first() {
    let world = World::new();
    let scheme = XenScheme::new(locations(&world));
    let mut watch = scheme.watch(&WatchOptions::default()).unwrap().unwrap();
    assert_eq!(watch.wait(LONG).unwrap(), [started("web1")]);
    assert_eq!(watch.wait(SHORT).unwrap(), []);
}

#[test]
fn a_guest_starts_and_ends() {
    let world = World::new();
    let mut watch = watched(&world);
    world.machine.add_guest(domain(6), "mail", "hvm");
    world.machine.xenstored().fire(INTRODUCE);
    assert_eq!(watch.wait(LONG).unwrap(), [started("mail")]);
    world.machine.destroy_guest(domain(5));
    world.machine.xenstored().fire(RELEASE);
    assert_eq!(watch.wait(LONG).unwrap(), [ended("web1")]);
    assert_eq!(watch.running().unwrap(), ["mail"]);
    assert_eq!(watch.wait(SHORT).unwrap(), []);
}

#[test]
fn the_descriptor_is_readable_when_a_guest_has_started() {
    let world = World::new();
    let mut watch = watched(&world);
    // The events that the first scan caused.
    assert_eq!(watch.wait(SHORT).unwrap(), []);
    world.machine.add_guest(domain(6), "mail", "pv");
    world.machine.xenstored().fire(INTRODUCE);
    let mut events = Vec::new();
    while events.is_empty() {
        let fd = PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN);
        let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(poll(&mut [fd], Some(&limit)).unwrap(), 1);
        events = watch.wait(Duration::ZERO).unwrap();
    }
    assert_eq!(events, [started("mail")]);
}

#[test]
fn a_name_and_a_type_may_be_written_later() {
    let world = World::new();
    let mut watch = watched(&world);
    world.write("/local/domain/7/device", "");
    world.machine.xenstored().fire(INTRODUCE);
    assert_eq!(watch.wait(SHORT).unwrap(), []);
    world.write("/local/domain/7/name", "late");
    assert_eq!(watch.wait(SHORT).unwrap(), [], "libxl does not know it");
    world.write("/libxl/7/type", "pvh");
    assert_eq!(watch.wait(LONG).unwrap(), [started("late")]);
}

#[test]
fn a_reboot_is_an_end_and_a_start() {
    let world = World::new();
    let mut watch = watched(&world);
    world.machine.add_guest(domain(8), "web1", "pv");
    world.machine.destroy_guest(domain(5));
    world.machine.xenstored().fire(RELEASE);
    world.machine.xenstored().fire(INTRODUCE);
    assert_eq!(watch.wait(LONG).unwrap(), [ended("web1"), started("web1")]);
    assert_eq!(watch.wait(SHORT).unwrap(), []);
}

#[test]
fn another_name_is_another_guest() {
    let world = World::new();
    let mut watch = watched(&world);
    world.write("/local/domain/5/name", "web2");
    assert_eq!(watch.wait(LONG).unwrap(), [ended("web1"), started("web2")]);
}

#[test]
fn a_migrated_guest_starts_when_it_has_arrived() {
    let world = World::new();
    let mut watch = watched(&world);
    world.machine.add_guest(domain(9), "mail--incoming", "pv");
    world.write("/local/domain/5/name", "web1--migratedaway");
    world.machine.xenstored().fire(INTRODUCE);
    assert_eq!(watch.wait(LONG).unwrap(), [ended("web1")]);
    world.write("/local/domain/9/name", "mail");
    assert_eq!(watch.wait(LONG).unwrap(), [started("mail")]);
}

#[test]
fn a_lost_connection_is_an_error_and_then_a_rescan() {
    let world = World::new();
    let mut watch = watched(&world);
    world.machine.xenstored().hang_up();
    let error = watch.wait(LONG).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    world.machine.destroy_guest(domain(5));
    world.machine.add_guest(domain(6), "mail", "pv");
    assert_eq!(watch.wait(LONG).unwrap(), [GuestEvent::Rescan]);
    assert_eq!(watch.running().unwrap(), ["mail"]);
    world.machine.destroy_guest(domain(6));
    world.machine.xenstored().fire(RELEASE);
    assert_eq!(watch.wait(LONG).unwrap(), [ended("mail")]);
}

#[test]
fn listing_guests_reconnects_at_once() {
    let world = World::new();
    let mut watch = watched(&world);
    world.machine.xenstored().hang_up();
    assert!(watch.running().is_err());
    assert_eq!(watch.running().unwrap(), ["web1"]);
}

#[test]
fn without_xenstored_there_is_no_watch() {
    let world = World::new();
    let locations = Locations { xenstored: Some(world.path("no-socket")), ..locations(&world) };
    let error = XenScheme::new(locations).watch(&WatchOptions::default()).err().unwrap();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}
