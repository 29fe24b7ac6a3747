//! The interface for other programs, `io.github.vusb.Manager`, over Varlink.
//!
//! Each connection has a thread, so that a call that takes long delays only its own connection. The
//! caller's identity is read from the socket before the first call. Calls that change a guest use
//! the library, with its locks and claims, as the command `vusb` does.

use std::fs;
use std::io::{self, BufReader, Read as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tracing::{debug, warn};
use varlink::{Call, CallTrait as _, ConnectionHandler as _, Interface, Reply, VarlinkService};
use vusb::Cancel;
use vusb_interface as interface;
use vusb_methods::{Answer, Parameters};

use crate::connections::{Connections, TooMany};
use crate::hangup::{self, HangupWatch};
use crate::methods;
use crate::polkit;
use crate::rights::Rights;
use crate::shared::Shared;

/// How many bytes a caller with rights may send over one connection.
const CALLER_BYTES: u64 = 64 << 20;

/// How many bytes a caller without rights may send over one connection: enough to ask what the
/// service is.
const UNPRIVILEGED_BYTES: u64 = 64 << 10;

/// How long the connection of a caller without rights may be idle.
const UNPRIVILEGED_IDLE_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait for an event before checking that the watcher is still connected: a watcher
/// that has disconnected occupies one of its user's connections for that long.
const WATCH_LIMIT: Duration = Duration::from_secs(5);

/// Creates the socket. Every user may connect; what a caller may do is decided for each call.
///
/// # Errors
/// The path is not that of a socket, another process listens there, or the socket cannot be
/// created.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    remove_stale_socket(path)?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Begins to accept connections.
///
/// # Errors
/// The socket cannot be set to blocking mode, or no thread can be started.
pub(crate) fn serve_all(listener: UnixListener, shared: Arc<Shared>) -> io::Result<()> {
    // A socket that was passed to this process may be in non-blocking mode.
    listener.set_nonblocking(false)?;
    let accept = move || {
        let open = Arc::new(Connections::default());
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // The process may be out of descriptors, for example.
                thread::sleep(Duration::from_secs(1));
                continue;
            };
            let peer = Rights::of_peer(&stream, shared.context().host().root());
            let Ok((rights, user)) = peer else { continue };
            let connection = match open.open(rights, user) {
                Ok(connection) => connection,
                Err(TooMany { is_first }) => {
                    if is_first {
                        warn!("too many connections of the user {user}: further ones are closed");
                    }
                    continue;
                }
            };
            let shared = Arc::clone(&shared);
            let serve = move || {
                let _connection = connection;
                if let Err(error) = serve(&stream, rights, shared) {
                    debug!("a connection has ended: {error}");
                }
            };
            if let Err(error) = thread::Builder::new().name("connection".to_owned()).spawn(serve) {
                warn!("a connection is closed: {error}");
            }
        }
    };
    thread::Builder::new().name("api".to_owned()).spawn(accept).map(drop)
}

/// Removes the socket of a daemon that was killed. Nothing else is removed: the path may be wrong.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let file_type = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let is = match file_type {
        it if it.is_socket() => {
            return match UnixStream::connect(path) {
                Ok(_) => Err(io::Error::other("another process listens there")),
                Err(_) => fs::remove_file(path),
            };
        }
        it if it.is_symlink() => "a symbolic link",
        it if it.is_dir() => "a folder",
        it if it.is_file() => "a file",
        _ => "a device or a pipe",
    };
    Err(io::Error::other(format!("the path is {is}, not a socket")))
}

fn serve(stream: &UnixStream, rights: Rights, shared: Arc<Shared>) -> io::Result<()> {
    let manager = Manager { shared, rights, stream: stream.try_clone()? };
    let version = env!("CARGO_PKG_VERSION");
    let url = env!("CARGO_PKG_REPOSITORY");
    let service = VarlinkService::new("vusb", "vusbd", version, url, vec![Box::new(manager)]);
    // The protocol has no limit for a message, and every user may connect.
    let limit = if rights == Rights::None { UNPRIVILEGED_BYTES } else { CALLER_BYTES };
    if rights == Rights::None {
        stream.set_read_timeout(Some(UNPRIVILEGED_IDLE_LIMIT))?;
    }
    let mut reader = BufReader::new(stream.take(limit));
    let mut writer = stream;
    let handled = service.handle(&mut reader, &mut writer, None);
    handled.map(drop).map_err(|error| io::Error::other(error.to_string()))
}

