//! The devices of this machine, and which of them are ready to be used.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use vusb::model::selector::BusAddress;
use vusb::{DeviceList, Host};
use vusb_host::HostDevice;

use crate::reconcile::Plugged;

/// The devices that are plugged in.
pub(crate) struct Snapshot {
    /// All of them.
    pub(crate) devices: Arc<DeviceList>,
    /// Those that are ready.
    pub(crate) ready: Vec<Plugged>,
    /// Whether some are not ready yet.
    pub(crate) settling: bool,
}

/// Reads the devices. With `all_ready`, each device counts as ready.
///
/// # Errors
/// The devices cannot be read.
pub(crate) fn snapshot(host: &Host, all_ready: bool) -> Result<Snapshot, vusb_host::HostError> {
    let devices = host.devices()?;
    let waits = !all_ready && has_udev(host.root());
    let is_ready = |it: &&HostDevice| !waits || is_initialized(host.root(), it.bus_address);
    let ready = devices.iter().filter(is_ready).map(|device| Plugged {
        plug: device.bus_address,
        port: device.bus_id.clone(),
        facts: vusb::rules::facts(host, device),
    });
    let ready: Vec<Plugged> = ready.collect();
    let settling = ready.len() < devices.len();
    Ok(Snapshot { devices: Arc::new(devices.into()), ready, settling })
}

/// Whether udev runs: then a device is ready when udev has applied its rules, which set the
/// permissions of its node.
fn has_udev(root: &Path) -> bool {
    root.join("run/udev/control").exists()
}

/// Whether udev is done with a device. Source: systemd,
/// `src/libsystemd/sd-device/device-private.c`: the line `I:` has the time at which it was
/// initialized.
fn is_initialized(root: &Path, at: BusAddress) -> bool {
    // Linux, Documentation/admin-guide/devices.txt: `/dev/bus/usb` is 189, with 128 for each bus.
    let minor = u32::from(at.bus.saturating_sub(1)) * 128 + u32::from(at.address.saturating_sub(1));
    let entry = root.join(format!("run/udev/data/c189:{minor}"));
    fs::read_to_string(entry).is_ok_and(|text| text.lines().any(|line| line.starts_with("I:")))
}
