//! xenstore: the small tree of texts through which Xen's domains and tools coordinate.
//!
//! ```text
//!  Store ──request n──▶ xenstored        Transaction: the same, with a transaction id
//!    ▲ ◀──reply n──────┘     │
//!    └──────watch events─────┘           arrive at any time, even before a reply: queued until taken
//! ```
//!
//! One request is in flight at a time, and each waits for its reply no longer than
//! [`Store::limit`]. A late reply is dropped, and the connection remains usable.
//!
//! ```no_run
//! use vusb_xen::store::{DEFAULT_LIMIT, Error, Nodes, Store};
//!
//! let mut store = Store::connect(DEFAULT_LIMIT)?;
//! let name = store.read("/local/domain/0/name")?;
//! store.watch("/local/domain/0/backend/vusb", "controllers")?;
//! while let Some(event) = store.next_event(DEFAULT_LIMIT)? {
//!     println!("{} changed", event.path);
//! }
//! # Ok::<(), Error>(())
//! ```
//!
//! A program with an event loop polls the store's descriptor for reading, and calls
//! [`Store::take_event`] until it returns `None` **before each poll**: an event that arrived
//! together with a reply does not make the descriptor readable again.

mod connection;
mod error;
#[cfg(feature = "fake")]
pub mod fake;
mod nodes;
mod path;
mod perms;
mod transaction;
mod watches;
pub mod wire;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use self::connection::{Connection, Deadline};
pub use self::error::Error;
use self::nodes::Ask;
pub use self::nodes::Nodes;
pub use self::perms::{Access, Perms};
pub use self::transaction::Transaction;
use self::watches::Watches;
pub use self::watches::{MAX_EVENTS, WatchEvent};
use self::wire::{Kind, MAX_REQUEST, Message, texts};
use crate::DomId;
use crate::domain::strict_decimal;

/// How long to wait for xenstored by default. It answers in well under a millisecond, but may be
/// unavailable for seconds during a live update.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(10);

/// How many replies may be outstanding after their requests timed out. With more, the connection
/// counts as closed.
const MAX_LATE: usize = 64;

/// A connection to xenstored. The operations on nodes are in [`Nodes`].
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    watches: Watches,
    last_request: u32,
    /// Requests that timed out and whose replies may still arrive.
    late: Vec<u32>,
    limit: Duration,
    /// The end of all waits for replies.
    end: Option<Instant>,
}

/// Opens a connection to xenstored, for [`Store::from_fd`] in this or another process: the socket
/// of a xenstored in this domain, or else `/dev/xen/xenbus`, which works in any domain.
///
/// # Errors
/// [`Error::NoStore`] if there is none, [`Error::Denied`] if this process is not permitted to,
/// [`Error::TimedOut`] if xenstored is too busy to accept the connection.
pub fn open() -> Result<OwnedFd, Error> {
    connection::open_any(DEFAULT_LIMIT)
}

impl Store {
    /// Connects as [`open`] does. `limit` applies to connecting and to each later reply.
    ///
    /// # Errors
    /// [`Error::NoStore`] if there is no xenstored, [`Error::Denied`] if this process is not
    /// permitted to connect, [`Error::TimedOut`] if xenstored is too busy to accept the connection.
    pub fn connect(limit: Duration) -> Result<Self, Error> {
        Self::from_fd(connection::open_any(limit)?).map(|store| store.with_limit(limit))
    }

    /// Connects to the xenstored that listens on this socket.
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub fn from_socket(path: &Path) -> Result<Self, Error> {
        Self::from_fd(connection::open_socket(path, DEFAULT_LIMIT)?)
    }

