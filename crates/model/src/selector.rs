//! How a user names a USB device of the host.
//!
//! | text | names |
//! |---|---|
//! | `0781:5581` | vendor and product, four hexadecimal digits each |
//! | `0781:5581:4C530001` | the same, with the serial number |
//! | `1-4.2` | bus and port chain, as Linux names the device in sysfs |
//! | `003.014` | bus and address in decimal, as `lsusb` prints them (`003.014`, or `3.14`) |
//! | `pci-0000:00:14.0-usb-0:4.2` | the port path, in a form that survives a reboot |
//! | `hostbus=1,vendorid=0x0781` | the conditions that another tool gave to QEMU |
//! | `/dev/bus/usb/003/014` | bus and address, as the kernel names the device's node |
//! | `/sys/bus/usb/devices/1-4.2` | bus and port chain, as the path in sysfs |
//!
//! Numbers are strict: ids are hexadecimal and everything else is decimal; nothing is octal or
//! truncated. Other tools' spellings, such as `001:004` and `0x0781:0x5581`, are answered with the
//! selector that was probably meant.

pub(crate) mod bus_id;
mod pattern;
mod spellings;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::bus_id::BusId;
use self::bus_id::port_chain;
pub use self::pattern::Pattern;
use crate::remedy::Remedy;

/// The vendor and product ids of a USB device, from its device descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UsbId {
    /// `idVendor`.
    pub vendor: u16,
    /// `idProduct`.
    pub product: u16,
}

impl fmt::Display for UsbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.product)
    }
}

impl FromStr for UsbId {
    type Err = UsbIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || UsbIdError(text.chars().take(80).collect());
        let (vendor, product) = text.split_once(':').ok_or_else(error)?;
        let vendor = hex4(vendor).ok_or_else(error)?;
        Ok(UsbId { vendor, product: hex4(product).ok_or_else(error)? })
    }
}

impl TryFrom<String> for UsbId {
    type Error = UsbIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<UsbId> for String {
    fn from(id: UsbId) -> String {
        id.to_string()
    }
}

/// A text that is not a vendor and a product id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a vendor and product id: write four hexadecimal digits each, as in 0781:5581"
)]
pub struct UsbIdError(String);

impl FromStr for BusId {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        BusId::parse(text).ok_or_else(|| SelectorError::new(text))
    }
}

impl TryFrom<String> for BusId {
    type Error = SelectorError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// The number of a bus and the address of a device on it, both from 1, as in `/dev/bus/usb`. A
/// device gets a new address each time it is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BusAddress {
    /// The host's bus.
    pub bus: u16,
    /// The address on it: 1 to 127.
    pub address: u8,
}

impl fmt::Display for BusAddress {
    /// As `lsusb` prints it: `003.014`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}.{:03}", self.bus, self.address)
    }
}

/// What identifies a USB device of the host. The module documentation has a table of the text
/// forms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Selector {
    /// Vendor and product, and the serial number if one is given.
    Id {
        /// The ids.
        id: UsbId,
        /// The serial number that the device reports.
        serial: Option<String>,
    },
    /// Bus and port chain.
    Port(BusId),
    /// Bus and address.
    Address(BusAddress),
    /// The reboot-proof path: the controller and the port chain, as in udev's `ID_PATH`.
    Path(StablePath),
    /// The conditions of another tool, if no other form can express them.
    Pattern(Pattern),
}

/// The properties of a device that selectors look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits<'a> {
    /// Vendor and product.
    pub id: UsbId,
    /// The serial number that the device reports.
    pub serial: Option<&'a str>,
    /// The bus and port chain that it is plugged into.
    pub port: &'a BusId,
    /// Its bus and address.
    pub address: BusAddress,
    /// The reboot-proof path of its port.
    pub path: Option<&'a str>,
}

impl Selector {
    /// Whether it matches a device. Serial numbers and paths must be equal byte for byte.
    pub fn matches(&self, device: &Traits<'_>) -> bool {
        match self {
            Selector::Id { id, serial } => {
                device.id == *id && (serial.is_none() || serial.as_deref() == device.serial)
            }
            Selector::Port(port) => device.port == port,
            Selector::Address(address) => device.address == *address,
            Selector::Path(path) => device.path == Some(path.as_str()),
            Selector::Pattern(pattern) => pattern.matches(device.port, device.address, device.id),
        }
    }

