//! xenstore, as the driver uses it: what is read, what is changed in one transaction, and what is waited for.

use std::path::Path;
use std::time::{Duration, Instant};

use vusb_xen::store::{self, Nodes, Perms, Store, Transaction};

use crate::driver::Error;

/// The token of what is waited for: one thing at a time.
const TOKEN: &str = "vusb";

/// How long to wait for an event at the longest before looking again: a watch that was lost costs no more than this.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A connection to xenstored.
pub(super) struct Tree {
    store: Store,
}

impl Tree {
    /// Connects; `socket` is where xenstored listens, if not where it always does.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if there is no xenstored.
    pub(super) fn open(socket: Option<&Path>, limit: Duration) -> Result<Tree, Error> {
        Ok(Tree { store: connect(socket, limit)? })
    }

    /// Likewise; `None` if there is no xenstored.
    pub(super) fn open_if_there(
        socket: Option<&Path>,
        limit: Duration,
    ) -> Result<Option<Tree>, Error> {
        match connect(socket, limit) {
            Ok(store) => Ok(Some(Tree { store })),
            Err(store::Error::NoStore { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The value of a node; `None` if there is none. A value that is no text is as good as none.
    pub(super) fn read(&mut self, path: &str) -> Result<Option<String>, Error> {
        text(self.store.read(path))
    }

    /// The names in a folder; none if there is none.
    pub(super) fn list(&mut self, path: &str) -> Result<Vec<String>, Error> {
        Ok(self.store.list(path)?)
    }

    /// Writes one node.
    pub(super) fn write(&mut self, path: &str, value: &str) -> Result<(), Error> {
        Ok(self.store.write(path, value)?)
    }

    /// Makes several changes as one: all of them or none. `edit` may be called again, when others changed the same nodes.
    pub(super) fn change<T>(
        &mut self,
        mut edit: impl FnMut(&mut Edit<'_, '_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.store.transaction(|transaction| edit(&mut Edit { transaction }))
    }

    /// Waits until `look` finds what it looks for, and looks whenever one of `paths` has changed; `None` if it does not come
    /// in time.
    pub(super) fn wait<T>(
        &mut self,
        paths: &[&str],
        limit: Duration,
        look: impl FnMut(&mut Tree) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        for path in paths {
            self.store.watch(path, TOKEN)?;
        }
        let found = self.look_until(limit, look);
        for path in paths {
            // What cannot be ended ends with the connection.
            let _ = self.store.unwatch(path, TOKEN);
        }
        found
    }

    fn look_until<T>(
        &mut self,
        limit: Duration,
        mut look: impl FnMut(&mut Tree) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(self)? {
                return Ok(Some(found));
            }
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.store.next_event(left.min(LONGEST_SLEEP))?;
            // One look serves all that has come by now.
            while self.store.take_event()?.is_some() {}
        }
    }
}

/// Changes that are made as one.
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

    /// Removes a node with all below it; nothing happens if there is none.
    pub(super) fn remove(&mut self, path: &str) -> Result<(), Error> {
        Ok(self.transaction.remove(path)?)
    }

    /// Makes a folder with these permissions, which all that is made in it gets too.
    pub(super) fn make(&mut self, path: &str, perms: &Perms) -> Result<(), Error> {
        self.transaction.mkdir(path)?;
        Ok(self.transaction.set_permissions(path, perms)?)
    }

    pub(super) fn perms(&mut self, path: &str) -> Result<Option<Perms>, Error> {
        Ok(self.transaction.permissions(path)?)
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
        let unreachable =
            |why: String, midway| Error::Unreachable { domain: "Xen".to_owned(), why, midway };
        let text = error.to_string();
        match error {
            store::Error::NoStore { .. } => unreachable(
                format!(
                    "{text}; run vusb in the domain that runs xl (domain 0), and see `systemctl status xenstored`"
                ),
                false,
            ),
            store::Error::Denied { .. } => unreachable(text, false),
            store::Error::Closed | store::Error::Io(_) => unreachable(text, true),
            store::Error::TimedOut { limit, .. } => {
                Error::TimedOut { what: "xenstored's answer".to_owned(), limit, why: text }
            }
            store::Error::Protocol(_) => {
                Error::Confused { domain: "xenstored".to_owned(), why: text }
            }
            _ => Error::Failed { what: "a change in xenstore".to_owned(), why: text },
        }
    }
}
