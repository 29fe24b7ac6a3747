//! Connections, and who may do what. Each connection has a thread and carries one request.

use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use vusb::Cancel;
use vusb::view::API;
use vusb_picture::Embedding;

use super::calls::PageRequest;
use super::http::{self, REQUEST_LIMIT, Request};
use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::live::changes::{Changes, WaitResult};
use crate::live::last_known::LastKnown;
use crate::live::terminal::signals;
use crate::overview::Overview;
use crate::run::{Cli, Result};

/// How many connections with the token may be open. Each page keeps one open.
const MAX_CONNECTIONS: usize = 64;

/// How many connections may be open that have not shown the token. A browser opens a few of them
/// for the page itself.
const MAX_STRANGERS: usize = 32;

/// The pause after a connection could not be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How long a client may take to accept what is sent.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// How often a comment is sent while nothing changes, so that a closed connection is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long calls that are under way may take when the command is interrupted.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// Where to listen.
#[derive(Clone, Debug)]
pub(crate) enum ListenAt {
    /// A port of 127.0.0.1; 0 is any free one.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}

/// What the threads share.
struct Shared {
    /// The latest content of the page.
    content: Mutex<Content>,
    changed: Condvar,
    /// The number of connections with the token.
    connections: AtomicUsize,
    strangers: Mutex<Strangers>,
    /// The number of calls under way.
    calls: Mutex<usize>,
    idle: Condvar,
    cancel: Cancel,
    arguments: Arguments,
    token: String,
    /// The port; `None` for a Unix socket.
    port: Option<u16>,
    read_only: bool,
}

/// The connections that have not shown the token. Any user of this machine can open them, so a new
/// one closes the oldest when there are too many: the owner's browser sends its request at once,
/// and does not wait for connections that send nothing.
#[derive(Default)]
struct Strangers {
    open: VecDeque<(u64, Box<dyn Stream>)>,
    next: u64,
}

impl Strangers {
    /// Adds a connection, and returns its number. `handle` closes it.
    fn add(&mut self, handle: Box<dyn Stream>) -> u64 {
        if self.open.len() >= MAX_STRANGERS {
            if let Some((_, oldest)) = self.open.pop_front() {
                oldest.close();
            }
        }
        self.next += 1;
        self.open.push_back((self.next, handle));
        self.next
    }

    fn remove(&mut self, number: u64) {
        self.open.retain(|(it, _)| *it != number);
    }
}

/// The content of the page.
#[derive(Clone, Debug, Default)]
struct Content {
    version: u64,
    /// An event for the page, without its number.
    data: Arc<String>,
    /// Whether the command is ending.
    ended: bool,
}

/// A connection.
trait Stream: io::Read + Write + Send {
    fn limit(&self, read: Duration, write: Duration) -> io::Result<()>;
    /// Another handle of the connection.
    fn duplicate(&self) -> io::Result<Box<dyn Stream>>;
    /// Ends the connection, for all handles.
    fn close(&self);
}

impl Stream for TcpStream {
    fn limit(&self, read: Duration, write: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(read)).and_then(|()| self.set_write_timeout(Some(write)))
    }

