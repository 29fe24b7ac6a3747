//! Records the messages between a driver and a QEMU, as a proxy between them.
//!
//! Values that differ between two runs are replaced: folders, pseudo terminals, the ports that the
//! kernel chooses for a connection's client, times, and the sizes of image files on the disk.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::transcript::{Answer, Connection, Entry, Exchange, Transcript};

/// What arrived at the proxy.
enum Arrived {
    /// The driver connected.
    Driver,
    /// Commands that were sent together.
    Commands(Vec<u8>),
    /// A part of QEMU's output.
    Qemu(Vec<u8>),
}

/// A proxy that records.
pub(crate) struct Recorder {
    socket: PathBuf,
    thread: JoinHandle<Vec<Arrived>>,
    _dir: tempfile::TempDir,
}

impl Recorder {
    /// Records the traffic to and from the monitor at `qemu`.
    pub(crate) fn start(qemu: &Path) -> Recorder {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        let qemu = qemu.to_owned();
        let thread = std::thread::spawn(move || {
            let (sender, arrived) = channel();
            // The last client is the recorder's own, and sends nothing.
            while let Ok((driver, _)) = listener.accept() {
                let mut first = [0; 1];
                let stops = rustix::net::recv(&driver, &mut first, rustix::net::RecvFlags::PEEK);
                if stops.is_ok_and(|(_, length)| length == 0) {
                    break;
                }
                sender.send(Arrived::Driver).unwrap();
                relay(driver, UnixStream::connect(&qemu).unwrap(), &sender);
            }
            drop(sender);
            arrived.into_iter().collect()
        });
        Recorder { socket, thread, _dir: dir }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The transcript, with each of the `replaced` texts replaced. To be called when the driver has
    /// disconnected.
    pub(crate) fn finish(self, head: Vec<String>, replaced: &[(String, &str)]) -> Transcript {
        drop(UnixStream::connect(&self.socket).unwrap());
        let mut transcript = Transcript { head, connections: Vec::new() };
        let mut pending: VecDeque<Exchange> = VecDeque::new();
        let mut half: Vec<u8> = Vec::new();
        for arrived in self.thread.join().unwrap() {
            match arrived {
                Arrived::Driver => {
                    pending.clear();
                    half.clear();
                    transcript.connections.push(Connection::default());
                }
                Arrived::Commands(bytes) => {
                    let commands = lines(&bytes).map(|line| parse(line, replaced));
                    let exchange = |(number, command): (usize, Value)| Exchange {
                        command: command["execute"].as_str().unwrap().to_owned(),
                        arguments: command["arguments"].clone(),
                        answer: Answer::Nothing,
                        first: number == 0,
                        repeated: false,
                    };
                    pending.extend(commands.enumerate().map(exchange));
                }
                Arrived::Qemu(bytes) => {
                    half.extend(bytes);
                    let whole =
                        half.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                    let rest = half.split_off(whole);
                    for line in lines(&std::mem::replace(&mut half, rest)) {
                        take(&mut transcript, &mut pending, parse(line, replaced));
                    }
                }
            }
        }
        pending.into_iter().for_each(|unanswered| transcript.push(unanswered));
        transcript
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.map(|line| std::str::from_utf8(line).unwrap().trim()).filter(|line| !line.is_empty())
}

/// Adds a message from QEMU to the transcript. An answer is added with the command that it answers.
fn take(transcript: &mut Transcript, pending: &mut VecDeque<Exchange>, message: Value) {
    let connection = transcript.connections.last_mut().unwrap();
    if message.get("QMP").is_some() {
        connection.greeting = message;
    } else if message.get("event").is_some() {
        connection.entries.push(Entry::Event(message));
    } else {
        let mut exchange = pending.pop_front().expect("an answer belongs to a command");
        exchange.answer = match (message.get("return"), message.get("error")) {
            (Some(value), _) => Answer::Return(value.clone()),
            (_, Some(error)) => Answer::Error(error.clone()),
            _ => panic!("an answer has a value or an error: {message}"),
        };
        transcript.push(exchange);
    }
}

/// Parses a message, and replaces values that differ between two runs.
fn parse(line: &str, replaced: &[(String, &str)]) -> Value {
    let mut line = line.to_owned();
    for (from, to) in replaced {
        line = line.replace(from, to);
    }
    for (before, stable) in
        [("/dev/pts/", "0"), (" <-> 127.0.0.1:", "50000"), (" <-> ::1:", "50000")]
    {
        line = numbers_after(&line, before, stable);
    }
    let mut value: Value = serde_json::from_str(&line).unwrap();
    make_stable(&mut value);
    value
}

/// Replaces the number after each `before`.
fn numbers_after(line: &str, before: &str, stable: &str) -> String {
    let mut parts = line.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|digit: char| digit.is_ascii_digit());
        out.extend([before, if rest.len() < part.len() { stable } else { "" }, rest]);
    }
    out
}

fn make_stable(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match key.as_str() {
                    "timestamp" => *field = serde_json::json!({"seconds": 0, "microseconds": 0}),
                    "actual-size" | "size_rel" => *field = 0.into(),
                    _ => make_stable(field),
                }
            }
        }
        Value::Array(fields) => fields.iter_mut().for_each(make_stable),
        _ => {}
    }
}

/// Relays both directions until the driver disconnects, or sends something to a QEMU that has
/// ended.
fn relay(driver: UnixStream, qemu: UnixStream, sender: &Sender<Arrived>) {
    let (to_driver, from_qemu) = (driver.try_clone().unwrap(), qemu.try_clone().unwrap());
    let (close_driver, close_qemu) = (driver.try_clone().unwrap(), qemu.try_clone().unwrap());
    let other = sender.clone();
    let answers = std::thread::spawn(move || {
        pump(from_qemu, to_driver, |bytes| drop(other.send(Arrived::Qemu(bytes))));
    });
    pump(driver, qemu, |bytes| drop(sender.send(Arrived::Commands(bytes))));
    // One of them is closed already.
    let _ = close_driver.shutdown(Shutdown::Both);
    let _ = close_qemu.shutdown(Shutdown::Both);
    answers.join().unwrap();
}

fn pump(mut from: UnixStream, mut to: UnixStream, mut record: impl FnMut(Vec<u8>)) {
    let mut buffer = vec![0; 1 << 20];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        record(buffer[..length].to_vec());
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
}
