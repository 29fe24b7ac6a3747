//! QEMU as a process that cannot outlive its test.
//!
//! It is killed when its handle is dropped. If the test itself is killed, the kernel kills QEMU,
//! because it is started with `setpriv --pdeathsig` of util-linux. The kernel does that when the
//! *thread* that started a process ends, and a test's thread ends before the test program. So one
//! thread that never ends starts all processes.

use crate::command;
use crate::error::{Error, Result, Tail};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SendError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A QEMU that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    program: PathBuf,
}

impl Qemu {
    /// The QEMU in `VUSB_QEMU`, by default the installed one.
    pub fn installed() -> Self {
        let program = std::env::var_os("VUSB_QEMU").unwrap_or("qemu-system-x86_64".into());
        Self { program: program.into() }
    }

    /// The QEMU at this path.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// The path or name of the program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its version, like `7.2.22`.
    ///
    /// # Errors
    /// [`Error::Command`] if it does not run.
    pub fn version(&self) -> Result<String> {
        let mut version = Command::new(&self.program);
        version.arg("--version");
        let text = command::finish(version)?;
        let number = text.split_whitespace().skip_while(|word| *word != "version").nth(1);
        Ok(number.unwrap_or("unknown").to_owned())
    }
}

/// The directory of one run, for sockets and consoles. Deleted on drop unless `VUSB_RIG_KEEP` is
/// set.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    _delete: Option<tempfile::TempDir>,
}

impl RunDir {
    pub(crate) fn new() -> Result<Self> {
        // A short name, because the path of a Unix socket has at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("vusb-rig-").tempdir();
        let dir = dir.map_err(Error::io("make a folder in", &std::env::temp_dir()))?;
        if std::env::var_os("VUSB_RIG_KEEP").is_some() {
            let path = dir.keep();
            eprintln!("vusb-rig: kept {}", path.display());
            return Ok(Self { path, _delete: None });
        }
        Ok(Self { path: dir.path().to_path_buf(), _delete: Some(dir) })
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A running QEMU; killed on drop.
#[derive(Debug)]
pub(crate) struct Process {
    child: Mutex<Child>,
    stderr: PathBuf,
}

impl Process {
    /// Starts QEMU. Its standard error is `qemu.log` in the run's directory.
    pub(crate) fn start(qemu: &Qemu, args: &[OsString], dir: &RunDir) -> Result<Self> {
        let stderr = dir.join("qemu.log");
        let log = File::create(&stderr).map_err(Error::io("create", &stderr))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&qemu.program).args(args);
        command.current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = spawn(command).map_err(Error::io("start", &qemu.program))?;
        Ok(Self { child: Mutex::new(child), stderr })
    }

    /// The process ID.
    pub(crate) fn id(&self) -> u32 {
        self.child().id()
    }

    /// Its standard error.
    pub(crate) fn log(&self) -> &Path {
        &self.stderr
    }

    /// Returns an error if QEMU has ended. `what` says what it was needed for.
    pub(crate) fn check(&self, what: &str, tail: impl FnOnce() -> Tail) -> Result<()> {
        match self.child().try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.exited(what, status.to_string(), tail())),
            Err(error) => Err(self.exited(what, error.to_string(), tail())),
        }
    }

    /// Kills QEMU if it is running, and waits until it has ended.
    pub(crate) fn kill(&self) {
        let mut child = self.child();
        // Both fail only if the process has already ended.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn exited(&self, what: &str, status: String, tail: Tail) -> Error {
        let stderr = std::fs::read_to_string(&self.stderr).unwrap_or_default();
        Error::Exited { what: what.to_owned(), status, stderr, tail }
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command to start, and the channel for the child.
type StartRequest = (Command, SyncSender<io::Result<Child>>);

/// Starts a command on the thread that never ends.
fn spawn(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Mutex<Sender<StartRequest>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (requests, inbox) = channel::<StartRequest>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                // The caller is gone, so this thread owns the child.
                if let Err(SendError(Ok(mut child))) = reply.send(command.spawn()) {
                    let _ = child.kill();
                }
            }
        });
        Mutex::new(requests)
    });
    let gone = || io::Error::other("the thread that starts processes has ended");
    let (reply, result) = sync_channel(1);
    let requests = starter.lock().unwrap_or_else(PoisonError::into_inner);
    requests.send((command, reply)).map_err(|_| gone())?;
    drop(requests);
    result.recv().map_err(|_| gone())?
}
