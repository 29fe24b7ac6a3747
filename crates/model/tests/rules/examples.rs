//! What a set of rules means for a device.

use std::collections::BTreeMap;

use vusb_model::rules::{
    At, Decision, DeviceFacts, Key, ProtectionKind, Recorded, RuleSet, Unmatched, Verdict, decide,
};

use crate::{device, domains, rule, set, words};

const STICK: &[&str] = &["08:06:50"];
const KEYBOARD: &[&str] = &["03:01:01"];

fn stick() -> DeviceFacts {
    device("0781:5581", "1-4.2", STICK)
}

fn effect(lines: &[&str], device: &DeviceFacts) -> String {
    words(&decide(device, &set(lines), &domains(&["gui", "web1", "work"])).effect)
}

fn verdict(decision: &Decision, domain: &str) -> (Verdict, String) {
    let permission = decision.permission(domain).unwrap();
    (permission.verdict, permission.rule.to_string())
}

#[test]
fn without_a_rule_nothing_happens_by_itself_and_anything_may_be_done_by_hand() {
    let decision = decide(&stick(), &RuleSet::default(), &domains(&["web1"]));
    assert_eq!(words(&decision.effect), "nothing");
    assert_eq!(verdict(&decision, "web1"), (Verdict::Allowed, "unmatched".to_owned()));
    let strict = RuleSet { unmatched: Unmatched::Deny, ..RuleSet::default() };
    let decision = decide(&stick(), &strict, &domains(&["web1"]));
    assert_eq!(verdict(&decision, "web1"), (Verdict::Denied, "unmatched".to_owned()));
}

#[test]
fn the_most_specific_rule_decides() {
    let ladder = [
        "-> ask gui",
        "text=*ethernet* -> attach a",
        "has=storage -> attach b",
        "id=0781:* -> attach c",
        "id=0781:5581 -> attach d",
        "id=0781:5581:A1 -> attach e",
        "port=1-4.* -> attach f",
        "port=1-4.2.* -> attach g",
        "port=1-4.2 -> attach h",
        "port=1-4.2 has=storage -> attach i",
        "port=1-4.2 id=0781:* -> attach j",
    ];
    for (last, expected) in "abcdefghij".char_indices() {
        assert_eq!(effect(&ladder[..last + 2], &stick()), format!("attach {expected}"));
    }
    assert_eq!(effect(&ladder[..1], &stick()), "ask gui");
}

#[test]
fn among_equals_deny_beats_ask_beats_attach_beats_allow() {
    assert_eq!(effect(&["has=08 -> allow web1", "has=08 -> attach web1"], &stick()), "attach web1");
    assert_eq!(effect(&["has=08 -> attach web1", "has=08:06 -> ask gui"], &stick()), "ask gui");
    assert_eq!(effect(&["has=08 -> ask gui", "has=08 -> deny gui"], &stick()), "denied");
}

#[test]
fn one_forbidden_interface_forbids_the_device() {
    let both = device("0781:5581", "1-4", &["07:01:02", "08:06:50"]);
    let rules = ["has=07:01:02 -> attach web1", "has=storage -> deny *"];
    assert_eq!(effect(&rules, &both), "denied");
    assert_eq!(effect(&rules, &device("0781:5581", "1-4", &["07:01:02"])), "attach web1");
    let printers = ["only=printer,vendor -> attach web1"];
    assert_eq!(
        effect(&printers, &device("0781:5581", "1-4", &["07:01:02", "ff:00:00"])),
        "attach web1"
    );
    assert_eq!(effect(&printers, &both), "nothing");
    assert_eq!(effect(&printers, &device("0781:5581", "1-4", &[])), "nothing");
}

#[test]
fn a_final_rule_decides_whatever_else_matches() {
    let rules = ["port=1-4.2 id=0781:5581:A1 -> attach web1", "has=storage -> deny! *"];
    assert_eq!(effect(&rules, &stick()), "denied");
}

#[test]
fn two_rules_of_equal_rank_are_a_question() {
    let rules = ["id=0781:5581 -> attach web1", "id=0781:5581 -> attach work"];
    assert_eq!(effect(&rules, &stick()), "conflict web1, work");
    // A deny rule does not settle it: no person chose `work` either.
    let denied = [rules[0], rules[1], "-> deny! web1"];
    assert_eq!(effect(&denied, &stick()), "conflict work");
    assert_eq!(effect(&[rules[0], rules[0]], &stick()), "attach web1");
}

#[test]
fn a_denied_domain_is_not_replaced_by_another_one() {
    let rules =
        ["id=0781:5581 -> attach web1", "id=0781:* -> attach work", "port=1-4.2 -> deny web1"];
    assert_eq!(effect(&rules[..2], &stick()), "attach web1");
    assert_eq!(effect(&rules, &stick()), "denied");
}

#[test]
fn a_denial_is_for_its_domains_alone() {
    let rules = set(&["id=0781:5581 -> attach web1", "port=1-4.2 -> deny w*k"]);
    let decision = decide(&stick(), &rules, &domains(&["web1", "work"]));
    assert_eq!(words(&decision.effect), "attach web1");
    assert_eq!(verdict(&decision, "work"), (Verdict::Denied, "r1".to_owned()));
    assert_eq!(verdict(&decision, "web1"), (Verdict::Allowed, "r0".to_owned()));
}

