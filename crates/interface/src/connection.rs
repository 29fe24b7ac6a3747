//! A connection of a caller with `vusbd`.
//!
//! The client of the crate `varlink` cannot limit the time of a call, so this one reads the socket
//! itself. A message is JSON that a zero byte ends (<https://varlink.org/Method-Call>).

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// The longest reply in bytes.
const MAX_REPLY: u64 = 256 << 20;

/// A connection with the daemon.
#[derive(Debug)]
pub struct Connection(BufReader<UnixStream>);

/// A reply of the daemon.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Reply {
    /// The name of the error, if the reply is an error.
    #[serde(default)]
    pub error: Option<String>,
    /// The parameters of the reply or of the error.
    #[serde(default)]
    pub parameters: Value,
    /// Whether another reply follows.
    #[serde(default)]
    pub continues: Option<bool>,
}

impl Connection {
    /// Connects to the daemon that listens at `socket`.
    ///
    /// # Errors
    /// The daemon does not run, or this user may not connect.
    pub fn open(socket: &Path) -> io::Result<Connection> {
        UnixStream::connect(socket).map(|it| Connection(BufReader::new(it)))
    }

    /// Limits how long a read may wait; `None` for any time.
    ///
    /// # Errors
    /// The limit is zero.
    pub fn set_limit(&self, limit: Option<Duration>) -> io::Result<()> {
        self.0.get_ref().set_read_timeout(limit)
    }

    /// How long a read may wait.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn limit(&self) -> io::Result<Option<Duration>> {
        self.0.get_ref().read_timeout()
    }

    /// Calls a method of the interface. With `more`, several replies may follow.
    ///
    /// # Errors
    /// The daemon has closed the connection.
    pub fn send(&mut self, method: &str, parameters: &Value, more: bool) -> io::Result<()> {
        let call = json!({ "method": crate::full(method), "parameters": parameters, "more": more });
        let mut bytes = call.to_string().into_bytes();
        bytes.push(0);
        self.0.get_mut().write_all(&bytes)
    }

    /// The next reply.
    ///
    /// # Errors
    /// The time limit has passed ([`io::ErrorKind::WouldBlock`]); the daemon has closed the
    /// connection, or its reply is too long ([`io::ErrorKind::UnexpectedEof`]); what it has sent is
    /// no reply ([`io::ErrorKind::InvalidData`]); or the connection is broken.
    pub fn receive(&mut self) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        self.0.by_ref().take(MAX_REPLY).read_until(0, &mut bytes)?;
        if bytes.pop() != Some(0) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&bytes)?)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
