//! A conversation with a QEMU as text: readable, and stable so that two recordings can be compared.
//!
//! ```text
//! # a comment
//! connection                      the driver connects
//! < {"QMP": ...}                  QEMU's greeting
//! > device_del {"id":"stick"}     a command, with its arguments if it has any
//! < {}                            its answer
//! < error {"class":...}           or QEMU's refusal
//! < text                          or an answer of several lines: a string, split at CR LF,
//! < list                          or an array with one element for each `|` line
//! | ...                           a line of it
//! = 12                            12 lines as in the previous answer to the same command
//! - 3                             3 lines of the previous answer that are missing here
//! < nothing                       QEMU ended before it answered
//! ! {"event": ...}                an event, where it arrived among the answers
//! >* qom-get ...                  a question that the driver repeats until the answer changes: once or more
//! ```
//!
//! An empty line begins each batch of commands that were sent together. Numbers of commands (`id`)
//! are left out: QEMU answers in order.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;

/// Everything that was exchanged in one scenario.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Transcript {
    /// The comment at its head.
    pub(crate) head: Vec<String>,
    pub(crate) connections: Vec<Connection>,
}

/// One connection of the driver.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Connection {
    pub(crate) greeting: Value,
    pub(crate) entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    Exchange(Exchange),
    Event(Value),
}

/// A command and its answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exchange {
    pub(crate) command: String,
    /// `Null` if it has none.
    pub(crate) arguments: Value,
    pub(crate) answer: Answer,
    /// Whether it is the first of a batch.
    pub(crate) first: bool,
    /// Whether the driver may send this more than once.
    pub(crate) repeated: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Return(Value),
    Error(Value),
    /// QEMU ended first.
    Nothing,
}

impl Exchange {
    /// `device_del {"id":"stick"}`.
    pub(crate) fn request(&self) -> String {
        request(&self.command, &self.arguments)
    }
}

pub(crate) fn request(command: &str, arguments: &Value) -> String {
    match arguments {
        Value::Null => command.to_owned(),
        arguments => format!("{command} {arguments}"),
    }
}

impl Transcript {
    /// Adds an exchange. The number of polls differs from run to run: equal ones become one that is
    /// repeated.
    pub(crate) fn push(&mut self, exchange: Exchange) {
        let Some(connection) = self.connections.last_mut() else { return };
        let polls = exchange.command == "qom-get" && exchange.arguments["property"] == "type";
        match connection.entries.last_mut() {
            Some(Entry::Exchange(last))
                if polls
                    && last.request() == exchange.request()
                    && last.answer == exchange.answer =>
            {
                last.repeated = true;
                return;
            }
            _ => {}
        }
        connection.entries.push(Entry::Exchange(exchange));
    }

    pub(crate) fn write(&self) -> String {
        let mut out = String::new();
        let mut before: HashMap<String, Vec<String>> = HashMap::new();
        for line in &self.head {
            writeln!(out, "# {line}").unwrap();
        }
        for connection in &self.connections {
            writeln!(out, "connection\n< {}", connection.greeting).unwrap();
            for entry in &connection.entries {
                match entry {
                    Entry::Event(event) => writeln!(out, "! {event}").unwrap(),
                    Entry::Exchange(exchange) => write_exchange(&mut out, exchange, &mut before),
                }
            }
        }
        out
    }

