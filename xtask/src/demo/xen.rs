//! `cargo xtask demo xen`: the same on real Xen, with a PV guest that was started without USB.

use std::time::{Duration, Instant};

use serde_json::json;
use vusb_rig::Shell;
use vusb_rig::xen::XenHost;

use super::{LIST_DEVICES, title};
use crate::cargo::{Result, cargo, target};

/// The limit of each step on an emulated Xen, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);
const STICK_BYTES: usize = 4 << 20;

/// Runs the demonstration.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    title("Set-up: Xen, a Debian kernel and tools, if they are missing");
    println!("Building vusb and vusb-backend. The first time, this takes a few minutes.");
    cargo(&["build", "--package", "vusb-cli", "--package", "vusb-backend"])?;
    let folder = tempfile::tempdir()?;
    let stick = folder.path().join("stick.img");
    let line = b"vusb gives a guest the USB hardware that was asked for.\n";
    let content: Vec<u8> = line.iter().copied().cycle().take(STICK_BYTES).collect();
    std::fs::write(&stick, content)?;
    let programs = ["vusb", "vusb-backend"].map(|name| target().join("debug").join(name));
    let host = XenHost::builder().ready_guest().drive("stick", &stick);
    let host = programs.iter().fold(host, |host, program| host.binary(program)).start()?;
    let guest = host.ready_guest()?;
    host.plug(json!({ "driver": "usb-storage", "id": "stick", "drive": "stick" }))?;
    host.plug(json!({ "driver": "usb-tablet", "id": "tablet" }))?;
    host.wait_until("[ -b /dev/sda ] && ls /sys/bus/hid/devices/*", LIMIT)?;

    title("A real Xen with a PV guest, and USB devices of dom0");
    let dom0 = |command: &str| run_shown("dom0#", &host, command);
    let u1 = |command: &str| run_shown("u1#  ", &guest, command);
    dom0("xl list")?;
    dom0("setsid vusb-backend >/var/log/vusb-backend.log 2>&1 </dev/null &")?;
    host.wait_until("xenstore-exists /local/domain/0/data/vusb-backend/version", LIMIT)?;
    dom0("vusb host list")?;
    u1(LIST_DEVICES)?;

    title("Attach the stick and the tablet to the guest");
    dom0("vusb device add xen:u1 46f4:0001 --name stick")?;
    dom0("vusb device add xen:u1 0627:0001 --name tablet")?;
    dom0("vusb list xen:u1")?;
    dom0("xl usb-list u1")?;

    title("The devices in the guest's kernel");
    guest.wait_until("[ -b /dev/sda ] && grep -q Tablet /sys/bus/usb/devices/*/product", LIMIT)?;
    u1(LIST_DEVICES)?;
    u1("head -c 56 /dev/sda; sha256sum /dev/sda")?;

    title("Detach everything");
    dom0("vusb device remove xen:u1 stick")?;
    dom0("vusb device remove xen:u1 tablet")?;
    dom0("vusb controller remove xen:u1 pv0")?;
    dom0("vusb controller remove xen:u1 pv1")?;
    host.wait_until("[ -b /dev/sda ]", LIMIT)?;
    dom0("sha256sum /dev/sda")?;
    u1(LIST_DEVICES)?;
    println!("\nDone in {} s.", start.elapsed().as_secs());
    Ok(())
}

/// Prints and runs a command, and prints its output.
fn run_shown(prompt: &str, shell: &Shell, command: &str) -> Result<()> {
    println!("{prompt} {command}");
    let text = shell.sh(command, LIMIT)?.ok()?;
    print!("{text}");
    Ok(())
}
