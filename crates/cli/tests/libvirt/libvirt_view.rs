//! libvirt's interpretation of a domain, parsed from its own output.

use std::collections::BTreeMap;

use roxmltree::{Document, Node};
use serde_json::Value;

use crate::{Device, Hardware};

/// Parts of QEMU's names for USB devices and controllers.
const USB: [&str; 4] = ["usb-", "-usb-", "xhci", "pci-ohci"];

/// The controllers and devices of a domain's XML.
pub(crate) fn hardware(xml: &str) -> Hardware {
    let document = Document::parse(xml).unwrap();
    let all = document.descendants().find(|it| it.has_tag_name("devices")).unwrap();
    let mut hardware = Hardware::default();
    // A controller of model none is how libvirt expresses no USB.
    let usb = |it: &Node| {
        it.has_tag_name("controller")
            && it.attribute("type") == Some("usb")
            && it.attribute("model") != Some("none")
    };
    for node in all.children().filter(usb) {
        controller(&mut hardware, node);
    }
    for node in all.children() {
        hardware.devices.extend(device(node));
    }
    hardware.controllers.sort();
    hardware.devices.sort();
    hardware
}

fn number(node: Node<'_, '_>, name: &str) -> Option<u64> {
    node.attribute(name)?.parse().ok()
}

fn controller(hardware: &mut Hardware, node: Node<'_, '_>) {
    let model = node.attribute("model").unwrap_or_default().to_owned();
    let index = number(node, "index").unwrap();
    let master = node.children().find(|it| it.has_tag_name("master"));
    match master {
        Some(master) => {
            let first = number(master, "startport").unwrap();
            let group = hardware.controllers.iter_mut().find(|it| it.0 == index);
            group.unwrap().3.insert(model, first);
        }
        None => hardware.controllers.push((index, model, number(node, "ports"), BTreeMap::new())),
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

/// The `-device` arguments about USB in a command line, split as by a shell.
pub(crate) fn usb_devices(line: &str) -> Vec<Value> {
    in_order(arguments(line).filter(is_usb).collect())
}

/// The `-audiodev` arguments of a command line.
pub(crate) fn audio_back_ends(line: &str) -> Vec<Value> {
    arguments(line).filter(is_audio_back_end).collect()
}

/// The arguments that are in JSON.
fn arguments(line: &str) -> impl Iterator<Item = Value> + '_ {
    let json = line.split('\'').filter(|word| word.starts_with('{'));
    json.filter_map(|word| serde_json::from_str(word).ok())
}

pub(crate) fn is_audio_back_end(argument: &Value) -> bool {
    argument["id"].as_str().is_some_and(|id| id.starts_with("audio"))
}

/// Sorts the companions of a group by their first ports, because the guest does not see the order
/// of creation.
pub(crate) fn in_order(mut devices: Vec<Value>) -> Vec<Value> {
    let companion = |it: &Value| !it["masterbus"].is_null();
    for group in devices
        .chunk_by_mut(|a, b| companion(a) == companion(b) && a["masterbus"] == b["masterbus"])
    {
        if group.first().is_some_and(companion) {
            group.sort_by_key(|it| it["firstport"].as_u64());
        }
    }
    devices
}

pub(crate) fn is_usb(device: &Value) -> bool {
    device["driver"].as_str().is_some_and(|it| USB.iter().any(|part| it.contains(part)))
}
