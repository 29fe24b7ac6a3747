//! Text that is safe for a terminal and for log readers.
//!
//! Strings come from devices, guests, sockets and files: they could move the cursor, change
//! colours, reverse a line or pretend to be another line. As the last step before printing, every
//! such character is escaped: `\u{1b}`. The library escapes device strings too, but this module
//! does not rely on that.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character has an effect beyond its glyph: controls (Unicode category Cc), and
/// invisible or bidirectional characters (those of category Cf that no language's spelling needs,
/// and the two separators).
fn has_effect(it: char) -> bool {
    it.is_control()
        || matches!(
            it,
            '\u{00AD}'
                | '\u{061C}'
                | '\u{180E}'
                | '\u{200B}'..='\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}'
                | '\u{FEFF}'
                | '\u{FFF9}'..='\u{FFFB}'
                | '\u{E0000}'..='\u{E0FFF}'
        )
}

/// The text as one line: line ends are escaped too.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// The text with its line ends, for texts of several lines.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |it| it == '\n')
}

fn escaped(text: &str, kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(|it| kept(it) || !has_effect(it)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for it in text.chars() {
        if kept(it) || !has_effect(it) {
            out.push(it);
        } else {
            out.extend(it.escape_default());
        }
    }
    Cow::Owned(out)
}

/// Equivalent JSON with every character that has an effect escaped. The text has no line ends
/// between values, so such characters occur only inside strings, where `\uXXXX` is always allowed
/// (RFC 8259, section 7).
pub(crate) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for it in text.chars() {
        if !has_effect(it) {
            out.push(it);
            continue;
        }
        for unit in it.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_stays() {
        for text in ["", "hci0:1", "Büro-Drücker №5", "無線マウス", "a  b"] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn characters_with_an_effect_are_escaped() {
        assert_eq!(line("\u{1b}[31mred\u{9b}1m"), "\\u{1b}[31mred\\u{9b}1m");
        assert_eq!(line("a\nhint: rm -rf /\r"), "a\\nhint: rm -rf /\\r");
        assert_eq!(lines("a\nb\tc"), "a\nb\\tc");
        assert_eq!(line("gpj.\u{202e}exe"), "gpj.\\u{202e}exe");
        assert_eq!(line("tag\u{e0041}"), "tag\\u{e0041}");
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let text = "a\u{7f}b\u{9b}c\u{202e}d\u{e0041}e\u{1b}\n\"\\";
        let safe = json(&serde_json::to_string(text).unwrap());
        assert!(safe.chars().all(|it| !has_effect(it)), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
    }
}
