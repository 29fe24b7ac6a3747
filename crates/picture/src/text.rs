//! Untrusted text in a picture: how it is escaped for XML, and how much of it fits.

use std::fmt::Write as _;

use vusb_host::text::has_effect;

/// The text, escaped for the content and the attributes of XML 1.0.
///
/// Characters that XML cannot contain (section 2.2 of its specification), and characters that are
/// invisible or change the text around them, are written as escapes such as `\u{1b}`. [`fitting`]
/// is called first: cutting an escaped text could cut an escape in two.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for it in text.chars() {
        match it {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            it => out.push(it),
        }
    }
    out
}

/// The text with an escape in place of each character that has an effect.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for it in text.chars() {
        if has_effect(it) {
            // Writing to a string cannot fail.
            let _ = write!(out, "{}", it.escape_unicode());
        } else {
            out.push(it);
        }
    }
    out
}

/// The longest beginning of a text that fits into `width` pixels at this font size, with `…` if the
/// text is cut. Characters with an effect are replaced as in [`visible`]. At most `width`
/// characters remain, so the result is bounded even if the characters have no width.
pub(crate) fn fitting(text: &str, width: i32, size: i32, mono: bool) -> String {
    // In hundredths of a pixel.
    let room = i64::from(width.max(0)) * 100;
    let one = |it: char| {
        i64::from(if mono && it.is_ascii() { 61 } else { advance(it) }) * i64::from(size)
    };
    let most = usize::try_from(width.max(0)).unwrap_or(0);
    let ellipsis = one('…');
    let mut used = 0;
    let mut out = String::new();
    // The longest beginning that leaves room for the ellipsis.
    let mut cut = 0;
    for (count, it) in visible(text).chars().enumerate() {
        used += one(it);
        if used > room || count >= most {
            out.truncate(cut);
            out.push('…');
            return out;
        }
        out.push(it);
        if used + ellipsis <= room {
            cut = out.len();
        }
    }
    out
}

/// The width of a text in pixels, rounded up.
pub(crate) fn width(text: &str, size: i32, mono: bool) -> i32 {
    let one = |it: char| if mono && it.is_ascii() { 61 } else { advance(it) };
    let all: i32 = text.chars().take(1000).map(|it| one(it) * size).sum();
    (all + 99) / 100
}

/// The width of a character in hundredths of the font size: an upper estimate for the usual
/// sans-serif fonts. DejaVu Sans, the widest of them, was measured. A picture has no font of its
/// own, and a label is clipped if a font is wider.
const fn advance(it: char) -> i32 {
    match it {
        'i' | 'l' | 'j' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' => 34,
        'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '/' | '-' | '·' => 41,
        'm' | 'M' | 'W' | '@' | '%' | '…' => 98,
        'w' => 82,
        'a'..='z' | '0'..='9' | '*' | '_' => 63,
        'A'..='Z' => 73,
        '\u{20}'..='\u{7e}' => 80,
        // Combining marks are drawn over the letter before them.
        '\u{300}'..='\u{36f}' => 0,
        '\u{80}'..='\u{10ff}' => 75,
        _ => 105,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        assert_eq!(escaped("<b a='1'>\"&"), "&lt;b a=&#39;1&#39;&gt;&quot;&amp;");
    }

    #[test]
    fn characters_with_an_effect_are_written_out() {
        assert_eq!(
            visible("a\u{1b}[31m\u{202e}\u{ffff}\0"),
            "a\\u{1b}[31m\\u{202e}\\u{ffff}\\u{0}"
        );
    }

    #[test]
    fn a_text_that_fits_stays() {
        assert_eq!(fitting("SanDisk Ultra", 200, 13, false), "SanDisk Ultra");
    }

    #[test]
    fn a_long_text_is_cut_to_its_width() {
        let cut = fitting(&"W".repeat(1000), 100, 13, false);
        assert_eq!(cut, "WWWWWW…");
        assert!(width(&cut, 13, false) <= 100);
        assert_eq!(fitting(&"\u{301}".repeat(1000), 50, 13, false).chars().count(), 51);
        assert_eq!(fitting("abc", 0, 13, false), "…");
    }
}
