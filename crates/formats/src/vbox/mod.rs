//! VirtualBox's machine settings, `.vbox`.
//!
//! ```text
//!  text ──settings──▶ controllers, input devices, filters, each with its element ──read──▶ Config
//!                          └──edit: elements added, removed, attributes changed──▶ text
//!  hardware ──write: a machine without USB, edited──▶ text
//! ```
//!
//! # VirtualBox's hardware, and how it is modelled
//!
//! | settings | model | why |
//! |---|---|---|
//! | `<Controller type="OHCI"/>` | pci-ohci, 12 ports | 106b:003f, a generic OHCI |
//! | `<Controller type="EHCI"/>` | ehci, 12 ports, no companions | an EHCI in a PCI slot of its own; slow devices need the OHCI beside it |
//! | `<Controller type="XHCI"/>` | qemu-xhci, 8 USB 2 and 6 USB 3 ports | an xHCI without the quirks of a particular chip |
//! | `<HID Pointing="USBTablet"/>`, `"USBMouse"` | tablet, mouse | `HidMouse` in `ConsoleImpl2.cpp`, with absolute or relative coordinates |
//! | `<HID Pointing="USBMultiTouch"/>` | tablet | VirtualBox adds a touch screen to the tablet; another format loses it |
//! | `<HID Keyboard="USBKeyboard"/>` | keyboard | `HidKeyboard` in `ConsoleImpl2.cpp` |
//! | `<DeviceFilter active="true"/>` | a host device | see [`filter`] |
//!
//! The sources of the numbers of ports are at [`Model::virtualbox_ports`]. A machine has at most
//! one controller of each type. The types `ComboMouse` and `ComboKeyboard` are no USB devices:
//! `ConsoleImpl2.cpp` only adds one for the types that start with `USB`.
//!
//! Settings versions 1.12 (VirtualBox 4.1) to 1.22 are supported. Up to 1.13 the file has
//! `<USBController enabled="" enabledEhci=""/>` with the filters in it, and no xHCI. This form is
//! edited as it is, by its two attributes. Version 1.15 brought the xHCI. Sources: `readHardware`,
//! `buildHardwareXML` and `bumpSettingsVersionIfNeeded` in VirtualBox's `Settings.cpp`, and
//! `VirtualBox-settings.xsd`. No real VirtualBox has opened an edited or generated file in a test.
//!
//! # What the settings do not specify
//!
//! Files have no indexes of controllers, and neither the ports nor the controllers of devices.
//! Indexes follow the order of the file. Profile `vbox` fills in the rest. A generated text is read
//! back, and the devices that `vbox` would place elsewhere are reported as lost.
//!
//! # Edits
//!
//! Only the `<Hardware>` of the machine itself is edited, never that of a snapshot. What is added
//! has the form that VirtualBox writes, and what becomes empty is removed as VirtualBox does, so
//! removing what was added restores the original text. The exception is what VirtualBox itself does
//! not write: an empty element such as `<DeviceFilters/>`, or `Keyboard="PS2Keyboard"` in a new
//! file, is gone after an item was added there and removed. `currentStateModified` stays as it is:
//! if it is `false`, VirtualBox restores a snapshot without asking about the edit.
//!
//! A file with a saved state (`stateFile`) can be read, but not edited: the saved state contains
//! the old hardware. Whether the machine runs cannot be seen in the text; see
//! [`ConfigFormat::processes`](crate::ConfigFormat::processes).
//!
//! [`Model::virtualbox_ports`]: vusb_model::models::Model::virtualbox_ports

mod edit;
mod filter;
mod format;
mod settings;
mod write;

use std::collections::BTreeMap;

use vusb_model::address::Index;
use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::profile::Profile;
use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};

pub use self::format::Vbox;

use self::edit::edit;
use self::settings::{Machine, attribute, child, parse};
use self::write::write;
use crate::config::{Config, Field, ItemSource};
use crate::error::{FormatError, Problem};
use crate::format::ToolProcesses;

/// The maximum number of warnings: each one is rendered with an excerpt of the text.
const MAX_WARNINGS: usize = 100;

/// The ending of the previous version of a file, which VirtualBox keeps beside it.
const PREVIOUS: &str = "vbox-prev";

