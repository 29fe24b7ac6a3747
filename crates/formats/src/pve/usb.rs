//! The value of `usbN`: `host=0781:5581,usb3=1`, `host=1-4.2`, `spice`, `mapping=zigbee`.

use vusb_model::device::{Chardev, Kind, Redir};
use vusb_model::selector::{Selector, UsbId};

/// The device at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Device {
    /// A host device, by vendor and product or by bus and port.
    Host(Selector),
    /// A redirection over SPICE.
    Spice,
    /// The host device that a mapping of the cluster names, by the mapping's ID.
    Mapping(String),
}

/// A value of `usbN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usb {
    pub(super) device: Device,
    pub(super) usb3: bool,
}

/// Reads a value.
///
/// # Errors
/// Proxmox VE does not accept it. The text says why; its subject is the key: "has host twice".
pub(super) fn read(value: &str) -> Result<Usb, String> {
    let (mut host, mut mapping, mut usb3) = (None, None, None);
    for item in value.split(',').filter(|it| !it.is_empty()) {
        // The first key of the format may be left out.
        let (key, value) = item.split_once('=').unwrap_or(("host", item));
        let slot = match key {
            "host" => &mut host,
            "mapping" => &mut mapping,
            "usb3" => &mut usb3,
            _ => return Err(format!("has no option {}", short(key))),
        };
        if slot.replace(value).is_some() {
            return Err(format!("has {key} twice"));
        }
    }
    let usb3 = match usb3.map(str::to_ascii_lowercase).as_deref() {
        None | Some("0" | "no" | "off" | "false") => false,
        Some("1" | "yes" | "on" | "true") => true,
        Some(other) => return Err(format!("has usb3={}, which is neither 0 nor 1", short(other))),
    };
    let device = match (host, mapping) {
        (Some(host), None) => read_host(host)?,
        (None, Some(id)) if is_mapping(id) => Device::Mapping(id.to_owned()),
        (None, Some(id)) => return Err(format!("has the invalid mapping {}", short(id))),
        (Some(_), Some(_)) => return Err("has both host and mapping".to_owned()),
        (None, None) => return Err("names no device".to_owned()),
    };
    Ok(Usb { device, usb3 })
}

fn read_host(host: &str) -> Result<Device, String> {
    if host == "spice" {
        return Ok(Device::Spice);
    }
    if host.eq_ignore_ascii_case("spice") {
        // Hot plug accepts this spelling, but the guest does not start with it.
        return Err("has to be `spice` in lower case: a guest with this does not start".to_owned());
    }
    let plain = |id: &str| id.strip_prefix("0x").unwrap_or(id).to_ascii_lowercase();
    let id = host
        .split_once(':')
        .map(|(vendor, product)| format!("{}:{}", plain(vendor), plain(product)).parse::<UsbId>());
    let selector = match id {
        Some(id) => id.ok().map(|id| Selector::Id { id, serial: None }),
        None => host.parse().ok().map(Selector::Port),
    };
    let why = || {
        format!("names {}: a device is VENDOR:PRODUCT (0781:5581) or BUS-PORT (1-4.2)", short(host))
    };
    selector.map(Device::Host).ok_or_else(why)
}

/// Whether a text is the ID of a mapping: a letter, then at least one letter, digit, `_` or `-`.
fn is_mapping(id: &str) -> bool {
    id.len() > 1
        && id.starts_with(|it: char| it.is_ascii_alphabetic())
        && id.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-".contains(&it))
}

/// The value of `usbN` for a device. `None` if Proxmox VE cannot name it.
pub fn host_value(kind: &Kind) -> Option<String> {
    match kind {
        Kind::Host(host) => match &host.selector {
            Selector::Id { id, serial: None } => Some(format!("host={id}")),
            Selector::Port(port) => Some(format!("host={port}")),
            _ => None,
        },
        Kind::Redir(Redir { chardev: Chardev::Spicevmc }) => Some("spice".to_owned()),
        _ => None,
    }
}

/// A text from a file, cut for a message.
fn short(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    format!("`{shown}`")
}
