//! Whether a device matches the keys of a rule.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::device::{DeviceFacts, ProtectionKind, Removable};
use super::keys::{Glob, IdPattern, InterfaceClass, InterfacePattern, PortPattern};
use super::rank::{PortRank, Rank, Tier};

/// The keys of a rule. All of those that are given must hold. A key that is a list holds if any
/// entry of it does; an empty list is a key that is not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Vendor, product and serial number.
    pub id: Vec<IdPattern>,
    /// The port.
    pub port: Vec<PortPattern>,
    /// Some interface is of one of these kinds.
    pub has: Vec<InterfaceClass>,
    /// Every interface is of one of these kinds, and there is at least one.
    pub only: Vec<InterfaceClass>,
    /// The names of vendor and product.
    pub text: Vec<Glob>,
    /// Whether it can be unplugged.
    pub removable: Vec<Removable>,
    /// This machine needs it for this reason. Only in built-in rules.
    pub protected: Option<ProtectionKind>,
    /// The record of this domain has it. Only in the rules of records.
    pub recorded_in: Option<String>,
}

/// A key of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// [`Match::id`].
    Id,
    /// [`Match::port`].
    Port,
    /// [`Match::has`].
    Has,
    /// [`Match::only`].
    Only,
    /// [`Match::text`].
    Text,
    /// [`Match::removable`].
    Removable,
    /// [`Match::protected`].
    Protected,
    /// [`Match::recorded_in`].
    RecordedIn,
}

impl Key {
    /// The key in a rule file.
    pub const fn name(self) -> &'static str {
        match self {
            Key::Id => "id",
            Key::Port => "port",
            Key::Has => "has",
            Key::Only => "only",
            Key::Text => "text",
            Key::Removable => "removable",
            Key::Protected => "protected",
            Key::RecordedIn => "recorded-in",
        }
    }
}

/// Why a device does not match a rule: the first key that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// The key.
    pub key: Key,
    /// What the rule asks for.
    pub wanted: String,
    /// What the device has; `None` if that is unknown.
    pub seen: Option<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.seen.as_deref().unwrap_or("unknown");
        write!(f, "{}: wanted {}, seen {seen}", self.key.name(), self.wanted)
    }
}

impl Match {
    /// Whether no key is given, so that every device matches.
    pub fn is_empty(&self) -> bool {
        *self == Match::default()
    }

    /// How specific the match with this device is. With several entries of a list that hold, the
    /// most specific one counts.
    ///
    /// # Errors
    /// The device does not match: the first key that does not hold.
    pub fn rank(&self, device: &DeviceFacts) -> Result<Rank, Mismatch> {
        let mut rank = Rank::default();
        if let Some(domain) = &self.recorded_in {
            rank.tier = Tier::Record;
            if !device.recorded.iter().any(|it| it.domain == *domain) {
                let seen: Vec<&String> = device.recorded.iter().map(|it| &it.domain).collect();
                return Err(mismatch(Key::RecordedIn, &[domain], Some(listed(&seen))));
            }
        }
        if let Some(kind) = self.protected {
            if !device.protected.contains_key(&kind) {
                let seen: Vec<_> = device.protected.keys().collect();
                return Err(mismatch(Key::Protected, &[kind], Some(listed(&seen))));
            }
        }
        if !self.port.is_empty() {
            rank.port = self.port_rank(device)?;
        }
        if !self.id.is_empty() {
            let (serial, product) = self.id_rank(device)?;
            (rank.serial, rank.product, rank.vendor) = (serial, product, true);
        }
        self.check_interfaces(device)?;
        rank.interface = !self.has.is_empty() || !self.only.is_empty();
        self.check_text(device)?;
        rank.text = !self.text.is_empty() || !self.removable.is_empty();
        Ok(rank)
    }

    fn port_rank(&self, device: &DeviceFacts) -> Result<PortRank, Mismatch> {
        let matching =
            self.port.iter().filter(|it| it.matches(device.port.as_ref(), device.path.as_ref()));
        let rank = matching.map(port_rank).max();
        rank.ok_or_else(|| {
            let seen = [
                device.port.as_ref().map(ToString::to_string),
                device.path.as_ref().map(ToString::to_string),
            ];
            let seen: Vec<String> = seen.into_iter().flatten().collect();
            let seen = (!seen.is_empty()).then(|| listed(&seen));
            mismatch(Key::Port, &self.port, seen)
        })
    }

