//! The named, numbered, frozen sets of rules that fill what a spec leaves open.
//!
//! A profile never changes: a domain keeps the one that it was made with, and golden files hold each of them. A new idea
//! is a new profile.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A profile.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[non_exhaustive]
pub enum Profile {
    /// The rules of this project, first edition. The module [`crate::resolve`] says them.
    #[default]
    #[serde(rename = "vusb-1")]
    Vusb1,
    /// What libxl of Xen 4.17 fills in. The module [`crate::resolve::libxl`] says it.
    #[serde(rename = "libxl")]
    Libxl,
    /// What libvirt 11.3 fills in. The module [`crate::resolve::libvirt`] says it.
    #[serde(rename = "libvirt")]
    Libvirt,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 3] = [Profile::Vusb1, Profile::Libxl, Profile::Libvirt];

    /// Its name: `vusb-1`, `libxl`, `libvirt`.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Vusb1 => "vusb-1",
            Profile::Libxl => "libxl",
            Profile::Libvirt => "libvirt",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no profile.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no profile: there are vusb-1, libxl and libvirt")]
pub struct ProfileError(String);

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Profile::ALL.into_iter().find(|profile| profile.name() == text);
        named.ok_or_else(|| ProfileError(text.chars().take(40).collect()))
    }
}
