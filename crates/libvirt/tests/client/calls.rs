//! Replies, refusals, late replies, events in between, keepalive.

use vusb_libvirt::codec::Message;
use vusb_libvirt::protocol::{KEEPALIVE, keepalive, procedure};
use vusb_libvirt::xdr::Writer;
use vusb_libvirt::{Affect, Error, Event, EventId, XmlKind, code};

use crate::daemon::{Daemon, long_enough, short, web1};

#[test]
fn a_call_returns_its_reply() {
    let (_daemon, mut client) = Daemon::opened(|line| {
        let call = line.expect(procedure::DOMAIN_LOOKUP_BY_NAME);
        assert_eq!(call.payload, Writer::new().string("web1").into_bytes());
        line.reply(procedure::DOMAIN_LOOKUP_BY_NAME, call.serial, web1().write(Writer::new()));
        let call = line.expect(procedure::DOMAIN_GET_XML_DESC);
        assert_eq!(call.payload, web1().write(Writer::new()).u32(2).into_bytes());
        line.reply(procedure::DOMAIN_GET_XML_DESC, call.serial, Writer::new().string("<domain/>"));
    });
    let domain = client.domain_by_name("web1", long_enough()).unwrap();
    assert_eq!(domain, web1());
    assert_eq!(client.xml(&domain, XmlKind::Inactive, long_enough()).unwrap(), "<domain/>");
}

#[test]
fn a_refusal_keeps_code_and_message_and_the_client_stays_usable() {
    let (_daemon, mut client) = Daemon::opened(|line| {
        let serial = line.expect(procedure::DOMAIN_ATTACH_DEVICE_FLAGS).serial;
        let text = "unsupported configuration: non unique alias detected: ua-x";
        line.refuse(procedure::DOMAIN_ATTACH_DEVICE_FLAGS, serial, code::CONFIG_UNSUPPORTED, text);
        let serial = line.expect(procedure::CONNECT_GET_LIB_VERSION).serial;
        let version = Writer::new().u32(0).u32(9_000_000);
        line.reply(procedure::CONNECT_GET_LIB_VERSION, serial, version);
    });
    let error = client.attach(&web1(), "<input/>", Affect::BOTH, long_enough()).unwrap_err();
    let Error::Remote(error) = error else { panic!("{error}") };
    assert_eq!(error.code, code::CONFIG_UNSUPPORTED);
    assert!(error.message.starts_with("unsupported configuration"));
    assert_eq!(client.version(long_enough()).unwrap(), 9_000_000);
}

#[test]
fn a_late_reply_is_not_taken_for_the_next() {
    let (_daemon, mut client) = Daemon::opened(|line| {
        let late = line.expect(procedure::DOMAIN_IS_PERSISTENT).serial;
        let next = line.expect(procedure::DOMAIN_IS_PERSISTENT).serial;
        line.reply(procedure::DOMAIN_IS_PERSISTENT, late, Writer::new().i32(0));
        line.reply(procedure::DOMAIN_IS_PERSISTENT, next, Writer::new().i32(1));
    });
    let error = client.is_persistent(&web1(), short()).unwrap_err();
    assert!(matches!(&error, Error::TimedOut { .. }) && !error.is_lost(), "{error}");
    assert!(client.is_persistent(&web1(), long_enough()).unwrap());
}

#[test]
fn events_come_between_a_call_and_its_reply() {
    const REGISTER: i32 = procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY;
    let (_daemon, mut client) = Daemon::opened(|line| {
        let call = line.expect(REGISTER);
        let domain = Writer::new().i32(15).option(Some(web1()), |it, domain| domain.write(it));
        assert_eq!(call.payload, domain.into_bytes());
        line.reply(REGISTER, call.serial, Writer::new().i32(4));
        let serial = line.expect(procedure::DOMAIN_DETACH_DEVICE_ALIAS).serial;
        line.device_event(procedure::DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED, "ua-other");
        line.device_event(procedure::DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED, "ua-stick");
        line.reply(procedure::DOMAIN_DETACH_DEVICE_ALIAS, serial, Writer::new());
    });
    client.register(EventId::DeviceRemoved, Some(&web1()), long_enough()).unwrap();
    client.detach_alias(&web1(), "ua-stick", Affect::LIVE, long_enough()).unwrap();
    let pick = |event: &Event| {
        matches!(event, Event::DeviceRemoved { alias, .. } if alias == "ua-stick").then_some(())
    };
    client.wait_event(long_enough(), pick).unwrap();
    let left = client.take_events();
    assert!(matches!(&left[..], [Event::DeviceRemoved { alias, .. }] if alias == "ua-other"));
    assert_eq!(client.dropped_events(), 0);
}

#[test]
fn a_ping_is_answered_while_a_call_waits() {
    let (_daemon, mut client) = Daemon::opened(|line| {
        let serial = line.expect(procedure::CONNECT_SUPPORTS_FEATURE).serial;
        line.reply(procedure::CONNECT_SUPPORTS_FEATURE, serial, Writer::new().i32(1));
        let serial = line.expect(procedure::CONNECT_GET_LIB_VERSION).serial;
        line.send(&Message::event(KEEPALIVE, keepalive::PING, Vec::new()));
        let pong = line.receive().unwrap();
        assert_eq!(pong, Message::event(KEEPALIVE, keepalive::PONG, Vec::new()));
        let version = Writer::new().u32(0).u32(1);
        line.reply(procedure::CONNECT_GET_LIB_VERSION, serial, version);
    });
    assert!(client.enable_keepalive(long_enough()).unwrap());
    assert_eq!(client.version(long_enough()).unwrap(), 1);
}
