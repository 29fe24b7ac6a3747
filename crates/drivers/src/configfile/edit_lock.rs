//! The lock on a file that is edited, and what killed edits left beside it.
//!
//! The lock is on the file itself, so that it holds between users and state folders. An edit
//! replaces the file, and a lock belongs to a file and not to its name. So the new file is locked
//! before it gets the name, and whoever gets a lock checks that the name still leads to the locked
//! file:
//!
//! ```text
//!   open ──▶ lock ──▶ still the file of this name? ──yes──▶ held
//!    ▲                         │ no: it was replaced meanwhile
//!    └─────────────────────────┘
//! ```

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use vusb_model::remedy::{Reason, Remedy};

use crate::driver::Error;
use crate::identity::Process;
use crate::limits::Limits;
use crate::text;

/// The interval at which a held lock is tried again. The kernel's own queue cannot be used: a
/// process that waits in it for a file that is replaced gets the lock of the old file.
const RETRY: Duration = Duration::from_millis(5);

/// The lock on a file, held until this is dropped.
#[derive(Debug)]
pub(super) struct EditLock {
    /// The locked file, or `None` on a file system without locks.
    file: Option<File>,
}

impl EditLock {
    /// Locks the file at `path`, and removes what killed edits of it left.
    ///
    /// # Errors
    /// It cannot be opened or locked; or another process keeps the lock.
    pub(super) fn take(path: &Path, limits: &Limits) -> Result<EditLock, Error> {
        let io = |error: io::Error| failed("locking", path, &error);
        let real = fs::canonicalize(path).map_err(io)?;
        let end = Instant::now().checked_add(limits.next_wait());
        loop {
            let file = text::open(&real).map_err(|error| Error::Failed {
                what: format!("opening {}", path.display()),
                why: error.to_string().into(),
            })?;
            match try_lock(&file) {
                Ok(true) if is_at(&file, &real).map_err(io)? => {
                    remove_leftovers(&real);
                    return Ok(EditLock { file: Some(file) });
                }
                Ok(true) => {}
                Ok(false) if end.is_some_and(|end| Instant::now() >= end) => {
                    return Err(Error::TimedOut {
                        what: format!("waiting for the lock of {}", path.display()),
                        limit: limits.single_wait(),
                        why: Reason::from("another program is editing the file")
                            .remedy(Remedy::MoreTime),
                    });
                }
                Ok(false) => std::thread::sleep(RETRY),
                Err(Errno::NOLCK | Errno::NOTSUP | Errno::BADF | Errno::NOSYS) => {
                    tracing::warn!(path = %path.display(), "this file system has no locks");
                    return Ok(EditLock { file: None });
                }
                Err(error) => return Err(io(error.into())),
            }
        }
    }

    /// Locks the new file, which is about to replace the locked one. The old lock is kept until
    /// then: whoever gets it afterwards finds that its file no longer has the name.
    pub(super) fn of_new(&self, new: &File) -> io::Result<EditLock> {
        if self.file.is_none() {
            return Ok(EditLock { file: None });
        }
        // No other process has opened it yet, so this does not wait.
        flock(new, FlockOperation::NonBlockingLockExclusive)?;
        Ok(EditLock { file: Some(new.try_clone()?) })
    }

    /// Whether the path leads to the locked file. True on a file system without locks.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.file.as_ref().map_or(Ok(true), |file| is_at(file, path))
    }
}

