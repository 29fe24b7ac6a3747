//! Mistakes in a set of rules that no single rule shows.

use std::collections::BTreeSet;

use super::keys::{Glob, IdPattern, InterfaceClass, PortPattern};
use super::matching::{Match, port_rank};
use super::rank::Rank;
use super::{Action, Rule, RuleName, Targets};

/// A mistake in a set of rules. Rules are given by their position in the list that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Two rules have one name. The set cannot be used.
    SameName {
        /// The earlier one.
        first: usize,
        /// The later one.
        second: usize,
    },
    /// Two rules match the same devices, and one of them attaches while the other attaches
    /// elsewhere or asks. The set cannot be used.
    Contradiction {
        /// The earlier one.
        first: usize,
        /// The later one.
        second: usize,
    },
    /// A rule that never decides about any domain: others beat it for every device.
    NeverDecides {
        /// The rule.
        rule: usize,
        /// The rules that beat it, ordered by name.
        by: Vec<RuleName>,
    },
}

impl Finding {
    /// Whether the set cannot be used.
    pub const fn is_error(&self) -> bool {
        !matches!(self, Finding::NeverDecides { .. })
    }
}

/// A rule is split into this many parts at most. Beyond that, whether it can decide is not checked.
const MAX_PARTS: usize = 4096;

/// The mistakes in a set of rules, in the order of the rules.
///
/// A [`Finding::NeverDecides`] is always right, but not every such rule is found: a port as
/// bus and port numbers and the same port as a path, for example, are taken for different ports.
pub fn check(rules: &[Rule]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (second, rule) in rules.iter().enumerate() {
        let earlier = || rules.iter().enumerate().take(second);
        let same_name = earlier().find(|(_, it)| it.name == rule.name);
        findings.extend(same_name.map(|(first, _)| Finding::SameName { first, second }));
        let contradicts = earlier().find(|(_, it)| contradict(it, rule));
        findings.extend(contradicts.map(|(first, _)| Finding::Contradiction { first, second }));
    }
    for (position, rule) in rules.iter().enumerate() {
        let others: Vec<&Rule> = rules.iter().filter(|it| it.name != rule.name).collect();
        if let Some(by) = never_decides(rule, &others) {
            findings.push(Finding::NeverDecides { rule: position, by: by.into_iter().collect() });
        }
    }
    findings
}

/// Whether two rules contradict each other.
fn contradict(a: &Rule, b: &Rule) -> bool {
    let actions = match (&a.action, &b.action) {
        (Action::Attach(a), Action::Attach(b)) => a != b,
        (Action::Attach(_), Action::Ask(_)) | (Action::Ask(_), Action::Attach(_)) => true,
        _ => false,
    };
    actions && same_devices(&a.matches, &b.matches)
}

/// Whether two matches are equal, whatever the order of their lists.
fn same_devices(a: &Match, b: &Match) -> bool {
    fn same<T: PartialEq>(a: &[T], b: &[T]) -> bool {
        a.iter().all(|it| b.contains(it)) && b.iter().all(|it| a.contains(it))
    }
    same(&a.id, &b.id)
        && same(&a.port, &b.port)
        && same(&a.has, &b.has)
        && same(&a.only, &b.only)
        && same(&a.text, &b.text)
        && same(&a.removable, &b.removable)
}

/// The rules that together beat `rule` for every device and every domain; `None` if it can decide.
fn never_decides(rule: &Rule, others: &[&Rule]) -> Option<BTreeSet<RuleName>> {
    let parts = parts(&rule.matches)?;
    let targets = targets(&rule.action);
    let mut by = BTreeSet::new();
    for part in &parts {
        for target in &targets.0 {
            let beats_rule = |it: &&&Rule| beats(it, rule, part, target);
            by.insert(others.iter().find(beats_rule)?.name.clone());
        }
    }
    Some(by)
}

/// Whether `other` beats `rule` for every device that matches this part of its keys, and for every
/// domain that `target` stands for.
fn beats(other: &Rule, rule: &Rule, part: &Match, target: &Glob) -> bool {
    let about = targets(&other.action).0.iter().any(|it| it.covers_exactly(target));
    let Some(covering) = about.then(|| covering_rank(&other.matches, part)).flatten() else {
        return false;
    };
    let strength = |rule: &Rule, rank: Rank| (rule.is_final, rank, rule.action.strength());
    strength(other, covering) > strength(rule, part_rank(part))
}

