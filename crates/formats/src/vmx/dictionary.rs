//! A VMX file as a dictionary of keys and values, which is how VMware treats it.
//!
//! ```text
//! line  = blank | comment | key blanks "=" blanks value [comment]
//! value = '"' anything but a quote '"' | anything up to a blank and "#"
//! ```
//!
//! Keys ignore case. In a value, `|` and two hexadecimal digits stand for a byte that cannot be
//! written directly: `|22` is a quote, `|0A` a newline, `|7C` the bar itself. Like VMware, this
//! module rejects a file with a duplicate key.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

use crate::error::Problem;
use crate::length;
use crate::raw_bytes::has_raw_bytes;

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    /// The key as written.
    pub(super) key: &'a str,
    /// The value as written, without its quotes.
    pub(super) value: &'a str,
    /// The span of the value, without its quotes.
    pub(super) value_span: Range<usize>,
    /// The line without the white space at its ends.
    pub(super) line: Range<usize>,
    /// The line number, from 0.
    pub(super) number: usize,
}

/// A parsed text.
#[derive(Debug)]
pub(super) struct Dictionary<'a> {
    entries: Vec<Entry<'a>>,
    /// The index in `entries` for each key in lower case.
    by_key: HashMap<String, usize>,
}

/// The UTF-8 byte order mark that Windows puts at the start of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

impl<'a> Dictionary<'a> {
    pub(super) fn read(text: &'a str) -> Result<Dictionary<'a>, Problem> {
        length::check(text, "a VMX file")?;
        let mut dictionary = Dictionary { entries: Vec::new(), by_key: HashMap::new() };
        let mut start = 0;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            if let Some(entry) = read_line(line, start, number)? {
                dictionary.add(entry)?;
            }
            start += line.len();
        }
        Ok(dictionary)
    }

    fn add(&mut self, entry: Entry<'a>) -> Result<(), Problem> {
        let key = entry.key.to_ascii_lowercase();
        if let Some(first) = self.by_key.get(&key).and_then(|at| self.entries.get(*at)) {
            let what = format!("`{}` is defined twice", short(entry.key));
            return Err(Problem::new(entry.key_span(), what)
                .label("the second time")
                .other(first.key_span(), "the first time")
                .help("remove one of the two lines: VMware does not open a file with a key that is already defined"));
        }
        self.by_key.insert(key, self.entries.len());
        self.entries.push(entry);
        Ok(())
    }

    /// Whether values that are not ASCII are UTF-8: if the file declares no other encoding.
    fn is_utf8(&self) -> bool {
        let Some(entry) = self.get(".encoding") else { return true };
        ["utf-8", "utf8"].iter().any(|name| entry.value.eq_ignore_ascii_case(name))
    }

    /// The entry of `key`, which must be in lower case.
    pub(super) fn get(&self, key: &str) -> Option<&Entry<'a>> {
        self.entries.get(*self.by_key.get(key)?)
    }

    /// All entries, in the order of the text.
    pub(super) fn entries(&self) -> &[Entry<'a>] {
        &self.entries
    }

    /// The entry of `key` if it is set to true. A missing key is false.
    pub(super) fn flag(&self, key: &str) -> Result<Option<&Entry<'a>>, Problem> {
        let Some(entry) = self.get(key) else { return Ok(None) };
        Ok(entry.as_flag()?.then_some(entry))
    }

    /// The value of `key` as a string; `None` if it is missing or empty, or in an unknown encoding.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, Problem> {
        let known = |value: &str| value.is_ascii() || self.is_utf8() && !has_raw_bytes(value);
        let entry = self.get(key).filter(|entry| known(entry.value));
        let text = entry.map(Entry::unescaped).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// The value of `key` as a number, if it is one.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.value.trim().parse().ok()
    }
}

impl Entry<'_> {
    pub(super) fn key_span(&self) -> Range<usize> {
        self.line.start..self.line.start + self.key.len()
    }

    pub(super) fn refuse(&self, what: impl Into<String>) -> Problem {
        Problem::new(self.value_span.clone(), what)
    }

    fn as_flag(&self) -> Result<bool, Problem> {
        match self.value.trim() {
            word if word.eq_ignore_ascii_case("true") => Ok(true),
            // VMware empties values that it no longer needs.
            word if word.eq_ignore_ascii_case("false") || word.is_empty() => Ok(false),
            _ => Err(self.refuse(format!("`{}` must be \"TRUE\" or \"FALSE\"", short(self.key)))),
        }
    }

    /// The value with its escapes resolved.
    pub(super) fn unescaped(&self) -> Result<String, Problem> {
        let mut bytes = Vec::with_capacity(self.value.len());
        let mut rest = self.value.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            if *first != b'|' {
                bytes.push(*first);
                continue;
            }
            let digits = after.split_at_checked(2);
            let byte = digits.and_then(|(digits, after)| Some((hex_byte(digits)?, after)));
            let Some((byte, after)) = byte else {
                return Err(self
                    .refuse("a `|` in a value must be followed by two hexadecimal digits")
                    .help("|7C is the bar itself, |22 a quote"));
            };
            bytes.push(byte);
            rest = after;
        }
        String::from_utf8(bytes)
            .map_err(|_| self.refuse("the escaped bytes of this value are not UTF-8"))
    }
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let mut digits = digits.iter().map(|digit| char::from(*digit).to_digit(16));
    let byte = digits.try_fold(0, |byte, digit| Some(byte * 16 + digit?))?;
    u8::try_from(byte).ok()
}

