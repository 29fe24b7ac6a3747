//! Waits for changes to what a picture shows.
//!
//! ```text
//!   kernel: a USB device ───────────────┐
//!   hypervisors: a guest starts or ends ┤
//!   files: records, claims and rules ───┼─▶ poll ─▶ wait until quiet ─▶ read everything again
//!   vusbd: an event ────────────────────┘
//! ```
//!
//! What has changed does not matter: everything is read again. A source that this user may not
//! read, or that this machine does not have, is left out. A source that fails later is tried again.
//! If reading everything fails, that is tried again too.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use vusb::{GuestEvent, GuestWatch, WatchOptions};
use vusb_host::uevent::Uevents;

use super::folders::Folders;
use super::retry::Retry;
use crate::manager::Manager;
use crate::run::Cli;

/// A change is often followed by others: a hub with its devices, a record after a claim.
const QUIET_TIME: Duration = Duration::from_millis(60);

/// The longest time for which changes are collected.
const MAX_COLLECTING: Duration = Duration::from_millis(400);

/// How many events of the daemon are kept for a reader.
const MAX_EVENTS: usize = 100;

/// The sources of changes. A source that fails is tried again later.
pub(crate) struct Changes {
    uevents: Kernel,
    guests: Vec<Guests>,
    files: Option<Folders>,
    daemon: Option<Daemon>,
    /// When to read everything again, if that has failed.
    read_retry: Retry,
}

/// The notifications of the kernel.
struct Kernel {
    /// `None` if this user may not listen, or after a failure, until the next try.
    uevents: Option<Uevents>,
    retry: Retry,
}

/// A watch for guests.
struct Guests {
    watch: Box<dyn GuestWatch>,
    retry: Retry,
}

/// The daemon that carries out the commands.
struct Daemon {
    socket: PathBuf,
    /// Events that the thread has read and the caller has not taken yet.
    events: Arc<Mutex<Vec<Value>>>,
    /// Readable when the thread has read an event, and at its end when the daemon has ended.
    signal: Option<UnixStream>,
    retry: Retry,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitResult {
    /// Something has changed.
    Changed,
    /// One of the caller's descriptors is ready.
    Ready,
    /// The time limit has passed.
    TimedOut,
}

impl Changes {
    /// Begins to watch. What changes from now on is reported.
    pub(crate) fn new(cli: &Cli) -> Changes {
        let schemes = cli.context.registry().schemes();
        let names: Vec<String> = schemes.map(|it| it.name().to_owned()).collect();
        let records = cli.context.recorded().unwrap_or_default();
        let mut guests = Vec::new();
        for name in names {
            let folder = |address: &str| {
                let (scheme, operand) = address.split_once(':')?;
                let path = PathBuf::from(operand);
                let folder = path.is_absolute().then(|| path.parent()).flatten()?;
                (scheme == name).then(|| folder.to_owned())
            };
            let mut folders: Vec<PathBuf> =
                records.iter().filter_map(|it| folder(&it.address)).collect();
            folders.sort();
            folders.dedup();
            // The empty list stands for the scheme's own folders.
            for folders in std::iter::once(Vec::new()).chain(folders.into_iter().map(|it| vec![it]))
            {
                let options = WatchOptions { folders, ..WatchOptions::default() };
                let watch = cli.context.watch(&name, &options).ok();
                guests.extend(watch.map(|watch| Guests { watch, retry: Retry::default() }));
            }
        }
        Changes {
            uevents: Kernel { uevents: Uevents::listen().ok(), retry: Retry::default() },
            guests,
            files: watch_files(cli),
            daemon: cli.manager.as_ref().map(|it| Daemon::new(it.socket().to_owned())),
            read_retry: Retry::default(),
        }
    }

