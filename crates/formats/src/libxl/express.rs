//! Expresses hardware in libxl's terms: one controller, one device, or a whole guest; and reports
//! what libxl has no terms for.

use vusb_model::address::{Address, PortPath};
use vusb_model::capabilities::Capabilities;
use vusb_model::device::{Chardev, HUB_PORTS, HostRef, Input, Kind, Redir};
use vusb_model::guest::{Guest, Virtualization};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Companion, ControllerType, Model, QEMU_XHCI_PORTS, UsbVersion};
use vusb_model::profile::Profile;
use vusb_model::remedy::{Reason, Remedy};
use vusb_model::resolve::libxl::{BOOT_BUS, boot_controller, fits_usbctrl};
use vusb_model::resolve::resolve;
use vusb_model::selector::{BusAddress, Selector};
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

use super::structs::CtrlType;
use crate::config::Inexpressible;

/// An entry of `usbctrl` with every value given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CtrlEntry {
    pub(crate) ctrl_type: CtrlType,
    pub(crate) version: u8,
    pub(crate) ports: u8,
}

/// An entry of `usbdev` with every value given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DevEntry {
    pub(crate) hostbus: u8,
    pub(crate) hostaddr: u8,
    pub(crate) ctrl: u16,
    pub(crate) port: u8,
}

pub(crate) fn inexpressible(what: impl Into<String>, why: impl Into<Reason>) -> Inexpressible {
    Inexpressible { what: what.into(), why: why.into() }
}

/// A controller as an entry of `usbctrl`.
///
/// # Errors
/// libxl has no controller like it.
pub(crate) fn ctrl_entry(
    controller: &Controller,
    guest: Virtualization,
) -> Result<CtrlEntry, Inexpressible> {
    let Controller { name, model, ports, .. } = controller;
    let refuse = |why: &str| Err(inexpressible(format!("{name} ({model})"), why));
    if !fits_usbctrl(*model) {
        return refuse(
            "usbctrl only has piix3-uhci, ehci, nec-xhci, xenusb1 and xenusb2; use one of these",
        );
    }
    if *model == Model::NecXhci && !ports.are_uniform(*model) {
        return refuse(
            "libxl gives an xHCI controller equal numbers of USB 2 and USB 3 ports; use equal numbers",
        );
    }
    if !controller.companions.is_empty() {
        return refuse(
            "the only EHCI controller with companions that libxl has is the whole ICH9 group, as QEMU's boot controller (usbversion=2)",
        );
    }
    if controller.backend.is_some() {
        return refuse("xl.cfg cannot specify a backend domain; leave the backend out");
    }
    let ctrl_type = match model.controller_type() {
        ControllerType::Pv => CtrlType::Qusb,
        ControllerType::Emulated if guest == Virtualization::Hvm => CtrlType::Devicemodel,
        ControllerType::Emulated => {
            return refuse("a PV or PVH guest cannot have emulated controllers; use type pv");
        }
    };
    Ok(CtrlEntry { ctrl_type, version: model.usbversion().into(), ports: ports.count() })
}

/// The version of QEMU's boot controller: `None` for the one of `usb=1`.
///
/// # Errors
/// QEMU has no such boot controller.
pub(crate) fn boot_version(
    controller: &Controller,
    guest: Virtualization,
) -> Result<Option<UsbVersion>, Inexpressible> {
    let Controller { name, model, .. } = controller;
    let plain = controller.companions.is_empty();
    if guest != Virtualization::Hvm {
        return Err(inexpressible(name.as_str(), "only an HVM guest has QEMU's boot controller"));
    }
    match model {
        Model::Piix3Uhci if plain => Ok(None),
        Model::Ich9Ehci1 if controller.companions == Companion::GROUP => Ok(Some(UsbVersion::V2)),
        Model::NecXhci
            if plain
                && controller.ports.usb2() == QEMU_XHCI_PORTS
                && controller.ports.are_uniform(*model) =>
        {
            Ok(Some(UsbVersion::V3))
        }
        _ => Err(inexpressible(
            format!("{name} ({model})"),
            "QEMU's boot controller is a piix3-uhci, the whole ICH9 group, or a nec-xhci with 4 ports",
        )),
    }
}

