//! A Unix socket with a decoder: sends and receives under a deadline, and knows nothing about
//! commands.
//!
//! The socket never blocks; the only wait is one `poll`, bounded by the caller's deadline. The
//! connection reads while it writes: QEMU stops reading when eight commands are queued
//! (`QMP_REQ_QUEUE_LEN_MAX`) and continues when its answers are read, so a writer that does not
//! read could wait forever.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, send, sendmsg, socket_with,
};

use crate::codec::{Decoder, Limits, Message};
use crate::deadline::Deadline;
use crate::error::Error;

/// The size in bytes of one read. A Unix socket queues about 200 kB, so a large answer takes few
/// reads.
const READ_SIZE: usize = 64 << 10;

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
            return Err(self.timed_out());
        }
        let remaining = self.deadline.remaining();
        self.last_poll = remaining.is_zero();
        Ok(remaining)
    }

    pub(crate) fn timed_out(&self) -> Error {
        Error::TimedOut { what: self.what.to_string() }
    }
}

/// Why a connection is unusable.
#[derive(Debug, Clone)]
enum Broken {
    Closed { mid_message: bool },
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
    /// The file that goes with the first byte of the outbox.
    file: Option<OwnedFd>,
    broken: Option<Broken>,
}

impl Connection {
    pub(crate) fn open(path: &Path, limits: Limits, deadline: Deadline) -> Result<Self, Error> {
        Ok(Self {
            socket: open_socket(path, deadline)?,
            decoder: Decoder::with_limits(limits),
            scratch: vec![0; READ_SIZE],
            outbox: Vec::new(),
            sent: 0,
            file: None,
            broken: None,
        })
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Queues bytes; [`turn`](Self::turn) sends them.
    pub(crate) fn queue(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.check()?;
        self.outbox.extend_from_slice(bytes);
        Ok(())
    }

    /// Queues bytes that the peer receives together with an open file. Nothing else may be queued.
    pub(crate) fn queue_with_file(&mut self, bytes: &[u8], file: OwnedFd) -> Result<(), Error> {
        self.queue(bytes)?;
        self.file = Some(file);
        Ok(())
    }

    /// Withdraws what was queued and not sent. True if something was queued and none of it was
    /// sent. If a command was sent partially, nothing can follow it, and the connection becomes
    /// unusable.
    pub(crate) fn withdraw(&mut self) -> bool {
        let untouched = self.sent == 0 && !self.outbox.is_empty();
        if self.sent > 0 {
            self.mark_unusable("a command was sent only partially when it timed out".to_owned());
        }
        self.outbox.clear();
        self.sent = 0;
        self.file = None;
        untouched
    }

    /// The next message that was received already, with its size in bytes. Does no I/O.
    pub(crate) fn received(&mut self) -> Result<Option<(Message, usize)>, Error> {
        if let Some(Broken::Unusable(_)) = self.broken {
            return self.check().map(|()| None);
        }
        match self.decoder.next_message() {
            Ok(message) => Ok(message.map(|message| (message, self.decoder.last_message_bytes()))),
            Err(error) => Err(self.protocol_error(error.to_string())),
        }
    }

    /// Whether a message was received partially.
    pub(crate) fn is_mid_message(&self) -> bool {
        self.decoder.is_partial()
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
            Some(Broken::Closed { mid_message }) => {
                Err(Error::Closed { mid_message: *mid_message })
            }
            Some(Broken::Unusable(reason)) => Err(Error::Poisoned { reason: reason.clone() }),
        }
    }

    /// Waits until the socket is ready, then writes and reads once. Before each turn, take all
    /// messages that were [`received`](Self::received); otherwise they accumulate.
    pub(crate) fn turn(&mut self, wait: &mut Wait<'_>) -> Result<(), Error> {
        self.check()?;
        let mut flags = PollFlags::IN;
        if !self.outbox.is_empty() {
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
        match send_bytes(&self.socket, unsent, self.file.as_ref()) {
            Ok(count) => {
                self.sent += count;
                self.file = None;
            }
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
                let mid_message = self.decoder.is_partial();
                self.broken = Some(Broken::Closed { mid_message });
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

/// Sends bytes, with an open file if there is one (`SCM_RIGHTS`, `unix(7)`).
fn send_bytes(socket: &OwnedFd, bytes: &[u8], file: Option<&OwnedFd>) -> Result<usize, Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let Some(file) = file else { return send(socket, bytes, flags) };
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)
}

/// Waits for one of `flags`, or for a hangup or error, which the kernel always reports.
fn wait_for(socket: &OwnedFd, flags: PollFlags, wait: &mut Wait<'_>) -> Result<PollFlags, Error> {
    loop {
        let timeout = timespec(wait.next_timeout()?);
        let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), flags)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => {}
            Ok(_) => {
                let [fd] = &fds;
                return Ok(fd.revents());
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::Io(errno.into())),
        }
    }
}

/// Replaces a duration that is too long for the kernel with a day.
fn timespec(duration: Duration) -> Timespec {
    const DAY: Timespec = Timespec { tv_sec: 24 * 60 * 60, tv_nsec: 0 };
    Timespec::try_from(duration).unwrap_or(DAY)
}

/// Connects without blocking. `connect` on a Unix socket completes at once unless the listener's
/// queue is full. Then a blocking socket would wait without limit, and a non-blocking one returns
/// `EAGAIN`.
fn open_socket(path: &Path, deadline: Deadline) -> Result<OwnedFd, Error> {
    if path.as_os_str().is_empty() {
        // For the kernel, this would be an address in the abstract namespace.
        return Err(Error::NoSocket { path: path.to_owned() });
    }
    let address = SocketAddrUnix::new(path).map_err(|errno| connect_error(path, errno))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| connect_error(path, errno))?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if deadline.is_over() => {
                return Err(Error::NoGreeting { path: path.to_owned() });
            }
            Err(Errno::AGAIN) => {
                std::thread::sleep(CONNECT_RETRY_INTERVAL.min(deadline.remaining()));
            }
            Err(errno) => return Err(connect_error(path, errno)),
        }
    }
}

fn connect_error(path: &Path, errno: Errno) -> Error {
    let path = path.to_owned();
    match errno {
        Errno::NOENT => Error::NoSocket { path },
        // The kernel returns the same error for a file that is not a socket.
        Errno::CONNREFUSED if is_socket(&path) => Error::Refused { path },
        Errno::CONNREFUSED | Errno::PROTOTYPE | Errno::NOTSOCK => Error::NotASocket { path },
        Errno::ACCESS | Errno::PERM => Error::Permission { path },
        Errno::NAMETOOLONG => Error::PathTooLong { path },
        errno => Error::Connect { path, source: io::Error::from(errno) },
    }
}

/// Whether the path is a socket. True if that cannot be determined.
fn is_socket(path: &Path) -> bool {
    path.metadata().map_or(true, |metadata| metadata.file_type().is_socket())
}
