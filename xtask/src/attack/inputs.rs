//! Inputs with mutated bytes: specs, files of other tools, records, simulated guests.
//!
//! ```text
//!   seeds: every valid input of the tests ──▶ a few mutations ──▶ a file ──▶ one command
//! ```
//!
//! The promises: no panic, no abort, no hang, no more than 256 MiB, and a known exit code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::limited_command::Finished;
use super::random::Random;
use super::sandbox::{STATE, Sandbox};
use super::{Context, Figures};
use crate::cargo::{self, Result};

/// How long a command may take: many times what the slowest takes.
const LIMIT: Duration = Duration::from_secs(30);

/// The longest mutated input: just beyond the limit of a text.
const MAX_BYTES: usize = (2 << 20) + 100;

/// The commands on a file. `F` stands for the file.
const COMMANDS: [&str; 11] = [
    "list F",
    "plan F",
    "digest F",
    "qemu-args F",
    "convert F --to vusb",
    "convert F --to libvirt --lossy",
    "device add F mouse",
    "device add F 0781:5581 --dry-run",
    "device add F audio",
    "controller add F --usbversion 2",
    "controller remove F 0 --force",
];

/// The words that mutations insert into a text.
const TOKENS: [&[u8]; 24] = [
    b"\0",
    b"\xff\xfe",
    b"\xf0\x9f\x98\x80",
    b"\xe2\x80\xae",
    b"\x1b[2J",
    b"\n",
    b"\r\n",
    b"\"",
    b"'''",
    b"[[",
    b"[[device]]\n",
    b"{",
    b"]",
    b"-1",
    b"99999999999999999999",
    b"0x",
    b"1e999",
    b"nan",
    b"<![CDATA[",
    b"&#x0;",
    b"<!DOCTYPE a>",
    b"<address type='usb' bus='0' port='1'/>",
    b"usb:1.present = \"TRUE\"\n",
    b"device = ",
];

/// The commands on a simulated guest with a record.
const COMMANDS_ON_RECORD: [&str; 8] = [
    "list",
    "list sim:S",
    "device add sim:S mouse",
    "device add sim:S audio",
    "controller add sim:S",
    "controller remove sim:S 0 --force",
    "apply sim:S",
    "host list",
];

/// The endings of the inputs of the tests.
const EXTENSIONS: [&str; 5] = ["toml", "xml", "cfg", "vmx", "json"];

/// The sorts of inputs that only vusb writes, in the order of [`Fixture::own`].
const VUSB_SORTS: [&str; 2] = ["record", "simulated guest"];

/// The inputs of the tests.
struct Seeds {
    by_extension: BTreeMap<&'static str, Vec<Vec<u8>>>,
    /// All of them, for mutations that combine two.
    all: Vec<Vec<u8>>,
}

/// All inputs of the tests.
fn seeds() -> Result<Seeds> {
    let mut by_extension = BTreeMap::new();
    collect(&cargo::workspace().join("crates"), &mut by_extension)?;
    if let Some(missing) = EXTENSIONS.iter().find(|it| !by_extension.contains_key(*it)) {
        return Err(format!("the tests have no input with the ending {missing}").into());
    }
    // The order of a folder differs between machines.
    by_extension.values_mut().for_each(|seeds| seeds.sort());
    let all = by_extension.values().flatten().cloned().collect();
    Ok(Seeds { by_extension, all })
}

fn collect(folder: &Path, seeds: &mut BTreeMap<&'static str, Vec<Vec<u8>>>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
        if path.is_dir() {
            collect(&path, seeds)?;
        } else if let Some(known) = EXTENSIONS.iter().find(|it| **it == extension) {
            if path.components().any(|it| it.as_os_str() == "tests") {
                seeds.entry(known).or_default().push(fs::read(&path)?);
            }
        }
    }
    Ok(())
}

/// One to eight mutations of an input. Now and then it becomes as large as a text may be.
fn mutate(random: &mut Random, seeds: &[Vec<u8>], seed: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(8) {
        let (from, to) = range(random, bytes.len());
        match random.below(7) {
            0 => {
                if let Some(byte) = bytes.get_mut(from) {
                    *byte ^= 1 << (random.next() % 8);
                }
            }
            1 => {
                bytes.drain(from..to);
            }
            2 => {
                let part: Vec<u8> =
                    bytes.get(from..to).unwrap_or_default().repeat(1 + random.below(50));
                bytes.splice(to..to, part);
            }
            3 => bytes.truncate(from),
            4 => {
                let other = random.pick(seeds).map(Vec::as_slice).unwrap_or_default();
                let (start, end) = range(random, other.len());
                bytes.splice(from..to, other.get(start..end).unwrap_or_default().to_vec());
            }
            _ => {
                let token = random.pick(&TOKENS).copied().unwrap_or_default();
                let keep = if random.below(2) == 0 { from } else { to };
                bytes.splice(from..keep, token.to_vec());
            }
        }
        bytes.truncate(MAX_BYTES);
    }
    if random.below(100) == 0 && !bytes.is_empty() {
        let (from, to) = range(random, bytes.len());
        let part = bytes.get(from..to.max(from + 1)).unwrap_or_default().to_vec();
        let times = (MAX_BYTES.saturating_sub(bytes.len())) / part.len().max(1);
        bytes.splice(to..to, part.repeat(times));
    }
    bytes
}

