//! Debian's systemd in dom0, to test vusb's units.
//!
//! It runs next to the rig's init as the first process of its own PID and mount namespaces. Files,
//! devices and xenstore are those of dom0, and dom0's kernel confines services as on an installed
//! machine.

use super::XenHost;
use super::host::{BOOT_LIMIT, TOOL_LIMIT};
use crate::bundle::{self, Files};
use crate::error::Result;
use crate::packages;
use std::path::{Path, PathBuf};

/// Programs, which have the same paths in dom0.
const PROGRAMS: [&str; 3] =
    ["/usr/lib/systemd/systemd", "/usr/bin/systemctl", "/usr/bin/systemd-sysusers"];
/// The default dependencies of services, and the target that usually wants them.
const UNITS: [&str; 4] = ["sysinit.target", "basic.target", "shutdown.target", "multi-user.target"];
const UNIT_DIR: &str = "/usr/lib/systemd/system";

/// Scripts. `systemctl` is in a directory that precedes the program's in PATH.
const SCRIPTS: [(&str, &str); 2] = [
    ("/bin/start-systemd", concat!(env!("CARGO_MANIFEST_DIR"), "/guest/start-systemd.sh")),
    ("/bin/systemctl", concat!(env!("CARGO_MANIFEST_DIR"), "/guest/systemctl.sh")),
];

impl XenHost {
    /// Copies systemd to dom0 and starts it without any service. `systemctl` works in dom0
    /// afterwards. The output of a service is in `/var/log/NAME.log`, that of systemd in the
    /// kernel's log.
    ///
    /// # Errors
    /// As [`XenHost::copy_in`]; [`crate::Error::Timeout`] if it does not start.
    pub fn start_systemd(&self) -> Result<()> {
        self.copy_in(&files()?)?;
        self.sh("start-systemd", TOOL_LIMIT)?.ok()?;
        self.wait_until("systemctl is-active multi-user.target", BOOT_LIMIT).map(drop)
    }
}

fn files() -> Result<Files> {
    packages::ensure_all(&["systemd"])?;
    let mut files = Files::new();
    for program in PROGRAMS {
        files.extend(bundle::program(program, Path::new(program))?);
    }
    let units = UNITS.map(|name| format!("{UNIT_DIR}/{name}"));
    files.extend(units.map(|path| (path.clone(), PathBuf::from(path))));
    files.extend(SCRIPTS.map(|(path, script)| (path.to_owned(), PathBuf::from(script))));
    Ok(files)
}
