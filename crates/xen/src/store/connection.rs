//! The file descriptor of the connection to xenstored, and waiting on it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::io::{Errno, read, write};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::error::Error;
use super::wire::{Decoder, HEADER_BYTES, MAX_PAYLOAD, Message};

/// Where xenstored listens. The second is the path on systems without `/run`.
const SOCKETS: [&str; 2] = ["/run/xenstored/socket", "/var/run/xenstored/socket"];
/// The kernel's connection to xenstored, in any domain.
const DEVICE: &str = "/dev/xen/xenbus";

/// When to stop waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// That long from now. A limit beyond the clock's range means no deadline.
    pub(super) fn after(limit: Duration) -> Self {
        Self(Instant::now().checked_add(limit))
    }

    /// This deadline, or `end` if that is earlier.
    pub(super) fn or_earlier(self, end: Option<Instant>) -> Self {
        Self(self.0.into_iter().chain(end).min())
    }

    fn left(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }
}

/// Opens a connection to xenstored: see [`super::open`].
pub(super) fn open_any(limit: Duration) -> Result<OwnedFd, Error> {
    let mut tried = Vec::new();
    for path in SOCKETS {
        match open_socket(Path::new(path), limit) {
            Err(Error::NoStore { tried: why }) => tried.push(why),
            other => return other,
        }
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match open(DEVICE, flags, Mode::empty()) {
        Ok(fd) => Ok(fd),
        Err(Errno::ACCESS | Errno::PERM) => Err(Error::Denied { path: DEVICE.into() }),
        Err(why) => {
            tried.push(format!("{DEVICE}: {}", io::Error::from(why)));
            Err(Error::NoStore { tried: tried.join("; ") })
        }
    }
}

/// Connects to a socket. Retries while xenstored is too busy to accept the connection.
pub(super) fn open_socket(path: &Path, limit: Duration) -> Result<OwnedFd, Error> {
    let shown = || path.display().to_string();
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let deadline = Deadline::after(limit);
    loop {
        match connect(&fd, &address) {
            Ok(()) => return Ok(fd),
            // A Unix socket with a full queue fails at once and cannot be polled (unix(7)).
            Err(Errno::AGAIN | Errno::INTR) => {
                if deadline.left().is_some_and(|left| left.is_zero()) {
                    return Err(Error::TimedOut { path: shown(), limit });
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(Errno::ACCESS | Errno::PERM) => return Err(Error::Denied { path: shown() }),
            Err(why) => {
                let tried = format!("{}: {}", shown(), io::Error::from(why));
                return Err(Error::NoStore { tried });
            }
        }
    }
}

/// Messages over a file descriptor: a socket, or `/dev/xen/xenbus`.
#[derive(Debug)]
pub(super) struct Connection {
    fd: OwnedFd,
    decoder: Decoder,
    /// No more messages can be exchanged: the stream ended, or stopped in the middle of a message.
    broken: bool,
}

impl Connection {
    /// Sets the descriptor to non-blocking: every wait is a poll with a timeout.
    pub(super) fn new(fd: OwnedFd) -> Result<Self, Error> {
        let flags = fcntl_getfl(&fd)?;
        fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        Ok(Self { fd, decoder: Decoder::new(), broken: false })
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Writes a message; `false` if the deadline passed first.
    ///
    /// The whole message goes into one `write`, because the device requires that and accepts it.
    /// The descriptor is not polled before it is written to, because the device never reports that
    /// it is writable.
    pub(super) fn send(&mut self, message: &[u8], deadline: Deadline) -> Result<bool, Error> {
        self.check()?;
        let mut left = message;
        while !left.is_empty() {
            match write(&self.fd, left) {
                Ok(count) => left = left.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !self.wait(PollFlags::OUT, deadline)? {
                        // The next message would be taken for the rest of this one.
                        self.broken = left.len() != message.len();
                        return Ok(false);
                    }
                }
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(self.ended()),
                Err(other) => return Err(other.into()),
            }
        }
        Ok(true)
    }

    /// The next message; `None` if the deadline passed first. A message that has already arrived is
    /// returned even then.
    pub(super) fn receive(&mut self, deadline: Deadline) -> Result<Option<Message>, Error> {
        loop {
            match self.decoder.next_message() {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => self.check()?,
                Err(error) => {
                    self.broken = true;
                    return Err(error.into());
                }
            }
            let mut chunk = [0; HEADER_BYTES + MAX_PAYLOAD];
            match read(&self.fd, &mut chunk) {
                Ok(0) | Err(Errno::CONNRESET) => return Err(self.ended()),
                Ok(count) => self.decoder.feed(chunk.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !self.wait(PollFlags::IN, deadline)? {
                        return Ok(None);
                    }
                }
                Err(other) => return Err(other.into()),
            }
        }
    }

    const fn check(&self) -> Result<(), Error> {
        if self.broken { Err(Error::Closed) } else { Ok(()) }
    }

    const fn ended(&mut self) -> Error {
        self.broken = true;
        Error::Closed
    }

    /// Waits until the descriptor is ready or has an error; `false` if the deadline passed first.
    fn wait(&self, what: PollFlags, deadline: Deadline) -> Result<bool, Error> {
        loop {
            let left = deadline.left();
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::from_borrowed_fd(self.fd.as_fd(), what)], timeout.as_ref()) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(other) => return Err(other.into()),
            }
        }
    }
}
