//! QEMU as a process that cannot outlive its test.
//!
//! It is killed when its handle is dropped, and, should the test itself be killed, by the kernel:
//! `setpriv --pdeathsig` of util-linux asks for that. The kernel counts the death of the *thread*
//! that started a process, and a test's thread ends before the program does; hence one thread that
//! starts all of them and never ends.

use crate::command;
use crate::error::{Error, Result, Tail};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A QEMU that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    program: PathBuf,
}

impl Qemu {
    /// The one that `VUSB_QEMU` names, else the installed one.
    pub fn installed() -> Self {
        let program = std::env::var_os("VUSB_QEMU").unwrap_or("qemu-system-x86_64".into());
        Self { program: program.into() }
    }

    /// The one at a path.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// What is run.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its version, like `7.2.22`.
    ///
    /// # Errors
    /// [`Error::Command`] if it does not run.
    pub fn version(&self) -> Result<String> {
        let mut ask = Command::new(&self.program);
        ask.arg("--version");
        let text = command::finish(ask)?;
        let number = text.split_whitespace().skip_while(|word| *word != "version").nth(1);
        Ok(number.unwrap_or("unknown").to_owned())
    }
}

/// A folder of one run: sockets, consoles. Deleted at the end unless `VUSB_RIG_KEEP` is set.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    _delete: Option<tempfile::TempDir>,
}

impl RunDir {
    pub(crate) fn new() -> Result<Self> {
        // Short: the path of a Unix socket has at most 107 bytes.
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
    /// Starts QEMU; its standard error goes to `qemu.log` in the run's folder.
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

    /// The process's number on this machine.
    pub(crate) fn id(&self) -> u32 {
        self.child().id()
    }

    /// Its standard error.
    pub(crate) fn log(&self) -> &Path {
        &self.stderr
    }

    /// An error if QEMU has ended; `what` says what it is needed for.
    pub(crate) fn check(&self, what: &str, tail: impl FnOnce() -> Tail) -> Result<()> {
        match self.child().try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.exited(what, status.to_string(), tail())),
            Err(error) => Err(self.exited(what, error.to_string(), tail())),
        }
    }

    /// Kills it, if it still runs, and waits until it is gone.
    pub(crate) fn kill(&self) {
        let mut child = self.child();
        // Both fail only for a process that has ended already.
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

/// A command to start, and where to send the child.
type Order = (Command, SyncSender<io::Result<Child>>);

/// Starts a command from the thread that never ends.
fn spawn(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                // Nobody waits any more: the child is killed by its handle's owner, which is this.
                if let Err(unsent) = reply.send(command.spawn())
                    && let Ok(mut child) = unsent.0
                {
                    let _ = child.kill();
                }
            }
        });
        Mutex::new(orders)
    });
    let gone = || io::Error::other("the thread that starts processes has ended");
    let (reply, result) = sync_channel(1);
    let orders = starter.lock().unwrap_or_else(PoisonError::into_inner);
    orders.send((command, reply)).map_err(|_| gone())?;
    drop(orders);
    result.recv().map_err(|_| gone())?
}
