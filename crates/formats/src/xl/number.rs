//! Numbers as xl parses them: with C's `atoi`, `strtoul` and `strtol`, which take the leading part
//! that is a number and report no error.
//!
//! | where | parsed as | `010` | `0x10` | `9x` | `x` | `300` |
//! |---|---|---|---|---|---|---|
//! | hostbus, hostaddr | base 0, truncated to 8 bits | 8 | 16 | 9 | 0 | 44 |
//! | controller, port, version, ports | decimal | 10 | 0 | 9 | 0 | 300 |
//! | top-level keys (`memory`, `usb`) | base 0, the whole string | 8 | 16 | – | – | 300 |

/// A number as xl parses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParsedNumber<N> {
    pub(super) number: N,
    /// Why the user probably meant another number.
    pub(super) doubt: Option<String>,
}

/// A decimal number, as `atoi` parses it: the leading digits, or 0 if there are none. Out of range
/// it is undefined in C and -1 here.
pub(super) fn atoi(text: &str) -> ParsedNumber<i64> {
    let (negative, digits) = sign(text);
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = digits.split_at_checked(length).unwrap_or((digits, ""));
    let number = if digits.is_empty() { Some(0) } else { digits.parse::<i32>().ok() };
    let number = number.map_or(-1, i64::from);
    let number = if negative { -number } else { number };
    let doubt = if digits.is_empty() {
        Some(format!("xl reads `{}` as 0 because it does not start with a digit", excerpt(text)))
    } else if !rest.trim_end_matches(' ').is_empty() {
        Some(format!("xl reads `{}` as {number} and ignores the rest", excerpt(text)))
    } else {
        None
    };
    ParsedNumber { number, doubt }
}

/// A number as `strtoul` parses it with base 0 (the prefix selects the base), truncated to eight
/// bits as xl does.
pub(super) fn strtoul_u8(text: &str) -> ParsedNumber<u8> {
    let (negative, digits) = sign(text);
    let (base, digits) = base(digits);
    let length = digits.chars().take_while(|digit| digit.is_digit(base)).count();
    let (read, rest) = digits.split_at_checked(length).unwrap_or((digits, ""));
    // An overflow is ULONG_MAX in C.
    let value = if read.is_empty() { Ok(0) } else { u64::from_str_radix(read, base) };
    let value = value.unwrap_or(u64::MAX);
    let full = if negative { value.wrapping_neg() } else { value };
    let [number, ..] = full.to_le_bytes();
    let quoted = excerpt(text);
    let decimal = text.trim_matches(' ');
    let is_decimal = !decimal.is_empty() && decimal.bytes().all(|digit| digit.is_ascii_digit());
    let doubt = if base == 8 && is_decimal && decimal.parse() != Ok(u64::from(number)) {
        Some(format!("xl reads `{quoted}` as {number} because a leading zero makes it octal"))
    } else if read.is_empty() && base != 8 {
        Some(format!(
            "xl reads `{quoted}` as 0 because it does not start with a digit{}",
            hex_hint(decimal)
        ))
    } else if !rest.trim_end_matches(' ').is_empty() {
        Some(format!("xl reads `{quoted}` as {number} and ignores the rest{}", hex_hint(decimal)))
    } else if full != u64::from(number) {
        Some(format!("xl reads `{quoted}` as {number} because it only keeps eight bits"))
    } else {
        None
    };
    ParsedNumber { number, doubt }
}

/// A hint for a number that is probably hexadecimal: libvirt's converter writes them without the
/// `0x` that xl needs.
fn hex_hint(text: &str) -> &'static str {
    let is_hex = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_hex {
        "; libvirt writes hexadecimal here, which xl only reads with a leading 0x"
    } else {
        ""
    }
}

/// A string that is entirely a number, as `strtol` parses it with base 0. `None` if it is not, or
/// if it is too large.
pub(super) fn strtol_exact(text: &str) -> Option<i64> {
    let (negative, digits) = sign(text);
    let (base, digits) = base(digits);
    // A lone zero is not an octal prefix.
    let digits = if base == 8 && digits.is_empty() { "0" } else { digits };
    let plain = digits.chars().all(|digit| digit.is_digit(base));
    let number = i64::from_str_radix(digits, base).ok().filter(|_| plain)?;
    Some(if negative { -number } else { number })
}

/// Whether there is a minus sign, and the text after white space and sign.
fn sign(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// The base, and its digits without the prefix.
fn base(text: &str) -> (u32, &str) {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match hex.filter(|hex| hex.starts_with(|digit: char| digit.is_ascii_hexdigit())) {
        Some(hex) => (16, hex),
        None => text.strip_prefix('0').map_or((10, text), |octal| (8, octal)),
    }
}

fn excerpt(text: &str) -> String {
    text.trim_end_matches(' ').chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are those of glibc's `strtoul(text, NULL, 0)` truncated to 8 bits, and
    /// whether there is a warning.
    #[test]
    fn bytes_are_parsed_as_by_strtoul() {
        for (text, number, warns) in [
            ("3", 3, false),
            ("003", 3, false),
            ("0", 0, false),
            ("010", 8, true),
            ("009", 0, true),
            ("014", 12, true),
            ("0x10", 16, false),
            ("0xg", 0, true),
            ("255", 255, false),
            ("256", 0, true),
            ("300", 44, true),
            ("-1", 255, true),
            ("9x", 9, true),
            ("x", 0, true),
            ("", 0, true),
            (" 7 ", 7, false),
            ("99999999999999999999", 255, true),
        ] {
            let read = strtoul_u8(text);
            assert_eq!((read.number, read.doubt.is_some()), (number, warns), "{text:?}");
        }
    }

    #[test]
    fn decimal_numbers_are_parsed_as_by_atoi() {
        for (text, number, warns) in [
            ("2", 2, false),
            ("010", 10, false),
            ("0x10", 0, true),
            ("-1", -1, false),
            ("+4", 4, false),
            ("x", 0, true),
            ("2 ", 2, false),
            ("2.1", 2, true),
            ("99999999999", -1, false),
        ] {
            let read = atoi(text);
            assert_eq!((read.number, read.doubt.is_some()), (number, warns), "{text:?}");
        }
    }

    #[test]
    fn whole_strings_are_parsed_as_by_strtol() {
        for (text, number) in [
            ("1", Some(1)),
            ("0", Some(0)),
            ("010", Some(8)),
            ("0x1f", Some(31)),
            ("-2", Some(-2)),
            ("08", None),
            ("1x", None),
            ("0x", None),
            ("", None),
            ("yes", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(strtol_exact(text), number, "{text:?}");
        }
    }
}
