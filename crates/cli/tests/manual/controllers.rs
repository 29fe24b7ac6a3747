//! `vusb controller`.

use insta::assert_snapshot;

use crate::environment::Environment;

#[test]
fn a_controller_is_added_and_its_name_is_printed() {
    let env = Environment::new();
    env.run("controller add sim:S --usbversion 3").prints("hci0").quietly();
    assert_snapshot!(env.run("controller list sim:S").snapshot(), @"
    INDEX  NAME  TYPE      MODEL     PORTS  STATE
    0      hci0  emulated  nec-xhci  0/15   present
    ");
}

#[test]
fn a_repeated_request_is_already_satisfied() {
    let env = Environment::new();
    env.run("controller add sim:S --usbversion 3").prints("hci0");
    env.run("controller add sim:S --usbversion 3 --name hci0")
        .prints("hci0")
        .says("hci0 already exists");
    // Without a name, another one is added.
    env.run("controller add sim:S --usbversion 3").prints("hci1").quietly();
}

#[test]
fn a_controller_with_chosen_properties() {
    let env = Environment::new();
    env.run("controller add sim:S --model ehci --name fast --index 7").prints("fast");
    env.run("controller add sim:S --model nec-xhci --ports 4").prints("hci0");
    env.run("controller add sim:S --usbversion 1 --type emulated").prints("hci1");
    assert_snapshot!(env.run("controller list sim:S").snapshot(), @"
    INDEX  NAME  TYPE      MODEL       PORTS  STATE
    0      hci0  emulated  nec-xhci    0/4    present
    1      hci1  emulated  piix3-uhci  0/2    present
    7      fast  emulated  ehci        0/6    present
    ");
}

#[test]
fn usb_2_on_a_running_guest_names_the_group_and_the_alternatives() {
    let env = Environment::new();
    let ran = env.run("controller add sim:S --usbversion 2");
    ran.fails(9).says("ich9").says("--model ehci").says("vusb qemu-args");
    assert_snapshot!(ran.snapshot(), @"
    ---- stderr
    error: a USB 2 controller (ich9-ehci1): not implemented by QEMU (simulated): it takes this only when it starts
    hint: use --model ehci
    hint: start the guest with it: `usbversion = 2` in a spec, and `vusb qemu-args SPEC`
    ---- exit 9
    ");
}

#[test]
fn ports_that_the_model_cannot_have() {
    let env = Environment::new();
    let ran = env.run("controller add sim:S --ports 3 --model piix3-uhci");
    ran.fails(2);
    assert_snapshot!(ran.snapshot(), @"
    ---- stderr
    error: piix3-uhci cannot have 3 ports: it has exactly 2
    ---- exit 2
    ");
}

#[test]
fn paravirtual_controllers_only_exist_on_xen() {
    let env = Environment::new();
    assert_snapshot!(env.run("controller add sim:S --type pv").snapshot(), @"
    ---- stderr
    error: a pv controller (xenusb2): not implemented by QEMU (simulated): it does not have this
    hint: use --type emulated
    ---- exit 9
    ");
    assert_snapshot!(env.run("controller add sim:S --model xenusb3").snapshot(), @"
    ---- stderr
    error: a xenusb3 controller: not implemented by QEMU (simulated): the PVUSB protocol (usbif.h) has no version 3; xenusb2 carries SuperSpeed devices as high-speed ones
    ---- exit 9
    ");
}

#[test]
fn contradictions_and_invalid_values_are_refused() {
    let env = Environment::new();
    for line in [
        "controller add sim:S --model ehci --usbversion 3",
        "controller add sim:S --model ehci --type pv",
        "controller add sim:S --model ehci --backend 1",
        "controller add sim:S --model ohci",
        "controller add sim:S --usbversion 4",
        "controller add sim:S --index 4096",
        "controller add sim:S --ports 0",
        "controller add sim:S --name 0",
    ] {
        env.run(line).fails(2);
    }
    assert!(env.everything().is_empty(), "and nothing is changed: {:?}", env.everything());
}

#[test]
fn a_controller_is_removed_by_name_or_index() {
    let env = Environment::new();
    env.run("controller add sim:S").prints("hci0");
    env.run("controller add sim:S").prints("hci1");
    env.run("controller remove sim:S hci0").prints("").says("removed hci0");
    env.run("controller remove sim:S 1").prints("").says("removed hci1");
    env.run("controller remove sim:S hci0").fails(3).says("no controller hci0");
}

#[test]
fn removing_a_controller_with_devices_needs_force() {
    let env = Environment::new();
    env.run("device add sim:S tablet").prints("hci0:1");
    env.run("controller remove sim:S hci0").fails(4).says("tablet0");
    env.run("controller remove sim:S hci0 --force").prints("");
    assert_snapshot!(env.run("list sim:S").snapshot(), @"
    sim:S: no USB
    ");
}
