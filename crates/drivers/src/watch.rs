//! Watching for guests that start and end: the parts that the drivers share. Programs can also use
//! [`Folders`] to watch folders of their own.
//!
//! ```text
//!  inotify, pidfds, xenstored ──▶ Poller (one descriptor) ──▶ Source (a driver's)
//!                                                               │ started, ended, lost
//!                                                             Guests ──▶ GuestEvent
//! ```

mod folders;
mod guests;
mod poller;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;

pub use self::folders::{Change, Folders};
pub(crate) use self::guests::Guests;
pub(crate) use self::poller::Poller;
use crate::driver::Error;
use crate::scheme::{GuestEvent, GuestWatch};

/// A driver's source of guests that start and end.
pub(crate) trait Source: Send {
    /// Updates the guests from a complete list, so that events that were lost do no harm.
    ///
    /// # Errors
    /// The guests cannot be listed.
    fn scan(&mut self, poller: &Poller) -> Result<(), Error>;

    /// Handles the descriptors that are ready, and the timeouts that have expired. `ready` has the
    /// tokens that the descriptors were added with. Never waits for an event.
    ///
    /// # Errors
    /// As [`Source::scan`].
    fn react(&mut self, ready: &[u64], poller: &Poller) -> Result<(), Error>;

    /// When [`Source::react`] has to be called even if nothing is ready; `None` for never.
    fn next_wake(&self) -> Option<Instant>;

    /// The guests.
    fn guests(&mut self) -> &mut Guests;

    /// As [`GuestWatch::set_further_folders`], without looking for guests in the new folders.
    ///
    /// # Errors
    /// A folder cannot be watched.
    fn set_further_folders(&mut self, folders: &[PathBuf]) -> Result<(), Error> {
        let _ = folders;
        Ok(())
    }
}

/// A driver's watch for guests that start and end.
pub(crate) struct Watch<S> {
    pub(crate) source: S,
    pub(crate) poller: Poller,
}

impl<S: Source> Watch<S> {
    /// Starts to watch.
    ///
    /// # Errors
    /// The first scan failed.
    pub(crate) fn new(mut source: S, poller: Poller) -> Result<Watch<S>, Error> {
        source.scan(&poller)?;
        let mut watch = Watch { source, poller };
        watch.schedule()?;
        Ok(watch)
    }

    /// Makes the descriptor readable at the time of the next work that no other descriptor signals:
    /// now if events are queued.
    fn schedule(&mut self) -> Result<(), Error> {
        let wake = if self.source.guests().has_events() {
            Some(Instant::now())
        } else {
            self.source.next_wake()
        };
        self.poller.wake_at(wake).map_err(|errno| failed("guests", errno))
    }
}

impl<S> AsFd for Watch<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl<S: Source> GuestWatch for Watch<S> {
    fn running(&mut self) -> Result<Vec<String>, Error> {
        let scanned = self.source.scan(&self.poller);
        // Even after a failed scan, the descriptor must signal the queued events.
        let running = scanned.map(|()| self.source.guests().running());
        self.schedule()?;
        running
    }

    fn wait(&mut self, limit: Duration) -> Result<Vec<GuestEvent>, Error> {
        let end = Instant::now().checked_add(limit);
        loop {
            let pending = self.source.guests().has_events();
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let wait = if pending { Some(Duration::ZERO) } else { left };
            let ready = self.poller.wait(wait).map_err(|errno| failed("guests", errno))?;
            let reacted = self.source.react(&ready, &self.poller);
            let events = match reacted {
                // Events that are queued by now are returned by the next call.
                Err(error) => return self.schedule().and(Err(error)),
                Ok(()) => self.source.guests().take_events(),
            };
            self.schedule()?;
            if !events.is_empty() || left.is_some_and(|left| left.is_zero()) {
                return Ok(events);
            }
        }
    }

    fn set_further_folders(&mut self, folders: &[PathBuf]) -> Result<(), Error> {
        let watched = self.source.set_further_folders(folders);
        let scanned = self.source.scan(&self.poller);
        self.schedule()?;
        watched.and(scanned)
    }
}

/// The error for something that cannot be watched.
pub(crate) fn failed(what: &str, errno: Errno) -> Error {
    let why = io::Error::from(errno).to_string();
    Error::Failed { what: format!("watching {what}"), why: why.into() }
}

/// The error for a folder that cannot be watched.
pub(crate) fn folder_failed(folder: &Path, errno: Errno) -> Error {
    failed(&format!("the folder {}", folder.display()), errno)
}

/// The path of a folder, independent of the working directory.
pub(crate) fn absolute(folder: &Path) -> PathBuf {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

/// The names in a folder; none if it does not exist. A folder that cannot be read has none either,
/// with a warning: its owner must not be able to hide the guests in other folders.
pub(crate) fn names(folder: &Path) -> Vec<OsString> {
    let read = || -> io::Result<Vec<OsString>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    read().unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(folder = %folder.display(), "cannot read: {error}");
        }
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::names;

    /// Otherwise its owner could keep the guests in all other folders from being listed.
    #[test]
    fn a_folder_that_cannot_be_read_has_no_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, "").unwrap();
        assert_eq!(names(folder.path()), ["a"]);
        assert!(names(&file).is_empty());
        assert!(names(&folder.path().join("missing")).is_empty());
    }
}
