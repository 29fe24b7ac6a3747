//! Runs a command under attack with limits on its memory and its time.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::cargo::Result;

/// How much memory of its own a command may use. One that needs more is aborted.
const MEMORY: &str = "--data=268435456";

/// The exit codes that docs/errors.md has.
const EXIT_CODES: std::ops::RangeInclusive<i32> = 0..=9;

/// A command that has ended, with its output.
#[derive(Debug)]
pub(super) struct Finished {
    /// `None` if a signal ended it.
    pub(super) code: Option<i32>,
    signal: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) took: Duration,
    /// Whether it was still running at its limit, and was killed.
    hung: bool,
}

impl Finished {
    /// The promise that it broke: it hung, panicked, was aborted, or had an unknown exit code.
    pub(super) fn broken(&self) -> Option<String> {
        let output: String = self.stderr.chars().take(300).collect();
        if self.hung {
            return Some(format!("still running after {:?}: {output}", self.took));
        }
        match (self.code, self.signal) {
            (Some(code), _) if EXIT_CODES.contains(&code) => None,
            (Some(code), _) => Some(format!("exit code {code}: {output}")),
            (None, signal) => Some(format!("ended by signal {signal:?}: {output}")),
        }
    }
}

/// A command with a limit on its memory.
pub(super) fn command(vusb: &Path) -> Command {
    limited(&[], vusb)
}

/// A command with a limit on its memory, as another user.
pub(super) fn command_of(uid: u32, vusb: &Path) -> Command {
    let (user, group) = (format!("--reuid={uid}"), format!("--regid={uid}"));
    limited(&["setpriv", &user, &group, "--clear-groups", "--"], vusb)
}

fn limited(before: &[&str], vusb: &Path) -> Command {
    let mut command = Command::new("prlimit");
    command.args([MEMORY, "--"]).args(before).arg(vusb);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Runs a command, and kills it if it takes longer than `limit`.
pub(super) fn run(command: &mut Command, limit: Duration) -> Result<Finished> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begin = Instant::now();
    let child = command.spawn()?;
    let pid = child.id().to_string();
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let (output, hung) = match ended.recv_timeout(limit) {
        Ok(output) => (output?, false),
        Err(_) => {
            let _ = Command::new("kill").args(["-9", &pid]).status();
            (ended.recv()??, true)
        }
    };
    let Output { status, stdout, stderr } = output;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Finished {
        code: status.code(),
        signal: status.signal(),
        stdout: text(stdout),
        stderr: text(stderr),
        took: begin.elapsed(),
        hung,
    })
}
