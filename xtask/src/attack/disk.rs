//! A full and a broken disk: errors at each system call on a file of vusb.
//!
//! ```text
//!   for each call on a record, a claim, a lock or an index, and for ENOSPC and EIO:
//!     prepare ──▶ run the command, where that call fails ──▶ check what it says
//!             ──▶ next command, on a good disk ──▶ check what there is
//!   and with ENOSPC at each write and all later ones
//! ```
//!
//! The promises: the command does not crash; if it fails, it says so, and if it fails after QEMU
//! has changed, it says that too. Then as after a kill: the next command succeeds, vusb lists
//! exactly the devices and controllers that QEMU has, and no back end is left.

use std::collections::BTreeSet;
use std::process::Output;

use super::calls::{self, Call, Fault, stderr};
use super::stage::Stage;
use super::{Context, Figures};
use crate::cargo::Result;

/// A command, and what is done before it.
struct Scenario {
    before: Option<&'static str>,
    command: &'static str,
}

const ADD: &str = "device add qemu:g.qmp storage:a.img --name s";
const NEXT: &str = "device add qemu:g.qmp mouse --name next";
const CONTROLLER: &str = "controller add qemu:g.qmp --name c";
const SCENARIOS: [Scenario; 4] = [
    Scenario { before: None, command: ADD },
    Scenario { before: Some(ADD), command: "device remove qemu:g.qmp s" },
    Scenario { before: None, command: CONTROLLER },
    Scenario { before: Some(CONTROLLER), command: "controller remove qemu:g.qmp c" },
];

/// Calls that ask for or change something on the disk. Others fail only if the kernel is broken.
const CALLS: [&str; 16] = [
    "openat",
    "read",
    "write",
    "fsync",
    "fdatasync",
    "ftruncate",
    "rename",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "getdents64",
    "flock",
];

/// Errors of a full and of a broken disk.
const ERRORS: [&str; 2] = ["ENOSPC", "EIO"];

/// The messages of a failed command that has changed something: each contains one of these.
const IN_EFFECT: [&str; 3] =
    ["could not be recorded", "is still in effect", "it is unknown whether"];

pub(super) fn run(context: &Context) -> Result<Figures> {
    calls::ensure_strace()?;
    let mut figures = Figures::default();
    let mut stage = Stage::new(context)?;
    for scenario in SCENARIOS {
        let (calls, files) = calls_on_files(&stage, &scenario)?;
        let step = context.times(1, calls.len().div_ceil(8));
        let writes = calls.iter().filter(|call| call.name == "write").enumerate();
        let writes: Vec<Call> =
            writes.map(|(n, call)| Call { nth: n + 1, ..call.clone() }).collect();
        let once = ERRORS.map(Fault::Fails).into_iter();
        let once = once.flat_map(|fault| calls.iter().step_by(step).map(move |call| (call, fault)));
        let full = Fault::KeepsFailing("ENOSPC", &files);
        let from_then = writes.iter().step_by(context.times(1, 2)).map(|call| (call, full));
        let (mut tried, mut failed) = (0, 0);
        for (call, fault) in once.chain(from_then) {
            tried += 1;
            match attack(&stage, &scenario, call, fault) {
                Ok(has_failed) => failed += usize::from(has_failed),
                Err(why) => {
                    let Call { name, nth, files } = call;
                    let fault = match fault {
                        Fault::KeepsFailing(..) => "a full disk from there on",
                        Fault::Fails(error) => error,
                        Fault::Kill => "a kill",
                    };
                    let command = scenario.command;
                    figures.broken(format!(
                        "`{command}` with {fault} at {name} number {nth} ({files:?}): {why}"
                    ));
                    stage = Stage::new(context)?;
                }
            }
        }
        let value = format!("{tried} errors; the command failed {failed} times");
        println!("{}: {value}", scenario.command);
        figures.row(format!("`vusb {}`", scenario.command), value);
    }
    Ok(figures)
}

/// The calls on files of vusb, and these files.
fn calls_on_files(stage: &Stage, scenario: &Scenario) -> Result<(Vec<Call>, BTreeSet<String>)> {
    prepare(stage, scenario)?;
    let mut all = calls::of(&stage.command(scenario.command), &stage.path(""))?;
    stage.reset()?;
    let folders = ["state", "machine/run"].map(|it| stage.path(it).display().to_string());
    let is_own = |file: &String| folders.iter().any(|folder| file.starts_with(folder));
    all.retain(|call| CALLS.contains(&call.name.as_str()) && call.files.iter().any(is_own));
    let files = all.iter().flat_map(|call| &call.files).filter(|file| is_own(file));
    let files = files.cloned().collect();
    Ok((all, files))
}

fn prepare(stage: &Stage, scenario: &Scenario) -> Result<()> {
    scenario.before.map_or(Ok(()), |words| stage.must(words))
}

/// Runs the command with the fault. Returns whether it failed.
fn attack(stage: &Stage, scenario: &Scenario, call: &Call, fault: Fault<'_>) -> Result<bool> {
    prepare(stage, scenario)?;
    let before = stage.items()?;
    let output = calls::run_with(&stage.command(scenario.command), call, fault)?;
    let changed = stage.items()? != before;
    check_message(&output, changed)?;
    let next = stage.run(NEXT)?;
    if !next.status.success() {
        return Err(format!("the next command failed: {}", stderr(&next)).into());
    }
    stage.check()?;
    stage.reset()?;
    Ok(!output.status.success())
}

fn check_message(output: &Output, changed: bool) -> Result<()> {
    let message = stderr(output);
    match output.status.code() {
        Some(0) if changed => Ok(()),
        Some(0) => Err("it reports success, and QEMU is as before".into()),
        Some(1..=9) if !message.contains("error: ") => {
            Err(format!("it failed without an error: {message}").into())
        }
        Some(1..=9) if changed && !IN_EFFECT.iter().any(|part| message.contains(part)) => {
            Err(format!("QEMU has changed, and it says: {message}").into())
        }
        Some(1..=9) => Ok(()),
        other => Err(format!("it ended with {other:?}: {message}").into()),
    }
}
