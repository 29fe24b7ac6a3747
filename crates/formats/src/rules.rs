//! Rule files, in TOML: what a host device is for.
//!
//! ```toml
//! [[rule]]
//! name = "licence dongle"              # unique among all rules of the machine
//! id = ["0529:0001", "0529:0620:A1B2"] # which devices: all keys must match, one entry of a list
//! port = "1-4.*"
//! attach = "licence"                   # what to do: exactly one of attach, ask, allow, deny
//! at = "hci0:3"
//!
//! [builtin]
//! only-network = false                 # lifts a protection
//! ```
//!
//! | table | keys |
//! |---|---|
//! | top level | `unmatched`: what applies to a device that no rule matches, `"allow"` (the default) or `"deny"` |
//! | `rule` | `name`, and the keys below |
//! | which devices | `id`, `port`, `has`, `only`, `text` (each a string or a list), `removable` (`true`, `false`, `"unknown"`) |
//! | what to do | `attach` (a domain), `ask`, `allow`, `deny` (domains, with `*`) |
//! | how | with `attach`: `at` (a controller or a port), `max` (1 to 127); with `deny`: `final` |
//! | `builtin` | `used-disk`, `only-network`, `only-keyboard`, `unauthorized`: `false` lifts the protection |
//!
//! Any other key is an error, so that a misspelt key does not match more than was meant.

pub mod import;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use vusb_model::rules::{
    Action, Glob, Match, ProtectionKind, Removable, Rule, RuleName, Targets, Unmatched,
};

use crate::error::{FormatError, Problem};
use crate::fields::{Field, Fields, short};

/// The maximum size of a rule file, in bytes: 1 MiB, which is some ten thousand rules.
pub const MAX_BYTES: usize = 1 << 20;

/// A rule file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFile {
    /// The rules, in the order of the file. Each has its file and line.
    pub rules: Vec<Rule>,
    /// The spans of the rules' names, in bytes: where to show a mistake.
    pub names: Vec<Range<usize>>,
    /// The protections that the file mentions, and whether each is in force.
    pub builtin: BTreeMap<ProtectionKind, bool>,
    /// What applies to a device that no rule matches, if the file specifies it.
    pub unmatched: Option<Unmatched>,
}

/// The keys of a rule.
const KEYS: [&str; 14] = [
    "name",
    "id",
    "port",
    "has",
    "only",
    "text",
    "removable",
    "attach",
    "ask",
    "allow",
    "deny",
    "at",
    "max",
    "final",
];

/// The actions of a rule.
const ACTIONS: [&str; 4] = ["attach", "ask", "allow", "deny"];

/// Parses a rule file. `origin` is the name of the text in errors and in the rules: the name of the
/// file.
///
/// # Errors
/// It is too long, not TOML, or not valid rules. The first mistake is shown.
pub fn read(text: &str, origin: &str) -> Result<RuleFile, FormatError> {
    parse(text, origin).map_err(|problem| problem.in_text(text, origin))
}

fn parse(text: &str, origin: &str) -> Result<RuleFile, Problem> {
    if text.len() > MAX_BYTES {
        let what = format!("this is {} bytes long, and the limit for rules is 1 MiB", text.len());
        return Err(Problem::new(0..0, what).help("is it a rule file?"));
    }
    let table = DeTable::parse(text).map_err(|error| {
        Problem::new(error.span().unwrap_or(0..0), format!("this is not TOML: {}", error.message()))
    })?;
    let mut fields = Fields::new(table.get_ref(), table.span());
    let unmatched = fields.take("unmatched").map(|field| unmatched(&field)).transpose()?;
    let builtin = fields.take("builtin").map(|field| builtin(&field)).transpose()?;
    let mut file =
        RuleFile { unmatched, builtin: builtin.unwrap_or_default(), ..RuleFile::default() };
    for table in fields.tables("rule")? {
        let header = table.span();
        let (rule, name) = rule(table)?;
        let line = text.get(..header.start).unwrap_or_default().matches('\n').count() + 1;
        file.rules.push(Rule { file: Some(origin.to_owned()), line, ..rule });
        file.names.push(name);
    }
    fields.finish("a rule file", &["rule", "builtin", "unmatched"])?;
    Ok(file)
}

fn unmatched(field: &Field<'_>) -> Result<Unmatched, Problem> {
    match field.as_text()? {
        "allow" => Ok(Unmatched::Allow),
        "deny" => Ok(Unmatched::Deny),
        _ => Err(field.refuse("`unmatched` must be \"allow\" or \"deny\"")),
    }
}

/// The table `[builtin]`.
fn builtin(field: &Field<'_>) -> Result<BTreeMap<ProtectionKind, bool>, Problem> {
    let DeValue::Table(table) = field.value() else {
        return Err(field.wrong_type("a table: write [builtin]"));
    };
    let mut fields = Fields::new(table, field.span());
    let mut all = BTreeMap::new();
    for kind in ProtectionKind::ALL {
        let Some(field) = fields.take(kind.name()) else { continue };
        let in_force = boolean(&field)?;
        if !in_force && !kind.can_be_lifted() {
            return Err(field
                .refuse(format!("`{kind}` cannot be lifted: no hypervisor passes hubs through")));
        }
        all.insert(kind, in_force);
    }
    let names = ProtectionKind::ALL.map(ProtectionKind::name);
    fields.finish("`builtin`", &names)?;
    Ok(all)
}

