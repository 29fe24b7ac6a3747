//! `--json`: always one object on standard output.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};

use insta::assert_snapshot;
use serde_json::{Value, json};
use vusb_rig::json_page::{JsonPage, paths};

use crate::environment::Environment;
use crate::manager::daemon;

#[test]
fn a_command_prints_one_object() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.image("stick.img");
    env.write("usb-policy.conf", "DENY:vid=0781 rel=0001\nALLOW:\n");
    env.write("fresh.toml", "[[device]]\nkind = \"tablet\"\n");
    env.write(
        "web1.toml",
        "domain = \"web1\"\ndriver = \"sim:S\"\n[[device]]\nkind = \"tablet\"\n",
    );
    for (line, section) in [
        ("controller add sim:S", "a-change"),
        ("controller add sim:S --name hci0", "a-change"),
        ("controller list sim:S", "vusb-controller-list"),
        ("device add sim:S storage:stick.img --dry-run", "a-change"),
        ("device add sim:S storage:stick.img", "a-change"),
        ("device add sim:S 0781:5581 -v", "a-change"),
        ("device list sim:S", "vusb-device-list"),
        ("list sim:S", "a-domain"),
        ("list", "vusb-list"),
        ("device remove sim:S storage0", "a-change"),
        ("controller remove sim:S hci0 --force", "a-change"),
        ("plan fresh.toml", "vusb-plan"),
        ("plan web1.toml", "vusb-plan"),
        ("apply web1.toml --dry-run", "a-change"),
        ("apply web1.toml", "a-change"),
        ("apply web1", "a-change"),
        ("list web1", "a-domain"),
        ("digest web1", "vusb-digest"),
        ("digest fresh.toml", "vusb-digest"),
        ("digest fresh.toml --pci", "vusb-digest"),
        ("convert fresh.toml --to libvirt --lossy", "vusb-convert"),
        ("qemu-args fresh.toml", "vusb-qemu-args"),
        ("host list", "vusb-host-list"),
        ("rules check", "vusb-rules-list"),
        ("rules list", "vusb-rules-list"),
        ("rules import usb-policy.conf", "vusb-rules-import"),
        ("explain 1-4", "vusb-explain"),
        ("explain --id 0781:5581 sim:S", "vusb-explain"),
        ("models", "vusb-models"),
        ("models sim:S", "vusb-models-domain"),
        ("completions bash", "vusb-completions"),
        ("man .", "vusb-man"),
    ] {
        let value = env.json(line);
        assert!(value.get("error").is_none(), "{line}: {value}");
        assert_keys_are_documented(line, &value, section);
    }
}

/// Every key is in this section of `docs/json.md`. (`crates/vusb/tests/json.rs` checks the opposite
/// direction.)
#[track_caller]
fn assert_keys_are_documented(line: &str, value: &Value, section: &str) {
    let documented = JsonPage::read().unwrap().paths(section);
    let with_placeholder = |path: String| {
        for before in ["here.", "models[].here.", "models[]."] {
            for scheme in ["qemu", "xen"] {
                if let Some(rest) = path.strip_prefix(&format!("{before}{scheme}")) {
                    return format!("{before}SCHEME{rest}");
                }
            }
        }
        path
    };
    let found = paths(value).into_iter().map(with_placeholder);
    let missing: Vec<String> = found.filter(|path| !documented.contains(path)).collect();
    assert!(missing.is_empty(), "{line}: docs/json.md lacks {missing:?}");
}

/// The types of these objects are the command's own, so the tests of the library do not have them.
#[test]
fn objects_of_the_command_have_exactly_the_documented_keys() {
    let env = Environment::new();
    has_exactly_the_keys(&env.json("list --svg"), "vusb-list---svg");
    daemon(&env, vec![json!({ "parameters": { "at": "hci0:1" } })]);
    has_exactly_the_keys(&env.json("answer 7 work --daemon socket"), "vusb-answer");
    // The page is either at a port or at a socket.
    let mut at_start = json!({});
    for line in ["web --json", "web --json --socket page"] {
        let mut child = env.start(line);
        let mut text = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut text).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let object: Value = serde_json::from_str(&text).unwrap();
        at_start.as_object_mut().unwrap().extend(object.as_object().unwrap().clone());
    }
    has_exactly_the_keys(&at_start, "vusb-web");
}

#[track_caller]
fn has_exactly_the_keys(value: &Value, section: &str) {
    assert_eq!(paths(value), JsonPage::read().unwrap().paths(section), "docs/json.md#{section}");
}

