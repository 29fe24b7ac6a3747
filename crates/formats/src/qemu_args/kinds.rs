//! The model's kinds of the USB devices of a command line.

use std::collections::BTreeMap;

use vusb_model::device::{
    Audio, Chardev, HostRef, Input, Kind, Media, Mtp, Net, NetBackend, Other, Redir, Serial,
    Storage,
};
use vusb_model::models::{Model, UsbVersion};
use vusb_model::naming::from_qemu;
use vusb_model::selector::{Pattern, Selector};

use super::device::{Properties, number};

/// The back ends of the command line, by their ids.
#[derive(Debug, Default)]
pub(crate) struct BackEnds {
    /// `-drive` and `-blockdev`.
    pub(crate) blocks: BTreeMap<String, Properties>,
    /// `-chardev`.
    pub(crate) chardevs: BTreeMap<String, Properties>,
    /// `-netdev`.
    pub(crate) netdevs: BTreeMap<String, Properties>,
}

/// The drivers of controllers that cannot be requested, with their models.
const CONTROLLERS: [(&str, Model); 5] = [
    ("ich9-usb-ehci2", Model::Ich9Ehci2),
    ("ich9-usb-uhci4", Model::Ich9Uhci4),
    ("ich9-usb-uhci5", Model::Ich9Uhci5),
    ("ich9-usb-uhci6", Model::Ich9Uhci6),
    ("sysbus-xhci", Model::SysbusXhci),
];

/// The model of a controller; `None` if the driver is not that of a controller.
pub(crate) fn controller(driver: &str) -> Option<Model> {
    let other = || CONTROLLERS.iter().find(|(name, _)| *name == driver).map(|(_, model)| *model);
    from_qemu(driver).or_else(other)
}

/// Whether a driver is that of a USB device.
pub(crate) fn is_device(driver: &str) -> bool {
    let others = ["u2f-passthru", "u2f-emulated", "canokey"];
    (driver.starts_with("usb-") && controller(driver).is_none()) || others.contains(&driver)
}

/// The driver of a device that `-usbdevice` adds; `None` if it is not known.
pub(crate) fn of_usbdevice(name: &str) -> Option<&'static str> {
    Some(match name.split(':').next()? {
        "tablet" => "usb-tablet",
        "mouse" => "usb-mouse",
        "keyboard" => "usb-kbd",
        "wacom-tablet" => "usb-wacom-tablet",
        "braille" => "usb-braille",
        "ccid" => "usb-ccid",
        _ => return None,
    })
}

/// The kind of a device. It is [`Kind::Other`] if [`Kind`] has no variant for the device or for its
/// back end, or if the back end is missing.
pub(crate) fn kind(device: &Properties, back_ends: &BackEnds) -> Kind {
    let other = || Kind::Other(Other { driver: device.driver().to_owned() });
    let input = || {
        let high = device.number("usb_version").is_none_or(|version| version >= 2);
        Input { usbversion: if high { UsbVersion::V2 } else { UsbVersion::V1 } }
    };
    let known = match device.driver() {
        "usb-tablet" => Some(Kind::Tablet(input())),
        "usb-mouse" => Some(Kind::Mouse(input())),
        "usb-kbd" => Some(Kind::Keyboard(input())),
        "usb-hub" => match device.number("ports") {
            Some(ports) => format!("hub:ports={ports}").parse().ok(),
            None => "hub".parse().ok(),
        },
        "usb-storage" => storage(device, back_ends),
        "usb-serial" => stream(device, back_ends).map(|chardev| Kind::Serial(Serial { chardev })),
        "usb-redir" => stream(device, back_ends).map(|chardev| Kind::Redir(Redir { chardev })),
        "usb-host" => Some(Kind::Host(HostRef::new(selector(device)))),
        "usb-net" => Some(net(device, back_ends)),
        "usb-audio" => {
            Some(Kind::Audio(Audio { audiodev: device.get("audiodev").map(str::to_owned) }))
        }
        "usb-mtp" => device.get("rootdir").filter(|it| !it.is_empty()).map(|root| {
            let writable = device.flag("readonly") == Some(false);
            Kind::Mtp(Mtp { dir: root.to_owned(), writable })
        }),
        "usb-ccid" => Some(Kind::Ccid),
        _ => None,
    };
    known.unwrap_or_else(other)
}

