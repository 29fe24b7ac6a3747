//! Watches for guests that start and end.
//!
//! ```text
//!   records, --guests ─▶ folders of each scheme ─▶ GuestWatches ─▶ thread of the scheme, one watch
//!                                                                       │ started, ended, running
//!                                                                       ▼
//!                                                                     loop
//! ```
//!
//! Each scheme has one thread and one watch: the kernel limits how many a user may have. A folder
//! that no record names any more is no longer watched. A folder that does not exist is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{debug, warn};
use vusb::{Context, GuestEvent, GuestWatch, WatchOptions};

use crate::daemon::{READ_RETRY_PAUSE, StartError, spawn};
use crate::shared::Message;

/// The watches.
pub(crate) struct GuestWatches {
    sender: Sender<Message>,
    /// By scheme.
    watched: BTreeMap<String, Watched>,
}

/// What is watched for a scheme.
struct Watched {
    /// The folders beside those of the scheme itself.
    folders: BTreeSet<PathBuf>,
    /// `None` if the guests of the scheme cannot be watched.
    thread: Option<Control>,
}

/// Tells a thread which folders to watch. Its thread ends when this is dropped.
struct Control {
    folders: Sender<BTreeSet<PathBuf>>,
    wake: UnixStream,
}

/// The thread's end of a [`Control`].
struct Orders {
    folders: Receiver<BTreeSet<PathBuf>>,
    woken: UnixStream,
}

impl GuestWatches {
    pub(crate) const fn new(sender: Sender<Message>) -> GuestWatches {
        GuestWatches { sender, watched: BTreeMap::new() }
    }

    /// Watches the default folders of each scheme, those in `further`, by scheme, and those of the
    /// domains that have a record, and no others. A folder that cannot be watched does not prevent
    /// the others from being watched.
    ///
    /// # Errors
    /// A folder cannot be watched, or no thread can be started. A scheme whose default folders
    /// cannot be watched is no error.
    pub(crate) fn update(
        &mut self,
        context: &Context,
        further: &[(String, PathBuf)],
        recorded: &BTreeSet<String>,
    ) -> Result<(), StartError> {
        let mut result = Ok(());
        for (source, scheme) in context.registry().schemes().enumerate() {
            let name = scheme.name();
            let of_scheme = further.iter().filter(|(it, _)| it == name);
            let mut folders = folders_of(name, recorded);
            folders.extend(of_scheme.map(|(_, it)| it.clone()));
            let updated = match self.watched.get_mut(name) {
                Some(watched) if watched.folders == folders => Ok(()),
                Some(Watched { thread: Some(control), folders: before }) => {
                    control.set(folders.clone());
                    *before = folders;
                    Ok(())
                }
                _ => self.begin(context, (source, name), folders),
            };
            result = result.and(updated);
        }
        result
    }

    /// Begins to watch for the guests of a scheme. `source` is its number.
    fn begin(
        &mut self,
        context: &Context,
        (source, scheme): (usize, &str),
        folders: BTreeSet<PathBuf>,
    ) -> Result<(), StartError> {
        let further: Vec<PathBuf> = folders.iter().cloned().collect();
        let of_scheme = context.watch(scheme, &WatchOptions::default());
        let (watch, result) = match of_scheme {
            Ok(mut watch) => {
                let result = watch.set_further_folders(&further).map_err(vusb::Error::from);
                (Some(watch), result)
            }
            Err(vusb::Error::NotWatchable { .. }) if further.is_empty() => (None, Ok(())),
            // The scheme has no folders of its own, or its guests are in no folders.
            Err(vusb::Error::NotWatchable { .. }) => {
                let options = WatchOptions { further, ..WatchOptions::default() };
                match context.watch(scheme, &options) {
                    Ok(watch) => (Some(watch), Ok(())),
                    Err(vusb::Error::NotWatchable { .. }) => (None, Ok(())),
                    Err(error) => return Err(error.into()),
                }
            }
            // A hypervisor that is not installed has no guests. It may be installed later.
            Err(error) => {
                debug!("{scheme}: {error}");
                return Ok(());
            }
        };
        let thread = watch.map(|watch| self.spawn(scheme, watch, source)).transpose()?;
        // A folder that cannot be watched is tried again at the next update.
        let folders = if result.is_ok() { folders } else { BTreeSet::new() };
        self.watched.insert(scheme.to_owned(), Watched { folders, thread });
        Ok(result?)
    }

