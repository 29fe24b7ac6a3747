//! Helpers for recognizing a format by its content.

/// Windows' mark for UTF-8 at the head of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text without a byte order mark and whitespace at its start.
pub(crate) fn trimmed(text: &str) -> &str {
    text.trim_start_matches(|it: char| it == BYTE_ORDER_MARK || it.is_whitespace())
}

/// Keys and values of the lines `KEY = VALUE` or `KEY += VALUE`, up to the first line that starts
/// with a bracket: after a TOML table header, the keys belong to the table.
pub(crate) fn assignments(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = trimmed(text).lines().map(str::trim_start);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines.filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        Some((key.strip_suffix('+').unwrap_or(key).trim_end(), value.trim()))
    })
}

/// The name of an XML text's root element. What may stand before it is skipped: a declaration,
/// processing instructions, comments and a document type.
pub(crate) fn root_element(text: &str) -> Option<&str> {
    let mut rest = trimmed(text);
    loop {
        let end = match rest {
            _ if rest.starts_with("<?") => "?>",
            _ if rest.starts_with("<!--") => "-->",
            _ if rest.starts_with("<!") => ">",
            _ => break,
        };
        rest = trimmed(rest.split_once(end)?.1);
    }
    let tag = rest.strip_prefix('<')?;
    let end = tag.find(|it: char| it.is_whitespace() || it == '>' || it == '/')?;
    tag.get(..end)
}
