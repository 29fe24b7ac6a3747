//! Answers, refusals, pipelines, late answers.

use serde_json::{Value, json};
use vusb_qmp::{CommandError, Error, ErrorClass};

use crate::peer::{Peer, long_enough, short};

#[test]
fn a_command_returns_its_answer() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let received = line.receive().unwrap();
        assert_eq!(received["execute"], "qom-get");
        assert_eq!(received["arguments"], json!({"path": "/machine"}));
        line.send(&json!({"return": u64::MAX, "id": received["id"], "brand-new": {"x": []}}));
    });
    let answer = client.execute("qom-get", json!({"path": "/machine"}), long_enough()).unwrap();
    assert_eq!(answer.as_u64(), Some(u64::MAX));
}

#[test]
fn a_refusal_contains_command_class_and_reason() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("device_del");
        line.send(&json!({"error": {"class": "BrandNew", "desc": "no \u{1b}[2Jway"}, "id": id}));
        let id = line.expect("stop");
        line.send(&json!({"return": {}, "id": id}));
    });
    let error = client.execute("device_del", json!({"id": "x"}), long_enough()).unwrap_err();
    let text = error.to_string();
    let Error::Command(refusal) = error else { panic!("{error:?}") };
    let expected = CommandError {
        command: "device_del".into(),
        class: ErrorClass::Other("BrandNew".into()),
        desc: "no \u{1b}[2Jway".into(),
    };
    assert_eq!(refusal, expected);
    // Control characters are escaped for a terminal.
    assert_eq!(text, r"QEMU refused device_del: no \u{1b}[2Jway (BrandNew)");
    // The connection stays usable.
    client.execute("stop", Value::Null, long_enough()).unwrap();
}

#[test]
fn an_answer_of_eight_megabytes_in_one_string_is_received() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("query-big");
        line.send(&json!({"return": "x".repeat(8 << 20), "id": id}));
    });
    let answer = client.execute("query-big", Value::Null, long_enough()).unwrap();
    assert_eq!(answer.as_str().map(str::len), Some(8 << 20));
}

#[test]
fn an_answer_of_eight_megabytes_in_many_values_is_received() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("query-big");
        let item = json!({"name": "x".repeat(100), "type": "y".repeat(100)});
        line.send(&json!({"return": vec![item; 40_000], "id": id}));
    });
    let answer = client.execute("query-big", Value::Null, long_enough()).unwrap();
    assert_eq!(answer.as_array().map(Vec::len), Some(40_000));
}

#[test]
fn a_pipeline_answers_in_the_order_of_its_commands() {
    let (_peer, mut client) = Peer::greeted(|line| {
        // All commands arrive before the first answer is sent.
        let ids: Vec<Value> = (0..3).map(|n| line.expect(&format!("c{n}"))).collect();
        line.send(&json!({"return": 2, "id": ids[2]}));
        line.send(&json!({"error": {"class": "DeviceNotFound", "desc": "1"}, "id": ids[1]}));
        line.send(&json!({"return": 0, "id": ids[0]}));
    });
    let commands = [("c0", Value::Null), ("c1", json!({})), ("c2", Value::Null)];
    let answers = client.pipeline(&commands, long_enough()).unwrap();
    assert_eq!(answers[0], Ok(json!(0)));
    assert_eq!(answers[2], Ok(json!(2)));
    let refusal = answers[1].clone().unwrap_err();
    assert_eq!((refusal.command.as_str(), refusal.class), ("c1", ErrorClass::DeviceNotFound));
}

#[test]
fn an_empty_pipeline_sends_nothing() {
    let (_peer, mut client) = Peer::greeted(|line| assert_eq!(line.receive(), None));
    assert_eq!(client.pipeline(&[], long_enough()).unwrap(), []);
}

/// Both directions carry far more than a socket buffers. Like QEMU, the peer reads the next command
/// only after it has sent the answer to the last one.
#[test]
fn a_pipeline_can_fill_the_socket_both_ways() {
    let (_peer, mut client) = Peer::greeted(|line| {
        while let Some(received) = line.receive() {
            let value = &received["arguments"]["fill"];
            line.send(&json!({"return": value, "id": received["id"]}));
        }
    });
    let fill = "x".repeat(50_000);
    let commands = vec![("echo", json!({"fill": fill})); 200];
    let answers = client.pipeline(&commands, long_enough()).unwrap();
    assert_eq!(answers.len(), 200);
    assert!(answers.iter().all(|answer| *answer == Ok(json!(fill))));
}

#[test]
fn the_answer_to_a_command_that_timed_out_is_not_the_answer_to_the_next() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let slow = line.expect("slow");
        let quick = line.expect("quick");
        line.send(&json!({"return": "late", "id": slow}));
        line.send(&json!({"return": "in time", "id": quick}));
        let quick = line.expect("quick");
        line.send(&json!({"return": "again", "id": quick}));
    });
    let error = client.execute("slow", Value::Null, short()).unwrap_err();
    assert!(
        matches!(&error, Error::TimedOut { what } if what == "the answer to slow"),
        "{error:?}"
    );
    assert_eq!(client.execute("quick", Value::Null, long_enough()).unwrap(), "in time");
    assert_eq!(client.execute("quick", Value::Null, long_enough()).unwrap(), "again");
}

#[test]
fn unexpected_answers_are_ignored() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("stop");
        for stray in [json!(12345), json!("text"), json!(-1), json!(null), json!([id])] {
            line.send(&json!({"return": "stray", "id": stray}));
        }
        line.send(&json!({"return": "right", "id": id}));
        // A second answer to the same command.
        line.send(&json!({"return": "wrong", "id": id}));
        let next = line.expect("cont");
        line.send(&json!({"return": "next", "id": next}));
    });
    assert_eq!(client.execute("stop", Value::Null, long_enough()).unwrap(), "right");
    assert_eq!(client.execute("cont", Value::Null, long_enough()).unwrap(), "next");
}

#[test]
fn a_command_that_qemu_cannot_read_is_refused_without_an_id() {
    let (_peer, mut client) = Peer::greeted(|line| {
        line.expect("slow");
        line.expect("odd");
        // QEMU answers in order, so the first one belongs to the command that timed out.
        line.send(&json!({"error": {"class": "GenericError", "desc": "first"}}));
        line.send(&json!({"error": {"class": "GenericError", "desc": "second"}}));
    });
    client.execute("slow", Value::Null, short()).unwrap_err();
    let error = client.execute("odd", Value::Null, long_enough()).unwrap_err();
    assert!(matches!(&error, Error::Command(refusal) if refusal.desc == "second"), "{error:?}");
}

#[test]
fn a_deadline_that_is_over_sends_nothing() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("second");
        line.send(&json!({"return": {}, "id": id}));
    });
    let error = client.execute("first", Value::Null, std::time::Instant::now()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    client.execute("second", Value::Null, long_enough()).unwrap();
}