/// The interface for one connection.
struct Manager {
    shared: Arc<Shared>,
    rights: Rights,
    stream: UnixStream,
}

impl Interface for Manager {
    fn get_description(&self) -> &'static str {
        interface::DESCRIPTION
    }

    fn get_name(&self) -> &'static str {
        interface::NAME
    }

    fn call_upgraded(&self, _: &mut Call<'_>, _: &mut dyn io::BufRead) -> varlink::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn call(&self, call: &mut Call<'_>) -> varlink::Result<()> {
        let Some(request) = call.get_request() else { return Ok(()) };
        let method = request.method.rsplit('.').next().unwrap_or_default().to_owned();
        let parameters = Parameters::new(request.parameters.clone());
        let Some(method) = interface::method_named(&method) else {
            return call.reply_method_not_found(interface::full(&method));
        };
        let interactive = request.parameters.as_ref().is_some_and(|it| {
            it.pointer("/options/allowInteractiveAuthentication") == Some(&Value::Bool(true))
        });
        let context = self.shared.context();
        let rights = if self.rights == Rights::None
            && polkit::authorizes(&self.stream, context.host().root(), method.access, interactive)
        {
            Rights::Group
        } else {
            self.rights
        };
        if method.name == "Watch" && methods::may_call(rights, method) {
            return self.watch(call, parameters);
        }
        let cancel = Cancel::default();
        // If this fails, the call cannot be cancelled, and nothing else is affected.
        let watch = HangupWatch::new(&self.stream, cancel.clone());
        let shared = self.shared.as_ref();
        let answer = methods::answer(&methods::Call { shared, rights, cancel, method }, parameters);
        drop(watch);
        match answer {
            Ok(Answer::One(value)) => reply(call, Reply::parameters(Some(value))),
            Ok(Answer::Several(values)) => several(call, values),
            Err(error) => reply(call, Reply::error(error.name, Some(error.parameters))),
        }
    }
}

impl Manager {
    fn watch(&self, call: &mut Call<'_>, mut parameters: Parameters) -> varlink::Result<()> {
        let since = parameters.number("since").and_then(|it| parameters.finish().map(|()| it));
        let since = match since {
            Ok(since) => since,
            Err(error) => return reply(call, Reply::error(error.name, Some(error.parameters))),
        };
        if !call.wants_more() {
            return reply(call, Reply::error("org.varlink.service.ExpectedMore", None));
        }
        call.set_continues(true);
        let mut last = since.unwrap_or_else(|| self.shared.events.last());
        loop {
            for event in self.shared.events.after(last, WATCH_LIMIT) {
                last = event.number;
                let value = serde_json::to_value(&event).unwrap_or(Value::Null);
                call.reply_struct(Reply::parameters(Some(json!({ "event": value }))))?;
            }
            if hangup::is_closed(&self.stream) {
                return Ok(());
            }
        }
    }
}

/// Replies once, unless the caller wants no reply.
fn reply(call: &mut Call<'_>, reply: Reply) -> varlink::Result<()> {
    if call.is_oneway() { Ok(()) } else { call.reply_struct(reply) }
}

/// Replies once for each value. A caller that accepts only one reply gets an error if there are
/// several.
fn several(call: &mut Call<'_>, mut values: Vec<Value>) -> varlink::Result<()> {
    if !call.wants_more() && values.len() > 1 {
        return reply(call, Reply::error("org.varlink.service.ExpectedMore", None));
    }
    let Some(last) = values.pop() else {
        return reply(call, Reply::error(interface::full(interface::NOTHING_LISTED), None));
    };
    call.set_continues(true);
    for value in values {
        call.reply_struct(Reply::parameters(Some(value)))?;
    }
    call.set_continues(false);
    reply(call, Reply::parameters(Some(last)))
}
