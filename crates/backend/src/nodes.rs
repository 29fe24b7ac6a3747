//! The backend's folder of one controller in xenstore: what stands in it, and what we write there. The page `docs/xenstore.md` is its description.
//!
//! The folder is ours and the toolstack's, and the guest can only read it. All the same nothing in it is believed before it is checked: in a
//! driver domain the toolstack is another domain's, and people write to xenstore by hand.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;
use vusb_model::selector::{BusId, Selector, UsbId};
use vusb_usbif::Port;
use vusb_xen::store::{self, Nodes};
use vusb_xen::{DomId, State};

/// The kind of backend, as a folder's name.
pub const KIND: &str = "vusb";

/// Which controller of which guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The guest.
    pub domain: DomId,
    /// The controller's index.
    pub index: u32,
}

impl fmt::Display for Key {
    /// For the log: `domain 5, controller 0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domain {}, controller {}", self.domain, self.index)
    }
}

/// Below which all our controllers are.
pub fn root(us: DomId) -> String {
    format!("/local/domain/{us}/backend/{KIND}")
}

impl Key {
    /// Our folder for it.
    pub fn folder(self, us: DomId) -> String {
        format!("{}/{}/{}", root(us), self.domain, self.index)
    }

    /// The guest's folder for it. The only one that there can be: what `frontend` says is not followed anywhere else.
    pub fn frontend(self) -> String {
        format!("/local/domain/{}/device/{KIND}/{}", self.domain, self.index)
    }

    /// The controller that a path below [`root`] belongs to.
    pub fn of_path(us: DomId, path: &str) -> Option<Key> {
        let rest = path.strip_prefix(&root(us))?.strip_prefix('/')?;
        let mut parts = rest.split('/');
        Key::parse(parts.next()?, parts.next()?)
    }

    /// The controller of these two names of folders.
    pub fn parse(domain: &str, index: &str) -> Option<Key> {
        let domain = domain.parse().ok()?;
        let index: u32 = number(index)?;
        Some(Key { domain, index })
    }
}

/// A number in strict decimal.
fn number(text: &str) -> Option<u32> {
    let strict = !text.is_empty()
        && text.bytes().all(|it| it.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| strict)
}

/// A device that the toolstack wants in a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Where it is plugged in.
    pub bus_id: BusId,
    /// Which device it must be; `None` for any that is there.
    pub identity: Option<Identity>,
}

/// Which device is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor and product.
    pub id: UsbId,
    /// Serial number, if that matters.
    pub serial: Option<String>,
}

impl Identity {
    /// Reads `0781:5581` or `0781:5581:SERIAL`.
    pub fn parse(text: &str) -> Option<Identity> {
        match text.parse().ok()? {
            Selector::Id { id, serial } => Some(Identity { id, serial }),
            _ => None,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.serial {
            Some(serial) => write!(f, "{}:{serial}", self.id),
            None => self.id.fmt(f),
        }
    }
}

/// What has become of what is wanted in a port: `status/P`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortStatus {
    /// The device is not plugged in.
    Absent,
    /// The guest was told of it.
    Offered,
    /// The guest gave it an address.
    Addressed,
    /// The guest chose its configuration: a driver has it.
    Configured,
    /// It is not lent. Why, in one sentence.
    Refused(String),
}

impl fmt::Display for PortStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortStatus::Absent => f.write_str("absent"),
            PortStatus::Offered => f.write_str("offered"),
            PortStatus::Addressed => f.write_str("addressed"),
            PortStatus::Configured => f.write_str("configured"),
            PortStatus::Refused(why) => write!(f, "refused {why}"),
        }
    }
}

/// What a controller is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// USB 1 or 2.
    pub version: u8,
    /// How many ports, 1 to 31.
    pub ports: u8,
    /// What is wanted in which port.
    pub wanted: BTreeMap<u8, Want>,
    /// Ports whose nodes cannot be read, and why.
    pub unreadable: BTreeMap<u8, String>,
}

/// What of a folder cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{node}` is `{value}`: {why}")]
pub struct BadNode {
    /// The node's name.
    pub node: &'static str,
    /// What it says.
    pub value: String,
    /// Why that cannot be.
    pub why: &'static str,
}

/// Reads what the controller is to be.
///
/// # Errors
/// The store's, or what cannot be served.
pub fn plan(nodes: &mut impl Nodes, folder: &str) -> Result<Result<Plan, BadNode>, store::Error> {
    let version = text(nodes, &format!("{folder}/usb-ver"))?.unwrap_or_default();
    let ports = text(nodes, &format!("{folder}/num-ports"))?.unwrap_or_default();
    let (Some(version), Some(count)) =
        (small(&version, 1, 2), small(&ports, 1, Port::MAX.number()))
    else {
        let bad_version = small(&version, 1, 2).is_none();
        return Ok(Err(if bad_version {
            BadNode { node: "usb-ver", value: version, why: "it must be 1 or 2" }
        } else {
            BadNode { node: "num-ports", value: ports, why: "it must be 1 to 31" }
        }));
    };
    let mut plan =
        Plan { version, ports: count, wanted: BTreeMap::new(), unreadable: BTreeMap::new() };
    for port in 1..=count {
        let Some(bus_id) =
            text(nodes, &format!("{folder}/port/{port}"))?.filter(|it| !it.is_empty())
        else {
            continue;
        };
        let identity = text(nodes, &format!("{folder}/device/{port}"))?.filter(|it| !it.is_empty());
        match want(&bus_id, identity.as_deref()) {
            Ok(want) => drop(plan.wanted.insert(port, want)),
            Err(why) => drop(plan.unreadable.insert(port, why)),
        }
    }
    Ok(Ok(plan))
}

