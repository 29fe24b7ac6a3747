//! Watches for guests that start and end. Each watch has a thread: one for the default folders of
//! a scheme, and one for each further folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use tracing::{debug, warn};
use vusb::{Context, GuestEvent, GuestWatch, WatchOptions};

use crate::daemon::{READ_RETRY_PAUSE, StartError, spawn};
use crate::shared::Message;

/// How long a thread waits for guests at a time. Nothing depends on it.
const WAIT_LIMIT: Duration = Duration::from_secs(3600);

/// The watches.
pub(crate) struct GuestWatches {
    sender: Sender<Message>,
    /// How many there were: the number of the next one.
    begun: usize,
    watched: BTreeSet<(String, PathBuf)>,
}

impl GuestWatches {
    pub(crate) const fn new(sender: Sender<Message>) -> GuestWatches {
        GuestWatches { sender, begun: 0, watched: BTreeSet::new() }
    }

    /// Watches the default folders of each scheme, those in `further`, by scheme, and those of the
    /// domains that have a record. A folder that cannot be watched does not prevent the others from
    /// being watched.
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
        for scheme in context.registry().schemes() {
            let name = scheme.name();
            let of_scheme = further.iter().filter(|(it, _)| it == name);
            // The empty path stands for the default of the scheme.
            let mut folders = BTreeSet::from([PathBuf::new()]);
            folders.extend(of_scheme.map(|(_, it)| it.clone()));
            folders.extend(folders_of(name, recorded));
            for folder in &folders {
                result = result.and(self.watch(context, name, folder));
            }
        }
        result
    }

    /// Watches this folder if it is not watched yet.
    fn watch(&mut self, context: &Context, scheme: &str, folder: &Path) -> Result<(), StartError> {
        let key = (scheme.to_owned(), folder.to_owned());
        if self.watched.contains(&key) {
            return Ok(());
        }
        let is_default = folder.as_os_str().is_empty();
        let folders = if is_default { Vec::new() } else { vec![folder.to_owned()] };
        let options = WatchOptions { folders, ..WatchOptions::default() };
        match context.watch(scheme, &options) {
            Ok(watch) => {
                let source = self.begun;
                self.begun += 1;
                self.spawn(scheme, watch, source)?;
                self.watched.insert(key);
            }
            Err(vusb::Error::NotWatchable { .. }) => {
                self.watched.insert(key);
            }
            // A hypervisor that is not installed has no guests.
            Err(error) if is_default => debug!("{scheme}: {error}"),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn spawn(
        &self,
        scheme: &str,
        mut watch: Box<dyn GuestWatch>,
        source: usize,
    ) -> Result<(), StartError> {
        let (sender, scheme) = (self.sender.clone(), format!("{scheme}:"));
        let address = move |operand: &String| format!("{scheme}{operand}");
        let run = move || {
            loop {
                let events = watch.wait(WAIT_LIMIT).and_then(|events| {
                    let rescan = events.contains(&GuestEvent::Rescan);
                    let running = if rescan { Some(watch.running()?) } else { None };
                    Ok((events, running))
                });
                let (events, running) = match events {
                    Ok(both) => both,
                    Err(error) => {
                        warn!("{error}");
                        thread::sleep(READ_RETRY_PAUSE);
                        continue;
                    }
                };
                let messages = events.iter().filter_map(|event| match event {
                    GuestEvent::Started(it) => {
                        Some(Message::Started { source, domain: address(it) })
                    }
                    GuestEvent::Ended(it) => Some(Message::Ended { source, domain: address(it) }),
                    GuestEvent::Rescan => None,
                });
                let running = running.map(|all| Message::Running {
                    source,
                    domains: all.iter().map(&address).collect(),
                });
                for message in messages.chain(running) {
                    if sender.send(message).is_err() {
                        return;
                    }
                }
            }
        };
        spawn("guests", run)
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
