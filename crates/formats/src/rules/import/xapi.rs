//! XAPI's `usb-policy.conf`.
//!
//! ```text
//! ALLOW:vid=056a pid=0315 class=03   # Wacom tablet
//! DENY: class=03 subclass=01
//! ALLOW:                             # all else
//! ```
//!
//! XAPI looks up each interface of a device. The device is denied if one interface is denied, and
//! allowed if all interfaces are allowed. So `DENY` becomes `has`, and `ALLOW` becomes `only`.

use super::{Draft, Drafts};
use crate::error::Problem;

const KEYS: [&str; 6] = ["vid", "pid", "rel", "class", "subclass", "prot"];

pub(super) fn read(text: &str) -> Result<Drafts, Problem> {
    // A device that no line matches may not be given to a guest.
    let mut drafts = Drafts { first_decides: true, unmatched: Some("deny"), ..Drafts::default() };
    let mut begin = 0;
    for (number, line) in text.split('\n').enumerate() {
        let span = begin..begin + line.len();
        begin = span.end + 1;
        let (content, comment) = line.split_once('#').unwrap_or((line, ""));
        if content.trim().is_empty() {
            continue;
        }
        let wrong = |what: String| Problem::new(span.clone(), what);
        let action = content.split_once(':').map(|(word, rest)| (word.trim(), rest));
        let (action, rest) = match action {
            Some(("ALLOW", rest)) => ("allow", rest),
            Some(("DENY", rest)) => ("deny", rest),
            _ => return Err(wrong("a line begins with ALLOW: or DENY:".to_owned())),
        };
        let mut values = [None; KEYS.len()];
        for word in rest.split_whitespace() {
            let pair = word.split_once('=').and_then(|(key, value)| {
                let slot = values.iter_mut().zip(KEYS).find(|(_, it)| *it == key)?.0;
                Some((slot, value))
            });
            let Some((slot, value)) = pair else {
                let known = KEYS.join(", ");
                return Err(wrong(format!("`{word}` is not KEY=VALUE with one of {known}")));
            };
            let number = u16::from_str_radix(value, 16);
            *slot = Some(number.map_err(|_| wrong(format!("`{value}` is not hexadecimal")))?);
        }
        let from = format!("line {}", number + 1);
        let comment = comment.trim();
        let name = if comment.is_empty() { format!("{action} {from}") } else { comment.to_owned() };
        entry(&mut drafts, Draft { name, ..Draft::new(from, action) }, values);
    }
    Ok(drafts)
}

/// One line.
fn entry(drafts: &mut Drafts, mut draft: Draft, values: [Option<u16>; KEYS.len()]) {
    let [vid, pid, rel, class, subclass, prot] = values;
    let from = draft.from.clone();
    let denies = draft.action == "deny";
    if values == [None; KEYS.len()] {
        // The line matches everything, so XAPI does not look at the lines after it.
        if drafts.unmatched == Some("deny") && !denies {
            drafts.unmatched = Some("allow");
        }
        return;
    }
    let mut inexact = Vec::new();
    if rel.is_some() {
        inexact.push("the release number of a device cannot be matched");
    }
    match (vid, pid) {
        (Some(vid), Some(pid)) => draft.id.push(format!("{vid:04x}:{pid:04x}")),
        (Some(vid), None) => draft.id.push(format!("{vid:04x}:*")),
        (None, Some(_)) => inexact.push("a product without its vendor cannot be matched"),
        (None, None) => {}
    }
    let kind = match (class, subclass, prot) {
        (Some(class), Some(subclass), Some(prot)) => {
            Some(format!("{class:02x}:{subclass:02x}:{prot:02x}"))
        }
        (Some(class), Some(subclass), None) => Some(format!("{class:02x}:{subclass:02x}")),
        (Some(class), None, None) => Some(format!("{class:02x}")),
        (Some(class), None, Some(_)) => {
            inexact.push("a protocol without its subclass cannot be matched");
            Some(format!("{class:02x}"))
        }
        (None, None, None) => None,
        (None, ..) => {
            inexact.push("a subclass or protocol without its class cannot be matched");
            None
        }
    };
    let list = if denies { &mut draft.has } else { &mut draft.only };
    list.extend(kind);
    let is_empty = draft.id.is_empty() && draft.has.is_empty() && draft.only.is_empty();
    for what in &inexact {
        let effect = match (denies, is_empty) {
            (false, _) => "the line is left out",
            (true, true) => "the line is left out, and nothing is denied instead",
            (true, false) => "more devices are denied",
        };
        drafts.lose(&from, format!("{what}: {effect}"));
    }
    if inexact.is_empty() || (denies && !is_empty) {
        drafts.all.push(draft);
    }
}
