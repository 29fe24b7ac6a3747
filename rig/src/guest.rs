//! A guest: QEMU, Debian's kernel and the rig's image, with a shell to run commands in it.
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

use crate::agent::{Agent, Life, Output};
use crate::bare::BareQemu;
use crate::cache::Cache;
use crate::error::{Error, Result, Tail};
use crate::image::Image;
use crate::kernel::Kernel;
use crate::packages;
use crate::process::{Qemu, RunDir};
use crate::sysfs::{self, GuestPciDevice, GuestUsbDevice};
use std::ffi::OsString;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Parameters of the guest's kernel that only save time: no self tests, no defence against
/// attacks by processor, no waiting for a display. A panic ends QEMU (with `-no-reboot`).
const QUICK: &str = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr cryptomgr.notests \
                     audit=0 apparmor=0 random.trust_cpu=on rcupdate.rcu_expedited=1";

/// How long reading the guest's sysfs may take.
const SYSFS_LIMIT: Duration = Duration::from_secs(30);

/// How a guest is to be.
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

    /// Memory in MiB; 256 unless said. The kernel needs about 160.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Number of processors; 1 unless said, which boots fastest.
    pub fn processors(mut self, count: u32) -> Self {
        self.processors = count;
        self
    }

    /// Whether QEMU leaves out its default devices (network card, display, drives); true unless said.
    pub fn nodefaults(mut self, yes: bool) -> Self {
        self.nodefaults = yes;
        self
    }

    /// Further arguments of QEMU.
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Further parameters of the guest's kernel.
    pub fn append(mut self, parameters: &str) -> Self {
        self.append = format!("{} {parameters}", self.append);
        self
    }

    /// Another QEMU than the installed one.
    pub fn qemu(mut self, qemu: &Qemu) -> Self {
        self.qemu = qemu.clone();
        self
    }

    /// Another image than the default one: other modules, further files.
    pub fn image(mut self, image: Image) -> Self {
        self.image = image;
        self
    }

    /// Starts the guest. What is missing in packages and cache is fetched first.
    ///
    /// # Errors
    /// [`Error::Exited`] with QEMU's words if it does not like the arguments; errors of packages
    /// and downloads.
    pub fn start(self) -> Result<Guest> {
        packages::ensure()?;
        let cache = Cache::open()?;
        let kernel = Kernel::fetch(&cache)?;
        let image = self.image.build(&cache, &kernel)?;
        let dir = RunDir::new()?;
        let console = dir.join("console.log");
        let agent_socket = dir.join("agent.sock");
        // The rig listens and QEMU connects, so that not one byte of the guest's is lost.
        let listener = UnixListener::bind(&agent_socket);
        let listener = listener.map_err(Error::io("listen on", &agent_socket))?;
        let qemu = self.qemu.clone();
        let args = self.arguments(&kernel.image, &image, &console, &agent_socket);
        let qemu = BareQemu::launch(&qemu, args, dir)?;
        // QEMU has connected before its monitor answered.
        listener
            .set_nonblocking(true)
            .map_err(Error::io("use", &agent_socket))?;
        let (stream, _) = listener
            .accept()
            .map_err(Error::io("accept on", &agent_socket))?;
        stream
            .set_nonblocking(false)
            .map_err(Error::io("use", &agent_socket))?;
        Ok(Guest {
            qemu,
            agent: Mutex::new(Agent::new(stream)),
            console,
        })
    }

    fn arguments(self, kernel: &Path, image: &Path, console: &Path, agent: &Path) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut pair = |name: &str, value: OsString| args.extend([name.into(), value]);
        pair("-machine", self.machine.into());
        pair("-cpu", self.cpu.into());
        pair("-m", self.memory_mib.to_string().into());
        pair("-smp", self.processors.to_string().into());
        pair("-kernel", kernel.into());
        pair("-initrd", image.into());
        pair("-append", format!("{QUICK}{}", self.append).into());
        pair("-serial", format!("file:{}", console.display()).into());
        pair("-serial", format!("unix:{}", agent.display()).into());
        args.push("-no-reboot".into());
        if self.nodefaults {
            args.push("-nodefaults".into());
        }
        args.extend(self.args);
        args
    }
}

/// A running guest; killed on drop.
#[derive(Debug)]
pub struct Guest {
    qemu: BareQemu,
    agent: Mutex<Agent>,
    console: PathBuf,
}

impl Guest {
    /// Describes a guest.
    pub fn builder() -> GuestBuilder {
        GuestBuilder::default()
    }

    /// Waits until the drivers are loaded and the agent answers. Devices may still be appearing:
    /// wait for those with [`Guest::wait_until`]. Returns the seconds since the kernel's start.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Exited`]. To be called once.
    pub fn wait_booted(&self, limit: Duration) -> Result<f64> {
        self.agent().ready(limit, self)
    }

    /// Runs a shell command in the guest; the guest kills it at the limit (in whole seconds).
    /// A code other than 0 is no error here: see [`Output::ok`].
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Exited`], [`Error::Agent`].
    pub fn sh(&self, command: &str, limit: Duration) -> Result<Output> {
        self.agent().sh(command, limit, self)
    }

    /// Runs a shell condition in the guest, every tenth of a second, until it holds; returns what
    /// it then printed.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the end of the console if it never holds.
    pub fn wait_until(&self, condition: &str, limit: Duration) -> Result<String> {
        let script = format!(
            "until {{ {condition}\n}} >/tmp/.until 2>&1; do sleep 0.1; done; cat /tmp/.until"
        );
        self.sh(&script, limit)?.ok()
    }

    /// Everything on the guest's first serial port until now: the kernel's log.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The USB devices that the guest's kernel has, root hubs included.
    ///
    /// # Errors
    /// As [`Guest::sh`].
    pub fn usb_tree(&self) -> Result<Vec<GuestUsbDevice>> {
        Ok(sysfs::parse_usb(&self.sh("usb-tree", SYSFS_LIMIT)?.ok()?))
    }

    /// The PCI devices that the guest's kernel has.
    ///
    /// # Errors
    /// As [`Guest::sh`].
    pub fn pci_tree(&self) -> Result<Vec<GuestPciDevice>> {
        Ok(sysfs::parse_pci(&self.sh("pci-tree", SYSFS_LIMIT)?.ok()?))
    }

    /// The QEMU under the guest: its monitors, its folder, its process.
    pub fn qemu(&self) -> &BareQemu {
        &self.qemu
    }

    /// The monitor for what is being tested.
    pub fn qmp_socket(&self) -> PathBuf {
        self.qemu.qmp_socket()
    }

    /// A second monitor, for the test itself.
    pub fn spare_socket(&self) -> PathBuf {
        self.qemu.spare_socket()
    }

    /// Kills the guest, as a power failure does.
    pub fn kill(&self) {
        self.qemu.kill();
    }

    fn agent(&self) -> std::sync::MutexGuard<'_, Agent> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Life for Guest {
    fn check(&self, what: &str) -> Result<()> {
        self.qemu.check(what, || self.tail())
    }

    fn tail(&self) -> Tail {
        Tail::of(&self.console())
    }
}
