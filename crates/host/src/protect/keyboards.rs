//! Which keyboards this machine has.
//!
//! A keyboard is an input device that has the keys of one, or a USB interface that says so (class 3, subclass 1, protocol
//! 1: HID 1.11, appendix B.1). For the device in question either will do, because a keyboard that has just been plugged in
//! may have no driver yet; another keyboard to fall back on must be one that works.

use std::fs;
use std::path::{Path, PathBuf};

use super::Protection;
use crate::device::{HostDevice, Interface};
use crate::sysfs;

/// Keys 1 to 31, Escape to S: what udev takes a full keyboard by (systemd, `udev-builtin-input_id.c`). A power button or a
/// remote control lacks most of them.
const FULL: u64 = 0xffff_fffe;

/// The drivers that hold an interface for a guest or another machine.
const GIVEN_AWAY: [&str; 3] = ["usbfs", "usbip-host", "usbback"];

/// The keyboards that type into this machine.
pub(crate) struct Keyboards {
    keyboards: Vec<PathBuf>,
}

impl Keyboards {
    pub(crate) fn read(root: &Path) -> Keyboards {
        // What a program made repeats the keys of a real keyboard.
        let programs = fs::canonicalize(root.join("sys/devices/virtual")).ok();
        let made_up = |dir: &Path| programs.as_ref().is_some_and(|it| dir.starts_with(it));
        let keyboards = sysfs::class(&root.join("sys/class/input"))
            .into_iter()
            .map(|(_, dir)| dir)
            .filter(|dir| has_keys(dir) && !made_up(dir))
            .collect();
        Keyboards { keyboards }
    }

    /// Whether the device in `dir` is the only keyboard.
    pub(crate) fn protection(&self, device: &HostDevice, dir: &Path) -> Option<Protection> {
        let here = |keyboard: &PathBuf| keyboard.starts_with(dir);
        let is_one = self.keyboards.iter().any(here) || device.interfaces.iter().any(says_so);
        (is_one && self.keyboards.iter().all(here)).then_some(Protection::OnlyKeyboard)
    }
}

/// Whether an interface says that it is a keyboard, and is not given away already.
fn says_so(interface: &Interface) -> bool {
    let held = interface.driver.as_deref().is_some_and(|driver| GIVEN_AWAY.contains(&driver));
    interface.triple() == (3, 1, 1) && !held
}

/// Whether the input device in `dir` has the keys of a keyboard: its bitmap is words in hexadecimal, the lowest last, each
/// of 32 bits at least.
fn has_keys(dir: &Path) -> bool {
    let keys = sysfs::shown(dir, "capabilities/key", 4096).unwrap_or_default();
    let lowest = keys.rsplit(' ').next().unwrap_or_default();
    u64::from_str_radix(lowest, 16).is_ok_and(|keys| keys & FULL == FULL)
}
