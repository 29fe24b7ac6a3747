//! Devices that this machine needs for itself. They are passed through only if the user insists.
//!
//! Each check covers the device and everything below it in sysfs, so a hub is protected for the
//! sake of the devices behind it. A device is also protected if it cannot be determined whether it
//! is needed, because a file of sysfs or proc exists but is unreadable.

mod blocks;
mod disks;
mod keyboards;
mod mounts;
mod networks;
mod routes;

use std::path::Path;

use crate::device::HostDevice;
use crate::protection::Protection;

pub(crate) use disks::exclusive_use;

/// How this machine uses its devices at one moment.
pub(crate) struct Usage {
    disks: disks::Disks,
    networks: networks::Networks,
    keyboards: keyboards::Keyboards,
}

impl Usage {
    /// Reads the usage from `sys` and `proc` in `root`.
    pub(crate) fn read(root: &Path) -> Usage {
        Usage {
            disks: disks::Disks::read(root),
            networks: networks::Networks::read(root),
            keyboards: keyboards::Keyboards::read(root),
        }
    }

    /// Every reason to keep the device with the directory `dir`.
    pub(crate) fn protection(&self, device: &HostDevice, dir: &Path) -> Vec<Protection> {
        let mut reasons: Vec<Protection> = Vec::new();
        reasons.extend(device.is_hub.then_some(Protection::Hub));
        reasons.extend((!device.is_authorized).then_some(Protection::Unauthorized));
        reasons.extend(self.disks.of_device(dir));
        reasons.extend(self.networks.protection(dir));
        reasons.extend(self.keyboards.protection(device, dir));
        reasons
    }
}

/// Why the file or block device at `path` is protected. Empty if it does not exist, unless it is
/// unknown how this machine uses its disks.
pub(crate) fn of_storage(root: &Path, path: &Path) -> Vec<Protection> {
    let disks = disks::Disks::read(root);
    match blocks::node_number(path) {
        Some(number) => disks.of_node(&number),
        None => disks.of_file(path),
    }
}
