//! The time from `vusb device add` to QEMU's reply, compared with a bare QMP client that sends the
//! same `device_add`; and the time that the command takes to start.
//!
//! Both connect through the same proxy, which records when QEMU's reply to `device_add` passes. The
//! two alternate, so that other load affects both. Unlike a client in a running program, the
//! command has to start a process: that time is measured separately (`vusb --version`) and
//! subtracted.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark may fail"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use vusb_rig::BareQemu;

const ROUNDS: usize = 100;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let qemu = BareQemu::start(["-machine", "pc", "-nodefaults"]).unwrap();
    let socket = folder.path().join("qmp");
    let replies = proxy(&socket, qemu.qmp_socket().to_owned());
    let vusb = Vusb { folder: folder.path(), domain: format!("qemu:{}", socket.display()) };
    vusb.run(&["controller", "add", &vusb.domain, "--name", "x"]);
    while replies.try_recv().is_ok() {}

    let (mut start, mut command, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        start.push(timed(|| vusb.run(&["--version"])));

        let begin = Instant::now();
        vusb.run(&[
            "device",
            "add",
            &vusb.domain,
            "mouse",
            "--controller",
            "x",
            "--port",
            "1",
            "--name",
            "m",
        ]);
        command.push(replies.recv().unwrap() - begin);
        vusb.run(&["device", "remove", &vusb.domain, "m"]);

        let begin = Instant::now();
        let client = add_bare(&socket);
        bare.push(replies.recv().unwrap() - begin);
        remove_bare(client);
    }
    let [start, command, bare] = [start, command, bare].map(median);
    let beyond = command.saturating_sub(start);
    println!("medians of {ROUNDS} alternating rounds");
    println!("  start of the command (vusb --version)        {start:>10.1?}");
    println!("  vusb device add, to QEMU's reply             {command:>10.1?}");
    println!("  the same, without the start                  {beyond:>10.1?}");
    println!("  a bare client's connect and device_add       {bare:>10.1?}");
    println!(
        "  ratio, without the start                     {:>10.2}",
        beyond.as_secs_f64() / bare.as_secs_f64()
    );
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

/// The command, with a state folder of its own.
struct Vusb<'a> {
    folder: &'a Path,
    domain: String,
}

impl Vusb<'_> {
    fn run(&self, words: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vusb"));
        command.args(words).env_clear().env("VUSB_STATE_DIR", self.folder.join("state"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Connects, negotiates, adds a mouse, and waits for the reply.
fn add_bare(socket: &Path) -> BufReader<UnixStream> {
    let mut client = BufReader::new(UnixStream::connect(socket).unwrap());
    read_line(&mut client);
    send(&mut client, r#"{"execute":"qmp_capabilities"}"#);
    send(
        &mut client,
        r#"{"execute":"device_add","arguments":{"driver":"usb-mouse","id":"m","bus":"vusb-0x15-x.0","port":"1","usb_version":1}}"#,
    );
    client
}

/// Removes the mouse. The event may come before the reply.
fn remove_bare(mut client: BufReader<UnixStream>) {
    let command = r#"{"execute":"device_del","arguments":{"id":"m"}}"#;
    client.get_mut().write_all(command.as_bytes()).unwrap();
    let (mut replied, mut deleted) = (false, false);
    while !(replied && deleted) {
        let line = read_line(&mut client);
        replied |= line.contains("\"return\"");
        deleted |= line.contains("DEVICE_DELETED");
    }
}

/// Sends a command and waits for its reply. Events are ignored.
fn send(client: &mut BufReader<UnixStream>, line: &str) {
    client.get_mut().write_all(line.as_bytes()).unwrap();
    loop {
        let reply = read_line(client);
        assert!(!reply.contains("\"error\""), "{line}: {reply}");
        if reply.contains("\"return\"") {
            return;
        }
    }
}

fn read_line(client: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "QEMU hung up");
    line
}

/// Relays between clients and QEMU, and reports when the reply to a `device_add` passes.
fn proxy(socket: &Path, qemu: PathBuf) -> Receiver<Instant> {
    let listener = UnixListener::bind(socket).unwrap();
    let (noted, replies) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            relay(client.unwrap(), UnixStream::connect(&qemu).unwrap(), &noted);
        }
    });
    replies
}

/// Relays one connection until the client closes it.
fn relay(mut client: UnixStream, mut qemu: UnixStream, noted: &Sender<Instant>) {
    let (asked, was_asked) = channel();
    let (mut to_client, mut from_qemu) = (client.try_clone().unwrap(), qemu.try_clone().unwrap());
    let noted = noted.clone();
    let back = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = from_qemu.read(&mut buffer).unwrap_or(0);
            if length == 0 || to_client.write_all(&buffer[..length]).is_err() {
                return;
            }
            if was_asked.try_recv().is_ok() {
                let _ = noted.send(Instant::now());
            }
        }
    });
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = client.read(&mut buffer).unwrap_or(0);
        if buffer[..length].windows(12).any(|window| window == b"\"device_add\"") {
            let _ = asked.send(());
        }
        if length == 0 || qemu.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = qemu.shutdown(std::net::Shutdown::Both);
    let _ = back.join();
}
