//! Edits to the text, each in one place. Everything else is kept as it is.
//!
//! A new entry follows the style of the last one in its list, and a new key that of its neighbours:
//!
//! ```text
//!   usbdev = [ 'a', 'b' ]        one line:     , 'c' after the last
//!   usbdev = [
//!       'a',   # a stick         one per line: a new line with the indentation of the last,
//!   ]                                          and a comma if the last has one
//!   usbdev = []                  empty:        'c' between the brackets
//! ```

use std::ops::Range;

use super::entry::with_values;
use super::grammar::{Setting, Value, ValueKind};
use super::read::{self, KEYS};
use super::settings::Settings;
use crate::libxl::edit::{EditableText, NumericKey};
use crate::libxl::express::{CtrlEntry, DevEntry};
use crate::libxl::interpret;
use crate::libxl::structs::Usb;
use crate::splice::line_start;

/// A configuration that is being edited.
pub(super) struct Cfg(pub(super) String);

impl EditableText for Cfg {
    const NUMBERED: bool = false;

    fn usb(&self) -> Result<Usb, String> {
        let read = || read::usb(&self.0).map_err(|problem| interpret::one_line(problem, &self.0));
        match interpret::refusal(read()?, &self.0) {
            Some(refused) => Err(refused),
            None => read(),
        }
    }

    fn add_ctrl(&mut self, _: u16, entry: CtrlEntry) {
        self.add_entry("usbctrl", &ctrl_entry("", entry));
    }

    fn set_ctrl(&mut self, position: usize, entry: CtrlEntry) {
        self.set_entry("usbctrl", position, |text| ctrl_entry(text, entry));
    }

    fn remove_ctrl(&mut self, entry: usize) {
        self.remove_entry("usbctrl", entry);
    }

    fn add_dev(&mut self, entry: DevEntry) {
        self.add_entry("usbdev", &dev_entry(entry));
    }

    fn set_dev(&mut self, entry: usize, ctrl: u16, port: u8) {
        let values = [("controller", ctrl.to_string()), ("port", port.to_string())];
        self.set_entry("usbdev", entry, |text| with_values(text, &values));
    }

    fn remove_dev(&mut self, entry: usize) {
        self.remove_entry("usbdev", entry);
    }

    fn add_usbdevice(&mut self, word: &str) {
        self.usbdevice_as_list();
        self.add_entry("usbdevice", word);
    }

    fn remove_usbdevice(&mut self, entry: usize) {
        self.usbdevice_as_list();
        self.remove_entry("usbdevice", entry);
    }

    fn set(&mut self, number: NumericKey, value: Option<i64>) {
        let key = match number {
            NumericKey::Usb => "usb",
            NumericKey::Usbversion => "usbversion",
            NumericKey::Redirection => "spiceusbredirection",
        };
        self.set_number(key, value);
    }
}

/// An entry of `usbctrl` with every value given. An equivalent type keeps its spelling.
fn ctrl_entry(text: &str, entry: CtrlEntry) -> String {
    let old = super::entry::pairs(text).filter(|pair| pair.key == "type").last();
    let is_pv = |name: &str| matches!(name, "pv" | "qusb");
    let ctrl_type = old
        .and_then(|pair| pair.value)
        .filter(|old| is_pv(&old.to_ascii_lowercase()) && is_pv(entry.ctrl_type.name()))
        .unwrap_or(entry.ctrl_type.name())
        .to_owned();
    let values = [
        ("type", ctrl_type),
        ("version", entry.version.to_string()),
        ("ports", entry.ports.to_string()),
    ];
    with_values(text, &values)
}

/// An entry of `usbdev` with every value given.
pub(super) fn dev_entry(entry: DevEntry) -> String {
    let DevEntry { hostbus, hostaddr, ctrl, port } = entry;
    format!("type=hostdev,hostbus={hostbus},hostaddr={hostaddr},controller={ctrl},port={port}")
}

/// A new entry of `usbctrl`.
pub(super) fn new_ctrl_entry(entry: CtrlEntry) -> String {
    ctrl_entry("", entry)
}

