//! A daemon that follows a script.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;
use vusb_libvirt::codec::{Decoder, Message, MessageType, Status};
use vusb_libvirt::protocol::{REMOTE, auth, procedure};
use vusb_libvirt::xdr::Writer;
use vusb_libvirt::{Client, Deadline, Domain, Uri, Uuid};

/// Long enough for everything that should happen, even on a busy machine.
pub(crate) fn long_enough() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// For everything that should not happen.
pub(crate) fn short() -> Deadline {
    Deadline::after(Duration::from_millis(150))
}

pub(crate) fn web1() -> Domain {
    Domain { name: "web1".to_owned(), uuid: Uuid([7; 16]), id: 1 }
}

/// A listening socket whose connections are handled by a script. Dropping it waits for the script
/// and propagates its panic.
pub(crate) struct Daemon {
    dir: TempDir,
    script: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Runs the script with the listener.
    pub(crate) fn new(script: impl FnOnce(&UnixListener) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("libvirt-sock")).unwrap();
        let script = thread::spawn(move || script(&listener));
        Self { dir, script: Some(script) }
    }

    /// A daemon that has opened a connection, and its client.
    pub(crate) fn opened(script: impl FnOnce(&mut Line) + Send + 'static) -> (Self, Client) {
        let daemon = Self::new(|listener| {
            let mut line = Line::accept(listener);
            line.open();
            script(&mut line);
        });
        let client = daemon.connect().unwrap();
        (daemon, client)
    }

    pub(crate) fn connect(&self) -> Result<Client, vusb_libvirt::Error> {
        Client::connect(&Uri::QEMU_SYSTEM, &[self.path()], long_enough())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("libvirt-sock")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let outcome = self.script.take().map(JoinHandle::join);
        if let (Some(outcome), false) = (outcome, thread::panicking()) {
            outcome.expect("the script failed");
        }
    }
}

/// The daemon's end of a connection.
pub(crate) struct Line {
    stream: UnixStream,
    decoder: Decoder,
}

impl Line {
    pub(crate) fn accept(listener: &UnixListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        // A missing client must not block the test.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream, decoder: Decoder::default() }
    }

    /// Answers what a client asks first.
    pub(crate) fn open(&mut self) {
        let serial = self.expect(procedure::AUTH_LIST).serial;
        self.reply(procedure::AUTH_LIST, serial, Writer::new().u32(1).i32(auth::NONE));
        let open = self.expect(procedure::CONNECT_OPEN);
        let name = Writer::new().option(Some("qemu:///system"), |it, text| it.string(text)).u32(0);
        assert_eq!(open.payload, name.into_bytes());
        self.reply(procedure::CONNECT_OPEN, open.serial, Writer::new());
    }

    /// Reads a message. `None` if the client has disconnected.
    pub(crate) fn receive(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return Some(message);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Ok(count) => self.decoder.feed(&bytes[..count]),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Reads a call of this procedure.
    pub(crate) fn expect(&mut self, number: i32) -> Message {
        let message = self.receive().expect("the client is gone");
        assert_eq!((message.program, message.procedure), (REMOTE, number));
        assert_eq!((message.kind, message.status), (MessageType::Call, Status::Ok));
        message
    }

    pub(crate) fn reply(&mut self, number: i32, serial: u32, result: Writer) {
        let call = Message::call(REMOTE, number, serial, result.into_bytes());
        self.send(&Message { kind: MessageType::Reply, ..call });
    }

    pub(crate) fn refuse(&mut self, number: i32, serial: u32, code: i32, text: &str) {
        let error = Writer::new().i32(code).i32(10).option(Some(text), |it, text| it.string(text));
        let call = Message::call(REMOTE, number, serial, error.into_bytes());
        self.send(&Message { kind: MessageType::Reply, status: Status::Error, ..call });
    }

    /// Sends an event about a device of [`web1`].
    pub(crate) fn device_event(&mut self, number: i32, alias: &str) {
        let payload = web1().write(Writer::new().i32(1)).string(alias).into_bytes();
        self.send(&Message::event(REMOTE, number, payload));
    }

    pub(crate) fn send(&mut self, message: &Message) {
        self.send_raw(&message.encode().unwrap());
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        // The client may have given up already.
        let _ = self.stream.write_all(bytes);
    }
}
