//! Reads a TOML table key by key: each key is taken once, and the keys that remain are errors.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use vusb_model::remedy::Remedy;

use crate::config::{self, ItemSource};
use crate::error::Problem;

/// A table, and the keys that have not been taken yet.
pub(crate) struct Fields<'t> {
    span: Range<usize>,
    remaining: BTreeMap<&'t str, Field<'t>>,
}

/// A key with its value.
#[derive(Clone)]
pub(crate) struct Field<'t> {
    key: &'t str,
    key_span: Range<usize>,
    value: &'t Spanned<DeValue<'t>>,
}

impl<'t> Fields<'t> {
    /// All keys of the table at `span`.
    pub(crate) fn new(table: &'t DeTable<'t>, span: Range<usize>) -> Fields<'t> {
        let field = |(key, value): (&'t Spanned<std::borrow::Cow<'t, str>>, &'t Spanned<_>)| {
            let name = key.get_ref().as_ref();
            (name, Field { key: name, key_span: key.span(), value })
        };
        Fields { span, remaining: table.iter().map(field).collect() }
    }

    /// The span of the table.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The source of the item: from the table's header to its last value, with the spans of the
    /// fields that `keys` define.
    pub(crate) fn source(&self, keys: &[(&str, config::Field)]) -> ItemSource {
        let values = || self.remaining.values();
        let end = values().map(|field| end_of(field.value)).max();
        let end = end.unwrap_or(self.span.end).max(self.span.end);
        let spans =
            keys.iter().filter_map(|(key, field)| Some((*field, self.remaining.get(key)?.span())));
        // If two keys define the same field, the first in the list takes precedence.
        let fields = spans.rev().collect();
        ItemSource { span: self.span.start..end, fields, ..ItemSource::default() }
    }

    /// Takes a key.
    pub(crate) fn take(&mut self, key: &str) -> Option<Field<'t>> {
        self.remaining.remove(key)
    }

    /// Takes a string that is not empty.
    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>, Problem> {
        self.take(key).map(|field| field.non_empty_text().map(str::to_owned)).transpose()
    }

    /// Takes a string that parses as a `T`.
    pub(crate) fn parse<T: FromStr<Err: Display>>(
        &mut self,
        key: &str,
    ) -> Result<Option<T>, Problem> {
        self.take(key).map(|field| field.parse()).transpose()
    }

    /// Takes an integer in a range.
    pub(crate) fn integer<N: TryFrom<i64>>(
        &mut self,
        key: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<N>, Problem> {
        self.take(key).map(|field| field.integer(range)).transpose()
    }

    /// Takes `true` or `false`; a missing key is `false`.
    pub(crate) fn boolean(&mut self, key: &str) -> Result<bool, Problem> {
        let Some(field) = self.take(key) else {
            return Ok(false);
        };
        field.value.get_ref().as_bool().ok_or_else(|| field.wrong_type("true or false"))
    }

    /// Takes a list of tables; a missing key is an empty list.
    pub(crate) fn tables(&mut self, key: &str) -> Result<Vec<Fields<'t>>, Problem> {
        self.take(key).map_or_else(|| Ok(Vec::new()), |field| field.tables())
    }

    /// Ends the table: any remaining key is an error. `what` is what the table describes, `keys`
    /// are the allowed keys.
    pub(crate) fn finish(self, what: &str, keys: &[&str]) -> Result<(), Problem> {
        match self.first_remaining() {
            None => Ok(()),
            Some(field) => {
                let allowed = match keys {
                    [] => "it has none".to_owned(),
                    keys => format!("its keys are {}", keys.join(", ")),
                };
                let what = format!("`{}` is not a key of {what}", short(field.key));
                Err(Problem::new(field.key_span.clone(), what).help(allowed))
            }
        }
    }

    /// The first remaining key in the text.
    pub(crate) fn first_remaining(&self) -> Option<&Field<'t>> {
        self.remaining.values().min_by_key(|field| field.key_span.start)
    }
}

impl<'t> Field<'t> {
    /// The key.
    pub(crate) const fn key(&self) -> &'t str {
        self.key
    }

    /// The span of the key.
    pub(crate) fn key_span(&self) -> Range<usize> {
        self.key_span.clone()
    }

    /// The span of the value.
    pub(crate) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// The value.
    pub(crate) fn value(&self) -> &'t DeValue<'t> {
        self.value.get_ref()
    }

    /// The value as a string.
    pub(crate) fn as_text(&self) -> Result<&'t str, Problem> {
        self.value().as_str().ok_or_else(|| self.wrong_type("a string in quotes"))
    }

    fn non_empty_text(&self) -> Result<&'t str, Problem> {
        match self.as_text()? {
            "" => Err(self.refuse(format!("`{}` is empty", self.key)).help("leave it out instead")),
            text => Ok(text),
        }
    }

    /// The value as a string that parses as a `T`.
    pub(crate) fn parse<T: FromStr<Err: Display>>(&self) -> Result<T, Problem> {
        self.as_text()?.parse().map_err(|error: T::Err| self.refuse(error.to_string()))
    }

    /// The value as a string that parses as a `T`, whose errors carry remedies.
    pub(crate) fn parse_or<T: FromStr<Err: Display>>(
        &self,
        remedies: fn(&T::Err) -> Vec<Remedy>,
    ) -> Result<T, Problem> {
        self.as_text()?
            .parse()
            .map_err(|error: T::Err| self.refuse(error.to_string()).remedies(remedies(&error)))
    }

    /// The value as an integer in a range.
    pub(crate) fn integer<N: TryFrom<i64>>(
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
                self.refuse(format!("`{}` must be a number from {least} to {most}", self.key))
            })
    }

    /// The value as a list of tables.
    pub(crate) fn tables(&self) -> Result<Vec<Fields<'t>>, Problem> {
        let DeValue::Array(list) = self.value() else {
            return Err(self.wrong_type(&format!("a list: write [[{}]]", self.key)));
        };
        let table = |entry: &'t Spanned<DeValue<'t>>| match entry.get_ref() {
            DeValue::Table(table) => Ok(Fields::new(table, entry.span())),
            other => Err(Problem::new(
                entry.span(),
                format!(
                    "each entry of `{}` must be a table, and this is {}",
                    self.key,
                    type_name(other)
                ),
            )),
        };
        list.iter().map(table).collect()
    }

    /// The problem that the value has the wrong type.
    pub(crate) fn wrong_type(&self, expected: &str) -> Problem {
        self.refuse(format!("`{}` must be {expected}", self.key))
            .label(format!("this is {}", type_name(self.value())))
    }

    /// A problem with the value.
    pub(crate) fn refuse(&self, what: impl Into<String>) -> Problem {
        Problem::new(self.span(), what)
    }
}

/// The end of a value, including everything in it: the span of a `[[ ]]` table only covers its
/// header.
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
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A text, shortened so that it fits into a sentence.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
