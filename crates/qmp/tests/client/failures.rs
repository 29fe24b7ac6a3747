//! Peers that close, hang, send slowly or send garbage.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vusb_qmp::{Client, DecodeError, Error, Limits};

use crate::peer::{Peer, long_enough, short};

#[test]
fn a_silent_peer_causes_a_timeout() {
    let (_peer, mut client) = Peer::greeted(|line| line.wait_for_disconnect());
    let start = Instant::now();
    let error = client.execute("stop", Value::Null, short()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// One byte every 20 ms: each read is fast, but the whole message is not.
#[test]
fn slow_bytes_do_not_extend_the_deadline() {
    let (_peer, mut client) = Peer::greeted(|line| {
        line.expect("stop");
        for byte in b"{\"return\": ".iter().chain([b' '; 10_000].iter()) {
            if !line.try_send_raw(&[*byte]) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let start = Instant::now();
    let error = client.execute("stop", Value::Null, short()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn slow_bytes_in_time_are_an_answer() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("stop");
        for byte in json!({"return": "slow", "id": id}).to_string().bytes() {
            line.send_raw(&[byte]);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert_eq!(client.execute("stop", Value::Null, long_enough()).unwrap(), "slow");
}

#[test]
fn a_close_instead_of_an_answer_is_reported() {
    let (_peer, mut client) = Peer::greeted(|line| {
        line.expect("quit");
    });
    let error = client.execute("quit", Value::Null, long_enough()).unwrap_err();
    assert!(matches!(error, Error::Closed { mid_message: false }), "{error:?}");
    // Later calls fail in the same way.
    let error = client.execute("stop", Value::Null, long_enough()).unwrap_err();
    assert!(matches!(error, Error::Closed { mid_message: false }), "{error:?}");
}

#[test]
fn a_close_in_the_middle_of_an_answer_is_reported() {
    let (_peer, mut client) = Peer::greeted(|line| {
        line.expect("stop");
        line.send_raw(b"{\"return\": {\"status\": \"runn");
    });
    let error = client.execute("stop", Value::Null, long_enough()).unwrap_err();
    assert!(matches!(error, Error::Closed { mid_message: true }), "{error:?}");
    assert!(error.to_string().contains("in the middle of a message"), "{error}");
}

#[test]
fn an_answer_directly_before_the_end_is_received() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("quit");
        line.send(&json!({"return": {}, "id": id}));
    });
    client.execute("quit", Value::Null, long_enough()).unwrap();
}

/// The client writes to a closed socket, which must not raise SIGPIPE.
#[test]
fn a_close_before_a_command_is_reported() {
    let (peer, mut client) = Peer::greeted(|_| {});
    drop(peer);
    let error = client.execute("stop", Value::Null, long_enough()).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
}

/// The peer closes with unread commands: the kernel reports "connection reset" instead of the end
/// of the stream.
#[test]
fn a_close_with_unread_commands_is_reported() {
    let (_peer, mut client) = Peer::greeted(|line| {
        line.expect("fill");
    });
    let commands = vec![("fill", json!({"x": "x".repeat(10_000)})); 100];
    let error = client.pipeline(&commands, long_enough()).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
    let error = client.execute("stop", Value::Null, long_enough()).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
}

#[test]
fn garbage_makes_the_connection_unusable() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("stop");
        line.send_raw(b"nonsense\n");
        let _ = line.try_send_raw(json!({"return": {}, "id": id}).to_string().as_bytes());
        line.wait_for_disconnect();
    });
    let reason = DecodeError::NotJson { found: b'n' }.to_string();
    let error = client.execute("stop", Value::Null, long_enough()).unwrap_err();
    assert!(matches!(&error, Error::Protocol { reason: r } if *r == reason), "{error:?}");
    for _ in 0..2 {
        let error = client.execute("stop", Value::Null, long_enough()).unwrap_err();
        assert!(matches!(&error, Error::Poisoned { reason: r } if *r == reason), "{error:?}");
        assert!(error.to_string().contains("connect again"), "{error}");
    }
    let error = client.wait_event(long_enough(), |_| Some(())).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error:?}");
}

#[test]
fn an_endless_answer_exceeds_the_limit() {
    let peer = Peer::new(|line| {
        line.greet();
        line.expect("stop");
        line.send_raw(b"{\"return\": \"");
        while line.try_send_raw(&[b'x'; 10_000]) {}
    });
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let mut client = Client::connect_with(&peer.path(), limits, long_enough()).unwrap();
    let reason = DecodeError::TooLarge { limit: 1 << 20 }.to_string();
    let error = client.execute("stop", Value::Null, long_enough()).unwrap_err();
    assert!(matches!(&error, Error::Protocol { reason: r } if *r == reason), "{error:?}");
}

/// A command larger than the socket buffer, and a peer that reads nothing: the command is sent
/// partially, so nothing can follow it.
#[test]
fn a_partially_sent_command_makes_the_connection_unusable() {
    let (release, hold) = std::sync::mpsc::channel::<()>();
    let (_peer, mut client) = Peer::greeted(move |_| {
        let _ = hold.recv_timeout(Duration::from_secs(20));
    });
    let huge = json!({"x": "x".repeat(4 << 20)});
    let error = client.execute("huge", huge, short()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    let error = client.execute("stop", Value::Null, long_enough()).unwrap_err();
    assert!(error.to_string().contains("sent only partially"), "{error}");
    drop(release);
}

/// The socket buffer is full of unread commands: the next one is withdrawn before its first byte,
/// and the connection stays usable.
#[test]
fn an_unsent_command_is_withdrawn() {
    const MORE_THAN_FIT: usize = 1500;
    let (release, hold) = std::sync::mpsc::channel::<()>();
    let (_peer, mut client) = Peer::greeted(move |line| {
        let _ = hold.recv_timeout(Duration::from_secs(20));
        let mut received = 0;
        while let Some(command) = line.receive() {
            assert_ne!(command["execute"], "withdrawn");
            // Without an id: the client has to match it by order.
            line.send(&json!({"error": {"class": "GenericError", "desc": command["execute"]}}));
            received += 1;
        }
        assert!((2..MORE_THAN_FIT).contains(&received), "{received} of {MORE_THAN_FIT} fit");
    });
    // Commands of this size are sent completely or not at all.
    for _ in 0..MORE_THAN_FIT {
        client.execute("fill", Value::Null, Instant::now() + Duration::from_millis(1)).unwrap_err();
    }
    let error = client.execute("withdrawn", Value::Null, short()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    drop(release);
    let error = client.execute("stop", Value::Null, long_enough()).unwrap_err();
    assert!(matches!(&error, Error::Command(refusal) if refusal.desc == "stop"), "{error:?}");
}

#[test]
fn a_close_during_a_partially_sent_command_is_reported_as_closed() {
    let (release, hold) = std::sync::mpsc::channel::<()>();
    let (_peer, mut client) = Peer::greeted(move |line| {
        line.stop_sending();
        let _ = hold.recv_timeout(Duration::from_secs(20));
    });
    let huge = json!({"x": "x".repeat(4 << 20)});
    for arguments in [huge, Value::Null] {
        let error = client.execute("huge", arguments, long_enough()).unwrap_err();
        assert!(matches!(error, Error::Closed { mid_message: false }), "{error:?}");
    }
    drop(release);
}
