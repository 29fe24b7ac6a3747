//! What can be plugged in: devices of the host, and devices that a hypervisor makes up.

mod backend;
mod text;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use self::backend::{Chardev, ImageFormat, Mac, NetBackend};
pub use self::text::KindError;
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