    /// Whether the serial number and the product are given.
    fn id_rank(&self, device: &DeviceFacts) -> Result<(bool, bool), Mismatch> {
        let Some(id) = device.id else {
            return Err(mismatch(Key::Id, &self.id, None));
        };
        let serial = device.serial.as_deref();
        let matching = self.id.iter().filter(|it| it.matches(id, serial));
        let rank = matching.map(|it| (it.serial.is_some(), it.product.is_some())).max();
        rank.ok_or_else(|| {
            let seen = serial.map_or_else(|| id.to_string(), |serial| format!("{id}:{serial}"));
            mismatch(Key::Id, &self.id, Some(seen))
        })
    }

    fn check_interfaces(&self, device: &DeviceFacts) -> Result<(), Mismatch> {
        let interfaces = device.interfaces.as_deref();
        let seen = interfaces.map(listed);
        let of = |kinds: &[InterfaceClass], it: InterfacePattern| {
            kinds.iter().any(|kind| kind.covers(it))
        };
        let has = |all: &[InterfacePattern]| all.iter().any(|it| of(&self.has, *it));
        if !self.has.is_empty() && !interfaces.is_some_and(has) {
            return Err(mismatch(Key::Has, &self.has, seen));
        }
        let only =
            |all: &[InterfacePattern]| !all.is_empty() && all.iter().all(|it| of(&self.only, *it));
        if !self.only.is_empty() && !interfaces.is_some_and(only) {
            return Err(mismatch(Key::Only, &self.only, seen));
        }
        Ok(())
    }

    fn check_text(&self, device: &DeviceFacts) -> Result<(), Mismatch> {
        let text = device.text.as_deref();
        if !self.text.is_empty()
            && !text.is_some_and(|it| self.text.iter().any(|own| own.matches(it)))
        {
            return Err(mismatch(Key::Text, &self.text, text.map(str::to_owned)));
        }
        let removable = device.removable;
        if !self.removable.is_empty() && !removable.is_some_and(|it| self.removable.contains(&it)) {
            let seen = removable.map(|it| it.to_string());
            return Err(mismatch(Key::Removable, &self.removable, seen));
        }
        Ok(())
    }
}

impl fmt::Display for Match {
    /// The keys that are given: `id 0529:0001 or 0529:*, has storage`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys();
        if keys.is_empty() {
            return f.write_str("any device");
        }
        let key =
            |(key, values): (Key, Vec<String>)| format!("{} {}", key.name(), values.join(" or "));
        f.write_str(&keys.into_iter().map(key).collect::<Vec<_>>().join(", "))
    }
}

impl Match {
    /// The keys that are given, each with its values as text.
    pub fn keys(&self) -> Vec<(Key, Vec<String>)> {
        fn texts<T: fmt::Display>(values: &[T]) -> Vec<String> {
            values.iter().map(T::to_string).collect()
        }
        let all = [
            (Key::Port, texts(&self.port)),
            (Key::Id, texts(&self.id)),
            (Key::Has, texts(&self.has)),
            (Key::Only, texts(&self.only)),
            (Key::Text, texts(&self.text)),
            (Key::Removable, texts(&self.removable)),
            (Key::Protected, self.protected.iter().map(ToString::to_string).collect()),
            (Key::RecordedIn, self.recorded_in.iter().cloned().collect()),
        ];
        all.into_iter().filter(|(_, values)| !values.is_empty()).collect()
    }
}

/// How specific a port pattern is.
pub(super) fn port_rank(pattern: &PortPattern) -> PortRank {
    if pattern.is_subtree() {
        PortRank::Subtree(pattern.depth().try_into().unwrap_or(u8::MAX))
    } else {
        PortRank::Exact
    }
}

fn mismatch<T: fmt::Display>(key: Key, wanted: &[T], seen: Option<String>) -> Mismatch {
    let wanted: Vec<String> = wanted.iter().map(T::to_string).collect();
    Mismatch { key, wanted: wanted.join(" or "), seen }
}

fn listed<T: fmt::Display>(items: &[T]) -> String {
    match items {
        [] => "none".to_owned(),
        items => items.iter().map(T::to_string).collect::<Vec<_>>().join(", "),
    }
}
