//! Completion of a command line in a shell, with the names of real domains, controllers, devices
//! and ports.
//!
//! ```text
//!   crates/cli/completions/vusb.bash ─▶ vusb __complete -- device remove web1 st
//!                                         line.rs: what the last word is: the device of web1
//!                                         candidates.rs: web1's devices, from its record
//!                                    ◀─ stick TAB storage:stick.img at hci0:1
//! ```
//!
//! A line of the answer is a candidate, and after a tab its description. The shell waits for the
//! answer at each press of Tab, so no lock is taken and no monitor is opened. The list of running
//! guests is waited for 20 ms at most, and every error means that there are no candidates.

mod candidate;
mod candidates;
mod line;

use std::ffi::OsString;

use clap::CommandFactory as _;

use crate::arguments::{Arguments, GlobalOptions};
use crate::safe;
use candidate::Candidate;
use candidates::Sources;
use line::Line;

/// The answer for these words, which follow the name of the command. The last one is completed.
pub(crate) fn complete(words: &[OsString], global: &GlobalOptions) -> String {
    let mut command = Arguments::command();
    command.build();
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let line = Line::parse(&command, &words);
    let candidates = line.candidates(&Sources::new(&line, global));
    let mut answer = String::new();
    for Candidate { value, description } in candidates {
        // Text that a terminal would not show unchanged is not offered.
        if safe::line(&value) == value {
            let description = description.lines().next().unwrap_or_default();
            answer.push_str(&format!("{value}\t{}\n", safe::line(description)));
        }
    }
    answer
}