impl Cfg {
    /// The settings. The text was read before, so it can be parsed.
    fn settings(&self) -> Settings<'_> {
        Settings::read(&self.0).unwrap_or(Settings { all: Vec::new() })
    }

    fn replace(&mut self, span: Range<usize>, new: &str) {
        if self.0.get(span.clone()).is_some() {
            self.0.replace_range(span, new);
        }
    }

    /// Appends an entry to a list, which is created if it is missing.
    fn add_entry(&mut self, key: &str, entry: &str) {
        let settings = self.settings();
        let quote = style_quote(&self.0, &settings).unwrap_or('\'');
        let last_part = settings.get(key).and_then(|found| Some(&found.parts.last()?.value));
        let Some(Value { span, kind: ValueKind::List(values) }) = last_part else {
            let list = new_list(&self.0, &settings, &quoted(entry, quote));
            return self.add_setting(key, &list);
        };
        let (list, last) = (span.clone(), values.last());
        let text = quoted(entry, quote_of(&self.0, last).unwrap_or(quote));
        match last.map(|last| last.span.clone()) {
            Some(last) => self.add_after(last, list, &text),
            None => self.add_first(list, &text),
        }
    }

    /// Adds an entry after the `last` one of a list.
    fn add_after(&mut self, last: Range<usize>, list: Range<usize>, entry: &str) {
        let layout = Layout::of(&self.0, &last, &list);
        let Some(indent) =
            layout.indent.map(|indent| self.0.get(indent).unwrap_or_default().to_owned())
        else {
            // Everything is on one line.
            let separator = separator(&self.0, &list, &last).to_owned();
            return match layout.comma {
                Some(comma) => self.replace(comma..comma, &format!("{separator}{entry},")),
                None => self.replace(last.end..last.end, &format!(",{separator}{entry}")),
            };
        };
        let line = if layout.comma.is_some() {
            format!("\n{indent}{entry},")
        } else {
            format!("\n{indent}{entry}")
        };
        let end = layout.comma.unwrap_or(last.end);
        let at = rest_of_line(&self.0, end).unwrap_or(end);
        self.replace(at..at, &line);
        if layout.comma.is_none() {
            self.replace(last.end..last.end, ",");
        }
    }

    /// Adds the first entry of an empty list.
    fn add_first(&mut self, list: Range<usize>, entry: &str) {
        let inner = list.start + 1..list.end - 1;
        let between = self.0.get(inner.clone()).unwrap_or_default();
        if !between.contains('\n') {
            let pad = if between.is_empty() { "" } else { " " };
            return self.replace(inner, &format!("{pad}{entry}{pad}"));
        }
        // The closing bracket is usually on its own line.
        let line = line_start(&self.0, inner.end);
        let own = self.0.get(line..inner.end).filter(|before| before.trim().is_empty());
        match own.map(str::to_owned) {
            Some(indent) => self.replace(line..line, &format!("{indent}    {entry},\n")),
            None => self.replace(inner.end..inner.end, &format!(" {entry} ")),
        }
    }

    /// Replaces an entry by the result of `change`.
    fn set_entry(&mut self, key: &str, entry: usize, change: impl Fn(&str) -> String) {
        let settings = self.settings();
        let found = settings.get(key).and_then(|found| found.list());
        let Some(value) = found.and_then(|list| list.get(entry).copied()) else { return };
        let ValueKind::Atom(text) = &value.kind else { return };
        let changed = change(text);
        if changed != *text {
            let quote = quote_of(&self.0, Some(value)).unwrap_or('\'');
            let span = value.span.clone();
            self.replace(span, &quoted(&changed, quote));
        }
    }

    /// Removes an entry. The key is removed with the last entry if nothing else is on its lines.
    fn remove_entry(&mut self, key: &str, entry: usize) {
        let settings = self.settings();
        let Some(found) = settings.get(key) else { return };
        let mut left = entry;
        for setting in &found.parts {
            let ValueKind::List(values) = &setting.value.kind else { return };
            let Some(value) = values.get(left) else {
                left -= values.len();
                continue;
            };
            let (value, list) = (value.span.clone(), setting.value.span.clone());
            let before = left.checked_sub(1).and_then(|it| values.get(it)).map(|it| it.span.end);
            let single = values.len() == 1;
            if single && settings.overridden(key).is_none() && found.parts.len() == 1 {
                if let Some(lines) = exclusive_lines(&self.0, setting) {
                    return self.replace(lines, "");
                }
            }
            let inner = self.0.get(list.start + 1..list.end - 1).unwrap_or_default();
            if single && !inner.contains('\n') {
                return self.replace(list, "[ ]");
            }
            let is_last = left + 1 == values.len();
            return self.cut(value, &list, before.filter(|_| is_last));
        }
    }

    /// Removes an entry from its list. `before` is the end of the previous entry if this is the
    /// last one: the previous entry then becomes the last, and keeps a comma only if this one had
    /// one.
    fn cut(&mut self, value: Range<usize>, list: &Range<usize>, before: Option<usize>) {
        let layout = Layout::of(&self.0, &value, list);
        let end = layout.comma.unwrap_or(value.end);
        let comma = before
            .filter(|_| layout.comma.is_none())
            .and_then(|before| comma_after(&self.0, before..value.start))
            .map_or(0..0, |end| end - 1..end);
        if let Some((indent, rest)) = layout.indent.zip(rest_of_line(&self.0, end)) {
            // An entry on its own line is removed with the line.
            self.replace(indent.start..(rest + 1).min(self.0.len()), "");
            return self.replace(comma, "");
        }
        let between = |from: usize| self.0.get(from..value.start).unwrap_or_default();
        match before {
            // Remove the comma before it as well; a comma after it stays.
            Some(before) if !between(before).contains('#') => {
                self.replace(before..value.end, "");
            }
            _ => {
                let after = self.0.get(end..).unwrap_or_default();
                let spaces = after.len() - after.trim_start_matches([' ', '\t']).len();
                self.replace(value.start..end + spaces, "");
                self.replace(comma, "");
            }
        }
    }

    /// Replaces a string by a list, to which entries can be added.
    fn usbdevice_as_list(&mut self) {
        let settings = self.settings();
        let Some(found) = settings.get("usbdevice") else { return };
        if let ([one], Some(_)) = (found.parts.as_slice(), found.text()) {
            let span = one.value.span.clone();
            let value = self.0.get(span.clone()).unwrap_or_default();
            let list = format!("[ {value} ]");
            self.replace(span, &list);
        }
    }

    fn set_number(&mut self, key: &str, value: Option<i64>) {
        let settings = self.settings();
        let Some(found) = settings.get(key) else {
            if let Some(value) = value {
                self.add_setting(key, &value.to_string());
            }
            return;
        };
        let now = found.text().and_then(|text| super::number::strtol_exact(&text));
        if now.unwrap_or(0) == value.unwrap_or(0) {
            return;
        }
        let [setting] = found.parts.as_slice() else { return };
        let span = setting.value.span.clone();
        match value {
            Some(value) => self.replace(span, &value.to_string()),
            None => match exclusive_lines(&self.0, setting)
                .filter(|_| settings.overridden(key).is_none())
            {
                Some(lines) => self.replace(lines, ""),
                None => self.replace(span, "0"),
            },
        }
    }

    /// Adds a key on a new line: `usbdev` after `usbctrl`, any other key after the last one about
    /// USB, and at the end if there is no such key.
    fn add_setting(&mut self, key: &str, value: &str) {
        let settings = self.settings();
        let of = |key: &str| settings.all.iter().rposition(|setting| setting.key == key);
        let after_ctrl = if key == "usbdev" { of("usbctrl") } else { None };
        let after = after_ctrl.or(KEYS.iter().filter_map(|key| of(key)).max());
        let like = after.or(settings.all.len().checked_sub(1)).and_then(|at| settings.all.get(at));
        let equals = like.and_then(|it| self.0.get(it.key_span.end..it.value.span.start));
        let equals =
            equals.map_or(" = ", |it| if it.starts_with([' ', '\t']) { " = " } else { "=" });
        let line = format!("{key}{equals}{value}");
        match after {
            Some(after) => {
                let at = end_of_lines(&self.0, &settings, after);
                self.replace(at..at, &format!("\n{line}"));
            }
            None if self.0.is_empty() || self.0.ends_with('\n') => self.0 += &format!("{line}\n"),
            None => self.0 += &format!("\n{line}"),
        }
    }
}

