//! Errors, with advice on what to do about them.

use std::io;
use std::path::PathBuf;

use crate::message::{ErrorClass, Printable};

/// Why a stream of bytes is not QMP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A byte that cannot begin a message.
    #[error(
        "expected a JSON object, found byte {found:#04x}{}: check that this is a QMP socket \
         (QEMU's `-qmp`, not `-monitor` or `-serial`)",
        quoted(*.found)
    )]
    NotJson {
        /// The byte.
        found: u8,
    },
    /// The brackets match, but the message is not JSON.
    #[error("malformed JSON ({})", Printable(.reason))]
    Malformed {
        /// The JSON parser's error.
        reason: String,
    },
    /// A message is longer than [`Limits::bytes`](crate::codec::Limits::bytes).
    #[error("a message is longer than {limit} bytes: the peer is broken, or the limit is too low")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A message has more brackets, commas and colons than
    /// [`Limits::marks`](crate::codec::Limits::marks).
    #[error("a message has more than {limit} values: the peer is broken, or the limit is too low")]
    TooManyValues {
        /// The limit.
        limit: usize,
    },
    /// A message is nested deeper than [`MAX_DEPTH`](crate::codec::MAX_DEPTH).
    #[error("a message is nested more than {limit} levels deep: the peer is broken")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
}

/// The character in quotes, if it is printable.
fn quoted(byte: u8) -> String {
    if byte.is_ascii_graphic() { format!(" (`{}`)", char::from(byte)) } else { String::new() }
}

/// QEMU read a command and refused it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("QEMU refused {}: {} ({class})", Printable(.command), Printable(.desc))]
pub struct CommandError {
    /// The command's name.
    pub command: String,
    /// The kind of failure.
    pub class: ErrorClass,
    /// QEMU's description, unchanged. It may quote strings from a guest or a device.
    pub desc: String,
}

/// Why a call on a [`Client`](crate::Client) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The path does not exist.
    #[error("{:?} does not exist: start QEMU with `-qmp unix:PATH,server=on,wait=off`", .path)]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket exists, but no program listens on it.
    #[error("no program listens on {}: QEMU has exited and left its socket behind; start it again", .path.display())]
    Refused {
        /// The path.
        path: PathBuf,
    },
    /// The path is not a Unix stream socket.
    #[error("{} is not a Unix stream socket: give the path of QEMU's `-qmp unix:PATH`", .path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket's permissions do not allow the connection.
    #[error("no permission to connect to {}: run as the user that runs QEMU, or as root", .path.display())]
    Permission {
        /// The path.
        path: PathBuf,
    },
    /// The path does not fit a Unix socket address.
    #[error(
        "{} is too long for a Unix socket, whose path has at most 108 bytes: use a shorter path, such as \
         a relative one or a symbolic link to its directory",
        .path.display()
    )]
    PathTooLong {
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
    /// The connection was accepted or queued, but QEMU sent no greeting.
    #[error(
        "no greeting from {}: another program is connected to this monitor (QEMU serves one at a time), \
         or QEMU hangs. Close the other program, or give QEMU a second `-qmp` socket",
        .path.display()
    )]
    NoGreeting {
        /// The path.
        path: PathBuf,
    },
    /// QEMU closed the connection: it exited, crashed or was killed.
    #[error(
        "QEMU closed the monitor connection{}: it has exited or crashed; see its log",
        if *.mid_message { " in the middle of a message" } else { "" }
    )]
    Closed {
        /// Whether a message had begun and not ended.
        mid_message: bool,
    },
    /// The peer violated the protocol. The client is unusable from now on; see [`Error::Poisoned`].
    #[error("protocol error from the monitor: {reason}")]
    Protocol {
        /// Which rule it violated.
        reason: String,
    },
    /// The connection is unusable because of an earlier error.
    #[error("this monitor connection is unusable since an earlier error ({reason}): connect again")]
    Poisoned {
        /// The earlier error.
        reason: String,
    },
    /// The deadline passed. The command may still be executed: query the state before you repeat
    /// it.
    #[error(
        "timed out waiting for {what}: QEMU is busy or hangs; check what it has done before you retry"
    )]
    TimedOut {
        /// What was waited for.
        what: String,
    },
    /// QEMU refused the command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A read, a write or a wait failed.
    #[error("the monitor connection failed: {0}")]
    Io(#[from] io::Error),
}
