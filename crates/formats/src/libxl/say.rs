//! From hardware to libxl's words: one controller, one device, or all of it; and what has none.

use vusb_model::address::{Address, PortPath};
use vusb_model::capabilities::Capabilities;
use vusb_model::device::{Chardev, HUB_PORTS, HostRef, Input, Kind, Redir};
use vusb_model::guest::{Guest, Virtualization};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Companion, ControllerType, Model, QEMU_XHCI_PORTS, UsbVersion};
use vusb_model::profile::Profile;
use vusb_model::resolve::libxl::{QEMUS_OWN, is_in_usbctrl, qemus_own};
use vusb_model::resolve::resolve;
use vusb_model::selector::{BusAddress, Selector};
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

use super::usb::CtrlType;
use crate::config::Unsayable;

/// A controller of the list, with everything said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CtrlWords {
    pub(crate) kind: CtrlType,
    pub(crate) version: u8,
    pub(crate) ports: u8,
}

/// A host device, with everything said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DevWords {
    pub(crate) hostbus: u8,
    pub(crate) hostaddr: u8,
    pub(crate) ctrl: u16,
    pub(crate) port: u8,
}

pub(crate) fn unsayable(what: impl Into<String>, why: impl Into<String>) -> Unsayable {
    Unsayable { what: what.into(), why: why.into() }
}

/// A controller as an entry of the list.
///
/// # Errors
/// libxl has none like it.
pub(crate) fn ctrl(controller: &Controller, guest: Virtualization) -> Result<CtrlWords, Unsayable> {
    let Controller { name, model, ports, .. } = controller;
    let refuse = |why: &str| Err(unsayable(format!("{name} ({model})"), why));
    if !is_in_usbctrl(*model) {
        return refuse(
            "usbctrl has piix3-uhci, ehci, nec-xhci, xenusb1 and xenusb2; take one of these",
        );
    }
    if *model == Model::NecXhci && !ports.are_plain(*model) {
        return refuse("libxl gives an xHCI as many USB 3 ports as USB 2 ports; give it as many");
    }
    if !controller.companions.is_empty() {
        return refuse(
            "libxl knows no EHCI with companions but the whole ICH9 group, which QEMU is started with (usbversion=2)",
        );
    }
    if controller.backend.is_some() {
        return refuse(
            "its devices are another domain's, which xl has no word for; leave the backend out",
        );
    }
    let kind = match model.controller_type() {
        ControllerType::Pv => CtrlType::Qusb,
        ControllerType::Emulated if guest == Virtualization::Hvm => CtrlType::Devicemodel,
        ControllerType::Emulated => {
            return refuse("a PV or PVH guest has no emulated controllers; take type pv");
        }
    };
    Ok(CtrlWords { kind, version: model.usbversion().into(), ports: ports.count() })
}

/// The version of a controller that QEMU is started with: `None` for that of `usb=1`.
///
/// # Errors
/// QEMU is started with none like it.
pub(crate) fn own(
    controller: &Controller,
    guest: Virtualization,
) -> Result<Option<UsbVersion>, Unsayable> {
    let Controller { name, model, .. } = controller;
    let plain = controller.companions.is_empty();
    if guest != Virtualization::Hvm {
        return Err(unsayable(
            name.as_str(),
            "only an HVM guest has a QEMU that is started with a controller",
        ));
    }
    match model {
        Model::Piix3Uhci if plain => Ok(None),
        Model::Ich9Ehci1 if controller.companions == Companion::GROUP => Ok(Some(UsbVersion::V2)),
        Model::NecXhci
            if plain
                && controller.ports.usb2() == QEMU_XHCI_PORTS
                && controller.ports.are_plain(*model) =>
        {
            Ok(Some(UsbVersion::V3))
        }
        _ => Err(unsayable(
            format!("{name} ({model})"),
            "QEMU is started with a piix3-uhci, the whole ICH9 group or a nec-xhci with 4 ports",
        )),
    }
}

