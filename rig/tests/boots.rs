//! The rig itself: a guest boots, responds, and sees the hardware of QEMU's command line.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};
use vusb_rig::{BareQemu, Error, Guest};

const BOOT: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_secs(20);

/// 1 MiB with unique content, and its checksum.
fn stick(dir: &std::path::Path) -> (std::path::PathBuf, String) {
    let data: Vec<u8> =
        (0u32..1 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let path = dir.join("stick.img");
    std::fs::write(&path, &data).unwrap();
    let sum = Sha256::digest(&data).iter().map(|b| format!("{b:02x}")).collect();
    (path, sum)
}

fn sees_its_stick(machine: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (path, sum) = stick(dir.path());
    let drive = format!("if=none,id=stick,format=raw,readonly=on,file={}", path.display());
    let start = Instant::now();
    let guest = Guest::builder()
        .machine(machine)
        .args(["-device", "qemu-xhci,id=x", "-drive", &drive])
        .args([
            "-device",
            "usb-storage,bus=x.0,port=2,drive=stick",
            "-device",
            "usb-tablet,bus=x.0,port=3",
        ])
        .start()
        .unwrap();
    let uptime = guest.wait_booted(BOOT).unwrap();
    eprintln!("{machine}: booted in {:?}, uptime {uptime} s", start.elapsed());
    guest.wait_until("[ -b /dev/sda ] && [ -c /dev/input/event0 ]", SHORT).unwrap();
    eprintln!("{machine}: stick found after {:?}", start.elapsed());
    let output = guest.sh("sha256sum /dev/sda", SHORT).unwrap().ok().unwrap();
    assert_eq!(output.split_whitespace().next(), Some(sum.as_str()));

    let tree = guest.usb_tree().unwrap();
    let stick = tree.iter().find(|d| d.path == "2-2").unwrap_or_else(|| panic!("{tree:#?}"));
    assert_eq!((stick.vendor, stick.product, stick.speed.as_str()), (0x46f4, 1, "5000"));
    assert_eq!(stick.drivers, ["usb-storage"]);
    let tablet = tree.iter().find(|d| d.path == "1-3").unwrap_or_else(|| panic!("{tree:#?}"));
    assert_eq!((tablet.name.as_str(), tablet.speed.as_str()), ("QEMU USB Tablet", "480"));
    let address = tablet.controller().unwrap();
    let pci = guest.pci_tree().unwrap();
    let controller = pci.iter().find(|d| d.address == address).unwrap();
    assert_eq!((controller.vendor, controller.device), (0x1b36, 0x000d));
    assert_eq!(controller.driver.as_deref(), Some("xhci_hcd"));
    assert!(guest.console().contains("QEMU USB Tablet"), "{}", guest.console());
    eprintln!("{machine}: all in {:?}", start.elapsed());
}

#[test]
fn a_pc_sees_its_stick() {
    sees_its_stick("pc");
}

#[test]
fn a_q35_sees_its_stick() {
    sees_its_stick("q35");
}

#[test]
fn the_agent_runs_commands() {
    let guest = Guest::builder().start().unwrap();
    guest.wait_booted(BOOT).unwrap();
    let out = guest.sh("printf 'a\\n@end 1\\n'; echo \"it's\" >&2; exit 3", SHORT).unwrap();
    assert_eq!((out.text.as_str(), out.code), ("a\n@end 1\nit's\n", 3));
    let lines = guest.sh("for i in 1 2 3\ndo echo line $i\ndone", SHORT).unwrap();
    assert_eq!(lines.text, "line 1\nline 2\nline 3\n");
    let long = guest.sh("head -c 200000 /dev/zero | tr '\\0' x", SHORT).unwrap();
    assert_eq!(long.text.len(), 200_000);

    let hung = guest.sh("echo before; sleep 1000", Duration::from_secs(1)).unwrap_err();
    assert!(matches!(&hung, Error::Timeout { what, .. } if what.contains("before")), "{hung}");
    let never = guest.wait_until("echo not yet; false", Duration::from_secs(1)).unwrap_err();
    assert!(matches!(never, Error::Timeout { .. }), "{never}");
    assert_eq!(guest.sh("echo still here", SHORT).unwrap().text, "still here\n");

    guest.kill();
    let dead = guest.sh("echo", SHORT).unwrap_err();
    assert!(matches!(dead, Error::Exited { .. }), "{dead}");
}

#[test]
fn a_bare_qemu_has_monitors_immediately() {
    let start = Instant::now();
    let qemu = BareQemu::start(["-machine", "pc", "-nodefaults", "-device", "qemu-xhci"]).unwrap();
    let status = qemu.qmp("query-status", serde_json::json!({})).unwrap();
    assert_eq!(status["status"], "prelaunch");
    assert!(qemu.qmp_socket().exists() && qemu.spare_socket().exists());
    eprintln!("bare QEMU: {:?}", start.elapsed());
}

#[test]
fn an_error_contains_the_message_of_qemu() {
    let error = BareQemu::start(["-device", "no-such-thing"]).unwrap_err().to_string();
    assert!(error.contains("'no-such-thing' is not a valid device model name"), "{error}");
}
