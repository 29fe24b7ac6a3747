//! Limits of an XML text, checked before it is parsed.
//!
//! A parser's work is not always proportional to the text: it compares the attributes of an element
//! pairwise, and every element sees all namespaces around it. One quick pass over the tags
//! therefore comes first and refuses what no guest's file has. Syntax errors are left to the
//! parser, which reports them better.

use super::Dialect;
use crate::error::Problem;
use crate::length;

/// The deepest nesting of elements: libxml2's own limit, and therefore libvirt's
/// (`xmlParserMaxDepth`). A domain needs about ten levels.
const MAX_DEPTH: usize = 256;

/// The highest number of attributes of an element. libvirt's largest have about twenty.
const MAX_ATTRIBUTES: usize = 64;

/// The highest number of `<` and of `=`: the parser allocates a node and an attribute for each
/// before it looks at them. A device has about ten of either.
const MAX_MARKS: usize = 1 << 18;

/// The highest number of namespace declarations. A domain has one for QEMU's options and a few in
/// its metadata.
const MAX_NAMESPACES: usize = 64;

/// Checks the text's size, encoding and structure.
///
/// # Errors
/// It exceeds a limit, has a document type, or declares an encoding other than UTF-8 and ASCII.
pub(super) fn check(text: &str, dialect: &Dialect) -> Result<(), Problem> {
    length::check(text, dialect.text)?;
    for mark in ["<", "="] {
        if let Some((at, _)) = text.match_indices(mark).nth(MAX_MARKS) {
            return Err(Problem::new(
                at..at + 1,
                format!(
                    "this is more than {MAX_MARKS} times `{mark}`: no {} has this many",
                    dialect.subject
                ),
            ));
        }
    }
    check_encoding(text)?;
    let (mut at, mut depth, mut namespaces) = (0, 0_usize, 0);
    while let Some(next) = next_markup(text, at, dialect)? {
        at = next.end;
        match next.shape {
            Shape::Other => {}
            Shape::Close => depth = depth.saturating_sub(1),
            Shape::Open { attributes, declared, closed } => {
                depth += usize::from(!closed);
                namespaces += declared;
                let exceeded = |what: String| Err(Problem::new(next.start..next.end, what));
                if depth > MAX_DEPTH {
                    return exceeded(format!(
                        "elements are nested more than {MAX_DEPTH} levels deep"
                    ));
                }
                if attributes > MAX_ATTRIBUTES {
                    return exceeded(format!(
                        "this element has more than {MAX_ATTRIBUTES} attributes"
                    ));
                }
                if namespaces > MAX_NAMESPACES {
                    return exceeded(format!("more than {MAX_NAMESPACES} namespaces are declared"));
                }
            }
        }
    }
    Ok(())
}

/// The caller has decoded the text as UTF-8. If its declaration names another encoding, either the
/// file was decoded wrongly or other programs will decode the edited file wrongly.
fn check_encoding(text: &str) -> Result<(), Problem> {
    let start = text.len() - text.trim_start_matches('\u{feff}').len();
    let rest = text.get(start..).unwrap_or_default();
    let declaration = rest.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>"));
    let Some((declaration, _)) = declaration else {
        return Ok(());
    };
    let Some(key) = declaration.find("encoding") else {
        return Ok(());
    };
    let after = declaration.get(key..).unwrap_or_default();
    let mut parts = after.splitn(3, ['"', '\'']);
    let (before, Some(encoding)) = (parts.next().unwrap_or_default(), parts.next()) else {
        return Ok(());
    };
    if ["utf-8", "us-ascii", "ascii"].contains(&encoding.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    let at = start + "<?xml".len() + key + before.len() + 1;
    let encoding: String = encoding.chars().take(40).collect();
    let what = format!("the declared encoding is {encoding}; only UTF-8 and ASCII are supported");
    Err(Problem::new(at..at + encoding.len(), what)
        .help(format!("convert it with iconv -f {encoding} -t UTF-8, then change the declaration")))
}

/// A piece of markup: its position, and how it changes the depth.
struct Markup {
    start: usize,
    end: usize,
    shape: Shape,
}

enum Shape {
    /// An opening tag, self-closing if `closed`, with its number of attributes and namespace
    /// declarations.
    Open { attributes: usize, declared: usize, closed: bool },
    /// A closing tag.
    Close,
    /// A comment, CDATA, a processing instruction.
    Other,
}

/// The next markup from `at` on. `None` at the end of the text, or if the markup is not terminated
/// or of an unknown kind.
///
/// # Errors
/// It is a document type.
fn next_markup(text: &str, at: usize, dialect: &Dialect) -> Result<Option<Markup>, Problem> {
    let Some(start) = text.get(at..).and_then(|rest| rest.find('<')).map(|found| at + found) else {
        return Ok(None);
    };
    let rest = text.get(start..).unwrap_or_default();
    // The end is searched for after the start: `<!-->` does not end a comment.
    let until = |begin: &str, mark: &str| {
        let inside = rest.get(begin.len()..)?;
        inside.find(mark).map(|found| start + begin.len() + found + mark.len())
    };
    let other = |end: Option<usize>| Ok(end.map(|end| Markup { start, end, shape: Shape::Other }));
    match rest {
        _ if rest.starts_with("<!--") => other(until("<!--", "-->")),
        _ if rest.starts_with("<![CDATA[") => other(until("<![CDATA[", "]]>")),
        _ if rest.starts_with("<?") => other(until("<?", "?>")),
        _ if rest.starts_with("<!DOCTYPE") => Err(Problem::new(
            start..start + "<!DOCTYPE".len(),
            format!("a document type is not allowed in a {}", dialect.subject),
        )
        .help(format!("remove the <!DOCTYPE ...>; {} does not write one", dialect.writer))),
        _ if rest.starts_with("<!") => Ok(None),
        _ if rest.starts_with("</") => {
            Ok(until("</", ">").map(|end| Markup { start, end, shape: Shape::Close }))
        }
        _ => Ok(tag(rest).map(|(length, shape)| Markup { start, end: start + length, shape })),
    }
}

/// The length and shape of the tag at the start of the text. `None` if it is not terminated.
fn tag(rest: &str) -> Option<(usize, Shape)> {
    let (mut quote, mut attributes, mut declared, mut before) = (None, 0, 0, b'<');
    for (at, byte) in rest.bytes().enumerate() {
        match (quote, byte) {
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                attributes += 1;
            }
            (Some(open), _) if open == byte => quote = None,
            (None, b'>') => {
                return Some((
                    at + 1,
                    Shape::Open { attributes, declared, closed: before == b'/' },
                ));
            }
            (None, b'x') if rest.get(at..).is_some_and(|it| it.starts_with("xmlns")) => {
                declared += 1;
            }
            _ => {}
        }
        before = byte;
    }
    None
}