    /// The events of the daemon since the previous call.
    pub(crate) fn events(&self) -> Vec<Value> {
        let Some(daemon) = &self.daemon else { return Vec::new() };
        std::mem::take(&mut *daemon.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records whether everything could be read after a change. After a failure, the next wait also
    /// ends when it is time to try again.
    pub(crate) fn record_read(&mut self, succeeded: bool) {
        if succeeded {
            self.read_retry.succeed();
        } else {
            self.read_retry.fail(Instant::now());
        }
    }

    /// Waits for a change or for one of the caller's descriptors, at most `limit`. After a change,
    /// this also waits until no other one follows for a moment.
    ///
    /// # Errors
    /// The descriptors cannot be polled.
    pub(crate) fn wait(
        &mut self,
        others: &[BorrowedFd<'_>],
        limit: Option<Duration>,
    ) -> io::Result<WaitResult> {
        let first = self.wait_once(others, limit)?;
        if first != WaitResult::Changed {
            return Ok(first);
        }
        let begin = Instant::now();
        while begin.elapsed() < MAX_COLLECTING
            && self.wait_once(&[], Some(QUIET_TIME))? == WaitResult::Changed
        {}
        Ok(WaitResult::Changed)
    }

    fn wait_once(
        &mut self,
        others: &[BorrowedFd<'_>],
        limit: Option<Duration>,
    ) -> io::Result<WaitResult> {
        let end = limit.and_then(|it| Instant::now().checked_add(it));
        loop {
            // The poll also ends when a retry is due.
            let now = Instant::now();
            let next = end.into_iter().chain(self.next_retry()).min();
            let left = next.map(|it| it.saturating_duration_since(now));
            let is_other = self.poll(others, left)?;
            // If one of the caller's descriptors is ready too, the next call reports it.
            if self.drain() {
                return Ok(WaitResult::Changed);
            }
            match is_other {
                Some(true) => return Ok(WaitResult::Ready),
                None if end.is_some_and(|it| it <= Instant::now()) => {
                    return Ok(WaitResult::TimedOut);
                }
                // A folder has changed, but no guest in it; or a retry has failed.
                _ => {}
            }
        }
    }

    /// When the next retry is due.
    fn next_retry(&self) -> Option<Instant> {
        let sources = self.guests.iter().map(|it| &it.retry);
        let daemon = self.daemon.iter().map(|it| &it.retry);
        let own = [&self.uevents.retry, &self.read_retry];
        sources.chain(daemon).chain(own).filter_map(Retry::due).min()
    }

    /// Waits until a descriptor is ready. Returns whether one of the caller's descriptors is ready,
    /// or `None` if the time limit has passed.
    fn poll(&self, others: &[BorrowedFd<'_>], limit: Option<Duration>) -> io::Result<Option<bool>> {
        let limit = limit.and_then(|it| Timespec::try_from(it).ok());
        // The watch of a hypervisor that has ended would be ready all the time.
        let guests = self.guests.iter().filter(|it| it.retry.due().is_none());
        let own = (self.uevents.uevents.iter().map(AsFd::as_fd))
            .chain(guests.map(|it| it.watch.as_fd()))
            .chain(self.files.iter().map(AsFd::as_fd))
            .chain(self.daemon.iter().filter_map(|it| it.signal.as_ref()).map(AsFd::as_fd));
        let all = others.iter().copied().chain(own);
        let mut polled: Vec<PollFd<'_>> =
            all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let ready = match poll(&mut polled, limit.as_ref()) {
            // A signal has arrived: the caller sees which one from its own descriptors.
            Err(rustix::io::Errno::INTR) => return Ok(Some(false)),
            other => other?,
        };
        let is_ready = |it: &PollFd<'_>| !it.revents().is_empty();
        Ok((ready > 0).then(|| polled.iter().take(others.len()).any(is_ready)))
    }

    /// Reads all pending notifications, and retries the sources that have failed. Returns whether
    /// there were notifications, or a source works again.
    fn drain(&mut self) -> bool {
        let now = Instant::now();
        let mut changed = self.uevents.drain(now);
        for guests in &mut self.guests {
            changed |= guests.drain(now);
        }
        changed |= self.files.as_mut().is_some_and(Folders::drain);
        changed |= self.daemon.as_mut().is_some_and(|it| it.drain(now));
        if self.read_retry.due().is_some_and(|it| it <= now) {
            self.read_retry.succeed();
            changed = true;
        }
        changed
    }
}

impl Kernel {
    fn drain(&mut self, now: Instant) -> bool {
        let mut changed = false;
        if self.retry.due().is_some_and(|it| it <= now) {
            match Uevents::listen() {
                Ok(uevents) => {
                    self.uevents = Some(uevents);
                    self.retry.succeed();
                    // Notifications were lost in the meantime.
                    changed = true;
                }
                Err(_) => self.retry.fail(now),
            }
        }
        while let Some(uevents) = &mut self.uevents {
            match uevents.next() {
                Ok(Some(_)) => changed = true,
                Ok(None) => break,
                Err(_) => {
                    self.uevents = None;
                    self.retry.fail(now);
                }
            }
        }
        changed
    }
}

impl Guests {
    fn drain(&mut self, now: Instant) -> bool {
        if self.retry.is_waiting(now) {
            return false;
        }
        let had_failed = self.retry.due().is_some();
        let events = self.watch.wait(Duration::ZERO).and_then(|events| {
            // Listing the guests resets the watch: otherwise it would keep reporting that events
            // were lost.
            if events.contains(&GuestEvent::Rescan) {
                self.watch.running()?;
            }
            Ok(events)
        });
        match events {
            Ok(events) => {
                self.retry.succeed();
                had_failed || !events.is_empty()
            }
            Err(_) => {
                self.retry.fail(now);
                // The hypervisor has ended, and its guests with it.
                !had_failed
            }
        }
    }
}

impl Daemon {
    fn new(socket: PathBuf) -> Daemon {
        let mut daemon =
            Daemon { socket, events: Arc::default(), signal: None, retry: Retry::default() };
        daemon.connect(Instant::now());
        daemon
    }

    /// Begins to read the events.
    fn connect(&mut self, now: Instant) {
        self.signal = self.read();
        if self.signal.is_some() {
            self.retry.succeed();
        } else {
            self.retry.fail(now);
        }
    }

    fn read(&self) -> Option<UnixStream> {
        let manager = Manager::connect(&self.socket).ok()?;
        let (signal, mut sender) = UnixStream::pair().ok()?;
        signal.set_nonblocking(true).ok()?;
        // If the socket is full, the reader has not yet read an earlier signal.
        sender.set_nonblocking(true).ok()?;
        let kept = Arc::clone(&self.events);
        let read = move || {
            // The thread ends with the daemon or with this process.
            let _ = manager.watch(None, |event| {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push(event.clone());
                let surplus = kept.len().saturating_sub(MAX_EVENTS);
                kept.drain(..surplus);
                let _ = io::Write::write_all(&mut sender, b".");
                Ok(())
            });
        };
        thread::Builder::new().name("events".to_owned()).spawn(read).ok()?;
        Some(signal)
    }

    fn drain(&mut self, now: Instant) -> bool {
        let Some(signal) = &self.signal else {
            if self.retry.is_waiting(now) {
                return false;
            }
            self.connect(now);
            return self.signal.is_some();
        };
        let mut buffer = [0; 64];
        match rustix::io::read(signal, &mut buffer) {
            // The daemon has ended.
            Ok(0) => {
                self.signal = None;
                self.retry.fail(now);
                true
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }
}

/// Watches the folders of records, claims and rules.
fn watch_files(cli: &Cli) -> Option<Folders> {
    let claims = cli.context.host().root().join("run/vusb/claims");
    let state = cli.context.state().path().to_owned();
    Folders::new([state, claims].into_iter().chain(cli.context.rule_folders()).collect()).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use vusb::drivers::Error;

    use super::super::retry::LONGEST;
    use super::*;

    /// A time at which every retry is due.
    fn later() -> Instant {
        Instant::now() + LONGEST * 2
    }

    #[test]
    fn a_daemon_that_was_restarted_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vusbd");
        let listener = UnixListener::bind(&path).unwrap();
        let mut daemon = Daemon::new(path.clone());
        drop(listener.accept().unwrap());
        drop(listener);
        let end = Instant::now() + Duration::from_secs(60);
        while !daemon.drain(Instant::now()) {
            assert!(Instant::now() < end, "the end of the daemon is not noticed");
            thread::yield_now();
        }
        assert!(daemon.retry.due().is_some());
        assert!(!daemon.drain(later()), "it does not run");
        std::fs::remove_file(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        assert!(daemon.drain(later() + LONGEST));
        listener.accept().unwrap();
        assert_eq!(daemon.retry.due(), None);
    }

    /// A watch that gives these answers in turn.
    struct Answers(UnixStream, Vec<Result<Vec<GuestEvent>, Error>>);

    impl AsFd for Answers {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl GuestWatch for Answers {
        fn running(&mut self) -> Result<Vec<String>, Error> {
            Ok(Vec::new())
        }

        fn wait(&mut self, _: Duration) -> Result<Vec<GuestEvent>, Error> {
            self.1.remove(0)
        }
    }

    #[test]
    fn a_hypervisor_that_was_restarted_is_watched_again() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let gone = || Err(Error::Failed { what: "watching".to_owned(), why: "gone".into() });
        let answers = vec![gone(), gone(), Ok(vec![GuestEvent::Rescan]), Ok(Vec::new())];
        let watch = Box::new(Answers(stream, answers));
        let mut guests = Guests { watch, retry: Retry::default() };
        let now = Instant::now();
        assert!(guests.drain(now));
        assert!(!guests.drain(now), "it is too early");
        assert!(!guests.drain(later()), "it still fails");
        assert!(guests.drain(later() + LONGEST));
        assert!(!guests.drain(later() + LONGEST));
    }
}
