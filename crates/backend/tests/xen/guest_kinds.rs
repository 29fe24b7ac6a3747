//! Guests that are not PV.

use std::time::Duration;

use serde_json::json;
use vusb_rig::xen::{GuestKind, is_guest_lost, run_with_retry};

use crate::support::{STICK, Scene, TABLET, disk_checksum};

/// How long a guest that runs may take to reply.
const SHELL_LIMIT: Duration = Duration::from_secs(60);

/// Runs a scenario with a guest of this kind, on a new machine if QEMU lost the guest.
fn with_guest(kind: GuestKind, scenario: fn(&Scene)) {
    let start = || Scene::with(16, |it| it.ready_guest_of(kind, &[]));
    run_with_retry(start, is_lost, scenario);
}

/// Whether the emulated processor has lost the guest: Xen reports it, or the guest has stopped, so
/// that not even its shell replies. A transfer that hangs does not stop the shell. PV guests run
/// the same scenarios, and those are never repeated.
fn is_lost(scene: &Scene) -> bool {
    is_guest_lost(&scene.host.console()) || scene.guest.sh("true", SHELL_LIMIT).is_err()
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_pvh_guest_can_use_a_stick() {
    with_guest(GuestKind::Pvh, a_stick);
}

fn a_stick(scene: &Scene) {
    let before = scene.store();
    let stick_in_dom0 = scene.stick_checksum();
    assert_eq!(scene.vusb_ok("controller add xen:u1"), "pv0");
    assert_eq!(scene.vusb_ok(&format!("device add xen:u1 {STICK}")), "pv0:1");
    assert_eq!(disk_checksum(&scene.guest), stick_in_dom0);
    assert!(scene.host.xl("usb-list u1").unwrap().contains("Port 1: Bus"));
    scene.vusb_ok(&format!("device remove xen:u1 {STICK}"));
    scene.vusb_ok("controller remove xen:u1 pv0");
    assert_eq!(scene.store(), before);
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn an_hvm_guest_has_a_controller_of_each_type_and_a_device_on_each() {
    with_guest(GuestKind::Hvm, a_controller_of_each_type);
}

fn a_controller_of_each_type(scene: &Scene) {
    scene.host.plug(json!({ "driver": "usb-tablet", "id": "tablet" })).unwrap();
    let before = scene.store();
    let stick_in_dom0 = scene.stick_checksum();
    assert_eq!(scene.vusb_ok("controller add xen:u1 --type pv --timeout 60"), "pv0");
    // The default type for an HVM guest is emulated.
    assert_eq!(scene.vusb_ok("controller add xen:u1 --timeout 60"), "hci0");
    let add = format!("device add xen:u1 {STICK} --controller pv0 --timeout 120");
    assert_eq!(scene.vusb_ok(&add), "pv0:1");
    let add = format!("device add xen:u1 {TABLET} --controller hci0 --timeout 60");
    assert_eq!(scene.vusb_ok(&add), "hci0:1");
    assert_eq!(disk_checksum(&scene.guest), stick_in_dom0);
    scene.wait_in_guest("cat /sys/bus/usb/devices/*/product | grep -q Tablet");

    let listed = scene.list("xen:u1");
    let types: Vec<_> = (0..2).map(|n| listed["controllers"][n]["type"].clone()).collect();
    assert_eq!(types, ["pv", "emulated"], "{listed}");
    let shown = scene.host.xl("usb-list u1").unwrap();
    assert_eq!(shown.matches("Bus 00").count(), 2, "{shown}");

    for line in [
        &format!("device remove xen:u1 {STICK} --timeout 60"),
        &format!("device remove xen:u1 {TABLET} --timeout 60"),
        "controller remove xen:u1 pv0 --timeout 60",
        "controller remove xen:u1 hci0 --timeout 60",
    ] {
        scene.vusb_ok(line);
    }
    scene.wait_in_guest("! cat /sys/bus/usb/devices/*/product | grep -q -e Tablet -e HARDDRIVE");
    assert_eq!(scene.store(), before);
}
