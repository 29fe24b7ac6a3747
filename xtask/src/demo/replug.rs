//! A host device that is unplugged and plugged in again: on a machine that is itself a guest,
//! because this one may have no USB device to spare.

use std::time::Duration;

use serde_json::json;
use vusb_rig::NestedHost;
use vusb_rig::nested::{INNER_QMP, INNER_XHCI};

use super::{Stage, title};
use crate::cargo::Result;

/// The limit of each step in a guest of a guest, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs this part of the demonstration.
pub(super) fn run(stage: &Stage) -> Result<()> {
    title("Replug: a real stick of a machine, given to its guest");
    println!("The machine and its guest run in emulation. The first time, they boot for a minute.");
    let machine = NestedHost::builder()
        .binary(&stage.vusb)
        .drive("disk", &stage.path("stick.img"))
        .inner("pc", INNER_XHCI)
        .start()?;
    let stick = || json!({ "driver": "usb-storage", "id": "stick", "drive": "disk", "port": "1", "serial": "4C530001" });
    let shown = |command: &str| -> Result<()> {
        println!("machine$ {command}");
        print!("{}", machine.sh(&format!("{command} 2>&1"), LIMIT)?.ok()?);
        Ok(())
    };
    let guest_has = |condition: &str| -> Result<()> {
        println!("guest# until {condition}");
        Ok(machine.inner().wait_until(condition, LIMIT).map(drop)?)
    };
    let domain = format!("qemu:{INNER_QMP}");
    println!("(the stick is plugged in)");
    machine.plug(stick())?;
    machine.wait_until("[ -b /dev/sda ]", LIMIT)?;
    shown("vusb host list")?;
    shown(&format!("vusb device add {domain} 46f4:0001 --name stick"))?;
    guest_has("[ -b /dev/sda ]")?;
    println!("(the stick is unplugged)");
    machine.unplug("stick")?;
    shown(&format!("vusb list {domain}"))?;
    println!("(it is plugged in again: the same device in the same port)");
    machine.plug(stick())?;
    machine.wait_until("[ -b /dev/sda ]", LIMIT)?;
    shown(&format!("vusb apply {domain}"))?;
    guest_has("ls /dev/sd? | grep -q .")?;
    shown(&format!("vusb list {domain}"))
}