/// A value, escaped so that it can be written in quotes.
pub(super) fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, character| {
        match u8::try_from(character) {
            Ok(byte) if matches!(byte, b'|' | b'"' | 0x7f) || byte < b' ' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "|{byte:02X}");
            }
            _ => out.push(character),
        }
        out
    })
}

/// A text, shortened so that it fits into a sentence.
pub(super) fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Parses the line at `start`, which includes its line ending.
fn read_line(line: &str, start: usize, number: usize) -> Result<Option<Entry<'_>>, Problem> {
    let body = line.trim_end();
    let content = body.trim_start_matches(|it: char| it == BYTE_ORDER_MARK || it.is_whitespace());
    if content.is_empty() || content.starts_with('#') {
        return Ok(None);
    }
    let start = start + body.len() - content.len();
    let span = start..start + content.len();
    let Some((key, rest)) = content.split_once('=') else {
        return Err(Problem::new(span, "this line is not `key = \"value\"`")
            .help("a comment starts with #; a value is on one line"));
    };
    let key = key.trim_end();
    if key.is_empty() || key.contains(|it: char| it.is_whitespace() || it == '"') {
        return Err(Problem::new(span, format!("`{}` is not a key", short(key)))
            .help("write key = \"value\"; a comment starts with #"));
    }
    let value = rest.trim_start();
    let at = start + content.len() - value.len();
    let (value, at) = match value.strip_prefix('"') {
        Some(quoted) => (in_quotes(quoted, at)?, at + 1),
        None => (plain(value), at),
    };
    Ok(Some(Entry { key, value, value_span: at..at + value.len(), line: span, number }))
}

/// The value up to the closing quote. `at` is the position of the opening quote.
fn in_quotes(rest: &str, at: usize) -> Result<&str, Problem> {
    let Some((value, after)) = rest.split_once('"') else {
        return Err(Problem::new(at..at + 1 + rest.len(), "this value has no closing quote"));
    };
    let trailing = after.trim_start();
    if trailing.is_empty() || trailing.starts_with('#') {
        return Ok(value);
    }
    let end = at + 1 + rest.len();
    Err(Problem::new(end - trailing.len()..end, "there is something after the value")
        .help("a quote in a value is written |22; a comment starts with #"))
}

/// A value without quotes, up to a comment.
fn plain(rest: &str) -> &str {
    let comment = rest.char_indices().find(|(at, character)| {
        *character == '#'
            && rest.get(..*at).is_some_and(|it| it.is_empty() || it.ends_with([' ', '\t']))
    });
    rest.get(..comment.map_or(rest.len(), |(at, _)| at)).unwrap_or(rest).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_read_back() {
        assert_eq!(escaped("say \"hi\" | ü\n"), "say |22hi|22 |7C ü|0A");
        let text = format!("displayName = \"{}\"", escaped("say \"hi\" | ü\n"));
        let dictionary = Dictionary::read(&text).unwrap();
        assert_eq!(dictionary.text("displayname").unwrap().unwrap(), "say \"hi\" | ü\n");
    }

    #[test]
    fn values_with_and_without_quotes_and_comments() {
        for (line, value) in [
            ("a = \"b\"", "b"),
            ("a=b", "b"),
            ("  a\t=  b c  # comment", "b c"),
            ("a = \"b # c\" # d", "b # c"),
            ("a = b#c", "b#c"),
            ("a =", ""),
            ("a = # only a comment", ""),
            ("\u{feff}a = \"b\"\r\n", "b"),
        ] {
            let dictionary = Dictionary::read(line).unwrap();
            let entry = dictionary.get("a").unwrap();
            assert_eq!(entry.value, value, "{line:?}");
            assert_eq!(&line[entry.value_span.clone()], value, "{line:?}");
            assert_eq!(&line[entry.key_span()], "a", "{line:?}");
        }
    }
}
