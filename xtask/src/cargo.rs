//! Running cargo, and finding what it built.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The error of a task, for the user.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The directory of the workspace.
pub(crate) fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Runs cargo with these arguments, and prints them first.
pub(crate) fn cargo(args: &[&str]) -> Result<()> {
    println!("+ cargo {}", args.join(" "));
    run(Command::new(program()).args(args).current_dir(workspace()))
}

/// As [`cargo`]. If it fails, its standard output is returned with the error.
pub(crate) fn cargo_output(args: &[&str]) -> std::result::Result<(), (Box<dyn Error>, String)> {
    println!("+ cargo {}", args.join(" "));
    let mut output = Vec::new();
    let status = copy_output(Command::new(program()).args(args), &mut output);
    let error: Box<dyn Error> = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => format!("`cargo {}` failed: {status}", args.join(" ")).into(),
        Err(error) => error.into(),
    };
    Err((error, String::from_utf8_lossy(&output).into_owned()))
}

/// Runs a command. Its standard output goes to the terminal as it arrives, and to `output`.
fn copy_output(command: &mut Command, output: &mut Vec<u8>) -> io::Result<ExitStatus> {
    let mut child = command.current_dir(workspace()).stdout(Stdio::piped()).spawn()?;
    let pipe = child.stdout.take();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || pipe.map(|pipe| forward(pipe, &sender)));
    let status = child.wait()?;
    // A process that a test has left behind keeps the pipe open.
    while let Ok(bytes) = receiver.recv_timeout(Duration::from_secs(1)) {
        output.extend(bytes);
    }
    Ok(status)
}

/// Copies what arrives to the terminal and to the channel, until one of them is closed.
fn forward(mut from: impl Read, to: &mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let read = from.read(&mut buffer)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        io::stdout().write_all(bytes)?;
        io::stdout().flush()?;
        if bytes.is_empty() || to.send(bytes.to_vec()).is_err() {
            return Ok(());
        }
    }
}

fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a command whose output goes to the terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    Err(format!("`{}` failed: {status}", line.join(" ")).into())
}

/// Builds `vusb` and returns its path.
pub(crate) fn build_vusb() -> Result<PathBuf> {
    cargo(&["build", "--package", "vusb-cli"])?;
    Ok(target().join("debug/vusb"))
}

/// The target directory of cargo, which is started in the workspace.
pub(crate) fn target() -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace().join(folder)
}
