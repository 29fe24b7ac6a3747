//! Daemons that close, hang, or send garbage; reconnecting.

use vusb_libvirt::protocol::procedure;
use vusb_libvirt::xdr::Writer;
use vusb_libvirt::{Error, EventId, MAX_EVENTS, XmlKind};

use crate::daemon::{Daemon, Line, long_enough, short, web1};

#[test]
fn the_end_of_the_daemon_during_a_call_is_reported() {
    let (_daemon, mut client) = Daemon::opened(|line| {
        line.expect(procedure::DOMAIN_GET_XML_DESC);
    });
    let error = client.xml(&web1(), XmlKind::Live, long_enough()).unwrap_err();
    assert!(matches!(&error, Error::Closed) && error.is_lost(), "{error}");
    assert!(matches!(client.version(long_enough()), Err(Error::Closed)));
}

#[test]
fn a_client_that_reconnects_has_its_registrations() {
    const REGISTER: i32 = procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY;
    let daemon = Daemon::new(|listener| {
        for _ in 0..2 {
            let mut line = Line::accept(listener);
            line.open();
            let serial = line.expect(REGISTER).serial;
            line.reply(REGISTER, serial, Writer::new().i32(1));
            // The client waits for it on each connection.
            line.device_event(procedure::DOMAIN_EVENT_CALLBACK_DEVICE_ADDED, "ua-x");
        }
    });
    let mut client = daemon.connect().unwrap();
    client.register(EventId::DeviceAdded, None, long_enough()).unwrap();
    client.wait_event(long_enough(), |_| Some(())).unwrap();
    assert!(matches!(client.wait_event(long_enough(), |_| Some(())), Err(Error::Closed)));
    client.reconnect(long_enough()).unwrap();
    client.wait_event(long_enough(), |_| Some(())).unwrap();
}

#[test]
fn a_peer_that_is_not_libvirt_is_noticed() {
    let daemon = Daemon::new(|listener| {
        let mut line = Line::accept(listener);
        line.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        line.receive();
    });
    let error = daemon.connect().unwrap_err();
    assert!(matches!(&error, Error::Protocol { .. }) && error.is_lost(), "{error}");
}

#[test]
fn a_result_that_is_too_short_makes_the_client_unusable() {
    let (_daemon, mut client) = Daemon::opened(|line| {
        let serial = line.expect(procedure::DOMAIN_LOOKUP_BY_NAME).serial;
        line.reply(procedure::DOMAIN_LOOKUP_BY_NAME, serial, Writer::new().string("web1"));
    });
    let error = client.domain_by_name("web1", long_enough()).unwrap_err();
    assert!(error.to_string().contains("ends before a domain's UUID"), "{error}");
    assert!(matches!(client.version(long_enough()), Err(Error::Poisoned { .. })));
}

#[test]
fn a_flood_of_events_is_bounded_in_memory_and_time() {
    let (_daemon, mut client) = Daemon::opened(|line| {
        line.expect(procedure::CONNECT_GET_LIB_VERSION);
        for _ in 0..2 * MAX_EVENTS {
            line.device_event(procedure::DOMAIN_EVENT_CALLBACK_DEVICE_ADDED, "ua-x");
        }
        line.receive();
    });
    assert!(matches!(client.version(short()), Err(Error::TimedOut { .. })));
    assert!(matches!(client.wait_event(short(), |_| None::<()>), Err(Error::TimedOut { .. })));
    assert!(client.take_events().len() <= MAX_EVENTS);
}
