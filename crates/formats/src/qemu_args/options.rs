//! The options of a command line that concern USB.

use std::collections::BTreeMap;
use std::ops::Range;

use vusb_model::guest::Guest;

use super::device::Properties;
use super::kinds::BackEnds;
use super::words::{Word, program};
use crate::error::Problem;

/// A device of `-device`.
#[derive(Clone, Debug)]
pub(crate) struct DeviceOption {
    pub(crate) device: Properties,
    /// The position of the value.
    pub(crate) span: Range<usize>,
    /// Whether it is JSON: devices in JSON are created last.
    json: bool,
}

/// The options.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) guest: Guest,
    /// The architecture that the name of the program implies.
    pub(crate) arch: String,
    pub(crate) machine: Properties,
    /// The values of `-usbdevice`.
    pub(crate) usbdevices: Vec<(String, Range<usize>)>,
    /// The devices of `-device`, in the order in which QEMU creates them.
    pub(crate) devices: Vec<DeviceOption>,
    pub(crate) back_ends: BackEnds,
    /// The drives without an id, which no device refers to.
    pub(crate) drives: Vec<Properties>,
    /// The files of `-hda`, `-cdrom` and the like.
    pub(crate) images: Vec<String>,
    /// The properties of `-global`, by driver.
    globals: BTreeMap<String, BTreeMap<String, String>>,
    /// The properties of `-set`, by the id of the device.
    sets: BTreeMap<String, Vec<(String, String)>>,
    pub(crate) warnings: Vec<Problem>,
}

impl Options {
    /// Reads the words of a command, with or without the program.
    pub(crate) fn read(words: &[Word]) -> Options {
        let first = program(words).map_or(0, |position| position + 1);
        let name = first.checked_sub(1).and_then(|it| words.get(it)).map(|it| it.text.as_str());
        let mut options = Options { arch: arch(name.unwrap_or_default()), ..Options::default() };
        let mut rest = words.get(first..).unwrap_or_default().iter();
        // Whether the next word may be the value of an option that is skipped.
        let mut is_value = false;
        while let Some(word) = rest.next() {
            let Some(option) = word.text.strip_prefix('-') else {
                if word.opaque && !is_value {
                    options.warn(word, "what this adds to the command line is not known");
                }
                is_value = false;
                continue;
            };
            let option = option.strip_prefix('-').unwrap_or(option);
            is_value = !WITHOUT_VALUE.contains(&option) && !TAKES_VALUE.contains(&option);
            if option == "usb" {
                options.machine.set("usb", "on");
            } else if TAKES_VALUE.contains(&option) {
                if let Some(value) = rest.next() {
                    options.option(option, value);
                }
            }
        }
        options.finish();
        options
    }

    fn warn(&mut self, word: &Word, what: &str) {
        self.warnings.push(Problem::new(word.span.clone(), what));
    }

    fn option(&mut self, option: &str, value: &Word) {
        let text = value.text.as_str();
        match option {
            "device" => self.device(value),
            "machine" | "M" => {
                let new = Properties::read(text, "type");
                self.machine.merge(new);
            }
            "usbdevice" => {
                self.machine.set("usb", "on");
                self.usbdevices.push((text.to_owned(), value.span.clone()));
            }
            "global" => self.global(text),
            "set" => {
                let set = text.split_once('=').and_then(|(name, value)| {
                    let (id, property) = name.strip_prefix("device.")?.split_once('.')?;
                    Some((id.to_owned(), (property.to_owned(), value.to_owned())))
                });
                if let Some((id, property)) = set {
                    self.sets.entry(id).or_default().push(property);
                }
            }
            "readconfig" => self.warn(value, "this file cannot be read: what it adds is not known"),
            "drive" | "blockdev" | "chardev" | "netdev" => self.back_end(option, text),
            "hda" | "hdb" | "hdc" | "hdd" | "cdrom" => self.images.push(text.to_owned()),
            _ => self.guest_option(option, text),
        }
    }

    /// Reads `DRIVER.PROPERTY=VALUE`, or `driver=DRIVER,property=PROPERTY,value=VALUE`.
    fn global(&mut self, text: &str) {
        let long = Properties::read(text, "global");
        let long = long.get("driver").zip(long.get("property")).zip(long.get("value"));
        let short = || {
            let (name, value) = text.split_once('=')?;
            Some((name.split_once('.')?, value))
        };
        let Some(((driver, property), value)) = long.or_else(short) else { return };
        if GLOBALS.contains(&property) {
            let of_driver = self.globals.entry(driver.to_owned()).or_default();
            of_driver.insert(property.to_owned(), value.to_owned());
        }
    }

