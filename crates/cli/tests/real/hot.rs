//! Controllers and devices on a running guest.

use vusb_rig::Guest;

use crate::support::{Terminal, WAIT_LIMIT, boot, noise, sees, wait_for};

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn usb_is_added_to_a_running_guest_and_removed_again() {
    let t = Terminal::new();
    let guest = boot(&t, Guest::builder());
    assert_eq!(sees(&guest), [""; 0]);

    // A stick comes with a controller, which is reported.
    let sum = t.write("stick.img", &noise(1));
    let ran = t.vusb("device add qemu:g.qmp storage:stick.img --name stick");
    assert!(ran.err.contains("hci0"), "{}", ran.err);
    assert_eq!(ran.ok(), "hci0:1");
    guest.wait_until("[ -b /dev/sda ]", WAIT_LIMIT).unwrap();
    let read = guest.sh("sha256sum /dev/sda", WAIT_LIMIT).unwrap().ok().unwrap();
    assert!(read.starts_with(&sum), "{read}");

    // Repeating a request changes nothing.
    let again = t.vusb("device add qemu:g.qmp storage:stick.img --name stick");
    assert!(again.err.contains("already"), "{}", again.err);
    assert_eq!(again.ok(), "hci0:1");

    // A hub with a tablet behind it.
    assert_eq!(t.vusb("device add qemu:g.qmp hub").ok(), "hci0:2");
    assert_eq!(
        t.vusb("device add qemu:g.qmp tablet --controller hci0 --port 2.1").ok(),
        "hci0:2.1"
    );
    wait_for(&guest, 3);
    assert_eq!(
        sees(&guest),
        [
            "1-2 12 QEMU USB Hub hub",
            "1-2.1 12 QEMU USB Tablet usbhid",
            "2-1 5000 QEMU USB HARDDRIVE usb-storage"
        ]
    );

    // A controller with devices is not removed.
    let error = t.vusb("controller remove qemu:g.qmp hci0").failed(4);
    assert!(error.contains("stick") && error.contains("force"), "{error}");

    assert_eq!(t.vusb("device remove qemu:g.qmp hci0:2.1").code, Some(0));
    assert_eq!(t.vusb("device remove qemu:g.qmp hub0").code, Some(0));
    assert_eq!(t.vusb("device remove qemu:g.qmp stick").code, Some(0));
    wait_for(&guest, 0);
    let _ = t.vusb("controller remove qemu:g.qmp hci0 --timeout 60").ok();
    guest.wait_until("! ls -d /sys/bus/usb/devices/usb*", WAIT_LIMIT).unwrap();
    assert_eq!(t.list("qemu:g.qmp")["controllers"], serde_json::json!([]));
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn force_removes_a_controller_with_its_devices() {
    let t = Terminal::new();
    let guest = boot(&t, Guest::builder());
    t.write("stick.img", &noise(2));
    let _ = t.vusb("controller add qemu:g.qmp --model nec-xhci --name nec").ok();
    let _ = t.vusb("device add qemu:g.qmp hub --controller nec").ok();
    let _ = t.vusb("device add qemu:g.qmp mouse --controller nec --port 1.8").ok();
    let _ = t.vusb("device add qemu:g.qmp storage:stick.img").ok();
    wait_for(&guest, 3);
    // A dry run prints the same steps, and performs none.
    let planned = t.vusb("controller remove qemu:g.qmp nec --force --dry-run").ok();
    assert_eq!(sees(&guest).len(), 3);
    assert_eq!(planned.lines().count(), 4, "{planned}");
    let _ = t.vusb("controller remove qemu:g.qmp nec --force --timeout 60").ok();
    guest.wait_until("! ls -d /sys/bus/usb/devices/usb*", WAIT_LIMIT).unwrap();
}

#[test]
#[ignore = "boots guests; run by cargo xtask test"]
fn a_restarted_guest_gets_its_devices_back() {
    let t = Terminal::new();
    let sum = t.write("stick.img", &noise(3));
    let first = boot(&t, Guest::builder());
    let _ = t.vusb("controller add qemu:g.qmp --model ehci --index 3 --name fast").ok();
    let _ = t.vusb("device add qemu:g.qmp storage:stick.img --controller fast --port 5").ok();
    let _ = t.vusb("device add qemu:g.qmp keyboard").ok();
    let before = t.vusb("digest qemu:g.qmp").ok();
    drop(first);

    let second = boot(&t, Guest::builder());
    let states = |t: &Terminal| {
        let list = t.list("qemu:g.qmp").to_string();
        (list.matches("\"missing\"").count(), list.matches("\"attached\"").count())
    };
    assert_eq!(states(&t).1, 0);
    let _ = t.vusb("apply qemu:g.qmp").ok();
    assert_eq!(states(&t), (0, 2));
    assert_eq!(t.vusb("digest qemu:g.qmp").ok(), before);
    wait_for(&second, 2);
    second.wait_until("[ -b /dev/sda ]", WAIT_LIMIT).unwrap();
    assert!(second.sh("sha256sum /dev/sda", WAIT_LIMIT).unwrap().ok().unwrap().starts_with(&sum));
    let again = t.vusb("apply qemu:g.qmp");
    assert!(again.err.contains("nothing to do"), "{}", again.err);
    let _ = again.ok();
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_spec_removes_what_it_had_and_keeps_what_was_added_by_hand() {
    let t = Terminal::new();
    let guest = boot(&t, Guest::builder());
    let begin = "domain = \"web1\"\ndriver = \"qemu:g.qmp\"\n[[controller]]\nusbversion = 3\n";
    let device = |kind: &str| format!("[[device]]\nkind = \"{kind}\"\n");
    t.write("more.toml", (begin.to_owned() + &device("tablet") + &device("keyboard")).as_bytes());
    t.write("less.toml", (begin.to_owned() + &device("tablet")).as_bytes());
    let _ = t.vusb("apply more.toml").ok();
    assert_eq!(t.vusb("device add web1 mouse --name pen").ok(), "hci0:3");
    wait_for(&guest, 3);

    let ran = t.vusb("apply less.toml");
    assert!(
        ran.err.contains("removed keyboard0 (hci0:2): the spec no longer has it"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("kept: added by hand and not in the spec: pen"), "{}", ran.err);
    let _ = ran.ok();
    wait_for(&guest, 2);

    let ran = t.vusb("apply less.toml --prune");
    assert!(ran.err.contains("removed pen (hci0:3)"), "{}", ran.err);
    let _ = ran.ok();
    wait_for(&guest, 1);

    // The record outlives the guest.
    drop(guest);
    assert_eq!(t.list("web1")["state"], "gone");
    let _ = t.vusb("domain forget web1").ok();
    let _ = t.vusb("list web1").failed(3);
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_monitor_that_serves_another_program_is_busy() {
    let t = Terminal::new();
    let guest = boot(&t, Guest::builder());
    let _held = std::os::unix::net::UnixStream::connect(guest.qmp_socket()).unwrap();
    let error = t.vusb("list qemu:g.qmp --timeout 2").failed(4);
    let own = format!("(pid {}) is connected to its monitor", std::process::id());
    assert!(error.contains(&own) && error.contains("second `-qmp` socket"), "{error}");
}
