//! What can be plugged in: devices of the host, and devices that a hypervisor emulates.

mod backend;
mod storage;
mod text;

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use self::backend::{Chardev, ImageFormat, Mac, NetBackend};
pub use self::storage::{DiskSerial, Media, Storage};
pub use self::text::KindError;
use crate::models::UsbVersion;
use crate::selector::{BusAddress, BusId, Selector, UsbId};
use crate::speed::{Speed, SpeedSet};

/// The number of ports of an emulated hub: 8 in QEMU's `usb-hub` (`MAX_PORTS` in its `dev-hub.c`)
/// and in libvirt.
pub const HUB_PORTS: u8 = 8;

/// The speeds that a hub's ports support: an emulated hub is a full-speed hub (QEMU's `dev-hub.c`:
/// `USB_SPEED_MASK_LOW | USB_SPEED_MASK_FULL`).
pub const HUB_SPEEDS: SpeedSet = SpeedSet::of(&[Speed::Low, Speed::Full]);

/// A kind of device with its properties.
///
/// Equal kinds are the same hardware to the guest, with the same back end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Kind {
    /// A USB device of this machine.
    Host(HostRef),
    /// A mass storage device whose content is a file or a block device.
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
    /// A device that is redirected over the network (the usbredir protocol).
    Redir(Redir),
    /// An unknown device that another tool plugged in. It occupies its port and is never recreated.
    Other(Other),
}

/// A USB device of this machine. Two are equal if their selectors are: the other fields are
/// what is known about the device, and whether the domain needs it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostRef {
    /// The selector that identifies it.
    pub selector: Selector,
    /// The speeds that it can run at; the fastest is its native speed. `None` while it is not
    /// plugged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speeds: Option<SpeedSet>,
    /// Its current bus and address; `None` while it is not plugged in. Never stored, because it
    /// changes each time the device is plugged in.
    #[serde(skip)]
    pub bus_address: Option<BusAddress>,
    /// The port that it is plugged into now; `None` while it is not plugged in, or if the port is
    /// not known. Never stored, because the device may be plugged into another port.
    #[serde(skip)]
    pub port: Option<BusId>,
    /// Other ids that the same device may have when it returns to its port, because it has switched
    /// its mode or is in its firmware loader (DFU).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub also: BTreeSet<UsbId>,
    /// Whether the domain cannot do its work without it. While it is not plugged in, a failure is
    /// reported, but nothing else of the domain waits for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}

impl HostRef {
    /// The device that `selector` identifies, with nothing else known about it.
    pub const fn new(selector: Selector) -> HostRef {
        HostRef {
            selector,
            speeds: None,
            bus_address: None,
            port: None,
            also: BTreeSet::new(),
            required: false,
        }
    }
}

impl PartialEq for HostRef {
    fn eq(&self, other: &Self) -> bool {
        self.selector == other.selector
    }
}

impl Eq for HostRef {}

/// A tablet, mouse or keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Input {
    /// 1: a full-speed device, as real ones are. 2: it can also run at high speed (QEMU's
    /// `usb_version`).
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
    /// Its number of ports: 1 to 8.
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
    /// Its back end.
    pub chardev: Chardev,
}

/// A sound card.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Audio {
    /// The id of the hypervisor's audio back end; `None` is the hypervisor's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audiodev: Option<String>,
}

/// A network card.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Net {
    /// What it is connected to.
    #[serde(default)]
    pub backend: NetBackend,
    /// Its hardware address. Decided when the card is resolved and then fixed, because the guest
    /// sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

/// A folder that the guest sees as a media player.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mtp {
    /// The folder.
    pub dir: String,
    /// Whether the guest may write to it.
    #[serde(default)]
    pub writable: bool,
}

/// A device that is redirected over the network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Redir {
    /// The source of the device.
    pub chardev: Chardev,
}

/// An unknown device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Other {
    /// The hypervisor's name for it.
    pub driver: String,
}

/// What a domain can have only once: see [`Kind::unique_resource`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UniqueResource<'a>(&'static str, Cow<'a, str>);

