//! USBGuard's `rules.conf`, usbguard-rules.conf(5).
//!
//! ```text
//! allow id 0781:5581 serial "4C53" name "Ultra" hash "…" with-interface 08:06:50
//! block with-interface one-of { 03:00:* 03:01:* }
//! ```

use super::{Draft, Drafts, anywhere};
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

pub(super) fn read(text: &str) -> Result<Drafts, Problem> {
    let mut drafts = Drafts { first_decides: true, ..Drafts::default() };
    let mut begin = 0;
    for (number, line) in text.split('\n').enumerate() {
        let span = begin..begin + line.len();
        begin = span.end + 1;
        let wrong = |what: String| Problem::new(span.clone(), what);
        let tokens = tokens(line).map_err(wrong)?;
        let mut tokens = tokens.into_iter().peekable();
        let action = match tokens.next() {
            None => continue,
            Some(Token::Word(word)) if word == "allow" => "allow",
            Some(Token::Word(word)) if word == "block" || word == "reject" => "deny",
            Some(_) => return Err(wrong("a rule begins with allow, block or reject".to_owned())),
        };
        let from = format!("line {}", number + 1);
        let mut attributes = Vec::new();
        while let Some(token) = tokens.next() {
            let Token::Word(name) = token else {
                return Err(wrong("the name of an attribute was expected".to_owned()));
            };
            // A bare pair of ids is an attribute `id`, as in `allow 1234:5678`.
            if name.contains(':') {
                let values = Values { operator: "equals".to_owned(), all: vec![name] };
                attributes.push(("id".to_owned(), values));
                continue;
            }
            let values = values(&mut tokens).map_err(|what| wrong(format!("{name}: {what}")))?;
            attributes.push((name, values));
        }
        entry(&mut drafts, Draft::new(from, action), attributes);
    }
    Ok(drafts)
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
            '"' => {
                let mut text = String::new();
                loop {
                    match rest.next() {
                        Some('"') => break,
                        Some('\\') => text.extend(rest.next()),
                        Some(it) => text.push(it),
                        None => return Err("a string has no end".to_owned()),
                    }
                }
                tokens.push(Token::Text(text));
            }
            it if it.is_whitespace() => {}
            it => {
                let mut word = String::from(it);
                let part = |it: &char| !it.is_whitespace() && !"{}\"#".contains(*it);
                while let Some(it) = rest.next_if(part) {
                    word.push(it);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

fn values(tokens: &mut std::iter::Peekable<std::vec::IntoIter<Token>>) -> Result<Values, String> {
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
                    Some(Token::Close) => return Ok(Values { operator, all }),
                    _ => return Err("a list has no end".to_owned()),
                }
            }
        }
        _ => Err("it has no value".to_owned()),
    }
}

/// One rule.
fn entry(drafts: &mut Drafts, mut draft: Draft, attributes: Vec<(String, Values)>) {
    let from = draft.from.clone();
    let denies = draft.action == "deny";
    let mut serial = None;
    // Conditions that cannot be expressed: a deny rule denies more devices without them, and an
    // allow rule is left out.
    let mut inexact: Vec<String> = Vec::new();
    let mut except = None;
    for (name, values) in attributes {
        let one = match values.all.as_slice() {
            [one] if values.operator != "none-of" => Some(one.clone()),
            _ => None,
        };
        match (name.as_str(), one) {
            ("id", one) => match ids(&values, one.is_some()) {
                Some(ids) => draft.id = ids,
                None => inexact.push("these ids cannot be matched".to_owned()),
            },
            ("serial", Some(one)) if one.is_empty() => {}
            ("serial", Some(one)) => serial = Some(one),
            ("name", Some(one)) => {
                draft.name = one.clone();
                draft.text.extend(anywhere(&one));
            }
            ("via-port", Some(one)) if is_port(&one) => draft.port.push(one),
            ("with-interface", _) => {
                let mut loose = Vec::new();
                except = interfaces(&mut draft, &values, &mut inexact, &mut loose);
                loose.iter().for_each(|what| drafts.lose(&from, what));
            }
            ("with-connect-type", Some(one)) => match one.as_str() {
                "hotplug" => draft.removable = Some(true),
                "hardwired" => draft.removable = Some(false),
                _ => {}
            },
            // A hash identifies a device in addition to its ids.
            ("hash" | "parent-hash", _) => {
                drafts.lose(&from, format!("`{name}` is not compared"));
            }
            ("label", _) => {}
            ("if", _) => inexact.push("conditions cannot be matched".to_owned()),
            _ => inexact.push(format!("this `{name}` cannot be matched")),
        }
    }
    if let Some(serial) = serial {
        match draft.id.as_slice() {
            [id] if !id.contains('*') => draft.id = vec![format!("{id}:{serial}")],
            _ => inexact.push("a serial number without an id cannot be matched".to_owned()),
        }
    }
    if draft.name.is_empty() {
        draft.name = format!("{} {from}", draft.action);
    }
    finish(drafts, draft, except, &inexact, denies);
}

