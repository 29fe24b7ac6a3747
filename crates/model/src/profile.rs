//! The named, numbered, frozen sets of rules that fill what a spec leaves open.
//!
//! A profile never changes: a domain keeps the profile that it was created with. Golden files
//! enforce this for each profile. Different rules are a new profile.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::device::{Input, Kind};
use crate::models::UsbVersion;

/// A profile.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[non_exhaustive]
pub enum Profile {
    /// This project's own rules, version 1: the module [`crate::resolve::vusb_1`].
    #[default]
    #[serde(rename = "vusb-1")]
    Vusb1,
    /// What libxl of Xen 4.17 fills in: the module [`crate::resolve::libxl`].
    #[serde(rename = "libxl")]
    Libxl,
    /// What libvirt 11.3 fills in: the module [`crate::resolve::libvirt`].
    #[serde(rename = "libvirt")]
    Libvirt,
    /// This project's own rules for VMware guests: the module [`crate::resolve::vmx`].
    #[serde(rename = "vmx")]
    Vmx,
    /// Where Proxmox VE puts USB devices, and where this project puts its own beside them: the
    /// module [`crate::resolve::pve_1`].
    #[serde(rename = "pve-1")]
    Pve1,
    /// This project's own rules for VirtualBox guests: the module [`crate::resolve::vbox`].
    #[serde(rename = "vbox")]
    Vbox,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 6] = [
        Profile::Vusb1,
        Profile::Libxl,
        Profile::Libvirt,
        Profile::Vmx,
        Profile::Pve1,
        Profile::Vbox,
    ];

    /// Its name: `vusb-1`, `libxl`, `libvirt`, `vmx`, `pve-1`, `vbox`.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Vusb1 => "vusb-1",
            Profile::Libxl => "libxl",
            Profile::Libvirt => "libvirt",
            Profile::Vmx => "vmx",
            Profile::Pve1 => "pve-1",
            Profile::Vbox => "vbox",
        }
    }

    /// Whether the rules are this project's own rather than another tool's. `pve-1`, which has
    /// both, counts as another tool's. This project's rules choose ports by the speeds of devices.
    /// The result of another tool's rules does not depend on what is plugged into this machine.
    pub const fn is_own(self) -> bool {
        matches!(self, Profile::Vusb1 | Profile::Vmx | Profile::Vbox)
    }

    /// The kind of a new device. An input device gets the speed that the profile gives to input
    /// devices: other tools leave the speed to QEMU, whose default is high speed (`usb_version`,
    /// `hw/usb/dev-hid.c`).
    pub fn with_input_speed(self, kind: Kind) -> Kind {
        if self.is_own() {
            return kind;
        }
        let input = Input { usbversion: UsbVersion::V2 };
        match kind {
            Kind::Tablet(_) => Kind::Tablet(input),
            Kind::Mouse(_) => Kind::Mouse(input),
            Kind::Keyboard(_) => Kind::Keyboard(input),
            other => other,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that is not a profile.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a profile: the profiles are vusb-1, libxl, libvirt, vmx, pve-1 and vbox")]
pub struct ProfileError(String);

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Profile::ALL.into_iter().find(|profile| profile.name() == text);
        named.ok_or_else(|| ProfileError(text.chars().take(40).collect()))
    }
}
