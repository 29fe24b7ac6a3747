//! Numbers as xl reads them: with C's `atoi`, `strtoul` and `strtol`, which take what they can and never complain.
//!
//! | where | how | `010` | `0x10` | `9x` | `x` | `300` |
//! |---|---|---|---|---|---|---|
//! | hostbus, hostaddr | base 0, then 8 bits | 8 | 16 | 9 | 0 | 44 |
//! | controller, port, version, ports | decimal | 10 | 0 | 9 | 0 | 300 |
//! | a key of its own (`memory`, `usb`) | base 0, all of it or nothing | 8 | 16 | – | – | 300 |

/// A number that xl reads from a text, and what is odd about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read<N> {
    pub(super) number: N,
    /// Why a person most likely meant another one.
    pub(super) doubt: Option<String>,
}

/// A number in decimal (`atoi`): what it starts with counts, and without any digit it is 0. What is out of range is -1 (in C it is anything).
pub(super) fn decimal(text: &str) -> Read<i64> {
    let (negative, digits) = sign(text);
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = digits.split_at_checked(length).unwrap_or((digits, ""));
    let number = if digits.is_empty() { Some(0) } else { digits.parse::<i32>().ok() };
    let number = number.map_or(-1, i64::from);
    let number = if negative { -number } else { number };
    let doubt = if digits.is_empty() {
        Some(format!("xl reads `{}` as 0, for no digit is at its start", shown(text)))
    } else if !rest.trim_end_matches(' ').is_empty() {
        Some(format!("xl reads `{}` as {number} and drops the rest", shown(text)))
    } else {
        None
    };
    Read { number, doubt }
}

/// A number in the base that it says (`strtoul` with base 0), of which xl keeps eight bits.
pub(super) fn byte(text: &str) -> Read<u8> {
    let (negative, digits) = sign(text);
    let (base, digits) = base(digits);
    let length = digits.chars().take_while(|digit| digit.is_digit(base)).count();
    let (read, rest) = digits.split_at_checked(length).unwrap_or((digits, ""));
    // What does not fit is ULONG_MAX in C.
    let whole = if read.is_empty() { Ok(0) } else { u64::from_str_radix(read, base) };
    let whole = whole.unwrap_or(u64::MAX);
    let kept = if negative { whole.wrapping_neg() } else { whole };
    let [number, ..] = kept.to_le_bytes();
    let said = shown(text);
    let decimal = text.trim_matches(' ');
    let is_decimal = !decimal.is_empty() && decimal.bytes().all(|digit| digit.is_ascii_digit());
    let doubt = if base == 8 && is_decimal && decimal.parse() != Ok(u64::from(number)) {
        Some(format!("xl reads `{said}` as {number}, for a zero in front makes it octal"))
    } else if read.is_empty() && base != 8 {
        Some(format!("xl reads `{said}` as 0, for no digit is at its start{}", hex(decimal)))
    } else if !rest.trim_end_matches(' ').is_empty() {
        Some(format!("xl reads `{said}` as {number} and drops the rest{}", hex(decimal)))
    } else if kept != u64::from(number) {
        Some(format!("xl reads `{said}` as {number}, for it keeps eight bits"))
    } else {
        None
    };
    Read { number, doubt }
}

/// What to add for a number that is one in hexadecimal: libvirt's converter writes them so, without the `0x` that xl wants.
fn hex(text: &str) -> &'static str {
    let is_hex = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_hex { "; libvirt writes hexadecimal here, for which xl wants 0x in front" } else { "" }
}

/// A whole text as a number in the base that it says (`strtol` with base 0). `None` if it is none, or too large.
pub(super) fn whole(text: &str) -> Option<i64> {
    let (negative, digits) = sign(text);
    let (base, digits) = base(digits);
    // The zero alone is no sign of a base.
    let digits = if base == 8 && digits.is_empty() { "0" } else { digits };
    let plain = digits.chars().all(|digit| digit.is_digit(base));
    let number = i64::from_str_radix(digits, base).ok().filter(|_| plain)?;
    Some(if negative { -number } else { number })
}

/// Whether there is a minus, and what comes after white space and sign.
fn sign(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// The base, and the digits in it. Of an octal number the zero in front is left out.
fn base(text: &str) -> (u32, &str) {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match hex.filter(|hex| hex.starts_with(|digit: char| digit.is_ascii_hexdigit())) {
        Some(hex) => (16, hex),
        None => text.strip_prefix('0').map_or((10, text), |octal| (8, octal)),
    }
}

fn shown(text: &str) -> String {
    text.trim_end_matches(' ').chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What glibc's `strtoul(text, NULL, 0)` cut to 8 bits gives, and whether a person should be told.
    #[test]
    fn bytes_as_strtoul_reads_them() {
        for (text, number, doubtful) in [
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
            let read = byte(text);
            assert_eq!((read.number, read.doubt.is_some()), (number, doubtful), "{text:?}");
        }
    }

    #[test]
    fn numbers_as_atoi_reads_them() {
        for (text, number, doubtful) in [
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
            let read = decimal(text);
            assert_eq!((read.number, read.doubt.is_some()), (number, doubtful), "{text:?}");
        }
    }

    #[test]
    fn whole_numbers_as_strtol_reads_them() {
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
            assert_eq!(whole(text), number, "{text:?}");
        }
    }
}
