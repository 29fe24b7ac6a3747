//! The conditions that another tool gave to a hypervisor for finding a device.

use std::fmt;
use std::str::FromStr;

use super::bus_id::{BusId, port_chain};
use super::{BusAddress, Selector, UsbId, hex4};
use crate::address::decimal;

/// The properties of a USB device that a hypervisor looks for, in QEMU's terms: `hostbus=1`,
/// `hostport=8.2,vendorid=0x0781`, or `hostbus=any` if there is no condition. All of them have to
/// match. If several devices match, the hypervisor takes any of them.
///
/// Conditions that another kind of selector can express are not a pattern: see
/// [`Pattern::selector`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    bus: Option<u16>,
    address: Option<u8>,
    chain: Option<Vec<u8>>,
    vendor: Option<u16>,
    product: Option<u16>,
}

/// The text of a pattern without a condition.
const ANY: &str = "hostbus=any";

impl Pattern {
    /// Adds a condition, by QEMU's name for the property: `hostbus`, `hostaddr`, `hostport`,
    /// `vendorid` or `productid`. The value is decimal, ports with dots between them, or `0x` and
    /// four hexadecimal digits for an id. `None` if there is no such property or value, or if the
    /// property was added before.
    pub fn with(mut self, property: &str, value: &str) -> Option<Pattern> {
        let id = || value.strip_prefix("0x").and_then(hex4).filter(|id| *id > 0);
        let is_new = match property {
            "hostbus" => self.bus.replace(decimal(value).filter(|bus| *bus > 0)?).is_none(),
            "hostaddr" => {
                let address = decimal(value).filter(|address| (1..=127).contains(address))?;
                self.address.replace(address).is_none()
            }
            "hostport" => self.chain.replace(port_chain(value)?).is_none(),
            "vendorid" => self.vendor.replace(id()?).is_none(),
            "productid" => self.product.replace(id()?).is_none(),
            _ => return None,
        };
        is_new.then_some(self)
    }

    /// The selector with these conditions.
    pub fn selector(self) -> Selector {
        let bus_id = |bus: u16, chain: &[u8]| {
            let chain: Vec<String> = chain.iter().map(u8::to_string).collect();
            format!("{bus}-{}", chain.join(".")).parse::<BusId>().ok()
        };
        match &self {
            Pattern {
                bus: Some(bus),
                address: Some(address),
                chain: None,
                vendor: None,
                product: None,
            } => Selector::Address(BusAddress { bus: *bus, address: *address }),
            Pattern {
                bus: None,
                address: None,
                chain: None,
                vendor: Some(vendor),
                product: Some(product),
            } => {
                let id = UsbId { vendor: *vendor, product: *product };
                Selector::Id { id, serial: None }
            }
            Pattern {
                bus: Some(bus),
                address: None,
                chain: Some(chain),
                vendor: None,
                product: None,
            } => match bus_id(*bus, chain) {
                Some(bus_id) => Selector::Port(bus_id),
                None => Selector::Pattern(self),
            },
            _ => Selector::Pattern(self),
        }
    }

    /// The bus and address, if both are conditions.
    pub fn bus_address(&self) -> Option<BusAddress> {
        Some(BusAddress { bus: self.bus?, address: self.address? })
    }

    /// Whether at most one device of the machine can match, because its place is a condition.
    pub const fn is_one_place(&self) -> bool {
        self.bus.is_some() && (self.address.is_some() || self.chain.is_some())
    }

    /// Whether a device that is plugged into this port may match, whatever its address and ids are.
    pub fn may_match_port(&self, port: &BusId) -> bool {
        self.bus.is_none_or(|bus| bus == port.bus())
            && self.chain.as_ref().is_none_or(|chain| chain == port.chain())
    }

