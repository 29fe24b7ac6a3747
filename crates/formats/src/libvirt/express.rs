//! Hardware expressed as libvirt's elements.

use std::collections::BTreeMap;

use vusb_model::address::{Address, Index, PortPath};
use vusb_model::device::{
    Chardev, HUB_PORTS, HostRef, ImageFormat, Kind, Media, NetBackend, Storage,
};
use vusb_model::hardware::{Controller, Device, PciAddress};
use vusb_model::models::{Companion, ICH9_EHCI_FUNCTION, Model};
use vusb_model::name::Name;
use vusb_model::remedy::Reason;
use vusb_model::selector::{BusAddress, Selector, UsbId};

use super::address::PciBuses;
use super::controller::is_companion;
use super::device_element::HostSource;
use super::element::Element;
use super::names::{Alias, alias_of, disk_name, model_name};
use super::numbers::{UsedNumbers, decimal};
use crate::config::Inexpressible;

fn inexpressible<T>(what: impl Into<String>, why: impl Into<Reason>) -> Result<T, Inexpressible> {
    Err(Inexpressible { what: what.into(), why: why.into() })
}

/// The elements of a controller: its own, and one for each companion.
///
/// # Errors
/// libvirt cannot express the controller.
pub(super) fn controller(
    controller: &Controller,
    buses: &PciBuses,
) -> Result<Vec<Element>, Inexpressible> {
    let Some(model) = model_name(controller.model) else {
        return inexpressible(
            format!("{}, {}", controller.name, controller.model),
            "libvirt does not have this model; the fastest of its Xen models is qusb2 (xenusb2)",
        );
    };
    if is_companion(controller.model) {
        return inexpressible(
            format!("{}, a single {model}", controller.name),
            "libvirt treats it as a companion of an ich9-ehci1; piix3-uhci is an independent UHCI",
        );
    }
    if controller.index > MAX_BUS {
        return inexpressible(
            format!("the index {} of {}", controller.index, controller.name),
            format!("the highest bus of a device in libvirt's schema is {MAX_BUS}"),
        );
    }
    let master = usb(model, controller.index)
        .and(alias(&controller.name))
        .and(pci(controller.pci.as_ref(), buses));
    let master = match ports(controller) {
        Some(ports) => master.with("ports", ports),
        None => master,
    };
    let group = group_slot(controller);
    let companions = controller.companions.iter().enumerate().map(|(nth, companion)| {
        let element = usb(companion.model.model().name(), controller.index)
            .and([Element::new("master").with("startport", companion.first_port)]);
        let at =
            group.map(|pci| PciAddress { function: companion.model.function(), ..pci.clone() });
        let address = pci(at.as_ref(), buses).filter(|_| !is_repeated(controller, *companion, nth));
        // A guest looks for other functions of the slot only if function 0 has this flag.
        let first = companion.model.function() == 0;
        element.and(address.map(|at| if first { at.with("multifunction", "on") } else { at }))
    });
    Ok(std::iter::once(master).chain(companions).collect())
}

/// Whether a companion before the `nth` has the same model: two cannot share one function.
fn is_repeated(controller: &Controller, companion: Companion, nth: usize) -> bool {
    controller.companions.iter().take(nth).any(|other| other.model == companion.model)
}

fn usb(model: &str, index: Index) -> Element {
    Element::new("controller").with("type", "usb").with("index", index).with("model", model)
}

/// The controller that turns USB off.
pub(super) fn no_usb() -> Element {
    Element::new("controller").with("type", "usb").with("model", "none")
}

/// The number of ports to write: only for models where it is not fixed.
pub(super) fn ports(controller: &Controller) -> Option<u8> {
    let range = controller.model.port_range();
    (range.start() != range.end()).then(|| controller.ports.count())
}

/// The PCI slot of an ICH9 group. `None` if the EHCI does not have the function that it has in the
/// real hardware.
pub(super) fn group_slot(controller: &Controller) -> Option<&PciAddress> {
    let group = controller.model == Model::Ich9Ehci1;
    controller.pci.as_ref().filter(|pci| group && pci.function == ICH9_EHCI_FUNCTION)
}