/// A short range.
fn range(random: &mut Random, length: usize) -> (usize, usize) {
    let from = random.below(length + 1);
    let most = if random.below(4) == 0 { 2000 } else { 40 };
    (from, (from + random.below(most)).min(length))
}

/// The sandbox of one thread, with a simulated guest that has a record.
struct Fixture {
    sandbox: Sandbox,
    /// The record and the simulated guest, as vusb wrote them.
    own: Vec<(PathBuf, Vec<u8>)>,
}

/// One mutated input.
struct Tried {
    words: String,
    bytes: Vec<u8>,
    ran: Finished,
}

impl Fixture {
    fn new(context: &Context) -> Result<Fixture> {
        let sandbox = Sandbox::new(&context.vusb)?;
        let ran = sandbox.run(STATE, "device add sim:S tablet", LIMIT)?;
        if ran.code != Some(0) {
            return Err(ran.stderr.into());
        }
        let state = fs::read_dir(sandbox.path(STATE))?.flatten().map(|it| it.path());
        let records = state.filter(|it| it.extension().is_some_and(|it| it == "json"));
        let own = records.chain([sandbox.path("S")]);
        let own = own.map(|it| Ok((it.clone(), fs::read(it)?))).collect::<Result<_>>()?;
        Ok(Fixture { sandbox, own })
    }

    /// Tries a mutated input of this sort.
    fn attack(&self, random: &mut Random, seeds: &Seeds, sort: &str) -> Result<Tried> {
        let all = &seeds.all;
        if let Some(own) = VUSB_SORTS.iter().position(|it| *it == sort) {
            return self.attack_own(random, all, own);
        }
        let of_sort = seeds.by_extension.get(sort).ok_or("no seeds")?;
        let seed = random.pick(of_sort).ok_or("no seeds")?;
        let bytes = mutate(random, all, seed);
        let file = format!("guest.{sort}");
        fs::write(self.sandbox.path(&file), &bytes)?;
        let words = random.pick(&COMMANDS).copied().unwrap_or_default().replace('F', &file);
        let ran = self.sandbox.run(STATE, &words, LIMIT)?;
        Ok(Tried { words, bytes, ran })
    }

    /// Tries a mutated record or a mutated simulated guest.
    fn attack_own(&self, random: &mut Random, all: &[Vec<u8>], number: usize) -> Result<Tried> {
        let (path, bytes) = self.own.get(number).ok_or("no record")?;
        let bytes = mutate(random, all, bytes);
        for (path, bytes) in &self.own {
            fs::write(path, bytes)?;
        }
        fs::write(path, &bytes)?;
        let words = random.pick(&COMMANDS_ON_RECORD).copied().unwrap_or_default().to_owned();
        let ran = self.sandbox.run(STATE, &words, LIMIT)?;
        Ok(Tried { words, bytes, ran })
    }
}

/// The results of all threads.
#[derive(Default)]
struct Results {
    tried: BTreeMap<&'static str, usize>,
    accepted: usize,
    slowest: Duration,
    broken: Vec<String>,
}

pub(super) fn run(context: &Context) -> Result<Figures> {
    let seeds = seeds()?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let each = context.times(20_000, 300).div_ceil(threads);
    let kept = cargo::target().join("attack");
    fs::create_dir_all(&kept)?;
    let results = Mutex::new(Results::default());
    std::thread::scope(|scope| {
        let one = |thread: usize| {
            let (seeds, kept, results) = (&seeds, &kept, &results);
            scope.spawn(move || -> std::result::Result<(), String> {
                let fixture = Fixture::new(context).map_err(|it| it.to_string())?;
                let mut random = Random::new(u64::try_from(thread).unwrap_or(0));
                for number in 0..each {
                    // Each sort gets an equal share, however many inputs the tests have.
                    let sorts = EXTENSIONS.len() + VUSB_SORTS.len();
                    let mut sorts =
                        EXTENSIONS.iter().chain(&VUSB_SORTS).cycle().skip(number % sorts);
                    let sort = sorts.next().copied().unwrap_or_default();
                    let tried = fixture.attack(&mut random, seeds, sort);
                    let Tried { words, bytes, ran } = tried.map_err(|it| it.to_string())?;
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    *results.tried.entry(sort).or_default() += 1;
                    results.accepted += usize::from(ran.code == Some(0));
                    results.slowest = results.slowest.max(ran.took);
                    if let Some(why) = ran.broken() {
                        let input = kept.join(format!("input-{thread}-{number}"));
                        fs::write(&input, bytes).map_err(|it| it.to_string())?;
                        let input = input.display();
                        results.broken.push(format!("`vusb {words}` with {input}: {why}"));
                    }
                }
                Ok(())
            })
        };
        let threads: Vec<_> = (0..threads).map(one).collect();
        threads.into_iter().try_for_each(|it| it.join().map_err(|_| "a thread panicked")?)
    })?;
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut figures = Figures::default();
    for (sort, count) in &results.tried {
        figures.row(format!("mutated inputs: {sort}"), count);
    }
    figures.row("accepted by the command", results.accepted);
    figures.row("the slowest command", format!("{:.1} s", results.slowest.as_secs_f32()));
    results.broken.into_iter().for_each(|it| figures.broken(it));
    Ok(figures)
}
