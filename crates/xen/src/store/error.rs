//! What can go wrong with xenstore.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use super::wire::{DecodeError, MAX_REQUEST};

/// Why something in xenstore could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no xenstored to talk to.
    #[error("no xenstore here ({tried}): this is not a Xen domain, or xenstored does not run")]
    NoStore {
        /// What was tried, and how each failed.
        tried: String,
    },
    /// This process may not talk to xenstored at all, or not do this with this node.
    #[error("xenstore: no permission for {path}: run as root, or let the node's owner permit it")]
    Denied {
        /// The node, or the file that leads to xenstored.
        path: String,
    },
    /// The node is not there, and that matters here.
    #[error("xenstore: {path} is not there")]
    NotFound {
        /// The node.
        path: String,
    },
    /// xenstored gives this domain no more room: too many nodes, watches or transactions, or too long a value.
    #[error(
        "xenstore: no room for {path} ({code}): the domain has as many nodes, watches or transactions as it may have"
    )]
    Quota {
        /// The node.
        path: String,
        /// xenstored's name for it.
        code: String,
    },
    /// A transaction was disturbed by others again and again.
    #[error(
        "xenstore: others changed the same nodes during each of {attempts} attempts; try again later"
    )]
    Conflict {
        /// How often it was tried.
        attempts: u32,
    },
    /// xenstored refused it for another reason.
    #[error("xenstore refused {path}: {code}")]
    Refused {
        /// The node.
        path: String,
        /// xenstored's name for the reason, such as `EEXIST`.
        code: String,
    },
    /// The path cannot be that of a node. Nothing was sent.
    #[error("{path:?} is not a path in xenstore: {why}")]
    InvalidPath {
        /// What was given.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// What was to be sent does not fit into one message. Nothing was sent.
    #[error("xenstore: {bytes} bytes for {path} are too many: there is room for {MAX_REQUEST}")]
    TooLong {
        /// The node.
        path: String,
        /// How many they are.
        bytes: usize,
    },
    /// A folder has more children than are read.
    #[error("xenstore: the folder {path} is too long to be read, or changes all the time")]
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
    /// xenstored did not answer in time. Whether it still does what was asked is not known.
    #[error(
        "xenstored did not answer within {limit:?} about {path}: it hangs, or is being replaced"
    )]
    TimedOut {
        /// What was asked about.
        path: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The connection is gone, and with it all watches. Connect anew.
    #[error("xenstored has ended the connection: connect anew")]
    Closed,
    /// xenstored said what no xenstored says.
    #[error("xenstored sent what cannot be understood: {0}")]
    Protocol(String),
    /// The operating system refused.
    #[error("no talking to xenstored: {0}")]
    Io(#[from] io::Error),
}

impl Error {
    /// From the name that xenstored gives an error (`io/xs_wire.h`, `xsd_errors`).
    pub(super) fn named(name: &[u8], path: &str) -> Self {
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        let path = path.to_owned();
        // Names are short; whatever else comes is cut, for it ends in somebody's log.
        let code: String = String::from_utf8_lossy(name).chars().take(32).collect();
        match code.as_str() {
            "ENOENT" => Self::NotFound { path },
            "EACCES" | "EPERM" => Self::Denied { path },
            "ENOSPC" | "EBUSY" | "ENOMEM" => Self::Quota { path, code },
            _ => Self::Refused { path, code },
        }
    }

    /// What the operating system said of a request, as xenstored would have said it.
    pub(super) fn about(self, path: &str) -> Self {
        let Self::Io(error) = &self else { return self };
        let name: &[u8] = match Errno::from_io_error(error) {
            Some(Errno::ACCESS | Errno::PERM) => b"EACCES",
            Some(Errno::NOSPC) => b"ENOSPC",
            Some(Errno::NOMEM) => b"ENOMEM",
            Some(Errno::EXIST) => b"EEXIST",
            _ => return self,
        };
        Self::named(name, path)
    }

    /// Whether xenstored gave this name as the reason.
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
    fn what_the_kernel_refuses_is_told_like_what_xenstored_refuses() {
        let told = |errno: Errno| Error::from(errno).about("/a");
        assert!(matches!(told(Errno::ACCESS), Error::Denied { path } if path == "/a"));
        assert!(matches!(told(Errno::NOSPC), Error::Quota { .. }));
        assert!(told(Errno::EXIST).is_named("EEXIST"));
        assert!(matches!(told(Errno::IO), Error::Io(_)));
    }
}
