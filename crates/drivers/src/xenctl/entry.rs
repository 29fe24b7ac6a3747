//! A controller as it is kept in xenstore: read once, and everything in it checked.
//!
//! What libxl's copy says is believed, for only the toolstack writes there. What is in the backend's folder is that domain's word, and
//! what is in the guest's folder the guest's: both are only shown, or waited for.

use std::collections::BTreeMap;

use vusb_host::text::printable;
use vusb_model::address::Index;
use vusb_model::models::Model;
use vusb_model::name::Name;
use vusb_model::selector::{BusId, Selector};
use vusb_xen::{DomId, State};

use super::paths;
use super::tree::Tree;
use crate::driver::{Counters, Error};

/// The most ports that a controller has (`USBIF_MAX_PORTNR` in Xen's `usbif.h`).
pub(super) const MAX_PORTS: u8 = 31;

/// The longest text of another domain that is shown.
const SHOWN: usize = 300;

/// Who serves a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// A vusb-backend (libxl's type `pv`).
    Pv(Ends),
    /// A QEMU, by the same protocol (libxl's type `qusb`).
    Qusb(Ends),
    /// The guest's own device model: an emulated controller.
    DeviceModel,
    /// What is not known here.
    Unknown(String),
}

/// The two ends of a paravirtual controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// The domain whose devices it carries.
    pub(super) backend: DomId,
    /// The backend's folder.
    pub(super) path: String,
}

/// What has become of a port, as the backend says: `docs/xenstore.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// The device is not there.
    Absent,
    /// The guest was told of it.
    Offered,
    /// The guest gave it an address.
    Addressed,
    /// The guest chose its configuration.
    Configured,
    /// The backend cannot or will not lend it.
    Refused(String),
}

impl Status {
    /// Reads a `status/P` node. `None` for what is not known: a word of a later version.
    pub(super) fn parse(text: &str) -> Option<Status> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        Some(match word {
            "absent" => Status::Absent,
            "offered" => Status::Offered,
            "addressed" => Status::Addressed,
            "configured" => Status::Configured,
            "refused" if rest.is_empty() => Status::Refused("it does not say why".to_owned()),
            "refused" => Status::Refused(shown(rest)),
            _ => return None,
        })
    }
}

/// A device in a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plugged {
    pub(super) bus_id: BusId,
    /// What vusb called it, and what it was asked for by; `None` if another tool plugged it in.
    pub(super) own: Option<(Name, Selector)>,
    pub(super) status: Option<Status>,
}

/// A controller.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// libxl's number.
    pub(super) devid: u16,
    /// vusb's index, where it is not libxl's number.
    pub(super) index: Option<Index>,
    /// vusb's name; `None` if another tool made it.
    pub(super) name: Option<Name>,
    pub(super) sort: Sort,
    /// The model, for a paravirtual one.
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

impl Entry {
    /// The ends of a paravirtual one.
    pub(super) const fn ends(&self) -> Option<&Ends> {
        match &self.sort {
            Sort::Pv(ends) | Sort::Qusb(ends) => Some(ends),
            Sort::DeviceModel | Sort::Unknown(_) => None,
        }
    }

    /// Its index, unless something else has that.
    pub(super) fn wants(&self) -> Option<Index> {
        self.index.or_else(|| Index::new(self.devid))
    }

    /// Why it carries nothing any more and will not again; `None` if it is well, or still being made.
    pub(super) fn broken(&self) -> Option<String> {
        self.ends()?;
        let dropped = |what: &str| match &self.error {
            Some(error) => format!("the backend dropped it: {error}"),
            None => what.to_owned(),
        };
        match (self.backend_state, self.guest_state) {
            (None, _) => Some("its backend is gone".to_owned()),
            (_, None) => Some("the guest's side of it is gone".to_owned()),
            (Some(State::Closing | State::Closed), _) => Some(dropped("the backend has closed it")),
            (_, Some(State::Closing | State::Closed)) => {
                Some("the guest's driver has let go of it".to_owned())
            }
            _ => self.error.as_ref().map(|_| dropped("")),
        }
    }
}

/// Every controller of a guest, by libxl's number.
pub(super) fn read_all(tree: &mut Tree, guest: DomId) -> Result<Vec<Entry>, Error> {
    let names = tree.list(&paths::controllers(guest))?;
    let mut devids: Vec<u16> = names.iter().filter_map(|it| it.parse().ok()).collect();
    devids.sort_unstable();
    let all = devids.into_iter().map(|devid| read(tree, guest, devid));
    all.filter_map(Result::transpose).collect()
}

