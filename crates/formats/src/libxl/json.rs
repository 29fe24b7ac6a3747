//! JSON with the span of every value, and edits to it.
//!
//! Only the values that are needed are parsed, one level at a time. serde_json checks and skips the
//! rest, so nothing here recurses into untrusted input.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde_json::value::RawValue;

use crate::error::Problem;

/// The span of a value that is known to be valid JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node(pub(super) Range<usize>);

/// A member of an object, from its key to the end of its value.
#[derive(Clone, Debug)]
pub(super) struct Member<'t> {
    pub(super) key: Cow<'t, str>,
    pub(super) span: Range<usize>,
    pub(super) value: Node,
}

impl Node {
    /// The whole text.
    ///
    /// # Errors
    /// It is not JSON.
    pub(super) fn whole(text: &str) -> Result<Node, Problem> {
        let raw: &RawValue =
            serde_json::from_str(text).map_err(|error| syntax_error(text, &error))?;
        Ok(Node(span_of(text, raw.get())))
    }

    pub(super) fn text<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.0.clone()).unwrap_or_default()
    }

    pub(super) fn is_object(&self, text: &str) -> bool {
        self.text(text).starts_with('{')
    }

    pub(super) fn is_array(&self, text: &str) -> bool {
        self.text(text).starts_with('[')
    }

    /// The members of an object, in order; empty if this is not an object.
    pub(super) fn members<'t>(&self, text: &'t str) -> Vec<Member<'t>> {
        let Pairs(pairs) = serde_json::from_str(self.text(text)).unwrap_or_default();
        let mut end = self.0.start + 1;
        let member = |(key, raw): (Cow<'t, str>, &'t RawValue)| {
            let value = span_of(text, raw.get());
            let between = text.get(end..value.start).unwrap_or_default();
            let start = end + between.find('"').unwrap_or(0);
            end = value.end;
            Member { key, span: start..value.end, value: Node(value) }
        };
        pairs.into_iter().map(member).collect()
    }

    /// The value of this key. The last of duplicate keys takes precedence.
    pub(super) fn get(&self, text: &str, key: &str) -> Option<Node> {
        self.members(text).into_iter().rfind(|member| member.key == key).map(|member| member.value)
    }

    /// The elements of an array, in order; empty if this is not an array.
    pub(super) fn elements(&self, text: &str) -> Vec<Node> {
        let raw: Vec<&RawValue> = serde_json::from_str(self.text(text)).unwrap_or_default();
        raw.into_iter().map(|raw| Node(span_of(text, raw.get()))).collect()
    }

    pub(super) fn integer(&self, text: &str) -> Option<i64> {
        serde_json::from_str(self.text(text)).ok()
    }

    pub(super) fn string(&self, text: &str) -> Option<String> {
        serde_json::from_str(self.text(text)).ok()
    }
}

/// The span of `part`, which must be a slice of `text`.
fn span_of(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    start..start + part.len()
}

/// A syntax error as a problem.
fn syntax_error(text: &str, error: &serde_json::Error) -> Problem {
    let line = error.line().saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let at = (start + error.column().saturating_sub(1)).min(text.len());
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    Problem::new(at..at + 1, format!("this is not JSON: {message}"))
}

/// The members of an object.
#[derive(Default)]
struct Pairs<'t>(Vec<(Cow<'t, str>, &'t RawValue)>);

impl<'de> serde::Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// A value to write.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Number(i64),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(&'static str, Tree)>),
}

/// The layout of a text.
struct Style {
    /// The indentation of one level; `None` if everything is on one line.
    unit: Option<String>,
    /// The separator between a key and its value.
    colon: &'static str,
    /// The separator between two values on one line.
    comma: &'static str,
}

impl Style {
    fn of(text: &str) -> Style {
        let mut lines = text.lines().filter_map(|line| {
            let length = line.len() - line.trim_start_matches([' ', '\t']).len();
            line.get(..length).filter(|indent| !indent.is_empty() && indent.len() < line.len())
        });
        let colon = if text.contains("\": ") || text.len() < 3 { ": " } else { ":" };
        let comma = if colon == ": " { ", " } else { "," };
        let one_line = !text.trim().contains('\n');
        let unit = lines.next().map(str::to_owned);
        Style { unit: unit.or(Some("    ".to_owned())).filter(|_| !one_line), colon, comma }
    }

