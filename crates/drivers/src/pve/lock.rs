//! The lock that keeps `qm` and the web interface away from a guest.

use std::fs::{File, OpenOptions};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::Paths;
use crate::driver::Error;
use crate::limits::Limits;

/// The interval at which a held lock is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// The lock of a guest, held until this is dropped. It is the one that `qm` takes for a change:
/// `flock(2)` on a separate file (`PVE::AbstractConfig::lock_config`).
#[derive(Debug)]
pub(super) struct GuestLock(
    #[expect(dead_code, reason = "closing the file releases the lock")] File,
);

impl GuestLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// Another program holds it, or the file cannot be opened.
    pub(super) fn take(paths: &Paths, limits: &Limits) -> Result<GuestLock, Error> {
        let path = paths.lock();
        let failed = |error: std::io::Error| Error::Failed {
            what: format!("locking {}", paths.domain()),
            why: format!("{}: {error}", path.display()).into(),
        };
        let file = OpenOptions::new().append(true).create(true).open(&path).map_err(failed)?;
        let end = Instant::now().checked_add(limits.next_wait());
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(GuestLock(file)),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                let why = format!(
                    "another program is changing it and holds the lock {}; retry",
                    path.display()
                );
                return Err(Error::Busy { domain: paths.domain(), why: why.into() });
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }
}
