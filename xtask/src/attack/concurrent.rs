//! Eight processes at once, on one guest and on several, and on one file.
//!
//! ```text
//!   eight workers, each with devices of its own:   add ─▶ remove ─▶ add ...   for a minute
//!   afterwards: each guest has exactly the devices that the workers have
//! ```
//!
//! The promises: no command breaks, none fails without a reason, no device is lost or left, and
//! nothing is left in the folders.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::limited_command::Finished;
use super::random::Random;
use super::sandbox::{STATE, Sandbox};
use super::{Context, Figures};
use crate::cargo::Result;

const WORKERS: usize = 8;

/// How long a command may take: it may wait for the seven others.
const LIMIT: Duration = Duration::from_secs(60);

/// What the workers change.
struct Workload {
    what: &'static str,
    /// The domains: worker N works on domain N modulo their number.
    domains: &'static [&'static str],
    /// The state folders: likewise.
    states: &'static [&'static str],
    /// The maximum number of devices of a worker, so that the devices of all workers fit.
    max_devices: usize,
}

const WORKLOADS: [Workload; 3] = [
    Workload { what: "one guest", domains: &["sim:S"], states: &["state"], max_devices: 6 },
    Workload {
        what: "four guests",
        domains: &["sim:S0", "sim:S1", "sim:S2", "sim:S3"],
        states: &["state"],
        max_devices: 12,
    },
    Workload {
        what: "one file, from two state folders",
        domains: &["web1.toml"],
        states: &["state", "other"],
        max_devices: 6,
    },
];

/// Runs a command that may have to wait for the others.
fn run_one(sandbox: &Sandbox, state: &str, words: &str) -> Result<Finished> {
    sandbox.run(state, &format!("{words} --timeout 30"), LIMIT)
}

/// The names of the devices that a domain has.
fn devices(sandbox: &Sandbox, domain: &str) -> Result<BTreeSet<String>> {
    let ran = run_one(sandbox, STATE, &format!("device list {domain} --json"))?;
    let list: Value = serde_json::from_str(&ran.stdout)
        .map_err(|error| format!("{domain}: {error}: {}", ran.stderr))?;
    let devices = list.get("devices").and_then(Value::as_array);
    let devices = devices.ok_or("no devices in the list")?.iter();
    Ok(devices.filter_map(|it| it.get("name")?.as_str().map(str::to_owned)).collect())
}

/// What one worker did.
#[derive(Default)]
struct Work {
    commands: usize,
    /// The devices that it has in the end.
    devices: BTreeSet<String>,
    broken: Vec<String>,
}

/// Adds and removes devices of its own until the end.
fn work(sandbox: &Sandbox, workload: &Workload, number: usize, end: Instant) -> Result<Work> {
    let mut random = Random::new(u64::try_from(number).unwrap_or(0));
    let domain = workload.domains.get(number % workload.domains.len()).copied().unwrap_or_default();
    let state = workload.states.get(number % workload.states.len()).copied().unwrap_or_default();
    let mut done = Work::default();
    while Instant::now() < end {
        let some: Vec<String> = done.devices.iter().cloned().collect();
        let remove = random.below(2) == 0 || some.len() >= workload.max_devices;
        let words = match random.pick(&some).filter(|_| remove) {
            Some(name) => format!("device remove {domain} {name}"),
            None => format!("device add {domain} mouse --name w{number}-{}", done.commands),
        };
        let ran = run_one(sandbox, state, &words)?;
        done.commands += 1;
        if let Some(why) = ran.broken() {
            done.broken.push(format!("`vusb {words}`: {why}"));
        } else if ran.code != Some(0) {
            done.broken.push(format!("`vusb {words}` failed: {}", ran.stderr));
        }
        let name = words.rsplit(' ').next().unwrap_or_default().to_owned();
        if words.starts_with("device remove") {
            done.devices.remove(&name);
        } else {
            done.devices.insert(name);
        }
    }
    Ok(done)
}

pub(super) fn run(context: &Context) -> Result<Figures> {
    let mut figures = Figures::default();
    let seconds = u64::try_from(context.times(60, 3)).unwrap_or(60);
    for workload in &WORKLOADS {
        let sandbox = Sandbox::new(&context.vusb)?;
        fs::write(sandbox.path("web1.toml"), "domain = \"web1\"\n")?;
        let end = Instant::now() + Duration::from_secs(seconds);
        let done: Vec<Work> = std::thread::scope(|scope| {
            let sandbox = &sandbox;
            let one = |number| {
                scope.spawn(move || {
                    work(sandbox, workload, number, end).map_err(|it| it.to_string())
                })
            };
            let workers: Vec<_> = (0..WORKERS).map(one).collect();
            let ended = workers.into_iter().map(|it| it.join().map_err(|_| "a worker panicked")?);
            ended.collect::<std::result::Result<_, String>>()
        })?;
        let commands: usize = done.iter().map(|it| it.commands).sum();
        figures.row(format!("commands on {} by {WORKERS} processes", workload.what), commands);
        compare(&sandbox, workload, &done, &mut figures)?;
        done.into_iter().flat_map(|it| it.broken).for_each(|it| figures.broken(it));
    }
    Ok(figures)
}

/// Compares what the domains have with what the workers have, and looks for leftovers.
fn compare(
    sandbox: &Sandbox,
    workload: &Workload,
    done: &[Work],
    figures: &mut Figures,
) -> Result<()> {
    let found: BTreeSet<String> =
        workload.domains.iter().try_fold(BTreeSet::new(), |mut all, it| {
            all.append(&mut devices(sandbox, it)?);
            Ok::<_, Box<dyn std::error::Error>>(all)
        })?;
    let expected: BTreeSet<String> = done.iter().flat_map(|it| it.devices.clone()).collect();
    for name in found.symmetric_difference(&expected) {
        let what = if expected.contains(name) { "lost" } else { "left" };
        figures.broken(format!("{}: {name} is {what}", workload.what));
    }
    let folders = workload.states.iter().copied().chain(["."]);
    for folder in folders {
        let path = sandbox.path(folder);
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_left =
                name.starts_with('.') || name.ends_with(".new") || name.ends_with(".intent");
            if is_left {
                figures.broken(format!("{}: {folder}/{name} is left", workload.what));
            }
        }
    }
    Ok(())
}
