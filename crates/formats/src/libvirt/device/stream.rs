//! Streams of bytes: what is behind `<serial>` and `<redirdev>`.

use vusb_model::device::{Chardev, Kind, Serial};

use super::Plug;
use crate::libvirt::numbers::decimal;
use crate::libvirt::xml::{Node, attr, child};

pub(super) fn serial(node: Node<'_>, number: usize) -> Option<Plug> {
    let target =
        child(node, "target").filter(|target| target.attribute("type") == Some("usb-serial"))?;
    let alias = format!("serial{number}");
    let plug = match chardev(node) {
        Ok(chardev) => Plug::new(Kind::Serial(Serial { chardev }), alias),
        Err(why) => Plug::other("usb-serial", why, alias),
    };
    Some(plug.at(attr(node, "type").or_else(|| attr(target, "type"))))
}

/// The other end of a stream; or why it is none that is known here.
pub(super) fn chardev(node: Node<'_>) -> Result<Chardev, String> {
    let kind = node.attribute("type").unwrap_or("pty");
    let source = child(node, "source");
    let said = |name: &str| {
        let text = source.and_then(|source| source.attribute(name)).filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| format!("its {kind} stream has no {name}"))
    };
    let server = || said("mode").is_ok_and(|mode| mode == "bind");
    let secret = source.is_some_and(|source| source.attribute("tls") == Some("yes"));
    let protocol = child(node, "protocol").and_then(|protocol| protocol.attribute("type"));
    match kind {
        "pty" => Ok(Chardev::Pty),
        "null" => Ok(Chardev::Null),
        "spicevmc" => Ok(Chardev::Spicevmc),
        "file" => Ok(Chardev::File(said("path")?)),
        "unix" => Ok(Chardev::Unix { path: said("path")?, server: server() }),
        "tcp" if secret => Err("its stream is encrypted".to_owned()),
        "tcp" => match protocol {
            None | Some("raw") => {
                let service = said("service")?;
                let port = decimal(&service).filter(|port| *port > 0);
                let port =
                    port.ok_or_else(|| format!("its stream goes to the service {service}"))?;
                Ok(Chardev::Tcp { host: said("host")?, port, server: server() })
            }
            Some(protocol) => Err(format!("its stream speaks {protocol}")),
        },
        other => Err(format!("its stream is of type {other}")),
    }
}
