//! Several devices in one command, and devices that are not there yet.

use serde_json::{Value, json};

use crate::environment::Environment;

#[test]
fn several_devices_are_added_together() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.image("stick.img");
    let ran = env.run("device add sim:S tablet 1-4 storage:stick.img mouse");
    ran.prints("hci0:1\nhci0:2\nhci0:3\nhci0:4");
    env.run("device add sim:S 1-4 keyboard")
        .prints("hci0:2\nhci0:5")
        .says("hci0:2 (host0) already exists");
    env.run("device remove sim:S tablet0 hci0:4 0781:5581")
        .prints("")
        .says("removed hci0:1 (tablet0)\nremoved hci0:4 (mouse0)\nremoved hci0:2 (host0)");
}

#[test]
fn all_are_added_or_none() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("controller add sim:S --usbversion 3").prints("hci0");
    let before = env.everything();
    env.run("device add sim:S tablet 1-7").fails(3).says("1-7");
    env.run("device add sim:S tablet telephone").fails(2).says("`telephone` is not a device");
    env.run("device add sim:S tablet storage:none.img").fails(3).says("none.img does not exist");
    env.run("device add sim:S 1-4 0781:5581")
        .fails(2)
        .says("host:1-4 and host:0781:5581 are the same device");
    env.run("device add sim:S tablet mouse --port 1").fails(2).says("for one device");
    assert_eq!(env.everything(), before);
    env.run("device add sim:S tablet mouse").prints("hci0:1\nhci0:2");
    let before = env.everything();
    env.run("device remove sim:S tablet0 nothing").fails(3).says("has no device nothing");
    assert_eq!(env.everything(), before);
}

#[test]
fn a_step_that_fails_undoes_all() {
    let env = Environment::new();
    env.run("controller add sim:S").prints("hci0");
    let mut sim: Value = serde_json::from_str(&env.read("S")).unwrap();
    sim["faults"] = json!([{"step": "plug", "nth": 2, "fault": "fail"}]);
    env.write("S", &sim.to_string());
    env.run("device add sim:S tablet mouse").fails(1).says("undone: plug tablet0");
    env.run("device list sim:S").prints("LOCATION  NAME  KIND  WHAT  STATE");
}

#[test]
fn a_hub_is_removed_together_with_what_is_behind_it() {
    let env = Environment::new();
    env.run("device add sim:S hub").prints("hci0:1");
    env.run("device add sim:S mouse --port 1.1").prints("hci0:1.1");
    env.run("device remove sim:S hub0").fails(4).says("devices behind it (mouse0)");
    env.run("device remove sim:S hub0 mouse0").prints("");
}

#[test]
fn json_has_the_outcome_of_each() {
    let env = Environment::new();
    env.run("device add sim:S storage:stick.img").fails(3);
    env.image("stick.img");
    env.run("device add sim:S storage:stick.img").prints("hci0:1");
    let added = env.json("device add sim:S storage:stick.img mouse");
    let expected = json!([
        {"name": "storage0", "at": "hci0:1", "bus": 0, "port": "1", "already": true},
        {"name": "mouse0", "at": "hci0:2", "bus": 0, "port": "2", "already": false},
    ]);
    assert_eq!((&added["devices"], &added["already"]), (&expected, &json!(false)));
    assert_eq!(added.get("name"), None);
    // For one device, the outcome itself has these keys.
    let one = env.json("device add sim:S tablet");
    assert_eq!((&one["name"], one.get("devices")), (&json!("tablet0"), None));
    // A device may be named twice.
    let removed = env.json("device remove sim:S mouse0 tablet0 mouse0");
    assert_eq!(removed["devices"].as_array().unwrap().len(), 2);
}

#[test]
fn a_file_takes_several_devices_in_one_edit() {
    let env = Environment::new();
    env.write("web1.toml", "[[controller]]\nusbversion = 3\n");
    env.run("device add web1.toml tablet 0781:5581").prints("hci0:1\nhci0:2");
    env.run("device remove web1.toml tablet0 0781:5581").prints("");
}

