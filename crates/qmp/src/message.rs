//! What QEMU says: the four forms a message can have, and everything else kept as it came.
//!
//! The forms are those of QEMU's `docs/interop/qmp-spec.rst`: greeting, success, error, event. The
//! reader is lenient on purpose. QEMU adds events, fields and error classes with each release, and a
//! client that stops at one loses what comes after it, such as the `DEVICE_DELETED` that completes an
//! unplug. So an unknown name is just a name, an unknown field is passed over, and an object of no
//! known form is [`Message::Unknown`].

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

/// One message from QEMU.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The first message on a connection.
    Greeting(Greeting),
    /// A command succeeded.
    Return {
        /// The `id` that the command carried; `None` if the answer has none.
        id: Option<Value>,
        /// What the command returns; `{}` for commands that return nothing.
        value: Value,
    },
    /// A command failed.
    Error {
        /// The `id` that the command carried. QEMU sends none if it could not even read the command.
        id: Option<Value>,
        /// What kind of failure.
        class: ErrorClass,
        /// A sentence for people; QEMU promises nothing about its wording.
        desc: String,
    },
    /// Something happened in the guest or in QEMU.
    Event(Event),
    /// Valid JSON that has none of the forms above, untouched.
    Unknown(Value),
}

/// What QEMU says of itself when a client connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// QEMU's version. Ask the schema for abilities, not this: distributions port features back.
    pub version: Version,
    /// Protocol abilities on offer, such as `oob`. Unknown ones are listed like any other.
    pub capabilities: Vec<String>,
}

/// QEMU's version as its greeting gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The 7 of 7.2.22.
    pub major: u64,
    /// The 2 of 7.2.22.
    pub minor: u64,
    /// The 22 of 7.2.22.
    pub micro: u64,
    /// The packager's addition, such as `Debian 1:7.2+dfsg-7`; often empty.
    pub package: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)?;
        if !self.package.is_empty() {
            write!(f, " ({})", Printable(&self.package))?;
        }
        Ok(())
    }
}

/// An event: something that happened, not the answer to a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Such as `DEVICE_DELETED`. New QEMUs have new names.
    pub name: String,
    /// The event's own fields; [`Value::Null`] for events that have none.
    pub data: Value,
    /// Host wall clock since the Unix epoch. `None` if QEMU had no clock to read (it then sends -1).
    pub timestamp: Option<Duration>,
}

/// The kind of a command's failure.
///
/// QEMU froze this list long ago and puts nearly everything under `GenericError`; the open end is for
/// the classes of other versions and of programs that speak QMP without being QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Anything without a class of its own.
    GenericError,
    /// This QEMU has no such command, or has it not in its present state.
    CommandNotFound,
    /// A device exists but is not active.
    DeviceNotActive,
    /// No device with that name.
    DeviceNotFound,
    /// KVM lacks something that the command needs.
    KvmMissingCap,
    /// A class that this crate does not know, as it came.
    Other(String),
}

impl ErrorClass {
    /// The class as it is written on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::GenericError => "GenericError",
            Self::CommandNotFound => "CommandNotFound",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::DeviceNotFound => "DeviceNotFound",
            Self::KvmMissingCap => "KVMMissingCap",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for ErrorClass {
    fn from(name: &str) -> Self {
        match name {
            "GenericError" => Self::GenericError,
            "CommandNotFound" => Self::CommandNotFound,
            "DeviceNotActive" => Self::DeviceNotActive,
            "DeviceNotFound" => Self::DeviceNotFound,
            "KVMMissingCap" => Self::KvmMissingCap,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable(self.as_str()).fmt(f)
    }
}

impl From<Value> for Message {
    /// Sorts a JSON value into one of the forms. Never fails; see [`Message::Unknown`].
    fn from(value: Value) -> Self {
        let Value::Object(mut fields) = value else {
            return Self::Unknown(value);
        };
        if let Some(value) = fields.remove("return") {
            return Self::Return { id: fields.remove("id"), value };
        }
        if let Some(error) = fields.remove("error") {
            let (class, desc) = read_error(&error);
            return Self::Error { id: fields.remove("id"), class, desc };
        }
        if let Some(event) = read_event(&mut fields) {
            return Self::Event(event);
        }
        if let Some(greeting) = fields.get("QMP").and_then(read_greeting) {
            return Self::Greeting(greeting);
        }
        Self::Unknown(Value::Object(fields))
    }
}

/// Class and description. A description that is missing is replaced by the whole error, for whoever
/// reads the message needs something to go by.
fn read_error(error: &Value) -> (ErrorClass, String) {
    let text = |field: &str| error.get(field).and_then(Value::as_str);
    let desc = text("desc").map_or_else(|| error.to_string(), str::to_owned);
    (text("class").unwrap_or_default().into(), desc)
}

fn read_event(fields: &mut Map<String, Value>) -> Option<Event> {
    let name = fields.get("event")?.as_str()?.to_owned();
    let data = fields.remove("data").unwrap_or(Value::Null);
    let timestamp = fields.get("timestamp").and_then(read_timestamp);
    Some(Event { name, data, timestamp })
}

fn read_timestamp(timestamp: &Value) -> Option<Duration> {
    let seconds = timestamp.get("seconds")?.as_u64()?;
    let micros = u32::try_from(timestamp.get("microseconds")?.as_u64()?).ok()?;
    let nanos = micros.checked_mul(1000).filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

fn read_greeting(qmp: &Value) -> Option<Greeting> {
    let version = qmp.get("version")?;
    let number = |field: &str| version.get("qemu")?.get(field)?.as_u64();
    let package = version.get("package").and_then(Value::as_str).unwrap_or_default();
    let capabilities = qmp.get("capabilities").and_then(Value::as_array);
    Some(Greeting {
        version: Version {
            major: number("major")?,
            minor: number("minor")?,
            micro: number("micro")?,
            package: package.trim().to_owned(),
        },
        capabilities: capabilities
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
    })
}

/// Text from outside for a terminal: control characters are escaped, for QEMU quotes strings that a
/// USB device chose.
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}
