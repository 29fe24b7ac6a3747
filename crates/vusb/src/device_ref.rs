//! How a user names a device of a domain.

use std::fmt;
use std::str::FromStr;

use vusb_model::address::PortPath;
use vusb_model::name::Name;
use vusb_model::selector::Selector;
use vusb_model::spec::ControllerRef;

use crate::advice::Advice;
use crate::error::Error;

/// A device of a domain: `stick`, `0781:5581` or `hci0:1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DeviceRef {
    /// By name.
    Name(Name),
    /// A host device, by any selector that names it.
    Host(Selector),
    /// By its port.
    Port(ControllerRef, PortPath),
}

impl FromStr for DeviceRef {
    type Err = Error;

    /// Parses a name, a selector, `host:SELECTOR`, or `CONTROLLER:PORT`. Two groups of four
    /// hexadecimal digits are vendor and product, never a port; `1000:1` is a port.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(name) = text.parse() {
            return Ok(DeviceRef::Name(name));
        }
        let error = match text.strip_prefix("host:").unwrap_or(text).parse::<Selector>() {
            Ok(selector) => return Ok(DeviceRef::Host(selector)),
            Err(error) => error,
        };
        let port = text.rsplit_once(':').and_then(|(controller, port)| {
            Some(DeviceRef::Port(controller.parse().ok()?, port.parse().ok()?))
        });
        port.ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            let problem = format!("`{}` does not name a device", shown.escape_debug());
            if !error.meant().is_empty() {
                return Error::usage(problem, Advice::Write { form: error.expected() });
            }
            Error::usage(problem, Advice::NameDevice)
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
    fn a_device_has_three_kinds_of_names() {
        let read = |text: &str| text.parse::<DeviceRef>().unwrap();
        assert!(matches!(read("stick"), DeviceRef::Name(_)));
        assert!(matches!(read("0781:5581"), DeviceRef::Host(_)));
        assert!(matches!(read("host:1-4.2"), DeviceRef::Host(_)));
        assert!(matches!(read("003.014"), DeviceRef::Host(_)));
        assert!(matches!(read("/dev/bus/usb/003/014"), DeviceRef::Host(_)));
        assert!(matches!(read("hci0:1.2"), DeviceRef::Port(ControllerRef::Name(_), _)));
        assert!(matches!(read("0:1"), DeviceRef::Port(ControllerRef::Index(_), _)));
        for text in ["", ":", "hci0:", "hci0:0", "-1", "a b"] {
            assert!(text.parse::<DeviceRef>().is_err(), "{text:?}");
        }
        let error = "0x0781:0x5581".parse::<DeviceRef>().unwrap_err();
        let form = "0781:5581 (vendor and product)".to_owned();
        assert_eq!(error.advice(), [Advice::Write { form }]);
    }
}
