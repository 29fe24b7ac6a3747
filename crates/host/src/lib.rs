//! The USB devices of this machine: what is plugged in, how a person names it, and what must not be given away.
//!
//! All of that is read from sysfs and proc, without udev and without opening a device:
//!
//! ```no_run
//! use vusb_host::{Host, select};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let devices = Host::system().devices()?;
//! let stick = select(&devices, &"0781:5581".parse()?)?;
//! println!("{} is {}, and takes {} speed", stick.bus_id, stick.describe(), stick.speeds);
//! for reason in &stick.protection {
//!     println!("{reason}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Whoever talks to a device opens it with [`usbfs`], and hears of plugs and unplugs from [`uevent`].
//!
//! Devices are untrusted, and so is all that they say: their descriptors go through a strict parser ([`descriptors`]) and
//! their strings through [`text::printable`]. Devices come and go while they are read: what vanishes is left out.

pub mod descriptors;
mod device;
mod place;
mod protect;
mod select;
pub mod speeds;
mod sysfs;
pub mod text;
pub mod uevent;
pub mod usbfs;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use vusb_model::selector::BusId;

pub use device::{HostDevice, Interface};
pub use protect::Protection;
pub use select::{Match, SelectError, matches, select};

/// A machine whose USB devices can be read.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

/// Why the devices of a machine could not be read.
#[derive(Debug, Error)]
pub enum HostError {
    /// The kernel's list of USB devices is there but cannot be read.
    #[error(
        "the USB devices of this machine cannot be read from {}: {source}; check that sysfs is mounted and readable",
        path.display()
    )]
    Unreadable {
        /// The folder that lists them.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Host {
    /// The machine whose `sys` and `proc` are below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Host {
        Host { root: root.into() }
    }

    /// This machine.
    pub fn system() -> Host {
        Host::new("/")
    }

    /// The folder that `sys`, `proc` and all else of the machine are below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The USB devices that are plugged in, ordered by bus and port, hubs included, root hubs not. A machine without USB
    /// has none. A device that vanishes meanwhile is left out.
    ///
    /// # Errors
    /// If the list is there but cannot be read.
    pub fn devices(&self) -> Result<Vec<HostDevice>, HostError> {
        let mut found = self.scan()?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        found.sort_by(|(a, _), (b, _)| a.bus_id.cmp(&b.bus_id));
        // Later than the devices, so that whatever is mounted on one of them by now counts.
        let surroundings = protect::Surroundings::read(&self.root);
        let protect = |(mut device, dir): (HostDevice, PathBuf)| {
            device.protection = surroundings.protection(&device, &dir);
            device
        };
        Ok(found.into_iter().map(protect).collect())
    }

    /// What a device says of itself, byte for byte: its device descriptor, then each configuration in full
    /// ([`descriptors::parse`]). `None` if the device is gone, or another is in its place.
    pub fn raw_descriptors(&self, device: &HostDevice) -> Option<Vec<u8>> {
        let dir = self.root.join("sys/bus/usb/devices").join(device.bus_id.to_string());
        device::raw_descriptors(&dir, device.at)
    }

    /// The hub that a device hangs on, a root hub among them: its node below `/dev/bus/usb`, and the number of the port there (from 1
    /// on). `None` if the device is gone.
    pub fn hub(&self, device: &HostDevice) -> Option<(PathBuf, u8)> {
        let link = self.root.join("sys/bus/usb/devices").join(device.bus_id.to_string());
        device::hub(&fs::canonicalize(link).ok()?, device)
    }

    /// Every device with its own folder in sysfs.
    fn scan(&self) -> Result<Vec<(HostDevice, PathBuf)>, HostError> {
        let list = self.root.join("sys/bus/usb/devices");
        let unreadable = |source| HostError::Unreadable { path: list.clone(), source };
        let entries = match fs::read_dir(&list) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
        };
        let devices = fs::canonicalize(self.root.join("sys/devices")).map_err(unreadable)?;
        // Root hubs are called `usb1` and interfaces `1-4:1.0`: neither is a bus and a chain of ports.
        let ids =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<BusId>().ok());
        Ok(ids.filter_map(|id| one(&list, &devices, &id)).collect())
    }
}

/// The device `id` of the list, with its folder.
fn one(list: &Path, devices: &Path, id: &BusId) -> Option<(HostDevice, PathBuf)> {
    let dir = fs::canonicalize(list.join(id.to_string())).ok()?;
    let device = device::read(devices, &dir, id)?;
    Some((device, dir))
}
