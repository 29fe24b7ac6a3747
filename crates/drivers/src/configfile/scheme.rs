//! The address scheme of config files: the address is the path itself.

use std::cell::OnceCell;
use std::path::Path;

use vusb_formats::{Format, Formats};
use vusb_host::{Host, select};

use super::{ConfigFile, HostLookup, file};
use crate::driver::{Driver, Error};
use crate::path;
use crate::scheme::{AddressError, OpenOptions, Scheme};

/// The files of guests that do not run.
#[derive(Clone, Debug)]
pub struct Files {
    formats: Formats,
    /// The format of all files; `None` if each file tells its own.
    format: Option<Format>,
}

impl Files {
    /// The name of the scheme. No address contains it.
    pub const NAME: &'static str = "file";

    /// Files of these formats.
    pub fn new(formats: Formats) -> Files {
        Files { formats, format: None }
    }

    /// Files of this format, whatever their names and contents are.
    pub fn of_format(formats: Formats, format: Format) -> Files {
        Files { formats, format: Some(format) }
    }

    /// The format of a file: by the ending of its name, else by its content.
    fn format(&self, path: &Path) -> Result<Format, Error> {
        if let Some(format) = self.format.clone().or_else(|| self.formats.for_path(path)) {
            return Ok(format);
        }
        let text = file::read(path)?;
        self.formats.recognize(&text).ok_or_else(|| Error::Text {
            message: format!(
                "{}: the format is not recognized; the formats are {}",
                path.display(),
                self.formats.names().join(", ")
            ),
            category: None,
            remedies: Vec::new(),
        })
    }
}

impl Scheme for Files {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn syntax(&self) -> &'static str {
        "FILE"
    }

    /// A path: a name with a known ending, or any text with a slash. Any text, if the format is
    /// given.
    fn operand<'a>(&self, text: &'a str) -> Option<&'a str> {
        let is_path = self.format.is_some()
            || text.contains('/')
            || self.formats.for_path(Path::new(text)).is_some();
        is_path.then_some(text)
    }

    fn address(&self, operand: &str) -> String {
        operand.to_owned()
    }

    fn parse(&self, operand: &str, folder: &Path) -> Result<String, AddressError> {
        path::parse("", operand, folder, "write the path of a file")
    }

    fn lock_operand(&self, operand: &str) -> String {
        let real = Path::new(operand).canonicalize().ok();
        real.and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_else(|| operand.to_owned())
    }

    fn open(&self, operand: &str, options: &OpenOptions<'_>) -> Result<Box<dyn Driver>, Error> {
        let path = Path::new(operand);
        let format = self.format(path)?;
        let limits = options.limits.clone();
        let file = ConfigFile::at(path, format, lookup(options.host.clone()), limits);
        Ok(Box::new(if options.changes { file.for_edits() } else { file }))
    }

    fn is_gone(&self, _: &str, _: &Error) -> bool {
        false
    }

    fn has_records(&self) -> bool {
        false
    }
}

/// Looks up the host devices that a file names. A device is unknown if it is not plugged in, or if
/// several match. The host is read at the first lookup.
pub(crate) fn lookup(host: Host) -> HostLookup {
    let devices = OnceCell::new();
    Box::new(move |selector| {
        let devices = devices.get_or_init(|| host.devices().unwrap_or_default());
        let device = select(devices, selector).ok()?;
        Some(device.reference(selector.clone()))
    })
}
