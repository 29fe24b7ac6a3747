//! Every kind of device, as the guest's kernel sees it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use vusb_rig::Guest;

use crate::support::{Terminal, WAIT_LIMIT, boot, noise, sees, wait_for};

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn every_kind_of_device_is_seen_by_the_guest() {
    let t = Terminal::new();
    let guest = boot(&t, Guest::builder());
    t.write("stick.img", &noise(4));
    let disk = t.path("disk.qcow2");
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&disk)
        .arg("8M")
        .status();
    assert!(made.unwrap().success());
    std::fs::create_dir(t.path("photos")).unwrap();

    let kinds = [
        ("storage:stick.img,readonly", "2-1 5000 QEMU USB HARDDRIVE usb-storage"),
        ("storage:disk.qcow2", "2-2 5000 QEMU USB HARDDRIVE usb-storage"),
        ("tablet", "1-3 12 QEMU USB Tablet usbhid"),
        ("mouse", "1-4 12 QEMU USB Mouse usbhid"),
        ("keyboard:usbversion=2", "1-5 480 QEMU USB Keyboard usbhid"),
        ("hub", "1-6 12 QEMU USB Hub hub"),
        ("serial:unix:serial,server", "1-7 12 QEMU USB SERIAL ftdi_sio"),
        ("audio", "1-8 12 QEMU USB Audio"),
        ("net", "1-9 12 RNDIS/QEMU USB Network Device"),
        ("mtp:photos", "1-10 480 QEMU filesharing"),
        ("ccid", "1-11 12 QEMU USB CCID"),
    ];
    for (port, (device, _)) in (1..).zip(kinds) {
        assert_eq!(
            t.vusb(&format!("device add qemu:g.qmp {device}")).ok(),
            format!("hci0:{port}"),
            "{device}"
        );
    }
    wait_for(&guest, kinds.len());
    guest.wait_until("[ -c /dev/ttyUSB0 ] && [ -b /dev/sdb ]", WAIT_LIMIT).unwrap();
    let seen = sees(&guest);
    for (device, line) in kinds {
        assert!(seen.iter().any(|seen| seen.starts_with(line)), "{device}: {seen:#?}");
    }

    // The first disk is read-only for the guest, and the second is not.
    assert_eq!(
        guest.sh("cat /sys/block/sda/ro /sys/block/sdb/ro", WAIT_LIMIT).unwrap().ok().unwrap(),
        "1\n0\n"
    );
    // What the guest writes to its adapter arrives at the socket.
    let mut socket = UnixStream::connect(t.path("serial")).unwrap();
    socket.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
    let _ = guest
        .sh("stty -F /dev/ttyUSB0 raw -echo; echo hello > /dev/ttyUSB0", WAIT_LIMIT)
        .unwrap()
        .ok()
        .unwrap();
    let mut heard = [0; 6];
    socket.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello\n");

    for port in (1..=kinds.len()).rev() {
        let _ = t.vusb(&format!("device remove qemu:g.qmp hci0:{port}")).ok();
    }
    wait_for(&guest, 0);
    socket.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    assert_eq!(socket.read(&mut heard).unwrap_or(0), 0, "QEMU closed the socket");
    let _ = socket.write(b"x");
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_redirected_device_without_a_peer_is_absent() {
    let t = Terminal::new();
    let guest = boot(&t, Guest::builder());
    assert_eq!(
        t.vusb("device add qemu:g.qmp redir:unix:redir,server --name remote").ok(),
        "hci0:1"
    );
    let list = t.list("qemu:g.qmp");
    assert_eq!(list["controllers"][0]["devices"][0]["state"], "absent", "{list}");
    assert_eq!(sees(&guest), [""; 0]);
    let _ = t.vusb("device remove qemu:g.qmp remote").ok();
}