    /// Whether several devices can match at a time. A hypervisor that is given this selector takes
    /// any of them.
    pub const fn may_match_several(&self) -> bool {
        match self {
            Selector::Id { .. } => true,
            Selector::Pattern(pattern) => !pattern.is_one_place(),
            Selector::Port(_) | Selector::Address(_) | Selector::Path(_) => false,
        }
    }
}

/// A reboot-proof path such as `pci-0000:00:14.0-usb-0:4.2`: the host's controller, and the chain
/// of ports below it. Compared byte by byte; printable ASCII without spaces, at most 128
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StablePath(String);

impl StablePath {
    /// The path below a controller, which is `pci-0000:00:14.0` or `platform-dummy_hcd.0`.
    pub fn new(controller: &str, chain: &BusId) -> Option<StablePath> {
        format!("{controller}{BELOW_CONTROLLER}{}", chain.chain_text()).parse().ok()
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The controller: `pci-0000:00:14.0`.
    pub fn controller(&self) -> &str {
        self.0.rsplit_once(BELOW_CONTROLLER).map_or("", |(controller, _)| controller)
    }

    /// The chain of ports: `4.2`.
    pub fn chain(&self) -> &str {
        self.0.rsplit_once(BELOW_CONTROLLER).map_or("", |(_, chain)| chain)
    }
}

/// What is between the controller and the chain of ports of a [`StablePath`].
const BELOW_CONTROLLER: &str = "-usb-0:";

impl FromStr for StablePath {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SelectorError::new(text);
        let (controller, chain) = text.rsplit_once(BELOW_CONTROLLER).ok_or_else(error)?;
        let printable = text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic());
        let named = controller.split_once('-').is_some_and(|(bus, rest)| {
            !rest.is_empty() && bus.bytes().all(|byte| byte.is_ascii_lowercase()) && !bus.is_empty()
        });
        if printable && named && port_chain(chain).is_some() {
            Ok(StablePath(text.to_owned()))
        } else {
            Err(error())
        }
    }
}

