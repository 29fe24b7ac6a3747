//! Changes to a text by places: the bytes between them stay as they are.

use std::ops::Range;

/// Replacements, by the places that they have in the text as it was.
#[derive(Debug, Default)]
pub(crate) struct Splices(Vec<(Range<usize>, String)>);

impl Splices {
    /// Puts `new` in the place of what is there.
    pub(crate) fn replace(&mut self, span: Range<usize>, new: impl Into<String>) {
        self.0.push((span, new.into()));
    }

    /// Puts `new` before what is at a place; of several at one place, in the order in which they were told.
    pub(crate) fn insert(&mut self, at: usize, new: impl Into<String>) {
        self.replace(at..at, new);
    }

    /// Takes away what is there.
    pub(crate) fn remove(&mut self, span: Range<usize>) {
        self.replace(span, "");
    }

    /// The new text. A place within one that was taken away, or out of the text, is passed over.
    pub(crate) fn apply(mut self, text: &str) -> String {
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

/// How a text ends its lines: as its first line does.
pub(crate) fn newline(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text.get(..at).is_some_and(|line| line.ends_with('\r')) => "\r\n",
        _ => "\n",
    }
}

/// Where the line of a place begins.
pub(crate) fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1)
}

/// Where the line of a place ends, past its newline.
pub(crate) fn line_end(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    rest.find('\n').map_or(text.len(), |newline| at + newline + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_stays() {
        let mut splices = Splices::default();
        splices.insert(6, "2");
        splices.replace(2..4, "new");
        splices.insert(6, "3");
        splices.remove(6..7);
        splices.insert(99, "nowhere");
        assert_eq!(splices.apply("ab cd efg"), "abnewd 23fg");
    }

    #[test]
    fn lines() {
        let text = "one\r\ntwo\r\nthree";
        assert_eq!((line_start(text, 6), line_end(text, 6)), (5, 10));
        assert_eq!((line_start(text, 12), line_end(text, 12)), (10, 15));
        assert_eq!((newline(text), newline("a\nb"), newline("")), ("\r\n", "\n", "\n"));
    }
}