/// A device as an entry of `usbdev`, on the controller number `ctrl`.
///
/// # Errors
/// libxl cannot express it.
pub(crate) fn dev_entry(
    device: &Device,
    at: Address,
    ctrl: u16,
) -> Result<DevEntry, Inexpressible> {
    let what = || format!("{} ({})", device.name, device.kind);
    let Kind::Host(host) = &device.kind else {
        return Err(inexpressible(
            what(),
            "usbdev only takes host devices; tablets, mice and keyboards go to QEMU's boot controller (usb=1)",
        ));
    };
    if at.port.depth() > 1 {
        return Err(inexpressible(
            format!("port {} of {}", at.port, device.name),
            "libxl has no hubs: a port is a single number; use a port of the controller itself",
        ));
    }
    let BusAddress { bus, address } =
        bus_address(host).ok_or_else(|| inexpressible(what(), no_address()))?;
    let hostbus = u8::try_from(bus).ok().filter(|bus| *bus > 0);
    let hostbus =
        hostbus.ok_or_else(|| inexpressible(what(), "libxl stores bus numbers in eight bits"))?;
    Ok(DevEntry { hostbus, hostaddr: address, ctrl, port: at.port.port() })
}

/// The reason why a host device without a bus and address cannot be expressed.
fn no_address() -> Reason {
    let text = "libxl identifies a device by bus and address only, and it is not known where this one is plugged in; plug it in, or \
                select it as BUS.ADDRESS; QEMU's boot controller of an HVM guest (usb=1) also takes vendor and product";
    Reason::from(text).remedy(Remedy::ListHost { backend: None }).remedy(Remedy::NameController)
}

/// The bus and address of a host device: those that select it, or those where it was found.
fn bus_address(host: &HostRef) -> Option<BusAddress> {
    match host.selector {
        Selector::Address(address) => Some(address),
        _ => host.bus_address,
    }
}

/// A device as a value of `usbdevice`. `None` for a hub, which QEMU adds by itself or not at all.
///
/// # Errors
/// `usbdevice` cannot express it.
pub(crate) fn usbdevice_value(device: &Device) -> Result<Option<String>, Inexpressible> {
    let what = || format!("{} ({})", device.name, device.kind);
    let usb2_input = |input: &Input, word: &str| match input.usbversion {
        UsbVersion::V2 => Ok(Some(word.to_owned())),
        _ => Err(inexpressible(
            what(),
            "QEMU makes it a USB 2 device, and libxl cannot change that; use usbversion=2",
        )),
    };
    match &device.kind {
        Kind::Tablet(input) => usb2_input(input, "tablet"),
        Kind::Mouse(input) => usb2_input(input, "mouse"),
        Kind::Keyboard(input) => usb2_input(input, "keyboard"),
        Kind::Other(other) => Ok(Some(other.driver.clone())),
        Kind::Hub(hub) if hub.ports == HUB_PORTS => Ok(None),
        Kind::Host(host) => match &host.selector {
            Selector::Id { id, serial: None } => Ok(Some(format!("host:{id}"))),
            _ => match bus_address(host) {
                Some(BusAddress { bus, address }) => Ok(Some(format!("host:{bus}.{address}"))),
                None => Err(inexpressible(what(), no_address())),
            },
        },
        _ => Err(inexpressible(
            what(),
            "usbdevice only takes tablets, mice, keyboards and host devices",
        )),
    }
}

/// Whether the device is redirected over SPICE.
pub(crate) const fn is_redirected(kind: &Kind) -> bool {
    matches!(kind, Kind::Redir(Redir { chardev: Chardev::Spicevmc }))
}

/// A guest's whole USB in libxl's terms.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) boot: Option<BootPlan>,
    pub(crate) ctrls: Vec<CtrlEntry>,
    pub(crate) devs: Vec<DevEntry>,
    /// What libxl cannot express.
    pub(crate) lost: Vec<Inexpressible>,
}

/// QEMU's boot controller and its devices.
#[derive(Debug)]
pub(crate) struct BootPlan {
    pub(crate) version: Option<UsbVersion>,
    pub(crate) devices: Vec<String>,
    pub(crate) redirected: usize,
}

/// Expresses all of a guest's USB. Indexes become positions in the list, and names are dropped: the
/// guest sees neither.
pub(crate) fn plan(guest: &Guest, hardware: &Hardware) -> Plan {
    let guest = guest.virtualization;
    let mut plan = Plan::default();
    let chosen = hardware.controllers().find(|it| is_boot_controller(it, guest)).map(|it| it.index);
    for controller in hardware.controllers() {
        if Some(controller.index) == chosen {
            plan.boot = boot_plan(controller, guest, &mut plan.lost);
            continue;
        }
        match ctrl_entry(controller, guest) {
            Ok(entry) => {
                // There are at most 4096 controllers.
                let number = u16::try_from(plan.ctrls.len()).unwrap_or(u16::MAX);
                plan.ctrls.push(entry);
                for (port, device) in controller.devices() {
                    let at = Address { bus: controller.index, port };
                    match dev_entry(device, at, number) {
                        Ok(entry) => plan.devs.push(entry),
                        Err(lost) => plan.lost.push(lost),
                    }
                }
            }
            Err(lost) => {
                plan.lost.push(lost);
                plan.lost.extend(controller.devices().map(|(_, device)| {
                    inexpressible(
                        format!("{} ({})", device.name, device.kind),
                        "its controller cannot be expressed",
                    )
                }));
            }
        }
    }
    plan
}

