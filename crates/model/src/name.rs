//! Names of controllers and devices.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The name of a controller or a device: a letter, then letters, digits, `-`, `_` and `.`, at most
/// 64 characters.
///
/// A name starts with a letter so that it cannot be mistaken for an index (`0`), a port (`1.2`), a
/// bus id (`1-4`) or a vendor and product (`0781:5581`). It is a valid id for QEMU (`id_wellformed`
/// in its `util/id.c`). Names sort and compare byte by byte, and are unique among the controllers
/// and devices of a domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name `text`, which must be valid.
    pub(crate) fn from_static(text: &'static str) -> Name {
        debug_assert!(text.parse::<Name>().is_ok());
        Name(text.into())
    }

    /// `stem` with a number: `hci` and 0 make `hci0`. `stem` must be a valid name.
    pub fn numbered(stem: &'static str, number: u32) -> Name {
        debug_assert!(stem.parse::<Name>().is_ok());
        Name(format!("{stem}{number}").into())
    }
}

/// Text that is not a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a name: a name is a letter and then letters, digits, `-`, `_` and `.`, at most 64 characters"
)]
pub struct NameError(String);

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let good = text.len() <= Name::MAX_LEN
            && text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.bytes().all(rest);
        if good { Ok(Name(text.into())) } else { Err(NameError(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid_names() {
        for good in ["hci0", "pv3", "stick", "Web-1.usb_2", "a"] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        let long = "a".repeat(65);
        for bad in ["", "0", "1.2", "-a", "a b", "a:1", "ä", "a/b", "a\n", long.as_str()] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