/// A disk or CD drive whose image is on the command line.
fn storage(device: &Properties, back_ends: &BackEnds) -> Option<Kind> {
    let block = back_ends.blocks.get(device.get("drive")?)?;
    // A format node contains the node of its file, or refers to it.
    let inner = block.get("file").and_then(|node| back_ends.blocks.get(node));
    let file = |it: &Properties| {
        let names = ["file.filename", "filename", "file"];
        names.into_iter().find_map(|key| it.get(key)).map(str::to_owned)
    };
    let path = inner.and_then(file).or_else(|| file(block))?;
    let format = block.get("format").or_else(|| block.get("driver"));
    let format = format.filter(|it| !matches!(*it, "file" | "host_device")).unwrap_or("raw");
    let is_cdrom = block.get("media") == Some("cdrom");
    // Not parsed from the text form, in which a comma of the path would begin an option.
    let disk = Storage {
        readonly: ["readonly", "read-only"].into_iter().any(|key| block.flag(key) == Some(true)),
        serial: match device.get("serial").filter(|serial| !serial.is_empty()) {
            Some(serial) => Some(serial.parse().ok()?),
            None => None,
        },
        removable: device.flag("removable") == Some(true),
        ..Storage::new(path, format.parse().ok()?)
    };
    Some(Kind::Storage(disk.with_media(if is_cdrom { Media::Cdrom } else { Media::Disk })))
}

/// The character device of a device.
fn stream(device: &Properties, back_ends: &BackEnds) -> Option<Chardev> {
    let id = device.get("chardev")?;
    let known = back_ends.chardevs.get(id).and_then(chardev);
    Some(known.unwrap_or_else(|| Chardev::Existing(id.to_owned())))
}

fn chardev(it: &Properties) -> Option<Chardev> {
    let server = it.flag("server") == Some(true);
    Some(match it.get("backend")? {
        "pty" => Chardev::Pty,
        "null" => Chardev::Null,
        "spicevmc" => Chardev::Spicevmc,
        "file" => Chardev::File(it.get("path")?.to_owned()),
        "socket" => match it.get("path") {
            Some(path) => Chardev::Unix { path: path.to_owned(), server },
            None => Chardev::Tcp {
                host: it.get("host").unwrap_or("localhost").to_owned(),
                port: it.get("port")?.parse().ok()?,
                server,
            },
        },
        _ => return None,
    })
}

fn net(device: &Properties, back_ends: &BackEnds) -> Kind {
    let backend = match device.get("netdev") {
        None => NetBackend::None,
        Some(id) => {
            let is_user = |it: &Properties| it.get("type") == Some("user");
            let user = back_ends.netdevs.get(id).is_some_and(is_user);
            if user { NetBackend::User } else { NetBackend::Existing(id.to_owned()) }
        }
    };
    let mac = device.get("mac").and_then(|mac| mac.parse().ok());
    Kind::Net(Net { backend, mac })
}

/// The selector of a host device: its conditions, in the forms that the model has for them.
pub(super) fn selector(device: &Properties) -> Selector {
    if let Some(node) = device.get("hostdevice").and_then(|it| it.parse().ok()) {
        return node;
    }
    let mut pattern = Pattern::default();
    for key in ["hostbus", "hostaddr", "hostport", "vendorid", "productid"] {
        let Some(value) = device.get(key) else { continue };
        let value = match key {
            "hostport" => value.to_owned(),
            // 0 matches every device.
            _ if number(value) == Some(0) => continue,
            "vendorid" | "productid" => match number(value) {
                Some(id) => format!("{id:#06x}"),
                None => continue,
            },
            _ => value.to_owned(),
        };
        if let Some(with) = pattern.clone().with(key, &value) {
            pattern = with;
        }
    }
    pattern.selector()
}
