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
fn what_a_device_calls_itself_does_nothing_to_the_terminal() {
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
fn one_host_device_is_never_given_to_two_domains() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:A 0781:5581 --name stick").prints("hci0:1");
    let ran = env.run("device add sim:B 1-4");
    ran.fails(4).says("hint: make it free with `vusb device remove");
    assert_snapshot!(ran.snapshot(), @"
    ---- stderr
    error: host:1-4 is held by sim:A (as stick at hci0:1)
    hint: make it free with `vusb device remove sim:A stick`
    ---- exit 4
    ");
    assert_snapshot!(env.run("host list").snapshot(), @"
    BUSID  AT  ID  SPEED  WHAT  HOLDER  PROTECTED
    1-4  001.002  0781:5581  high  SanDisk Ultra [4C53]  sim:A (stick, hci0:1)  -
    ");
}

#[test]
fn hubs_are_never_given() {
    let env = Environment::new();
    env.plug("1-5", &[("idVendor", "1d6b"), ("idProduct", "0101"), ("bDeviceClass", "09")]);
    env.run("device add sim:S 1-5").fails(5);
    env.run("device add sim:S 1-5 --force").fails(5).says("hub");
}

#[test]
fn an_ambiguous_selector_lists_what_it_may_mean() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.plug_stick("1-6");
    let ran = env.run("device add sim:S 0781:5581");
    ran.fails(2).says("1-4").says("1-6");
    env.run("device add sim:S 1-7").fails(3).says("vusb host list");
}
