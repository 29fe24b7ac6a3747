//! The client against a real QEMU, without any guest.
//!
//! Ignored by default because it needs `qemu-system-x86_64`. Run it with `cargo xtask test`, or
//! with `cargo test -p vusb-qmp --test real_qemu -- --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use vusb_qmp::{Client, Deadline, Error, ErrorClass};

/// A QEMU that is killed when the test ends.
struct Qemu {
    process: Child,
    dir: TempDir,
}

impl Qemu {
    fn start() -> Self {
        Self::with(&["-machine", "none"])
    }

    /// A QEMU with sockets `qmp`, `pretty` (QMP with line feeds inside) and `human`.
    fn with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = |name: &str| {
            format!("socket,id={name},path={},server=on,wait=off", dir.path().join(name).display())
        };
        let process = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-display", "none", "-nodefaults", "-S"])
            .args([
                "-qmp",
                &format!("unix:{},server=on,wait=off", dir.path().join("qmp").display()),
            ])
            .args(["-chardev", &socket("pretty"), "-mon", "pretty,mode=control,pretty=on"])
            .args(["-chardev", &socket("human"), "-mon", "human,mode=readline"])
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .expect("cannot start qemu-system-x86_64");
        Self { process, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Connects as soon as QEMU has created its socket.
    fn try_connect(&self, name: &str) -> Result<Client, Error> {
        let deadline = long_enough();
        loop {
            match Client::connect(&self.path(name), deadline) {
                Err(Error::NoSocket { .. } | Error::Refused { .. }) if !deadline.is_over() => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                outcome => return outcome,
            }
        }
    }

    fn connect(&self) -> Client {
        self.try_connect("qmp").unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn long_enough() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn short() -> Deadline {
    Deadline::after(Duration::from_millis(300))
}

fn class(outcome: Result<Value, Error>) -> ErrorClass {
    match outcome {
        Err(Error::Command(refusal)) => refusal.class,
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by cargo xtask test"]
fn the_greeting_and_the_schema_are_read() {
    let qemu = Qemu::start();
    let mut client = qemu.connect();
    assert!(client.greeting().version.major >= 5, "{}", client.greeting().version);
    let schema = client.execute("query-qmp-schema", Value::Null, long_enough()).unwrap();
    let commands = schema.as_array().unwrap().iter();
    let names: Vec<&str> = commands.filter_map(|entry| entry["name"].as_str()).collect();
    assert!(names.contains(&"device_add") && names.contains(&"DEVICE_DELETED"));
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by cargo xtask test"]
fn messages_may_contain_line_feeds() {
    let qemu = Qemu::start();
    let mut client = qemu.try_connect("pretty").unwrap();
    let pretty = client.execute("query-qmp-schema", Value::Null, long_enough()).unwrap();
    let plain = qemu.connect().execute("query-qmp-schema", Value::Null, long_enough()).unwrap();
    assert_eq!(pretty, plain);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by cargo xtask test"]
fn a_human_monitor_is_recognized() {
    let qemu = Qemu::start();
    let error = qemu.try_connect("human").unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    assert!(error.to_string().contains("not `-monitor`"), "{error}");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by cargo xtask test"]
fn twenty_commands_are_executed_in_one_pipeline() {
    let qemu = Qemu::start();
    let commands: Vec<(&str, Value)> = (0..20)
        .map(|n| match n % 4 {
            0 => ("query-status", Value::Null),
            1 => ("qom-list", json!({"path": "/machine"})),
            2 => ("device_del", json!({"id": format!("missing{n}")})),
            _ => ("query-qmp-schema", Value::Null),
        })
        .collect();
    let answers = qemu.connect().pipeline(&commands, long_enough()).unwrap();
    assert_eq!(answers.len(), 20);
    for (n, answer) in answers.iter().enumerate() {
        match (n % 4, answer) {
            (0, Ok(status)) => assert_eq!(status["running"], false),
            (1, Ok(children)) => assert!(children.is_array()),
            (2, Err(refusal)) => {
                assert_eq!(refusal.class, ErrorClass::DeviceNotFound);
                assert!(refusal.desc.contains(&format!("missing{n}")), "{refusal}");
            }
            (3, Ok(schema)) => assert!(schema.as_array().unwrap().len() > 500),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by cargo xtask test"]
fn errors_have_the_class_that_qemu_sends() {
    let qemu = Qemu::start();
    let mut client = qemu.connect();
    let unknown = client.execute("brand-new", Value::Null, long_enough());
    assert_eq!(class(unknown), ErrorClass::CommandNotFound);
    let missing = client.execute("device_del", json!({"id": "x"}), long_enough());
    assert_eq!(class(missing), ErrorClass::DeviceNotFound);
    let driver = client.execute("device_add", json!({"driver": "x"}), long_enough());
    assert_eq!(class(driver), ErrorClass::GenericError);
    // Arguments that are not an object, and text that QEMU's parser refuses; the latter answer has
    // no id.
    assert_eq!(class(client.execute("stop", json!(5), long_enough())), ErrorClass::GenericError);
    let nul = client.execute("device_del", json!({"id": "a\u{0}b"}), long_enough());
    assert!(matches!(nul, Err(Error::Command(_))), "{nul:?}");
    client.execute("query-status", Value::Null, long_enough()).unwrap();
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by cargo xtask test"]
fn a_second_client_is_served_after_the_first_has_disconnected() {
    let qemu = Qemu::start();
    let mut first = qemu.connect();
    for _ in 0..3 {
        let error = Client::connect(&qemu.path("qmp"), short()).unwrap_err();
        assert!(matches!(error, Error::NoGreeting { .. }), "{error:?}");
    }
    first.execute("query-status", Value::Null, long_enough()).unwrap();
    drop(first);
    let mut second = Client::connect(&qemu.path("qmp"), long_enough()).unwrap();
    second.execute("query-status", Value::Null, long_enough()).unwrap();
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by cargo xtask test"]
fn a_removed_device_causes_an_event() {
    let qemu = Qemu::with(&["-machine", "pc", "-m", "32", "-device", "qemu-xhci,id=hci0"]);
    let mut client = qemu.connect();
    let tablet = json!({"driver": "usb-tablet", "id": "t", "bus": "hci0.0", "port": "1"});
    client.execute("device_add", tablet, long_enough()).unwrap();
    client.execute("device_del", json!({"id": "t"}), long_enough()).unwrap();
    client
        .wait_event(long_enough(), |event| {
            (event.name == "DEVICE_DELETED" && event.data["device"] == "t").then_some(())
        })
        .unwrap();
    let error = client.wait_event(short(), |event| (event.name == "NEVER").then_some(()));
    assert!(matches!(error, Err(Error::TimedOut { .. })), "{error:?}");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by cargo xtask test"]
fn a_late_answer_of_a_stopped_qemu_is_ignored() {
    let qemu = Qemu::start();
    let mut client = qemu.connect();
    qemu.signal(Signal::STOP);
    let start = Instant::now();
    let late = client.execute("query-version", Value::Null, short());
    assert!(matches!(late, Err(Error::TimedOut { .. })), "{late:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    qemu.signal(Signal::CONT);
    let status = client.execute("query-status", Value::Null, long_enough()).unwrap();
    assert!(status.get("running").is_some(), "the late answer was mistaken for this one: {status}");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by cargo xtask test"]
fn the_end_of_qemu_during_a_pipeline_is_reported() {
    let qemu = Qemu::start();
    let mut client = qemu.connect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            qemu.signal(Signal::KILL);
        });
        // More commands than QEMU can answer before it is killed.
        let commands = vec![("query-qmp-schema", Value::Null); 5000];
        let error = client.pipeline(&commands, long_enough()).unwrap_err();
        assert!(matches!(error, Error::Closed { .. }), "{error:?}");
    });
    let error = Client::connect(&qemu.path("qmp"), long_enough()).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by cargo xtask test"]
fn a_qemu_that_quits_sends_an_event_first() {
    let qemu = Qemu::start();
    let mut client = qemu.connect();
    client.execute("quit", Value::Null, long_enough()).unwrap();
    client.wait_event(long_enough(), |event| (event.name == "SHUTDOWN").then_some(())).unwrap();
    let error = client.execute("query-status", Value::Null, long_enough()).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
}
