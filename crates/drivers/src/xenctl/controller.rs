//! Adding and removing a paravirtual controller.
//!
//! ```text
//! add:     one transaction ─▶ backend 2 ─▶ guest 4, backend 4 ─▶ done
//!              │                  └──────────────┴─ not in time, or 5 or 6: removed again
//!              └─ three folders, as libxl makes them (`libxl__device_generic_add`)
//! remove:  online=0, state=5 ─▶ backend 6 ─▶ three folders deleted, and what is empty above them
//! force:   deleted at once; the backend sees its folder go, and gives all back
//! ```

use std::time::Duration;

use vusb_model::hardware::Controller;
use vusb_model::models::UsbVersion;
use vusb_xen::store::Perms;
use vusb_xen::{DomId, State};

use super::entry::{Ends, shown};
use super::paths;
use super::tree::{Edit, Tree};
use crate::driver::Error;

/// How long the removal of what could not be added is waited for: what is taken back was never in use.
const TAKING_BACK: Duration = Duration::from_secs(3);

/// How long a guest may take to begin with a new controller before it is made again, and how long it takes to notice that one is gone. Linux with
/// `xen-hcd` takes some milliseconds for either.
const STIRRING: Duration = Duration::from_secs(3);
const NOTICING: Duration = Duration::from_secs(1);

/// A controller of a guest, by where it is kept.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) guest: DomId,
    pub(super) devid: u16,
    pub(super) ends: Ends,
}

impl Place {
    pub(super) fn copy(&self) -> String {
        paths::copy(self.guest, self.devid)
    }

    pub(super) fn frontend(&self) -> String {
        paths::frontend(self.guest, self.devid)
    }
}

/// Adds a controller and waits until the guest is connected to it.
///
/// # Errors
/// It is not there then.
pub(super) fn add(
    tree: &mut Tree,
    place: &Place,
    controller: &Controller,
    limit: Duration,
) -> Result<(), Error> {
    tree.change(|edit| make(edit, place, controller))?;
    match wait_connected(tree, place, controller, limit) {
        Ok(()) => Ok(()),
        Err(error) => {
            take_back(tree, place, limit.min(TAKING_BACK));
            Err(error)
        }
    }
}

