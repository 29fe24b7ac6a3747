//! How specific a match is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How specific the match of a rule with a device is. Compared field by field from the top: of
/// two rules of one tier, one that names the port is more specific than one that does not.
///
/// All kinds of interfaces count the same, so that one forbidden interface forbids a device
/// however closely the others are described.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rank {
    /// Where the rule is from.
    pub tier: Tier,
    /// The port.
    pub port: PortRank,
    /// The serial number is given.
    pub serial: bool,
    /// The product is given.
    pub product: bool,
    /// The vendor is given.
    pub vendor: bool,
    /// The interfaces are given.
    pub interface: bool,
    /// The text, or whether the device is removable, is given.
    pub text: bool,
}

/// Where a rule is from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The default where there is no rule.
    Unmatched,
    /// A rule file, or built in.
    #[default]
    Rule,
    /// A record: a person gave the device to a domain.
    Record,
}

/// How closely a rule gives the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortRank {
    /// Not at all.
    #[default]
    Any,
    /// A port and everything below it: the number of ports in its chain.
    Subtree(u8),
    /// Exactly.
    Exact,
}

impl Rank {
    /// The parts that are given, the most specific first.
    pub fn words(&self) -> Vec<&'static str> {
        let port = match self.port {
            PortRank::Any => None,
            PortRank::Subtree(_) => Some("ports below"),
            PortRank::Exact => Some("port"),
        };
        let record = (self.tier == Tier::Record).then_some("given by hand");
        let given = [
            (self.serial, "serial"),
            (self.product, "product"),
            (self.vendor, "vendor"),
            (self.interface, "interfaces"),
            (self.text, "text"),
        ];
        let given = given.into_iter().filter(|(given, _)| *given).map(|(_, word)| word);
        record.into_iter().chain(port).chain(given).collect()
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words().as_slice() {
            [] => f.write_str("any device"),
            words => f.write_str(&words.join(", ")),
        }
    }
}
