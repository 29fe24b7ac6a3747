//! The names of nodes, and the folders that hold them.

use std::fmt;

/// A node's name, relative to its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The version of the announcement's layout.
    Version,
    /// A toolstack's question whether the backend is alive.
    Ping,
    /// The backend's answer.
    Pong,
    /// Vendor and product of an exported device.
    Id,
    /// Its serial number.
    Serial,
    /// Its bus and address.
    Address,
    /// The speed that it runs at.
    Speed,
    /// The speeds that it can be offered at.
    Speeds,
    /// Its device class.
    Class,
    /// Its manufacturer string.
    Manufacturer,
    /// Its product string.
    Product,
    /// Why it is protected from being passed through.
    Protection,
    /// Path of the guest's folder.
    Frontend,
    /// The guest's domain id.
    FrontendId,
    /// Path of the backend's folder.
    Backend,
    /// The backend's domain id.
    BackendId,
    /// Whether the controller is to exist: 1, or 0 once the toolstack removes it.
    Online,
    /// XenBus state of the folder's owner.
    State,
    /// libxl's controller type.
    Type,
    /// USB version.
    UsbVer,
    /// Number of ports.
    NumPorts,
    /// Parent of [`Key::Port`]; its own value is empty.
    Ports,
    /// Bus id of the device in a port, or empty.
    Port(u8),
    /// Parent of [`Key::Device`].
    Devices,
    /// Identity that the device in a port must have.
    Device(u8),
    /// vusb's name for the device in a port.
    DeviceName(u8),
    /// The selector that the device in a port was requested by.
    DeviceSelector(u8),
    /// Parent of [`Key::Status`].
    Statuses,
    /// The backend's report on a port.
    Status(u8),
    /// Counters.
    Stats,
    /// Why the backend dropped the controller.
    Error,
    /// vusb's name for the controller.
    Name,
    /// vusb's index of the controller.
    Index,
    /// Grant reference of the transfer ring.
    UrbRingRef,
    /// Grant reference of the connection ring.
    ConnRingRef,
    /// Event channel of both rings.
    EventChannel,
}

impl Key {
    /// The text before the port number, the port, and the text after it.
    const fn parts(self) -> (&'static str, Option<u8>, &'static str) {
        match self {
            Key::Version => ("version", None, ""),
            Key::Ping => ("ping", None, ""),
            Key::Pong => ("pong", None, ""),
            Key::Id => ("id", None, ""),
            Key::Serial => ("serial", None, ""),
            Key::Address => ("address", None, ""),
            Key::Speed => ("speed", None, ""),
            Key::Speeds => ("speeds", None, ""),
            Key::Class => ("class", None, ""),
            Key::Manufacturer => ("manufacturer", None, ""),
            Key::Product => ("product", None, ""),
            Key::Protection => ("protection", None, ""),
            Key::Frontend => ("frontend", None, ""),
            Key::FrontendId => ("frontend-id", None, ""),
            Key::Backend => ("backend", None, ""),
            Key::BackendId => ("backend-id", None, ""),
            Key::Online => ("online", None, ""),
            Key::State => ("state", None, ""),
            Key::Type => ("type", None, ""),
            Key::UsbVer => ("usb-ver", None, ""),
            Key::NumPorts => ("num-ports", None, ""),
            Key::Ports => ("port", None, ""),
            Key::Port(port) => ("port/", Some(port), ""),
            Key::Devices => ("device", None, ""),
            Key::Device(port) => ("device/", Some(port), ""),
            Key::DeviceName(port) => ("device/", Some(port), "/name"),
            Key::DeviceSelector(port) => ("device/", Some(port), "/selector"),
            Key::Statuses => ("status", None, ""),
            Key::Status(port) => ("status/", Some(port), ""),
            Key::Stats => ("stats", None, ""),
            Key::Error => ("error", None, ""),
            Key::Name => ("name", None, ""),
            Key::Index => ("index", None, ""),
            Key::UrbRingRef => ("urb-ring-ref", None, ""),
            Key::ConnRingRef => ("conn-ring-ref", None, ""),
            Key::EventChannel => ("event-channel", None, ""),
        }
    }

    /// The key as `docs/xenstore.md` writes it, with `P` for a port: `device/P/name`.
    pub fn pattern(self) -> String {
        match self.parts() {
            (before, None, _) => before.to_owned(),
            (before, Some(_), after) => format!("{before}P{after}"),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (before, None, _) => f.write_str(before),
            (before, Some(port), after) => write!(f, "{before}{port}{after}"),
        }
    }
}

/// A key and its value.
pub type Entry = (Key, String);

/// The absolute path of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Folder(String);

impl Folder {
    pub(super) const fn new(path: String) -> Folder {
        Folder(path)
    }

    /// The absolute path of a node in it.
    pub fn node(&self, key: Key) -> String {
        format!("{}/{key}", self.0)
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The nodes of one kind of folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderLayout {
    /// Its path: B is the backend's domain, D the guest, N libxl's number of the controller, BUSID
    /// a host device.
    pub path: &'static str,
    /// The keys in it; port 1 stands for every port.
    pub keys: &'static [Key],
}

/// The whole contract, in the order of `docs/xenstore.md`.
pub const LAYOUT: [FolderLayout; 5] = [
    FolderLayout {
        path: "/local/domain/B/data/vusb-backend",
        keys: &[Key::Version, Key::Ping, Key::Pong],
    },
    FolderLayout {
        path: "/local/domain/B/data/vusb-backend/device/BUSID",
        keys: &[
            Key::Id,
            Key::Serial,
            Key::Address,
            Key::Speed,
            Key::Speeds,
            Key::Class,
            Key::Manufacturer,
            Key::Product,
            Key::Protection,
        ],
    },
    FolderLayout {
        path: "/libxl/D/device/vusb/N",
        keys: &[
            Key::Frontend,
            Key::Backend,
            Key::FrontendId,
            Key::Online,
            Key::State,
            Key::Type,
            Key::UsbVer,
            Key::NumPorts,
            Key::Ports,
            Key::Port(1),
            Key::Name,
            Key::Index,
            Key::Device(1),
            Key::DeviceName(1),
            Key::DeviceSelector(1),
        ],
    },
    FolderLayout {
        path: "/local/domain/D/device/vusb/N",
        keys: &[
            Key::Backend,
            Key::BackendId,
            Key::State,
            Key::UrbRingRef,
            Key::ConnRingRef,
            Key::EventChannel,
        ],
    },
    FolderLayout {
        path: "/local/domain/B/backend/vusb/D/N",
        keys: &[
            Key::Frontend,
            Key::FrontendId,
            Key::Online,
            Key::Type,
            Key::UsbVer,
            Key::NumPorts,
            Key::Ports,
            Key::State,
            Key::Port(1),
            Key::Device(1),
            Key::Status(1),
            Key::Stats,
            Key::Error,
        ],
    },
];
