//! `vusb device`.

use insta::assert_snapshot;

use crate::environment::Environment;

#[test]
fn a_stick_for_a_guest_without_usb_comes_with_a_controller() {
    let env = Environment::new();
    env.image("stick.img");
    let ran = env.run("device add sim:S storage:stick.img");
    ran.prints("hci0:1");
    assert_snapshot!(ran.snapshot(), @"
    hci0:1
    ---- stderr
    added controller hci0 (qemu-xhci, 15 ports): the guest had none
    ");
    assert_snapshot!(env.run("list sim:S").snapshot(), @"
    sim:S
    LOCATION  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  1/15  present
      1  storage0  storage  stick.img  attached
    ");
}

#[test]
fn a_repeated_request_is_already_satisfied() {
    let env = Environment::new();
    env.image("stick.img");
    env.run("device add sim:S storage:stick.img").prints("hci0:1");
    let before = env.everything();
    env.run("device add sim:S storage:stick.img")
        .prints("hci0:1")
        .says("hci0:1 (storage0) already exists");
    assert_eq!(env.everything(), before);
    // A second mouse is another device.
    env.run("device add sim:S mouse").prints("hci0:2");
    env.run("device add sim:S mouse").prints("hci0:3").quietly();
}

#[test]
fn a_mouse_does_not_work_on_a_bare_ehci() {
    let env = Environment::new();
    env.run("controller add sim:S --model ehci --name fast").prints("fast");
    let ran = env.run("device add sim:S mouse --controller fast");
    ran.fails(6).says("full speed");
    assert_snapshot!(ran.snapshot(), @"
    ---- stderr
    error: a mouse is full speed, and fast (ehci) supports high speed only; a UHCI, an OHCI, an ICH9 group or an xHCI supports it
    hint: leave out --controller: a suitable controller is chosen or added
    hint: use a controller with --usbversion 1
    hint: use a controller with --usbversion 3
    ---- exit 6
    ");
    // Without a controller in the request, a suitable one is chosen.
    env.run("device add sim:S mouse").prints("hci0:1").says("added controller hci0");
}

#[test]
fn hubs_have_ports_of_their_own() {
    let env = Environment::new();
    env.run("device add sim:S hub:ports=4 --port 2 --controller 0").fails(3);
    env.run("controller add sim:S").prints("hci0");
    env.run("device add sim:S hub:ports=4 --port 2").prints("hci0:2");
    env.run("device add sim:S keyboard --port 2.4 --name keys").prints("hci0:2.4");
    env.run("device add sim:S keyboard --port 2.5").fails(3).says("ports 1 to 4");
    env.run("device add sim:S keyboard --port 3.1").fails(3).says("no hub");
    assert_snapshot!(env.run("device list sim:S").snapshot(), @"
    LOCATION  NAME  KIND      WHAT     STATE
    hci0:2    hub0  hub       ports=4  attached
    hci0:2.4  keys  keyboard           attached
    ");
}

#[test]
fn a_device_is_removed_by_any_of_its_names() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:S tablet --name pen").prints("hci0:1");
    env.run("device remove sim:S pen").prints("").says("removed hci0:1 (pen)");
    env.run("device add sim:S tablet").prints("hci0:1");
    env.run("device remove sim:S hci0:1").prints("");
    env.run("device add sim:S tablet").prints("hci0:1");
    env.run("device remove sim:S 0:1").prints("");
    env.run("device add sim:S 0781:5581").prints("hci0:1");
    env.run("device remove sim:S 1-4").prints("");
    env.run("device remove sim:S pen").fails(3);
    env.run("device remove sim:S a/b").fails(2).says("hint: name a device by");
}

#[test]
fn a_full_controller_is_reported() {
    let env = Environment::new();
    env.run("controller add sim:S --usbversion 1").prints("hci0");
    env.run("device add sim:S mouse").prints("hci0:1");
    env.run("device add sim:S mouse").prints("hci0:2");
    let ran = env.run("device add sim:S mouse --controller hci0");
    ran.fails(6);
    assert_snapshot!(ran.snapshot(), @"
    ---- stderr
    error: hci0 (piix3-uhci) is full: all of its 2 ports are in use; remove a device, plug in a hub in place of one, or leave the controller out: one is chosen or added
    ---- exit 6
    ");
    env.run("device add sim:S mouse")
        .prints("hci1:1")
        .says("added controller hci1 (qemu-xhci, 15 ports)");
}

#[test]
fn a_port_in_use_is_reported_with_its_device() {
    let env = Environment::new();
    env.run("device add sim:S tablet --name pen").prints("hci0:1");
    let ran = env.run("device add sim:S mouse --port 1");
    ran.fails(4);
    assert_snapshot!(ran.snapshot(), @"
    ---- stderr
    error: port 1 of hci0 is in use by pen (tablet); use another port or remove that device first
    ---- exit 4
    ");
}

#[test]
fn a_missing_file() {
    let env = Environment::new();
    let ran = env.run("device add sim:S storage:nowhere.img");
    ran.fails(3);
    assert_snapshot!(ran.snapshot(), @"
    ---- stderr
    error: nowhere.img does not exist
    ---- exit 3
    ");
    env.run("device add sim:S mtp:nowhere").fails(3);
}

#[test]
fn a_file_of_the_wrong_type() {
    let env = Environment::new();
    env.run("device add sim:S storage:.").fails(2);
    std::fs::write(env.path("trap.img"), b"QFI\xfb\0\0\0\x03").unwrap();
    let ran = env.run("device add sim:S storage:trap.img");
    ran.fails(5);
    assert_snapshot!(ran.snapshot(), @"
    ---- stderr
    error: trap.img is to be attached as a raw disk but is marked as a qcow2 image: either it is one, and the guest would see the container, or a guest has written this mark into its raw disk
    hint: a guest can make its raw disk look like a qcow2 image that refers to any file of this machine: it is one only if no guest has written to it as a raw disk
    hint: convert it to a raw image, for example with `qemu-img convert`
    hint: if you are sure, repeat it with --force
    ---- exit 5
    ");
}

#[test]
fn an_invalid_device() {
    let env = Environment::new();
    assert_snapshot!(env.run("device add sim:S telephone").snapshot(), @"
    ---- stderr
    error: invalid value 'telephone' for '<DEVICE>': `telephone` is not a device: write a host device (0781:5581, 1-4.2, 003.014), storage:FILE[,readonly][,format=raw|qcow2][,media=cdrom][,serial=S][,removable=on], tablet, mouse, keyboard, hub, serial:CHARDEV, audio, net, mtp:DIR[,writable], ccid or redir:ADDRESS

    For more information, try '--help'.
    ---- exit 2
    ");
}

#[test]
fn an_absent_device_is_a_state() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:S 0781:5581 --name stick").prints("hci0:1");
    env.unplug("1-4");
    let sim = env.read("S").replacen("\"hardware\"", "\"absent\": [\"stick\"], \"hardware\"", 1);
    env.write("S", &sim);
    assert_snapshot!(env.run("device list sim:S").snapshot(), @"
    LOCATION  NAME   KIND  WHAT       STATE
    hci0:1    stick  host  0781:5581  absent
    ");
    env.run("device remove sim:S stick").prints("");
}

/// A guest of another tool may have an entry for any device of a bus, and one for exactly this one.
#[test]
fn an_exact_match_of_a_selector_comes_before_a_possible_one() {
    let env = Environment::new();
    env.plug("1-4", &[("idVendor", "0781"), ("idProduct", "5581")]);
    env.plug("1-5", &[("idVendor", "1209"), ("idProduct", "0001")]);
    let device = |port: u8, name: &str, selector: &str| serde_json::json!({"port": port.to_string(), "name": name, "kind": "host", "selector": selector});
    let devices =
        [device(1, "any", "hostbus=1"), device(2, "this", "hostbus=1,hostport=5,vendorid=0x1209")];
    let controller = serde_json::json!({
        "index": 0, "name": "hci0", "model": "qemu-xhci", "ports": 15, "devices": devices,
    });
    env.write("S", &serde_json::json!({"sim": 1, "hardware": [controller]}).to_string());
    env.run("device remove sim:S 1-5").prints("").says("removed hci0:2 (this)");
}
