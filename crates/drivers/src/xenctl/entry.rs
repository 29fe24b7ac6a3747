//! A guest's controllers as xenstore has them: read once, with every value checked.
//!
//! libxl's folder is trusted, because only the toolstack can write there. The backend's folder
//! contains what that domain claims, and the guest's folder what the guest claims: both are only
//! shown or waited for.

use std::collections::BTreeMap;

use vusb_model::address::Index;
use vusb_model::models::Model;
use vusb_model::name::Name;
use vusb_model::selector::BusId;
use vusb_xen::usb::{
    self, ControllerId, ControllerPaths, Key, LibxlController, PortLabel, PortStatus, Service,
};
use vusb_xen::{DomId, State};

use super::printable::printable;
use super::xenstore::Xenstore;
use crate::driver::{Counters, Error};

/// A device in a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plugged {
    pub(super) bus_id: BusId,
    /// `None` if another tool plugged it in.
    pub(super) label: Option<PortLabel>,
    pub(super) status: Option<PortStatus>,
}

/// A controller.
#[derive(Clone, Debug)]
pub(super) struct ControllerEntry {
    pub(super) id: ControllerId,
    /// vusb's index, if that is not libxl's number.
    pub(super) index: Option<Index>,
    /// vusb's name; `None` if another tool created it.
    pub(super) name: Option<Name>,
    pub(super) service: Service,
    /// The model, for a paravirtual controller.
    pub(super) model: Model,
    pub(super) ports: u8,
    /// The state of the backend; `None` if its folder is gone.
    pub(super) backend_state: Option<State>,
    /// The state of the guest's driver; `None` if its folder is gone.
    pub(super) guest_state: Option<State>,
    /// Why the backend dropped it.
    pub(super) error: Option<String>,
    pub(super) devices: BTreeMap<u8, Plugged>,
    pub(super) counters: Option<Counters>,
}

impl ControllerEntry {
    /// The folders of a paravirtual controller.
    pub(super) const fn paths(&self) -> Option<&ControllerPaths> {
        match &self.service {
            Service::Pv(paths) | Service::Qusb(paths) => Some(paths),
            Service::DeviceModel | Service::Unknown(_) => None,
        }
    }

    /// The index that it should have: its own, or libxl's number. Another controller may have it
    /// already.
    pub(super) fn preferred_index(&self) -> Option<Index> {
        self.index.or_else(|| u16::try_from(self.id.devid).ok().and_then(Index::new))
    }

    /// Why it is permanently disconnected; `None` if it works or is still being created.
    pub(super) fn broken(&self) -> Option<String> {
        self.paths()?;
        let dropped = |what: &str| match &self.error {
            Some(error) => format!("the backend dropped it: {error}"),
            None => what.to_owned(),
        };
        match (self.backend_state, self.guest_state) {
            (None, _) => Some("its backend is gone".to_owned()),
            (_, None) => Some("the guest's side of it is gone".to_owned()),
            (Some(State::Closing | State::Closed), _) => Some(dropped("the backend closed it")),
            (_, Some(State::Closing | State::Closed)) => {
                Some("the guest's driver released it".to_owned())
            }
            _ => self.error.as_ref().map(|_| dropped("")),
        }
    }
}

/// Every controller of a guest, by libxl's number.
pub(super) fn read_all(store: &mut Xenstore, guest: DomId) -> Result<Vec<ControllerEntry>, Error> {
    let names = store.list(&usb::libxl_controllers(guest))?;
    let ids = names.iter().filter_map(|name| ControllerId::from_names(&guest.to_string(), name));
    let mut ids: Vec<ControllerId> = ids.collect();
    ids.sort_unstable();
    ids.into_iter().map(|id| read(store, id)).filter_map(Result::transpose).collect()
}

