//! `vusb host`, and the devices of this machine.

use insta::assert_snapshot;

use crate::environment::Environment;

#[test]
fn the_devices_of_this_machine() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.plug(
        "1-5",
        &[("idVendor", "1d6b"), ("idProduct", "0101"), ("bDeviceClass", "09"), ("product", "Hub")],
    );
    env.plug("2-1", &[("idVendor", "1209"), ("idProduct", "0001"), ("speed", "5000")]);
    assert_snapshot!(env.run("host list").snapshot(), @"
    BUSID  AT       ID         SPEED  WHAT                        HOLDER  PROTECTED
    1-4    001.002  0781:5581  high   SanDisk Ultra [4C53]        -       -
    1-5    001.003  1d6b:0101  high   Linux Foundation Hub        -       it is a hub: give the devices behind it instead
    2-1    002.004  1209:0001  super  Generic pid.codes Test PID  -       -
    ");
    assert_snapshot!(env.run("host list -v").snapshot(), @"
    BUSID  AT       ID         SPEED  PATH                      WHAT                        HOLDER  PROTECTED
    1-4    001.002  0781:5581  high   pci-0000:00:14.0-usb-0:4  SanDisk Ultra [4C53]        -       -
    1-5    001.003  1d6b:0101  high   pci-0000:00:14.0-usb-0:5  Linux Foundation Hub        -       it is a hub: give the devices behind it instead
    2-1    002.004  1209:0001  super  pci-0000:00:14.0-usb-0:1  Generic pid.codes Test PID  -       -
    ");
}

#[test]
fn a_machine_without_usb() {
    let env = Environment::new();
    env.run("host list").quietly();
    assert_eq!(env.json("host list")["devices"].as_array().unwrap().len(), 0);
}

#[test]
fn the_strings_of_a_device_cannot_control_the_terminal() {
    let env = Environment::new();
    env.plug(
        "1-1",
        &[
            ("idVendor", "1209"),
            ("idProduct", "0001"),
            ("product", "\u{1b}[2J\u{202e}evil\nhint: x"),
        ],
    );
    let ran = env.run("host list");
    assert!(!ran.stdout.contains(['\u{1b}', '\u{202e}']), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 2, "{ran:?}");
    let ran = env.run("host list --json");
    assert!(!ran.stdout.contains(['\u{1b}', '\u{202e}']), "{ran:?}");
}

#[test]
fn a_host_device_is_never_attached_to_two_domains() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:A 0781:5581 --name stick").prints("hci0:1");
    let ran = env.run("device add sim:B 1-4");
    ran.fails(4).says("hint: free it with `vusb device remove");
    assert_snapshot!(ran.snapshot(), @"
    ---- stderr
    error: host:1-4 is held by sim:A (as stick at hci0:1)
    hint: free it with `vusb device remove sim:A stick`
    ---- exit 4
    ");
    assert_snapshot!(env.run("host list").snapshot(), @"
    BUSID  AT  ID  SPEED  WHAT  HOLDER  PROTECTED
    1-4  001.002  0781:5581  high  SanDisk Ultra [4C53]  sim:A (stick, hci0:1)  -
    ");
}

#[test]
fn a_device_that_this_machine_has_not_authorized() {
    let env = Environment::new();
    env.plug("1-4", &[("idVendor", "1209"), ("idProduct", "0001"), ("authorized", "0")]);
    assert_snapshot!(env.run("host list").snapshot(), @"
    BUSID  AT       ID         SPEED  WHAT                        HOLDER  PROTECTED
    1-4    001.002  1209:0001  high   Generic pid.codes Test PID  -       this machine has not authorized it (USBGuard, or `authorized` in sysfs): allow it there first
    ");
    assert_eq!(env.json("host list")["devices"][0]["authorized"], false);
    assert_snapshot!(env.run("device add sim:S 1-4").snapshot(), @"
    ---- stderr
    error: 1-4 (1209:0001 Generic pid.codes Test PID) is protected: this machine has not authorized it (USBGuard, or `authorized` in sysfs): allow it there first
    hint: if you are sure, repeat it with --force
    ---- exit 5
    ");
    env.run("device add sim:S 1-4 --force").prints("hci0:1");
}

#[test]
fn a_device_is_named_by_its_node() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:S /dev/bus/usb/001/002").prints("hci0:1");
    env.run("device remove sim:S /dev/bus/usb/001/002").says("removed hci0:1");
    env.run("device add sim:S /dev/sdb").fails(3).says("/dev/sdb does not exist");
    env.run("device remove sim:S /dev/sdb").fails(3).says("/dev/sdb does not exist");
    env.run("device add nosuch /dev/sdb").fails(3).says("/dev/sdb does not exist");
}

#[test]
fn other_spellings_are_answered_with_the_right_one() {
    let env = Environment::new();
    env.plug_stick("1-4");
    for (spelling, right) in [
        ("001:002", "001.002"),
        ("0x0781:0x5581", "0781:5581"),
        ("781:5581", "0781:5581"),
        ("host:1:2", "001.002"),
        ("01-4", "1-4"),
    ] {
        env.run(&format!("device add sim:S {spelling}")).fails(2).says(&format!("write {right} "));
    }
    env.run("device remove sim:S 0x0781:0x5581").fails(2).says("write 0781:5581 ");
}

#[test]
fn a_domain_and_a_device_in_the_wrong_order_are_answered_with_the_right_command() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add 0781:5581 qemu:/run/web1.qmp")
        .fails(2)
        .says("`qemu:/run/web1.qmp` is a domain, and the domain comes first")
        .says("hint: write `vusb device add qemu:/run/web1.qmp 0781:5581`");
    env.run("device add tablet sim:S").fails(2).says("write `vusb device add sim:S tablet`");
    env.run("device add sim:S 0781:5581").prints("hci0:1");
    env.run("device remove 1-4 sim:S").fails(2).says("write `vusb device remove sim:S 1-4`");
    env.run("device move hci0:1 sim:S --port 2").fails(2).says("vusb device move sim:S hci0:1");
    // The name of a recorded domain is recognized too.
    env.write("web1.toml", "domain = \"web1\"\ndriver = \"sim:W\"\n");
    env.run("apply web1.toml").prints("");
    env.run("device add mouse web1").fails(2).says("write `vusb device add web1 mouse`");
    env.run("device remove 0781:5581 web1").fails(2).says("write `vusb device remove web1 0781");
}

#[test]
fn other_words_for_the_verbs() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device attach sim:S 1-4").prints("hci0:1");
    env.run("device del sim:S 1-4").prints("");
    env.run("device add sim:S tablett").fails(2).says("did you mean tablet?");
    let ran = env.run("attach sim:S 1-4");
    ran.fails(2).says("vusb device add");
    assert!(!ran.stderr.contains("watch"), "{ran:?}");
    env.run("del sim:S 1-4").fails(2).says("vusb device remove");
}

#[test]
fn hubs_are_never_attached() {
    let env = Environment::new();
    env.plug("1-5", &[("idVendor", "1d6b"), ("idProduct", "0101"), ("bDeviceClass", "09")]);
    env.run("device add sim:S 1-5").fails(5);
    env.run("device add sim:S 1-5 --force").fails(5).says("hub");
}

#[test]
fn an_ambiguous_selector_lists_the_candidates() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.plug_stick("1-6");
    let ran = env.run("device add sim:S 0781:5581");
    ran.fails(2).says("1-4").says("1-6");
    env.run("device add sim:S 1-7").fails(3).says("vusb host list");
}

