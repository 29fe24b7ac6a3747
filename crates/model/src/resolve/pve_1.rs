//! The rules of `pve-1`: which USB devices Proxmox VE has a place for, and where this project's own
//! devices go beside them.
//!
//! These rules never change; golden files enforce them. Proxmox VE's part is that of qemu-server's
//! `PVE/QemuServer/USB.pm` for guests with machine version 7.1 or newer and a current operating
//! system (`ostype` l26, win8, win10, win11):
//!
//! 1. **Places**: there are 14, `usb0` to `usb13`. `usbN` is port N + 1 of a qemu-xhci with 15
//!    ports that is named `xhci`. Proxmox VE adds that controller with the first such device.
//! 2. **A host device, or a redirection over SPICE**, that requests neither a port nor another
//!    controller goes to the place with its name, or to the lowest free one if it has no name.
//!    The place is its name. Only what Proxmox VE can name has a place: a host device by vendor and
//!    product or by bus and port.
//! 3. **All other devices**, those whose name is not that of a place, and those for which no place
//!    is free, follow the rules of [`vusb_1`], as does everything else. `xhci` gets none of them:
//!    Proxmox VE removes that controller with the last device of its own, and may need any of its
//!    ports.
//!
//! The controllers and devices that Proxmox VE gives to every guest are part of its command line,
//! not of these rules.

use super::controllers::Context;
use super::{Refused, Resolved, vusb_1};
use crate::address::PortPath;
use crate::capabilities::Capabilities;
use crate::device::{Chardev, Kind, Redir};
use crate::hardware::{Hardware, Item};
use crate::models::{ControllerType, Model};
use crate::name::Name;
use crate::selector::Selector;
use crate::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

/// The name of Proxmox VE's own controller.
pub const CONTROLLER: &str = "xhci";

/// The number of ports of that controller.
pub const PORTS: u8 = 15;

/// The number of places for devices.
pub const PLACES: u8 = 14;

/// The place with this name: 3 for `usb3`.
pub fn place_of(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("usb")?;
    let place: u8 = digits.parse().ok().filter(|it| *it < PLACES)?;
    (place.to_string() == digits).then_some(place)
}

/// The port of a place.
pub fn port_of(place: u8) -> Option<PortPath> {
    Some(PortPath::root(place.checked_add(1)?.try_into().ok()?))
}

/// Whether Proxmox VE can have this device at one of its places.
pub fn has_place(kind: &Kind) -> bool {
    match kind {
        Kind::Host(host) => {
            matches!(host.selector, Selector::Id { serial: None, .. } | Selector::Port(_))
        }
        Kind::Redir(Redir { chardev }) => *chardev == Chardev::Spicevmc,
        _ => false,
    }
}

pub(super) fn resolve(
    base: &Hardware,
    spec: &Spec,
    capabilities: &Capabilities,
) -> Result<Resolved, Refused> {
    let mut placed = spec.clone();
    let mut needs_controller = false;
    for number in 0..placed.devices.len() {
        let Some(place) = free_place(base, &placed, number) else { continue };
        needs_controller = true;
        if let (Some(device), Ok(controller)) = (placed.devices.get_mut(number), CONTROLLER.parse())
        {
            device.name = format!("usb{place}").parse().ok();
            device.controller = Some(ControllerRef::Name(controller));
            device.port = port_of(place);
        }
    }
    let has_controller = base.controllers().any(|it| it.name.as_str() == CONTROLLER)
        || spec.controllers.iter().any(|it| is_controller(it.name.as_ref()));
    let adds_controller = needs_controller && !has_controller;
    if adds_controller {
        placed.controllers.push(ControllerSpec {
            name: CONTROLLER.parse().ok(),
            controller_type: Some(ControllerType::Emulated),
            model: Some(Model::QemuXhci),
            ports: Some(PORTS),
            ..ControllerSpec::default()
        });
    }
    let context = Context::new(capabilities).with_reserved(CONTROLLER);
    let mut resolved = vusb_1::resolve_with(base, &placed, context)?;
    if adds_controller {
        resolved.added.extend(resolved.controllers.pop().map(|it| it.address));
        resolved.added.sort_unstable();
    }
    Ok(resolved)
}

fn is_controller(name: Option<&Name>) -> bool {
    name.is_some_and(|name| name.as_str() == CONTROLLER)
}

/// The place of a device of the spec, if it gets one.
fn free_place(base: &Hardware, spec: &Spec, number: usize) -> Option<u8> {
    let device = spec.devices.get(number)?;
    let elsewhere = match &device.controller {
        None => false,
        Some(ControllerRef::Name(name)) => name.as_str() != CONTROLLER,
        Some(ControllerRef::Index(index)) => {
            base.controller(*index).is_none_or(|it| it.name.as_str() != CONTROLLER)
        }
    };
    if elsewhere || device.port.is_some() || !has_place(&device.kind) || has_device(base, device) {
        return None;
    }
    match &device.name {
        Some(name) => place_of(name.as_str()),
        None => (0..PLACES).find(|place| is_free(base, spec, *place)),
    }
}

/// Whether the guest has the device that is requested.
fn has_device(base: &Hardware, requested: &DeviceSpec) -> bool {
    let named = requested.name.as_ref().and_then(|name| base.named(name));
    let identity = requested.kind.unique_resource();
    named.is_some()
        || identity.is_some() && base.devices().any(|(_, it)| it.kind.unique_resource() == identity)
}

/// Whether a place is free: no device has the place, its port or its name.
fn is_free(base: &Hardware, spec: &Spec, place: u8) -> bool {
    let Ok(name) = format!("usb{place}").parse::<Name>() else { return false };
    let port = port_of(place);
    let xhci = CONTROLLER.parse().ok().and_then(|xhci| match base.named(&xhci)? {
        Item::Controller(index) => base.controller(index),
        Item::Device(_) => None,
    });
    let is_taken = |it: &DeviceSpec| {
        let on_it =
            matches!(&it.controller, Some(ControllerRef::Name(it)) if is_controller(Some(it)));
        it.name.as_ref() == Some(&name) || (on_it && it.port.is_some() && it.port == port)
    };
    base.named(&name).is_none()
        && !xhci.is_some_and(|it| it.devices().any(|(at, _)| Some(at) == port))
        && !spec.devices.iter().any(is_taken)
}