/// A PCI address. `None` if there is none, or if libvirt has no number for the bus.
pub(super) fn pci(pci: Option<&PciAddress>, buses: &PciBuses) -> Option<Element> {
    let pci = pci?;
    let bus = buses.number(&pci.bus)?;
    let element = Element::new("address")
        .with("type", "pci")
        .with("domain", "0x0000")
        .with("bus", format!("{bus:#04x}"))
        .with("slot", format!("{:#04x}", pci.slot))
        .with("function", format!("{:#x}", pci.function));
    Some(element)
}

/// What libvirt cannot express about a controller whose model it has.
pub(super) fn controller_losses(controller: &Controller, buses: &PciBuses) -> Vec<Inexpressible> {
    let name = &controller.name;
    let mut lost = Vec::new();
    let mut lose = |what: String, why: &str| lost.push(Inexpressible { what, why: why.into() });
    if !controller.ports.are_uniform(controller.model) {
        let (usb2, usb3) = (controller.ports.usb2(), controller.ports.usb3());
        lose(
            format!("the separate USB 2 and USB 3 ports of {name} ({usb2} and {usb3})"),
            "in libvirt each port of an xHCI has a USB 2 and a USB 3 half",
        );
    }
    let (model, ports) = (controller.model, controller.ports);
    if !model.is_qemu_ports(ports) {
        let most = *model.port_range().end();
        lose(
            format!("the {} ports of {name} ({model})", ports.count()),
            &format!("libvirt's {model} has {most}"),
        );
    }
    if let Some(backend) = &controller.backend {
        lose(
            format!("the backend domain {backend} of {name}"),
            "libvirt has no backend domain for USB controllers: they carry the devices of domain 0",
        );
    }
    if controller.pci.as_ref().is_some_and(|pci| buses.number(&pci.bus).is_none()) {
        lose(
            format!("the PCI address of {name}"),
            "the bus is not one of those that libvirt numbers: it chooses an address",
        );
    }
    lost.extend(lost_name(name));
    lost
}

fn lost_name(name: &Name) -> Option<Inexpressible> {
    let why = "a libvirt alias consists of letters, digits, `-` and `_`; choose another name";
    (alias_of(name) == Alias::Impossible)
        .then(|| Inexpressible { what: format!("the name {name}"), why: why.into() })
}

fn alias(name: &Name) -> Option<Element> {
    match alias_of(name) {
        Alias::User(alias) => Some(Element::new("alias").with("name", alias)),
        Alias::Automatic | Alias::Impossible => None,
    }
}

/// A USB address.
pub(super) fn usb_address(bus: Index, port: PortPath) -> Element {
    Element::new("address").with("type", "usb").with("bus", bus).with("port", port)
}

/// Numbers for the name of a disk and for a smart card reader. A device that is neither uses none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FreeNumbers {
    pub(super) disk: u32,
    pub(super) reader: u32,
}

/// The numbers of disk names and of smart card readers, of existing and of new devices.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub(super) disks: UsedNumbers,
    pub(super) readers: UsedNumbers,
    /// The numbers in the names of new disks and readers, which no other new device gets.
    kept: BTreeMap<(&'static str, u32), Name>,
}

