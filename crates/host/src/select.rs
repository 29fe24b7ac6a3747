//! Finding the one device that a selector names.

use std::fmt;

use thiserror::Error;
use vusb_model::selector::{BusAddress, BusId, Selector, UsbId};

use crate::device::HostDevice;

/// Why a selector does not name one device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectError {
    /// Nothing that is plugged in matches. A state rather than a fault: the device may come back.
    #[error(
        "no USB device of this machine is `{selector}`: plug it in, or see `vusb host list` for what there is"
    )]
    Absent {
        /// What was asked for.
        selector: Selector,
    },
    /// Several devices match, and to guess between them would give away the wrong one.
    #[error("`{selector}` is {} devices of this machine: {}; say which by {}", matches.len(), Listed(matches), Hints(matches))]
    Ambiguous {
        /// What was asked for.
        selector: Selector,
        /// All that match, in the order of the list; two at least.
        matches: Vec<Match>,
    },
}

/// One of several devices that a selector names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Its bus and port chain.
    pub bus_id: BusId,
    /// Its bus and address.
    pub at: BusAddress,
    /// Its vendor and product.
    pub id: UsbId,
    /// Its serial number.
    pub serial: Option<String>,
}

impl From<&HostDevice> for Match {
    fn from(device: &HostDevice) -> Match {
        Match {
            bus_id: device.bus_id.clone(),
            at: device.at,
            id: device.id,
            serial: device.serial.clone(),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at {}, ", self.bus_id, self.at)?;
        match &self.serial {
            Some(serial) => write!(f, "serial {serial})"),
            None => f.write_str("no serial)"),
        }
    }
}

/// All matches, one after the other.
struct Listed<'a>(&'a [Match]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(Match::to_string).collect();
        f.write_str(&all.join(", "))
    }
}

/// What to write instead: each match's serial number where that tells it from the others, its port otherwise.
struct Hints<'a>(&'a [Match]);

impl Hints<'_> {
    fn hint(&self, it: &Match) -> String {
        let alike = |other: &&Match| other.id == it.id && other.serial == it.serial;
        match &it.serial {
            Some(serial) if self.0.iter().filter(alike).count() == 1 => {
                format!("{}:{serial}", it.id)
            }
            _ => it.bus_id.to_string(),
        }
    }
}

impl fmt::Display for Hints<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(|it| format!("`{}`", self.hint(it))).collect();
        f.write_str(&all.join(" or "))
    }
}

/// Whether `selector` names `device`. Serial numbers and paths are compared letter for letter.
pub fn matches(device: &HostDevice, selector: &Selector) -> bool {
    match selector {
        Selector::Id { id, serial } => {
            device.id == *id && (serial.is_none() || *serial == device.serial)
        }
        Selector::Port(bus_id) => device.bus_id == *bus_id,
        Selector::Address(at) => device.at == *at,
        Selector::Path(path) => device.path.as_ref() == Some(path),
    }
}

/// The one device that `selector` names.
///
/// # Errors
/// [`SelectError::Absent`] if none does, [`SelectError::Ambiguous`] if several do.
pub fn select<'a>(
    devices: &'a [HostDevice],
    selector: &Selector,
) -> Result<&'a HostDevice, SelectError> {
    let found: Vec<&HostDevice> =
        devices.iter().filter(|device| matches(device, selector)).collect();
    let selector = selector.clone();
    match found.as_slice() {
        [] => Err(SelectError::Absent { selector }),
        [only] => Ok(only),
        several => Err(SelectError::Ambiguous {
            selector,
            matches: several.iter().copied().map(Match::from).collect(),
        }),
    }
}
