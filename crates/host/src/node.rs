//! Finding the USB device behind a node in `/dev`: `/dev/sdb`, `/dev/ttyUSB0`, `/dev/hidraw2`, or a
//! link to one, such as those in `/dev/serial/by-id`.
//!
//! The kernel links each device number to the directory of its device in sysfs, which is below that
//! of the USB device:
//!
//! ```text
//! /dev/ttyUSB0 ─ 188:0 ─▶ /sys/dev/char/188:0 ─▶ .../usb1/1-4/1-4:1.0/ttyUSB0/tty/ttyUSB0
//!                                                         └── the USB device
//! ```
//!
//! A container may lack the nodes. There the name is looked up in the classes of sysfs.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use vusb_model::selector::BusId;

use crate::sysfs;

/// The USB devices above the device with the node `path` in sysfs, the nearest one first. `None` if
/// there is neither such a node nor a device of this name.
pub(crate) fn usb_devices(root: &Path, path: &Path) -> Option<Vec<BusId>> {
    let dir = directory(root, path)?;
    let names = dir.ancestors().filter_map(|dir| dir.file_name()?.to_str()?.parse().ok());
    Some(names.collect())
}

/// The directory in sysfs of the device with the node `path`.
fn directory(root: &Path, path: &Path) -> Option<PathBuf> {
    let node = root.join(path.strip_prefix("/").ok()?);
    let numbered = || {
        let node = fs::metadata(&node).ok()?;
        let kind = if node.file_type().is_block_device() {
            "block"
        } else if node.file_type().is_char_device() {
            "char"
        } else {
            return None;
        };
        let (major, minor) = (rustix::fs::major(node.rdev()), rustix::fs::minor(node.rdev()));
        fs::canonicalize(root.join(format!("sys/dev/{kind}/{major}:{minor}"))).ok()
    };
    numbered().or_else(|| by_name(root, path))
}

/// The device with the name of the node, in whatever class it is.
fn by_name(root: &Path, path: &Path) -> Option<PathBuf> {
    let name = path.strip_prefix("/dev").ok()?.to_str()?.replace('/', "!");
    if name.is_empty() || name.starts_with('.') {
        return None;
    }
    let classes = root.join("sys/class");
    let all = sysfs::names(&classes).into_iter();
    all.into_iter().find_map(|class| fs::canonicalize(classes.join(class).join(&name)).ok())
}
