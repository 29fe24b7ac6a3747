//! Edits of a text by its tree that keep every other byte.
//!
//! **A new element** is inserted after another one and the comments that follow that on its line.
//! If its neighbours have lines of their own, it gets one too, with their indentation and quotes.
//! Otherwise it directly follows its neighbour.
//!
//! **A removed element** is removed with its line if nothing else is on that line. Comments and
//! other elements stay. As a result, adding an element and removing it again restores the original
//! text.

use std::ops::Range;

use super::element::{Element, Style, escaped};
use super::{Node, attr, elements};
use crate::splice::{Splices, line_start};

/// The edits so far.
pub(crate) struct TreeEdits<'t> {
    text: &'t str,
    splices: Splices,
}

impl<'t> TreeEdits<'t> {
    pub(crate) fn new(text: &'t str) -> TreeEdits<'t> {
        TreeEdits { text, splices: Splices::default() }
    }

    /// The edited text.
    pub(crate) fn finish(self) -> String {
        self.splices.apply(self.text)
    }

    /// Removes an element.
    pub(crate) fn remove(&mut self, node: Node<'_>) {
        self.splices.remove(removal_span(self.text, node.range()));
    }

    /// Removes an attribute with the white space before it.
    pub(crate) fn remove_attribute(&mut self, node: Node<'_>, name: &str) {
        let Some(attribute) = node.attribute_node(name) else { return };
        let range = attribute.range();
        let before = self.text.get(..range.start).unwrap_or_default();
        self.splices.remove(before.trim_end().len()..range.end);
    }

    /// Removes everything in an element, which becomes `<devices/>`.
    pub(crate) fn empty(&mut self, node: Node<'_>) {
        let end = super::tag(node).end;
        self.splices.replace(end.saturating_sub(1)..node.range().end, "/>");
    }

    /// Sets attributes of an element. New ones are added after the last attribute.
    pub(crate) fn set_attributes(&mut self, node: Node<'_>, wanted: &[(&str, String)]) {
        let quote = quote_of(self.text, node);
        let mut more = String::new();
        for (name, value) in wanted {
            match attr(node, name) {
                Some(old) if old.value == value => {}
                Some(old) => {
                    self.splices.replace(old.span, escaped(value, Some(quote)));
                }
                None => {
                    let value = escaped(value, Some(quote));
                    more.push_str(&format!(" {name}={quote}{value}{quote}"));
                }
            }
        }
        if more.is_empty() {
            return;
        }
        let last = node.attributes().map(|attribute| attribute.range().end).max();
        let at = last.unwrap_or(node.range().start + 1 + node.tag_name().name().len());
        self.splices.insert(at, more);
    }

    /// Adds elements at the end of `parent`.
    pub(crate) fn append(&mut self, parent: Node<'_>, new: &[Element]) {
        if new.is_empty() {
            return;
        }
        if !super::is_self_closing(parent) {
            return self.insert_after(parent, elements(parent).last(), new);
        }
        // <devices/> becomes <devices>...</devices>.
        let tag = super::tag(parent);
        let indent = indent_of(self.text, tag.start);
        let style = style(self.text, parent, indent.is_some());
        let outer = indent.unwrap_or_default();
        let inner = indent.map_or_else(String::new, |outer| format!("{outer}{}", style.unit));
        let line = |element: &Element| {
            format!("{}{inner}{}", style.newline, element.render(&style, &inner))
        };
        let lines: String = new.iter().map(line).collect();
        let text = format!(">{lines}{}{outer}</{}>", style.newline, name_in(self.text, parent));
        let slash = tag.end.saturating_sub(2);
        let opening = self.text.get(tag.start..slash).unwrap_or_default();
        let start = tag.start + opening.trim_end().len();
        self.splices.replace(start..tag.end, text);
    }

    /// Adds elements to `parent`, after its child `after` or as the first.
    pub(crate) fn insert_after(
        &mut self,
        parent: Node<'_>,
        after: Option<Node<'_>>,
        new: &[Element],
    ) {
        let from = after.map_or(super::tag(parent).end, |after| after.range().end);
        let line_end = end_of_line(self.text, from);
        let style = style(self.text, after.unwrap_or(parent), line_end.is_some());
        let (at, text) = match line_end {
            Some(at) => {
                let indent = self.indent_in(parent, after, &style);
                let line = |element: &Element| {
                    format!("{indent}{}{}", element.render(&style, &indent), style.newline)
                };
                (at, new.iter().map(line).collect::<String>())
            }
            None => (from, new.iter().map(|element| element.render(&style, "")).collect()),
        };
        self.splices.insert(at, text);
    }

    /// The indentation of the elements in `parent`: that of the preceding one, of any other, or one
    /// level more than `parent`.
    fn indent_in(&self, parent: Node<'_>, after: Option<Node<'_>>, style: &Style) -> String {
        let existing = after.into_iter().chain(elements(parent));
        let existing =
            existing.into_iter().find_map(|node| indent_of(self.text, node.range().start));
        existing.map(str::to_owned).unwrap_or_else(|| {
            let line = line_start(self.text, parent.range().start);
            let rest = self.text.get(line..).unwrap_or_default();
            let outer = rest.len() - rest.trim_start_matches([' ', '\t']).len();
            format!("{}{}", rest.get(..outer).unwrap_or_default(), style.unit)
        })
    }
}

/// The name of an element as written, with its namespace prefix.
fn name_in<'t>(text: &'t str, node: Node<'_>) -> &'t str {
    let rest = text.get(node.range().start + 1..).unwrap_or_default();
    rest.split(|end: char| end.is_whitespace() || end == '/' || end == '>')
        .next()
        .unwrap_or_default()
}

/// The span to delete with an element: its lines, if nothing else is on them.
fn removal_span(text: &str, element: Range<usize>) -> Range<usize> {
    let start = line_start(text, element.start);
    let after = text.get(element.end..).unwrap_or_default();
    let rest = after.trim_start_matches([' ', '\t']);
    let line_end = ["\r\n", "\n"].into_iter().find(|end| rest.starts_with(end));
    match line_end {
        Some(end) if indent_of(text, element.start).is_some() => {
            start..element.end + (after.len() - rest.len()) + end.len()
        }
        _ => element,
    }
}

/// The text before `at` on its line, if it consists of spaces and tabs.
fn indent_of(text: &str, at: usize) -> Option<&str> {
    let before = text.get(line_start(text, at)..at)?;
    before.bytes().all(|byte| byte == b' ' || byte == b'\t').then_some(before)
}

/// The start of the next line, if only spaces and comments precede it. A comment belongs to the
/// element before it.
fn end_of_line(text: &str, from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let rest = text.get(at..)?;
        let line = rest.trim_start_matches([' ', '\t']);
        at += rest.len() - line.len();
        if let Some(end) = ["\r\n", "\n"].into_iter().find(|end| line.starts_with(end)) {
            return Some(at + end.len());
        }
        if !line.starts_with("<!--") {
            return None;
        }
        let inside = line.get("<!--".len()..)?;
        at += "<!--".len() + inside.find("-->")? + "-->".len();
    }
}