    /// Renders the value. Lines after the first are indented by `indent`.
    fn write(&self, tree: &Tree, indent: &str) -> String {
        let inner = |open: char, all: Vec<String>, close: char| match (&self.unit, all.is_empty()) {
            (_, true) => format!("{open}{close}"),
            (None, _) => format!("{open}{}{close}", all.join(self.comma)),
            (Some(unit), _) => {
                let lines = all.join(&format!(",\n{indent}{unit}"));
                format!("{open}\n{indent}{unit}{lines}\n{indent}{close}")
            }
        };
        let deeper = format!("{indent}{}", self.unit.as_deref().unwrap_or_default());
        match tree {
            Tree::Number(number) => number.to_string(),
            Tree::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Tree::List(all) => {
                inner('[', all.iter().map(|it| self.write(it, &deeper)).collect(), ']')
            }
            Tree::Object(all) => {
                let member = |(key, it): &(&str, Tree)| {
                    format!("\"{key}\"{}{}", self.colon, self.write(it, &deeper))
                };
                inner('{', all.iter().map(member).collect(), '}')
            }
        }
    }
}

/// Renders a whole text in libxl's own layout.
pub(super) fn pretty(tree: &Tree) -> String {
    let style = Style { unit: Some("    ".to_owned()), colon: ": ", comma: ", " };
    style.write(tree, "") + "\n"
}

/// Appends an element to an array.
pub(super) fn push(text: &mut String, array: &Node, new: &Tree) {
    let children: Vec<Range<usize>> = array.elements(text).into_iter().map(|node| node.0).collect();
    insert(text, array, &children, |style, indent| style.write(new, indent));
}

/// Sets a member, which is added if it is missing.
pub(super) fn set(text: &mut String, object: &Node, key: &str, new: &Tree) {
    if let Some(old) = object.get(text, key) {
        let style = Style::of(text);
        let indent = indent_of(text, old.0.start).to_owned();
        let new = style.write(new, &indent);
        text.replace_range(old.0, &new);
        return;
    }
    let children: Vec<Range<usize>> =
        object.members(text).into_iter().map(|member| member.span).collect();
    insert(text, object, &children, |style, indent| {
        format!("\"{key}\"{}{}", style.colon, style.write(new, indent))
    });
}

/// Removes an element of an array.
pub(super) fn remove_element(text: &mut String, array: &Node, number: usize) {
    let children: Vec<Range<usize>> = array.elements(text).into_iter().map(|node| node.0).collect();
    remove(text, array, &children, number);
}

/// Removes a member of an object, if it exists.
pub(super) fn remove_member(text: &mut String, object: &Node, key: &str) {
    let members = object.members(text);
    let Some(number) = members.iter().rposition(|member| member.key == key) else { return };
    let children: Vec<Range<usize>> = members.into_iter().map(|member| member.span).collect();
    remove(text, object, &children, number);
}

fn insert(
    text: &mut String,
    parent: &Node,
    children: &[Range<usize>],
    new: impl Fn(&Style, &str) -> String,
) {
    let style = Style::of(text);
    let Some(last) = children.last() else {
        let outer = indent_of(text, parent.0.start).to_owned();
        let inner = parent.0.start + 1..parent.0.end.saturating_sub(1);
        let line = match &style.unit {
            Some(unit) => {
                let indent = format!("{outer}{unit}");
                format!("\n{indent}{}\n{outer}", new(&style, &indent))
            }
            None => new(&style, ""),
        };
        return text.replace_range(inner, &line);
    };
    let indent = indent_of(text, last.start);
    let own_line =
        text.get(..last.start).is_some_and(|before| before.ends_with(&format!("\n{indent}")));
    let line = if own_line {
        format!(",\n{indent}{}", new(&style, indent))
    } else {
        let flat = Style { unit: None, ..style };
        format!("{}{}", flat.comma, new(&flat, ""))
    };
    text.insert_str(last.end, &line);
}

fn remove(text: &mut String, parent: &Node, children: &[Range<usize>], number: usize) {
    let Some(child) = children.get(number) else { return };
    let before = number.checked_sub(1).and_then(|before| children.get(before));
    let span = match (before, children.get(number + 1)) {
        (Some(before), _) => before.end..child.end,
        (None, Some(after)) => child.start..after.start,
        (None, None) => parent.0.start + 1..parent.0.end.saturating_sub(1),
    };
    text.replace_range(span, "");
}

/// The leading white space of the line that contains the position `at`.
fn indent_of(text: &str, at: usize) -> &str {
    let before = text.get(..at).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(start..).unwrap_or_default();
    let length = line.len() - line.trim_start_matches([' ', '\t']).len();
    line.get(..length).unwrap_or_default()
}
