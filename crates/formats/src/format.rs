//! The formats, by name, and what each can do.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use vusb_model::device::Kind;
use vusb_model::guest::Guest;
use vusb_model::hardware::Hardware;

use crate::config::{Config, Edit, Unsayable, Written};
use crate::error::FormatError;
use crate::{libvirt, libxl, vmx, vusb, xl};

/// A format of configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// This project's spec, in TOML.
    Vusb,
    /// libvirt's domain XML.
    Libvirt,
    /// xl's configuration, `xl.cfg(5)`.
    Xl,
    /// libxl's JSON, as `xl list -l` prints it.
    Json,
    /// VMware's configuration.
    Vmx,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 5] =
        [Format::Vusb, Format::Libvirt, Format::Xl, Format::Json, Format::Vmx];

    /// The name: `vusb`, `libvirt`, `xl`, `json`, `vmx`.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Vusb => "vusb",
            Format::Libvirt => "libvirt",
            Format::Xl => "xl",
            Format::Json => "json",
            Format::Vmx => "vmx",
        }
    }

    /// The format that a file's name promises: `.toml`, `.xml`, `.cfg`, `.json`, `.vmx`.
    pub fn of_path(path: &Path) -> Option<Format> {
        Some(match path.extension()?.to_str()? {
            "toml" => Format::Vusb,
            "xml" => Format::Libvirt,
            "cfg" => Format::Xl,
            "json" => Format::Json,
            "vmx" => Format::Vmx,
            _ => return None,
        })
    }

    /// Whether it says on which port a device of this kind is; else the hypervisor chooses one when the guest starts.
    pub const fn has_ports_for(self, kind: &Kind) -> bool {
        !matches!((self, kind), (Format::Vmx, Kind::Host(_) | Kind::Keyboard(_)))
    }

    /// Reads a configuration. `origin` is what the text is called in errors: the file's name.
    ///
    /// # Errors
    /// It is none, or says what no guest can have; the first mistake is shown.
    pub fn read(self, text: &str, origin: &str) -> Result<Config, FormatError> {
        match self {
            Format::Vusb => vusb::read(text, origin),
            Format::Libvirt => libvirt::read(text, origin),
            Format::Xl => xl::read(text, origin),
            Format::Json => libxl::read(text, origin),
            Format::Vmx => vmx::read(text, origin),
        }
    }

    /// The text with these changes, which are made in this order; all else in it is as it was, to the byte. Places are those of
    /// the spec that is read from `text` as it is handed in.
    ///
    /// # Errors
    /// The format cannot say it.
    pub fn edit(self, text: &str, edits: &[Edit<'_>]) -> Result<String, Unsayable> {
        match self {
            Format::Vusb => vusb::edit(text, edits),
            Format::Libvirt => libvirt::edit(text, edits),
            Format::Xl => xl::edit(text, edits),
            Format::Json => libxl::edit(text, edits),
            Format::Vmx => vmx::edit(text, edits),
        }
    }

    /// A whole configuration that says this hardware, and what of it the format cannot say.
    pub fn write(self, guest: &Guest, hardware: &Hardware) -> Written {
        match self {
            Format::Vusb => vusb::write(guest, hardware),
            Format::Libvirt => libvirt::write(guest, hardware),
            Format::Xl => xl::write(guest, hardware),
            Format::Json => libxl::write(guest, hardware),
            Format::Vmx => vmx::write(guest, hardware),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Format::ALL.into_iter().find(|format| format.name() == text);
        named.ok_or_else(|| "the formats are vusb, libvirt, xl, vmx and json".to_owned())
    }
}
