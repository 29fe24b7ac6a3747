//! What a file asks for: a spec, or another tool's configuration.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use vusb_drivers::configfile;
use vusb_formats::Format;
use vusb_formats::config::Config;
use vusb_formats::spec::MAX_BYTES;
use vusb_model::capabilities::Capabilities;
use vusb_model::guest::Guest;
use vusb_model::resolve::Refused;
use vusb_model::spec::Spec;

use crate::error::Error;

/// What is wanted of a domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// What relative paths in it are relative to: the folder that it is in.
    pub folder: PathBuf,
    /// The format that it is written in.
    pub format: Format,
    path: PathBuf,
    text: String,
    config: Config,
}

impl Wanted {
    /// Reads a file, in the format that its name promises; a spec if it promises none.
    ///
    /// # Errors
    /// It is not there, or cannot be understood; the error shows the place.
    pub fn read(path: &Path) -> Result<Wanted, Error> {
        Wanted::read_as(path, Format::of_path(path).unwrap_or(Format::Vusb))
    }

    /// Reads a file in this format.
    ///
    /// # Errors
    /// As [`Wanted::read`].
    pub fn read_as(path: &Path, format: Format) -> Result<Wanted, Error> {
        let wrong = |message: String| Error::Spec { path: path.to_owned(), message };
        let text = String::from_utf8(bytes(path)?)
            .map_err(|error| wrong(format!("{} is no text: {error}", path.display())))?;
        let origin = path.display().to_string();
        let config = format.read(&text, &origin).map_err(|error| wrong(error.to_string()))?;
        let absolute = std::path::absolute(path).map_err(|error| Error::io("read", path, error))?;
        let folder = absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        Ok(Wanted { folder, format, path: path.to_owned(), text, config })
    }

    /// What is asked for.
    pub const fn spec(&self) -> &Spec {
        &self.config.spec
    }

    /// The address of the domain that it is asked of, if the file says one.
    pub fn driver(&self) -> Option<&str> {
        self.config.driver.as_deref()
    }

    /// What the file says of the guest beyond its USB.
    pub const fn guest(&self) -> &Guest {
        &self.config.guest
    }

    /// All that the file says.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What the guest is called; empty if the file does not say it.
    pub(crate) fn called(&self) -> String {
        let own = self.spec().domain.as_ref().map(ToString::to_string);
        own.or_else(|| self.guest().name.clone()).unwrap_or_default()
    }

    /// What a person should know of the text.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.config.warnings.iter().map(|it| it.brief().to_owned())
    }

    /// What such a guest can have.
    pub(crate) fn capabilities(&self) -> Capabilities {
        configfile::capabilities(self.format, self.guest())
    }

    /// A refusal of what the file asks for, with the place in it that is to blame.
    pub(crate) fn refused(&self, refused: Refused) -> Error {
        let shown = self.config.show(&refused, &self.text, &self.path.display().to_string());
        match shown {
            None => refused.into(),
            Some(shown) => {
                let category = Some(refused.category());
                vusb_drivers::Error::Text { message: shown.to_string(), category }.into()
            }
        }
    }
}

/// What is in a file; one that is too long for any format is cut off where that shows.
fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::NoSuchFile { path: path.to_owned() },
        _ => Error::io("read", path, error),
    };
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(limit).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}
