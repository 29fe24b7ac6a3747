//! Watches and their events.

use std::time::Duration;

use vusb_xen::store::fake::Xenstored;
use vusb_xen::store::{Error, Nodes, Store};

const LONG: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(50);

fn next(store: &mut Store) -> (String, String) {
    let event = store.next_event(LONG).unwrap().unwrap();
    (event.path, event.token)
}

fn event(path: &str, token: &str) -> (String, String) {
    (path.into(), token.into())
}

#[test]
fn a_watch_fires_at_once_and_then_for_every_node_below() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    store.watch("/a", "A").unwrap();
    assert_eq!(next(&mut store), event("/a", "A"));
    xenstored.write("/a/b", "1");
    xenstored.write("/abc", "1");
    xenstored.remove("/a");
    assert_eq!(next(&mut store), event("/a/b", "A"));
    assert_eq!(next(&mut store), event("/a", "A"));
    assert_eq!(store.next_event(SHORT).unwrap(), None);
}

#[test]
fn a_watch_fires_when_a_parent_is_removed() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    xenstored.write("/a/b/c", "1");
    store.watch("/a/b/c", "C").unwrap();
    assert_eq!(next(&mut store), event("/a/b/c", "C"));
    xenstored.remove("/a");
    assert_eq!(next(&mut store), event("/a/b/c", "C"));
}

#[test]
fn a_special_path_reports_domains_that_disappear() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    store.watch("@releaseDomain", "gone").unwrap();
    next(&mut store);
    xenstored.fire("@releaseDomain");
    assert_eq!(next(&mut store), event("@releaseDomain", "gone"));
}

/// Events that arrive while the store waits for a reply are queued.
#[test]
fn events_that_come_with_replies_are_not_lost() {
    let xenstored = Xenstored::start();
    let (mut store, mut other) = (xenstored.client(), xenstored.client());
    store.watch("/a", "A").unwrap();
    for number in 0..100 {
        other.write(&format!("/a/{number}"), "").unwrap();
        store.read("/a").unwrap();
    }
    assert_eq!(next(&mut store), event("/a", "A"));
    for number in 0..100 {
        assert_eq!(next(&mut store), event(&format!("/a/{number}"), "A"));
    }
}

#[test]
fn a_removed_watch_does_not_fire() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    store.watch("/a", "A").unwrap();
    assert!(matches!(store.watch("/a", "A"), Err(Error::Refused { code, .. }) if code == "EEXIST"));
    store.unwatch("/a", "A").unwrap();
    xenstored.write("/a", "1");
    assert_eq!(store.next_event(SHORT).unwrap(), None);
    assert!(matches!(store.unwatch("/a", "A"), Err(Error::NotFound { .. })));
}

#[test]
fn taking_does_not_wait() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    assert_eq!(store.take_event().unwrap(), None);
    store.watch("/a", "A").unwrap();
    store.read("/a").unwrap();
    assert!(store.take_event().unwrap().is_some(), "it arrived before the reply");
}
