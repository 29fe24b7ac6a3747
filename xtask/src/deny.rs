//! `cargo xtask deny`: licences, duplicates and sources of all dependencies, as `deny.toml` defines
//! them.

use std::process::Command;

use crate::cargo::{Result, run, workspace};
use crate::tools;

/// The version that `deny.toml` is written for.
const VERSION: &str = "0.20.2";

/// Not `advisories`: those come from a git repository, which is not available everywhere.
const CHECKS: [&str; 3] = ["licenses", "bans", "sources"];

/// Runs the checks.
pub(crate) fn check() -> Result<()> {
    let program = tools::install(("cargo-deny", VERSION))?;
    println!("+ cargo deny check {}", CHECKS.join(" "));
    let mut command = Command::new(program);
    run(command.arg("check").args(CHECKS).current_dir(workspace()))
}
