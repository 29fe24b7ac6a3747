//! The registered schemes: which drivers a program has.

use std::path::Path;
use std::sync::Arc;

use vusb_formats::{Format, Formats};

use crate::configfile::Files;
use crate::libvirt::LibvirtScheme;
use crate::locations::Locations;
use crate::pve::PveScheme;
use crate::qemu::QemuScheme;
use crate::scheme::{AddressError, Scheme};
use crate::sim::SimScheme;
use crate::xenctl::XenScheme;

/// The drivers and formats of a program. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    schemes: Vec<Arc<dyn Scheme>>,
    formats: Formats,
    file_format: Option<Format>,
}

/// A domain's address, with its scheme.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The scheme.
    pub scheme: Arc<dyn Scheme>,
    /// The operand of the address, made absolute.
    pub operand: String,
}

impl Registry {
    /// No drivers, and these formats.
    pub fn empty(formats: Formats) -> Registry {
        Registry { schemes: Vec::new(), formats, file_format: None }
    }

    /// The built-in drivers and formats.
    pub fn builtin(locations: Locations) -> Registry {
        let mut registry = Registry::empty(Formats::builtin());
        registry.register(Arc::new(QemuScheme));
        registry.register(Arc::new(SimScheme));
        registry.register(Arc::new(LibvirtScheme::new(locations.clone())));
        registry.register(Arc::new(PveScheme::new(locations.host.root())));
        registry.register(Arc::new(XenScheme::new(locations)));
        registry.register_files();
        registry
    }

    /// Adds a scheme. A scheme of the same name is replaced.
    pub fn register(&mut self, scheme: Arc<dyn Scheme>) {
        self.schemes.retain(|it| it.name() != scheme.name());
        // Every path is an address of the scheme of files, and an address of another scheme may
        // look like a path. So files come last.
        let files = self.schemes.iter().position(|it| it.name() == Files::NAME);
        self.schemes.insert(files.unwrap_or(self.schemes.len()), scheme);
    }

    /// Adds a format. A format of the same name is replaced.
    pub fn register_format(&mut self, format: impl vusb_formats::ConfigFormat + 'static) {
        self.formats.register(format);
        if self.scheme(Files::NAME).is_some() {
            self.register_files();
        }
    }

    /// The same registry, but all files are of this format, whatever their names and contents are.
    #[must_use]
    pub fn reading_files_as(mut self, format: Format) -> Registry {
        self.file_format = Some(format);
        self.register_files();
        self
    }

    /// The format of all files, if [`Registry::reading_files_as`] was called.
    pub const fn file_format(&self) -> Option<&Format> {
        self.file_format.as_ref()
    }

    /// Adds the scheme of files, with the current formats.
    fn register_files(&mut self) {
        let formats = self.formats.clone();
        self.register(Arc::new(match &self.file_format {
            Some(format) => Files::of_format(formats, format.clone()),
            None => Files::new(formats),
        }));
    }

    /// All schemes.
    pub fn schemes(&self) -> impl Iterator<Item = &Arc<dyn Scheme>> {
        self.schemes.iter()
    }

    /// The scheme of this name.
    pub fn scheme(&self, name: &str) -> Option<&Arc<dyn Scheme>> {
        self.schemes.iter().find(|it| it.name() == name)
    }

    /// All formats.
    pub const fn formats(&self) -> &Formats {
        &self.formats
    }

    /// Reads an address, or what a scheme accepts in its place. Relative paths are relative to
    /// `folder`. `None` if `text` is not an address of any scheme.
    ///
    /// # Errors
    /// The text has the form of an address, but is not a valid one.
    pub fn parse(&self, text: &str, folder: &Path) -> Result<Option<Parsed>, AddressError> {
        let find = |scheme: &Arc<dyn Scheme>| Some((scheme.clone(), scheme.operand(text)?));
        let bare = |scheme: &&Arc<dyn Scheme>| scheme.is_bare_address(text, folder);
        // First, because every path is an address of the scheme of files.
        let bare = self.schemes.iter().find(bare).map(|scheme| (scheme.clone(), text));
        let found = bare.or_else(|| self.schemes.iter().find_map(find));
        let Some((scheme, operand)) = found else { return Ok(None) };
        let operand = scheme.parse(operand, folder)?;
        Ok(Some(Parsed { scheme, operand }))
    }
}

#[cfg(test)]
mod tests {
    use vusb_host::Host;

    use super::*;

    /// `sim:/run/web.sim` is also the path of a file, in a folder with this odd name.
    #[test]
    fn an_address_that_looks_like_a_path_belongs_to_its_scheme_even_if_that_is_registered_last() {
        let mut registry = Registry::builtin(Host::new("/").into());
        registry.register(Arc::new(SimScheme));
        let scheme = |text: &str| {
            let parsed = registry.parse(text, Path::new("/")).unwrap();
            parsed.map(|it| it.scheme.name())
        };
        assert_eq!(scheme("sim:/run/web.sim"), Some("sim"));
        assert_eq!(scheme("/run/web.toml"), Some(Files::NAME));
    }
}
