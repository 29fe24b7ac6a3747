//! XML as a tree whose nodes know their position in the text, and edits that keep every other byte.
//!
//! | module | contents |
//! |---|---|
//! | `bounds` | limits of size and depth, checked first |
//! | `element` | elements as text, in the style of their surroundings |
//! | `splicing` | edits of a text by its tree |

mod bounds;
pub(crate) mod element;
pub(crate) mod splicing;

use std::ops::Range;

use roxmltree::{Document, ParsingOptions};

use crate::error::Problem;

/// The highest number of nodes: elements, and the texts and comments between them. A device takes
/// about ten. This is ten times the number in a domain with two thousand devices.
const MAX_NODES: u32 = 1 << 18;

/// A node of the tree, usually an element.
pub(crate) type Node<'d> = roxmltree::Node<'d, 'd>;

/// An attribute.
#[derive(Clone, Debug)]
pub(crate) struct Attr<'d> {
    /// The value, with entities replaced.
    pub(crate) value: &'d str,
    /// The position of the value, without its quotes.
    pub(crate) span: Range<usize>,
}

impl Attr<'_> {
    /// A problem with the value.
    pub(crate) fn problem(&self, what: impl Into<String>) -> Problem {
        Problem::new(self.span.clone(), what)
    }

    /// The start of the value, for an error message.
    pub(crate) fn excerpt(&self) -> String {
        excerpt(self.value)
    }
}

/// The start of a text that may be long.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The words for a kind of text in messages.
pub(crate) struct Dialect {
    /// The text: `libvirt's XML`.
    pub(crate) text: &'static str,
    /// What it describes: `domain`.
    pub(crate) subject: &'static str,
    /// What writes such texts: `` `virsh dumpxml` ``.
    pub(crate) writer: &'static str,
    /// The start of the root element, `<domain`, and what to do about a second one.
    pub(crate) second: (&'static str, &'static str),
}

/// Parses a text.
///
/// # Errors
/// It is not well-formed, or exceeds a limit.
pub(crate) fn parse<'t>(text: &'t str, dialect: &Dialect) -> Result<Document<'t>, Problem> {
    bounds::check(text, dialect)?;
    let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| problem(text, &error, dialect))
}

fn problem(text: &str, error: &roxmltree::Error, dialect: &Dialect) -> Problem {
    let at = error.pos();
    let position = format!(" at {at}");
    let why = error.to_string();
    let why = why.strip_suffix(&position).unwrap_or(&why);
    let start = byte_at(text, at.row, at.col);
    // No element may follow the end of a document.
    let another = matches!(error, roxmltree::Error::UnknownToken(_));
    let (root, help) = dialect.second;
    if another && text.get(start..).is_some_and(|rest| rest.starts_with(root)) {
        let what = "a second document starts here, and only one can be read";
        return Problem::new(start..start + root.len(), what).help(help);
    }
    let problem = Problem::new(start..start + 1, format!("not well-formed XML: {why}"));
    match error {
        roxmltree::Error::UnknownEntityReference(..) => problem.help(
            "without a document type the only entities are &amp; &lt; &gt; &quot; &apos; and numbers such as &#233;",
        ),
        _ => problem,
    }
}

/// The byte position of a line and a column, which are counted from 1 in characters.
fn byte_at(text: &str, row: u32, column: u32) -> usize {
    let nth = |number: u32| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    let line: usize = text.split_inclusive('\n').take(nth(row)).map(str::len).sum();
    let before = text.get(line..).unwrap_or_default().chars().take(nth(column));
    line + before.map(char::len_utf8).sum::<usize>()
}

/// The child elements.
pub(crate) fn elements<'d>(node: Node<'d>) -> impl Iterator<Item = Node<'d>> {
    node.children().filter(Node::is_element)
}

/// The attribute with this name.
pub(crate) fn attr<'d>(node: Node<'d>, name: &str) -> Option<Attr<'d>> {
    let attribute = node.attribute_node(name)?;
    let range = attribute.range();
    // Neither the name nor the equals sign contains a quote, so the first quote opens the value.
    let text = node.document().input_text().get(range.clone()).unwrap_or_default();
    let open = text.find(['"', '\'']).unwrap_or(0) + 1;
    let end = range.end.saturating_sub(1);
    Some(Attr { value: attribute.value(), span: (range.start + open).min(end)..end })
}

/// All text in an element, trimmed. Comments in between are ignored.
pub(crate) fn content(node: Node<'_>) -> String {
    let texts = node.children().filter(Node::is_text).filter_map(|text| text.text());
    texts.collect::<String>().trim().to_owned()
}

/// The position of an element's opening tag.
pub(crate) fn tag(node: Node<'_>) -> Range<usize> {
    let range = node.range();
    let text = node.document().input_text();
    let after = node.attributes().map(|attribute| attribute.range().end).max();
    // Attribute values may contain `>`. After the last of them, the first `>` ends the tag.
    let from = after.unwrap_or(range.start);
    let end = text.get(from..range.end).and_then(|rest| rest.find('>'));
    range.start..end.map_or(range.end, |found| from + found + 1)
}

/// Whether an element has the form `<devices/>`.
pub(crate) fn is_self_closing(node: Node<'_>) -> bool {
    let tag = tag(node);
    node.document().input_text().get(tag).is_some_and(|text| text.ends_with("/>"))
}
