//! A xenstored that does not answer, answers late, is gone, or violates the protocol.

use std::io::Write;
use std::time::{Duration, Instant};

use vusb_xen::store::fake::Xenstored;
use vusb_xen::store::wire::Kind;
use vusb_xen::store::{Error, Nodes};

use super::peer::connected;

#[test]
fn a_request_without_a_reply_times_out() {
    let (mut store, _peer) = connected();
    let began = Instant::now();
    assert!(matches!(store.read("/a"), Err(Error::TimedOut { .. })));
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_late_reply_is_not_taken_for_the_next_one() {
    let (mut store, mut peer) = connected();
    assert!(matches!(store.read("/old"), Err(Error::TimedOut { .. })));
    let late = peer.request();
    peer.send(Kind::Read, late.request, b"old");
    let thread = std::thread::spawn(move || {
        let request = peer.request();
        peer.send(Kind::Read, request.request, b"new");
    });
    assert_eq!(store.read("/new").unwrap().as_deref(), Some("new"));
    thread.join().unwrap();
}

#[test]
fn events_before_a_reply_are_queued_and_unknown_ones_dropped() {
    let (mut store, mut peer) = connected();
    let thread = std::thread::spawn(move || {
        let request = peer.request();
        peer.send(Kind::WatchEvent, 0xdead_beef, b"/a\0A\0");
        peer.send(Kind::WatchEvent, 0, b"/x\0stranger\0");
        peer.send(Kind::Watch, request.request, b"OK\0");
    });
    store.watch("/a", "A").unwrap();
    thread.join().unwrap();
    assert_eq!(store.take_event().unwrap().unwrap().path, "/a");
    assert_eq!(store.take_event().ok().flatten(), None);
}

#[test]
fn a_lost_connection_is_reported() {
    let xenstored = Xenstored::start();
    let mut store = xenstored.client();
    store.write("/a", "1").unwrap();
    xenstored.hang_up();
    assert!(matches!(store.next_event(Duration::from_secs(5)), Err(Error::Closed)));
    assert!(matches!(store.read("/a"), Err(Error::Closed)));
    assert_eq!(
        xenstored.client().read("/a").unwrap().as_deref(),
        Some("1"),
        "a new connection works"
    );
}

#[test]
fn each_error_name_has_its_message() {
    for (name, wanted) in [
        ("EACCES", "permission denied for /a"),
        ("ENOSPC", "quota exceeded for /a (ENOSPC)"),
        ("EROFS", "refused /a: EROFS"),
    ] {
        let (mut store, mut peer) = connected();
        let thread = std::thread::spawn(move || {
            let request = peer.request();
            peer.send(Kind::Error, request.request, format!("{name}\0").as_bytes());
        });
        let error = store.write("/a", "1").unwrap_err().to_string();
        thread.join().unwrap();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn protocol_violations_are_errors() {
    let violations: [(Kind, u32, &[u8]); 4] = [
        (Kind::Write, 0, b"OK\0"),       // another type
        (Kind::Directory, 77, b"a\0"),   // to another request
        (Kind::Directory, 0, b"\xff\0"), // not text
        (Kind::WatchEvent, 0, b"/a"),    // without a token
    ];
    for (kind, offset, payload) in violations {
        let (mut store, mut peer) = connected();
        let thread = std::thread::spawn(move || {
            let request = peer.request();
            peer.send(kind, request.request + offset, payload);
            peer
        });
        assert!(matches!(store.list("/a"), Err(Error::Protocol(_))), "{kind:?}");
        thread.join().unwrap();
    }
}

#[test]
fn an_impossible_length_is_an_error_at_once() {
    let (mut store, mut peer) = connected();
    let header = [Kind::Read.code(), 1, 0, u32::MAX].map(u32::to_ne_bytes).concat();
    peer.stream.write_all(&header).unwrap();
    assert!(matches!(store.read("/a"), Err(Error::Protocol(_))));
    assert!(matches!(store.read("/a"), Err(Error::Protocol(_) | Error::Closed)));
}

/// The folder's generation changes between any two parts.
#[test]
fn listing_a_folder_that_keeps_changing_fails() {
    let (mut store, mut peer) = connected();
    let thread = std::thread::spawn(move || {
        let first = peer.request();
        peer.send(Kind::Error, first.request, b"E2BIG\0");
        for generation in 0..32 {
            let request = peer.request();
            assert_eq!(request.kind, Kind::DirectoryPart);
            peer.send(
                Kind::DirectoryPart,
                request.request,
                format!("{generation}\0a\0").as_bytes(),
            );
        }
    });
    assert!(matches!(store.list("/a"), Err(Error::Unreadable { .. })));
    thread.join().unwrap();
}