fn targets(action: &Action) -> Targets {
    match action {
        // A name that is also a valid pattern stands for itself.
        Action::Attach(name) => Targets(name.parse().into_iter().collect()),
        Action::Ask(targets) | Action::Allow(targets) | Action::Deny(targets) => targets.clone(),
    }
}

/// The match, as parts that have one entry for each key and together match the same devices. Only
/// `only` stays whole, because its entries hold together. `None` if there are too many parts.
///
/// A device may match several parts, and its rank is that of the most specific one. All parts are
/// checked, so the most specific one is among them.
fn parts(all: &Match) -> Option<Vec<Match>> {
    let numbers =
        [all.id.len(), all.port.len(), all.has.len(), all.text.len(), all.removable.len()];
    let number = numbers.into_iter().try_fold(1_usize, |all, it| all.checked_mul(it.max(1)))?;
    if number > MAX_PARTS {
        return None;
    }
    let mut parts = vec![Match { only: all.only.clone(), ..Match::default() }];
    parts = each(parts, &all.id, |part, it| part.id.push(it));
    parts = each(parts, &all.port, |part, it| part.port.push(it));
    parts = each(parts, &all.has, |part, it| part.has.push(it));
    parts = each(parts, &all.text, |part, it| part.text.push(it));
    Some(each(parts, &all.removable, |part, it| part.removable.push(it)))
}

/// Each part with each of the entries.
fn each<T: Clone>(parts: Vec<Match>, entries: &[T], add: impl Fn(&mut Match, T)) -> Vec<Match> {
    if entries.is_empty() {
        return parts;
    }
    let with = |part: &Match, entry: &T| {
        let mut part = part.clone();
        add(&mut part, entry.clone());
        part
    };
    parts.iter().flat_map(|part| entries.iter().map(move |entry| with(part, entry))).collect()
}

/// The rank of every device that matches this part, as far as this part determines it.
fn part_rank(part: &Match) -> Rank {
    let id = part.id.first();
    Rank {
        port: part.port.first().map(port_rank).unwrap_or_default(),
        serial: id.is_some_and(|it| it.serial.is_some()),
        product: id.is_some_and(|it| it.product.is_some()),
        vendor: id.is_some(),
        interface: !part.has.is_empty() || !part.only.is_empty(),
        text: !part.text.is_empty() || !part.removable.is_empty(),
        ..Rank::default()
    }
}

/// A rank that `wide` has at least for each device that matches `part`; `None` if `wide` need not
/// match such a device.
fn covering_rank(wide: &Match, part: &Match) -> Option<Rank> {
    let id = covering(&wide.id, &part.id, IdPattern::covers)?;
    let port = covering(&wide.port, &part.port, PortPattern::covers)?;
    let has = covering(&wide.has, &part.has, InterfaceClass::covers_class)?;
    let text = covering(&wide.text, &part.text, Glob::covers)?;
    let removable = covering(&wide.removable, &part.removable, PartialEq::eq)?;
    let of = |kinds: &[InterfaceClass], it: &InterfaceClass| {
        it.patterns().iter().all(|pattern| kinds.iter().any(|kind| kind.covers(*pattern)))
    };
    let only_covers = !part.only.is_empty() && part.only.iter().all(|it| of(&wide.only, it));
    if !wide.only.is_empty() && !only_covers {
        return None;
    }
    let one = Match {
        id: id.into_iter().cloned().collect(),
        port: port.into_iter().cloned().collect(),
        has: has.into_iter().cloned().collect(),
        only: wide.only.clone(),
        text: text.into_iter().cloned().collect(),
        removable: removable.into_iter().copied().collect(),
        ..Match::default()
    };
    Some(part_rank(&one))
}

/// The entry that covers the one of the part: `Some(None)` if the key is not given, `None` if no
/// entry covers it.
fn covering<'w, T>(
    wide: &'w [T],
    part: &[T],
    covers: impl Fn(&T, &T) -> bool,
) -> Option<Option<&'w T>> {
    if wide.is_empty() {
        return Some(None);
    }
    let narrow = part.first()?;
    wide.iter().find(|it| covers(it, narrow)).map(Some)
}
