//! Properties of all sets of rules and all devices.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use vusb_model::rules::{
    Action, DeviceFacts, Domain, Effect, Finding, Glob, Match, Rank, Recorded, Rule, RuleSet,
    Targets, Unmatched, Verdict, check, decide, effect,
};

use crate::{all, device, domains};

const DOMAINS: [&str; 3] = ["gui", "web1", "web2"];

/// A few values of each key, so that rules overlap often.
fn matches() -> impl Strategy<Value = Match> {
    let ids = vec!["0781:*", "0781:5581", "0781:5581:A1", "0529:0001", "0529:*"];
    let ports = vec!["1-4", "1-4.*", "1-4.2", "1-4.2.*", "2-1"];
    let kinds = vec!["storage", "08:06:50", "hid", "keyboard", "net"];
    let texts = vec!["*ethernet*", "acme*", "*100"];
    let list =
        |from: Vec<&'static str>| prop_oneof![2 => Just(Vec::new()), 2 => subsequence(from, 0..3)];
    (list(ids), list(ports), list(kinds.clone()), list(kinds), list(texts)).prop_map(
        |(id, port, has, only, text)| {
            let parse = |it: &[&str]| it.join(",");
            fn some<T: std::str::FromStr<Err: std::fmt::Debug>>(text: String) -> Vec<T> {
                if text.is_empty() { Vec::new() } else { all(&text) }
            }
            Match {
                id: some(parse(&id)),
                port: some(parse(&port)),
                has: some(parse(&has)),
                only: some(parse(&only)),
                text: some(parse(&text)),
                ..Match::default()
            }
        },
    )
}

fn targets() -> impl Strategy<Value = Targets> {
    let names = subsequence(vec!["*", "web*", "gui", "web1", "web2"], 1..3);
    names.prop_map(|all| Targets(all.into_iter().map(|it| it.parse::<Glob>().unwrap()).collect()))
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        select(DOMAINS.to_vec()).prop_map(|it| Action::Attach(it.to_owned())),
        targets().prop_map(Action::Ask),
        targets().prop_map(Action::Allow),
        targets().prop_map(Action::Deny),
    ]
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (matches(), action(), any::<bool>());
    proptest::collection::vec(rule, 0..8).prop_map(|all| {
        let named = all.into_iter().enumerate().map(|(number, (matches, action, is_final))| {
            let is_final = is_final && matches!(action, Action::Deny(_));
            let name = format!("r{number}").parse().unwrap();
            Rule { is_final, ..Rule::new(name, matches, action) }
        });
        named.collect()
    })
}

fn any_device() -> impl Strategy<Value = DeviceFacts> {
    let id = select(vec!["0781:5581", "0781:5582", "0529:0001"]);
    let port = select(vec!["1-4", "1-4.2", "1-4.2.1", "2-1"]);
    let interfaces = subsequence(vec!["08:06:50", "03:01:01", "02:06:00"], 0..3);
    let recorded = proptest::option::weighted(0.2, select(DOMAINS.to_vec()));
    (id, port, interfaces, recorded, any::<bool>()).prop_map(
        |(id, port, kinds, recorded, known)| {
            let recorded =
                recorded.into_iter().map(|it| Recorded { domain: it.to_owned() }).collect();
            let all = DeviceFacts { recorded, ..device(id, port, &kinds) };
            if known { all } else { DeviceFacts { interfaces: None, text: None, ..all } }
        },
    )
}

fn unmatched() -> impl Strategy<Value = Unmatched> {
    select(vec![Unmatched::Allow, Unmatched::Deny])
}

fn attached(effect: &Effect) -> Option<&str> {
    match effect {
        Effect::Attach { domain, .. } => Some(domain),
        _ => None,
    }
}

/// The definition of a permission, written again in the simplest way: sort and take the last.
fn naive_permission(device: &DeviceFacts, set: &RuleSet, domain: &str) -> Verdict {
    let domain = Domain::named(domain);
    let strength = |action: &Action| match action {
        Action::Allow(_) => 0,
        Action::Attach(_) => 1,
        Action::Ask(_) => 2,
        Action::Deny(_) => 3,
    };
    let about = set.rules.iter().filter(|it| it.action.is_about(&domain));
    let mut matching: Vec<(bool, Rank, u8)> = about
        .filter_map(|it| Some((it.is_final, it.matches.rank(device).ok()?, strength(&it.action))))
        .collect();
    matching.sort_unstable();
    let recorded = device.recorded.iter().any(|it| domain.answers_to(&it.domain));
    let denied = match matching.last() {
        Some((true, ..)) => true,
        _ if recorded => false,
        Some((_, _, strength)) => *strength == 3,
        None => set.unmatched == Unmatched::Deny,
    };
    if denied { Verdict::Denied } else { Verdict::Allowed }
}

