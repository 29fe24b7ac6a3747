//! Devices that programs, guests and other machines use.

use std::os::unix::fs::symlink;

use vusb_host::{Process, UsedBy};

use crate::support::{Gadget, Machine};

/// A stick that a program uses.
fn passed_through() -> Gadget {
    Gadget::new(0x0781, 0x5581).interface(8, 6, 0x50, Some("usbfs"))
}

fn process(pid: u32, name: &str) -> Process {
    Process { pid, name: name.to_owned() }
}

#[test]
fn a_device_with_a_driver_of_this_machine_is_not_used_by_others() {
    let machine = Machine::new();
    machine.plug("1-4", &Gadget::stick());
    let node = machine.device("1-4").node();
    // A program that only looks at the device, such as lsusb.
    machine.open_file(7, "lsusb", 3, node.to_str().unwrap());
    assert_eq!(machine.device("1-4").used_by, None);
}

#[test]
fn the_program_that_uses_a_device_is_named() {
    let machine = Machine::new();
    machine.plug("1-4", &passed_through());
    machine.plug("1-5", &passed_through());
    assert_eq!(machine.device("1-4").used_by, Some(UsedBy::Programs(vec![])));
    let node = machine.device("1-4").node();
    machine.open_file(4711, "qemu-system-x86", 3, "/dev/null");
    machine.open_file(4711, "qemu-system-x86", 25, node.to_str().unwrap());
    machine.open_file(4711, "qemu-system-x86", 26, node.to_str().unwrap());
    machine.open_file(800, "bash", 0, "/dev/pts/1");
    machine.open_file(800, "bash", 1, "socket:[4711]");
    let qemu = process(4711, "qemu-system-x86");
    assert_eq!(machine.device("1-4").used_by, Some(UsedBy::Programs(vec![qemu])));
    assert_eq!(machine.device("1-5").used_by, Some(UsedBy::Programs(vec![])));
}

#[test]
fn a_program_in_another_root_directory_is_found() {
    let machine = Machine::new();
    machine.plug("1-4", &passed_through());
    let node = machine.device("1-4").node();
    machine.open_file(9, "qemu", 4, &format!("/srv/jail{}", node.display()));
    let qemu = process(9, "qemu");
    assert_eq!(machine.device("1-4").used_by, Some(UsedBy::Programs(vec![qemu])));
}

#[test]
fn one_interface_in_use_is_enough() {
    let machine = Machine::new();
    let composite = Gadget::new(1, 2).interface(1, 1, 0, Some("snd-usb-audio")).interface(
        3,
        0,
        0,
        Some("usbfs"),
    );
    machine.plug("1-4", &composite);
    assert_eq!(machine.device("1-4").used_by, Some(UsedBy::Programs(vec![])));
}

#[test]
fn a_device_is_used_by_another_machine_or_a_xen_guest() {
    let machine = Machine::new();
    machine.plug("1-3", &Gadget::new(1, 2).interface(8, 6, 0x50, Some("usbback")));
    let exported = machine.plug("1-4", &Gadget::new(1, 2));
    symlink("../../../../../../bus/usb/drivers/usbip-host", exported.join("driver")).unwrap();
    assert_eq!(machine.device("1-3").used_by, Some(UsedBy::XenGuest));
    assert_eq!(machine.device("1-4").used_by, Some(UsedBy::OtherMachine));
}

#[test]
fn each_user_has_a_name() {
    let many = (1..=7).map(|pid| process(pid, "qemu")).collect();
    for (user, text) in [
        (UsedBy::Programs(vec![]), "a program"),
        (UsedBy::Programs(vec![process(7, "")]), "pid 7"),
        (
            UsedBy::Programs(many),
            "qemu (pid 1), qemu (pid 2), qemu (pid 3), qemu (pid 4), qemu (pid 5) and 2 more",
        ),
        (UsedBy::OtherMachine, "another machine (usbip)"),
        (UsedBy::XenGuest, "a Xen guest (usbback)"),
    ] {
        assert_eq!(user.to_string(), text);
    }
}

#[test]
fn a_process_cannot_reach_the_terminal_by_its_name() {
    let machine = Machine::new();
    machine.plug("1-4", &passed_through());
    let node = machine.device("1-4").node();
    machine.open_file(9, "\u{1b}[2J\u{202e}x\nyyyyyyyyyyyyyyyyyyyyy", 4, node.to_str().unwrap());
    let used_by = machine.device("1-4").used_by.unwrap().to_string();
    assert!(!used_by.contains(char::is_control) && used_by.len() < 40, "{used_by}");
}