/// Writes the three folders, with the permissions that libxl gives them: each end's is its own, and the other may read it.
fn make(edit: &mut Edit<'_, '_>, place: &Place, controller: &Controller) -> Result<(), Error> {
    let (copy, frontend, backend) = (place.copy(), place.frontend(), &place.ends.path);
    if edit.read(&format!("{copy}/type"))?.is_some() {
        let why = format!("another tool took libxl's number {} meanwhile; try again", place.devid);
        return Err(Error::Failed { what: adding(controller), why });
    }
    let version = if controller.model.usbversion() == UsbVersion::V1 { "1" } else { "2" };
    let state = State::Initialising.to_string();
    let mut shared: Vec<(String, String)> = [
        ("frontend-id", place.guest.to_string().as_str()),
        ("online", "1"),
        ("state", state.as_str()),
        ("type", "pv"),
        ("usb-ver", version),
        ("num-ports", controller.ports.count().to_string().as_str()),
        ("port", ""),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let ports = 1..=controller.ports.count();
    shared.extend(ports.map(|port| (format!("port/{port}"), String::new())));

    edit.write(&format!("{copy}/frontend"), &frontend)?;
    edit.write(&format!("{copy}/backend"), backend)?;
    edit.remove(&frontend)?;
    edit.make(&frontend, &Perms::readable_by(place.guest, place.ends.backend))?;
    edit.write(&format!("{frontend}/backend"), backend)?;
    edit.write(&format!("{frontend}/backend-id"), &place.ends.backend.to_string())?;
    edit.write(&format!("{frontend}/state"), &state)?;
    edit.remove(backend)?;
    edit.make(backend, &Perms::readable_by(place.ends.backend, place.guest))?;
    edit.write(&format!("{backend}/frontend"), &frontend)?;
    for folder in [backend, &copy] {
        for (key, value) in &shared {
            edit.write(&format!("{folder}/{key}"), value)?;
        }
    }
    edit.write(&format!("{copy}/name"), controller.name.as_str())?;
    if controller.index.get() != place.devid {
        edit.write(&format!("{copy}/index"), &controller.index.to_string())?;
    }
    Ok(())
}

fn adding(controller: &Controller) -> String {
    format!("adding controller {} ({})", controller.name, controller.model)
}

/// Waits for the backend to take the controller, and then for the guest to connect to it.
fn wait_connected(
    tree: &mut Tree,
    place: &Place,
    controller: &Controller,
    limit: Duration,
) -> Result<(), Error> {
    let what = || adding(controller);
    let backend = format!("{}/state", place.ends.path);
    let taken = tree.wait(&[&backend], limit, |tree| {
        let state = state(tree, &backend)?;
        Ok((state != Some(State::Initialising)).then_some(state))
    })?;
    if taken.is_none() {
        let why = "the vusb-backend is there, and did not take it; see what it says in its log"
            .to_owned();
        return Err(Error::TimedOut { what: what(), limit, why });
    }
    let guest = format!("{}/state", place.frontend());
    let mut ended = wait_ended(tree, place, limit.min(STIRRING))?;
    if ended.is_none() && state(tree, &guest)? == Some(State::Initialising) {
        make_again(tree, place, controller)?;
    }
    if ended.is_none() {
        ended = wait_ended(tree, place, limit)?;
    }
    match ended {
        Some(Ok(())) => Ok(()),
        Some(Err(why)) => Err(Error::Failed { what: what(), why }),
        None => Err(Error::TimedOut { what: what(), limit, why: not_connected(tree, &guest)? }),
    }
}

/// Waits until both ends are connected, or the backend gives up, and why.
fn wait_ended(
    tree: &mut Tree,
    place: &Place,
    limit: Duration,
) -> Result<Option<Result<(), String>>, Error> {
    let backend = format!("{}/state", place.ends.path);
    let guest = format!("{}/state", place.frontend());
    tree.wait(&[&backend, &guest], limit, |tree| {
        Ok(match state(tree, &backend)? {
            Some(State::Connected) => Some(Ok(())),
            None | Some(State::Closing | State::Closed) => Some(Err(dropped(tree, place)?)),
            _ => None,
        })
    })
}

/// Takes the folders away for a moment and makes them again, for a guest that does not stir.
///
/// Linux looks at a folder some time after it has changed. One that was removed and made again meanwhile is to it the device that it had, which is
/// closed and stays so.
fn make_again(tree: &mut Tree, place: &Place, controller: &Controller) -> Result<(), Error> {
    tracing::debug!("the guest has not stirred: the controller is made again");
    tree.change(|edit| delete(edit, place))?;
    std::thread::sleep(NOTICING);
    tree.change(|edit| make(edit, place, controller))
}

/// Why the backend has not gone on, as it says.
fn dropped(tree: &mut Tree, place: &Place) -> Result<String, Error> {
    let error = tree.read(&format!("{}/error", place.ends.path))?;
    Ok(match error.filter(|it| !it.is_empty()) {
        Some(error) => format!("the backend dropped it: {}", shown(&error)),
        None => "the backend closed it and does not say why; see its log".to_owned(),
    })
}

/// Why the guest has not connected, as far as its state tells.
fn not_connected(tree: &mut Tree, guest: &str) -> Result<String, Error> {
    Ok(match state(tree, guest)? {
        Some(State::Connected) => "the guest has connected, and the backend has not; see the backend's log",
        Some(State::Initialising) | None => {
            "the guest has not connected: it may not be up yet, or have no driver for PVUSB (in Linux xen-hcd, CONFIG_USB_XEN_HCD); \
             load it there and try again, or try with a longer --timeout"
        }
        Some(_) => "the guest's driver began and did not finish; see the guest's log",
    }
    .to_owned())
}

pub(super) fn state(tree: &mut Tree, path: &str) -> Result<Option<State>, Error> {
    Ok(tree.read(path)?.map(|it| it.parse().unwrap_or(State::Unknown)))
}

/// Takes a controller back that could not be added: in good order if the backend goes along, else by force.
fn take_back(tree: &mut Tree, place: &Place, limit: Duration) {
    let closed = close(tree, place).and_then(|()| wait_closed(tree, place, limit));
    if let Err(error) = closed {
        tracing::warn!(%error, "a controller that could not be added is removed by force");
    }
    if let Err(error) = tree.change(|edit| delete(edit, place)) {
        tracing::warn!(%error, "a controller that could not be added is left behind");
    }
}

/// How a controller is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Both ends are asked, and waited for.
    Asked,
    /// Neither is: it is broken, or its removal is forced.
    AtOnce,
}

