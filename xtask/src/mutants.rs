//! `cargo xtask mutants`: how many faults in the code the fast tests notice.
//!
//! cargo-mutants changes one operator, match arm or return value at a time and runs the fast tests.
//! A change that no test notices is a missing test, or code that does not matter. There are too
//! many changes to try all of them, so an even sample is tried.

use std::process::Command;

use crate::cargo::{Result, cargo, workspace};

/// The default sample size for each area. The number of changes that are tried is at least this,
/// and less than twice as many, if the area has that many.
const SAMPLE: usize = 300;

/// The time limit of a test run in seconds. A run that takes longer counts as hung because of the
/// change.
const TEST_LIMIT: &str = "120";

/// A part of the code, and the fast tests that have to notice a change in it.
struct Area {
    name: &'static str,
    package: &'static str,
    files: &'static [&'static str],
    /// The packages whose tests are run.
    tested: &'static [&'static str],
    /// Arguments of `cargo test`.
    tests: &'static [&'static str],
}

const AREAS: [Area; 4] = [
    Area {
        name: "drivers/src/qemu",
        package: "vusb-drivers",
        files: &["crates/drivers/src/qemu.rs", "crates/drivers/src/qemu/**/*.rs"],
        tested: &["vusb-drivers"],
        tests: &["--lib", "--test", "replay"],
    },
    Area {
        name: "drivers/src/xenctl",
        package: "vusb-drivers",
        files: &["crates/drivers/src/xenctl.rs", "crates/drivers/src/xenctl/**/*.rs"],
        tested: &["vusb-drivers"],
        tests: &[],
    },
    Area {
        name: "vusb/src",
        package: "vusb",
        files: &["crates/vusb/src/**/*.rs"],
        // Much of the library is tested through the programs.
        tested: &["vusb", "vusb-cli", "vusb-daemon"],
        tests: &[],
    },
    Area {
        name: "model/src/resolve",
        package: "vusb-model",
        files: &["crates/model/src/resolve.rs", "crates/model/src/resolve/**/*.rs"],
        tested: &["vusb-model"],
        tests: &[],
    },
];

/// Tests changes in the areas whose names contain the first word, or in all of them. The second
/// word is the size of the sample.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let name = words.first().copied().unwrap_or_default();
    let sample = words.get(1).map_or(Ok(SAMPLE), |word| word.parse())?;
    let areas: Vec<&Area> = AREAS.iter().filter(|area| area.name.contains(name)).collect();
    if areas.is_empty() {
        let names: Vec<&str> = AREAS.iter().map(|area| area.name).collect();
        return Err(format!("unknown area {name}; known are {}", names.join(", ")).into());
    }
    install()?;
    for area in areas {
        test(area, sample)?;
    }
    Ok(())
}

/// Installs cargo-mutants if it is missing.
fn install() -> Result<()> {
    let version = Command::new("cargo").args(["mutants", "--version"]).output()?;
    if version.status.success() { Ok(()) } else { cargo(&["install", "cargo-mutants", "--locked"]) }
}

/// The arguments that select the changes of an area.
fn selection(area: &Area) -> Vec<&'static str> {
    let mut arguments = vec!["mutants", "--package", area.package, "--exclude", "**/fuzzing.rs"];
    arguments.extend(area.files.iter().flat_map(|file| ["--file", *file]));
    arguments
}

fn test(area: &Area, sample: usize) -> Result<()> {
    let list = [&selection(area)[..], &["--list"]].concat();
    let list = Command::new("cargo").args(list).current_dir(workspace()).output()?;
    let all = String::from_utf8_lossy(&list.stdout).lines().count();
    // Every n-th change is tried.
    let shards = (all / sample.max(1)).max(1);
    let shard = format!("0/{shards}");
    println!("{}: {} of {all} changes", area.name, all.div_ceil(shards));
    let tested = area.tested.iter().flat_map(|package| ["--test-package", *package]);
    let tested: Vec<&str> = tested.collect();
    let options = ["--shard", &shard, "--sharding", "round-robin", "--timeout", TEST_LIMIT];
    let arguments = [&selection(area)[..], &tested, &options, &["--"], area.tests].concat();
    println!("+ cargo {}", arguments.join(" "));
    // Changes that no test noticed (status 2) and timeouts (3) are results, not errors:
    // cargo-mutants lists them.
    let status = Command::new("cargo").args(arguments).current_dir(workspace()).status()?;
    match status.code() {
        Some(0 | 2 | 3) => Ok(()),
        _ => Err(format!("cargo mutants failed: {status}").into()),
    }
}
