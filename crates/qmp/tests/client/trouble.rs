//! Peers that close, hang, drip or talk nonsense.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vusb_qmp::{Client, DecodeError, Error, Limits};

use crate::peer::{Peer, shortly, soon};

#[test]
fn a_peer_that_says_nothing_is_waited_for_until_the_deadline() {
    let (_peer, mut client) = Peer::greeted(|line| line.wait_for_the_end());
    let start = Instant::now();
    let error = client.execute("stop", Value::Null, shortly()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// A byte every 20 ms: each read is quick, the whole is not.
#[test]
fn a_slow_drip_does_not_stretch_the_deadline() {
    let (_peer, mut client) = Peer::greeted(|line| {
        line.expect("stop");
        for byte in b"{\"return\": ".iter().chain([b' '; 10_000].iter()) {
            if !line.try_say_raw(&[*byte]) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let start = Instant::now();
    let error = client.execute("stop", Value::Null, shortly()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_slow_drip_that_ends_in_time_is_an_answer() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("stop");
        for byte in json!({"return": "slow", "id": id}).to_string().bytes() {
            line.say_raw(&[byte]);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert_eq!(client.execute("stop", Value::Null, soon()).unwrap(), "slow");
}

#[test]
fn a_peer_that_closes_instead_of_answering() {
    let (_peer, mut client) = Peer::greeted(|line| {
        line.expect("quit");
    });
    let error = client.execute("quit", Value::Null, soon()).unwrap_err();
    assert!(matches!(error, Error::Closed { mid_message: false }), "{error:?}");
    // And it stays so.
    let error = client.execute("stop", Value::Null, soon()).unwrap_err();
    assert!(matches!(error, Error::Closed { mid_message: false }), "{error:?}");
}

#[test]
fn a_peer_that_closes_in_the_middle_of_an_answer() {
    let (_peer, mut client) = Peer::greeted(|line| {
        line.expect("stop");
        line.say_raw(b"{\"return\": {\"status\": \"runn");
    });
    let error = client.execute("stop", Value::Null, soon()).unwrap_err();
    assert!(matches!(error, Error::Closed { mid_message: true }), "{error:?}");
    assert!(error.to_string().contains("in the middle of a message"), "{error}");
}

#[test]
fn an_answer_and_the_end_at_once_is_an_answer() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("quit");
        line.say(&json!({"return": {}, "id": id}));
    });
    client.execute("quit", Value::Null, soon()).unwrap();
}

/// The client writes to a socket that nobody reads any more; without care, a SIGPIPE.
#[test]
fn a_peer_that_has_gone_before_the_command() {
    let (peer, mut client) = Peer::greeted(|_| {});
    drop(peer);
    let error = client.execute("stop", Value::Null, soon()).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
}

/// The peer leaves with commands unread: the kernel says "connection reset" instead of "end".
#[test]
fn a_peer_that_goes_with_commands_unread() {
    let (_peer, mut client) = Peer::greeted(|line| {
        line.expect("fill");
    });
    let commands = vec![("fill", json!({"x": "x".repeat(10_000)})); 100];
    let error = client.pipeline(&commands, soon()).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
    let error = client.execute("stop", Value::Null, soon()).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
}

#[test]
fn nonsense_ends_the_connection_and_every_later_call_says_so() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("stop");
        line.say_raw(b"nonsense\n");
        let _ = line.try_say_raw(json!({"return": {}, "id": id}).to_string().as_bytes());
        line.wait_for_the_end();
    });
    let reason = DecodeError::NotJson { found: b'n' }.to_string();
    let error = client.execute("stop", Value::Null, soon()).unwrap_err();
    assert!(matches!(&error, Error::Protocol { reason: r } if *r == reason), "{error:?}");
    for _ in 0..2 {
        let error = client.execute("stop", Value::Null, soon()).unwrap_err();
        assert!(matches!(&error, Error::Poisoned { reason: r } if *r == reason), "{error:?}");
        assert!(error.to_string().contains("connect again"), "{error}");
    }
    let error = client.wait_event(soon(), |_| Some(())).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error:?}");
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let peer = Peer::new(|line| {
        line.greet();
        line.expect("stop");
        line.say_raw(b"{\"return\": \"");
        while line.try_say_raw(&[b'x'; 10_000]) {}
    });
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let mut client = Client::connect_with(&peer.path(), limits, soon()).unwrap();
    let reason = DecodeError::TooLarge { limit: 1 << 20 }.to_string();
    let error = client.execute("stop", Value::Null, soon()).unwrap_err();
    assert!(matches!(&error, Error::Protocol { reason: r } if *r == reason), "{error:?}");
}

/// A command larger than the socket, and a peer that reads nothing: half a command is out, and
/// nothing that followed it would be understood.
#[test]
fn a_command_that_went_out_in_half_ends_the_connection() {
    let (release, hold) = std::sync::mpsc::channel::<()>();
    let (_peer, mut client) = Peer::greeted(move |_| {
        let _ = hold.recv_timeout(Duration::from_secs(20));
    });
    let huge = json!({"x": "x".repeat(4 << 20)});
    let error = client.execute("huge", huge, shortly()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    let error = client.execute("stop", Value::Null, soon()).unwrap_err();
    assert!(error.to_string().contains("only half sent"), "{error}");
    drop(release);
}

/// The socket is full of commands that the peer has not read: the next one cannot even begin, is
/// taken back, and the connection stays good.
#[test]
fn a_command_of_which_nothing_went_out_is_taken_back() {
    const MORE_THAN_FIT: usize = 1500;
    let (release, hold) = std::sync::mpsc::channel::<()>();
    let (_peer, mut client) = Peer::greeted(move |line| {
        let _ = hold.recv_timeout(Duration::from_secs(20));
        let mut heard = 0;
        while let Some(command) = line.hear() {
            assert_ne!(command["execute"], "taken-back");
            // Without an id, so that it counts which commands the client thinks it has sent.
            line.say(&json!({"error": {"class": "GenericError", "desc": command["execute"]}}));
            heard += 1;
        }
        assert!((2..MORE_THAN_FIT).contains(&heard), "{heard} of {MORE_THAN_FIT} fit");
    });
    // Commands this small are sent whole or not at all, so none of them is left in half.
    for _ in 0..MORE_THAN_FIT {
        client.execute("fill", Value::Null, Instant::now() + Duration::from_millis(1)).unwrap_err();
    }
    let error = client.execute("taken-back", Value::Null, shortly()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    drop(release);
    let error = client.execute("stop", Value::Null, soon()).unwrap_err();
    assert!(matches!(&error, Error::Command(refusal) if refusal.desc == "stop"), "{error:?}");
}

#[test]
fn a_peer_that_closes_while_a_command_is_half_sent_has_closed() {
    let (release, hold) = std::sync::mpsc::channel::<()>();
    let (_peer, mut client) = Peer::greeted(move |line| {
        line.stop_talking();
        let _ = hold.recv_timeout(Duration::from_secs(20));
    });
    let huge = json!({"x": "x".repeat(4 << 20)});
    for arguments in [huge, Value::Null] {
        let error = client.execute("huge", arguments, soon()).unwrap_err();
        assert!(matches!(error, Error::Closed { mid_message: false }), "{error:?}");
    }
    drop(release);
}
