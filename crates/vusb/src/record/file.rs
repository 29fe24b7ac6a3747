//! The file of a record: read whole, replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::Value;

use super::{LAYOUT, Record, stem};
use crate::error::Error;
use crate::own_files;

/// The maximum size of a record: 64 MiB, many times what 4096 full controllers take.
const MAX_BYTES: u64 = 64 << 20;

/// The extensions of a record and of an intent.
pub(super) const RECORD: &str = "json";
pub(super) const INTENT: &str = "intent";

/// The extension of an intent whose change was cancelled. To cancel it from another thread, or on a
/// full disk, the file is only renamed.
pub(super) const CANCELLED: &str = "cancelled";

/// The record at `path`, or the newest intent beside it that was saved on top of it.
///
/// An intent without its record is stale, whoever deleted the record: nothing of it is taken.
pub(super) fn read_newer(path: &Path) -> Result<Option<Record>, Error> {
    let Some(record) = read(path)? else { return Ok(None) };
    let cancelled = read_intent(path, CANCELLED, &record).map(Record::cancelled);
    let intents = [read_intent(path, INTENT, &record), cancelled];
    let newest = intents.into_iter().flatten().max_by_key(|intent| intent.change);
    Ok(Some(newest.unwrap_or(record)))
}

fn read_intent(path: &Path, extension: &str, record: &Record) -> Option<Record> {
    let intent = read(&path.with_extension(extension)).unwrap_or_else(|error| {
        tracing::warn!(%error, "ignoring an unreadable intent");
        None
    });
    let intent = intent.filter(|intent| intent.was_made_on(record))?;
    Some(Record { base: Some(record.change), ..intent })
}

/// As [`read_newer`], for a record that was found by its file: the file must have the name that
/// belongs to the record's domain.
pub(super) fn read_named(path: &Path) -> Result<Option<Record>, Error> {
    let record = read_newer(path)?;
    let named =
        |it: &Record| path.file_stem().is_some_and(|name| name == stem(&it.domain).as_str());
    match record {
        Some(record) if !named(&record) => {
            let why = format!(
                "it is the record of {}, which belongs in {}.{RECORD}: is it a copy?",
                record.domain,
                stem(&record.domain)
            );
            Err(Error::Record { path: path.to_owned(), why })
        }
        other => Ok(other),
    }
}

fn read(path: &Path) -> Result<Option<Record>, Error> {
    let wrong = |why: String| Error::Record { path: path.to_owned(), why };
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData => wrong(error.to_string()),
        _ => Error::io("read", path, error),
    };
    let Some(file) = own_files::open(path).map_err(failed)? else { return Ok(None) };
    let bytes = own_files::read(&file, MAX_BYTES).map_err(failed)?;
    let layout = serde_json::from_slice::<Value>(&bytes)
        .map_err(|error| wrong(format!("it is not JSON: {error}")))?
        .get("vusb")
        .and_then(Value::as_u64);
    match layout {
        Some(layout) if layout == u64::from(LAYOUT) => {}
        Some(layout) => {
            return Err(wrong(other_layout(layout)));
        }
        None => return Err(wrong("it lacks the version of its layout".to_owned())),
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(error.to_string()))
}

/// Why a record with this layout cannot be read.
pub(super) fn other_layout(layout: u64) -> String {
    format!("its layout is version {layout}; this vusb reads version {LAYOUT}")
}

/// What a file has to survive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// A kill of the process that wrote it.
    Kill,
    /// A loss of power.
    PowerLoss,
}

/// Writes a new file beside the old one and renames it, so that there is always one complete file.
/// To survive a loss of power, the file is synced before it is renamed, and the folder after that.
/// The caller holds the domain's lock, so no other process writes the new file. A file that a
/// killed process left is overwritten.
pub(super) fn replace(path: &Path, record: &Record, durability: Durability) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut text = serde_json::to_vec_pretty(record)?;
    text.push(b'\n');
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = own_files::open_with(&mut options, &new)?;
    file.write_all(&text)?;
    if durability == Durability::Kill {
        return fs::rename(&new, path);
    }
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
