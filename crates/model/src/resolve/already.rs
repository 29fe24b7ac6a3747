//! Whether a guest has what is asked for, and where.

use std::collections::HashMap;

use crate::address::{Address, Index};
use crate::device::{Identity, Kind};
use crate::hardware::{Device, Hardware, Item};
use crate::refusal::Refusal;
use crate::spec::{ControllerRef, DeviceSpec};

/// The controller that somebody means.
pub(super) fn controller(asked: &ControllerRef, hardware: &Hardware) -> Result<Index, Refusal> {
    let index = match asked {
        ControllerRef::Index(index) => {
            Some(*index).filter(|index| hardware.controller(*index).is_some())
        }
        ControllerRef::Name(name) => match hardware.named(name) {
            Some(Item::Controller(index)) => Some(index),
            _ => None,
        },
    };
    index.ok_or_else(|| Refusal::NoSuchController {
        asked: asked.to_string(),
        known: hardware.controllers().map(|controller| controller.name.clone()).collect(),
    })
}

/// Where the device is, if `hardware` has it: by name, by what it is (`present` has what there is only one of), or by what
/// is on the port that it asks for. `controller` is the one that it says; `base` is what the guest has had before this spec.
pub(super) fn device(
    spec: &DeviceSpec,
    controller: Option<Index>,
    hardware: &Hardware,
    base: &Hardware,
    present: &HashMap<Identity<'_>, Address>,
) -> Result<Option<Address>, Refusal> {
    let asked = controller.zip(spec.port).map(|(bus, port)| Address { bus, port });
    let fits = |at: Address, device: &Device| {
        device.kind.satisfies(&spec.kind)
            && spec.name.as_ref().is_none_or(|name| *name == device.name)
            && controller.is_none_or(|bus| bus == at.bus)
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
    let identity = spec.kind.identity();
    let same = identity.as_ref().and_then(|identity| present.get(identity).copied());
    // A stream may be shown in other words than it was asked for in.
    let stream = matches!(spec.kind, Kind::Serial(_) | Kind::Redir(_)) && identity.is_some();
    // Only for a stream: a look at all that is there would make each device cost as much as all others together.
    let like = || base.devices().find(|(at, device)| fits(*at, device));
    let same = same.or_else(|| Some(stream.then(like)??.0));
    if let Some((at, device)) = same.and_then(|at| Some((at, hardware.device(at)?))) {
        let refusal =
            || Refusal::AlreadyPlugged { device: device.kind.to_string(), at: hardware.place(at) };
        return if fits(at, device) { Ok(Some(at)) } else { Err(refusal()) };
    }
    let there = asked.and_then(|at| Some((at, hardware.device(at)?)));
    Ok(there.filter(|(at, device)| fits(*at, device)).map(|(at, _)| at))
}
