//! Elements to be written, and the style of what is around them.

use std::fmt::Write;

use vusb_model::address::{Address, Index, PortPath};
use vusb_model::device::{Chardev, HostRef, ImageFormat, Kind, NetBackend, Storage};
use vusb_model::hardware::{Controller, Device, PciAddress};
use vusb_model::models::{Companion, ICH9_EHCI_FUNCTION, Model};
use vusb_model::name::Name;
use vusb_model::selector::Selector;

use super::address::PciBuses;
use super::controller::is_companion;
use super::names::{Alias, alias_of, disk_name, model_name};
use crate::config::Unsayable;

/// An element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: &'static str,
    pub(super) attributes: Vec<(&'static str, String)>,
    pub(super) content: Content,
}

/// What is in an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Other elements, or nothing.
    Elements(Vec<Element>),
    /// A text.
    Text(String),
}

/// How the text around looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// The quote around attributes' values.
    pub(super) quote: char,
    /// What an element is indented by, against the one that it is in.
    pub(super) unit: String,
    /// The end of a line; empty where all is on one line.
    pub(super) newline: &'static str,
}

impl Style {
    /// libvirt's own.
    pub(super) fn libvirt() -> Style {
        Style { quote: '\'', unit: "  ".to_owned(), newline: "\n" }
    }
}

impl Element {
    pub(super) fn new(name: &'static str) -> Element {
        Element { name, attributes: Vec::new(), content: Content::Elements(Vec::new()) }
    }

    /// An element with a text in it.
    pub(super) fn text(name: &'static str, text: impl Into<String>) -> Element {
        Element { content: Content::Text(text.into()), ..Element::new(name) }
    }

    /// The same with an attribute more.
    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Element {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// The same with an element more in it.
    pub(super) fn and(mut self, child: impl IntoIterator<Item = Element>) -> Element {
        if let Content::Elements(elements) = &mut self.content {
            elements.extend(child);
        }
        self
    }

    /// What sort of element it is: its name, and which of them for controllers, of which there are as many sorts as types.
    pub(super) fn sort(&self) -> (&'static str, Option<&str>) {
        let kind = self.attributes.iter().find(|(name, _)| *name == "type");
        let kind = kind.filter(|_| self.name == "controller").map(|(_, kind)| kind.as_str());
        (self.name, kind)
    }

    /// Writes it, without the indentation of its first line and the end of its last.
    pub(super) fn render(&self, style: &Style, indent: &str) -> String {
        let mut out = String::new();
        self.write(&mut out, style, indent);
        out
    }

    fn write(&self, out: &mut String, style: &Style, indent: &str) {
        out.push('<');
        out.push_str(self.name);
        for (name, value) in &self.attributes {
            let quote = style.quote;
            let value = escaped(value, Some(quote));
            // Writing to a String cannot fail.
            let _ = write!(out, " {name}={quote}{value}{quote}");
        }
        match &self.content {
            Content::Elements(elements) if elements.is_empty() => return out.push_str("/>"),
            Content::Elements(elements) => {
                let deeper = if style.newline.is_empty() {
                    String::new()
                } else {
                    format!("{indent}{}", style.unit)
                };
                out.push('>');
                for element in elements {
                    out.push_str(style.newline);
                    out.push_str(&deeper);
                    element.write(out, style, &deeper);
                }
                if !style.newline.is_empty() {
                    out.push_str(style.newline);
                    out.push_str(indent);
                }
            }
            Content::Text(text) => {
                out.push('>');
                out.push_str(&escaped(text, None));
            }
        }
        let _ = write!(out, "</{}>", self.name);
    }

    /// Whether XML can say all of it: it has no control characters but tab and line ends.
    pub(super) fn is_sayable(&self) -> bool {
        let good = |text: &str| text.chars().all(is_char);
        self.attributes.iter().all(|(_, value)| good(value))
            && match &self.content {
                Content::Text(text) => good(text),
                Content::Elements(elements) => elements.iter().all(Element::is_sayable),
            }
    }
}

/// What XML 1.0 calls a `Char` (its production 2).
const fn is_char(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// A text with what would be markup replaced. In an attribute also its quote, and what a reader would take for a space.
pub(super) fn escaped(text: &str, quote: Option<char>) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\r' => out.push_str("&#13;"),
            '\n' if quote.is_some() => out.push_str("&#10;"),
            '\t' if quote.is_some() => out.push_str("&#9;"),
            '\'' if quote == Some('\'') => out.push_str("&apos;"),
            '"' if quote == Some('"') => out.push_str("&quot;"),
            char => out.push(char),
        }
    }
    out
}

