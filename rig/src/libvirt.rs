//! A real libvirt: its daemon and `virsh` for one test, isolated from the machine's own libvirt.
//!
//! ```text
//!   test ─ define(xml) ─▶ virsh ─▶ libvirtd (session of an unprivileged user, in a private directory)
//!        ◀─ dump_xml(name): the XML with everything that libvirt filled in
//!        ◀─ qemu_command_line(name): the QEMU arguments that it would use
//!        ─ write_file(name, text), run(words): any file, any command of virsh
//! ```
//!
//! The profile `libvirt` of this project is compared with it. It is version 11.3 of Debian 13, or
//! 9.0 of Debian 12, on any machine: unpacked next to its QEMU ([`crate::qemus`]) and run in that
//! tree as if it were `/`. Guests are started with their processors stopped: they need no CPU time,
//! but devices can be attached and detached. Other programs of this machine reach the daemon by
//! [`Libvirt::socket`].

use crate::command::{as_root, finish};
use crate::error::{Error, Result};
use crate::{packages, qemus};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir};

/// Debian's user `nobody` (`base-passwd`). A daemon that root starts would be the one of the whole
/// system.
const NOBODY: u32 = 65534;

/// libvirt 9.0 does not start its QEMU driver without its own user.
const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/mnt:/bin/sh\n\
                      libvirt-qemu:x:64055:108::/mnt:/bin/sh\n";
const GROUP: &str = "root:x:0:\nkvm:x:108:\nnogroup:x:65534:\n";

/// The releases whose libvirt can be started, the newest first: 11.3 and 9.0.
pub const SUITES: [&str; 2] = qemus::SUITES;

/// Starts the daemon again when it has ended, unless [`HELD`] exists. Its guests stay.
const DAEMON: &str =
    "while :; do libvirtd --timeout 60; while [ -e held ]; do sleep 0.1; done; done";

/// The file in the working directory that keeps the daemon from being started again.
const HELD: &str = "held";

/// The file of a domain, in the working directory of the programs.
const DOMAIN: &str = "domain.xml";

/// How long the daemon may take to respond. It queries QEMU's capabilities, which takes seconds.
const START_LIMIT: Duration = Duration::from_secs(120);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Runs a program in another tree, as an unprivileged user whose home and working directory are a
/// directory of this machine. The editor replaces the file with [`EDITED`]. The shell stays
/// running: as the first process of its namespace it reaps the QEMUs that libvirt starts to query
/// them, because libvirt waits until they have ended. `virsh` must not start a daemon of its own,
/// which would end with it.
const IN_TREE: &str = r#"root=$1 home=$2; shift 2
mount --rbind /dev "$root/dev" && mount --rbind /sys "$root/sys" && mount -t proc proc "$root/proc" && mount --bind "$home" "$root/mnt" &&
chroot --userspec=65534:65534 "$root" env -i -C /mnt PATH=/usr/bin:/usr/sbin:/bin:/sbin LC_ALL=C \
    HOME=/mnt TMPDIR=/mnt XDG_RUNTIME_DIR=/mnt/run LIBVIRT_AUTOSTART=0 EDITOR="cp edited.xml" "$@""#;

/// The file that `virsh edit` replaces a domain's XML with: see [`Libvirt::write_file`].
pub const EDITED: &str = "edited.xml";

/// A daemon, initially without domains; killed on drop.
#[derive(Debug)]
pub struct Libvirt {
    /// The process that all others descend from.
    daemon: Child,
    home: TempDir,
    root: PathBuf,
}

impl Libvirt {
    /// Starts it and waits until it responds.
    ///
    /// # Errors
    /// [`Error::Command`] if the packages cannot be installed or it does not respond;
    /// [`Error::Io`].
    pub fn start() -> Result<Libvirt> {
        Self::of(qemus::LIBVIRT_SUITE)
    }