impl Numbers {
    /// Keeps the numbers in the automatic names of these new devices for them, if they are free.
    pub(super) fn keep<'n>(&mut self, devices: impl Iterator<Item = &'n Device>) {
        for device in devices {
            let Some((stem, number)) = automatic_number(device) else { continue };
            let numbers = if stem == CARD_READER { &mut self.readers } else { &mut self.disks };
            if numbers.insert(number) {
                self.kept.insert((stem, number), device.name.clone());
            }
        }
    }

    /// The numbers for a new device: those that are kept for it, and otherwise the lowest free
    /// ones.
    pub(super) fn take(&mut self, device: &Device) -> FreeNumbers {
        let kept = automatic_number(device).filter(|it| self.kept.get(it) == Some(&device.name));
        let mut free = FreeNumbers::default();
        if let Some(key) = kept {
            self.kept.remove(&key);
        }
        let kept = kept.map(|(_, number)| number);
        match device.kind {
            Kind::Storage(_) => {
                free.disk = kept.unwrap_or_else(|| self.disks.free(None));
                self.disks.insert(free.disk);
            }
            Kind::Ccid => {
                free.reader = kept.unwrap_or_else(|| self.readers.free(None));
                self.readers.insert(free.reader);
            }
            _ => {}
        }
        free
    }
}

/// The stem of the alias of a smart card reader.
const CARD_READER: &str = "ccid";

/// The number in the name of a disk or a smart card reader, if libvirt assigns names of this form.
fn automatic_number(device: &Device) -> Option<(&'static str, u32)> {
    let stem = match device.kind {
        Kind::Storage(_) => "usb-disk",
        Kind::Ccid => CARD_READER,
        _ => return None,
    };
    Some((stem, device.name.as_str().strip_prefix(stem).and_then(decimal)?))
}

/// The highest bus of a USB address. libvirt reads a decimal number, and its schema has up to three
/// digits (`usbAddr`). `virsh edit` refuses what the schema does not have.
pub(super) const MAX_BUS: Index = match Index::new(999) {
    Some(index) => index,
    None => Index::MAX,
};

/// Checks that a device can have an address on the controller with this index.
///
/// # Errors
/// It cannot.
pub(super) fn check_bus(index: Index, name: &Name) -> Result<(), Inexpressible> {
    if index <= MAX_BUS {
        return Ok(());
    }
    inexpressible(
        format!("the index {index} of the controller of {name}"),
        format!("the highest bus in libvirt's schema is {MAX_BUS}"),
    )
}

/// The element of a device with its address, and what it does not express.
///
/// # Errors
/// libvirt cannot express the device.
pub(super) fn device(
    address: Address,
    device: &Device,
    free: FreeNumbers,
) -> Result<(Element, Vec<Inexpressible>), Inexpressible> {
    let name = &device.name;
    check_bus(address.bus, name)?;
    let (element, lost) = match &device.kind {
        Kind::Host(host) => self::host(name, host)?,
        Kind::Storage(storage) => (self::storage(name, storage, free.disk)?, None),
        Kind::Tablet(_) => (input("tablet"), None),
        Kind::Mouse(_) => (input("mouse"), None),
        Kind::Keyboard(_) => (input("keyboard"), None),
        Kind::Hub(hub) => {
            let lost = (hub.ports != HUB_PORTS).then(|| Inexpressible {
                what: format!("the number of ports of {name} ({})", hub.ports),
                why: "libvirt's hubs have eight".into(),
            });
            (Element::new("hub").with("type", "usb"), lost)
        }
        Kind::Serial(serial) => {
            let target = Element::new("target")
                .with("type", "usb-serial")
                .and([Element::new("model").with("name", "usb-serial")]);
            (stream(name, Element::new("serial"), &serial.chardev)?.and([target]), None)
        }
        Kind::Redir(redir) => {
            let element = Element::new("redirdev").with("bus", "usb");
            (stream(name, element, &redir.chardev)?, None)
        }
        Kind::Audio(audio) => {
            let lost = audio.audiodev.as_ref().map(|id| Inexpressible {
                what: format!("the audio back end {id} of {name}"),
                why: "libvirt creates audio back ends itself: use <audio> with its id".into(),
            });
            (Element::new("sound").with("model", "usb"), lost)
        }
        Kind::Net(net) => {
            let mac = net.mac.map(|mac| Element::new("mac").with("address", mac));
            let element = Element::new("interface")
                .with("type", "user")
                .and(mac)
                .and([Element::new("model").with("type", "usb-net")]);
            let lost = (net.backend != NetBackend::User).then(|| Inexpressible {
                what: format!("the network back end {} of {name}", net.backend),
                why:
                    "libvirt creates network back ends itself: this one becomes QEMU's user network"
                        .into(),
            });
            (element, lost)
        }
        Kind::Mtp(mtp) => (self::mtp(name, &mtp.dir, mtp.writable)?, None),
        Kind::Ccid => {
            (Element::new("controller").with("type", "ccid").with("index", free.reader), None)
        }
        Kind::Other(other) => {
            return inexpressible(
                format!("{name}, {}", other.driver),
                "only QEMU's name of this device is known",
            );
        }
    };
    let element = element.and(alias(name)).and([usb_address(address.bus, address.port)]);
    if !element.is_expressible() {
        return inexpressible(
            format!("{name}, {}", device.kind),
            "XML cannot contain control characters",
        );
    }
    Ok((element, lost.into_iter().chain(lost_name(name)).collect()))
}

