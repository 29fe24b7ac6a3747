//! What rules can know about a device and a domain.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::keys::InterfacePattern;
use crate::selector::{BusId, StablePath, UsbId};

/// What is known about a host device. An unknown property (`None`) matches no key, and the trace
/// says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Vendor and product.
    pub id: Option<UsbId>,
    /// The serial number, if it has one.
    pub serial: Option<String>,
    /// Bus and port chain.
    pub port: Option<BusId>,
    /// The reboot-proof path of the port.
    pub path: Option<StablePath>,
    /// The interfaces. Those of a device that is plugged in are exact.
    pub interfaces: Option<Vec<InterfacePattern>>,
    /// The names of vendor and product.
    pub text: Option<String>,
    /// Whether it can be unplugged.
    pub removable: Option<Removable>,
    /// Why this machine needs it for itself: for each kind of reason, a sentence.
    pub protected: BTreeMap<ProtectionKind, String>,
    /// The domains that were given the device by hand.
    pub recorded: Vec<Recorded>,
}

/// The entry of a device in the record of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The domain's name or address.
    pub domain: String,
}

/// A domain that rules can name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Domain {
    /// Its name; the address of a domain without a name.
    pub name: String,
    /// Its address, if that is known and differs from the name.
    pub address: Option<String>,
}

impl Domain {
    /// A domain with this name, whose address is unknown.
    pub fn named(name: impl Into<String>) -> Domain {
        Domain { name: name.into(), address: None }
    }

    /// Whether this is its name or its address.
    pub fn answers_to(&self, text: &str) -> bool {
        self.name == text || self.address.as_deref() == Some(text)
    }
}

/// Whether a device can be unplugged, as the firmware and the hub describe its port. Source: Linux,
/// `Documentation/ABI/testing/sysfs-bus-usb`, `removable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Removable {
    /// It can be unplugged.
    Removable,
    /// It is built in.
    Fixed,
    /// The machine does not say.
    Unknown,
}

impl fmt::Display for Removable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Removable::Removable => "true",
            Removable::Fixed => "false",
            Removable::Unknown => "unknown",
        })
    }
}

/// A kind of reason for which this machine needs a device for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProtectionKind {
    /// It is a hub. This protection cannot be lifted.
    Hub,
    /// It is, or contains, a disk in use.
    UsedDisk,
    /// It is a network card that this machine depends on.
    OnlyNetwork,
    /// This machine would have no keyboard without it.
    OnlyKeyboard,
    /// This machine has blocked it.
    Unauthorized,
}

impl ProtectionKind {
    /// All kinds.
    pub const ALL: [ProtectionKind; 5] = [
        ProtectionKind::Hub,
        ProtectionKind::UsedDisk,
        ProtectionKind::OnlyNetwork,
        ProtectionKind::OnlyKeyboard,
        ProtectionKind::Unauthorized,
    ];

    /// The name in a rule file, and after `builtin:`.
    pub const fn name(self) -> &'static str {
        match self {
            ProtectionKind::Hub => "hub",
            ProtectionKind::UsedDisk => "used-disk",
            ProtectionKind::OnlyNetwork => "only-network",
            ProtectionKind::OnlyKeyboard => "only-keyboard",
            ProtectionKind::Unauthorized => "unauthorized",
        }
    }

    /// Whether a rule file can lift it. No hypervisor passes hubs through.
    pub const fn can_be_lifted(self) -> bool {
        !matches!(self, ProtectionKind::Hub)
    }
}

impl FromStr for ProtectionKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        ProtectionKind::ALL.into_iter().find(|it| it.name() == text).ok_or(())
    }
}

impl fmt::Display for ProtectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
