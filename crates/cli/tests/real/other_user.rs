//! A real machine whose guest runs as another user. Its QEMU may not open USB devices, so vusb
//! opens the device and passes it to QEMU.

use std::time::Duration;

use crate::passthrough::{machine_of_users, stick};

/// How long a condition may take to come true: emulation within emulation is slow.
const LIMIT: Duration = Duration::from_secs(180);

/// The guest of user 1001. It has no operating system: the test only checks whether QEMU has the
/// device. `setpriv` is run by its path, because the shell has a command of the same name that
/// cannot change the user.
const QEMU: &str = "mkdir -m 755 /run/user1001 && chown 1001:1001 /run/user1001 && \
    /bin/setpriv --reuid=1001 --regid=1001 --clear-groups --inh-caps=-all \
    /usr/bin/qemu-system-x86_64 -machine pc -nodefaults -display none -daemonize -sandbox on \
    -pidfile /run/user1001/pid -device qemu-xhci,id=hci0 -qmp unix:/run/user1001/qmp,server=on,wait=off";

const DOMAIN: &str = "qemu:/run/user1001/qmp";

#[test]
#[ignore = "boots a machine with a guest inside; run by cargo xtask test"]
fn a_qemu_that_may_not_open_a_stick_is_given_it_open() {
    let folder = tempfile::tempdir().unwrap();
    let outer = machine_of_users(&folder.path().join("stick.img"));
    let sh = |script: &str| outer.sh(script, LIMIT).unwrap().ok().unwrap();
    let plug = || {
        outer.plug(stick()).unwrap();
        outer.wait_until("[ -b /dev/sda ]", LIMIT).unwrap();
    };
    plug();
    sh(QEMU);
    let user = sh("grep Uid: /proc/$(cat /run/user1001/pid)/status");
    assert!(user.split_whitespace().skip(1).all(|id| id == "1001"), "{user}");
    // Only root may open it for writing.
    let may_open =
        "/bin/setpriv --reuid=1001 --regid=1001 --clear-groups sh -c '[ -w /dev/bus/usb/002/002 ]'";
    assert!(sh(&format!("{may_open} || echo denied")).contains("denied"));

    // The machine has lost the disk, and QEMU has the device open.
    let output = sh(&format!("vusb device add {DOMAIN} 46f4:0001 --name stick"));
    assert!(output.contains("hci0:1"), "{output}");
    outer.wait_until("[ ! -b /dev/sda ]", LIMIT).unwrap();
    let is_open = "ls -l /proc/$(cat /run/user1001/pid)/fd | grep -c /dev/bus/usb/002";
    assert_ne!(sh(&format!("{is_open} || true")).trim(), "0");
    let list = |more: &str| sh(&format!("vusb device list {DOMAIN} {more}"));
    assert!(list("").contains("46f4:0001"), "{}", list(""));
    // Without the record, the address is the one that QEMU reports.
    let bare = list("--state-dir /tmp/empty");
    assert!(bare.contains("002.") && !bare.contains("usb-host"), "{bare}");

    // Unplugged and plugged in again, at another address.
    outer.unplug("stick").unwrap();
    outer.wait_until(&format!("vusb device list {DOMAIN} | grep -q absent"), LIMIT).unwrap();
    plug();
    let _ = sh(&format!("vusb apply {DOMAIN}"));
    outer.wait_until("[ ! -b /dev/sda ]", LIMIT).unwrap();
    assert!(!list("").contains("absent"), "{}", list(""));

    // Taken back: the machine has the disk again, and QEMU has no descriptor of it.
    let _ = sh(&format!("vusb device remove {DOMAIN} stick"));
    outer.wait_until("[ -b /dev/sda ]", LIMIT).unwrap();
    assert_eq!(sh(&format!("{is_open} || true")).trim(), "0");
}
