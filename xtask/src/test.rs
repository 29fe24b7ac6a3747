//! `cargo xtask test`: every test, the slow ones last.

use crate::cargo::{Result, cargo};

/// The test that takes too long for every day.
const SOAK: &str = "a_thousand_plugs_leave_nothing_behind";

/// Runs that one.
pub(crate) fn soak() -> Result<()> {
    vusb_rig::packages::ensure()?;
    cargo(&["build", "--workspace", "--all-targets"])?;
    let test = ["test", "--package", "vusb-backend", "--test", "xen"];
    cargo(&[&test[..], &["--", "--ignored", "--nocapture", SOAK]].concat())
}

/// What the tests need that no machine of the rig does: Xen's own headers, which numbers and layouts are compared with.
const PACKAGES: [&str; 1] = ["libxen-dev"];

/// Runs all others.
pub(crate) fn run() -> Result<()> {
    vusb_rig::packages::ensure()?;
    vusb_rig::packages::ensure_all(&PACKAGES)?;
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
        "--skip",
        SOAK,
    ])?;
    cargo(&["test", "--package", "vusb-rig", "--", "--test-threads=1"])
}
