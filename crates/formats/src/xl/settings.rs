//! What a key has in the end: the last assignment counts, and `+=` adds to what there was.

use std::borrow::Cow;
use std::ops::Range;

use super::grammar::{Setting, Value, What, parse, short};
use crate::error::Problem;

/// All assignments of a text.
pub(super) struct Settings<'t> {
    pub(super) all: Vec<Setting<'t>>,
}

/// What a key has.
pub(super) struct Found<'s, 't> {
    /// The assignments that make it up: one, and those that add to it.
    pub(super) parts: Vec<&'s Setting<'t>>,
}

impl<'t> Settings<'t> {
    /// Reads a whole text.
    ///
    /// # Errors
    /// xl could not read it.
    pub(super) fn read(text: &'t str) -> Result<Settings<'t>, Problem> {
        let settings = Settings { all: parse(text)? };
        settings.check_sums()?;
        Ok(settings)
    }

    /// Nobody adds a list to a text.
    fn check_sums(&self) -> Result<(), Problem> {
        let mut last = std::collections::HashMap::new();
        for setting in &self.all {
            let before: Option<&Setting<'_>> = last.insert(setting.key, setting);
            let is_list = |setting: &Setting<'_>| matches!(setting.value.what, What::List(_));
            if let Some(before) =
                before.filter(|before| setting.adds && is_list(before) != is_list(setting))
            {
                let what = format!(
                    "`{}` is a list in one place and none in the other",
                    short(setting.key)
                );
                return Err(Problem::new(setting.value.span.clone(), what)
                    .other(before.value.span.clone(), "this is what it is added to")
                    .help("xl says: can't add [list] to \"string\" or vice versa"));
            }
        }
        Ok(())
    }

    /// What the key has; `None` if it is not set.
    pub(super) fn get(&self, key: &str) -> Option<Found<'_, 't>> {
        let mut parts = Vec::new();
        for setting in self.all.iter().filter(|setting| setting.key == key) {
            if !setting.adds {
                parts.clear();
            }
            parts.push(setting);
        }
        (!parts.is_empty()).then_some(Found { parts })
    }

    /// The assignments of the key that a later one makes void, each with that later one.
    pub(super) fn void(&self, key: &str) -> Option<(&Setting<'t>, &Setting<'t>)> {
        let mut all = self.all.iter().filter(|setting| setting.key == key);
        let first = all.next()?;
        all.rfind(|setting| !setting.adds).map(|last| (first, last))
    }
}

impl<'s, 't> Found<'s, 't> {
    /// Where it is said, or the first part of it.
    pub(super) fn span(&self) -> Range<usize> {
        self.parts.first().map_or(0..0, |setting| setting.value.span.clone())
    }

    /// It as a text; `None` if it is a list.
    pub(super) fn text(&self) -> Option<Cow<'s, str>> {
        let atom = |setting: &&'s Setting<'t>| match &setting.value.what {
            What::Atom(text) => Some(text.as_ref()),
            What::List(_) => None,
        };
        match self.parts.as_slice() {
            [one] => atom(one).map(Cow::Borrowed),
            many => many.iter().map(atom).collect::<Option<String>>().map(Cow::Owned),
        }
    }

    /// It as a list; `None` if it is a text.
    pub(super) fn list(&self) -> Option<Vec<&'s Value<'t>>> {
        let values = self.parts.iter().map(|setting| match &setting.value.what {
            What::List(values) => Some(values),
            What::Atom(_) => None,
        });
        values.collect::<Option<Vec<_>>>().map(|lists| lists.into_iter().flatten().collect())
    }

    /// Whether it is made up of more than one assignment, or starts with one that adds: xl takes no number from it.
    pub(super) fn is_sum(&self) -> bool {
        self.parts.iter().any(|setting| setting.adds)
    }
}
