//! A xenstored in this process, **for tests** of this and other crates (feature `fake`).
//!
//! It speaks the wire protocol on a socket with any number of clients, and behaves as the real one:
//! a watch fires once when it is set, and for changes of the node and those below it; a transaction
//! with a conflict ends with `EAGAIN`; a folder that is too long for a message must be read in
//! parts. Permissions are stored and returned, but not enforced.
//!
//! ```
//! use vusb_xen::store::{Error, Nodes, fake::Xenstored};
//!
//! let xenstored = Xenstored::start();
//! let mut store = xenstored.client();
//! store.write("/local/domain/0/name", "Domain-0")?;
//! assert_eq!(xenstored.tree()["/local/domain/0/name"], "Domain-0");
//! # Ok::<(), Error>(())
//! ```
#![allow(clippy::expect_used, clippy::panic, reason = "for tests: a failure ends the test")]

mod serve;
mod tree;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::serve::Outcome;
use self::serve::{Fault, State, serve};
use self::tree::Change;
use super::wire::Kind;
use super::{Perms, Store};
use crate::DomId;

/// A xenstored that runs until it is dropped.
#[derive(Debug)]
pub struct Xenstored {
    state: Arc<Mutex<State>>,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Xenstored {
    /// Starts one with an empty tree.
    ///
    /// # Panics
    /// A socket cannot be created in the folder for temporary files.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("a socket in it");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                match stream {
                    Ok(stream) if !lock(&shared).ended => serve(&shared, stream, DomId::ZERO),
                    _ => return,
                }
            }
        });
        Self { state, socket, _folder: folder }
    }

    /// The socket that it listens on. Clients that connect to it are domain 0.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A connection as domain 0.
    ///
    /// # Panics
    /// It no longer listens.
    #[must_use]
    pub fn client(&self) -> Store {
        Store::from_socket(&self.socket).expect("it listens")
    }

    /// A connection as that domain, which owns the nodes that it creates. Stands in for
    /// `/dev/xen/xenbus`.
    ///
    /// # Panics
    /// There are too many open files.
    #[must_use]
    pub fn client_of(&self, domain: DomId) -> Store {
        Store::from_fd(self.descriptor_of(domain)).expect("a socket can be non-blocking")
    }

    /// As [`Xenstored::client_of`], but only the descriptor.
    ///
    /// # Panics
    /// There are too many open files.
    #[must_use]
    pub fn descriptor_of(&self, domain: DomId) -> OwnedFd {
        let (theirs, ours) = UnixStream::pair().expect("two sockets");
        serve(&self.state, ours, domain);
        theirs.into()
    }

    /// All nodes that have a value or no children, with their values.
    #[must_use]
    pub fn tree(&self) -> BTreeMap<String, String> {
        lock(&self.state).tree.snapshot()
    }

    /// The permissions of a node.
    #[must_use]
    pub fn permissions(&self, path: &str) -> Option<Perms> {
        let perms = lock(&self.state).tree.perms(path)?;
        Perms::decode(&perms).ok()
    }

    /// Writes a node, as domain 0.
    ///
    /// # Panics
    /// The path is invalid.
    pub fn write(&self, path: &str, value: &str) {
        super::path::check(path).expect("a path");
        let _ = lock(&self.state).change(&Change::Write(path.into(), value.into()), DomId::ZERO);
    }

    /// Removes a node and everything below it, as domain 0.
    pub fn remove(&self, path: &str) {
        let _ = lock(&self.state).change(&Change::Remove(path.into()), DomId::ZERO);
    }

    /// Fires the watches of a special path: `@releaseDomain`.
    pub fn fire(&self, special: &str) {
        lock(&self.state).fire(special);
    }

    /// Ends that many of the next transactions with `EAGAIN`, whether or not there was a conflict.
    pub fn cause_conflicts(&self, transactions: u32) {
        lock(&self.state).forced_conflicts = transactions;
    }

    /// Makes requests of this kind fail from now on, for paths that begin with `path`. The payload
    /// of [`Kind::TransactionEnd`] is not a path but `T`, so `""` stands for all of them.
    pub fn fail(&self, kind: Kind, path: &str, outcome: Outcome) {
        lock(&self.state).faults.push(Fault { kind, path: path.to_owned(), outcome });
    }

    /// Ends what [`Xenstored::fail`] began.
    pub fn stop_failing(&self) {
        lock(&self.state).faults.clear();
    }

    /// The number of requests that [`Xenstored::fail`] has made fail.
    #[must_use]
    pub fn failed(&self) -> u64 {
        lock(&self.state).failed
    }

    /// Closes all connections, as if xenstored had died. New ones are still accepted.
    pub fn hang_up(&self) {
        lock(&self.state).hang_up();
    }
}

impl Drop for Xenstored {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.state);
            state.ended = true;
            state.hang_up();
        }
        // Wakes the listening thread, so that it notices the end.
        let _ = UnixStream::connect(&self.socket);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A test that panics while it holds the lock has failed already.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
