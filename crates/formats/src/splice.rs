//! Edits to a text by position. All bytes between them stay as they are.

use std::ops::Range;

/// Replacements, by their positions in the text before any of them.
#[derive(Clone, Debug, Default)]
pub struct Splices(Vec<(Range<usize>, String)>);

impl Splices {
    /// Replaces the text in `span` by `new`.
    pub fn replace(&mut self, span: Range<usize>, new: impl Into<String>) {
        self.0.push((span, new.into()));
    }

    /// Inserts `new` at a position. Several insertions at one position keep their order.
    pub fn insert(&mut self, at: usize, new: impl Into<String>) {
        self.replace(at..at, new);
    }

    /// Removes the text in `span`.
    pub fn remove(&mut self, span: Range<usize>) {
        self.replace(span, "");
    }

    /// The new text. A replacement that starts within an earlier one, or outside of the text, is
    /// ignored.
    pub fn apply(mut self, text: &str) -> String {
        self.0.sort_by_key(|(span, _)| (span.start, span.end));
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for (span, new) in &self.0 {
            let Some(kept) = text.get(done..span.start) else { continue };
            out.push_str(kept);
            out.push_str(new);
            done = span.end.max(done);
        }
        out.push_str(text.get(done..).unwrap_or_default());
        out
    }
}

/// The line ending of a text: that of its first line.
pub fn newline(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text.get(..at).is_some_and(|line| line.ends_with('\r')) => "\r\n",
        _ => "\n",
    }
}

/// The start of the line that contains the position `at`.
pub fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1)
}

/// The end of the line that contains the position `at`, after its newline.
pub fn line_end(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    rest.find('\n').map_or(text.len(), |newline| at + newline + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_between_edits_stays() {
        let mut splices = Splices::default();
        splices.insert(6, "2");
        splices.replace(2..4, "new");
        splices.insert(6, "3");
        splices.remove(6..7);
        splices.insert(99, "nowhere");
        assert_eq!(splices.apply("ab cd efg"), "abnewd 23fg");
    }

    #[test]
    fn line_bounds_and_endings() {
        let text = "one\r\ntwo\r\nthree";
        assert_eq!((line_start(text, 6), line_end(text, 6)), (5, 10));
        assert_eq!((line_start(text, 12), line_end(text, 12)), (10, 15));
        assert_eq!((newline(text), newline("a\nb"), newline("")), ("\r\n", "\n", "\n"));
    }
}
