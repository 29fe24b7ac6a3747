//! What a set of rules means for one device.
//!
//! ```text
//!   for each domain      the rules that match and are about it ──▶ the winner ──▶ permission
//!   for the device       the winners of all domains, without deny rules
//!                          ──▶ the most specific: attach, ask, or several: a question
//!                          ──▶ minus the domains that it is denied to ──▶ effect
//! ```
//!
//! Deny rules do not influence which domain is chosen; they only forbid it. So adding a deny rule
//! never causes a device to be attached: the domain that is denied is not replaced by another one.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::device::{DeviceFacts, Domain};
use super::matching::{Match, Mismatch};
use super::rank::{Rank, Tier};
use super::{Action, At, Rule, RuleName, RuleSet};

/// What the rules mean for one device, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What happens automatically.
    pub effect: Effect,
    /// For each domain whether it may be given the device by hand, ordered by name: the domains
    /// that are known, and those that a rule names.
    pub permissions: Vec<Permission>,
    /// The verdict of each rule, the one that decides first and those that do not match last.
    pub trace: Vec<Considered>,
}

/// What happens to a device automatically.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Effect {
    /// Nothing: no rule attaches it or asks.
    Nothing,
    /// It is attached to the domain.
    Attach {
        /// The domain.
        domain: String,
        /// The rule.
        rule: RuleName,
        /// Where it goes in the guest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<At>,
        /// At most this many devices are attached by the rule at a time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<u32>,
    },
    /// A person is asked which of these domains gets it.
    Ask {
        /// The domains, at least one.
        domains: Vec<String>,
        /// The rules that ask.
        rules: Vec<RuleName>,
    },
    /// Rules of equal rank attach it to different domains, so a person is asked.
    Conflict {
        /// The domains; one may be left if it is denied to the others.
        domains: Vec<String>,
        /// The rules that attach it.
        rules: Vec<RuleName>,
    },
    /// It would be attached, or a person asked, but it is denied to every domain in question.
    Denied {
        /// The domains.
        domains: Vec<String>,
        /// The rules that deny it.
        rules: Vec<RuleName>,
    },
}

/// Whether a domain may be given a device by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// The domain.
    pub domain: String,
    /// Whether it may.
    pub verdict: Verdict,
    /// The rule that decides.
    pub rule: RuleName,
    /// Whether nothing overrides that rule, not even a user who insists
    /// ([`Rule::withstands_force`]).
    #[serde(rename = "final", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
}

/// Whether something is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is permitted.
    Allowed,
    /// It is not permitted.
    Denied,
}

/// The verdict of a rule about a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// The rule.
    pub rule: RuleName,
    /// The file that it is from, if it is from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in the file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Its action, in words: `attach web1`.
    pub action: String,
    /// Whether nothing overrides it, not even a user who insists ([`Rule::withstands_force`]).
    #[serde(rename = "final", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
    /// Why the device does not match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<Mismatch>,
    /// How specific the match is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<Rank>,
    /// Whether it is a cause of the effect.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub effect: bool,
    /// The domains whose permission it decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decides: Vec<String>,
    /// The domains where another rule beats it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beaten: Vec<Beaten>,
}

/// A rule that another one beats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beaten {
    /// The domain.
    pub domain: String,
    /// The rule that beats it there.
    pub by: RuleName,
}

impl Decision {
    /// Whether the domain may be given the device by hand. `None` if the decision was made without
    /// this domain.
    pub fn permission(&self, domain: &str) -> Option<&Permission> {
        self.permissions.iter().find(|it| it.domain == domain)
    }
}

