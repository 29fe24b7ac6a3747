//! Being told.

use std::time::Duration;

use vusb_xen::store::fake::Xenstored;
use vusb_xen::store::{Error, Nodes, Store};

const SOON: Duration = Duration::from_secs(5);
const BRIEFLY: Duration = Duration::from_millis(50);

fn next(store: &mut Store) -> (String, String) {
    let event = store.next_event(SOON).unwrap().unwrap();
    (event.path, event.token)
}

fn told(path: &str, token: &str) -> (String, String) {
    (path.into(), token.into())
}

#[test]
fn a_watch_fires_at_once_and_then_for_all_below() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    store.watch("/a", "A").unwrap();
    assert_eq!(next(&mut store), told("/a", "A"));
    xenstored.write("/a/b", "1");
    xenstored.write("/abc", "1");
    xenstored.remove("/a");
    assert_eq!(next(&mut store), told("/a/b", "A"));
    assert_eq!(next(&mut store), told("/a", "A"));
    assert_eq!(store.next_event(BRIEFLY).unwrap(), None);
}

#[test]
fn who_watches_a_node_is_told_when_its_folder_goes() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    xenstored.write("/a/b/c", "1");
    store.watch("/a/b/c", "C").unwrap();
    assert_eq!(next(&mut store), told("/a/b/c", "C"));
    xenstored.remove("/a");
    assert_eq!(next(&mut store), told("/a/b/c", "C"));
}

#[test]
fn domains_that_go_are_told() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    store.watch("@releaseDomain", "gone").unwrap();
    next(&mut store);
    xenstored.fire("@releaseDomain");
    assert_eq!(next(&mut store), told("@releaseDomain", "gone"));
}

/// What others do is told to us while we wait for replies of our own: it is kept.
#[test]
fn events_that_come_with_replies_are_not_lost() {
    let xenstored = Xenstored::start();
    let (mut store, mut other) = (xenstored.client(), xenstored.client());
    store.watch("/a", "A").unwrap();
    for number in 0..100 {
        other.write(&format!("/a/{number}"), "").unwrap();
        store.read("/a").unwrap();
    }
    assert_eq!(next(&mut store), told("/a", "A"));
    for number in 0..100 {
        assert_eq!(next(&mut store), told(&format!("/a/{number}"), "A"));
    }
}

#[test]
fn a_watch_that_ended_tells_nothing_more() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    store.watch("/a", "A").unwrap();
    assert!(matches!(store.watch("/a", "A"), Err(Error::Refused { code, .. }) if code == "EEXIST"));
    store.unwatch("/a", "A").unwrap();
    xenstored.write("/a", "1");
    assert_eq!(store.next_event(BRIEFLY).unwrap(), None);
    assert!(matches!(store.unwatch("/a", "A"), Err(Error::NotFound { .. })));
}

#[test]
fn taking_does_not_wait() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    assert_eq!(store.take_event().unwrap(), None);
    store.watch("/a", "A").unwrap();
    store.read("/a").unwrap();
    assert!(store.take_event().unwrap().is_some(), "it came before the reply");
}
