//! A connection to QEMU's monitor, whose failures are reported as errors of a driver.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use serde_json::Value;
use vusb_model::remedy::{Reason, Remedy};
use vusb_qmp::{Client, CommandError, Deadline, Error as QmpError, Event, Limits as QmpLimits};

use super::monitor_client::{MonitorClient, connected_to};
use crate::driver::Error;
use crate::limits::Limits;

/// A connection to QEMU's monitor. It is opened by the first commands, which are sent along with
/// the handshake and so cost no round trip of their own.
pub(super) struct Session {
    client: Option<Client>,
    socket: PathBuf,
    /// The domain's address, for messages.
    domain: String,
    limits: Limits,
    /// Whether other programs need the monitor too: then it is only held for a moment.
    is_shared: bool,
    /// The version of the QEMU that was last connected to.
    version: String,
}

/// How long a shared monitor is held for an event. It is enough for most removals, and short: other
/// programs give up after a few seconds.
const SHARED_WAIT: Duration = Duration::from_millis(20);

/// QEMU's answers to commands, in their order. An `Err` is QEMU's refusal.
pub(super) type Answers = Vec<Result<Value, CommandError>>;

impl Session {
    pub(super) fn new(socket: &Path, limits: Limits) -> Session {
        let domain = format!("qemu:{}", socket.display());
        let (socket, version) = (socket.to_owned(), String::new());
        Session { client: None, socket, domain, limits, is_shared: false, version }
    }

    /// This session, for a monitor that other programs need too. `domain` is the guest's address.
    pub(super) fn shared(self, domain: String) -> Session {
        Session { domain, is_shared: true, ..self }
    }

    pub(super) const fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Closes the connection. The next command opens another one.
    pub(super) fn close(&mut self) {
        self.client = None;
    }

    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    /// How long the next wait may take.
    pub(super) fn limit(&self) -> Duration {
        self.limits.next_wait()
    }

    /// The ID of the process at the other end; `None` without a connection, or if it is unknown.
    pub(super) fn peer(&self) -> Option<i32> {
        let credentials = socket_peercred(self.client.as_ref()?.socket()).ok()?;
        Some(credentials.pid.as_raw_nonzero().get())
    }

    /// The limit of a single wait, for messages.
    pub(super) const fn single_wait(&self) -> Duration {
        self.limits.single_wait()
    }

    /// `QEMU 7.2.22`.
    pub(super) fn version(&self) -> String {
        format!("QEMU {}", self.version.split(" (").next().unwrap_or_default())
    }

    /// Sends all commands at once and waits for all answers.
    pub(super) fn pipeline(&mut self, commands: &[(&str, Value)]) -> Result<Answers, Error> {
        let deadline = Deadline::after(self.limits.next_wait());
        if let Some(client) = &mut self.client {
            return client
                .pipeline(commands, deadline)
                .map_err(|error| self.connection_error("an answer", error));
        }
        match Client::connect_and_execute(&self.socket, QmpLimits::default(), commands, deadline) {
            Ok((client, answers)) => {
                self.version = client.greeting().version.to_string();
                self.client = Some(client);
                Ok(answers)
            }
            Err(error @ QmpError::TimedOut { .. }) => {
                Err(self.connection_error("the first answers", error))
            }
            // A process accepted the connection, so the guest must not be considered stopped.
            Err(QmpError::NoGreeting { .. }) => Err(self.no_greeting()),
            Err(error) => Err(Error::Unreachable {
                domain: self.domain.clone(),
                why: error.to_string().into(),
                midway: false,
            }),
        }
    }

