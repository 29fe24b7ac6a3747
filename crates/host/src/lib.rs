//! The USB devices of this machine: which are plugged in, how users name them, and which of them
//! this machine needs for itself.
//!
//! All of this is read from sysfs and proc. udev is not needed, and no device is opened, except by
//! [`Host::exclusive_use`] and [`Host::storage_protection`]:
//!
//! ```no_run
//! use vusb_host::{Host, select};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let devices = Host::system().devices()?;
//! let stick = select(&devices, &"0781:5581".parse()?)?;
//! println!("{}: {}, can be shown at {} speed", stick.bus_id, stick.describe(), stick.speeds);
//! for reason in &stick.protection {
//!     println!("{reason}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`usbfs`] talks to a device, and [`uevent`] reports when one is plugged in or unplugged.
//!
//! Devices are untrusted: their descriptors go through a strict parser ([`descriptors`]) and their
//! strings through [`text::printable`]. A device that is unplugged while it is being read is left
//! out.

mod access;
mod database;
pub mod descriptors;
mod device;
pub mod image;
mod locks;
mod node;
mod process;
mod protect;
mod protection;
pub mod safe_file;
mod select;
pub mod speeds;
mod stable_path;
mod sysfs;
pub mod text;
pub mod trust;
pub mod uevent;
pub mod usbfs;
mod used_by;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use vusb_model::rules::Removable;
use vusb_model::selector::BusId;

pub use access::Denied;
pub use device::{HostDevice, Interface};
pub use process::{Process, user_ids};
pub use protection::{DiskHolder, NetworkRole, Protection};
pub use select::{Candidate, SelectError, select};
pub use used_by::UsedBy;

/// A machine whose USB devices can be read.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

