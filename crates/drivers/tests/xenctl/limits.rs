//! Special cases of the driver of Xen guests: no answer, no xenstored, and what errors name.

use std::fs;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use vusb_drivers::xenctl::XenScheme;
use vusb_drivers::{Driver as _, Error, GuestEvent, Locations, Scheme as _, WatchOptions};
use vusb_host::Host;
use vusb_model::diff::Step;

use crate::world::{LONG, SHORT, World, at, domain, host, stick};

fn locations(world: &World) -> Locations {
    let xenstored = Some(world.machine.xenstored().socket().to_owned());
    Locations { host: Host::new(world.path("")), xenstored, xen_qmp: None, runtime: None }
}

/// An old answer shows nothing about the backend, and neither does another program's ping.
#[test]
fn a_ping_without_an_answer_shows_nothing() {
    const PING: &str = "/local/domain/0/data/vusb-backend/ping";
    let world = World::new();
    let access = world.access();
    world.behaviour(|it| it.backend_runs = false);
    world.write("/local/domain/0/data/vusb-backend/pong", "an old answer");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| access.pv_served(SHORT).unwrap());
        while !asking.is_finished() && world.node(PING).is_none() {
            std::thread::yield_now();
        }
        world.write(PING, "another program's ping");
        assert_eq!(asking.join().unwrap(), Some(false));
    });
}

/// Whatever goes wrong, the error names the device that was to be plugged in.
#[test]
fn errors_name_the_device() {
    let world = World::new();
    world.plug_in(4, "0781:5581", "4C53");
    world.plug_in(5, "0951:1666", "A1");
    world.add_controller(0, "pv0");
    let mut web1 = world.web1(LONG);
    let mut plug = |device| web1.perform(&Step::Plug(at(0, 1), device));
    plug(stick()).unwrap();
    let taken = plug(host("other", "0951:1666", Some(15))).unwrap_err().to_string();
    assert!(taken.starts_with("plugging in other (host:0951:1666)"), "{taken}");

    world.behaviour(|it| it.port_status = "refused it is a hub".to_owned());
    let mut web1 = world.web1(LONG);
    let refused = web1.perform(&Step::Plug(at(0, 2), host("other", "0951:1666", Some(15))));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.starts_with("plugging in other (host:0951:1666)"), "{refused}");
}

/// The devices that vusb-backend has open are used by guests, not by another program.
#[test]
fn the_server_of_devices_is_known() {
    let world = World::new();
    assert_eq!(XenScheme::new(locations(&world)).device_server(), Some("vusb-backend"));
}

/// While xenstored is away, a watch waits between two attempts to connect.
#[test]
fn a_watch_does_not_reconnect_without_a_pause() {
    let world = World::new();
    let mut watch =
        XenScheme::new(locations(&world)).watch(&WatchOptions::default()).unwrap().unwrap();
    assert_eq!(watch.running().unwrap(), ["web1"]);
    fs::remove_file(world.machine.xenstored().socket()).unwrap();
    world.machine.xenstored().hang_up();
    let error = watch.wait(LONG).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(watch.wait(SHORT).unwrap(), []);
    let begun = Instant::now();
    let error = watch.wait(LONG).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(begun.elapsed() < LONG / 2);
}

/// Ids start again at 1 after 32751 domains.
#[test]
fn a_domains_id_may_be_used_again() {
    let world = World::new();
    let mut watch =
        XenScheme::new(locations(&world)).watch(&WatchOptions::default()).unwrap().unwrap();
    assert_eq!(watch.running().unwrap(), ["web1"]);
    world.machine.destroy_guest(domain(5));
    world.machine.xenstored().fire("@releaseDomain");
    assert_eq!(watch.wait(LONG).unwrap(), [GuestEvent::Ended("web1".to_owned())]);
    world.machine.add_guest(domain(5), "mail", "pv");
    world.machine.xenstored().fire("@introduceDomain");
    assert_eq!(watch.wait(LONG).unwrap(), [GuestEvent::Started("mail".to_owned())]);
}

/// A watch sleeps until something changes.
#[test]
fn an_idle_watch_uses_no_processor_time() {
    let world = World::new();
    let mut watch =
        XenScheme::new(locations(&world)).watch(&WatchOptions::default()).unwrap().unwrap();
    assert_eq!(watch.running().unwrap(), ["web1"]);
    // The events that the first scan caused.
    assert_eq!(watch.wait(SHORT).unwrap(), []);
    let used = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::from_nanos(u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap())
    };
    let before = used();
    assert_eq!(watch.wait(SHORT).unwrap(), []);
    let used = used() - before;
    assert!(used < SHORT / 20, "{used:?}");
}