fn finish(
    drafts: &mut Drafts,
    draft: Draft,
    except: Option<Vec<String>>,
    inexact: &[String],
    denies: bool,
) {
    let from = draft.from.clone();
    let lists = [&draft.id, &draft.port, &draft.has, &draft.only, &draft.text];
    let is_empty = lists.iter().all(|it| it.is_empty()) && draft.removable.is_none();
    for what in inexact {
        let effect = match (denies, is_empty) {
            (false, _) => "the rule is left out",
            (true, true) => "the rule is left out, and nothing is denied instead",
            (true, false) => "more devices are denied",
        };
        drafts.lose(&from, format!("{what}: {effect}"));
    }
    if !inexact.is_empty() && (!denies || is_empty) {
        return;
    }
    if let Some(has) = except {
        let what = "a device with one of these interfaces is denied, and not left to later rules";
        drafts.lose(&from, what);
        drafts.all.push(Draft {
            name: format!("{} not", draft.name),
            has,
            only: Vec::new(),
            action: "deny",
            is_exception: true,
            ..draft.clone()
        });
    }
    match (is_empty, draft.action) {
        // A rule for every device becomes what applies to a device that no rule matches.
        (true, "allow") => drafts.unmatched = drafts.unmatched.or(Some("allow")),
        (true, _) => drafts.unmatched = drafts.unmatched.or(Some("deny")),
        (false, _) => drafts.all.push(draft),
    }
}

/// The ids, any of which may match; empty if every id matches. `None` if this cannot be expressed.
fn ids(values: &Values, is_one: bool) -> Option<Vec<String>> {
    if !is_one && values.operator != "one-of" {
        return None;
    }
    let all: Vec<&String> = values.all.iter().filter(|it| *it != "*:*").collect();
    let valid = |it: &&String| it.parse::<vusb_model::rules::IdPattern>().is_ok();
    let everything = all.len() < values.all.len();
    match (everything, all.iter().all(valid)) {
        (true, _) => Some(Vec::new()),
        (false, true) => Some(all.into_iter().cloned().collect()),
        (false, false) => None,
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<vusb_model::rules::PortPattern>().is_ok()
}

/// Reads the kinds of interfaces. Returns those that a device must not have.
fn interfaces(
    draft: &mut Draft,
    values: &Values,
    inexact: &mut Vec<String>,
    loose: &mut Vec<String>,
) -> Option<Vec<String>> {
    let kind = |text: &String| text.trim_end_matches(":*").to_owned();
    let kinds: Vec<String> = values.all.iter().map(kind).collect();
    let valid = |it: &String| it.parse::<vusb_model::rules::InterfaceClass>().is_ok();
    if !kinds.iter().all(valid) {
        inexact.push("these interfaces cannot be matched".to_owned());
        return None;
    }
    let several = kinds.len() > 1;
    match (values.operator.as_str(), draft.action) {
        ("one-of", _) => draft.has = kinds,
        ("match-all", _) => draft.only = kinds,
        ("none-of", "allow") => return Some(kinds),
        ("none-of", _) => inexact.push("a missing interface cannot be matched".to_owned()),
        ("all-of", _) if !several => draft.has = kinds,
        ("all-of", _) => {
            inexact.push("several interfaces at once cannot be matched".to_owned());
            draft.has = kinds;
        }
        // `equals`: exactly these.
        (_, _) => {
            if several {
                loose.push("a device with only some of these interfaces matches too".to_owned());
            }
            draft.only = kinds;
        }
    }
    None
}
