//! The lines of a configuration: sections, keys and values, by their positions.

use std::ops::Range;

use crate::error::Problem;

/// A section, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// The configuration of the guest: everything before the first header.
    Current,
    /// Changes that are requested and not applied yet.
    Pending,
    /// A snapshot, or another section that is not about the guest's present hardware.
    Other,
}

/// A line `KEY: VALUE`.
#[derive(Clone, Debug)]
pub(super) struct Entry<'t> {
    pub(super) section: Section,
    pub(super) key: &'t str,
    pub(super) value: &'t str,
    pub(super) value_span: Range<usize>,
    /// The line with its newline.
    pub(super) line: Range<usize>,
}

/// A configuration.
#[derive(Debug)]
pub(super) struct Document<'t> {
    pub(super) text: &'t str,
    /// The entries of the current section and of the pending section.
    pub(super) entries: Vec<Entry<'t>>,
    /// The end of the last line of the current section that is not empty.
    pub(super) end_of_current: usize,
    pub(super) warnings: Vec<Problem>,
}

impl<'t> Document<'t> {
    pub(super) fn read(text: &'t str) -> Document<'t> {
        let mut document =
            Document { text, entries: Vec::new(), end_of_current: 0, warnings: Vec::new() };
        let (mut section, mut at) = (Section::Current, 0);
        for line in text.split_inclusive('\n') {
            let span = at..at + line.len();
            at = span.end;
            let content = line.trim_end();
            if let Some(new) = header(content) {
                section = new;
                continue;
            }
            if section == Section::Current && !content.is_empty() {
                document.end_of_current = span.end;
            }
            // The lines with a number sign are the description of the guest.
            if content.is_empty() || content.starts_with('#') || section == Section::Other {
                continue;
            }
            match entry(content, section, span.clone()) {
                Some(entry) => document.entries.push(entry),
                None => document.warnings.push(
                    Problem::new(
                        span.start..span.start + content.len(),
                        "this is not `KEY: VALUE`",
                    )
                    .help(
                        "Proxmox VE ignores the line, and deletes it when it next writes the file",
                    ),
                ),
            }
        }
        document
    }

    /// The entry of a key that takes effect at the next start: the pending one, or else, unless the
    /// key is to be deleted, the last one in the current section.
    pub(super) fn get(&self, key: &str) -> Option<&Entry<'t>> {
        let of = |section: Section| {
            self.entries.iter().rfind(|it| it.section == section && it.key == key)
        };
        of(Section::Pending).or_else(|| of(Section::Current).filter(|_| !self.is_deleted(key)))
    }

    /// Whether a key is to be deleted at the next start: `delete: usb1,!net0` in the pending
    /// section. An exclamation mark forces the deletion.
    fn is_deleted(&self, key: &str) -> bool {
        let lists =
            self.entries.iter().filter(|it| it.section == Section::Pending && it.key == "delete");
        lists.flat_map(|it| words(it.value)).any(|word| word == key)
    }
}

/// The keys in a list of keys to delete.
pub(super) fn words(list: &str) -> impl Iterator<Item = &str> {
    let words = list.split([',', ';', ' ', '\t']).filter(|it| !it.is_empty());
    words.map(|word| word.strip_prefix('!').unwrap_or(word))
}

/// The section that a header begins: `[PENDING]`, `[before-update]`, `[special:cloudinit]`.
fn header(line: &str) -> Option<Section> {
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    Some(if name.eq_ignore_ascii_case("pending") { Section::Pending } else { Section::Other })
}

fn entry(content: &str, section: Section, line: Range<usize>) -> Option<Entry<'_>> {
    let (key, rest) = content.split_once(':')?;
    let value = rest.trim();
    let start = line.start + content.len() - rest.trim_start().len();
    let is_key = is_key(key) && !value.is_empty();
    let value_span = start..start + value.len();
    is_key.then_some(Entry { section, key, value, value_span, line })
}

/// Whether a text is a key: `[a-z][a-z_-]*` and digits.
fn is_key(text: &str) -> bool {
    let stem = text.trim_end_matches(|it: char| it.is_ascii_digit());
    stem.starts_with(|it: char| it.is_ascii_lowercase())
        && stem.bytes().all(|it| it.is_ascii_lowercase() || b"_-".contains(&it))
}
