//! Host passthrough for real: a device of L1 is seen by the kernel of L2.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends at its first surprise")]

use std::path::Path;
use std::time::{Duration, Instant};
use vusb_rig::Outer;
use vusb_rig::outer::INNER_SPARE_QMP;

const BOOT: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(60);

#[test]
fn a_device_of_the_host_reaches_the_guest() {
    let start = Instant::now();
    let outer = Outer::builder()
        .binary(Path::new(env!("CARGO_BIN_EXE_rig-qmp")))
        .usb("usb-tablet,id=tablet,port=1")
        .start()
        .unwrap();
    eprintln!("L1 started: {:?}", start.elapsed());
    outer.wait_booted(BOOT).unwrap();
    eprintln!("L1 booted: {:?}", start.elapsed());
    outer.wait_until("grep -q Tablet /sys/bus/usb/devices/1-1/product", SHORT).unwrap();
    let tree = outer.usb_tree().unwrap();
    let tablet = tree.iter().find(|d| d.path == "1-1").unwrap();
    let (bus, address) = (tablet.bus, tablet.address);
    outer.start_inner("pc", "-device qemu-xhci,id=hci0").unwrap();
    eprintln!("L2 started: {:?}", start.elapsed());
    let add = serde_json::json!({
        "driver": "usb-host", "id": "h", "bus": "hci0.0", "hostbus": bus, "hostaddr": address,
    });
    let command = format!("rig-qmp {INNER_SPARE_QMP} device_add '{add}'");
    outer.sh(&command, SHORT).unwrap().ok().unwrap();
    eprintln!("usb-host attached: {:?}", start.elapsed());
    let uptime = outer.inner().wait_booted(BOOT);
    eprintln!("L2 booted: {uptime:?} {:?}", start.elapsed());
    if uptime.is_err() {
        eprintln!(
            "{}\n{}",
            outer.inner().console(),
            outer.sh("cat /tmp/inner.log; ps; dmesg | tail -30", SHORT).unwrap().text
        );
    }
    uptime.unwrap();
    outer.inner().wait_until("grep -q Tablet /sys/bus/usb/devices/1-1/product", BOOT).unwrap();
    eprintln!("L2 sees it: {:?}", start.elapsed());
    let tree = outer.inner().usb_tree().unwrap();
    eprintln!("{tree:#?} {:?}", start.elapsed());
}
