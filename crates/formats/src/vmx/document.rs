//! A VMX text that is changed line by line, and that comes out as it went in where nothing was changed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::dictionary::{Dictionary, Entry, escaped};

/// A text in change.
pub(super) struct Document<'a> {
    text: &'a str,
    dictionary: Dictionary<'a>,
    lines: Vec<Line<'a>>,
    /// The keys of new lines, in lower case: the line that each comes after, and its number there.
    new: HashMap<String, (usize, usize)>,
    /// Which entry new lines come after, and are to look like: the last that has to do with USB, else the last.
    neighbour: Option<usize>,
    /// How lines end where nothing else is known.
    line_end: &'static str,
    /// Whether the text writes `true` rather than `TRUE`.
    lower_case: bool,
}

/// A line of the text, its end included, and the lines that are new after it.
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
        let of_usb = |entry: &Entry<'_>| {
            let key = entry.key.to_ascii_lowercase();
            ["usb", "ehci", "keyboard.vusb"].iter().any(|head| key.starts_with(head))
        };
        let last = dictionary.entries().len().checked_sub(1);
        let neighbour = dictionary.entries().iter().rposition(of_usb).or(last);
        let lower_case = flag.is_some_and(|word| word.starts_with(['t', 'f']));
        Document { text, dictionary, lines, new: HashMap::new(), neighbour, line_end, lower_case }
    }

    pub(super) const fn dictionary(&self) -> &Dictionary<'a> {
        &self.dictionary
    }

    /// Says that `key` is so, or is not.
    pub(super) fn set_flag(&mut self, key: &str, value: bool) {
        let word = if value { "TRUE" } else { "FALSE" };
        self.set(key, &if self.lower_case { word.to_ascii_lowercase() } else { word.to_owned() });
    }

    /// Says that `key` is `value`: where it is said already, or in a new line beside the others of its sort.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        let value = escaped(value);
        match self.dictionary.get(&key.to_ascii_lowercase()).cloned() {
            Some(entry) => self.replace(&entry, &value),
            None => self.add(key, &value),
        }
    }

    /// Takes out all lines whose key is one that `is_it`.
    pub(super) fn remove(&mut self, is_it: impl Fn(&str) -> bool) {
        for entry in self.dictionary.entries().iter().filter(|entry| is_it(entry.key)) {
            if let Some(line) = self.lines.get_mut(entry.number) {
                line.text = Cow::Borrowed("");
            }
        }
    }

    /// The text as it is now.
    pub(super) fn finish(self) -> String {
        let mut out = String::with_capacity(self.text.len());
        for line in self.lines {
            out += &line.text;
            let end = line_end(&line.text).unwrap_or(self.line_end);
            // A text whose last line has no end keeps it so.
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
        let (number, text) = match self.neighbour.and_then(|at| self.dictionary.entries().get(at)) {
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
        let place = self.new.entry(key.to_ascii_lowercase()).or_insert((number, line.after.len()));
        match line.after.get_mut(place.1) {
            Some(there) => *there = text,
            None => line.after.push(text),
        }
    }

    /// Where the line that the entry is on begins and ends, with what ends it.
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
