//! Putting a device of the host into a port of a paravirtual controller, and taking it out.
//!
//! ```text
//! plug:    port and identity in one transaction ─▶ offered ─▶ addressed ─▶ configured: done
//!              │                                     └──────────┴─ not in time: taken out again
//!              └─ absent, refused WHY: taken out again
//! unplug:  port empty ─▶ status gone: the device is with its own driver again
//! ```
//!
//! A QEMU that serves a controller (`qusb`) says nothing of what becomes of a port: writing it is all that there is, as with xl.

use std::time::{Duration, Instant};

use vusb_model::hardware::Device;
use vusb_model::selector::{BusId, Selector, UsbId};

use super::controller::Place;
use super::entry::Status;
use super::tree::{Edit, Tree};
use crate::driver::Error;

/// How long a device that is to be taken out again is waited for.
const TAKING_BACK: Duration = Duration::from_secs(3);

/// How long the backend may say that a device is absent before it is believed: it may have looked just before the device came.
const SETTLING: Duration = Duration::from_millis(500);

/// A device of a backend domain, as the backend is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) bus_id: BusId,
    pub(super) id: UsbId,
    pub(super) serial: Option<String>,
}

impl Socket {
    /// Which device is meant, as `device/P` has it: what was asked for by its ids is any with those ids, what was asked for by its
    /// place is the one that is there now.
    fn identity(&self, selector: &Selector) -> String {
        match (selector, &self.serial) {
            (Selector::Id { .. }, _) => selector.to_string(),
            (_, Some(serial)) => format!("{}:{serial}", self.id),
            (_, None) => self.id.to_string(),
        }
    }
}

/// A device that is to be plugged in.
pub(super) struct Wanted<'a> {
    pub(super) device: &'a Device,
    pub(super) selector: &'a Selector,
    pub(super) socket: &'a Socket,
    pub(super) port: u8,
    /// Whether the backend says what becomes of it: not so a QEMU.
    pub(super) told: bool,
}

impl Wanted<'_> {
    fn what(&self) -> String {
        format!("plugging in {} ({})", self.device.name, self.device.kind)
    }
}

/// Plugs a device in and waits until the guest has chosen its configuration.
///
/// # Errors
/// The port is empty then.
pub(super) fn plug(
    tree: &mut Tree,
    place: &Place,
    wanted: &Wanted<'_>,
    limit: Duration,
) -> Result<(), Error> {
    tree.change(|edit| fill(edit, place, wanted))?;
    if !wanted.told {
        return Ok(());
    }
    match wait_configured(tree, place, wanted, limit) {
        Ok(()) => Ok(()),
        Err(error) => {
            let back = limit.min(TAKING_BACK);
            let what = wanted.what();
            if let Err(error) = unplug(tree, place, wanted.port, &what, Wait::Politely(back)) {
                tracing::warn!(%error, "a device that could not be plugged in is given back late");
            }
            Err(error)
        }
    }
}

fn fill(edit: &mut Edit<'_, '_>, place: &Place, wanted: &Wanted<'_>) -> Result<(), Error> {
    let (port, copy, backend) = (wanted.port, place.copy(), &place.ends.path);
    let failed = |why: String| Err(Error::Failed { what: wanted.what(), why });
    match edit.read(&format!("{backend}/port/{port}"))? {
        None => return failed("the controller has gone".to_owned()),
        Some(there) if !there.is_empty() => {
            return failed(format!(
                "another tool put {} into port {port} meanwhile",
                there.escape_debug()
            ));
        }
        Some(_) => {}
    }
    let identity = wanted.socket.identity(wanted.selector);
    let bus_id = wanted.socket.bus_id.to_string();
    let noted = format!("{copy}/device/{port}");
    edit.write(&noted, &identity)?;
    edit.write(&format!("{noted}/name"), wanted.device.name.as_str())?;
    edit.write(&format!("{noted}/selector"), &wanted.selector.to_string())?;
    edit.write(&format!("{copy}/port/{port}"), &bus_id)?;
    if wanted.told {
        edit.write(&format!("{backend}/device/{port}"), &identity)?;
    }
    edit.write(&format!("{backend}/port/{port}"), &bus_id)
}

/// How far a device has come, as its controller's backend says.
enum Reached {
    Configured,
    Absent,
    Refused(String),
}

