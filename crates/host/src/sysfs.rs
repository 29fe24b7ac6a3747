//! Reading sysfs and proc: small files, links and folders that may vanish at any moment.
//!
//! A device can be unplugged between any two reads. What is gone, unreadable or of another kind than expected is
//! `None` here; whether that matters is for the caller to say.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::text::printable;

/// The longest attribute in bytes: sysfs gives an attribute one page (Linux, `Documentation/filesystems/sysfs.rst`).
const ATTRIBUTE: usize = 4096;

/// The first `limit` bytes of a file.
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    // A pipe in the place of a file would never end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An attribute, safe to show, with at most `limit` characters.
pub(crate) fn shown(dir: &Path, attribute: &str, limit: usize) -> Option<String> {
    let bytes = read(&dir.join(attribute), ATTRIBUTE).ok()?;
    Some(printable(&bytes, limit))
}

/// A short attribute that the kernel itself makes.
pub(crate) fn word(dir: &Path, attribute: &str) -> Option<String> {
    shown(dir, attribute, 255).filter(|text| !text.is_empty())
}

/// An attribute of exactly `digits` hexadecimal digits.
pub(crate) fn hex(dir: &Path, attribute: &str, digits: usize) -> Option<u16> {
    let text = word(dir, attribute)?;
    let strict = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u16::from_str_radix(&text, 16).ok().filter(|_| strict)
}

/// An attribute of one byte in hexadecimal.
pub(crate) fn byte(dir: &Path, attribute: &str) -> Option<u8> {
    hex(dir, attribute, 2).and_then(|value| u8::try_from(value).ok())
}

/// An attribute that is a decimal number.
pub(crate) fn decimal(dir: &Path, attribute: &str) -> Option<u16> {
    let text = word(dir, attribute)?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// The last part of where a link points to: how sysfs names the driver or the subsystem of a device.
pub(crate) fn link_name(dir: &Path, link: &str) -> Option<String> {
    let target = fs::read_link(dir.join(link)).ok()?;
    Some(printable(target.file_name()?.as_encoded_bytes(), 255))
}

/// The names in a folder, sorted; none if there is no such folder. Names that are not UTF-8 are none of the kernel's.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The entries of a class, such as `sys/class/net`: each name with the device's own folder.
pub(crate) fn class(dir: &Path) -> Vec<(String, PathBuf)> {
    names(dir)
        .into_iter()
        .filter_map(|name| {
            let path = fs::canonicalize(dir.join(&name)).ok()?;
            Some((name, path))
        })
        .collect()
}
