//! What happens to a guest that was started without any USB.

use serde_json::json;

use crate::support::{PATIENCE, STICK, Scene, TABLET, disk_of, sum};

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_guest_without_usb_is_given_a_tablet_and_a_stick_and_gives_them_back() {
    let scene = Scene::new(64);
    scene.host.plug(json!({ "driver": "usb-tablet", "id": "tablet" })).unwrap();
    let before = scene.store();
    let there = scene.sum_of_stick();

    assert_eq!(scene.vusb("controller add xen:u1"), ("pv0\n".to_owned(), 0));
    assert_eq!(scene.does(&format!("device add xen:u1 {TABLET}")), "pv0:1");
    assert_eq!(scene.does(&format!("device add xen:u1 {STICK}")), "pv1:1", "one ring for each");

    // The guest, xl and vusb agree.
    scene.guest_until("[ -b /dev/sda ] && ls /dev/input/event* >/dev/null");
    let products = scene.in_guest("cat /sys/bus/usb/devices/*/product");
    assert!(
        products.contains("QEMU USB Tablet") && products.contains("QEMU USB HARDDRIVE"),
        "{products}"
    );
    let shown = scene.host.xl("usb-list u1").unwrap();
    assert_eq!(shown.matches("Bus 00").count(), 2, "{shown}");
    let listed = scene.list("xen:u1");
    assert_eq!(listed["controllers"].as_array().map(Vec::len), Some(2));
    assert_eq!(listed["controllers"][1]["devices"][0]["state"], "attached");
    assert!(listed["controllers"][1]["counters"]["requests"].as_u64() > Some(0), "{listed}");

    // Right both ways: all of it read, and all of it written anew.
    assert_eq!(disk_of(&scene.guest), there);
    let write = "for n in $(seq 0 63); do dd if=/dev/urandom of=/tmp/data bs=1M count=1 2>/dev/null; \
                 dd if=/tmp/data of=/dev/sda bs=1M seek=$n conv=notrunc,fsync 2>/dev/null || exit 1; \
                 cat /tmp/data; done | sha256sum";
    let written = scene.in_guest(write);
    assert_eq!(disk_of(&scene.guest), sum(&written));

    // Taken away in the order that makes each step matter: a device, and a controller with its device.
    scene.does(&format!("device remove xen:u1 {STICK}"));
    scene.dom0_until("[ -b /dev/sda ]");
    assert_eq!(scene.sum_of_stick(), sum(&written), "as the guest wrote it");
    for controller in ["pv1", "pv0"] {
        scene.does(&format!("controller remove xen:u1 {controller} --force"));
    }
    scene.dom0_until("ls /sys/bus/hid/drivers/*/0003:0627:0001.* >/dev/null");
    assert_eq!(scene.store(), before, "nothing is left");
    scene.guest_until("! cat /sys/bus/usb/devices/*/product 2>/dev/null | grep -q QEMU");
    let warnings = scene.dom0("dmesg | grep -A 1 'cut here' || true");
    assert_eq!(warnings, "", "dom0's kernel has nothing to complain of");
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn what_goes_wrong_while_a_guest_reads_is_mended() {
    let scene = Scene::new(16);
    let there = scene.sum_of_stick();
    let right = |scene: &Scene| assert_eq!(disk_of(&scene.guest), there);
    let read_on = |scene: &Scene| {
        scene.in_guest(
            "(setsid sh -c 'while dd if=/dev/sd? of=/dev/null bs=64k; do echo 3 >/proc/sys/vm/drop_caches; done' \
             </dev/null >/dev/null 2>&1 &)",
        );
    };
    scene.does(&format!("device add xen:u1 {STICK}"));
    right(&scene);

    // Pulled out while it is read, and plugged in again: in the same socket it comes back by itself.
    read_on(&scene);
    scene.host.unplug("stick").unwrap();
    scene.guest_until("[ ! -e /dev/sda ]");
    assert_eq!(scene.list("xen:u1")["controllers"][0]["devices"][0]["state"], "absent");
    scene
        .host
        .plug(json!({ "driver": "usb-storage", "id": "stick", "drive": "stick", "port": "1" }))
        .unwrap();
    right(&scene);

    // Paused while it is read.
    read_on(&scene);
    scene.dom0("xl pause u1; sleep 1; xl unpause u1");
    right(&scene);

    // The backend is killed while the stick is read. The next one gives the stick back to dom0; `apply` gives it to the guest again.
    scene.dom0("kill -9 $(pidof vusb-backend)");
    scene.start_backend();
    scene.dom0_until("[ -b /dev/sda ]");
    scene.guest_until("[ ! -b /dev/sda ] && [ ! -b /dev/sdb ]");
    scene.does("apply xen:u1");
    right(&scene);

    // The guest is destroyed while it reads: the stick is dom0's again, and nothing is left.
    read_on(&scene);
    scene.host.xl("destroy u1").unwrap();
    scene.dom0_until("[ -b /dev/sda ]");
    scene.dom0_until("! xenstore-ls -f | grep -q vusb/");
    assert_eq!(scene.sum_of_stick(), there);
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_guest_that_crashes_and_is_started_again_has_its_devices_back() {
    let scene = Scene::new(4);
    let there = scene.sum_of_stick();
    scene.does(&format!("device add xen:u1 {STICK} --name stick"));
    assert_eq!(disk_of(&scene.guest), there);
    let first = scene.guest.id().unwrap();
    let digest = scene.does("digest xen:u1");

    scene.in_guest("(sleep 1; echo c >/proc/sysrq-trigger) </dev/null >/dev/null 2>&1 &");
    scene.dom0_until("! xl domid u1 >/dev/null 2>&1");
    scene.dom0_until("[ -b /dev/sda ] && ! xenstore-ls -f | grep -q vusb/");

    let again = scene.host.new_guest("u1").start().unwrap();
    assert_ne!(again.id().unwrap(), first);
    scene.does("apply xen:u1");
    assert_eq!(disk_of(&again), there);
    assert_eq!(scene.does("digest xen:u1"), digest, "the guest cannot tell");
    assert_eq!(scene.list("xen:u1")["controllers"][0]["devices"][0]["name"], "stick");
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_controller_that_xl_made_on_qemu_is_listed_and_takes_devices() {
    let scene = Scene::new(4);
    let there = scene.sum_of_stick();
    let old = scene.host.new_guest("old").config("usbctrl = ['type=qusb,version=2,ports=4']");
    let old = old.start().unwrap();
    let listed = scene.list("xen:old");
    assert_eq!(listed["controllers"][0]["type"], "pv", "{listed}");
    assert_eq!(listed["controllers"][0]["ports"], 4, "{listed}");
    assert_eq!(scene.does(&format!("device add xen:old {STICK} --controller 0")), "pv0:1");
    assert_eq!(disk_of(&old), there);
    assert!(scene.host.xl("usb-list old").unwrap().contains("Port 1: Bus"));
    scene.does(&format!("device remove xen:old {STICK}"));
    old.wait_until("[ ! -e /dev/sda ]", PATIENCE).unwrap();
    scene.dom0_until("[ -b /dev/sda ]");

    // And one of our own beside it.
    scene.does("controller add xen:old");
    assert_eq!(scene.does(&format!("device add xen:old {STICK} --controller 1")), "pv1:1");
    assert_eq!(disk_of(&old), there);
    old.destroy().unwrap();
    scene.dom0_until("[ -b /dev/sda ] && ! xenstore-ls -f | grep -q -e vusb/ -e qusb/");
}
