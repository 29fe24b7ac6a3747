//! Character devices: the back ends of `<serial>` and `<redirdev>`.

use vusb_model::device::{Chardev, Kind, Serial};

use super::UsbDevice;
use crate::config::Property;
use crate::libvirt::numbers::decimal;
use crate::libvirt::xml::{Node, attr, child};

pub(super) fn serial<'d>(node: Node<'d>, number: usize) -> Option<UsbDevice<'d>> {
    let target =
        child(node, "target").filter(|target| target.attribute("type") == Some("usb-serial"))?;
    let alias = format!("serial{number}");
    let device = match chardev(node) {
        Ok(chardev) => UsbDevice::new(Kind::Serial(Serial { chardev }), alias),
        Err(why) => UsbDevice::other("usb-serial", why, alias),
    };
    let device = device.at(attr(node, "type").or_else(|| attr(target, "type")));
    Some(with_options(device, node))
}

/// Adds the options of a character device that the model does not have.
pub(super) fn with_options<'d>(device: UsbDevice<'d>, node: Node<'d>) -> UsbDevice<'d> {
    let source = child(node, "source");
    let text = |text: &str| Property::Text(text.to_owned());
    let word = |word: &str| matches!(word, "on" | "off").then(|| text(word));
    let reconnect = source.and_then(|source| child(source, "reconnect"));
    let reconnect = reconnect.filter(|it| it.attribute("enabled") == Some("yes"));
    let timeout = reconnect.and_then(|it| it.attribute("timeout")).and_then(decimal::<u32>);
    let log = child(node, "log");
    let append = source.and_then(|source| source.attribute("append"));
    let mut device = device
        .with("chardev.reconnect", timeout.map(|seconds| text(&seconds.to_string())))
        .with("chardev.append", append.and_then(word))
        .with("chardev.logfile", log.and_then(|log| log.attribute("file")).map(text))
        .with("chardev.logappend", log.and_then(|log| log.attribute("append")).and_then(word));
    let channel = source.filter(|source| source.attribute("channel").is_some());
    device.unsupported.extend(channel.map(|it| (it, "channel".to_owned())));
    device
}

/// Reads the character device, or returns the reason why the model cannot represent it.
pub(super) fn chardev(node: Node<'_>) -> Result<Chardev, String> {
    let kind = node.attribute("type").unwrap_or("pty");
    let source = child(node, "source");
    let required = |name: &str| {
        let text = source.and_then(|source| source.attribute(name)).filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| format!("its {kind} back end has no {name}"))
    };
    let server = || required("mode").is_ok_and(|mode| mode == "bind");
    let encrypted = source.is_some_and(|source| source.attribute("tls") == Some("yes"));
    let protocol = child(node, "protocol").and_then(|protocol| protocol.attribute("type"));
    match kind {
        "pty" => Ok(Chardev::Pty),
        "null" => Ok(Chardev::Null),
        "spicevmc" => Ok(Chardev::Spicevmc),
        "file" => Ok(Chardev::File(required("path")?)),
        "unix" => Ok(Chardev::Unix { path: required("path")?, server: server() }),
        "tcp" if encrypted => Err("its back end uses TLS".to_owned()),
        "tcp" => match protocol {
            None | Some("raw") => {
                let service = required("service")?;
                let port = decimal(&service).filter(|port| *port > 0);
                let port =
                    port.ok_or_else(|| format!("its service {service} is not a port number"))?;
                Ok(Chardev::Tcp { host: required("host")?, port, server: server() })
            }
            Some(protocol) => Err(format!("its protocol is {protocol}")),
        },
        other => Err(format!("its back end has the type {other}")),
    }
}
