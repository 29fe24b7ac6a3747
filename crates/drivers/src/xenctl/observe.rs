//! Combines the controllers in xenstore with those of the device model: each gets a unique index
//! and name.
//!
//! ```text
//!   xenstore ─▶ entries ─┬─ pv, qusb ─────────────┐
//!                        └─ devicemodel: only      ├─▶ Observed, and Handles:
//!                            libxl's list          │   the folders of each pv controller
//!   device model's QMP ──▶ Qemu::observe ──────────┘
//! ```

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use vusb_model::address::{Address, Index, PortPath};
use vusb_model::device::{HostRef, Kind};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{ControllerType, Model, RootPorts};
use vusb_model::name::Name;
use vusb_model::selector::Selector;
use vusb_xen::usb::{ControllerPaths, PortStatus, Service};
use vusb_xen::{DomId, State};

use super::entry::{ControllerEntry, Plugged};
use crate::driver::{DeviceState, Foreign, Observed};

/// What a step needs to know about an existing paravirtual controller.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) paths: ControllerPaths,
    pub(super) model: Model,
    /// Whether a vusb-backend serves it, which reports the status of each port. A QEMU does not.
    pub(super) reports_status: bool,
    /// Why it is disconnected.
    pub(super) broken: Option<String>,
}

/// The paravirtual controllers of a guest.
pub(super) type Handles = BTreeMap<Index, Handle>;

/// Further input of [`add_entries`], which the entries do not contain.
pub(super) struct Context<'a> {
    pub(super) recorded: &'a Hardware,
    /// The recorded name of each backend domain that exists; `None` is domain 0.
    pub(super) backends: &'a BTreeMap<DomId, Option<String>>,
}

/// `recorded` with a controller at each index that a paravirtual one will have, so that no emulated
/// one gets that index.
pub(super) fn reserve_indexes(entries: &[ControllerEntry], recorded: &Hardware) -> Hardware {
    let mut reserved = recorded.clone();
    for entry in entries.iter().filter(|entry| entry.paths().is_some()) {
        let (Some(index), Some(ports)) = (entry.preferred_index(), NonZeroU8::new(entry.ports))
        else {
            continue;
        };
        let name = entry.name.clone().filter(|name| reserved.named(name).is_none());
        let name = name.unwrap_or_else(|| free_name(&reserved, &Hardware::new(), [], "pv"));
        let ports = RootPorts::uniform(entry.model, ports);
        // Fails if a controller is recorded at that index, which reserves it as well.
        let _ = reserved.add_controller(Controller::new(index, name, entry.model, ports));
    }
    reserved
}

/// Adds the paravirtual controllers to those of the device model.
pub(super) fn add_entries(
    entries: &[ControllerEntry],
    context: &Context<'_>,
    observed: &mut Observed,
) -> Handles {
    let mut handles = Handles::new();
    for entry in entries {
        match &entry.service {
            Service::Pv(paths) | Service::Qusb(paths) => {
                if let Some((index, handle)) = add(entry, paths, context, observed) {
                    handles.insert(index, handle);
                } else {
                    observed.foreign.push(unmodelled(entry));
                }
            }
            Service::Unknown(_) => observed.foreign.push(unmodelled(entry)),
            // The device model reports these itself.
            Service::DeviceModel => {}
        }
    }
    handles
}

fn unmodelled(entry: &ControllerEntry) -> Foreign {
    let driver = match &entry.service {
        Service::Unknown(kind) => kind.clone(),
        Service::Qusb(_) => "qusb".to_owned(),
        _ => "pv".to_owned(),
    };
    let devices = entry.devices.iter().map(|(port, it)| (port.to_string(), it.bus_id.to_string()));
    Foreign { driver, id: entry.id.devid.to_string(), devices: devices.collect() }
}

