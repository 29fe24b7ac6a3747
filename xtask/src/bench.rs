//! `cargo xtask bench`: the benchmarks, by name.

use crate::cargo::{Result, cargo};

/// Each benchmark by name, with the arguments of cargo.
const BENCHES: [(&str, &[&str]); 4] = [
    // Placements per second on 1 to 500 controllers.
    ("resolve", &["bench", "--package", "vusb-model", "--bench", "resolve"]),
    // Adding and removing storage, with and without the records of many other domains.
    ("claims", &["bench", "--package", "vusb", "--bench", "claims"]),
    // From `vusb device add` to QEMU's reply, compared with a minimal client; start-up time of the
    // command.
    ("command", &["bench", "--package", "vusb-cli", "--bench", "command"]),
    // vusb-backend compared with QEMU's backend for the same protocol, on real Xen.
    ("xen", &["bench", "--package", "vusb-backend", "--bench", "xen"]),
];
/// Builds the programs that the benchmark `xen` runs on its machine.
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

/// Runs the benchmarks with these names, or all. `--icount`: `xen` with a clock that counts
/// instructions.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let icount = words.contains(&"--icount");
    let names: Vec<&str> = words.iter().copied().filter(|word| *word != "--icount").collect();
    if icount && names != ["xen"] {
        return Err(
            "--icount is a mode of the benchmark xen: cargo xtask bench xen --icount".into()
        );
    }
    if let Some(unknown) =
        names.iter().find(|name| !BENCHES.iter().any(|(known, _)| known == *name))
    {
        let known: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        return Err(format!("unknown benchmark {unknown}; known are {}", known.join(", ")).into());
    }
    vusb_rig::packages::ensure()?;
    if names.is_empty() || names.contains(&"xen") {
        cargo(PROGRAMS)?;
    }
    BENCHES.iter().filter(|(name, _)| names.is_empty() || names.contains(name)).try_for_each(
        |(_, args)| {
            let more: &[&str] = if icount { &["--", "--icount"] } else { &[] };
            cargo(&[args, more].concat())
        },
    )
}
