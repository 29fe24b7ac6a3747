//! Numbers, as libvirt reads them and as people mean them.
//!
//! | where | base | here |
//! |---|---|---|
//! | indexes, ports, buses of the guest | 10 | strict: digits alone, no zero before another digit |
//! | `<source>` of host devices, PCI addresses, redirection filters | 0: `0x` is hexadecimal, a zero in front octal | the same, but neither sign nor spaces |

use std::collections::BTreeSet;
use std::str::FromStr;

/// A strict decimal number.
pub(super) fn decimal<N: FromStr>(text: &str) -> Option<N> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let strict = digits && (text == "0" || !text.starts_with('0'));
    if strict { text.parse().ok() } else { None }
}

/// How a number of base 0 was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// `0x1f`.
    Hexadecimal,
    /// `017`.
    Octal,
    /// `17`.
    Decimal,
}

/// A number of base 0, as C's `strtoul` knows it, and how it was written.
pub(super) fn base_zero(text: &str) -> Option<(u32, Base)> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, base, radix) = match hexadecimal {
        Some(digits) => (digits, Base::Hexadecimal, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, Base::Octal, 8),
        None => (text, Base::Decimal, 10),
    };
    // from_str_radix alone takes a sign.
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let number = u32::from_str_radix(digits, radix).ok().filter(|_| plain)?;
    Some((number, base))
}

/// Numbers that are taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    taken: BTreeSet<u32>,
    /// All below it are taken.
    lowest: u32,
}

impl Taken {
    /// Takes a number; whether it was free.
    pub(super) fn take(&mut self, number: u32) -> bool {
        self.taken.insert(number)
    }

    /// `wanted`, if it is free; else the lowest that is.
    pub(super) fn free(&mut self, wanted: Option<u32>) -> u32 {
        if let Some(wanted) = wanted.filter(|wanted| !self.taken.contains(wanted)) {
            return wanted;
        }
        while self.taken.contains(&self.lowest) {
            self.lowest = self.lowest.saturating_add(1);
        }
        self.lowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_zero_is_what_c_calls_it() {
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
