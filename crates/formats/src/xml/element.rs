//! XML elements to be written, in the style of the text around them.

use std::fmt::Write;

/// An element to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: &'static str,
    pub(crate) attributes: Vec<(&'static str, String)>,
    pub(crate) content: Content,
}

/// The content of an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Child elements, possibly none.
    Elements(Vec<Element>),
    /// Text.
    Text(String),
}

/// The style of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    /// The quote around attribute values.
    pub(crate) quote: char,
    /// One level of indentation.
    pub(crate) unit: String,
    /// The line ending. Empty if everything is on one line.
    pub(crate) newline: &'static str,
}

impl Style {
    /// libvirt's style.
    pub(crate) fn libvirt() -> Style {
        Style { quote: '\'', unit: "  ".to_owned(), newline: "\n" }
    }

    /// VirtualBox's style.
    pub(crate) fn virtualbox() -> Style {
        Style { quote: '"', ..Style::libvirt() }
    }
}

impl Element {
    pub(crate) fn new(name: &'static str) -> Element {
        Element { name, attributes: Vec::new(), content: Content::Elements(Vec::new()) }
    }

    /// An element that contains text.
    pub(crate) fn text(name: &'static str, text: impl Into<String>) -> Element {
        Element { content: Content::Text(text.into()), ..Element::new(name) }
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Element {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// Adds child elements.
    pub(crate) fn and(mut self, child: impl IntoIterator<Item = Element>) -> Element {
        if let Content::Elements(elements) = &mut self.content {
            elements.extend(child);
        }
        self
    }

    /// The key by which elements are grouped: the name, and for controllers also the type.
    pub(crate) fn group(&self) -> (&'static str, Option<&str>) {
        let kind = self.attributes.iter().find(|(name, _)| *name == "type");
        let kind = kind.filter(|_| self.name == "controller").map(|(_, kind)| kind.as_str());
        (self.name, kind)
    }

    /// The element as text, without the indentation of its first line and the ending of its last.
    pub(crate) fn render(&self, style: &Style, indent: &str) -> String {
        let mut out = String::new();
        self.write(&mut out, style, indent);
        out
    }

    fn write(&self, out: &mut String, style: &Style, indent: &str) {
        out.push('<');
        out.push_str(self.name);
        for (name, value) in &self.attributes {
            let quote = style.quote;
            let value = escaped(value, Some(quote));
            // Writing to a String cannot fail.
            let _ = write!(out, " {name}={quote}{value}{quote}");
        }
        match &self.content {
            Content::Elements(elements) if elements.is_empty() => return out.push_str("/>"),
            Content::Elements(elements) => {
                let deeper = if style.newline.is_empty() {
                    String::new()
                } else {
                    format!("{indent}{}", style.unit)
                };
                out.push('>');
                for element in elements {
                    out.push_str(style.newline);
                    out.push_str(&deeper);
                    element.write(out, style, &deeper);
                }
                if !style.newline.is_empty() {
                    out.push_str(style.newline);
                    out.push_str(indent);
                }
            }
            Content::Text(text) => {
                out.push('>');
                out.push_str(&escaped(text, None));
            }
        }
        let _ = write!(out, "</{}>", self.name);
    }

    /// Whether XML can express all of it. XML has no control characters other than tab and line
    /// ends.
    pub(crate) fn is_expressible(&self) -> bool {
        let good = |text: &str| text.chars().all(is_char);
        self.attributes.iter().all(|(_, value)| good(value))
            && match &self.content {
                Content::Text(text) => good(text),
                Content::Elements(elements) => elements.iter().all(Element::is_expressible),
            }
    }
}

/// Whether a character is a `Char` of XML 1.0 (production 2).
const fn is_char(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Escapes what would be markup. In an attribute this includes its quote, and the characters that a
/// parser would normalize to spaces.
pub(crate) fn escaped(text: &str, quote: Option<char>) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\r' => out.push_str("&#13;"),
            '\n' if quote.is_some() => out.push_str("&#10;"),
            '\t' if quote.is_some() => out.push_str("&#9;"),
            '\'' if quote == Some('\'') => out.push_str("&apos;"),
            '"' if quote == Some('"') => out.push_str("&quot;"),
            char => out.push(char),
        }
    }
    out
}
