//! What can be plugged in: devices of the host, and devices that a hypervisor makes up.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::models::UsbVersion;
use crate::selector::{BusAddress, Selector};
use crate::speed::{Speed, SpeedSet};

/// How many ports an emulated hub has: QEMU's `usb-hub` has 8 (`MAX_PORTS` in its `dev-hub.c`), and so has libvirt's.
pub const HUB_PORTS: u8 = 8;

/// The speeds that a hub's ports take: an emulated hub is a full-speed hub (QEMU's `dev-hub.c`: `USB_SPEED_MASK_LOW |
/// USB_SPEED_MASK_FULL`).
pub const HUB_TAKES: SpeedSet = SpeedSet::of(&[Speed::Low, Speed::Full]);

/// A device, with what makes it that device.
///
/// Two kinds that are equal are the same hardware to the guest and the same thing behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Kind {
    /// A USB device of this machine.
    Host(HostRef),
    /// A mass storage device whose content is a file.
    Storage(Storage),
    /// A pointer with absolute coordinates.
    Tablet(Input),
    /// A mouse.
    Mouse(Input),
    /// A keyboard.
    Keyboard(Input),
    /// A hub.
    Hub(Hub),
    /// A serial adapter.
    Serial(Serial),
    /// A sound card.
    Audio(Audio),
    /// A network card.
    Net(Net),
    /// A media player or camera that shows a folder.
    Mtp(Mtp),
    /// A smart card reader.
    Ccid,
    /// A device that comes over the network (the usbredir protocol).
    Redir(Redir),
    /// Something that another tool plugged in and that is not known here: it holds its port, and is never made anew.
    Other(Other),
}

/// A USB device of this machine. Equal when the selector is: the rest is what is known of it at the moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostRef {
    /// What names it.
    pub selector: Selector,
    /// The speeds that it can run at, native speed first among them; `None` while it is not plugged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speeds: Option<SpeedSet>,
    /// Where it is plugged in at this moment; `None` while it is not. Never stored: it is another at each plug.
    #[serde(skip)]
    pub at: Option<BusAddress>,
}

impl HostRef {
    /// The device that `selector` names, of which nothing else is known.
    pub const fn new(selector: Selector) -> HostRef {
        HostRef { selector, speeds: None, at: None }
    }
}

impl PartialEq for HostRef {
    fn eq(&self, other: &Self) -> bool {
        self.selector == other.selector
    }
}

impl Eq for HostRef {}

/// A mass storage device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Storage {
    /// The file that holds its content.
    pub file: String,
    /// How the file is laid out.
    pub format: ImageFormat,
    /// Whether the guest may not write to it.
    #[serde(default)]
    pub readonly: bool,
}

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

/// A tablet, mouse or keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Input {
    /// 1: a full-speed device, as real ones are. 2: it can also run at high speed (QEMU's `usb_version`).
    pub usbversion: UsbVersion,
}

impl Default for Input {
    fn default() -> Self {
        Input { usbversion: UsbVersion::V1 }
    }
}

/// A hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hub {
    /// How many ports it has: 1 to 8.
    pub ports: u8,
}

impl Default for Hub {
    fn default() -> Self {
        Hub { ports: HUB_PORTS }
    }
}

/// A serial adapter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Serial {
    /// Where its other end is.
    pub chardev: Chardev,
}

/// A sound card.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Audio {
    /// The hypervisor's audio back end by its id; the hypervisor's own default if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audiodev: Option<String>,
}

/// A network card.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Net {
    /// What it is connected to.
    #[serde(default)]
    pub backend: NetBackend,
    /// Its hardware address; decided when it is resolved, and then frozen, for the guest sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
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

/// A folder shown as a media player.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mtp {
    /// The folder.
    pub dir: String,
    /// Whether the guest may write to it.
    #[serde(default)]
    pub writable: bool,
}

/// A device that comes over the network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Redir {
    /// Where it comes from.
    pub chardev: Chardev,
}

/// A device that is not known here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Other {
    /// What the hypervisor calls it.
    pub driver: String,
}

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

/// What makes a device the only one of its sort: see [`Kind::identity`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity<'a>(&'static str, Cow<'a, str>);

