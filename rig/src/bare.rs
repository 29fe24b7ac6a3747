//! QEMU without a guest: stopped before its first instruction (`-S`), with monitors that answer.
//! Starts in a fraction of a second, for tests that need QEMU's devices but no kernel to use them.

use crate::error::{Error, Result, Tail};
use crate::monitor::Monitor;
use crate::process::{Process, Qemu, RunDir};
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long QEMU may take until its monitor answers. It takes 0.1 s; a busy machine far longer.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long one command of the rig's own monitor may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// The monitors of every QEMU here: for what is tested, for the test itself, for the rig.
const MONITORS: [&str; 3] = ["qmp", "spare", "rig"];

/// A running QEMU with its monitors; killed on drop.
#[derive(Debug)]
pub struct BareQemu {
    // Dropped in this order: first the process, then the folder with its sockets.
    process: Process,
    monitor: Mutex<Monitor>,
    qmp: PathBuf,
    spare: PathBuf,
    dir: RunDir,
}

impl BareQemu {
    /// The installed QEMU, stopped, with exactly these arguments besides `-S`, the monitors and
    /// `-display none`. Give `-machine` and `-nodefaults` yourself where they matter.
    ///
    /// # Errors
    /// [`Error::Exited`] with QEMU's words if it does not like the arguments.
    pub fn start<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Result<Self> {
        Self::start_with(&Qemu::installed(), args)
    }

    /// [`BareQemu::start`] with a QEMU of choice.
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
        Self::launch(qemu, args, RunDir::new()?)
    }

    /// Starts QEMU in a folder that is there already and waits for its monitor.
    pub(crate) fn launch(qemu: &Qemu, args: Vec<OsString>, dir: RunDir) -> Result<Self> {
        let mut all = args;
        all.extend(["-display", "none", "-monitor", "none", "-accel"].map(OsString::from));
        all.push("tcg,thread=multi".into());
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

    /// The monitor for what is being tested. A monitor serves one client at a time.
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
    /// [`Error::Monitor`] with QEMU's words if it refuses.
    pub fn qmp(&self, command: &str, arguments: Value) -> Result<Value> {
        self.monitor().execute(command, arguments, COMMAND_LIMIT)
    }

    /// Waits on the rig's own monitor for an event whose `data` passes the test, or takes one that
    /// came since the start.
    ///
    /// # Errors
    /// [`Error::Timeout`].
    pub fn wait_event(
        &self,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
        limit: Duration,
    ) -> Result<Value> {
        self.monitor().wait_event(name, wanted, limit)
    }

    /// The run's folder: `qemu.log`, sockets, consoles. A place for a test's own files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What QEMU itself said, and what it was told to trace.
    pub(crate) fn log(&self) -> &Path {
        self.process.log()
    }

    /// The number of QEMU's process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills QEMU, as `kill -9` does, and waits until it is gone.
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

/// Connects as soon as the socket is there, unless QEMU ends first.
fn wait_for_monitor(process: &Process, socket: &Path) -> Result<Monitor> {
    let deadline = Instant::now() + START_LIMIT;
    while !socket.exists() {
        process.check("its monitor was there", Tail::default)?;
        if Instant::now() > deadline {
            let what = "monitor of QEMU".to_owned();
            return Err(Error::Timeout { what, limit: START_LIMIT, tail: Tail::default() });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Monitor::connect(socket, START_LIMIT).map_err(|error| {
        // QEMU makes its sockets first and reads the rest of its arguments then. Where it ends
        // over those, its own words say more than the closed socket.
        std::thread::sleep(Duration::from_millis(500));
        let ended = process.check("its monitor answered", Tail::default);
        ended.err().unwrap_or(error)
    })
}