/// Why the devices of a machine could not be read.
#[derive(Debug, Error)]
pub enum HostError {
    /// The kernel's list of USB devices exists but cannot be read.
    #[error(
        "cannot read the USB devices of this machine from {}: {source}; check that sysfs is mounted and readable",
        path.display()
    )]
    Unreadable {
        /// The directory that lists them.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Why a node does not lead to a USB device.
#[derive(Debug, Error)]
pub enum NodeError {
    /// It does not exist, and no device of this machine has its name.
    #[error(
        "{} does not exist; a device that a guest has been given has no such node on this machine",
        path.display()
    )]
    Missing {
        /// The node.
        path: PathBuf,
    },
    /// Its device is not part of a USB device.
    #[error("{} does not belong to a USB device of this machine", path.display())]
    NotUsb {
        /// The node.
        path: PathBuf,
    },
    /// The devices of this machine cannot be read.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Host {
    /// The machine whose `sys` and `proc` are in `root`.
    pub fn new(root: impl Into<PathBuf>) -> Host {
        Host { root: root.into() }
    }

    /// This machine.
    pub fn system() -> Host {
        Host::new("/")
    }

    /// The directory that contains `sys`, `proc` and everything else of the machine.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The USB devices that are plugged in, ordered by bus and port. Hubs are included, root hubs
    /// are not. The list is empty on a machine without USB. A device that is unplugged in the
    /// meantime is left out.
    ///
    /// # Errors
    /// If the kernel's list exists but cannot be read.
    pub fn devices(&self) -> Result<Vec<HostDevice>, HostError> {
        let mut devices = self.scan()?;
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        devices.sort_by(|(a, _), (b, _)| a.bus_id.cmp(&b.bus_id));
        Ok(self.with_usage(devices))
    }

    /// The device that is plugged in at this port now, as [`Host::devices`] would list it; `None`
    /// if the port is empty. The time does not depend on the number of devices.
    pub fn device_at(&self, port: &BusId) -> Option<HostDevice> {
        let devices = fs::canonicalize(self.root.join("sys/devices")).ok()?;
        let found = read_device(&self.root.join("sys/bus/usb/devices"), &devices, port)?;
        self.with_usage(vec![found]).pop()
    }

    /// Whether the kernel has announced the device but not configured it yet, so that neither
    /// drivers nor what they create (disks, network cards, keyboards) exist. This takes a few
    /// milliseconds; a device that draws more power than its port has stays in this state.
    pub fn is_settling(&self, device: &HostDevice) -> bool {
        let dir = self.root.join("sys/bus/usb/devices").join(device.bus_id.to_string());
        device::is_settling(&dir, device)
    }

    /// How long ago the device was plugged in. `None` if it is gone, another one has taken its
    /// port, or the kernel does not count the time (it needs `CONFIG_PM`).
    pub fn connected_for(&self, device: &HostDevice) -> Option<Duration> {
        let dir = self.root.join("sys/bus/usb/devices").join(device.bus_id.to_string());
        device::connected_for(&dir, device.bus_address)
    }

    /// How long the process `pid` has been running. `None` if it has ended, or cannot be seen.
    pub fn process_age(&self, pid: u32) -> Option<Duration> {
        process::age(&self.root, pid)
    }

    /// The devices, with who uses them.
    fn with_usage(&self, devices: Vec<(HostDevice, PathBuf)>) -> Vec<HostDevice> {
        // Read after the devices, so that a disk that was mounted in the meantime is protected.
        let usage = protect::Usage::read(&self.root);
        let users = used_by::Users::of(&self.root);
        let protect = |(mut device, dir): (HostDevice, PathBuf)| {
            device.protection = usage.protection(&device, &dir);
            device.used_by = users.find(&device, &dir);
            device
        };
        devices.into_iter().map(protect).collect()
    }

    /// Each device that is plugged in and is not a hub, with its description. Unlike
    /// [`Host::devices`], this does not look for the users of the devices, which takes longer the
    /// more processes run.
    ///
    /// # Errors
    /// As [`Host::devices`].
    pub fn descriptions(&self) -> Result<Vec<(BusId, String)>, HostError> {
        let devices = self.scan()?.into_iter().map(|(device, _)| device);
        let described = devices.filter(|device| !device.is_hub);
        let mut all: Vec<_> = described.map(|it| (it.bus_id.clone(), it.describe())).collect();
        all.sort();
        Ok(all)
    }

    /// Why a device should be kept although [`HostDevice::protection`] is empty: the kernel refuses
    /// exclusive access to one of its disks, so something uses it that sysfs and proc do not show.
    /// Disks without a node in `/dev`, or with one that this process may not read, are skipped.
    ///
    /// A program that requests exclusive access to a disk at the same moment is refused. So ask
    /// only about a device that is about to be given away. It takes up to 0.3 s for a disk in use.
    pub fn exclusive_use(&self, device: &HostDevice) -> Vec<Protection> {
        let link = self.root.join("sys/bus/usb/devices").join(device.bus_id.to_string());
        let dir = fs::canonicalize(link).ok();
        dir.map(|dir| protect::exclusive_use(&self.root, &dir)).unwrap_or_default()
    }

    /// Why the file or the block device at `path` should not be attached to a guest as a disk: it,
    /// a partition of it, or something on top of it is in use. `path` is the absolute path without
    /// symbolic links. Empty if it does not exist. The node of a block device is opened, as in
    /// [`Host::exclusive_use`].
    pub fn storage_protection(&self, path: &Path) -> Vec<Protection> {
        protect::of_storage(&self.root, path)
    }

    /// Which processes hold a lock on the file at `path`, other than this one. Those that this
    /// process may not see are missing.
    pub fn lock_holders(&self, path: &Path) -> Vec<Process> {
        locks::holders(&self.root, path)
    }

    /// Why the process `pid` may not open the file at `path`, which is absolute, for reading, or
    /// for `write` too. `None` if it may, or if that is unknown.
    pub fn denied(&self, pid: u32, path: &Path, write: bool) -> Option<Denied> {
        access::denied(&self.root, pid, path, write)
    }

    /// Whether the user that started the process `pid` may open the node at `path` for reading and
    /// writing, by the node's owner, mode and access control list. False if that is unknown.
    pub fn user_may_open(&self, pid: u32, path: &Path) -> bool {
        access::user_may_open(&self.root, pid, path)
    }

    /// Whether the process `pid` has the node at `path` open: that of a USB device, or a block
    /// device. `None` if this process may not see that.
    pub fn has_open(&self, pid: u32, path: &Path) -> Option<bool> {
        process::has_open(&self.root, pid, path)
    }

    /// The raw descriptors of a device: its device descriptor, then each complete configuration
    /// (see [`descriptors::parse`]). `None` if the device is gone, or another one has taken its
    /// port.
    pub fn raw_descriptors(&self, device: &HostDevice) -> Option<Vec<u8>> {
        let dir = self.root.join("sys/bus/usb/devices").join(device.bus_id.to_string());
        device::raw_descriptors(&dir, device.bus_address)
    }

    /// Whether a device can be unplugged, as far as the machine knows. Unknown if the device is
    /// gone, or another one has taken its port.
    pub fn removable(&self, device: &HostDevice) -> Removable {
        let dir = self.root.join("sys/bus/usb/devices").join(device.bus_id.to_string());
        device::removable(&dir, device.bus_address)
    }

    /// The hub (or root hub) that a device is plugged into: the hub's node in `/dev/bus/usb`, and
    /// the port number there, starting at 1. `None` if the device is gone.
    pub fn hub(&self, device: &HostDevice) -> Option<(PathBuf, u8)> {
        let link = self.root.join("sys/bus/usb/devices").join(device.bus_id.to_string());
        device::hub(&fs::canonicalize(link).ok()?, device)
    }

    /// The USB device that a node belongs to: `/dev/sdb`, `/dev/ttyUSB0`, or a link to one. `path`
    /// is absolute.
    ///
    /// # Errors
    /// [`NodeError::Missing`] if there is no such node, [`NodeError::NotUsb`] if it does not belong
    /// to a USB device, [`NodeError::Host`] if the devices cannot be read.
    pub fn device_of_node(&self, path: &Path) -> Result<HostDevice, NodeError> {
        let above = node::usb_devices(&self.root, path)
            .ok_or_else(|| NodeError::Missing { path: path.to_owned() })?;
        let devices = self.devices()?;
        // A directory of another bus can have a name of this form too.
        let found = above.iter().find_map(|id| devices.iter().find(|it| it.bus_id == *id));
        found.cloned().ok_or_else(|| NodeError::NotUsb { path: path.to_owned() })
    }

    /// The USB device that contains the disk or partition with this device number. `None` if it is
    /// not part of a USB device.
    pub fn usb_device_of_block(&self, major: u32, minor: u32) -> Option<BusId> {
        let dir = self.block_dir(major, minor)?;
        // `usb1/1-4/1-4:1.0/host6/.../block/sdb/sdb1`: the device is the innermost of the chain.
        dir.ancestors().find_map(|it| it.file_name()?.to_str()?.parse().ok())
    }

    /// The device number of the disk that a partition is part of. `None` if the block device is not
    /// a partition.
    pub fn disk_of_partition(&self, major: u32, minor: u32) -> Option<(u32, u32)> {
        let dir = self.block_dir(major, minor)?;
        if !dir.join("partition").exists() {
            return None;
        }
        let number = sysfs::word(dir.parent()?, "dev")?;
        let (major, minor) = number.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }

    /// The directory of a block device in sysfs.
    fn block_dir(&self, major: u32, minor: u32) -> Option<PathBuf> {
        fs::canonicalize(self.root.join(format!("sys/dev/block/{major}:{minor}"))).ok()
    }

    /// Every device with its directory in sysfs.
    fn scan(&self) -> Result<Vec<(HostDevice, PathBuf)>, HostError> {
        let list = self.root.join("sys/bus/usb/devices");
        let unreadable = |source| HostError::Unreadable { path: list.clone(), source };
        let entries = match fs::read_dir(&list) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
        };
        let devices = fs::canonicalize(self.root.join("sys/devices")).map_err(unreadable)?;
        // Root hubs are named `usb1` and interfaces `1-4:1.0`: neither parses as a bus and a port
        // chain.
        let ids =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<BusId>().ok());
        Ok(ids.filter_map(|id| read_device(&list, &devices, &id)).collect())
    }
}

/// The device `id` of the list, with its directory.
fn read_device(list: &Path, devices: &Path, id: &BusId) -> Option<(HostDevice, PathBuf)> {
    let dir = fs::canonicalize(list.join(id.to_string())).ok()?;
    let device = device::read(devices, &dir, id)?;
    Some((device, dir))
}