/// A device as an entry of `usbdev`, on the controller with this number.
///
/// # Errors
/// libxl has no word for it.
pub(crate) fn dev(device: &Device, at: Address, ctrl: u16) -> Result<DevWords, Unsayable> {
    let what = || format!("{} ({})", device.name, device.kind);
    let Kind::Host(host) = &device.kind else {
        return Err(unsayable(
            what(),
            "usbdev knows host devices alone; tablets, mice and keyboards go to the controller that QEMU is started with (usb=1)",
        ));
    };
    if at.port.depth() > 1 {
        return Err(unsayable(
            format!("port {} of {}", at.port, device.name),
            "libxl has no hubs: a port is one number; take a port of the controller itself",
        ));
    }
    let BusAddress { bus, address } =
        place_of(host).ok_or_else(|| unsayable(what(), NO_ADDRESS))?;
    let hostbus = u8::try_from(bus).ok().filter(|bus| *bus > 0);
    let hostbus = hostbus
        .ok_or_else(|| unsayable(what(), "libxl keeps eight bits of the number of a bus"))?;
    Ok(DevWords { hostbus, hostaddr: address, ctrl, port: at.port.port() })
}

const NO_ADDRESS: &str = "libxl knows a device by bus and address alone, and where this one is plugged in is not known; plug it in, or name it \
                          as BUS.ADDRESS (`vusb host list` shows them); QEMU's own controller of an HVM guest (`usb = 1`) takes vendor and product: say \
                          --controller";

/// Where a host device is: as it is named, or where it was found.
fn place_of(host: &HostRef) -> Option<BusAddress> {
    match host.selector {
        Selector::Address(address) => Some(address),
        _ => host.at,
    }
}

/// A device as `usbdevice` names it. `None` for a hub: QEMU plugs it in by itself, or not at all.
///
/// # Errors
/// QEMU has no such word.
pub(crate) fn usbdevice(device: &Device) -> Result<Option<String>, Unsayable> {
    let what = || format!("{} ({})", device.name, device.kind);
    let two = |input: &Input, word: &str| match input.usbversion {
        UsbVersion::V2 => Ok(Some(word.to_owned())),
        _ => Err(unsayable(
            what(),
            "QEMU makes it a USB 2 device, and libxl cannot tell it otherwise; ask for usbversion=2",
        )),
    };
    match &device.kind {
        Kind::Tablet(input) => two(input, "tablet"),
        Kind::Mouse(input) => two(input, "mouse"),
        Kind::Keyboard(input) => two(input, "keyboard"),
        Kind::Other(other) => Ok(Some(other.driver.clone())),
        Kind::Hub(hub) if hub.ports == HUB_PORTS => Ok(None),
        Kind::Host(host) => match &host.selector {
            Selector::Id { id, serial: None } => Ok(Some(format!("host:{id}"))),
            _ => match place_of(host) {
                Some(BusAddress { bus, address }) => Ok(Some(format!("host:{bus}.{address}"))),
                None => Err(unsayable(what(), NO_ADDRESS)),
            },
        },
        _ => Err(unsayable(what(), "usbdevice knows tablets, mice, keyboards and host devices")),
    }
}

/// Whether the device is one that SPICE carries.
pub(crate) const fn is_redirected(kind: &Kind) -> bool {
    matches!(kind, Kind::Redir(Redir { chardev: Chardev::Spicevmc }))
}

/// A guest's whole USB in libxl's words.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) own: Option<OwnPlan>,
    pub(crate) ctrls: Vec<CtrlWords>,
    pub(crate) devs: Vec<DevWords>,
    /// What has none.
    pub(crate) lost: Vec<Unsayable>,
}

/// The controller that QEMU is started with.
#[derive(Debug)]
pub(crate) struct OwnPlan {
    pub(crate) version: Option<UsbVersion>,
    pub(crate) devices: Vec<String>,
    pub(crate) redirected: usize,
}

/// All of it. Indexes are the places in the list then, and names are not said: the guest sees neither.
pub(crate) fn plan(guest: &Guest, hardware: &Hardware) -> Plan {
    let guest = guest.virtualization;
    let mut plan = Plan::default();
    let chosen = hardware.controllers().find(|it| is_own(it, guest)).map(|it| it.index);
    for controller in hardware.controllers() {
        if Some(controller.index) == chosen {
            plan.own = own_plan(controller, guest, &mut plan.lost);
            continue;
        }
        match ctrl(controller, guest) {
            Ok(words) => {
                // There are no more than 4096.
                let number = u16::try_from(plan.ctrls.len()).unwrap_or(u16::MAX);
                plan.ctrls.push(words);
                for (port, device) in controller.devices() {
                    let at = Address { bus: controller.index, port };
                    match dev(device, at, number) {
                        Ok(words) => plan.devs.push(words),
                        Err(lost) => plan.lost.push(lost),
                    }
                }
            }
            Err(lost) => {
                plan.lost.push(lost);
                plan.lost.extend(controller.devices().map(|(_, device)| {
                    unsayable(
                        format!("{} ({})", device.name, device.kind),
                        "its controller is not there",
                    )
                }));
            }
        }
    }
    plan
}

