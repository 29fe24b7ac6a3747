//! USBGuard's `rules.conf`, usbguard-rules.conf(5).
//!
//! ```text
//! allow id 0781:5581 serial "4C53" with-interface 08:06:50
//! block with-interface one-of { 03:00:* 03:01:* }
//! ```
//!
//! Sources: usbguard, `src/Library/RuleParser/Grammar.hpp` (the syntax) and
//! `src/Library/public/usbguard/Rule.hpp` (the operators). A device that no rule matches is blocked
//! unless `usbguard-daemon.conf` says otherwise (`ImplicitPolicyTarget`).
//!
//! | attribute | here |
//! |---|---|
//! | `id`, `serial`, `via-port` | the same |
//! | `with-interface` | the same for `one-of`, `match-all`, one value of `all-of`, one full value of `equals`; otherwise wider |
//! | `name` | wider: any part of the names of vendor and product, whatever the case |
//! | `with-connect-type` | wider: `removable` also follows what a hub reports |
//! | `hash`, `parent-hash`, `if` | cannot be expressed |
//! | `label` | is no condition |
//!
//! USBGuard also counts the interfaces of a kind. A rule only knows which kinds a device has.

use vusb_model::rules::{IdPattern, InterfaceClass, Match, PortPattern, Removable};
use vusb_model::selector::BusId;

use super::draft::{Drafts, Verb, anywhere};
use super::entry::{Condition, Entry};
use crate::error::Problem;

/// A word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Open,
    Close,
}

/// The values of an attribute, with the operator between them.
struct Values {
    operator: String,
    all: Vec<String>,
}

impl Values {
    fn one(value: String) -> Values {
        Values { operator: "equals".to_owned(), all: vec![value] }
    }

    /// The value, if there is one and the attribute has to be equal to it.
    fn single(&self) -> Option<&str> {
        match self.all.as_slice() {
            [one] if self.operator != "none-of" => Some(one),
            _ => None,
        }
    }
}