fn want(bus_id: &str, identity: Option<&str>) -> Result<Want, String> {
    let identity = match identity {
        None => None,
        Some(text) => Some(Identity::parse(text).ok_or_else(|| {
            format!("`{text}` names no device; write VENDOR:PRODUCT or VENDOR:PRODUCT:SERIAL")
        })?),
    };
    let bus_id = bus_id.parse().map_err(|_| {
        format!("`{bus_id}` is no place of a device; write it as sysfs does: 1-4.2")
    })?;
    Ok(Want { bus_id, identity })
}

fn small(text: &str, low: u8, high: u8) -> Option<u8> {
    number(text).and_then(|it| u8::try_from(it).ok()).filter(|it| (low..=high).contains(it))
}

/// What the guest's driver has put into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// `urb-ring-ref`.
    pub urbs: u32,
    /// `conn-ring-ref`.
    pub connects: u32,
    /// `event-channel`.
    pub events: u32,
}

/// Reads them; `None` if they are not all there or are no numbers. A guest that writes them while they are read gets a controller that does not work:
/// in a transaction it could have them read again and again.
///
/// # Errors
/// The store's.
pub fn rings(nodes: &mut impl Nodes, frontend: &str) -> Result<Option<Rings>, store::Error> {
    let mut read = |name: &str| {
        Ok::<_, store::Error>(
            text(nodes, &format!("{frontend}/{name}"))?.as_deref().and_then(number),
        )
    };
    let (urbs, connects, events) =
        (read("urb-ring-ref")?, read("conn-ring-ref")?, read("event-channel")?);
    Ok(urbs.zip(connects).zip(events).map(|((urbs, connects), events)| Rings {
        urbs,
        connects,
        events,
    }))
}

/// Reads a state; `None` if the node is not there. What is no state is unknown.
///
/// # Errors
/// The store's.
pub fn state(nodes: &mut impl Nodes, folder: &str) -> Result<Option<State>, store::Error> {
    Ok(text(nodes, &format!("{folder}/state"))?.map(|it| it.parse().unwrap_or(State::Unknown)))
}

/// The text of a node, whoever has written it; `None` if it is not there. A guest can write what is no text, and can close its nodes to a
/// driver domain: both say as little as an empty text.
///
/// # Errors
/// The store's.
pub fn text(nodes: &mut impl Nodes, path: &str) -> Result<Option<String>, store::Error> {
    match nodes.read(path) {
        Err(store::Error::NotText { .. } | store::Error::Denied { .. }) => Ok(Some(String::new())),
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_which_controller() {
        let us = DomId::ZERO;
        let key = Key { domain: DomId::new(5).unwrap(), index: 2 };
        assert_eq!(key.folder(us), "/local/domain/0/backend/vusb/5/2");
        assert_eq!(Key::of_path(us, "/local/domain/0/backend/vusb/5/2/port/1"), Some(key));
        for path in [
            "/local/domain/0/backend/vusb",
            "/local/domain/0/backend/vusb/5",
            "/local/domain/0/backend/vusb/05/2",
            "/local/domain/0/backend/vusb/x/2",
            "/local/domain/0/backend/vusbx/5/2",
        ] {
            assert_eq!(Key::of_path(us, path), None, "{path}");
        }
    }

    #[test]
    fn a_device_is_named_by_where_and_what_it_is() {
        let it = want("1-4.2", Some("0781:5581:AB:CD")).unwrap();
        assert_eq!(it.identity.unwrap().to_string(), "0781:5581:AB:CD");
        assert_eq!(want("1-4.2", None).unwrap().identity, None);
        for (bus_id, identity) in
            [("", None), ("../../x", None), ("1-4", Some("781:5581:")), ("1-4", Some("stick"))]
        {
            assert!(want(bus_id, identity).is_err(), "{bus_id} {identity:?}");
        }
    }

    #[test]
    fn what_a_guest_writes_is_never_an_error() {
        let xenstored = vusb_xen::store::fake::Xenstored::start();
        let mut store = xenstored.client();
        let folder = "/local/domain/5/device/vusb/0";
        assert_eq!(state(&mut store, folder).unwrap(), None);
        for bytes in [&[0xff, 0xfe][..], &[0], &[b'9'; 2000], b"4 ", b""] {
            for name in ["state", "urb-ring-ref", "conn-ring-ref", "event-channel"] {
                store.write_bytes(&format!("{folder}/{name}"), bytes).unwrap();
            }
            assert_eq!(state(&mut store, folder).unwrap(), Some(State::Unknown), "{bytes:?}");
            assert_eq!(rings(&mut store, folder).unwrap(), None, "{bytes:?}");
        }
    }

    #[test]
    fn numbers_are_strict() {
        assert_eq!(small("31", 1, 31), Some(31));
        for text in ["", "0", "32", "010", "+3", "3 ", "0x3", "-1", "99999999999"] {
            assert_eq!(small(text, 1, 31), None, "{text}");
        }
    }
}
