//! Rule files: everything that they can contain, and their mistakes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use vusb_formats::rules::{RuleFile, read};
use vusb_model::rules::{Action, ProtectionKind, Removable, Unmatched};

fn file(text: &str) -> RuleFile {
    read(text, "10.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// The mistake in a text, as it is shown.
fn mistake(text: &str) -> String {
    read(text, "10.toml").unwrap_err().to_string()
}

#[test]
fn an_empty_file_has_no_rules() {
    assert_eq!(file("# nothing\n"), RuleFile::default());
}

#[test]
fn every_key() {
    let file = file(
        r#"unmatched = "deny"

        [[rule]]
        name = "licence dongle"
        id = ["0529:0001", "0529:0620:A1B2", "0529:*"]
        port = "pci-0000:00:14.0-usb-0:4.*"
        has = "08:06:50"
        only = ["storage", "net"]
        text = "*ethernet*"
        removable = true
        attach = "web1"
        at = "hci0:3"
        max = 1

        [[rule]]
        name = "keyboards"
        has = "keyboard"
        deny = "*"
        final = true

        [[rule]]
        name = "the rest"
        removable = "unknown"
        ask = ["gui", "work-*"]

        [builtin]
        only-network = false
        used-disk = true
        "#,
    );
    assert_eq!(file.unmatched, Some(Unmatched::Deny));
    assert!(!file.builtin[&ProtectionKind::OnlyNetwork]);
    assert!(file.builtin[&ProtectionKind::UsedDisk]);
    let [dongle, keyboards, rest] = file.rules.as_slice() else { panic!("three rules") };
    assert_eq!(dongle.name.as_str(), "licence dongle");
    assert_eq!((dongle.file.as_deref(), dongle.line), (Some("10.toml"), 3));
    assert_eq!(dongle.matches.id[1].to_string(), "0529:0620:A1B2");
    assert!(dongle.matches.port[0].is_subtree());
    assert_eq!(dongle.matches.removable, [Removable::Removable]);
    assert_eq!(dongle.action, Action::Attach("web1".to_owned()));
    assert_eq!(dongle.at.as_ref().unwrap().to_string(), "hci0:3");
    assert_eq!(dongle.max, Some(1));
    assert!(keyboards.is_final);
    assert_eq!(rest.action.to_string(), "ask gui, work-*");
    assert_eq!(rest.line, 21);
}

#[test]
fn a_mistake_is_shown_in_its_line() {
    let shown = [
        "[[rule]]\nname = \"a\"\nvendor = \"0529\"\nask = \"*\"\nid = \"0529:*\"\n",
        "[[rule]]\nname = \"a\"\nid = [\"0529:0001\", \"0529\"]\nask = \"*\"\n",
        "[[rule]]\nname = \"a\"\nid = \"0529:*\"\nattach = \"web1\"\ndeny = \"*\"\n",
    ];
    let shown = shown.map(mistake).join("\n\n");
    assert_eq!(shown, include_str!("fixtures/rules.mistakes").trim_end());
}

/// The first line of each mistake: what is wrong.
#[test]
fn rules_that_mean_nothing_or_too_much_are_refused() {
    let rule = |rest: &str| format!("[[rule]]\nname = \"a\"\n{rest}\n");
    let cases = [
        ("[[rule]]\nask = \"*\"", "error: this rule has no name"),
        (&rule("attach = \"web1\""), "error: this rule attaches every device"),
        (&rule("has = \"hid\""), "error: this rule does not say what to do"),
        (&rule("has = []\nask = \"*\""), "error: `has` is empty"),
        (&rule("ask = []"), "error: `ask` names no domain"),
        (
            &rule("has = 8\nask = \"*\""),
            "error: `has` must be a string in quotes, or a list of them",
        ),
        (&rule("has = [8]\nask = \"*\""), "error: each entry of `has` must be a string in quotes"),
        (&rule("has = \"hid\"\nattach = \"web*\""), "error: `web*` is not one domain"),
        (
            &rule("has = \"hid\"\nattach = [\"a\", \"b\"]"),
            "error: `attach` must be one domain: a device can only be in one place",
        ),
        (
            &rule("has = \"hid\"\nask = \"*\"\nfinal = true"),
            "error: `final` is a key of rules that deny, and this rule has `ask`",
        ),
        (
            &rule("has = \"hid\"\ndeny = \"*\"\nat = \"hci0\""),
            "error: `at` is a key of rules that attach, and this rule has `deny`",
        ),
        (
            &rule("has = \"hid\"\nattach = \"a\"\nmax = 0"),
            "error: `max` must be a number from 1 to 127",
        ),
        (
            &rule("removable = \"yes\"\nask = \"*\""),
            "error: `removable` must be true, false or \"unknown\"",
        ),
        ("unmatched = \"ask\"", "error: `unmatched` must be \"allow\" or \"deny\""),
        (
            "[builtin]\nhub = false",
            "error: `hub` cannot be lifted: no hypervisor passes hubs through",
        ),
        ("[builtin]\nroot = false", "error: `root` is not a key of `builtin`"),
        ("[[rules]]", "error: `rules` is not a key of a rule file"),
        ("[[rule]", "error: this is not TOML: "),
    ];
    for (text, expected) in cases {
        let shown = mistake(text);
        assert!(shown.starts_with(expected), "{text}\n{shown}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(\\[\\[rule\\]\\]\n|[a-z]{2,4} = \"[*a-z0-9:.-]{0,9}\"\n|\\PC{0,9}\n){0,8}") {
        let _ = read(&text, "any");
    }
}
