//! Rules and decisions, as they are shown and printed as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vusb_model::rules::{
    Action, Considered, Effect, Glob, Permission, ProtectionKind, Rule, Unmatched,
};
use vusb_model::selector::{BusAddress, BusId};

use super::load::LoadedRules;
use crate::view::{API, HostDeviceView};

/// All rules of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesView {
    /// The version of the layout.
    pub api: u32,
    /// The rules: those that are built in, those of files, and the one that applies if no other
    /// does.
    pub rules: Vec<RuleView>,
    /// The files that were read.
    pub files: Vec<String>,
    /// The protections that are lifted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lifted: Vec<ProtectionKind>,
    /// What applies if no rule matches.
    pub unmatched: Unmatched,
    /// Probable mistakes, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleView {
    /// Its name.
    pub name: String,
    /// The file that it is from; none for a built-in rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in the file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The keys that select devices, each with its values. Empty for any device.
    #[serde(rename = "match")]
    pub matches: BTreeMap<String, Vec<String>>,
    /// `attach`, `ask`, `allow` or `deny`.
    pub action: String,
    /// The domains that the action is about, with `*` for any text.
    pub domains: Vec<String>,
    /// Where the device goes in the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// At most this many devices are attached by the rule at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Whether not even force overrides it.
    #[serde(rename = "final", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
}

/// What the rules mean for a device, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainView {
    /// The version of the layout.
    pub api: u32,
    /// The device, if it is plugged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<HostDeviceView>,
    /// A description of the device, for people.
    pub about: String,
    /// The one domain that the explanation is limited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// What happens automatically.
    pub effect: Effect,
    /// Whether a person may give the device to each domain.
    pub permissions: Vec<Permission>,
    /// The verdict of each rule.
    pub trace: Vec<Considered>,
    /// The state that the daemon has the device in: `attached`, `attaching`, `failing`, `held`
    /// (detached by hand), `asking`, `denied` or `unused`. `None` without a daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What the daemon has done with the device since it was plugged in, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastView>,
}

/// What the rules mean for each device of this machine that is not a hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectsView {
    /// The version of the layout.
    pub api: u32,
    /// The devices, by bus and port.
    pub devices: Vec<EffectView>,
}

/// What the rules mean for a device of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectView {
    /// Its bus and port.
    pub busid: BusId,
    /// Its bus and address, which are valid until it is unplugged.
    #[serde(with = "crate::view::as_selector")]
    pub at: BusAddress,
    /// What happens automatically.
    pub effect: Effect,
    /// As in [`ExplainView`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The number of the question that the daemon asks about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<u64>,
}

/// Something that the daemon has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastView {
    /// The number of the event. `vusb answer` takes that of a question. 0 from an older daemon,
    /// which does not send it.
    #[serde(default)]
    pub number: u64,
    /// When it happened: `2026-11-30T18:00:00Z`.
    pub time: String,
    /// The kind of the event, as `vusb watch` names it: `attached`.
    pub event: String,
    /// The address of the domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// What happened, for people.
    pub text: String,
}

impl From<&LoadedRules> for RulesView {
    fn from(loaded: &LoadedRules) -> RulesView {
        RulesView {
            api: API,
            rules: loaded.set.all().iter().map(RuleView::from).collect(),
            files: loaded.files.iter().map(|it| it.display().to_string()).collect(),
            lifted: loaded.set.lifted.clone(),
            unmatched: loaded.set.unmatched,
            warnings: loaded.warnings.clone(),
        }
    }
}

impl From<&Rule> for RuleView {
    fn from(rule: &Rule) -> RuleView {
        let keys = rule.matches.keys().into_iter();
        let domains = match &rule.action {
            Action::Attach(domain) => vec![domain.clone()],
            Action::Ask(targets) | Action::Allow(targets) | Action::Deny(targets) => {
                targets.0.iter().map(Glob::to_string).collect()
            }
        };
        RuleView {
            name: rule.name.to_string(),
            file: rule.file.clone(),
            line: (rule.line > 0).then_some(rule.line),
            matches: keys.map(|(key, values)| (key.name().to_owned(), values)).collect(),
            action: rule.action.word().to_owned(),
            domains,
            at: rule.at.as_ref().map(ToString::to_string),
            max: rule.max,
            is_final: rule.withstands_force(),
        }
    }
}
