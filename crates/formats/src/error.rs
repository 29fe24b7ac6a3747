//! Errors in a text: the line with a caret below it, what is wrong, and what to do.
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
use vusb_model::remedy::Remedy;

/// An error that makes a text unreadable, or a warning about a text. Its display form has several
/// lines, among them the source line, and no newline at the end. [`Problem::in_text`] makes one.
#[derive(Clone, PartialEq, Eq)]
pub struct FormatError {
    line: usize,
    column: usize,
    brief: String,
    rendering: String,
    remedies: Vec<Remedy>,
}

impl FormatError {
    /// The line that the error is in, from 1.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The column where the error starts, from 1, counted in characters.
    pub const fn column(&self) -> usize {
        self.column
    }

    /// The error in one line: `web1.cfg:3:14: …`.
    pub fn brief(&self) -> &str {
        &self.brief
    }

    /// What the caller can do, as values. The display form does not contain them.
    pub fn remedies(&self) -> &[Remedy] {
        &self.remedies
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

/// How many bytes of a line are shown before an error and after it. Of the error itself, at most 20
/// times as many are shown. The rest is cut off, since a line can be millions of bytes long.
const SHOWN: usize = 200;

/// A mistake in a text, by its position. [`Problem::in_text`] turns it into an error that shows the
/// line.
///
/// Boxed, because nearly every function of a reader returns one.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    /// The position, in bytes.
    span: Range<usize>,
    /// What is wrong, and what is allowed.
    what: String,
    /// A few words at the caret.
    label: Option<String>,
    /// Another position that is involved, with a few words.
    other: Option<(Range<usize>, String)>,
    /// What to do.
    help: Option<String>,
    /// What the caller can do, as values.
    remedies: Vec<Remedy>,
    /// Whether the text can be read despite the mistake.
    warning: bool,
}

impl Problem {
    /// A mistake at a position, in bytes. `what` is a sentence: what is wrong, and what is allowed.
    pub fn new(span: Range<usize>, what: impl Into<String>) -> Problem {
        let what = what.into();
        Problem(Box::new(Parts {
            span,
            what,
            label: None,
            other: None,
            help: None,
            remedies: Vec::new(),
            warning: false,
        }))
    }

    /// Adds a few words at the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Problem {
        self.0.label = Some(label.into());
        self
    }

    /// Adds another position that is involved, with a few words. It is left out if it is too far
    /// away to be shown.
    #[must_use]
    pub fn other(mut self, span: Range<usize>, label: impl Into<String>) -> Problem {
        self.0.other = Some((span, label.into()));
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.0.help = Some(help.into());
        self
    }

    /// Adds what the caller can do, as values: a user interface chooses the words.
    #[must_use]
    pub fn remedies(mut self, remedies: Vec<Remedy>) -> Problem {
        self.0.remedies = remedies;
        self
    }

    /// Makes the mistake a warning: the text can be read, but probably does not mean what was
    /// intended.
    #[must_use]
    pub fn warning(mut self) -> Problem {
        self.0.warning = true;
        self
    }

    /// Where the mistake begins, in bytes.
    pub(crate) fn start(&self) -> usize {
        self.0.span.start
    }

    /// The same mistake at another position.
    #[must_use]
    pub(crate) fn at(mut self, span: Range<usize>) -> Problem {
        self.0.span = span;
        self
    }

    /// The error to show. `text` is what the positions refer to, `origin` is where it comes from: a
    /// file name.
    pub fn in_text(self, text: &str, origin: &str) -> FormatError {
        let Parts { span, what, label, other, help, remedies, warning } = *self.0;
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
        FormatError { line, column, brief, rendering, remedies }
    }
}

/// The part of the span that is on its first line, extended to character boundaries.
fn on_one_line(text: &str, span: Range<usize>) -> Range<usize> {
    let start = floor(text, span.start);
    let end = ceiling(text, span.end.max(start));
    let first_line = text.get(start..end).and_then(|part| part.lines().next()).unwrap_or_default();
    start..start + first_line.len()
}

/// Whether two positions are too far apart to be shown together.
fn too_far(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start.abs_diff(b.start) > 20 * SHOWN
}

/// The part of the text that is shown: whole lines, or the part of a long line around the span.
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
