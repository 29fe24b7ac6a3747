//! Making text from devices safe to print.
//!
//! A device chooses its own name and serial number. Printed unchanged, they could move the cursor,
//! recolour the terminal, reverse the rest of the line, or pretend to be another line of the list.

/// The maximum length of a device's string in characters: a string descriptor has at most 255
/// bytes, two of them the header, in UTF-16 (USB 2.0 specification, section 9.6.7).
pub const MAX_DEVICE_STRING: usize = 126;

/// Untrusted text, safe to print: at most `limit` characters, with `?` for each control character,
/// each invisible or direction-changing character, and each sequence that is not UTF-8. One
/// trailing newline is removed, because sysfs adds it.
///
/// ```
/// use vusb_host::text::{MAX_DEVICE_STRING, printable};
///
/// assert_eq!(printable(b"Ultra\n", MAX_DEVICE_STRING), "Ultra");
/// assert_eq!(printable(b"\x1b[31mred\xff", MAX_DEVICE_STRING), "?[31mred?");
/// ```
pub fn printable(bytes: &[u8], limit: usize) -> String {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    // A character has at most four bytes, so later bytes cannot be among the first `limit`
    // characters.
    let bytes = bytes.get(..limit.saturating_mul(4)).unwrap_or(bytes);
    String::from_utf8_lossy(bytes)
        .chars()
        .take(limit)
        .map(|it| if is_plain(it) { it } else { '?' })
        .collect()
}

/// Whether a character is visible and does not affect the text around it.
fn is_plain(it: char) -> bool {
    it != char::REPLACEMENT_CHARACTER && !has_effect(it)
}

/// Whether a character has an effect beyond its glyph: a control character, or one that is
/// invisible or formats the text around it. This includes every character that XML 1.0 forbids.
pub fn has_effect(it: char) -> bool {
    it.is_control() || is_hidden(it)
}

/// Whether a character is invisible or formats the text around it: Unicode's category Cf (soft
/// hyphen, zero-width and bidirectional marks, tags and the like), line and paragraph separators,
/// blank letters and variation selectors.
const fn is_hidden(it: char) -> bool {
    matches!(
        it,
        '\u{00AD}'
            | '\u{034F}'
            | '\u{0600}'..='\u{0605}'
            | '\u{061C}'
            | '\u{06DD}'
            | '\u{070F}'
            | '\u{0890}'..='\u{0891}'
            | '\u{08E2}'
            | '\u{115F}'..='\u{1160}'
            | '\u{17B4}'..='\u{17B5}'
            | '\u{180B}'..='\u{180F}'
            | '\u{200B}'..='\u{200F}'
            | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{3164}'
            | '\u{FE00}'..='\u{FE0F}'
            | '\u{FEFF}'
            | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFFF}'
            | '\u{110BD}'
            | '\u{110CD}'
            | '\u{13430}'..='\u{1343F}'
            | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E0FFF}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(bytes: &[u8]) -> String {
        printable(bytes, MAX_DEVICE_STRING)
    }

    #[test]
    fn ordinary_text_is_unchanged() {
        for text in ["Ultra", "Büro-Drücker №5", "無線マウス", "  two  spaces ", "?"] {
            assert_eq!(shown(text.as_bytes()), text);
        }
    }

    #[test]
    fn only_the_newline_that_sysfs_adds_is_removed() {
        assert_eq!(shown(b"name\n"), "name");
        assert_eq!(shown(b"name\n\n"), "name?");
        assert_eq!(shown(b"two\nlines\r\n"), "two?lines?");
    }

    #[test]
    fn terminal_control_sequences_are_replaced() {
        assert_eq!(shown(b"\x1b]0;owned\x07"), "?]0;owned?");
        assert_eq!(shown("a\u{9b}31m\u{7f}\0".as_bytes()), "a?31m??");
    }

    #[test]
    fn invisible_and_bidirectional_characters_are_replaced() {
        let text = "\u{202e}evil\u{200b}\u{2066}x\u{2069}\u{feff}\u{ad}\u{2028}\u{e0041}";
        assert_eq!(shown(text.as_bytes()), "?evil??x?????");
    }

    #[test]
    fn invalid_utf_8_is_replaced() {
        assert_eq!(shown(b"\xff\xfeab\xc3"), "??ab?");
    }

    #[test]
    fn the_length_is_bounded() {
        assert_eq!(shown(&vec![b'x'; 10_000_000]).len(), 126);
        assert_eq!(shown("€".repeat(1000).as_bytes()).chars().count(), 126);
        assert_eq!(shown("🖱".repeat(1000).as_bytes()), "🖱".repeat(126));
    }

    proptest! {
        #[test]
        fn the_result_is_plain_short_and_idempotent(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let text = shown(&bytes);
            prop_assert!(text.chars().count() <= MAX_DEVICE_STRING);
            prop_assert!(text.chars().all(is_plain));
            prop_assert_eq!(shown(text.as_bytes()), text);
        }

        #[test]
        fn valid_text_keeps_its_length(text in ".{0,126}") {
            let bytes = format!("{text}\n");
            prop_assert_eq!(shown(bytes.as_bytes()).chars().count(), text.chars().count());
        }
    }
}
