//! Finds requested items that a guest already has.

use std::collections::HashMap;

use crate::address::{Address, Index};
use crate::device::{Kind, UniqueResource};
use crate::hardware::{Device, Hardware, Item};
use crate::refusal::Refusal;
use crate::spec::{ControllerRef, DeviceSpec};

/// The index of the requested controller.
///
/// # Errors
/// There is no such controller.
pub(super) fn controller(requested: &ControllerRef, hardware: &Hardware) -> Result<Index, Refusal> {
    let index = match requested {
        ControllerRef::Index(index) => {
            Some(*index).filter(|index| hardware.controller(*index).is_some())
        }
        ControllerRef::Name(name) => match hardware.named(name) {
            Some(Item::Controller(index)) => Some(index),
            _ => None,
        },
    };
    index.ok_or_else(|| Refusal::NoSuchController {
        requested: requested.to_string(),
        existing: hardware.controllers().map(|controller| controller.name.clone()).collect(),
    })
}

/// The address of the device, if `hardware` has it: by name, by identity (`unique` maps identities
/// to addresses), for a stream also by an equivalent form, or by what is at the requested port.
/// `bus` is the controller that the device requests; `base` is what the guest had before this spec.
///
/// # Errors
/// The name belongs to something else, or the guest has the device at another address or with other
/// properties than requested.
pub(super) fn device(
    spec: &DeviceSpec,
    bus: Option<Index>,
    hardware: &Hardware,
    base: &Hardware,
    unique: &HashMap<UniqueResource<'_>, Address>,
) -> Result<Option<Address>, Refusal> {
    let fits = |at: Address, device: &Device| {
        device.kind.matches_request(&spec.kind)
            && spec.name.as_ref().is_none_or(|name| *name == device.name)
            && bus.is_none_or(|bus| bus == at.bus)
            && spec.port.is_none_or(|port| port == at.port)
    };
    let named = spec.name.as_ref().and_then(|name| Some((name, hardware.named(name)?)));
    if let Some((name, item)) = named {
        return match item {
            Item::Device(at) if hardware.device(at).is_some_and(|device| fits(at, device)) => {
                Ok(Some(at))
            }
            _ => Err(Refusal::NameInUse {
                name: name.clone(),
                by: hardware.describe(name).unwrap_or_default(),
            }),
        };
    }
    let identity = spec.kind.unique_resource();
    let found = identity.as_ref().and_then(|identity| unique.get(identity).copied());
    // A hypervisor may show a stream in a form that differs from the request. Other kinds are not
    // searched like this, because the cost of each device would grow with the number of devices.
    let is_stream = matches!(spec.kind, Kind::Serial(_) | Kind::Redir(_)) && identity.is_some();
    let similar = || base.devices().find(|(at, device)| fits(*at, device));
    let found = found.or_else(|| Some(is_stream.then(similar)??.0));
    if let Some((at, device)) = found.and_then(|at| Some((at, hardware.device(at)?))) {
        let refusal = || Refusal::AlreadyPlugged {
            device: device.kind.to_string(),
            location: hardware.location(at),
        };
        return if fits(at, device) { Ok(Some(at)) } else { Err(refusal()) };
    }
    let requested = bus.zip(spec.port).map(|(bus, port)| Address { bus, port });
    let at_port = requested.and_then(|at| Some((at, hardware.device(at)?)));
    Ok(at_port.filter(|(at, device)| fits(*at, device)).map(|(at, _)| at))
}
