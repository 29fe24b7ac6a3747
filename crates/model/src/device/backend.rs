//! What is behind a device: an image's format, a stream, a network, a hardware address; and how each is written.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::OWN_ID;
use super::text::KindError;

/// How an image file is laid out. It is said or told from the file's name, never from its content: a guest writes the
/// content, and could otherwise have a raw image read as a qcow2 that points to any file of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// The bytes of the device, one after the other.
    Raw,
    /// QEMU's own format.
    Qcow2,
}

impl ImageFormat {
    /// The format that a file's name promises: qcow2 for `.qcow2`, raw for everything else.
    pub fn of_name(file: &str) -> ImageFormat {
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
            other => Err(KindError::of("image format", other, "it is raw or qcow2")),
        }
    }
}

/// What a network card is connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NetBackend {
    /// The hypervisor's own network, translated to the host's (QEMU's `user`).
    #[default]
    User,
    /// Nothing.
    None,
    /// A back end of the hypervisor that exists, by its id.
    Existing(String),
}

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// One end of a stream of bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Chardev {
    /// A new pseudo terminal of the host.
    Pty,
    /// Nothing: what is written is lost.
    Null,
    /// A file that what is written goes to.
    File(String),
    /// A Unix socket.
    Unix {
        /// Its path.
        path: String,
        /// Whether the hypervisor listens on it, rather than connect to it.
        server: bool,
    },
    /// A TCP socket.
    Tcp {
        /// The host name or address.
        host: String,
        /// The port.
        port: u16,
        /// Whether the hypervisor listens on it, rather than connect to it.
        server: bool,
    },
    /// A channel of the SPICE connection.
    Spicevmc,
    /// A character device of the hypervisor that exists, by its id.
    Existing(String),
}

impl Chardev {
    /// Whether a stream that was found is the one that is wanted, as far as can be seen from outside: a hypervisor turns the name
    /// of a host that it listens on into an address, and does not say which file a stream goes to.
    pub(super) fn satisfies(&self, wanted: &Chardev) -> bool {
        match (self, wanted) {
            (
                Chardev::Tcp { host, port, server },
                Chardev::Tcp { host: name, port: wanted_port, server: wanted_server },
            ) => port == wanted_port && server == wanted_server && same_host(host, name),
            (Chardev::Existing(id), Chardev::File(_)) => id.starts_with(OWN_ID),
            _ => self == wanted,
        }
    }

    /// Whether there is only one of it: a file, a socket; not a pseudo terminal, of which each is another.
    pub(super) const fn is_one(&self) -> bool {
        !matches!(self, Chardev::Pty | Chardev::Null | Chardev::Spicevmc)
    }
}

/// Whether `found` may be the host that `wanted` names. Two addresses or two names have to be equal; a name can stand for any
/// address, but `localhost` for this machine's own alone.
fn same_host(found: &str, wanted: &str) -> bool {
    let plain = |host: &str| {
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inner.unwrap_or(host).to_ascii_lowercase()
    };
    let (found, wanted) = (plain(found), plain(wanted));
    match (found.parse::<IpAddr>(), wanted.parse::<IpAddr>()) {
        (Ok(found), Ok(wanted)) => found == wanted,
        (Ok(found), Err(_)) => wanted != "localhost" || found.is_loopback(),
        (Err(_), _) => found == wanted,
    }
}

impl FromStr for Chardev {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || KindError::new(text, CHARDEVS);
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
                    "a network card goes to user, none, or id:ID of a network back end that exists",
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
            // from_str_radix alone takes a sign.
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

pub(super) const CHARDEVS: &str = "say where its other end is: pty, null, file:PATH, unix:PATH[,server], tcp:HOST:PORT[,server], spicevmc, or id:ID of \
                        a character device that exists";

/// An id of the hypervisor's own objects.
pub(super) fn object_id(text: &str, id: &str) -> Result<String, KindError> {
    let good = !id.is_empty()
        && id.len() <= 64
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.#".contains(&byte));
    if good { Ok(id.to_owned()) } else { Err(KindError::new(text, format!("`{id}` is no id"))) }
}

/// Serde by way of text for the types that are written as one word.
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
