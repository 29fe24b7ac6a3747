//! Real Xen: dom0 sees USB devices, and guests of each kind see them through Xen's own tools with
//! QEMU's backend `qusb`, which vusb is compared with.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vusb_rig::xen::{GuestKind, XenGuest, XenHost, XenHostBuilder, modules, run_with_retry};

/// A Xen guest is slow on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);
/// A controller with QEMU's backend.
const QUSB: &str = "usbctrl = ['type=qusb,version=2,ports=4']";

/// 1 MiB with unique content, and its checksum.
fn stick(dir: &Path) -> (PathBuf, String) {
    let data: Vec<u8> =
        (0u32..1 << 18).flat_map(|n| n.wrapping_mul(69_069).to_le_bytes()).collect();
    let path = dir.join("stick.img");
    std::fs::write(&path, &data).unwrap();
    let sum = Sha256::digest(&data).iter().map(|b| format!("{b:02x}")).collect();
    (path, sum)
}

fn checksum(output: &str) -> &str {
    output.split_whitespace().next().unwrap_or_default()
}

/// Attaches dom0's stick to a guest with [`QUSB`] and reads it there.
fn reads_its_stick(host: &XenHost, guest: &XenGuest, sum: &str) {
    let stick = host.wait_for_usb(|d| d.drivers == ["usb-storage"], LIMIT).unwrap();
    let (bus, address) = (stick.bus, stick.address);
    host.xl(&format!("usbdev-attach {} hostbus={bus} hostaddr={address}", guest.name())).unwrap();
    let seen = guest.wait_for_usb(|d| d.drivers == ["usb-storage"], LIMIT).unwrap();
    assert_eq!((seen.vendor, seen.product, seen.speed.as_str()), (0x46f4, 1, "480"));
    assert_eq!(seen.serial, stick.serial);
    guest.wait_until("[ -b /dev/sda ]", LIMIT).unwrap();
    let output = guest.sh("sha256sum /dev/sda", LIMIT).unwrap().ok().unwrap();
    assert_eq!(checksum(&output), sum);
}

/// A guest of this kind with a controller of QEMU's backend reads a stick of dom0.
fn a_stick_through_qusb(host: &XenHost, kind: GuestKind, sum: &str) {
    let start = Instant::now();
    let guest = host.create_guest(kind, "g1", 192, &[QUSB]).unwrap();
    eprintln!("{kind:?}: shell after {:?}", start.elapsed());
    reads_its_stick(host, &guest, sum);
    eprintln!("{kind:?}: stick read after {:?}", start.elapsed());
    guest.destroy().unwrap();
}

fn host_with_stick(dir: &Path, builder: XenHostBuilder) -> (XenHost, String) {
    let (image, sum) = stick(dir);
    let start = Instant::now();
    let host = builder.drive("stick", &image).start().unwrap();
    eprintln!("dom0 answers after {:?}", start.elapsed());
    host.plug(json!({ "driver": "usb-storage", "id": "stick", "drive": "stick" })).unwrap();
    host.wait_until("[ -b /dev/sda ]", LIMIT).unwrap();
    (host, sum)
}

#[test]
fn dom0_and_a_pv_guest_read_a_stick() {
    let dir = tempfile::tempdir().unwrap();
    let (host, sum) = host_with_stick(dir.path(), XenHost::builder());
    let output = host.sh("sha256sum /dev/sda", LIMIT).unwrap().ok().unwrap();
    assert_eq!(checksum(&output), sum);
    a_stick_through_qusb(&host, GuestKind::Pv, &sum);
    host.unplug("stick").unwrap();
    host.wait_until("[ ! -e /dev/sda ]", LIMIT).unwrap();
}

