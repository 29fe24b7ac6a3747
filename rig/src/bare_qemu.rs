//! QEMU without a guest: stopped before its first instruction (`-S`), with working monitors. It
//! starts in a fraction of a second, for tests that need QEMU's devices but no kernel that uses
//! them.

use crate::error::{Error, Result, Tail};
use crate::monitor::Monitor;
use crate::process::{Process, Qemu, RunDir};
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long QEMU may take until its monitor responds: 0.1 s on an idle machine, far longer on a
/// busy one.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long one command of the rig's own monitor may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// The monitors of every QEMU: for the code under test, for the test itself, for the rig.
const MONITORS: [&str; 3] = ["qmp", "spare", "rig"];

/// The clock of the emulated machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The time of this machine. Emulated processors run in parallel.
    #[default]
    Host,
    /// The number of instructions that were executed: one takes 1 ns, and idle time is skipped. The
    /// processors take turns. Independent of what else this machine does.
    Instructions,
}

impl Clock {
    /// QEMU's arguments.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Clock::Host => &["-accel", "tcg,thread=multi"],
            Clock::Instructions => &["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"],
        }
    }
}

/// A running QEMU with its monitors; killed on drop.
#[derive(Debug)]
pub struct BareQemu {
    // Dropped in this order: first the process, then the directory with its sockets.
    process: Process,
    monitor: Mutex<Monitor>,
    qmp: PathBuf,
    spare: PathBuf,
    dir: RunDir,
}

impl BareQemu {
    /// The installed QEMU, stopped, with these arguments in addition to `-S`, the monitors and
    /// `-display none`. Pass `-machine` and `-nodefaults` if they matter.
    ///
    /// # Errors
    /// [`Error::Exited`] with QEMU's message if it rejects the arguments.
    pub fn start<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Result<Self> {
        Self::start_with(&Qemu::installed(), args)
    }

    /// [`BareQemu::start`] with another QEMU.
    ///
    /// # Errors
    /// As [`BareQemu::start`].
    pub fn start_with<S: Into<OsString>>(
        qemu: &Qemu,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        crate::packages::ensure()?;
        let stopped = [OsString::from("-S")];
        let args = stopped.into_iter().chain(args.into_iter().map(Into::into)).collect();
        Self::launch(qemu, args, RunDir::new()?, Clock::Host)
    }

    /// Starts QEMU in an existing directory and waits for its monitor.
    pub(crate) fn launch(
        qemu: &Qemu,
        args: Vec<OsString>,
        dir: RunDir,
        clock: Clock,
    ) -> Result<Self> {
        let mut all = args;
        all.extend(["-display", "none", "-monitor", "none"].map(OsString::from));
        all.extend(clock.arguments().iter().map(OsString::from));
        for name in MONITORS {
            let path = dir.join(&format!("{name}.sock"));
            let path = path.display();
            all.push("-chardev".into());
            all.push(format!("socket,id=mon-{name},path={path},server=on,wait=off").into());
            all.push("-mon".into());
            all.push(format!("chardev=mon-{name},mode=control").into());
        }
        let process = Process::start(qemu, &all, &dir)?;
        let monitor = Mutex::new(wait_for_monitor(&process, &dir.join("rig.sock"))?);
        let (qmp, spare) = (dir.join("qmp.sock"), dir.join("spare.sock"));
        Ok(Self { process, monitor, qmp, spare, dir })
    }

    /// The monitor for the code under test. A monitor serves one client at a time.
    pub fn qmp_socket(&self) -> &Path {
        &self.qmp
    }

    /// A second monitor, for the test itself.
    pub fn spare_socket(&self) -> &Path {
        &self.spare
    }

    /// Runs a command on the rig's own, third monitor.
    ///
    /// # Errors
    /// [`Error::Monitor`] with QEMU's message if it fails, [`Error::Timeout`].
    pub fn qmp(&self, command: &str, arguments: Value) -> Result<Value> {
        self.monitor().execute(command, arguments, COMMAND_LIMIT)
    }

    /// Waits on the rig's own monitor for an event whose `data` is `wanted`. An event that was
    /// already received counts too.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Monitor`] if QEMU ends.
    pub fn wait_event(
        &self,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
        limit: Duration,
    ) -> Result<Value> {
        self.monitor().wait_event(name, wanted, limit)
    }

    /// The directory of this run, with `qemu.log`, sockets and consoles. Tests may create files in
    /// it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// QEMU's own messages, and its trace events.
    pub(crate) fn log(&self) -> &Path {
        self.process.log()
    }

    /// The process ID of QEMU.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills QEMU with SIGKILL and waits until it has ended.
    pub fn kill(&self) {
        self.process.kill();
    }

    pub(crate) fn check(&self, what: &str, tail: impl FnOnce() -> Tail) -> Result<()> {
        self.process.check(what, tail)
    }

    fn monitor(&self) -> std::sync::MutexGuard<'_, Monitor> {
        self.monitor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects as soon as the socket exists. Fails if QEMU ends first.
fn wait_for_monitor(process: &Process, socket: &Path) -> Result<Monitor> {
    let deadline = Instant::now() + START_LIMIT;
    while !socket.exists() {
        process.check("its monitor was ready", Tail::default)?;
        if Instant::now() > deadline {
            let what = "QEMU monitor".to_owned();
            return Err(Error::Timeout { what, limit: START_LIMIT, tail: Tail::default() });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Monitor::connect(socket, START_LIMIT).map_err(|error| {
        // QEMU creates its sockets before it parses the rest of its arguments. If it rejects those,
        // its message is more useful than the error of the closed socket.
        std::thread::sleep(Duration::from_millis(500));
        let ended = process.check("its monitor responded", Tail::default);
        ended.err().unwrap_or(error)
    })
}
