//! Finding the one device that a selector names.

use std::fmt;

use thiserror::Error;
use vusb_model::list::{SHOWN, few};
use vusb_model::remedy::Remedy;
use vusb_model::selector::{BusAddress, BusId, Selector, StablePath, Traits, UsbId};

use crate::device::HostDevice;

/// Why a selector does not name exactly one device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectError {
    /// No device matches. This is a state rather than a fault: the device may be plugged in later.
    #[error("no USB device of this machine matches `{selector}`")]
    Absent {
        /// The selector that was requested.
        selector: Selector,
    },
    /// Several devices match. Choosing one of them could give away the wrong device.
    #[error(
        "`{selector}` matches {} USB devices of this machine: {}; specify one of them as {}",
        candidates.len(), List(candidates), Alternatives(candidates)
    )]
    Ambiguous {
        /// The selector that was requested.
        selector: Selector,
        /// All devices that match, at least two, in the order of the list.
        candidates: Vec<Candidate>,
    },
}

impl SelectError {
    /// What the caller can do about it.
    pub fn remedies(&self) -> Vec<Remedy> {
        match self {
            SelectError::Absent { .. } => vec![Remedy::ListHost { backend: None }],
            // The sentence contains the first selectors to choose from.
            SelectError::Ambiguous { candidates, .. } if candidates.len() > SHOWN => {
                vec![Remedy::ListHost { backend: None }]
            }
            SelectError::Ambiguous { .. } => Vec::new(),
        }
    }
}

/// One of several devices that match a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its bus and port chain.
    pub bus_id: BusId,
    /// Its bus and address.
    pub bus_address: BusAddress,
    /// Its vendor and product.
    pub id: UsbId,
    /// Its serial number.
    pub serial: Option<String>,
}

impl From<&HostDevice> for Candidate {
    fn from(device: &HostDevice) -> Candidate {
        Candidate {
            bus_id: device.bus_id.clone(),
            bus_address: device.bus_address,
            id: device.id,
            serial: device.serial.clone(),
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at {}, ", self.bus_id, self.bus_address)?;
        match &self.serial {
            Some(serial) => write!(f, "serial {serial})"),
            None => f.write_str("no serial)"),
        }
    }
}

/// The first candidates, separated by commas.
struct List<'a>(&'a [Candidate]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&few(self.0))
    }
}

/// A selector for each of the first candidates that matches it alone: by serial number if that is
/// unique and has no meaning for a shell, by port otherwise. People copy it into a shell, and the
/// device chose its serial number.
struct Alternatives<'a>(&'a [Candidate]);

impl Alternatives<'_> {
    fn selector(&self, candidate: &Candidate) -> String {
        let same =
            |other: &&Candidate| other.id == candidate.id && other.serial == candidate.serial;
        match &candidate.serial {
            Some(serial) if is_plain(serial) && self.0.iter().filter(same).count() == 1 => {
                format!("{}:{serial}", candidate.id)
            }
            _ => candidate.bus_id.to_string(),
        }
    }
}

/// Whether a shell takes the text literally, as part of one word.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

impl fmt::Display for Alternatives<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().take(SHOWN).map(|it| format!("`{}`", self.selector(it)));
        f.write_str(&shown.collect::<Vec<_>>().join(" or "))
    }
}

impl HostDevice {
    /// Whether a selector matches this device.
    pub fn matches(&self, selector: &Selector) -> bool {
        selector.matches(&Traits {
            id: self.id,
            serial: self.serial.as_deref(),
            port: &self.bus_id,
            address: self.bus_address,
            path: self.path.as_ref().map(StablePath::as_str),
        })
    }
}

/// The one device that a selector matches.
///
/// # Errors
/// [`SelectError::Absent`] if no device matches, [`SelectError::Ambiguous`] if several do.
pub fn select<'a>(
    devices: &'a [HostDevice],
    selector: &Selector,
) -> Result<&'a HostDevice, SelectError> {
    let matching: Vec<&HostDevice> =
        devices.iter().filter(|device| device.matches(selector)).collect();
    let selector = selector.clone();
    match matching.as_slice() {
        [] => Err(SelectError::Absent { selector }),
        [only] => Ok(only),
        several => Err(SelectError::Ambiguous {
            selector,
            candidates: several.iter().copied().map(Candidate::from).collect(),
        }),
    }
}
