//! Standard output and standard error.
//!
//! | | standard output | standard error |
//! |---|---|---|
//! | without options | the result | notes, errors |
//! | `-q` | the result | errors |
//! | `-v` | the result | notes, errors, the steps, a log |
//! | `--json` | one JSON object: the result or the error | a log with `-v`, nothing else |
//!
//! A reader that closes the pipe (`vusb list | head -1`) is not a failure: the change was made, and
//! the exit code says so. Any other write error, on a full disk for instance, is a failure.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::safe;

/// How a command prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Whether the result is JSON.
    pub(crate) json: bool,
    /// Whether notes are suppressed.
    pub(crate) quiet: bool,
    /// Whether each step is printed.
    pub(crate) verbose: bool,
}

impl Screen {
    /// Prints the result, with control characters escaped except line ends.
    pub(crate) fn result(&self, text: &str) -> io::Result<()> {
        print(&safe::lines(text))
    }

    /// Prints the result unescaped, for results that programs read.
    pub(crate) fn unescaped(&self, text: &str) -> io::Result<()> {
        print(text)
    }

    /// Prints the result as JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        print(&safe::json(&text))
    }

    /// Prints a note, which a script can ignore.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            print_to_stderr(&safe::line(text));
        }
    }

    /// Prints a note of several lines, which a script can ignore.
    pub(crate) fn notes(&self, text: &str) {
        if !self.quiet && !self.json {
            print_to_stderr(&safe::lines(text));
        }
    }

    /// Prints what failed, while the command goes on.
    pub(crate) fn error(&self, text: &str) {
        if !self.json {
            print_to_stderr(&safe::line(text));
        }
    }

    /// Prints a detail, with `-v` only.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose && !self.json {
            print_to_stderr(&safe::line(text));
        }
    }
}

/// Writes to standard output and flushes it.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let newline = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    let written = write!(out, "{text}{newline}").and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a line to standard error. A failure is ignored: there is no other place to report it.
pub(crate) fn print_to_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Standard error as a log's writer, with control characters escaped.
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