    fn spawn(
        &self,
        scheme: &str,
        watch: Box<dyn GuestWatch>,
        source: usize,
    ) -> Result<Control, StartError> {
        let (folders, ordered) = channel();
        let (wake, woken) = UnixStream::pair().map_err(StartError::Thread)?;
        for end in [&wake, &woken] {
            end.set_nonblocking(true).map_err(StartError::Thread)?;
        }
        let orders = Orders { folders: ordered, woken };
        let sender = self.sender.clone();
        let scheme = scheme.to_owned();
        spawn("guests", move || follow(&scheme, watch, source, &orders, &sender))?;
        Ok(Control { folders, wake })
    }
}

impl Control {
    fn set(&mut self, folders: BTreeSet<PathBuf>) {
        // The thread only ends with the daemon. If the socket is full, it has been woken already.
        let _ = self.folders.send(folders);
        let _ = self.wake.write(&[0]);
    }
}

impl Orders {
    /// Waits until the watch has something to report, there are other folders to watch, or the
    /// limit is reached.
    fn wait(&self, watch: &dyn GuestWatch, limit: Option<&Timespec>) {
        let mut fds = [PollFd::new(&watch, PollFlags::IN), PollFd::new(&self.woken, PollFlags::IN)];
        // After an error, both are looked at.
        let _ = poll(&mut fds, limit);
    }

    /// The folders to watch, if they have changed.
    ///
    /// # Errors
    /// There is nothing left to watch for.
    fn take(&self) -> io::Result<Option<BTreeSet<PathBuf>>> {
        let mut bytes = [0; 64];
        loop {
            match (&self.woken).read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(self.folders.try_iter().last()),
            }
        }
    }
}

/// Reports the guests of a scheme until the daemon ends.
fn follow(
    scheme: &str,
    mut watch: Box<dyn GuestWatch>,
    source: usize,
    orders: &Orders,
    sender: &Sender<Message>,
) {
    let address = |operand: &String| format!("{scheme}:{operand}");
    // Whether all guests that run are to be reported: some may be in folders that are no longer
    // watched, or events were lost.
    let mut all = false;
    loop {
        // If the last attempt to list the guests failed, they are listed soon.
        let retry = Timespec::try_from(READ_RETRY_PAUSE).ok().filter(|_| all);
        orders.wait(watch.as_ref(), retry.as_ref());
        match orders.take() {
            Ok(None) => {}
            Ok(Some(folders)) => {
                let folders: Vec<PathBuf> = folders.into_iter().collect();
                if let Err(error) = watch.set_further_folders(&folders) {
                    warn!("{error}");
                }
                all = true;
            }
            Err(_) => return,
        }
        let events = watch.wait(Duration::ZERO).unwrap_or_else(|error| {
            warn!("{error}");
            thread::sleep(READ_RETRY_PAUSE);
            vec![GuestEvent::Rescan]
        });
        all |= events.contains(&GuestEvent::Rescan);
        let running = if all { watch.running().map(Some) } else { Ok(None) };
        all = running.is_err();
        let running = running.unwrap_or_else(|error| {
            warn!("{error}");
            None
        });
        let messages = events.iter().filter_map(|event| match event {
            GuestEvent::Started(it) => Some(Message::Started { source, domain: address(it) }),
            GuestEvent::Ended(it) => Some(Message::Ended { source, domain: address(it) }),
            GuestEvent::Rescan => None,
        });
        let running = running
            .map(|all| Message::Running { source, domains: all.iter().map(address).collect() });
        for message in messages.chain(running) {
            if sender.send(message).is_err() {
                return;
            }
        }
    }
}

/// The folders of the domains of this scheme whose address is a path.
fn folders_of(scheme: &str, addresses: &BTreeSet<String>) -> BTreeSet<PathBuf> {
    let operand =
        |it: &String| Some(it.split_once(':').filter(|(of, _)| *of == scheme)?.1.to_owned());
    let folder = |it: String| {
        let path = Path::new(&it);
        path.is_absolute().then(|| path.parent().map(Path::to_owned)).flatten()
    };
    addresses.iter().filter_map(operand).filter_map(folder).collect()
}