/// A claim is about the device that was given, not about all that is plugged into its port later.
#[test]
fn another_device_in_the_port_of_an_absent_one_is_free() {
    let env = Environment::new();
    let stick = |id: &str, serial: &str| {
        env.plug("1-4", &[("idVendor", "0483"), ("idProduct", id), ("serial", serial)]);
    };
    stick("5740", "A");
    let device = "[[device]]\nhost = \"0483:5740\"\nalso = [\"0483:df11\"]\n";
    env.write("a.toml", &format!("domain = \"a\"\ndriver = \"sim:A\"\n{device}"));
    assert_eq!(env.run("apply a.toml").code, 0);
    // In its other mode it is the same device, for every state folder.
    env.unplug("1-4");
    stick("df11", "");
    for state in ["", " --state-dir other"] {
        env.run(&format!("device add sim:B 1-4{state}")).fails(4).says("host0 at hci0:1");
    }
    env.unplug("1-4");
    stick("0001", "C");
    assert_eq!(env.json("host list")["devices"][0].get("holder"), None);
    env.run("device add sim:B 1-4 --state-dir other").prints("hci0:1");
    // Now the other device is held too, and the absent device keeps its claim.
    env.run("device add sim:C 1-4").fails(4).says("host0 at hci0:1");
    env.unplug("1-4");
    stick("5740", "A");
    env.run("device add sim:C 1-4").fails(4).says("a (as host0 at hci0:1)");
    env.run("device add sim:C 1-4 --state-dir other").fails(4).says("(as host0 at hci0:1)");
    assert_eq!(env.json("host list")["devices"][0]["holder"]["domain"], "a");
}
