//! Where records are kept.

use std::path::{Path, PathBuf};

/// The folder of the records. It is created with mode 0700 when something is first written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> StateDir {
        StateDir(path.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `/var/lib/vusb` for root; for other users `$XDG_STATE_HOME/vusb`, by default
    /// `~/.local/state/vusb` (XDG Base Directory Specification 0.8), or `/run/user/UID/vusb`
    /// without a home. `variable` looks up an environment variable.
    pub fn of_user(variable: impl Fn(&str) -> Option<PathBuf>) -> StateDir {
        let user = rustix::process::geteuid();
        if user.is_root() {
            return StateDir("/var/lib/vusb".into());
        }
        let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
        let base = absolute("XDG_STATE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".local/state")))
            // A user without a home: other users cannot write below this folder.
            .unwrap_or_else(|| format!("/run/user/{}", user.as_raw()).into());
        StateDir(base.join("vusb"))
    }
}