/// Decides what happens with a device. `domains` are the domains that are known; those that only a
/// rule names are considered too.
///
/// The order of the rules and of the domains has no effect. A deny rule that is added never causes
/// anything to be attached.
pub fn decide(device: &DeviceFacts, rules: &RuleSet, domains: &[Domain]) -> Decision {
    let rules = all_rules(device, rules);
    let ranks: Vec<Result<Rank, Mismatch>> = rules.iter().map(|it| rank(it, device)).collect();
    let matching: Vec<Matching<'_>> = rules
        .iter()
        .zip(&ranks)
        .filter_map(|(rule, rank)| Some(Matching { rule, rank: *rank.as_ref().ok()? }))
        .collect();
    let domains = all_domains(&rules, domains);
    let winners: BTreeMap<&str, &Matching<'_>> = domains
        .iter()
        .filter_map(|domain| Some((domain.name.as_str(), winner(&matching, domain, |_| true)?)))
        .collect();
    let effect = choose(&matching, &domains);
    let permissions = winners.iter().map(|(domain, winner)| permission(domain, winner)).collect();
    let traced = rules.iter().zip(ranks);
    let mut trace: Vec<Considered> =
        traced.map(|(rule, rank)| considered(rule, rank, &domains, &winners, &effect)).collect();
    // Names are unique, so the order does not depend on the order of the rules.
    let order = |it: &Considered| {
        (Reverse(it.effect), Reverse(!it.decides.is_empty()), Reverse(it.rank), it.rule.clone())
    };
    trace.sort_by_key(order);
    Decision { effect, permissions, trace }
}

/// What happens to a device automatically: the effect of [`decide`], without the permissions and
/// the trace. A program that watches many devices needs no more.
pub fn effect(device: &DeviceFacts, rules: &RuleSet, domains: &[Domain]) -> Effect {
    let rules = all_rules(device, rules);
    let matching: Vec<Matching<'_>> = rules
        .iter()
        .filter_map(|rule| Some(Matching { rule, rank: rank(rule, device).ok()? }))
        .collect();
    // For most devices there is no such rule.
    let acts = |it: &Matching<'_>| matches!(it.rule.action, Action::Attach(_) | Action::Ask(_));
    if !matching.iter().any(acts) {
        return Effect::Nothing;
    }
    choose(&matching, &all_domains(&rules, domains))
}

/// A rule that the device matches.
struct Matching<'a> {
    rule: &'a Rule,
    rank: Rank,
}

impl Matching<'_> {
    /// Of two rules about one domain, the one with the higher precedence decides. The name only
    /// decides between rules that mean the same.
    fn precedence(&self) -> (bool, Rank, u8, Reverse<&RuleName>) {
        (self.rule.is_final, self.rank, self.rule.action.strength(), Reverse(&self.rule.name))
    }

    const fn denies(&self) -> bool {
        matches!(self.rule.action, Action::Deny(_))
    }
}

/// How specific the match of a rule is. The default where there is no rule is below all others.
fn rank(rule: &Rule, device: &DeviceFacts) -> Result<Rank, Mismatch> {
    let rank = rule.matches.rank(device)?;
    let tier = if rule.name == RuleName::unmatched() { Tier::Unmatched } else { rank.tier };
    Ok(Rank { tier, ..rank })
}

/// The rules of the set, with those of the records that have the device.
fn all_rules<'a>(device: &DeviceFacts, rules: &'a RuleSet) -> Vec<Cow<'a, Rule>> {
    let recorded: BTreeSet<&String> = device.recorded.iter().map(|it| &it.domain).collect();
    let records = recorded.into_iter().map(|domain| {
        Rule::new(
            RuleName::reserved("record", domain),
            Match { recorded_in: Some(domain.clone()), ..Match::default() },
            Action::Attach(domain.clone()),
        )
    });
    let own = records.chain(rules.builtin()).chain([rules.unmatched_rule()]).map(Cow::Owned);
    own.chain(rules.rules.iter().map(Cow::Borrowed)).collect()
}

/// The domains that are known, and those that a rule names, ordered by name.
fn all_domains<'a>(rules: &[Cow<'_, Rule>], known: &'a [Domain]) -> Vec<Cow<'a, Domain>> {
    let mut all: BTreeMap<&str, Cow<'a, Domain>> =
        known.iter().map(|it| (it.name.as_str(), Cow::Borrowed(it))).collect();
    for name in rules.iter().flat_map(|rule| rule.action.named_domains()) {
        if !known.iter().any(|it| it.answers_to(name)) {
            all.entry(name).or_insert_with(|| Cow::Owned(Domain::named(name)));
        }
    }
    all.into_values().collect()
}

