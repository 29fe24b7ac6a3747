//! Controllers and devices on a running guest.

use vusb_rig::Guest;

use crate::support::{SHORT, Terminal, boot, noise, sees, wait_for};

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_guest_without_usb_is_given_some_and_loses_it_again() {
    let t = Terminal::new();
    let guest = boot(&t, Guest::builder());
    assert_eq!(sees(&guest), [""; 0]);

    // A stick alone: a controller is added for it, and said so.
    let sum = t.write("stick.img", &noise(1));
    let said = t.vusb("device add qemu:g.qmp storage:stick.img --name stick");
    assert!(said.err.contains("hci0"), "{}", said.err);
    assert_eq!(said.ok(), "hci0:1");
    guest.wait_until("[ -b /dev/sda ]", SHORT).unwrap();
    let read = guest.sh("sha256sum /dev/sda", SHORT).unwrap().ok().unwrap();
    assert!(read.starts_with(&sum), "{read}");

    // What is there already is already so.
    let again = t.vusb("device add qemu:g.qmp storage:stick.img --name stick");
    assert!(again.err.contains("already"), "{}", again.err);
    assert_eq!(again.ok(), "hci0:1");

    // A hub, and a tablet behind it.
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

    // A controller with devices on it is not pulled out from under them.
    let error = t.vusb("controller remove qemu:g.qmp hci0").failed(4);
    assert!(error.contains("stick") && error.contains("force"), "{error}");

    assert_eq!(t.vusb("device remove qemu:g.qmp hci0:2.1").code, Some(0));
    assert_eq!(t.vusb("device remove qemu:g.qmp hub0").code, Some(0));
    assert_eq!(t.vusb("device remove qemu:g.qmp stick").code, Some(0));
    wait_for(&guest, 0);
    let _ = t.vusb("controller remove qemu:g.qmp hci0 --timeout 60").ok();
    guest.wait_until("! ls -d /sys/bus/usb/devices/usb*", SHORT).unwrap();
    assert_eq!(t.list("qemu:g.qmp")["controllers"], serde_json::json!([]));
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn by_force_a_controller_goes_with_all_that_is_on_it() {
    let t = Terminal::new();
    let guest = boot(&t, Guest::builder());
    t.write("stick.img", &noise(2));
    let _ = t.vusb("controller add qemu:g.qmp --model nec-xhci --name nec").ok();
    let _ = t.vusb("device add qemu:g.qmp hub --controller nec").ok();
    let _ = t.vusb("device add qemu:g.qmp mouse --controller nec --port 1.8").ok();
    let _ = t.vusb("device add qemu:g.qmp storage:stick.img").ok();
    wait_for(&guest, 3);
    // A dry run says the same steps, and takes none.
    let planned = t.vusb("controller remove qemu:g.qmp nec --force --dry-run").ok();
    assert_eq!(sees(&guest).len(), 3);
    assert_eq!(planned.lines().count(), 4, "{planned}");
    let _ = t.vusb("controller remove qemu:g.qmp nec --force --timeout 60").ok();
    guest.wait_until("! ls -d /sys/bus/usb/devices/usb*", SHORT).unwrap();
}

#[test]
#[ignore = "boots guests; run by cargo xtask test"]
fn a_restarted_guest_gets_back_what_it_had() {
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
    second.wait_until("[ -b /dev/sda ]", SHORT).unwrap();
    assert!(second.sh("sha256sum /dev/sda", SHORT).unwrap().ok().unwrap().starts_with(&sum));
    let again = t.vusb("apply qemu:g.qmp");
    assert!(again.err.contains("already"), "{}", again.err);
    let _ = again.ok();
}
