//! Running cargo, and finding what it built.

use std::error::Error;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(Command::new(program).args(args).current_dir(workspace()))
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
