//! The host's end of the agent in the guest (`guest/init.sh`): commands in, output and exit code out.
//!
//! ```text
//!   host   7 30 cat /sys/bus/usb/devices/1-1/product\n
//!   guest  @rig 7 0 19\nQEMU USB HARDDRIVE\n\n@end 7\n
//! ```
//!
//! The guest itself ends a command at its limit, so that a command that hangs costs one error and
//! not the agent. An answer that comes after the host gave up is skipped by its number.

use crate::error::{Error, Result, Tail};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What a command in the guest printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Standard output and standard error, as they came.
    pub text: String,
    /// The exit code; 128 + N after signal N.
    pub code: i32,
    command: String,
}

impl Output {
    /// The text, if the command ended with 0.
    ///
    /// # Errors
    /// [`Error::InGuest`] with the output otherwise.
    pub fn ok(self) -> Result<String> {
        if self.code == 0 {
            return Ok(self.text);
        }
        Err(Error::InGuest { command: self.command, code: self.code, output: self.text })
    }
}

/// How much a command may print; more is refused before it is stored.
const OUTPUT_LIMIT: usize = 8 << 20;
/// How much longer than the guest the host waits: the guest's clock and serial line are slow.
const GRACE: Duration = Duration::from_secs(10);
/// How often a wait looks whether QEMU still runs.
const TICK: Duration = Duration::from_millis(200);

/// The connection to a guest's agent.
#[derive(Debug)]
pub(crate) struct Agent {
    stream: UnixStream,
    received: Vec<u8>,
    next: u64,
}

/// What the agent needs of the guest around it.
pub(crate) trait Life {
    /// An error if the guest has ended.
    fn check(&self, what: &str) -> Result<()>;
    /// The end of its console.
    fn tail(&self) -> Tail;
}

impl Agent {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, received: Vec::new(), next: 1 }
    }

    /// Waits until the agent is there; returns the guest's uptime in seconds, as the guest counts.
    pub(crate) fn ready(&mut self, limit: Duration, life: &dyn Life) -> Result<f64> {
        let deadline = Instant::now() + limit;
        loop {
            let line = self.line(deadline, "boot", limit, life)?;
            if let Some(uptime) = line.strip_prefix("@ready ") {
                return Ok(uptime.trim().parse().unwrap_or(0.0));
            }
        }
    }

    /// Runs a command; a code other than 0 is no error here.
    pub(crate) fn sh(&mut self, command: &str, limit: Duration, life: &dyn Life) -> Result<Output> {
        let id = self.next;
        self.next += 1;
        // Whole seconds: not every busybox knows fractions.
        let seconds = limit.as_secs().max(1) + u64::from(limit.subsec_nanos() > 0);
        let request = format!("{id} {seconds} {}\n", escape(command));
        let sent = self.stream.write_all(request.as_bytes());
        if sent.is_err() {
            life.check(command)?;
        }
        sent.map_err(|e| self.confused(&format!("it cannot be written to: {e}"), life))?;
        let started = Instant::now();
        let answer = self.answer(id, command, started + limit + GRACE, limit, life)?;
        if started.elapsed() >= limit && answer.code > 128 {
            let what = format!("end of `{command}`, which printed {:?},", answer.text);
            return Err(Error::Timeout { what, limit, tail: life.tail() });
        }
        Ok(answer)
    }

    fn answer(
        &mut self,
        id: u64,
        command: &str,
        deadline: Instant,
        limit: Duration,
        life: &dyn Life,
    ) -> Result<Output> {
        let what = format!("answer to `{command}`");
        loop {
            let line = self.line(deadline, &what, limit, life)?;
            let Some(header) = line.strip_prefix("@rig ") else {
                continue;
            };
            let bad = || self.confused(&format!("it answered {line:?}"), life);
            let (number, code, length) = parse_header(header).ok_or_else(bad)?;
            if length > OUTPUT_LIMIT {
                return Err(self.confused(&format!("{length} bytes of output"), life));
            }
            let body = self.bytes(length, deadline, &what, limit, life)?;
            if number == id {
                let text = String::from_utf8_lossy(&body).into_owned();
                return Ok(Output { text, code, command: command.to_owned() });
            }
        }
    }

    fn line(
        &mut self,
        deadline: Instant,
        what: &str,
        limit: Duration,
        life: &dyn Life,
    ) -> Result<String> {
        let mut searched = 0;
        loop {
            let fresh = self.received.get(searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=searched + at).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            searched = self.received.len();
            if searched > OUTPUT_LIMIT {
                return Err(self.confused("a line without end", life));
            }
            self.more(deadline, what, limit, life)?;
        }
    }

    fn bytes(
        &mut self,
        count: usize,
        deadline: Instant,
        what: &str,
        limit: Duration,
        life: &dyn Life,
    ) -> Result<Vec<u8>> {
        while self.received.len() < count {
            self.more(deadline, what, limit, life)?;
        }
        Ok(self.received.drain(..count).collect())
    }

    /// Waits for at least one byte more.
    fn more(
        &mut self,
        deadline: Instant,
        what: &str,
        limit: Duration,
        life: &dyn Life,
    ) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Timeout { what: what.to_owned(), limit, tail: life.tail() });
            }
            let wait = self.stream.set_read_timeout(Some(left.min(TICK)));
            match wait.and_then(|()| self.stream.read(&mut buffer)) {
                Ok(0) => {
                    // The socket closes a moment before the process is gone.
                    std::thread::sleep(TICK);
                    life.check(what)?;
                    return Err(self.confused("its line is closed", life));
                }
                Ok(count) => {
                    self.received.extend(buffer.iter().take(count));
                    return Ok(());
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    life.check(what)?;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.confused(&format!("it cannot be read: {e}"), life)),
            }
        }
    }

    fn confused(&self, what: &str, life: &dyn Life) -> Error {
        Error::Agent { what: what.to_owned(), tail: life.tail() }
    }
}

/// `ID CODE LENGTH`
fn parse_header(header: &str) -> Option<(u64, i32, usize)> {
    let mut words = header.split_whitespace();
    let id = words.next()?.parse().ok()?;
    let code = words.next()?.parse().ok()?;
    let length = words.next()?.parse().ok()?;
    Some((id, code, length))
}

/// A command on one line, as the shell's `printf %b` turns it back: `\0ooo` is a byte in octal.
fn escape(command: &str) -> String {
    let mut line = String::with_capacity(command.len());
    for byte in command.bytes() {
        match byte {
            b'\\' => line.push_str("\\\\"),
            b'!'..=b'~' => line.push(char::from(byte)),
            b' ' if !line.is_empty() => line.push(' '),
            _ => line.push_str(&format!("\\0{byte:03o}")),
        }
    }
    // read(1) would strip spaces at the end.
    let trimmed = line.trim_end_matches(' ').len();
    let spaces = line.len() - trimmed;
    line.truncate(trimmed);
    line + &"\\0040".repeat(spaces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_travels_on_one_line() {
        assert_eq!(escape("echo a\nb"), r"echo a\0012b");
        assert_eq!(escape(r"printf '\n'"), r"printf '\\n'");
        assert_eq!(escape(" a  "), r"\0040a\0040\0040");
        assert_eq!(escape("ä"), r"\0303\0244");
    }

    #[test]
    fn a_header_has_three_numbers() {
        assert_eq!(parse_header("7 0 19"), Some((7, 0, 19)));
        assert_eq!(parse_header("7 0"), None);
        assert_eq!(parse_header("7 0 -1"), None);
    }
}
