//! `cargo xtask bench`: the benchmarks, by name.

use crate::cargo::{Result, cargo};

/// Each benchmark by name, with what cargo is told to run it.
const BENCHES: [(&str, &[&str]); 2] = [
    // Placements a second, over 1 to 500 controllers.
    ("resolve", &["bench", "--package", "vusb-model", "--bench", "resolve"]),
    // From `vusb device add` to QEMU's reply, against a bare client; and the start-up of the command.
    ("command", &["bench", "--package", "vusb-cli", "--bench", "command"]),
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
    BENCHES
        .iter()
        .filter(|(name, _)| names.is_empty() || names.contains(name))
        .try_for_each(|(_, args)| cargo(args))
}
