//! The second mode, `--icount`: the machine's clock counts instructions instead of time, so the
//! results do not depend on what else this machine does. The stick's disk takes no time.
//!
//! ```text
//!   round:  for each side:  attach ─▶ for each operation:  warm up ─ measure ─ count ─▶ detach
//!                                                            │         └ with tracing, not timed
//!                                                            └ times and the kernel's own counters
//! ```
//!
//! Tracing changes what is measured, so whatever needs it is counted in a run of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use vusb_rig::Shell;

use crate::stage::{STICK, Side, Stage, TIMEOUT};

/// An operation: its name, its word for `rig-measure`, its size in KiB, and its repetitions.
type Operation = (&'static str, &'static str, u32, u32);

/// The operations. A transfer's pages are scattered in memory: 120 KiB is the largest command of
/// Linux's usb-storage (`max_sectors` 240).
const OPERATIONS: [Operation; 4] = [
    ("r4", "read-scattered", 4, 300),
    ("r64", "read-scattered", 64, 60),
    ("r120", "read-scattered", 120, 40),
    ("w64", "write-scattered", 64, 60),
];
/// One operation in memory as it is allocated, for comparison: how many requests it takes depends
/// on where the allocator finds its pages.
const AS_ALLOCATED: Operation = ("r64, pages as allocated", "read", 64, 60);
/// How many times an operation is executed before it is measured.
const WARM_UP: u32 = 8;

/// What is measured of an operation, each per execution.
const COLUMNS: [&str; 8] = [
    "µs",
    "ring requests",
    "notifies of the guest",
    "notifies of the backend",
    "interrupts",
    "system calls of the backend",
    "context switches",
    "backend CPU, µs",
];

/// The measurements: by side, operation and column, the values of all rounds.
pub(crate) type Results = BTreeMap<(Side, &'static str), [Vec<f64>; COLUMNS.len()]>;

/// The kernels' own counters. They always run, so using them does not change what is measured.
#[derive(Clone, Copy, Default)]
struct Counters {
    guest_notifies: f64,
    backend_notifies: f64,
    interrupts: f64,
    context_switches: f64,
    processor_ns: f64,
}

/// Measures all operations on all sides, this many times.
pub(crate) fn run(rounds: usize) {
    let stage = Stage::with_virtual_clock();
    for shell in [stage.shell(Side::Dom0), stage.shell(Side::Vusb)] {
        sh(shell, "mount -t tracefs tracefs /sys/kernel/tracing");
    }
    // The guest's driver hands each request to its ring here.
    let probe = "echo 'p:request xenhcd_urb_enqueue' >/sys/kernel/tracing/kprobe_events";
    sh(&stage.guest, probe);
    let mut results = Results::new();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        let backends =
            if round % 2 == 0 { [Side::Qusb, Side::Vusb] } else { [Side::Vusb, Side::Qusb] };
        for side in std::iter::once(Side::Dom0).chain(backends) {
            stage.attach(side, STICK);
            for operation in OPERATIONS.into_iter().chain([AS_ALLOCATED]) {
                measure(&stage, side, operation, &mut results);
            }
            stage.detach(side, STICK);
        }
    }
    print!("{}", table(&results));
}

fn measure(stage: &Stage, side: Side, operation: Operation, results: &mut Results) {
    let (name, _, _, count) = operation;
    let process = stage.process(side);
    execute(stage, side, (WARM_UP, operation));
    let before = counters(stage, process.as_deref());
    let micros = execute(stage, side, (count, operation));
    let after = counters(stage, process.as_deref());
    let traced = traced(stage, side, operation, process.as_deref());
    let each = |of: fn(&Counters) -> f64| (of(&after) - of(&before)) / f64::from(count);
    let values = [
        micros / f64::from(count),
        traced.requests,
        each(|it| it.guest_notifies),
        each(|it| it.backend_notifies),
        each(|it| it.interrupts),
        traced.system_calls,
        each(|it| it.context_switches),
        each(|it| it.processor_ns) / 1e3,
    ];
    eprintln!("{side:?} {name}: {values:.1?}");
    let all = results.entry((side, name)).or_default();
    all.iter_mut().zip(values).for_each(|(list, value)| list.push(value));
}

/// Executes an operation `count` times. Returns the microseconds of all executions together.
fn execute(stage: &Stage, side: Side, (count, (_, word, kib, _)): (u32, Operation)) -> f64 {
    let command = format!("rig-measure {word} {} {} {count}", STICK.node, kib << 10);
    sh(stage.shell(side), &command).trim().parse().unwrap()
}

