//! A xenstored that is silent, late, gone, or lies.

use std::io::Write;
use std::time::{Duration, Instant};

use vusb_xen::store::fake::Xenstored;
use vusb_xen::store::wire::Kind;
use vusb_xen::store::{Error, Nodes};

use super::peer::connected;

#[test]
fn a_silent_one_is_not_waited_for_for_ever() {
    let (mut store, _peer) = connected();
    let began = Instant::now();
    assert!(matches!(store.read("/a"), Err(Error::TimedOut { .. })));
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_reply_that_comes_too_late_is_not_taken_for_another() {
    let (mut store, mut peer) = connected();
    assert!(matches!(store.read("/old"), Err(Error::TimedOut { .. })));
    let late = peer.request();
    peer.say(Kind::Read, late.request, b"old");
    let thread = std::thread::spawn(move || {
        let request = peer.request();
        peer.say(Kind::Read, request.request, b"new");
    });
    assert_eq!(store.read("/new").unwrap().as_deref(), Some("new"));
    thread.join().unwrap();
}

#[test]
fn events_before_a_reply_are_kept_and_those_of_nobody_dropped() {
    let (mut store, mut peer) = connected();
    let thread = std::thread::spawn(move || {
        let request = peer.request();
        peer.say(Kind::WatchEvent, 0xdead_beef, b"/a\0A\0");
        peer.say(Kind::WatchEvent, 0, b"/x\0stranger\0");
        peer.say(Kind::Watch, request.request, b"OK\0");
    });
    store.watch("/a", "A").unwrap();
    thread.join().unwrap();
    assert_eq!(store.take_event().unwrap().unwrap().path, "/a");
    assert_eq!(store.take_event().ok().flatten(), None);
}

#[test]
fn one_that_is_gone_is_said_to_be() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    store.write("/a", "1").unwrap();
    xenstored.hang_up();
    assert!(matches!(store.next_event(Duration::from_secs(5)), Err(Error::Closed)));
    assert!(matches!(store.read("/a"), Err(Error::Closed)));
    assert_eq!(xenstored.client().read("/a").unwrap().as_deref(), Some("1"), "connected anew");
}

#[test]
fn refusals_have_names() {
    for (name, wanted) in [
        ("EACCES", "no permission for /a"),
        ("ENOSPC", "no room for /a (ENOSPC)"),
        ("EROFS", "refused /a: EROFS"),
    ] {
        let (mut store, mut peer) = connected();
        let thread = std::thread::spawn(move || {
            let request = peer.request();
            peer.say(Kind::Error, request.request, format!("{name}\0").as_bytes());
        });
        let error = store.write("/a", "1").unwrap_err().to_string();
        thread.join().unwrap();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn lies_are_errors() {
    let lies: [(Kind, u32, &[u8]); 4] = [
        (Kind::Write, 0, b"OK\0"),       // another kind
        (Kind::Directory, 77, b"a\0"),   // to another request
        (Kind::Directory, 0, b"\xff\0"), // not text
        (Kind::WatchEvent, 0, b"/a"),    // without a token
    ];
    for (kind, offset, payload) in lies {
        let (mut store, mut peer) = connected();
        let thread = std::thread::spawn(move || {
            let request = peer.request();
            peer.say(kind, request.request + offset, payload);
            peer
        });
        assert!(matches!(store.list("/a"), Err(Error::Protocol(_))), "{kind:?}");
        thread.join().unwrap();
    }
}

#[test]
fn a_length_that_cannot_be_is_not_waited_for() {
    let (mut store, mut peer) = connected();
    let header = [Kind::Read.code(), 1, 0, u32::MAX].map(u32::to_ne_bytes).concat();
    peer.stream.write_all(&header).unwrap();
    assert!(matches!(store.read("/a"), Err(Error::Protocol(_))));
    assert!(matches!(store.read("/a"), Err(Error::Protocol(_) | Error::Closed)));
}

/// A folder whose generation never stays the same.
#[test]
fn a_folder_that_never_rests_is_given_up() {
    let (mut store, mut peer) = connected();
    let thread = std::thread::spawn(move || {
        let first = peer.request();
        peer.say(Kind::Error, first.request, b"E2BIG\0");
        for generation in 0..32 {
            let request = peer.request();
            assert_eq!(request.kind, Kind::DirectoryPart);
            peer.say(Kind::DirectoryPart, request.request, format!("{generation}\0a\0").as_bytes());
        }
    });
    assert!(matches!(store.list("/a"), Err(Error::Unreadable { .. })));
    thread.join().unwrap();
}
