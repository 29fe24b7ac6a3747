//! A Unix socket with a decoder: sends and receives under a deadline, and knows nothing about
//! procedures.
//!
//! The socket never blocks; the only wait is one `poll`, bounded by the caller's deadline. The
//! connection reads while it writes: the daemon stops reading a client that does not take its
//! replies.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};

use crate::codec::{Decoder, Message, MessageType};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::protocol::{KEEPALIVE, keepalive};

/// The size in bytes of one read. A domain's XML is about 10 kB.
const READ_SIZE: usize = 32 << 10;

/// The interval between attempts to connect while the listener's queue is full. The kernel has no
/// way to wait for it without blocking.
const CONNECT_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// What a call waits for, and until when.
pub(crate) struct Wait<'a> {
    deadline: Deadline,
    what: &'a dyn fmt::Display,
    last_poll: bool,
}

impl<'a> Wait<'a> {
    /// A wait that polls the socket at least once, even if its deadline has passed.
    pub(crate) fn new(deadline: Deadline, what: &'a dyn fmt::Display) -> Self {
        Self { deadline, what, last_poll: false }
    }

    /// The timeout for the next poll. The first poll after the deadline is the last, so a peer that
    /// never stops sending cannot extend the deadline.
    fn next_timeout(&mut self) -> Result<Duration, Error> {
        if self.last_poll {
            return Err(Error::TimedOut { what: self.what.to_string() });
        }
        let remaining = self.deadline.remaining();
        self.last_poll = remaining.is_zero();
        Ok(remaining)
    }
}

/// Why a connection is unusable.
#[derive(Debug, Clone)]
enum Broken {
    Closed,
    Unusable(String),
}

/// A connection, as the module describes it.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    decoder: Decoder,
    scratch: Vec<u8>,
    outbox: Vec<u8>,
    sent: usize,
    broken: Option<Broken>,
}

impl Connection {
    /// Connects to the first of these sockets on which a program listens.
    pub(crate) fn open(sockets: &[PathBuf], deadline: Deadline) -> Result<Self, Error> {
        let mut refused = None;
        for path in sockets {
            match open_socket(path, deadline) {
                Ok(None) => {}
                Ok(Some(socket)) => return Ok(Self::on(socket)),
                // Another kind of daemon may have run earlier and left its socket behind.
                Err(error @ Error::Refused { .. }) => refused = refused.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| Error::NoSocket { paths: sockets.to_vec() }))
    }

