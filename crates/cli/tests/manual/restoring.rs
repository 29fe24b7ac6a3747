//! `vusb apply DOMAIN`, `vusb apply --all`, `vusb suspend`, `vusb resume`.

use insta::assert_snapshot;
use serde_json::Value;

use crate::environment::Environment;

/// A guest with a stick of this machine and a tablet, which has just been restarted. Meanwhile
/// another guest has got the stick.
fn restarted() -> Environment {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.write(
        "web1.toml",
        "domain = \"web1\"\ndriver = \"sim:W\"\n[[device]]\nhost = \"1-4\"\n[[device]]\nkind = \"tablet\"\n",
    );
    env.run("apply web1.toml").prints("");
    // The record is made that of a guest that has ended: it holds nothing.
    let record = env.record("W");
    let mut stored: Value =
        serde_json::from_str(&std::fs::read_to_string(&record).unwrap()).unwrap();
    let identity = "sim/00000000-0000-0000-0000-000000000000/1/1".into();
    stored.as_object_mut().unwrap().insert("identity".to_owned(), identity);
    std::fs::write(&record, stored.to_string()).unwrap();
    std::fs::remove_dir_all(env.machine().join("run/vusb/claims")).unwrap();
    env.run("device add sim:M 1-4 --name key").prints("hci0:1");
    std::fs::remove_file(env.path("W")).unwrap();
    env
}