fn try_lock(file: &File) -> Result<bool, Errno> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the path leads to this file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let key = |metadata: Metadata| (metadata.dev(), metadata.ino());
    match fs::metadata(path) {
        Ok(metadata) => Ok(key(metadata) == key(file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the name of the new file for an edit begins with: `.web1.cfg.vusb-`. The process that
/// writes it follows.
fn prefix(real: &Path) -> Option<String> {
    Some(format!(".{}.vusb-", real.file_name()?.to_str()?))
}

/// What the name of the new file for an edit of `real` by this process begins with; a random part
/// follows. `None` if the name of `real` is not text, or `/proc` is missing: then the name does not
/// tell the process, and the file is not removed if the edit is killed.
pub(super) fn prefix_of_new(real: &Path) -> Option<String> {
    let Process { boot, pid, start } = Process::with_id(i32::try_from(std::process::id()).ok()?)?;
    Some(format!("{}{boot}.{pid}.{start}.", prefix(real)?))
}

/// Removes the new files of edits whose process has ended. To be called with the lock held. Errors
/// are ignored: a file that remains only takes up space.
fn remove_leftovers(real: &Path) {
    let (Some(folder), Some(prefix)) = (real.parent(), prefix(real)) else { return };
    let Ok(entries) = fs::read_dir(folder) else { return };
    let is_left = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let writer = name.to_str().and_then(|name| writer(name.strip_prefix(&prefix)?));
        writer.is_some_and(|it| it.has_ended()) && entry.file_type().is_ok_and(|it| it.is_file())
    };
    for entry in entries.flatten().filter(is_left) {
        let removed: io::Result<PathBuf> = fs::remove_file(entry.path()).map(|()| entry.path());
        tracing::info!(?removed, "removing the new file of a killed edit");
    }
}

/// The process in the name of a new file: `BOOT.PID.START.RANDOM`.
fn writer(text: &str) -> Option<Process> {
    let mut parts = text.split('.');
    let boot = parts.next()?.to_owned();
    let (pid, start) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(Process { boot, pid, start })
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    Error::Failed { what: format!("{doing} {}", path.display()), why: error.to_string().into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn limits(milliseconds: u64) -> Limits {
        Duration::from_millis(milliseconds).into()
    }

    #[test]
    fn the_lock_holds_for_all_names_of_the_file_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("a.cfg"), dir.path().join("link.cfg"));
        fs::write(&path, "").unwrap();
        symlink("a.cfg", &link).unwrap();
        let held = EditLock::take(&path, &limits(0)).unwrap();
        let error = EditLock::take(&link, &limits(20)).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        drop(held);
        EditLock::take(&link, &limits(0)).unwrap();
    }

    #[test]
    fn the_lock_of_a_file_that_is_replaced_stays_with_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, new) = (dir.path().join("a.cfg"), dir.path().join("new"));
        fs::write(&path, "").unwrap();
        let held = EditLock::take(&path, &limits(0)).unwrap();
        let waiter = std::thread::spawn({
            let path = path.clone();
            move || {
                let lock = EditLock::take(&path, &limits(20_000)).unwrap();
                (lock, fs::read_to_string(path).unwrap())
            }
        });
        fs::write(&new, "new").unwrap();
        let of_new = held.of_new(&File::open(&new).unwrap()).unwrap();
        fs::rename(&new, &path).unwrap();
        drop(held);
        assert!(EditLock::take(&path, &limits(20)).is_err());
        drop(of_new);
        let (lock, text) = waiter.join().unwrap();
        assert_eq!(text, "new");
        assert!(is_at(&lock.file.unwrap(), &path).unwrap());
    }

    #[test]
    fn what_killed_edits_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cfg");
        fs::write(&path, "").unwrap();
        let own = prefix_of_new(&path).unwrap();
        let boot = own.strip_prefix(".a.cfg.vusb-").unwrap().split('.').next().unwrap();
        let pid = std::process::id();
        let left = format!(".a.cfg.vusb-{boot}.{pid}.1.AbC");
        let keep = [
            format!("{own}AbC"),
            format!(".b.cfg.vusb-{boot}.{pid}.1.AbC"),
            format!("a.cfg.vusb-{boot}.{pid}.1.AbC"),
            ".a.cfg.vusb-notes".to_owned(),
            ".vusb-AbC".to_owned(),
        ];
        for name in keep.iter().chain([&left]) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        symlink("/nonexistent", dir.path().join(format!("{left}link"))).unwrap();
        EditLock::take(&path, &limits(0)).unwrap();
        assert!(!dir.path().join(&left).exists());
        assert!(keep.iter().all(|name| dir.path().join(name).exists()));
        assert!(dir.path().join(format!("{left}link")).is_symlink());
    }
}