/// One table `[[rule]]`, with the span of its name.
fn rule(mut fields: Fields<'_>) -> Result<(Rule, Range<usize>), Problem> {
    let header = fields.span();
    let name = fields.take("name").ok_or_else(|| {
        Problem::new(header.clone(), "this rule has no name")
            .help("add name = \"…\": explanations and logs use it")
    })?;
    let matches = Match {
        id: list(&mut fields, "id")?,
        port: list(&mut fields, "port")?,
        has: list(&mut fields, "has")?,
        only: list(&mut fields, "only")?,
        text: list(&mut fields, "text")?,
        removable: removable(&mut fields)?,
        ..Match::default()
    };
    let (action, word) = action(&mut fields, &header)?;
    if matches.is_empty() && matches!(action, Action::Attach(_)) {
        return Err(Problem::new(header, "this rule attaches every device")
            .help("add a key that says which devices: id, port, has, only, text or removable"));
    }
    let only_with = |field: &Field<'_>, owner: &str| {
        let what =
            format!("`{}` is a key of rules that {owner}, and this rule has `{word}`", field.key());
        Problem::new(field.key_span(), what)
    };
    let attaches = matches!(action, Action::Attach(_));
    let at = match fields.take("at") {
        Some(field) if !attaches => return Err(only_with(&field, "attach")),
        field => field.map(|it| it.parse()).transpose()?,
    };
    let max = match fields.take("max") {
        Some(field) if !attaches => return Err(only_with(&field, "attach")),
        field => field.map(|it| it.integer(1..=127)).transpose()?,
    };
    let is_final = match fields.take("final") {
        Some(field) if word != "deny" => return Err(only_with(&field, "deny")),
        field => field.map(|it| boolean(&it)).transpose()?.unwrap_or(false),
    };
    let name_span = name.span();
    let name: RuleName = name.parse()?;
    fields.finish("a rule", &KEYS)?;
    Ok((Rule { at, max, is_final, ..Rule::new(name, matches, action) }, name_span))
}

/// The one action of a rule, and its key.
fn action(
    fields: &mut Fields<'_>,
    header: &Range<usize>,
) -> Result<(Action, &'static str), Problem> {
    let mut given = ACTIONS.iter().filter_map(|word| Some((*word, fields.take(word)?)));
    let Some((word, field)) = given.next() else {
        return Err(Problem::new(header.clone(), "this rule does not say what to do")
            .help("add one of attach, ask, allow and deny"));
    };
    if let Some((other, duplicate)) = given.next() {
        let what = format!("`{other}` and `{word}` in one rule");
        return Err(Problem::new(duplicate.key_span(), what)
            .other(field.key_span(), "the other action")
            .help("write a rule for each"));
    }
    let action = match word {
        "attach" => Action::Attach(domain(&field)?),
        "ask" => Action::Ask(targets(&field)?),
        "allow" => Action::Allow(targets(&field)?),
        _ => Action::Deny(targets(&field)?),
    };
    Ok((action, word))
}

/// The domain of `attach`.
fn domain(field: &Field<'_>) -> Result<String, Problem> {
    if matches!(field.value(), DeValue::Array(_)) {
        return Err(field
            .wrong_type("one domain: a device can only be in one place")
            .help("use ask if a person is to choose"));
    }
    let text = field.as_text()?;
    // The same characters as in a pattern, so that the rule can be compared with others.
    let valid = text.parse::<Glob>().is_ok() && !text.contains('*');
    if valid {
        Ok(text.to_owned())
    } else {
        Err(field
            .refuse(format!("`{}` is not one domain", short(text)))
            .help("write the name or the address of a domain; use ask if a person is to choose"))
    }
}

fn targets(field: &Field<'_>) -> Result<Targets, Problem> {
    let all: Vec<Glob> = entries(field)?;
    if all.is_empty() {
        return Err(field
            .refuse(format!("`{}` names no domain", field.key()))
            .help("write \"*\" for all"));
    }
    Ok(Targets(all))
}

fn removable(fields: &mut Fields<'_>) -> Result<Vec<Removable>, Problem> {
    let Some(field) = fields.take("removable") else { return Ok(Vec::new()) };
    let value = match field.value() {
        DeValue::Boolean(true) => Removable::Removable,
        DeValue::Boolean(false) => Removable::Fixed,
        value if value.as_str() == Some("unknown") => Removable::Unknown,
        _ => return Err(field.wrong_type("true, false or \"unknown\"")),
    };
    Ok(vec![value])
}

fn boolean(field: &Field<'_>) -> Result<bool, Problem> {
    field.value().as_bool().ok_or_else(|| field.wrong_type("true or false"))
}

/// The values of a key; empty if it is not given. An empty list is an error: it would match every
/// device.
fn list<T: FromStr<Err: Display>>(fields: &mut Fields<'_>, key: &str) -> Result<Vec<T>, Problem> {
    let Some(field) = fields.take(key) else { return Ok(Vec::new()) };
    let all = entries(&field)?;
    if all.is_empty() {
        return Err(field.refuse(format!("`{key}` is empty")).help("leave it out instead"));
    }
    Ok(all)
}

/// The value as a string, or as a list of strings.
fn entries<T: FromStr<Err: Display>>(field: &Field<'_>) -> Result<Vec<T>, Problem> {
    let DeValue::Array(list) = field.value() else {
        if field.value().as_str().is_none() {
            return Err(field.wrong_type("a string in quotes, or a list of them"));
        }
        return Ok(vec![field.parse()?]);
    };
    let one = |entry: &Spanned<DeValue<'_>>| {
        let expected = || {
            let what = format!("each entry of `{}` must be a string in quotes", field.key());
            Problem::new(entry.span(), what)
        };
        let text = entry.get_ref().as_str().ok_or_else(expected)?;
        text.parse().map_err(|error: T::Err| Problem::new(entry.span(), error.to_string()))
    };
    list.iter().map(one).collect()
}
