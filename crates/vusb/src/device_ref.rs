//! How a person names a device that a domain has.

use std::fmt;
use std::str::FromStr;

use vusb_model::address::PortPath;
use vusb_model::name::Name;
use vusb_model::selector::Selector;
use vusb_model::spec::ControllerRef;

use crate::error::Error;

/// A device of a domain: `stick`, `0781:5581` or `hci0:1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DeviceRef {
    /// By name.
    Name(Name),
    /// A host device, by any selector that names it.
    Host(Selector),
    /// By its place.
    Port(ControllerRef, PortPath),
}

impl FromStr for DeviceRef {
    type Err = Error;

    /// Reads a name, `C:PORT`, a selector, or `host:SELECTOR`. A vendor and product of four digits each is a selector and
    /// never a place, though `1000:1` is one.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(name) = text.parse() {
            return Ok(DeviceRef::Name(name));
        }
        let selector = text.strip_prefix("host:").unwrap_or(text);
        if let Ok(selector) = selector.parse() {
            return Ok(DeviceRef::Host(selector));
        }
        let place = text.rsplit_once(':').and_then(|(controller, port)| {
            Some(DeviceRef::Port(controller.parse().ok()?, port.parse().ok()?))
        });
        place.ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            Error::usage(
                format!("`{}` names no device", shown.escape_debug()),
                "name a device by its name, by its selector (0781:5581, 1-4.2), or by its port as CONTROLLER:PORT (hci0:1)",
            )
        })
    }
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceRef::Name(name) => write!(f, "{name}"),
            DeviceRef::Host(selector) => write!(f, "{selector}"),
            DeviceRef::Port(controller, port) => write!(f, "{controller}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_three_sorts_of_names() {
        let read = |text: &str| text.parse::<DeviceRef>().unwrap();
        assert!(matches!(read("stick"), DeviceRef::Name(_)));
        assert!(matches!(read("0781:5581"), DeviceRef::Host(_)));
        assert!(matches!(read("host:1-4.2"), DeviceRef::Host(_)));
        assert!(matches!(read("003.014"), DeviceRef::Host(_)));
        assert!(matches!(read("hci0:1.2"), DeviceRef::Port(ControllerRef::Name(_), _)));
        assert!(matches!(read("0:1"), DeviceRef::Port(ControllerRef::Index(_), _)));
        for text in ["", ":", "hci0:", "hci0:0", "-1", "a b"] {
            assert!(text.parse::<DeviceRef>().is_err(), "{text:?}");
        }
    }
}
