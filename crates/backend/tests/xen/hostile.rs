//! A malicious guest whose frontend breaks the protocol, while an honest guest reads its stick.

mod attacks;
mod testbed;

use attacks::{ATTACKS, Expected};
use testbed::{Report, ResourceUsage, Testbed};

/// How much the backend's memory may grow in KiB: its allocator keeps memory per thread.
const MEMORY_KIB: u64 = 8 << 10;
/// How many lines per second a guest may cause in the log.
const LINES: f32 = 40.0;

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_malicious_guest_harms_only_itself() {
    let mut testbed = Testbed::new();
    let nodes = testbed.store();
    // One attack before anything is measured, because some resources are allocated once and kept.
    testbed.create_controller();
    testbed.attack("port-31");
    testbed.remove_controller();
    let before = testbed.resource_usage();

    let mut failures = Vec::new();
    for (attack, expected) in ATTACKS {
        if let Err(why) = attacked(&mut testbed, attack, *expected) {
            eprintln!("FAILED {attack}: {why}");
            failures.push(format!("{attack}: {why}"));
        }
    }
    testbed.remove_controller();
    let after = testbed.resource_usage();
    eprintln!("before: {before:?}\nafter:  {after:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(ResourceUsage { memory_kib: before.memory_kib, ..after }, before);
    assert!(after.memory_kib <= before.memory_kib + MEMORY_KIB, "{before:?} {after:?}");
    assert_eq!(testbed.store(), nodes, "nodes are left behind");

    testbed.becomes_a_correct_frontend();
    assert_eq!(testbed.store(), nodes, "nodes are left behind");
}

/// Runs one attack, and checks its outcome, the log and the honest guest.
fn attacked(testbed: &mut Testbed, attack: &str, expected: Expected) -> Result<(), String> {
    testbed.ensure_controller();
    let drops = testbed.drops().len();
    let report = testbed.attack(attack);
    let new_drops = testbed.drops().split_off(drops);
    let output = report.output.trim();
    let Report { seconds, honest_reads, lines, .. } = report;
    eprintln!("{attack} ({seconds:.1} s, {lines} lines, {honest_reads} honest reads): {output}");
    testbed.check_honest_guest()?;
    if lines as f32 > LINES * (1.0 + seconds) {
        return Err(format!("it floods the log: {lines} lines in {seconds} s"));
    }
    match (output.split_once(": "), expected) {
        (Some(("dropped", why)), Expected::Dropped(words)) if why.contains(words) => {
            let logged = new_drops.iter().any(|line| line.ends_with(&format!("dropped: {why}")));
            logged.then_some(()).ok_or_else(|| format!("the log contains {new_drops:?}"))
        }
        (Some(("served", _)), Expected::Served) if new_drops.is_empty() => Ok(()),
        (Some(("served" | "dropped", _)), Expected::Either) => Ok(()),
        _ => Err(format!("{output:?} instead of {expected:?}; the log contains {new_drops:?}")),
    }
}