/// Whether this controller becomes QEMU's boot controller: it has that controller's index, or the
/// list cannot express it or its devices.
fn is_boot_controller(controller: &Controller, guest: Virtualization) -> bool {
    let version = boot_version(controller, guest);
    let emulated = || controller.devices().any(|(_, device)| !matches!(device.kind, Kind::Host(_)));
    version.is_ok()
        && (controller.index == BOOT_BUS
            || controller.model == Model::Ich9Ehci1
            || (controller.model == Model::Piix3Uhci && emulated()))
}

fn boot_plan(
    controller: &Controller,
    guest: Virtualization,
    lost: &mut Vec<Inexpressible>,
) -> Option<BootPlan> {
    let version = boot_version(controller, guest).map_err(|it| lost.push(it)).ok()?;
    let mut plan = BootPlan { version, devices: Vec::new(), redirected: 0 };
    let mut plugged = Vec::new();
    for (port, device) in controller.devices() {
        let what = || format!("{} ({})", device.name, device.kind);
        if is_redirected(&device.kind) {
            // Redirected devices exist only with `usbversion`, which excludes all others.
            if !plan.devices.is_empty() || plan.redirected == 4 {
                lost.push(inexpressible(
                    what(),
                    "at most 4 devices are redirected, and not together with those of usbdevice",
                ));
                continue;
            }
            plan.redirected += 1;
        } else {
            match usbdevice_value(device) {
                Ok(None) => {
                    plugged.push((port, device));
                    continue;
                }
                Ok(Some(_)) if plan.version.is_some() || plan.redirected > 0 => {
                    lost.push(inexpressible(
                        what(),
                        "usbdevice only works with the controller of usb=1",
                    ));
                    continue;
                }
                Ok(Some(word)) => plan.devices.push(word),
                Err(it) => {
                    lost.push(it);
                    continue;
                }
            }
        }
        plugged.push((port, device));
    }
    if plan.redirected > 0 && plan.version.is_none() {
        plan.version = Some(UsbVersion::V1);
    }
    lost.extend(displaced(plan.version, &plugged, guest));
    Some(plan)
}

/// The devices that QEMU would plug into other ports, because it assigns ports in order.
fn displaced(
    version: Option<UsbVersion>,
    devices: &[(PortPath, &Device)],
    virtualization: Virtualization,
) -> Vec<Inexpressible> {
    let guest = Guest { virtualization, ..Guest::default() };
    let requested = devices.iter().filter(|(_, device)| device.kind.hub_ports() == 0);
    let spec = Spec {
        profile: Profile::Libxl,
        controllers: vec![ControllerSpec { pci: None, ..boot_controller(version) }],
        devices: requested
            .clone()
            .map(|(_, device)| DeviceSpec {
                controller: Some(ControllerRef::Index(BOOT_BUS)),
                ..DeviceSpec::new(device.kind.clone())
            })
            .collect(),
        ..Spec::default()
    };
    let capabilities = Capabilities { guest, ..Capabilities::everything() };
    let why = "QEMU assigns the ports of its boot controller in order and plugs a hub into the last one; libxl cannot change that";
    let every_device = |devices: &[(PortPath, &Device)]| {
        devices
            .iter()
            .map(|(port, device)| inexpressible(format!("port {port} of {}", device.name), why))
            .collect()
    };
    let Ok(resolved) = resolve(&Hardware::new(), &spec, &capabilities) else {
        return every_device(devices);
    };
    devices
        .iter()
        .filter(|(port, device)| {
            let at = Address { bus: BOOT_BUS, port: *port };
            resolved.hardware.device(at).is_none_or(|placed| placed.kind != device.kind)
        })
        .map(|(port, device)| inexpressible(format!("port {port} of {}", device.name), why))
        .chain(
            resolved
                .added_devices
                .iter()
                .filter(|hub| {
                    !devices.iter().any(|(port, it)| *port == hub.port && it.kind.hub_ports() > 0)
                })
                .map(|hub| {
                    inexpressible(
                        format!("no hub at port {} of QEMU's boot controller", hub.port),
                        why,
                    )
                }),
        )
        .collect()
}