/// Whether QEMU is to be started with this controller: it has that index, or nothing else says it or what is on it.
fn is_own(controller: &Controller, guest: Virtualization) -> bool {
    let own = own(controller, guest);
    let emulated = || controller.devices().any(|(_, device)| !matches!(device.kind, Kind::Host(_)));
    own.is_ok()
        && (controller.index == QEMUS_OWN
            || controller.model == Model::Ich9Ehci1
            || (controller.model == Model::Piix3Uhci && emulated()))
}

fn own_plan(
    controller: &Controller,
    guest: Virtualization,
    lost: &mut Vec<Unsayable>,
) -> Option<OwnPlan> {
    let version = own(controller, guest).map_err(|it| lost.push(it)).ok()?;
    let mut plan = OwnPlan { version, devices: Vec::new(), redirected: 0 };
    let mut said = Vec::new();
    for (port, device) in controller.devices() {
        let what = || format!("{} ({})", device.name, device.kind);
        if is_redirected(&device.kind) {
            // `usbversion` is the only family with redirected devices, and has no others.
            if !plan.devices.is_empty() || plan.redirected == 4 {
                lost.push(unsayable(
                    what(),
                    "up to 4 devices are redirected, and none beside those of usbdevice",
                ));
                continue;
            }
            plan.redirected += 1;
        } else {
            match usbdevice(device) {
                Ok(None) => {
                    said.push((port, device));
                    continue;
                }
                Ok(Some(_)) if plan.version.is_some() || plan.redirected > 0 => {
                    lost.push(unsayable(
                        what(),
                        "usbdevice goes with the controller of usb=1 alone",
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
        said.push((port, device));
    }
    if plan.redirected > 0 && plan.version.is_none() {
        plan.version = Some(UsbVersion::V1);
    }
    lost.extend(moved(plan.version, &said, guest));
    Some(plan)
}

/// What QEMU would plug in elsewhere than it is, for it takes one port after the other.
fn moved(
    version: Option<UsbVersion>,
    devices: &[(PortPath, &Device)],
    virtualization: Virtualization,
) -> Vec<Unsayable> {
    let guest = Guest { virtualization, ..Guest::default() };
    let asked = devices.iter().filter(|(_, device)| device.kind.hub_ports() == 0);
    let spec = Spec {
        profile: Profile::Libxl,
        controllers: vec![ControllerSpec { pci: None, ..qemus_own(version) }],
        devices: asked
            .clone()
            .map(|(_, device)| DeviceSpec {
                controller: Some(ControllerRef::Index(QEMUS_OWN)),
                ..DeviceSpec::new(device.kind.clone())
            })
            .collect(),
        ..Spec::default()
    };
    let capabilities = Capabilities { guest, ..Capabilities::everything() };
    let why = "QEMU gives its own controller's ports away one after the other, and plugs a hub into the last; libxl has no say in it";
    let all = |devices: &[(PortPath, &Device)]| {
        devices
            .iter()
            .map(|(port, device)| unsayable(format!("port {port} of {}", device.name), why))
            .collect()
    };
    let Ok(resolved) = resolve(&Hardware::new(), &spec, &capabilities) else {
        return all(devices);
    };
    devices
        .iter()
        .filter(|(port, device)| {
            let at = Address { bus: QEMUS_OWN, port: *port };
            resolved.hardware.device(at).is_none_or(|there| there.kind != device.kind)
        })
        .map(|(port, device)| unsayable(format!("port {port} of {}", device.name), why))
        .chain(
            resolved
                .added_devices
                .iter()
                .filter(|hub| {
                    !devices.iter().any(|(port, it)| *port == hub.port && it.kind.hub_ports() > 0)
                })
                .map(|hub| {
                    unsayable(format!("no hub at port {} of QEMU's own controller", hub.port), why)
                }),
        )
        .collect()
}
