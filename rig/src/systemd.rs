//! Programs of systemd in Debian 13, which are newer than those on this machine: `varlinkctl`,
//! `systemd-analyze` and `udevadm`. Nothing is installed.

use crate::cache::Cache;
use crate::debian;
use crate::error::Result;
use std::path::PathBuf;
use std::process::Command;

/// The unpacked programs.
#[derive(Debug, Clone)]
pub struct Systemd {
    root: PathBuf,
}

impl Systemd {
    /// Those of Debian 13. Downloaded if the cache does not contain them.
    ///
    /// # Errors
    /// [`Error::Command`](crate::Error::Command) if `apt-get` cannot download them,
    /// [`Error::Io`](crate::Error::Io).
    pub fn of_debian() -> Result<Systemd> {
        let dir = Cache::open()?.entry("systemd-udev-trixie", |half| {
            let root = debian::unpack("trixie", &["systemd", "udev"], half)?;
            debian::install_loader(&root)
        })?;
        Ok(Systemd { root: dir.join("root") })
    }

    /// A program, with the libraries of its own release.
    pub fn program(&self, name: &str) -> Command {
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        let path = format!("{}:{}", libraries.display(), libraries.join("systemd").display());
        let mut command = Command::new(self.root.join("usr/bin/ld-linux-x86-64.so.2"));
        command.args(["--library-path", &path, "--argv0", name]);
        command.arg(self.root.join("usr/bin").join(name));
        command
    }
}
