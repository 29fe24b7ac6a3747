//! The program `vusb-backend`: arguments, logging, and dropping root privileges.

#![forbid(unsafe_code)]

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use tracing::error;
use vusb_host::Host;
use vusb_xen::grant::Grants;
use vusb_xen::store::Store;

use vusb_backend::device_jobs::JobRunner;
use vusb_backend::opener::{self, Item, Opener, XenFiles};
use vusb_backend::polling;
use vusb_backend::supervisor::{Resources, Supervisor};

/// Exports USB devices of this domain to Xen guests (PVUSB).
///
/// Run it in every domain whose USB devices guests may use: domain 0, or a driver domain. It serves
/// all controllers that `vusb controller add` created with this domain as the backend, and needs no
/// configuration. On SIGTERM and SIGINT it shuts down cleanly: guests lose their controllers, and
/// devices return to their drivers.
///
/// Needs the kernel modules xen-evtchn and xen-gntdev.
#[derive(Debug, Parser)]
#[command(name = "vusb-backend", version)]
struct Arguments {
    /// Run as this user; a separate process keeps root privileges and only opens device files
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Look for a guest's next request for a moment before sleeping: adaptive (while it saves as
    /// much processor time as it costs; each time for at most 200 microseconds), off, or another
    /// number of microseconds, at most 1000
    #[arg(long, value_name = "adaptive|off|MICROSECONDS", default_value = "adaptive")]
    spin: polling::Setting,
    /// Log more (-v: debug, -vv: trace); RUST_LOG allows finer control
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Use the files in this folder instead of Xen's devices and xenstored (for tests)
    #[arg(long, value_name = "DIR", hide = true)]
    xen_files: Option<PathBuf>,
    /// Look for USB devices below this folder instead of / (for tests)
    #[arg(long, value_name = "DIR", hide = true)]
    host_root: Option<PathBuf>,
    /// Standard input is the socket of the process that opens files
    #[arg(long, hide = true)]
    opener_on_stdin: bool,
}

impl Arguments {
    fn xen_files(&self) -> XenFiles {
        self.xen_files.clone().map_or(XenFiles::System, XenFiles::Folder)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    vusb_log::init(arguments.verbose);
    let result = match &arguments.user {
        Some(user) if !arguments.opener_on_stdin => as_user(user, &arguments),
        _ => serve(&arguments).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        error!("{error}");
        ExitCode::FAILURE
    })
}

type Failure = Box<dyn std::error::Error>;

/// The privileged part: starts the rest as another user, and opens files for it until it ends.
fn as_user(user: &str, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (uid, gid) = opener::user(user)?;
    let (ours, theirs) = opener::channel()?;
    let mut child = {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--opener-on-stdin");
        command.args(std::iter::repeat_n("--verbose", arguments.verbose.into()));
        command.arg("--spin").arg(arguments.spin.to_string());
        command.args(arguments.host_root.iter().flat_map(|it| [Path::new("--host-root"), it]));
        command.uid(uid).gid(gid).stdin(Stdio::from(theirs));
        // Dropping `command` here closes this process's copy of the child's end of the socket.
        // While a copy is open, it would go unnoticed that the child has ended.
        command.spawn()?
    };
    forward_signals(child.id())?;
    opener::serve(&ours, &arguments.xen_files());
    let status = child.wait()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Forwards requests to stop to the child. This process ends after the child.
fn forward_signals(child: u32) -> io::Result<()> {
    let mut signals = signals()?;
    let child = i32::try_from(child).ok().and_then(Pid::from_raw);
    let forward = move || {
        while signals.read(&mut [0]).is_ok_and(|count| count > 0) {
            if let Some(child) = child {
                let _ = kill_process(child, Signal::TERM);
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(forward).map(drop)
}

/// A socket that becomes readable when the process should stop.
fn signals() -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    Ok(ours)
}

fn serve(arguments: &Arguments) -> Result<(), Failure> {
    let opener_end =
        arguments.opener_on_stdin.then(|| io::stdin().as_fd().try_clone_to_owned()).transpose()?;
    let stop = signals()?;
    let opener = match &opener_end {
        Some(end) => Opener::Remote(Arc::new(end.try_clone()?)),
        None => Opener::Direct(arguments.xen_files()),
    };
    let mut store = Store::from_fd(opener.open(Item::Store)?)?;
    let us = store.own_domain()?;
    let grants = Grants::from_fd(opener.open(Item::Grants)?);
    let host = arguments.host_root.as_ref().map_or_else(Host::system, Host::new);
    let jobs = JobRunner { host, opener, version: 2 };
    let resources =
        Resources { store, us, grants, jobs, polling: arguments.spin, stop, opener: opener_end };
    Supervisor::new(resources)?.run()?;
    Ok(())
}
