//! The daemon `vusbd`, as the commands call it.
//!
//! ```text
//!   --daemon SOCKET ──────────────▶ vusbd, or an error
//!   --direct, or records, rules or a machine are selected ▶ the library
//!   neither ──▶ vusbd at its usual socket? ──▶ may this user call the method? ──▶ vusbd
//!                    └─ no ──▶ the library          └─ no ──▶ the library
//! ```
//!
//! Once a call was sent, only the daemon's reply counts: the command never repeats the call, and
//! never does the work itself.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vusb::ExitCode;
use vusb::model::rules::Domain;
use vusb::view::ErrorView;
use vusb_interface as interface;
use vusb_interface::connection::Connection;

use crate::failure::Failure;

/// How long the daemon may take to reply which methods this user may call.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

const DIRECT: &str = "to work without vusbd, repeat it with --direct";

/// A connection with the daemon.
#[derive(Debug)]
pub(crate) struct Manager {
    connection: RefCell<Connection>,
    socket: PathBuf,
}

impl Manager {
    /// Connects to the daemon.
    ///
    /// # Errors
    /// It does not run, or this user may not connect.
    pub(crate) fn connect(socket: &Path) -> Result<Manager, Failure> {
        let connection = Connection::open(socket).map_err(|error| unreachable(socket, &error))?;
        Ok(Manager { connection: RefCell::new(connection), socket: socket.to_owned() })
    }

    /// The daemon, if it accepts connections and this user may call the method.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn find(socket: &Path, method: &str) -> Result<Option<Manager>, Failure> {
        let Ok(manager) = Manager::connect(socket) else { return Ok(None) };
        let reply = manager.call("GetAccess", json!({}), Some(PROBE_TIMEOUT))?;
        let methods = reply.get("methods").and_then(Value::as_array).into_iter().flatten();
        let may_call = methods.filter_map(Value::as_str).any(|it| it == method);
        Ok(may_call.then_some(manager))
    }

    /// The socket of the daemon.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Connects again if the daemon has closed the connection: a live view continues after a
    /// restart of the daemon.
    fn reconnect(&self) -> Result<(), Failure> {
        let mut connection = self.connection.borrow_mut();
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        if !matches!(recv(&*connection, &mut [0_u8; 1], flags), Ok((0, _)) | Err(Errno::CONNRESET))
        {
            return Ok(());
        }
        let limit = connection.limit();
        let again = Manager::connect(&self.socket)?.connection.into_inner();
        let limited = limit.and_then(|it| again.set_limit(it));
        *connection = again;
        limited.map_err(|error| self.broken(&error))
    }

    fn send(&self, method: &str, parameters: &Value, more: bool) -> Result<(), Failure> {
        // Reconnect only before a call is sent, because a call is never repeated.
        self.reconnect()?;
        let sent = self.connection.borrow_mut().send(method, parameters, more);
        sent.map_err(|error| self.broken(&error))
    }

    /// The next reply. Whether another one follows is returned too.
    fn receive(&self) -> Result<(Value, bool), Failure> {
        let reply = self.connection.borrow_mut().receive().map_err(|error| self.broken(&error))?;
        match reply.error {
            Some(name) => Err(refused(&name, &reply.parameters)),
            None => Ok((reply.parameters, reply.continues == Some(true))),
        }
    }

    /// Calls a method, and waits for the reply, at most `limit`.
    ///
    /// # Errors
    /// The daemon refuses it or does not answer.
    pub(crate) fn call(
        &self,
        method: &str,
        parameters: Value,
        limit: Option<Duration>,
    ) -> Result<Value, Failure> {
        let limited = self.connection.borrow().set_limit(limit);
        limited.map_err(|error| self.broken(&error))?;
        self.send(method, &parameters, false)?;
        self.receive().map(|(reply, _)| reply)
    }

    /// Calls a method, and returns the view in its reply.
    ///
    /// # Errors
    /// The daemon refuses it, does not answer, or is too new or too old for this command.
    pub(crate) fn view<T: DeserializeOwned>(
        &self,
        method: &str,
        parameters: Value,
        limit: Duration,
    ) -> Result<T, Failure> {
        let mut reply = self.call(method, parameters, Some(limit))?;
        let view = reply.get_mut("view").map(Value::take).unwrap_or_default();
        serde_json::from_value(view).map_err(|error| unexpected(&error))
    }

    /// The domains that the daemon knows.
    pub(crate) fn domains(&self) -> Result<Vec<Domain>, Failure> {
        let limited = self.connection.borrow().set_limit(Some(PROBE_TIMEOUT));
        limited.map_err(|error| self.broken(&error))?;
        self.send("ListDomains", &json!({}), true)?;
        let mut domains = Vec::new();
        loop {
            // An error also means that there is none.
            let Ok((reply, continues)) = self.receive() else { return Ok(domains) };
            let text = |key| Some(reply.get("domain")?.get(key)?.as_str()?.to_owned());
            domains.extend(text("name").map(|name| Domain { name, address: text("address") }));
            if !continues {
                return Ok(domains);
            }
        }
    }

    /// Passes each event to `report`, until that fails or the daemon ends.
    pub(crate) fn watch(
        &self,
        since: Option<u64>,
        mut report: impl FnMut(&Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.send("Watch", &json!({ "since": since }), true)?;
        loop {
            let (reply, continues) = self.receive()?;
            report(reply.get("event").unwrap_or(&Value::Null))?;
            if !continues {
                return Ok(());
            }
        }
    }

    /// Answers a question. Returns where the device is in the guest.
    pub(crate) fn answer(
        &self,
        question: u64,
        domain: &str,
        remember: bool,
    ) -> Result<Option<String>, Failure> {
        let parameters = json!({ "question": question, "domain": domain, "remember": remember });
        let reply = self.call("Answer", parameters, None)?;
        Ok(reply.get("at").and_then(Value::as_str).map(str::to_owned))
    }

    fn broken(&self, error: &io::Error) -> Failure {
        broken(&self.socket, error)
    }
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot reach vusbd at {}: {error}", socket.display());
    let hints = vec!["start it with `systemctl start vusbd`".to_owned()];
    failed(ExitCode::Unreachable, message, hints)
}

