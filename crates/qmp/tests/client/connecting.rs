//! Sockets that are missing, dead, full or silent; the greeting.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use vusb_qmp::{Client, Deadline, DecodeError, Error};

use crate::peer::{Peer, shortly, soon};

fn failure(path: &Path, deadline: Deadline) -> Error {
    Client::connect(path, deadline).expect_err("connected")
}

#[test]
fn the_greeting_tells_the_version() {
    let (_peer, client) = Peer::greeted(|line| line.wait_for_the_end());
    let version = &client.greeting().version;
    assert_eq!((version.major, version.minor, version.micro), (7, 2, 22));
    assert_eq!(version.to_string(), "7.2.22 (test)");
    assert_eq!(client.greeting().capabilities, ["oob"]);
}

#[test]
fn no_capability_is_enabled() {
    let peer = Peer::new(|line| {
        line.say(&json!({"QMP": {"version": {"qemu": {"major": 1, "minor": 0, "micro": 0}}}}));
        let heard = line.hear().unwrap();
        assert_eq!(heard["execute"], "qmp_capabilities");
        assert_eq!(heard.get("arguments"), None);
        line.say(&json!({"return": {}, "id": heard["id"]}));
    });
    Client::connect(&peer.path(), soon()).unwrap();
}

#[test]
fn nothing_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing");
    let error = failure(&path, soon());
    assert!(matches!(error, Error::NoSocket { .. }), "{error:?}");
    assert!(error.to_string().contains("missing\" does not exist: start QEMU with"), "{error}");
    assert!(matches!(failure(Path::new(""), soon()), Error::NoSocket { .. }));
}

#[test]
fn a_socket_that_qemu_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(failure(&path, soon()), Error::Refused { .. }));
}

#[test]
fn a_path_that_is_no_stream_socket() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(failure(&file, soon()), Error::NotASocket { .. }));
    assert!(matches!(failure(dir.path(), soon()), Error::NotASocket { .. }));

    let datagram = dir.path().join("datagram");
    let _socket = UnixDatagram::bind(&datagram).unwrap();
    assert!(matches!(failure(&datagram, soon()), Error::NotASocket { .. }));
}

#[test]
fn a_path_that_no_socket_can_have() {
    let long = "x".repeat(109);
    assert!(matches!(failure(Path::new(&long), soon()), Error::PathTooLong { .. }));
    assert!(matches!(failure(Path::new("a\0b"), soon()), Error::Connect { .. }));
    assert!(matches!(failure(Path::new("/dev/null/qmp"), soon()), Error::Connect { .. }));
}

#[test]
fn a_socket_of_another_user() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let _listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let error = failure(&path, shortly());
    // Root may always.
    let root = matches!(error, Error::NoGreeting { .. });
    assert!(root || matches!(error, Error::Permission { .. }), "{error:?}");
}

#[test]
fn a_monitor_that_another_program_holds_accepts_and_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = failure(&path, shortly());
    assert!(matches!(error, Error::NoGreeting { .. }), "{error:?}");
    assert!(error.to_string().contains("another program holds this monitor"), "{error}");
    assert!(error.to_string().contains("second `-qmp` socket"), "{error}");
}

#[test]
fn a_full_listen_queue_does_not_block_beyond_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let _listener = UnixListener::bind(&path).unwrap();
    let mut queued = Vec::new();
    let full = (0..100_000).any(|_| match nonblocking_connect(&path) {
        Some(socket) => {
            queued.push(socket);
            false
        }
        None => true,
    });
    assert!(full, "the queue never filled up");

    let start = Instant::now();
    let error = failure(&path, shortly());
    assert!(matches!(error, Error::NoGreeting { .. }), "{error:?}");
    assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// `None` if the queue is full.
fn nonblocking_connect(path: &Path) -> Option<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()) {
        Ok(()) => Some(socket),
        Err(rustix::io::Errno::AGAIN) => None,
        Err(errno) => panic!("{errno}"),
    }
}

#[test]
fn a_place_in_a_full_queue_is_taken_when_it_becomes_free() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    let mut queued = Vec::new();
    while let Some(socket) = nonblocking_connect(&path) {
        queued.push(socket);
    }
    let accepting = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        // Everyone is let in and sent away; the last is the client under test.
        for _ in 0..=queued.len() {
            drop(listener.accept().unwrap());
        }
    });
    let error = failure(&path, soon());
    assert!(matches!(error, Error::Closed { mid_message: false }), "{error:?}");
    accepting.join().unwrap();
}

#[test]
fn half_a_greeting_is_not_another_program_holding_the_monitor() {
    let peer = Peer::new(|line| {
        line.say_raw(b"{\"QMP\": ");
        line.wait_for_the_end();
    });
    let error = failure(&peer.path(), shortly());
    assert!(matches!(&error, Error::TimedOut { what } if what == "QEMU's greeting"), "{error:?}");
}

#[test]
fn a_human_monitor_is_told_apart_at_once() {
    let peer = Peer::new(|line| {
        line.say_raw(b"QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) ");
        line.wait_for_the_end();
    });
    let error = failure(&peer.path(), soon());
    let expected = DecodeError::NotJson { found: b'Q' }.to_string();
    assert!(matches!(&error, Error::Protocol { reason } if *reason == expected), "{error:?}");
}

#[test]
fn json_that_is_no_greeting() {
    let peer = Peer::new(|line| {
        line.say(&json!({"return": {}}));
        line.wait_for_the_end();
    });
    assert!(matches!(failure(&peer.path(), soon()), Error::Protocol { .. }));
}

#[test]
fn a_peer_that_refuses_to_negotiate() {
    let peer = Peer::new(|line| {
        line.say(&json!({"QMP": {"version": {"qemu": {"major": 1, "minor": 0, "micro": 0}}}}));
        let id = line.expect("qmp_capabilities");
        line.say(&json!({"error": {"class": "GenericError", "desc": "no"}, "id": id}));
    });
    let error = failure(&peer.path(), soon());
    assert_eq!(error.to_string(), "QEMU refused qmp_capabilities: no (GenericError)");
}

#[test]
fn a_path_with_spaces_and_other_letters() {
    let peer = Peer::new(|line| {
        line.greet();
        line.wait_for_the_end();
    });
    let path = peer.dir().join("größer als nötig");
    fs::rename(peer.path(), &path).unwrap();
    Client::connect(&path, soon()).unwrap();
}

#[test]
fn a_deadline_without_end_in_sight_is_no_trouble() {
    for length in [Duration::MAX, Duration::from_secs(u64::MAX / 4)] {
        let peer = Peer::new(|line| {
            line.greet();
            line.wait_for_the_end();
        });
        let deadline = Deadline::after(length);
        assert!(!deadline.is_over());
        Client::connect(&peer.path(), deadline).unwrap();
    }
}
