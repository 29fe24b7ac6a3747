//! `docs/json.md`, as the tests that compare it with vusb's output read it.
//!
//! ```text
//!   ## vusb list                                              a section: one object
//!
//!   | key | type | meaning | absent |                         a table of keys
//!   |---|---|---|---|
//!   | `domains` | array of [domain](#vusb-list-domain) | …    also has that section's keys, below `domains[]`
//!   | all of [a device](#device) | | …                        also has that section's keys
//!
//!   | `note` | keys | meaning |                               a table of variants: the values of `note`,
//!   |---|---|---|                                             and the keys that go with each
//!   | `moved` | `from`, `to`, `index` | …
//! ```
//!
//! A key path is `controllers[].devices[].name`: dots between objects, `[]` behind an array.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::{Error, Result};

/// The page.
#[derive(Debug)]
pub struct JsonPage {
    /// Each section by its anchor.
    sections: BTreeMap<String, Section>,
    text: String,
}

#[derive(Debug, Default)]
struct Section {
    keys: Vec<Key>,
    /// The keys of each variant.
    variants: BTreeMap<String, BTreeSet<String>>,
}

/// A row of a table of keys.
#[derive(Debug)]
struct Key {
    /// The path; empty for a row that refers to a section.
    path: String,
    is_array: bool,
    /// The anchor of the section that has the keys below this one.
    below: Option<String>,
}

impl JsonPage {
    /// Reads the page.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read() -> Result<JsonPage> {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/json.md"));
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Ok(JsonPage::of(text))
    }

    fn of(text: String) -> JsonPage {
        let mut sections: BTreeMap<String, Section> = BTreeMap::new();
        let (mut anchor, mut has_variants) = (String::new(), false);
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("## ") {
                anchor = title.to_lowercase().replace(['`', ','], "").replace(' ', "-");
            }
            let Some(row) = line.strip_prefix("| ") else {
                continue;
            };
            let cells: Vec<&str> = row.trim_end_matches('|').split(" |").map(str::trim).collect();
            let cell = |number: usize| cells.get(number).copied().unwrap_or_default();
            let (first, second) = (cell(0), cell(1));
            if first == "key" || second == "keys" {
                has_variants = second == "keys";
                continue;
            }
            let section = sections.entry(anchor.clone()).or_default();
            if has_variants {
                section.variants.extend(code(first).map(|it| (it, code(second).collect())));
                continue;
            }
            let below = link(first).or_else(|| link(second));
            let is_array = second.starts_with("array");
            let paths: Vec<String> = code(first).collect();
            let paths = if paths.is_empty() { vec![String::new()] } else { paths };
            let key = |path| Key { path, is_array, below: below.clone() };
            section.keys.extend(paths.into_iter().map(key));
        }
        JsonPage { sections, text }
    }

    /// All key paths of an object, by the anchor of its section. Empty if there is no such section.
    pub fn paths(&self, anchor: &str) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        for key in self.sections.get(anchor).iter().flat_map(|section| &section.keys) {
            let below = key.below.iter().flat_map(|below| self.paths(below));
            if key.path.is_empty() {
                paths.extend(below);
                continue;
            }
            let separator = if key.is_array { "[]." } else { "." };
            paths.extend(below.map(|it| format!("{}{separator}{it}", key.path)));
            paths.insert(key.path.clone());
        }
        paths
    }

    /// The variants of a section, with the keys that go with each. Empty if there is no such
    /// section.
    pub fn variants(&self, anchor: &str) -> BTreeMap<String, BTreeSet<String>> {
        self.sections.get(anchor).map(|section| section.variants.clone()).unwrap_or_default()
    }

    /// Whether the page has this word as code.
    pub fn has_word(&self, word: &str) -> bool {
        self.text.contains(&format!("`{word}`"))
    }
}

/// The code spans of a cell.
fn code(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The anchor of the first link in a cell.
fn link(cell: &str) -> Option<String> {
    let (_, rest) = cell.split_once("](#")?;
    Some(rest.split_once(')')?.0.to_owned())
}

/// All key paths of a value.
pub fn paths(value: &serde_json::Value) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    collect("", value, &mut paths);
    paths
}

fn collect(at: &str, value: &serde_json::Value, paths: &mut BTreeSet<String>) {
    if let Some(object) = value.as_object() {
        for (key, value) in object {
            let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            collect(&path, value, paths);
            paths.insert(path);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        collect(&format!("{at}[]"), item, paths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let text = "\
## `vusb list`

| key | type | meaning | absent |
|---|---|---|---|
| `api` | number | … | |
| `domains` | array of [domain](#a-domain) | … | |

## A domain

| key | type | meaning | absent |
|---|---|---|---|
| `name`, `pci.bus` | string | … | |
| all of [kind](#kind) | | | |

## Kind

| key | type | meaning | absent |
|---|---|---|---|
| `kind` | string | … | |

| `kind` | keys | meaning |
|---|---|---|
| `host` | `selector`, `speeds` | … |
| `ccid` | | … |
";
        let page = JsonPage::of(text.to_owned());
        let expected = ["api", "domains", "domains[].kind", "domains[].name", "domains[].pci.bus"];
        assert_eq!(page.paths("vusb-list"), expected.map(str::to_owned).into());
        let keys = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>();
        let variants =
            [("host".to_owned(), keys(&["selector", "speeds"])), ("ccid".to_owned(), keys(&[]))];
        assert_eq!(page.variants("kind"), variants.into());
        assert!(page.has_word("host") && !page.has_word("hos"));
    }

    #[test]
    fn the_paths_of_a_value() {
        let value = serde_json::json!({"a": [{"b": 1}, {"c": {"d": null}}], "e": [1]});
        let expected = ["a", "a[].b", "a[].c", "a[].c.d", "e"];
        assert_eq!(paths(&value), expected.map(str::to_owned).into());
    }
}
