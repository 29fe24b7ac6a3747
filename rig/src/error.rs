//! What can go wrong in the rig. Every wait has a limit, and an error of a guest carries the end of
//! that guest's console, for without it nobody can tell what happened.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the rig.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, folder or socket of this machine could not be used.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot WHAT PATH".
        what: &'static str,
        /// The file, folder or socket.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A program of this machine ended with an error.
    #[error("`{command}` failed ({status}):\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status, or why it did not start.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// Something that the rig takes from a package is not there or not as expected.
    #[error("{0}")]
    Unusable(String),
    /// Something did not happen in time.
    #[error("no {what} within {limit:?}{tail}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// The limit that passed.
        limit: Duration,
        /// The end of the guest's console, or nothing if there is no guest.
        tail: Tail,
    },
    /// QEMU ended while it was still needed.
    #[error("QEMU ended ({status}) before {what}; it said:\n{stderr}{tail}")]
    Exited {
        /// What was being done.
        what: String,
        /// Its exit status.
        status: String,
        /// What QEMU wrote to its standard error.
        stderr: String,
        /// The end of the guest's console.
        tail: Tail,
    },
    /// QEMU's emulated processor, not what is being tested, lost a hardware-assisted guest: see
    /// [`crate::xen::lost_a_guest`]. Worth another try.
    #[error("QEMU's emulated processor lost a guest during {what}{tail}")]
    LostGuest {
        /// What was being done.
        what: String,
        /// The end of Xen's console.
        tail: Tail,
    },
    /// The agent in the guest answered something that it never should.
    #[error("the guest's agent is out of step: {what}{tail}")]
    Agent {
        /// What was wrong.
        what: String,
        /// The end of the guest's console.
        tail: Tail,
    },
    /// A command in the guest ended with a code other than 0 where 0 was demanded.
    #[error("`{command}` in the guest ended with {code}:\n{output}")]
    InGuest {
        /// The shell command.
        command: String,
        /// Its exit code.
        code: i32,
        /// What it printed.
        output: String,
    },
    /// QEMU's monitor refused a command or broke the protocol.
    #[error("monitor: {0}")]
    Monitor(String),
}

impl Error {
    /// For `map_err` on calls of [`std::fs`]: keeps what was tried and on which path.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { what, path, source }
    }
}

/// The end of a guest's console, printed under an error. Empty where there is no guest.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tail(String);

impl Tail {
    /// How many lines are kept: a kernel's oops with its call trace fits.
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
