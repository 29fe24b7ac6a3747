//! Files that are replaced as a whole.

use std::fs;
use std::io;
use std::path::Path;

/// Replaces a file as a whole: a reader sees the old text or the new one. Nothing is synced to
/// disk.
///
/// # Errors
/// The new text cannot be written beside the file, or cannot take its place.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    fs::write(&new, text)?;
    fs::rename(&new, path)
}