    /// Uses a connected socket or an opened `/dev/xen/xenbus`. The descriptor is set to
    /// non-blocking and must not be used by anything else.
    ///
    /// # Errors
    /// It cannot be set to non-blocking.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        Ok(Self {
            connection: Connection::new(fd)?,
            watches: Watches::default(),
            last_request: 0,
            late: Vec::new(),
            limit: DEFAULT_LIMIT,
            end: None,
        })
    }

    /// The same connection with another limit for each reply.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// From now on, waits for no reply beyond `end`, whatever the limit is.
    pub const fn set_end(&mut self, end: Option<Instant>) {
        self.end = end;
    }

    /// How long to wait for each reply.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// The folder of a domain: `/local/domain/5`. The domain need not exist.
    ///
    /// # Errors
    /// As [`Nodes`].
    pub fn domain_path(&mut self, domain: DomId) -> Result<String, Error> {
        let about = format!("domain {domain}");
        let reply =
            self.request(Kind::GetDomainPath, 0, &about, format!("{domain}\0").as_bytes())?;
        let path = texts(&reply).next().and_then(|path| std::str::from_utf8(path).ok());
        let path = path.ok_or_else(|| Error::Protocol("a domain without a path".into()))?;
        path::check(path).map_err(|error| Error::Protocol(error.to_string()))?;
        Ok(path.to_owned())
    }

    /// The id of the domain that this program runs in.
    ///
    /// # Errors
    /// As [`Nodes`]. [`Error::NotFound`] in a domain whose toolstack did not create the `domid`
    /// node; xl creates it for each guest, and `xen-init-dom0` for domain 0.
    pub fn own_domain(&mut self) -> Result<DomId, Error> {
        // The only use of a relative path: it begins at the domain's own folder, wherever that is.
        let value = self.request(Kind::Read, 0, "domid", b"domid\0")?;
        let text = std::str::from_utf8(&value).unwrap_or_default();
        text.parse().map_err(|error| Error::Protocol(format!("domid: {error}")))
    }

    /// Watches a node: there will be an event whenever it or a node below it is written, created or
    /// removed. One event arrives at once, whether or not the node exists, so that a read after it
    /// misses no change.
    ///
    /// The special paths `@introduceDomain` and `@releaseDomain` report domains that appear and
    /// disappear.
    ///
    /// # Errors
    /// As [`Nodes`]. [`Error::Refused`] with `EEXIST` if the path is already watched with this
    /// token.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), Error> {
        let payload = watch_payload(path, token)?;
        // Before the request: the first event may arrive before the reply.
        self.watches.add(path, token);
        self.request(Kind::Watch, 0, path, &payload).map(drop).inspect_err(|error| {
            if !matches!(error, Error::TimedOut { .. }) {
                self.watches.remove(path, token);
            }
        })
    }

    /// Removes a watch. Its queued events are dropped, unless another watch has the same token.
    ///
    /// # Errors
    /// As [`Nodes`]. [`Error::NotFound`] if there is no such watch.
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<(), Error> {
        let payload = watch_payload(path, token)?;
        self.request(Kind::Unwatch, 0, path, &payload)?;
        self.watches.remove(path, token);
        Ok(())
    }

    /// The next event; `None` if none arrives within `limit`.
    ///
    /// # Errors
    /// The connection is lost, or xenstored violates the protocol.
    pub fn next_event(&mut self, limit: Duration) -> Result<Option<WatchEvent>, Error> {
        let deadline = Deadline::after(limit);
        loop {
            if let Some(event) = self.watches.take() {
                return Ok(Some(event));
            }
            match self.connection.receive(deadline)? {
                Some(message) => {
                    if let Some(message) = self.dispatch(message)? {
                        let (kind, request) = (message.kind, message.request);
                        return Err(Error::Protocol(format!(
                            "unexpected {kind:?} for request {request}"
                        )));
                    }
                }
                None => return Ok(None),
            }
        }
    }

    /// The next event that has already arrived. Never waits.
    ///
    /// # Errors
    /// The connection is lost, or xenstored violates the protocol.
    pub fn take_event(&mut self) -> Result<Option<WatchEvent>, Error> {
        self.next_event(Duration::ZERO)
    }

    /// Sends a request and waits for its reply.
    fn request(
        &mut self,
        kind: Kind,
        tx: u32,
        about: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, Error> {
        if payload.len() > MAX_REQUEST {
            return Err(Error::TooLong { path: about.into(), bytes: payload.len() });
        }
        if self.late.len() >= MAX_LATE {
            return Err(Error::Closed);
        }
        self.last_request = self.last_request.wrapping_add(1).max(1);
        let request = self.last_request;
        let message = Message { kind, request, transaction: tx, payload: payload.to_vec() };
        let bytes = message.encode().map_err(|error| Error::Protocol(error.to_string()))?;
        let timed_out = Error::TimedOut { path: about.into(), limit: self.limit };

        let deadline = Deadline::after(self.limit).or_earlier(self.end);
        // The kernel's device refuses some watches in `write`, not with a reply.
        let sent = self.connection.send(&bytes, deadline);
        if !sent.map_err(|error| error.about(about))? {
            return Err(timed_out);
        }
        while let Some(message) = self.connection.receive(deadline)? {
            let Some(reply) = self.dispatch(message)? else { continue };
            return match reply.kind {
                _ if reply.request != request => Err(Error::Protocol(format!(
                    "a reply to request {} instead of {request}",
                    reply.request
                ))),
                Kind::Error => Err(Error::named(&reply.payload, about)),
                it if it == kind => Ok(reply.payload),
                other => Err(Error::Protocol(format!("{other:?} as reply to {kind:?}"))),
            };
        }
        self.late.push(request);
        Err(timed_out)
    }

    /// Queues a watch event, drops a late reply, and returns any other message.
    fn dispatch(&mut self, message: Message) -> Result<Option<Message>, Error> {
        if message.kind == Kind::WatchEvent {
            self.watches.push(WatchEvent::decode(&message.payload)?);
            return Ok(None);
        }
        let Some(at) = self.late.iter().position(|late| *late == message.request) else {
            return Ok(Some(message));
        };
        self.late.swap_remove(at);
        Ok(None)
    }
}

/// For polling. The module's documentation says what to do before each poll.
impl AsFd for Store {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.fd().as_fd()
    }
}

impl Ask for Store {
    fn ask(&mut self, kind: Kind, about: &str, payload: &[u8]) -> Result<Vec<u8>, Error> {
        self.request(kind, 0, about, payload)
    }
}

impl Nodes for Store {}

fn watch_payload(path: &str, token: &str) -> Result<Vec<u8>, Error> {
    path::check_watched(path)?;
    if token.contains('\0') {
        return Err(Error::InvalidPath {
            path: path.into(),
            why: "its token contains a zero byte",
        });
    }
    Ok(format!("{path}\0{token}\0").into_bytes())
}

/// Reads a reply that consists of one number.
fn number(payload: &[u8]) -> Option<u32> {
    texts(payload).next().and_then(|text| std::str::from_utf8(text).ok()).and_then(strict_decimal)
}