    /// Whether the device with this port, address and these ids matches.
    pub fn matches(&self, port: &BusId, address: BusAddress, id: UsbId) -> bool {
        self.bus.is_none_or(|bus| bus == address.bus)
            && self.address.is_none_or(|it| it == address.address)
            && self.chain.as_ref().is_none_or(|chain| chain == port.chain())
            && self.vendor.is_none_or(|vendor| vendor == id.vendor)
            && self.product.is_none_or(|product| product == id.product)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = |chain: &Vec<u8>| {
            let ports: Vec<String> = chain.iter().map(u8::to_string).collect();
            format!("hostport={}", ports.join("."))
        };
        let parts: Vec<String> = [
            self.bus.map(|bus| format!("hostbus={bus}")),
            self.address.map(|address| format!("hostaddr={address}")),
            self.chain.as_ref().map(chain),
            self.vendor.map(|vendor| format!("vendorid={vendor:#06x}")),
            self.product.map(|product| format!("productid={product:#06x}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if parts.is_empty() { f.write_str(ANY) } else { f.write_str(&parts.join(",")) }
    }
}

impl FromStr for Pattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == ANY {
            return Ok(Pattern::default());
        }
        let add = |pattern: Pattern, part: &str| {
            let (property, value) = part.split_once('=')?;
            pattern.with(property, value)
        };
        text.split(',').try_fold(Pattern::default(), add).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Selector {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_reads_back() {
        for text in [
            "hostbus=any",
            "hostbus=1",
            "hostaddr=4",
            "hostport=8.2",
            "vendorid=0x0781",
            "productid=0x5581",
            "hostbus=1,hostport=8.2,vendorid=0x0781,productid=0x5581",
            "hostbus=1,hostaddr=4,vendorid=0x0781",
        ] {
            let selector = read(text);
            assert!(matches!(selector, Selector::Pattern(_)), "{text}");
            assert_eq!(selector.to_string(), text);
        }
    }

    /// Conditions that another kind of selector can express become that selector.
    #[test]
    fn equal_conditions_are_equal_selectors() {
        for (text, selector) in [
            ("hostbus=1,hostaddr=4", "001.004"),
            ("hostport=8.2,hostbus=1", "1-8.2"),
            ("productid=0x5581,vendorid=0x0781", "0781:5581"),
        ] {
            assert_eq!(read(text), read(selector));
        }
    }

    #[test]
    fn values_are_strict() {
        for text in [
            "hostbus=",
            "hostbus=0",
            "hostbus=01",
            "hostbus=1,",
            "hostbus=1,hostbus=2",
            "hostaddr=128",
            "hostport=8.",
            "vendorid=0781",
            "vendorid=0x781",
            "vendorid=0x0000",
            "serial=1",
            "=",
        ] {
            assert!(text.parse::<Selector>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn all_conditions_have_to_match() {
        let matches = |text: &str| {
            let Selector::Pattern(pattern) = read(text) else { panic!("{text}") };
            let id = UsbId { vendor: 0x0781, product: 0x5581 };
            pattern.matches(&"1-8.2".parse().unwrap(), BusAddress { bus: 1, address: 4 }, id)
        };
        for text in ["hostbus=any", "hostbus=1", "hostaddr=4", "hostport=8.2", "productid=0x5581"] {
            assert!(matches(text), "{text}");
        }
        assert!(matches("hostbus=1,hostaddr=4,hostport=8.2,vendorid=0x0781,productid=0x5581"));
        for text in [
            "hostbus=2",
            "hostaddr=5",
            "hostport=8",
            "vendorid=0x0782",
            "productid=0x5582",
            "hostbus=1,hostaddr=4,vendorid=0x0782",
        ] {
            assert!(!matches(text), "{text}");
        }
    }

    #[test]
    fn a_place_matches_at_most_one_device() {
        let one = |text: &str| matches!(read(text), Selector::Pattern(it) if it.is_one_place());
        assert!(one("hostbus=1,hostport=8.2,vendorid=0x0781"));
        assert!(one("hostbus=1,hostaddr=4,vendorid=0x0781"));
        assert!(!one("hostbus=1") && !one("hostport=8.2") && !one("hostbus=any"));
    }
}
