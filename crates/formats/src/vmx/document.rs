//! A VMX text that is edited line by line. Lines that are not edited are kept to the byte.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::dictionary::{Dictionary, Entry, escaped};

/// A text that is being edited.
pub(super) struct Document<'a> {
    text: &'a str,
    dictionary: Dictionary<'a>,
    lines: Vec<Line<'a>>,
    /// The keys of new lines, in lower case: the line that each follows, and its position among the
    /// new lines there.
    new: HashMap<String, (usize, usize)>,
    /// The entry that new lines follow and whose style they copy: the last one about USB, or else
    /// the last one of all.
    anchor: Option<usize>,
    /// The default line ending.
    line_end: &'static str,
    /// Whether the text has `true` rather than `TRUE`.
    lower_case: bool,
}

/// A line of the text, including its line ending, and the new lines after it.
#[derive(Default)]
struct Line<'a> {
    text: Cow<'a, str>,
    after: Vec<String>,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str, dictionary: Dictionary<'a>) -> Document<'a> {
        let line = |line| Line { text: Cow::Borrowed(line), after: Vec::new() };
        let lines: Vec<Line<'a>> = text.split_inclusive('\n').map(line).collect();
        let line_end = lines.first().and_then(|line| line_end(&line.text)).unwrap_or("\n");
        let is_flag = |word: &&str| matches!(word.to_ascii_lowercase().as_str(), "true" | "false");
        let flag = dictionary.entries().iter().map(|entry| entry.value).find(is_flag);
        let is_usb = |entry: &Entry<'_>| {
            let key = entry.key.to_ascii_lowercase();
            ["usb", "ehci", "keyboard.vusb"].iter().any(|head| key.starts_with(head))
        };
        let last = dictionary.entries().len().checked_sub(1);
        let anchor = dictionary.entries().iter().rposition(is_usb).or(last);
        let lower_case = flag.is_some_and(|word| word.starts_with(['t', 'f']));
        Document { text, dictionary, lines, new: HashMap::new(), anchor, line_end, lower_case }
    }

    pub(super) const fn dictionary(&self) -> &Dictionary<'a> {
        &self.dictionary
    }

    /// Sets `key` to true or false.
    pub(super) fn set_flag(&mut self, key: &str, value: bool) {
        let word = if value { "TRUE" } else { "FALSE" };
        self.set(key, &if self.lower_case { word.to_ascii_lowercase() } else { word.to_owned() });
    }

    /// Sets `key` to `value`: in its line, or in a new line next to related ones.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        let value = escaped(value);
        match self.dictionary.get(&key.to_ascii_lowercase()).cloned() {
            Some(entry) => self.replace(&entry, &value),
            None => self.add(key, &value),
        }
    }

    /// Removes all lines whose key matches.
    pub(super) fn remove(&mut self, matches: impl Fn(&str) -> bool) {
        for entry in self.dictionary.entries().iter().filter(|entry| matches(entry.key)) {
            if let Some(line) = self.lines.get_mut(entry.number) {
                line.text = Cow::Borrowed("");
            }
        }
    }

    /// The edited text.
    pub(super) fn finish(self) -> String {
        let mut out = String::with_capacity(self.text.len());
        for line in self.lines {
            out += &line.text;
            let end = line_end(&line.text).unwrap_or(self.line_end);
            // If the last line has no line ending, the text still ends without one.
            let open = !line.text.is_empty() && !line.text.ends_with('\n');
            for new in &line.after {
                if open {
                    out += end;
                }
                out += new;
                if !open {
                    out += end;
                }
            }
        }
        out
    }

    fn replace(&mut self, entry: &Entry<'a>, value: &str) {
        let span = entry.value_span.clone();
        let quoted = self.slice(..span.start).ends_with('"');
        let plain = !value.is_empty() && !value.contains([' ', '\t', '#']);
        let whole = self.line_span(entry);
        let text = if entry.value == value {
            Cow::Borrowed(self.slice(whole))
        } else {
            let quotes = if quoted || plain { "" } else { "\"" };
            let (before, after) =
                (self.slice(whole.start..span.start), self.slice(span.end..whole.end));
            Cow::Owned([before, quotes, value, quotes, after].concat())
        };
        if let Some(line) = self.lines.get_mut(entry.number) {
            line.text = text;
        }
    }

    fn add(&mut self, key: &str, value: &str) {
        let (number, text) = match self.anchor.and_then(|at| self.dictionary.entries().get(at)) {
            None => (self.lines.len().saturating_sub(1), format!("{key} = \"{value}\"")),
            Some(entry) => {
                let before = self.slice(self.line_span(entry).start..entry.line.start);
                let indent = before.trim_start_matches(|it: char| !it.is_ascii_whitespace());
                let equals = self.slice(entry.key_span().end..entry.value_span.start);
                let equals = equals.trim_end_matches('"');
                (entry.number, format!("{indent}{key}{equals}\"{value}\""))
            }
        };
        if self.lines.is_empty() {
            self.lines.push(Line::default());
        }
        let Some(line) = self.lines.get_mut(number) else { return };
        let position =
            self.new.entry(key.to_ascii_lowercase()).or_insert((number, line.after.len()));
        match line.after.get_mut(position.1) {
            Some(existing) => *existing = text,
            None => line.after.push(text),
        }
    }

    /// The span of the entry's line, including its line ending.
    fn line_span(&self, entry: &Entry<'_>) -> Range<usize> {
        let start = self.slice(..entry.line.start).rfind('\n').map_or(0, |at| at + 1);
        let end = self
            .slice(entry.line.end..)
            .find('\n')
            .map_or(self.text.len(), |at| entry.line.end + at + 1);
        start..end
    }

    fn slice(&self, range: impl std::slice::SliceIndex<str, Output = str>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }
}

fn line_end(line: &str) -> Option<&'static str> {
    if line.ends_with("\r\n") { Some("\r\n") } else { line.ends_with('\n').then_some("\n") }
}
