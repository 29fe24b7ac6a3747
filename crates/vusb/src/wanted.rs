//! A spec, with the folder that its relative paths are relative to.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use vusb_formats::spec::{self, SpecFile};

use crate::error::Error;

/// What is wanted of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What is asked for, and of which domain.
    pub file: SpecFile,
    /// What relative paths in it are relative to: the folder that it is in.
    pub folder: PathBuf,
}

impl Wanted {
    /// Reads a spec file.
    ///
    /// # Errors
    /// It is not there, or is no spec; the error shows the place.
    pub fn read(path: &Path) -> Result<Wanted, Error> {
        let io = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::NoSuchFile { path: path.to_owned() },
            _ => Error::io("read", path, error),
        };
        // One byte more than a spec can have, so that one that is too long is told from one that just fits.
        let limit = u64::try_from(spec::MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        File::open(path).map_err(io)?.take(limit).read_to_end(&mut bytes).map_err(io)?;
        let wrong = |message: String| Error::Spec { path: path.to_owned(), message };
        let text = String::from_utf8(bytes)
            .map_err(|error| wrong(format!("{} is no text: {error}", path.display())))?;
        let file = spec::read(&text, &path.display().to_string())
            .map_err(|error| wrong(error.to_string()))?;
        let absolute = std::path::absolute(path).map_err(io)?;
        let folder = absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        Ok(Wanted { file, folder })
    }
}
