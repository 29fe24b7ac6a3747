//! From what was found in QEMU to hardware: which index, which name, which model, which device.
//!
//! A controller that vusb made says its index and name in its id. One that another tool made keeps what the record says of the
//! controller at its PCI address; without a record it gets the index that libvirt's alias for it says (`usb` is 0, `usb2` is 2),
//! or the lowest free one in the order in which they were made: what is added later is numbered later, wherever it sits.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;

use serde_json::Value;
use vusb_model::address::{Address, Index};
use vusb_model::device::{
    Audio, Chardev, HostRef, Hub, ImageFormat, Input, Kind, Mtp, Net, NetBackend, Other, Redir,
    Serial, Storage,
};
use vusb_model::hardware::{Controller, Device, Hardware, Item, PciAddress};
use vusb_model::models::{Companion, Model, RootPorts, UsbVersion};
use vusb_model::name::Name;
use vusb_model::selector::{BusAddress, Selector, UsbId};

use super::details::Details;
use super::names::{companion_of, model_of, own_controller, own_device};
use super::qtree::Dev;
use super::scan::{Found, FoundDevice, Scan};
use crate::driver::{DeviceState, Foreign, Observed};

/// How to address what was found.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) controllers: BTreeMap<Index, Handle>,
    pub(super) devices: BTreeMap<Address, Handle>,
}

/// How to address one thing.
#[derive(Clone, Debug, Default)]
pub(super) struct Handle {
    /// Its id; empty if it has none.
    pub(super) id: String,
    /// Its place in the object model.
    pub(super) path: String,
    /// For a controller, QEMU's name of its USB bus.
    pub(super) bus: String,
}

impl Handle {
    /// What `device_del` takes: the id, or the path of what has none.
    pub(super) fn target(&self) -> &str {
        if self.id.is_empty() { &self.path } else { &self.id }
    }
}

/// Puts it together.
pub(super) fn assemble(scan: &Scan, details: &Details, recorded: &Hardware) -> (Observed, View) {
    let mut house =
        House { recorded, details, observed: Observed::default(), view: View::default() };
    let (known, unknown): (Vec<&Found>, Vec<&Found>) = scan
        .controllers
        .iter()
        .filter(|found| found.is_controller())
        .partition(|found| controller(scan, found).is_some());
    for (found, index) in indexes(&known, recorded) {
        house.add(scan, found, index);
    }
    house.observed.foreign = unknown.into_iter().map(foreign).collect();
    (house.observed, house.view)
}

/// The model, ports and companions of what was found. `None` for what vusb has no model of.
fn controller(scan: &Scan, found: &Found) -> Option<(Model, RootPorts, Vec<Companion>)> {
    let model = model_of(&found.driver).filter(|_| found.pci.is_some())?;
    let ports = match (model.is_xhci(), found.halves) {
        (true, Some((usb2, usb3))) => RootPorts::xhci(usb2, usb3)?,
        // QEMU's default where it could not be asked: `NUMPORTS` in its `hcd-xhci.h`.
        (true, None) => RootPorts::xhci(4, 4)?,
        (false, _) => RootPorts::of(model, NonZeroU8::new(*model.port_range().end())?),
    };
    let companion = |other: &Found| {
        let (bus, first_port) = other.serves.as_ref()?;
        let mine = found.usb_bus.as_ref() == Some(bus);
        mine.then_some(Companion { model: companion_of(&other.driver)?, first_port: *first_port })
    };
    let mut companions: Vec<Companion> = scan.controllers.iter().filter_map(companion).collect();
    companions.sort_by_key(|companion| companion.first_port);
    Some((model, ports, companions))
}

fn foreign(found: &Found) -> Foreign {
    let port = |device: &FoundDevice| match device.dev.usb.as_ref().map(|usb| &usb.port) {
        Some(Ok(port)) => port.to_string(),
        Some(Err(port)) => port.clone(),
        None => String::new(),
    };
    Foreign {
        driver: found.driver.clone(),
        id: found.id.clone(),
        devices: found
            .devices
            .iter()
            .map(|device| (port(device), device.dev.driver.clone()))
            .collect(),
    }
}