/// One controller; `None` if it has gone meanwhile.
pub(super) fn read(tree: &mut Tree, guest: DomId, devid: u16) -> Result<Option<Entry>, Error> {
    let copy = paths::copy(guest, devid);
    let Some(kind) = tree.read(&format!("{copy}/type"))? else { return Ok(None) };
    let backend = tree.read(&format!("{copy}/backend"))?;
    let ends = || {
        let path = backend.clone()?;
        let (domain, kind) = paths::parse_backend(&path)?;
        // A path that libxl did not write is none to write to.
        let good = path == paths::backend(domain, kind, guest, devid);
        good.then_some(Ends { backend: domain, path })
    };
    let sort = match kind.as_str() {
        "pv" => ends().map(Sort::Pv),
        "qusb" => ends().map(Sort::Qusb),
        "devicemodel" => Some(Sort::DeviceModel),
        _ => None,
    };
    let sort = sort.unwrap_or_else(|| Sort::Unknown(shown(&kind)));
    let number = |text: Option<String>| text.and_then(|it| it.parse::<u8>().ok());
    let version = number(tree.read(&format!("{copy}/usb-ver"))?);
    let ports = number(tree.read(&format!("{copy}/num-ports"))?).unwrap_or(0).min(MAX_PORTS);
    let mut entry = Entry {
        devid,
        index: tree.read(&format!("{copy}/index"))?.and_then(|it| it.parse().ok()),
        name: tree.read(&format!("{copy}/name"))?.and_then(|it| it.parse().ok()),
        sort,
        model: if version == Some(1) { Model::Xenusb1 } else { Model::Xenusb2 },
        ports,
        backend_state: None,
        guest_state: None,
        error: None,
        devices: BTreeMap::new(),
        counters: None,
    };
    if let Some(ends) = entry.ends().cloned() {
        read_ends(tree, guest, &mut entry, &ends)?;
    }
    Ok(Some(entry))
}

/// What the two ends say.
fn read_ends(tree: &mut Tree, guest: DomId, entry: &mut Entry, ends: &Ends) -> Result<(), Error> {
    let copy = paths::copy(guest, entry.devid);
    let frontend = paths::frontend(guest, entry.devid);
    let state = |text: Option<String>| text.map(|it| it.parse().unwrap_or(State::Unknown));
    entry.backend_state = state(tree.read(&format!("{}/state", ends.path))?);
    entry.guest_state = state(tree.read(&format!("{frontend}/state"))?);
    let error = tree.read(&format!("{}/error", ends.path))?;
    entry.error = error.filter(|it| !it.is_empty()).map(|it| shown(&it));
    let counters = tree.read(&format!("{}/stats", ends.path))?;
    entry.counters = counters.as_deref().and_then(Counters::parse);
    let status = format!("{}/status", ends.path);
    let spoken_of = tree.list(&status)?;
    for port in 1..=entry.ports {
        let told = tree.read(&format!("{}/port/{port}", ends.path))?.filter(|it| !it.is_empty());
        let status = if spoken_of.contains(&port.to_string()) {
            tree.read(&format!("{status}/{port}"))?
        } else {
            None
        };
        // Most ports are empty, and each question costs a message there and one back.
        if told.is_none() && status.is_none() {
            continue;
        }
        let copied = tree.read(&format!("{copy}/port/{port}"))?;
        // What was taken out and is not given back yet is still there.
        let held = || copied.clone().filter(|_| status.is_some());
        let bus_id = told.or_else(held).and_then(|it| it.parse::<BusId>().ok());
        let Some(bus_id) = bus_id else { continue };
        let status = status.as_deref().and_then(Status::parse);
        // Another tool that swaps what is in the port does not know of the copy.
        let same = copied.as_deref() == Some(bus_id.to_string().as_str());
        let own = if same { own(tree, &copy, port)? } else { None };
        entry.devices.insert(port, Plugged { bus_id, own, status });
    }
    Ok(())
}

/// What vusb noted of the device in a port.
fn own(tree: &mut Tree, copy: &str, port: u8) -> Result<Option<(Name, Selector)>, Error> {
    let name = tree.read(&format!("{copy}/device/{port}/name"))?.and_then(|it| it.parse().ok());
    let selector = tree.read(&format!("{copy}/device/{port}/selector"))?;
    Ok(name.zip(selector.and_then(|it| it.parse().ok())))
}

/// Another domain's text, made harmless.
pub(super) fn shown(text: &str) -> String {
    printable(text.as_bytes(), SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_word_and_a_reason() {
        assert_eq!(Status::parse("configured"), Some(Status::Configured));
        assert_eq!(
            Status::parse("refused it is a\u{1b}[2J hub"),
            Some(Status::Refused("it is a?[2J hub".to_owned()))
        );
        for text in ["", "configured2", "Configured", " offered", "attached"] {
            assert_eq!(Status::parse(text), None, "{text:?}");
        }
    }
}
