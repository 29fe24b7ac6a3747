//! Two users of a real machine, each with a guest, want one stick at the same time.
//!
//! The machine (L1) is a guest itself, so that it has a USB device that nothing else needs.

use std::time::Duration;

use vusb_rig::nested::INNER_QMP;

use crate::passthrough::{machine_of_users, stick};

/// How long a condition may take to come true: emulation within emulation is slow.
const LIMIT: Duration = Duration::from_secs(180);

/// The monitor of the second guest.
const SECOND: &str = "/run/second.qmp";

/// The second guest. Its processors are not started: the test only checks who gets the device.
const SECOND_QEMU: &str = "/usr/bin/qemu-system-x86_64 -machine pc -nodefaults -display none -S -daemonize \
    -pidfile /run/second.pid -device qemu-xhci,id=hci0 -qmp unix:/run/second.qmp,server=on,wait=off \
    && chmod 666 /run/second.qmp";

/// Root gives the stick to the first guest, and user 1001 to the second.
const FIRST_ADD: &str = "vusb --state-dir /tmp/a/state device add qemu:/run/inner.qmp 46f4:0001";
/// `setpriv` is run by its path, because the shell has a command of the same name that cannot
/// change the user.
const SECOND_ADD: &str = "/bin/setpriv --reuid=1001 --regid=1001 --clear-groups \
    vusb --state-dir /tmp/b/state device add qemu:/run/second.qmp 46f4:0001";

#[test]
#[ignore = "boots a machine with guests inside; run by cargo xtask test"]
fn one_of_two_users_gets_the_stick_and_the_other_is_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let outer = machine_of_users(&folder.path().join("stick.img"));
    let sh = |script: &str| outer.sh(script, LIMIT).unwrap().ok().unwrap();
    outer.plug(stick()).unwrap();
    outer.wait_until("[ -b /dev/sda ]", LIMIT).unwrap();
    sh(SECOND_QEMU);
    // The folders are those that the package creates at boot.
    sh("mkdir -p -m 755 /run/vusb && mkdir -m 1777 /run/vusb/claims");
    sh("mkdir -p -m 755 /tmp/a /tmp/b && chown 1001:1001 /tmp/b && touch /tmp/b/out /tmp/b/code");

    let side = |side: &str, add: &str| {
        format!("({add} > /tmp/{side}/out 2>&1; echo $? > /tmp/{side}/code) &")
    };
    let race = format!("{} {}", side("a", FIRST_ADD), side("b", SECOND_ADD));
    let codes = sh(&format!("{race} wait; cat /tmp/a/code /tmp/b/code"));
    let codes: Vec<&str> = codes.split_whitespace().collect();
    let out = |side: &str| sh(&format!("cat /tmp/{side}/out"));
    let (loser, winners_socket) = match codes.as_slice() {
        ["0", "4"] => ("b", INNER_QMP),
        ["4", "0"] => ("a", SECOND),
        codes => panic!("{codes:?}: {} {}", out("a"), out("b")),
    };
    let printed = out(loser);
    assert!(printed.contains(winners_socket) && printed.contains("46f4:0001"), "{printed}");

    // The winner's process is named.
    assert!(printed.contains("pid "), "{printed}");
}
