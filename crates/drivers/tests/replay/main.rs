//! The QEMU driver on recorded QEMUs: scenarios that were recorded on real QEMUs are played on
//! their transcripts.
//!
//! ```text
//!   cargo xtask record:  scenario ─▶ driver ─▶ recorder ─▶ a real QEMU
//!                            │                    └──▶ tests/transcripts/VERSION-SCENARIO.qmp
//!                            └──▶ tests/transcripts/VERSION-SCENARIO.report, read and approved by a person
//!   cargo test:          scenario ─▶ driver ─▶ peer, which has the transcript
//!                            └──▶ the same report?
//! ```
//!
//! A scenario states what must be observed, given the command line that its QEMU is started with.
//! The report contains everything that the driver returned. The peer accepts only the recorded
//! commands in the recorded order: a driver that sends another query needs a new recording.
//!
//! If only the wording of a message has changed, `VUSB_ACCEPT=1 cargo test -p vusb-drivers --test
//! replay` rewrites the reports.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod peer;
mod recorder;
mod scenarios;
mod stage;
mod transcript;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use self::peer::{Mismatch, Peer, Tamper};
use self::scenarios::{Recorded, Scenario};
use self::stage::{FOLDER, Stage};
use self::transcript::Transcript;

/// The versions that are recorded: those of Debian 12 and Debian 13.
const VERSIONS: [&str; 2] = ["7.2", "10.0"];

fn file(version: &str, scenario: &str, kind: &str) -> PathBuf {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts"));
    folder.join(format!("qemu{version}-{scenario}.{kind}"))
}

/// Plays a scenario on its transcript for a version, and returns the report.
fn play(scenario: &Scenario, version: &str, tamper: Option<Tamper>) -> String {
    let text = std::fs::read_to_string(file(version, scenario.name, "qmp")).unwrap();
    let peer = Peer::start(Transcript::read(&text), tamper);
    let socket = peer.socket().to_owned();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut stage = Stage::new(&socket, None, FOLDER.to_owned());
        (scenario.script)(&mut stage);
        stage.report()
    }));
    // The peer's mismatch is usually the cause of a panic. But if the scenario panicked first, the
    // peer only sees a disconnect: then the panic is the cause.
    match (peer.finish(), played) {
        (Err(Mismatch::Disconnected(_)), Err(panic)) => resume_unwind(panic),
        (Err(why), _) => panic!("{} on QEMU {version}: {why}", scenario.name),
        (Ok(()), Err(panic)) => resume_unwind(panic),
        (Ok(()), Ok(report)) => report,
    }
}

/// Plays a scenario on each version that it was recorded on, and compares the reports.
fn replay(scenario: &Scenario) {
    let mut versions = 0;
    for version in VERSIONS {
        let Ok(expected) = std::fs::read_to_string(file(version, scenario.name, "report")) else {
            continue;
        };
        versions += 1;
        let report = play(scenario, version, None);
        if std::env::var_os("VUSB_ACCEPT").is_some() {
            std::fs::write(file(version, scenario.name, "report"), report).unwrap();
            continue;
        }
        assert!(
            report == expected,
            "{} on QEMU {version}:\n{}",
            scenario.name,
            first_difference(&expected, &report)
        );
    }
    assert!(versions > 0, "{} was never recorded; run cargo xtask record", scenario.name);
}

fn first_difference(expected: &str, got: &str) -> String {
    let same = expected.lines().zip(got.lines()).take_while(|(a, b)| a == b).count();
    let excerpt = |text: &str| {
        text.lines().skip(same.saturating_sub(3)).take(8).collect::<Vec<_>>().join("\n  ")
    };
    format!("line {}, expected:\n  {}\nbut got:\n  {}", same + 1, excerpt(expected), excerpt(got))
}

/// Debian's updates change the last number of a version.
fn without_version(report: &str) -> String {
    let lines = report.lines().map(|line| match line.split_once("QEMU ") {
        Some((before, after)) => format!(
            "{before}QEMU {}",
            after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
        ),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Plays every scenario on real QEMUs. With `VUSB_RECORD`, the exchange and the report are stored,
/// for the scenarios whose names contain its value. Without it, each report has to equal the stored
/// one.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test and cargo xtask record"]
fn real_qemus_answer_as_recorded() {
    let record = std::env::var("VUSB_RECORD").ok();
    let chosen =
        |scenario: &&Scenario| record.as_deref().is_none_or(|part| scenario.name.contains(part));
    let mut failed = Vec::new();
    for scenario in scenarios::all().filter(chosen) {
        for version in VERSIONS {
            let played = catch_unwind(|| match scenarios::record(scenario, version) {
                Some(recorded) if record.is_some() => save(scenario, version, &recorded),
                Some(recorded) => compare(scenario, version, &recorded),
                None => eprintln!("{}: there is no QEMU {version} for it", scenario.name),
            });
            failed.extend(played.is_err().then(|| format!("{} on QEMU {version}", scenario.name)));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

fn save(scenario: &Scenario, version: &str, recorded: &Recorded) {
    let text = recorded.transcript.write();
    assert_eq!(Transcript::read(&text), recorded.transcript, "the transcript cannot be read back");
    std::fs::write(file(version, scenario.name, "qmp"), text).unwrap();
    std::fs::write(file(version, scenario.name, "report"), &recorded.report).unwrap();
}

fn compare(scenario: &Scenario, version: &str, recorded: &Recorded) {
    let expected = std::fs::read_to_string(file(version, scenario.name, "report")).unwrap();
    assert_eq!(without_version(&expected), without_version(&recorded.report), "{}", scenario.name);
}
