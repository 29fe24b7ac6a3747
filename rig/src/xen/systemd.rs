//! Debian's own systemd in dom0, for what is packaged for it.
//!
//! It is the first process of namespaces of its own for processes and mounts, beside the rig's init: files, devices and
//! the store are dom0's, and services are confined by dom0's kernel as they would be on an installed machine.

use super::XenHost;
use super::host::{BOOT_LIMIT, TOOL_LIMIT};
use crate::error::Result;
use crate::packages;
use crate::parcel::{self, Files};
use std::path::{Path, PathBuf};

/// Programs, at the same paths in dom0.
const PROGRAMS: [&str; 3] =
    ["/usr/lib/systemd/systemd", "/usr/bin/systemctl", "/usr/bin/systemd-sysusers"];
/// What a service depends on without saying so, and what it is usually wanted by.
const UNITS: [&str; 4] = ["sysinit.target", "basic.target", "shutdown.target", "multi-user.target"];
const UNIT_DIR: &str = "/usr/lib/systemd/system";

/// `systemctl` at a path that a shell looks at before it looks at the program's.
const SCRIPTS: [(&str, &str); 2] = [
    ("/bin/start-systemd", concat!(env!("CARGO_MANIFEST_DIR"), "/guest/start-systemd.sh")),
    ("/bin/systemctl", concat!(env!("CARGO_MANIFEST_DIR"), "/guest/systemctl.sh")),
];

impl XenHost {
    /// Brings systemd to dom0 and starts it, without any service; `systemctl` works in dom0 from then on. What
    /// a service says is in `/var/log/NAME.log`, what systemd says is in the kernel's log.
    ///
    /// # Errors
    /// As [`XenHost::put`]; [`crate::Error::Timeout`] if it does not come up.
    pub fn start_systemd(&self) -> Result<()> {
        self.put(&files()?)?;
        self.sh("start-systemd", TOOL_LIMIT)?.ok()?;
        self.wait_until("systemctl is-active multi-user.target", BOOT_LIMIT).map(drop)
    }
}

fn files() -> Result<Files> {
    packages::ensure_all(&["systemd"])?;
    let mut files = Files::new();
    for program in PROGRAMS {
        files.extend(parcel::program(program, Path::new(program))?);
    }
    let units = UNITS.map(|name| format!("{UNIT_DIR}/{name}"));
    files.extend(units.map(|path| (path.clone(), PathBuf::from(path))));
    files.extend(SCRIPTS.map(|(path, script)| (path.to_owned(), PathBuf::from(script))));
    Ok(files)
}