/// The speeds of a device: the one it is made for, and all that it can fall back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSpeeds {
    /// The speed it runs at where the port allows it.
    pub native: Speed,
    /// Every speed it can run at.
    pub possible: SpeedSet,
}

impl Kind {
    /// The word for the kind, as the command line and JSON write it.
    pub const fn word(&self) -> &'static str {
        match self {
            Kind::Host(_) => "host",
            Kind::Storage(_) => "storage",
            Kind::Tablet(_) => "tablet",
            Kind::Mouse(_) => "mouse",
            Kind::Keyboard(_) => "keyboard",
            Kind::Hub(_) => "hub",
            Kind::Serial(_) => "serial",
            Kind::Audio(_) => "audio",
            Kind::Net(_) => "net",
            Kind::Mtp(_) => "mtp",
            Kind::Ccid => "ccid",
            Kind::Redir(_) => "redir",
            Kind::Other(_) => "other",
        }
    }

    /// The speeds of the device; `None` if that is not known before it comes (an absent host device, a redirected one).
    ///
    /// Sources, all in QEMU's `hw/usb`: `dev-storage.c` has full, high and super descriptors; `dev-hid.c` full, and high
    /// with `usb_version` 2; `dev-mtp.c` full and high; `dev-hub.c`, `dev-serial.c`, `dev-audio.c`, `dev-network.c`
    /// and `dev-smartcard-reader.c` full alone.
    pub fn speeds(&self) -> Option<DeviceSpeeds> {
        const fn up_to(native: Speed, possible: &[Speed]) -> Option<DeviceSpeeds> {
            Some(DeviceSpeeds { native, possible: SpeedSet::of(possible) })
        }
        match self {
            Kind::Host(host) => {
                let possible = host.speeds?;
                Some(DeviceSpeeds { native: possible.fastest()?, possible })
            }
            Kind::Storage(_) => up_to(Speed::Super, &[Speed::Full, Speed::High, Speed::Super]),
            Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input) => match input
                .usbversion
            {
                UsbVersion::V1 => up_to(Speed::Full, &[Speed::Full]),
                UsbVersion::V2 | UsbVersion::V3 => up_to(Speed::High, &[Speed::Full, Speed::High]),
            },
            Kind::Mtp(_) => up_to(Speed::High, &[Speed::Full, Speed::High]),
            Kind::Hub(_) | Kind::Serial(_) | Kind::Audio(_) | Kind::Net(_) | Kind::Ccid => {
                up_to(Speed::Full, &[Speed::Full])
            }
            Kind::Redir(_) | Kind::Other(_) => None,
        }
    }

    /// How many ports it offers to other devices: 0 for all but hubs.
    pub const fn hub_ports(&self) -> u8 {
        match self {
            Kind::Hub(hub) => hub.ports,
            _ => 0,
        }
    }

    /// What there is only one of: the host device, the file, the folder, the stream. A domain has it once. `None` for what
    /// there can be any number of: two mice are two mice.
    pub fn identity(&self) -> Option<Identity<'_>> {
        let own = |thing: String| Some(Identity(self.word(), Cow::Owned(thing)));
        match self {
            Kind::Host(host) => own(host.selector.to_string()),
            Kind::Storage(storage) => Some(Identity("storage", Cow::Borrowed(&storage.file))),
            Kind::Mtp(mtp) => Some(Identity("mtp", Cow::Borrowed(&mtp.dir))),
            // A stream has one user, whatever kind that is.
            Kind::Serial(Serial { chardev }) | Kind::Redir(Redir { chardev })
                if chardev.is_one() =>
            {
                Some(Identity("stream", Cow::Owned(chardev.to_string())))
            }
            Kind::Net(Net { backend: NetBackend::Existing(id), .. }) => {
                Some(Identity("net", Cow::Borrowed(id)))
            }
            _ => None,
        }
    }

    /// Whether a guest with `self` plugged in has what `wanted` asks for: equal, but for what was left open there.
    pub fn satisfies(&self, wanted: &Kind) -> bool {
        match (self, wanted) {
            (Kind::Net(a), Kind::Net(b)) => {
                a.backend == b.backend && (b.mac.is_none() || a.mac == b.mac)
            }
            (Kind::Serial(Serial { chardev: a }), Kind::Serial(Serial { chardev: b }))
            | (Kind::Redir(Redir { chardev: a }), Kind::Redir(Redir { chardev: b })) => {
                a.satisfies(b)
            }
            // The hypervisor's own default has a name, too.
            (Kind::Audio(_), Kind::Audio(Audio { audiodev: None })) => true,
            _ => self == wanted,
        }
    }
}

