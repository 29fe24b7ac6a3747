//! A real libvirt: its daemon and `virsh`, for one test, without anything of the machine's own libvirt.
//!
//! ```text
//!   test ─ define(xml) ─▶ virsh ─▶ libvirtd (an unprivileged user's session, in a folder of its own)
//!        ◀─ dump(name): the XML with all that libvirt filled in
//!        ◀─ native(name): the arguments of QEMU that it would start
//! ```
//!
//! No guest is started. libvirt is what this project's profile `libvirt` is held against: nothing that it fills in comes from code here.

use crate::command::{finish, run};
use crate::error::{Error, Result};
use crate::packages;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The packages, and what each is for: `virsh` and `virt-xml-validate`, the daemon with libvirt's schemas, its driver for QEMU, and
/// `xmllint`, which `virt-xml-validate` runs.
pub const PACKAGES: [&str; 4] =
    ["libvirt-clients", "libvirt-daemon", "libvirt-daemon-driver-qemu", "libxml2-utils"];

/// `nobody` and `nogroup` of Debian (`base-passwd`): who the daemon is where this is root, whose session is the whole system's.
const NOBODY: u32 = 65534;

/// How long the daemon may take to answer. It asks each QEMU on the machine what it can do, which takes seconds.
const START_LIMIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(200);

/// A daemon with no domains; ended on drop.
#[derive(Debug)]
pub struct Libvirt {
    daemon: Child,
    home: TempDir,
    root: bool,
}

impl Libvirt {
    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// [`Error::Command`] if the packages cannot be installed or it does not answer; [`Error::Io`].
    pub fn start() -> Result<Libvirt> {
        packages::ensure()?;
        packages::ensure_all(&PACKAGES)?;
        let home = TempDir::new().map_err(Error::io("make the folder", Path::new("/tmp")))?;
        let root = run("id", &["-u"])?.trim() == "0";
        let run_dir = home.path().join("run");
        fs::create_dir(&run_dir).map_err(Error::io("make the folder", &run_dir))?;
        for folder in [home.path(), &run_dir] {
            let mode = fs::Permissions::from_mode(0o700);
            fs::set_permissions(folder, mode).map_err(Error::io("change", folder))?;
            if root {
                chown(folder, Some(NOBODY), Some(NOBODY)).map_err(Error::io("change", folder))?;
            }
        }
        let log = home.path().join("libvirtd.log");
        let file = fs::File::create(&log).map_err(Error::io("create", &log))?;
        let mut command = of(root, home.path(), "libvirtd");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let daemon = command.spawn().map_err(Error::io("start", Path::new("libvirtd")))?;
        let libvirt = Libvirt { daemon, home, root };
        libvirt.wait()?;
        Ok(libvirt)
    }

    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.virsh(&["list"]) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Its version, as `virsh version --daemon` says it.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn version(&self) -> Result<String> {
        let said = self.virsh(&["version", "--daemon"])?;
        let line = said.lines().find_map(|line| line.strip_prefix("Running against daemon: "));
        Ok(line.unwrap_or_default().trim().to_owned())
    }

    /// Defines a domain.
    ///
    /// # Errors
    /// [`Error::Command`] with libvirt's words if it refuses.
    pub fn define(&self, xml: &str) -> Result<()> {
        let path = self.home.path().join("domain.xml");
        fs::write(&path, xml).map_err(Error::io("write", &path))?;
        if self.root {
            chown(&path, Some(NOBODY), Some(NOBODY)).map_err(Error::io("change", &path))?;
        }
        self.virsh(&["define", &path.display().to_string()]).map(drop)
    }

    /// Forgets a domain.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn undefine(&self, name: &str) -> Result<()> {
        self.virsh(&["undefine", name]).map(drop)
    }

    /// The XML of a domain, with all that libvirt has filled in.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn dump(&self, name: &str) -> Result<String> {
        self.virsh(&["dumpxml", "--inactive", name])
    }

    /// The command line that libvirt would start QEMU with, as it writes it for a shell.
    ///
    /// # Errors
    /// [`Error::Command`] with libvirt's words where it would not start it.
    pub fn native(&self, name: &str) -> Result<String> {
        self.virsh(&["domxml-to-native", "qemu-argv", "--domain", name])
    }

    /// Holds a text against libvirt's schema of domains.
    ///
    /// # Errors
    /// [`Error::Command`] with what is wrong.
    pub fn validate(&self, xml: &str) -> Result<()> {
        let path = self.home.path().join("validate.xml");
        fs::write(&path, xml).map_err(Error::io("write", &path))?;
        run("virt-xml-validate", &[path, PathBuf::from("domain")]).map(drop)
    }

    fn virsh(&self, words: &[&str]) -> Result<String> {
        let mut command = of(self.root, self.home.path(), "virsh");
        command.args(["-q", "-c", "qemu:///session"]).args(words).stdin(Stdio::null());
        finish(command)
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A program of an unprivileged user with this home.
fn of(root: bool, home: &Path, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if root {
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    }
    command.args(["--", "env", "-u", "XDG_CONFIG_HOME", "-u", "XDG_CACHE_HOME"]);
    command.arg(format!("HOME={}", home.display()));
    command.arg(format!("XDG_RUNTIME_DIR={}", home.join("run").display()));
    command.arg(program);
    command
}
