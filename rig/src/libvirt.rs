//! A real libvirt: its daemon and `virsh`, for one test, without anything of the machine's own libvirt.
//!
//! ```text
//!   test ─ define(xml) ─▶ virsh ─▶ libvirtd (an unprivileged user's session, in a folder of its own)
//!        ◀─ dump(name): the XML with all that libvirt filled in
//!        ◀─ native(name): the arguments of QEMU that it would start
//!        ─ put(file, text), run(words): whatever a person may type
//! ```
//!
//! No guest is started. libvirt is what this project's profile `libvirt` is held against: nothing that it fills in comes from code here.
//! It is Debian 13's, 11.3, whatever this machine is: unpacked beside its QEMU ([`crate::qemus`]), and run in that tree as if it were `/`.

use crate::command::{as_root, finish};
use crate::error::{Error, Result};
use crate::{packages, qemus};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir};

/// `nobody` of Debian (`base-passwd`): the daemon of root's would be the whole system's.
const NOBODY: u32 = 65534;

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/mnt:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// The file of a domain, in the folder that programs are run in.
const DOMAIN: &str = "domain.xml";

/// How long the daemon may take to answer. It asks QEMU what it can do, which takes seconds.
const START_LIMIT: Duration = Duration::from_secs(120);
/// After how many seconds without a question it ends by itself.
const IDLE: &str = "60";
const PAUSE: Duration = Duration::from_millis(200);

/// Runs a program in another tree, as an unprivileged user whose home is a folder of this machine's, where it starts; with an editor that puts
/// [`EDITED`] in the place of what it is to edit. The shell stays: as the first process of its
/// namespace it takes leave of the QEMUs that libvirt starts to ask them, and waits to see ended.
const IN_TREE: &str = r#"root=$1 home=$2; shift 2
mount --rbind /dev "$root/dev" && mount -t proc proc "$root/proc" && mount --bind "$home" "$root/mnt" &&
chroot --userspec=65534:65534 "$root" env -i -C /mnt PATH=/usr/bin:/usr/sbin:/bin:/sbin LC_ALL=C \
    HOME=/mnt TMPDIR=/mnt XDG_RUNTIME_DIR=/mnt/run EDITOR="cp edited.xml" "$@""#;

/// What `virsh edit` makes of a domain, if it is there: see [`Libvirt::put`].
pub const EDITED: &str = "edited.xml";

/// A daemon with no domains; ended on drop.
#[derive(Debug)]
pub struct Libvirt {
    daemon: Child,
    home: TempDir,
    root: PathBuf,
}

impl Libvirt {
    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// [`Error::Command`] if the packages cannot be installed or it does not answer; [`Error::Io`].
    pub fn start() -> Result<Libvirt> {
        packages::ensure()?;
        let root = qemus::release(qemus::LIBVIRTS)?.join("root");
        for folder in ["dev", "proc", "mnt"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(Error::io("make the folder", &folder))?;
        }
        // Which no package of the tree makes: in an installation, a script does.
        for (file, text) in [("passwd", PASSWD), ("group", GROUP)] {
            let file = root.join("etc").join(file);
            fs::write(&file, text).map_err(Error::io("write", &file))?;
        }
        let home = TempDir::new().map_err(Error::io("make the folder", Path::new("/tmp")))?;
        let run_dir = home.path().join("run");
        fs::create_dir(&run_dir).map_err(Error::io("make the folder", &run_dir))?;
        let nobody = format!("{NOBODY}:{NOBODY}");
        // Before the folder is another user's.
        let log = home.path().join("libvirtd.log");
        let file = fs::File::create(&log).map_err(Error::io("create", &log))?;
        for folder in [home.path(), &run_dir] {
            let folder = folder.display().to_string();
            done_as_root("chmod", &["0755", &folder])?;
            done_as_root("chown", &[&nobody, &folder])?;
        }
        let mut command = in_tree(&root, home.path(), "libvirtd");
        command.args(["--timeout", IDLE]);
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
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Its version, as `virsh version --daemon` says it.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn version(&self) -> Result<String> {
        let said = self.run(&["version", "--daemon"])?;
        let line = said.lines().find_map(|line| line.strip_prefix("Running against daemon: "));
        Ok(line.unwrap_or_default().trim().to_owned())
    }

    /// Defines a domain.
    ///
    /// # Errors
    /// [`Error::Command`] with libvirt's words if it refuses.
    pub fn define(&self, xml: &str) -> Result<()> {
        self.put(DOMAIN, xml)?;
        self.run(&["define", DOMAIN]).map(drop)
    }

    /// A file with this name in the folder that `virsh` runs in. One of the name [`EDITED`] is what `virsh edit` makes of a domain.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Command`].
    pub fn put(&self, name: &str, text: &str) -> Result<()> {
        let mut file = NamedTempFile::new().map_err(Error::io("create", Path::new("/tmp")))?;
        file.write_all(text.as_bytes()).map_err(Error::io("write", file.path()))?;
        let here = file.path().display().to_string();
        let there = self.home.path().join(name).display().to_string();
        done_as_root("cp", &[&here, &there])?;
        done_as_root("chmod", &["0644", &there])
    }

    /// Forgets a domain.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn undefine(&self, name: &str) -> Result<()> {
        // Some machines keep variables of their firmware beside.
        self.run(&["undefine", "--nvram", name]).map(drop)
    }

    /// The XML of a domain, with all that libvirt has filled in.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn dump(&self, name: &str) -> Result<String> {
        self.run(&["dumpxml", "--inactive", name])
    }

    /// The command line that libvirt would start QEMU with, as it writes it for a shell.
    ///
    /// # Errors
    /// [`Error::Command`] with libvirt's words where it would not start it.
    pub fn native(&self, name: &str) -> Result<String> {
        self.run(&["domxml-to-native", "qemu-argv", "--domain", name])
    }

    /// Holds a text against libvirt's schema of domains.
    ///
    /// # Errors
    /// [`Error::Command`] with what is wrong.
    pub fn validate(&self, xml: &str) -> Result<()> {
        self.put(DOMAIN, xml)?;
        let mut command = in_tree(&self.root, self.home.path(), "virt-xml-validate");
        command.args([DOMAIN, "domain"]);
        finish(command).map(drop)
    }

    /// Runs `virsh` with these words: what it prints.
    ///
    /// # Errors
    /// [`Error::Command`] with its words.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = in_tree(&self.root, self.home.path(), "virsh");
        command.args(["-q", "-c", "qemu:///session"]).args(words).stdin(Stdio::null());
        finish(command)
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already. What sudo started ends by itself: see IDLE.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A program in another tree: see [`IN_TREE`].
fn in_tree(root: &Path, home: &Path, program: &str) -> Command {
    let mut command = as_root("unshare");
    command.args(["--mount", "--kill-child", "--fork", "--pid", "--", "sh", "-c", IN_TREE, "sh"]);
    command.args([root, home]).arg(program);
    command
}

fn done_as_root(program: &str, words: &[&str]) -> Result<()> {
    let mut command = as_root(program);
    command.args(words);
    finish(command).map(drop)
}
