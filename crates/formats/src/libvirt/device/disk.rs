//! `<disk>` on USB: a stick, or a CD drive, which QEMU made of the same device until libvirt 11.5.

use std::collections::BTreeMap;
use std::ops::Range;

use vusb_model::device::{ImageFormat, Kind, Storage};

use super::{Plug, bootindex, flag};
use crate::config::Property;
use crate::error::Problem;
use crate::libvirt::names::disk_number;
use crate::libvirt::xml::{Attr, Node, attr, child, content};

/// What a disk that there is no kind for is in QEMU.
const DRIVER: &str = "usb-storage";

/// Reads a disk. `targets` are the names of the disks before it, on whatever bus.
pub(super) fn read<'d>(
    node: Node<'d>,
    targets: &mut BTreeMap<&'d str, Range<usize>>,
) -> Result<Option<Plug>, Problem> {
    let before = child(node, "target")
        .and_then(|target| attr(target, "dev"))
        .and_then(|name| targets.insert(name.value, name.span));
    let Some(target) =
        child(node, "target").filter(|target| target.attribute("bus") == Some("usb"))
    else {
        return Ok(None);
    };
    let Some(name) = attr(target, "dev") else {
        return Err(Problem::new(target.range(), "this disk has no name")
            .help("add one, such as dev='sda'"));
    };
    let number = disk_number(name.value).ok_or_else(|| {
        name.refuse(format!("`{}` is no name of a disk: write sda, sdb and so on", name.short()))
            .help("libvirt makes the disk's id of it: sda is usb-disk0")
    })?;
    if let Some(before) = before {
        return Err(name
            .refuse(format!("there are two disks of the name {}", name.short()))
            .other(before, "the other one"));
    }
    let alias = format!("usb-disk{number}");
    let cdrom = node.attribute("device") == Some("cdrom");
    let readonly = cdrom || child(node, "readonly").is_some();
    let (kind, what) = match content_of(node) {
        Ok((file, format)) => {
            let storage = Storage { file: file.value.to_owned(), format, readonly };
            (Plug::new(Kind::Storage(storage), alias), Some(file))
        }
        Err(why) => (Plug::other(DRIVER, why, alias), Some(name)),
    };
    let removable = attr(target, "removable").map(|text| flag(&text, ["on", "off"])).transpose()?;
    let serial = child(node, "serial").map(content).filter(|serial| !serial.is_empty());
    let mut plug = kind
        .at(what)
        .with("bootindex", bootindex(node)?)
        .with("removable", Some(Property::Flag(removable.unwrap_or(false))))
        .with("serial", serial.map(Property::Text));
    if cdrom {
        plug.remarks.push("a CD drive, which QEMU shows as a disk".to_owned());
    }
    if child(node, "transient").is_some() {
        plug.remarks.push("what is written to it is lost when the guest ends".to_owned());
    }
    Ok(Some(plug))
}

/// The file that holds a disk's content, and how it is laid out; or why it is none that is known here.
fn content_of<'d>(node: Node<'d>) -> Result<(Attr<'d>, ImageFormat), String> {
    let kind = node.attribute("type").unwrap_or("file");
    let key = match kind {
        "file" => "file",
        "block" => "dev",
        other => return Err(format!("its content is of type {other}")),
    };
    if let Some(device @ ("lun" | "floppy")) = node.attribute("device") {
        return Err(format!("it is a {device}"));
    }
    let source = child(node, "source");
    let encrypted = |node: Node<'_>| child(node, "encryption").is_some();
    if encrypted(node) || source.is_some_and(encrypted) {
        return Err("it is encrypted".to_owned());
    }
    let file = source.and_then(|source| attr(source, key)).filter(|file| !file.value.is_empty());
    let file = file.ok_or_else(|| "there is nothing in it".to_owned())?;
    // libvirt takes what says nothing for raw: a guest could write a header that says otherwise.
    let format = child(node, "driver").and_then(|driver| driver.attribute("type")).unwrap_or("raw");
    let format = format.parse().map_err(|_| format!("its format is {format}"))?;
    Ok((file, format))
}
