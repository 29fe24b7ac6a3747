//! The file system of a Proxmox VE cluster, `/etc/pve`, and how its files are replaced.
//!
//! It is not like others (`pmxcfs` of pve-cluster):
//! * Owner and mode of each file are fixed. Setting others fails, so they are not set.
//! * There are no extended attributes, and no files without a name.
//! * A file has at most 1 MiB.
//! * Without a quorum, all of it is read-only, and no file has a bit that permits writing.
//! * A rename replaces a file on all nodes at once. The new file has to be in the same folder,
//!   where all nodes see it, so it has the name that Proxmox VE itself gives such a file:
//!   `100.conf.tmp.PID`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::edit_lock::EditLock;
use super::file::{check_unchanged, failed};
use crate::driver::Error;

/// The longest file, in bytes (`MEMDB_MAX_FILE_SIZE` in pve-cluster's `memdb.h`).
const MAX_SIZE: usize = 1 << 20;

/// What is wrong if nothing can be written.
const NO_QUORUM: &str = "the Proxmox VE cluster has no quorum, so its configurations are read-only; see `pvecm status`, \
                         and retry when enough nodes are up";

/// Whether a path, without links, is in this file system.
pub(crate) fn contains(real: &Path) -> bool {
    real.ancestors().skip(1).any(|it| it.ends_with("etc/pve"))
}

/// Checks that the file can be written. Nothing is touched.
///
/// # Errors
/// The cluster has no quorum.
pub(crate) fn check_quorum(path: &Path) -> Result<(), Error> {
    // The mode tells, also to root, who may write to a file of another file system anyway.
    let is_writable = |it: &fs::Metadata| it.permissions().mode() & 0o222 != 0;
    match fs::metadata(path) {
        Ok(metadata) if !is_writable(&metadata) => Err(no_quorum(path)),
        _ => Ok(()),
    }
}

fn no_quorum(path: &Path) -> Error {
    Error::Unreachable { domain: path.display().to_string(), why: NO_QUORUM.into(), midway: false }
}

/// Replaces the file's text `before` by `after`. The lock stays with the name.
///
/// # Errors
/// There is no quorum; the new text is too long; the file no longer contains `before`, or was
/// replaced; or a file cannot be written. The file is then unchanged.
pub(super) fn replace(
    real: &Path,
    lock: &mut EditLock,
    before: &str,
    after: &str,
) -> Result<(), Error> {
    let failed_at = |doing: &'static str| move |error: io::Error| failed(doing, real, &error);
    check_quorum(real)?;
    if after.len() > MAX_SIZE {
        let why = "the new text is longer than 1 MiB, the limit of Proxmox VE's file system";
        return Err(Error::Failed { what: format!("editing {}", real.display()), why: why.into() });
    }
    let new = new_name(real)
        .ok_or_else(|| failed("naming the new file for", real, &ErrorKind::InvalidInput.into()))?;
    let mut file = create(&new).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => no_quorum(real),
        _ => failed("creating the new file for", real, &error),
    })?;
    let written = file.write_all(after.as_bytes()).and_then(|()| file.sync_all());
    let replaced = written.map_err(failed_at("writing the new file for")).and_then(|()| {
        let lock_of_new = lock.of_new(&file).map_err(failed_at("locking the new file for"))?;
        check_unchanged(real, lock, before)?;
        fs::rename(&new, real).map_err(failed_at("replacing"))?;
        Ok(lock_of_new)
    });
    let replaced = replaced.map(|lock_of_new| *lock = lock_of_new);
    if replaced.is_err() {
        // Best effort: the error is reported in any case.
        let _ = fs::remove_file(&new);
    }
    replaced
}

/// `100.conf.tmp.PID`, beside `100.conf`.
fn new_name(real: &Path) -> Option<PathBuf> {
    let name = real.file_name()?.to_str()?;
    Some(real.with_file_name(format!("{name}.tmp.{}", std::process::id())))
}

/// Creates a file. An existing file of this name is removed: a killed process left it that had the
/// same process ID. The lock on the configuration is held, so no other process writes it.
fn create(path: &Path) -> io::Result<File> {
    let create = || OpenOptions::new().write(true).create_new(true).open(path);
    match create() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create()
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A file in a folder like that of a cluster.
    fn file(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("etc/pve/nodes/pve1/qemu-server");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("100.conf");
        fs::write(&path, "before").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn replace(path: &Path, before: &str, after: &str) -> Result<(), Error> {
        let mut lock = EditLock::take(path, &Duration::ZERO.into())?;
        super::replace(path, &mut lock, before, after)
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path.parent().unwrap()).unwrap();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_new_file_has_the_name_that_proxmox_gives_it() {
        let (_dir, path) = file(0o640);
        assert!(contains(&path) && !contains(Path::new("/etc/pvemanager/100.conf")));
        let new = new_name(&path).unwrap();
        let expected = format!("100.conf.tmp.{}", std::process::id());
        assert_eq!(new.file_name().unwrap().to_str().unwrap(), expected);
        // That of a killed process.
        fs::write(&new, "half").unwrap();
        replace(&path, "before", "after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(names(&path), ["100.conf"]);
    }

    #[test]
    fn what_is_refused_leaves_everything_as_it_was() {
        let (_dir, path) = file(0o440);
        let error = replace(&path, "before", "after").unwrap_err();
        assert!(matches!(&error, Error::Unreachable { midway: false, .. }), "{error}");
        assert!(error.to_string().contains("no quorum"), "{error}");
        let (_dir, path) = file(0o640);
        let long = "x".repeat(MAX_SIZE + 1);
        for (before, after, part) in [("before", &*long, "1 MiB"), ("other", "after", "changed it")]
        {
            let error = replace(&path, before, after).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        assert_eq!(names(&path), ["100.conf"]);
    }
}