/// One controller; `None` if it has disappeared in the meantime.
fn read(store: &mut Xenstore, id: ControllerId) -> Result<Option<ControllerEntry>, Error> {
    let libxl = id.libxl();
    let Some(listed) = LibxlController::parse(id, |key| store.read(&libxl.node(key)))? else {
        return Ok(None);
    };
    let service = match listed.service {
        Service::Unknown(kind) => Service::Unknown(printable(&kind)),
        known => known,
    };
    let mut entry = ControllerEntry {
        id,
        index: listed.index,
        name: listed.name,
        service,
        model: if listed.usb_version == Some(1) { Model::Xenusb1 } else { Model::Xenusb2 },
        ports: listed.ports,
        backend_state: None,
        guest_state: None,
        error: None,
        devices: BTreeMap::new(),
        counters: None,
    };
    if let Some(paths) = entry.paths().copied() {
        read_ends(store, &mut entry, &paths)?;
    }
    Ok(Some(entry))
}

/// Reads what the backend and the guest have written.
fn read_ends(
    store: &mut Xenstore,
    entry: &mut ControllerEntry,
    paths: &ControllerPaths,
) -> Result<(), Error> {
    let backend = paths.backend();
    entry.backend_state = store.state(&backend.node(Key::State))?;
    entry.guest_state = store.state(&paths.frontend().node(Key::State))?;
    let error = store.read(&backend.node(Key::Error))?;
    entry.error = error.filter(|it| !it.is_empty()).map(|it| printable(&it));
    let counters = store.read(&backend.node(Key::Stats))?;
    entry.counters = counters.as_deref().and_then(usb::Counters::parse).map(Counters::from);
    let reported = store.list(&backend.node(Key::Statuses))?;
    for port in 1..=entry.ports {
        let is_reported = reported.contains(&port.to_string());
        entry.devices.extend(read_port(store, paths, port, is_reported)?.map(|it| (port, it)));
    }
    Ok(())
}

/// The device in a port. `is_reported`: the backend has a status for the port.
fn read_port(
    store: &mut Xenstore,
    paths: &ControllerPaths,
    port: u8,
    is_reported: bool,
) -> Result<Option<Plugged>, Error> {
    let (libxl, backend) = (paths.libxl(), paths.backend());
    let requested = store.read(&backend.node(Key::Port(port)))?.filter(|it| !it.is_empty());
    let status = if is_reported { store.read(&backend.node(Key::Status(port)))? } else { None };
    // Most ports are empty, and each read costs a round trip.
    if requested.is_none() && status.is_none() {
        return Ok(None);
    }
    let listed = store.read(&libxl.node(Key::Port(port)))?;
    // A device that was unplugged and is not given back yet is still held by the backend.
    let held = || listed.clone().filter(|_| status.is_some());
    let bus_id = requested.or_else(held).and_then(|it| it.parse::<BusId>().ok());
    let Some(bus_id) = bus_id else { return Ok(None) };
    let status = status.as_deref().and_then(parse_status);
    // Another tool that replaces the device does not update libxl's folder.
    let same = listed.as_deref() == Some(bus_id.to_string().as_str());
    let label =
        if same { PortLabel::parse(port, |key| store.read(&libxl.node(key)))? } else { None };
    Ok(Some(Plugged { bus_id, label, status }))
}

/// Reads a `status/P` node, and makes the backend's reason printable.
pub(super) fn parse_status(text: &str) -> Option<PortStatus> {
    Some(match PortStatus::parse(text)? {
        PortStatus::Refused(why) if why.is_empty() => {
            PortStatus::Refused("it does not give a reason".to_owned())
        }
        PortStatus::Refused(why) => PortStatus::Refused(printable(&why)),
        status => status,
    })
}

impl From<usb::Counters> for Counters {
    fn from(counters: usb::Counters) -> Counters {
        let usb::Counters { requests, bytes_in, bytes_out, errors, in_flight, wakeups: _ } =
            counters;
        Counters { requests, bytes_in, bytes_out, errors, in_flight }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_refusal_is_made_printable() {
        let refused = |why: &str| Some(PortStatus::Refused(why.to_owned()));
        assert_eq!(parse_status("refused it is a\u{1b}[2J hub"), refused("it is a?[2J hub"));
        assert_eq!(parse_status("refused"), refused("it does not give a reason"));
        assert_eq!(parse_status("configured"), Some(PortStatus::Configured));
        assert_eq!(parse_status("attached"), None);
    }
}
