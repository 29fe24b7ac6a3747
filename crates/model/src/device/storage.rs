//! Mass storage devices.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::backend::ImageFormat;
use super::text::KindError;

/// A mass storage device: a disk or a CD drive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Storage {
    /// The file or the block device with its content.
    pub file: String,
    /// The format of the file.
    pub format: ImageFormat,
    /// Whether the guest may not write to it. Always true for a CD drive.
    #[serde(default)]
    pub readonly: bool,
    /// What the guest sees.
    #[serde(default, skip_serializing_if = "Media::is_disk")]
    pub media: Media,
    /// Its serial number. `None` is the hypervisor's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<DiskSerial>,
    /// Whether a disk tells the guest that its medium can be removed, as sticks do. Always false
    /// for a CD drive, which reports a removable medium in any case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removable: bool,
}

impl Storage {
    /// A disk with this content that the guest may write to.
    pub fn new(file: impl Into<String>, format: ImageFormat) -> Storage {
        Storage {
            file: file.into(),
            format,
            readonly: false,
            media: Media::Disk,
            serial: None,
            removable: false,
        }
    }

    /// The device with this medium. The content of a CD drive is read-only, and its medium is
    /// removable.
    pub fn with_media(self, media: Media) -> Storage {
        match media {
            Media::Disk => Storage { media, ..self },
            Media::Cdrom => Storage { media, readonly: true, removable: false, ..self },
        }
    }
}

/// What the guest sees of a mass storage device.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Media {
    /// A disk.
    #[default]
    Disk,
    /// A CD drive with a disc in it.
    Cdrom,
}

impl Media {
    /// Whether it is a disk.
    pub const fn is_disk(&self) -> bool {
        matches!(self, Media::Disk)
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Media::Disk => "disk",
            Media::Cdrom => "cdrom",
        })
    }
}

impl FromStr for Media {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "disk" => Ok(Media::Disk),
            "cdrom" => Ok(Media::Cdrom),
            other => Err(KindError::of("a medium", other, "it must be disk or cdrom")),
        }
    }
}

/// The serial number of a mass storage device: 1 to 126 printable ASCII characters other than `,`
/// and `"`. A guest's SCSI layer sees the first 36 (`scsi_disk_emulate_vpd_page` in QEMU's
/// `scsi-disk.c`), its USB layer all of them: a string descriptor has room for 126.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DiskSerial(String);

impl DiskSerial {
    /// The longest serial number.
    pub const MAX_LEN: usize = 126;

    /// The serial number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DiskSerial {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| (b' '..=b'~').contains(&byte) && !matches!(byte, b',' | b'"');
        if (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(DiskSerial(text.to_owned()));
        }
        let why = "it must have 1 to 126 printable ASCII characters, and neither `,` nor `\"`";
        Err(KindError::of("a serial number", text, why))
    }
}

impl TryFrom<String> for DiskSerial {
    type Error = KindError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DiskSerial> for String {
    fn from(serial: DiskSerial) -> String {
        serial.0
    }
}

impl fmt::Display for DiskSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
