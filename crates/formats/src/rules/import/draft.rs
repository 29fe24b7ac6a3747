//! The rules that an import has made so far, and their text.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use vusb_model::rules::{Glob, IdPattern, InterfaceClass, Key, Match, PortPattern};

/// The highest number of deny rules that are added to keep the order of a file. More would not fit
/// into a rule file.
const MAX_ADDED: usize = 20_000;

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Attach,
    Ask,
    Allow,
    Deny,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Attach => "attach",
            Verb::Ask => "ask",
            Verb::Allow => "allow",
            Verb::Deny => "deny",
        })
    }
}

/// A rule.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// Where it is from: `line 3`.
    pub(super) from: String,
    pub(super) name: String,
    pub(super) keys: Match,
    pub(super) verb: Verb,
    /// The domains of the action; an empty list means all. `attach` has exactly one.
    pub(super) domains: Vec<String>,
    /// The number of entries before its own.
    position: usize,
    /// Whether it is the exception of an entry, or keeps one, rather than an entry.
    is_added: bool,
}

impl Draft {
    /// A rule for every device.
    pub(super) fn new(from: &str, verb: Verb, domains: Vec<String>) -> Draft {
        let (from, name, keys) = (from.to_owned(), String::new(), Match::default());
        Draft { from, name, keys, verb, domains, position: 0, is_added: false }
    }

    /// A deny rule for the devices that this rule and `keys` match. `None` if there are none.
    pub(super) fn denial(&self, keys: &Match) -> Option<Draft> {
        let name = format!("{} not", self.name);
        let keys = meet(&self.keys, keys)?;
        Some(Draft { name, keys, verb: Verb::Deny, is_added: true, ..self.clone() })
    }

    /// Whether there may be a domain that both rules are about.
    fn shares_domain(&self, other: &Draft) -> bool {
        self.domains.is_empty()
            || other.domains.is_empty()
            || self.domains.iter().any(|it| other.domains.contains(it))
    }

    fn write(&self, text: &mut String, name: &str) {
        let _ = writeln!(text, "\n# {}\n[[rule]]\nname = {}", line(&self.from), quoted(name));
        let keys = self.keys.keys();
        for key in [Key::Id, Key::Port, Key::Has, Key::Only, Key::Text, Key::Removable] {
            let Some((_, values)) = keys.iter().find(|(it, _)| *it == key) else { continue };
            let value = match (key, values.as_slice()) {
                (Key::Removable, [one]) if one != "unknown" => one.clone(),
                _ => one_or_several(values),
            };
            let _ = writeln!(text, "{} = {value}", key.name());
        }
        let all = ["*".to_owned()];
        let domains = if self.domains.is_empty() { &all } else { self.domains.as_slice() };
        let _ = writeln!(text, "{} = {}", self.verb, one_or_several(domains));
    }
}

/// How specific the match of a rule may be, in the order in which rules compare it: port, serial
/// number, product, vendor, interfaces, text.
type Specificity = [bool; 6];

/// The lowest and the highest specificity, over the devices that match. They differ if one entry of
/// a list is more specific than another.
fn specificity(keys: &Match) -> (Specificity, Specificity) {
    let rank = |serial, product| {
        [
            !keys.port.is_empty(),
            serial,
            product,
            !keys.id.is_empty(),
            !keys.has.is_empty() || !keys.only.is_empty(),
            !keys.text.is_empty() || !keys.removable.is_empty(),
        ]
    };
    let parts = keys.id.iter().map(|it| (it.serial.is_some(), it.product.is_some()));
    let (low, high) = (parts.clone().min(), parts.max());
    let (low, high) = (low.unwrap_or_default(), high.unwrap_or_default());
    (rank(low.0, low.1), rank(high.0, high.1))
}

/// The keys for the devices that match both, and perhaps for more of those that match `deny`. The
/// match is at least as specific as that of `grant`. `None` if no device matches both.
fn meet(grant: &Match, deny: &Match) -> Option<Match> {
    let any_kind = |has: &[InterfaceClass], only: &[InterfaceClass]| {
        let overlap = |a: &InterfaceClass, b: &InterfaceClass| {
            let (a, b) = (a.patterns(), b.patterns());
            a.iter().any(|a| b.iter().any(|b| a.covers(*b) || b.covers(*a)))
        };
        has.is_empty() || only.is_empty() || has.iter().any(|a| only.iter().any(|b| overlap(a, b)))
    };
    // `only` is about every interface of a device, and there is at least one.
    if !any_kind(&grant.has, &deny.only)
        || !any_kind(&deny.has, &grant.only)
        || !any_kind(&grant.only, &deny.only)
    {
        return None;
    }
    let prefer = |deny: &[InterfaceClass], grant: &[InterfaceClass]| {
        if deny.is_empty() { grant.to_vec() } else { deny.to_vec() }
    };
    let removable = common(&grant.removable, &deny.removable, |a, b| (a == b).then_some(*a))?;
    Some(Match {
        id: common(&grant.id, &deny.id, common_id)?,
        port: common(&grant.port, &deny.port, common_port)?,
        // A rule has one list of each: those of the deny rule match more devices than both lists.
        has: prefer(&deny.has, &grant.has),
        only: prefer(&deny.only, &grant.only),
        text: if deny.text.is_empty() { grant.text.clone() } else { deny.text.clone() },
        removable,
        ..Match::default()
    })
}