/// An event is printed as the daemon sends it: its keys are those of the interface.
#[test]
fn an_event_has_exactly_the_documented_keys() {
    let (_, fields) = vusb_interface::DESCRIPTION.split_once("\ntype Event (").unwrap();
    let (fields, _) = fields.split_once("\n)").unwrap();
    let fields = fields.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let fields: Vec<(&str, &str)> = fields.filter_map(|line| line.split_once(": ")).collect();
    let names: BTreeSet<String> = fields.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names, JsonPage::read().unwrap().paths("vusb-watch"));

    let env = Environment::new();
    let value = |(name, kind): &(&str, &str)| {
        let value = match kind.trim_matches(['?', ',']) {
            "int" => json!(7),
            "string" => json!("text"),
            "[]string" => json!(["text"]),
            other => panic!("{name}: {other}"),
        };
        ((*name).to_owned(), value)
    };
    let event = Value::Object(fields.iter().map(value).collect());
    daemon(&env, vec![json!({ "parameters": { "event": event }, "continues": false })]);
    let printed = env.run("watch --daemon socket --json").stdout;
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), event);
}

#[test]
fn every_error_is_one_object() {
    let env = Environment::new();
    env.run("controller add sim:S --usbversion 1").prints("hci0");
    env.write("wrong.toml", "usbversion = 4");
    for (line, code, kind) in [
        ("controller add sim:S --ports 3 --model piix3-uhci", 2, "usage"),
        ("controller add sim:S --frobnicate", 2, "usage"),
        ("frobnicate", 2, "usage"),
        ("plan wrong.toml", 2, "usage"),
        ("list web1", 3, "not-found"),
        ("device add sim:S storage:nowhere", 3, "not-found"),
        ("controller add sim:S --name fast --index 0", 4, "busy"),
        ("device add sim:S storage:stick.img --controller hci0", 3, "not-found"),
        ("list qemu:missing", 7, "unreachable"),
        ("controller add sim:S --type pv", 9, "not-implemented"),
    ] {
        let value = env.json(line);
        assert_eq!(value["error"]["code"], code, "{line}: {value}");
        assert_eq!(value["error"]["kind"], kind, "{line}: {value}");
        assert!(value["error"]["message"].as_str().unwrap().len() > 10, "{line}: {value}");
        assert!(value["error"]["hints"].is_array(), "{line}: {value}");
        assert_keys_are_documented(line, &value, "an-error");
    }
}

#[test]
fn the_outcome_of_an_add() {
    let env = Environment::new();
    let value = env.json("device add sim:S tablet --name pen");
    assert_eq!(value["at"], "hci0:1");
    assert_eq!(value["name"], "pen");
    assert_eq!(value["already"], false);
    assert_eq!(value["added_controllers"], json!(["hci0"]));
    assert_eq!(value["steps"].as_array().unwrap().len(), 2);
    let value = env.json("device add sim:S tablet --name pen");
    assert_eq!((&value["at"], &value["already"]), (&json!("hci0:1"), &json!(true)));
    assert_eq!(value["steps"], json!([]));
}

#[test]
fn the_list_is_as_documented() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:S 0781:5581 --name stick").prints("hci0:1");
    let text = env.run("list sim:S --json").stdout;
    assert_snapshot!(text, @r#"
    {"api":1,"domain":"sim:S","address":"sim:S","state":"running","suspended":false,"profile":"vusb-1","controllers":[{"index":0,"name":"hci0","type":"emulated","model":"qemu-xhci","usbversion":3,"ports":15,"pci":{"bus":"pci.0","slot":4,"function":0},"origin":"vusb","state":"present","devices":[{"port":"1","name":"stick","kind":"host","selector":"0781:5581","speeds":["high"],"state":"attached","origin":"vusb"}]}],"foreign":[],"notes":[]}
    "#);
}

#[test]
fn the_plan_has_the_hardware_in_full() {
    let env = Environment::new();
    env.write(
        "web1.toml",
        "[[controller]]\nusbversion = 2\n[[device]]\nkind = \"mouse\"\nport = \"3\"\n",
    );
    let value = env.json("plan web1.toml");
    let controller = &value["controllers"][0];
    assert_eq!(controller["model"], "ich9-ehci1");
    assert_eq!(controller["index"], 0);
    assert_eq!(controller["ports"], 6);
    let companion = |number: u8| {
        let (model, first_port) = (format!("ich9-uhci{}", number + 1), 2 * number);
        json!({"model": model, "first_port": first_port, "function": number})
    };
    let group = [0, 1, 2].map(companion);
    assert_eq!(controller["companions"], json!(group));
    let device = &controller["devices"][0];
    assert_eq!(
        (&device["kind"], &device["bus"], &device["port"]),
        (&json!("mouse"), &json!(0), &json!("3"))
    );
}
