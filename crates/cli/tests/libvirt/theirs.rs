//! What libvirt makes of a domain, read from its own words.

use std::collections::BTreeMap;

use roxmltree::{Document, Node};
use serde_json::Value;

use crate::{Device, Made};

/// QEMU's names of what is on USB, and of what USB is on.
const USB: [&str; 4] = ["usb-", "-usb-", "xhci", "pci-ohci"];

/// The controllers and devices of a domain's XML.
pub(crate) fn made(xml: &str) -> Made {
    let document = Document::parse(xml).unwrap();
    let all = document.descendants().find(|it| it.has_tag_name("devices")).unwrap();
    let mut made = Made::default();
    let usb = |it: &Node| it.has_tag_name("controller") && it.attribute("type") == Some("usb");
    for node in all.children().filter(usb) {
        controller(&mut made, node);
    }
    for node in all.children() {
        made.devices.extend(device(node));
    }
    made.devices.sort();
    made
}

fn number(node: Node<'_, '_>, name: &str) -> Option<u64> {
    node.attribute(name)?.parse().ok()
}

fn controller(made: &mut Made, node: Node<'_, '_>) {
    let model = node.attribute("model").unwrap_or_default().to_owned();
    let index = number(node, "index").unwrap();
    let master = node.children().find(|it| it.has_tag_name("master"));
    match master {
        Some(master) => {
            let first = number(master, "startport").unwrap();
            let there = made.controllers.iter_mut().find(|it| it.0 == index);
            there.unwrap().3.insert(model, first);
        }
        None => made.controllers.push((index, model, number(node, "ports"), BTreeMap::new())),
    }
}

fn device(node: Node<'_, '_>) -> Option<Device> {
    let address = node
        .children()
        .find(|it| it.has_tag_name("address") && it.attribute("type") == Some("usb"))?;
    let what = match node.tag_name().name() {
        "input" => node.attribute("type")?,
        "controller" => node.attribute("type")?,
        other => other,
    };
    Some((what.to_owned(), number(address, "bus")?, address.attribute("port")?.to_owned()))
}

/// The `-device` arguments that have to do with USB, of a command line as a shell would read it.
pub(crate) fn usb_devices(line: &str) -> Vec<Value> {
    let json = line.split('\'').filter(|word| word.starts_with('{'));
    json.filter_map(|word| serde_json::from_str(word).ok()).filter(is_usb).collect()
}

pub(crate) fn is_usb(device: &Value) -> bool {
    device["driver"].as_str().is_some_and(|it| USB.iter().any(|part| it.contains(part)))
}