/// The rule that decides about a domain, among those that are wanted.
fn winner<'m, 'r>(
    matching: &'m [Matching<'r>],
    domain: &Domain,
    wanted: impl Fn(&Matching<'r>) -> bool,
) -> Option<&'m Matching<'r>> {
    let about = matching.iter().filter(|it| it.rule.action.is_about(domain) && wanted(it));
    about.max_by_key(|it| it.precedence())
}

fn permission(domain: &str, winner: &Matching<'_>) -> Permission {
    Permission {
        domain: domain.to_owned(),
        verdict: if winner.denies() { Verdict::Denied } else { Verdict::Allowed },
        rule: winner.rule.name.clone(),
        is_final: winner.rule.withstands_force(),
    }
}

fn choose(matching: &[Matching<'_>], domains: &[Cow<'_, Domain>]) -> Effect {
    let candidates: Vec<(&Domain, &Matching<'_>)> = domains
        .iter()
        .map(Cow::as_ref)
        .filter_map(|domain| Some((domain, winner(matching, domain, |it| !it.denies())?)))
        .filter(|(_, it)| matches!(it.rule.action, Action::Attach(_) | Action::Ask(_)))
        .collect();
    let strongest = |it: &Matching<'_>| (it.rank, it.rule.action.strength());
    let Some(top) = candidates.iter().map(|(_, it)| strongest(it)).max() else {
        return Effect::Nothing;
    };
    let chosen: Vec<_> = candidates.into_iter().filter(|(_, it)| strongest(it) == top).collect();
    let denied = |domain: &Domain| winner(matching, domain, |_| true).filter(|it| it.denies());
    let open: Vec<String> = chosen
        .iter()
        .filter(|(domain, _)| denied(domain).is_none())
        .map(|(domain, _)| domain.name.clone())
        .collect();
    let rules = |all: &mut dyn Iterator<Item = &RuleName>| -> Vec<RuleName> {
        all.cloned().collect::<BTreeSet<_>>().into_iter().collect()
    };
    if open.is_empty() {
        let deniers = &mut chosen.iter().filter_map(|(it, _)| Some(&denied(it)?.rule.name));
        let domains = chosen.iter().map(|(domain, _)| domain.name.clone()).collect();
        return Effect::Denied { domains, rules: rules(deniers) };
    }
    let causes = rules(&mut chosen.iter().map(|(_, it)| &it.rule.name));
    match chosen.as_slice() {
        [(domain, Matching { rule, .. })] if matches!(rule.action, Action::Attach(_)) => {
            Effect::Attach {
                domain: domain.name.clone(),
                rule: rule.name.clone(),
                at: rule.at.clone(),
                max: rule.max,
            }
        }
        [(_, first), ..] if matches!(first.rule.action, Action::Attach(_)) => {
            Effect::Conflict { domains: open, rules: causes }
        }
        _ => Effect::Ask { domains: open, rules: causes },
    }
}

fn considered(
    rule: &Rule,
    matched: Result<Rank, Mismatch>,
    domains: &[Cow<'_, Domain>],
    winners: &BTreeMap<&str, &Matching<'_>>,
    effect: &Effect,
) -> Considered {
    let (mut decides, mut beaten) = (Vec::new(), Vec::new());
    let about = domains.iter().filter(|it| matched.is_ok() && rule.action.is_about(it));
    for (domain, winner) in about.filter_map(|it| Some((it, winners.get(it.name.as_str())?))) {
        if winner.rule.name == rule.name {
            decides.push(domain.name.clone());
        } else {
            beaten.push(Beaten { domain: domain.name.clone(), by: winner.rule.name.clone() });
        }
    }
    let caused = match effect {
        Effect::Nothing => false,
        Effect::Attach { rule: cause, .. } => *cause == rule.name,
        Effect::Ask { rules, .. }
        | Effect::Conflict { rules, .. }
        | Effect::Denied { rules, .. } => rules.contains(&rule.name),
    };
    Considered {
        rule: rule.name.clone(),
        file: rule.file.clone(),
        line: (rule.line > 0).then_some(rule.line),
        action: rule.action.to_string(),
        is_final: rule.withstands_force(),
        rank: matched.as_ref().ok().copied(),
        mismatch: matched.err(),
        effect: caused,
        decides,
        beaten,
    }
}
