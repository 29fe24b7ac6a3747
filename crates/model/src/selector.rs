//! How a person names a USB device of the host.
//!
//! | text | names |
//! |---|---|
//! | `0781:5581` | vendor and product, four hexadecimal digits each |
//! | `0781:5581:4C530001` | the same, with the serial number |
//! | `1-4.2` | bus and port chain, as Linux names the device in sysfs |
//! | `003.014` | bus and address in decimal, as `lsusb` prints them (`003.014`, or `3.14`) |
//! | `pci-0000:00:14.0-usb-0:4.2` | where it is plugged, in words that a reboot does not change |
//!
//! Numbers are strict: ids are hexadecimal, everything else is decimal, nothing is octal and nothing is cut short.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::address::decimal;

/// The vendor and product ids of a USB device, from its device descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// A bus and a chain of ports, `1-4.2`: Linux's own name for a place that a device is plugged into. The bus number can
/// change from one boot to the next; the chain does not. Up to seven ports (USB 2.0, section 4.1.1: five hubs between
/// the root and a device, and Linux counts to seven tiers).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BusId {
    bus: u16,
    chain: Vec<u8>,
}

impl BusId {
    /// The number of the host's bus, from 1.
    pub const fn bus(&self) -> u16 {
        self.bus
    }

    /// The ports from the root hub outwards, each from 1.
    pub fn chain(&self) -> &[u8] {
        &self.chain
    }

    /// The chain as text: `4.2`.
    pub fn chain_text(&self) -> String {
        self.chain.iter().map(u8::to_string).collect::<Vec<_>>().join(".")
    }
}

impl FromStr for BusId {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SelectorError(text.chars().take(80).collect());
        let (bus, chain) = text.split_once('-').ok_or_else(error)?;
        let bus = decimal::<u16>(bus).filter(|bus| *bus > 0).ok_or_else(error)?;
        Ok(BusId { bus, chain: port_chain(chain).ok_or_else(error)? })
    }
}

/// A chain of one to seven ports.
fn port_chain(text: &str) -> Option<Vec<u8>> {
    let chain: Vec<u8> = text
        .split('.')
        .map(|port| decimal::<u8>(port).filter(|port| *port > 0))
        .take(8)
        .collect::<Option<_>>()?;
    (chain.len() <= 7).then_some(chain)
}

impl TryFrom<String> for BusId {
    type Error = SelectorError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<BusId> for String {
    fn from(id: BusId) -> String {
        id.to_string()
    }
}

impl fmt::Display for BusId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.bus, self.chain_text())
    }
}

/// The number of a bus and the address of a device on it, both from 1: what `/dev/bus/usb` is made of. The address is new
/// at each plug.
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

/// What names a USB device of the host. The module's table says how each is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Selector {
    /// Vendor and product, and the serial number if one is given.
    Id {
        /// The ids.
        id: UsbId,
        /// The serial number, as the device says it.
        serial: Option<String>,
    },
    /// Bus and port chain.
    Port(BusId),
    /// Bus and address.
    Address(BusAddress),
    /// The reboot-proof path: the controller's place and the port chain, as udev's `ID_PATH` writes them.
    Path(StablePath),
}

/// A reboot-proof path such as `pci-0000:00:14.0-usb-0:4.2`: where the host's controller is, and the chain of ports below
/// it. Compared letter for letter; printable ASCII without spaces, 128 characters at the most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StablePath(String);

impl StablePath {
    /// The path below a controller: `place` is `pci-0000:00:14.0` or `platform-dummy_hcd.0`.
    pub fn new(place: &str, chain: &BusId) -> Option<StablePath> {
        format!("{place}-usb-0:{}", chain.chain_text()).parse().ok()
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StablePath {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SelectorError(text.chars().take(80).collect());
        let (place, chain) = text.rsplit_once("-usb-0:").ok_or_else(error)?;
        let printable = text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic());
        let named = place.split_once('-').is_some_and(|(bus, rest)| {
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

/// A text that names no host device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` names no host device: write vendor and product (0781:5581, with :SERIAL if two are alike), bus and port (1-4.2), \
     bus and address in decimal (003.014) or a path (pci-0000:00:14.0-usb-0:4.2); `vusb host list` shows all of them"
)]
pub struct SelectorError(String);

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SelectorError(text.chars().take(80).collect());
        if text.as_bytes().get(4) == Some(&b':') {
            return usb_id(text).ok_or_else(error);
        }
        if text.contains(':') {
            return text.parse().map(Selector::Path);
        }
        if text.contains('-') {
            return text.parse().map(Selector::Port);
        }
        bus_address(text).map(Selector::Address).ok_or_else(error)
    }
}

/// `VVVV:PPPP` or `VVVV:PPPP:SERIAL`. A serial number is 1 to 126 characters (a string descriptor's limit: USB 2.0,
/// section 9.6.7) without control characters.
fn usb_id(text: &str) -> Option<Selector> {
    let mut parts = text.splitn(3, ':');
    let vendor = hex4(parts.next()?)?;
    let product = hex4(parts.next()?)?;
    let serial = parts.next().map(str::to_owned);
    let good = |serial: &String| {
        !serial.is_empty() && serial.chars().count() <= 126 && !serial.chars().any(char::is_control)
    };
    if !serial.as_ref().is_none_or(good) {
        return None;
    }
    Some(Selector::Id { id: UsbId { vendor, product }, serial })
}

/// Exactly four hexadecimal digits.
fn hex4(text: &str) -> Option<u16> {
    let strict = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if strict { u16::from_str_radix(text, 16).ok() } else { None }
}

/// `BBB.AAA`: both padded to three digits as `lsusb` does, or neither padded.
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_reads_and_prints_the_same() {
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

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back(text in "\\PC{0,40}") {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
            }
        }
    }
}