/// `None` for a controller that the model cannot represent, such as one without ports.
fn add(
    entry: &ControllerEntry,
    paths: &ControllerPaths,
    context: &Context<'_>,
    observed: &mut Observed,
) -> Option<(Index, Handle)> {
    let index = index(entry, context.recorded, &observed.hardware)?;
    let recorded = context
        .recorded
        .controller(index)
        .filter(|it| it.model.controller_type() == ControllerType::Pv);
    let names = [entry.name.clone(), recorded.map(|it| it.name.clone())];
    let name = free_name(&observed.hardware, context.recorded, names, "pv");
    let ports = RootPorts::uniform(entry.model, NonZeroU8::new(entry.ports)?);
    let mut controller = Controller::new(index, name.clone(), entry.model, ports);
    controller.backend = match context.backends.get(&paths.backend) {
        Some(name) => name.clone(),
        // The domain is gone, and so is its name; the record may still have it.
        None => {
            recorded.and_then(|it| it.backend.clone()).or_else(|| Some(paths.backend.to_string()))
        }
    };
    observed.hardware.add_controller(controller).ok()?;
    if entry.name.is_some() {
        observed.ours.insert(name.clone());
    }
    let broken = match context.backends.get(&paths.backend) {
        None => Some(format!("its backend domain (id {}) is gone", paths.backend)),
        Some(_) => entry.broken(),
    };
    match &broken {
        Some(why) => {
            observed.broken.insert(index, why.clone());
        }
        None if entry.backend_state != Some(State::Connected) => {
            observed.notes.push(format!("{name}: the guest has not connected to it"));
        }
        None => {}
    }
    observed.counters.extend(entry.counters.map(|counters| (index, counters)));
    for (port, plugged) in &entry.devices {
        plug(index, *port, plugged, broken.is_some(), context, observed);
    }
    let reports_status = matches!(entry.service, Service::Pv(_));
    Some((index, Handle { paths: *paths, model: entry.model, reports_status, broken }))
}

/// The index that the entry prefers, or the lowest that is free and not recorded for another
/// controller.
fn index(entry: &ControllerEntry, recorded: &Hardware, present: &Hardware) -> Option<Index> {
    let is_free = |index: &Index| present.controller(*index).is_none();
    let is_unrecorded = |index: &Index| is_free(index) && recorded.controller(*index).is_none();
    entry.preferred_index().filter(is_free).or_else(|| Index::all().find(is_unrecorded))
}

fn plug(
    bus: Index,
    port: u8,
    plugged: &Plugged,
    broken: bool,
    context: &Context<'_>,
    observed: &mut Observed,
) {
    let Some(port) = NonZeroU8::new(port) else { return };
    let at = Address { bus, port: PortPath::root(port) };
    let (own_name, selector) = match &plugged.label {
        Some(label) => (Some(label.name.clone()), label.selector.clone()),
        None => (None, Selector::Port(plugged.bus_id.clone())),
    };
    let recorded = context.recorded.device(at);
    let recorded =
        recorded.filter(|it| matches!(&it.kind, Kind::Host(host) if host.selector == selector));
    let names = [own_name.clone(), recorded.map(|it| it.name.clone())];
    let name = free_name(&observed.hardware, context.recorded, names, "host");
    let device = Device { name: name.clone(), kind: Kind::Host(HostRef::new(selector)) };
    if observed.hardware.plug(at, device).is_err() {
        return;
    }
    let state = match &plugged.status {
        _ if broken => DeviceState::Absent,
        Some(PortStatus::Absent | PortStatus::Refused(_)) => DeviceState::Absent,
        Some(PortStatus::Offered) => DeviceState::Offered,
        Some(PortStatus::Addressed | PortStatus::Configured) | None => DeviceState::Attached,
    };
    if state != DeviceState::Attached {
        observed.states.insert(at, state);
    }
    if let Some(PortStatus::Refused(why)) = &plugged.status {
        observed.notes.push(format!("{name}: the backend refuses it: {why}"));
    }
    if own_name.is_some() {
        observed.ours.insert(name);
    }
}

/// The first of `preferred` that is free, else the first free `stemN` that is not recorded either.
fn free_name<const N: usize>(
    present: &Hardware,
    recorded: &Hardware,
    preferred: [Option<Name>; N],
    stem: &'static str,
) -> Name {
    let mut preferred = preferred.into_iter().flatten();
    preferred.find(|name| present.named(name).is_none()).unwrap_or_else(|| {
        let is_taken =
            |name: &Name| present.named(name).is_some() || recorded.named(name).is_some();
        let mut number = 0;
        loop {
            let name = Name::numbered(stem, number);
            if !is_taken(&name) {
                return name;
            }
            number += 1;
        }
    })
}