    fn on(socket: OwnedFd) -> Self {
        Self {
            socket,
            decoder: Decoder::default(),
            scratch: vec![0; READ_SIZE],
            outbox: Vec::new(),
            sent: 0,
            broken: None,
        }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Queues a message; [`turn`](Self::turn) sends it.
    pub(crate) fn queue(
        &mut self,
        message: &Message,
        what: &dyn fmt::Display,
    ) -> Result<(), Error> {
        self.check()?;
        let bytes = message.encode().ok_or_else(|| Error::TooLong { what: what.to_string() })?;
        self.outbox.extend_from_slice(&bytes);
        Ok(())
    }

    /// Withdraws what was queued and not sent. If a message was sent partially, nothing can follow
    /// it, and the connection becomes unusable.
    pub(crate) fn withdraw(&mut self) {
        if self.sent > 0 {
            self.mark_unusable("a call was sent only partially when it timed out".to_owned());
        }
        self.outbox.clear();
        self.sent = 0;
    }

    /// The next message that was received already. Does no I/O. The daemon's keepalive messages are
    /// answered here and not returned.
    pub(crate) fn received(&mut self) -> Result<Option<Message>, Error> {
        if let Some(Broken::Unusable(_)) = self.broken {
            return self.check().map(|()| None);
        }
        loop {
            match self.decoder.next_message() {
                Ok(Some(message)) if message.program == KEEPALIVE => self.answer_ping(&message),
                Ok(message) => return Ok(message),
                Err(error) => return Err(self.protocol_error(error.to_string())),
            }
        }
    }

    fn answer_ping(&mut self, message: &Message) {
        let is_ping = message.procedure == keepalive::PING && message.kind == MessageType::Event;
        let pong = Message::event(KEEPALIVE, keepalive::PONG, Vec::new());
        // A connection that is closed needs no answer.
        if let Some(bytes) = pong.encode().filter(|_| is_ping && self.broken.is_none()) {
            self.outbox.extend_from_slice(&bytes);
        }
    }

    /// Marks the connection as unusable because the peer violated the protocol.
    pub(crate) fn protocol_error(&mut self, reason: String) -> Error {
        self.mark_unusable(reason.clone());
        Error::Protocol { reason }
    }

    fn mark_unusable(&mut self, reason: String) {
        self.broken.get_or_insert(Broken::Unusable(reason));
    }

    /// Fails if the connection is unusable.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.broken {
            None => Ok(()),
            Some(Broken::Closed) => Err(Error::Closed),
            Some(Broken::Unusable(reason)) => Err(Error::Poisoned { reason: reason.clone() }),
        }
    }

    /// Whether something waits to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Waits until the socket is ready, then writes and reads once. Before each turn, take all
    /// messages that were [`received`](Self::received); otherwise they accumulate.
    pub(crate) fn turn(&mut self, wait: &mut Wait<'_>) -> Result<(), Error> {
        self.check()?;
        let mut flags = PollFlags::IN;
        if self.has_unsent() {
            flags |= PollFlags::OUT;
        }
        let ready = wait_for(&self.socket, flags, wait)?;
        if ready.contains(PollFlags::OUT) {
            self.send_some()?;
        }
        if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.read_some()?;
        }
        Ok(())
    }

    fn send_some(&mut self) -> Result<(), Error> {
        let unsent = self.outbox.get(self.sent..).unwrap_or_default();
        match send(&self.socket, unsent, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => self.sent += count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            // The peer is gone. What it has sent can still be read; after that, reading fails with
            // `Closed`.
            Err(Errno::PIPE | Errno::CONNRESET) => self.sent = self.outbox.len(),
            Err(errno) => return Err(self.failed(errno)),
        }
        if self.sent >= self.outbox.len() {
            self.outbox = Vec::new();
            self.sent = 0;
        }
        Ok(())
    }

    fn read_some(&mut self) -> Result<(), Error> {
        match recv(&self.socket, self.scratch.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((_, 0)) | Err(Errno::CONNRESET | Errno::PIPE) => {
                self.broken = Some(Broken::Closed);
                self.check()
            }
            Ok((_, count)) => {
                self.decoder.feed(self.scratch.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    fn failed(&mut self, errno: Errno) -> Error {
        self.mark_unusable(errno.to_string());
        Error::Io(errno.into())
    }
}

/// Waits for one of `flags`, or for a hangup or error, which the kernel always reports.
fn wait_for(socket: &OwnedFd, flags: PollFlags, wait: &mut Wait<'_>) -> Result<PollFlags, Error> {
    /// For a duration that is too long for the kernel.
    const DAY: Timespec = Timespec { tv_sec: 24 * 60 * 60, tv_nsec: 0 };

    loop {
        let timeout = Timespec::try_from(wait.next_timeout()?).unwrap_or(DAY);
        let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), flags)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => {
                let [fd] = &fds;
                return Ok(fd.revents());
            }
            Err(errno) => return Err(Error::Io(errno.into())),
        }
    }
}

/// Connects without blocking; `None` if there is no such file. `connect` on a Unix socket completes
/// at once unless the listener's queue is full. Then a blocking socket would wait without limit,
/// and a non-blocking one returns `EAGAIN`.
fn open_socket(path: &Path, deadline: Deadline) -> Result<Option<OwnedFd>, Error> {
    let failed = |errno: Errno| {
        let path = path.to_owned();
        match errno {
            Errno::CONNREFUSED => Error::Refused { path },
            Errno::ACCESS | Errno::PERM => Error::Permission { path },
            errno => Error::Connect { path, source: errno.into() },
        }
    };
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => return Ok(Some(socket)),
            Err(Errno::INTR) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::AGAIN) if deadline.is_over() => {
                let what = format!("a connection to {}", path.display());
                return Err(Error::TimedOut { what });
            }
            Err(Errno::AGAIN) => {
                std::thread::sleep(CONNECT_RETRY_INTERVAL.min(deadline.remaining()));
            }
            Err(errno) => return Err(failed(errno)),
        }
    }
}
