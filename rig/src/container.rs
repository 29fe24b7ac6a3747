//! A container in which the systemd of a Debian release is the first process. It tests packaged
//! units with the real journal, socket activation and restrictions. It boots in a second or two,
//! and needs root.
//!
//! The container shares this machine's kernel. Therefore, units that would change the kernel are
//! masked, and there is no udev.

use crate::bundle::Files;
use crate::cache::Cache;
use crate::command::{as_root, finish};
use crate::debian;
use crate::error::{Error, Result, Tail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long systemd may take to boot.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// The pause between two checks whether systemd has booted.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The path in the container of the folder that it shares with this machine.
pub const SHARED: &str = "/run/shared";

/// A running container. Dropping it ends the container.
#[derive(Debug)]
pub struct Container {
    unshare: Child,
    /// The process ID of systemd on this machine.
    init: u32,
    console: PathBuf,
    _scratch: TempDir,
}

impl Container {
    /// Boots a container of Debian 13. In it, the folder `shared` is at [`SHARED`].
    ///
    /// # Errors
    /// [`Error::Command`] if the packages cannot be downloaded, [`Error::Io`], and
    /// [`Error::Timeout`] if it does not boot or ends while it boots.
    pub fn boot(shared: &Path) -> Result<Container> {
        Container::boot_release("trixie", &[], shared)
    }

    /// Boots a container of the release `suite`, for example `bookworm`, with further packages.
    ///
    /// # Errors
    /// As [`Container::boot`].
    pub fn boot_release(suite: &str, further: &[&str], shared: &Path) -> Result<Container> {
        let name = [&["container", suite], further].concat().join("-");
        let packages = [&["systemd", "busybox-static"], further].concat();
        let tree =
            Cache::open()?.entry(&name, |half| debian::unpack(suite, &packages, half).map(drop))?;
        let scratch =
            tempfile::tempdir().map_err(Error::io("make a folder in", Path::new("/tmp")))?;
        let (console, mount) = (scratch.path().join("console"), scratch.path().join("mount"));
        fs::create_dir(&mount).map_err(Error::io("make the folder", &mount))?;
        let output = File::create(&console).map_err(Error::io("create", &console))?;
        let errors = output.try_clone().map_err(Error::io("open", &console))?;
        let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/guest/container.sh"));
        let mut command = as_root("unshare");
        command.args(["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child"]);
        command.args(["/bin/sh"]).arg(script).arg(tree.join("root")).arg(&mount).arg(shared);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let unshare = command.spawn().map_err(Error::io("start", Path::new("unshare")))?;
        let mut container = Container { unshare, init: 0, console, _scratch: scratch };
        container.wait_until_booted()?;
        Ok(container)
    }

    fn wait_until_booted(&mut self) -> Result<()> {
        let end = Instant::now() + BOOT_LIMIT;
        while Instant::now() < end && matches!(self.unshare.try_wait(), Ok(None)) {
            self.init = self.find_init().unwrap_or_default();
            if self.init != 0 && self.sh("systemctl is-active multi-user.target").is_ok() {
                return Ok(());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        let tail = Tail::of(&fs::read_to_string(&self.console).unwrap_or_default());
        Err(Error::Timeout { what: "container".to_owned(), limit: BOOT_LIMIT, tail })
    }

    /// The process ID on this machine of the container's systemd, once it runs.
    fn find_init(&self) -> Option<u32> {
        let all = fs::read_dir("/proc").ok()?.flatten();
        let mut pids = all.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
        let is_init = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line =
                |key: &str| status.lines().find_map(|it| it.strip_prefix(key)).map(str::trim);
            let is_first = line("NSpid:").is_some_and(|it| it.ends_with("\t1"));
            is_first && line("Name:") == Some("systemd") && self.is_descendant(*pid)
        };
        pids.find(is_init)
    }

    /// Whether the process is a descendant of `unshare`. With sudo in between, it is not a child.
    fn is_descendant(&self, mut pid: u32) -> bool {
        while pid > 1 {
            if pid == self.unshare.id() {
                return true;
            }
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let parent = status.lines().find_map(|it| it.strip_prefix("PPid:"));
            pid = parent.and_then(|it| it.trim().parse().ok()).unwrap_or_default();
        }
        false
    }

    /// Copies files of this machine to these paths in the container. A program must not need any
    /// shared library but the C library.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn copy_in(&self, files: &Files) -> Result<()> {
        for (path, from) in files {
            let to = format!("/proc/{}/root{path}", self.init);
            let mut install = as_root("install");
            install.arg("-D").arg(from).arg(&to);
            finish(install)?;
        }
        Ok(())
    }

    /// Runs a shell command in the container as root, and returns its output.
    ///
    /// # Errors
    /// [`Error::Command`], with the output, if the exit code is not 0.
    pub fn sh(&self, script: &str) -> Result<String> {
        let mut command = as_root("nsenter");
        command.args(["--target", &self.init.to_string()]);
        command.args(["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd"]);
        command.args(["/usr/bin/busybox", "env", "-i", "PATH=/usr/bin:/usr/sbin"]);
        command.args(["LC_ALL=C.UTF-8", "SYSTEMD_PAGER=cat", "/usr/bin/sh", "-c", script]);
        command.stdin(Stdio::null());
        finish(command)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.init != 0 {
            // The kernel then kills the other processes of its namespace.
            let mut kill: Command = as_root("kill");
            kill.args(["-KILL", &self.init.to_string()]);
            let _ = finish(kill);
        }
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}