/// The element of a host device that is identified by `source`.
///
/// # Errors
/// libvirt cannot express it.
pub(super) fn host_device(
    at: Address,
    name: &Name,
    host: &HostRef,
    source: HostSource,
) -> Result<Element, Inexpressible> {
    // libvirt refuses the vendor 0.
    let id = source.id.filter(|id| id.vendor != 0);
    let mut children = id.map(by_id).unwrap_or_default();
    children.extend(source.address.map(by_address));
    if children.is_empty() {
        return inexpressible(
            format!("{name}, the host device {}", host.selector),
            "libvirt names a host device by vendor and product, or by bus and address, and none of them is known",
        );
    }
    if let Some(lost) = lost_name(name) {
        return Err(lost);
    }
    check_bus(at.bus, name)?;
    let address = usb_address(at.bus, at.port);
    Ok(hostdev(children).and(alias(name)).and([address]))
}

/// A mouse or tablet without an address, as libvirt's driver for Xen accepts it.
pub(super) fn pointer(device: &Device) -> Option<Element> {
    let kind = match &device.kind {
        Kind::Tablet(_) => "tablet",
        Kind::Mouse(_) => "mouse",
        _ => return None,
    };
    Some(input(kind).and(alias(&device.name)))
}

fn input(kind: &str) -> Element {
    Element::new("input").with("type", kind).with("bus", "usb")
}

fn host(name: &Name, host: &HostRef) -> Result<(Element, Option<Inexpressible>), Inexpressible> {
    let (source, lost) = match &host.selector {
        // `virDomainHostdevSubsysUSBDefParseXML` refuses the vendor 0, which cheap devices have.
        Selector::Id { id, .. } if id.vendor == 0 => {
            let address = host.bus_address.map(|at| format!(" ({at})")).unwrap_or_default();
            return inexpressible(
                format!("{name}, the host device {}", host.selector),
                format!(
                    "libvirt refuses the vendor id 0000; select the device by bus and address{address}, which change with each plug"
                ),
            );
        }
        Selector::Id { id, serial: None } => (by_id(*id), None),
        Selector::Id { id, serial: Some(serial) } => {
            let why = "libvirt 11.3 selects devices by vendor and product, or by bus and address; it refuses if several match";
            let lost = Inexpressible {
                what: format!("the serial number {serial} of {name}"),
                why: why.into(),
            };
            (by_id(*id), Some(lost))
        }
        Selector::Address(at) => (vec![by_address(*at)], None),
        Selector::Port(_) | Selector::Path(_) => {
            return inexpressible(
                format!("{name}, the host device {}", host.selector),
                "libvirt 11.3 cannot select a host device by its port: use vendor and product (0781:5581), or bus and address (003.014)",
            );
        }
        Selector::Pattern(_) => {
            return inexpressible(
                format!("{name}, the host device {}", host.selector),
                "libvirt 11.3 only selects devices by vendor and product (0781:5581), or by bus and address (003.014)",
            );
        }
    };
    Ok((hostdev(source), lost))
}

