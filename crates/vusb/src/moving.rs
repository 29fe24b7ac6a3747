//! Moving a device to another port.
//!
//! ```text
//!   domain ─▶ without the device ─▶ resolve(the device, at its destination) ─▶ steps: unplug, plug
//!                                                                                 │
//!                                          attached where it was ◀── undo ◀───────┘ a step fails
//! ```
//!
//! The devices behind a hub move with it. Everything that is known of a device, such as which host
//! device it is, stays with it.

use std::num::NonZeroU8;

use vusb_model::address::{Address, PortPath};
use vusb_model::device::{HostRef, Kind};
use vusb_model::hardware::{Device, Hardware};
use vusb_model::name::Name;
use vusb_model::refusal::Refusal;
use vusb_model::spec::{ControllerRef, DeviceSpec, Spec};

use crate::address::DomainAddress;
use crate::advice::Advice;
use crate::call::Call;
use crate::controllers;
use crate::device_ref::DeviceRef;
use crate::devices::{address_of, existing};
use crate::error::Error;
use crate::inventory::Key;
use crate::outcome::{Chosen, Outcome};
use crate::session::{Change, Open};

/// Where a device is moved to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// The controller; `None` is the one that has the device.
    pub controller: Option<ControllerRef>,
    /// The port; `None` is the lowest free one that takes the device.
    pub port: Option<PortPath>,
}

pub(crate) fn move_device(
    call: &Call<'_>,
    domain: &DomainAddress,
    requested: &DeviceRef,
    to: &Destination,
) -> Result<Outcome, Error> {
    let mut open = Open::begin(call, domain)?;
    let from = existing(&open, requested)?;
    let bus = match &to.controller {
        Some(controller) => controllers::find(open.hardware(), controller)?,
        None => from.bus,
    };
    if bus == from.bus && to.port.is_none_or(|port| port == from.port) {
        let chosen = Chosen::device(open.hardware(), from);
        let unchanged = Change::to(open.inventory().clone());
        let committed = open.plan(unchanged)?.commit()?;
        return Ok(Outcome { already: true, chosen, ..committed.outcome() });
    }
    let mut left = open.hardware().clone();
    // The deepest first, so that the device itself is the last.
    let mut moved = left.unplug(from);
    check_ours(&open, &moved)?;
    let Some((_, device)) = moved.pop() else { return Err(Refusal::NoIndex.into()) };
    let kind = as_plugged_in(&open, from, &device.kind);
    let request = Spec {
        profile: open.profile(),
        devices: vec![DeviceSpec {
            name: Some(device.name.clone()),
            kind,
            controller: Some(ControllerRef::Index(bus)),
            port: to.port,
        }],
        ..Spec::default()
    };
    let resolved = open.resolve_on(&left, &request)?;
    let to = resolved.devices.first().ok_or(Refusal::NoIndex)?.address;
    let mut hardware = resolved.hardware;
    let mut pairs = vec![(from, to)];
    for (old, device) in moved.into_iter().rev() {
        let port = below(old.port, from.port, to.port).ok_or_else(|| too_deep(&device.name))?;
        let new = Address { bus, port };
        hardware.plug(new, device)?;
        pairs.push((old, new));
    }
    commit(open, hardware, &pairs, &device, to)
}

/// Makes the change, in which each device of `pairs` moves. `device` is the one that is moved to
/// `to`.
fn commit(
    open: Open<'_>,
    hardware: Hardware,
    pairs: &[(Address, Address)],
    device: &Device,
    to: Address,
) -> Result<Outcome, Error> {
    let before = open.inventory();
    let mut target = before.with_hardware(hardware);
    for (old, new) in pairs {
        let facts = before.facts(Key::Device(*old)).clone();
        let is_missing = facts.missing;
        if !is_missing {
            target.require(*new);
        }
        *target.facts_mut(Key::Device(*new)) = facts;
    }
    let planned = Chosen::device(target.hardware(), to);
    let committed = open.plan(Change::to(target))?.commit()?;
    // In a file, items are named by their order.
    let hardware = committed.open.hardware();
    let found = address_of(Some(device), to, hardware);
    let renamed = committed.open.is_file() && !committed.open.is_dry();
    let chosen = Chosen::device(hardware, found).filter(|_| renamed).or(planned);
    Ok(Outcome { chosen, ..committed.outcome() })
}

/// Checks that vusb manages all of these devices. Those of another tool could not be restored
/// exactly if a later step failed.
fn check_ours(open: &Open<'_>, devices: &[(Address, Device)]) -> Result<(), Error> {
    if open.is_file() || open.call.is_forced() {
        return Ok(());
    }
    let is_foreign = |(at, _): &&(Address, Device)| !open.inventory().is_managed(Key::Device(*at));
    match devices.iter().find(is_foreign) {
        None => Ok(()),
        Some((_, device)) => Err(Error::OtherTools {
            device: device.name.clone(),
            domain: open.record.display_name().to_owned(),
        }),
    }
}

/// The kind, with the speeds that a host device has now.
fn as_plugged_in(open: &Open<'_>, at: Address, kind: &Kind) -> Kind {
    let Kind::Host(host) = kind else { return kind.clone() };
    let present = open.host_devices.present(open.inventory(), at);
    let speeds = present.and_then(|it| it.reference(host.selector.clone()).speeds);
    Kind::Host(HostRef { speeds: speeds.or(host.speeds), ..host.clone() })
}

/// The error for a device that would be behind more hubs than a port path can have.
fn too_deep(name: &Name) -> Error {
    let problem = format!("{name} would be behind more than {} hubs", PortPath::MAX_DEPTH - 1);
    Error::usage(problem, Advice::MoveHubNearer)
}

/// The new port of a device that is at `port`, behind the hub that moves from `hub` to `to`. `None`
/// if it would be too deep.
pub(crate) fn below(port: PortPath, hub: PortPath, to: PortPath) -> Option<PortPath> {
    let rest = port.numbers().skip(hub.depth());
    rest.map(NonZeroU8::new).try_fold(to, |port, number| port.child(number?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_behind_a_hub_keeps_its_port_on_the_hub() {
        let moved = |port: &str, hub: &str, to: &str| {
            let [port, hub, to] = [port, hub, to].map(|it| it.parse().unwrap());
            below(port, hub, to).map(|it| it.to_string())
        };
        assert_eq!(moved("2.1", "2", "5").as_deref(), Some("5.1"));
        assert_eq!(moved("2.1.4", "2.1", "3").as_deref(), Some("3.4"));
        assert_eq!(moved("2.1.4", "2", "1.2.3"), None);
    }
}
