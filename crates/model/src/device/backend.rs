//! The back ends of devices (image formats, streams, networks), hardware addresses, and their text
//! forms.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::OBJECT_ID_PREFIX;
use super::text::KindError;

/// The format of an image file. It is specified or derived from the file's name, never detected
/// from the content: a guest writes the content, and could make its raw image look like a qcow2
/// that refers to any file of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// The bytes of the device, without any structure.
    Raw,
    /// QEMU's qcow2 format.
    Qcow2,
}

impl ImageFormat {
    /// The format that a file's name implies: qcow2 for `.qcow2`, raw for everything else.
    pub fn from_file_name(file: &str) -> ImageFormat {
        if file.to_ascii_lowercase().ends_with(".qcow2") {
            ImageFormat::Qcow2
        } else {
            ImageFormat::Raw
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ImageFormat::Raw => "raw",
            ImageFormat::Qcow2 => "qcow2",
        })
    }
}

impl FromStr for ImageFormat {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "raw" => Ok(ImageFormat::Raw),
            "qcow2" => Ok(ImageFormat::Qcow2),
            other => Err(KindError::of("an image format", other, "it must be raw or qcow2")),
        }
    }
}

/// What a network card is connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NetBackend {
    /// The hypervisor's own network, with address translation to the host's (QEMU's `user`).
    #[default]
    User,
    /// Nothing.
    None,
    /// An existing network back end of the hypervisor, by its id.
    Existing(String),
}

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// A character device: the back end of a serial adapter or of a redirected device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Chardev {
    /// A new pseudoterminal of the host.
    Pty,
    /// Nothing: output is discarded.
    Null,
    /// A file that output is written to.
    File(String),
    /// A Unix socket.
    Unix {
        /// Its path.
        path: String,
        /// Whether the hypervisor listens on the socket instead of connecting to it.
        server: bool,
    },
    /// A TCP socket.
    Tcp {
        /// The host name or address.
        host: String,
        /// The port.
        port: u16,
        /// Whether the hypervisor listens on the socket instead of connecting to it.
        server: bool,
    },
    /// A channel of the SPICE connection.
    Spicevmc,
    /// An existing character device of the hypervisor, by its id.
    Existing(String),
}

impl Chardev {
    /// Whether a stream that a hypervisor shows can be the requested one. It may look different: a
    /// hypervisor resolves the host name that it listens on to an address, and does not show which
    /// file a stream is written to.
    pub(super) fn satisfies(&self, requested: &Chardev) -> bool {
        match (self, requested) {
            (
                Chardev::Tcp { host, port, server },
                Chardev::Tcp { host: name, port: requested_port, server: as_server },
            ) => port == requested_port && server == as_server && same_host(host, name),
            (Chardev::Existing(id), Chardev::File(_)) => id.starts_with(OBJECT_ID_PREFIX),
            _ => self == requested,
        }
    }

    /// Whether only one device can use it: true for a file, a socket and an existing character
    /// device. Each request for a pseudoterminal or a SPICE channel creates a new one, and any
    /// number of devices can be connected to nothing.
    pub(super) const fn is_exclusive(&self) -> bool {
        !matches!(self, Chardev::Pty | Chardev::Null | Chardev::Spicevmc)
    }
}

/// Whether `found` may be the host `requested`. Two addresses or two names must be equal. A name
/// may resolve to any address, except `localhost`, which only resolves to loopback addresses.
fn same_host(found: &str, requested: &str) -> bool {
    let plain = |host: &str| {
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inner.unwrap_or(host).to_ascii_lowercase()
    };
    let (found, requested) = (plain(found), plain(requested));
    match (found.parse::<IpAddr>(), requested.parse::<IpAddr>()) {
        (Ok(found), Ok(requested)) => found == requested,
        (Ok(found), Err(_)) => requested != "localhost" || found.is_loopback(),
        (Err(_), _) => found == requested,
    }
}

impl FromStr for Chardev {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || KindError::of("a character device", text, format!("write {CHARDEVS}"));
        let (rest, server) = match text.strip_suffix(",server") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let path = |path: &str| {
            if path.is_empty() { Err(error()) } else { Ok(path.to_owned()) }
        };
        match (rest.split_once(':'), server) {
            (None, false) => match rest {
                "pty" => Ok(Chardev::Pty),
                "null" => Ok(Chardev::Null),
                "spicevmc" => Ok(Chardev::Spicevmc),
                _ => Err(error()),
            },
            (Some(("file", file)), false) => Ok(Chardev::File(path(file)?)),
            (Some(("unix", socket)), server) => Ok(Chardev::Unix { path: path(socket)?, server }),
            (Some(("id", id)), false) => Ok(Chardev::Existing(object_id(text, id)?)),
            (Some(("tcp", rest)), server) => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(error)?;
                let port = crate::address::decimal::<u16>(port)
                    .filter(|port| *port > 0)
                    .ok_or_else(error)?;
                Ok(Chardev::Tcp { host: path(host)?, port, server })
            }
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Chardev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listening = |server: &bool| if *server { ",server" } else { "" };
        match self {
            Chardev::Pty => f.write_str("pty"),
            Chardev::Null => f.write_str("null"),
            Chardev::Spicevmc => f.write_str("spicevmc"),
            Chardev::File(path) => write!(f, "file:{path}"),
            Chardev::Unix { path, server } => write!(f, "unix:{path}{}", listening(server)),
            Chardev::Tcp { host, port, server } => {
                write!(f, "tcp:{host}:{port}{}", listening(server))
            }
            Chardev::Existing(id) => write!(f, "id:{id}"),
        }
    }
}

impl FromStr for NetBackend {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "user" => Ok(NetBackend::User),
            "none" => Ok(NetBackend::None),
            other => match other.strip_prefix("id:") {
                Some(id) => Ok(NetBackend::Existing(object_id(text, id)?)),
                None => Err(KindError::new(
                    text,
                    "the back end of a network card is user, none, or id:ID of an existing one",
                )),
            },
        }
    }
}

impl fmt::Display for NetBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetBackend::User => f.write_str("user"),
            NetBackend::None => f.write_str("none"),
            NetBackend::Existing(id) => write!(f, "id:{id}"),
        }
    }
}

impl FromStr for Mac {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || {
            KindError::new(
                text,
                "a hardware address is six bytes in hexadecimal, such as 52:54:00:12:34:56",
            )
        };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            // from_str_radix would also accept a sign.
            let digits =
                |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            let part = parts.next().filter(digits).ok_or_else(error)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Mac(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&bytes.join(":"))
    }
}

/// The text forms of character devices, for messages.
pub(super) const CHARDEVS: &str = "pty, null, file:PATH, unix:PATH[,server], tcp:HOST:PORT[,server], spicevmc, or id:ID of an existing character \
                        device";

/// Checks the id of a hypervisor's object, which is a part of `text`.
pub(super) fn object_id(text: &str, id: &str) -> Result<String, KindError> {
    let good = !id.is_empty()
        && id.len() <= 64
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.#".contains(&byte));
    if good {
        Ok(id.to_owned())
    } else {
        Err(KindError::new(text, format!("`{id}` is not a valid id")))
    }
}

/// Serializes types in their text form.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = KindError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    )*};
}

as_text!(Chardev, NetBackend, Mac);
