//! `vusb watch` and `vusb answer`, with a daemon that sends the replies of the test.
//! (`crates/daemon/tests` has the real one.)

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::environment::Environment;

/// A daemon that accepts one connection, reads one call, and sends these replies. Returns the call.
pub(crate) fn daemon(env: &Environment, replies: Vec<Value>) -> JoinHandle<Value> {
    let listener = UnixListener::bind(env.path("socket")).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::new(stream);
        let mut call = Vec::new();
        stream.read_until(0, &mut call).unwrap();
        call.pop();
        for reply in replies {
            let mut bytes = reply.to_string().into_bytes();
            bytes.push(0);
            stream.get_mut().write_all(&bytes).unwrap();
        }
        serde_json::from_slice(&call).unwrap()
    })
}

#[test]
fn events_are_lines() {
    let env = Environment::new();
    let event = |number: u64, continues: bool| {
        let event = json!({
            "number": number,
            "event": "question",
            "port": "1-4",
            "domains": ["gui", "work"],
            "text": "who gets the device at 1-4?\u{1b}[2J",
        });
        json!({ "parameters": { "event": event }, "continues": continues })
    };
    let call = daemon(&env, vec![event(7, true), event(8, false)]);
    let ran = env.run("watch --daemon socket --since 6");
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("7 question who gets the device at 1-4?"), "{ran:?}");
    assert!(lines[1].starts_with("8 ") && lines[1].ends_with("(gui or work)"), "{ran:?}");
    assert!(!ran.stdout.contains('\u{1b}'), "{ran:?}");
    let call = call.join().unwrap();
    assert_eq!(call["method"], "io.github.vusb.Manager.Watch");
    assert_eq!((&call["parameters"]["since"], &call["more"]), (&json!(6), &json!(true)));
}

#[test]
fn an_answer_prints_where_the_device_is() {
    let env = Environment::new();
    let call = daemon(&env, vec![json!({ "parameters": { "at": "hci0:1" } })]);
    env.run("answer 7 work --remember --daemon socket").prints("hci0:1");
    let parameters = json!({ "question": 7, "domain": "work", "remember": true });
    assert_eq!(call.join().unwrap()["parameters"], parameters);
}

/// A person who was not watching when the question was asked learns its number.
#[test]
fn an_explanation_names_the_question() {
    let env = Environment::new();
    env.plug_stick("1-4");
    let mut view = env.json("explain 1-4");
    view["state"] = json!("asking");
    let past = |number: u64| {
        json!({
            "number": number, "time": "2026-11-30T18:00:00Z", "event": "question",
            "text": "who gets the device at 1-4?"
        })
    };
    view["history"] = json!([past(7), past(9)]);
    daemon(&env, vec![json!({ "parameters": { "view": view } })]);
    let ran = env.run("explain 1-4 --daemon socket");
    assert!(ran.stdout.contains("vusbd asks who gets it: `vusb answer 9 DOMAIN`"), "{ran:?}");
}

#[test]
fn the_daemon_says_why_it_refuses() {
    let env = Environment::new();
    let error = json!({
        "error": "io.github.vusb.Manager.Denied",
        "parameters": { "message": "the rule `keyboards` denies it", "hints": ["change the rule"] },
    });
    daemon(&env, vec![error]);
    let ran = env.run("answer 7 work --daemon socket");
    ran.fails(5).says("error: the rule `keyboards` denies it\nhint: change the rule");
}

#[test]
fn a_daemon_that_does_not_run() {
    let env = Environment::new();
    let ran = env.run("watch --daemon socket");
    ran.fails(7).says("error: cannot reach vusbd at socket: No such file or directory");
}

#[test]
fn an_answer_cannot_be_tried_out() {
    let env = Environment::new();
    // The daemon is not even called.
    let ran = env.run("answer 7 work --dry-run --daemon socket");
    ran.fails(2).says("error: vusbd carries out an answer at once, so --dry-run is not possible");
}
