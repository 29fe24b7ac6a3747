//! `--json`: one object on standard output, whatever happens.

use insta::assert_snapshot;
use serde_json::json;

use crate::environment::Environment;

#[test]
fn every_command_prints_one_object() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.image("stick.img");
    env.write("fresh.toml", "[[device]]\nkind = \"tablet\"\n");
    env.write(
        "web1.toml",
        "domain = \"web1\"\ndriver = \"sim:S\"\n[[device]]\nkind = \"tablet\"\n",
    );
    for line in [
        "controller add sim:S",
        "controller add sim:S --name hci0",
        "controller list sim:S",
        "device add sim:S storage:stick.img --dry-run",
        "device add sim:S storage:stick.img",
        "device add sim:S 0781:5581 -v",
        "device list sim:S",
        "list sim:S",
        "list",
        "device remove sim:S storage0",
        "controller remove sim:S hci0 --force",
        "plan fresh.toml",
        "plan web1.toml",
        "apply web1.toml --dry-run",
        "apply web1.toml",
        "apply web1",
        "list web1",
        "digest web1",
        "digest fresh.toml",
        "digest fresh.toml --pci",
        "qemu-args fresh.toml",
        "host list",
        "models",
        "completions bash",
        "man .",
    ] {
        let value = env.json(line);
        assert!(value.get("error").is_none(), "{line}: {value}");
    }
}

#[test]
fn every_error_is_one_object_too() {
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
        ("list qemu:nobody", 7, "unreachable"),
        ("controller add sim:S --type pv", 9, "not-implemented"),
    ] {
        let value = env.json(line);
        assert_eq!(value["error"]["code"], code, "{line}: {value}");
        assert_eq!(value["error"]["kind"], kind, "{line}: {value}");
        assert!(value["error"]["message"].as_str().unwrap().len() > 10, "{line}: {value}");
        assert!(value["error"]["hints"].is_array(), "{line}: {value}");
    }
}

#[test]
fn what_was_chosen() {
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
fn the_list_is_as_it_is_documented() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:S 0781:5581 --name stick").prints("hci0:1");
    let text = env.run("list sim:S --json").stdout;
    assert_snapshot!(text, @r#"
    {"api":1,"domain":"sim:S","address":"sim:S","profile":"vusb-1","controllers":[{"index":0,"name":"hci0","type":"emulated","model":"qemu-xhci","usbversion":3,"ports":15,"pci":{"bus":"pci.0","slot":4,"function":0},"origin":"vusb","state":"present","devices":[{"port":"1","name":"stick","kind":"host","selector":"0781:5581","speeds":["high"],"state":"attached","origin":"vusb"}]}],"foreign":[],"notes":[]}
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
