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
    // A controller of the model none is libvirt's word for no USB.
    let usb = |it: &Node| {
        it.has_tag_name("controller")
            && it.attribute("type") == Some("usb")
            && it.attribute("model") != Some("none")
    };
    for node in all.children().filter(usb) {
        controller(&mut made, node);
    }
    for node in all.children() {
        made.devices.extend(device(node));
    }
    made.controllers.sort();
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
    let all = json.filter_map(|word| serde_json::from_str(word).ok()).filter(is_usb);
    in_order(all.map(without_boot_order).collect())
}

/// What libvirt boots from where nobody says it depends on all disks and cards of the guest, and is none of its USB.
fn without_boot_order(mut device: Value) -> Value {
    if device["driver"] == "usb-storage"
        && let Some(fields) = device.as_object_mut()
    {
        fields.remove("bootindex");
    }
    device
}

/// The companions of a group by their first ports: the guest does not see in which order they were made.
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
