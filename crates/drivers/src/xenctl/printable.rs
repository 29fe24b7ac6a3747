//! Texts of other domains, which may contain anything.

/// How much of a text of another domain is shown at most, in characters.
const MAX_SHOWN: usize = 300;

/// Another domain's text, made safe to show.
pub(super) fn printable(text: &str) -> String {
    vusb_host::text::printable(text.as_bytes(), MAX_SHOWN)
}
