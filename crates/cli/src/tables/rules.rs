//! Rules, and what they mean for a device.
//!
//! ```text
//! 0529:0001 Aladdin HASP at 1-4.2 [ff:00:00]
//! attach to licence: rule `licence dongle` (/etc/vusb/rules.d/10.toml:3)
//!
//! DOMAIN   BY HAND  RULE
//! licence  yes      licence dongle
//!
//! RULE            ACTION          RESULT                                        WHERE
//! licence dongle  attach licence  decides: port, product, vendor                /etc/vusb/rules.d/10.toml:3
//! all else        ask work        beaten by licence dongle                      /etc/vusb/rules.d/10.toml:8
//! keyboards       deny * (final)  no, has: wanted keyboard, seen ff:00:00        /etc/vusb/rules.d/10.toml:13
//! ```

use std::collections::BTreeSet;

use serde_json::Value;
use vusb::model::rules::{Considered, Effect, RuleName, Verdict};
use vusb::rules::{ExplainView, RuleView, RulesView};

use super::layout::table;
use crate::safe;

/// All rules.
pub(crate) fn rules(view: &RulesView) -> String {
    table(["RULE", "DEVICES", "ACTION", "WHERE"], view.rules.iter().map(rule))
}

fn rule(rule: &RuleView) -> [String; 4] {
    let keys = rule.matches.iter().map(|(key, values)| format!("{key} {}", values.join(" or ")));
    let keys: Vec<String> = keys.collect();
    let mut action = format!("{} {}", rule.action, rule.domains.join(", "));
    if let Some(at) = &rule.at {
        action += &format!(" at {at}");
    }
    if let Some(max) = rule.max {
        action += &format!(" (max {max})");
    }
    [
        rule.name.clone(),
        if keys.is_empty() { "any".to_owned() } else { keys.join(", ") },
        marked_action(action, &rule.name, rule.is_final),
        location(rule.file.as_deref(), rule.line),
    ]
}

/// The decision, the permissions, and the verdict of each rule.
pub(crate) fn explained(view: &ExplainView) -> String {
    let permissions = view.permissions.iter().map(|it| {
        let by_hand = match (it.verdict, it.is_final) {
            (Verdict::Allowed, _) => "yes",
            (Verdict::Denied, false) => "with --force",
            (Verdict::Denied, true) => "no",
        };
        [it.domain.clone(), by_hand.to_owned(), it.rule.to_string()]
    });
    let permissions = table(["DOMAIN", "BY HAND", "RULE"], permissions);
    let trace = view.trace.iter().map(|it| {
        let action = marked_action(it.action.clone(), it.rule.as_str(), it.is_final);
        [it.rule.to_string(), action, verdict(it, view), location(it.file.as_deref(), it.line)]
    });
    let trace = table(["RULE", "ACTION", "RESULT", "WHERE"], trace);
    let known = safe::line(&view.about).into_owned();
    let effect = safe::line(&effect(view)).into_owned();
    let head = format!("{known}\n{effect}{}", by_daemon(view));
    if view.permissions.is_empty() {
        return format!("{head}\n\n{trace}");
    }
    format!("{head}\n\n{permissions}\n\n{trace}")
}

/// The state of the device in the daemon, and what the daemon has done with it.
fn by_daemon(view: &ExplainView) -> String {
    let question = view.history.iter().rev().find(|it| it.event == "question" && it.number > 0);
    let question = question.map(|it| it.number.to_string()).unwrap_or_else(|| "NUMBER".to_owned());
    let asking = format!("vusbd asks who gets it: `vusb answer {question} DOMAIN`");
    let state = view.state.as_deref().map(|state| match state {
        "attached" => "vusbd has attached it",
        "attaching" => "vusbd is about to attach it",
        "failing" => "vusbd has failed to attach it several times, and tries again",
        "held" => "it was detached by hand: vusbd leaves it detached until it is plugged in again",
        "asking" => asking.as_str(),
        "denied" => "vusbd does not attach it: it is denied",
        _ => "vusbd does nothing with it now",
    });
    let past = view.history.iter().map(|it| {
        let domain = it.domain.as_deref().map(|it| format!(" {it}:")).unwrap_or_default();
        format!("{} {}:{domain} {}", it.time, it.event, it.text)
    });
    let lines = state.map(str::to_owned).into_iter().chain(past);
    lines.map(|it| format!("\n{}", safe::line(&it))).collect()
}