#[test]
fn a_more_specific_allow_leaves_it_to_a_person() {
    let rules = set(&["has=storage -> attach web1", "id=0781:5581 -> allow *"]);
    let decision = decide(&stick(), &rules, &domains(&["web1"]));
    assert_eq!(words(&decision.effect), "nothing");
    assert_eq!(verdict(&decision, "web1"), (Verdict::Allowed, "r1".to_owned()));
}

#[test]
fn what_was_given_by_hand_beats_all_rules_but_final_ones() {
    let recorded = vec![Recorded { domain: "work".to_owned() }];
    let device = DeviceFacts { recorded, ..stick() };
    let rules = ["port=1-4.2 id=0781:5581:A1 has=08 -> deny *", "id=0781:5581 -> attach web1"];
    assert_eq!(effect(&rules, &device), "attach work");
    assert_eq!(effect(&["has=08 -> deny! work"], &device), "denied");
}

#[test]
fn what_this_machine_needs_is_denied_unless_that_is_lifted() {
    let why =
        BTreeMap::from([(ProtectionKind::OnlyKeyboard, "it is the only keyboard".to_owned())]);
    let keyboard = DeviceFacts { protected: why, ..device("046d:c31c", "1-1", KEYBOARD) };
    let rules = set(&["id=046d:c31c -> attach web1"]);
    let decision = decide(&keyboard, &rules, &domains(&["web1"]));
    assert_eq!(words(&decision.effect), "denied");
    assert_eq!(verdict(&decision, "web1"), (Verdict::Denied, "builtin:only-keyboard".to_owned()));
    let lifted = RuleSet { lifted: ProtectionKind::ALL.to_vec(), ..rules };
    assert_eq!(words(&decide(&keyboard, &lifted, &[]).effect), "attach web1");
    let hub = BTreeMap::from([(ProtectionKind::Hub, "it is a hub".to_owned())]);
    let hub = DeviceFacts { protected: hub, ..keyboard };
    assert_eq!(words(&decide(&hub, &lifted, &[]).effect), "denied");
}

/// The trace has every rule: why it does not match, how specific its match is, what beats it.
#[test]
fn the_trace_has_the_verdict_of_each_rule() {
    let rules = set(&[
        "id=0781:5581 -> attach web1",
        "id=0781:* -> attach web1",
        "port=2-1 id=0781:5581 -> deny *",
        "has=hid -> deny *",
    ]);
    let decision = decide(&stick(), &rules, &domains(&["web1"]));
    let of = |name: &str| decision.trace.iter().find(|it| it.rule.as_str() == name).unwrap();
    assert!(of("r0").effect);
    assert_eq!(of("r0").decides, ["web1"]);
    assert_eq!(of("r0").rank.unwrap().to_string(), "product, vendor");
    assert_eq!(of("r1").beaten[0].by.as_str(), "r0");
    let mismatch = of("r2").mismatch.as_ref().unwrap();
    assert_eq!(mismatch.to_string(), "port: wanted 2-1, seen 1-4.2");
    assert_eq!(of("r3").mismatch.as_ref().unwrap().to_string(), "has: wanted hid, seen 08:06:50");
    assert_eq!(of("unmatched").beaten[0].by.as_str(), "r0");
    assert_eq!(decision.trace[0].rule.as_str(), "r0");
    assert!(decision.trace.last().unwrap().mismatch.is_some());
    let count = decision.trace.len();
    assert_eq!(count, 4 + ProtectionKind::ALL.len() + 1);
}

#[test]
fn what_is_unknown_matches_nothing_and_the_trace_says_so() {
    let unknown = DeviceFacts { id: Some("0781:5581".parse().unwrap()), ..DeviceFacts::default() };
    let decision = decide(&unknown, &set(&["has=storage -> attach web1"]), &[]);
    let trace = decision.trace.iter().find(|it| it.rule.as_str() == "r0").unwrap();
    let mismatch = trace.mismatch.clone().unwrap();
    assert_eq!((mismatch.key, mismatch.seen), (Key::Has, None));
    assert_eq!(words(&decision.effect), "nothing");
}

#[test]
fn a_rule_matches_a_domain_by_name_or_address() {
    let known = [vusb_model::rules::Domain {
        name: "web1".to_owned(),
        address: Some("qemu:/run/web1.qmp".to_owned()),
    }];
    let rules = set(&["id=0781:5581 -> attach qemu:/run/web1.qmp", "id=0781:5581 -> attach web1"]);
    let decision = decide(&stick(), &rules, &known);
    assert_eq!(words(&decision.effect), "attach web1");
    assert_eq!(decision.permissions.len(), 1);
}

#[test]
fn a_decision_is_a_value_that_is_stored_and_read() {
    let mut rules = set(&["id=0781:5581 -> attach web1", "has=hid -> deny! *"]);
    rules.rules[0].at = Some("hci0:3".parse::<At>().unwrap());
    rules.rules[0].file = Some("/etc/vusb/rules.d/10.toml".to_owned());
    rules.rules[0].line = 3;
    let decision = decide(&stick(), &rules, &domains(&["web1"]));
    let json = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision);
    assert!(json.contains(r#""at":"hci0:3""#), "{json}");
}

#[test]
fn names_with_a_colon_are_reserved() {
    for text in ["", " a", "a ", "builtin:hub", "unmatched", "a\nb"] {
        assert!(text.parse::<vusb_model::rules::RuleName>().is_err(), "{text:?}");
    }
    assert_eq!(rule("licence dongle", "-> ask a").name.as_str(), "licence dongle");
}