/// A rule that may say which index a controller has.
type Claim<'a> = &'a dyn Fn(&Found) -> Option<Index>;

/// Gives each controller its index. What is recorded and not found keeps its own.
fn indexes<'a>(found: &[&'a Found], recorded: &Hardware) -> Vec<(&'a Found, Index)> {
    let is_recorded = |index: Index| recorded.controller(index).is_some();
    let mut taken: BTreeSet<Index> = BTreeSet::new();
    let mut settled: Vec<(&Found, Index)> = Vec::new();
    let mut rest = found.to_vec();
    // What says its own index, then what the record knows, then what has an alias of libvirt's.
    let own = |found: &Found| Index::new(own_controller(&found.id)?.index);
    let known = |found: &Found| recorded_index(found, recorded);
    let aliased = |found: &Found| alias(&found.id);
    // An alias says nothing of what the record means, and what is recorded there may come back.
    let claims: [(Claim<'_>, bool); 3] = [(&own, true), (&known, true), (&aliased, false)];
    for (claim, knows) in claims {
        rest.retain(|found| {
            let free = |index: &Index| (knows || !is_recorded(*index)) && taken.insert(*index);
            let index = claim(found).filter(free);
            settled.extend(index.map(|index| (*found, index)));
            index.is_none()
        });
    }
    let mut unclaimed = Index::all().filter(|index| !is_recorded(*index) && !taken.contains(index));
    settled.extend(rest.into_iter().zip(&mut unclaimed));
    settled
}

/// The index of the recorded controller that sits where this one does, and is of its model.
fn recorded_index(found: &Found, recorded: &Hardware) -> Option<Index> {
    let pci = pci_address(found)?;
    let same = |controller: &&Controller| {
        controller.pci.as_ref() == Some(&pci) && Some(controller.model) == model_of(&found.driver)
    };
    recorded.controllers().find(same).map(|controller| controller.index)
}

/// libvirt's alias for the controller at index 0 is `usb`, at index N `usbN`. libxl's id for its controller N is `xenusb-N`.
fn alias(id: &str) -> Option<Index> {
    if let Some(number) = id.strip_prefix("xenusb-") {
        return number.parse().ok();
    }
    match id.strip_prefix("usb")? {
        "" => Some(Index::ZERO),
        number => number.parse().ok(),
    }
}

fn pci_address(found: &Found) -> Option<PciAddress> {
    let (bus, slot, function) = found.pci.clone()?;
    Some(PciAddress { bus, slot, function })
}

/// What is being put together.
struct House<'a> {
    recorded: &'a Hardware,
    details: &'a Details,
    observed: Observed,
    view: View,
}

impl House<'_> {
    fn add(&mut self, scan: &Scan, found: &Found, index: Index) {
        let Some((model, ports, companions)) = controller(scan, found) else { return };
        let own = own_controller(&found.id).and_then(|own| own.name.parse::<Name>().ok());
        let recorded = self.recorded.controller(index).map(|controller| controller.name.clone());
        // What is recorded under this name and is not this one may come back.
        let id = found.id.parse().ok().filter(|name| self.recorded.named(name).is_none());
        let name = self.free_name([recorded, own.clone(), id], "hci");
        let mut new = Controller::new(index, name.clone(), model, ports);
        new.pci = pci_address(found);
        new.companions = companions;
        // Companions that no model has are left out rather than the controller with them.
        if self.observed.hardware.add_controller(new.clone()).is_err() {
            new.companions.clear();
            if self.observed.hardware.add_controller(new).is_err() {
                self.observed.foreign.push(foreign(found));
                return;
            }
        }
        if own.is_some() {
            self.observed.ours.insert(name);
        }
        let handle = Handle {
            id: found.id.clone(),
            path: found.path.clone().unwrap_or_default(),
            bus: found.usb_bus.clone().unwrap_or_default(),
        };
        self.view.controllers.insert(index, handle);
        let mut devices: Vec<&FoundDevice> = found.devices.iter().collect();
        // A hub comes before what is behind it.
        devices.sort_by_key(|device| device.dev.usb.as_ref().and_then(|usb| usb.port.clone().ok()));
        for device in devices {
            self.plug(index, device);
        }
    }

    fn plug(&mut self, bus: Index, found: &FoundDevice) {
        let Some(usb) = &found.dev.usb else { return };
        // QEMU's hubs go one deeper than an address can say; what is there is left alone.
        let Ok(port) = usb.port else { return };
        let at = Address { bus, port };
        let own = own_device(&found.dev.id).and_then(|name| name.parse::<Name>().ok());
        let kind = self.kind(&found.dev, own.as_ref(), at);
        let recorded = self.recorded.device(at).filter(|device| device.kind.word() == kind.word());
        let recorded = recorded.map(|device| device.name.clone());
        let controllers =
            |name: &Name| matches!(self.recorded.named(name), Some(Item::Controller(_)));
        let id = found.dev.id.parse().ok().filter(|name| !controllers(name));
        let name = self.free_name([own.clone(), recorded, id], kind.word());
        let device = |kind: Kind| Device { name: name.clone(), kind };
        let other = Kind::Other(Other { driver: found.dev.driver.clone() });
        let given = given(&kind);
        // What QEMU has and the model says cannot be is shown as what it is: somebody else's.
        let plugged = self.observed.hardware.plug(at, device(kind)).is_ok()
            || self.observed.hardware.plug(at, device(other)).is_ok();
        if !plugged {
            return;
        }
        if own.is_some() {
            self.observed.ours.insert(name);
        }
        if !usb.attached {
            self.observed.states.insert(at, DeviceState::Absent);
        }
        self.observed.given.extend(given.map(|given| (at, given)));
        let handle = Handle {
            id: found.dev.id.clone(),
            path: found.path.clone().unwrap_or_default(),
            bus: String::new(),
        };
        self.view.devices.insert(at, handle);
    }

    /// The first of the names that nobody else has, or `stemN` that nobody is recorded to have.
    fn free_name<const N: usize>(&self, wanted: [Option<Name>; N], stem: &str) -> Name {
        let hardware = &self.observed.hardware;
        let numbered = (0u32..)
            .filter_map(|number| format!("{stem}{number}").parse().ok())
            .filter(|name| self.recorded.named(name).is_none());
        let mut all = wanted.into_iter().flatten().chain(numbered);
        #[expect(
            clippy::expect_used,
            reason = "there are more numbers than names, and each makes a name"
        )]
        all.find(|name| hardware.named(name).is_none()).expect("an endless list ends")
    }

    /// What the device is. What cannot be seen from outside (which selector a host device was asked for by) is as recorded.
    fn kind(&self, dev: &Dev, own: Option<&Name>, at: Address) -> Kind {
        let recorded = self
            .recorded
            .device(at)
            .filter(|device| Some(&device.name) == own)
            .map(|device| &device.kind);
        let input = || {
            let high = dev.number("usb_version").is_none_or(|version| version >= 2);
            Input { usbversion: if high { UsbVersion::V2 } else { UsbVersion::V1 } }
        };
        let stream = || self.chardev(dev.property("chardev").unwrap_or_default(), recorded);
        match dev.driver.as_str() {
            "usb-tablet" => Kind::Tablet(input()),
            "usb-mouse" => Kind::Mouse(input()),
            "usb-kbd" => Kind::Keyboard(input()),
            "usb-hub" => Kind::Hub(Hub { ports: hub_ports(dev) }),
            "usb-serial" => Kind::Serial(Serial { chardev: stream() }),
            "usb-redir" => Kind::Redir(Redir { chardev: stream() }),
            "usb-audio" => Kind::Audio(audio(dev, recorded)),
            "usb-net" => Kind::Net(net(dev, recorded)),
            "usb-mtp" => Kind::Mtp(mtp(dev)),
            "usb-ccid" => Kind::Ccid,
            "usb-storage" => self.storage(dev),
            "usb-host" => host(dev, recorded),
            driver => Kind::Other(Other { driver: driver.to_owned() }),
        }
    }

    fn storage(&self, dev: &Dev) -> Kind {
        let other = || Kind::Other(Other { driver: dev.driver.clone() });
        let disks = dev.buses.iter().flat_map(|bus| &bus.devices);
        let Some(drive) =
            disks.filter_map(|disk| disk.property("drive")).find(|drive| !drive.is_empty())
        else {
            return other();
        };
        let Some(block) =
            self.details.blocks.iter().find(|block| block.names.iter().any(|name| name == drive))
        else {
            return other();
        };
        let Ok(format) = block.format.parse::<ImageFormat>() else { return other() };
        Kind::Storage(Storage { file: block.file.clone(), format, readonly: block.readonly })
    }

    /// Where a stream goes. QEMU prints what it was told, with more words where somebody is connected.
    fn chardev(&self, id: &str, recorded: Option<&Kind>) -> Chardev {
        if let Some(Kind::Serial(Serial { chardev }) | Kind::Redir(Redir { chardev })) = recorded {
            return chardev.clone();
        }
        let existing = || Chardev::Existing(id.to_owned());
        let Some(text) = self.details.chardevs.get(id) else { return existing() };
        stream(text, self.details.addresses.get(id)).unwrap_or_else(existing)
    }
}