/// What the hypervisor's ids of what vusb made begin with.
pub const OWN_ID: &str = "vusb-";

impl Chardev {
    /// Whether a stream that was found is the one that is wanted, as far as can be seen from outside: a hypervisor turns the name
    /// of a host that it listens on into an address, and does not say which file a stream goes to.
    fn satisfies(&self, wanted: &Chardev) -> bool {
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
    const fn is_one(&self) -> bool {
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

impl fmt::Display for Kind {
    /// As the command line writes it: `storage:stick.img,readonly`, `host:0781:5581`, `tablet`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Kind::Host(host) => write!(f, ":{}", host.selector),
            Kind::Storage(storage) => {
                write!(f, ":{}", storage.file)?;
                if storage.format != ImageFormat::of_name(&storage.file) {
                    write!(f, ",format={}", storage.format)?;
                }
                f.write_str(if storage.readonly { ",readonly" } else { "" })
            }
            Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input) => {
                match input.usbversion {
                    UsbVersion::V1 => Ok(()),
                    other => write!(f, ":usbversion={other}"),
                }
            }
            Kind::Hub(hub) if hub.ports != HUB_PORTS => write!(f, ":ports={}", hub.ports),
            Kind::Serial(serial) => write!(f, ":{}", serial.chardev),
            Kind::Audio(Audio { audiodev: Some(id) }) => write!(f, ":{id}"),
            Kind::Net(net) => write_net(f, net),
            Kind::Mtp(mtp) => {
                write!(f, ":{}{}", mtp.dir, if mtp.writable { ",writable" } else { "" })
            }
            Kind::Redir(redir) => write!(f, ":{}", redir.chardev),
            Kind::Other(other) => write!(f, ":{}", other.driver),
            Kind::Hub(_) | Kind::Audio(_) | Kind::Ccid => Ok(()),
        }
    }
}

fn write_net(f: &mut fmt::Formatter<'_>, net: &Net) -> fmt::Result {
    match (&net.backend, net.mac) {
        (NetBackend::User, None) => Ok(()),
        (backend, None) => write!(f, ":{backend}"),
        (backend, Some(mac)) => write!(f, ":{backend},mac={mac}"),
    }
}

/// A text that is no device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is no {what}: {why}")]
pub struct KindError {
    what: &'static str,
    text: String,
    why: String,
}

impl KindError {
    fn new(text: &str, why: impl Into<String>) -> KindError {
        KindError::of("device", text, why)
    }

    /// For a part of a device's text: `what` is what it should be.
    fn of(what: &'static str, text: &str, why: impl Into<String>) -> KindError {
        KindError { what, text: text.chars().take(200).collect(), why: why.into() }
    }
}

/// What an unknown word is answered with.
const KNOWN: &str = "write a host device (0781:5581, 1-4.2, 003.014), storage:FILE[,readonly][,format=raw|qcow2], tablet, mouse, \
                     keyboard, hub, serial:CHARDEV, audio, net, mtp:DIR[,writable], ccid or redir:ADDRESS";

impl FromStr for Kind {
    type Err = KindError;

