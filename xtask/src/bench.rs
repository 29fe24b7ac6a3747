//! `cargo xtask bench`: the benchmarks, by name.

use crate::cargo::{Result, cargo};

/// Each benchmark by name, with what cargo is told to run it.
const BENCHES: [(&str, &[&str]); 3] = [
    // Placements a second, over 1 to 500 controllers.
    ("resolve", &["bench", "--package", "vusb-model", "--bench", "resolve"]),
    // From `vusb device add` to QEMU's reply, against a bare client; and the start-up of the command.
    ("command", &["bench", "--package", "vusb-cli", "--bench", "command"]),
    // vusb-backend beside QEMU's backend of the same protocol, on real Xen.
    ("xen", &["bench", "--package", "vusb-backend", "--bench", "xen"]),
];
/// What the last of them runs on its Xen machine.
const PROGRAMS: &[&str] = &[
    "build",
    "--release",
    "--package",
    "vusb-cli",
    "--package",
    "vusb-backend",
    "--package",
    "vusb-rig",
];

/// Runs those that are named, or all.
pub(crate) fn run(names: &[&str]) -> Result<()> {
    if let Some(unknown) =
        names.iter().find(|name| !BENCHES.iter().any(|(known, _)| known == *name))
    {
        let known: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        return Err(
            format!("there is no benchmark {unknown}: there are {}", known.join(", ")).into()
        );
    }
    vusb_rig::packages::ensure()?;
    if names.is_empty() || names.contains(&"xen") {
        cargo(PROGRAMS)?;
    }
    BENCHES
        .iter()
        .filter(|(name, _)| names.is_empty() || names.contains(name))
        .try_for_each(|(_, args)| cargo(args))
}