/// An event of the daemon, as one line.
pub(crate) fn event(event: &Value) -> String {
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = event.get("number").and_then(Value::as_u64).unwrap_or(0);
    let choices = event.get("domains").and_then(Value::as_array).into_iter().flatten();
    let choices: Vec<&str> = choices.filter_map(Value::as_str).collect();
    let mut parts = vec![number.to_string(), text("event").to_owned()];
    parts.extend(Some(text("domain").to_owned()).filter(|it| !it.is_empty()));
    parts.push(text("text").to_owned());
    if !choices.is_empty() {
        parts.push(format!("({})", choices.join(" or ")));
    }
    safe::line(&parts.join(" ")).into_owned()
}

/// What happens automatically, as a sentence.
fn effect(view: &ExplainView) -> String {
    let source = |names: &[RuleName]| {
        let one = |name: &RuleName| {
            let its = view.trace.iter().find(|it| it.rule == *name);
            let file = its.and_then(|it| Some(format!(" ({}:{})", it.file.as_ref()?, it.line?)));
            format!("`{name}`{}", file.unwrap_or_default())
        };
        let all: Vec<String> = names.iter().map(one).collect();
        format!("{} {}", if all.len() == 1 { "rule" } else { "rules" }, all.join(", "))
    };
    match &view.effect {
        Effect::Nothing => "nothing happens automatically: no rule attaches it or asks".to_owned(),
        Effect::Attach { domain, rule, at, max } => {
            let at = at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
            let max = max.map(|max| format!(", for up to {max} devices")).unwrap_or_default();
            format!("attach to {domain}{at}{max}: {}", source(std::slice::from_ref(rule)))
        }
        Effect::Ask { domains, rules } => {
            format!("ask who gets it, {}: {}", domains.join(" or "), source(rules))
        }
        Effect::Conflict { domains, rules } => format!(
            "ask who gets it, {}: they have equal rank, {}",
            domains.join(" or "),
            source(rules)
        ),
        Effect::Denied { domains, rules } => {
            format!("not given to {}: {}", domains.join(" or "), source(rules))
        }
    }
}

/// The verdict of a rule.
fn verdict(it: &Considered, view: &ExplainView) -> String {
    if let Some(mismatch) = &it.mismatch {
        return format!("no, {mismatch}");
    }
    let rank = it.rank.map(|rank| rank.to_string()).unwrap_or_default();
    let others: BTreeSet<&RuleName> = it.beaten.iter().map(|it| &it.by).collect();
    let others: Vec<&str> = others.into_iter().map(RuleName::as_str).collect();
    let beaten = format!("beaten by {}", others.join(", "));
    match (it.decides.as_slice(), others.is_empty()) {
        ([], true) if view.domain.is_some() => format!("not about this domain: {rank}"),
        ([], true) => format!("matches: {rank}"),
        ([], false) => format!("{beaten}: {rank}"),
        (_, true) => format!("decides: {rank}"),
        (decides, false) => format!("decides for {}, {beaten}: {rank}", decides.join(", ")),
    }
}

/// An action. Rules that no other rule overrides are marked: final ones, and built-in ones, which
/// only `--force` overrides.
fn marked_action(action: String, rule: &str, is_final: bool) -> String {
    match (is_final, rule.starts_with("builtin:")) {
        (true, _) => format!("{action} (final)"),
        (false, true) => format!("{action} (built in)"),
        (false, false) => action,
    }
}

fn location(file: Option<&str>, line: Option<usize>) -> String {
    match (file, line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        (Some(file), None) => file.to_owned(),
        (None, _) => "-".to_owned(),
    }
}
