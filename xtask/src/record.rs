//! `cargo xtask record`: records how real QEMUs respond to the driver, for
//! `crates/drivers/tests/replay`.

use std::process::Command;

use crate::cargo::{Result, workspace};

/// Records the scenarios whose names contain `word`. The test that plays them on real QEMUs writes
/// the transcripts and reports.
pub(crate) fn run(word: &str) -> Result<()> {
    vusb_rig::packages::ensure()?;
    let test =
        ["test", "--package", "vusb-drivers", "--test", "replay", "--", "--ignored", "--nocapture"];
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(test)
        .env("VUSB_RECORD", word)
        .current_dir(workspace())
        .status()?;
    if !status.success() {
        return Err("some scenarios were not recorded".into());
    }
    println!(
        "Review the changes before you commit them: git diff crates/drivers/tests/transcripts"
    );
    Ok(())
}
