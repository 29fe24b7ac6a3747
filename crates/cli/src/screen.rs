//! What goes to standard output and what to standard error, and how.
//!
//! | | standard output | standard error |
//! |---|---|---|
//! | without options | the result | notes, errors |
//! | `-q` | the result | errors |
//! | `-v` | the result | notes, errors, the steps, a log |
//! | `--json` | one JSON object: the result or the error | a log with `-v`, nothing else |
//!
//! A reader that goes away (`vusb list | head -1`) is no failure: what was done is done, and the exit code says so. A
//! result that cannot be written for any other reason, to a full disk for one, is.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::safe;

/// Where a command writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Whether the result is JSON.
    pub(crate) json: bool,
    /// Whether there are no notes.
    pub(crate) quiet: bool,
    /// Whether each step is told.
    pub(crate) verbose: bool,
}

impl Screen {
    /// The result: one line, or several that are known to be.
    pub(crate) fn result(&self, text: &str) -> io::Result<()> {
        print(&safe::lines(text))
    }

    /// The result, character for character: for what a program reads.
    pub(crate) fn exactly(&self, text: &str) -> io::Result<()> {
        print(text)
    }

    /// The result as JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        print(&safe::json(&text))
    }

    /// What a person should know, and a script need not.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            complain(&safe::line(text));
        }
    }

    /// What a person wants to know who asked for more.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose && !self.json {
            complain(&safe::line(text));
        }
    }
}

/// Writes to standard output, and sees to it that it arrives.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let newline = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    let written = write!(out, "{text}{newline}").and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a line to standard error. If nobody listens there, there is nobody to tell.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Standard error for a log, made safe line by line.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        io::stderr().lock().write_all(safe::lines(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