    /// The error for a QEMU that accepts connections and does not greet.
    fn no_greeting(&self) -> Error {
        let client = connected_to(&self.socket).unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot find out who is connected");
            MonitorClient::Program(None)
        });
        let holder = match client {
            MonitorClient::NoProgram => {
                return Error::TimedOut {
                    what: format!("waiting for a greeting from {}", self.domain),
                    limit: self.limits.single_wait(),
                    why: Reason::from("no other program is connected to this monitor, so QEMU is stopped or very busy")
                        .remedy(Remedy::MoreTime),
                };
            }
            MonitorClient::Program(Some(process)) => process.to_string(),
            MonitorClient::Program(None) => "another program".to_owned(),
        };
        let why = format!(
            "{holder} is connected to its monitor, and QEMU serves one client per socket; close that connection, or start QEMU with a second `-qmp` socket"
        );
        Error::Busy { domain: self.domain.clone(), why: why.into() }
    }

    /// Sends one command. The inner error is QEMU's refusal.
    pub(super) fn execute(
        &mut self,
        command: &str,
        arguments: Value,
    ) -> Result<Result<Value, CommandError>, Error> {
        let mut answers = self.pipeline(&[(command, arguments)])?;
        answers.pop().ok_or_else(|| Error::Confused {
            domain: self.domain.clone(),
            why: format!("there was no answer to {command}").into(),
        })
    }

    /// Sends one command with an open file. There has to be a connection: the file must go to the
    /// process that the caller has examined. The inner error is QEMU's refusal.
    pub(super) fn execute_with_file(
        &mut self,
        command: &str,
        arguments: Value,
        file: OwnedFd,
    ) -> Result<Result<Value, CommandError>, Error> {
        let deadline = Deadline::after(self.limits.next_wait());
        let Some(client) = &mut self.client else {
            let why = "the connection has ended".into();
            return Err(Error::Unreachable { domain: self.domain.clone(), why, midway: true });
        };
        match client.execute_with_file(command, arguments, file, deadline) {
            Ok(answer) => Ok(Ok(answer)),
            Err(QmpError::Command(refusal)) => Ok(Err(refusal)),
            Err(error) => Err(self.connection_error("an answer", error)),
        }
    }

    /// Discards the events that have arrived so far.
    pub(super) fn discard_events(&mut self) {
        if let Some(client) = &mut self.client {
            client.take_events();
        }
    }

    /// Waits for an event that `pick` selects. `None` if there was none for `duration`. A shared
    /// monitor is only held for a part of this time. Events after that are lost, so the caller has
    /// to poll.
    pub(super) fn wait_event<T>(
        &mut self,
        duration: Duration,
        pick: impl FnMut(&Event) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let held = if self.is_shared { duration.min(SHARED_WAIT) } else { duration };
        let Some(client) = &mut self.client else { return Ok(None) };
        match client.wait_event(Deadline::after(held), pick) {
            Ok(picked) => Ok(Some(picked)),
            Err(QmpError::TimedOut { .. }) => {
                if self.is_shared {
                    self.close();
                    std::thread::sleep(duration.saturating_sub(held));
                }
                Ok(None)
            }
            Err(error) => Err(self.connection_error("an event", error)),
        }
    }

    /// The driver's error for an error of an established connection.
    fn connection_error(&self, what: &str, error: QmpError) -> Error {
        match error {
            QmpError::TimedOut { .. } => Error::TimedOut {
                what: format!("waiting for {what} from {}", self.domain),
                limit: self.limits.single_wait(),
                why: Reason::from("QEMU accepted the connection but does not answer; it may be stopped or very busy")
                    .remedy(Remedy::MoreTime),
            },
            error => Error::Unreachable { domain: self.domain.clone(), why: error.to_string().into(), midway: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::thread;

    use serde_json::json;

    use super::*;

    const GREETING: &[u8] =
        br#"{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian"}, "capabilities": []}}"#;

    #[test]
    fn a_domain_is_called_by_its_address() {
        let session = Session::new(Path::new("/run/web1.qmp"), Duration::from_secs(3).into());
        assert_eq!(session.domain(), "qemu:/run/web1.qmp");
        assert_eq!(session.single_wait(), Duration::from_secs(3));
    }

    /// While QEMU serves one client, the kernel accepts the connection of a second one, which gets
    /// no greeting.
    #[test]
    fn a_monitor_with_another_client_is_not_unreachable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let mut session = Session::new(&path, Duration::from_millis(100).into());
        let error = session.execute("query-status", Value::Null).unwrap_err();
        assert!(matches!(&error, Error::TimedOut { .. }), "{error}");

        // The attempt above is still first in the queue, although its client has closed it.
        let _first = listener.accept().unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let _served = listener.accept().unwrap();
        let error = session.execute("query-status", Value::Null).unwrap_err();
        assert!(matches!(&error, Error::Busy { .. }), "{error}");
        let own = format!("(pid {}) is connected to its monitor", std::process::id());
        assert!(error.to_string().contains(&own), "{error}");

        drop((client, listener));
        let error = session.execute("query-status", Value::Null).unwrap_err();
        assert!(matches!(&error, Error::Unreachable { midway: false, .. }), "{error}");
    }

    /// A QEMU that sends `sent` and then closes the connection, or leaves it open without an
    /// answer.
    fn qemu_that_sends(sent: &'static [u8], close: bool) -> (Session, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(sent).unwrap();
            let mut commands = [0; 4096];
            while !close && stream.read(&mut commands).is_ok_and(|length| length > 0) {}
        });
        (Session::new(&path, Duration::from_millis(200).into()), dir)
    }

    #[test]
    fn the_wait_for_a_qemu_that_stops_answering_times_out() {
        let (mut session, _dir) = qemu_that_sends(GREETING, false);
        let error = session.execute("query-status", Value::Null).unwrap_err();
        assert!(matches!(&error, Error::TimedOut { .. }), "{error}");
        assert!(error.to_string().contains("does not answer"), "{error}");
        assert_eq!(error.remedies(), [Remedy::MoreTime]);
    }

    #[test]
    fn a_qemu_that_ends_is_unreachable() {
        let (mut session, _dir) = qemu_that_sends(GREETING, true);
        let error = session.execute("query-status", Value::Null).unwrap_err();
        assert!(matches!(&error, Error::Unreachable { .. }), "{error}");
    }

    /// A QEMU that answers its first two commands, sends the event OLD between these answers, and
    /// then stays silent.
    fn qemu_that_sends_an_event(status: Value) -> (Session, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(GREETING).unwrap();
            let mut commands = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut answer = |value: &Value, event: &str| {
                let command: Value =
                    serde_json::from_str(&commands.next().unwrap().unwrap()).unwrap();
                let answer = json!({"return": value, "id": command["id"]});
                stream.write_all(format!("{answer} {event}\n").as_bytes()).unwrap();
            };
            answer(&json!({}), r#"{"event": "OLD"}"#);
            answer(&status, "");
            commands.for_each(drop);
        });
        (Session::new(&path, Duration::from_secs(60).into()), dir)
    }

    /// Without a connection there is no event, an event that has already come is returned, and the
    /// wait for another one ends at its limit.
    #[test]
    fn events_are_kept_and_awaited() {
        let (mut session, _dir) = qemu_that_sends_an_event(json!({"running": true}));
        let any = |event: &Event| Some(event.name.clone());
        assert_eq!(session.wait_event(Duration::ZERO, any).unwrap(), None);
        assert_eq!(session.version(), "QEMU ");
        let status = session.execute("query-status", Value::Null).unwrap().unwrap();
        assert_eq!(status["running"], true);
        assert_eq!(session.version(), "QEMU 7.2.22");
        let begin = std::time::Instant::now();
        assert_eq!(
            session.wait_event(Duration::from_secs(60), any).unwrap(),
            Some("OLD".to_owned())
        );
        assert_eq!(session.wait_event(Duration::from_millis(30), any).unwrap(), None);
        assert!((30..30_000).contains(&begin.elapsed().as_millis()));
        assert_eq!(session.limits.single_wait(), Duration::from_secs(60));
    }

    #[test]
    fn discarded_events_are_gone() {
        let (mut session, _dir) = qemu_that_sends_an_event(json!({}));
        session.execute("query-status", Value::Null).unwrap().unwrap();
        session.discard_events();
        let any = |event: &Event| Some(event.name.clone());
        assert_eq!(session.wait_event(Duration::from_millis(20), any).unwrap(), None);
    }
}
