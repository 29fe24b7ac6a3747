//! Sockets that are missing, stale, full or silent; the greeting.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vusb_qmp::{Client, Deadline, DecodeError, Error};

use crate::peer::{Peer, long_enough, short};

fn failure(path: &Path, deadline: Deadline) -> Error {
    Client::connect(path, deadline).expect_err("connected")
}

#[test]
fn the_greeting_contains_the_version() {
    let (_peer, client) = Peer::greeted(|line| line.wait_for_disconnect());
    let version = &client.greeting().version;
    assert_eq!((version.major, version.minor, version.micro), (7, 2, 22));
    assert_eq!(version.to_string(), "7.2.22 (test)");
    assert_eq!(client.greeting().capabilities, ["oob"]);
}

#[test]
fn no_capability_is_enabled() {
    let peer = Peer::new(|line| {
        line.send(&json!({"QMP": {"version": {"qemu": {"major": 1, "minor": 0, "micro": 0}}}}));
        let received = line.receive().unwrap();
        assert_eq!(received["execute"], "qmp_capabilities");
        assert_eq!(received.get("arguments"), None);
        line.send(&json!({"return": {}, "id": received["id"]}));
    });
    Client::connect(&peer.path(), long_enough()).unwrap();
}

#[test]
fn a_missing_socket_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing");
    let error = failure(&path, long_enough());
    assert!(matches!(error, Error::NoSocket { .. }), "{error:?}");
    assert!(error.to_string().contains("missing\" does not exist: start QEMU with"), "{error}");
    assert!(matches!(failure(Path::new(""), long_enough()), Error::NoSocket { .. }));
}

#[test]
fn a_socket_that_qemu_left_behind_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(failure(&path, long_enough()), Error::Refused { .. }));
}

#[test]
fn a_path_that_is_not_a_stream_socket_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(failure(&file, long_enough()), Error::NotASocket { .. }));
    assert!(matches!(failure(dir.path(), long_enough()), Error::NotASocket { .. }));

    let datagram = dir.path().join("datagram");
    let _socket = UnixDatagram::bind(&datagram).unwrap();
    assert!(matches!(failure(&datagram, long_enough()), Error::NotASocket { .. }));
}

#[test]
fn a_path_that_no_socket_can_have_is_reported() {
    let long = "x".repeat(109);
    assert!(matches!(failure(Path::new(&long), long_enough()), Error::PathTooLong { .. }));
    assert!(matches!(failure(Path::new("a\0b"), long_enough()), Error::Connect { .. }));
    assert!(matches!(failure(Path::new("/dev/null/qmp"), long_enough()), Error::Connect { .. }));
}

#[test]
fn missing_permission_for_a_socket_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let _listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let error = failure(&path, short());
    // Root always has permission.
    let root = matches!(error, Error::NoGreeting { .. });
    assert!(root || matches!(error, Error::Permission { .. }), "{error:?}");
}

#[test]
fn a_monitor_with_another_client_accepts_and_sends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = failure(&path, short());
    assert!(matches!(error, Error::NoGreeting { .. }), "{error:?}");
    assert!(error.to_string().contains("another program is connected to this monitor"), "{error}");
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
    let error = failure(&path, short());
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
fn a_full_listen_queue_accepts_the_client_when_it_drains() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    let mut queued = Vec::new();
    while let Some(socket) = nonblocking_connect(&path) {
        queued.push(socket);
    }
    let (begins, begun) = std::sync::mpsc::channel();
    let connecting = std::thread::spawn(move || {
        begins.send(rustix::thread::gettid()).unwrap();
        failure(&path, long_enough())
    });
    // Before the client is connected, it only sleeps between two attempts.
    let status = format!("/proc/self/task/{}/status", begun.recv().unwrap().as_raw_nonzero());
    let sleeps = || fs::read_to_string(&status).unwrap().contains("State:\tS");
    let end = Instant::now() + Duration::from_secs(60);
    while !sleeps() {
        assert!(Instant::now() < end, "it does not wait");
        std::thread::yield_now();
    }
    // Closes all queued connections, and then that of the client under test.
    for _ in 0..=queued.len() {
        drop(listener.accept().unwrap());
    }
    let error = connecting.join().unwrap();
    assert!(matches!(error, Error::Closed { mid_message: false }), "{error:?}");
}

