//! Scenarios with a guest that was started without USB.

use serde_json::json;

use crate::support::{STICK, Scene, TABLET, TIMEOUT, checksum, disk_checksum};

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_tablet_and_a_stick_are_attached_used_and_detached() {
    let scene = Scene::new(64);
    scene.host.plug(json!({ "driver": "usb-tablet", "id": "tablet" })).unwrap();
    let before = scene.store();
    let stick_in_dom0 = scene.stick_checksum();

    assert_eq!(scene.vusb("controller add xen:u1"), ("pv0\n".to_owned(), 0));
    assert_eq!(scene.vusb_ok(&format!("device add xen:u1 {TABLET}")), "pv0:1");
    assert_eq!(
        scene.vusb_ok(&format!("device add xen:u1 {STICK}")),
        "pv1:1",
        "each device gets its own ring"
    );

    // The guest, xl and vusb show the same devices.
    scene.wait_in_guest("[ -b /dev/sda ] && ls /dev/input/event* >/dev/null");
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

    // The whole stick is read correctly, and then overwritten.
    assert_eq!(disk_checksum(&scene.guest), stick_in_dom0);
    let write = "for n in $(seq 0 63); do dd if=/dev/urandom of=/tmp/data bs=1M count=1 2>/dev/null; \
                 dd if=/tmp/data of=/dev/sda bs=1M seek=$n conv=notrunc,fsync 2>/dev/null || exit 1; \
                 cat /tmp/data; done | sha256sum";
    let written = scene.in_guest(write);
    assert_eq!(disk_checksum(&scene.guest), checksum(&written));

    // Remove a device, then a controller together with its device.
    scene.vusb_ok(&format!("device remove xen:u1 {STICK}"));
    scene.wait_in_dom0("[ -b /dev/sda ]");
    assert_eq!(scene.stick_checksum(), checksum(&written), "as the guest wrote it");
    for controller in ["pv1", "pv0"] {
        scene.vusb_ok(&format!("controller remove xen:u1 {controller} --force"));
    }
    scene.wait_in_dom0("ls /sys/bus/hid/drivers/*/0003:0627:0001.* >/dev/null");
    assert_eq!(scene.store(), before, "nodes are left behind");
    scene.wait_in_guest("! cat /sys/bus/usb/devices/*/product 2>/dev/null | grep -q QEMU");
    let warnings = scene.dom0("dmesg | grep -A 1 'cut here' || true");
    assert_eq!(warnings, "", "dom0's kernel logged warnings");
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_guest_recovers_from_failures_while_it_reads() {
    let scene = Scene::new(16);
    let stick_in_dom0 = scene.stick_checksum();
    let stick_is_readable = |scene: &Scene| assert_eq!(disk_checksum(&scene.guest), stick_in_dom0);
    let read_on = |scene: &Scene| {
        scene.in_guest(
            "(setsid sh -c 'while dd if=/dev/sd? of=/dev/null bs=64k; do echo 3 >/proc/sys/vm/drop_caches; done' \
             </dev/null >/dev/null 2>&1 &)",
        );
    };
    scene.vusb_ok(&format!("device add xen:u1 {STICK}"));
    stick_is_readable(&scene);

    // Unplugged while it is read, and plugged in again at the same port: it is attached
    // automatically.
    read_on(&scene);
    scene.host.unplug("stick").unwrap();
    scene.wait_in_guest("[ ! -e /dev/sda ]");
    assert_eq!(scene.list("xen:u1")["controllers"][0]["devices"][0]["state"], "absent");
    scene
        .host
        .plug(json!({ "driver": "usb-storage", "id": "stick", "drive": "stick", "port": "1" }))
        .unwrap();
    stick_is_readable(&scene);

    // Paused while it is read.
    read_on(&scene);
    scene.dom0("xl pause u1; sleep 1; xl unpause u1");
    stick_is_readable(&scene);

    // The backend is killed while the stick is read. The next backend returns the stick to dom0,
    // and `apply` attaches it to the guest again.
    scene.dom0("kill -9 $(pidof vusb-backend)");
    scene.start_backend();
    scene.wait_in_dom0("[ -b /dev/sda ]");
    scene.wait_in_guest("[ ! -b /dev/sda ] && [ ! -b /dev/sdb ]");
    scene.vusb_ok("apply xen:u1");
    stick_is_readable(&scene);

    // The guest is destroyed while it reads: dom0 gets the stick back, and no nodes are left
    // behind.
    read_on(&scene);
    scene.host.xl("destroy u1").unwrap();
    scene.wait_in_dom0("[ -b /dev/sda ]");
    scene.wait_in_dom0("! xenstore-ls -f | grep -q vusb/");
    assert_eq!(scene.stick_checksum(), stick_in_dom0);
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_restarted_guest_gets_its_devices_back() {
    let scene = Scene::new(4);
    let stick_in_dom0 = scene.stick_checksum();
    scene.vusb_ok(&format!("device add xen:u1 {STICK} --name stick"));
    assert_eq!(disk_checksum(&scene.guest), stick_in_dom0);
    let first = scene.guest.id().unwrap();
    let digest = scene.vusb_ok("digest xen:u1");

    scene.in_guest("(sleep 1; echo c >/proc/sysrq-trigger) </dev/null >/dev/null 2>&1 &");
    scene.wait_in_dom0("! xl domid u1 >/dev/null 2>&1");
    scene.wait_in_dom0("[ -b /dev/sda ] && ! xenstore-ls -f | grep -q vusb/");

    let again = scene.host.new_guest("u1").start().unwrap();
    assert_ne!(again.id().unwrap(), first);
    scene.vusb_ok("apply xen:u1");
    assert_eq!(disk_checksum(&again), stick_in_dom0);
    assert_eq!(scene.vusb_ok("digest xen:u1"), digest, "the guest sees the same hardware");
    assert_eq!(scene.list("xen:u1")["controllers"][0]["devices"][0]["name"], "stick");
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_qemu_controller_created_by_xl_is_listed_and_accepts_devices() {
    let scene = Scene::new(4);
    let stick_in_dom0 = scene.stick_checksum();
    let old = scene.host.new_guest("old").config("usbctrl = ['type=qusb,version=2,ports=4']");
    let old = old.start().unwrap();
    let listed = scene.list("xen:old");
    assert_eq!(listed["controllers"][0]["type"], "pv", "{listed}");
    assert_eq!(listed["controllers"][0]["ports"], 4, "{listed}");
    assert_eq!(scene.vusb_ok(&format!("device add xen:old {STICK} --controller 0")), "pv0:1");
    assert_eq!(disk_checksum(&old), stick_in_dom0);
    assert!(scene.host.xl("usb-list old").unwrap().contains("Port 1: Bus"));
    scene.vusb_ok(&format!("device remove xen:old {STICK}"));
    old.wait_until("[ ! -e /dev/sda ]", TIMEOUT).unwrap();
    scene.wait_in_dom0("[ -b /dev/sda ]");

    // A controller of vusb-backend can be added to the same guest.
    scene.vusb_ok("controller add xen:old");
    assert_eq!(scene.vusb_ok(&format!("device add xen:old {STICK} --controller 1")), "pv1:1");
    assert_eq!(disk_checksum(&old), stick_in_dom0);
    old.destroy().unwrap();
    scene.wait_in_dom0("[ -b /dev/sda ] && ! xenstore-ls -f | grep -q -e vusb/ -e qusb/");
}
