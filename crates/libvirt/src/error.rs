//! Errors, with advice on what to do about them.

use std::io;
use std::path::PathBuf;

use crate::codec::DecodeError;
use crate::protocol::RemoteError;

/// Why a call on a [`Client`](crate::Client) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// None of the sockets exists.
    #[error(
        "no libvirt daemon: {} {} not exist; start virtqemud.socket or libvirtd.socket",
        all(.paths), if .paths.len() == 1 { "does" } else { "do" }
    )]
    NoSocket {
        /// The paths, in the order in which they were tried.
        paths: Vec<PathBuf>,
    },
    /// The socket exists, but no program listens on it.
    #[error("no program listens on {}: start virtqemud.socket or libvirtd.socket", .path.display())]
    Refused {
        /// The path.
        path: PathBuf,
    },
    /// The socket's permissions do not allow the connection.
    #[error("no permission to connect to {}: run as root, or as a member of the group libvirt", .path.display())]
    Permission {
        /// The path.
        path: PathBuf,
    },
    /// The kernel refused the connection for another reason.
    #[error("cannot connect to {}: {source}", .path.display())]
    Connect {
        /// The path.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The daemon only offers authentication methods that this client does not support.
    #[error(
        "the daemon asks for a password (SASL), which is not supported: use a socket with \
         `auth_unix_rw` \"none\" or \"polkit\" in libvirtd.conf"
    )]
    Authentication,
    /// The daemon closed the connection: it was stopped, restarted or killed.
    #[error("libvirt's daemon closed the connection: it was stopped or has crashed; see its log")]
    Closed,
    /// The peer violated the protocol. The client is unusable from now on; see [`Error::Poisoned`].
    #[error("protocol error from libvirt's daemon: {reason}")]
    Protocol {
        /// Which rule it violated.
        reason: String,
    },
    /// The connection is unusable because of an earlier error.
    #[error(
        "this connection to libvirt is unusable since an earlier error ({reason}): connect again"
    )]
    Poisoned {
        /// The earlier error.
        reason: String,
    },
    /// The deadline passed. The call may still be executed: query the state before you repeat it.
    #[error("timed out waiting for {what}: libvirt's daemon is busy or hangs")]
    TimedOut {
        /// What was waited for.
        what: String,
    },
    /// A message is too long to be sent.
    #[error("{what} is too long for a message to libvirt")]
    TooLong {
        /// What.
        what: String,
    },
    /// The daemon refused the call.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A read, a write or a wait failed.
    #[error("the connection to libvirt failed: {0}")]
    Io(#[from] io::Error),
}

impl Error {
    /// Whether the daemon cannot be reached: it does not run, or the connection is lost.
    pub const fn is_lost(&self) -> bool {
        !matches!(
            self,
            Error::Remote(_)
                | Error::TimedOut { .. }
                | Error::TooLong { .. }
                | Error::Permission { .. }
                | Error::Authentication
        )
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Error {
        Error::Protocol { reason: error.to_string() }
    }
}

/// `a and b`.
fn all(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|it| it.display().to_string()).collect();
    paths.join(" and ")
}