#[test]
fn half_a_greeting_is_not_another_program_holding_the_monitor() {
    let peer = Peer::new(|line| {
        line.send_raw(b"{\"QMP\": ");
        line.wait_for_disconnect();
    });
    let error = failure(&peer.path(), short());
    assert!(matches!(&error, Error::TimedOut { what } if what == "QEMU's greeting"), "{error:?}");
}

#[test]
fn a_human_monitor_is_recognized_at_once() {
    let peer = Peer::new(|line| {
        line.send_raw(b"QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) ");
        line.wait_for_disconnect();
    });
    let error = failure(&peer.path(), long_enough());
    let expected = DecodeError::NotJson { found: b'Q' }.to_string();
    assert!(matches!(&error, Error::Protocol { reason } if *reason == expected), "{error:?}");
}

#[test]
fn json_that_is_not_a_greeting_is_a_protocol_error() {
    let peer = Peer::new(|line| {
        line.send(&json!({"return": {}}));
        line.wait_for_disconnect();
    });
    assert!(matches!(failure(&peer.path(), long_enough()), Error::Protocol { .. }));
}

#[test]
fn an_answer_without_a_greeting_is_not_qmp() {
    // QEMU's guest agent has the same framing, and no greeting.
    let peer = Peer::new(|line| {
        let id = line.expect("qmp_capabilities");
        line.send(&json!({"error": {"class": "CommandNotFound", "desc": "no"}, "id": id}));
        line.wait_for_disconnect();
    });
    assert!(matches!(failure(&peer.path(), long_enough()), Error::Protocol { .. }));
}

#[test]
fn messages_for_an_earlier_client_are_ignored_before_and_after_the_greeting() {
    let (_peer, mut client) = Peer::greeted_after(
        |line| {
            line.event("DEVICE_DELETED", 0);
            for id in 0..4 {
                line.send(&json!({"return": "stale", "id": id}));
                line.send(&json!({"error": {"class": "GenericError", "desc": "stale"}, "id": id}));
            }
        },
        |line| {
            let id = line.expect("stop");
            for id in 0..4 {
                line.send(&json!({"return": "stale", "id": id}));
            }
            line.send(&json!({"return": "ours", "id": id}));
        },
    );
    assert_eq!(client.execute("stop", Value::Null, long_enough()).unwrap(), "ours");
    // Events before the handshake are not queued.
    assert!(client.take_events().is_empty());
}

#[test]
fn a_refused_negotiation_is_reported() {
    let peer = Peer::new(|line| {
        line.send(&json!({"QMP": {"version": {"qemu": {"major": 1, "minor": 0, "micro": 0}}}}));
        let id = line.expect("qmp_capabilities");
        line.send(&json!({"error": {"class": "GenericError", "desc": "no"}, "id": id}));
    });
    let error = failure(&peer.path(), long_enough());
    assert_eq!(error.to_string(), "QEMU refused qmp_capabilities: no (GenericError)");
}

#[test]
fn a_path_may_contain_spaces_and_letters_beyond_ascii() {
    let peer = Peer::new(|line| {
        line.greet();
        line.wait_for_disconnect();
    });
    let path = peer.dir().join("größer als nötig");
    fs::rename(peer.path(), &path).unwrap();
    Client::connect(&path, long_enough()).unwrap();
}

#[test]
fn a_deadline_may_be_far_away() {
    for length in [Duration::MAX, Duration::from_secs(u64::MAX / 4)] {
        let peer = Peer::new(|line| {
            line.greet();
            line.wait_for_disconnect();
        });
        let deadline = Deadline::after(length);
        assert!(!deadline.is_over());
        Client::connect(&peer.path(), deadline).unwrap();
    }
}