    fn device(&mut self, value: &Word) {
        let device = Properties::read(&value.text, "driver");
        let is_unknown = |key: &str| device.get(key).is_some_and(|it| it.contains(['$', '`']));
        if value.opaque && ["driver", "bus", "port", "id"].into_iter().any(is_unknown) {
            self.warn(value, "this device, or its place, is not known: it contains a variable");
            return;
        }
        let json = value.text.trim_start().starts_with('{');
        self.devices.push(DeviceOption { device, span: value.span.clone(), json });
    }

    fn back_end(&mut self, option: &str, text: &str) {
        let (implied, id) = match option {
            "drive" => ("file", "id"),
            "blockdev" => ("driver", "node-name"),
            "chardev" => ("backend", "id"),
            _ => ("type", "id"),
        };
        let it = Properties::read(text, implied);
        let Some(id) = it.get(id).map(str::to_owned) else {
            if option == "drive" {
                self.drives.push(it);
            }
            return;
        };
        let all = match option {
            "chardev" => &mut self.back_ends.chardevs,
            "netdev" => &mut self.back_ends.netdevs,
            _ => &mut self.back_ends.blocks,
        };
        all.insert(id, it);
    }

    fn guest_option(&mut self, option: &str, text: &str) {
        match option {
            "name" => {
                let name = Properties::read(text, "guest");
                self.guest.name = name.get("guest").map(str::to_owned);
            }
            "uuid" => self.guest.uuid = Some(text.to_owned()),
            "m" => {
                let memory = Properties::read(text, "size");
                self.guest.memory_kib = memory.get("size").and_then(kib);
            }
            "smp" => {
                let processors = Properties::read(text, "cpus");
                self.guest.vcpus = processors.number("cpus").and_then(|it| u32::try_from(it).ok());
            }
            _ => {}
        }
    }

    /// Completes the guest, applies `-set` to the device with the id and `-global` to the devices
    /// of each driver, and sorts the devices into the order in which QEMU creates them. QEMU does
    /// not start if two devices have the same id. `-set` is applied to the first one only, so that
    /// the work does not grow with the product of devices and properties.
    fn finish(&mut self) {
        self.guest.arch = Some(self.arch.clone()).filter(|it| !it.is_empty());
        self.guest.machine = self.machine.get("type").map(str::to_owned);
        for DeviceOption { device, .. } in &mut self.devices {
            for (property, value) in self.sets.remove(device.id()).into_iter().flatten() {
                device.set(&property, &value);
            }
        }
        for DeviceOption { device, .. } in &mut self.devices {
            apply_globals(&self.globals, device);
        }
        // The sort is stable: devices in the same form stay in their order.
        self.devices.sort_by_key(|it| it.json);
    }

    /// A device of this driver without properties of its own.
    pub(crate) fn plain(&self, driver: &str) -> Properties {
        let mut device = Properties::read(driver, "driver");
        apply_globals(&self.globals, &mut device);
        device
    }
}

fn apply_globals(globals: &BTreeMap<String, BTreeMap<String, String>>, device: &mut Properties) {
    for (property, value) in globals.get(device.driver()).into_iter().flatten() {
        device.set_default(property, value);
    }
}

/// The properties of `-global` that affect what is read here.
const GLOBALS: [&str; 7] = ["p2", "p3", "ports", "num-ports", "usb_version", "readonly", "rootdir"];

/// The options with a value that are read. The values of all others are skipped, since they are
/// words that do not begin with a dash.
const TAKES_VALUE: [&str; 20] = [
    "device",
    "machine",
    "M",
    "usbdevice",
    "global",
    "set",
    "readconfig",
    "drive",
    "blockdev",
    "chardev",
    "netdev",
    "hda",
    "hdb",
    "hdc",
    "hdd",
    "cdrom",
    "name",
    "uuid",
    "m",
    "smp",
];

/// The common options without a value.
const WITHOUT_VALUE: [&str; 14] = [
    "usb",
    "S",
    "s",
    "nodefaults",
    "no-user-config",
    "enable-kvm",
    "daemonize",
    "nographic",
    "snapshot",
    "no-reboot",
    "no-shutdown",
    "no-hpet",
    "no-acpi",
    "full-screen",
];

/// The architecture of a QEMU: `x86_64` for `/usr/bin/qemu-system-x86_64`, for `kvm` and the like,
/// and for an unknown program.
fn arch(program: &str) -> String {
    let name = program.rsplit('/').next().unwrap_or_default();
    match name.strip_prefix("qemu-system-") {
        Some(arch) if !arch.contains(['$', '`']) => arch.to_owned(),
        _ => "x86_64".to_owned(),
    }
}

/// An amount of memory: in MiB without a unit.
fn kib(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let unit = text.get(digits.len()..)?.chars().next().map_or('m', |it| it.to_ascii_lowercase());
    let factor = match unit {
        'k' => 1,
        'm' => 1 << 10,
        'g' => 1 << 20,
        't' => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}