    pub(crate) fn read(text: &str) -> Transcript {
        let mut transcript = Transcript::default();
        let mut before: HashMap<String, Vec<String>> = HashMap::new();
        let mut first = false;
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
            match mark {
                "#" => transcript.head.push(rest.to_owned()),
                "" => first = true,
                "connection" => {
                    let greeting = lines.next().unwrap().strip_prefix("< ").unwrap();
                    let greeting = serde_json::from_str(greeting).unwrap();
                    transcript.connections.push(Connection { greeting, entries: Vec::new() });
                }
                "!" => {
                    let event = serde_json::from_str(rest).unwrap();
                    let connection = transcript.connections.last_mut().unwrap();
                    connection.entries.push(Entry::Event(event));
                }
                ">" | ">*" => {
                    let (command, arguments) = rest.split_once(' ').unwrap_or((rest, "null"));
                    let answer = lines.next().and_then(|line| line.strip_prefix("< ")).unwrap();
                    let mut edits = Vec::new();
                    while let Some(edit) = lines.next_if(|line| is_edit(line)) {
                        edits.push(edit);
                    }
                    let exchange = Exchange {
                        command: command.to_owned(),
                        arguments: serde_json::from_str(arguments).unwrap(),
                        answer: read_answer(
                            answer,
                            &edits,
                            before.entry(rest.to_owned()).or_default(),
                        ),
                        first: std::mem::take(&mut first),
                        repeated: mark == ">*",
                    };
                    let connection = transcript.connections.last_mut().unwrap();
                    connection.entries.push(Entry::Exchange(exchange));
                }
                _ => panic!("a transcript has a line of an unknown form: {line}"),
            }
        }
        transcript
    }
}

fn is_edit(line: &str) -> bool {
    ["|", "= ", "- "].iter().any(|mark| line.starts_with(mark))
}

fn write_exchange(
    out: &mut String,
    exchange: &Exchange,
    before: &mut HashMap<String, Vec<String>>,
) {
    let (empty, mark) =
        (if exchange.first { "\n" } else { "" }, if exchange.repeated { ">*" } else { ">" });
    let request = exchange.request();
    writeln!(out, "{empty}{mark} {request}").unwrap();
    let (form, lines) = match &exchange.answer {
        Answer::Nothing => return out.push_str("< nothing\n"),
        Answer::Error(error) => return writeln!(out, "< error {error}").unwrap(),
        Answer::Return(Value::String(text)) if text.contains("\r\n") => {
            ("text", text.split("\r\n").map(str::to_owned).collect::<Vec<_>>())
        }
        Answer::Return(Value::Array(list)) if list.len() > 1 => {
            ("list", list.iter().map(Value::to_string).collect())
        }
        Answer::Return(value) => return writeln!(out, "< {value}").unwrap(),
    };
    writeln!(out, "< {form}").unwrap();
    let last = before.insert(request, lines.clone()).unwrap_or_default();
    // A step changes one place in a tree: the lines before and after it stay the same.
    let same = |(a, b): &(&String, &String)| a == b;
    let head = last.iter().zip(&lines).take_while(same).count();
    let tails = last[head..].iter().rev().zip(lines[head..].iter().rev());
    let tail = tails.take_while(same).count();
    let mut count = |mark: &str, number: usize| {
        if number > 0 {
            writeln!(out, "{mark} {number}").unwrap();
        }
    };
    count("=", head);
    count("-", last.len() - head - tail);
    for line in &lines[head..lines.len() - tail] {
        writeln!(out, "{}{line}", if line.is_empty() { "|" } else { "| " }).unwrap();
    }
    if tail > 0 {
        writeln!(out, "= {tail}").unwrap();
    }
}

fn read_answer(form: &str, edits: &[&str], before: &mut Vec<String>) -> Answer {
    if let Some(error) = form.strip_prefix("error ") {
        return Answer::Error(serde_json::from_str(error).unwrap());
    }
    if form == "nothing" {
        return Answer::Nothing;
    }
    if !["text", "list"].contains(&form) {
        return Answer::Return(serde_json::from_str(form).unwrap());
    }
    let mut last = std::mem::take(before).into_iter();
    for edit in edits {
        let number = || edit[2..].parse::<usize>().unwrap();
        match &edit[..1] {
            "=" => before.extend(last.by_ref().take(number())),
            "-" => last.by_ref().take(number()).for_each(drop),
            _ => before.push(edit.get(2..).unwrap_or_default().to_owned()),
        }
    }
    Answer::Return(match form {
        "text" => before.join("\r\n").into(),
        _ => before.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect(),
    })
}