/// Removes a controller.
///
/// # Errors
/// [`Error::TimedOut`] if the guest does not let go; it may still do so.
pub(super) fn remove(
    tree: &mut Tree,
    place: &Place,
    what: &str,
    manner: Manner,
    limit: Duration,
) -> Result<(), Error> {
    if manner == Manner::Asked {
        close(tree, place)?;
        if !wait_closed(tree, place, limit)? {
            let why = "the guest has not let go of it: it may be paused, or hang. It may still do so: look again with `vusb list`; \
                       --force removes it without asking the guest"
                .to_owned();
            return Err(Error::TimedOut { what: what.to_owned(), limit, why });
        }
    }
    tree.change(|edit| delete(edit, place))
}

/// Tells the backend to close it, as libxl does (`libxl__initiate_device_generic_remove`).
fn close(tree: &mut Tree, place: &Place) -> Result<(), Error> {
    let backend = &place.ends.path;
    tree.change(|edit| {
        let state = edit.read(&format!("{backend}/state"))?;
        let Some(state) = state else { return Ok(()) };
        edit.write(&format!("{backend}/online"), "0")?;
        if state.parse() != Ok(State::Closed) {
            edit.write(&format!("{backend}/state"), &State::Closing.to_string())?;
        }
        Ok(())
    })
}

/// Whether the backend has closed it in time, or has gone.
fn wait_closed(tree: &mut Tree, place: &Place, limit: Duration) -> Result<bool, Error> {
    let backend = format!("{}/state", place.ends.path);
    let closed = tree.wait(&[&backend], limit, |tree| {
        Ok(matches!(state(tree, &backend)?, None | Some(State::Closed)).then_some(()))
    })?;
    Ok(closed.is_some())
}

/// Deletes the three folders, and those above them that have nothing else in them.
fn delete(edit: &mut Edit<'_, '_>, place: &Place) -> Result<(), Error> {
    for path in [&place.frontend(), &place.ends.path, &place.copy()] {
        remove_clean(edit, path)?;
    }
    Ok(())
}

/// Removes a node with all below it, and what is empty above it then, as far as that was made on the way: a folder that libxl made for its
/// own purpose has permissions of its own.
pub(super) fn remove_clean(edit: &mut Edit<'_, '_>, path: &str) -> Result<(), Error> {
    let mut top = path;
    while let Some((folder, name)) = top.rsplit_once('/') {
        let Some((above, _)) = folder.rsplit_once('/') else { break };
        // `/local/domain/5` and `/libxl/5` are the domain itself.
        if above.matches('/').count() < 2 || above == "/local/domain" {
            break;
        }
        let others = edit.list(folder)?.iter().any(|it| it != name);
        let value = edit.read(folder)?.is_some_and(|it| !it.is_empty());
        if others || value || edit.perms(folder)? != edit.perms(above)? {
            break;
        }
        top = folder;
    }
    // From below: the guest's kernel watches the folder of all devices, and passes over what is said of more than one device.
    let mut next = path;
    loop {
        edit.remove(next)?;
        match next.rsplit_once('/') {
            Some((above, _)) if next.len() > top.len() => next = above,
            _ => return Ok(()),
        }
    }
}
