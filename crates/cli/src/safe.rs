//! Making text safe for a terminal and for whoever reads a log.
//!
//! What is shown comes from devices, guests, sockets and files: it could move the cursor, recolour the screen, turn a line
//! around or pretend to be another line. Here, at the last border, every character that does such a thing is written as
//! what it is: `\u{1b}`. The library does the same for what devices say of themselves, and this does not rely on it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character does something other than to show itself: the controls (Unicode's category Cc), and what is
/// invisible or changes direction (the parts of category Cf that are in no language's spelling, and the two separators).
fn acts(it: char) -> bool {
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

/// The text with its own line ends, for what is known to be several lines.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |it| it == '\n')
}

fn escaped(text: &str, kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(|it| kept(it) || !acts(it)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for it in text.chars() {
        if kept(it) || !acts(it) {
            out.push(it);
        } else {
            out.extend(it.escape_default());
        }
    }
    Cow::Owned(out)
}

/// JSON that means the same with every such character escaped. JSON has them inside strings alone, where `\uXXXX` is
/// always allowed (RFC 8259, section 7).
pub(crate) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for it in text.chars() {
        if !acts(it) {
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
    fn ordinary_text_is_left_alone() {
        for text in ["", "hci0:1", "Büro-Drücker №5", "無線マウス", "a  b"] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn what_acts_is_shown() {
        assert_eq!(line("\u{1b}[31mred\u{9b}1m"), "\\u{1b}[31mred\\u{9b}1m");
        assert_eq!(line("a\nhint: rm -rf /\r"), "a\\nhint: rm -rf /\\r");
        assert_eq!(lines("a\nb\tc"), "a\nb\\tc");
        assert_eq!(line("gpj.\u{202e}exe"), "gpj.\\u{202e}exe");
        assert_eq!(line("tag\u{e0041}"), "tag\\u{e0041}");
    }

    #[test]
    fn json_means_the_same_afterwards() {
        let text = "a\u{7f}b\u{9b}c\u{202e}d\u{e0041}e\u{1b}\n\"\\";
        let safe = json(&serde_json::to_string(text).unwrap());
        assert!(safe.chars().all(|it| !acts(it)), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
    }
}
