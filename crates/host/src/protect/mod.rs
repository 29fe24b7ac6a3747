//! What must not be given away unless a person insists: this machine may need it to go on.
//!
//! Each question is answered for the device and everything beneath it in sysfs, so that a hub answers for what is plugged
//! into it. Where the answer cannot be known, the device is protected.

mod disks;
mod keyboards;
mod mounts;
mod networks;

use std::path::Path;

use thiserror::Error;

use crate::device::HostDevice;

/// Why a device must not be given away without force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Protection {
    /// It is a hub: whatever is plugged into it would go too, and no hypervisor passes a hub on.
    #[error("it is a hub: give the devices behind it instead")]
    Hub,
    /// A filesystem on it is mounted.
    #[error("its disk {device} holds what is mounted on {mountpoint}: unmount that first")]
    MountedDisk {
        /// The disk or partition of this device, as the kernel names it: `sdb1`.
        device: String,
        /// Where the filesystem is mounted.
        mountpoint: String,
    },
    /// This machine swaps to it.
    #[error("its disk {device} is used as swap: run swapoff first")]
    SwapDisk {
        /// The disk or partition of this device, as the kernel names it: `sdb2`.
        device: String,
    },
    /// It has a disk, and whether that is in use cannot be known.
    #[error("whether its disk {device} is in use cannot be told: {file} cannot be read")]
    UnknownDisk {
        /// The disk of this device, as the kernel names it.
        device: String,
        /// The file that would have told.
        file: &'static str,
    },
    /// It is this machine's only way to the network.
    #[error("it is the only network card of this machine ({interface})")]
    OnlyNetworkCard {
        /// The network interface, as the kernel names it: `enx00e04c680001`.
        interface: String,
    },
    /// It is the only keyboard.
    #[error("it is the only keyboard of this machine")]
    OnlyKeyboard,
}

/// What this machine does with its devices at one moment.
pub(crate) struct Surroundings {
    disks: disks::Disks,
    networks: networks::Networks,
    keyboards: keyboards::Keyboards,
}

impl Surroundings {
    /// Looks around in the machine below `root`.
    pub(crate) fn read(root: &Path) -> Surroundings {
        Surroundings {
            disks: disks::Disks::read(root),
            networks: networks::Networks::read(root),
            keyboards: keyboards::Keyboards::read(root),
        }
    }

    /// Every reason to keep the device in folder `dir`.
    pub(crate) fn protection(&self, device: &HostDevice, dir: &Path) -> Vec<Protection> {
        let mut reasons: Vec<Protection> = Vec::new();
        reasons.extend(device.is_hub.then_some(Protection::Hub));
        reasons.extend(self.disks.protection(dir));
        reasons.extend(self.networks.protection(dir));
        reasons.extend(self.keyboards.protection(device, dir));
        reasons
    }
}
