//! A guest: QEMU with Debian's kernel and the rig's image, and a shell that runs commands in it.
//!
//! ```no_run
//! # fn main() -> vusb_rig::Result<()> {
//! use std::time::Duration;
//! let guest = vusb_rig::Guest::builder().machine("q35").args(["-device", "qemu-xhci"]).start()?;
//! guest.wait_booted(Duration::from_secs(60))?;
//! let out = guest.sh("cat /proc/version", Duration::from_secs(10))?;
//! assert_eq!(out.code, 0);
//! # Ok(()) }
//! ```

use crate::bare_qemu::{BareQemu, Clock};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::kernel::Kernel;
use crate::packages;
use crate::process::{Qemu, RunDir};
use crate::shell::Shell;
use std::ffi::OsString;
use std::ops::Deref;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Parameters of the guest's kernel that save time: no self-tests, no mitigations of processor
/// vulnerabilities, no waiting for a display. A panic ends QEMU (with `-no-reboot`).
pub(crate) const QUICK: &str = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr cryptomgr.notests \
                     audit=0 apparmor=0 random.trust_cpu=on rcupdate.rcu_expedited=1";

/// The configuration of a guest.
#[derive(Debug, Clone)]
pub struct GuestBuilder {
    qemu: Qemu,
    machine: String,
    cpu: String,
    memory_mib: u32,
    processors: u32,
    nodefaults: bool,
    append: String,
    image: Image,
    args: Vec<OsString>,
}

impl Default for GuestBuilder {
    fn default() -> Self {
        Self {
            qemu: Qemu::installed(),
            machine: "pc".to_owned(),
            cpu: "qemu64".to_owned(),
            memory_mib: 256,
            processors: 1,
            nodefaults: true,
            append: String::new(),
            image: Image::default(),
            args: Vec::new(),
        }
    }
}

impl GuestBuilder {
    /// `-machine`: `pc` (the default), `q35`, `pc-q35-7.2`, with options after a comma.
    pub fn machine(mut self, machine: &str) -> Self {
        machine.clone_into(&mut self.machine);
        self
    }

    /// Memory in MiB, by default 256. The kernel needs about 160.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Number of processors, by default 1, which boots fastest.
    pub fn processors(mut self, count: u32) -> Self {
        self.processors = count;
        self
    }

    /// Whether QEMU omits its default devices (network card, display, drives), by default true.
    pub fn nodefaults(mut self, yes: bool) -> Self {
        self.nodefaults = yes;
        self
    }

    /// Adds QEMU arguments.
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds parameters of the guest's kernel.
    pub fn append(mut self, parameters: &str) -> Self {
        self.append = format!("{} {parameters}", self.append);
        self
    }

    /// Uses this QEMU instead of the installed one.
    pub fn qemu(mut self, qemu: &Qemu) -> Self {
        self.qemu = qemu.clone();
        self
    }

    /// Uses this image instead of the default one, for other modules or additional files.
    pub fn image(mut self, image: Image) -> Self {
        self.image = image;
        self
    }

    /// Starts the guest. Missing packages are installed and missing cache entries created first.
    ///
    /// # Errors
    /// [`Error::Exited`] with QEMU's message if it rejects the arguments; errors of packages and
    /// downloads.
    pub fn start(self) -> Result<Guest> {
        packages::ensure()?;
        let cache = Cache::open()?;
        let kernel = Kernel::fetch(&cache)?;
        let image = self.image.build(&cache, &kernel)?;
        self.launch(&kernel, &image, RunDir::new()?)
    }

    /// Starts the guest with this kernel and image, in the given directory.
    pub(crate) fn launch(self, kernel: &Kernel, image: &Path, dir: RunDir) -> Result<Guest> {
        let console = dir.join("console.log");
        let line = Line::listen(dir.join("agent.sock"))?;
        let qemu = self.qemu.clone();
        let args = self.arguments(&kernel.image, image, &console, &line);
        let qemu = Arc::new(BareQemu::launch(&qemu, args, dir, Clock::Host)?);
        let shell = Shell::new(line.accept()?, console, Arc::clone(&qemu));
        Ok(Guest { shell, qemu })
    }

    fn arguments(self, kernel: &Path, image: &Path, console: &Path, line: &Line) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut pair = |name: &str, value: OsString| args.extend([name.into(), value]);
        pair("-machine", self.machine.into());
        pair("-cpu", self.cpu.into());
        pair("-m", self.memory_mib.to_string().into());
        pair("-smp", self.processors.to_string().into());
        pair("-kernel", kernel.into());
        pair("-initrd", image.into());
        pair("-append", format!("{QUICK}{}", self.append).into());
        let file = format!("file,id=console,append=on,path={}", console.display());
        pair("-chardev", file.into());
        pair("-serial", "chardev:console".into());
        pair("-chardev", line.chardev("agent").into());
        pair("-serial", "chardev:agent".into());
        args.push("-no-reboot".into());
        if self.nodefaults {
            args.push("-nodefaults".into());
        }
        args.extend(self.args);
        args
    }
}

/// A running guest, controlled through its [`Shell`]; killed on drop.
#[derive(Debug)]
pub struct Guest {
    shell: Shell,
    qemu: Arc<BareQemu>,
}

impl Guest {
    /// The default configuration.
    pub fn builder() -> GuestBuilder {
        GuestBuilder::default()
    }

    /// The guest's QEMU: its monitors, directory and process.
    pub fn qemu(&self) -> &BareQemu {
        &self.qemu
    }

    pub(crate) fn shared_qemu(&self) -> &Arc<BareQemu> {
        &self.qemu
    }

    /// The monitor for the code under test.
    pub fn qmp_socket(&self) -> &Path {
        self.qemu.qmp_socket()
    }

    /// A second monitor, for the test itself.
    pub fn spare_socket(&self) -> &Path {
        self.qemu.spare_socket()
    }

    /// Kills the guest, like a power failure.
    pub fn kill(&self) {
        self.qemu.kill();
    }
}

impl Deref for Guest {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.shell
    }
}

/// A serial line to the guest: a socket that the rig listens on before QEMU starts, so that none of
/// the guest's output is lost. QEMU connects to it.
#[derive(Debug)]
pub(crate) struct Line {
    listener: UnixListener,
    path: PathBuf,
}

impl Line {
    pub(crate) fn listen(path: PathBuf) -> Result<Self> {
        let listener = UnixListener::bind(&path).map_err(Error::io("listen on", &path))?;
        Ok(Self { listener, path })
    }

    /// The argument of QEMU's `-chardev`.
    pub(crate) fn chardev(&self, id: &str) -> String {
        format!("socket,id={id},path={}", self.path.display())
    }

    /// The connection from QEMU. To be called after QEMU has started, because it connects at
    /// startup.
    pub(crate) fn accept(self) -> Result<UnixStream> {
        let accept = || -> std::io::Result<UnixStream> {
            self.listener.set_nonblocking(true)?;
            let (stream, _) = self.listener.accept()?;
            stream.set_nonblocking(false)?;
            Ok(stream)
        };
        accept().map_err(Error::io("accept on", &self.path))
    }
}
