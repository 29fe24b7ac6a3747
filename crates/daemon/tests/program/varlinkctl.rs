//! `varlinkctl` of Debian 13 introspects the interface and calls every method of it. Other tools of
//! Debian 13 check the unit and the rules for udev.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use vusb_interface::{METHODS, NAME};
use vusb_rig::Systemd;

use crate::machine::Machine;

struct Client {
    systemd: Systemd,
    socket: String,
}

impl Client {
    fn new(machine: &Machine) -> Client {
        let socket = machine.at("socket").display().to_string();
        Client { systemd: Systemd::of_debian().unwrap(), socket }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.systemd.program("varlinkctl");
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn call(&self, method: &str, parameters: &Value, more: bool) -> Result<Vec<Value>, String> {
        let (method, parameters) = (format!("{NAME}.{method}"), parameters.to_string());
        let mut arguments = vec!["call", "--json=short"];
        arguments.extend(more.then_some("--more"));
        arguments.extend([self.socket.as_str(), &method, &parameters]);
        let output = self.run(&arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            return Err(text(&output.stderr));
        }
        // A reply in a stream begins with the record separator of RFC 7464.
        let lines = text(&output.stdout);
        let lines = lines.lines().map(|line| line.trim_start_matches('\u{1e}'));
        Ok(lines.filter(|it| !it.is_empty()).map(|it| serde_json::from_str(it).unwrap()).collect())
    }

    #[track_caller]
    fn one(&self, method: &str, parameters: Value) -> Value {
        let mut replies = self.call(method, &parameters, false).unwrap();
        assert_eq!(replies.len(), 1, "{method}");
        replies.remove(0)
    }
}

fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.write_rules("[[rule]]\nname = \"sticks\"\nhas = \"storage\"\nask = \"*\"\n");
    machine.boot("work");
    machine.listen();
    machine.start();
    machine.plug_stick("1-4");
    machine.request_scan();
    machine.wait_for_log("who gets the device at");
    machine
}

#[test]
#[ignore = "downloads systemd of Debian 13; run by cargo xtask test"]
fn it_introspects_and_calls_everything() {
    let machine = machine();
    let client = Client::new(&machine);
    let domain = machine.address("work");
    let introspected = client.run(&["introspect", &client.socket, NAME]);
    let text = String::from_utf8_lossy(&introspected.stdout).into_owned();
    assert!(introspected.status.success(), "{introspected:?}");
    for method in METHODS {
        assert!(text.contains(&format!("method {}", method.name)), "{}", method.name);
    }
    let spec = format!("driver = \"{domain}\"\n[[device]]\nkind = \"mouse\"\n");
    let cases = [
        ("GetAccess", json!({}), "/methods/0", json!("GetAccess")),
        ("DescribeHost", json!({}), "/devices/0/port", json!("1-4")),
        ("Reload", json!({}), "/rules", json!(1)),
        ("CheckRules", json!({ "text": "" }), "/warnings", json!([])),
        ("Explain", json!({ "device": "1-4", "domain": domain }), "/effect", json!("ask")),
        ("AddController", json!({ "domain": domain }), "/at", json!("hci0")),
        ("AddDevice", json!({ "domain": domain, "device": "tablet" }), "/at", json!("hci0:1")),
        ("Describe", json!({ "domain": domain }), "/domains/0/devices/0/at", json!("hci0:1")),
        (
            "MoveDevice",
            json!({ "domain": domain, "device": "tablet0", "port": "5" }),
            "/at",
            json!("hci0:5"),
        ),
        (
            "RemoveDevice",
            json!({ "domain": domain, "device": "tablet0" }),
            "/already",
            json!(false),
        ),
        ("Plan", json!({ "spec": spec }), "/view/dry_run", json!(true)),
        ("Apply", json!({ "spec": spec }), "/steps/0", json!("plug mouse0 (mouse) into 0:1")),
        ("Suspend", json!({ "domain": domain }), "/already", json!(false)),
        ("Resume", json!({ "domain": domain }), "/notes", json!([])),
        (
            "AddDevices",
            json!({ "domain": domain, "devices": ["tablet", "keyboard"] }),
            "/view/devices/1/at",
            json!("hci0:3"),
        ),
        (
            "RemoveDevices",
            json!({ "domain": domain, "devices": ["tablet0", "keyboard0"] }),
            "/already",
            json!(false),
        ),
    ];
    for (method, parameters, pointer, expected) in cases {
        let reply = client.one(method, parameters);
        assert_eq!(reply.pointer(pointer), Some(&expected), "{method}: {reply}");
    }
    for (method, key) in
        [("ListDomains", "domain"), ("ListDevices", "device"), ("ListRules", "rule")]
    {
        let replies = client.call(method, &json!({}), true).unwrap();
        assert!(!replies.is_empty() && replies.iter().all(|it| it.get(key).is_some()), "{method}");
    }
    let effects = client.one("DescribeEffects", json!({}));
    assert_eq!(effects["view"]["devices"][0]["effect"]["do"], "ask", "{effects}");
    let watched = watch(&client);
    let question = watched["event"]["number"].clone();
    let answer = client.one("Answer", json!({ "question": question, "domain": domain }));
    assert_eq!(answer["at"], "hci0:2", "{answer}");
    assert_eq!(client.one("LiftHolds", json!({})), json!({ "ports": [] }));
    client.one(
        "RemoveController",
        json!({ "domain": domain, "controller": "hci0", "options": { "force": true } }),
    );
    let metrics = client.one("Metrics", json!({}));
    assert!(metrics["text"].as_str().unwrap().contains("vusb_rules 1"), "{metrics}");
}

