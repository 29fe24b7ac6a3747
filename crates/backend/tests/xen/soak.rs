//! A device is attached and detached a thousand times: no resources are leaked.

use serde_json::json;

use crate::support::{Scene, TABLET, TIMEOUT};

/// How many times the device is attached and detached.
const CYCLES: usize = 1_000;
/// Number of cycles before each measurement. Those before the first one allocate memory that is
/// reused later.
const CYCLES_PER_MEASUREMENT: usize = 50;
/// How much the resident memory may grow in KiB, because of the allocator.
const SLACK_KIB: usize = 256;

/// The resources that could be leaked.
#[derive(Debug, PartialEq, Eq)]
struct Resources {
    /// Open files of both processes of the backend.
    files: usize,
    threads: usize,
    /// Event channels of dom0 and of the guest.
    channels: [usize; 2],
    /// Grants of the guest that are in use, as listed by Xen.
    grants: usize,
    store: Vec<String>,
}

fn count(scene: &Scene, command: &str) -> usize {
    scene.dom0(command).trim().parse().unwrap()
}

fn resources(scene: &Scene) -> Resources {
    let id = scene.guest.id().unwrap();
    let channels =
        |domain: u32| count(scene, &format!("/usr/lib/xen-4.17/bin/lsevtchn {domain} | wc -l"));
    let grants = format!(
        "xl dmesg -c >/dev/null; xl debug-keys g; xl dmesg | \
         awk '/grant-table for remote d/ {{ on = ($0 ~ /d{id}[^0-9]/) }} on && /^\\(XEN\\) *\\[ *[0-9]/ {{ n++ }} END {{ print n + 0 }}'"
    );
    let is_constant = |it: &String| !it.contains("/stats") && !it.contains("/data/");
    Resources {
        files: count(scene, "for p in $(pidof vusb-backend); do ls /proc/$p/fd; done | wc -l"),
        threads: count(scene, "for p in $(pidof vusb-backend); do ls /proc/$p/task; done | wc -l"),
        channels: [channels(0), channels(id)],
        grants: count(scene, &grants),
        store: scene.store().into_iter().filter(is_constant).collect(),
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
    scene.host.sh(&command, 2 * TIMEOUT).unwrap().ok().unwrap();
}

#[test]
#[ignore = "takes long; run by cargo xtask soak"]
fn a_thousand_plugs_leave_nothing_behind() {
    let scene = Scene::new(1);
    scene.host.plug(json!({ "driver": "usb-tablet", "id": "tablet" })).unwrap();
    scene.wait_in_dom0("ls /sys/bus/hid/drivers/*/0003:0627:0001.* >/dev/null");
    scene.vusb_ok("controller add xen:u1");
    cycle(&scene, CYCLES_PER_MEASUREMENT);
    let (before, memory) = (resources(&scene), resident(&scene));
    for done in (CYCLES_PER_MEASUREMENT..CYCLES).step_by(CYCLES_PER_MEASUREMENT) {
        cycle(&scene, CYCLES_PER_MEASUREMENT);
        eprintln!("{} cycles: {} KiB resident", done + CYCLES_PER_MEASUREMENT, resident(&scene));
    }
    let seen = scene.in_guest("dmesg | grep -c 'New USB device found, idVendor=0627' || true");
    eprintln!("the guest's log still contains {} of these plugs", seen.trim());
    assert_eq!(resources(&scene), before);
    let now = resident(&scene);
    assert!(now <= memory + SLACK_KIB, "{memory} KiB resident before, {now} KiB after");
}
