//! The host's end of the agent in the guest (`guest/init.sh`): sends commands, receives output and
//! exit code.
//!
//! ```text
//!   host   7 30 cat /sys/bus/usb/devices/1-1/product\n
//!   guest  @rig 7 0 19\nQEMU USB HARDDRIVE\n\n@end 7\n
//! ```
//!
//! The guest itself kills a command at its limit, so a command that hangs causes one error and the
//! agent stays usable. A reply that arrives after the host gave up is recognized by its number and
//! skipped.

use crate::error::{Error, Result, Tail};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The output and exit code of a command in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Standard output and standard error, interleaved.
    pub text: String,
    /// The exit code; 128 + N after signal N.
    pub code: i32,
    command: String,
}

impl Output {
    /// The text if the exit code is 0.
    ///
    /// # Errors
    /// Otherwise [`Error::InGuest`] with the output.
    pub fn ok(self) -> Result<String> {
        if self.code == 0 {
            return Ok(self.text);
        }
        Err(Error::InGuest { command: self.command, code: self.code, output: self.text })
    }
}

/// The maximum output of a command in bytes. More is rejected before it is stored.
const OUTPUT_LIMIT: usize = 8 << 20;
/// How much longer the host waits than the guest, whose clock and serial line are slow.
const GRACE: Duration = Duration::from_secs(10);
/// The interval at which a waiting call checks that QEMU is still running.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// The connection to a guest's agent.
#[derive(Debug)]
pub(crate) struct Agent {
    stream: UnixStream,
    received: Vec<u8>,
    next: u64,
}

/// The state of the guest that the agent runs in.
pub(crate) trait Liveness {
    /// Returns an error if the guest has ended.
    fn check(&self, what: &str) -> Result<()>;
    /// The end of its console.
    fn tail(&self) -> Tail;
}

impl Agent {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, received: Vec::new(), next: 1 }
    }

    /// Waits until the agent has started. Returns the guest's uptime in seconds by the guest's
    /// clock.
    pub(crate) fn ready(&mut self, limit: Duration, life: &dyn Liveness) -> Result<f64> {
        let deadline = Instant::now() + limit;
        loop {
            let line = self.line(deadline, "boot", limit, life)?;
            if let Some(uptime) = line.strip_prefix("@ready ") {
                return Ok(uptime.trim().parse().unwrap_or(0.0));
            }
        }
    }

    /// Runs a command. An exit code other than 0 is not an error here.
    pub(crate) fn sh(
        &mut self,
        command: &str,
        limit: Duration,
        life: &dyn Liveness,
    ) -> Result<Output> {
        let id = self.next;
        self.next += 1;
        // Whole seconds, because some builds of busybox do not accept fractions.
        let seconds = limit.as_secs().max(1) + u64::from(limit.subsec_nanos() > 0);
        let request = format!("{id} {seconds} {}\n", escape(command));
        let sent = self.stream.write_all(request.as_bytes());
        if sent.is_err() {
            life.check(command)?;
        }
        sent.map_err(|e| self.protocol_error(&format!("cannot send a request: {e}"), life))?;
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
        life: &dyn Liveness,
    ) -> Result<Output> {
        let what = format!("answer to `{command}`");
        loop {
            let line = self.line(deadline, &what, limit, life)?;
            let Some(header) = line.strip_prefix("@rig ") else {
                continue;
            };
            let bad = || self.protocol_error(&format!("malformed reply {line:?}"), life);
            let (number, code, length) = parse_header(header).ok_or_else(bad)?;
            if length > OUTPUT_LIMIT {
                return Err(self.protocol_error(&format!("{length} bytes of output"), life));
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
        life: &dyn Liveness,
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
                return Err(self.protocol_error("a line exceeds the limit", life));
            }
            self.receive(deadline, what, limit, life)?;
        }
    }

    fn bytes(
        &mut self,
        count: usize,
        deadline: Instant,
        what: &str,
        limit: Duration,
        life: &dyn Liveness,
    ) -> Result<Vec<u8>> {
        while self.received.len() < count {
            self.receive(deadline, what, limit, life)?;
        }
        Ok(self.received.drain(..count).collect())
    }

    /// Receives at least one more byte.
    fn receive(
        &mut self,
        deadline: Instant,
        what: &str,
        limit: Duration,
        life: &dyn Liveness,
    ) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Timeout { what: what.to_owned(), limit, tail: life.tail() });
            }
            let wait = self.stream.set_read_timeout(Some(left.min(CHECK_INTERVAL)));
            match wait.and_then(|()| self.stream.read(&mut buffer)) {
                Ok(0) => {
                    // The socket closes a moment before the process ends.
                    std::thread::sleep(CHECK_INTERVAL);
                    life.check(what)?;
                    return Err(self.protocol_error("the connection is closed", life));
                }
                Ok(count) => {
                    self.received.extend(buffer.iter().take(count));
                    return Ok(());
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    life.check(what)?;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(self.protocol_error(&format!("cannot receive a reply: {e}"), life));
                }
            }
        }
    }

    fn protocol_error(&self, what: &str, life: &dyn Liveness) -> Error {
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

/// Encodes a command as one line for the shell's `printf %b`: `\0ooo` is a byte in octal.
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
    // The shell's `read` would strip trailing spaces.
    let trimmed = line.trim_end_matches(' ').len();
    let spaces = line.len() - trimmed;
    line.truncate(trimmed);
    line + &"\\0040".repeat(spaces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_encoded_as_one_line() {
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
