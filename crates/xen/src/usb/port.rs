//! What is plugged into a port: requested by the toolstack, reported by the backend.

use std::fmt;

use vusb_model::name::Name;
use vusb_model::selector::{BusId, Selector, UsbId};

use super::key::{Entry, Key};
use super::quoted;

/// A device that the toolstack requests in a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedDevice {
    /// Where it is plugged in: `port/P`.
    pub bus_id: BusId,
    /// What it must be: `device/P`. `None` accepts any device that is plugged in there.
    pub identity: Option<DeviceIdentity>,
}

impl RequestedDevice {
    /// Its nodes in the backend's folder.
    pub fn entries(&self, port: u8) -> Vec<Entry> {
        let identity = self.identity.iter().map(|it| (Key::Device(port), it.to_string()));
        // The backend acts on `port/P`, so that comes last.
        identity.chain([(Key::Port(port), self.bus_id.to_string())]).collect()
    }

    /// Reads the values of `port/P` and `device/P`.
    ///
    /// # Errors
    /// Why they are invalid, as a sentence.
    pub fn parse(bus_id: &str, identity: Option<&str>) -> Result<RequestedDevice, String> {
        let identity = match identity {
            None => None,
            Some(text) => Some(DeviceIdentity::parse(text).ok_or_else(|| {
                format!(
                    "`{}` does not identify a device; write VENDOR:PRODUCT or VENDOR:PRODUCT:SERIAL",
                    quoted(text)
                )
            })?),
        };
        let bus_id = bus_id.parse().map_err(|_| {
            format!("`{}` is not a bus id; write it as sysfs does: 1-4.2", quoted(bus_id))
        })?;
        Ok(RequestedDevice { bus_id, identity })
    }
}

/// What a device must be: the backend does not export another one that is later plugged into the
/// same port of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// Vendor and product.
    pub id: UsbId,
    /// Serial number; `None` accepts any.
    pub serial: Option<String>,
}

impl DeviceIdentity {
    /// Reads `0781:5581` or `0781:5581:SERIAL`.
    pub fn parse(text: &str) -> Option<DeviceIdentity> {
        match text.parse().ok()? {
            Selector::Id { id, serial } => Some(DeviceIdentity { id, serial }),
            _ => None,
        }
    }
}

impl fmt::Display for DeviceIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.serial {
            Some(serial) => write!(f, "{}:{serial}", self.id),
            None => self.id.fmt(f),
        }
    }
}

/// What vusb stores about a device in a port. It is in libxl's folder because the guest's record
/// may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortLabel {
    /// vusb's name for it.
    pub name: Name,
    /// What it was requested by.
    pub selector: Selector,
}

impl PortLabel {
    /// All nodes of a device in libxl's folder.
    pub fn entries(&self, port: u8, device: &RequestedDevice) -> Vec<Entry> {
        let mut entries = device.entries(port);
        entries.push((Key::DeviceName(port), self.name.to_string()));
        entries.push((Key::DeviceSelector(port), self.selector.to_string()));
        entries
    }

    /// Reads the label; `None` if another tool plugged the device in.
    ///
    /// # Errors
    /// The errors of `read`.
    pub fn parse<E>(
        port: u8,
        mut read: impl FnMut(Key) -> Result<Option<String>, E>,
    ) -> Result<Option<PortLabel>, E> {
        let name = read(Key::DeviceName(port))?.and_then(|it| it.parse().ok());
        let selector = read(Key::DeviceSelector(port))?.and_then(|it| it.parse().ok());
        Ok(name.zip(selector).map(|(name, selector)| PortLabel { name, selector }))
    }
}

/// The backend's report on a port (`status/P`) that has a device, or whose last device was not yet
/// returned to its own driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortStatus {
    /// The device is not plugged in.
    Absent,
    /// The guest was notified of it.
    Offered,
    /// The guest gave it an address.
    Addressed,
    /// The guest chose its configuration: a driver is bound to it.
    Configured,
    /// The backend cannot or may not export it: why, as a sentence.
    Refused(String),
}

impl PortStatus {
    /// Reads a node. `None` for a word of a later version.
    pub fn parse(text: &str) -> Option<PortStatus> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        Some(match word {
            "absent" => PortStatus::Absent,
            "offered" => PortStatus::Offered,
            "addressed" => PortStatus::Addressed,
            "configured" => PortStatus::Configured,
            "refused" => PortStatus::Refused(rest.to_owned()),
            _ => return None,
        })
    }

    /// The first word of the node.
    pub const fn word(&self) -> &'static str {
        match self {
            PortStatus::Absent => "absent",
            PortStatus::Offered => "offered",
            PortStatus::Addressed => "addressed",
            PortStatus::Configured => "configured",
            PortStatus::Refused(_) => "refused",
        }
    }
}

impl fmt::Display for PortStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortStatus::Refused(why) => write!(f, "{} {why}", self.word()),
            _ => f.write_str(self.word()),
        }
    }
}
