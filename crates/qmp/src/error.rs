//! What can go wrong, in words that say what to do about it.

use std::io;
use std::path::PathBuf;

use crate::message::{ErrorClass, Printable};

/// Why a stream of bytes is no QMP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A byte that cannot begin a message.
    #[error(
        "expected a JSON object, found byte {found:#04x}{}: check that this is a QMP socket \
         (QEMU's `-qmp`, not `-monitor` or `-serial`)",
        shown(*.found)
    )]
    NotJson {
        /// The byte.
        found: u8,
    },
    /// Brackets match, but what they hold is no JSON.
    #[error("broken JSON ({})", Printable(.reason))]
    Malformed {
        /// What the JSON parser says.
        reason: String,
    },
    /// A message is longer than [`Limits::bytes`](crate::codec::Limits::bytes).
    #[error("a message of more than {limit} bytes: broken peer, or raise the limit")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A message has more brackets, commas and colons than
    /// [`Limits::marks`](crate::codec::Limits::marks).
    #[error("a message of more than {limit} values: broken peer, or raise the limit")]
    TooManyValues {
        /// The limit.
        limit: usize,
    },
    /// A message is nested deeper than [`MAX_DEPTH`](crate::codec::MAX_DEPTH).
    #[error("a message nested deeper than {limit} levels: broken peer")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
}

/// The character in quotes, if it is one that can be printed.
fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() { format!(" (`{}`)", char::from(byte)) } else { String::new() }
}

/// QEMU read a command and refused it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("QEMU refused {}: {} ({class})", Printable(.command), Printable(.desc))]
pub struct CommandError {
    /// The command's name.
    pub command: String,
    /// What kind of failure.
    pub class: ErrorClass,
    /// QEMU's own sentence, as it came: it may quote names and strings from a guest or a device.
    pub desc: String,
}

/// Why a call on a [`Client`](crate::Client) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing has that path.
    #[error("{:?} does not exist: start QEMU with `-qmp unix:PATH,server=on,wait=off`", .path)]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// A socket is there, and no program listens.
    #[error("nobody listens on {}: QEMU has ended and left its socket behind; start it again", .path.display())]
    Refused {
        /// The path.
        path: PathBuf,
    },
    /// The path is something other than a Unix stream socket.
    #[error("{} is not a Unix stream socket: give the path of QEMU's `-qmp unix:PATH`", .path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// No right to use the socket.
    #[error("no permission to connect to {}: run as the user that runs QEMU, or as root", .path.display())]
    Permission {
        /// The path.
        path: PathBuf,
    },
    /// The path does not fit a Unix socket address.
    #[error(
        "{} is too long for a Unix socket, which takes 108 bytes: use a shorter path, such as a \
         relative one or a symbolic link to its directory",
        .path.display()
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The socket exists and the kernel refused for some other reason.
    #[error("cannot connect to {}: {source}", .path.display())]
    Connect {
        /// The path.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Connected, or queued, and QEMU said nothing at all.
    #[error(
        "no greeting from {}: another program holds this monitor (QEMU talks to one at a time) or \
         QEMU hangs. Close the other program, or give QEMU a second `-qmp` socket",
        .path.display()
    )]
    NoGreeting {
        /// The path.
        path: PathBuf,
    },
    /// QEMU closed the connection: it quit, crashed or was killed.
    #[error(
        "QEMU closed the monitor connection{}: it has quit or crashed; see its log",
        if *.mid_message { " in the middle of a message" } else { "" }
    )]
    Closed {
        /// Whether a message had begun and not ended.
        mid_message: bool,
    },
    /// The peer does not speak QMP. The client is of no use from here on; see [`Error::Poisoned`].
    #[error("the monitor does not speak QMP as it should: {reason}")]
    Protocol {
        /// What was wrong.
        reason: String,
    },
    /// An earlier call left the connection in a state that nobody can go on from.
    #[error("this monitor connection is unusable since an earlier error ({reason}): connect again")]
    Poisoned {
        /// The earlier error.
        reason: String,
    },
    /// The deadline passed first. A command may still be carried out: look before you repeat it.
    #[error(
        "timed out waiting for {what}: QEMU is busy or hangs; look what it has done before you try again"
    )]
    TimedOut {
        /// What was waited for.
        what: String,
    },
    /// QEMU read the command and refused it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The kernel failed a read, a write or a wait.
    #[error("the monitor connection failed: {0}")]
    Io(#[from] io::Error),
}