/// What the entries of two lists have in common. An empty list matches everything. `None` if
/// neither list is empty and they have nothing in common.
fn common<T: Clone>(a: &[T], b: &[T], both: impl Fn(&T, &T) -> Option<T>) -> Option<Vec<T>> {
    match (a, b) {
        (a, []) => Some(a.to_vec()),
        ([], b) => Some(b.to_vec()),
        // Too many pairs: the entries of `a` match more devices, and are as specific.
        (a, b) if a.len().saturating_mul(b.len()) > MAX_ADDED => Some(a.to_vec()),
        (a, b) => {
            let all: Vec<T> = a.iter().flat_map(|a| b.iter().filter_map(|b| both(a, b))).collect();
            (!all.is_empty()).then_some(all)
        }
    }
}

/// The devices that match both patterns.
fn common_id(a: &IdPattern, b: &IdPattern) -> Option<IdPattern> {
    fn either<T: Clone + PartialEq>(a: &Option<T>, b: &Option<T>) -> Option<Option<T>> {
        match (a, b) {
            (Some(a), Some(b)) => (a == b).then(|| Some(a.clone())),
            (a, b) => Some(a.clone().or_else(|| b.clone())),
        }
    }
    let (product, serial) = (either(&a.product, &b.product)?, either(&a.serial, &b.serial)?);
    (a.vendor == b.vendor).then_some(IdPattern { vendor: a.vendor, product, serial })
}

/// The ports that match both patterns.
fn common_port(a: &PortPattern, b: &PortPattern) -> Option<PortPattern> {
    // Ports are exact in all entries. The exceptions of vhotplug may have one with `.*`.
    if a == b || b.is_subtree() { Some(a.clone()) } else { a.is_subtree().then(|| b.clone()) }
}

/// The rules that were read so far.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    all: Vec<Draft>,
    /// The rules that would grant more than their entries.
    left_out: Vec<Draft>,
    pub(super) lost: Vec<String>,
    order: Order,
    entries: usize,
}

/// Whether the order of the entries matters in the tool.
#[derive(Debug, Default)]
enum Order {
    /// It does not.
    #[default]
    None,
    /// The first entry that matches a device decides.
    First {
        /// What applies to a device that no rule matches.
        unmatched: Option<Verb>,
        /// The entry for every device, if there was one. Those after it are never reached.
        last: Option<String>,
    },
}

impl Drafts {
    /// For a tool in which the first entry that matches a device decides, and in which a device is
    /// denied if none matches.
    pub(super) fn first_decides() -> Drafts {
        Drafts { order: Order::First { unmatched: None, last: None }, ..Drafts::default() }
    }

    pub(super) fn lose(&mut self, from: &str, what: impl AsRef<str>) {
        let what = format!("{from}: {}", what.as_ref());
        // The rules of one entry lose the same.
        if self.lost.last() != Some(&what) {
            self.lost.push(what);
        }
    }

    /// Whether an earlier entry decides about every device.
    pub(super) fn is_unreachable(&mut self, draft: &Draft) -> bool {
        let Order::First { last: Some(last), .. } = &self.order else { return false };
        let what = format!("{last} is about every device, so the rule is never reached");
        self.lose(&draft.from, what);
        true
    }

    /// Keeps a rule that would grant more than its entry, as a comment.
    pub(super) fn leave_out(&mut self, draft: Draft) {
        if !draft.keys.is_empty() {
            self.left_out.push(draft);
        }
    }

    /// Adds a deny rule that belongs to the next entry.
    pub(super) fn push_exception(&mut self, denial: Draft) {
        self.all.push(Draft { position: self.entries, is_added: true, ..denial });
    }

    /// Adds the rule of an entry. If it has no keys and the order matters, it becomes what applies
    /// to a device that no rule matches. It decides about all devices unless it has exceptions.
    pub(super) fn push(&mut self, draft: Draft, has_exceptions: bool) {
        if let Order::First { unmatched, last } = &mut self.order {
            if draft.keys.is_empty() {
                unmatched.get_or_insert(draft.verb);
                if !has_exceptions {
                    *last = Some(draft.from);
                }
                return;
            }
        }
        self.all.push(Draft { position: self.entries, ..draft });
        self.entries += 1;
    }