/// The connection is broken, or the daemon does not answer in time.
fn broken(socket: &Path, error: &io::Error) -> Failure {
    let socket = socket.display();
    let (kind, message) = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            (ExitCode::TimedOut, format!("vusbd at {socket} does not answer"))
        }
        io::ErrorKind::UnexpectedEof => {
            (ExitCode::Failed, format!("vusbd at {socket} has closed the connection"))
        }
        _ => (ExitCode::Failed, format!("vusbd at {socket}: {error}")),
    };
    failed(kind, message, vec![DIRECT.to_owned()])
}

/// The reply is not the view that this version of the command knows.
fn unexpected(error: &serde_json::Error) -> Failure {
    let message = format!("vusbd carried it out, but its reply is unexpected: {error}");
    let hints = vec!["use the same version of vusb and vusbd".to_owned()];
    failed(ExitCode::Failed, message, hints)
}

fn failed(kind: ExitCode, message: String, hints: Vec<String>) -> Failure {
    let error = Box::new(ErrorView::new(kind, message, hints));
    Failure::Daemon { error, shows_source: false }
}

/// The failure for an error in the daemon's reply.
fn refused(name: &str, parameters: &Value) -> Failure {
    let get = |key: &str| parameters.get(key);
    if let Some(view) = get("view").and_then(|it| serde_json::from_value(it.clone()).ok()) {
        let shows_source = get("lines").and_then(Value::as_bool).unwrap_or(false);
        return Failure::Daemon { error: Box::new(view), shows_source };
    }
    let kind = interface::error_kind(name);
    let hints = get("hints").and_then(Value::as_array).into_iter().flatten();
    let hints: Vec<String> = hints.filter_map(Value::as_str).map(str::to_owned).collect();
    match (get("message").and_then(Value::as_str), name) {
        (Some(message), _) => failed(kind, message.to_owned(), hints),
        (None, "org.varlink.service.PermissionDenied") => {
            let message = "vusbd does not let this user call it; members of the group vusb may \
                           attach and detach devices of this machine";
            failed(kind, message.to_owned(), vec![DIRECT.to_owned()])
        }
        (None, name) => failed(kind, format!("vusbd replied {name}"), hints),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;
    use std::thread;
    use std::time::Instant;

    use vusb::view::DomainView;

    use super::*;

    /// Each error of this file is on the page, in the section of its exit code.
    #[test]
    fn the_errors_are_on_the_page_with_their_exit_codes() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        let page = fs::read_to_string(page).unwrap();
        let socket = Path::new(interface::SOCKET);
        let not_json = || serde_json::from_str::<Value>("?").unwrap_err().into();
        let not_a_domain = serde_json::from_value::<DomainView>(json!({ "api": 1 })).unwrap_err();
        let service = |error: &str| refused(&format!("org.varlink.service.{error}"), &json!({}));
        let errors = [
            unreachable(socket, &Errno::NOENT.into()),
            broken(socket, &io::ErrorKind::WouldBlock.into()),
            broken(socket, &io::ErrorKind::UnexpectedEof.into()),
            broken(socket, &not_json()),
            unexpected(&not_a_domain),
            service("PermissionDenied"),
            service("MethodNotFound"),
        ];
        for failure in errors {
            let Failure::Daemon { error, .. } = failure else { panic!("{failure:?}") };
            let section = format!("\n## {}: ", error.code);
            let (_, section) = page.split_once(&section).unwrap();
            let section = section.split("\n## ").next().unwrap();
            let row = format!("\n| {} | ", error.message);
            assert!(section.contains(&row), "exit code {}: {}", error.code, error.message);
        }
        let rows = page.lines().filter(|it| it.ends_with("| the command, with `vusbd` |"));
        assert_eq!(rows.count(), 7, "a row of the page has no error");
    }

    #[test]
    fn a_daemon_that_was_restarted_is_called_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vusbd");
        let listener = UnixListener::bind(&path).unwrap();
        let manager = Manager::connect(&path).unwrap();
        // It replies to one call on each of two connections, closes each after that, and ends.
        let serve = thread::spawn(move || {
            for number in 1..=2 {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                stream.read_until(0, &mut Vec::new()).unwrap();
                let reply = json!({ "parameters": { "number": number } }).to_string();
                stream.get_mut().write_all(format!("{reply}\0").as_bytes()).unwrap();
            }
        });
        let call = || manager.call("Describe", json!({}), Some(Duration::from_secs(60)));
        assert_eq!(call().unwrap(), json!({ "number": 1 }));
        let end = Instant::now() + Duration::from_secs(60);
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        while recv(&*manager.connection.borrow(), &mut [0_u8; 1], flags).is_err() {
            assert!(Instant::now() < end, "the connection is not closed");
            thread::yield_now();
        }
        assert_eq!(call().unwrap(), json!({ "number": 2 }));
        serve.join().unwrap();
        // The daemon does not run any more.
        let failure = call().unwrap_err();
        assert!(failure.message().contains("vusbd"), "{}", failure.message());
    }
}
