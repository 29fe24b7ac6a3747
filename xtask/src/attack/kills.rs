//! A kill at every system call of a command, and what the next command makes of it.
//!
//! ```text
//!   for each system call of the command's main thread:
//!     prepare ──▶ run the command, killed as it enters that call ──▶ next command ──▶ check
//! ```
//!
//! The promises: the next command succeeds, vusb lists exactly the devices that QEMU has, and QEMU
//! has no back end (an open file, a listening socket) without its device.

use std::os::unix::process::ExitStatusExt as _;

use super::calls::{self, Call, Fault, stderr};
use super::stage::Stage;
use super::{Context, Figures};
use crate::cargo::Result;

/// A command that is killed.
struct Scenario {
    /// What is done before it.
    before: &'static [&'static str],
    command: &'static str,
    /// The command after it.
    next: &'static str,
}

const STICK: &str = "device add qemu:g.qmp storage:a.img --name s";
const SERIAL: &str = "device add qemu:g.qmp serial:unix:t.sock,server --name t";
const NET: &str = "device add qemu:g.qmp net --name n";
const AUDIO: &str = "device add qemu:g.qmp audio --name a";
const CONTROLLER: &str = "controller add qemu:g.qmp --name c";
const ON_IT: &str = "device add qemu:g.qmp storage:a.img --name s --controller c";
const NEXT: &str = "device add qemu:g.qmp mouse --name next";

const SCENARIOS: [Scenario; 12] = [
    Scenario { before: &[], command: STICK, next: NEXT },
    Scenario { before: &[], command: SERIAL, next: NEXT },
    Scenario { before: &[STICK], command: "device remove qemu:g.qmp s", next: NEXT },
    Scenario { before: &[SERIAL], command: "device remove qemu:g.qmp t", next: NEXT },
    Scenario { before: &[NET], command: "device remove qemu:g.qmp n", next: NEXT },
    Scenario { before: &["apply old.toml"], command: "apply new.toml", next: NEXT },
    Scenario { before: &["apply old.toml"], command: "apply refused.toml", next: NEXT },
    Scenario { before: &[], command: AUDIO, next: NEXT },
    Scenario { before: &[AUDIO], command: "device remove qemu:g.qmp a", next: NEXT },
    Scenario { before: &[], command: CONTROLLER, next: NEXT },
    Scenario { before: &[CONTROLLER], command: "controller remove qemu:g.qmp c", next: NEXT },
    Scenario {
        before: &[CONTROLLER, ON_IT],
        command: "controller remove qemu:g.qmp c --force",
        next: NEXT,
    },
];

const HEAD: &str = "domain = \"g\"\ndriver = \"qemu:g.qmp\"\n";
const OLD: &str = "[[device]]\nkind = \"storage\"\nname = \"s\"\nfile = \"a.img\"\n\
                   [[device]]\nkind = \"serial\"\nname = \"t\"\nchardev = \"unix:t.sock,server\"\n";
/// Instead of [`OLD`]: another stick, no serial adapter, and a network adapter.
const NEW: &str = "[[device]]\nkind = \"storage\"\nname = \"s\"\nfile = \"b.img\"\n\
                   [[device]]\nkind = \"net\"\nname = \"n\"\n";
/// In addition: a device that QEMU refuses, so that everything is undone.
const REFUSED: &str = "[[device]]\nkind = \"serial\"\nname = \"z\"\nchardev = \"id:missing\"\n";

/// Runs all scenarios.
pub(super) fn run(context: &Context) -> Result<Figures> {
    calls::ensure_strace()?;
    let mut figures = Figures::default();
    let mut stage = Stage::new(context)?;
    let mut all = 0;
    for scenario in SCENARIOS {
        prepare(&stage, &scenario)?;
        let command = stage.command(scenario.command);
        let calls = calls::of(&command, &stage.path(""))?;
        stage.reset()?;
        let step = context.times(1, calls.len().div_ceil(12));
        let (mut killed, mut tried) = (0, 0);
        for call in calls.iter().step_by(step) {
            tried += 1;
            match attack(&stage, &scenario, call) {
                Ok(was_killed) => killed += usize::from(was_killed),
                Err(why) => {
                    let Call { name, nth, .. } = call;
                    let command = scenario.command;
                    figures.broken(format!("`{command}` killed at {name} number {nth}: {why}"));
                    stage = Stage::new(context)?;
                }
            }
        }
        all += killed;
        figures.row(format!("`vusb {}`", scenario.command), format!("{killed} kills"));
        println!("{}: {killed} of {tried} killed", scenario.command);
    }
    figures.row("all kills", all);
    Ok(figures)
}

fn prepare(stage: &Stage, scenario: &Scenario) -> Result<()> {
    for (name, devices) in [("old", OLD), ("new", NEW)] {
        std::fs::write(stage.path(&format!("{name}.toml")), format!("{HEAD}{devices}"))?;
    }
    std::fs::write(stage.path("refused.toml"), format!("{HEAD}{NEW}{REFUSED}"))?;
    scenario.before.iter().try_for_each(|words| stage.must(words))
}

/// Kills the command at one call. Returns whether it was killed: the number of calls varies a
/// little.
fn attack(stage: &Stage, scenario: &Scenario, call: &Call) -> Result<bool> {
    prepare(stage, scenario)?;
    let output = calls::run_with(&stage.command(scenario.command), call, Fault::Kill)?;
    let killed = output.status.signal().is_some();
    let next = stage.run(scenario.next)?;
    if !next.status.success() {
        return Err(format!("the next command failed: {}", stderr(&next)).into());
    }
    stage.check()?;
    stage.reset()?;
    Ok(killed)
}