#[test]
fn a_device_that_another_guest_holds_does_not_block_the_others() {
    let env = restarted();
    let ran = env.run("apply web1 -v");
    assert_snapshot!(ran.snapshot(), @"
    ---- stderr
    error: host0 (hci0:1) is not restored: host:1-4 is held by sim:M (as key at hci0:1), and is recorded for web1 (as host0) too
    hint: free it with `vusb device remove sim:M key`
    hint: free it with `vusb device remove web1 host0`
    add controller hci0 (qemu-xhci, 15 ports, index 0)
    plug tablet0 (tablet) into 0:2
    web1: 2 steps taken
    ---- exit 4
    ");
    let view = env.vusb(["apply", "web1", "--json"]);
    assert_eq!(view.code, 4);
    let value: Value = serde_json::from_str(&view.stdout).unwrap();
    assert_eq!(value["not_restored"][0]["name"], "host0");
    assert_eq!(value["not_restored"][0]["error"]["kind"], "busy");
    // -q does not suppress the error.
    env.run("-q apply web1").says("error: host0 (hci0:1) is not restored");
    env.run("device remove sim:M key").prints("");
    env.run("apply web1").prints("").says("web1: 1 step taken");
    env.run("apply web1").prints("").says("web1: nothing to do");
}

#[test]
fn the_plan_of_a_domain_shows_what_apply_would_restore() {
    let env = restarted();
    let before = env.everything();
    let plan = env.run("plan web1 --exit-code");
    assert_snapshot!(plan.snapshot(), @"
    add controller hci0 (qemu-xhci, 15 ports, index 0)
    plug tablet0 (tablet) into 0:2
    ---- stderr
    error: host0 (hci0:1) is not restored: host:1-4 is held by sim:M (as key at hci0:1), and is recorded for web1 (as host0) too
    hint: free it with `vusb device remove sim:M key`
    hint: free it with `vusb device remove web1 host0`
    ---- exit 4
    ");
    env.run("plan web1 --prune").fails(2).says("--prune is for a spec");
    assert_eq!(env.everything(), before);
    env.run("device remove sim:M key").prints("");
    env.run("plan web1").prints(
        "add controller hci0 (qemu-xhci, 15 ports, index 0)\nplug host0 (host:1-4) into 0:1\nplug tablet0 (tablet) into 0:2",
    );
    assert_eq!(env.run("plan web1 --exit-code").code, 2);
    env.run("apply web1").prints("");
    env.run("plan web1 --exit-code").prints("").says("web1: nothing to do");
}

#[test]
fn a_spec_is_applied_as_a_whole_or_not_at_all() {
    let env = restarted();
    let before = env.read("M");
    env.run("apply web1.toml").fails(4).says("is held by sim:M (as key at hci0:1");
    assert!(env.path("W").metadata().is_err(), "no step was taken");
    assert_eq!(env.read("M"), before);
}

#[test]
fn a_missing_file_does_not_block_the_others() {
    let env = Environment::new();
    env.image("a.img");
    env.run("device add sim:S storage:a.img").prints("hci0:1");
    env.run("device add sim:S tablet").prints("hci0:2");
    std::fs::remove_file(env.path("S")).unwrap();
    std::fs::remove_file(env.path("a.img")).unwrap();
    let ran = env.run("apply sim:S");
    assert_eq!(ran.code, 3, "{ran:?}");
    ran.says("error: storage0 (hci0:1) is not restored").says("2 steps taken");
}

/// A guest with five devices behind two controllers that was restarted, and whose hypervisor fails
/// to plug in the mouse and the keyboard.
fn refusing() -> Environment {
    let env = Environment::new();
    for device in ["audio", "mouse", "tablet", "hub --name hub", "keyboard --port 4.1"] {
        env.run(&format!("device add sim:S {device}"));
    }
    env.run("controller add sim:S --name second").prints("second");
    let faults: Vec<String> = ["mouse", "keyboard"]
        .iter()
        .map(|it| format!(r#"{{"step": "plug {it}", "nth": 0, "fault": "fail"}}"#))
        .collect();
    env.write("S", &format!(r#"{{"sim": 1, "faults": [{}]}}"#, faults.join(", ")));
    env
}

#[test]
fn a_device_that_the_hypervisor_refuses_does_not_block_the_others() {
    let env = refusing();
    let ran = env.run("apply sim:S -v");
    assert_snapshot!(ran.snapshot(), @"
    ---- stderr
    error: mouse0 (hci0:2) is not restored: plug mouse0 (mouse) into 0:2 failed: it was told to fail
    error: keyboard0 (hci0:4.1) is not restored: plug keyboard0 (keyboard) into 0:4.1 failed: it was told to fail
    add controller hci0 (qemu-xhci, 15 ports, index 0)
    add controller second (qemu-xhci, 15 ports, index 1)
    plug audio0 (audio) into 0:1
    plug tablet0 (tablet) into 0:3
    plug hub (hub) into 0:4
    sim:S: 5 steps taken
    ---- exit 1
    ");
    let devices = env.json("device list sim:S");
    let state = |name: &str| {
        let devices = devices["devices"].as_array().unwrap();
        devices.iter().find(|it| it["name"] == name).unwrap()["state"].clone()
    };
    for (name, expected) in [
        ("audio0", "attached"),
        ("mouse0", "missing"),
        ("tablet0", "attached"),
        ("hub", "attached"),
        ("keyboard0", "missing"),
    ] {
        assert_eq!(state(name), expected, "{name}");
    }
    // The hypervisor no longer fails.
    let text = env.read("S");
    let mut guest: Value = serde_json::from_str(&text).unwrap();
    guest.as_object_mut().unwrap().remove("faults");
    env.write("S", &guest.to_string());
    env.run("apply sim:S").prints("").says("sim:S: 2 steps taken");
}

/// The guest was started with another version of the hypervisor, which does not know mice.
#[test]
fn a_device_that_is_not_implemented_does_not_block_the_others() {
    let env = refusing();
    env.write("S", r#"{"sim": 1, "kinds": {"mouse": "no"}}"#);
    for command in ["plan sim:S", "apply sim:S"] {
        let ran = env.run(command);
        assert_eq!(ran.code, 9, "{ran:?}");
        ran.says("error: mouse0 (hci0:2) is not restored: ");
    }
    env.run("apply sim:S").fails(9).says("sim:S: nothing to do");
    env.run("resume sim:S").says("is not suspended");
}

/// A domain is resumed, even if one of its devices cannot be attached.
#[test]
fn a_device_that_cannot_be_resumed_does_not_keep_the_others_out() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.plug("1-5", &[("idVendor", "1d6b"), ("idProduct", "0104")]);
    env.run("device add sim:S 1-5 --name key").prints("hci0:1");
    env.run("device add sim:S 1-4 --name stick").prints("hci0:2");
    env.run("suspend sim:S").prints("");
    let mut guest: Value = serde_json::from_str(&env.read("S")).unwrap();
    let fault = serde_json::json!([{"step": "plug stick", "nth": 0, "fault": "fail"}]);
    guest.as_object_mut().unwrap().insert("faults".to_owned(), fault);
    env.write("S", &guest.to_string());
    let ran = env.run("resume sim:S");
    assert_eq!(ran.code, 1, "{ran:?}");
    ran.says("error: stick (hci0:2) is not restored: ").says("sim:S: resumed");
    let devices = env.json("device list sim:S");
    assert_eq!(devices["devices"][0]["state"], "attached");
    assert_eq!(devices["devices"][1]["state"], "missing");
}

#[test]
fn every_running_guest_gets_what_is_recorded() {
    let env = restarted();
    env.run("device add sim:A mouse").prints("hci0:1");
    std::fs::remove_file(env.path("A")).unwrap();
    env.run("device add sim:G mouse").prints("hci0:1");
    env.write("G", r#"{"sim": 1, "unreachable": "its process has ended"}"#);
    env.run("device add sim:F mouse").prints("hci0:1");
    let failing = r#"{"sim": 1, "hardware": [], "faults": [{"step": "plug", "fault": "fail"}]}"#;
    env.write("F", failing);
    assert_snapshot!(env.run("apply --all --dry-run").snapshot(), @"
    sim:A: add controller hci0 (qemu-xhci, 15 ports, index 0)
    sim:A: plug mouse0 (mouse) into 0:1
    sim:F: add controller hci0 (qemu-xhci, 15 ports, index 0)
    sim:F: plug mouse0 (mouse) into 0:1
    web1: add controller hci0 (qemu-xhci, 15 ports, index 0)
    web1: plug tablet0 (tablet) into 0:2
    ---- stderr
    sim:M: nothing to do
    web1: error: host0 (hci0:1) is not restored: host:1-4 is held by sim:M (as key at hci0:1), and is recorded for web1 (as host0) too
    web1: hint: free it with `vusb device remove sim:M key`
    web1: hint: free it with `vusb device remove web1 host0`
    ---- exit 4
    ");
    let ran = env.run("apply --all");
    assert_eq!(ran.code, 1, "{ran:?}");
    ran.says("sim:A: 2 steps taken").says("sim:F: error: mouse0 (hci0:1) is not restored: ");
    ran.says("web1: 2 steps taken").says("web1: error: host0 (hci0:1) is not restored");
    env.write("F", failing);
    let ran = env.vusb(["apply", "--all", "--json"]);
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    let states: Vec<&str> = value["domains"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["already", "incomplete", "gone", "already", "incomplete"]);
    // One guest failed with code 1 and another with code 4: codes that differ become 1.
    assert_eq!(ran.code, 1);
    env.run("apply --all web1").fails(2);
    env.run("apply").fails(2);
}

#[test]
fn a_suspended_guest_has_its_host_devices_at_the_same_places_afterwards() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.plug("1-5", &[("idVendor", "1d6b"), ("idProduct", "0104")]);
    env.run("device add sim:S tablet").prints("hci0:1");
    env.run("device add sim:S 1-5 --name key --port 7").prints("hci0:7");
    env.run("device add sim:S 0781:5581 --name stick --port 5").prints("hci0:5");
    let before = env.read("S");
    assert_snapshot!(env.run("suspend sim:S --dry-run").snapshot(), @"
    unplug key (host:1-5) from 0:7
    unplug stick (host:0781:5581) from 0:5
    ");
    env.run("suspend sim:S -v")
        .prints("")
        .says("unplug key (host:1-5) from 0:7")
        .says("sim:S: suspended");
    env.run("suspend sim:S").prints("").says("is already suspended");
    assert_eq!(env.run("list sim:S").stdout.matches("suspended").count(), 3);
    // Nothing puts them back, and no other guest gets them.
    env.run("apply sim:S").prints("").says("stay out: stick, key").says("sim:S: nothing to do");
    env.run("apply --all").says("stay out: stick, key");
    env.run("device add sim:T 0781:5581").fails(4).says("is held by sim:S");
    env.unplug("1-5");
    env.run("resume sim:S").prints("").says("key (1-5) is not plugged into").says("sim:S: resumed");
    env.run("resume sim:S").prints("").says("is not suspended");
    env.plug("1-5", &[("idVendor", "1d6b"), ("idProduct", "0104")]);
    env.run("apply sim:S").prints("").says("1 step taken");
    assert_eq!(env.read("S").replace("1.007", "1.006").len(), before.len());
    assert_eq!(env.run("digest sim:S").stdout.len(), 65);
}

#[test]
fn a_suspended_guest_that_is_restarted_waits_for_the_resume() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:S 0781:5581 --name stick").prints("hci0:1");
    env.run("suspend sim:S").prints("");
    std::fs::remove_file(env.path("S")).unwrap();
    env.run("apply sim:S").says("stay out: stick").says("1 step taken");
    env.run("resume sim:S").prints("").says("resumed");
    assert_eq!(env.json("device list sim:S")["devices"][0]["state"], "attached");
}

#[test]
fn a_file_cannot_be_suspended() {
    let env = Environment::new();
    env.write("web1.toml", "[[device]]\nkind = \"tablet\"\n");
    env.run("suspend web1.toml").fails(2).says("is the configuration of a guest that does not run");
    env.run("resume web1.toml").fails(2);
}
