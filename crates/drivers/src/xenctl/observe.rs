//! From the controllers in xenstore, and what the device model has, to what the guest has: each with an index and a name that
//! nothing else has.
//!
//! ```text
//!   xenstore ─▶ entries ─┬─ pv, qusb ─────────────┐
//!                        └─ devicemodel: libxl's   ├─▶ Observed, and Places: where each pv controller is kept
//!                            list alone            │
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
use vusb_xen::{DomId, State};

use super::controller::Place;
use super::entry::{Entry, Plugged, Sort, Status};
use crate::driver::{DeviceState, Foreign, Observed};

/// A paravirtual controller, by how it is reached.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) place: Place,
    pub(super) model: Model,
    /// Whether a vusb-backend serves it, which says what becomes of a port; a QEMU does not.
    pub(super) told: bool,
    /// Why it carries nothing any more.
    pub(super) broken: Option<String>,
}

/// The paravirtual controllers of a guest.
pub(super) type Handles = BTreeMap<Index, Handle>;

/// What is known beside the entries.
pub(super) struct Known<'a> {
    pub(super) guest: DomId,
    pub(super) recorded: &'a Hardware,
    /// What each backend domain is called; `None` is domain 0.
    pub(super) backends: &'a BTreeMap<DomId, Option<String>>,
}

/// `recorded` with a controller at each index that a paravirtual one will have, so that no emulated one gets it.
pub(super) fn reserved(entries: &[Entry], recorded: &Hardware) -> Hardware {
    let mut reserved = recorded.clone();
    for entry in entries.iter().filter(|entry| entry.ends().is_some()) {
        let (Some(index), Some(ports)) = (entry.wants(), NonZeroU8::new(entry.ports)) else {
            continue;
        };
        let name = entry.name.clone().filter(|name| reserved.named(name).is_none());
        let name = name.unwrap_or_else(|| free_name(&reserved, &Hardware::new(), [], "pv"));
        let ports = RootPorts::of(entry.model, ports);
        // What is recorded there keeps it.
        let _ = reserved.add_controller(Controller::new(index, name, entry.model, ports));
    }
    reserved
}

/// Puts the paravirtual controllers beside what the device model has.
pub(super) fn add_entries(
    entries: &[Entry],
    known: &Known<'_>,
    observed: &mut Observed,
) -> Handles {
    let mut handles = Handles::new();
    for entry in entries {
        match &entry.sort {
            Sort::Pv(_) | Sort::Qusb(_) => {
                if let Some((index, handle)) = add(entry, known, observed) {
                    handles.insert(index, handle);
                } else {
                    observed.foreign.push(foreign(entry));
                }
            }
            Sort::Unknown(_) => observed.foreign.push(foreign(entry)),
            // The device model itself says what it has.
            Sort::DeviceModel => {}
        }
    }
    handles
}

fn foreign(entry: &Entry) -> Foreign {
    let driver = match &entry.sort {
        Sort::Unknown(kind) => kind.clone(),
        Sort::Qusb(_) => "qusb".to_owned(),
        _ => "pv".to_owned(),
    };
    let devices = entry.devices.iter().map(|(port, it)| (port.to_string(), it.bus_id.to_string()));
    Foreign { driver, id: entry.devid.to_string(), devices: devices.collect() }
}

/// `None` for one that the model cannot have: without ports, for one.
fn add(entry: &Entry, known: &Known<'_>, observed: &mut Observed) -> Option<(Index, Handle)> {
    let ends = entry.ends()?;
    let index = index(entry, known.recorded, &observed.hardware)?;
    let recorded = known
        .recorded
        .controller(index)
        .filter(|it| it.model.controller_type() == ControllerType::Pv);
    let names = [entry.name.clone(), recorded.map(|it| it.name.clone())];
    let name = free_name(&observed.hardware, known.recorded, names, "pv");
    let ports = RootPorts::of(entry.model, NonZeroU8::new(entry.ports)?);
    let mut controller = Controller::new(index, name.clone(), entry.model, ports);
    controller.backend = match known.backends.get(&ends.backend) {
        Some(called) => called.clone(),
        // It is gone, and so is its name; the record may have it.
        None => {
            recorded.and_then(|it| it.backend.clone()).or_else(|| Some(ends.backend.to_string()))
        }
    };
    observed.hardware.add_controller(controller).ok()?;
    if entry.name.is_some() {
        observed.ours.insert(name.clone());
    }
    let broken = broken(entry, known);
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
        plug(index, *port, plugged, broken.is_some(), known, observed);
    }
    let place = Place { guest: known.guest, devid: entry.devid, ends: ends.clone() };
    let told = matches!(entry.sort, Sort::Pv(_));
    Some((index, Handle { place, model: entry.model, told, broken }))
}

fn broken(entry: &Entry, known: &Known<'_>) -> Option<String> {
    let backend = entry.ends()?.backend;
    match known.backends.get(&backend) {
        None => Some(format!("its backend domain (id {backend}) is gone")),
        Some(_) => entry.broken(),
    }
}

/// The index that it says, or libxl's number for it, or the lowest that is free and not recorded for another.
fn index(entry: &Entry, recorded: &Hardware, has: &Hardware) -> Option<Index> {
    let free = |index: &Index| has.controller(*index).is_none();
    let unclaimed = |index: &Index| free(index) && recorded.controller(*index).is_none();
    entry.wants().filter(free).or_else(|| Index::all().find(unclaimed))
}

fn plug(
    bus: Index,
    port: u8,
    plugged: &Plugged,
    broken: bool,
    known: &Known<'_>,
    observed: &mut Observed,
) {
    let Some(port) = NonZeroU8::new(port) else { return };
    let at = Address { bus, port: PortPath::root(port) };
    let recorded = known.recorded.device(at);
    let (own_name, selector) = match &plugged.own {
        Some((name, selector)) => (Some(name.clone()), selector.clone()),
        None => (None, Selector::Port(plugged.bus_id.clone())),
    };
    let same =
        recorded.filter(|it| matches!(&it.kind, Kind::Host(host) if host.selector == selector));
    let names = [own_name.clone(), same.map(|it| it.name.clone())];
    let name = free_name(&observed.hardware, known.recorded, names, "host");
    let device = Device { name: name.clone(), kind: Kind::Host(HostRef::new(selector)) };
    if observed.hardware.plug(at, device).is_err() {
        return;
    }
    let state = match &plugged.status {
        _ if broken => DeviceState::Absent,
        Some(Status::Absent | Status::Refused(_)) => DeviceState::Absent,
        Some(Status::Offered) => DeviceState::Offered,
        Some(Status::Addressed | Status::Configured) | None => DeviceState::Attached,
    };
    if state != DeviceState::Attached {
        observed.states.insert(at, state);
    }
    if let Some(Status::Refused(why)) = &plugged.status {
        observed.notes.push(format!("{name}: the backend refuses it: {why}"));
    }
    if own_name.is_some() {
        observed.ours.insert(name);
    }
}

/// The first of the names that nothing has, else `stemN` that nothing has and nothing is recorded to have.
fn free_name<const N: usize>(
    has: &Hardware,
    recorded: &Hardware,
    wanted: [Option<Name>; N],
    stem: &'static str,
) -> Name {
    let mut wanted = wanted.into_iter().flatten();
    wanted.find(|name| has.named(name).is_none()).unwrap_or_else(|| {
        let taken = |name: &Name| has.named(name).is_some() || recorded.named(name).is_some();
        let mut number = 0;
        loop {
            let name = Name::numbered(stem, number);
            if !taken(&name) {
                return name;
            }
            number += 1;
        }
    })
}
