//! Running programs of this machine to completion. If they fail, the error contains their output.

use crate::error::{Error, Result};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a program to completion and returns its standard output.
///
/// # Errors
/// [`Error::Command`] if it does not start or its exit code is not 0.
pub fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    finish(command)
}

/// Like [`run`], in a directory.
///
/// # Errors
/// As [`run`].
pub fn run_in<S: AsRef<OsStr>>(dir: &Path, program: &str, args: &[S]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::null());
    finish(command)
}

/// Runs a prepared command to completion and returns its standard output.
///
/// # Errors
/// As [`run`].
pub fn finish(mut command: Command) -> Result<String> {
    // Messages that are parsed must not depend on the user's language.
    command.env("LC_ALL", "C");
    let line = describe(&command);
    let out = command.output().map_err(|e| Error::Command {
        command: line.clone(),
        status: format!("cannot start: {e}"),
        output: String::new(),
    })?;
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&out.stderr);
    Err(Error::Command { command: line, status: out.status.to_string(), output: stdout + &stderr })
}

/// A program that needs root privileges: started through sudo if this process is not root.
pub fn as_root(program: &str) -> Command {
    // The directory of a process belongs to its user.
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let mut command = Command::new(if root { program } else { "sudo" });
    command.args((!root).then_some(program));
    command
}

/// The command line without quoting.
fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