    /// Reads what the command line writes. A selector without a word before it is a host device.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (word, rest) = match text.split_once(':') {
            Some((word, rest)) => (word, Some(rest)),
            None => (text, None),
        };
        let needed = |what: &str| {
            rest.filter(|rest| !rest.is_empty()).ok_or_else(|| KindError::new(text, what))
        };
        let input = || input(text, rest);
        match word {
            "host" => host(text, needed("name the device, such as host:0781:5581")?),
            "storage" => storage(text, needed("name its file, such as storage:stick.img")?),
            "tablet" => Ok(Kind::Tablet(input()?)),
            "mouse" => Ok(Kind::Mouse(input()?)),
            "keyboard" => Ok(Kind::Keyboard(input()?)),
            "hub" => hub(text, rest),
            "serial" => Ok(Kind::Serial(Serial { chardev: needed(CHARDEVS)?.parse()? })),
            "redir" => redir(needed(
                "say where it comes from, such as redir:tcp:HOST:PORT or redir:unix:PATH",
            )?),
            "audio" => {
                Ok(Kind::Audio(Audio { audiodev: rest.map(|id| object_id(text, id)).transpose()? }))
            }
            "net" => net(text, rest.unwrap_or("user")),
            "mtp" => mtp(text, needed("name the folder to show, such as mtp:/srv/photos")?),
            "ccid" if rest.is_none() => Ok(Kind::Ccid),
            _ if text.starts_with(|first: char| first.is_ascii_digit())
                || text.contains("-usb-0:")
                || rest.is_some() =>
            {
                host(text, text)
            }
            _ => Err(KindError::new(text, KNOWN)),
        }
    }
}

fn host(text: &str, selector: &str) -> Result<Kind, KindError> {
    match selector.parse() {
        Ok(selector) => Ok(Kind::Host(HostRef { selector, speeds: None, at: None })),
        Err(_) => Err(KindError::new(text, KNOWN)),
    }
}

/// `FILE[,readonly][,format=F]`. A comma that no option follows is part of the file's name.
fn storage(text: &str, rest: &str) -> Result<Kind, KindError> {
    let mut file = rest;
    let mut readonly = false;
    let mut format = None;
    while let Some((head, option)) = file.rsplit_once(',') {
        match option.split_once('=') {
            None if option == "readonly" => readonly = true,
            Some(("format", value)) => format = Some(value.parse()?),
            _ => break,
        }
        file = head;
    }
    if file.is_empty() {
        return Err(KindError::new(text, "name its file, such as storage:stick.img"));
    }
    let format = format.unwrap_or_else(|| ImageFormat::of_name(file));
    Ok(Kind::Storage(Storage { file: file.to_owned(), format, readonly }))
}

fn input(text: &str, rest: Option<&str>) -> Result<Input, KindError> {
    match rest {
        None | Some("usbversion=1") => Ok(Input { usbversion: UsbVersion::V1 }),
        Some("usbversion=2") => Ok(Input { usbversion: UsbVersion::V2 }),
        Some(_) => Err(KindError::new(
            text,
            "all it takes is :usbversion=1 (full speed) or :usbversion=2 (high speed too)",
        )),
    }
}

fn hub(text: &str, rest: Option<&str>) -> Result<Kind, KindError> {
    let why = "a hub has 8 ports, or fewer as hub:ports=4 says";
    let Some(rest) = rest else {
        return Ok(Kind::Hub(Hub::default()));
    };
    let ports = rest.strip_prefix("ports=").and_then(crate::address::decimal::<u8>);
    match ports {
        Some(ports @ 1..=HUB_PORTS) => Ok(Kind::Hub(Hub { ports })),
        _ => Err(KindError::new(text, why)),
    }
}

fn mtp(text: &str, rest: &str) -> Result<Kind, KindError> {
    let (dir, writable) = match rest.strip_suffix(",writable") {
        Some(dir) => (dir, true),
        None => (rest, false),
    };
    if dir.is_empty() {
        return Err(KindError::new(text, "name the folder to show, such as mtp:/srv/photos"));
    }
    Ok(Kind::Mtp(Mtp { dir: dir.to_owned(), writable }))
}

fn redir(rest: &str) -> Result<Kind, KindError> {
    // An address alone is one to connect to.
    let chardev = rest.parse().or_else(|error| match rest.rsplit_once(':') {
        Some(_) => format!("tcp:{rest}").parse(),
        None => Err(error),
    })?;
    Ok(Kind::Redir(Redir { chardev }))
}

fn net(text: &str, rest: &str) -> Result<Kind, KindError> {
    let (backend, mac) = match rest.split_once(",mac=") {
        Some((backend, mac)) => (backend, Some(mac.parse()?)),
        None => (rest, None),
    };
    let backend = backend.parse().map_err(|error: KindError| KindError::new(text, error.why))?;
    Ok(Kind::Net(Net { backend, mac }))
}

