//! Rules: what to do with a host device that appears.
//!
//! ```text
//!   device ─┐
//!   rules ──┼─▶ decide ─▶ effect: what happens automatically
//!   domains ┘            permissions: which domains may be given it by hand, and which may not
//!                        trace: the verdict of each rule, and what beat it
//! ```
//!
//! A rule has keys that a device must match, all of them, and one action. The rules that match are
//! compared, and their order never matters:
//!
//! * A `final` rule decides, whatever else matches.
//! * Otherwise the most specific rule decides ([`Rank`]).
//! * Among equals deny beats ask, ask beats attach, attach beats allow.
//! * If two rules of equal rank attach to different domains, a person is asked.
//!
//! What this machine needs for itself ([`ProtectionKind`]) and what a domain was given by hand (its
//! record) are rules in the same list. See [`decide`](decide()) for what follows from them, and
//! [`check`](check()) for mistakes in a set of rules.
//!
//! ```
//! use vusb_model::rules::{Action, DeviceFacts, Domain, Effect, Match, Rule, RuleSet, decide};
//!
//! let dongle = Match { id: vec!["0529:*".parse()?], ..Match::default() };
//! let rule = Rule::new("licence dongle".parse()?, dongle, Action::Attach("web1".to_owned()));
//! let rules = RuleSet { rules: vec![rule], ..RuleSet::default() };
//! let device = DeviceFacts { id: Some("0529:0001".parse()?), ..DeviceFacts::default() };
//! let decision = decide(&device, &rules, &[Domain::named("web1")]);
//! assert!(matches!(decision.effect, Effect::Attach { domain, .. } if domain == "web1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod decide;
mod device;
mod keys;
mod matching;
mod rank;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use check::{Finding, check};
pub use decide::{Beaten, Considered, Decision, Effect, Permission, Verdict, decide, effect};
pub use device::{DeviceFacts, Domain, ProtectionKind, Recorded, Removable};
pub use keys::{
    Glob, GlobError, IdPattern, IdPatternError, InterfaceClass, InterfaceClassError,
    InterfacePattern, PortPattern, PortPatternError,
};
pub use matching::{Key, Match, Mismatch};
pub use rank::{PortRank, Rank, Tier};

use crate::address::PortPath;
use crate::spec::ControllerRef;

/// All rules of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// The rules of files. Their order has no effect.
    pub rules: Vec<Rule>,
    /// The protections that are lifted.
    pub lifted: Vec<ProtectionKind>,
    /// What applies to a device and a domain that no rule is about.
    pub unmatched: Unmatched,
}

impl RuleSet {
    /// All rules: those that are built in and not lifted, those of files, and the one that applies
    /// where there is no other.
    pub fn all(&self) -> Vec<Rule> {
        let files = self.rules.iter().cloned();
        self.builtin().chain(files).chain([self.unmatched_rule()]).collect()
    }

    /// The rules that are built in and not lifted.
    fn builtin(&self) -> impl Iterator<Item = Rule> + '_ {
        let in_force = |it: &ProtectionKind| !self.lifted.contains(it) || !it.can_be_lifted();
        ProtectionKind::ALL.into_iter().filter(in_force).map(|kind| Rule {
            is_final: true,
            ..Rule::new(
                RuleName::reserved("builtin", kind.name()),
                Match { protected: Some(kind), ..Match::default() },
                Action::Deny(Targets::any()),
            )
        })
    }

    /// The rule that applies where there is no other.
    fn unmatched_rule(&self) -> Rule {
        let action = match self.unmatched {
            Unmatched::Allow => Action::Allow(Targets::any()),
            Unmatched::Deny => Action::Deny(Targets::any()),
        };
        Rule::new(RuleName::unmatched(), Match::default(), action)
    }
}

/// What applies where there is no rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// The device may be given to the domain by hand.
    #[default]
    Allow,
    /// It may not be given to the domain, not even by hand.
    Deny,
}

/// A rule: which devices it is about, and what to do with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name: unique among all rules.
    pub name: RuleName,
    /// The file that it is from.
    pub file: Option<String>,
    /// The line in the file, from 1.
    pub line: usize,
    /// The devices.
    pub matches: Match,
    /// What to do.
    pub action: Action,
    /// Where the device goes in the guest; `None` leaves it to the domain.
    pub at: Option<At>,
    /// At most this many devices are attached by the rule at a time.
    pub max: Option<u32>,
    /// No other rule overrides it. Only for [`Action::Deny`].
    pub is_final: bool,
}

impl Rule {
    /// A rule that is in no file and leaves everything optional open.
    pub const fn new(name: RuleName, matches: Match, action: Action) -> Rule {
        Rule { name, file: None, line: 0, matches, action, at: None, max: None, is_final: false }
    }

