//! Operations on nodes, inside and outside of a transaction.

use super::error::Error;
use super::path::check;
use super::perms::Perms;
use super::watches::names;
use super::wire::Kind;

/// The most bytes of names that are read from one folder: some tens of thousands of children.
const MAX_FOLDER: usize = 1 << 20;
/// How many times a long folder is read if it changes in the meantime each time.
const FOLDER_ATTEMPTS: u32 = 16;

/// Sends requests to xenstored. Not meant to be implemented by other crates.
pub trait Ask {
    /// Sends a request and returns the payload of its reply. `about` is the node, for errors.
    fn ask(&mut self, kind: Kind, about: &str, payload: &[u8]) -> Result<Vec<u8>, Error>;
}

/// Operations on nodes. On a [`Store`](super::Store) each takes effect at once; in a
/// [`Transaction`](super::Transaction) all take effect together or not at all. Paths are absolute.
///
/// Every method can fail because of missing permissions, an exceeded quota, a time-out or a lost
/// connection: see [`Error`].
pub trait Nodes: Ask {
    /// The value of a node; `None` if it does not exist.
    ///
    /// # Errors
    /// See [`Nodes`]. [`Error::NotText`] if the value is not UTF-8: [`Nodes::read_bytes`] reads any
    /// value.
    fn read(&mut self, path: &str) -> Result<Option<String>, Error> {
        let value = self.read_bytes(path)?;
        value.map(String::from_utf8).transpose().map_err(|_| Error::NotText { path: path.into() })
    }

    /// The value of a node as bytes; `None` if it does not exist.
    ///
    /// # Errors
    /// See [`Nodes`].
    fn read_bytes(&mut self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        found(ask_path(self, Kind::Read, path))
    }

    /// Sets the value of a node. The node and its parents are created if necessary.
    ///
    /// # Errors
    /// See [`Nodes`].
    fn write(&mut self, path: &str, value: &str) -> Result<(), Error> {
        self.write_bytes(path, value.as_bytes())
    }

    /// Sets the value of a node to any bytes: see [`Nodes::write`].
    ///
    /// # Errors
    /// See [`Nodes`].
    fn write_bytes(&mut self, path: &str, value: &[u8]) -> Result<(), Error> {
        check(path)?;
        self.ask(Kind::Write, path, &[path.as_bytes(), b"\0", value].concat()).map(drop)
    }

    /// Creates a node with an empty value. An existing node is not changed.
    ///
    /// # Errors
    /// See [`Nodes`].
    fn mkdir(&mut self, path: &str) -> Result<(), Error> {
        ask_path(self, Kind::Mkdir, path).map(drop)
    }

    /// Removes a node and everything below it. Succeeds if it does not exist.
    ///
    /// # Errors
    /// See [`Nodes`].
    fn remove(&mut self, path: &str) -> Result<(), Error> {
        found(ask_path(self, Kind::Rm, path)).map(drop)
    }

    /// Whether a node exists.
    ///
    /// # Errors
    /// See [`Nodes`].
    fn exists(&mut self, path: &str) -> Result<bool, Error> {
        Ok(self.read_bytes(path)?.is_some())
    }

    /// The names of a node's children; empty if it has none or does not exist.
    ///
    /// A folder that is too long for one message is read in parts, and again if it changes in the
    /// meantime.
    ///
    /// # Errors
    /// See [`Nodes`]. [`Error::Unreadable`] if it has more than a megabyte of names or keeps
    /// changing.
    fn list(&mut self, path: &str) -> Result<Vec<String>, Error> {
        match found(ask_path(self, Kind::Directory, path)) {
            Ok(Some(payload)) => names(&payload, path),
            Ok(None) => Ok(Vec::new()),
            Err(error) if error.is_named("E2BIG") => list_in_parts(self, path),
            Err(error) => Err(error),
        }
    }

    /// The permissions of a node; `None` if it does not exist.
    ///
    /// # Errors
    /// See [`Nodes`].
    fn permissions(&mut self, path: &str) -> Result<Option<Perms>, Error> {
        found(ask_path(self, Kind::GetPerms, path))?
            .map(|payload| Perms::decode(&payload))
            .transpose()
    }

    /// Sets the permissions of a node. Only its owner and domain 0 may do that.
    ///
    /// # Errors
    /// See [`Nodes`]. [`Error::NotFound`] if it does not exist.
    fn set_permissions(&mut self, path: &str, perms: &Perms) -> Result<(), Error> {
        check(path)?;
        self.ask(Kind::SetPerms, path, format!("{path}\0{}", perms.encode()).as_bytes()).map(drop)
    }
}

fn ask_path(nodes: &mut (impl Ask + ?Sized), kind: Kind, path: &str) -> Result<Vec<u8>, Error> {
    check(path)?;
    nodes.ask(kind, path, format!("{path}\0").as_bytes())
}

fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a folder in parts. Each part begins with the folder's generation, which changes when the
/// folder does. An empty name marks the end.
fn list_in_parts(nodes: &mut (impl Ask + ?Sized), path: &str) -> Result<Vec<String>, Error> {
    for _ in 0..FOLDER_ATTEMPTS {
        if let Some(all) = read_parts(nodes, path)? {
            return names(&all, path);
        }
    }
    Err(Error::Unreadable { path: path.into() })
}

/// All names; `None` if the folder changed in the meantime.
fn read_parts(nodes: &mut (impl Ask + ?Sized), path: &str) -> Result<Option<Vec<u8>>, Error> {
    let mut all = Vec::new();
    let mut generation: Option<Vec<u8>> = None;
    while all.len() < MAX_FOLDER {
        let request = format!("{path}\0{}\0", all.len());
        let Some(reply) = found(nodes.ask(Kind::DirectoryPart, path, request.as_bytes()))? else {
            return Ok(None);
        };
        let cut = reply.iter().position(|byte| *byte == 0);
        let (now, part) = cut
            .and_then(|at| Some((reply.get(..at)?, reply.get(at + 1..)?)))
            .filter(|(_, part)| part.ends_with(&[0]))
            .ok_or_else(|| Error::Protocol(format!("a part of {path} without its end")))?;
        if generation.get_or_insert_with(|| now.to_vec()) != now {
            return Ok(None);
        }
        all.extend_from_slice(part);
        if all == [0] || all.ends_with(&[0, 0]) {
            all.pop();
            return Ok(Some(all));
        }
    }
    Err(Error::Unreadable { path: path.into() })
}