/// Reads the counters of dom0 and the guest together.
fn counters(stage: &Stage, process: Option<&str>) -> Counters {
    let read = "cat /proc/interrupts; grep -E '^(ctxt|intr)' /proc/stat";
    let (dom0, guest) = (stage.dom0(read), sh(&stage.guest, read));
    let threads = process.map(|it| stage.dom0(&format!("cat /proc/{it}/task/*/schedstat")));
    let processor = threads.unwrap_or_default();
    let first = |line: &str| line.split(' ').next()?.parse::<f64>().ok();
    Counters {
        guest_notifies: interrupts(&dom0, "evtchn:vusb") + interrupts(&dom0, "evtchn:xen-qemu"),
        backend_notifies: interrupts(&guest, "xenhcd"),
        interrupts: number(&dom0, "intr") + number(&guest, "intr"),
        context_switches: number(&dom0, "ctxt") + number(&guest, "ctxt"),
        processor_ns: processor.lines().filter_map(first).sum(),
    }
}

/// The sum of all lines of `/proc/interrupts` with this word, over all processors.
fn interrupts(text: &str, word: &str) -> f64 {
    let lines = text.lines().filter(|line| line.contains(word));
    let counts = |line: &str| -> f64 {
        let counts = line.split_whitespace().skip(1);
        counts.map_while(|it| it.parse::<f64>().ok()).sum()
    };
    lines.map(counts).sum()
}

/// The first number of the line of `/proc/stat` with this name.
fn number(text: &str, name: &str) -> f64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let line = lines.next().unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// What only tracing can count, per execution of an operation.
struct Traced {
    requests: f64,
    system_calls: f64,
}

fn traced(stage: &Stage, side: Side, operation: Operation, process: Option<&str>) -> Traced {
    let Some(process) = process else { return Traced { requests: 0.0, system_calls: 0.0 } };
    const CALLS: &str = "/sys/kernel/tracing/events/raw_syscalls/sys_enter";
    const PROBE: &str = "/sys/kernel/tracing/events/kprobes/request/enable";
    let count = f64::from(operation.3);
    let requests = || {
        let profile = sh(&stage.guest, "cat /sys/kernel/tracing/kprobe_profile");
        profile.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap()
    };
    stage.dom0(&format!("echo 'hist:keys=common_pid' >{CALLS}/trigger"));
    sh(&stage.guest, &format!("echo 1 >{PROBE}"));
    let before = requests();
    execute(stage, side, (operation.3, operation));
    let after = requests();
    sh(&stage.guest, &format!("echo 0 >{PROBE}"));
    let threads = stage.dom0(&format!("ls /proc/{process}/task"));
    let histogram = stage.dom0(&format!("cat {CALLS}/hist"));
    stage.dom0(&format!("echo '!hist:keys=common_pid' >{CALLS}/trigger"));
    let calls = |thread: &str| -> f64 {
        let mut lines = histogram.lines().filter(|line| {
            line.trim_start_matches(['{', ' '])
                .strip_prefix("common_pid:")
                .is_some_and(|rest| rest.split_whitespace().next() == Some(thread))
        });
        let hits = lines.next().and_then(|line| line.rsplit(':').next());
        hits.map_or(0.0, |it| it.trim().parse().unwrap())
    };
    let system_calls = threads.split_whitespace().map(calls).sum::<f64>();
    Traced { requests: (after - before) / count, system_calls: system_calls / count }
}

fn sh(shell: &Shell, command: &str) -> String {
    shell.sh(command, TIMEOUT).unwrap().ok().unwrap()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The results as a Markdown table: medians, and the range of the times.
fn table(results: &Results) -> String {
    let mut text = String::from("| operation | side | range of µs |");
    COLUMNS.iter().for_each(|it| write!(text, " {it} |").unwrap());
    text.push_str(" times qusb |\n");
    text.push_str(&"|---".repeat(COLUMNS.len() + 4));
    text.push_str("|\n");
    for (name, ..) in OPERATIONS.into_iter().chain([AS_ALLOCATED]) {
        for side in [Side::Dom0, Side::Qusb, Side::Vusb] {
            let Some(values) = results.get(&(side, name)) else { continue };
            let low = values[0].iter().copied().fold(f64::INFINITY, f64::min);
            let high = values[0].iter().copied().fold(0.0, f64::max);
            write!(text, "| {name} | {side:?} | {low:.0} to {high:.0} |").unwrap();
            for (at, list) in values.iter().enumerate() {
                let digits = usize::from(at != 0 && at + 1 != COLUMNS.len());
                write!(text, " {:.digits$} |", median(list)).unwrap();
            }
            let qusb = results.get(&(Side::Qusb, name)).map_or(0.0, |it| median(&it[0]));
            writeln!(text, " {:.1} |", qusb / median(&values[0])).unwrap();
        }
    }
    text
}
