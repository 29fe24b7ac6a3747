//! A Unix socket with a decoder on it: bytes in and out under a deadline, and nothing about commands.
//!
//! The socket never blocks; all waiting is in one `poll` that is bounded by the caller's deadline. It
//! reads while it writes: QEMU stops to read commands while eight of them wait (its
//! `QMP_REQ_QUEUE_LEN_MAX`) and goes on when its answers are taken, so a writer that does not read may
//! wait for ever.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};

use crate::codec::{Decoder, Limits, Message};
use crate::deadline::Deadline;
use crate::error::Error;

/// Bytes asked of the kernel in one read. A Unix socket queues about 200 kB, so a large answer takes
/// few turns, and a small one touches only what it needs.
const READ_SIZE: usize = 64 << 10;

/// Pause between attempts while the listener's queue is full. The kernel offers no way to wait for a
/// place in it without blocking.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// What is waited for and until when.
pub(crate) struct Wait<'a> {
    deadline: Deadline,
    what: &'a dyn fmt::Display,
    over: bool,
}

impl<'a> Wait<'a> {
    /// A wait that is good for at least one look at the socket, even if its deadline is over.
    pub(crate) fn new(deadline: Deadline, what: &'a dyn fmt::Display) -> Self {
        Self { deadline, what, over: false }
    }

    /// The time for one more look. A peer that always has something to say does not stretch the
    /// deadline: the first look that begins after it is the last.
    fn next_look(&mut self) -> Result<Duration, Error> {
        if self.over {
            return Err(self.timed_out());
        }
        let remaining = self.deadline.remaining();
        self.over = remaining.is_zero();
        Ok(remaining)
    }

    pub(crate) fn timed_out(&self) -> Error {
        Error::TimedOut { what: self.what.to_string() }
    }
}

/// Why a connection is of no more use.
#[derive(Debug, Clone)]
enum Broken {
    Closed { mid_message: bool },
    Unusable(String),
}

/// See the module.
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
    pub(crate) fn open(path: &Path, limits: Limits, deadline: Deadline) -> Result<Self, Error> {
        Ok(Self {
            socket: open_socket(path, deadline)?,
            decoder: Decoder::with_limits(limits),
            scratch: vec![0; READ_SIZE],
            outbox: Vec::new(),
            sent: 0,
            broken: None,
        })
    }

    /// Queues bytes; [`turn`](Self::turn) sends them.
    pub(crate) fn queue(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.check()?;
        self.outbox.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes back what was queued and not sent. If a command is half out, nothing can follow it and
    /// the connection is done for. True if not a byte had left.
    pub(crate) fn withdraw(&mut self) -> bool {
        let untouched = self.sent == 0 && !self.outbox.is_empty();
        if self.sent > 0 {
            self.break_off("a command was only half sent when its time was over".to_owned());
        }
        self.outbox.clear();
        self.sent = 0;
        untouched
    }

    /// A message that has come in already, with its size in bytes. Does no I/O.
    pub(crate) fn received(&mut self) -> Result<Option<(Message, usize)>, Error> {
        if let Some(Broken::Unusable(_)) = self.broken {
            return self.check().map(|()| None);
        }
        match self.decoder.next_message() {
            Ok(message) => Ok(message.map(|message| (message, self.decoder.last_message_bytes()))),
            Err(error) => Err(self.protocol_error(error.to_string())),
        }
    }

    /// Whether a message has begun to come in and not ended.
    pub(crate) fn is_mid_message(&self) -> bool {
        self.decoder.is_partial()
    }

    /// Records that the peer talks nonsense; the error says what.
    pub(crate) fn protocol_error(&mut self, reason: String) -> Error {
        self.break_off(reason.clone());
        Error::Protocol { reason }
    }

    fn break_off(&mut self, reason: String) {
        self.broken.get_or_insert(Broken::Unusable(reason));
    }

    /// The error of a connection that is of no more use.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.broken {
            None => Ok(()),
            Some(Broken::Closed { mid_message }) => {
                Err(Error::Closed { mid_message: *mid_message })
            }
            Some(Broken::Unusable(reason)) => Err(Error::Poisoned { reason: reason.clone() }),
        }
    }

    /// Waits until the socket is ready, then writes and reads once. Take all that has been
    /// [`received`](Self::received) before each turn, or it piles up.
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
        match send(&self.socket, unsent, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => self.sent += count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            // The peer is gone, but what it said before may still be read; that ends in Closed.
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
        self.break_off(errno.to_string());
        Error::Io(errno.into())
    }
}

/// Waits for one of `flags`, or for a hangup or an error, which the kernel always reports.
fn wait_for(socket: &OwnedFd, flags: PollFlags, wait: &mut Wait<'_>) -> Result<PollFlags, Error> {
    loop {
        let timeout = timespec(wait.next_look()?);
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

/// A length too large for the kernel becomes one that is merely long.
fn timespec(length: Duration) -> Timespec {
    const DAY: Timespec = Timespec { tv_sec: 24 * 60 * 60, tv_nsec: 0 };
    Timespec::try_from(length).unwrap_or(DAY)
}

/// Connects without ever blocking. A Unix socket's `connect` is done at once unless the listener's
/// queue is full; then it would block without limit, or, as here, says `EAGAIN`.
fn open_socket(path: &Path, deadline: Deadline) -> Result<OwnedFd, Error> {
    if path.as_os_str().is_empty() {
        // To the kernel this would be a name in the abstract space.
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
            Err(Errno::AGAIN) => std::thread::sleep(CONNECT_PAUSE.min(deadline.remaining())),
            Err(errno) => return Err(connect_error(path, errno)),
        }
    }
}

fn connect_error(path: &Path, errno: Errno) -> Error {
    let path = path.to_owned();
    match errno {
        Errno::NOENT => Error::NoSocket { path },
        // The kernel says the same of a file that is no socket and of a socket without a listener.
        Errno::CONNREFUSED if is_socket(&path) => Error::Refused { path },
        Errno::CONNREFUSED | Errno::PROTOTYPE | Errno::NOTSOCK => Error::NotASocket { path },
        Errno::ACCESS | Errno::PERM => Error::Permission { path },
        Errno::NAMETOOLONG => Error::PathTooLong { path },
        errno => Error::Connect { path, source: io::Error::from(errno) },
    }
}

/// If it cannot be told, it is taken for a socket.
fn is_socket(path: &Path) -> bool {
    path.metadata().map_or(true, |metadata| metadata.file_type().is_socket())
}
