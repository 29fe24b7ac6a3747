//! The keyboards of this machine.
//!
//! A keyboard is an input device that has all keys of a keyboard, or a USB interface that declares
//! itself a keyboard (class 3, subclass 1, protocol 1: HID 1.11, appendix B.1). Either is a reason
//! to protect a device, because a keyboard that was just plugged in may not have a driver yet.
//! Another keyboard counts as a substitute only if it works, and only if it is not a mouse: mice
//! with extra buttons, and the receivers of wireless mice, have input devices that report all keys
//! of a keyboard in addition to the movement of the mouse (udev sets ID_INPUT_KEYBOARD for them,
//! too). An input device that is both a keyboard and a touchpad is not a substitute either: this
//! rule may protect too much, but not too little.
//!
//! In sysfs, the input devices of wireless keyboards are below their receiver. Those of Bluetooth
//! keyboards are below the adapter if the kernel drives the keyboard. Usually BlueZ drives it and
//! makes a virtual input device (uhid), which is not below the adapter but has the bus type
//! Bluetooth:
//!
//! ```text
//! /sys/devices/pci0000:00/0000:00:14.0/usb1/1-5/1-5:1.0/bluetooth/hci0/hci0:256/0005:046D:B342.0007/input/input20
//! /sys/devices/virtual/misc/uhid/0005:046D:B342.0008/input/input21
//! ```
//!
//! The kernel does not show the address of an adapter. So if there are several adapters, the
//! keyboard may be connected to any of them.
//!
//! If the input devices are unreadable, every device that may be a keyboard is protected.

use std::path::{Path, PathBuf};

use crate::device::{HostDevice, Interface};
use crate::protection::Protection;
use crate::sysfs::Reader;
use crate::used_by::UsedBy;

/// Keys 1 to 31, Escape to S: udev's criterion for a full keyboard (systemd,
/// `udev-builtin-input_id.c`). A power button or a remote control lacks most of them.
const FULL_KEYBOARD: u64 = 0xffff_fffe;

/// The relative axes X and Y of a mouse: `REL_X` and `REL_Y` (Linux,
/// `include/uapi/linux/input-event-codes.h`).
const POINTER_AXES: u64 = 0b11;

/// `bustype` of an input device that is connected by Bluetooth: `BUS_BLUETOOTH` (Linux,
/// `include/uapi/linux/input.h`).
const BLUETOOTH: &str = "0005";

/// Class, subclass and protocol of a Bluetooth adapter (USB class code E0, "Wireless Controller").
const BLUETOOTH_ADAPTER: (u8, u8, u8) = (0xe0, 1, 1);

/// The maximum length of a keyboard's name in characters (`name` of `struct hid_device`, Linux).
const MAX_NAME: usize = 128;

/// The keyboards that work on this machine.
pub(crate) struct Keyboards {
    files: Reader,
    /// The directories in sysfs of all input devices.
    inputs: Vec<PathBuf>,
    /// Whether no input device is missing.
    is_complete: bool,
    /// The directories in sysfs of the keyboards that are below a hardware device in
    /// `/sys/devices`.
    dirs: Vec<PathBuf>,
    /// The directories of mice that report the keys of a keyboard.
    mice: Vec<PathBuf>,
    /// The names of the Bluetooth keyboards whose input device is not below an adapter.
    bluetooth: Vec<String>,
}

impl Keyboards {
    pub(crate) fn read(root: &Path) -> Keyboards {
        let files = Reader::new(root);
        let inputs: Vec<PathBuf> =
            files.class("sys/class/input").into_iter().map(|(_, dir)| dir).collect();
        let is_complete = files.unreadable().is_none();
        // Virtual keyboards only forward the keys of real ones.
        let virtual_devices = files.canonical(&root.join("sys/devices/virtual"));
        let is_virtual =
            |dir: &PathBuf| virtual_devices.as_ref().is_some_and(|parent| dir.starts_with(parent));
        let is_pointer = |dir: &PathBuf| is_pointer(&files, dir);
        let keyboards = inputs.iter().filter(|dir| has_keys(&files, dir)).cloned();
        let (virtual_ones, dirs): (Vec<_>, Vec<_>) = keyboards.partition(is_virtual);
        let of_bluez = |dir: &&PathBuf| is_bluetooth(&files, dir) && !is_pointer(dir);
        let bluetooth = virtual_ones.iter().filter(of_bluez);
        let bluetooth = bluetooth.map(|dir| name(&files, dir).unwrap_or_default()).collect();
        let (mice, dirs) = dirs.into_iter().partition(is_pointer);
        Keyboards { files, inputs, is_complete, dirs, mice, bluetooth }
    }

