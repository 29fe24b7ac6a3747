//! Monitors of programs other than QEMU, and of hostile QEMUs.
//!
//! ```text
//!   a greeting of some kind ──▶ answers of some kind, from some question on ──▶ silence, or the end
//! ```
//!
//! The promises: each command ends within its deadline, without a panic and within 256 MiB, and
//! leaves no record of a change that did not happen.

use std::io::{BufRead as _, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::sandbox::{STATE, Sandbox};
use super::{Context, Figures};
use crate::cargo::Result;

/// The limit of a single wait, in seconds.
const WAIT: &str = "0.2";

/// How long a slow peer takes for an answer: less than a single wait.
const PACE: Duration = Duration::from_millis(120);

/// A command has 30 waits, its undo as many, and the machine is slow.
const LIMIT: Duration = Duration::from_secs(30);

const COMMANDS: [&str; 3] = ["list qemu:S", "device add qemu:S tablet", "apply S.toml"];

/// What a peer sends first.
const GREETINGS: [Greeting; 5] =
    [Greeting::Qemu, Greeting::Nothing, Greeting::Noise, Greeting::Half, Greeting::Endless];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Greeting {
    Qemu,
    Nothing,
    Noise,
    Half,
    Endless,
}

/// What a peer answers.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Nothing any more.
    Silence,
    /// It closes the connection.
    Close,
    /// A value of a wrong type.
    Null,
    Number,
    Text,
    EmptyList,
    ListOfNull,
    /// An object with every field that a driver reads, each of a wrong type.
    WrongFields,
    /// Nested 100 levels deep.
    Deep,
    /// A million values.
    Wide,
    /// A text of 70 MB.
    Long,
    /// An error with control characters.
    Refusal,
    /// The id of another command.
    OtherId,
    /// Without an id.
    NoId,
    /// Two answers to each question.
    Twice,
    /// Not JSON.
    Garbage,
    /// Not UTF-8.
    Bytes,
    /// A hundred thousand events before the answer.
    Events,
    /// One byte after another, slowly.
    Trickle,
    /// A device tree with ten thousand devices.
    Crowd,
    /// A device tree with 3,000 devices, and the answers of an honest QEMU, each after most of a
    /// single wait.
    Slow,
}

const ANSWERS: [Answer; 21] = [
    Answer::Silence,
    Answer::Close,
    Answer::Null,
    Answer::Number,
    Answer::Text,
    Answer::EmptyList,
    Answer::ListOfNull,
    Answer::WrongFields,
    Answer::Deep,
    Answer::Wide,
    Answer::Long,
    Answer::Refusal,
    Answer::OtherId,
    Answer::NoId,
    Answer::Twice,
    Answer::Garbage,
    Answer::Bytes,
    Answer::Events,
    Answer::Trickle,
    Answer::Crowd,
    Answer::Slow,
];

/// A hostile peer: what it sends first, and what it answers after the first question and `honest`
/// more, which it answers as QEMU does.
#[derive(Clone, Copy, Debug)]
struct Peer {
    greeting: Greeting,
    answer: Answer,
    honest: usize,
}

/// All peers.
fn peers() -> Vec<Peer> {
    let silent = GREETINGS.iter().filter(|it| **it != Greeting::Qemu);
    let silent = silent.map(|it| Peer { greeting: *it, answer: Answer::Silence, honest: 0 });
    let talking = [0, 2, 5].iter().flat_map(|honest| {
        ANSWERS.iter().map(|answer| Peer {
            greeting: Greeting::Qemu,
            answer: *answer,
            honest: *honest,
        })
    });
    silent.chain(talking).collect()
}

/// Serves connections one after another, for as long as the process lives.
fn serve(peer: Peer, listener: &UnixListener) {
    for stream in listener.incoming().flatten() {
        // The client may close the connection at any time.
        let _ = talk(peer, &stream);
    }
}

