//! A connection to QEMU's monitor, with errors in this house's words.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use vusb_qmp::{Client, CommandError, Deadline, Error as QmpError, Event};

use crate::driver::Error;

/// A connection to QEMU's monitor.
pub(super) struct Session {
    client: Client,
    /// The domain, as the user named it.
    domain: String,
    /// How long each wait may take.
    limit: Duration,
}

impl Session {
    pub(super) fn open(socket: &Path, limit: Duration) -> Result<Session, Error> {
        let domain = format!("qemu:{}", socket.display());
        match Client::connect(socket, Deadline::after(limit)) {
            Ok(client) => Ok(Session { client, domain, limit }),
            Err(error) => Err(Error::Unreachable { domain, why: error.to_string(), midway: false }),
        }
    }

    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// `QEMU 7.2.22`.
    pub(super) fn version(&self) -> String {
        format!("QEMU {}", self.client.greeting().version)
    }

    /// Sends all commands at once.
    pub(super) fn pipeline(
        &mut self,
        commands: &[(&str, Value)],
    ) -> Result<Vec<Result<Value, CommandError>>, Error> {
        let deadline = Deadline::after(self.limit);
        self.client.pipeline(commands, deadline).map_err(|error| self.lost("an answer", error))
    }

    /// Sends one command. What QEMU refuses is the inner error.
    pub(super) fn execute(
        &mut self,
        command: &str,
        arguments: Value,
    ) -> Result<Result<Value, CommandError>, Error> {
        match self.client.execute(command, arguments, Deadline::after(self.limit)) {
            Ok(value) => Ok(Ok(value)),
            Err(QmpError::Command(refusal)) => Ok(Err(refusal)),
            Err(error) => Err(self.lost(&format!("the answer to {command}"), error)),
        }
    }

    /// Forgets the events that have come so far.
    pub(super) fn forget_events(&mut self) {
        self.client.take_events();
    }

    /// Waits for the event that `pick` picks, `length` at the longest. `None` if it does not come.
    pub(super) fn wait_event<T>(
        &mut self,
        length: Duration,
        pick: impl FnMut(&Event) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match self.client.wait_event(Deadline::after(length), pick) {
            Ok(picked) => Ok(Some(picked)),
            Err(QmpError::TimedOut { .. }) => Ok(None),
            Err(error) => Err(self.lost("an event", error)),
        }
    }

    /// What it means that a connection failed in the middle.
    fn lost(&self, what: &str, error: QmpError) -> Error {
        match error {
            QmpError::TimedOut { .. } => Error::TimedOut {
                what: format!("{what} from {}", self.domain),
                limit: self.limit,
                why: "QEMU is there and does not answer; it may be stopped or very busy. Try again, or with a longer --timeout".to_owned(),
            },
            error => Error::Unreachable { domain: self.domain.clone(), why: error.to_string(), midway: true },
        }
    }
}
