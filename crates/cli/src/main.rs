//! `vusb`: USB for virtual machines, from a shell.
//!
//! This crate has only arguments and words: the library [`vusb`] makes all decisions.
//!
//! ```text
//! arguments ─▶ run ─▶ vusb (the library) ─┬▶ Outcome, views ─▶ report, tables ─▶ screen ─▶ stdout
//!                                         └▶ Error ─▶ failure ─▶ stderr, exit code
//!                       notes and remedies ─▶ remedy (the words of the command line)
//! ```
//!
//! The JSON of each command is described in `docs/json.md`.

#![forbid(unsafe_code)]

mod arguments;
mod calls;
mod complete;
mod context;
mod domains;
mod failure;
mod help;
mod interrupt;
mod live;
mod man;
mod manager;
mod overview;
mod remedy;
mod report;
mod run;
mod safe;
mod screen;
mod shell;
mod tables;
mod web;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use tracing::Level;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::run::Done;
use crate::screen::Log;

/// The exit code of `vusb plan --exit-code` if there are changes.
const CHANGES: u8 = 2;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return invalid_arguments(error),
    };
    log(arguments.global.verbose);
    let json = arguments.global.json;
    match run::run(arguments) {
        Ok(Done::Success) => ExitCode::SUCCESS,
        // `diff --exit-code` returns 1, but here 1 means failure.
        Ok(Done::Changes) => CHANGES.into(),
        Ok(Done::Incomplete(kind)) => kind.code().into(),
        Err(failure) => failure.report(json),
    }
}

/// Prints the requested help, or what is wrong with the command line.
fn invalid_arguments(mut error: clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match error.print().and_then(|()| io::stdout().flush()) {
            // A reader that closed the pipe has read enough of the help.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Failure::Output(error).report(false)
            }
            _ => ExitCode::SUCCESS,
        };
    }
    let json = wants_json(std::env::args_os());
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !json {
        // A command without a subcommand gets the whole help.
        screen::print_to_stderr(error.render().to_string().trim_end());
        return vusb::ExitCode::Usage.code().into();
    }
    let advice = other_verb(&error);
    if advice.is_some() {
        // clap suggests a command that is spelled like the other tool's verb, such as `watch` for
        // `attach`.
        error.remove(ContextKind::SuggestedSubcommand);
    }
    let text = error.render().to_string();
    Failure::Usage(match advice {
        Some(advice) => {
            let (problem, usage) = text.split_once('\n').unwrap_or((&text, ""));
            format!("{problem}\n\n  tip: {advice}\n\n{}", usage.trim_start())
        }
        None => text,
    })
    .report(json)
}

/// The command of vusb for another tool's verb.
fn other_verb(error: &clap::Error) -> Option<&'static str> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let of_domain = error.render().to_string().contains("Usage: vusb domain");
    Some(match word.as_str() {
        "remove" | "delete" | "del" | "rm" if of_domain => "write `vusb domain forget DOMAIN`",
        "add" | "attach" | "attach-device" | "plug" | "create" | "usb-attach" | "usbdev-attach"
        | "device_add" => "write `vusb device add DOMAIN DEVICE`",
        "remove" | "detach" | "detach-device" | "unplug" | "delete" | "del" | "rm"
        | "usb-detach" | "usbdev-detach" | "device_del" => {
            "write `vusb device remove DOMAIN DEVICE`"
        }
        "move" | "mv" => "write `vusb device move DOMAIN DEVICE --port P`",
        "usbctrl-attach" => "write `vusb controller add DOMAIN`",
        "usbctrl-detach" => "write `vusb controller remove DOMAIN CONTROLLER`",
        "usb-list" | "lsusb" | "devices" => "write `vusb host list` or `vusb list DOMAIN`",
        _ => return None,
    })
}

/// Whether `--json` is among arguments that clap could not parse.
fn wants_json(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.take_while(|it| it != "--").any(|it| it == "--json")
}

/// Logs to standard error, with `-v` or more.
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