    /// Whether nothing overrides it, not even a user who insists. No rule overrides a built-in
    /// rule, but a user who insists overrides all built-in rules except the one about hubs.
    pub fn withstands_force(&self) -> bool {
        let can_be_lifted = |kind: ProtectionKind| {
            kind.can_be_lifted() && self.name == RuleName::reserved("builtin", kind.name())
        };
        self.is_final && !ProtectionKind::ALL.into_iter().any(can_be_lifted)
    }
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Attach the device to this domain as soon as both are there.
    Attach(String),
    /// Ask which of these domains gets the device. Without an answer, none does.
    Ask(Targets),
    /// The device may be given to these domains by hand.
    Allow(Targets),
    /// The device may not be given to these domains.
    Deny(Targets),
}

impl Action {
    /// The word in a rule file.
    pub const fn word(&self) -> &'static str {
        match self {
            Action::Attach(_) => "attach",
            Action::Ask(_) => "ask",
            Action::Allow(_) => "allow",
            Action::Deny(_) => "deny",
        }
    }

    /// Whether the action is about the domain.
    pub fn is_about(&self, domain: &Domain) -> bool {
        match self {
            Action::Attach(name) => domain.answers_to(name),
            Action::Ask(targets) | Action::Allow(targets) | Action::Deny(targets) => {
                targets.include(domain)
            }
        }
    }

    /// Which of two actions of equal rank decides: the higher one.
    const fn strength(&self) -> u8 {
        match self {
            Action::Allow(_) => 0,
            Action::Attach(_) => 1,
            Action::Ask(_) => 2,
            Action::Deny(_) => 3,
        }
    }

    /// The domains that it names without a wildcard.
    fn named_domains(&self) -> Vec<&str> {
        match self {
            Action::Attach(name) => vec![name],
            Action::Ask(targets) | Action::Allow(targets) | Action::Deny(targets) => {
                let all = targets.0.iter().map(Glob::as_str);
                all.filter(|it| !it.contains('*')).collect()
            }
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word();
        match self {
            Action::Attach(name) => write!(f, "{word} {name}"),
            Action::Ask(targets) | Action::Allow(targets) | Action::Deny(targets) => {
                write!(f, "{word} {targets}")
            }
        }
    }
}

/// The domains that a rule is about, by name or address. `*` stands for any text. Never empty in a
/// rule that was read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets(pub Vec<Glob>);

impl Targets {
    /// All domains.
    pub fn any() -> Targets {
        Targets(vec![Glob::any()])
    }

    /// Whether the domain is among them. The case of letters matters.
    pub fn include(&self, domain: &Domain) -> bool {
        let names = || std::iter::once(&domain.name).chain(&domain.address);
        self.0.iter().any(|it| names().any(|name| it.matches_exactly(name)))
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<&str> = self.0.iter().map(Glob::as_str).collect();
        f.write_str(&all.join(", "))
    }
}

/// Where a device goes in the guest: `hci0`, or `hci0:3`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct At {
    /// The controller.
    pub controller: ControllerRef,
    /// The port; `None` is any.
    pub port: Option<PortPath>,
}

impl FromStr for At {
    type Err = AtError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || AtError(text.chars().take(80).collect());
        let (controller, port) = match text.split_once(':') {
            Some((controller, port)) => (controller, Some(port.parse().map_err(|_| error())?)),
            None => (text, None),
        };
        Ok(At { controller: controller.parse().map_err(|_| error())?, port })
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.controller),
            None => write!(f, "{}", self.controller),
        }
    }
}

impl TryFrom<String> for At {
    type Error = AtError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<At> for String {
    fn from(at: At) -> String {
        at.to_string()
    }
}

/// A text that is not a place in a guest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a place in a guest: write a controller (hci0), or a controller and a port (hci0:3)"
)]
pub struct AtError(String);

/// The name of a rule: 1 to 64 characters without control characters, no space at either end, no
/// colon, and not `unmatched`. That is the name of the rule that applies where there is no other.
/// Names with a colon are those of built-in rules (`builtin:hub`) and of records (`record:web1`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleName(String);

impl RuleName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is that of a built-in rule.
    pub fn is_builtin(&self) -> bool {
        self.0.starts_with("builtin:")
    }

    /// The name of a rule that is in no file.
    fn reserved(group: &str, name: &str) -> RuleName {
        RuleName(format!("{group}:{name}"))
    }

    /// The name of the rule that applies where there is no other.
    fn unmatched() -> RuleName {
        RuleName("unmatched".to_owned())
    }
}

impl FromStr for RuleName {
    type Err = RuleNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |it: char| it.is_control() || it == ':';
        let valid = (1..=64).contains(&text.chars().count())
            && text.trim() == text
            && !text.contains(bad)
            && text != "unmatched";
        if valid {
            Ok(RuleName(text.to_owned()))
        } else {
            Err(RuleNameError(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot be the name of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a name for a rule: a name has 1 to 64 characters, no colon and no space at either end, and is not `unmatched`"
)]
pub struct RuleNameError(String);