/// Reads the `filename` of a `query-chardev` answer: `pty:/dev/pts/3`, `unix:/run/s,server=on`,
/// `disconnected:tcp:::1:4000`, `tcp:127.0.0.1:4000,server=on <-> 127.0.0.1:5234`; and for a socket its address.
fn stream(text: &str, address: Option<&Value>) -> Option<Chardev> {
    let text = text.strip_prefix("disconnected:").unwrap_or(text);
    let (here, there) =
        text.split_once(" <-> ").map_or((text, None), |(here, there)| (here, Some(there)));
    // A path may have commas of its own: only an ending that QEMU writes is an option.
    let (place, server) =
        match here.strip_suffix(",server=on").or_else(|| here.strip_suffix(",server")) {
            Some(place) => (place, true),
            None => (here, false),
        };
    if let Some(socket) = address.and_then(|address| socket(address, server)) {
        return Some(socket);
    }
    match place.split_once(':') {
        Some(("pty", _)) => Some(Chardev::Pty),
        Some(("unix", path)) if !path.is_empty() => {
            Some(Chardev::Unix { path: path.to_owned(), server })
        }
        Some(("tcp", rest)) => {
            // A client is at an address of its own; what it was told is the other end.
            let (host, port) = there.filter(|_| !server).unwrap_or(rest).rsplit_once(':')?;
            Some(Chardev::Tcp { host: bracketed(host), port: port.parse().ok()?, server })
        }
        None if place == "null" => Some(Chardev::Null),
        None if place == "spicevmc" => Some(Chardev::Spicevmc),
        _ => None,
    }
}

