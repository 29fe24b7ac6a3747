//! `vusb`: USB for virtual machines, from a shell.
//!
//! Arguments and words only: what is done is decided in the library [`vusb`]. What each command takes is in its `--help`.
//!
//! ```text
//! arguments ──▶ run ──▶ vusb (the library) ──▶ Outcome, views ──▶ report, tables ──▶ screen ──▶ standard output
//!                                         └──▶ Error ──▶ failure ──▶ standard error, exit code
//! ```
//!
//! # JSON
//!
//! With `--json` every command prints one object on standard output, on one line, with `"api": 1`. While that is 1, no key is
//! taken away or given another meaning; new ones may come. A key that has no value is left out unless it says otherwise.
//!
//! | command | keys |
//! |---|---|
//! | `controller add`, `remove`, `device add`, `remove`, `apply` | `domain`, `already` (it was so: nothing was done), `dry_run`, `name` and `at` of what was added or removed (`hci0`, `hci0:1`), `added_controllers` (names of those that nobody asked for), `steps` (sentences), `notes` (sentences) |
//! | `plan` | the same, and `fresh` (it is for a guest that is yet to be started, and `domain` may be left out), `controllers`: the whole hardware afterwards, each with `index`, `name`, `type`, `model`, `usbversion`, `ports`, `companions` (each `model`, `first_port`, `function`), `devices` (each `bus`, `port`, `name`, `kind` and what that kind has) |
//! | `list DOMAIN` | `domain`, `address`, `profile`, `controllers` (each with its `devices`, for pv its `backend` if that is not domain 0, and `counters`: `requests`, `bytes_in`, `bytes_out`, `errors`, `in_flight`), `foreign`, `notes` |
//! | `list` | `domains` (each as above), `unreachable` (each `domain`, `why`, `holds`, and `controllers` as they are on record) |
//! | `controller list` | `domain`, `address`, `controllers` (without devices) |
//! | `device list` | `domain`, `address`, `devices` (each with `at`, `bus`, `controller` too) |
//! | `host list` | `backend` (with `--backend`), `devices` (each `busid`, `at`, `id`, `serial`, `vendor`, `product`, `speed`, `path`, `hub`, `protected`, `holder`), `notes` |
//! | `models` | `here`: `qemu` and `xen`, each `there`, `what`; `models`: each `name`, `aliases`, `type`, `usbversion`, `ports` (`least`, `most`), `speeds`, `qemu`, `xen`, `hot` and `xen_hot` (may be null), `names` (`qemu`, `libxl` with `type` and `version`, `libvirt`, `vmware`, `virtualbox`, each may be null), `here` (`qemu`, `xen`: `hot`, `cold`, `no`, or null) |
//! | `digest` | `digest`, `pci` |
//! | `convert` | `format` (what it was written for), `text` (the whole file), `lost` (sentences: what that format cannot say, with `--lossy`) |
//! | `qemu-args` | `arguments`: an array of strings |
//! | `completions` | `shell`, `script` |
//! | an error | `error`: `code` (the exit code), `kind`, `message`, `hints`; and `failed` (`step`, `undone`, `not_undone`) where a change failed halfway |
//!
//! `kind` is one of `failed` (1), `usage` (2), `not-found` (3), `busy` (4), `policy` (5), `no-room` (6), `unreachable` (7),
//! `timed-out` (8), `not-implemented` (9).

#![forbid(unsafe_code)]

mod arguments;
mod failure;
mod help;
mod report;
mod run;
mod safe;
mod screen;
mod shell;
mod tables;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tracing::Level;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::screen::Log;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return not_understood(&error),
    };
    log(arguments.everywhere.verbose);
    let json = arguments.everywhere.json;
    match run::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

/// Shows the help that was asked for, or says what is wrong with the command line.
fn not_understood(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match error.print().and_then(|()| io::stdout().flush()) {
            // A reader that went away has read enough of the help.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Failure::Output(error).report(false)
            }
            _ => ExitCode::SUCCESS,
        };
    }
    let json = wants_json(std::env::args_os());
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !json {
        // Nothing was asked for: what can be is the answer, and all of it.
        screen::complain(error.render().to_string().trim_end());
        return vusb::ExitCode::Usage.code().into();
    }
    Failure::Usage(error.render().to_string()).report(json)
}

/// Whether `--json` is among the arguments, which cannot be understood as a whole.
fn wants_json(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.take_while(|it| it != "--").any(|it| it == "--json")
}

/// Lets the log be seen, as much of it as was asked for.
fn log(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => Level::INFO,
        2 => Level::DEBUG,
        _ => Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .without_time()
        .with_writer(|| Log)
        .init();
}
