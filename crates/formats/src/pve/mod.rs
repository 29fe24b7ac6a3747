//! Proxmox VE's configuration of a guest, `/etc/pve/qemu-server/VMID.conf`.
//!
//! ```text
//!  text ──document──▶ keys and values ──settings──▶ what decides the USB hardware
//!                                                     └──command_line──▶ QEMU's arguments
//!                                        hardware ◀──the rules of QEMU──────┘
//! ```
//!
//! Proxmox VE turns the file into a command line, and QEMU decides the rest. Both steps are
//! repeated here, so the result is exactly the hardware that the guest gets. The facts are those of
//! qemu-server's `PVE/QemuServer.pm` and `PVE/QemuServer/USB.pm` (version 9.0).
//!
//! # The file
//!
//! `KEY: VALUE` on each line. A line `[NAME]` begins a section: `[PENDING]` contains changes that
//! are applied at the next start; the other sections are snapshots and the like. A guest that does
//! not run starts with the pending changes. `qm` and the web interface write the file sorted, and
//! leave out every line that they do not understand. `usbN` defines a device; N is the device's
//! *place*.
//!
//! # What is written
//!
//! Only `usbN` and `tablet`: the file has no keys for other USB hardware. A new line goes where
//! `qm` would put it, so that the next change by `qm` does not move it.

mod command_line;
mod document;
mod edit;
mod format;
mod mapping;
mod settings;
mod usb;
mod write;

use std::collections::BTreeSet;
use std::ops::Range;

use vusb_model::device::{Kind, Other};
use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::hardware::Hardware;
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::resolve::pve_1;
use vusb_model::spec::Spec;

pub use self::command_line::usb_arguments;
pub use self::format::Pve;
pub use self::mapping::{MappedDevice, MappingError, mapped_device};
pub use self::usb::host_value;

use self::document::{Document, Section};
use self::settings::Settings;
use self::usb::Device;
use crate::config::{Config, Field, ItemSource};
use crate::error::{FormatError, Problem};
use crate::length;
use crate::qemu_args::{self, PassedThrough};

/// The maximum number of warnings: each is rendered with an excerpt of the text.
const MAX_WARNINGS: usize = 100;

fn read(text: &str, origin: &str) -> Result<Config, FormatError> {
    let refused = |problem: Problem| problem.in_text(text, origin);
    length::check(text, "a Proxmox VE configuration").map_err(refused)?;
    let document = Document::read(text);
    let settings = Settings::read(&document);
    let mut hardware = Hardware::new();
    let mut warnings = document.warnings;
    warnings.extend(settings.warnings.iter().cloned());
    set_hardware(&settings, &mut hardware, &mut warnings);
    let (spec, controllers, devices) = items(&settings, &hardware);
    let warnings = warnings.into_iter().take(MAX_WARNINGS);
    let warnings = warnings.map(|it| it.warning().in_text(text, origin));
    Ok(Config {
        guest: guest(&settings),
        spec,
        controllers,
        devices,
        warnings: warnings.collect(),
        ..Config::default()
    })
}

/// Sets `hardware` to that of a guest with these settings, and adds what is wrong to `warnings`.
fn set_hardware(settings: &Settings, hardware: &mut Hardware, warnings: &mut Vec<Problem>) {
    let words = command_line::words(settings);
    let (placed, problems) = qemu_args::hardware_of_words(&words, &settings.arch);
    *hardware = placed;
    for place in 0..pve_1::PLACES {
        let names =
            (format!("usbredirdev{place}").parse::<Name>(), format!("usb{place}").parse::<Name>());
        if let (Ok(old), Ok(new)) = names {
            // If the name is in use, the item that has it keeps it.
            let _ = hardware.rename(&old, &new);
        }
    }
    // Only what `args` adds can be wrong, apart from an old guest with more devices than ports.
    let beginning =
        |it: Problem| if it.start() == command_line::NOWHERE { it.at(0..0) } else { it };
    warnings.extend(problems.into_iter().map(beginning));
}

/// The spec that leaves nothing open, with the sources of its items.
fn items(settings: &Settings, hardware: &Hardware) -> (Spec, Vec<ItemSource>, Vec<ItemSource>) {
    let mut spec = Spec { profile: Profile::Pve1, ..Spec::from(hardware) };
    spec.domain = settings.name.as_deref().and_then(|name| name.parse().ok());
    let args = settings.args.as_ref().map_or(0..0, |(_, span)| span.clone());
    let source = |span: Range<usize>| ItemSource { span, ..ItemSource::default() };
    let first_usb = settings.devices.values().next().map_or(0..0, |it| it.line.clone());
    let controllers = hardware.controllers().map(|it| match it.name.as_str() {
        pve_1::CONTROLLER => source(first_usb.clone()),
        "uhci" | "ehci" | "ehci-2" => source(0..0),
        _ => source(args.clone()),
    });
    let controllers = controllers.collect();
    let mut sources = Vec::new();
    let mut seen = BTreeSet::new();
    for device in &mut spec.devices {
        // For several equal devices, QEMU takes a different one each time.
        let again = device.kind.unique_resource().is_some_and(|it| !seen.insert(format!("{it:?}")));
        if again {
            let driver = match &device.kind {
                Kind::Host(_) => "usb-host",
                other => other.name(),
            };
            device.kind = Kind::Other(Other { driver: driver.to_owned() });
        }
        let name = device.name.as_ref().map_or("", Name::as_str);
        let place = pve_1::place_of(name).and_then(|place| settings.devices.get(&place));
        sources.push(match place {
            Some(it) => {
                if let Device::Mapping(_) = &it.device {
                    device.kind = Kind::Other(Other { driver: "usb-host".to_owned() });
                }
                usb_source(it)
            }
            None if name == "tablet" => source(settings.tablet_line.clone()),
            None if name == "keyboard" => source(0..0),
            None => source(args.clone()),
        });
    }
    (spec, controllers, sources)
}

