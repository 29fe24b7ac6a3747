//! The entries of `usbctrl` and `usbdev`: `KEY=VALUE` pairs, separated by commas, in one string.
//!
//! xl splits at each comma and drops empty parts and leading spaces. It does not trim spaces around
//! the `=` or at the end.

use std::ops::Range;

/// A `KEY=VALUE` pair of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair<'a> {
    /// The whole pair.
    pub(super) text: &'a str,
    /// The part before the `=`, or the whole pair if there is no `=`.
    pub(super) key: &'a str,
    /// The part after the `=`.
    pub(super) value: Option<&'a str>,
    /// Its position in the entry, in bytes.
    pub(super) span: Range<usize>,
}

/// The pairs of an entry, in order.
pub(super) fn pairs(entry: &str) -> impl Iterator<Item = Pair<'_>> {
    let mut at = 0;
    entry.split(',').filter_map(move |part| {
        let start = at;
        at += part.len() + 1;
        let text = part.trim_start_matches(' ');
        let start = start + part.len() - text.len();
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        (!part.is_empty()).then_some(Pair { text, key, value, span: start..start + text.len() })
    })
}

/// Sets the values of these keys in an entry. Everything else is kept as it is.
pub(super) fn with_values(entry: &str, values: &[(&str, String)]) -> String {
    let mut text = entry.to_owned();
    for (key, value) in values {
        let new = format!("{key}={value}");
        // The last of several takes precedence.
        let found = pairs(&text).filter(|pair| pair.key == *key && pair.value.is_some()).last();
        match found.map(|pair| pair.span) {
            Some(span) => text.replace_range(span, &new),
            None if pairs(&text).next().is_none() => text = new,
            None => text = format!("{},{new}", text.trim_end_matches([',', ' '])),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_split_as_xl_splits_them() {
        let all: Vec<_> =
            pairs("type=pv,, version = 2,x").map(|it| (it.key, it.value, it.span)).collect();
        assert_eq!(
            all,
            [("type", Some("pv"), 0..7), ("version ", Some(" 2"), 10..21), ("x", None, 22..23),]
        );
        assert_eq!(pairs("").count(), 0);
    }

    #[test]
    fn one_value_is_changed_and_the_others_are_kept() {
        let entry = " hostbus=1, port=1,hostaddr=3";
        assert_eq!(
            with_values(entry, &[("port", "2".to_owned())]),
            " hostbus=1, port=2,hostaddr=3"
        );
        assert_eq!(with_values("a=1,", &[("b", "2".to_owned())]), "a=1,b=2");
        assert_eq!(with_values("", &[("b", "2".to_owned())]), "b=2");
    }
}