fn unsayable<T>(what: impl Into<String>, why: impl Into<String>) -> Result<T, Unsayable> {
    Err(Unsayable { what: what.into(), why: why.into() })
}

/// The elements of a controller: its own, and one for each companion.
///
/// # Errors
/// libvirt has no such controller.
pub(super) fn controller(
    controller: &Controller,
    buses: &PciBuses,
) -> Result<Vec<Element>, Unsayable> {
    let Some(model) = model_name(controller.model) else {
        return unsayable(
            format!("{}, {}", controller.name, controller.model),
            "libvirt does not know this model; qusb2 (xenusb2) is the fastest of Xen's that it knows",
        );
    };
    if is_companion(controller.model) {
        return unsayable(
            format!("{}, {model} alone", controller.name),
            "libvirt takes it for the companion of an ich9-ehci1; piix3-uhci is a UHCI alone",
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
        let address = pci(at.as_ref(), buses).filter(|_| !comes_again(controller, *companion, nth));
        // Only with this does a guest look for the other functions of the slot.
        let first = companion.model.function() == 0;
        element.and(address.map(|at| if first { at.with("multifunction", "on") } else { at }))
    });
    Ok(std::iter::once(master).chain(companions).collect())
}

/// Whether a companion of the same model comes before the `nth`: two cannot share one function.
fn comes_again(controller: &Controller, companion: Companion, nth: usize) -> bool {
    controller.companions.iter().take(nth).any(|other| other.model == companion.model)
}

fn usb(model: &str, index: Index) -> Element {
    Element::new("controller").with("type", "usb").with("index", index).with("model", model)
}

/// The controller that says there is no USB.
pub(super) fn no_usb() -> Element {
    Element::new("controller").with("type", "usb").with("model", "none")
}

/// How many ports a controller says that it has: where its model leaves that open.
pub(super) fn ports(controller: &Controller) -> Option<u8> {
    let range = controller.model.port_range();
    (range.start() != range.end()).then(|| controller.ports.count())
}

/// The slot that an ICH9 group has on PCI; `None` where the EHCI is not where it is in the real hardware.
pub(super) fn group_slot(controller: &Controller) -> Option<&PciAddress> {
    let group = controller.model == Model::Ich9Ehci1;
    controller.pci.as_ref().filter(|pci| group && pci.function == ICH9_EHCI_FUNCTION)
}

/// An address on PCI; `None` if libvirt has no number for the bus, or there is none.
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

/// What a controller is that libvirt cannot say, though it can say the controller.
pub(super) fn lost_of(controller: &Controller, buses: &PciBuses) -> Vec<Unsayable> {
    let name = &controller.name;
    let mut lost = Vec::new();
    let mut lose = |what: String, why: &str| lost.push(Unsayable { what, why: why.to_owned() });
    if !controller.ports.are_plain(controller.model) {
        let (usb2, usb3) = (controller.ports.usb2(), controller.ports.usb3());
        lose(
            format!("that {name} has {usb2} ports with a USB 2 half and {usb3} with a USB 3 half"),
            "libvirt gives each port of an xHCI both halves",
        );
    }
    if let Some(backend) = &controller.backend {
        lose(
            format!("that {name} carries the devices of the domain {backend}"),
            "libvirt knows no backend domain of USB controllers: they carry domain 0's devices",
        );
    }
    if controller.pci.as_ref().is_some_and(|pci| buses.number(&pci.bus).is_none()) {
        lose(
            format!("where {name} is on PCI"),
            "libvirt counts its PCI buses, and this one is none of them: it chooses a place",
        );
    }
    lost.extend(lost_name(name));
    lost
}

