//! What happens to a guest that was started without any USB.

use serde_json::{Value, json};

use crate::support::{PATIENCE, STICK, Scene, TABLET, sum};

/// What `vusb list --json` says of a guest.
fn list(scene: &Scene) -> Value {
    let (text, code) = scene.vusb("list xen:u1 --json");
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_guest_without_usb_is_given_a_tablet_and_a_stick_and_gives_them_back() {
    let scene = Scene::new(64);
    scene.host.plug(json!({ "driver": "usb-tablet", "id": "tablet" })).unwrap();
    let before = scene.store();
    let there = scene.dom0("sha256sum /dev/sda");

    assert_eq!(scene.vusb("controller add xen:u1"), ("pv0\n".to_owned(), 0));
    let (said, code) = scene.vusb(&format!("device add xen:u1 {TABLET}"));
    assert_eq!((said.trim_end(), code), ("pv0:1", 0));
    let (said, code) = scene.vusb(&format!("device add xen:u1 {STICK}"));
    assert_eq!((said.lines().last(), code), (Some("pv1:1"), 0), "one ring for each: {said}");

    // The guest, xl and vusb agree.
    scene.guest_until("[ -b /dev/sda ] && ls /dev/input/event* >/dev/null");
    let products = scene.in_guest("cat /sys/bus/usb/devices/*/product");
    assert!(
        products.contains("QEMU USB Tablet") && products.contains("QEMU USB HARDDRIVE"),
        "{products}"
    );
    let shown = scene.host.xl("usb-list u1").unwrap();
    assert_eq!(shown.matches("Bus 00").count(), 2, "{shown}");
    let listed = list(&scene);
    assert_eq!(listed["controllers"].as_array().map(Vec::len), Some(2));
    assert_eq!(listed["controllers"][1]["devices"][0]["state"], "attached");
    assert!(listed["controllers"][1]["counters"]["requests"].as_u64() > Some(0), "{listed}");

    // Right both ways: all of it read, and other data written.
    assert_eq!(sum(&scene.in_guest("sha256sum /dev/sda")), sum(&there));
    let write = "for n in $(seq 16); do dd if=/dev/urandom of=/tmp/data bs=1M count=1 2>/dev/null; \
                 dd if=/tmp/data of=/dev/sda bs=1M seek=$n conv=notrunc,fsync 2>/dev/null || exit 1; done; \
                 echo 3 >/proc/sys/vm/drop_caches; sha256sum /dev/sda";
    let written = scene.in_guest(write);
    assert_ne!(sum(&written), sum(&there));

    // Taken away in the order that makes each step matter: a device, and a controller with its device.
    let (said, code) = scene.vusb(&format!("device remove xen:u1 {STICK}"));
    assert_eq!(code, 0, "{said}");
    scene.host.wait_until("[ -b /dev/sda ]", PATIENCE).unwrap();
    assert_eq!(sum(&scene.dom0("sha256sum /dev/sda")), sum(&written), "as the guest wrote it");
    for controller in ["pv1", "pv0"] {
        let (said, code) = scene.vusb(&format!("controller remove xen:u1 {controller} --force"));
        assert_eq!(code, 0, "{said}");
    }
    scene
        .host
        .wait_until("ls /sys/bus/hid/drivers/*/0003:0627:0001.* >/dev/null", PATIENCE)
        .unwrap();
    assert_eq!(scene.store(), before, "nothing is left");
    scene.guest_until("! cat /sys/bus/usb/devices/*/product 2>/dev/null | grep -q QEMU");
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn what_goes_wrong_while_a_guest_reads_is_mended() {
    let scene = Scene::new(16);
    let there = scene.dom0("sha256sum /dev/sda");
    let right = |scene: &Scene| {
        scene.guest_until("[ -b /dev/sd? ]");
        let read = scene.in_guest("echo 3 >/proc/sys/vm/drop_caches; sha256sum /dev/sd?");
        assert_eq!(sum(&read), sum(&there));
    };
    let read_on =
        "(setsid dd if=/dev/sda of=/dev/null bs=64k iflag=direct </dev/null >/dev/null 2>&1 &)";
    assert_eq!(scene.vusb(&format!("device add xen:u1 {STICK}")).1, 0);
    right(&scene);

    // Pulled out while it is read, and plugged in again: it comes back by itself.
    scene.in_guest(read_on);
    scene.host.unplug("stick").unwrap();
    scene.guest_until("[ ! -e /dev/sda ]");
    assert_eq!(list(&scene)["controllers"][0]["devices"][0]["state"], "absent");
    scene.host.plug(json!({ "driver": "usb-storage", "id": "stick", "drive": "stick" })).unwrap();
    right(&scene);

    // Paused while it is read.
    scene.in_guest(read_on);
    scene.dom0("xl pause u1; sleep 1; xl unpause u1");
    right(&scene);

    // The backend is killed while it is read. The next one gives the stick back to dom0; `apply` gives it to the guest again.
    scene.in_guest(
        "(setsid dd if=/dev/sd? of=/dev/null bs=64k iflag=direct </dev/null >/dev/null 2>&1 &)",
    );
    scene.dom0("kill -9 $(pidof vusb-backend)");
    scene.start_backend();
    scene.host.wait_until("[ -b /dev/sda ]", PATIENCE).unwrap();
    scene.guest_until("[ ! -b /dev/sda ] && [ ! -b /dev/sdb ]");
    let (said, code) = scene.vusb("apply xen:u1");
    assert_eq!(code, 0, "{said}");
    right(&scene);

    // The guest is destroyed while it reads: the stick is dom0's again, and nothing is left.
    scene.in_guest(
        "(setsid dd if=/dev/sd? of=/dev/null bs=64k iflag=direct </dev/null >/dev/null 2>&1 &)",
    );
    scene.host.xl("destroy u1").unwrap();
    scene.host.wait_until("[ -b /dev/sda ]", PATIENCE).unwrap();
    scene.host.wait_until("! xenstore-ls -f | grep -q vusb/", PATIENCE).unwrap();
    assert_eq!(sum(&scene.dom0("sha256sum /dev/sda")), sum(&there));
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn what_cannot_be_done_is_said_and_leaves_nothing_behind() {
    let scene = Scene::new(1);
    let before = scene.store();
    let fails = |arguments: &str, code: i32, words: &str| {
        let (said, ended) = scene.vusb(arguments);
        assert_eq!(ended, code, "vusb {arguments}: {said}");
        assert!(said.contains(words), "vusb {arguments}: {said}");
        assert_eq!(scene.store(), before, "vusb {arguments}");
    };
    fails("controller add xen:nobody", 3, "nobody");
    fails("controller add xen:77", 3, "77");
    fails("device add xen:u1 1234:5678", 3, "1234:5678");
    fails("device add xen:u1 tablet", 9, "PVUSB");
    fails("controller add xen:u1 --usbversion 3 --type pv", 9, "xenusb3");
    fails("controller add xen:u1 --ports 32", 2, "31");
    scene.host.plug(json!({ "driver": "usb-hub", "id": "hub", "port": "3" })).unwrap();
    scene.host.wait_until("grep -q 0409 /sys/bus/usb/devices/*/idVendor", PATIENCE).unwrap();
    fails("device add xen:u1 0409:55aa", 5, "hub");
    scene.dom0("kill $(pidof vusb-backend); while pidof vusb-backend; do sleep 0.1; done");
    fails("controller add xen:u1", 7, "systemctl start vusb-backend");
}
