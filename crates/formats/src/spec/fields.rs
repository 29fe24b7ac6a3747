//! A TOML table, taken apart key by key: each key is taken once, and what is left over at the end is a mistake.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::{self, Place};
use crate::error::Problem;

/// A table, and which of its keys nobody has taken yet.
pub(super) struct Fields<'t> {
    span: Range<usize>,
    left: BTreeMap<&'t str, Field<'t>>,
}

/// A key with its value.
#[derive(Clone)]
pub(super) struct Field<'t> {
    key: &'t str,
    key_span: Range<usize>,
    value: &'t Spanned<DeValue<'t>>,
}

impl<'t> Fields<'t> {
    /// All keys of a table that is at `span`.
    pub(super) fn new(table: &'t DeTable<'t>, span: Range<usize>) -> Fields<'t> {
        let field = |(key, value): (&'t Spanned<std::borrow::Cow<'t, str>>, &'t Spanned<_>)| {
            let name = key.get_ref().as_ref();
            (name, Field { key: name, key_span: key.span(), value })
        };
        Fields { span, left: table.iter().map(field).collect() }
    }

    /// Where the table is.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where it is and where those values are that these keys say. It goes from its header to its last value.
    pub(super) fn place(&self, keys: &[(&str, config::Field)]) -> Place {
        let values = || self.left.values();
        let end = values().map(|field| end_of(field.value)).max();
        let end = end.unwrap_or(self.span.end).max(self.span.end);
        let spans =
            keys.iter().filter_map(|(key, field)| Some((*field, self.left.get(key)?.span())));
        // Of two keys that say the same value, the first in the list is meant.
        let fields = spans.rev().collect();
        Place { span: self.span.start..end, fields, ..Place::default() }
    }

    /// Takes a key.
    pub(super) fn take(&mut self, key: &str) -> Option<Field<'t>> {
        self.left.remove(key)
    }

    /// Takes a text that is not empty.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Problem> {
        self.take(key).map(|field| field.filled_text().map(str::to_owned)).transpose()
    }

    /// Takes a text that reads as a `T`.
    pub(super) fn parse<T: FromStr<Err: Display>>(
        &mut self,
        key: &str,
    ) -> Result<Option<T>, Problem> {
        self.take(key).map(|field| field.parse()).transpose()
    }

    /// Takes an integer of a range.
    pub(super) fn integer<N: TryFrom<i64>>(
        &mut self,
        key: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<N>, Problem> {
        self.take(key).map(|field| field.integer(range)).transpose()
    }

    /// Takes `true` or `false`; without the key it is `false`.
    pub(super) fn boolean(&mut self, key: &str) -> Result<bool, Problem> {
        let Some(field) = self.take(key) else {
            return Ok(false);
        };
        field.value.get_ref().as_bool().ok_or_else(|| field.wrong_type("true or false"))
    }

    /// Takes a list of tables; without the key it is empty.
    pub(super) fn tables(&mut self, key: &str) -> Result<Vec<Fields<'t>>, Problem> {
        self.take(key).map_or_else(|| Ok(Vec::new()), |field| field.tables())
    }

    /// Ends the table: whatever nobody has taken is a mistake. `what` is what the table describes, `keys` what it can have.
    pub(super) fn finish(self, what: &str, keys: &[&str]) -> Result<(), Problem> {
        match self.first_left() {
            None => Ok(()),
            Some(field) => {
                let allowed = match keys {
                    [] => "it has none".to_owned(),
                    keys => format!("its keys are {}", keys.join(", ")),
                };
                let what = format!("`{}` is no key of {what}", short(field.key));
                Err(Problem::new(field.key_span.clone(), what).help(allowed))
            }
        }
    }

    /// The first key in the text that nobody has taken.
    pub(super) fn first_left(&self) -> Option<&Field<'t>> {
        self.left.values().min_by_key(|field| field.key_span.start)
    }
}

impl<'t> Field<'t> {
    /// The key.
    pub(super) const fn key(&self) -> &'t str {
        self.key
    }

    /// Where the key is.
    pub(super) fn key_span(&self) -> Range<usize> {
        self.key_span.clone()
    }

    /// Where the value is.
    pub(super) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// The value.
    pub(super) fn value(&self) -> &'t DeValue<'t> {
        self.value.get_ref()
    }

    /// The value as a text.
    pub(super) fn as_text(&self) -> Result<&'t str, Problem> {
        self.value().as_str().ok_or_else(|| self.wrong_type("a text in quotes"))
    }

    fn filled_text(&self) -> Result<&'t str, Problem> {
        match self.as_text()? {
            "" => Err(self.refuse(format!("`{}` is empty", self.key)).help("leave it out instead")),
            text => Ok(text),
        }
    }

    /// The value as a text that reads as a `T`.
    pub(super) fn parse<T: FromStr<Err: Display>>(&self) -> Result<T, Problem> {
        self.as_text()?.parse().map_err(|error: T::Err| self.refuse(error.to_string()))
    }

    /// The value as an integer of a range.
    pub(super) fn integer<N: TryFrom<i64>>(
        &self,
        range: RangeInclusive<i64>,
    ) -> Result<N, Problem> {
        let DeValue::Integer(integer) = self.value() else {
            return Err(self.wrong_type("a number without quotes"));
        };
        i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| range.contains(number))
            .and_then(|number| N::try_from(number).ok())
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                self.refuse(format!("`{}` is a number from {least} to {most}", self.key))
            })
    }

    /// The value as a list of tables.
    pub(super) fn tables(&self) -> Result<Vec<Fields<'t>>, Problem> {
        let DeValue::Array(list) = self.value() else {
            return Err(self.wrong_type(&format!("a list: write [[{}]]", self.key)));
        };
        let table = |entry: &'t Spanned<DeValue<'t>>| match entry.get_ref() {
            DeValue::Table(table) => Ok(Fields::new(table, entry.span())),
            other => Err(Problem::new(
                entry.span(),
                format!(
                    "each entry of `{}` is a table, and this is {}",
                    self.key,
                    type_name(other)
                ),
            )),
        };
        list.iter().map(table).collect()
    }

    /// The problem that the value is of another type than it has to be.
    pub(super) fn wrong_type(&self, wanted: &str) -> Problem {
        self.refuse(format!("`{}` is {wanted}", self.key))
            .label(format!("this is {}", type_name(self.value())))
    }

    /// A problem of the value.
    pub(super) fn refuse(&self, what: impl Into<String>) -> Problem {
        Problem::new(self.span(), what)
    }
}

/// Where a value ends, with all that is in it: the span of a table in `[[ ]]` is that of its header alone.
fn end_of(value: &Spanned<DeValue<'_>>) -> usize {
    let inner = match value.get_ref() {
        DeValue::Table(table) => table.values().map(end_of).max(),
        DeValue::Array(list) => list.iter().map(end_of).max(),
        _ => None,
    };
    inner.unwrap_or(0).max(value.span().end)
}

/// A type of TOML with its article.
fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The start of a text that may be long.
pub(super) fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
