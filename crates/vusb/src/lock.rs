//! Locks between processes, taken with a deadline.
//!
//! A lock is a file with an exclusive `flock`: the kernel frees it when the process ends, however it ends. The file stays,
//! for one that is removed could be locked twice; it says which process had it last.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Error;

/// How long to sleep between two looks at a lock that is held: short beside the time that a step takes.
const PAUSE: Duration = Duration::from_millis(10);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock file at `path`, which is about `what`.
    ///
    /// # Errors
    /// Somebody else holds it for longer than `limit`, or the file cannot be opened.
    pub(crate) fn take(path: &Path, what: &str, limit: Duration) -> Result<Lock, Error> {
        let io = |error| Error::io("lock", path, error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(io)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(io(error)),
                Err(TryLockError::WouldBlock) if start.elapsed() >= limit => {
                    let pid = holder(&mut file);
                    return Err(Error::Busy { what: what.to_owned(), pid, waited: limit });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        }
        sign(&mut file).map_err(io)?;
        Ok(Lock { _file: file })
    }
}

/// Whether somebody holds the lock file at `path`, and which process that is, if it says so. Nothing is made or changed.
pub(crate) fn held(path: &Path) -> Option<Option<u32>> {
    let mut file = OpenOptions::new().read(true).open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(holder(&mut file)),
        _ => None,
    }
}

/// Writes this process's id, for those who wait.
fn sign(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

/// The process that the file says holds it. Ten digits are the most that an id has.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(11).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_held_is_waited_for_and_then_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let held = Lock::take(&path, "web1", Duration::ZERO).unwrap();
        let error = Lock::take(&path, "web1", Duration::from_millis(30)).unwrap_err();
        assert!(
            matches!(error, Error::Busy { pid, .. } if pid == Some(std::process::id())),
            "{error}"
        );
        assert_eq!(super::held(&path), Some(Some(std::process::id())));
        drop(held);
        assert_eq!(super::held(&path), None);
        Lock::take(&path, "web1", Duration::ZERO).unwrap();
    }
}