/// The first question, from a stream of events.
fn watch(client: &Client) -> Value {
    let method = format!("{NAME}.Watch");
    let mut command = client.command(&[
        "call",
        "--json=short",
        "--more",
        &client.socket,
        &method,
        "{\"since\":0}",
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut seen, mut question) = (String::new(), None);
    for line in lines.map_while(Result::ok) {
        let value: Value = serde_json::from_str(line.trim_start_matches('\u{1e}')).unwrap();
        if value["event"]["event"] == "question" {
            question = Some(value);
            break;
        }
        let _ = writeln!(seen, "{line}");
    }
    let _ = child.kill();
    let _ = child.wait();
    question.unwrap_or_else(|| panic!("no question: {seen}"))
}

#[test]
#[ignore = "downloads systemd of Debian 13; run by cargo xtask test"]
fn it_shows_the_errors_of_the_standard() {
    let machine = machine();
    let client = Client::new(&machine);
    let refused = |method: &str, parameters: Value| client.call(method, &parameters, false);
    for (method, parameters, error) in [
        ("Nonsense", json!({}), "org.varlink.service.MethodNotFound"),
        ("AddDevice", json!({ "domain": 7 }), "org.varlink.service.InvalidParameter"),
        ("Describe", json!({ "nonsense": 7 }), "org.varlink.service.InvalidParameter"),
        ("Describe", json!({ "domain": "x" }), "io.github.vusb.Manager.NotFound"),
        ("Watch", json!({}), "org.varlink.service.ExpectedMore"),
    ] {
        let shown = refused(method, parameters).unwrap_err();
        // varlinkctl shows some of the standard's errors in its own words.
        let own = ["Method", "Invalid", "more", "flag"];
        assert!(
            shown.contains(error) || own.iter().any(|it| shown.contains(it)),
            "{method}: {shown}"
        );
    }
    let info = client.run(&["info", &client.socket]);
    assert!(String::from_utf8_lossy(&info.stdout).contains("vusbd"), "{info:?}");
}

/// The service has no access to what it does not need.
#[test]
#[ignore = "downloads systemd of Debian 13; run by cargo xtask test"]
fn the_service_is_hardened() {
    let units = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd");
    let analyze = |arguments: &[&str], unit: &str| {
        let mut command = Systemd::of_debian().unwrap().program("systemd-analyze");
        command.arg("--no-pager").args(arguments).arg(units.join(unit));
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    };
    // The threshold is in tenths: 25 is an exposure of 2.5.
    analyze(&["security", "--offline=true", "--threshold=25"], "vusbd.service");
}

/// udev of Debian 13 understands the rules.
#[test]
#[ignore = "downloads udev of Debian 13; run by cargo xtask test"]
fn the_rules_for_udev_are_valid() {
    let packaged = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../packaging/udev/72-vusb-guests.rules");
    let mut machine = Machine::new();
    std::fs::create_dir_all(machine.at("machine/run/udev")).unwrap();
    machine.plug_stick("1-4");
    machine.boot("web1");
    machine.add("web1", "host:0781:5581");
    machine.start();
    machine.wait_until("web1", &["host:0781:5581"]);
    let written = machine.at("machine/run/udev/rules.d/71-vusb-guests.rules");
    for file in [packaged, written] {
        let mut command = Systemd::of_debian().unwrap().program("udevadm");
        let output = command.arg("verify").arg(&file).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", file.display());
    }
}
