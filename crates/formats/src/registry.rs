//! The list of formats that a program knows.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::format::{ConfigFormat, Format};
use crate::{Libvirt, LibxlJson, Pve, QemuArgs, Vbox, Vmx, VusbSpec, Xl};

/// A list of formats. Cheap to clone.
#[derive(Clone)]
pub struct Formats(Arc<Vec<Format>>);

impl Formats {
    /// An empty list.
    pub fn none() -> Formats {
        Formats(Arc::default())
    }

    /// The formats of this crate.
    pub fn builtin() -> Formats {
        let all = [
            Format::new(VusbSpec),
            Format::new(Libvirt),
            Format::new(Xl),
            Format::new(LibxlJson),
            Format::new(Vmx),
            Format::new(Pve),
            Format::new(QemuArgs),
            Format::new(Vbox),
        ];
        Formats(Arc::new(all.into()))
    }

    /// Adds a format. It replaces one of the same name, and takes precedence over those that were
    /// added before it.
    pub fn register(&mut self, format: impl ConfigFormat + 'static) {
        let format = Format::new(format);
        let list = Arc::make_mut(&mut self.0);
        list.retain(|other| *other != format);
        list.push(format);
    }

    /// The format with this name.
    pub fn named(&self, name: &str) -> Option<Format> {
        self.iter().find(|format| format.name() == name).cloned()
    }

    /// The format that a file's name implies by its extension, in upper or lower case.
    pub fn for_path(&self, path: &Path) -> Option<Format> {
        let extension = path.extension()?.to_str()?;
        let has =
            |it: &&Format| it.extensions().iter().any(|own| own.eq_ignore_ascii_case(extension));
        self.iter().rfind(has).cloned()
    }

    /// The format that a text looks like, by its content.
    pub fn recognize(&self, text: &str) -> Option<Format> {
        self.iter().rfind(|format| format.recognizes(text)).cloned()
    }

    /// The names, in the order in which the formats were added.
    pub fn names(&self) -> Vec<&'static str> {
        self.iter().map(|format| format.name()).collect()
    }

    /// All formats, in the order in which they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, Format> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Formats {
    type Item = &'a Format;
    type IntoIter = std::slice::Iter<'a, Format>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