proptest! {
    #[test]
    fn the_order_of_rules_and_domains_has_no_effect(
        rules in rules(), device in any_device(), unmatched in unmatched(), seed in any::<u64>()
    ) {
        let known = domains(&DOMAINS);
        let set = RuleSet { rules: rules.clone(), unmatched, ..RuleSet::default() };
        let mut shuffled = rules;
        let steps = shuffled.len();
        for at in 1..steps {
            shuffled.swap(at, usize::try_from(seed >> at).unwrap_or(0) % (at + 1));
        }
        let other = RuleSet { rules: shuffled, unmatched, ..RuleSet::default() };
        let reversed: Vec<Domain> = known.iter().rev().cloned().collect();
        let decision = decide(&device, &set, &known);
        prop_assert_eq!(&decision, &decide(&device, &other, &reversed));
        // What vusbd asks for is the same, without the trace.
        prop_assert_eq!(decision.effect, effect(&device, &other, &reversed));
    }

    #[test]
    fn a_deny_rule_that_is_added_never_attaches_or_permits_anything(
        rules in rules(), device in any_device(), unmatched in unmatched(),
        matches in matches(), targets in targets(), is_final in any::<bool>()
    ) {
        let known = domains(&DOMAINS);
        let before = RuleSet { rules, unmatched, ..RuleSet::default() };
        let mut after = before.clone();
        let deny = Rule::new("added".parse().unwrap(), matches, Action::Deny(targets));
        after.rules.push(Rule { is_final, ..deny });
        let (before, after) = (decide(&device, &before, &known), decide(&device, &after, &known));
        if let Some(domain) = attached(&after.effect) {
            prop_assert_eq!(attached(&before.effect), Some(domain));
        }
        for permission in after.permissions.iter().filter(|it| it.verdict == Verdict::Allowed) {
            let earlier = before.permission(&permission.domain).unwrap();
            prop_assert_eq!(earlier.verdict, Verdict::Allowed);
        }
    }

    #[test]
    fn a_permission_is_that_of_the_simplest_implementation(
        rules in rules(), device in any_device(), unmatched in unmatched()
    ) {
        let set = RuleSet { rules, unmatched, ..RuleSet::default() };
        let decision = decide(&device, &set, &domains(&DOMAINS));
        for permission in &decision.permissions {
            let expected = naive_permission(&device, &set, &permission.domain);
            prop_assert_eq!(permission.verdict, expected, "{}", &permission.domain);
        }
    }

    #[test]
    fn nothing_is_attached_or_offered_to_a_domain_that_may_not_have_it(
        rules in rules(), device in any_device(), unmatched in unmatched()
    ) {
        let set = RuleSet { rules, unmatched, ..RuleSet::default() };
        let decision = decide(&device, &set, &domains(&DOMAINS));
        let given = match &decision.effect {
            Effect::Attach { domain, .. } => vec![domain.clone()],
            Effect::Ask { domains, .. } | Effect::Conflict { domains, .. } => domains.clone(),
            Effect::Nothing | Effect::Denied { .. } => Vec::new(),
        };
        for domain in given {
            prop_assert_eq!(decision.permission(&domain).unwrap().verdict, Verdict::Allowed);
        }
    }

    #[test]
    fn every_rule_is_in_the_trace_and_one_decides_for_each_domain(
        rules in rules(), device in any_device(), unmatched in unmatched()
    ) {
        let set = RuleSet { rules: rules.clone(), unmatched, ..RuleSet::default() };
        let decision = decide(&device, &set, &domains(&DOMAINS));
        for rule in &rules {
            let count = decision.trace.iter().filter(|it| it.rule == rule.name).count();
            prop_assert_eq!(count, 1);
        }
        for permission in &decision.permissions {
            let deciding = decision.trace.iter().filter(|it| it.decides.contains(&permission.domain));
            let names: Vec<_> = deciding.map(|it| &it.rule).collect();
            prop_assert_eq!(names, [&permission.rule]);
        }
    }

    /// The warning is never wrong: such a rule decides about no device.
    #[test]
    fn a_rule_that_is_reported_as_ineffective_never_decides(
        rules in rules(), devices in proptest::collection::vec(any_device(), 8)
    ) {
        let set = RuleSet { rules: rules.clone(), ..RuleSet::default() };
        for finding in check(&rules) {
            let Finding::NeverDecides { rule, .. } = finding else { continue };
            let name = &rules[rule].name;
            for device in &devices {
                let decision = decide(device, &set, &domains(&DOMAINS));
                let trace = decision.trace.iter().find(|it| it.rule == *name).unwrap();
                prop_assert!(trace.decides.is_empty(), "{name} decides");
            }
        }
    }
}