    fn duplicate(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn close(&self) {
        // The client may have closed it already.
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Stream for UnixStream {
    fn limit(&self, read: Duration, write: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(read)).and_then(|()| self.set_write_timeout(Some(write)))
    }

    fn duplicate(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn close(&self) {
        // The client may have closed it already.
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// The socket that accepts connections. A Unix socket is removed at the end.
enum Listener {
    Tcp(TcpListener),
    Unix { socket: UnixListener, _file: PlacedSocket },
}

/// The file of a Unix socket, which is removed when this is dropped.
struct PlacedSocket {
    path: PathBuf,
    /// Its device and inode: the file may have been deleted, and another command may listen there.
    file: (u64, u64),
}

impl Drop for PlacedSocket {
    fn drop(&mut self) {
        if file_at(&self.path).is_ok_and(|it| it == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The device and inode of a file.
fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|it| (it.dev(), it.ino()))
}

impl Listener {
    fn bind(place: &ListenAt) -> Result<Listener> {
        let failed = |what: String, source: io::Error| Failure::Argument {
            problem: format!("cannot listen at {what}: {source}"),
            hint: "choose another port or another path".to_owned(),
        };
        match place {
            ListenAt::Port(port) => {
                let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, *port));
                bound.map(Listener::Tcp).map_err(|it| failed(format!("port {port}"), it))
            }
            ListenAt::Socket(path) => {
                let bind = || {
                    // No other user may connect before the mode is set: the folder of the socket is
                    // private until it is moved to its place.
                    let private = folder_of(path).join(format!(".vusb-web-{}", std::process::id()));
                    fs::create_dir(&private)?;
                    let bound = fs::set_permissions(&private, Permissions::from_mode(0o700))
                        .and_then(|()| UnixListener::bind(private.join("socket")))
                        .and_then(|it| {
                            let socket = private.join("socket");
                            fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
                            let file = file_at(&socket)?;
                            place_socket(&socket, path)?;
                            let placed = PlacedSocket { path: path.clone(), file };
                            Ok(Listener::Unix { socket: it, _file: placed })
                        });
                    let _ = fs::remove_file(private.join("socket"));
                    let _ = fs::remove_dir(&private);
                    bound
                };
                bind().map_err(|it| failed(path.display().to_string(), it))
            }
        }
    }

    /// Another handle of the socket.
    fn duplicate(&self) -> io::Result<Acceptor> {
        Ok(match self {
            Listener::Tcp(it) => Acceptor::Tcp(it.try_clone()?),
            Listener::Unix { socket, .. } => Acceptor::Unix(socket.try_clone()?),
        })
    }

    fn port(&self) -> Option<u16> {
        match self {
            Listener::Tcp(it) => it.local_addr().ok().map(|it| it.port()),
            Listener::Unix { .. } => None,
        }
    }
}

/// The folder of a file.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Moves a socket to its place. A file that is already there is only replaced if it is a socket
/// that a killed command has left. Two commands that find such a socket must not replace each
/// other's new socket, so the second one fails. They lock the folder: a lock file would be left
/// behind.
fn place_socket(socket: &Path, place: &Path) -> io::Result<()> {
    match fs::hard_link(socket, place) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        placed => return placed,
    }
    let folder = fs::File::open(folder_of(place))?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            let why = "another command is starting there, or locks the folder";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
        }
        locked => locked?,
    }
    let in_use = match fs::hard_link(socket, place) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => error,
        placed => return placed,
    };
    // Connecting to a file of another kind also fails with ConnectionRefused.
    let is_socket = fs::symlink_metadata(place)?.file_type().is_socket();
    let refused = |it: io::Error| it.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(place).is_err_and(refused) {
        fs::remove_file(place)?;
        return fs::hard_link(socket, place);
    }
    Err(in_use)
}

/// What the thread that accepts connections has of a [`Listener`].
enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    /// Waits for a connection.
    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Acceptor::Tcp(it) => Box::new(it.accept()?.0),
            Acceptor::Unix(it) => Box::new(it.accept()?.0),
        })
    }
}

/// Serves the page until the command is interrupted.
pub(crate) fn serve(cli: &Cli, arguments: &Arguments, place: &ListenAt, read_only: bool) -> Result {
    let listener = Listener::bind(place)?;
    let mut changes = Changes::new(cli);
    let ended = signals(&[SIGINT, SIGTERM, SIGHUP])?;
    let shared = Arc::new(Shared {
        content: Mutex::default(),
        changed: Condvar::new(),
        connections: AtomicUsize::new(0),
        strangers: Mutex::default(),
        calls: Mutex::new(0),
        idle: Condvar::new(),
        // Not the command's own `Cancel`: with that, the command would report that the interrupt
        // came too late.
        cancel: Cancel::default(),
        arguments: arguments.clone(),
        token: token()?,
        port: listener.port(),
        read_only: read_only || arguments.global.dry_run,
    });
    // If this first read fails, the command fails.
    let mut known = LastKnown::default();
    let (overview, may_answer) = Overview::live(cli, &mut known)?;
    changes.record_read(!may_answer);
    shared.show(&overview, &[]);
    let token = &shared.token;
    let (text, view) = match place {
        ListenAt::Socket(path) => (
            format!("listening at {}; open /#{token} there", path.display()),
            json!({ "api": API, "socket": path, "token": token }),
        ),
        ListenAt::Port(_) => {
            let url = format!("http://127.0.0.1:{}/#{token}", shared.port.unwrap_or_default());
            (url.clone(), json!({ "api": API, "url": url }))
        }
    };
    if cli.screen.json {
        cli.screen.json(&view)?;
    } else {
        cli.screen.result(&text)?;
    }
    cli.screen.note("open this address in a browser of this machine; Ctrl-C ends the page");
    accept_in_thread(listener.duplicate()?, Arc::clone(&shared))?;
    loop {
        let result = changes.wait(&[ended.as_fd()], None)?;
        let mut buffer = [0; 16];
        if matches!((&ended).read(&mut buffer), Ok(count) if count > 0) {
            break;
        }
        if result == WaitResult::Changed {
            // A later failure is shown on the page, and the read is tried again later.
            let overview = Overview::live(cli, &mut known);
            changes.record_read(matches!(overview, Ok((_, false))));
            match overview {
                Ok((overview, _)) => shared.show(&overview, &changes.events()),
                Err(failure) => shared.publish(&json!({ "error": failure.message() })),
            }
        }
    }
    shared.shut_down();
    Ok(())
}