impl fmt::Display for StablePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` does not identify a host device: write {}", expected(meant))]
pub struct SelectorError {
    text: String,
    /// What was probably meant.
    meant: Vec<Selector>,
}

/// What to write instead of a text that is not a selector.
fn expected(meant: &[Selector]) -> String {
    let one = |it: &Selector| match it {
        Selector::Id { .. } => format!("{it} (vendor and product)"),
        Selector::Port(_) => format!("{it} (bus and port)"),
        Selector::Address(_) => format!("{it} (bus and address)"),
        Selector::Path(_) | Selector::Pattern(_) => it.to_string(),
    };
    match meant {
        [] => "vendor and product (0781:5581, with :SERIAL to distinguish several), bus and \
               port (1-4.2), bus and address in decimal (003.014) or a path \
               (pci-0000:00:14.0-usb-0:4.2)"
            .to_owned(),
        several => {
            let all: Vec<String> = several.iter().map(one).collect();
            all.join(" or ")
        }
    }
}

impl SelectorError {
    fn new(text: &str) -> SelectorError {
        SelectorError { text: text.chars().take(80).collect(), meant: Vec::new() }
    }

    /// What was probably meant, the most probable first: `001.004` for `001:004`. Empty if that is
    /// unknown.
    pub fn meant(&self) -> &[Selector] {
        &self.meant
    }

    /// What to write instead: `001.004 (bus and address)`.
    pub fn expected(&self) -> String {
        expected(&self.meant)
    }

    /// What the caller can do about it.
    pub fn remedies(&self) -> Vec<Remedy> {
        vec![Remedy::ListHost { backend: None }]
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = if text.starts_with('/') {
            spellings::path(text)
        } else if text.as_bytes().get(4) == Some(&b':') {
            usb_id(text)
        } else if let Ok(pattern) = text.parse::<Pattern>() {
            Some(pattern.selector())
        } else if text.contains(':') {
            text.parse().ok().map(Selector::Path)
        } else if text.contains('-') {
            text.parse().ok().map(Selector::Port)
        } else {
            bus_address(text).map(Selector::Address)
        };
        let meant = || spellings::meant(text);
        found.ok_or_else(|| SelectorError { meant: meant(), ..SelectorError::new(text) })
    }
}

/// `VVVV:PPPP` or `VVVV:PPPP:SERIAL`. A serial number is 1 to 126 characters (a string descriptor's
/// limit: USB 2.0, section 9.6.7) without control characters.
fn usb_id(text: &str) -> Option<Selector> {
    let mut parts = text.splitn(3, ':');
    let vendor = hex4(parts.next()?)?;
    let product = hex4(parts.next()?)?;
    let serial = parts.next().map(str::to_owned);
    let is_valid = |serial: &String| {
        !serial.is_empty() && serial.chars().count() <= 126 && !serial.chars().any(char::is_control)
    };
    if !serial.as_ref().is_none_or(is_valid) {
        return None;
    }
    Some(Selector::Id { id: UsbId { vendor, product }, serial })
}

/// Exactly four hexadecimal digits.
pub(crate) fn hex4(text: &str) -> Option<u16> {
    let strict = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if strict { u16::from_str_radix(text, 16).ok() } else { None }
}

/// `BBB.AAA`: each padded to three digits as `lsusb` does, or without leading zeros.
fn bus_address(text: &str) -> Option<BusAddress> {
    let number = |part: &str| -> Option<u16> {
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        let padded = part.len() == 3 || (!part.starts_with('0') && !part.is_empty());
        if digits && padded { part.parse().ok().filter(|number| *number > 0) } else { None }
    };
    let (bus, address) = text.split_once('.')?;
    let address = number(address)
        .and_then(|number| u8::try_from(number).ok())
        .filter(|number| *number <= 127)?;
    Some(BusAddress { bus: number(bus)?, address })
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> String {
        selector.to_string()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Id { id, serial: None } => write!(f, "{id}"),
            Selector::Id { id, serial: Some(serial) } => write!(f, "{id}:{serial}"),
            Selector::Port(id) => write!(f, "{id}"),
            Selector::Address(address) => write!(f, "{address}"),
            Selector::Path(path) => write!(f, "{path}"),
            Selector::Pattern(pattern) => write!(f, "{pattern}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_reads_back() {
        for text in [
            "0781:5581",
            "0781:5581:4C53-00:01",
            "1-4.2",
            "003.014",
            "pci-0000:00:14.0-usb-0:4.2",
            "platform-dummy_hcd.0-usb-0:1",
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
        assert_eq!("3.14".parse::<Selector>().unwrap().to_string(), "003.014");
        assert_eq!("0A5C:21E8".parse::<Selector>().unwrap().to_string(), "0a5c:21e8");
        let node = "/dev/bus/usb/003/014".parse::<Selector>().unwrap();
        assert_eq!(node.to_string(), "003.014");
    }

    #[test]
    fn an_error_says_what_to_write() {
        let error = |text: &str| text.parse::<Selector>().unwrap_err().to_string();
        assert_eq!(
            error("001:004"),
            "`001:004` does not identify a host device: write 001.004 (bus and address)"
        );
        assert_eq!(
            error("01-4"),
            "`01-4` does not identify a host device: write 1-4 (bus and port) or 001.004 (bus and \
             address)"
        );
        assert!(error("moose").contains("write vendor and product (0781:5581"));
    }

    #[test]
    fn numbers_are_strict() {
        for text in [
            "",
            "781:5581",
            "0x0781:5581",
            "0781:5581:",
            "1-",
            "1-0",
            "0-1",
            "01-4",
            "1-4.",
            "1-04",
            "3.014.1",
            "03.14",
            "3.0",
            "0.3",
            "003.128",
            "1.300",
            "hello",
            "0781-5581-x",
            "usb-0:1",
            "pci--usb-0:1",
            "pci-0000-usb-0:0",
            "0781:5581:a\nb",
            "1-1.2.3.4.5.6.7.8",
        ] {
            assert!(text.parse::<Selector>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn ids_are_strict_and_read_back() {
        let id = UsbId { vendor: 0x0781, product: 0x5581 };
        assert_eq!("0781:5581".parse(), Ok(id));
        assert_eq!(id.to_string(), "0781:5581");
        for text in ["", "0781", "781:5581", "0781:5581:A", "0x0781:5581", "0781:+581", "0781:"] {
            assert!(text.parse::<UsbId>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reads_back(text in "\\PC{0,40}") {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
            }
        }
    }
}
