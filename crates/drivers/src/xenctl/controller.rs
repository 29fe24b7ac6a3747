//! Adding and removing a paravirtual controller.
//!
//! ```text
//! add:     one transaction ─▶ backend 2 ─▶ guest 4, backend 4 ─▶ done
//!              │                  │              ├─ guest still 1: deleted and created again, once
//!              │                  └──────────────┴─ not in time, or 5 or 6: removed again
//!              └─ three folders, as libxl creates them (`libxl__device_generic_add`)
//! remove:  online=0, state=5 ─▶ backend 6 ─▶ three folders deleted, and their empty parents
//! force:   deleted at once; the backend notices that its folder is gone and gives all devices back
//! ```
//!
//! The numbers are states of the two ends ([`State`]).

use std::time::{Duration, Instant};

use vusb_model::hardware::Controller;
use vusb_model::remedy::{Reason, Remedy};
use vusb_xen::State;
use vusb_xen::store::Perms;
use vusb_xen::usb::{ControllerPaths, Key, NewController};

use super::libxl_list::version_number;
use super::printable::printable;
use super::xenstore::{Edit, Xenstore};
use crate::driver::Error;

/// How long to wait for the orderly removal of a controller that could not be added. It was never
/// in use.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a guest may take to react to a new controller before the controller is recreated. Linux
/// with `xen-hcd` takes some milliseconds.
const CONNECT_GRACE: Duration = Duration::from_secs(3);

/// How long to wait between deleting a controller and creating it again. Linux with `xen-hcd` takes
/// some milliseconds to notice the deletion.
const RECREATE_PAUSE: Duration = Duration::from_secs(1);

/// Adds a controller and waits until the guest is connected to it.
///
/// # Errors
/// After an error, the controller is removed again. If that fails too, it is left behind and a
/// warning is logged.
pub(super) fn add(
    store: &mut Xenstore,
    paths: &ControllerPaths,
    controller: &Controller,
    limit: Duration,
) -> Result<(), Error> {
    store.change(|edit| create(edit, paths, controller))?;
    match wait_connected(store, paths, controller, limit) {
        Ok(()) => Ok(()),
        Err(error) => {
            store.roll_back(|store| roll_back(store, paths, limit.min(ROLLBACK_TIMEOUT)));
            Err(error)
        }
    }
}

/// Writes the three folders with libxl's permissions: each end owns its own, and the other may read
/// it.
fn create(
    edit: &mut Edit<'_, '_>,
    paths: &ControllerPaths,
    controller: &Controller,
) -> Result<(), Error> {
    let (libxl, frontend, backend) = (paths.libxl(), paths.frontend(), paths.backend());
    if edit.read(&libxl.node(Key::Type))?.is_some() {
        let why = format!(
            "another tool took libxl's number {} in the meantime; try again",
            paths.id.devid
        );
        return Err(Error::Failed { what: adding(controller), why: why.into() });
    }
    let new = NewController {
        paths,
        usb_version: version_number(controller.model.usbversion()).min(2),
        ports: controller.ports.count(),
        name: &controller.name,
        index: controller.index,
    };
    edit.write_all(&libxl, &new.libxl_entries())?;
    edit.recreate(&frontend, &Perms::readable_by(paths.id.guest, paths.backend))?;
    edit.write_all(&frontend, &new.frontend_entries())?;
    edit.recreate(&backend, &Perms::readable_by(paths.backend, paths.id.guest))?;
    edit.write_all(&backend, &new.backend_entries())
}

fn adding(controller: &Controller) -> String {
    format!("adding controller {} ({})", controller.name, controller.model)
}

/// Waits until the backend has accepted the controller, and then until the guest has connected to
/// it. If the guest does not react, the controller is recreated once.
fn wait_connected(
    store: &mut Xenstore,
    paths: &ControllerPaths,
    controller: &Controller,
    limit: Duration,
) -> Result<(), Error> {
    let timed_out = |why| Error::TimedOut { what: adding(controller), limit, why };
    // Both waits share one limit, because the caller waits for one controller.
    let begun = Instant::now();
    let left = || limit.saturating_sub(begun.elapsed());
    let backend = paths.backend().node(Key::State);
    let accepted = store.wait(&[&backend], limit, |store| {
        let state = store.state(&backend)?;
        Ok((state != Some(State::Initialising)).then_some(()))
    })?;
    if accepted.is_none() {
        return Err(timed_out("the vusb-backend runs but did not accept it; check its log".into()));
    }
    let guest = paths.frontend().node(Key::State);
    let mut result = wait_result(store, paths, CONNECT_GRACE.min(left() / 2))?;
    if result.is_none() && store.state(&guest)? == Some(State::Initialising) {
        recreate(store, paths, controller)?;
    }
    if result.is_none() {
        result = wait_result(store, paths, left())?;
    }
    match result {
        Some(Ok(())) => Ok(()),
        Some(Err(why)) => Err(Error::Failed { what: adding(controller), why: why.into() }),
        None => Err(timed_out(not_connected(store.state(&guest)?))),
    }
}

