//! The command `vusb-backend`: arguments, the log, and giving root up.

#![forbid(unsafe_code)]

use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use tracing::error;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use vusb_host::Host;
use vusb_xen::grant::Grants;
use vusb_xen::store::Store;

use vusb_backend::lend::Lender;
use vusb_backend::opener::{self, Item, Opener};
use vusb_backend::supervisor::{Means, Supervisor};

/// Carries USB devices of this domain to Xen guests (PVUSB).
///
/// Run it in every domain whose USB devices are to be lent: domain 0, or a driver domain. It serves all controllers that `vusb controller add` has
/// made with this domain as their backend, and needs no configuration. It ends in good order on SIGTERM and SIGINT: guests lose their controllers,
/// and devices go back to their drivers.
///
/// Needs the kernel modules xen-evtchn and xen-gntdev.
#[derive(Debug, Parser)]
#[command(name = "vusb-backend", version)]
struct Arguments {
    /// Do all work as this user; root's part is to open devices, and nothing else
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Say more; twice: everything. The variable RUST_LOG says it more finely
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// The other end of the opener is on standard input
    #[arg(long, hide = true)]
    opener_on_stdin: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log(arguments.verbose);
    let result = match &arguments.user {
        Some(user) if !arguments.opener_on_stdin => as_user(user, arguments.verbose),
        _ => serve(arguments.opener_on_stdin).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        error!("{error}");
        ExitCode::FAILURE
    })
}

fn log(verbose: u8) {
    let default = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // Not `EnvFilter`: it brings regular expressions, which were more than a quarter of this program's code.
    let said = std::env::var("RUST_LOG").ok().and_then(|it| it.parse::<Targets>().ok());
    let filter = said.unwrap_or_else(|| Targets::new().with_default(default));
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    // The journal has its own clock and no colours.
    let log = if io::stderr().is_terminal() {
        log.boxed()
    } else {
        log.without_time().with_ansi(false).boxed()
    };
    tracing_subscriber::registry().with(log.with_filter(filter)).init();
}

type Failure = Box<dyn std::error::Error>;

/// Root's part: starts the rest as another user, and opens devices for it until it ends.
fn as_user(user: &str, verbose: u8) -> Result<ExitCode, Failure> {
    let (uid, gid) = opener::user(user)?;
    let (ours, theirs) = opener::channel()?;
    let mut child = {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--opener-on-stdin").args(std::iter::repeat_n("--verbose", verbose.into()));
        command.uid(uid).gid(gid).stdin(Stdio::from(theirs));
        // The other end goes with the command: as long as it is open here, nobody learns that the other process has ended.
        command.spawn()?
    };
    pass_signals_on(child.id())?;
    opener::serve(&ours);
    let status = child.wait()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// This process ends when the other has. What is to end it is told to the other.
fn pass_signals_on(child: u32) -> io::Result<()> {
    let mut signals = signals()?;
    let child = i32::try_from(child).ok().and_then(Pid::from_raw);
    let pass_on = move || {
        while signals.read(&mut [0]).is_ok_and(|count| count > 0) {
            if let Some(child) = child {
                let _ = kill_process(child, Signal::TERM);
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(pass_on).map(drop)
}

/// Becomes readable when the process is to end.
fn signals() -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    Ok(ours)
}

fn serve(through_opener: bool) -> Result<(), Failure> {
    let opener_end =
        through_opener.then(|| io::stdin().as_fd().try_clone_to_owned()).transpose()?;
    let stop = signals()?;
    let opener = match &opener_end {
        Some(end) => Opener::Through(Arc::new(end.try_clone()?)),
        None => Opener::Here,
    };
    let mut store = Store::from_fd(opener.open(Item::Store)?)?;
    let us = store.own_domain()?;
    let grants = Grants::from_fd(opener.open(Item::Grants)?);
    let lender = Lender { host: Host::system(), opener, version: 2 };
    let means = Means { store, us, grants, lender, stop, opener: opener_end };
    Supervisor::new(means)?.run()?;
    Ok(())
}
