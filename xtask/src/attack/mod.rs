//! `cargo xtask attack`: how vusb behaves with faults and under attack.
//!
//! ```text
//!   part ──▶ Figures: rows (what was tried, how many times, with what result), and broken promises
//!                └──▶ printed; with `--write`, also put into docs/reliability.md
//! ```
//!
//! Each part is a module with a function that takes a [`Context`] and returns [`Figures`]. A part
//! does not stop at the first broken promise: it counts them, and names the first few.

mod calls;
mod concurrent;
mod disk;
mod inputs;
mod kills;
mod limited_command;
mod page;
mod peers;
mod races;
mod random;
mod sandbox;
mod stage;

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Instant;

use crate::cargo::{self, Result};

/// How many broken promises of a part are printed in full.
const SHOWN: usize = 10;

/// A part of the attack.
struct Part {
    /// Its name on the command line, and the name of its table in docs/reliability.md.
    name: &'static str,
    run: fn(&Context) -> Result<Figures>,
}

/// All parts, in the order in which they run.
const PARTS: [Part; 6] = [
    Part { name: "kills", run: kills::run },
    Part { name: "disk", run: disk::run },
    Part { name: "concurrent", run: concurrent::run },
    Part { name: "races", run: races::run },
    Part { name: "peers", run: peers::run },
    Part { name: "inputs", run: inputs::run },
];

/// What all parts have in common.
pub(crate) struct Context {
    /// The command under attack.
    pub(crate) vusb: PathBuf,
    /// Whether this is the short form, for every change: some minutes at most for all parts.
    pub(crate) short: bool,
}

impl Context {
    /// How many times to try something: `full` times, or `short` times in the short form.
    pub(crate) fn times(&self, full: usize, short: usize) -> usize {
        if self.short { short } else { full }
    }
}

/// What a part has measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    rows: Vec<(String, String)>,
    broken: Vec<String>,
}

impl Figures {
    /// Adds a row to the table.
    pub(crate) fn row(&mut self, what: impl Into<String>, value: impl Display) {
        self.rows.push((what.into(), value.to_string()));
    }

    /// Reports a broken promise, with everything that is needed to repeat it.
    pub(crate) fn broken(&mut self, what: impl Into<String>) {
        self.broken.push(what.into());
    }

    /// The table, in Markdown.
    fn table(&self) -> String {
        let mut text = "| | |\n|---|---|\n".to_owned();
        let broken = ("promises broken".to_owned(), self.broken.len().to_string());
        for (what, value) in self.rows.iter().chain([&broken]) {
            text.push_str(&format!("| {what} | {value} |\n"));
        }
        text
    }
}

/// Runs the parts that the words name, or all. `--short` runs the short form; `--write` puts the
/// figures into docs/reliability.md; `--vusb=PATH` attacks another build than this one.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (options, names): (Vec<&str>, Vec<&str>) =
        words.iter().partition(|word| word.starts_with("--"));
    let is_known = |it: &&&str| ["--short", "--write"].contains(*it) || it.starts_with("--vusb=");
    if let Some(unknown) = options.iter().find(|it| !is_known(it)) {
        return Err(format!("unknown option {unknown}; see cargo xtask").into());
    }
    let known: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(format!("unknown part {unknown}; known are {}", known.join(", ")).into());
    }
    vusb_rig::packages::ensure()?;
    let vusb = match options.iter().find_map(|it| it.strip_prefix("--vusb=")) {
        Some(path) => std::path::absolute(path)?,
        None => cargo::build_vusb()?,
    };
    let context = Context { vusb, short: options.contains(&"--short") };
    let mut broken = 0;
    for part in PARTS.iter().filter(|part| names.is_empty() || names.contains(&part.name)) {
        let begin = Instant::now();
        println!("== {}", part.name);
        let figures = (part.run)(&context)?;
        print!("{}", figures.table());
        println!("took {} s", begin.elapsed().as_secs());
        for what in figures.broken.iter().take(SHOWN) {
            println!("broken: {what}");
        }
        broken += figures.broken.len();
        if options.contains(&"--write") {
            page::write(part.name, &figures.table())?;
        }
    }
    if broken == 0 { Ok(()) } else { Err(format!("{broken} promises were broken").into()) }
}