/// Runs a scenario on a machine with the stick, and again if it fails, as [`run_with_retry`]. Only
/// the rig, Xen's tools and QEMU take part.
fn with_hardware_guest(builder: XenHostBuilder, scenario: impl Fn(&XenHost, &str)) {
    let dir = tempfile::tempdir().unwrap();
    let start = || host_with_stick(dir.path(), builder.clone());
    // A failure without a message counts too: the guest may simply stop.
    run_with_retry(start, |_| true, |(host, sum)| scenario(host, sum));
}

#[test]
fn a_pvh_guest_reads_a_stick() {
    with_hardware_guest(XenHost::builder().hardware_guests(), |host, sum| {
        a_stick_through_qusb(host, GuestKind::Pvh, sum);
    });
}

#[test]
fn an_hvm_guest_reads_a_stick() {
    let builder = XenHost::builder().ready_guest_of(GuestKind::Hvm, &[QUSB]);
    with_hardware_guest(builder, |host, sum| {
        let guest = host.ready_guest().unwrap();
        let kind = guest.sh("cat /sys/hypervisor/guest_type", LIMIT).unwrap().text;
        assert_eq!(kind, "HVM\n");
        reads_its_stick(host, &guest, sum);
    });
}

#[test]
fn a_guest_of_the_saved_state_can_be_replaced_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let note = dir.path().join("note");
    std::fs::write(&note, "copied\n").unwrap();
    let start = Instant::now();
    let program = Path::new(env!("CARGO_BIN_EXE_rig-qmp"));
    let host = XenHost::builder().ready_guest().binary(program).file("/tmp/a/note", &note);
    let host = host.start().unwrap();
    let guest = host.ready_guest().unwrap();
    eprintln!("dom0 and a guest answer after {:?}", start.elapsed());
    assert_eq!(host.sh("cat /tmp/a/note", LIMIT).unwrap().text, "copied\n");
    // Without arguments it prints its usage, so it runs with its libraries.
    let ran = host.sh("rig-qmp", LIMIT).unwrap();
    assert!(ran.code != 127, "{ran:?}");
    assert_eq!(guest.sh("cat /sys/hypervisor/type", LIMIT).unwrap().text, "xen\n");
    let id = guest.id().unwrap();
    assert!(host.xenstore().unwrap().contains(&format!("/local/domain/{id}/name = \"u1\"")));

    let second = host.new_guest("u2").file("/tmp/a/note", &note).start().unwrap();
    assert_eq!(second.sh("cat /tmp/a/note", LIMIT).unwrap().text, "copied\n");
    std::thread::scope(|scope| {
        for guest in [&guest, &second] {
            scope.spawn(|| {
                let text = guest.sh("head -c 100000 /dev/zero | tr '\\0' x", LIMIT).unwrap().text;
                assert_eq!(text.len(), 100_000);
            });
        }
    });
    guest.destroy().unwrap();
    assert!(host.xl("domid u1").is_err());
    let third = host.new_guest("u3").start().unwrap();
    assert_eq!(third.sh("echo here", LIMIT).unwrap().text, "here\n");
}

#[test]
fn a_driver_domain_has_a_software_emulated_stick() {
    let host = XenHost::builder().start().unwrap();
    let modules: Vec<&str> = modules::GUEST.iter().chain(modules::DRIVER_DOMAIN).copied().collect();
    let guest = host.new_guest("driver").modules(&modules).start().unwrap();
    guest.sh(modules::GADGET_STICK, LIMIT).unwrap().ok().unwrap();
    let stick = guest.wait_for_usb(|d| d.drivers == ["usb-storage"], LIMIT).unwrap();
    assert_eq!((stick.vendor, stick.product), (0x1d6b, 0x0104));
    guest.wait_until("[ -b /dev/sda ] && [ -c /dev/xen/gntdev ]", LIMIT).unwrap();
    let sums = guest.sh("sha256sum </dev/sda; sha256sum </gadget.img", LIMIT).unwrap().text;
    let sums: Vec<&str> = sums.lines().collect();
    assert_eq!(sums[0], sums[1]);
}
