//! Answers, refusals, pipelines, answers that come late.

use serde_json::{Value, json};
use vusb_qmp::{CommandError, Error, ErrorClass};

use crate::peer::{Peer, shortly, soon};

#[test]
fn a_command_and_its_answer() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let heard = line.hear().unwrap();
        assert_eq!(heard["execute"], "qom-get");
        assert_eq!(heard["arguments"], json!({"path": "/machine"}));
        line.say(&json!({"return": u64::MAX, "id": heard["id"], "brand-new": {"x": []}}));
    });
    let answer = client.execute("qom-get", json!({"path": "/machine"}), soon()).unwrap();
    assert_eq!(answer.as_u64(), Some(u64::MAX));
}

#[test]
fn a_refusal_names_command_class_and_reason() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("device_del");
        line.say(&json!({"error": {"class": "BrandNew", "desc": "no \u{1b}[2Jway"}, "id": id}));
        let id = line.expect("stop");
        line.say(&json!({"return": {}, "id": id}));
    });
    let error = client.execute("device_del", json!({"id": "x"}), soon()).unwrap_err();
    let text = error.to_string();
    let Error::Command(refusal) = error else { panic!("{error:?}") };
    let expected = CommandError {
        command: "device_del".into(),
        class: ErrorClass::Other("BrandNew".into()),
        desc: "no \u{1b}[2Jway".into(),
    };
    assert_eq!(refusal, expected);
    // What it would do to a terminal is shown, not done.
    assert_eq!(text, r"QEMU refused device_del: no \u{1b}[2Jway (BrandNew)");
    // A refusal is an answer like any other.
    client.execute("stop", Value::Null, soon()).unwrap();
}

#[test]
fn an_answer_of_eight_megabytes_in_one_string() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("query-big");
        line.say(&json!({"return": "x".repeat(8 << 20), "id": id}));
    });
    let answer = client.execute("query-big", Value::Null, soon()).unwrap();
    assert_eq!(answer.as_str().map(str::len), Some(8 << 20));
}

#[test]
fn an_answer_of_eight_megabytes_in_many_values() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("query-big");
        let item = json!({"name": "x".repeat(100), "type": "y".repeat(100)});
        line.say(&json!({"return": vec![item; 40_000], "id": id}));
    });
    let answer = client.execute("query-big", Value::Null, soon()).unwrap();
    assert_eq!(answer.as_array().map(Vec::len), Some(40_000));
}

#[test]
fn a_pipeline_answers_in_the_order_of_its_commands() {
    let (_peer, mut client) = Peer::greeted(|line| {
        // All commands come before any answer.
        let ids: Vec<Value> = (0..3).map(|n| line.expect(&format!("c{n}"))).collect();
        line.say(&json!({"return": 2, "id": ids[2]}));
        line.say(&json!({"error": {"class": "DeviceNotFound", "desc": "1"}, "id": ids[1]}));
        line.say(&json!({"return": 0, "id": ids[0]}));
    });
    let commands = [("c0", Value::Null), ("c1", json!({})), ("c2", Value::Null)];
    let answers = client.pipeline(&commands, soon()).unwrap();
    assert_eq!(answers[0], Ok(json!(0)));
    assert_eq!(answers[2], Ok(json!(2)));
    let refusal = answers[1].clone().unwrap_err();
    assert_eq!((refusal.command.as_str(), refusal.class), ("c1", ErrorClass::DeviceNotFound));
}

#[test]
fn an_empty_pipeline_says_nothing() {
    let (_peer, mut client) = Peer::greeted(|line| assert_eq!(line.hear(), None));
    assert_eq!(client.pipeline(&[], soon()).unwrap(), []);
}

/// Both directions carry far more than a socket holds, and the peer does as QEMU does: it reads the
/// next command only when its answer to the last has gone out.
#[test]
fn a_pipeline_that_fills_the_socket_both_ways() {
    let (_peer, mut client) = Peer::greeted(|line| {
        while let Some(heard) = line.hear() {
            let value = &heard["arguments"]["fill"];
            line.say(&json!({"return": value, "id": heard["id"]}));
        }
    });
    let fill = "x".repeat(50_000);
    let commands = vec![("echo", json!({"fill": fill})); 200];
    let answers = client.pipeline(&commands, soon()).unwrap();
    assert_eq!(answers.len(), 200);
    assert!(answers.iter().all(|answer| *answer == Ok(json!(fill))));
}

#[test]
fn the_answer_to_a_command_that_timed_out_is_not_the_answer_to_the_next() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let slow = line.expect("slow");
        let quick = line.expect("quick");
        line.say(&json!({"return": "late", "id": slow}));
        line.say(&json!({"return": "in time", "id": quick}));
        let quick = line.expect("quick");
        line.say(&json!({"return": "again", "id": quick}));
    });
    let error = client.execute("slow", Value::Null, shortly()).unwrap_err();
    assert!(
        matches!(&error, Error::TimedOut { what } if what == "the answer to slow"),
        "{error:?}"
    );
    assert_eq!(client.execute("quick", Value::Null, soon()).unwrap(), "in time");
    assert_eq!(client.execute("quick", Value::Null, soon()).unwrap(), "again");
}

#[test]
fn answers_that_nobody_asked_for_are_passed_over() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("stop");
        for stray in [json!(12345), json!("text"), json!(-1), json!(null), json!([id])] {
            line.say(&json!({"return": "stray", "id": stray}));
        }
        line.say(&json!({"return": "right", "id": id}));
        // A second answer to the same command.
        line.say(&json!({"return": "wrong", "id": id}));
        let next = line.expect("cont");
        line.say(&json!({"return": "next", "id": next}));
    });
    assert_eq!(client.execute("stop", Value::Null, soon()).unwrap(), "right");
    assert_eq!(client.execute("cont", Value::Null, soon()).unwrap(), "next");
}

#[test]
fn a_command_that_qemu_cannot_read_is_refused_without_an_id() {
    let (_peer, mut client) = Peer::greeted(|line| {
        line.expect("slow");
        line.expect("odd");
        // QEMU answers in order, so the first of these belongs to the command given up on.
        line.say(&json!({"error": {"class": "GenericError", "desc": "first"}}));
        line.say(&json!({"error": {"class": "GenericError", "desc": "second"}}));
    });
    client.execute("slow", Value::Null, shortly()).unwrap_err();
    let error = client.execute("odd", Value::Null, soon()).unwrap_err();
    assert!(matches!(&error, Error::Command(refusal) if refusal.desc == "second"), "{error:?}");
}

#[test]
fn a_deadline_that_is_over_sends_nothing() {
    let (_peer, mut client) = Peer::greeted(|line| {
        let id = line.expect("second");
        line.say(&json!({"return": {}, "id": id}));
    });
    let error = client.execute("first", Value::Null, std::time::Instant::now()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    client.execute("second", Value::Null, soon()).unwrap();
}