/// Accepts connections in a thread of its own, until the process ends: the page has to appear while
/// this machine and its guests are read, which takes long if a hypervisor does not answer.
fn accept_in_thread(listener: Acceptor, shared: Arc<Shared>) -> io::Result<()> {
    let accept = move || {
        loop {
            match listener.accept() {
                Ok(stream) => Shared::serve_in_thread(&shared, stream),
                // Usually there are too many open files, which does not end at once.
                Err(_) => thread::sleep(ACCEPT_RETRY),
            }
        }
    };
    thread::Builder::new().name("accept".to_owned()).spawn(accept).map(drop)
}

/// 128 random bits, in hexadecimal.
fn token() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom").and_then(|mut it| it.read_exact(&mut bytes))?;
    Ok(bytes.iter().map(|it| format!("{it:02x}")).collect())
}

impl Shared {
    /// Publishes a picture.
    fn show(&self, overview: &Overview, events: &[Value]) {
        self.publish(&json!({
            "svg": overview.picture(Embedding::Page),
            "questions": overview.questions(),
            "events": events,
            "readOnly": self.read_only,
        }));
    }

    fn publish(&self, data: &Value) {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.version += 1;
        // One line, because JSON escapes line ends.
        content.data = Arc::new(data.to_string());
        self.changed.notify_all();
    }

    /// Serves a connection in a thread of its own.
    fn serve_in_thread(shared: &Arc<Shared>, mut stream: Box<dyn Stream>) {
        let Ok(handle) = stream.duplicate() else { return };
        let number = shared.strangers().add(handle);
        let of_thread = Arc::clone(shared);
        let serve = move || {
            // It is not an error that a client closes the connection.
            let _ = of_thread.serve(stream.as_mut(), number);
            of_thread.strangers().remove(number);
        };
        if thread::Builder::new().name("page".to_owned()).spawn(serve).is_err() {
            shared.strangers().remove(number);
        }
    }

