//! Real host passthrough: the kernel of L2 detects devices of L1 and their removal.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::{Duration, Instant};
use vusb_rig::NestedHost;
use vusb_rig::nested::{INNER_SPARE_QMP, INNER_XHCI};

/// L2 is slow, and other tests may run at the same time.
const LIMIT: Duration = Duration::from_secs(180);

/// Sends a command to the monitor of L2's QEMU, from L1.
fn monitor(outer: &NestedHost, command: &str, arguments: &Value) {
    let line = format!("rig-qmp {INNER_SPARE_QMP} {command} '{arguments}'");
    outer.sh(&line, LIMIT).unwrap().ok().unwrap();
}

#[test]
fn devices_of_the_host_reach_the_guest_and_leave_it() {
    let dir = tempfile::tempdir().unwrap();
    let stick: Vec<u8> =
        (0u32..1 << 18).flat_map(|n| n.wrapping_mul(40_503).to_le_bytes()).collect();
    let sum: String = Sha256::digest(&stick).iter().map(|b| format!("{b:02x}")).collect();
    let image = dir.path().join("stick.img");
    std::fs::write(&image, &stick).unwrap();

    let start = Instant::now();
    let outer = NestedHost::builder()
        .binary(Path::new(env!("CARGO_BIN_EXE_rig-qmp")))
        .inner("pc", INNER_XHCI)
        .drive("stick", &image)
        .usb(json!({ "driver": "usb-tablet", "id": "tablet", "port": "1" }))
        .start()
        .unwrap();
    eprintln!("L1 and L2 run: {:?}", start.elapsed());
    let tablet = outer.wait_for_usb(|d| d.name == "QEMU USB Tablet", LIMIT).unwrap();
    let host = |id: &str, bus: u16, address: u16| {
        json!({
            "driver": "usb-host", "id": id, "bus": "hci0.0", "hostbus": bus, "hostaddr": address,
        })
    };
    monitor(&outer, "device_add", &host("h1", tablet.bus, tablet.address));
    let inner = outer.inner();
    let seen = inner.wait_for_usb(|d| d.drivers == ["usbhid"], LIMIT).unwrap();
    eprintln!("L2 sees the tablet: {:?}", start.elapsed());
    assert_eq!((seen.vendor, seen.product, &seen.serial), (0x0627, 1, &tablet.serial));

    outer.plug(json!({ "driver": "usb-storage", "id": "stick", "drive": "stick" })).unwrap();
    let stick = outer.wait_for_usb(|d| d.drivers == ["usb-storage"], LIMIT).unwrap();
    monitor(&outer, "device_add", &host("h2", stick.bus, stick.address));
    inner.wait_until("[ -b /dev/sda ]", LIMIT).unwrap();
    let output = inner.sh("sha256sum /dev/sda", LIMIT).unwrap().ok().unwrap();
    assert_eq!(output.split_whitespace().next(), Some(sum.as_str()));
    eprintln!("L2 has read the stick: {:?}", start.elapsed());

    // QEMU detects the removal of a device when a transfer fails, so a program has to use it.
    inner.sh("cat /dev/input/mice >/dev/null &", LIMIT).unwrap();
    outer.unplug("tablet").unwrap();
    let gone = format!("[ ! -e /sys/bus/usb/devices/{} ]", seen.path);
    inner.wait_until(&gone, LIMIT).unwrap();
    eprintln!("L2 sees that the tablet is gone: {:?}", start.elapsed());
}
