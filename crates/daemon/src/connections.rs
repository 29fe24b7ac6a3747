//! Limits the number of connections, so that no caller keeps another one out.
//!
//! Each kind of caller has its own limit. A user without rights, or of the group, may only have a
//! part of that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::rights::Rights;

/// How many connections there may be: of one user, and of all users with the same rights.
const fn limits(rights: Rights) -> (usize, usize) {
    match rights {
        Rights::None => (8, 32),
        Rights::Group => (16, 64),
        // There is no smaller limit per user: a superuser can stop the daemon anyway.
        Rights::All => (64, 64),
    }
}

/// The open connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Mutex<BTreeMap<(Rights, u32), User>>,
}

/// The connections of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct User {
    open: usize,
    /// Whether it was logged that there are too many.
    is_logged: bool,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany {
    /// Whether this is the first refusal since the user last had no connection.
    pub(crate) is_first: bool,
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    all: Arc<Connections>,
    key: (Rights, u32),
}

impl Connections {
    /// Counts one more connection of a user.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn open(self: &Arc<Self>, rights: Rights, user: u32) -> Result<Connection, TooMany> {
        let key = (rights, user);
        let (of_user, of_all) = limits(rights);
        let mut open = self.lock();
        let all: usize = open.iter().filter(|(it, _)| it.0 == rights).map(|(_, it)| it.open).sum();
        let own = open.entry(key).or_default();
        if own.open >= of_user || all >= of_all {
            let is_first = !std::mem::replace(&mut own.is_logged, true);
            // A user without a connection is forgotten: otherwise many users would fill the memory.
            if own.open == 0 {
                open.remove(&key);
            }
            return Err(TooMany { is_first });
        }
        own.open += 1;
        Ok(Connection { all: Arc::clone(self), key })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Rights, u32), User>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.all.lock();
        if let Some(own) = open.get_mut(&self.key) {
            own.open = own.open.saturating_sub(1);
            if own.open == 0 {
                open.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fill(all: &Arc<Connections>, rights: Rights, user: u32) -> Vec<Connection> {
        std::iter::from_fn(|| all.open(rights, user).ok()).collect()
    }

    #[test]
    fn a_user_does_not_keep_others_out() {
        let all = Arc::new(Connections::default());
        let first = fill(&all, Rights::None, 1000);
        assert_eq!(first.len(), 8);
        assert_eq!(all.open(Rights::None, 1000).unwrap_err(), TooMany { is_first: false });
        assert!(all.open(Rights::None, 1001).is_ok());
        drop(first);
        assert_eq!(fill(&all, Rights::None, 1000).len(), 8);
    }

    #[test]
    fn callers_without_rights_do_not_keep_out_those_with_rights() {
        let all = Arc::new(Connections::default());
        let users: Vec<_> = (1000..1010).flat_map(|it| fill(&all, Rights::None, it)).collect();
        assert_eq!(users.len(), 32);
        let members: Vec<_> = (1010..1020).flat_map(|it| fill(&all, Rights::Group, it)).collect();
        assert_eq!(members.len(), 64);
        assert_eq!(fill(&all, Rights::All, 0).len(), 64);
        drop((users, members));
        assert!(all.lock().is_empty(), "{all:?}");
    }
}
