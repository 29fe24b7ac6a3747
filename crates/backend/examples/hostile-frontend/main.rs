//! A PVUSB frontend that runs as a program, for what no driver would do: it stands in for `xen-hcd` in a PV guest that has none.
//!
//! ```text
//!   hostile-frontend well FILE     what a good frontend does: finds a stick, configures it, reads its first 64 KiB into FILE,
//!                                  and stays until the toolstack takes the controller away
//!   hostile-frontend list          names of all attacks
//!   hostile-frontend NAME [COUNT]  one attack; COUNT is for those that do one thing many times, or in several ways
//! ```
//!
//! An attack ends with one line: `dropped: WHY`, if the backend has closed the controller and says why, or `served: WHAT`, if a good request
//! is still answered after it. Then the frontend lets go of the controller (5, then 6) and ends. Run again, it comes back to 1.
//!
//! It needs root, and the modules xen-evtchn and xen-gntalloc; `xen-hcd` must not be there.

#![forbid(unsafe_code)]
#![allow(clippy::indexing_slicing, reason = "a tool for tests may fail loudly")]

mod attacks;
mod frontend;
mod raw;
mod well;

use std::process::ExitCode;

use frontend::Failure;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("hostile-frontend: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<String, Failure> {
    match words {
        ["well", file] => well::run(file),
        ["list"] => Ok(attacks::ALL.map(|it| it.name).join("\n")),
        [name] => attacks::run(name, None),
        [name, count] => {
            let count = count.parse().map_err(|_| Failure::Usage)?;
            attacks::run(name, Some(count))
        }
        _ => Err(Failure::Usage),
    }
}
