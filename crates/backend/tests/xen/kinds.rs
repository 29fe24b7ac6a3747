//! Guests that are not PV.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use serde_json::json;
use vusb_rig::xen::{GuestKind, lost_a_guest};

use crate::support::{STICK, Scene, TABLET, disk_of};

/// How often a story is told at most: QEMU loses a guest of these kinds now and then.
const TRIES: u32 = 4;

/// Tells a story with a guest of a kind; anew, on another machine, if QEMU's emulated processor lost the guest. Any other
/// failure is one.
fn tell(kind: GuestKind, story: fn(&Scene)) {
    for tries_left in (0..TRIES).rev() {
        let scene = Scene::with(16, |it| it.ready_guest_of(kind, &[]));
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| story(&scene))) else { return };
        if tries_left == 0 || !lost_a_guest(&scene.host.console()) {
            resume_unwind(panic);
        }
        eprintln!("QEMU lost the guest; once more");
    }
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_pvh_guest_is_given_a_stick() {
    tell(GuestKind::Pvh, a_stick);
}

fn a_stick(scene: &Scene) {
    let before = scene.store();
    let there = scene.sum_of_stick();
    assert_eq!(scene.does("controller add xen:u1"), "pv0");
    assert_eq!(scene.does(&format!("device add xen:u1 {STICK}")), "pv0:1");
    assert_eq!(disk_of(&scene.guest), there);
    assert!(scene.host.xl("usb-list u1").unwrap().contains("Port 1: Bus"));
    scene.does(&format!("device remove xen:u1 {STICK}"));
    scene.does("controller remove xen:u1 pv0");
    assert_eq!(scene.store(), before);
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn an_hvm_guest_has_a_controller_of_each_type_and_a_device_on_each() {
    tell(GuestKind::Hvm, a_controller_of_each_type);
}

fn a_controller_of_each_type(scene: &Scene) {
    scene.host.plug(json!({ "driver": "usb-tablet", "id": "tablet" })).unwrap();
    let before = scene.store();
    let there = scene.sum_of_stick();
    assert_eq!(scene.does("controller add xen:u1 --type pv --timeout 60"), "pv0");
    // An HVM guest has emulated ones unless it is asked otherwise.
    assert_eq!(scene.does("controller add xen:u1 --timeout 60"), "hci0");
    let add = format!("device add xen:u1 {STICK} --controller pv0 --timeout 120");
    assert_eq!(scene.does(&add), "pv0:1");
    let add = format!("device add xen:u1 {TABLET} --controller hci0 --timeout 60");
    assert_eq!(scene.does(&add), "hci0:1");
    assert_eq!(disk_of(&scene.guest), there);
    scene.guest_until("cat /sys/bus/usb/devices/*/product | grep -q Tablet");

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
        scene.does(line);
    }
    scene.guest_until("! cat /sys/bus/usb/devices/*/product | grep -q -e Tablet -e HARDDRIVE");
    assert_eq!(scene.store(), before);
}