    /// Turns granting rules for the same devices into one question, which offers all their domains.
    pub(super) fn ask_if_several_want_it(&mut self) {
        let mut all: Vec<Draft> = Vec::new();
        for draft in std::mem::take(&mut self.all) {
            let grants = draft.verb != Verb::Deny;
            let is_same =
                |it: &&mut Draft| grants && it.verb != Verb::Deny && it.keys == draft.keys;
            let Some(other) = all.iter_mut().find(is_same) else {
                all.push(draft);
                continue;
            };
            if (other.verb, draft.verb) != (Verb::Allow, Verb::Allow) {
                other.verb = Verb::Ask;
                other.from = format!("{}; {}", other.from, draft.from);
            }
            other.domains.extend(draft.domains);
        }
        self.all = all;
    }

    /// Keeps what an earlier entry denies, although the most specific rule decides here: adds a
    /// deny rule for each granting rule that would override it.
    ///
    /// # Errors
    /// Too many rules would have to be added.
    pub(super) fn keep_denials(&mut self) -> Result<(), TooMany> {
        let mut added: Vec<Draft> = Vec::new();
        for (at, grant) in self.all.iter().enumerate() {
            let earlier = self.all.iter().take(at);
            let denials = earlier.filter(|it| it.verb == Verb::Deny && !it.is_added);
            for deny in denials.filter(|it| grant.verb != Verb::Deny && it.shares_domain(grant)) {
                if specificity(&deny.keys).0 >= specificity(&grant.keys).1 {
                    continue;
                }
                let Some(keys) = meet(&grant.keys, &deny.keys) else { continue };
                if added.len() == MAX_ADDED {
                    return Err(TooMany);
                }
                let name = format!("{} before {}", deny.name, grant.name);
                added.push(Draft { name, keys, is_added: true, ..deny.clone() });
            }
        }
        if matches!(self.order, Order::First { .. }) {
            self.compare(&added);
        }
        self.all.extend(added);
        Ok(())
    }

    /// Lists the pairs of a granting and a later denying entry of which the later one decides here:
    /// in the tool, the earlier one decides.
    fn compare(&mut self, added: &[Draft]) {
        let mut known = BTreeSet::new();
        let denials = self.all.iter().filter(|it| it.verb == Verb::Deny && !it.is_added);
        for deny in denials.chain(added) {
            let grants = self.all.iter().filter(|it| it.verb != Verb::Deny);
            let before = grants.take_while(|it| it.position < deny.position);
            for grant in before.filter(|it| meet(&it.keys, &deny.keys).is_some()) {
                let beats = specificity(&deny.keys).1 >= specificity(&grant.keys).0;
                if beats && known.insert((deny.position, grant.position)) {
                    self.lost.push(format!(
                        "{}: for devices that {} matches too, {} decided because it is first; here {} decides",
                        deny.from, grant.from, grant.from, deny.from
                    ));
                }
            }
        }
    }

    /// The rule file.
    pub(super) fn text(&self, origin: &str) -> String {
        let mut text = format!("# Made from {}.\n", line(origin));
        if let Order::First { unmatched, .. } = &self.order {
            let unmatched = unmatched.unwrap_or(Verb::Deny);
            let _ = write!(text, "\nunmatched = \"{unmatched}\"\n");
        }
        let mut names = BTreeSet::new();
        let mut unique = |draft: &Draft| {
            let base = name(&draft.name);
            let mut name = base.clone();
            let mut number = 2;
            while !names.insert(name.clone()) {
                name = format!("{base} {number}");
                number += 1;
            }
            name
        };
        for draft in &self.all {
            draft.write(&mut text, &unique(draft));
        }
        if !self.left_out.is_empty() {
            text += "\n# Left out: each of these would also be about devices that its entry was not about.\n";
        }
        for draft in &self.left_out {
            let mut rule = String::new();
            draft.write(&mut rule, &unique(draft));
            // Whatever the rule contains, each of its lines stays a comment.
            rule.trim().lines().for_each(|it| text += &format!("# {it}\n"));
        }
        text
    }
}

/// Too many rules would have to be added.
#[derive(Debug)]
pub(super) struct TooMany;

/// The text on one line, for a comment.
fn line(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).collect()
}

/// A valid name of a rule, made from any text.
fn name(text: &str) -> String {
    let plain = |it: char| if it.is_control() || it == ':' { ' ' } else { it };
    let text: String = text.chars().map(plain).collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    let short: String = words.join(" ").chars().take(56).collect();
    match short.trim() {
        "" | "unmatched" => "imported".to_owned(),
        name => name.to_owned(),
    }
}

/// A string of TOML, or a list of them.
fn one_or_several(values: &[String]) -> String {
    let all: Vec<String> = values.iter().map(|it| quoted(it)).collect();
    match all.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// `*text*`. `None` if the text is empty, or has characters that a rule or the list of devices
/// shows differently.
pub(super) fn anywhere(text: &str) -> Option<Glob> {
    let is_plain = |it: char| (it.is_ascii_graphic() || it == ' ') && it != '*';
    if text.is_empty() || !text.chars().all(is_plain) {
        return None;
    }
    format!("*{text}*").parse().ok()
}