fn usb_source(it: &settings::UsbDevice) -> ItemSource {
    let mapping = match &it.device {
        Device::Mapping(id) => {
            Some(format!("the cluster's mapping {id} decides which device it is"))
        }
        _ => None,
    };
    ItemSource {
        span: it.line.clone(),
        fields: [(Field::What, it.value.clone())].into(),
        remarks: mapping.into_iter().collect(),
        ..ItemSource::default()
    }
}

fn guest(settings: &Settings) -> Guest {
    Guest {
        name: settings.name.clone(),
        uuid: settings.uuid.clone(),
        hypervisor: Hypervisor::Qemu,
        arch: Some(settings.arch.clone()),
        machine: settings.machine.clone(),
        os: settings.ostype.clone(),
        graphics: settings.has_screen,
        memory_kib: settings.memory_mib.and_then(|it| it.checked_mul(1024)),
        vcpus: settings.vcpus,
        ..Guest::default()
    }
}

/// What a configuration contains about a guest besides its hardware.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The guest's name.
    pub name: Option<String>,
    /// The Proxmox VE operation that keeps the guest locked for a longer time: `migrate`,
    /// `backup`.
    pub lock: Option<String>,
    /// Whether `qm` changes the USB devices of the running guest; otherwise it does so at the next
    /// start.
    pub hot_plugs: bool,
    /// The places that are changed at the next start: `usb0`.
    pub pending: Vec<String>,
    /// The places that have a device, now or from the next start.
    pub places: BTreeSet<String>,
    /// What the running guest has of this machine, by `usbN` and `args`, without the devices of
    /// mappings. Disks are only those of `args`.
    pub passed: PassedThrough,
    /// The mappings whose devices the running guest has.
    pub mappings: Vec<String>,
    /// Whether the running guest may have more: a `usbN` cannot be parsed.
    pub has_unknown: bool,
}

/// Reads what a configuration contains about a guest besides its hardware.
pub fn facts(text: &str) -> Facts {
    let document = Document::read(text);
    let settings = Settings::read(&document);
    let current = |key: &str| {
        let mut all = document.entries.iter();
        all.rfind(|it| it.section == Section::Current && it.key == key).map(|it| it.value)
    };
    // 1 stands for the default.
    let hotplug = current("hotplug").filter(|it| *it != "1").unwrap_or("network,disk,usb");
    let pending = document.entries.iter().filter(|it| it.section == Section::Pending);
    let places = document.entries.iter().filter(|it| {
        matches!(it.section, Section::Current | Section::Pending)
            && pve_1::place_of(it.key).is_some()
    });
    let places = places.map(|it| it.key.to_owned()).collect();
    let now = document.entries.iter().filter(|it| it.section == Section::Current);
    let now = now.filter(|it| pve_1::place_of(it.key).is_some());
    let (mut at_places, mut mappings, mut has_unknown) = (Vec::new(), Vec::new(), false);
    for entry in now {
        match usb::read(entry.value).map(|it| it.device) {
            Ok(Device::Host(selector)) => at_places.push(selector),
            Ok(Device::Mapping(id)) => mappings.push(id),
            Ok(Device::Spice) => {}
            Err(_) => has_unknown = true,
        }
    }
    let args = qemu_args::shell_words(current("args").unwrap_or_default());
    let args: Vec<String> = args.into_iter().map(|it| it.text).collect();
    let mut passed = qemu_args::passed_through(&args.join("\0"), &|_| None);
    passed.host_devices.extend(at_places);
    let keys = pending.flat_map(|it| match it.key {
        "delete" => document::words(it.value).collect(),
        key => vec![key],
    });
    Facts {
        lock: current("lock").map(str::to_owned),
        hot_plugs: settings.is_new && hotplug.split([',', ';', ' ']).any(|it| it == "usb"),
        pending: keys.filter(|it| pve_1::place_of(it).is_some()).map(str::to_owned).collect(),
        places,
        passed,
        mappings,
        has_unknown,
        name: settings.name,
    }
}
