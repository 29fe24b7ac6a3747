//! Mistakes in a set of rules.

use vusb_model::rules::{Finding, check};

use crate::{rule, set};

/// The rules that never decide, with those that beat them.
fn never(lines: &[&str]) -> Vec<(usize, Vec<String>)> {
    let findings = check(&set(lines).rules).into_iter();
    findings
        .filter_map(|it| match it {
            Finding::NeverDecides { rule, by } => {
                Some((rule, by.iter().map(ToString::to_string).collect()))
            }
            _ => None,
        })
        .collect()
}

fn by(names: &[&str]) -> Vec<String> {
    names.iter().map(|it| (*it).to_owned()).collect()
}

#[test]
fn a_rule_behind_a_final_one_never_decides() {
    let found = never(&["has=hid -> deny! *", "id=046d:c31c has=keyboard -> attach web1"]);
    assert_eq!(found, [(1, by(&["r0"]))]);
    // The keyboard may have other interfaces, so its id alone does not say that it has hid.
    assert_eq!(never(&["has=hid -> deny! *", "id=046d:c31c -> attach web1"]), []);
    // The final rule is not about `work`.
    assert_eq!(never(&["has=hid -> deny! web*", "has=keyboard -> allow web1,work"]), []);
}

#[test]
fn an_exception_that_is_no_more_specific_never_decides() {
    let found = never(&["has=storage -> deny *", "has=08:06:50 -> allow backup"]);
    assert_eq!(found, [(1, by(&["r0"]))]);
    assert_eq!(never(&["has=storage -> deny *", "id=0781:5581 -> allow backup"]), []);
}

#[test]
fn several_rules_can_beat_one_together() {
    let found = never(&[
        "id=0781:5581,0781:5582 -> attach web1",
        "id=0781:5581 -> deny *",
        "id=0781:5582 -> deny web1",
    ]);
    assert_eq!(found, [(0, by(&["r1", "r2"]))]);
    assert_eq!(never(&["id=0781:5581,0781:5583 -> attach web1", "id=0781:5581 -> deny *"]), []);
}

#[test]
fn ports_subtrees_and_texts_are_compared() {
    assert_eq!(never(&["port=1-4.* -> deny! *", "port=1-4.2 -> attach web1"]).len(), 1);
    assert_eq!(never(&["port=1-4.* -> deny! *", "port=1-42 -> attach web1"]), []);
    assert_eq!(never(&["text=*stick* -> deny! *", "text=acme*stick* -> ask gui"]).len(), 1);
    assert_eq!(never(&["only=storage,hid -> deny! *", "only=keyboard -> ask gui"]).len(), 1);
    assert_eq!(never(&["only=keyboard -> deny! *", "only=hid -> ask gui"]), []);
}

#[test]
fn contradictory_rules_are_errors() {
    for (a, b) in [
        ("id=0781:5581,0781:5582 -> attach web1", "id=0781:5582,0781:5581 -> attach web2"),
        ("has=08 -> attach web1", "has=08 -> ask gui"),
    ] {
        let findings = check(&set(&[a, b]).rules);
        assert_eq!(findings[0], Finding::Contradiction { first: 0, second: 1 });
        assert!(findings[0].is_error());
    }
    for (a, b) in [
        ("has=08 -> attach web1", "has=08 -> allow *"),
        ("has=08 -> attach web1", "has=08 -> deny web2"),
        ("has=08 -> attach web1", "has=08:06 -> attach web2"),
    ] {
        assert!(check(&set(&[a, b]).rules).iter().all(|it| !it.is_error()), "{a} and {b}");
    }
}

#[test]
fn two_rules_with_one_name_are_an_error() {
    let rules = [rule("a", "has=08 -> ask gui"), rule("a", "has=03 -> ask gui")];
    assert_eq!(check(&rules), [Finding::SameName { first: 0, second: 1 }]);
}
