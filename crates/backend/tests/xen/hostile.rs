//! A guest whose driver does what no driver would do, beside an honest one that reads its stick all the while.

mod attacks;
mod field;

use attacks::{ATTACKS, Expected};
use field::{Field, Report, Toll};

/// How much more memory the backend may have at the end than at the beginning: what its allocator keeps for each of its threads.
const MEMORY_KIB: u64 = 8 << 10;
/// How many lines a second a guest may cause in the log.
const LINES: f32 = 40.0;

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_guest_that_means_ill_harms_nobody_but_itself() {
    let mut field = Field::new();
    let nodes = field.store();
    // Once before anything is counted, for what is made once and kept.
    field.make_controller();
    field.attack("port-31");
    field.remove_controller();
    let before = field.toll();

    let mut wrong = Vec::new();
    for (attack, expected) in ATTACKS {
        if let Err(why) = attacked(&mut field, attack, *expected) {
            eprintln!("WRONG {attack}: {why}");
            wrong.push(format!("{attack}: {why}"));
        }
    }
    field.remove_controller();
    let after = field.toll();
    eprintln!("before: {before:?}\nafter:  {after:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(Toll { memory_kib: before.memory_kib, ..after }, before);
    assert!(after.memory_kib <= before.memory_kib + MEMORY_KIB, "{before:?} {after:?}");
    assert_eq!(field.store(), nodes, "nothing is left");

    field.behaves_well();
    assert_eq!(field.store(), nodes, "nothing is left");
}

/// Makes one attack and looks at everything else.
fn attacked(field: &mut Field, attack: &str, expected: Expected) -> Result<(), String> {
    field.forgive();
    let drops = field.drops().len();
    let report = field.attack(attack);
    let news = field.drops().split_off(drops);
    let said = report.said.trim();
    let Report { seconds, honest_reads, lines, .. } = report;
    eprintln!("{attack} ({seconds:.1} s, {lines} lines, {honest_reads} honest reads): {said}");
    field.all_is_well()?;
    if lines as f32 > LINES * (1.0 + seconds) {
        return Err(format!("it fills the log: {lines} lines in {seconds} s"));
    }
    match (said.split_once(": "), expected) {
        (Some(("dropped", why)), Expected::Dropped(words)) if why.contains(words) => {
            let logged = news.iter().any(|line| line.ends_with(&format!("dropped: {why}")));
            logged.then_some(()).ok_or_else(|| format!("the log says {news:?}"))
        }
        (Some(("served", _)), Expected::Served) if news.is_empty() => Ok(()),
        (Some(("served" | "dropped", _)), Expected::Either) => Ok(()),
        _ => Err(format!("{said:?} and not {expected:?}; the log says {news:?}")),
    }
}