/// Reads a `SocketAddress`: `{"type": "inet", "host": "::1", "port": "4000"}`, `{"type": "unix", "path": "/run/s"}`.
fn socket(address: &Value, server: bool) -> Option<Chardev> {
    let text = |key: &str| address.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    match text("type")? {
        "inet" => {
            let (host, port) = (bracketed(text("host")?), text("port")?.parse().ok()?);
            Some(Chardev::Tcp { host, port, server })
        }
        "unix" => Some(Chardev::Unix { path: text("path")?.to_owned(), server }),
        _ => None,
    }
}

/// An IPv6 address in the brackets that it is written in before a port.
fn bracketed(host: &str) -> String {
    let bare = host.contains(':') && !host.starts_with('[');
    if bare { format!("[{host}]") } else { host.to_owned() }
}

fn hub_ports(dev: &Dev) -> u8 {
    dev.number("ports")
        .and_then(|ports| u8::try_from(ports).ok())
        .unwrap_or(vusb_model::device::HUB_PORTS)
}

/// What QEMU calls its own audio back end where none was named: by the name of its driver (`audio_drivers` and the modules in
/// its `audio` folder).
const DEFAULT_AUDIO: [&str; 12] = [
    "alsa",
    "coreaudio",
    "dbus",
    "dsound",
    "jack",
    "none",
    "oss",
    "pa",
    "pipewire",
    "sdl",
    "sndio",
    "spice",
];

