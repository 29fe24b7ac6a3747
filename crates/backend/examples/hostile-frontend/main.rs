//! A PVUSB frontend in user space that can do what no correct driver does. It replaces `xen-hcd` in
//! a PV guest that does not have that driver.
//!
//! ```text
//!   hostile-frontend reference FILE  behaves correctly: finds a stick, configures it, reads its
//!                                    first 64 KiB into FILE, and runs until the toolstack removes
//!                                    the controller
//!   hostile-frontend list            lists all attacks
//!   hostile-frontend NAME [COUNT]    runs one attack; COUNT is how often it repeats its action,
//!                                    for how many seconds, or which variant it uses
//! ```
//!
//! An attack ends with one line: `dropped: WHY` if the backend has closed the controller, with the
//! backend's reason, or `served: WHAT` if a valid request is still answered afterwards. Then the
//! frontend closes the controller (states 5 and 6) and exits. The next run starts at state 1 again.
//!
//! It needs root and the modules xen-evtchn and xen-gntalloc. `xen-hcd` must not be loaded.

#![forbid(unsafe_code)]
#![allow(clippy::indexing_slicing, reason = "a tool for tests may fail loudly")]

mod attacks;
mod frontend;
mod raw;
mod reference_frontend;

use std::process::ExitCode;

use frontend::Failure;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(output) => {
            println!("{output}");
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
        ["reference", file] => reference_frontend::run(file),
        ["list"] => Ok(attacks::ALL.map(|it| it.name).join("\n")),
        [name] => attacks::run(name, None),
        [name, count] => {
            let count = count.parse().map_err(|_| Failure::Usage)?;
            attacks::run(name, Some(count))
        }
        _ => Err(Failure::Usage),
    }
}
