//! Where records are kept, and how much patience and daring the caller has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vusb_drivers::xenctl::Reach;

/// The folder of the records. Made, with mode 0700, when something is first written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> StateDir {
        StateDir(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for StateDir {
    /// `/var/lib/vusb` for root, and for others `$XDG_STATE_HOME/vusb`, or `~/.local/state/vusb` (XDG Base Directory
    /// Specification 0.8). The only place of the library that looks at the environment.
    fn default() -> Self {
        if rustix::process::geteuid().is_root() {
            return StateDir("/var/lib/vusb".into());
        }
        let absolute = |variable: &str| {
            std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_STATE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".local/state")))
            // A user without a home: nobody else can write below a folder of one's own number.
            .unwrap_or_else(|| format!("/run/user/{}", rustix::process::geteuid().as_raw()).into());
        StateDir(base.join("vusb"))
    }
}

/// How to go about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long to wait for each single thing: the hypervisor's answer, another command's end.
    pub timeout: Duration,
    /// Only say what would be done. Nothing is written, to the guest or to a record.
    pub dry_run: bool,
    /// Do what is refused otherwise: remove a controller with all that is on it, give a protected device, forget a device
    /// of a domain that nobody serves any more, give a domain another name.
    pub force: bool,
    /// The folder that relative paths are relative to; the process's own if none is given. Paths in a spec are
    /// relative to the spec's folder.
    pub folder: Option<PathBuf>,
    /// The socket of Xen's xenstored; where it always is if none is given.
    pub xenstored: Option<PathBuf>,
    /// The folder of the QMP sockets of Xen's device models.
    pub xen_qmp: PathBuf,
}

impl Settings {
    /// How long to wait unless said: ten seconds, twice what a guest that is well takes to let go of a device.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            timeout: Self::DEFAULT_TIMEOUT,
            dry_run: false,
            force: false,
            folder: None,
            xenstored: None,
            xen_qmp: Reach::QMP.into(),
        }
    }
}
