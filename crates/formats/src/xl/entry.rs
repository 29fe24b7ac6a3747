//! The entries of `usbctrl` and `usbdev`: `KEY=VALUE` with commas between them, in one text.
//!
//! xl cuts at each comma, drops what is empty, and spaces in front. Around the `=` and at the end it drops nothing.

use std::ops::Range;

/// A part of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair<'a> {
    /// All of it.
    pub(super) text: &'a str,
    /// What is before the `=`; all of it, if there is none.
    pub(super) key: &'a str,
    /// What is after it.
    pub(super) value: Option<&'a str>,
    /// Where it is in the entry, in bytes.
    pub(super) at: Range<usize>,
}

/// The parts of an entry, in their order.
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
        (!part.is_empty()).then_some(Pair { text, key, value, at: start..start + text.len() })
    })
}

/// The entry with the value of each of these keys as given here. What else it says stays, and where it stands.
pub(super) fn with(entry: &str, wanted: &[(&str, String)]) -> String {
    let mut text = entry.to_owned();
    for (key, value) in wanted {
        let new = format!("{key}={value}");
        // The last one counts.
        let found = pairs(&text).filter(|pair| pair.key == *key && pair.value.is_some()).last();
        match found.map(|pair| pair.at) {
            Some(at) => text.replace_range(at, &new),
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
    fn cut_as_xl_cuts() {
        let all: Vec<_> =
            pairs("type=pv,, version = 2,x").map(|it| (it.key, it.value, it.at)).collect();
        assert_eq!(
            all,
            [("type", Some("pv"), 0..7), ("version ", Some(" 2"), 10..21), ("x", None, 22..23),]
        );
        assert_eq!(pairs("").count(), 0);
    }

    #[test]
    fn one_value_is_changed_and_the_others_stay() {
        let entry = " hostbus=1, port=1,hostaddr=3";
        assert_eq!(with(entry, &[("port", "2".to_owned())]), " hostbus=1, port=2,hostaddr=3");
        assert_eq!(with("a=1,", &[("b", "2".to_owned())]), "a=1,b=2");
        assert_eq!(with("", &[("b", "2".to_owned())]), "b=2");
    }
}