fn wait_configured(
    tree: &mut Tree,
    place: &Place,
    wanted: &Wanted<'_>,
    limit: Duration,
) -> Result<(), Error> {
    let status = format!("{}/status/{}", place.ends.path, wanted.port);
    let begun = Instant::now();
    let look = |tree: &mut Tree| {
        let status = tree.read(&status)?;
        Ok(match status.as_deref().and_then(Status::parse) {
            Some(Status::Configured) => Some(Reached::Configured),
            Some(Status::Refused(why)) => Some(Reached::Refused(why)),
            Some(Status::Absent) if begun.elapsed() >= SETTLING => Some(Reached::Absent),
            _ => None,
        })
    };
    // In two parts: no event comes of a device that stays absent.
    let mut reached = tree.wait(&[&status], limit.min(SETTLING), look)?;
    if reached.is_none() {
        reached = tree.wait(&[&status], limit.saturating_sub(SETTLING), look)?;
    }
    match reached {
        Some(Reached::Configured) => Ok(()),
        Some(Reached::Refused(why)) => Err(Error::Failed {
            what: wanted.what(),
            why: format!("the backend refuses it: {why}"),
        }),
        Some(Reached::Absent) => Err(Error::Missing {
            what: format!("{} ({})", wanted.selector, wanted.socket.bus_id),
            why: "it was pulled out of the backend's machine; plug it in and try again".to_owned(),
        }),
        None => Err(Error::TimedOut { what: wanted.what(), limit, why: stuck(tree, &status)? }),
    }
}

/// Why a device did not come further.
fn stuck(tree: &mut Tree, status: &str) -> Result<String, Error> {
    let status = tree.read(status)?;
    Ok(match status.as_deref().and_then(Status::parse) {
        None => "the vusb-backend has not looked at it; see its log",
        Some(Status::Offered) => "the guest was told of it and has not looked at it: it may hang, or its driver for PVUSB (in Linux xen-hcd) may be gone",
        Some(Status::Addressed) => "the guest has given it an address and chosen no configuration: it may have no use for it, or the device does not answer",
        Some(_) => "it is not what it was; try again",
    }
    .to_owned())
}

/// What to do about a backend that has not given the device back yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Wait so long.
    For(Duration),
    /// Wait so long; it is fine if it is not enough.
    Politely(Duration),
    /// Do not wait: nobody would answer.
    No,
}

/// Empties a port and waits until the backend has given the device back. Only then is it forgotten: until then it counts as plugged in.
///
/// # Errors
/// [`Error::TimedOut`]: the port is empty, and the backend still holds the device.
pub(super) fn unplug(
    tree: &mut Tree,
    place: &Place,
    port: u8,
    what: &str,
    wait: Wait,
) -> Result<(), Error> {
    let backend = &place.ends.path;
    tree.change(|edit| empty(edit, backend, port))?;
    if let Wait::For(limit) | Wait::Politely(limit) = wait {
        let status = format!("{backend}/status/{port}");
        let given_back =
            tree.wait(&[&status], limit, |tree| Ok(tree.read(&status)?.is_none().then_some(())))?;
        if given_back.is_none() && matches!(wait, Wait::For(_)) {
            let why = "its port is empty, and the vusb-backend has not given it back to its own driver yet; see its log. \
                       It may still do so: look again with `vusb list`; --force does not wait for it"
                .to_owned();
            return Err(Error::TimedOut { what: what.to_owned(), limit, why });
        }
    }
    tree.change(|edit| empty(edit, &place.copy(), port))
}

fn empty(edit: &mut Edit<'_, '_>, folder: &str, port: u8) -> Result<(), Error> {
    let node = format!("{folder}/port/{port}");
    // A folder that is gone must not come back for an empty port.
    if edit.read(&node)?.is_some() {
        edit.write(&node, "")?;
    }
    let noted = format!("{folder}/device");
    let others = edit.list(&noted)?.iter().any(|it| *it != port.to_string());
    edit.remove(&if others { format!("{noted}/{port}") } else { noted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_place_gets_what_is_there_now() {
        let id = |text: &str| match text.parse().unwrap() {
            Selector::Id { id, .. } => id,
            _ => panic!("{text}"),
        };
        let mut socket = Socket {
            bus_id: "1-4.2".parse().unwrap(),
            id: id("0781:5581"),
            serial: Some("4C53".to_owned()),
        };
        let identity = |socket: &Socket, text: &str| socket.identity(&text.parse().unwrap());
        assert_eq!(identity(&socket, "0781:5581"), "0781:5581");
        assert_eq!(identity(&socket, "1-4.2"), "0781:5581:4C53");
        socket.serial = None;
        assert_eq!(identity(&socket, "1-4.2"), "0781:5581");
    }
}
