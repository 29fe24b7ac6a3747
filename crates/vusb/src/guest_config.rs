//! Guest configurations: specs, and the config files of other tools.

use std::path::{Path, PathBuf};

use vusb_drivers::text::{self, TextError};
use vusb_formats::config::Config;
use vusb_formats::{Format, Formats};
use vusb_model::capabilities::Capabilities;
use vusb_model::guest::Guest;
use vusb_model::hardware::Hardware;
use vusb_model::name::Name;
use vusb_model::refusal::Category;
use vusb_model::resolve::{Refused, Resolved};
use vusb_model::spec::Spec;

use crate::error::Error;

/// A guest's configuration, as text in some format or as a value.
#[derive(Clone, Debug, PartialEq)]
pub struct GuestConfig {
    folder: PathBuf,
    format: Format,
    /// What the text is called in errors.
    origin: String,
    text: String,
    config: Config,
    /// The hardware of the domain that this was made from, if any. It leaves nothing open.
    hardware: Option<Hardware>,
}

impl GuestConfig {
    /// Reads a file. Its format is recognized by the file's name, or else by its content.
    ///
    /// # Errors
    /// It does not exist, is not a regular file or cannot be read; its format is not recognized; or
    /// it cannot be parsed, and the error shows where.
    pub fn read(path: &Path, formats: &Formats) -> Result<GuestConfig, Error> {
        let text = text(path)?;
        let format = formats.for_path(path).or_else(|| formats.recognize(&text));
        let format = format.ok_or_else(|| Error::UnknownFormat {
            path: path.to_owned(),
            known: formats.names().into_iter().map(str::to_owned).collect(),
        })?;
        GuestConfig::from_file(path, text, format)
    }

    /// Reads a file in this format.
    ///
    /// # Errors
    /// As [`GuestConfig::read`], except that the format is known.
    pub fn read_as(path: &Path, format: Format) -> Result<GuestConfig, Error> {
        GuestConfig::from_file(path, text(path)?, format)
    }

    fn from_file(path: &Path, text: String, format: Format) -> Result<GuestConfig, Error> {
        let absolute = std::path::absolute(path).map_err(|error| Error::io("read", path, error))?;
        let folder = absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        let load = |file: &str| Some(folder.join(file)).filter(|it| it.is_file());
        let text = format.expanded(text, &|file| load(file).and_then(|it| self::text(&it).ok()));
        GuestConfig::parse(text, format, folder, path.display().to_string())
    }

    /// Parses a text. Relative paths in it are relative to `folder`. `origin` is what the text is
    /// called in errors, a file name for instance.
    ///
    /// # Errors
    /// It cannot be parsed; the error shows where.
    pub fn parse(
        text: impl Into<String>,
        format: Format,
        folder: impl Into<PathBuf>,
        origin: impl Into<String>,
    ) -> Result<GuestConfig, Error> {
        let (text, origin) = (text.into(), origin.into());
        let config = format.read(&text, &origin).map_err(|error| Error::Spec {
            origin: origin.clone(),
            message: error.to_string(),
            remedies: error.remedies().to_vec(),
        })?;
        Ok(GuestConfig { folder: folder.into(), format, origin, text, config, hardware: None })
    }

    /// A configuration from a spec value. `driver` is the address of the running domain that it is
    /// for. Paths in it are relative to `folder`. `format` must be
    /// [`VusbSpec`](vusb_formats::VusbSpec).
    pub fn from_spec(
        spec: Spec,
        driver: Option<String>,
        format: Format,
        folder: impl Into<PathBuf>,
    ) -> GuestConfig {
        let config = Config { spec, driver, ..Config::default() };
        let (origin, text) = ("the spec".to_owned(), String::new());
        let folder = folder.into();
        GuestConfig { folder, format, origin, text, config, hardware: None }
    }

    /// The configuration of a guest that has this hardware. `address` is that of the domain.
    pub(crate) fn of_domain(
        hardware: Hardware,
        address: String,
        name: Option<Name>,
        guest: Guest,
        format: Format,
    ) -> GuestConfig {
        let spec = Spec { domain: name, ..Spec::from(&hardware) };
        let config = Config { guest, spec, driver: Some(address.clone()), ..Config::default() };
        GuestConfig {
            folder: PathBuf::from("/"),
            format,
            origin: address,
            text: String::new(),
            config,
            hardware: Some(hardware),
        }
    }

    /// The hardware of the domain that this was made from, if any: nothing is left to resolve.
    pub(crate) const fn hardware(&self) -> Option<&Hardware> {
        self.hardware.as_ref()
    }

    /// The folder that its relative paths start from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its format.
    pub const fn format(&self) -> &Format {
        &self.format
    }

    /// Its text, with the content of the files that it includes; empty if it is a value.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it already is a text in the format `to`, so that it needs no conversion. A spec
    /// always needs one: the converted spec leaves nothing open.
    pub(crate) fn is_text_of(&self, to: &Format) -> bool {
        self.format == *to && !to.names_running_domain()
    }

    /// The USB hardware that it requests.
    pub const fn spec(&self) -> &Spec {
        &self.config.spec
    }

    /// The address of the running domain that it is for, if it names one.
    pub fn driver(&self) -> Option<&str> {
        self.config.driver.as_deref()
    }

    /// The guest's properties other than USB.
    pub const fn guest(&self) -> &Guest {
        &self.config.guest
    }

    /// Everything that was read.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The guest's name; empty if it has none.
    pub(crate) fn name(&self) -> String {
        let own = self.spec().domain.as_ref().map(ToString::to_string);
        own.or_else(|| self.guest().name.clone()).unwrap_or_default()
    }

    /// Warnings about the text.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.config.warnings.iter().map(|it| it.brief().to_owned())
    }

    /// The capabilities of a guest with this configuration.
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.format.capabilities(self.guest())
    }

    /// Checks that a guest can be started with all devices of `resolved`.
    ///
    /// # Errors
    /// vusb does not support one of them.
    pub(crate) fn check_supported(&self, resolved: &Resolved) -> Result<(), Error> {
        let Some(refusal) = self.config.unsupported_part(resolved, &self.text, &self.origin) else {
            return Ok(());
        };
        let category = Some(Category::NotImplemented);
        let (message, remedies) = (refusal.to_string(), Vec::new());
        Err(vusb_drivers::Error::Text { message, category, remedies }.into())
    }

    /// The error for a refusal, which shows the responsible line of the file.
    pub(crate) fn refused(&self, refused: Refused) -> Error {
        match self.config.show(&refused, &self.text, &self.origin) {
            None => refused.into(),
            Some(shown) => {
                let (category, remedies) = (Some(refused.category()), refused.remedies());
                vusb_drivers::Error::Text { message: shown.to_string(), category, remedies }.into()
            }
        }
    }
}

/// The text of a file, or of a pipe that the process was given.
pub(crate) fn text(path: &Path) -> Result<String, Error> {
    text::read_or_pipe(path).map_err(|error| match error {
        TextError::Missing => Error::NoSuchFile { path: path.to_owned() },
        TextError::NotAFile(is) => {
            Error::WrongFile { path: path.to_owned(), is, needed: "a regular file" }
        }
        TextError::Io(error) => Error::io("read", path, error),
        error => {
            let origin = path.display().to_string();
            let message = format!("cannot read {origin}: {error}");
            Error::Spec { message, origin, remedies: Vec::new() }
        }
    })
}
