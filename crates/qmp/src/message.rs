//! Messages from QEMU: the four known forms, and [`Message::Unknown`] for all others.
//!
//! The forms are those of QEMU's `docs/interop/qmp-spec.rst`: greeting, success, error, event. The
//! parser is lenient on purpose. Each release of QEMU adds events and fields, and a client that
//! fails on one of them loses what follows, such as the `DEVICE_DELETED` that completes an unplug.
//! Unknown names are therefore kept, and unknown fields are ignored.

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
        /// The `id` of the command; `None` if the answer has none.
        id: Option<Value>,
        /// The command's result; `{}` if it has none.
        value: Value,
    },
    /// A command failed.
    Error {
        /// The `id` of the command. QEMU sends none if it could not parse the command.
        id: Option<Value>,
        /// The kind of failure.
        class: ErrorClass,
        /// A description for humans. Its wording is not stable.
        desc: String,
    },
    /// An event in the guest or in QEMU.
    Event(Event),
    /// Any other JSON value, unchanged.
    Unknown(Value),
}

/// The greeting that QEMU sends when a client connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// QEMU's version. Query the schema for features instead: distributions backport them.
    pub version: Version,
    /// The protocol capabilities that QEMU offers, such as `oob`, including unknown ones.
    pub capabilities: Vec<String>,
}

/// QEMU's version, from its greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The 7 in 7.2.22.
    pub major: u64,
    /// The 2 in 7.2.22.
    pub minor: u64,
    /// The 22 in 7.2.22.
    pub micro: u64,
    /// The packager's suffix, such as `Debian 1:7.2+dfsg-7`; often empty.
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

/// An event: a message that does not answer a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The event's name, such as `DEVICE_DELETED`. New versions of QEMU add names.
    pub name: String,
    /// The event's fields; [`Value::Null`] if it has none.
    pub data: Value,
    /// The time since the Unix epoch on the host's clock. `None` if QEMU could not read the clock;
    /// it then sends -1.
    pub timestamp: Option<Duration>,
}

/// The kind of a command's failure.
///
/// QEMU does not extend this list, and uses `GenericError` for nearly everything.
/// [`ErrorClass::Other`] is for the classes of other versions and of other programs that speak QMP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// All failures without a more specific class.
    GenericError,
    /// QEMU has no such command, or does not allow it in its current state.
    CommandNotFound,
    /// The device exists but is not active.
    DeviceNotActive,
    /// There is no device with this name.
    DeviceNotFound,
    /// KVM lacks a capability that the command needs.
    KvmMissingCap,
    /// A class that this crate does not know.
    Other(String),
}

impl ErrorClass {
    /// The name of the class in the protocol.
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
    /// Interprets a JSON value as one of the forms. Never fails; see [`Message::Unknown`].
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

/// Class and description. If there is no description, the whole error takes its place.
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

/// Untrusted text for a terminal. Control characters are escaped, because QEMU quotes strings from
/// USB devices.
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