/// A list of one entry, with or without spaces inside its brackets, like the last list in the text.
fn new_list(text: &str, settings: &Settings<'_>, entry: &str) -> String {
    let is_list =
        |it: &&Setting<'_>| matches!(&it.value.kind, ValueKind::List(all) if !all.is_empty());
    let like = settings.all.iter().rev().find(is_list).map(|it| &it.value.span);
    let inside = like.and_then(|span| text.get(span.start + 1..span.end));
    if inside.is_some_and(|inside| !inside.starts_with([' ', '\t', '\n'])) {
        format!("[{entry}]")
    } else {
        format!("[ {entry} ]")
    }
}

/// The position of an entry in the layout of its list.
struct Layout {
    /// The white space before it, if it is the first on its line.
    indent: Option<Range<usize>>,
    /// The end of the comma after it, if there is one.
    comma: Option<usize>,
}

impl Layout {
    fn of(text: &str, value: &Range<usize>, list: &Range<usize>) -> Layout {
        let start = line_start(text, value.start);
        let before = text.get(start..value.start).unwrap_or_default();
        let indent = (start > list.start && before.trim().is_empty()).then_some(start..value.start);
        Layout { indent, comma: comma_after(text, value.end..list.end) }
    }
}

/// The text between a comma and the next entry, in a list that is all on one line.
fn separator<'t>(text: &'t str, list: &Range<usize>, last: &Range<usize>) -> &'t str {
    let before = text.get(list.start..last.start).unwrap_or_default();
    let separator = before.rfind(',').and_then(|comma| before.get(comma + 1..));
    separator.filter(|separator| separator.chars().all(|it| it == ' ' || it == '\t')).unwrap_or(" ")
}