/// The style around an element. `lines` is whether new elements get lines of their own.
fn style(text: &str, near: Node<'_>, lines: bool) -> Style {
    let newline = if lines { newline_at(text, near.range().end) } else { "" };
    Style { quote: quote_of(text, near), unit: unit_of(text, near), newline }
}

/// The first line ending after `at`, or else the first one of the text.
fn newline_at(text: &str, at: usize) -> &'static str {
    let after = text.get(at..).unwrap_or_default();
    let newline = after.find('\n').map(|found| at + found).or_else(|| text.find('\n'));
    match newline {
        Some(newline) if text.get(..newline).is_some_and(|line| line.ends_with('\r')) => "\r\n",
        _ => "\n",
    }
}

/// The quote of the attributes near an element: of its first, or of one of its ancestors.
fn quote_of(text: &str, near: Node<'_>) -> char {
    let first = near.ancestors().find_map(|node| node.attributes().next());
    let value = first.and_then(|attribute| text.get(attribute.range()));
    value.and_then(|value| value.chars().next_back()).filter(|quote| *quote == '"').unwrap_or('\'')
}

/// One level of indentation near an element: the difference between an element and its parent.
fn unit_of(text: &str, near: Node<'_>) -> String {
    let step = |node: Node<'_>| {
        let outer = indent_of(text, node.parent_element()?.range().start)?;
        let inner = indent_of(text, node.range().start)?;
        inner.strip_prefix(outer).filter(|step| !step.is_empty()).map(str::to_owned)
    };
    let inside = elements(near).find_map(step);
    inside.or_else(|| near.ancestors().find_map(step)).unwrap_or_else(|| "  ".to_owned())
}
