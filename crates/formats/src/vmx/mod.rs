//! VMware's configuration, VMX.
//!
//! ```text
//!  text ──dictionary──▶ keys and values ──usb──▶ USB settings, and their keys ──read──▶ Config
//!                                                   └──edit: lines changed, added, removed──▶ text
//!  hardware ──write: an empty guest, edited──▶ text
//! ```
//!
//! # VMware's hardware, and how it is modelled
//!
//! | VMX | model | why |
//! |---|---|---|
//! | `usb.present` | piix4-uhci, 2 ports | Intel's PIIX4 (8086:7112) in old guests, and a two-port UHCI under VMware's own number (15ad:0774) in newer ones |
//! | `ehci.present`, with `usb.present` | ehci, 6 ports, no companions | VMware's EHCI (15ad:0770) is in another PCI slot than its UHCI, which has the slow devices. It is a flag of the UHCI controller (`ehciEnabled` in the vSphere API), so it cannot exist alone |
//! | `usb_xhci.present` | qemu-xhci, 4 ports | VMware's xHCI (15ad:0778, 0779, 077a) is not modelled on real hardware; its manual lists eight root hub ports, four of USB 3 and four of USB 2 |
//! | `usb:N.deviceType` = `hid` or `mouse` | mouse | guests see a "VMware Virtual USB Mouse" (0e0f:0003) |
//! | `usb:N.deviceType` = `hub` | hub with 7 ports | "VMware Virtual USB Hub" (0e0f:0002): 7 ports |
//! | `keyboard.vusb.enable` | keyboard | "VMware Virtual USB Keyboard"; it has no item of its own |
//! | `usb.autoConnect.deviceN` | a host device | for the patterns see [`pattern`] |
//!
//! `usb:N`, `ehci:N` and `usb_xhci:N` have a port, counted from 0 (an xHCI's USB 2 ports from 4),
//! and a parent: the N of a hub, or -1. The model has no equivalent of VMware's cameras, disks and
//! smart card readers; they are left unchanged, with a warning, and their ports stay in use.
//!
//! # What VMX does not specify
//!
//! VMX has no indexes and names of controllers, and no ports of keyboards and host devices.
//! VMware's rules for these are unknown. Profile `vmx` fills them in, deterministically. Indexes
//! follow the order of the table. A generated text is read back, and the devices that `vmx` would
//! place elsewhere are reported as lost.

mod dictionary;
mod document;
mod edit;
mod format;
mod pattern;
mod usb;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;

use vusb_model::address::Index;
use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::models::Model;
use vusb_model::profile::Profile;
use vusb_model::resolve::vmx::XHCI_PORTS;
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

pub use self::format::Vmx;

use self::edit::edit;
use self::write::write;

use self::dictionary::Dictionary;
use self::usb::{Device, DeviceKey, UsbSettings};
use crate::config::{Config, Field, ItemSource};
use crate::error::{FormatError, Problem};

/// The maximum number of warnings. Each one is rendered with an excerpt of the text, so an absurd
/// file would produce an absurd amount of output.
const MAX_WARNINGS: usize = 100;

fn read(text: &str, origin: &str) -> Result<Config, FormatError> {
    let (mut config, warnings) = parse(text).map_err(|problem| problem.in_text(text, origin))?;
    let shown = warnings.into_iter().take(MAX_WARNINGS);
    config.warnings = shown.map(|problem| problem.warning().in_text(text, origin)).collect();
    Ok(config)
}

fn parse(text: &str) -> Result<(Config, Vec<Problem>), Problem> {
    let dictionary = Dictionary::read(text)?;
    let guest = guest(&dictionary)?;
    let settings = UsbSettings::read(&dictionary)?;
    let spec = spec(&settings, guest.name.as_deref());
    let controllers = settings
        .controllers
        .iter()
        .map(|(_, line, value)| source(line, [(Field::Model, Some(value.clone()))], Vec::new()));
    let devices = settings.devices.iter().map(|device| {
        let fields =
            [(Field::What, Some(device.what.clone())), (Field::Port, device.port_span.clone())];
        source(&device.line, fields, device.remarks.clone())
    });
    let (controllers, devices) = (controllers.collect(), devices.collect());
    Ok((Config { guest, spec, controllers, devices, ..Config::default() }, settings.warnings))
}

fn source<const N: usize>(
    line: &Range<usize>,
    fields: [(Field, Option<Range<usize>>); N],
    remarks: Vec<String>,
) -> ItemSource {
    let fields = fields.into_iter().filter_map(|(field, span)| Some((field, span?)));
    ItemSource {
        span: line.clone(),
        fields: fields.collect::<BTreeMap<_, _>>(),
        remarks,
        ..ItemSource::default()
    }
}

/// The spec, which profile `vmx` completes.
fn spec(settings: &UsbSettings, name: Option<&str>) -> Spec {
    let index = |model: Model| {
        let position = settings.controllers.iter().position(|(it, ..)| *it == model)?;
        Index::new(u16::try_from(position).ok()?)
    };
    let controllers = settings.controllers.iter().map(|(model, ..)| ControllerSpec {
        index: index(*model),
        model: Some(*model),
        ports: model.is_xhci().then_some(XHCI_PORTS),
        ..ControllerSpec::default()
    });
    let controller = |device: &Device| match device.key {
        DeviceKey::Item(model, _) => index(model).map(ControllerRef::Index),
        DeviceKey::Keyboard | DeviceKey::AutoConnect(_) => None,
    };
    let devices = settings.devices.iter().map(|device| DeviceSpec {
        controller: controller(device),
        port: device.port,
        ..DeviceSpec::new(device.kind.clone())
    });
    Spec {
        profile: Profile::Vmx,
        // A display name that is not a valid domain name is only kept in the guest.
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
    let headless =
        dictionary.get("svga.present").is_some_and(|it| it.value.eq_ignore_ascii_case("false"));
    Ok(Guest {
        name: dictionary.text("displayname")?,
        uuid: dictionary.text("uuid.bios")?,
        hypervisor: Hypervisor::Vmware,
        arch: arch.map(str::to_owned),
        graphics: !headless,
        memory_kib: memory,
        vcpus,
        ..Guest::default()
    })
}

/// The architecture of a `guestOS`: VMware's names start with `arm-` for ARM, and end in `-64` for
/// 64-bit variants.
fn arch(guest_os: &str) -> &'static str {
    let guest_os = guest_os.to_ascii_lowercase();
    match (guest_os.starts_with("arm"), guest_os.ends_with("64")) {
        (true, _) => "aarch64",
        (false, true) => "x86_64",
        (false, false) => "i686",
    }
}
