//! The serial port that libvirt adds for the first console (`virDomainDefAddConsoleCompat`).
//!
//! A fully virtualized guest's first console is its first serial port. If the domain has no
//! `<serial>`, libvirt adds a port of the machine's own kind for the console. A USB serial device
//! would become the first serial port, and libvirt would no longer add that port. So a `<serial>`
//! for that port is written before the first USB serial device is added.

use vusb_model::guest::Virtualization;

use super::domain::Domain;
use super::element::Element;
use super::xml::{Node, all, attr, child, elements, is};
use crate::config::Inexpressible;

/// The attributes of a console's `<source>` that are copied.
const SOURCE: [&str; 6] = ["mode", "host", "service", "path", "append", "tls"];

/// The first console, if it is a serial port.
pub(super) fn serial_console<'d>(domain: &Domain<'d>) -> Option<Node<'d>> {
    if domain.guest.virtualization != Virtualization::Hvm {
        return None;
    }
    let console =
        all(domain.root, "devices").flat_map(elements).find(|node| is(*node, "console"))?;
    let target = child(console, "target").and_then(|target| target.attribute("type"));
    target.is_none_or(|target| target == "serial").then_some(console)
}

/// The number of `<serial>` elements.
pub(super) fn serials(domain: &Domain<'_>) -> usize {
    all(domain.root, "devices").flat_map(elements).filter(|node| is(*node, "serial")).count()
}

/// The serial port that libvirt adds for a console.
///
/// # Errors
/// The console has settings that vusb does not support.
pub(super) fn port_of(console: Node<'_>) -> Result<Element, Inexpressible> {
    let refused = |setting: &str| {
        Inexpressible {
        what: "a USB serial device beside this console".to_owned(),
        why: format!(
            "it would take the place of the serial port that libvirt adds for the console; add a <serial> for that port first: vusb does not support the console's {setting}"
        )
        .into(),
    }
    };
    let mut serial =
        Element::new("serial").with("type", console.attribute("type").unwrap_or("pty"));
    for node in elements(console) {
        let (name, attributes): (&'static str, &[&'static str]) = match node.tag_name().name() {
            "target" | "alias" | "address" => continue,
            "source" => ("source", &SOURCE),
            "protocol" => ("protocol", &["type"]),
            "log" => ("log", &["file", "append"]),
            other => return Err(refused(other)),
        };
        if let Some(inside) = elements(node).next() {
            return Err(refused(inside.tag_name().name()));
        }
        if let Some(unknown) = node.attributes().find(|it| !attributes.contains(&it.name())) {
            return Err(refused(unknown.name()));
        }
        let known = attributes.iter().filter_map(|name| Some((*name, attr(node, name)?.value)));
        let copy = known.fold(Element::new(name), |copy, (name, value)| copy.with(name, value));
        serial = serial.and([copy]);
    }
    Ok(serial.and([Element::new("target").with("port", 0)]))
}
