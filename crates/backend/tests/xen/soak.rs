//! A thousand times in and out: nothing is left of it.

use serde_json::json;

use crate::support::{PATIENCE, Scene, TABLET};

/// How often the device is given to the guest and taken back.
const CYCLES: usize = 1_000;
/// How often before the first look: until then memory is taken that is used again.
const WARM: usize = 50;
/// How much more memory may be resident after all cycles than after the first, in KiB: the allocator's own affairs.
const SLACK_KIB: usize = 256;

/// What could be left behind.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    /// Open files of both processes of the backend.
    files: usize,
    threads: usize,
    /// Event channels of dom0 and of the guest.
    channels: [usize; 2],
    /// Pages of the guest that somebody has mapped or is copying, as Xen lists them.
    grants: usize,
    store: Vec<String>,
}

fn count(scene: &Scene, command: &str) -> usize {
    scene.dom0(command).trim().parse().unwrap()
}

fn left(scene: &Scene) -> Left {
    let id = scene.guest.id().unwrap();
    let channels =
        |domain: u32| count(scene, &format!("/usr/lib/xen-4.17/bin/lsevtchn {domain} | wc -l"));
    let grants = format!(
        "xl dmesg -c >/dev/null; xl debug-keys g; xl dmesg | \
         awk '/grant-table for remote d/ {{ on = ($0 ~ /d{id}[^0-9]/) }} on && /^\\(XEN\\) *\\[ *[0-9]/ {{ n++ }} END {{ print n + 0 }}'"
    );
    let lines = |it: &String| !it.contains("/stats") && !it.contains("/data/");
    Left {
        files: count(scene, "for p in $(pidof vusb-backend); do ls /proc/$p/fd; done | wc -l"),
        threads: count(scene, "for p in $(pidof vusb-backend); do ls /proc/$p/task; done | wc -l"),
        channels: [channels(0), channels(id)],
        grants: count(scene, &grants),
        store: scene.store().into_iter().filter(lines).collect(),
    }
}

fn resident(scene: &Scene) -> usize {
    count(
        scene,
        "for p in $(pidof vusb-backend); do awk '/^VmRSS/ {print $2}' /proc/$p/status; done | awk '{n += $1} END {print n}'",
    )
}

fn cycle(scene: &Scene, times: usize) {
    let command = format!(
        "for n in $(seq {times}); do vusb -q device add xen:u1 {TABLET} && vusb -q device remove xen:u1 {TABLET} || exit 1; done"
    );
    scene.host.sh(&command, 2 * PATIENCE).unwrap().ok().unwrap();
}

#[test]
#[ignore = "takes long; run by cargo xtask soak"]
fn a_thousand_plugs_leave_nothing_behind() {
    let scene = Scene::new(1);
    scene.host.plug(json!({ "driver": "usb-tablet", "id": "tablet" })).unwrap();
    scene.dom0_until("ls /sys/bus/hid/drivers/*/0003:0627:0001.* >/dev/null");
    scene.does("controller add xen:u1");
    cycle(&scene, WARM);
    let (before, memory) = (left(&scene), resident(&scene));
    for done in (WARM..CYCLES).step_by(WARM) {
        cycle(&scene, WARM);
        eprintln!("{} cycles: {} KiB resident", done + WARM, resident(&scene));
    }
    let seen = scene.in_guest("dmesg | grep -c 'New USB device found, idVendor=0627' || true");
    eprintln!("the guest's log still has {} of them", seen.trim());
    assert_eq!(left(&scene), before);
    let now = resident(&scene);
    assert!(now <= memory + SLACK_KIB, "{memory} KiB resident before, {now} KiB after");
}