    /// The same, for the libvirt of a release, one of [`SUITES`].
    ///
    /// # Errors
    /// As [`Libvirt::start`].
    pub fn of(suite: &str) -> Result<Libvirt> {
        packages::ensure()?;
        let root = qemus::with_libvirt(suite)?.join("root");
        for folder in ["dev", "proc", "sys", "mnt"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(Error::io("make the folder", &folder))?;
        }
        // Created by a script when Debian is installed, so not part of any package.
        for (file, text) in [("passwd", PASSWD), ("group", GROUP)] {
            let file = root.join("etc").join(file);
            fs::write(&file, text).map_err(Error::io("write", &file))?;
        }
        let home = TempDir::new().map_err(Error::io("make the folder", Path::new("/tmp")))?;
        let run_dir = home.path().join("run");
        fs::create_dir(&run_dir).map_err(Error::io("make the folder", &run_dir))?;
        let nobody = format!("{NOBODY}:{NOBODY}");
        // Before the directory belongs to another user.
        let log = home.path().join("libvirtd.log");
        let file = fs::File::create(&log).map_err(Error::io("create", &log))?;
        for folder in [home.path(), &run_dir] {
            let folder = folder.display().to_string();
            run_as_root("chmod", &["0755", &folder])?;
            run_as_root("chown", &[&nobody, &folder])?;
        }
        let mut command = in_tree(&root, home.path(), "sh");
        command.args(["-c", DAEMON]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let daemon = command.spawn().map_err(Error::io("start", Path::new("libvirtd")))?;
        let libvirt = Libvirt { daemon, home, root };
        libvirt.wait()?;
        Ok(libvirt)
    }

    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.run(&["list"]) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(RETRY_INTERVAL),
            }
        }
    }

    /// The daemon's socket, as root and `nobody` of this machine can connect to it.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("run/libvirt/libvirt-sock")
    }

    /// The folder that the daemon and its guests see as `/mnt`.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts a domain, with its processors stopped.
    ///
    /// # Errors
    /// [`Error::Command`] with libvirt's message.
    pub fn start_domain(&self, name: &str) -> Result<()> {
        self.run(&["start", "--paused", name]).map(drop)
    }

    /// Kills the daemon and keeps it from being started again. Guests stay.
    ///
    /// # Errors
    /// [`Error::Unusable`] if it does not run; [`Error::Command`].
    pub fn kill_daemon(&self) -> Result<()> {
        self.write_file(HELD, "")?;
        let daemon = self.process("libvirtd");
        let daemon = daemon.ok_or_else(|| Error::Unusable("no libvirtd runs".to_owned()))?;
        run_as_root("kill", &["-9", &daemon.to_string()])?;
        while self.process("libvirtd").is_some() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts the daemon again after [`Libvirt::kill_daemon`], and waits until it responds.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn start_daemon(&self) -> Result<()> {
        run_as_root("rm", &["-f", &self.home.path().join(HELD).display().to_string()])?;
        self.wait()
    }

    /// The process with this name below this daemon's first process.
    fn process(&self, name: &str) -> Option<u32> {
        let stat = |pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (head, rest) = stat.rsplit_once(") ")?;
            let comm = head.split_once('(')?.1.to_owned();
            let mut fields = rest.split(' ');
            let state = fields.next()?.to_owned();
            Some((comm, state, fields.next()?.parse::<u32>().ok()?))
        };
        let is_below = |pid: u32| {
            let mut chain = std::iter::successors(Some(pid), |pid| Some(stat(*pid)?.2));
            chain.any(|pid| pid == self.daemon.id())
        };
        let all = fs::read_dir("/proc").ok()?.flatten();
        let mut all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        all.find(|pid| stat(*pid).is_some_and(|it| it.0 == name && it.1 != "Z") && is_below(*pid))
    }

    /// The daemon's version, from `virsh version --daemon`.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn version(&self) -> Result<String> {
        let output = self.run(&["version", "--daemon"])?;
        let line = output.lines().find_map(|line| line.strip_prefix("Running against daemon: "));
        Ok(line.unwrap_or_default().trim().to_owned())
    }

    /// Defines a domain.
    ///
    /// # Errors
    /// [`Error::Command`] with libvirt's message if it rejects it.
    pub fn define(&self, xml: &str) -> Result<()> {
        self.write_file(DOMAIN, xml)?;
        self.run(&["define", DOMAIN]).map(drop)
    }

    /// Writes a file in the working directory of `virsh`. `virsh edit` replaces a domain's XML with
    /// the file [`EDITED`].
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Command`].
    pub fn write_file(&self, name: &str, text: &str) -> Result<()> {
        let mut file = NamedTempFile::new().map_err(Error::io("create", Path::new("/tmp")))?;
        file.write_all(text.as_bytes()).map_err(Error::io("write", file.path()))?;
        let here = file.path().display().to_string();
        let there = self.home.path().join(name).display().to_string();
        run_as_root("cp", &[&here, &there])?;
        run_as_root("chmod", &["0644", &there])
    }

    /// Removes a domain.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn undefine(&self, name: &str) -> Result<()> {
        // Domains with UEFI firmware have a file with its variables.
        self.run(&["undefine", "--nvram", name]).map(drop)
    }

    /// The XML of a domain with everything that libvirt has filled in.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn dump_xml(&self, name: &str) -> Result<String> {
        self.run(&["dumpxml", "--inactive", name])
    }

    /// The command line that libvirt would start QEMU with, quoted for a shell.
    ///
    /// # Errors
    /// [`Error::Command`] with libvirt's message if it would not start the domain.
    pub fn qemu_command_line(&self, name: &str) -> Result<String> {
        self.run(&["domxml-to-native", "qemu-argv", "--domain", name])
    }

    /// Validates XML against libvirt's schema of domains.
    ///
    /// # Errors
    /// [`Error::Command`] with the validator's message.
    pub fn validate(&self, xml: &str) -> Result<()> {
        self.write_file(DOMAIN, xml)?;
        let mut command = in_tree(&self.root, self.home.path(), "virt-xml-validate");
        command.args([DOMAIN, "domain"]);
        finish(command).map(drop)
    }

    /// Runs `virsh` with these arguments and returns its output.
    ///
    /// # Errors
    /// [`Error::Command`] with its message.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = in_tree(&self.root, self.home.path(), "virsh");
        command.args(["-q", "-c", "qemu:///session"]).args(words).stdin(Stdio::null());
        finish(command)
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        // Both fail only if the process has already ended. Processes behind sudo exit with it,
        // because of `--kill-child`.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A command that runs a program in another tree: see [`IN_TREE`].
fn in_tree(root: &Path, home: &Path, program: &str) -> Command {
    let mut command = as_root("unshare");
    command.args(["--mount", "--kill-child", "--fork", "--pid", "--", "sh", "-c", IN_TREE, "sh"]);
    command.args([root, home]).arg(program);
    command
}

fn run_as_root(program: &str, words: &[&str]) -> Result<()> {
    let mut command = as_root(program);
    command.args(words);
    finish(command).map(drop)
}
