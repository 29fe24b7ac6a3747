//! XML as a tree of which it is known where each thing is in the text.

use std::ops::Range;

use roxmltree::{Document, ParsingOptions};

use super::bounds;
use crate::error::Problem;

/// How many nodes a text may have: elements, and the texts and comments between them. A device takes about ten; this is a
/// hundred times a domain of two thousand devices, in less than 200 MiB.
const MAX_NODES: u32 = 1 << 21;

/// An element.
pub(super) type Node<'d> = roxmltree::Node<'d, 'd>;

/// An attribute, and where its value is.
#[derive(Clone, Debug)]
pub(super) struct Attr<'d> {
    /// The value, with entities replaced.
    pub(super) value: &'d str,
    /// Where the value is, without its quotes.
    pub(super) span: Range<usize>,
}

impl Attr<'_> {
    /// A problem of the value.
    pub(super) fn refuse(&self, what: impl Into<String>) -> Problem {
        Problem::new(self.span.clone(), what)
    }

    /// The start of the value, for an error's text.
    pub(super) fn short(&self) -> String {
        short(self.value)
    }
}

/// The start of a text that may be long.
pub(super) fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Makes a tree of a text.
///
/// # Errors
/// It is no XML, or beyond a bound.
pub(super) fn parse(text: &str) -> Result<Document<'_>, Problem> {
    bounds::check(text)?;
    let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| refused(text, &error))
}

fn refused(text: &str, error: &roxmltree::Error) -> Problem {
    let at = error.pos();
    let place = format!(" at {at}");
    let why = error.to_string();
    let why = why.strip_suffix(&place).unwrap_or(&why);
    let start = byte_at(text, at.row, at.col);
    let problem = Problem::new(start..start + 1, format!("this is no XML: {why}"));
    match error {
        roxmltree::Error::UnknownEntityReference(..) => problem.help(
            "without a document type there are five entities: &amp; &lt; &gt; &quot; &apos;, and numbers such as &#233;",
        ),
        _ => problem,
    }
}

/// Where line and column, counted from 1 in characters, are in bytes.
fn byte_at(text: &str, row: u32, column: u32) -> usize {
    let nth = |number: u32| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    let line: usize = text.split_inclusive('\n').take(nth(row)).map(str::len).sum();
    let before = text.get(line..).unwrap_or_default().chars().take(nth(column));
    line + before.map(char::len_utf8).sum::<usize>()
}

/// Whether it is the element `name`. libvirt's own elements are in no namespace.
pub(super) fn is(node: Node<'_>, name: &str) -> bool {
    node.is_element() && node.tag_name().namespace().is_none() && node.tag_name().name() == name
}

/// The elements in it.
pub(super) fn elements<'d>(node: Node<'d>) -> impl Iterator<Item = Node<'d>> {
    node.children().filter(Node::is_element)
}

/// The elements `name` in it.
pub(super) fn all<'d>(node: Node<'d>, name: &str) -> impl Iterator<Item = Node<'d>> {
    node.children().filter(move |child| is(*child, name))
}

/// The first element `name` in it.
pub(super) fn child<'d>(node: Node<'d>, name: &str) -> Option<Node<'d>> {
    all(node, name).next()
}

/// The attribute `name`.
pub(super) fn attr<'d>(node: Node<'d>, name: &str) -> Option<Attr<'d>> {
    let attribute = node.attribute_node(name)?;
    let range = attribute.range();
    // Neither name nor equals sign has a quote, so the first one opens the value.
    let text = node.document().input_text().get(range.clone()).unwrap_or_default();
    let open = text.find(['"', '\'']).unwrap_or(0) + 1;
    let end = range.end.saturating_sub(1);
    Some(Attr { value: attribute.value(), span: (range.start + open).min(end)..end })
}

/// All text in an element, without the whitespace around it. Comments in between count for nothing.
pub(super) fn content(node: Node<'_>) -> String {
    let texts = node.children().filter(Node::is_text).filter_map(|text| text.text());
    texts.collect::<String>().trim().to_owned()
}

/// Where an element's opening tag is.
pub(super) fn tag(node: Node<'_>) -> Range<usize> {
    let range = node.range();
    let text = node.document().input_text();
    let after = node.attributes().map(|attribute| attribute.range().end).max();
    // Attribute values may have a `>`; behind the last of them there is none but the tag's own.
    let from = after.unwrap_or(range.start);
    let end = text.get(from..range.end).and_then(|rest| rest.find('>'));
    range.start..end.map_or(range.end, |found| from + found + 1)
}

/// Whether an element is closed in its own tag: `<devices/>`.
pub(super) fn is_closed(node: Node<'_>) -> bool {
    let tag = tag(node);
    node.document().input_text().get(tag).is_some_and(|text| text.ends_with("/>"))
}
