//! An entry of another tool while its conditions are read.
//!
//! An entry that grants a device becomes a rule for the same devices or for fewer, and an entry
//! that denies one becomes a rule for the same devices or for more. Every condition is added as a
//! [`Condition`], which says whether it is carried over, so no reader can drop one silently.

use vusb_model::rules::Match;

use super::draft::{Draft, Drafts, Verb};

/// What becomes of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Every device meets it.
    Always,
    /// These keys match the same devices.
    Same(Match),
    /// The first keys match more devices. Together with deny rules for each of the others, they
    /// match the same devices; the text describes these others.
    Except(Match, Vec<Match>, &'static str),
    /// These keys match more devices, for this reason. Empty keys match every device.
    Wider(Match, String),
}

impl Condition {
    /// No key of a rule stands for any part of the condition.
    pub(super) fn lost(why: impl Into<String>) -> Condition {
        Condition::Wider(Match::default(), why.into())
    }
}

/// An entry: its action, and the conditions so far.
#[derive(Debug)]
pub(super) struct Entry {
    draft: Draft,
    /// Why the keys match more devices than the entry.
    wider: Vec<String>,
    /// Deny rules for devices that the keys match and the entry does not, each with a description.
    exceptions: Vec<(Match, &'static str)>,
}

impl Entry {
    /// An entry about these domains; an empty list means all.
    pub(super) fn new(from: &str, verb: Verb, domains: Vec<String>) -> Entry {
        Entry { draft: Draft::new(from, verb, domains), wider: Vec::new(), exceptions: Vec::new() }
    }

    pub(super) fn keys(&self) -> &Match {
        &self.draft.keys
    }

    /// Sets the name of the rule.
    pub(super) fn call(&mut self, name: &str) {
        name.clone_into(&mut self.draft.name);
    }

    /// Adds a condition that a device must meet besides the others.
    pub(super) fn add(&mut self, condition: Condition) {
        match condition {
            Condition::Always => {}
            Condition::Same(keys) => self.both(keys),
            Condition::Except(keys, exceptions, what) => {
                self.both(keys);
                self.exceptions.extend(exceptions.into_iter().map(|it| (it, what)));
            }
            Condition::Wider(keys, why) => {
                self.both(keys);
                self.wider.push(why);
            }
        }
    }

    /// Adds keys. A rule has each key once, so of two values the first stays.
    fn both(&mut self, more: Match) {
        let own = &mut self.draft.keys;
        let mut twice = Vec::new();
        keep("id", &mut own.id, more.id, &mut twice);
        keep("port", &mut own.port, more.port, &mut twice);
        keep("has", &mut own.has, more.has, &mut twice);
        keep("only", &mut own.only, more.only, &mut twice);
        keep("text", &mut own.text, more.text, &mut twice);
        keep("removable", &mut own.removable, more.removable, &mut twice);
        let why = |key| format!("two conditions that would both be the key `{key}`");
        self.wider.extend(twice.into_iter().map(why));
    }

    /// Adds the rule, or lists why it is left out.
    pub(super) fn finish(self, drafts: &mut Drafts) {
        let Entry { draft, mut wider, exceptions } = self;
        if drafts.is_unreachable(&draft) {
            return;
        }
        let grants = draft.verb != Verb::Deny;
        if !grants && !exceptions.is_empty() {
            wider.push("the devices that it is not about cannot be left out".to_owned());
        }
        let effect = match (grants, draft.keys.is_empty()) {
            (true, _) => "the rule is left out",
            (false, true) => "all other devices are denied",
            (false, false) => "more devices are denied",
        };
        for why in &wider {
            drafts.lose(&draft.from, format!("{why}: {effect}"));
        }
        if grants && !wider.is_empty() {
            drafts.leave_out(draft);
            return;
        }
        let mut described = Vec::new();
        // A deny rule without its exceptions denies more devices.
        for (keys, what) in exceptions.into_iter().filter(|_| grants) {
            if !described.contains(&what) {
                drafts.lose(&draft.from, what);
                described.push(what);
            }
            if let Some(denial) = draft.denial(&keys) {
                drafts.push_exception(denial);
            }
        }
        drafts.push(draft, !described.is_empty());
    }
}

fn keep<T>(key: &'static str, own: &mut Vec<T>, more: Vec<T>, twice: &mut Vec<&'static str>) {
    if own.is_empty() {
        *own = more;
    } else if !more.is_empty() {
        twice.push(key);
    }
}
