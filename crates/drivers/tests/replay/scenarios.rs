//! The scenarios: how each QEMU is started, the steps, and what must be observed.

mod devices;
mod machines;
mod steps;

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use vusb_rig::{BareQemu, Guest, qemus};

use crate::recorder::Recorder;
use crate::stage::{FOLDER, Stage};
use crate::transcript::Transcript;

/// A scenario. Its name begins with the machine's.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// QEMU's arguments. `DIR` is the scenario's folder, which has the files of [`prepare`].
    pub(crate) arguments: &'static [&'static str],
    /// How QEMU is started.
    pub(crate) kind: StartedAs,
    pub(crate) script: fn(&mut Stage<'_>),
}

/// How QEMU is started. Usually it is for x86, and stopped before its first instruction.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum StartedAs {
    /// A stopped QEMU for this architecture.
    Bare(&'static str),
    /// A Linux guest that runs, on this machine.
    Guest(&'static str),
}

pub(crate) const X86: StartedAs = StartedAs::Bare("x86_64");

/// Declares scenarios, each with a test that plays it on its transcripts.
macro_rules! scenarios {
    ($($test:ident = $scenario:expr;)*) => {
        $(#[test]
        fn $test() {
            crate::replay(&$scenario);
        })*

        pub(crate) const SCENARIOS: &[crate::scenarios::Scenario] = &[$($scenario),*];
    };
}
pub(crate) use scenarios;

/// All scenarios.
pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    [machines::SCENARIOS, devices::SCENARIOS, steps::SCENARIOS].into_iter().flatten()
}

/// The result of a recording.
pub(crate) struct Recorded {
    pub(crate) transcript: Transcript,
    pub(crate) report: String,
}

/// The loopback port that QEMU connects to. It listens on lower ones, from 47101 on.
const FAR_PORT: u16 = 47109;

/// Files and listeners that scenarios use.
fn prepare(folder: &Path) -> (UnixListener, TcpListener) {
    let path = |name: &str| folder.join(name);
    std::fs::write(path("stick.img"), [0; 4096]).unwrap();
    std::fs::write(path("stick, the second.img"), [0; 4096]).unwrap();
    let mut image = std::process::Command::new("qemu-img");
    image.args(["create", "-q", "-f", "qcow2"]).arg(path("disk.qcow2")).arg("1M");
    assert!(image.status().unwrap().success());
    let far = UnixListener::bind(path("far")).unwrap();
    (far, TcpListener::bind(("127.0.0.1", FAR_PORT)).unwrap())
}

/// Plays a scenario on a real QEMU of this version. `None` if it is not available.
pub(crate) fn record(scenario: &Scenario, version: &str) -> Option<Recorded> {
    let arch = if let StartedAs::Bare(arch) = scenario.kind { arch } else { "x86_64" };
    let qemu = qemus::of_version(version, arch).unwrap()?;
    eprintln!("{} on {}", scenario.name, qemu.program().display());
    let folder = tempfile::Builder::new().prefix("vusb-record-").tempdir().unwrap();
    let _far = prepare(folder.path());
    let own = folder.path().display().to_string();
    let arguments: Vec<String> =
        scenario.arguments.iter().map(|argument| argument.replace("DIR", &own)).collect();
    match scenario.kind {
        StartedAs::Bare(_) => {
            let qemu = BareQemu::start_with(&qemu, arguments).unwrap();
            Some(play(scenario, &qemu, own))
        }
        StartedAs::Guest(machine) => {
            let guest =
                Guest::builder().qemu(&qemu).machine(machine).args(arguments).start().unwrap();
            guest.wait_booted(Duration::from_secs(180)).unwrap();
            Some(play(scenario, guest.qemu(), own))
        }
    }
}

fn play(scenario: &Scenario, qemu: &BareQemu, folder: String) -> Recorded {
    let recorder = Recorder::start(qemu.qmp_socket());
    let socket = recorder.socket().to_owned();
    let mut stage = Stage::new(&socket, Some(qemu), folder.clone());
    (scenario.script)(&mut stage);
    let report = stage.report();
    drop(stage);
    let run = qemu.dir().display().to_string();
    let head = vec![scenario.name.to_owned(), scenario.arguments.join(" ")];
    let replaced = [(folder, FOLDER), (run, "/vusb-rig")];
    Recorded { transcript: recorder.finish(head, &replaced), report }
}
