//! `cargo xtask msrv`: the workspace compiles with the minimum supported Rust version, which is
//! that of Debian stable.

use vusb_rig::toolchain::Toolchain;

use crate::cargo::{Result, run, target, workspace};

/// The oldest supported Debian release that builds vusb with its own compiler: Debian 13.
const SUITE: &str = "trixie";

/// `rust-version` of the workspace.
const MINIMUM: &str = env!("CARGO_PKG_RUST_VERSION");

/// Checks everything, including tests, benchmarks and examples. They are not run: that is done with
/// the toolchain of this machine.
pub(crate) fn check() -> Result<()> {
    let toolchain = Toolchain::of_debian(SUITE)?;
    let version = toolchain.version()?;
    if !version.starts_with(&format!("{MINIMUM}.")) {
        return Err(format!(
            "rust-version is {MINIMUM}, but {SUITE} has {version}; set rust-version to what is tested"
        )
        .into());
    }
    let args = ["check", "--workspace", "--all-targets", "--locked"];
    println!("+ cargo {} # Rust {version}", args.join(" "));
    let mut command = toolchain.cargo();
    // The artifacts of two compilers in one directory would replace each other.
    command.env("CARGO_TARGET_DIR", target().join("msrv"));
    run(command.args(args).current_dir(workspace()))
}