pub(super) fn read(text: &str) -> Result<Drafts, Problem> {
    let mut drafts = Drafts::first_decides();
    let mut begin = 0;
    for (number, line) in text.split('\n').enumerate() {
        let span = begin..begin + line.len();
        begin = span.end + 1;
        let wrong = |what: String| Problem::new(span.clone(), what);
        let tokens = tokens(line).map_err(wrong)?;
        let mut tokens = tokens.into_iter().peekable();
        let verb = match tokens.next() {
            None => continue,
            Some(Token::Word(word)) if word == "allow" => Verb::Allow,
            Some(Token::Word(word)) if word == "block" || word == "reject" => Verb::Deny,
            Some(_) => return Err(wrong("a rule begins with allow, block or reject".to_owned())),
        };
        let from = format!("line {}", number + 1);
        let attributes = attributes(tokens).map_err(wrong)?;
        entry(&from, verb, &attributes).finish(&mut drafts);
    }
    Ok(drafts)
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

fn attributes(mut tokens: Tokens) -> Result<Vec<(String, Values)>, String> {
    let mut all: Vec<(String, Values)> = Vec::new();
    while let Some(token) = tokens.next() {
        let Token::Word(name) = token else {
            return Err("the name of an attribute was expected".to_owned());
        };
        // A bare pair of ids is an attribute `id`, as in `allow 1234:5678`.
        let (name, values) = if name.contains(':') {
            ("id".to_owned(), Values::one(name))
        } else {
            let values = values(&mut tokens).map_err(|what| format!("{name}: {what}"))?;
            (name, values)
        };
        // USBGuard refuses this too.
        if all.iter().any(|(it, _)| *it == name) {
            return Err(format!("`{name}` is given twice"));
        }
        all.push((name, values));
    }
    Ok(all)
}

/// The words of a line.
fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = line.chars().peekable();
    while let Some(it) = rest.next() {
        match it {
            '#' => break,
            '{' => tokens.push(Token::Open),
            '}' => tokens.push(Token::Close),
            '"' => tokens.push(Token::Text(text(&mut rest)?)),
            it if it.is_whitespace() => {}
            it => {
                let mut word = String::from(it);
                let part = |it: &char| !it.is_whitespace() && !"{}\"#".contains(*it);
                while let Some(it) = rest.next_if(part) {
                    word.push(it);
                    // The argument of a condition may contain anything, even other attributes.
                    if it == '(' {
                        argument(&mut rest, &mut word)?;
                    }
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// The rest of a string, after its opening quotation mark.
fn text(rest: &mut Chars<'_>) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4];
    loop {
        match rest.next() {
            Some('"') => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Some('\\') => bytes.push(escaped(rest)?),
            Some(it) => bytes.extend(it.encode_utf8(&mut buffer).bytes()),
            None => return Err("a string has no end".to_owned()),
        }
    }
}

/// The byte of an escape sequence, after its backslash.
fn escaped(rest: &mut Chars<'_>) -> Result<u8, String> {
    let first = rest.next();
    let mut number = |mut text: String, radix: u32, length: usize| {
        while text.len() < length {
            let Some(digit) = rest.next_if(|it| it.is_digit(radix)) else { break };
            text.push(digit);
        }
        u8::from_str_radix(&text, radix).ok()
    };
    let byte = match first {
        Some('x') => number(String::new(), 16, 2),
        Some(it) if it.is_ascii_digit() => number(it.to_string(), 10, 3),
        Some('a') => Some(0x07),
        Some('b') => Some(0x08),
        Some('t') => Some(b'\t'),
        Some('n') => Some(b'\n'),
        Some('v') => Some(0x0b),
        Some('f') => Some(0x0c),
        Some('r') => Some(b'\r'),
        Some(it @ ('"' | '\'' | '\\')) => u8::try_from(it).ok(),
        _ => None,
    };
    byte.ok_or_else(|| "a string has an invalid escape sequence".to_owned())
}

/// The rest of the argument of a condition, after its opening parenthesis. A backslash escapes the
/// closing one.
fn argument(rest: &mut Chars<'_>, word: &mut String) -> Result<(), String> {
    loop {
        let next = rest.next().ok_or("the argument of a condition has no end")?;
        word.push(next);
        match next {
            ')' => return Ok(()),
            '\\' => word.extend(rest.next()),
            _ => {}
        }
    }
}

fn values(tokens: &mut Tokens) -> Result<Values, String> {
    const OPERATORS: [&str; 6] =
        ["equals", "equals-ordered", "all-of", "one-of", "none-of", "match-all"];
    let is_operator =
        |it: &Token| matches!(it, Token::Word(word) if OPERATORS.contains(&word.as_str()));
    let operator = match tokens.next_if(is_operator) {
        Some(Token::Word(word)) => word,
        _ => "equals".to_owned(),
    };
    match tokens.next() {
        Some(Token::Word(it) | Token::Text(it)) => Ok(Values { operator, all: vec![it] }),
        Some(Token::Open) => {
            let mut all = Vec::new();
            loop {
                match tokens.next() {
                    Some(Token::Word(it) | Token::Text(it)) => all.push(it),
                    Some(Token::Close) if !all.is_empty() => return Ok(Values { operator, all }),
                    Some(Token::Close) => return Err("it has no value".to_owned()),
                    _ => return Err("a list has no end".to_owned()),
                }
            }
        }
        _ => Err("it has no value".to_owned()),
    }
}

/// One rule.
fn entry(from: &str, verb: Verb, attributes: &[(String, Values)]) -> Entry {
    let mut entry = Entry::new(from, verb, Vec::new());
    entry.call(&format!("{verb} {from}"));
    let find = |name: &str| attributes.iter().find(|(it, _)| it == name).map(|(_, it)| it);
    // The other conditions depend on whether the rule is about one device.
    identity(find("id"), find("serial")).into_iter().for_each(|it| entry.add(it));
    if let Some(name) = find("name").and_then(Values::single) {
        entry.call(name);
    }
    for (name, values) in attributes {
        let condition = condition(name, values, entry.keys());
        entry.add(condition);
    }
    entry
}

/// An attribute. `keys` are those of `id` and `serial`.
fn condition(name: &str, values: &Values, keys: &Match) -> Condition {
    let cannot = || Condition::lost(format!("this `{name}` cannot be matched"));
    let single = values.single();
    match (name, single) {
        // In `keys`.
        ("id" | "serial", _) => Condition::Always,
        // A label is for people and other programs.
        ("label", _) => Condition::Always,
        ("name", Some(one)) => match anywhere(one) {
            Some(glob) => Condition::Wider(
                Match { text: vec![glob], ..Match::default() },
                "a rule finds a name anywhere in the names of vendor and product".to_owned(),
            ),
            None => cannot(),
        },
        ("via-port", Some(one)) => port(one).unwrap_or_else(cannot),
        ("with-interface", _) => interfaces(values, keys),
        ("with-connect-type", Some(one)) => connect_type(one),
        ("hash" | "parent-hash", _) => Condition::lost(format!("`{name}` cannot be compared")),
        ("if", _) => Condition::lost("conditions cannot be matched"),
        _ => cannot(),
    }
}

/// The attributes `id` and `serial`, which are one key of a rule.
fn identity(id: Option<&Values>, serial: Option<&Values>) -> Vec<Condition> {
    let mut all = Vec::new();
    let mut ids = Vec::new();
    match id.map(self::ids) {
        None => {}
        Some(Some(found)) => ids = found,
        Some(None) => all.push(Condition::lost("these ids cannot be matched")),
    }
    if let Some(serial) = serial {
        match serial.single().and_then(|it| with_serial(&ids, it)) {
            Some(found) => ids = found,
            None => all.push(Condition::lost(match serial.single() {
                Some("") => "that a device has no serial number cannot be matched",
                Some(_) if ids.is_empty() => "a serial number without an id cannot be matched",
                _ => "this `serial` cannot be matched",
            })),
        }
    }
    if !ids.is_empty() {
        all.push(Condition::Same(Match { id: ids, ..Match::default() }));
    }
    all
}

/// The ids, any of which may match; empty if every id matches. `None` if this cannot be expressed.
fn ids(values: &Values) -> Option<Vec<IdPattern>> {
    if values.single().is_none() && !matches!(values.operator.as_str(), "one-of" | "match-all") {
        return None;
    }
    if values.all.iter().any(|it| it == "*:*") {
        return Some(Vec::new());
    }
    let id = |it: &String| it.parse().ok().filter(|it: &IdPattern| it.serial.is_none());
    values.all.iter().map(id).collect()
}

/// The ids with a serial number. `None` if this cannot be expressed: a character that the list of
/// devices shows differently would never match.
fn with_serial(ids: &[IdPattern], serial: &str) -> Option<Vec<IdPattern>> {
    let is_plain = serial.chars().all(|it| it.is_ascii_graphic() || it == ' ');
    let id = |it: &IdPattern| format!("{it}:{serial}").parse().ok();
    let all: Option<Vec<IdPattern>> = ids.iter().map(id).collect();
    all.filter(|it| is_plain && !it.is_empty())
}

/// A port as the kernel names it.
fn port(text: &str) -> Option<Condition> {
    let is_exact = |it: &BusId| it.to_string() == text;
    text.parse::<BusId>().ok().filter(is_exact)?;
    let port: Vec<PortPattern> = vec![text.parse().ok()?];
    Some(Condition::Same(Match { port, ..Match::default() }))
}

/// The type of a port by the firmware. The kernel derives from it whether a device is removable
/// (`set_usb_port_removable` in `drivers/usb/core/hub.c`), and asks the hub if there is none.
fn connect_type(text: &str) -> Condition {
    let value = match text {
        "hotplug" => Removable::Removable,
        "hardwired" | "not used" => Removable::Fixed,
        _ => return Condition::lost(format!("the type \"{text}\" of a port cannot be matched")),
    };
    let keys = Match { removable: vec![value], ..Match::default() };
    Condition::Wider(keys, "`removable` also follows what a hub reports".to_owned())
}

/// A kind of interface.
struct InterfaceKind {
    class: InterfaceClass,
    /// Whether the class stands for the same interfaces.
    is_same: bool,
    /// Whether it has no wildcard.
    is_full: bool,
}

/// Reads `08:06:50`, `08:06:*` or `08:*:*`; `08:*:50` can only be expressed as `08`.
fn kind(text: &str) -> Option<InterfaceKind> {
    let parts: Vec<&str> = text.split(':').collect();
    let [class, subclass, protocol] = parts.as_slice() else { return None };
    let is_code = |it: &str| it.len() == 2 && it.bytes().all(|it| it.is_ascii_hexdigit());
    let is_valid = |it: &str| it == "*" || is_code(it);
    if !is_code(class) || !is_valid(subclass) || !is_valid(protocol) {
        return None;
    }
    let known = match (*subclass, *protocol) {
        ("*", _) => (*class).to_owned(),
        (subclass, "*") => format!("{class}:{subclass}"),
        _ => text.to_owned(),
    };
    Some(InterfaceKind {
        class: known.parse().ok()?,
        is_same: *subclass != "*" || *protocol == "*",
        is_full: *subclass != "*" && *protocol != "*",
    })
}

/// The kinds of interfaces.
fn interfaces(values: &Values, keys: &Match) -> Condition {
    let kinds: Option<Vec<InterfaceKind>> = values.all.iter().map(|it| kind(it)).collect();
    let Some(kinds) = kinds else {
        return Condition::lost("these interfaces cannot be matched");
    };
    let is_same = kinds.iter().all(|it| it.is_same);
    let is_full = kinds.iter().all(|it| it.is_full);
    let mut classes: Vec<InterfaceClass> = Vec::new();
    for kind in kinds {
        if !classes.contains(&kind.class) {
            classes.push(kind.class);
        }
    }
    let has = Match { has: classes.clone(), ..Match::default() };
    let only = Match { only: classes.clone(), ..Match::default() };
    let wider = |keys: Match, why: &str| Condition::Wider(keys, why.to_owned());
    let exact = |keys: Match| {
        if is_same {
            Condition::Same(keys)
        } else {
            wider(keys, "a protocol without its subclass cannot be matched")
        }
    };
    match (values.operator.as_str(), classes.len()) {
        ("one-of", _) | ("all-of", 1) => exact(has),
        ("match-all", _) => exact(only),
        ("all-of", _) => wider(has, "several interfaces at once cannot be matched"),
        ("none-of", _) => Condition::Except(
            Match::default(),
            vec![has],
            "a device with one of these interfaces is denied, and not left to later rules",
        ),
        // `equals`. With a wildcard, it is about the number of interfaces.
        (_, _) if !is_full => wider(only, "how many interfaces a device has cannot be matched"),
        (_, 1) => Condition::Same(only),
        ("equals", _) if is_one_device(keys) => all_of(&classes),
        (_, _) => wider(only, "a device with only some of these interfaces matches too"),
    }
}

/// Whether each id has a product, so that an exception hardly concerns other devices.
fn is_one_device(keys: &Match) -> bool {
    !keys.id.is_empty() && keys.id.iter().all(|it| it.product.is_some())
}

/// A device with interfaces of exactly these kinds.
pub(super) fn all_of(kinds: &[InterfaceClass]) -> Condition {
    let only = |only: Vec<InterfaceClass>| Match { only, ..Match::default() };
    let without =
        |kind: &InterfaceClass| only(kinds.iter().filter(|it| *it != kind).cloned().collect());
    Condition::Except(
        only(kinds.to_vec()),
        kinds.iter().map(without).collect(),
        "a device with only some of these interfaces is denied, and not left to other rules",
    )
}
