//! The devices of this machine, and which of them are ready to be used.
//!
//! ```text
//!   read ─┬─ no udev, or udev has processed it ──────────────▶ ready
//!         └─ udev has not ─▶ settling ─┬─ udev has ──────────▶ ready, and read again by itself
//!                                      └─ after SETTLE_LIMIT ▶ ready
//! ```
//!
//! A device that is ready stays ready until it is unplugged.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use vusb::model::selector::BusAddress;
use vusb::{DeviceList, Host};
use vusb_host::HostDevice;

use crate::reconcile::{Plug, Plugged};

/// Where udev stores what it has found out, one file for each device.
pub(crate) const UDEV_DATA: &str = "run/udev/data";

/// The devices that are plugged in.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// All of them.
    pub(crate) devices: Arc<DeviceList>,
    /// Those that are ready.
    pub(crate) ready: Vec<Plugged>,
    /// Those that udev has not processed yet.
    pub(crate) settling: BTreeSet<Plug>,
}

impl Snapshot {
    /// Reads the devices. A device that `has_waited` for udev is used as it is.
    ///
    /// # Errors
    /// The devices cannot be read.
    pub(crate) fn read(
        host: &Host,
        has_waited: impl Fn(Plug) -> bool,
    ) -> Result<Snapshot, vusb_host::HostError> {
        let devices = host.devices()?;
        let waits = has_udev(host.root());
        let is_ready = |plug| !waits || has_waited(plug) || is_initialized(host.root(), plug);
        let (ready, settling): (Vec<&HostDevice>, Vec<&HostDevice>) =
            devices.iter().partition(|it| is_ready(it.bus_address));
        let ready = ready.into_iter().map(|it| plugged(host, it)).collect();
        let settling = settling.into_iter().map(|it| it.bus_address).collect();
        Ok(Snapshot { devices: Arc::new(devices.into()), ready, settling })
    }

    /// Reads one device again, because udev may have processed it. The time does not depend on the
    /// number of devices. Returns whether it has become ready.
    pub(crate) fn read_again(&mut self, host: &Host, plug: Plug) -> bool {
        if !self.settling.contains(&plug) || !is_initialized(host.root(), plug) {
            return false;
        }
        let mut devices = self.devices.to_vec();
        let Some(device) = devices.iter_mut().find(|it| it.bus_address == plug) else {
            return false;
        };
        // If another device has its port by now, the kernel's event for that is on its way.
        let now = host.device_at(&device.bus_id).filter(|now| now.bus_address == plug);
        let Some(now) = now else { return false };
        self.settling.remove(&plug);
        self.ready.push(plugged(host, &now));
        *device = now;
        self.devices = Arc::new(devices.into());
        true
    }
}

fn plugged(host: &Host, device: &HostDevice) -> Plugged {
    Plugged {
        plug: device.bus_address,
        port: device.bus_id.clone(),
        facts: vusb::rules::facts(host, device),
    }
}

/// Whether udev runs: then a device is ready when udev has applied its rules, which set the
/// permissions of its node.
fn has_udev(root: &Path) -> bool {
    root.join("run/udev/control").exists()
}

/// Whether udev is done with a device. Source: systemd,
/// `src/libsystemd/sd-device/device-private.c`: the line `I:` has the time at which it was
/// initialized.
fn is_initialized(root: &Path, plug: Plug) -> bool {
    let entry = root.join(UDEV_DATA).join(entry_of(plug));
    fs::read_to_string(entry).is_ok_and(|text| text.lines().any(|line| line.starts_with("I:")))
}

/// Linux, Documentation/admin-guide/devices.txt: `/dev/bus/usb` is 189, with 128 for each bus.
const MAJOR: &str = "c189:";
const DEVICES_PER_BUS: u32 = 128;

/// The name of udev's file about a device.
fn entry_of(plug: Plug) -> String {
    let (bus, address) = (u32::from(plug.bus), u32::from(plug.address));
    let minor = bus.saturating_sub(1) * DEVICES_PER_BUS + address.saturating_sub(1);
    format!("{MAJOR}{minor}")
}

/// The USB device that a file of udev is about.
pub(crate) fn device_of(entry: &OsStr) -> Option<Plug> {
    let minor: u32 = entry.to_str()?.strip_prefix(MAJOR)?.parse().ok()?;
    let bus = u16::try_from(minor / DEVICES_PER_BUS + 1).ok()?;
    let address = u8::try_from(minor % DEVICES_PER_BUS + 1).ok()?;
    Some(BusAddress { bus, address })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn udev_names_its_files_by_device_numbers() {
        for (bus, address, name) in [(1, 1, "c189:0"), (1, 128, "c189:127"), (3, 7, "c189:262")] {
            let plug = BusAddress { bus, address };
            assert_eq!(entry_of(plug), name);
            assert_eq!(device_of(OsStr::new(name)), Some(plug));
        }
        for name in ["c188:1", "c189:", "c189:x", ".#c189:1abc", "b8:0", "c189:99999999"] {
            assert_eq!(device_of(OsStr::new(name)), None, "{name}");
        }
    }
}
