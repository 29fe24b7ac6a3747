//! Inputs, hubs, network and sound cards, folders and smart card readers.

use vusb_model::device::{Audio, Hub, Input, Kind, Mac, Mtp, Net, NetBackend};
use vusb_model::models::UsbVersion;

use super::{Plug, bootindex, flag};
use crate::config::Property;
use crate::error::Problem;
use crate::libvirt::numbers::{Taken, decimal};
use crate::libvirt::xml::{Node, attr, child};

/// `<input>`. libvirt leaves QEMU's `usb_version` alone, and QEMU's own default is 2.
pub(super) fn input(node: Node<'_>, number: usize, ps2: bool) -> Result<Option<Plug>, Problem> {
    let kind = attr(node, "type");
    let word = kind.as_ref().map_or("", |kind| kind.value);
    let on_usb = match node.attribute("bus") {
        Some(bus) => bus == "usb",
        None => match word {
            "tablet" => true,
            "mouse" | "keyboard" => !ps2,
            _ => false,
        },
    };
    if !on_usb {
        return Ok(None);
    }
    let input = Input { usbversion: UsbVersion::V2 };
    let alias = format!("input{number}");
    let plug = match word {
        "tablet" => Plug::new(Kind::Tablet(input), alias),
        "mouse" => Plug::new(Kind::Mouse(input), alias),
        "keyboard" => Plug::new(Kind::Keyboard(input), alias),
        _ => {
            let at = kind.map_or(node.range(), |kind| kind.span);
            let what = "an input on USB is a tablet, a mouse or a keyboard";
            return Err(Problem::new(at, what));
        }
    };
    Ok(Some(plug.at(kind)))
}

/// `<hub>`.
pub(super) fn hub(node: Node<'_>, number: usize) -> Result<Option<Plug>, Problem> {
    match attr(node, "type") {
        Some(kind) if kind.value == "usb" => {
            Ok(Some(Plug::new(Kind::Hub(Hub::default()), format!("hub{number}")).at(Some(kind))))
        }
        Some(kind) => {
            Err(kind.refuse(format!("`{}` is no type of hub: the only one is usb", kind.short())))
        }
        None => {
            Err(Problem::new(node.range(), "this hub has no type").help("write <hub type='usb'/>"))
        }
    }
}

/// `<interface>`. Its back end is libvirt's to make, but for QEMU's own network: QEMU knows it as `hostnetN`.
pub(super) fn net(node: Node<'_>, number: usize) -> Result<Option<Plug>, Problem> {
    let model = child(node, "model").and_then(|model| attr(model, "type"));
    let Some(model) = model.filter(|model| model.value == "usb-net") else {
        return Ok(None);
    };
    let mac = child(node, "mac").and_then(|mac| attr(mac, "address"));
    let mac: Option<Mac> = mac
        .map(|text| text.value.parse().map_err(|error| text.refuse(format!("{error}"))))
        .transpose()?;
    let alias = format!("net{number}");
    let kind = node.attribute("type").unwrap_or("user");
    let (backend, remark) = match kind {
        "user" => (NetBackend::User, None),
        kind => {
            let what = format!("host{alias}, which libvirt makes of the {kind} it is connected to");
            (NetBackend::Existing(format!("host{alias}")), Some(what))
        }
    };
    let mut plug = Plug::new(Kind::Net(Net { backend, mac }), alias).at(Some(model));
    plug.remarks.extend(remark);
    Ok(Some(plug.with("bootindex", bootindex(node)?)))
}

/// `<sound>`. Its `<audio id='N'>` is what QEMU knows as `audioN`.
pub(super) fn sound(node: Node<'_>, number: usize) -> Result<Option<Plug>, Problem> {
    let model = attr(node, "model").filter(|model| model.value == "usb");
    let Some(model) = model else {
        return Ok(None);
    };
    let audio =
        child(node, "audio").and_then(|audio| audio.attribute("id")).and_then(decimal::<u32>);
    let audiodev = audio.map(|id| format!("audio{id}"));
    let multi = attr(node, "multichannel").map(|text| flag(&text, ["yes", "no"])).transpose()?;
    let plug = Plug::new(Kind::Audio(Audio { audiodev }), format!("sound{number}"));
    Ok(Some(plug.at(Some(model)).with("multi", multi.map(Property::Flag))))
}

/// `<filesystem>` of the driver mtp. What it is called for the guest is its `<target dir=...>`.
pub(super) fn mtp(node: Node<'_>, number: usize) -> Result<Option<Plug>, Problem> {
    if child(node, "driver").and_then(|driver| driver.attribute("type")) != Some("mtp") {
        return Ok(None);
    }
    let dir = child(node, "source").and_then(|source| attr(source, "dir"));
    let Some(dir) = dir.filter(|dir| !dir.value.is_empty()) else {
        return Err(Problem::new(node.range(), "this shows no folder")
            .help("add <source dir='/srv/photos'/>"));
    };
    let mtp = Mtp { dir: dir.value.to_owned(), writable: child(node, "readonly").is_none() };
    let shown = child(node, "target").and_then(|target| target.attribute("dir"));
    let plug = Plug::new(Kind::Mtp(mtp), format!("fs{number}")).at(Some(dir));
    Ok(Some(plug.with("desc", shown.map(|name| Property::Text(name.to_owned())))))
}

/// `<controller type='ccid'>`: the reader that smart cards are in. `taken` are the indexes of those before it.
pub(super) fn ccid(node: Node<'_>, taken: &mut Taken) -> Result<Option<Plug>, Problem> {
    let Some(kind) = attr(node, "type").filter(|kind| kind.value == "ccid") else {
        return Ok(None);
    };
    let number = match attr(node, "index") {
        None => taken.free(None),
        Some(text) => decimal::<u32>(text.value).ok_or_else(|| {
            text.refuse(format!("`{}` is no index: it is a decimal number", text.short()))
        })?,
    };
    if !taken.take(number) {
        let at = attr(node, "index").map_or(node.range(), |index| index.span);
        return Err(Problem::new(at, format!("there is another reader with the index {number}")));
    }
    Ok(Some(Plug::new(Kind::Ccid, format!("ccid{number}")).at(Some(kind))))
}

/// The index of the reader that a `<smartcard>` is in: the one of its address, or libvirt puts it into the first.
pub(super) fn reader_of(smartcard: Node<'_>) -> u32 {
    let address =
        child(smartcard, "address").filter(|address| address.attribute("type") == Some("ccid"));
    address.and_then(|address| address.attribute("controller")).and_then(decimal).unwrap_or(0)
}