    /// Whether the device with the directory `dir` is the only keyboard, or may be the adapter that
    /// the only keyboards are connected to.
    pub(crate) fn protection(&self, device: &HostDevice, dir: &Path) -> Option<Protection> {
        self.known(device, dir).or_else(|| self.unknown(device, dir))
    }

    /// The reason to protect a device that may be needed, if not everything was readable.
    fn unknown(&self, device: &HostDevice, dir: &Path) -> Option<Protection> {
        let file = self.files.unreadable()?.to_owned();
        let of_interface = |it: &Interface| declares_keyboard(it) || is_bluetooth_adapter(it);
        let may_be_needed = !self.is_complete
            || self.inputs.iter().any(|input| input.starts_with(dir))
            || device.interfaces.iter().any(of_interface);
        may_be_needed.then_some(Protection::UnknownKeyboard { file })
    }

    fn known(&self, device: &HostDevice, dir: &Path) -> Option<Protection> {
        let on_device = |keyboard: &PathBuf| keyboard.starts_with(dir);
        if !self.dirs.iter().all(on_device) {
            return None;
        }
        let is_adapter = device.interfaces.iter().any(is_bluetooth_adapter);
        let paired =
            || self.bluetooth.first().cloned().or_else(|| name(&self.files, self.dirs.first()?));
        if let Some(keyboard) = is_adapter.then(paired).flatten() {
            return Some(Protection::BluetoothKeyboard { keyboard });
        }
        let is_keyboard = !self.dirs.is_empty()
            || self.mice.iter().any(on_device)
            || device.interfaces.iter().any(declares_keyboard);
        (is_keyboard && self.bluetooth.is_empty()).then_some(Protection::OnlyKeyboard)
    }
}

/// Whether an interface is that of a Bluetooth adapter that works on this machine.
fn is_bluetooth_adapter(interface: &Interface) -> bool {
    interface.class_triple() == BLUETOOTH_ADAPTER && !is_passed_through(interface)
}

/// The name of the input device in `dir`. It comes from the keyboard.
fn name(files: &Reader, dir: &Path) -> Option<String> {
    files.text(dir, "name", MAX_NAME)
}

/// Whether the input device in `dir` is connected by Bluetooth.
fn is_bluetooth(files: &Reader, dir: &Path) -> bool {
    files.word(dir, "id/bustype").as_deref() == Some(BLUETOOTH)
}

/// Whether an interface declares itself a keyboard, and is not passed through already.
fn declares_keyboard(interface: &Interface) -> bool {
    interface.class_triple() == (3, 1, 1) && !is_passed_through(interface)
}

/// Whether a guest, another program or another machine uses an interface.
fn is_passed_through(interface: &Interface) -> bool {
    interface.driver.as_deref().and_then(UsedBy::from_driver).is_some()
}

/// Whether the input device in `dir` has the keys of a full keyboard.
fn has_keys(files: &Reader, dir: &Path) -> bool {
    lowest_word(files, dir, "capabilities/key") & FULL_KEYBOARD == FULL_KEYBOARD
}

/// Whether the input device in `dir` moves a pointer.
fn is_pointer(files: &Reader, dir: &Path) -> bool {
    lowest_word(files, dir, "capabilities/rel") & POINTER_AXES == POINTER_AXES
}

/// The lowest word of a bitmap, which consists of hexadecimal words of at least 32 bits each, the
/// lowest one last. 0 if it cannot be read.
fn lowest_word(files: &Reader, dir: &Path, bitmap: &str) -> u64 {
    let words = files.text(dir, bitmap, 4096).unwrap_or_default();
    let lowest = words.rsplit(' ').next().unwrap_or_default();
    u64::from_str_radix(lowest, 16).unwrap_or_default()
}