    fn strangers(&self) -> MutexGuard<'_, Strangers> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one request of the connection with this number.
    fn serve(&self, stream: &mut dyn Stream, number: u64) -> io::Result<()> {
        stream.limit(REQUEST_LIMIT, WRITE_LIMIT)?;
        let mut stream = stream;
        let request = match http::read(&mut stream, Instant::now() + REQUEST_LIMIT) {
            Ok(request) => request,
            Err(refused) => {
                let Some(status) = refused.status() else { return Ok(()) };
                return http::respond(&mut stream, status, "text/plain", b"");
            }
        };
        let text = "text/plain; charset=utf-8";
        if let Err((status, why)) = self.check(&request) {
            return http::respond(&mut stream, status, text, why.as_bytes());
        }
        let _connection = if needs_token(&request.path) {
            self.strangers().remove(number);
            let Some(connection) = OpenConnection::begin(&self.connections) else {
                let why = b"too many pages are open";
                return http::respond(&mut stream, "503 Service Unavailable", text, why);
            };
            Some(connection)
        } else {
            None
        };
        let (kind, body) = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/") => ("text/html; charset=utf-8", PAGE.to_owned()),
            ("GET", "/page.js") => ("text/javascript; charset=utf-8", SCRIPT.to_owned()),
            ("GET", "/page.css") => {
                ("text/css; charset=utf-8", format!("{STYLE}{}", vusb_picture::STYLE))
            }
            ("GET", "/events") => return self.events(&mut stream),
            ("POST", "/call") => {
                let (status, answer) = self.call(&request.body);
                let body = answer.to_string();
                return http::respond(&mut stream, status, "application/json", body.as_bytes());
            }
            _ => return http::respond(&mut stream, "404 Not Found", text, b"no such page"),
        };
        http::respond(&mut stream, "200 OK", kind, body.as_bytes())
    }

    /// Checks that a request comes from the page itself or from the browser's address bar, and that
    /// it has the token if it shows or changes something.
    fn check(&self, request: &Request) -> std::result::Result<(), (&'static str, &'static str)> {
        const FORBIDDEN: &str = "403 Forbidden";
        let host = request.host.as_deref().unwrap_or_default();
        let (name, port) = host.rsplit_once(':').unwrap_or((host, "80"));
        let is_local = matches!(name, "127.0.0.1" | "localhost");
        let is_own = self.port.is_none_or(|it| it.to_string() == port);
        if !is_local || !is_own {
            // Another name may have been rebound to this address.
            return Err(("421 Misdirected Request", "this page is only at 127.0.0.1"));
        }
        if request.origin.as_ref().is_some_and(|it| *it != format!("http://{host}")) {
            return Err((FORBIDDEN, "only the page of `vusb web` itself may do this"));
        }
        if matches!(request.site.as_deref(), Some("cross-site" | "same-site")) {
            return Err((FORBIDDEN, "only the page of `vusb web` itself may do this"));
        }
        if needs_token(&request.path) {
            let sent = request.authorization.as_deref().and_then(|it| it.strip_prefix("Bearer "));
            if !sent.is_some_and(|it| is_equal(it.as_bytes(), self.token.as_bytes())) {
                return Err((
                    "401 Unauthorized",
                    "open the address that `vusb web` has printed, with what follows the #",
                ));
            }
        }
        Ok(())
    }

    /// Sends each picture until the client or the command ends.
    fn events(&self, stream: &mut dyn Write) -> io::Result<()> {
        let mut stream = stream;
        http::begin_events(&mut stream)?;
        let mut last = 0;
        loop {
            let content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
            let nothing = |it: &mut Content| it.version == last && !it.ended;
            let waited = self.changed.wait_timeout_while(content, KEEP_ALIVE, nothing);
            let content = waited.unwrap_or_else(PoisonError::into_inner).0.clone();
            if content.ended {
                return Ok(());
            }
            if content.version == last {
                stream.write_all(b": still here\n\n")?;
            } else {
                last = content.version;
                write!(stream, "id: {last}\ndata: {}\n\n", content.data)?;
            }
            stream.flush()?;
        }
    }

    /// Carries out a request of the page.
    fn call(&self, body: &[u8]) -> (&'static str, Value) {
        let request: PageRequest = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(error) => {
                let error =
                    json!({ "message": format!("the request is not valid: {error}"), "hints": [] });
                return ("400 Bad Request", json!({ "error": error }));
            }
        };
        if request.changes() && self.read_only {
            let message = "the page was started with --read-only";
            return ("403 Forbidden", json!({ "error": { "message": message, "hints": [] } }));
        }
        let Some(_call) = CallInProgress::begin(self) else {
            let error = json!({ "message": "vusb web is shutting down", "hints": [] });
            return ("503 Service Unavailable", json!({ "error": error }));
        };
        let global = &self.arguments.global;
        let done = Cli::new(global, &self.arguments.command).and_then(|mut cli| {
            cli.options.cancel = self.cancel.clone();
            request.carry_out(&cli, global)
        });
        match done {
            Ok(value) => ("200 OK", value),
            Err(failure) => {
                let error = json!({ "message": failure.message(), "hints": failure.hints() });
                ("200 OK", json!({ "error": error }))
            }
        }
    }

    /// Cancels the calls that are under way, and waits for them.
    fn shut_down(&self) {
        self.cancel.cancel();
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.ended = true;
        self.changed.notify_all();
        drop(content);
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.idle.wait_timeout_while(calls, SHUTDOWN_LIMIT, |count| *count > 0);
        drop(waited);
    }
}

/// Whether a path shows or changes something.
fn needs_token(path: &str) -> bool {
    matches!(path, "/events" | "/call")
}

/// Counts a connection with the token as open until it is dropped.
struct OpenConnection<'a>(&'a AtomicUsize);

impl OpenConnection<'_> {
    /// `None` if there are too many.
    fn begin(count: &AtomicUsize) -> Option<OpenConnection<'_>> {
        let connection = count.fetch_add(1, Ordering::SeqCst);
        // Dropping it decreases the count again.
        Some(OpenConnection(count)).filter(|_| connection < MAX_CONNECTIONS)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts a call as under way until it is dropped.
struct CallInProgress<'a>(&'a Shared);

impl CallInProgress<'_> {
    /// `None` if the command is ending.
    fn begin(shared: &Shared) -> Option<CallInProgress<'_>> {
        let mut count = shared.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.cancel.is_cancelled() {
            return None;
        }
        *count += 1;
        drop(count);
        Some(CallInProgress(shared))
    }
}