/// Waits until both ends are connected. The inner error is why the backend gave up; `None` if
/// neither happened within `limit`.
fn wait_result(
    store: &mut Xenstore,
    paths: &ControllerPaths,
    limit: Duration,
) -> Result<Option<Result<(), String>>, Error> {
    let backend = paths.backend().node(Key::State);
    let guest = paths.frontend().node(Key::State);
    store.wait(&[&backend, &guest], limit, |store| {
        Ok(match store.state(&backend)? {
            Some(State::Connected) => Some(Ok(())),
            None | Some(State::Closing | State::Closed) => Some(Err(dropped(store, paths)?)),
            _ => None,
        })
    })
}

/// Deletes the folders and creates them again after a pause, for a guest that does not react.
///
/// Linux looks at a folder some time after it has changed. If the folder was deleted and created
/// again in between, Linux takes it for the previous device, which is closed and stays closed.
fn recreate(
    store: &mut Xenstore,
    paths: &ControllerPaths,
    controller: &Controller,
) -> Result<(), Error> {
    tracing::debug!("the guest has not reacted: recreating the controller");
    store.change(|edit| delete(edit, paths))?;
    std::thread::sleep(RECREATE_PAUSE);
    store.change(|edit| create(edit, paths, controller))
}

/// Why the backend gave up.
fn dropped(store: &mut Xenstore, paths: &ControllerPaths) -> Result<String, Error> {
    let error = store.read(&paths.backend().node(Key::Error))?;
    Ok(match error.filter(|it| !it.is_empty()) {
        Some(error) => format!("the backend dropped it: {}", printable(&error)),
        None => "the backend closed it without giving a reason; check its log".to_owned(),
    })
}

/// Why the guest has not connected, as far as its state shows.
fn not_connected(guest: Option<State>) -> Reason {
    match guest {
        Some(State::Connected) => {
            "the guest has connected, but the backend has not; check the backend's log".into()
        }
        Some(State::Initialising) | None => Reason::from(
            "the guest has not connected: it may still be booting, or have no driver for PVUSB (in Linux xen-hcd, CONFIG_USB_XEN_HCD); \
             load the driver there and try again",
        )
        .remedy(Remedy::MoreTime),
        Some(_) => {
            "the guest's driver began to connect but did not finish; check the guest's log".into()
        }
    }
}

/// Removes a controller that could not be added: in order if the backend cooperates, otherwise at
/// once.
fn roll_back(store: &mut Xenstore, paths: &ControllerPaths, limit: Duration) {
    let closed = close(store, paths).and_then(|()| wait_closed(store, paths, limit));
    if let Err(error) = closed {
        tracing::warn!(%error, "a controller that could not be added is deleted without closing it");
    }
    if let Err(error) = store.change(|edit| delete(edit, paths)) {
        tracing::warn!(%error, "a controller that could not be added is left behind");
    }
}

/// How a controller is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// Both ends close it first.
    Graceful,
    /// It is deleted without waiting for either end: it is broken, or its removal is forced.
    Immediate,
}

/// Removes a controller. `what` names the operation in errors.
///
/// # Errors
/// [`Error::TimedOut`] if the guest does not release it; it may still do so.
pub(super) fn remove(
    store: &mut Xenstore,
    paths: &ControllerPaths,
    what: &str,
    removal: Removal,
    limit: Duration,
) -> Result<(), Error> {
    if removal == Removal::Graceful {
        close(store, paths)?;
        if !wait_closed(store, paths, limit)? {
            let why = "the guest has not released it: it may be paused, or hang. It may still do so later; \
                       a forced removal does not wait for the guest";
            let why = Reason::from(why).remedy(Remedy::ListDomain).remedy(Remedy::Force);
            return Err(Error::TimedOut { what: what.to_owned(), limit, why });
        }
    }
    store.change(|edit| delete(edit, paths))
}

/// Requests that the backend close it, as libxl does (`libxl__initiate_device_generic_remove`).
fn close(store: &mut Xenstore, paths: &ControllerPaths) -> Result<(), Error> {
    let backend = paths.backend();
    store.change(|edit| {
        let Some(state) = edit.read(&backend.node(Key::State))? else { return Ok(()) };
        edit.write(&backend.node(Key::Online), "0")?;
        if State::from_node(&state) != State::Closed {
            edit.write(&backend.node(Key::State), &State::Closing.to_string())?;
        }
        Ok(())
    })
}

/// Whether the backend has closed it within `limit`, or is gone.
fn wait_closed(
    store: &mut Xenstore,
    paths: &ControllerPaths,
    limit: Duration,
) -> Result<bool, Error> {
    let backend = paths.backend().node(Key::State);
    let closed = store.wait(&[&backend], limit, |store| {
        Ok(matches!(store.state(&backend)?, None | Some(State::Closed)).then_some(()))
    })?;
    Ok(closed.is_some())
}

/// Deletes the three folders, and their parents that are empty then.
fn delete(edit: &mut Edit<'_, '_>, paths: &ControllerPaths) -> Result<(), Error> {
    for folder in [paths.frontend(), paths.backend(), paths.libxl()] {
        edit.remove_with_empty_parents(folder.as_str())?;
    }
    Ok(())
}
