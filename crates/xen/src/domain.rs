//! Domain ids.

use std::fmt;
use std::str::FromStr;

/// The id of a real domain, 0 to 0x7fef. Higher ids are special ("myself", "the hypervisor") and do
/// not occur in xenstore (Xen's `xen.h`, `DOMID_FIRST_RESERVED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(u16);

/// A text or number that is not a domain id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a domain id: it must be decimal, 0 to {max}", max = DomId::MAX.0)]
pub struct NotADomain(String);

impl DomId {
    /// Domain 0, which starts all other domains.
    pub const ZERO: Self = Self(0);
    /// The highest id that a domain can have: `DOMID_FIRST_RESERVED` (0x7ff0) minus 1.
    pub const MAX: Self = Self(0x7fef);

    /// The domain with that id; `None` above [`DomId::MAX`].
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// The id as a number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Strict decimal: no sign, no blanks, no leading zeros.
impl FromStr for DomId {
    type Err = NotADomain;

    fn from_str(text: &str) -> Result<Self, NotADomain> {
        strict_decimal(text)
            .and_then(|number| u16::try_from(number).ok())
            .and_then(Self::new)
            .ok_or_else(|| NotADomain(text.chars().take(16).collect()))
    }
}

impl TryFrom<u32> for DomId {
    type Error = NotADomain;

    fn try_from(number: u32) -> Result<Self, NotADomain> {
        u16::try_from(number).ok().and_then(Self::new).ok_or_else(|| NotADomain(number.to_string()))
    }
}

/// A number as Xen's tools write it. `None` for signs, blanks, leading zeros and numbers that do
/// not fit.
pub(crate) fn strict_decimal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    if digits && !leading_zero { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_domains_have_an_id() {
        assert_eq!("0".parse(), Ok(DomId::ZERO));
        assert_eq!("32751".parse(), Ok(DomId::MAX));
        for text in ["", "-1", "+1", " 1", "01", "0x1", "32752", "65536", "4294967296", "1\0"] {
            assert!(text.parse::<DomId>().is_err(), "{text:?}");
        }
        assert_eq!(DomId::new(0x7ff0), None);
    }
}
