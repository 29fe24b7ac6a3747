//! `cargo xtask test`: every test, the slow ones last.

use crate::cargo::{Result, cargo};

/// Runs them.
pub(crate) fn run() -> Result<()> {
    vusb_rig::packages::ensure()?;
    cargo(&["build", "--workspace", "--all-targets"])?;
    // Without QEMU: seconds.
    cargo(&["test", "--workspace", "--exclude", "vusb-rig"])?;
    // On real QEMUs, and on real guests where a guest has a say. They share two cores, so one at a time.
    cargo(&[
        "test",
        "--workspace",
        "--exclude",
        "vusb-rig",
        "--",
        "--ignored",
        "--test-threads=1",
    ])?;
    cargo(&["test", "--package", "vusb-rig", "--", "--test-threads=1"])
}
