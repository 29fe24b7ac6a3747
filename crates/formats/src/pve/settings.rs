//! The settings that decide the USB hardware, and those that describe the guest.

use std::collections::BTreeMap;
use std::ops::Range;

use vusb_model::resolve::pve_1;

use super::document::{Document, Entry};
use super::usb::{self, Device, Usb};
use crate::error::Problem;

/// The number of places (`usb0` to `usb4`) of a guest that has no qemu-xhci.
const OLD_PLACES: u8 = 5;

/// A device of `usbN`.
#[derive(Clone, Debug)]
pub(super) struct UsbDevice {
    pub(super) device: Device,
    pub(super) usb3: bool,
    pub(super) line: Range<usize>,
    pub(super) value: Range<usize>,
}

/// The settings.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) name: Option<String>,
    pub(super) uuid: Option<String>,
    pub(super) arch: String,
    /// `pc-q35-9.0+pve0`; `None` is the newest i440fx.
    pub(super) machine: Option<String>,
    pub(super) ostype: Option<String>,
    pub(super) memory_mib: Option<u64>,
    pub(super) vcpus: Option<u32>,
    /// Whether it has a virtual graphics card.
    pub(super) has_screen: bool,
    pub(super) is_q35: bool,
    /// Whether all devices are on a qemu-xhci, each at its own port.
    pub(super) is_new: bool,
    pub(super) has_tablet: bool,
    /// The line of the key `tablet`; empty if there is none.
    pub(super) tablet_line: Range<usize>,
    /// The devices, by their places.
    pub(super) devices: BTreeMap<u8, UsbDevice>,
    /// The arguments that are passed to QEMU, and their position.
    pub(super) args: Option<(String, Range<usize>)>,
    pub(super) warnings: Vec<Problem>,
}

impl Settings {
    pub(super) fn read(document: &Document<'_>) -> Settings {
        let text = |key: &str| document.get(key).map(|it| it.value.to_owned());
        let option = |key: &str, option: &str| {
            document.get(key).and_then(|it| property(it.value, option)).map(str::to_owned)
        };
        let number = |key: &str| document.get(key).and_then(|it| it.value.parse::<u32>().ok());
        let machine = document.get("machine").map(|it| first(it.value, "type").to_owned());
        let ostype = text("ostype");
        let sockets = number("sockets").unwrap_or(1);
        let mut settings = Settings {
            name: text("name"),
            uuid: option("smbios1", "uuid"),
            arch: text("arch").unwrap_or_else(|| "x86_64".to_owned()),
            is_q35: machine.as_deref().is_some_and(|it| it.contains("q35")),
            is_new: is_new(machine.as_deref(), ostype.as_deref(), option("meta", "creation-qemu")),
            memory_mib: document
                .get("memory")
                .and_then(|it| first(it.value, "current").parse().ok()),
            vcpus: Some(number("cores").unwrap_or(1).saturating_mul(sockets)),
            args: document.get("args").map(|it| (it.value.to_owned(), it.value_span.clone())),
            machine,
            ostype,
            ..Settings::default()
        };
        settings.read_tablet(document);
        for place in 0..=99 {
            if let Some(entry) = document.get(&format!("usb{place}")) {
                settings.read_device(place, entry);
            }
        }
        settings
    }

    /// Reads `vga` and `tablet`. The tablet is on by default, unless the display is a serial
    /// terminal or SPICE (`qxl`).
    fn read_tablet(&mut self, document: &Document<'_>) {
        let screen = document.get("vga").map_or("std", |it| first(it.value, "type"));
        let is_serial = screen.starts_with("serial");
        self.has_screen = !is_serial && screen != "none";
        self.has_tablet = match document.get("tablet") {
            Some(entry) => {
                self.tablet_line = entry.line.clone();
                !matches!(entry.value.to_ascii_lowercase().as_str(), "0" | "no" | "off" | "false")
            }
            None => !is_serial && !screen.starts_with("qxl"),
        };
    }

    fn read_device(&mut self, place: u8, entry: &Entry<'_>) {
        let problem =
            |what: String, help: &str| Problem::new(entry.value_span.clone(), what).help(help);
        const DELETED: &str =
            "Proxmox VE ignores the line, and deletes it when it next writes the file";
        if place >= pve_1::PLACES {
            let what = format!("there is no usb{place}: the last one is usb{}", pve_1::PLACES - 1);
            self.warnings.push(problem(what, DELETED));
            return;
        }
        match usb::read(entry.value) {
            Err(why) => self.warnings.push(problem(format!("usb{place} {why}"), DELETED)),
            Ok(_) if place >= OLD_PLACES && !self.is_new => {
                let what =
                    format!("usb{place} needs machine version 7.1 and ostype l26, win8 or newer");
                self.warnings.push(problem(what, "the guest does not start with it"));
            }
            Ok(Usb { device, usb3 }) => {
                let (line, value) = (entry.line.clone(), entry.value_span.clone());
                self.devices.insert(place, UsbDevice { device, usb3, line, value });
            }
        }
    }
}

/// Whether Proxmox VE puts all devices of the guest on a qemu-xhci. It does so from machine version
/// 7.1 on, for Linux 2.6 and Windows 8 and newer.
///
/// A machine without a version gets that of the installed QEMU. For Windows it gets 5.1 instead, or
/// the version of the QEMU that the guest was created with if that is 9.1 or newer. The installed
/// QEMU is assumed to be newer than 7.1, which was released in 2022.
fn is_new(machine: Option<&str>, ostype: Option<&str>, creation: Option<String>) -> bool {
    let windows = match ostype {
        Some("win8" | "win10" | "win11") => true,
        Some("l26") => false,
        _ => return false,
    };
    let creation = creation.as_deref().and_then(version).filter(|it| *it >= (9, 1));
    let default = match (windows, creation) {
        (false, _) => return machine.and_then(machine_version).is_none_or(|it| it >= (7, 1)),
        (true, creation) => creation.unwrap_or((5, 1)),
    };
    machine.and_then(machine_version).unwrap_or(default) >= (7, 1)
}

/// The version of a machine: `pc-q35-9.0+pve0`. `None` if it has none: `q35`.
fn machine_version(machine: &str) -> Option<(u32, u32)> {
    version(machine.rsplit_once('-')?.1)
}

/// `9.0`, with anything but a digit after it.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let end = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest.get(..end)?.parse().ok()?))
}

/// The value of an option in `KEY=VALUE,...`.
fn property<'t>(list: &'t str, key: &str) -> Option<&'t str> {
    list.split(',').find_map(|it| it.strip_prefix(key)?.strip_prefix('='))
}

/// The value of the option whose name may be left out.
fn first<'t>(list: &'t str, key: &str) -> &'t str {
    let unnamed = list.split(',').find(|it| !it.contains('='));
    property(list, key).or(unnamed).unwrap_or_default()
}
