//! A QEMU that answers from a transcript: each command has to be the recorded one, with the
//! recorded arguments.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::transcript::{Answer, Connection, Entry, Transcript, request};

/// How long to wait for the driver's next command. Only a failing test waits this long.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A change to each text that QEMU answers with.
pub(crate) type Tamper = fn(&str) -> String;

/// How the driver deviated from the recording.
#[derive(Debug)]
pub(crate) enum Mismatch {
    /// It disconnected instead of sending this.
    Disconnected(String),
    /// It sent the first instead of the second.
    Sent(String, String),
    /// The connection failed.
    Failed(String),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Disconnected(wanted) => {
                write!(f, "the driver disconnected instead of sending\n  {wanted}")
            }
            Mismatch::Sent(got, wanted) => {
                write!(f, "the driver sent\n  {got}\ninstead of\n  {wanted}")
            }
            Mismatch::Failed(why) => f.write_str(why),
        }
    }
}

fn failed(error: impl fmt::Display) -> Mismatch {
    Mismatch::Failed(error.to_string())
}

/// The peer, on a socket of its own.
pub(crate) struct Peer {
    socket: PathBuf,
    served: JoinHandle<Result<(), Mismatch>>,
    _dir: tempfile::TempDir,
}

impl Peer {
    pub(crate) fn start(transcript: Transcript, tamper: Option<Tamper>) -> Peer {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        let served = std::thread::spawn(move || {
            for connection in transcript.connections {
                let (stream, _) = listener.accept().map_err(failed)?;
                serve(stream, connection, tamper)?;
            }
            Ok(())
        });
        Peer { socket, served, _dir: dir }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Checks that the driver sent exactly the recorded commands. To be called when the driver has
    /// disconnected.
    pub(crate) fn finish(self) -> Result<(), Mismatch> {
        // Otherwise the thread would wait forever for a connection that the driver did not make.
        let end = Instant::now() + COMMAND_TIMEOUT + COMMAND_TIMEOUT;
        while !self.served.is_finished() {
            assert!(Instant::now() < end, "the peer does not end");
            drop(UnixStream::connect(&self.socket));
            std::thread::sleep(Duration::from_millis(1));
        }
        self.served.join().unwrap()
    }
}

/// The commands from the driver, one per line.
struct Requests(BufReader<UnixStream>);

impl Requests {
    /// The next command and its number. `None` if the driver has disconnected.
    fn next(&mut self) -> Result<Option<(String, Value)>, Mismatch> {
        let mut line = String::new();
        self.0.read_line(&mut line).map_err(failed)?;
        if line.is_empty() {
            return Ok(None);
        }
        let value: Value = serde_json::from_str(&line).map_err(failed)?;
        let command = value["execute"].as_str().unwrap_or_default();
        Ok(Some((request(command, &value["arguments"]), value["id"].clone())))
    }
}

fn serve(
    stream: UnixStream,
    connection: Connection,
    tamper: Option<Tamper>,
) -> Result<(), Mismatch> {
    stream.set_read_timeout(Some(COMMAND_TIMEOUT)).map_err(failed)?;
    let mut out = stream.try_clone().map_err(failed)?;
    let mut requests = Requests(BufReader::new(stream));
    // Ignore the error: a driver that has disconnected is noticed by its missing commands.
    let mut send = |text: String| drop(out.write_all(text.as_bytes()));
    send(format!("{}\n", connection.greeting));
    let mut entries = connection.entries.into_iter().peekable();
    // The answer to a repeated query, as long as the driver repeats it.
    let mut again: Option<(String, Answer)> = None;
    while let Some(entry) = entries.next() {
        let exchange = match entry {
            Entry::Event(event) => {
                send(format!("{event}\n"));
                continue;
            }
            Entry::Exchange(exchange) => exchange,
        };
        let wanted = exchange.request();
        let id = loop {
            let Some((got, id)) = requests.next()? else {
                return Err(Mismatch::Disconnected(wanted));
            };
            if got == wanted {
                break id;
            }
            match &again {
                Some((question, repeated)) if *question == got => {
                    send(message(repeated, id, tamper));
                }
                _ => return Err(Mismatch::Sent(got, wanted)),
            }
        };
        if exchange.answer == Answer::Nothing {
            return Ok(());
        }
        let mut text = message(&exchange.answer, id, tamper);
        // In one write with the answer, so that the driver receives them together.
        while let Some(Entry::Event(event)) =
            entries.next_if(|entry| matches!(entry, Entry::Event(_)))
        {
            text.push_str(&format!("{event}\n"));
        }
        send(text);
        again = exchange.repeated.then_some((wanted, exchange.answer));
    }
    while let Some((got, id)) = requests.next()? {
        match &again {
            Some((question, repeated)) if *question == got => send(message(repeated, id, tamper)),
            _ => return Err(Mismatch::Sent(got, "nothing".to_owned())),
        }
    }
    Ok(())
}

fn message(answer: &Answer, id: Value, tamper: Option<Tamper>) -> String {
    let message = match (answer, tamper) {
        (Answer::Return(Value::String(text)), Some(tamper)) => {
            json!({"return": tamper(text), "id": id})
        }
        (Answer::Return(value), _) => json!({"return": value, "id": id}),
        (Answer::Error(error), _) => json!({"error": error, "id": id}),
        (Answer::Nothing, _) => Value::Null,
    };
    format!("{message}\n")
}
