//! Reading sysfs and proc: small files, links and directories that may disappear at any moment.
//!
//! A device can be unplugged between any two reads. Anything that is gone, unreadable or malformed
//! is `None` here; the caller decides whether that matters. [`Reader`] tells what is gone from what
//! is unreadable, for callers that must not take the second for the first.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

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

/// A complete file. A file of `limit` bytes or more is an error, because a part of a list would be
/// a wrong answer.
pub(crate) fn read_whole(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let bytes = read(path, limit)?;
    if bytes.len() < limit { Ok(bytes) } else { Err(io::ErrorKind::InvalidData.into()) }
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

/// Reads sysfs and proc, and remembers the first file that exists but cannot be read. Until
/// [`Reader::unreadable`] returns `None`, what is missing from the answers may exist.
#[derive(Debug)]
pub(crate) struct Reader {
    root: PathBuf,
    unreadable: OnceCell<String>,
}

impl Reader {
    /// A reader of `sys` and `proc` in `root`.
    pub(crate) fn new(root: &Path) -> Reader {
        Reader { root: root.to_owned(), unreadable: OnceCell::new() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The path of the first file that could not be read, as a user knows it.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        self.unreadable.get().map(String::as_str)
    }

    /// Remembers that a file is unreadable.
    pub(crate) fn report(&self, path: &Path) {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        let shown = printable(Path::new("/").join(path).as_os_str().as_encoded_bytes(), 4096);
        // Only the first one is kept.
        let _ = self.unreadable.set(shown);
    }

    /// The result of reading `path`; `None` if it is gone or unreadable.
    pub(crate) fn accept<T>(&self, path: &Path, result: io::Result<T>) -> Option<T> {
        result
            .inspect_err(|error| {
                if !is_gone(error) {
                    self.report(path);
                }
            })
            .ok()
    }

    /// An attribute, as [`text`]. Those of a network interface that is registered or unregistered
    /// at this moment fail with `EINVAL` (`netdev_show` in Linux, `net/core/net-sysfs.c`), and so
    /// does the name of a dm device that is removed: such a device is gone.
    pub(crate) fn text(&self, dir: &Path, attribute: &str, limit: usize) -> Option<String> {
        let path = dir.join(attribute);
        let bytes = match read(&path, MAX_ATTRIBUTE) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => return None,
            bytes => self.accept(&path, bytes)?,
        };
        Some(printable(&bytes, limit))
    }

    /// A short attribute, as [`word`].
    pub(crate) fn word(&self, dir: &Path, attribute: &str) -> Option<String> {
        self.text(dir, attribute, 255).filter(|text| !text.is_empty())
    }

    /// The last component of a link's target, as [`link_name`].
    pub(crate) fn link_name(&self, dir: &Path, link: &str) -> Option<String> {
        let path = dir.join(link);
        let target = self.accept(&path, fs::read_link(&path))?;
        Some(printable(target.file_name()?.as_encoded_bytes(), 255))
    }

    /// A path without links.
    pub(crate) fn canonical(&self, path: &Path) -> Option<PathBuf> {
        self.accept(path, fs::canonicalize(path))
    }

    /// Whether a file exists, or would if it were readable.
    pub(crate) fn may_exist(&self, path: &Path) -> bool {
        let found = fs::metadata(path);
        let is_gone = found.as_ref().is_err_and(is_gone);
        self.accept(path, found).is_some() || !is_gone
    }

    /// The names in a directory, as [`names`].
    pub(crate) fn names(&self, dir: &Path) -> Vec<String> {
        self.entries(dir).into_iter().map(|(name, _)| name).collect()
    }

    /// The entries of a class, such as `sys/class/net`: each name with the device's own directory.
    pub(crate) fn class(&self, class: &str) -> Vec<(String, PathBuf)> {
        let dir = self.root.join(class);
        let entries = self.entries(&dir).into_iter();
        // Some classes have attributes, such as `sys/class/net/bonding_masters`.
        let devices = entries.filter(|(_, kind)| !kind.is_some_and(|it| it.is_file()));
        devices
            .filter_map(|(name, _)| {
                let path = self.canonical(&dir.join(&name))?;
                Some((name, path))
            })
            .collect()
    }

    fn entries(&self, dir: &Path) -> Vec<(String, Option<fs::FileType>)> {
        let list = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = self.accept(dir, list).unwrap_or_default().into_iter();
        let named = entries
            .filter_map(|it| Some((it.file_name().into_string().ok()?, it.file_type().ok())));
        let mut all: Vec<_> = named.collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }
}

/// Whether a file does not exist, or its device was unplugged while it was open.
fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NODEV))
}
