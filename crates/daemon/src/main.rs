//! The program `vusbd`: arguments and logging.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tracing::error;
use vusb::drivers::Locations;
use vusb::{Context, Host, Registry, StateDir};
use vusb_daemon::daemon::{Listen, Settings, run};
use vusb_daemon::request;

/// Gives guests their USB devices back, and follows the rules.
///
/// What a guest was given comes back when the device is plugged in again, and when the guest or
/// this machine is started again. Rules say which guest gets a new device: see `vusb rules --help`.
/// A device that is detached by hand stays detached until it is plugged in again.
///
/// On SIGHUP the rules are read again; if they have a mistake, the old ones stay in force.
#[derive(Debug, Parser)]
#[command(name = "vusbd", version)]
struct Arguments {
    /// The folder of the records [default: /var/lib/vusb]
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vusb")]
    state_dir: PathBuf,
    /// Read the rules from DIR, or from a file; may be repeated [default: /usr/lib/vusb/rules.d and
    /// /etc/vusb/rules.d]
    #[arg(long, value_name = "DIR")]
    rules: Vec<PathBuf>,
    /// Accept calls of other programs at SOCKET [default: no socket]
    #[arg(long, value_name = "SOCKET")]
    listen: Option<PathBuf>,
    /// Make the vusbd that listens at SOCKET read its rules again, and exit. Fails if the rules
    /// have a mistake
    #[arg(long, value_name = "SOCKET", conflicts_with = "listen")]
    reload: Option<PathBuf>,
    /// Write metrics for a monitoring system to FILE, in the text format of Prometheus, a few
    /// seconds after a change
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Start PROGRAM for each question, with its number, the port of the device and the domains as
    /// arguments; it may call `vusb answer`
    #[arg(long, value_name = "PROGRAM")]
    question_command: Option<PathBuf>,
    /// Also watch DIR for guests: their QMP sockets, for example; may be repeated. The folders of
    /// recorded guests are watched in any case
    #[arg(long, value_name = "SCHEME:DIR", value_parser = folder)]
    guests: Vec<(String, PathBuf)>,
    /// Log more (-v: debug, -vv: trace); RUST_LOG allows finer control
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Read sysfs and procfs below DIR, at the start and on SIGHUP
    #[arg(long, value_name = "DIR", hide = true)]
    host_root: Option<PathBuf>,
    /// Keep the claims in DIR, by default `run/vusb/claims` below the root of the host
    #[arg(long, value_name = "DIR", hide = true)]
    claims_dir: Option<PathBuf>,
}

/// Reads `qemu:/run/vms`.
fn folder(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once(':') {
        Some((scheme, path)) if path.starts_with('/') => Ok((scheme.to_owned(), path.into())),
        _ => Err("write a scheme and an absolute path: qemu:/run/vms".to_owned()),
    }
}

/// Carries out `--reload`, which `systemctl reload` runs. Its output goes to the journal of the
/// unit.
fn reload(socket: &Path) -> ExitCode {
    match request::reload(socket) {
        Ok(warnings) => {
            warnings.iter().for_each(|it| eprintln!("warning: {it}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = vusb_log::init(arguments.verbose);
    if let Some(socket) = &arguments.reload {
        return reload(socket);
    }
    let host = arguments.host_root.as_ref().map_or_else(Host::system, Host::new);
    let registry = Registry::builtin(Locations::from(host.clone()));
    let mut context = Context::new(StateDir::new(&arguments.state_dir), host, registry);
    if let Some(claims) = &arguments.claims_dir {
        context = context.with_claims_in(claims);
    }
    if !arguments.rules.is_empty() {
        context = context.with_rules_in(arguments.rules.clone());
    }
    let simulated = arguments.host_root.is_some();
    let Arguments { guests, listen, metrics, question_command, .. } = arguments;
    let passed = listenfd::ListenFd::from_env().take_unix_listener(0);
    let listen = match passed {
        Ok(Some(listener)) => Some(Listen::Passed(listener)),
        Ok(None) => listen.map(Listen::At),
        Err(error) => {
            error!("the descriptor that systemd has passed is not a socket: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(Settings { context, simulated, guests, listen, metrics, question_command, log }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}