/// The end of the next comma in this part of a list, skipping newlines and comments.
fn comma_after(text: &str, part: Range<usize>) -> Option<usize> {
    let mut at = part.start;
    let rest = |at: usize| text.get(at..part.end).unwrap_or_default();
    loop {
        match rest(at).bytes().next()? {
            b',' => return Some(at + 1),
            b' ' | b'\t' | b'\n' => at += 1,
            b'#' => at += rest(at).find('\n')?,
            _ => return None,
        }
    }
}

/// The end of the line, if only white space and a comment come before it.
fn rest_of_line(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let line = rest.find('\n').unwrap_or(rest.len());
    let content = rest.get(..line)?.trim_start_matches([' ', '\t']);
    (content.is_empty() || content.starts_with('#')).then_some(at + line)
}

/// The lines of an assignment, including the newline, if they contain no other assignment and no
/// comment.
fn exclusive_lines(text: &str, setting: &Setting<'_>) -> Option<Range<usize>> {
    let span = setting.span();
    let start = line_start(text, span.start);
    let alone = text.get(start..span.start)?.trim().is_empty();
    let end = rest_of_line(text, span.end).filter(|_| alone)?;
    let has_comment = text.get(span.end..end)?.contains('#') || text.get(span)?.contains('#');
    if has_comment {
        return None;
    }
    if end < text.len() {
        return Some(start..end + 1);
    }
    // This is the last line and it has no newline: the previous line becomes the last.
    Some(start.saturating_sub(1)..end)
}

/// The end of the line on which the assignment ends, or of the last assignment that shares lines
/// with it.
fn end_of_lines(text: &str, settings: &Settings<'_>, number: usize) -> usize {
    let mut end = text.len();
    for (at, setting) in settings.all.iter().enumerate().skip(number) {
        let rest = text.get(setting.value.span.end..).unwrap_or_default();
        end = setting.value.span.end + rest.find('\n').unwrap_or(rest.len());
        let next = settings.all.get(at + 1);
        if next.is_none_or(|next| next.key_span.start > end) {
            break;
        }
    }
    end
}

/// The quote character of a value.
fn quote_of(text: &str, value: Option<&Value<'_>>) -> Option<char> {
    let first = text.get(value?.span.start..)?.chars().next()?;
    matches!(first, '\'' | '"').then_some(first)
}

/// The quote character of the last list in the text, or of any string in it.
fn style_quote(text: &str, settings: &Settings<'_>) -> Option<char> {
    let in_list = |setting: &Setting<'_>| match &setting.value.kind {
        ValueKind::List(values) => quote_of(text, values.last()),
        ValueKind::Atom(_) => None,
    };
    let any = |setting: &Setting<'_>| quote_of(text, Some(&setting.value));
    let lists = settings.all.iter().rev().find_map(in_list);
    lists.or_else(|| settings.all.iter().rev().find_map(any))
}

/// A string in quotes.
pub(super) fn quoted(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for char in text.chars() {
        match char {
            '\n' => out += "\\n",
            '\\' => out += "\\\\",
            _ if char == quote => {
                out.push('\\');
                out.push(char);
            }
            _ => out.push(char),
        }
    }
    out.push(quote);
    out
}
