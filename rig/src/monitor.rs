//! The rig's own small QMP client, so that the rig does not depend on the code under test. QMP is
//! JSON with one value per line: docs/interop/qmp-spec of QEMU.

use crate::error::{Error, Result, Tail};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The maximum length of a line from QEMU; the response to `query-qmp-schema` is about 200 kB long.
const LINE_LIMIT: usize = 16 << 20;
/// The maximum number of events that are kept for [`Monitor::wait_event`].
const EVENTS_KEPT: usize = 1024;

/// A connection to a QMP monitor.
#[derive(Debug)]
pub struct Monitor {
    stream: UnixStream,
    received: Vec<u8>,
    events: VecDeque<Value>,
}

impl Monitor {
    /// Connects, retrying until the socket accepts, and negotiates capabilities.
    ///
    /// # Errors
    /// [`Error::Io`] if the socket does not accept in time, [`Error::Timeout`] if there is no
    /// response, [`Error::Monitor`] if the peer does not speak QMP.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self> {
        let deadline = Instant::now() + limit;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(Error::io("connect to", path)(error)),
            }
        };
        let mut monitor = Self { stream, received: Vec::new(), events: VecDeque::new() };
        let greeting = monitor.receive(deadline, limit, "greeting of the monitor")?;
        if greeting.get("QMP").is_none() {
            return Err(Error::Monitor(format!(
                "unexpected greeting from {}: {greeting}",
                path.display()
            )));
        }
        monitor.execute("qmp_capabilities", json!({}), limit)?;
        Ok(monitor)
    }

    /// Runs a command and returns its `return` value.
    ///
    /// # Errors
    /// [`Error::Monitor`] with QEMU's message if the command fails, or if the connection is lost.
    /// [`Error::Timeout`]: do not use the monitor after that, because commands have no ids, and the
    /// late response would be taken for that of the next command.
    pub fn execute(&mut self, command: &str, arguments: Value, limit: Duration) -> Result<Value> {
        let deadline = Instant::now() + limit;
        let line = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        self.stream
            .write_all(line.as_bytes())
            .map_err(|e| Error::Monitor(format!("cannot send {command}: {e}")))?;
        loop {
            let mut value = self.receive(deadline, limit, &format!("response to {command}"))?;
            if let Some(returned) = value.get_mut("return") {
                return Ok(returned.take());
            }
            if let Some(error) = value.get("error") {
                let reason = error.get("desc").and_then(Value::as_str).unwrap_or("no message");
                return Err(Error::Monitor(format!("QEMU rejected {}: {reason}", line.trim_end())));
            }
            self.keep_event(value);
        }
    }

    /// Waits for an event with this name for whose data `wanted` returns true. Events that were
    /// received earlier count too.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Monitor`] if QEMU closes the connection.
    pub fn wait_event(
        &mut self,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
        limit: Duration,
    ) -> Result<Value> {
        let deadline = Instant::now() + limit;
        let empty = Value::Null;
        let matches = |event: &Value| {
            event.get("event").and_then(Value::as_str) == Some(name)
                && wanted(event.get("data").unwrap_or(&empty))
        };
        if let Some(at) = self.events.iter().position(&matches) {
            return Ok(self.events.remove(at).unwrap_or_default());
        }
        loop {
            let event = self.receive(deadline, limit, &format!("event {name}"))?;
            if matches(&event) {
                return Ok(event);
            }
            self.keep_event(event);
        }
    }

    fn keep_event(&mut self, event: Value) {
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The next value from QEMU.
    fn receive(&mut self, deadline: Instant, limit: Duration, what: &str) -> Result<Value> {
        let mut buffer = [0; 4096];
        let broken = |reason: &str| Error::Monitor(format!("no {what}: {reason}"));
        loop {
            if let Some(at) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=at).collect();
                return serde_json::from_slice(&line).map_err(|e| broken(&e.to_string()));
            }
            if self.received.len() > LINE_LIMIT {
                return Err(broken("a line exceeds the limit"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Timeout { what: what.to_owned(), limit, tail: Tail::default() });
            }
            let wait = self.stream.set_read_timeout(Some(left));
            match wait.and_then(|()| self.stream.read(&mut buffer)) {
                Ok(0) => return Err(broken("QEMU closed the connection")),
                Ok(count) => self.received.extend(buffer.iter().take(count)),
                Err(e) if is_temporary(e.kind()) => {}
                Err(e) => return Err(broken(&e.to_string())),
            }
        }
    }
}

/// Whether a read can be retried after this error.
fn is_temporary(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