/// An id of the hypervisor's own objects.
fn object_id(text: &str, id: &str) -> Result<String, KindError> {
    let good = !id.is_empty()
        && id.len() <= 64
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.#".contains(&byte));
    if good { Ok(id.to_owned()) } else { Err(KindError::new(text, format!("`{id}` is no id"))) }
}

const CHARDEVS: &str = "say where its other end is: pty, null, file:PATH, unix:PATH[,server], tcp:HOST:PORT[,server], spicevmc, or id:ID of \
                        a character device that exists";

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_reads_and_prints_the_same() {
        for text in [
            "host:0781:5581",
            "host:1-4.2",
            "storage:stick.img",
            "storage:a,b.qcow2,readonly",
            "storage:disk.img,format=qcow2,readonly",
            "tablet",
            "mouse:usbversion=2",
            "keyboard",
            "hub",
            "hub:ports=4",
            "serial:pty",
            "serial:unix:/run/s,server",
            "serial:id:char0",
            "audio",
            "audio:snd0",
            "net",
            "net:none",
            "net:id:tap0,mac=52:54:00:12:34:56",
            "mtp:/srv/photos,writable",
            "ccid",
            "redir:tcp:[::1]:4000",
            "redir:spicevmc",
        ] {
            assert_eq!(text.parse::<Kind>().unwrap().to_string(), text);
        }
        assert_eq!("0781:5581".parse::<Kind>().unwrap().to_string(), "host:0781:5581");
        assert_eq!(
            "redir:localhost:4000".parse::<Kind>().unwrap().to_string(),
            "redir:tcp:localhost:4000"
        );
    }

    #[test]
    fn what_a_hypervisor_shows_is_what_was_wanted() {
        let satisfies = |found: &str, wanted: &str| {
            found.parse::<Kind>().unwrap().satisfies(&wanted.parse::<Kind>().unwrap())
        };
        for (found, wanted) in [
            ("redir:tcp:127.0.0.1:4000,server", "redir:tcp:localhost:4000,server"),
            ("redir:tcp:[::1]:4000,server", "redir:tcp:localhost:4000,server"),
            ("serial:tcp:192.0.2.7:4000,server", "serial:tcp:terminals:4000,server"),
            ("serial:id:vusb-serial0", "serial:file:/var/log/guest"),
            ("audio:alsa", "audio"),
            ("net:user,mac=52:54:00:12:34:56", "net"),
        ] {
            assert!(satisfies(found, wanted), "{found} is not {wanted}");
            assert!(!satisfies(wanted, found), "{wanted} is {found}");
        }
        for (found, wanted) in [
            ("redir:tcp:127.0.0.1:4000", "redir:tcp:localhost:4000,server"),
            ("redir:tcp:127.0.0.1:4000", "redir:tcp:localhost:4001"),
            ("redir:tcp:192.0.2.7:4000", "redir:tcp:localhost:4000"),
            ("redir:tcp:192.0.2.7:4000", "redir:tcp:192.0.2.8:4000"),
            ("redir:tcp:127.0.0.1:4000", "serial:tcp:127.0.0.1:4000"),
            ("serial:id:mine", "serial:file:/var/log/guest"),
            ("audio", "audio:snd0"),
        ] {
            assert!(!satisfies(found, wanted), "{found} is {wanted}");
        }
    }

    #[test]
    fn what_is_no_device_is_answered_with_what_is() {
        for text in [
            "",
            "moose",
            "storage",
            "storage:",
            "storage:,readonly",
            "hub:ports=9",
            "hub:9",
            "serial",
            "serial:tcp:h:0",
            "mtp:",
            "ccid:1",
            "net:user,mac=52:54:00:+1:00:00",
            "781:5581",
        ] {
            assert!(text.parse::<Kind>().is_err(), "{text}");
        }
        let error = "storage:x,format=vmdk".parse::<Kind>().unwrap_err().to_string();
        assert_eq!(error, "`vmdk` is no image format: it is raw or qcow2");
        let error = "moose".parse::<Kind>().unwrap_err().to_string();
        assert!(error.contains("storage:FILE"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back(text in "(host|storage|hub|net|mtp|serial|redir|)[:a-z0-9=,._-]{0,30}") {
            if let Ok(kind) = text.parse::<Kind>() {
                prop_assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
            }
        }
    }
}
