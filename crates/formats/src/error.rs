//! What is wrong with a text, and where: the line with a caret below it, why it cannot be read, and what can.
//!
//! ```text
//! error: `usbversion` is 1, 2 or 3, not 4
//!  --> web1.toml:3:14
//!   |
//! 3 | usbversion = 4
//!   |              ^
//! ```

use std::error::Error;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, normalize_untrusted_str};

/// A text that cannot be read, or a warning of one that can. It shows itself as several lines, the place among them, without a newline at the end.
#[derive(Clone, PartialEq, Eq)]
pub struct FormatError {
    line: usize,
    column: usize,
    brief: String,
    rendering: String,
}

impl FormatError {
    /// The line that the error is in, from 1.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The column that the error starts in, from 1, counted in characters.
    pub const fn column(&self) -> usize {
        self.column
    }

    /// The same in one line: `web1.cfg:3:14: …`.
    pub fn brief(&self) -> &str {
        &self.brief
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendering)
    }
}

impl fmt::Debug for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FormatError at {}:{}\n{}", self.line, self.column, self.rendering)
    }
}

impl Error for FormatError {}

/// How many bytes of a line are shown before the place and after its start: what is beyond is cut off, for a line may be
/// millions of bytes long.
const SHOWN: usize = 200;

/// Something wrong in a text, before it is known how to show it. Boxed, for nearly everything here returns one.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    /// Where, in bytes.
    span: Range<usize>,
    /// What is wrong, and what is allowed.
    what: String,
    /// A few words at the caret.
    label: Option<String>,
    /// Another place that has to do with it, and a few words there.
    other: Option<(Range<usize>, String)>,
    /// What to do.
    help: Option<String>,
    /// Whether the text can be read all the same.
    warning: bool,
}

impl Problem {
    pub(crate) fn new(span: Range<usize>, what: impl Into<String>) -> Problem {
        let what = what.into();
        Problem(Box::new(Parts {
            span,
            what,
            label: None,
            other: None,
            help: None,
            warning: false,
        }))
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Problem {
        self.0.label = Some(label.into());
        self
    }

    pub(crate) fn other(mut self, span: Range<usize>, label: impl Into<String>) -> Problem {
        self.0.other = Some((span, label.into()));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Problem {
        self.0.help = Some(help.into());
        self
    }

    /// The same, as something that a person should know of a text that can be read.
    pub(crate) fn warning(mut self) -> Problem {
        self.0.warning = true;
        self
    }

    /// The error, for the `text` that the places are in. `origin` is where it comes from: a file's name.
    pub(crate) fn in_text(self, text: &str, origin: &str) -> FormatError {
        let Parts { span, what, label, other, help, warning } = *self.0;
        let span = on_one_line(text, span);
        let line = line_of(text, span.start);
        let column = column_of(text, span.start);
        let other = other.map(|(span, label)| (on_one_line(text, span), label));
        let other = other.filter(|(other, _)| !too_far(&span, other));

        let first = other.as_ref().map_or(span.start, |(other, _)| span.start.min(other.start));
        let last = other.as_ref().map_or(span.end, |(other, _)| span.end.max(other.end));
        let shown = window(text, first..last);
        let within = |span: &Range<usize>| {
            let end = span.end.min(shown.end);
            span.start.saturating_sub(shown.start)..end.saturating_sub(shown.start)
        };
        let snippet = Snippet::source(text.get(shown.clone()).unwrap_or_default())
            .path(origin)
            .line_start(line_of(text, shown.start))
            .annotation(AnnotationKind::Primary.span(within(&span)).label(label))
            .annotations(
                other
                    .iter()
                    .map(|(span, label)| AnnotationKind::Context.span(within(span)).label(label)),
            );
        let brief = format!("{}:{line}:{column}: {}", origin, what.replace('\n', " "));
        let level = if warning { Level::WARNING } else { Level::ERROR };
        let mut group = level.primary_title(what).element(snippet);
        if let Some(help) = help {
            group = group.element(Level::HELP.message(normalize_untrusted_str(&help)));
        }
        let rendering = Renderer::plain().render(&[group]);
        FormatError { line, column, brief, rendering }
    }
}

/// The part of the span that is on its first line, on the boundaries of characters.
fn on_one_line(text: &str, span: Range<usize>) -> Range<usize> {
    let start = floor(text, span.start);
    let end = ceiling(text, span.end.max(start));
    let first_line = text.get(start..end).and_then(|part| part.lines().next()).unwrap_or_default();
    start..start + first_line.len()
}

/// Whether two places are too far from each other to be shown together.
fn too_far(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start.abs_diff(b.start) > 20 * SHOWN
}

/// What is shown of the text: whole lines, or what is near of them.
fn window(text: &str, span: Range<usize>) -> Range<usize> {
    let before = text.get(..span.start).unwrap_or_default();
    let after = text.get(span.end..).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = after.find(['\n', '\r']).map_or(text.len(), |newline| span.end + newline);
    let start = line_start.max(span.start.saturating_sub(SHOWN));
    let end = line_end.min(span.end.min(span.start + 20 * SHOWN).saturating_add(SHOWN));
    ceiling(text, start)..ceiling(text, end)
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn ceiling(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

fn line_of(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or_default().matches('\n').count() + 1
}

fn column_of(text: &str, at: usize) -> usize {
    let line = text.get(..at).unwrap_or_default().rsplit('\n').next().unwrap_or_default();
    line.chars().count() + 1
}
