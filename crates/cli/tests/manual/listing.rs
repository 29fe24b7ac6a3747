//! `vusb list` and `vusb models`.

use insta::assert_snapshot;

use crate::environment::Environment;

#[test]
fn nothing_is_recorded_yet() {
    let env = Environment::new();
    assert_snapshot!(env.run("list").snapshot(), @"
    ---- stderr
    no domain has a record yet; `vusb list DOMAIN` shows any domain
    ");
}

#[test]
fn a_domain_is_a_tree() {
    let env = Environment::new();
    env.image("stick.img");
    env.run("controller add sim:S --model ehci --name fast").prints("fast");
    env.run("controller add sim:S").prints("hci0");
    env.run("device add sim:S hub --controller hci0").prints("hci0:1");
    env.run("device add sim:S mouse --controller hci0 --port 1.3").prints("hci0:1.3");
    env.run("device add sim:S storage:stick.img,readonly --controller fast --name stick")
        .prints("fast:1");
    assert_snapshot!(env.run("list sim:S").snapshot(), @"
    sim:S
    PLACE  NAME  TYPE  WHAT  PORTS  STATE
    0  fast  emulated  ehci  1/6  present
      1  stick  storage  stick.img,readonly  attached
    1  hci0  emulated  qemu-xhci  1/15  present
      1  hub0  hub  attached
        1.3  mouse0  mouse  attached
    ");
}

#[test]
fn all_domains_and_one_that_is_gone() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:A tablet").prints("hci0:1");
    env.run("device add sim:B 0781:5581").prints("hci0:1");
    env.write("B", r#"{"sim": 1, "unreachable": "the cable was cut"}"#);
    assert_snapshot!(env.run("list").snapshot(), @"
    sim:A
    PLACE  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  1/15  present
      1  tablet0  tablet  attached

    sim:B: cannot be shown: sim:B cannot be reached: the cable was cut
    it holds 0781:5581 all the same
    on record of it is:
    PLACE  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  1/15  missing
      1  host0  host  0781:5581  missing
    ");
}

#[test]
fn what_a_restart_took_away_is_missing() {
    let env = Environment::new();
    env.run("device add sim:S tablet").prints("hci0:1");
    std::fs::remove_file(env.path("S")).unwrap();
    assert_snapshot!(env.run("list sim:S").snapshot(), @"
    sim:S
    PLACE  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  1/15  missing
      1  tablet0  tablet  missing
    ");
    env.run("apply sim:S").prints("").says("2 steps taken");
    env.run("apply sim:S").prints("").says("is already so");
}

#[test]
fn what_others_made_is_marked() {
    let env = Environment::new();
    env.write(
        "S",
        r#"{"sim": 1, "foreign": ["hci0", "tablet0"], "hardware": [{"index": 0, "name": "hci0", "model": "nec-xhci",
            "ports": 4, "devices": [{"port": "1", "name": "tablet0", "kind": "tablet", "usbversion": 1}]}]}"#,
    );
    assert_snapshot!(env.run("list sim:S").snapshot(), @"
    sim:S
    PLACE  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  nec-xhci  1/4  present, not vusb's
      1  tablet0  tablet  attached, not vusb's
    ");
}

#[test]
fn the_models() {
    let env = Environment::new();
    assert_snapshot!(env.run("models").snapshot(), @"
    NAME            TYPE      USB  PORTS  SPEEDS               QEMU                HOT  XEN
    piix3-uhci      emulated  1    2      low,full             piix3-usb-uhci      yes  device model, version 1
    piix4-uhci      emulated  1    2      low,full             piix4-usb-uhci      yes  through QMP
    vt82c686b-uhci  emulated  1    2      low,full             vt82c686b-usb-uhci  ask  -
    pci-ohci        emulated  1    3      low,full             pci-ohci            no   -
    ehci            emulated  2    6      high                 usb-ehci            yes  device model, version 2
    ich9-ehci1      emulated  2    6      low,full,high        ich9-usb-ehci1      no   at boot
    ich9-uhci1      emulated  1    2      low,full             ich9-usb-uhci1      no   -
    ich9-uhci2      emulated  1    2      low,full             ich9-usb-uhci2      no   -
    ich9-uhci3      emulated  1    2      low,full             ich9-usb-uhci3      no   -
    nec-xhci        emulated  3    1-15   low,full,high,super  nec-usb-xhci        yes  device model, version 3
    qemu-xhci       emulated  3    1-15   low,full,high,super  qemu-xhci           yes  through QMP
    xenusb1         pv        1    1-31   low,full             -                   -    PVUSB
    xenusb2         pv        2    1-31   low,full,high,super  -                   -    PVUSB
    xenusb3         pv        3    1-31   low,full,high,super  -                   -    -
    ");
}
