//! How libvirt reads numbers, and how people write them.
//!
//! | where | base | here |
//! |---|---|---|
//! | indexes, ports and buses of the guest | 10 | strict: digits only, without leading zeros |
//! | `<source>` of host devices, PCI addresses, redirection filters | 0: `0x` means hexadecimal, a leading zero octal | the same, but without signs and spaces |

use std::collections::BTreeSet;
use std::str::FromStr;

/// A strict decimal number.
pub(super) fn decimal<N: FromStr>(text: &str) -> Option<N> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let strict = digits && (text == "0" || !text.starts_with('0'));
    if strict { text.parse().ok() } else { None }
}

/// The notation of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// `0x1f`.
    Hexadecimal,
    /// `017`.
    Octal,
    /// `17`.
    Decimal,
}

/// A number as C's `strtoul` reads it with base 0, and its notation.
pub(super) fn base_zero(text: &str) -> Option<(u32, Base)> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, base, radix) = match hexadecimal {
        Some(digits) => (digits, Base::Hexadecimal, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, Base::Octal, 8),
        None => (text, Base::Decimal, 10),
    };
    // from_str_radix alone would accept a sign.
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let number = u32::from_str_radix(digits, radix).ok().filter(|_| plain)?;
    Some((number, base))
}

/// A set of numbers that are in use.
#[derive(Debug, Default)]
pub(super) struct UsedNumbers {
    used: BTreeSet<u32>,
    /// All numbers below are in use.
    lowest: u32,
}

impl UsedNumbers {
    /// Adds a number. Returns whether it was free.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        self.used.insert(number)
    }

    /// The preferred number if it is free, otherwise the lowest free one.
    pub(super) fn free(&mut self, preferred: Option<u32>) -> u32 {
        if let Some(preferred) = preferred.filter(|number| !self.used.contains(number)) {
            return preferred;
        }
        while self.used.contains(&self.lowest) {
            self.lowest = self.lowest.saturating_add(1);
        }
        self.lowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_zero_reads_what_strtoul_reads() {
        for (text, number) in [
            ("0", Some((0, Base::Decimal))),
            ("14", Some((14, Base::Decimal))),
            ("014", Some((12, Base::Octal))),
            ("0x14", Some((20, Base::Hexadecimal))),
            ("0X1F", Some((31, Base::Hexadecimal))),
            ("008", None),
            ("0x", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("0x+1", None),
            (" 1", None),
            ("4294967296", None),
        ] {
            assert_eq!(base_zero(text), number, "{text:?}");
        }
    }

    #[test]
    fn decimal_is_strict() {
        assert_eq!(decimal::<u8>("10"), Some(10));
        for text in ["", "010", "0x10", "+1", "-1", " 1", "256"] {
            assert_eq!(decimal::<u8>(text), None, "{text:?}");
        }
    }
}