/// A host device with this content of its `source`.
fn hostdev(source: Vec<Element>) -> Element {
    Element::new("hostdev")
        .with("mode", "subsystem")
        .with("type", "usb")
        .with("managed", "yes")
        .and([Element::new("source").and(source)])
}

fn by_id(id: UsbId) -> Vec<Element> {
    let part = |name, id: u16| Element::new(name).with("id", format!("{id:#06x}"));
    vec![part("vendor", id.vendor), part("product", id.product)]
}

fn by_address(at: BusAddress) -> Element {
    Element::new("address").with("bus", at.bus).with("device", at.address)
}

/// Checks that a path is absolute: libvirt does not start guests in a particular folder.
fn absolute(name: &Name, path: &str) -> Result<(), Inexpressible> {
    if path.starts_with('/') {
        return Ok(());
    }
    inexpressible(
        format!("the relative path {path} of {name}"),
        "libvirt requires an absolute path",
    )
}

fn storage(name: &Name, storage: &Storage, disk_number: u32) -> Result<Element, Inexpressible> {
    absolute(name, &storage.file)?;
    let (kind, key) =
        if storage.file.starts_with("/dev/") { ("block", "dev") } else { ("file", "file") };
    let format = match storage.format {
        ImageFormat::Raw => "raw",
        ImageFormat::Qcow2 => "qcow2",
    };
    let disk = Element::new("disk").with("type", kind);
    let disk = match storage.media {
        Media::Disk => disk.with("device", "disk"),
        // Versions of libvirt before 11.5 refuse the model. Without the model, they make the CD
        // drive a disk.
        Media::Cdrom => disk.with("device", "cdrom").with("model", "usb-bot"),
    };
    let target = Element::new("target").with("dev", disk_name(disk_number)).with("bus", "usb");
    let target = if storage.removable { target.with("removable", "on") } else { target };
    let serial = storage.serial.as_ref().map(|serial| Element::text("serial", serial.as_str()));
    Ok(disk
        .and([
            Element::new("driver").with("name", "qemu").with("type", format),
            Element::new("source").with(key, &storage.file),
            target,
        ])
        .and(storage.readonly.then(|| Element::new("readonly")))
        .and(serial))
}

fn mtp(name: &Name, dir: &str, writable: bool) -> Result<Element, Inexpressible> {
    absolute(name, dir)?;
    // The guest sees the name that QEMU gives by default: the folder's last component
    // (`usb_mtp_realize`).
    let last =
        dir.trim_end_matches('/').rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or("/");
    Ok(Element::new("filesystem")
        .with("type", "mount")
        .with("accessmode", "passthrough")
        .and([
            Element::new("driver").with("type", "mtp"),
            Element::new("source").with("dir", dir),
            Element::new("target").with("dir", last),
        ])
        .and((!writable).then(|| Element::new("readonly"))))
}

/// Adds the character device to an element.
fn stream(name: &Name, element: Element, chardev: &Chardev) -> Result<Element, Inexpressible> {
    let mode = |server: bool| if server { "bind" } else { "connect" };
    let source = Element::new("source");
    Ok(match chardev {
        Chardev::Pty => element.with("type", "pty"),
        Chardev::Null => element.with("type", "null"),
        Chardev::Spicevmc => element.with("type", "spicevmc"),
        Chardev::File(path) => {
            absolute(name, path)?;
            element.with("type", "file").and([source.with("path", path)])
        }
        Chardev::Unix { path, server } => {
            absolute(name, path)?;
            element
                .with("type", "unix")
                .and([source.with("mode", mode(*server)).with("path", path)])
        }
        Chardev::Tcp { host, port, server } => element.with("type", "tcp").and([
            source.with("mode", mode(*server)).with("host", host).with("service", port),
            Element::new("protocol").with("type", "raw"),
        ]),
        Chardev::Existing(id) => {
            return inexpressible(
                format!("the character device {id} of {name}"),
                "libvirt creates character devices itself: specify where it leads (tcp:HOST:PORT, unix:PATH)",
            );
        }
    })
}
