//! The errors of the rig. Every wait has a limit, and an error of a guest contains the end of that
//! guest's console, because it usually shows the cause.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the rig.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, directory or socket of this machine could not be used.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What failed, as in "cannot WHAT PATH".
        what: &'static str,
        /// The file, directory or socket.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A program of this machine failed.
    #[error("`{command}` failed ({status}):\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status, or why it did not start.
        status: String,
        /// Its output.
        output: String,
    },
    /// Something that the rig requires is missing or not as expected.
    #[error("{0}")]
    Unusable(String),
    /// Something did not happen in time.
    #[error("no {what} within {limit:?}{tail}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// The limit that was exceeded.
        limit: Duration,
        /// The end of the guest's console; empty if there is no guest.
        tail: Tail,
    },
    /// QEMU ended while it was still needed.
    #[error("QEMU ended ({status}) before {what}; its output:\n{stderr}{tail}")]
    Exited {
        /// What QEMU was needed for.
        what: String,
        /// Its exit status.
        status: String,
        /// QEMU's standard error.
        stderr: String,
        /// The end of the guest's console.
        tail: Tail,
    },
    /// QEMU's emulated processor lost a hardware-assisted guest: see [`crate::xen::is_guest_lost`].
    /// The code under test is not the cause, so the test should be repeated.
    #[error("QEMU's emulated processor lost a guest during {what}{tail}")]
    LostGuest {
        /// The operation during which it happened.
        what: String,
        /// The end of Xen's console.
        tail: Tail,
    },
    /// The agent in the guest violated the protocol.
    #[error("protocol error of the guest's agent: {what}{tail}")]
    Agent {
        /// What was wrong.
        what: String,
        /// The end of the guest's console.
        tail: Tail,
    },
    /// A command in the guest failed.
    #[error("`{command}` in the guest failed with exit code {code}:\n{output}")]
    InGuest {
        /// The shell command.
        command: String,
        /// Its exit code.
        code: i32,
        /// Its output.
        output: String,
    },
    /// QEMU's monitor refused a command or broke the protocol.
    #[error("monitor: {0}")]
    Monitor(String),
}

impl Error {
    /// For `map_err` on calls of [`std::fs`]: adds the operation and the path.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { what, path, source }
    }
}

/// The end of a guest's console, printed below an error. Empty if there is no guest.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tail(String);

impl Tail {
    /// The number of lines. Sufficient for a kernel oops with its call trace.
    const LINES: usize = 40;

    /// Keeps the end of `console`.
    pub fn of(console: &str) -> Self {
        let lines: Vec<&str> = console.lines().collect();
        let start = lines.len().saturating_sub(Self::LINES);
        Self(lines.get(start..).unwrap_or_default().join("\n"))
    }
}

impl std::fmt::Display for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "\n--- the end of the guest's console:\n{}", self.0)
    }
}
