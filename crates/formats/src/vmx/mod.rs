//! VMware's configuration, VMX.
//!
//! ```text
//!  text ──dictionary──▶ keys and values ──found──▶ what is said, and by which keys ──read──▶ Config
//!                                                         └──edit: lines changed, added, taken out──▶ text
//!  hardware ──write: an empty guest, edited──▶ text
//! ```
//!
//! # What VMware has, and what it is here
//!
//! | VMX | here | why |
//! |---|---|---|
//! | `usb.present` | piix4-uhci, 2 ports | Intel's PIIX4 (8086:7112) in old guests, and a two-port UHCI under VMware's own number (15ad:0774) in newer ones |
//! | `ehci.present`, with `usb.present` | ehci, 6 ports, no companions | VMware's EHCI (15ad:0770) sits in another PCI slot than its UHCI; slow devices are on the UHCI. It is a flag of that controller (`ehciEnabled` in the vSphere API), so it is not there alone |
//! | `usb_xhci.present` | qemu-xhci, 4 ports | VMware's xHCI (15ad:0778, 0779, 077a) is nobody's real hardware; by its manual it has eight root hub ports, four of USB 3 and four of USB 2 |
//! | `usb:N.deviceType` = `hid` or `mouse` | mouse | what guests find there is "VMware Virtual USB Mouse" (0e0f:0003) |
//! | `usb:N.deviceType` = `hub` | hub with 7 ports | "VMware Virtual USB Hub" (0e0f:0002): 7 ports |
//! | `keyboard.vusb.enable` | keyboard | "VMware Virtual USB Keyboard"; it has no item of its own |
//! | `usb.autoConnect.deviceN` | a device of the host | the patterns are at [`pattern`] |
//!
//! `usb:N`, `ehci:N` and `usb_xhci:N` have a port, counted from 0 (an xHCI's USB 2 ports from 4), and a parent: the N of a hub, or -1. VMware's
//! cameras, disks and smart card readers have no place in the model; they are left as they are, with a warning, and keep their ports.
//!
//! # What VMX leaves open
//!
//! VMX has no indexes and no names of controllers, and no ports for keyboards and devices of the host. There is no profile of VMware's, for nobody
//! knows its rules: profile `vusb-1` fills this, always the same way. Indexes are in the order of the table. What is written is read
//! back, and where `vusb-1` would put a device elsewhere than it was, that is among what was lost.

mod dictionary;
mod document;
mod edit;
mod found;
mod pattern;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;

use vusb_model::address::Index;
use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::models::Model;
use vusb_model::resolve::VMWARE_XHCI_PORTS as XHCI_PORTS;
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

pub(crate) use self::edit::edit;
pub(crate) use self::write::write;

use self::dictionary::Dictionary;
use self::found::{Device, Found, Said};
use crate::config::{Config, Field, Place};
use crate::error::{FormatError, Problem};

/// The most warnings that are given: each is shown with its place, and who has more has another problem.
const MOST_WARNINGS: usize = 100;

/// How many ports VMware's hub has.
const HUB_PORTS: u8 = 7;

pub(crate) fn read(text: &str, origin: &str) -> Result<Config, FormatError> {
    let (mut config, warnings) = parse(text).map_err(|problem| problem.in_text(text, origin))?;
    let shown = warnings.into_iter().take(MOST_WARNINGS);
    config.warnings = shown.map(|problem| problem.warning().in_text(text, origin)).collect();
    Ok(config)
}

fn parse(text: &str) -> Result<(Config, Vec<Problem>), Problem> {
    let dictionary = Dictionary::read(text)?;
    let guest = guest(&dictionary)?;
    let found = Found::new(&dictionary)?;
    let spec = spec(&found, guest.name.as_deref());
    let controllers = found
        .controllers
        .iter()
        .map(|(_, line, value)| place(line, [(Field::Model, Some(value.clone()))], Vec::new()));
    let devices = found.devices.iter().map(|device| {
        let fields =
            [(Field::What, Some(device.what.clone())), (Field::Port, device.port_span.clone())];
        place(&device.line, fields, device.remarks.clone())
    });
    let (controllers, devices) = (controllers.collect(), devices.collect());
    Ok((Config { guest, spec, controllers, devices, ..Config::default() }, found.warnings))
}

fn place<const N: usize>(
    line: &Range<usize>,
    fields: [(Field, Option<Range<usize>>); N],
    remarks: Vec<String>,
) -> Place {
    let fields = fields.into_iter().filter_map(|(field, span)| Some((field, span?)));
    Place {
        span: line.clone(),
        fields: fields.collect::<BTreeMap<_, _>>(),
        properties: Vec::new(),
        remarks,
    }
}

/// What is asked for, as `vusb-1` is to fill it.
fn spec(found: &Found, name: Option<&str>) -> Spec {
    let index = |model: Model| {
        let place = found.controllers.iter().position(|(there, ..)| *there == model)?;
        Index::new(u16::try_from(place).ok()?)
    };
    let controllers = found.controllers.iter().map(|(model, ..)| ControllerSpec {
        index: index(*model),
        model: Some(*model),
        ports: model.is_xhci().then_some(XHCI_PORTS),
        ..ControllerSpec::default()
    });
    let controller = |device: &Device| match device.said {
        Said::Item(model, _) => index(model).map(ControllerRef::Index),
        Said::Keyboard | Said::AutoConnect(_) => None,
    };
    let devices = found.devices.iter().map(|device| DeviceSpec {
        controller: controller(device),
        port: device.port,
        ..DeviceSpec::new(device.kind.clone())
    });
    Spec {
        // A display name that is no name stays with the guest alone.
        domain: name.and_then(|name| name.parse().ok()),
        controllers: controllers.collect(),
        devices: devices.collect(),
        ..Spec::default()
    }
}

fn guest(dictionary: &Dictionary<'_>) -> Result<Guest, Problem> {
    let arch = dictionary.get("guestos").map(|entry| arch(entry.value));
    let memory = dictionary.number("memsize").and_then(|mib| mib.checked_mul(1024));
    let vcpus = dictionary.number("numvcpus").and_then(|count| u32::try_from(count).ok());
    let no_screen =
        dictionary.get("svga.present").is_some_and(|it| it.value.eq_ignore_ascii_case("false"));
    Ok(Guest {
        name: dictionary.text("displayname")?,
        uuid: dictionary.text("uuid.bios")?,
        hypervisor: Hypervisor::Vmware,
        arch: arch.map(str::to_owned),
        graphics: !no_screen,
        memory_kib: memory,
        vcpus,
        ..Guest::default()
    })
}

/// The architecture that a `guestOS` is for: VMware's names begin with `arm-` for ARM, and end in `-64` where a system has a 64-bit form.
fn arch(guest_os: &str) -> &'static str {
    let guest_os = guest_os.to_ascii_lowercase();
    match (guest_os.starts_with("arm"), guest_os.ends_with("64")) {
        (true, _) => "aarch64",
        (false, true) => "x86_64",
        (false, false) => "i686",
    }
}
