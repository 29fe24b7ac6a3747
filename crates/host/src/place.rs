//! Where a device is plugged in, in words that a reboot does not change.
//!
//! The folder of a device in sysfs says what it hangs on:
//!
//! ```text
//! /sys/devices/pci0000:00/0000:00:14.0/usb1/1-4/1-4.2       pci-0000:00:14.0-usb-0:4.2
//! /sys/devices/platform/dummy_hcd.0/usb2/2-1                platform-dummy_hcd.0-usb-0:1
//! /sys/devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0/usb1/1-1
//!                                                           platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1
//! ```
//!
//! The words are those of udev's `ID_PATH` (systemd, `udev-builtin-path_id.c`): from the device upwards, each new
//! subsystem among pci, platform, acpi and xen adds its lowest device in front. The USB 2 and USB 3 halves of one
//! controller share a path, and so can two devices; selecting such a path is ambiguous and says so.

use std::path::Path;

use vusb_model::selector::{BusId, StablePath};

use crate::sysfs;

/// The subsystems that say where something is.
const PLACES: [&str; 4] = ["pci", "platform", "acpi", "xen"];

/// The path of the device in folder `dir`, below `devices` (`/sys/devices`). `None` if nothing above it says where it is.
pub(crate) fn stable_path(devices: &Path, dir: &Path, id: &BusId) -> Option<StablePath> {
    let mut place = String::new();
    let mut below = None;
    let above = dir.ancestors().skip(1);
    for parent in above.take_while(|parent| *parent != devices && parent.starts_with(devices)) {
        let subsystem = sysfs::link_name(parent, "subsystem");
        if subsystem != below
            && let Some(word) = PLACES.into_iter().find(|it| Some(*it) == subsystem.as_deref())
        {
            let name = parent.file_name()?.to_str()?;
            let rest = if place.is_empty() { "" } else { "-" };
            place = format!("{word}-{name}{rest}{place}");
        }
        below = subsystem;
    }
    StablePath::new(&place, id)
}
