//! Events before, between and after answers; floods.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vusb_qmp::{Deadline, Error, Event, MAX_EVENT_BYTES, MAX_EVENTS};

use crate::peer::{Peer, long_enough, short};

fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.data["n"].as_u64().unwrap()).collect()
}

#[test]
fn an_unknown_event_between_command_and_answer_is_kept() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("device_del");
        line.event("BRAND_NEW", 1);
        line.send(&json!({"brand-new-form": [1, 2]}));
        line.send(&json!({"return": {}, "id": id}));
        line.event("DEVICE_DELETED", 2);
    });
    client.execute("device_del", json!({"id": "x"}), long_enough()).unwrap();
    client
        .wait_event(long_enough(), |event| (event.name == "DEVICE_DELETED").then_some(()))
        .unwrap();
    let events = client.take_events();
    assert_eq!((events.len(), events[0].name.as_str()), (1, "BRAND_NEW"));
    assert_eq!(events[0].timestamp, Some(Duration::new(1, 2000)));
    assert_eq!(client.take_events(), []);
}

#[test]
fn a_wait_examines_each_event_once_and_takes_the_first_match() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("stop");
        for n in 0..3 {
            line.event("E", n);
        }
        line.send(&json!({"return": {}, "id": id}));
        line.event("E", 3);
        line.event("E", 4);
        line.wait_for_disconnect();
    });
    client.execute("stop", Value::Null, long_enough()).unwrap();

    let mut seen = Vec::new();
    let found = client.wait_event(long_enough(), |event| {
        let n = event.data["n"].as_u64()?;
        seen.push(n);
        (n == 3).then_some("three")
    });
    assert_eq!((found.unwrap(), seen), ("three", vec![0, 1, 2, 3]));

    // The first match is in the middle of the queue.
    let odd =
        client.wait_event(long_enough(), |event| event.data["n"].as_u64().filter(|n| n % 2 == 1));
    assert_eq!(odd.unwrap(), 1);
    let last = client.wait_event(long_enough(), |event| (event.data["n"] == 4).then_some(()));
    last.unwrap();
    assert_eq!(numbers(&client.take_events()), [0, 2]);
}

#[test]
fn a_wait_that_fails_keeps_the_events() {
    let (_peer, mut client) = Peer::greeted(|line| {
        line.event("E", 1);
        line.wait_for_disconnect();
    });
    let error = client.wait_event(short(), |_| None::<()>).unwrap_err();
    assert!(matches!(&error, Error::TimedOut { what } if what == "an event"), "{error:?}");
    assert_eq!(numbers(&client.take_events()), [1]);
}

#[test]
fn a_wait_after_the_deadline_examines_received_events() {
    let (_peer, mut client) = Peer::greeted(|line| {
        line.event("E", 1);
        line.wait_for_disconnect();
    });
    let give_up = Instant::now() + Duration::from_secs(20);
    let found = loop {
        match client.wait_event(Deadline::now(), |event| event.data["n"].as_u64()) {
            Err(Error::TimedOut { .. }) if Instant::now() < give_up => {}
            outcome => break outcome,
        }
    };
    assert_eq!(found.unwrap(), 1);
}

#[test]
fn events_before_a_disconnect_are_received() {
    let (_peer, mut client) = Peer::greeted(|line| line.event("SHUTDOWN", 1));
    client.wait_event(long_enough(), |event| (event.name == "SHUTDOWN").then_some(())).unwrap();
    let error = client.wait_event(long_enough(), |_| Some(())).unwrap_err();
    assert!(matches!(error, Error::Closed { mid_message: false }), "{error:?}");
}

#[test]
fn a_late_answer_during_a_wait_is_ignored() {
    let (gave_up, is_late) = std::sync::mpsc::channel();
    let (_peer, mut client) = Peer::greeted(move |line| {
        let slow = line.expect("slow");
        is_late.recv().unwrap();
        line.send(&json!({"return": {}, "id": slow}));
        line.event("E", 1);
    });
    client.execute("slow", Value::Null, short()).unwrap_err();
    gave_up.send(()).unwrap();
    client.wait_event(long_enough(), |_| Some(())).unwrap();
}

#[test]
fn the_oldest_of_too_many_events_are_dropped_and_counted() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("stop");
        for n in 0..MAX_EVENTS + 10 {
            line.event("E", n);
        }
        line.send(&json!({"return": {}, "id": id}));
    });
    client.execute("stop", Value::Null, long_enough()).unwrap();
    assert_eq!(client.dropped_events(), 10);
    let expected: Vec<u64> = (10..MAX_EVENTS as u64 + 10).collect();
    assert_eq!(numbers(&client.take_events()), expected);
}

#[test]
fn the_oldest_events_beyond_the_byte_limit_are_dropped_and_counted() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("stop");
        for n in 0..10 {
            let fill = "x".repeat(MAX_EVENT_BYTES / 4);
            line.send(&json!({"event": "E", "data": {"n": n, "fill": fill}}));
        }
        line.send(&json!({"return": {}, "id": id}));
        let id = line.expect("cont");
        let fill = "x".repeat(2 * MAX_EVENT_BYTES);
        line.send(&json!({"event": "E", "data": {"n": 10, "fill": fill}}));
        line.send(&json!({"return": {}, "id": id}));
    });
    client.execute("stop", Value::Null, long_enough()).unwrap();
    assert_eq!((client.dropped_events(), numbers(&client.take_events())), (7, vec![7, 8, 9]));
    // A single event that exceeds the limit is kept.
    client.execute("cont", Value::Null, long_enough()).unwrap();
    assert_eq!((client.dropped_events(), numbers(&client.take_events())), (7, vec![10]));
}

/// The peer sends events without a pause, but never the answer.
#[test]
fn a_flood_does_not_extend_the_deadline() {
    let flood = |line: &mut crate::peer::Line| {
        let events = b"{\"event\": \"E\"}\n".repeat(1000);
        while line.try_send_raw(&events) {}
    };
    let (_peer, mut client) = Peer::greeted(flood);
    let start = Instant::now();
    let error = client.execute("stop", Value::Null, short()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    let error = client.wait_event(short(), |_| None::<()>).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(client.dropped_events() > 0);
    assert_eq!(client.take_events().len(), MAX_EVENTS);
}
