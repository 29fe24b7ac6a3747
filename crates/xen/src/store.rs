//! xenstore: the small tree of texts through which Xen's domains and tools agree.
//!
//! ```text
//!  Store ──request n──▶ xenstored        Transaction: the same, with a number, until its end
//!    ▲ ◀──reply n──────┘     │
//!    └──────watch events─────┘           come at any time, also before a reply: kept until they are taken
//! ```
//!
//! One request is under way at a time, and each is waited for no longer than [`Store::limit`]. A reply that comes too late
//! is dropped, and the connection stays of use.
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
//! A program with an event loop polls the store's descriptor for reading, and calls [`Store::take_event`] until it gives
//! none **before each poll**: events that came with a reply do not make the descriptor readable again.

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
use std::time::Duration;

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

/// How long xenstored is waited for unless said otherwise. It answers in well under a millisecond, but may be away for
/// seconds while it is replaced by a newer one.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(10);

/// How many replies that were given up may still come. After more of them the connection is given up too.
const MAX_LATE: usize = 64;

/// A connection to xenstored. What can be done with nodes is in [`Nodes`].
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    watches: Watches,
    last_request: u32,
    /// Requests whose replies were not waited for to the end.
    late: Vec<u32>,
    limit: Duration,
}

/// Opens the first way to xenstored that there is, to be passed to another process and [`Store::from_fd`] there: the socket
/// of a xenstored in this domain, or `/dev/xen/xenbus`, which leads to one anywhere.
///
/// # Errors
/// [`Error::NoStore`] if there is none, [`Error::Denied`] if this process may not.
pub fn open() -> Result<OwnedFd, Error> {
    connection::open_any(DEFAULT_LIMIT)
}

impl Store {
    /// Connects to the first xenstored that there is. `limit` is for this and for each answer later.
    ///
    /// # Errors
    /// [`Error::NoStore`] if there is none, [`Error::Denied`] if this process may not.
    pub fn connect(limit: Duration) -> Result<Self, Error> {
        Self::from_fd(connection::open_any(limit)?).map(|store| store.with_limit(limit))
    }

    /// Connects to the xenstored that listens there.
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub fn from_socket(path: &Path) -> Result<Self, Error> {
        Self::from_fd(connection::open_socket(path, DEFAULT_LIMIT)?)
    }

    /// From a connected socket or an opened `/dev/xen/xenbus`. It is set to non-blocking; nobody else may use it.
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
        })
    }

    /// The same, with another limit for each answer.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How long each answer is waited for.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// Where a domain's nodes are: `/local/domain/5`. The domain need not be there.
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

    /// The number of the domain that this program runs in.
    ///
    /// # Errors
    /// As [`Nodes`]. [`Error::NotFound`] in a domain that its toolstack gave no `domid` node; xl gives one to each, and
    /// `xen-init-dom0` to domain 0.
    pub fn own_domain(&mut self) -> Result<DomId, Error> {
        // The only relative path there is use for: it begins at the domain's own folder, wherever that is.
        let value = self.request(Kind::Read, 0, "domid", b"domid\0")?;
        let text = std::str::from_utf8(&value).unwrap_or_default();
        text.parse().map_err(|error| Error::Protocol(format!("domid: {error}")))
    }

    /// Asks to be told whenever this node or one below it is written, made or removed. One event comes at once, whether
    /// the node is there or not: what is read after it misses nothing.
    ///
    /// Domains that come and go are told as `@introduceDomain` and `@releaseDomain`.
    ///
    /// # Errors
    /// As [`Nodes`]. [`Error::Refused`] with `EEXIST` if it is watched with this token already.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), Error> {
        let payload = watch_payload(path, token)?;
        // Before it is asked for: its first event may be here before the reply.
        self.watches.begin(path, token);
        self.request(Kind::Watch, 0, path, &payload).map(drop).inspect_err(|error| {
            if !matches!(error, Error::TimedOut { .. }) {
                self.watches.end(path, token);
            }
        })
    }

    /// Ends a watch. Events of it that were not taken are dropped, unless another watch has the same token.
    ///
    /// # Errors
    /// As [`Nodes`]. [`Error::NotFound`] if it is not watched.
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<(), Error> {
        let payload = watch_payload(path, token)?;
        self.request(Kind::Unwatch, 0, path, &payload)?;
        self.watches.end(path, token);
        Ok(())
    }

    /// The next event; none if none comes within `limit`.
    ///
    /// # Errors
    /// The connection is lost, or speaks nonsense.
    pub fn next_event(&mut self, limit: Duration) -> Result<Option<WatchEvent>, Error> {
        let deadline = Deadline::after(limit);
        loop {
            if let Some(event) = self.watches.take() {
                return Ok(Some(event));
            }
            match self.connection.receive(deadline)? {
                Some(message) => {
                    if let Some(message) = self.sort(message)? {
                        let (kind, request) = (message.kind, message.request);
                        return Err(Error::Protocol(format!("{kind:?} for {request}, unasked")));
                    }
                }
                None => return Ok(None),
            }
        }
    }

    /// The next event that is here already; none if there is none. Never waits.
    ///
    /// # Errors
    /// The connection is lost, or speaks nonsense.
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

        let deadline = Deadline::after(self.limit);
        // The kernel's device refuses some watches when they are written, not with a reply.
        let sent = self.connection.send(&bytes, deadline);
        if !sent.map_err(|error| error.about(about))? {
            return Err(timed_out);
        }
        while let Some(message) = self.connection.receive(deadline)? {
            let Some(reply) = self.sort(message)? else { continue };
            return match reply.kind {
                _ if reply.request != request => {
                    Err(Error::Protocol(format!("a reply to {}, not to {request}", reply.request)))
                }
                Kind::Error => Err(Error::named(&reply.payload, about)),
                it if it == kind => Ok(reply.payload),
                other => Err(Error::Protocol(format!("{other:?} as a reply to {kind:?}"))),
            };
        }
        self.late.push(request);
        Err(timed_out)
    }

    /// Keeps a watch event, drops a reply that comes too late, and gives back all else.
    fn sort(&mut self, message: Message) -> Result<Option<Message>, Error> {
        if message.kind == Kind::WatchEvent {
            self.watches.told(WatchEvent::decode(&message.payload)?);
            return Ok(None);
        }
        let Some(at) = self.late.iter().position(|late| *late == message.request) else {
            return Ok(Some(message));
        };
        self.late.swap_remove(at);
        Ok(None)
    }
}

/// For polling; see the module's head about what to do before each poll.
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
        return Err(Error::InvalidPath { path: path.into(), why: "its token has a zero byte" });
    }
    Ok(format!("{path}\0{token}\0").into_bytes())
}

/// A reply that is one number.
fn number(payload: &[u8]) -> Option<u32> {
    texts(payload).next().and_then(|text| std::str::from_utf8(text).ok()).and_then(strict_decimal)
}
