//! Reading sysfs and proc: small files, links and directories that may disappear at any moment.
//!
//! A device can be unplugged between any two reads. Anything that is gone, unreadable or malformed
//! is `None` here; the caller decides whether that matters.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::text::printable;

/// The longest attribute in bytes: an attribute has at most one page (Linux,
/// `Documentation/filesystems/sysfs.rst`).
const MAX_ATTRIBUTE: usize = 4096;

/// The first `limit` bytes of a file.
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    // Reading a pipe might never end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An attribute, safe to print, with at most `limit` characters.
pub(crate) fn text(dir: &Path, attribute: &str, limit: usize) -> Option<String> {
    let bytes = read(&dir.join(attribute), MAX_ATTRIBUTE).ok()?;
    Some(printable(&bytes, limit))
}

/// A short attribute that the kernel generates itself.
pub(crate) fn word(dir: &Path, attribute: &str) -> Option<String> {
    text(dir, attribute, 255).filter(|text| !text.is_empty())
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

/// The last component of a link's target: this is how sysfs names a device's driver and subsystem.
pub(crate) fn link_name(dir: &Path, link: &str) -> Option<String> {
    let target = fs::read_link(dir.join(link)).ok()?;
    Some(printable(target.file_name()?.as_encoded_bytes(), 255))
}

/// The names in a directory, sorted; empty if the directory does not exist. Names that are not
/// UTF-8 are skipped: the kernel has none.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The entries of a class, such as `sys/class/net`: each name with the device's own directory.
pub(crate) fn class(dir: &Path) -> Vec<(String, PathBuf)> {
    names(dir)
        .into_iter()
        .filter_map(|name| {
            let path = fs::canonicalize(dir.join(&name)).ok()?;
            Some((name, path))
        })
        .collect()
}