impl Drop for CallInProgress<'_> {
    fn drop(&mut self) {
        let mut count = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_sub(1);
        self.0.idle.notify_all();
    }
}

/// Whether two texts are equal. The time this takes does not depend on where they differ.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_a_killed_command_has_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let place = ListenAt::Socket(path.clone());
        // The file of the socket stays.
        drop(UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err());
        let listener = Listener::bind(&place).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(Listener::bind(&place).is_err(), "it is in use");
        UnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(!path.exists());
        fs::write(&path, "kept").unwrap();
        assert!(Listener::bind(&place).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn of_commands_that_replace_a_socket_at_the_same_time_one_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for _ in 0..50 {
            let _ = fs::remove_file(&path);
            drop(UnixListener::bind(&path).unwrap());
            let starting = std::sync::Barrier::new(4);
            let bound: Vec<(PathBuf, io::Result<()>, UnixListener)> = thread::scope(|scope| {
                let start = |number: usize| {
                    let (starting, path) = (&starting, &path);
                    let own = folder.path().join(format!("own{number}"));
                    scope.spawn(move || {
                        let listener = UnixListener::bind(&own).unwrap();
                        starting.wait();
                        let placed = place_socket(&own, path);
                        (own, placed, listener)
                    })
                };
                let all: Vec<_> = (0..4).map(start).collect();
                all.into_iter().map(|it| it.join().unwrap()).collect()
            });
            let placed: Vec<_> = bound.iter().filter(|(_, placed, _)| placed.is_ok()).collect();
            assert_eq!(placed.len(), 1);
            assert_eq!(file_at(&path).unwrap(), file_at(&placed[0].0).unwrap());
            bound.iter().for_each(|(own, ..)| fs::remove_file(own).unwrap());
        }
    }

    #[test]
    fn a_socket_that_another_command_replaces_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let place = ListenAt::Socket(path.clone());
        drop(UnixListener::bind(&path).unwrap());
        let other = fs::File::open(folder.path()).unwrap();
        flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(Listener::bind(&place).is_err());
        drop(other);
        let first = Listener::bind(&place).unwrap();
        // A person deletes the socket, and another command listens there.
        fs::remove_file(&path).unwrap();
        let _second = Listener::bind(&place).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
    }

    fn shared() -> Arc<Shared> {
        Arc::new(Shared {
            content: Mutex::default(),
            changed: Condvar::new(),
            connections: AtomicUsize::new(0),
            strangers: Mutex::default(),
            calls: Mutex::new(0),
            idle: Condvar::new(),
            cancel: Cancel::default(),
            arguments: clap::Parser::try_parse_from(["vusb", "web"]).unwrap(),
            token: "secret".to_owned(),
            port: None,
            read_only: true,
        })
    }

    fn connect(shared: &Arc<Shared>) -> UnixStream {
        let (own, other) = UnixStream::pair().unwrap();
        Shared::serve_in_thread(shared, Box::new(other));
        own
    }

    /// The status of the response to a request for the events.
    fn status(stream: &mut UnixStream) -> String {
        let request =
            "GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        String::from_utf8(start.to_vec()).unwrap()
    }

    #[test]
    fn connections_without_the_token_keep_nobody_out() {
        let shared = shared();
        let mut strangers: Vec<UnixStream> =
            (0..3 * MAX_STRANGERS).map(|_| connect(&shared)).collect();
        assert_eq!(shared.strangers().open.len(), MAX_STRANGERS);
        let mut page = connect(&shared);
        assert_eq!(status(&mut page), "HTTP/1.1 200");
        // The oldest one was closed.
        assert_eq!(strangers[0].read(&mut [0; 1]).unwrap(), 0);
        shared.shut_down();
    }

    #[test]
    fn strangers_do_not_close_pages() {
        let shared = shared();
        let page = |_| {
            let mut page = connect(&shared);
            assert_eq!(status(&mut page), "HTTP/1.1 200");
            page
        };
        let _pages: Vec<UnixStream> = (0..MAX_CONNECTIONS).map(page).collect();
        assert_eq!(status(&mut connect(&shared)), "HTTP/1.1 503");
        let _strangers: Vec<UnixStream> =
            (0..2 * MAX_STRANGERS).map(|_| connect(&shared)).collect();
        assert_eq!(shared.connections.load(Ordering::SeqCst), MAX_CONNECTIONS);
        shared.shut_down();
    }
}
