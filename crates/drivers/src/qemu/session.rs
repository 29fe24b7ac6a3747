//! A connection to QEMU's monitor, with errors in this house's words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use vusb_qmp::{Client, CommandError, Deadline, Error as QmpError, Event, Limits};

use crate::driver::Error;

/// A connection to QEMU's monitor. It is made when there is something to say: the first commands go out with it, and cost no
/// round trip of their own.
pub(super) struct Session {
    client: Option<Client>,
    socket: PathBuf,
    /// The domain, as the user named it.
    domain: String,
    /// How long each wait may take.
    limit: Duration,
}

/// What QEMU answered to each of some commands.
pub(super) type Answers = Vec<Result<Value, CommandError>>;

impl Session {
    pub(super) fn new(socket: &Path, limit: Duration) -> Session {
        let domain = format!("qemu:{}", socket.display());
        Session { client: None, socket: socket.to_owned(), domain, limit }
    }

    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// `QEMU 7.2.22`.
    pub(super) fn version(&self) -> String {
        let version = self.client.as_ref().map(|client| client.greeting().version.to_string());
        format!("QEMU {}", version.unwrap_or_default().split(" (").next().unwrap_or_default())
    }

    /// Sends all commands at once.
    pub(super) fn pipeline(&mut self, commands: &[(&str, Value)]) -> Result<Answers, Error> {
        let deadline = Deadline::after(self.limit);
        if let Some(client) = &mut self.client {
            return client
                .pipeline(commands, deadline)
                .map_err(|error| self.lost("an answer", error));
        }
        match Client::connect_and_ask(&self.socket, Limits::default(), commands, deadline) {
            Ok((client, answers)) => {
                self.client = Some(client);
                Ok(answers)
            }
            Err(error @ QmpError::TimedOut { .. }) => Err(self.lost("the first answers", error)),
            // Somebody is there: that is no reason to take the guest for stopped.
            Err(QmpError::NoGreeting { .. }) => Err(Error::TimedOut {
                what: format!("a greeting from {}", self.domain),
                limit: self.limit,
                why: "another program holds this monitor (QEMU serves one client a socket), or QEMU is stopped; close the other program, \
                      or give QEMU a second `-qmp` socket"
                    .to_owned(),
            }),
            Err(error) => Err(Error::Unreachable {
                domain: self.domain.clone(),
                why: error.to_string(),
                midway: false,
            }),
        }
    }

    /// Sends one command. What QEMU refuses is the inner error.
    pub(super) fn execute(
        &mut self,
        command: &str,
        arguments: Value,
    ) -> Result<Result<Value, CommandError>, Error> {
        let mut answers = self.pipeline(&[(command, arguments)])?;
        answers.pop().ok_or_else(|| Error::Confused {
            domain: self.domain.clone(),
            why: format!("the answer to {command} got lost"),
        })
    }

    /// Forgets the events that have come so far.
    pub(super) fn forget_events(&mut self) {
        if let Some(client) = &mut self.client {
            client.take_events();
        }
    }

    /// Waits for the event that `pick` picks, `length` at the longest. `None` if it does not come.
    pub(super) fn wait_event<T>(
        &mut self,
        length: Duration,
        pick: impl FnMut(&Event) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(client) = &mut self.client else { return Ok(None) };
        match client.wait_event(Deadline::after(length), pick) {
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// The kernel queues a second client of a QEMU that talks to a first one, and nobody greets it.
    #[test]
    fn a_monitor_that_somebody_holds_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let mut session = Session::new(&path, Duration::from_millis(100));
        let error = session.execute("query-status", Value::Null).unwrap_err();
        assert!(matches!(&error, Error::TimedOut { .. }), "{error}");
        assert!(error.to_string().contains("another program holds this monitor"), "{error}");

        drop(listener);
        let error = session.execute("query-status", Value::Null).unwrap_err();
        assert!(matches!(&error, Error::Unreachable { midway: false, .. }), "{error}");
    }
}
