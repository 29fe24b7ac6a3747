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
//!
//! Source: xen-api, `scripts/usb_scan.py`, `Policy`: numbers have exactly two or four digits, and a
//! key is given once.

use vusb_model::rules::{IdPattern, InterfaceClass, InterfacePattern, Match};

use super::draft::{Drafts, Verb};
use super::entry::{Condition, Entry};
use crate::error::Problem;

/// The keys, and how many digits their numbers have.
const KEYS: [(&str, usize); 6] =
    [("vid", 4), ("pid", 4), ("rel", 4), ("class", 2), ("subclass", 2), ("prot", 2)];

/// The values of the keys.
type Values = [Option<u16>; KEYS.len()];

pub(super) fn read(text: &str) -> Result<Drafts, Problem> {
    let mut drafts = Drafts::first_decides();
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
        let (verb, rest) = match action {
            Some(("ALLOW", rest)) => (Verb::Allow, rest),
            Some(("DENY", rest)) => (Verb::Deny, rest),
            _ => return Err(wrong("a line begins with ALLOW: or DENY:".to_owned())),
        };
        let values = values(rest).map_err(wrong)?;
        let from = format!("line {}", number + 1);
        let comment = comment.trim();
        let name = if comment.is_empty() { format!("{verb} {from}") } else { comment.to_owned() };
        let mut entry = Entry::new(&from, verb, Vec::new());
        entry.call(&name);
        for condition in conditions(verb, values) {
            entry.add(condition);
        }
        entry.finish(&mut drafts);
    }
    Ok(drafts)
}

fn values(text: &str) -> Result<Values, String> {
    let mut values = [None; KEYS.len()];
    for word in text.split_whitespace() {
        let pair = word.split_once('=').and_then(|(key, value)| {
            let (slot, (_, digits)) = values.iter_mut().zip(KEYS).find(|(_, it)| it.0 == key)?;
            Some((slot, digits, value))
        });
        let Some((slot, digits, value)) = pair else {
            let known = KEYS.map(|(key, _)| key).join(", ");
            return Err(format!("`{word}` is not KEY=VALUE with one of {known}"));
        };
        let is_number = value.len() == digits && value.bytes().all(|it| it.is_ascii_hexdigit());
        let number = u16::from_str_radix(value, 16).ok().filter(|_| is_number);
        let number =
            number.ok_or_else(|| format!("`{value}` is not {digits} hexadecimal digits"))?;
        if slot.replace(number).is_some() {
            return Err(format!("`{word}` is the second value of its key"));
        }
    }
    Ok(values)
}

/// The conditions of a line: on the device, and on the interface.
fn conditions(verb: Verb, values: Values) -> [Condition; 3] {
    let [vid, pid, rel, class, subclass, prot] = values;
    let id = match (vid, pid) {
        (Some(vendor), product) => {
            let id = vec![IdPattern { vendor, product, serial: None }];
            Condition::Same(Match { id, ..Match::default() })
        }
        (None, Some(_)) => Condition::lost("a product without its vendor cannot be matched"),
        (None, None) => Condition::Always,
    };
    let release = match rel {
        Some(_) => Condition::lost("the release number of a device cannot be matched"),
        None => Condition::Always,
    };
    [id, release, interface(verb, class, subclass, prot)]
}

/// The condition on the interface.
fn interface(
    verb: Verb,
    class: Option<u16>,
    subclass: Option<u16>,
    protocol: Option<u16>,
) -> Condition {
    let byte = |it: Option<u16>| it.and_then(|it| u8::try_from(it).ok());
    let (subclass, protocol) = (byte(subclass), byte(protocol));
    let Some(class) = byte(class) else {
        return match (subclass, protocol) {
            (None, None) => Condition::Always,
            _ => Condition::lost("a subclass or protocol without its class cannot be matched"),
        };
    };
    let known = if subclass.is_some() { protocol } else { None };
    let kind = InterfacePattern { class, subclass, protocol: known };
    let Ok(kind) = kind.to_string().parse::<InterfaceClass>() else {
        return Condition::lost("this interface cannot be matched");
    };
    let kinds = vec![kind];
    let keys = match verb {
        Verb::Deny => Match { has: kinds, ..Match::default() },
        _ => Match { only: kinds, ..Match::default() },
    };
    if known == protocol {
        Condition::Same(keys)
    } else {
        Condition::Wider(keys, "a protocol without its subclass cannot be matched".to_owned())
    }
}
