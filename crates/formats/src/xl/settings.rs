//! The effective value of each key: the last assignment wins, and `+=` appends to the value so far.

use std::borrow::Cow;
use std::ops::Range;

use super::grammar::{Setting, Value, ValueKind, parse, short};
use crate::error::Problem;

/// All assignments of a text.
pub(super) struct Settings<'t> {
    pub(super) all: Vec<Setting<'t>>,
}

/// The effective value of a key.
pub(super) struct EffectiveValue<'s, 't> {
    /// The assignments that make it up: one, and those that append to it.
    pub(super) parts: Vec<&'s Setting<'t>>,
}

impl<'t> Settings<'t> {
    /// Parses a whole text.
    ///
    /// # Errors
    /// xl could not read it.
    pub(super) fn read(text: &'t str) -> Result<Settings<'t>, Problem> {
        let settings = Settings { all: parse(text)? };
        settings.check_appends()?;
        Ok(settings)
    }

    /// Rejects appending a list to a string, or a string to a list.
    fn check_appends(&self) -> Result<(), Problem> {
        let mut last = std::collections::HashMap::new();
        for setting in &self.all {
            let before: Option<&Setting<'_>> = last.insert(setting.key, setting);
            let is_list = |setting: &Setting<'_>| matches!(setting.value.kind, ValueKind::List(_));
            if let Some(before) =
                before.filter(|before| setting.appends && is_list(before) != is_list(setting))
            {
                let what = format!(
                    "`{}` is a list in one place and a string in the other",
                    short(setting.key)
                );
                return Err(Problem::new(setting.value.span.clone(), what)
                    .other(before.value.span.clone(), "it is appended to this")
                    .help("xl says: can't add [list] to \"string\" or vice versa"));
            }
        }
        Ok(())
    }

    /// The effective value of a key; `None` if it is not set.
    pub(super) fn get(&self, key: &str) -> Option<EffectiveValue<'_, 't>> {
        let mut parts = Vec::new();
        for setting in self.all.iter().filter(|setting| setting.key == key) {
            if !setting.appends {
                parts.clear();
            }
            parts.push(setting);
        }
        (!parts.is_empty()).then_some(EffectiveValue { parts })
    }

    /// The first assignment of a key that a later one overrides, with that later one.
    pub(super) fn overridden(&self, key: &str) -> Option<(&Setting<'t>, &Setting<'t>)> {
        let mut all = self.all.iter().filter(|setting| setting.key == key);
        let first = all.next()?;
        all.rfind(|setting| !setting.appends).map(|last| (first, last))
    }
}

impl<'s, 't> EffectiveValue<'s, 't> {
    /// The span of the value, or of its first part.
    pub(super) fn span(&self) -> Range<usize> {
        self.parts.first().map_or(0..0, |setting| setting.value.span.clone())
    }

    /// The value as a string; `None` if it is a list.
    pub(super) fn text(&self) -> Option<Cow<'s, str>> {
        let atom = |setting: &&'s Setting<'t>| match &setting.value.kind {
            ValueKind::Atom(text) => Some(text.as_ref()),
            ValueKind::List(_) => None,
        };
        match self.parts.as_slice() {
            [one] => atom(one).map(Cow::Borrowed),
            many => many.iter().map(atom).collect::<Option<String>>().map(Cow::Owned),
        }
    }

    /// The value as a list; `None` if it is a string.
    pub(super) fn list(&self) -> Option<Vec<&'s Value<'t>>> {
        let values = self.parts.iter().map(|setting| match &setting.value.kind {
            ValueKind::List(values) => Some(values),
            ValueKind::Atom(_) => None,
        });
        values.collect::<Option<Vec<_>>>().map(|lists| lists.into_iter().flatten().collect())
    }

    /// Whether any `+=` is involved. xl does not read a number from such a value.
    pub(super) fn is_appended(&self) -> bool {
        self.parts.iter().any(|setting| setting.appends)
    }
}
