//! Inputs, hubs, network cards, folders and smart card readers.

use vusb_model::device::{Hub, Input, Kind, Mac, Mtp, Net, NetBackend};
use vusb_model::models::UsbVersion;

use super::{InputBus, UsbDevice, bootindex};
use crate::config::Property;
use crate::error::Problem;
use crate::libvirt::numbers::{UsedNumbers, decimal};
use crate::libvirt::xml::{Node, attr, child, is};

/// `<input>`. libvirt does not set QEMU's `usb_version`, whose default is 2.
pub(super) fn input<'d>(
    node: Node<'d>,
    number: usize,
    default: InputBus,
) -> Result<Option<UsbDevice<'d>>, Problem> {
    let kind = attr(node, "type");
    let word = kind.as_ref().map_or("", |kind| kind.value);
    let on_usb = match node.attribute("bus") {
        Some(bus) => bus == "usb",
        None => match word {
            "tablet" => default != InputBus::Other,
            "mouse" | "keyboard" => default == InputBus::Usb,
            _ => false,
        },
    };
    if !on_usb {
        return Ok(None);
    }
    let input = Input { usbversion: UsbVersion::V2 };
    let alias = format!("input{number}");
    let device = match word {
        "tablet" => UsbDevice::new(Kind::Tablet(input), alias),
        "mouse" => UsbDevice::new(Kind::Mouse(input), alias),
        "keyboard" => UsbDevice::new(Kind::Keyboard(input), alias),
        _ => {
            let at = kind.map_or(node.range(), |kind| kind.span);
            let what = "a USB input is a tablet, a mouse or a keyboard";
            return Err(Problem::new(at, what));
        }
    };
    Ok(Some(device.at(kind)))
}

/// `<hub>`.
pub(super) fn hub<'d>(node: Node<'d>, number: usize) -> Result<Option<UsbDevice<'d>>, Problem> {
    match attr(node, "type") {
        Some(kind) if kind.value == "usb" => Ok(Some(
            UsbDevice::new(Kind::Hub(Hub::default()), format!("hub{number}")).at(Some(kind)),
        )),
        Some(kind) => Err(kind
            .problem(format!("`{}` is not a type of hub: the only type is usb", kind.excerpt()))),
        None => {
            Err(Problem::new(node.range(), "the hub has no type").help("write <hub type='usb'/>"))
        }
    }
}

/// `<interface>`. libvirt creates the back end, which QEMU knows as `hostnetN`, except for QEMU's
/// user network.
pub(super) fn net<'d>(node: Node<'d>, number: usize) -> Result<Option<UsbDevice<'d>>, Problem> {
    let model = child(node, "model").and_then(|model| attr(model, "type"));
    let Some(model) = model.filter(|model| model.value == "usb-net") else {
        return Ok(None);
    };
    let mac = child(node, "mac").and_then(|mac| attr(mac, "address"));
    let mac: Option<Mac> = mac
        .map(|text| text.value.parse().map_err(|error| text.problem(format!("{error}"))))
        .transpose()?;
    let alias = format!("net{number}");
    let kind = node.attribute("type").unwrap_or("user");
    let (backend, remark) = match kind {
        "user" => (NetBackend::User, None),
        kind => {
            let what = format!("back end host{alias}, which libvirt creates for the type {kind}");
            (NetBackend::Existing(format!("host{alias}")), Some(what))
        }
    };
    let mut device = UsbDevice::new(Kind::Net(Net { backend, mac }), alias).at(Some(model));
    device.remarks.extend(remark);
    Ok(Some(device.with("bootindex", bootindex(node)?)))
}

/// `<filesystem>` with the driver mtp. The guest sees the name in its `<target dir=...>`.
pub(super) fn mtp<'d>(node: Node<'d>, number: usize) -> Result<Option<UsbDevice<'d>>, Problem> {
    if child(node, "driver").and_then(|driver| driver.attribute("type")) != Some("mtp") {
        return Ok(None);
    }
    let dir = child(node, "source").and_then(|source| attr(source, "dir"));
    let Some(dir) = dir.filter(|dir| !dir.value.is_empty()) else {
        return Err(Problem::new(node.range(), "the folder to share is missing")
            .help("add <source dir='/srv/photos'/>"));
    };
    let mtp = Mtp { dir: dir.value.to_owned(), writable: child(node, "readonly").is_none() };
    let name = child(node, "target").and_then(|target| target.attribute("dir"));
    let last = dir.value.rsplit('/').find(|part| !part.is_empty());
    let device = UsbDevice::new(Kind::Mtp(mtp), format!("fs{number}")).at(Some(dir));
    let mut device = device.with("desc", name.map(|name| Property::Text(name.to_owned())));
    // Without a name, the guest sees the last part of the folder.
    let other = name.filter(|name| Some(*name) != last);
    device.settings.extend(other.map(|name| format!("the name {name} for the guest")));
    Ok(Some(device))
}

/// The indexes of smart card readers.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// Those of the elements so far.
    seen: UsedNumbers,
    /// Those that any element has.
    taken: UsedNumbers,
}

impl Readers {
    /// The indexes that `devices` name. libvirt gives the others to elements without one.
    pub(super) fn of<'d>(devices: impl Iterator<Item = Node<'d>>) -> Readers {
        let mut readers = Readers::default();
        let readers_of = devices.filter(|it| is(*it, "controller") && is_ccid(*it));
        for index in readers_of.filter_map(|it| decimal(it.attribute("index")?)) {
            readers.taken.insert(index);
        }
        readers
    }

    /// Adds a reader without an element. Returns whether its index was free.
    pub(super) fn insert(&mut self, index: u32) -> bool {
        self.taken.insert(index);
        self.seen.insert(index)
    }
}

fn is_ccid(controller: Node<'_>) -> bool {
    controller.attribute("type") == Some("ccid")
}

/// `<controller type='ccid'>`: a reader for smart cards.
pub(super) fn ccid<'d>(
    node: Node<'d>,
    readers: &mut Readers,
) -> Result<Option<UsbDevice<'d>>, Problem> {
    let Some(kind) = attr(node, "type").filter(|_| is_ccid(node)) else {
        return Ok(None);
    };
    let number = match attr(node, "index") {
        None => readers.taken.free(None),
        Some(text) => decimal::<u32>(text.value).ok_or_else(|| {
            text.problem(format!("`{}` is not an index: write a decimal number", text.excerpt()))
        })?,
    };
    if !readers.insert(number) {
        let at = attr(node, "index").map_or(node.range(), |index| index.span);
        return Err(Problem::new(at, format!("another reader has the index {number}")));
    }
    Ok(Some(UsbDevice::new(Kind::Ccid, format!("ccid{number}")).at(Some(kind))))
}

/// The index of the reader that a `<smartcard>` is in. Without an address libvirt puts it into
/// reader 0.
pub(super) fn reader_of(smartcard: Node<'_>) -> u32 {
    let address =
        child(smartcard, "address").filter(|address| address.attribute("type") == Some("ccid"));
    address.and_then(|address| address.attribute("controller")).and_then(decimal).unwrap_or(0)
}
