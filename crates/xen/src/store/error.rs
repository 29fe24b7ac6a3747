//! Errors of xenstore.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use super::wire::{DecodeError, MAX_REQUEST};

/// Why an operation on xenstore failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No xenstored can be reached.
    #[error(
        "cannot reach xenstore ({tried}): this is not a Xen domain, or xenstored is not running"
    )]
    NoStore {
        /// What was tried, and how each attempt failed.
        tried: String,
    },
    /// This process may not connect to xenstored, or this domain may not access this node.
    #[error(
        "xenstore: permission denied for {path}: run as root, or have the node's owner permit it"
    )]
    Denied {
        /// The node, or xenstored's socket or device.
        path: String,
    },
    /// The node does not exist, and the operation needs it.
    #[error("xenstore: {path} does not exist")]
    NotFound {
        /// The node.
        path: String,
    },
    /// This domain has exceeded its quota: too many nodes, watches or transactions, or too long a
    /// value.
    #[error(
        "xenstore: quota exceeded for {path} ({code}): the domain may not have more nodes, watches or transactions"
    )]
    Quota {
        /// The node.
        path: String,
        /// xenstored's name for it.
        code: String,
    },
    /// Every attempt at a transaction ended with a conflict.
    #[error(
        "xenstore: other clients changed the same nodes during each of {attempts} attempts; try again later"
    )]
    Conflict {
        /// The number of attempts.
        attempts: u32,
    },
    /// xenstored refused the request for another reason.
    #[error("xenstore refused {path}: {code}")]
    Refused {
        /// The node.
        path: String,
        /// xenstored's name for the reason, such as `EEXIST`.
        code: String,
    },
    /// The path is not that of a node. Nothing was sent.
    #[error("{path:?} is not a valid xenstore path: {why}")]
    InvalidPath {
        /// The text.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The request does not fit into one message. Nothing was sent.
    #[error(
        "xenstore: a request of {bytes} bytes for {path} is too long: the limit is {MAX_REQUEST}"
    )]
    TooLong {
        /// The node.
        path: String,
        /// The length of the request.
        bytes: usize,
    },
    /// A folder has too many children, or keeps changing.
    #[error("xenstore: cannot list the folder {path}: it is too long, or keeps changing")]
    Unreadable {
        /// The node.
        path: String,
    },
    /// The node's value is not text.
    #[error("xenstore: the value of {path} is not text")]
    NotText {
        /// The node.
        path: String,
    },
    /// xenstored did not answer in time. It may still execute the request.
    #[error(
        "timed out after {limit:?} waiting for xenstored's reply about {path}: it hangs, or is being updated"
    )]
    TimedOut {
        /// The node.
        path: String,
        /// How long the wait was.
        limit: Duration,
    },
    /// The connection is lost, and with it all watches. Connect again.
    #[error("xenstored closed the connection")]
    Closed,
    /// xenstored violated the protocol.
    #[error("unexpected message from xenstored: {0}")]
    Protocol(String),
    /// A system call failed.
    #[error("cannot communicate with xenstored: {0}")]
    Io(#[from] io::Error),
}

impl Error {
    /// From xenstored's name of an error (`io/xs_wire.h`, `xsd_errors`).
    pub(super) fn named(name: &[u8], path: &str) -> Self {
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        let path = path.to_owned();
        // Names are short. Anything longer is cut off, because it may end up in a log.
        let code: String = String::from_utf8_lossy(name).chars().take(32).collect();
        match code.as_str() {
            "ENOENT" => Self::NotFound { path },
            "EACCES" | "EPERM" => Self::Denied { path },
            "ENOSPC" | "EBUSY" | "ENOMEM" => Self::Quota { path, code },
            _ => Self::Refused { path, code },
        }
    }

    /// Turns the kernel's error for a request into the one that xenstored would have sent.
    pub(super) fn about(self, path: &str) -> Self {
        let Self::Io(error) = &self else { return self };
        let name: &[u8] = match Errno::from_io_error(error) {
            Some(Errno::ACCESS | Errno::PERM) => b"EACCES",
            Some(Errno::NOSPC) => b"ENOSPC",
            Some(Errno::NOMEM) => b"ENOMEM",
            Some(Errno::EXIST) => b"EEXIST",
            Some(Errno::IO) => b"EIO",
            Some(Errno::INVAL) => b"EINVAL",
            _ => return self,
        };
        Self::named(name, path)
    }

    /// Whether the connection cannot be used any more. Every other error concerns one request: a
    /// later one, for the same or another node, may succeed.
    pub const fn is_connection_lost(&self) -> bool {
        matches!(self, Self::NoStore { .. } | Self::Closed | Self::Protocol(_) | Self::Io(_))
    }

    /// Whether xenstored refused the request with this error name.
    pub(super) fn is_named(&self, name: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == name)
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<Errno> for Error {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_errors_become_xenstoreds() {
        let translate = |errno: Errno| Error::from(errno).about("/a");
        assert!(matches!(translate(Errno::ACCESS), Error::Denied { path } if path == "/a"));
        assert!(matches!(translate(Errno::NOSPC), Error::Quota { .. }));
        assert!(translate(Errno::EXIST).is_named("EEXIST"));
        assert!(translate(Errno::IO).is_named("EIO"));
        assert!(matches!(translate(Errno::BADF), Error::Io(_)));
    }
}