#[test]
fn a_device_that_is_not_there_yet_keeps_its_port() {
    let env = Environment::new();
    env.run("device add sim:S 0781:5581").fails(3).says("hint: plug it in");
    env.run("device add sim:S 0781:5581 --name stick --when-there")
        .prints("hci0:1")
        .says("stick (0781:5581) is not plugged into this machine: its port is kept for it");
    let list = env.run("device list sim:S");
    list.prints(
        "LOCATION  NAME   KIND  WHAT       STATE\nhci0:1    stick  host  0781:5581  absent",
    );
    env.run("device add sim:S 0781:5581 --when-there").prints("hci0:1").says("already exists");
    env.run("device add sim:S mouse").prints("hci0:2");
    env.run("device add sim:S mouse --port 1").fails(4).says("in use by stick");
    env.run("apply sim:S").says("nothing to do");
    env.plug_stick("1-4");
    env.run("apply sim:S").says("1 step taken");
    assert!(env.run("device list sim:S").stdout.contains("0781:5581  attached"));
    // From now on, every selector of this device selects it.
    env.unplug("1-4");
    env.run("device remove sim:S 1-4").prints("").says("removed hci0:1 (stick)");
}

#[test]
fn a_device_is_awaited_at_a_port() {
    let env = Environment::new();
    env.run("device add sim:S 1-4 mouse --when-there").prints("hci0:1\nhci0:2");
    env.plug_stick("1-4");
    env.run("device add sim:S 1-4").prints("hci0:1");
    let devices = env.json("device list sim:S");
    assert_eq!(devices["devices"][0]["state"], "attached");
    // Another guest does not get it.
    env.run("device add sim:B 0781:5581").fails(4).says("held by sim:S");
    env.run("device add sim:B 001.009 --when-there").fails(2).says("has no address");
}

#[test]
fn what_another_guest_awaits_is_claimed() {
    let env = Environment::new();
    env.run("device add sim:A 0781:5581 --when-there").prints("hci0:1");
    env.run("device add sim:B 0781:5581 --when-there").fails(4).says("held by sim:A");
    env.run("device remove sim:A 0781:5581").prints("");
    env.run("device add sim:B 0781:5581 --when-there").prints("hci0:1");
}

/// A required device that is not plugged in is a failure, but everything else is done. This holds
/// for devices that were added by hand, and for those of a spec.
#[test]
fn an_absent_required_device_fails_and_the_others_are_restored() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:S 0781:5581 --name stick --required").prints("hci0:1");
    assert_eq!(env.json("list sim:S")["controllers"][0]["devices"][0]["required"], true);
    env.run("device add sim:S tablet").prints("hci0:2");
    env.unplug("1-4");
    env.write("S", r#"{"sim":1}"#);
    let ran = env.run("apply sim:S");
    ran.says("stick (hci0:1) is not restored");
    assert_eq!(ran.code, 3);
    let list = env.json("list sim:S");
    let devices = &list["controllers"][0]["devices"];
    assert_eq!(
        (&devices[0]["state"], &devices[1]["state"]),
        (&"absent".into(), &"attached".into())
    );
    env.plug_stick("1-4");
    assert_eq!(env.run("apply sim:S").code, 0);
    assert_eq!(env.json("list sim:S")["controllers"][0]["devices"][0]["required"], true);

    let spec = "driver = \"sim:T\"\n[[device]]\nhost = \"1234:5678\"\nrequired = true\n\
                [[device]]\nkind = \"mouse\"\n";
    env.write("t.toml", spec);
    let ran = env.run("apply t.toml");
    ran.says("host0 (hci0:1) is not restored");
    assert_eq!(ran.code, 3);
    assert_eq!(env.json("list sim:T")["controllers"][0]["devices"][1]["state"], "attached");
    // The device is optional again.
    env.write("t.toml", &spec.replace("required = true\n", ""));
    assert_eq!(env.run("apply t.toml").code, 0);
    env.run("device add t.toml 0781:5581 --required").fails(2).says("required = true");
}
