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
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Vusb1 => "vusb-1",
        })
    }
}

/// A text that is no profile.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no profile: there is vusb-1")]
pub struct ProfileError(String);

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "vusb-1" => Ok(Profile::Vusb1),
            other => Err(ProfileError(other.chars().take(40).collect())),
        }
    }
}