fn lost_name(name: &Name) -> Option<Unsayable> {
    let why = "an alias of libvirt's has letters, digits, `-` and `_` alone; take another name";
    (alias_of(name) == Alias::Impossible)
        .then(|| Unsayable { what: format!("the name {name}"), why: why.to_owned() })
}

fn alias(name: &Name) -> Option<Element> {
    match alias_of(name) {
        Alias::Own(alias) => Some(Element::new("alias").with("name", alias)),
        Alias::Automatic | Alias::Impossible => None,
    }
}

/// An address on USB.
pub(super) fn usb_address(bus: Index, port: PortPath) -> Element {
    Element::new("address").with("type", "usb").with("bus", bus).with("port", port)
}

/// The numbers of the next things that have one in the text: of disks, for their names, and of smart card readers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Free {
    pub(super) disk: u32,
    pub(super) reader: u32,
}

/// An element for a device, with its address; and what of it is not said.
///
/// # Errors
/// libvirt has no such device.
pub(super) fn device(
    address: Address,
    device: &Device,
    free: Free,
) -> Result<(Element, Vec<Unsayable>), Unsayable> {
    let name = &device.name;
    let (element, lost) = match &device.kind {
        Kind::Host(host) => self::host(name, host)?,
        Kind::Storage(storage) => (self::storage(name, storage, free.disk)?, None),
        Kind::Tablet(_) => (input("tablet"), None),
        Kind::Mouse(_) => (input("mouse"), None),
        Kind::Keyboard(_) => (input("keyboard"), None),
        Kind::Hub(hub) => {
            let lost = (hub.ports != vusb_model::device::HUB_PORTS).then(|| Unsayable {
                what: format!("that {name} has {} ports", hub.ports),
                why: "libvirt's hubs have eight".to_owned(),
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
            let lost = audio.audiodev.as_ref().map(|id| Unsayable {
                what: format!("that {name} plays to {id}"),
                why: "libvirt makes its audio back ends itself: say <audio> and its id there"
                    .to_owned(),
            });
            (Element::new("sound").with("model", "usb"), lost)
        }
        Kind::Net(net) => {
            let mac = net.mac.map(|mac| Element::new("mac").with("address", mac));
            let element = Element::new("interface")
                .with("type", "user")
                .and(mac)
                .and([Element::new("model").with("type", "usb-net")]);
            let lost = (net.backend != NetBackend::User).then(|| Unsayable {
                what: format!("that {name} is connected to {}", net.backend),
                why: "libvirt makes its network back ends itself: this one becomes QEMU's own network (user)".to_owned(),
            });
            (element, lost)
        }
        Kind::Mtp(mtp) => (self::mtp(name, &mtp.dir, mtp.writable)?, None),
        Kind::Ccid => {
            (Element::new("controller").with("type", "ccid").with("index", free.reader), None)
        }
        Kind::Other(other) => {
            return unsayable(
                format!("{name}, {}", other.driver),
                "it is not known what it is, beyond what QEMU calls it",
            );
        }
    };
    let element = element.and(alias(name)).and([usb_address(address.bus, address.port)]);
    if !element.is_sayable() {
        return unsayable(
            format!("{name}, {}", device.kind),
            "XML has no way to write a control character",
        );
    }
    Ok((element, lost.into_iter().chain(lost_name(name)).collect()))
}

fn input(kind: &str) -> Element {
    Element::new("input").with("type", kind).with("bus", "usb")
}

fn host(name: &Name, host: &HostRef) -> Result<(Element, Option<Unsayable>), Unsayable> {
    let by_id = |id: vusb_model::selector::UsbId| {
        let part = |name, id: u16| Element::new(name).with("id", format!("{id:#06x}"));
        vec![part("vendor", id.vendor), part("product", id.product)]
    };
    let (source, lost) = match &host.selector {
        Selector::Id { id, serial: None } => (by_id(*id), None),
        Selector::Id { id, serial: Some(serial) } => {
            let why = "libvirt 11.3 tells devices apart by vendor and product, or by bus and address: where two are alike it refuses";
            let lost = Unsayable {
                what: format!("that {name} has the serial number {serial}"),
                why: why.to_owned(),
            };
            (by_id(*id), Some(lost))
        }
        Selector::Address(at) => {
            (vec![Element::new("address").with("bus", at.bus).with("device", at.address)], None)
        }
        Selector::Port(_) | Selector::Path(_) => {
            return unsayable(
                format!("{name}, the host device {}", host.selector),
                "libvirt 11.3 does not know where a host device is plugged in: name it by vendor and product (0781:5581), or by bus and address (003.014)",
            );
        }
    };
    let element = Element::new("hostdev")
        .with("mode", "subsystem")
        .with("type", "usb")
        .with("managed", "yes")
        .and([Element::new("source").and(source)]);
    Ok((element, lost))
}

/// libvirt starts a guest from nowhere in particular, so its paths begin at the root.
fn whole_path(name: &Name, path: &str) -> Result<(), Unsayable> {
    if path.starts_with('/') {
        return Ok(());
    }
    unsayable(format!("{name}, whose file is {path}"), "libvirt wants the whole path, from / on")
}

fn storage(name: &Name, storage: &Storage, disk: u32) -> Result<Element, Unsayable> {
    whole_path(name, &storage.file)?;
    let (kind, key) =
        if storage.file.starts_with("/dev/") { ("block", "dev") } else { ("file", "file") };
    let format = match storage.format {
        ImageFormat::Raw => "raw",
        ImageFormat::Qcow2 => "qcow2",
    };
    Ok(Element::new("disk")
        .with("type", kind)
        .with("device", "disk")
        .and([
            Element::new("driver").with("name", "qemu").with("type", format),
            Element::new("source").with(key, &storage.file),
            Element::new("target").with("dev", disk_name(disk)).with("bus", "usb"),
        ])
        .and(storage.readonly.then(|| Element::new("readonly"))))
}

fn mtp(name: &Name, dir: &str, writable: bool) -> Result<Element, Unsayable> {
    whole_path(name, dir)?;
    // What the guest sees it called is what QEMU would call it: the folder's own name (`usb_mtp_realize`).
    let own =
        dir.trim_end_matches('/').rsplit('/').next().filter(|own| !own.is_empty()).unwrap_or("/");
    Ok(Element::new("filesystem")
        .with("type", "mount")
        .with("accessmode", "passthrough")
        .and([
            Element::new("driver").with("type", "mtp"),
            Element::new("source").with("dir", dir),
            Element::new("target").with("dir", own),
        ])
        .and((!writable).then(|| Element::new("readonly"))))
}

/// The element with the other end of its stream.
fn stream(name: &Name, element: Element, chardev: &Chardev) -> Result<Element, Unsayable> {
    let mode = |server: bool| if server { "bind" } else { "connect" };
    let source = Element::new("source");
    Ok(match chardev {
        Chardev::Pty => element.with("type", "pty"),
        Chardev::Null => element.with("type", "null"),
        Chardev::Spicevmc => element.with("type", "spicevmc"),
        Chardev::File(path) => {
            whole_path(name, path)?;
            element.with("type", "file").and([source.with("path", path)])
        }
        Chardev::Unix { path, server } => {
            whole_path(name, path)?;
            element
                .with("type", "unix")
                .and([source.with("mode", mode(*server)).with("path", path)])
        }
        Chardev::Tcp { host, port, server } => element.with("type", "tcp").and([
            source.with("mode", mode(*server)).with("host", host).with("service", port),
            Element::new("protocol").with("type", "raw"),
        ]),
        Chardev::Existing(id) => {
            return unsayable(
                format!("{name}, whose stream is {id}"),
                "libvirt makes its streams itself and knows none by an id: say where it goes (tcp:HOST:PORT, unix:PATH)",
            );
        }
    })
}