/// The audio back end is as recorded where vusb made the device, for QEMU names its own default where none was said.
fn audio(dev: &Dev, recorded: Option<&Kind>) -> Audio {
    if let Some(Kind::Audio(audio)) = recorded {
        return audio.clone();
    }
    let named = |id: &&str| !id.is_empty() && !DEFAULT_AUDIO.contains(id);
    Audio { audiodev: dev.property("audiodev").filter(named).map(str::to_owned) }
}

fn net(dev: &Dev, recorded: Option<&Kind>) -> Net {
    let mac = dev.property("mac").and_then(|mac| mac.parse().ok());
    let backend = match (recorded, dev.property("netdev").unwrap_or_default()) {
        (Some(Kind::Net(net)), _) => net.backend.clone(),
        (_, "") => NetBackend::None,
        (_, id) if own_device(id).is_some() => NetBackend::User,
        (_, id) => NetBackend::Existing(id.to_owned()),
    };
    Net { backend, mac }
}

fn mtp(dev: &Dev) -> Mtp {
    Mtp {
        dir: dev.property("rootdir").unwrap_or_default().to_owned(),
        writable: dev.property("readonly") == Some("false"),
    }
}

/// A host device. Which selector it was asked for by is in the record alone; without one it is named by where it was.
fn host(dev: &Dev, recorded: Option<&Kind>) -> Kind {
    let at = host_address(dev);
    let selector = match (recorded, at) {
        (Some(Kind::Host(host)), _) => host.selector.clone(),
        (_, Some(at)) => Selector::Address(at),
        (_, None) => match host_ids(dev) {
            Some(id) => Selector::Id { id, serial: None },
            // Any device, or the one behind a port: which one is QEMU's secret.
            None => return Kind::Other(Other { driver: dev.driver.clone() }),
        },
    };
    Kind::Host(HostRef { at, ..HostRef::new(selector) })
}

/// Where the device was when it was given: `hostbus` and `hostaddr`, or `/dev/bus/usb/001/004`.
fn host_address(dev: &Dev) -> Option<BusAddress> {
    let numbers = || {
        let bus = u16::try_from(dev.number("hostbus")?).ok()?;
        let address = u8::try_from(dev.number("hostaddr")?).ok()?;
        Some(BusAddress { bus, address })
    };
    let node = || {
        let mut parts = dev.property("hostdevice")?.strip_prefix("/dev/bus/usb/")?.split('/');
        Some(BusAddress { bus: parts.next()?.parse().ok()?, address: parts.next()?.parse().ok()? })
    };
    let real = |at: &BusAddress| at.bus > 0 && at.address > 0;
    numbers().filter(real).or_else(|| node().filter(real))
}

/// The ids of the device that QEMU looks for by itself: `vendorid` and `productid`.
fn host_ids(dev: &Dev) -> Option<UsbId> {
    let number = |name| dev.number(name).and_then(|number| u16::try_from(number).ok());
    let id = UsbId { vendor: number("vendorid")?, product: number("productid")? };
    (id.vendor > 0 && id.product > 0).then_some(id)
}

/// For a host device, where it was when it was given.
fn given(kind: &Kind) -> Option<BusAddress> {
    match kind {
        Kind::Host(host) => host.at,
        _ => None,
    }
}
