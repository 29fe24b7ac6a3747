//! The path of a device's port that stays the same across reboots.
//!
//! The directory of a device in sysfs shows which controller and hubs it is connected to:
//!
//! ```text
//! /sys/devices/pci0000:00/0000:00:14.0/usb1/1-4/1-4.2       pci-0000:00:14.0-usb-0:4.2
//! /sys/devices/platform/dummy_hcd.0/usb2/2-1                platform-dummy_hcd.0-usb-0:1
//! /sys/devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0/usb1/1-1
//!                                                           platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1
//! ```
//!
//! The format is that of udev's `ID_PATH` (systemd, `udev-builtin-path_id.c`): going up from the
//! device, each new subsystem among pci, platform, acpi and xen prepends its lowest device. The USB
//! 2 and USB 3 buses of one controller have the same path, so two devices can share one. Selecting
//! such a path is reported as ambiguous.

use std::path::Path;

use vusb_model::selector::{BusId, StablePath};

use crate::sysfs;

/// The subsystems whose devices are part of the path.
const SUBSYSTEMS: [&str; 4] = ["pci", "platform", "acpi", "xen"];

/// The path of the device with the directory `dir`, which is below `devices` (`/sys/devices`).
/// `None` if it has no parent in one of the [`SUBSYSTEMS`].
pub(crate) fn of(devices: &Path, dir: &Path, id: &BusId) -> Option<StablePath> {
    let mut path = String::new();
    let mut below = None;
    let above = dir.ancestors().skip(1);
    for parent in above.take_while(|parent| *parent != devices && parent.starts_with(devices)) {
        let subsystem = sysfs::link_name(parent, "subsystem");
        let is_new = subsystem != below;
        let word = SUBSYSTEMS.into_iter().find(|it| is_new && Some(*it) == subsystem.as_deref());
        if let Some(word) = word {
            let name = parent.file_name()?.to_str()?;
            let separator = if path.is_empty() { "" } else { "-" };
            path = format!("{word}-{name}{separator}{path}");
        }
        below = subsystem;
    }
    StablePath::new(&path, id)
}