fn read(text: &str, origin: &str) -> Result<Config, FormatError> {
    let in_text = |problem: Problem| problem.in_text(text, origin);
    let document = parse(text).map_err(in_text)?;
    let machine = Machine::read(document.root_element()).map_err(in_text)?;
    let mut problems = Vec::new();
    if origin.ends_with(PREVIOUS) {
        let what = "this is the previous version of a file, which VirtualBox keeps as a backup: \
                    the machine starts with the .vbox file";
        problems.push(Problem::new(machine.node.range().start..machine.node.range().start, what));
    }
    problems.extend(machine.saved_state());
    problems.extend(machine.warnings.iter().cloned());
    let warnings = problems.into_iter().take(MAX_WARNINGS);
    let warnings = warnings.map(|problem| in_text(problem.warning())).collect();
    Ok(Config { warnings, ..config(&machine) })
}

fn config(machine: &Machine<'_>) -> Config {
    let guest = guest(machine);
    let spec = spec(machine, guest.name.as_deref());
    let source = |span: &std::ops::Range<usize>, field| ItemSource {
        span: span.clone(),
        fields: BTreeMap::from([(field, span.clone())]),
        ..ItemSource::default()
    };
    let controllers = machine.controllers.iter();
    let devices = machine.devices.iter().map(|device| ItemSource {
        remarks: device.remarks.clone(),
        settings: device.settings.clone(),
        ..source(&device.span, Field::What)
    });
    Config {
        guest,
        spec,
        controllers: controllers.map(|it| source(&it.span, Field::Model)).collect(),
        devices: devices.collect(),
        ..Config::default()
    }
}

/// The spec, which profile `vbox` completes.
fn spec(machine: &Machine<'_>, name: Option<&str>) -> Spec {
    let controllers = Index::all().zip(&machine.controllers);
    let controllers = controllers.map(|(index, controller)| ControllerSpec {
        index: Some(index),
        model: Some(controller.model),
        ..ControllerSpec::default()
    });
    let devices = machine.devices.iter().map(|device| DeviceSpec::new(device.kind.clone()));
    Spec {
        profile: Profile::Vbox,
        // A name that is not a valid domain name is only kept in the guest.
        domain: name.and_then(|name| name.parse().ok()),
        controllers: controllers.collect(),
        devices: devices.collect(),
        ..Spec::default()
    }
}

fn guest(machine: &Machine<'_>) -> Guest {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let memory = child(machine.hardware, "Memory").and_then(|it| it.attribute("RAMSize"));
    // Version 1.20 has moved it to the platform.
    let platform = child(machine.node, "Platform");
    let cpu = platform.and_then(|it| child(it, "CPU")).or_else(|| child(machine.hardware, "CPU"));
    let vcpus = cpu.and_then(|it| it.attribute("count")).and_then(number);
    let arm = platform.and_then(|it| it.attribute("architecture")) == Some("ARM");
    let uuid = attribute(machine.node, "uuid").map(|it| it.trim_matches(['{', '}']).to_owned());
    let display = child(machine.hardware, "Display").and_then(|it| it.attribute("controller"));
    Guest {
        name: attribute(machine.node, "name").map(str::to_owned),
        uuid,
        hypervisor: Hypervisor::VirtualBox,
        arch: machine.node.attribute("OSType").map(|os| arch(os, arm).to_owned()),
        graphics: display != Some("None"),
        memory_kib: memory.and_then(number).and_then(|mib| mib.checked_mul(1024)),
        vcpus: vcpus.and_then(|count| u32::try_from(count).ok()),
        ..Guest::default()
    }
}

/// The architecture of an `OSType`: the types of 64-bit guests end in `_64`, those of ARM guests in
/// `_arm64`.
fn arch(os_type: &str, arm: bool) -> &'static str {
    let os_type = os_type.to_ascii_lowercase();
    match (arm || os_type.ends_with("_arm64"), os_type.ends_with("64")) {
        (true, _) => "aarch64",
        (false, true) => "x86_64",
        (false, false) => "i686",
    }
}

/// The programs that run machines: with a window since VirtualBox 6.0 and before, without one, and
/// with SDL (`MachineLaunchVMProcess.cpp`). Each has `--startvm` with the UUID or the name.
const RUNNERS: [&str; 4] = ["VirtualBoxVM", "VirtualBox", "VBoxHeadless", "VBoxSDL"];

/// The process that has all settings of its user in memory while any program of VirtualBox runs.
/// It ends a few seconds after the last of them.
const SERVICE: &str = "VBoxSVC";

fn processes(text: &str) -> Option<ToolProcesses> {
    let document = parse(text).ok()?;
    let machine = Machine::read(document.root_element()).ok()?;
    let Guest { name, uuid, .. } = guest(&machine);
    let guest = name.into_iter().chain(uuid).collect();
    Some(ToolProcesses { runners: &RUNNERS, guest, service: SERVICE })
}
