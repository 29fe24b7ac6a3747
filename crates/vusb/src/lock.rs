//! Locks between threads and processes.
//!
//! A lock is a file with an exclusive `flock`, which the kernel releases when the holder ends for
//! whatever reason. The file is never removed: otherwise, two processes could hold locks on two
//! files of the same path. It contains the process ID of the last holder. A folder can be locked in
//! the same way, but then it is not known who holds the lock.
//!
//! ```text
//!   flock(2), non-blocking ──free──▶ held
//!      │ held by another
//!      └──▶ a thread waits in flock(2) ──▶ sends the file ──▶ held
//!                     │ deadline or cancel: the receiver goes away,
//!                     └──▶ and the thread unlocks as soon as it gets the lock
//! ```
//!
//! flock(2) promises no order. Linux wakes exclusive waiters in the order of their arrival
//! (`__locks_insert_block` in its `fs/locks.c`), but a call that comes between the release and the
//! wake-up takes the lock first. A waiter that was overtaken waits on, until its limit.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::call::Call;
use crate::error::Error;
use crate::options::Progress;
use crate::own_files;

/// The interval at which a waiting call checks whether it was cancelled.
const CANCEL_CHECK: Duration = Duration::from_millis(50);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Locks the file at `path`. Errors call the lock `what`.
    ///
    /// # Errors
    /// Another holder keeps it beyond the call's limit for a single wait; the call is cancelled; or
    /// the file cannot be opened.
    pub(crate) fn take(path: &Path, what: &str, call: &Call<'_>) -> Result<Lock, Error> {
        let io = |error| Error::io("lock", path, error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = own_files::open_with(&mut options, path).map_err(io)?;
        let mut file = lock(file, path, what, call, holder)?;
        write_pid(&mut file).map_err(io)?;
        Ok(Lock { _file: file })
    }

    /// Locks a folder, called `what` in errors. Other calls cannot see who holds it.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub(crate) fn of_folder(
        folder: File,
        path: &Path,
        what: &str,
        call: &Call<'_>,
    ) -> Result<Lock, Error> {
        Ok(Lock { _file: lock(folder, path, what, call, |_| None)? })
    }
}

/// Locks `file`, which is at `path`.
fn lock(
    mut file: File,
    path: &Path,
    what: &str,
    call: &Call<'_>,
    holder: impl Fn(&mut File) -> Option<u32>,
) -> Result<File, Error> {
    let io = |error| Error::io("lock", path, error);
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(file),
        Err(Errno::WOULDBLOCK) => {}
        Err(error) => return Err(io(error.into())),
    }
    call.report(&Progress::WaitingForLock { what });
    let pid = holder(&mut file);
    let waited = call.limits.next_wait();
    match wait(file, waited, call).map_err(io)? {
        Some(file) => Ok(file),
        None if call.cancel().is_cancelled() => Err(Error::Cancelled),
        None => Err(Error::Busy { what: what.to_owned(), pid, waited }),
    }
}

/// Waits in the kernel for the lock on `file`, at most `limit`. `None` if it was not free in time,
/// or the call was cancelled.
fn wait(file: File, limit: Duration, call: &Call<'_>) -> io::Result<Option<File>> {
    let (sender, receiver) = mpsc::channel();
    // Not joined: flock(2) cannot be interrupted. If the receiver is gone by the time the lock is
    // free, the send fails and drops the file, which releases the lock.
    std::thread::Builder::new().name("vusb-lock".to_owned()).spawn(move || {
        let locked = blocking_lock(&file).map(|()| file);
        let _ = sender.send(locked);
    })?;
    let end = Instant::now().checked_add(limit);
    loop {
        let left = end.map_or(CANCEL_CHECK, |end| end.saturating_duration_since(Instant::now()));
        match receiver.recv_timeout(left.min(CANCEL_CHECK)) {
            Ok(locked) => return locked.map(Some),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if left.is_zero() || call.cancel().is_cancelled() => {
                return Ok(None);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn blocking_lock(file: &File) -> io::Result<()> {
    loop {
        match flock(file, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// Whether the lock file at `path` is locked, and by which process if that is known. Nothing is
/// created or changed.
pub(crate) fn held(path: &Path) -> Option<Option<u32>> {
    let mut file = own_files::open(path).ok()??;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Some(holder(&mut file)),
        _ => None,
    }
}

/// Writes this process's ID, which waiters show in their error.
fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

/// The process ID in a lock file. An ID has at most ten digits.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(11).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use vusb_host::Host;

    use super::*;
    use crate::context::Context;
    use crate::options::Options;
    use crate::state::StateDir;

    fn take(path: &Path, options: &Options) -> Result<Lock, Error> {
        let context =
            Context::with_builtin_drivers(StateDir::new("/nonexistent"), Host::new("/nonexistent"));
        Lock::take(path, "the lock of web1", &Call::new(&context, options))
    }

    fn waiting(wait: Duration) -> Options {
        Options { wait, ..Options::default() }
    }

    #[test]
    fn a_timed_out_waiter_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let lock = take(&path, &waiting(Duration::ZERO)).unwrap();
        let error = take(&path, &waiting(Duration::from_millis(30))).unwrap_err();
        assert!(
            matches!(error, Error::Busy { pid, .. } if pid == Some(std::process::id())),
            "{error}"
        );
        assert_eq!(held(&path), Some(Some(std::process::id())));
        drop(lock);
        // The abandoned waiter may get the lock for an instant.
        take(&path, &waiting(Duration::from_secs(5))).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().trim().parse::<u32>().is_ok());
    }

    #[test]
    fn a_deadline_bounds_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let _lock = take(&path, &waiting(Duration::ZERO)).unwrap();
        let deadline = Some(Instant::now() + Duration::from_millis(20));
        let options = Options { deadline, ..waiting(Duration::from_secs(60)) };
        assert!(matches!(take(&path, &options), Err(Error::Busy { .. })));
    }

    #[test]
    fn a_cancelled_waiter_gives_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let _lock = take(&path, &waiting(Duration::ZERO)).unwrap();
        let options = waiting(Duration::from_secs(60));
        options.cancel.cancel();
        assert!(matches!(take(&path, &options), Err(Error::Cancelled)));
    }

    #[test]
    fn every_waiter_gets_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        std::thread::scope(|scope| {
            let one =
                |_| scope.spawn(|| drop(take(&path, &waiting(Duration::from_secs(60))).unwrap()));
            let threads: Vec<_> = (0..64).map(one).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}
