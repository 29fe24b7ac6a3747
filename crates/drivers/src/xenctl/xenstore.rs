//! xenstore as the driver uses it: reads, changes in one transaction, and waiting for a node to
//! change.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use vusb_xen::State;
use vusb_xen::store::{self, Nodes, Perms, Store, Transaction};
use vusb_xen::usb::{Entry, Folder};

use crate::driver::Error;
use crate::limits::Limits;

/// The token of all watches: every event has the same effect, another check.
const TOKEN: &str = "vusb";

/// The longest sleep between two checks of the nodes, so that a lost watch event costs no more than
/// this.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// A connection to xenstored.
pub(super) struct Xenstore {
    store: Store,
    /// The limits of the call that uses it, whose deadline ends every wait.
    limits: Option<Limits>,
}

impl Xenstore {
    /// Connects. `socket` is xenstored's socket; `None` is its standard place.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no xenstored runs, or this user may not use it.
    pub(super) fn open(socket: Option<&Path>, limit: Duration) -> Result<Xenstore, Error> {
        Ok(Xenstore { store: connect(socket, limit)?, limits: None })
    }

    /// Connects; `None` if no xenstored runs.
    ///
    /// # Errors
    /// It runs but cannot be used.
    pub(super) fn open_if_running(
        socket: Option<&Path>,
        limit: Duration,
    ) -> Result<Option<Xenstore>, Error> {
        match connect(socket, limit) {
            Ok(store) => Ok(Some(Xenstore { store, limits: None })),
            Err(store::Error::NoStore { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends each later wait at the deadline of these limits at the latest.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = Some(limits);
    }

    /// Calls `rollback` without the deadline, which must not cut it short.
    pub(super) fn roll_back<T>(&mut self, rollback: impl FnOnce(&mut Xenstore) -> T) -> T {
        let limits = self.limits.take();
        let result = rollback(self);
        self.limits = limits;
        result
    }

    /// The connection, with the current deadline, which a rollback may have extended.
    fn store(&mut self) -> &mut Store {
        self.store.set_end(self.limits.as_ref().and_then(Limits::deadline));
        &mut self.store
    }

    /// The value of a node; `None` if it does not exist. A value that is not UTF-8 counts as
    /// missing.
    pub(super) fn read(&mut self, path: &str) -> Result<Option<String>, Error> {
        text(self.store().read(path))
    }

    /// The XenBus state in a node; `None` if it does not exist.
    pub(super) fn state(&mut self, path: &str) -> Result<Option<State>, Error> {
        Ok(self.read(path)?.as_deref().map(State::from_node))
    }

    /// The names of a folder's children; empty if there is no folder.
    pub(super) fn list(&mut self, path: &str) -> Result<Vec<String>, Error> {
        Ok(self.store().list(path)?)
    }

    /// Writes one node.
    pub(super) fn write(&mut self, path: &str, value: &str) -> Result<(), Error> {
        Ok(self.store().write(path, value)?)
    }

    /// Makes several changes in one transaction: all of them or none. `edit` is called again if
    /// another client changed the same nodes in the meantime.
    pub(super) fn change<T>(
        &mut self,
        mut edit: impl FnMut(&mut Edit<'_, '_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.store().transaction(|transaction| edit(&mut Edit { transaction }))
    }

    /// Watches a node, or a special path, until [`Xenstore::unwatch`]. The watch fires at once.
    pub(super) fn watch(&mut self, path: &str) -> Result<(), Error> {
        Ok(self.store().watch(path, TOKEN)?)
    }

    /// Removes a watch.
    pub(super) fn unwatch(&mut self, path: &str) -> Result<(), Error> {
        Ok(self.store().unwatch(path, TOKEN)?)
    }

    /// Takes all events that have arrived. Returns whether there were any. Never waits.
    pub(super) fn take_events(&mut self) -> Result<bool, Error> {
        let mut were_any = false;
        while self.store.take_event()?.is_some() {
            were_any = true;
        }
        Ok(were_any)
    }

    /// Calls `check` now and whenever one of `paths` has changed, until it returns a value. `None`
    /// after `limit`, or at the deadline.
    pub(super) fn wait<T>(
        &mut self,
        paths: &[&str],
        limit: Duration,
        check: impl FnMut(&mut Xenstore) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        for path in paths {
            self.store().watch(path, TOKEN)?;
        }
        let found = self.check_until(limit, check);
        for path in paths {
            // A watch that cannot be removed ends with the connection.
            let _ = self.store().unwatch(path, TOKEN);
        }
        found
    }

    fn check_until<T>(
        &mut self,
        limit: Duration,
        mut check: impl FnMut(&mut Xenstore) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let begun = Instant::now();
        loop {
            if let Some(found) = check(self)? {
                return Ok(Some(found));
            }
            let end = self.limits.as_ref().and_then(Limits::deadline);
            let until_end = end.map(|end| end.saturating_duration_since(Instant::now()));
            let left = limit.saturating_sub(begun.elapsed());
            let left = until_end.map_or(left, |until_end| left.min(until_end));
            if left.is_zero() {
                return Ok(None);
            }
            self.store.next_event(left.min(MAX_SLEEP))?;
            // One check covers all events that have arrived by now.
            self.take_events()?;
        }
    }
}

/// For polling. [`Xenstore::take_events`] has to be called before each poll.
impl AsFd for Xenstore {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.store.as_fd()
    }
}

/// Changes in one transaction.
pub(super) struct Edit<'t, 's> {
    transaction: &'t mut Transaction<'s>,
}

impl Edit<'_, '_> {
    pub(super) fn read(&mut self, path: &str) -> Result<Option<String>, Error> {
        text(self.transaction.read(path))
    }

    pub(super) fn list(&mut self, path: &str) -> Result<Vec<String>, Error> {
        Ok(self.transaction.list(path)?)
    }

    pub(super) fn write(&mut self, path: &str, value: &str) -> Result<(), Error> {
        Ok(self.transaction.write(path, value)?)
    }

    pub(super) fn write_all(&mut self, folder: &Folder, entries: &[Entry]) -> Result<(), Error> {
        entries.iter().try_for_each(|(key, value)| self.write(&folder.node(*key), value))
    }

    /// Removes a node with everything below it; does nothing if it does not exist.
    pub(super) fn remove(&mut self, path: &str) -> Result<(), Error> {
        Ok(self.transaction.remove(path)?)
    }

    /// Replaces a folder by an empty one with these permissions, which new nodes in it inherit.
    pub(super) fn recreate(&mut self, folder: &Folder, perms: &Perms) -> Result<(), Error> {
        self.transaction.remove(folder.as_str())?;
        self.transaction.mkdir(folder.as_str())?;
        Ok(self.transaction.set_permissions(folder.as_str(), perms)?)
    }

    fn perms(&mut self, path: &str) -> Result<Option<Perms>, Error> {
        Ok(self.transaction.permissions(path)?)
    }

    /// Removes a node with everything below it, and parents that become empty. A parent with
    /// permissions of its own stays: libxl created it for its own purpose.
    pub(super) fn remove_with_empty_parents(&mut self, path: &str) -> Result<(), Error> {
        let mut top = path;
        while let Some((folder, name)) = top.rsplit_once('/') {
            let Some((above, _)) = folder.rsplit_once('/') else { break };
            // `/local/domain/5` and `/libxl/5` are the domain itself.
            if above.matches('/').count() < 2 || above == "/local/domain" {
                break;
            }
            let others = self.list(folder)?.iter().any(|it| it != name);
            let value = self.read(folder)?.is_some_and(|it| !it.is_empty());
            if others || value || self.perms(folder)? != self.perms(above)? {
                break;
            }
            top = folder;
        }
        // Bottom up: the guest's kernel watches the folder of all devices, and ignores events for a
        // path that covers more than one device.
        let mut next = path;
        loop {
            self.remove(next)?;
            match next.rsplit_once('/') {
                Some((above, _)) if next.len() > top.len() => next = above,
                _ => return Ok(()),
            }
        }
    }
}

fn connect(socket: Option<&Path>, limit: Duration) -> Result<Store, store::Error> {
    match socket {
        Some(socket) => Ok(Store::from_socket(socket)?.with_limit(limit)),
        None => Store::connect(limit),
    }
}

fn text(read: Result<Option<String>, store::Error>) -> Result<Option<String>, Error> {
    match read {
        Err(store::Error::NotText { .. }) => Ok(None),
        read => Ok(read?),
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        let unreachable = |why: String, midway| Error::Unreachable {
            domain: "Xen".to_owned(),
            why: why.into(),
            midway,
        };
        let text = error.to_string();
        match error {
            store::Error::NoStore { .. } => unreachable(
                format!(
                    "{text}; run vusb in the domain that runs xl (domain 0), and check `systemctl status xenstored`"
                ),
                false,
            ),
            store::Error::Denied { .. } => unreachable(text, false),
            store::Error::Closed | store::Error::Io(_) => unreachable(text, true),
            store::Error::TimedOut { path, limit } => {
                let why = format!("no reply about {path}: xenstored hangs, or is being updated");
                Error::TimedOut { what: "xenstored's reply".to_owned(), limit, why: why.into() }
            }
            store::Error::Protocol(_) => {
                Error::Confused { domain: "xenstored".to_owned(), why: text.into() }
            }
            _ => Error::Failed { what: "a change in xenstore".to_owned(), why: text.into() },
        }
    }
}
