//! `vusb device move`.

use crate::environment::Environment;

#[test]
fn a_device_moves_to_another_port() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:S 0781:5581 --name stick").prints("hci0:1");
    env.run("device move sim:S stick --port 4").prints("hci0:4").quietly();
    env.run("device move sim:S 1-4 --port 4").prints("hci0:4").says("hci0:4 (stick) is already");
    let steps = env.run("device move sim:S stick --port 5 --dry-run");
    steps.prints("unplug stick (host:0781:5581) from 0:4\nplug stick (host:0781:5581) into 0:5");
    env.run("device list sim:S").says("").prints(
        "LOCATION  NAME   KIND  WHAT       STATE\nhci0:4    stick  host  0781:5581  attached",
    );
    // After the move, its ids still select it.
    env.unplug("1-4");
    env.run("device remove sim:S 0781:5581").prints("").says("removed hci0:4 (stick)");
}

#[test]
fn a_device_moves_to_another_controller() {
    let env = Environment::new();
    env.run("device add sim:S tablet --name pen").prints("hci0:1");
    env.run("controller add sim:S --usbversion 1").prints("hci1");
    env.run("device move sim:S pen --controller hci1").prints("hci1:1");
    env.run("device move sim:S pen --controller hci1").prints("hci1:1").says("is already there");
    env.run("device move sim:S pen --controller 0 --port 7").prints("hci0:7");
    env.run("device move sim:S pen").fails(2).says("--controller <C>");
    env.run("device move sim:S pen --controller fast").fails(3).says("hci0, hci1");
    env.run("device move sim:S nib --port 2").fails(3).says("has no device nib");
}

#[test]
fn a_place_that_does_not_take_the_device_is_refused() {
    let env = Environment::new();
    env.run("device add sim:S tablet --name pen").prints("hci0:1");
    env.run("device add sim:S mouse").prints("hci0:2");
    env.run("controller add sim:S --model ehci").prints("hci1");
    let before = env.everything();
    env.run("device move sim:S pen --port 2").fails(4).says("in use by mouse0");
    env.run("device move sim:S pen --port 16").fails(3).says("ports 1 to 15");
    env.run("device move sim:S pen --port 1.1").fails(3).says("no hub");
    env.run("device move sim:S pen --controller hci1").fails(6).says("full speed");
    assert_eq!(env.everything(), before);
}

#[test]
fn what_is_behind_a_hub_moves_with_it() {
    let env = Environment::new();
    env.run("device add sim:S hub --port 2 --controller 0").fails(3);
    env.run("device add sim:S hub").prints("hci0:1");
    env.run("device add sim:S mouse --port 1.3").prints("hci0:1.3");
    env.run("device move sim:S hub0 --port 5").prints("hci0:5");
    let list = env.run("device list sim:S");
    assert!(list.stdout.contains("hci0:5.3  mouse0"), "{list:?}");
    env.run("device move sim:S hub0 --port 5.1").fails(3).says("no hub");
    env.run("device move sim:S mouse0 --port 1").prints("hci0:1");
}

#[test]
fn a_move_that_fails_half_way_is_undone() {
    let env = Environment::new();
    env.image("stick.img");
    env.run("device add sim:S storage:stick.img").prints("hci0:1");
    let sim = env.read("S");
    let mut value: serde_json::Value = serde_json::from_str(&sim).unwrap();
    value["faults"] = serde_json::json!([{"step": "plug storage0", "fault": "fail"}]);
    env.write("S", &value.to_string());
    env.run("device move sim:S storage0 --port 2").fails(1).says("undone: unplug storage0");
    let list = env.run("device list sim:S");
    assert!(list.stdout.contains("hci0:1  storage0"), "{list:?}");
}

#[test]
fn in_a_file_only_the_address_changes() {
    let env = Environment::new();
    env.write(
        "web1.xml",
        "<domain type='kvm'>\n  <name>web1</name>\n  <os><type arch='x86_64' machine='q35'>hvm</type></os>\n  <devices>\n    \
         <controller type='usb' index='0' model='qemu-xhci' ports='15'/>\n    \
         <input type='tablet' bus='usb'>\n      <!-- the pen -->\n      <address type='usb' bus='0' port='1'/>\n    </input>\n    \
         <input type='mouse' bus='usb'>\n      <address type='usb' bus='0' port='2'/>\n    </input>\n  </devices>\n</domain>\n",
    );
    let before = env.read("web1.xml");
    env.run("device move web1.xml input0 --port 9").prints("usb:9");
    let after = before.replace("bus='0' port='1'", "bus='0' port='9'");
    assert_eq!(env.read("web1.xml"), after);
    env.run("device move web1.xml input0 --port 2").fails(4).says("in use");
    assert_eq!(env.read("web1.xml"), after);
    // The same holds for a spec.
    let spec = "[[device]]\nkind = \"tablet\" # the pen\nport = \"1\"\n\n[[device]]\nkind = \"mouse\"\nport = \"2\"\n";
    let spec = format!("[[controller]]\nusbversion = 3\n\n{spec}");
    env.write("web1.toml", &spec);
    env.run("device move web1.toml tablet0 --port 4").prints("hci0:4");
    let moved = env.read("web1.toml");
    assert!(moved.contains("kind = \"tablet\" # the pen\n"), "{moved}");
    assert!(moved.contains("port = \"4\"") && !moved.contains("port = \"1\""), "{moved}");
}

#[test]
fn what_another_tool_created_is_not_moved_without_force() {
    let env = Environment::new();
    env.run("device add sim:S tablet --name pen").prints("hci0:1");
    let mut sim: serde_json::Value = serde_json::from_str(&env.read("S")).unwrap();
    sim["foreign"] = serde_json::json!(["pen"]);
    env.write("S", &sim.to_string());
    env.run("device move sim:S pen --port 2")
        .fails(5)
        .says("created by another tool")
        .says("--force");
    env.run("device move sim:S pen --port 2 --force").prints("hci0:2");
}
