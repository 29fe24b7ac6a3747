//! `cargo xtask`: tests, benchmarks and the demonstration, from a fresh clone on a Debian machine with Rust.
//!
//! What is missing on the machine is installed, and said so first.

#![forbid(unsafe_code)]

mod bench;
mod cargo;
mod demo;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  demo    give a real guest USB controllers and devices, and show what its kernel sees; demo xen: a guest of Xen
  test    pass every test: fast ones first, then those with real QEMUs and real guests
  soak    give a real Xen guest a device a thousand times, and see that nothing is left of it; three quarters of an hour
  bench   run all benchmarks; with names, those: resolve, command, xen

Installs what it needs with apt-get (as root or through sudo), and says so first.
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo::run(),
        ["demo", "xen"] => demo::xen::run(),
        ["test"] => test::run(),
        ["soak"] => test::soak(),
        ["bench", names @ ..] => bench::run(names),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
