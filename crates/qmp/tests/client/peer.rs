//! A peer that follows a script.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use vusb_qmp::{Client, Deadline};

/// Long enough for everything that should happen, even on a busy machine.
pub(crate) fn long_enough() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// For everything that should not happen.
pub(crate) fn short() -> Deadline {
    Deadline::after(Duration::from_millis(150))
}

/// A listening socket whose connection is handled by a script. Dropping it waits for the script and
/// propagates its panic.
pub(crate) struct Peer {
    dir: TempDir,
    script: Option<JoinHandle<()>>,
}

impl Peer {
    /// Accepts one client and runs the script with it.
    pub(crate) fn new(script: impl FnOnce(&mut Line) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("qmp")).unwrap();
        let script = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            script(&mut Line::new(stream));
        });
        Self { dir, script: Some(script) }
    }

    /// A peer that has completed the handshake, and its client.
    pub(crate) fn greeted(script: impl FnOnce(&mut Line) + Send + 'static) -> (Self, Client) {
        Self::greeted_after(|_| (), script)
    }

    /// Like [`greeted`](Self::greeted), with a script that runs before the handshake.
    pub(crate) fn greeted_after(
        before: impl FnOnce(&mut Line) + Send + 'static,
        script: impl FnOnce(&mut Line) + Send + 'static,
    ) -> (Self, Client) {
        let peer = Self::new(|line| {
            before(line);
            line.greet();
            script(line);
        });
        let client = Client::connect(&peer.path(), long_enough()).unwrap();
        (peer, client)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("qmp")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let outcome = self.script.take().map(JoinHandle::join);
        if let (Some(outcome), false) = (outcome, thread::panicking()) {
            outcome.expect("the script failed");
        }
    }
}

/// The peer's end of the connection.
pub(crate) struct Line {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Line {
    fn new(stream: UnixStream) -> Self {
        // A missing client must not block the test.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { reader: BufReader::new(stream.try_clone().unwrap()), writer: stream }
    }

    pub(crate) fn greet(&mut self) {
        self.send(&json!({"QMP": {
            "version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "test"},
            "capabilities": ["oob"],
        }}));
        let id = self.expect("qmp_capabilities");
        self.send(&json!({"return": {}, "id": id}));
    }

    /// Reads a command. `None` if the client has disconnected.
    pub(crate) fn receive(&mut self) -> Option<Value> {
        let mut text = String::new();
        match self.reader.read_line(&mut text) {
            Ok(0) => None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Ok(_) => Some(serde_json::from_str(&text).expect(&text)),
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads a command, which must have this name, and returns its id.
    pub(crate) fn expect(&mut self, command: &str) -> Value {
        let received = self.receive().expect("the client is gone");
        assert_eq!(received["execute"], command);
        received["id"].clone()
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.send_raw(format!("{message}\r\n").as_bytes());
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).unwrap();
    }

    /// Like [`send_raw`](Self::send_raw); false if the client has disconnected.
    pub(crate) fn try_send_raw(&mut self, bytes: &[u8]) -> bool {
        self.writer.write_all(bytes).is_ok()
    }

    pub(crate) fn event(&mut self, name: &str, number: usize) {
        self.send(&json!({"event": name, "data": {"n": number},
            "timestamp": {"seconds": 1, "microseconds": 2}}));
    }

    /// Closes its own direction of the connection.
    pub(crate) fn stop_sending(&mut self) {
        self.writer.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Stays connected and silent until the client disconnects.
    pub(crate) fn wait_for_disconnect(&mut self) {
        while self.receive().is_some() {}
    }
}
