//! What bounds an XML text before a tree is made of it.
//!
//! A parser's work is not always in proportion to the text: it compares each attribute of an element with each other, and each
//! element sees all namespaces around it. So one quick walk over the tags comes first. It looks for what a domain never has, and
//! leaves all that is merely wrong to the parser, which can say it better.

use crate::error::Problem;
use crate::spec::MAX_BYTES;

/// How deep elements may be nested: libxml2's own limit, and so libvirt's (`xmlParserMaxDepth`). A domain needs about ten.
const MAX_DEPTH: usize = 256;

/// How many attributes an element may have. libvirt's richest have about twenty.
const MAX_ATTRIBUTES: usize = 64;

/// How many `<` and how many `=` a text may have: the parser makes room for a node and for an attribute for each before it looks at
/// what they are. A device has about ten of either.
const MAX_MARKS: usize = 1 << 21;

/// How many namespaces a text may declare. A domain has one for QEMU's options and a few in its metadata.
const MAX_NAMESPACES: usize = 64;

/// Checks the text's size, encoding, depth and shape.
///
/// # Errors
/// It is beyond a bound, has a document type, or says that it is in another encoding than UTF-8.
pub(super) fn check(text: &str) -> Result<(), Problem> {
    if text.len() > MAX_BYTES {
        let what = format!("this is {} bytes long, and a domain is 16 MiB at the most", text.len());
        return Err(Problem::new(0..0, what).help("is it libvirt's XML?"));
    }
    for mark in ["<", "="] {
        if let Some((at, _)) = text.match_indices(mark).nth(MAX_MARKS) {
            return Err(Problem::new(
                at..at + 1,
                format!("this is the {MAX_MARKS}th `{mark}`, and no domain has as many"),
            ));
        }
    }
    check_encoding(text)?;
    let (mut at, mut depth, mut namespaces) = (0, 0_usize, 0);
    while let Some(next) = next_markup(text, at)? {
        at = next.end;
        match next.shape {
            Shape::Other => {}
            Shape::Close => depth = depth.saturating_sub(1),
            Shape::Open { attributes, declared, closed } => {
                depth += usize::from(!closed);
                namespaces += declared;
                let too = |what: String| Err(Problem::new(next.start..next.end, what));
                if depth > MAX_DEPTH {
                    return too(format!("this is nested more than {MAX_DEPTH} elements deep"));
                }
                if attributes > MAX_ATTRIBUTES {
                    return too(format!("this element has more than {MAX_ATTRIBUTES} attributes"));
                }
                if namespaces > MAX_NAMESPACES {
                    return too(format!("here are more than {MAX_NAMESPACES} namespaces"));
                }
            }
        }
    }
    Ok(())
}

/// The text is handed in decoded; whoever decoded it knew it for UTF-8. A declaration that says otherwise is a file that was
/// read wrongly or will be.
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
    let what = format!("this text says that it is in {encoding}, and only UTF-8 is read");
    Err(Problem::new(at..at + encoding.len(), what).help(format!(
        "iconv -f {encoding} -t UTF-8 turns it into UTF-8; then change the declaration"
    )))
}

/// A piece of markup: where it is, and what it does to the depth.
struct Markup {
    start: usize,
    end: usize,
    shape: Shape,
}

enum Shape {
    /// An opening tag, or one that is `closed` in itself, with how many `attributes`, and how many namespaces `declared`.
    Open { attributes: usize, declared: usize, closed: bool },
    /// A closing tag.
    Close,
    /// A comment, CDATA, a processing instruction.
    Other,
}

/// The next markup from `at` on; `None` at the end, or where something has no end.
fn next_markup(text: &str, at: usize) -> Result<Option<Markup>, Problem> {
    let Some(start) = text.get(at..).and_then(|rest| rest.find('<')).map(|found| at + found) else {
        return Ok(None);
    };
    let rest = text.get(start..).unwrap_or_default();
    // The mark that ends it, behind the one that begins it: `<!-->` is no comment yet.
    let until = |begin: &str, mark: &str| {
        let inside = rest.get(begin.len()..)?;
        inside.find(mark).map(|found| start + begin.len() + found + mark.len())
    };
    let other = |end: Option<usize>| Ok(end.map(|end| Markup { start, end, shape: Shape::Other }));
    match rest {
        _ if rest.starts_with("<!--") => other(until("<!--", "-->")),
        _ if rest.starts_with("<![CDATA[") => other(until("<![CDATA[", "]]>")),
        _ if rest.starts_with("<?") => other(until("<?", "?>")),
        _ if rest.starts_with("<!DOCTYPE") => {
            Err(Problem::new(start..start + "<!DOCTYPE".len(), "a domain has no document type")
                .help("take the <!DOCTYPE ...> out; `virsh dumpxml` writes none"))
        }
        _ if rest.starts_with("<!") => Ok(None),
        _ if rest.starts_with("</") => {
            Ok(until("</", ">").map(|end| Markup { start, end, shape: Shape::Close }))
        }
        _ => Ok(tag(rest).map(|(length, shape)| Markup { start, end: start + length, shape })),
    }
}

/// The tag that the text starts with: how long it is and what it has. `None` if it has no end.
fn tag(rest: &str) -> Option<(usize, Shape)> {
    let (mut quote, mut attributes, mut before) = (None, 0, b'<');
    for (at, byte) in rest.bytes().enumerate() {
        match (quote, byte) {
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                attributes += 1;
            }
            (Some(open), _) if open == byte => quote = None,
            (None, b'>') => {
                let declared = rest.get(..at)?.matches("xmlns").count();
                return Some((
                    at + 1,
                    Shape::Open { attributes, declared, closed: before == b'/' },
                ));
            }
            _ => {}
        }
        before = byte;
    }
    None
}
