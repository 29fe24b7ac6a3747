//! A peer that follows a script.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use vusb_qmp::{Client, Deadline};

/// Long enough for anything that should happen on a busy machine.
pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// For what should not happen.
pub(crate) fn shortly() -> Deadline {
    Deadline::after(Duration::from_millis(150))
}

/// A listening socket with a script behind it. Dropping it waits for the script and passes its
/// panic on.
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

    /// A peer that has greeted the client already, and that client.
    pub(crate) fn greeted(script: impl FnOnce(&mut Line) + Send + 'static) -> (Self, Client) {
        let peer = Self::new(|line| {
            line.greet();
            script(line);
        });
        let client = Client::connect(&peer.path(), soon()).unwrap();
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
        // A client that never comes must not hang the test.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { reader: BufReader::new(stream.try_clone().unwrap()), writer: stream }
    }

    pub(crate) fn greet(&mut self) {
        self.say(&json!({"QMP": {
            "version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "test"},
            "capabilities": ["oob"],
        }}));
        let id = self.expect("qmp_capabilities");
        self.say(&json!({"return": {}, "id": id}));
    }

    /// Reads a command; `None` once the client has gone.
    pub(crate) fn hear(&mut self) -> Option<Value> {
        let mut text = String::new();
        match self.reader.read_line(&mut text) {
            Ok(0) => None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Ok(_) => Some(serde_json::from_str(&text).expect(&text)),
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads a command, which must have that name; gives its id.
    pub(crate) fn expect(&mut self, command: &str) -> Value {
        let heard = self.hear().expect("the client is gone");
        assert_eq!(heard["execute"], command);
        heard["id"].clone()
    }

    pub(crate) fn say(&mut self, message: &Value) {
        self.say_raw(format!("{message}\r\n").as_bytes());
    }

    pub(crate) fn say_raw(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).unwrap();
    }

    /// Like [`say_raw`](Self::say_raw); false once the client has gone.
    pub(crate) fn try_say_raw(&mut self, bytes: &[u8]) -> bool {
        self.writer.write_all(bytes).is_ok()
    }

    pub(crate) fn event(&mut self, name: &str, number: usize) {
        self.say(&json!({"event": name, "data": {"n": number},
            "timestamp": {"seconds": 1, "microseconds": 2}}));
    }

    /// Ends its own half of the connection.
    pub(crate) fn stop_talking(&mut self) {
        self.writer.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Stays connected and silent until the client goes.
    pub(crate) fn wait_for_the_end(&mut self) {
        while self.hear().is_some() {}
    }
}
