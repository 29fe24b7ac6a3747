//! `cargo xtask record`: records what real QEMUs answer to the driver, for
//! `crates/drivers/tests/replay`.

use std::process::Command;

use crate::cargo::{Result, workspace};

/// Records the scenarios whose names contain `name`. The test that plays them on real QEMUs writes
/// the transcripts.
pub(crate) fn run(name: &str) -> Result<()> {
    vusb_rig::packages::ensure()?;
    let test =
        ["test", "--package", "vusb-drivers", "--test", "replay", "--", "--ignored", "--nocapture"];
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(test)
        .env("VUSB_RECORD", name)
        .current_dir(workspace())
        .status()?;
    if !status.success() {
        return Err("some scenarios were not recorded".into());
    }
    println!(
        "Read what has changed before you commit it: git diff crates/drivers/tests/transcripts"
    );
    Ok(())
}
