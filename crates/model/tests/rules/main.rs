//! Rules: what to do with a device.
//!
//! | file | about |
//! |---|---|
//! | `examples` | reads as a manual: precedence, questions, denials, records, protections |
//! | `checks` | mistakes in a set of rules |
//! | `properties` | the order has no effect, a deny rule attaches nothing, and a second implementation |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod checks;
mod examples;
mod properties;

use vusb_model::rules::{
    Action, DeviceFacts, Domain, Effect, Glob, InterfacePattern, Match, Rule, RuleSet, Targets,
};

/// A rule from a line such as `id=0529:* port=1-4 -> attach web1`, named `name`. Several values of
/// a key are separated by commas. `deny! *` is final.
fn rule(name: &str, line: &str) -> Rule {
    let (keys, action) = line.split_once("->").expect("an arrow");
    let mut matches = Match::default();
    for (key, value) in keys.split_whitespace().map(|it| it.split_once('=').expect("a value")) {
        match key {
            "id" => matches.id = all(value),
            "port" => matches.port = all(value),
            "has" => matches.has = all(value),
            "only" => matches.only = all(value),
            "text" => matches.text = all(value),
            _ => panic!("{key}"),
        }
    }
    let (word, domains) = action.trim().split_once(' ').expect("domains");
    let targets = Targets(all::<Glob>(domains));
    let action = match word {
        "attach" => Action::Attach(domains.to_owned()),
        "ask" => Action::Ask(targets),
        "allow" => Action::Allow(targets),
        "deny" | "deny!" => Action::Deny(targets),
        _ => panic!("{word}"),
    };
    let rule = Rule::new(name.parse().unwrap(), matches, action);
    Rule { is_final: word == "deny!", ..rule }
}

fn all<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &str) -> Vec<T> {
    value.split(',').map(|it| it.parse().unwrap()).collect()
}

/// Rules that are named `r0`, `r1` and so on.
fn set(lines: &[&str]) -> RuleSet {
    let rules = lines.iter().enumerate().map(|(number, line)| rule(&format!("r{number}"), line));
    RuleSet { rules: rules.collect(), ..RuleSet::default() }
}

fn domains(names: &[&str]) -> Vec<Domain> {
    names.iter().map(|name| Domain::named(*name)).collect()
}

/// A device with the serial number A1 and interfaces such as `08:06:50`.
fn device(id: &str, port: &str, interfaces: &[&str]) -> DeviceFacts {
    let exact = |text: &&str| -> InterfacePattern {
        let class: vusb_model::rules::InterfaceClass = text.parse().unwrap();
        class.patterns()[0]
    };
    DeviceFacts {
        id: Some(id.parse().unwrap()),
        serial: Some("A1".to_owned()),
        port: Some(port.parse().unwrap()),
        path: None,
        interfaces: Some(interfaces.iter().map(exact).collect()),
        text: Some("ACME Ethernet 100".to_owned()),
        ..DeviceFacts::default()
    }
}

/// The effect in a few words: `attach web1`, `ask gui, work`, `conflict a, b`, `denied`, `nothing`.
fn words(effect: &Effect) -> String {
    match effect {
        Effect::Nothing => "nothing".to_owned(),
        Effect::Attach { domain, .. } => format!("attach {domain}"),
        Effect::Ask { domains, .. } => format!("ask {}", domains.join(", ")),
        Effect::Conflict { domains, .. } => format!("conflict {}", domains.join(", ")),
        Effect::Denied { .. } => "denied".to_owned(),
    }
}