/// The speeds of a device: its native speed, and all speeds that it can run at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSpeeds {
    /// The speed that it runs at if the port supports it.
    pub native: Speed,
    /// Every speed that it can run at.
    pub possible: SpeedSet,
}

impl Kind {
    /// The name of the kind, as in the text form and in JSON.
    pub const fn name(&self) -> &'static str {
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

    /// The speeds of the device; `None` if they are unknown until it is plugged in (an absent host
    /// device, a redirected one) or at all (a device of another tool).
    ///
    /// Sources, all in QEMU's `hw/usb`: `dev-storage.c` has full, high and super descriptors;
    /// `dev-hid.c` has full, and high with `usb_version` 2; `dev-mtp.c` has full and high;
    /// `dev-hub.c`, `dev-serial.c`, `dev-audio.c`, `dev-network.c` and `dev-smartcard-reader.c`
    /// have only full.
    pub fn speeds(&self) -> Option<DeviceSpeeds> {
        const fn with(native: Speed, possible: &[Speed]) -> Option<DeviceSpeeds> {
            Some(DeviceSpeeds { native, possible: SpeedSet::of(possible) })
        }
        match self {
            Kind::Host(host) => {
                let possible = host.speeds?;
                Some(DeviceSpeeds { native: possible.fastest()?, possible })
            }
            Kind::Storage(_) => with(Speed::Super, &[Speed::Full, Speed::High, Speed::Super]),
            Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input) => match input
                .usbversion
            {
                UsbVersion::V1 => with(Speed::Full, &[Speed::Full]),
                UsbVersion::V2 | UsbVersion::V3 => with(Speed::High, &[Speed::Full, Speed::High]),
            },
            Kind::Mtp(_) => with(Speed::High, &[Speed::Full, Speed::High]),
            Kind::Hub(_) | Kind::Serial(_) | Kind::Audio(_) | Kind::Net(_) | Kind::Ccid => {
                with(Speed::Full, &[Speed::Full])
            }
            Kind::Redir(_) | Kind::Other(_) => None,
        }
    }

    /// The number of ports that it has for other devices: 0 for all but hubs.
    pub const fn hub_ports(&self) -> u8 {
        match self {
            Kind::Hub(hub) => hub.ports,
            _ => 0,
        }
    }

    /// What a domain can have only once: the host device, the file, the folder, the stream, the
    /// existing network back end. `None` if a domain can have any number of equal devices: two mice
    /// are two devices.
    pub fn unique_resource(&self) -> Option<UniqueResource<'_>> {
        match self {
            Kind::Host(host) => Some(UniqueResource("host", Cow::Owned(host.selector.to_string()))),
            Kind::Storage(storage) => Some(UniqueResource("storage", Cow::Borrowed(&storage.file))),
            Kind::Mtp(mtp) => Some(UniqueResource("mtp", Cow::Borrowed(&mtp.dir))),
            // Only one device can use a stream, whatever its kind.
            Kind::Serial(Serial { chardev }) | Kind::Redir(Redir { chardev })
                if chardev.is_exclusive() =>
            {
                Some(UniqueResource("stream", Cow::Owned(chardev.to_string())))
            }
            Kind::Net(Net { backend: NetBackend::Existing(id), .. }) => {
                Some(UniqueResource("net", Cow::Borrowed(id)))
            }
            _ => None,
        }
    }

    /// Whether a guest with this device has the device that `requested` describes: they are equal
    /// apart from what `requested` leaves open.
    pub fn matches_request(&self, requested: &Kind) -> bool {
        match (self, requested) {
            (Kind::Net(a), Kind::Net(b)) => {
                a.backend == b.backend && (b.mac.is_none() || a.mac == b.mac)
            }
            (Kind::Serial(Serial { chardev: a }), Kind::Serial(Serial { chardev: b }))
            | (Kind::Redir(Redir { chardev: a }), Kind::Redir(Redir { chardev: b })) => {
                a.satisfies(b)
            }
            // A hypervisor may show its default back end with an id.
            (Kind::Audio(_), Kind::Audio(Audio { audiodev: None })) => true,
            _ => self == requested,
        }
    }
}

/// The prefix of the ids that vusb gives to objects that it creates in a hypervisor.
pub const OBJECT_ID_PREFIX: &str = "vusb-";