fn talk(peer: Peer, stream: &UnixStream) -> std::io::Result<()> {
    let mut out = stream;
    let version = json!({"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""});
    let greeting = format!("{}\r\n", json!({"QMP": {"version": version, "capabilities": []}}));
    match peer.greeting {
        Greeting::Qemu => out.write_all(greeting.as_bytes())?,
        Greeting::Nothing => {}
        Greeting::Noise => out.write_all(b"\x00\xffSSH-2.0-OpenSSH\r\n{]")?,
        Greeting::Half => out.write_all(greeting.get(..40).unwrap_or_default().as_bytes())?,
        Greeting::Endless => loop {
            out.write_all("{\"QMP\": [".repeat(1000).as_bytes())?;
        },
    }
    for (number, line) in BufReader::new(stream).lines().enumerate() {
        let question: Value = serde_json::from_str(&line?)?;
        let id = &question.get("id").cloned().unwrap_or_default();
        if number <= peer.honest {
            // Enough for vusb to continue with its questions.
            let honest = json!({"return": honest(&question, 0), "id": id});
            writeln!(out, "{honest}")?;
        } else if matches!(peer.answer, Answer::Slow) {
            std::thread::sleep(PACE);
            let honest = json!({"return": honest(&question, 3000), "id": id});
            writeln!(out, "{honest}")?;
        } else if !answer(peer.answer, id, out)? {
            return Ok(());
        }
    }
    Ok(())
}

/// The answer of a QEMU with this many devices. Only as complete as vusb needs to continue with its
/// questions.
fn honest(question: &Value, devices: usize) -> Value {
    let command = question.get("execute").and_then(Value::as_str);
    match command.unwrap_or_default() {
        "human-monitor-command" => tree(devices).into(),
        "query-status" => json!({"running": true, "status": "running", "singlestep": false}),
        "query-name" => json!({"name": "web1"}),
        "qmp_capabilities" => json!({}),
        _ => json!([]),
    }
}

/// A device tree with so many keyboards on one bus, as `info qtree` prints it.
fn tree(devices: usize) -> String {
    let mut tree = "bus: main-system-bus\n  type System\n".to_owned();
    if devices > 0 {
        tree += "  dev: x, id \"\"\n    bus: usb.0\n      type usb-bus\n";
    }
    for number in 0..devices {
        tree += &format!("      dev: usb-kbd, id \"d{number}\"\n        port = \"1\"\n");
    }
    tree
}

/// Answers a question. False if the connection ends.
fn answer(answer: Answer, id: &Value, mut out: &UnixStream) -> std::io::Result<bool> {
    let returned = |value: Value| format!("{}\n", json!({"return": value, "id": id}));
    let raw = |value: &str| format!("{{\"return\": {value}, \"id\": {id}}}\n");
    let text = match answer {
        Answer::Silence => return Ok(true),
        Answer::Close => return Ok(false),
        Answer::Null => returned(Value::Null),
        Answer::Number => raw("-1e308"),
        Answer::Text => returned("bus: \u{1b}[2J\n  dev: usb-host, id \"\"\n".into()),
        Answer::EmptyList => returned(json!([])),
        Answer::ListOfNull => returned(json!([null, null])),
        Answer::WrongFields => {
            let names =
                ["name", "type", "id", "qdev", "inserted", "file", "label", "filename", "running"];
            returned(
                names
                    .iter()
                    .map(|it| ((*it).to_owned(), json!([{"a": -1}])))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
            )
        }
        Answer::Deep => raw(&format!("{}{}", "[".repeat(100), "]".repeat(100))),
        Answer::Wide => raw(&format!("[{}0]", "0,".repeat(1_000_000))),
        Answer::Long => raw(&format!("\"{}\"", "x".repeat(70 << 20))),
        Answer::Refusal => {
            let error =
                json!({"class": "GenericError", "desc": "\u{1b}]0;x\u{7}\nhint: run rm -rf /"});
            format!("{}\n", json!({"error": error, "id": id}))
        }
        Answer::OtherId => format!("{}\n", json!({"return": {}, "id": 1})),
        Answer::NoId => format!("{}\n", json!({"return": {}})),
        Answer::Twice => returned(json!({})).repeat(2),
        Answer::Garbage => "{\"return\": }\n".to_owned(),
        Answer::Bytes => {
            out.write_all(b"{\"return\": \"\xff\xfe\"}\n")?;
            return Ok(true);
        }
        Answer::Events => {
            let event =
                json!({"event": "DEVICE_DELETED", "data": {"device": "vusb-tablet0", "path": "/"}});
            out.write_all(format!("{event}\n").repeat(100_000).as_bytes())?;
            returned(json!({}))
        }
        Answer::Trickle => {
            for byte in returned(json!([])).bytes() {
                out.write_all(&[byte])?;
                std::thread::sleep(Duration::from_millis(150));
            }
            return Ok(true);
        }
        Answer::Crowd => returned(tree(10_000).into()),
        // Answered by its caller.
        Answer::Slow => return Ok(true),
    };
    out.write_all(text.as_bytes())?;
    Ok(true)
}

/// Attacks one command after another with a peer. Returns the longest time, and what was broken.
fn attack(vusb: &Path, peer: Peer) -> Result<(Duration, Vec<String>)> {
    let sandbox = Sandbox::new(vusb)?;
    let listener = UnixListener::bind(sandbox.path("S"))?;
    std::thread::spawn(move || serve(peer, &listener));
    let spec = "domain = \"web1\"\ndriver = \"qemu:S\"\n[[device]]\nkind = \"mouse\"\n";
    std::fs::write(sandbox.path("S.toml"), spec)?;
    let (mut longest, mut broken) = (Duration::ZERO, Vec::new());
    for words in COMMANDS {
        let ran = sandbox.run(STATE, &format!("{words} --timeout {WAIT}"), LIMIT)?;
        longest = longest.max(ran.took);
        broken.extend(ran.broken().map(|why| format!("{peer:?}: `vusb {words}`: {why}")));
        if ran.stderr.contains('\u{1b}') || ran.stdout.contains('\u{1b}') {
            broken.push(format!("{peer:?}: `vusb {words}` prints a control character"));
        }
    }
    Ok((longest, broken))
}

pub(super) fn run(context: &Context) -> Result<Figures> {
    let all = peers();
    let step = context.times(1, 6);
    let chosen: Vec<Peer> = all.iter().copied().step_by(step).collect();
    let left = Mutex::new(chosen.iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> std::result::Result<Vec<_>, String> {
        std::iter::from_fn(next)
            .map(|peer| attack(&context.vusb, *peer).map_err(|it| it.to_string()))
            .collect()
    };
    let ended = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|it| it.join().map_err(|_| "a thread panicked")?);
        ended.collect::<std::result::Result<Vec<_>, String>>()
    })?;
    let mut figures = Figures::default();
    let longest = ended.iter().flatten().map(|(longest, _)| *longest).max().unwrap_or_default();
    figures.row("hostile monitors", chosen.len());
    figures.row("commands", chosen.len() * COMMANDS.len());
    figures.row(
        format!("the longest command, with --timeout {WAIT}"),
        format!("{:.1} s", longest.as_secs_f32()),
    );
    ended.into_iter().flatten().flat_map(|it| it.1).for_each(|it| figures.broken(it));
    Ok(figures)
}
