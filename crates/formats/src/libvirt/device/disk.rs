//! `<disk>` on USB: a stick, or a CD drive. Until libvirt 11.5 both are the same QEMU device, which
//! the guest sees as a disk. Since then, `model='usb-bot'` makes a CD drive of a `cdrom`.

use vusb_model::device::{DiskSerial, ImageFormat, Kind, Media, Storage};

use super::{UsbDevice, bootindex, flag};
use crate::config::Property;
use crate::error::Problem;
use crate::libvirt::names::disk_number;
use crate::libvirt::numbers::decimal;
use crate::libvirt::xml::{Attr, Node, attr, child, content, elements, excerpt, is};

/// QEMU's driver for a disk that the model has no kind for.
const DRIVER: &str = "usb-storage";

/// Reads a disk.
pub(super) fn read<'d>(node: Node<'d>) -> Result<Option<UsbDevice<'d>>, Problem> {
    let Some(target) =
        child(node, "target").filter(|target| target.attribute("bus") == Some("usb"))
    else {
        return Ok(None);
    };
    let Some(name) = attr(target, "dev") else {
        return Err(Problem::new(target.range(), "the disk has no name").help("add one: dev='sda'"));
    };
    let number = disk_number(name.value).ok_or_else(|| {
        name.problem(format!("`{}` is not a disk name: write sda, sdb and so on", name.excerpt()))
            .help("libvirt derives the disk's id from it: sda becomes usb-disk0")
    })?;
    let alias = format!("usb-disk{number}");
    let cdrom = node.attribute("device") == Some("cdrom");
    // For a disk, the two models are the same to the guest.
    let media = match node.attribute("model") {
        Some("usb-bot") if cdrom => Media::Cdrom,
        _ => Media::Disk,
    };
    let removable = attr(target, "removable").map(|text| flag(&text, ["on", "off"])).transpose()?;
    let content = content_of(node).and_then(|content| Ok((content, serial_of(node)?)));
    let (kind, what) = match content {
        Ok(((file, format), serial)) => {
            let storage = Storage {
                readonly: cdrom || child(node, "readonly").is_some(),
                serial,
                removable: removable.unwrap_or(false),
                ..Storage::new(file.value, format)
            };
            (UsbDevice::new(Kind::Storage(storage.with_media(media)), alias), Some(file))
        }
        Err(why) => (UsbDevice::other(DRIVER, why, alias), Some(name)),
    };
    let device = kind.at(what).with("bootindex", bootindex(node)?);
    let mut device = with_settings(device, node)?;
    if cdrom && media.is_disk() {
        device.remarks.push("a CD drive, which QEMU presents as a disk".to_owned());
    }
    if child(node, "transient").is_some() {
        device.remarks.push("written data is discarded when the guest ends".to_owned());
        device.settings.push("transient".to_owned());
        device.unsupported.push((node, "transient content".to_owned()));
    }
    Ok(Some(device))
}

/// Attributes of a disk's `<driver>` that are options of its block nodes.
const OF_DRIVER: [(&str, &str); 4] = [
    ("cache", "blockdev.cache"),
    ("io", "blockdev.aio"),
    ("discard", "blockdev.discard"),
    ("detect_zeroes", "blockdev.detect-zeroes"),
];

/// Adds the settings of a disk that the model does not have.
fn with_settings<'d>(mut device: UsbDevice<'d>, node: Node<'d>) -> Result<UsbDevice<'d>, Problem> {
    let driver = child(node, "driver");
    for (name, key) in OF_DRIVER {
        let word = driver.and_then(|driver| driver.attribute(name));
        let word = word.filter(|word| *word != "default");
        device = device.with(key, word.map(|word| Property::Text(word.to_owned())));
    }
    let sizes = child(node, "blockio");
    for key in ["logical_block_size", "physical_block_size"] {
        let size = sizes.and_then(|sizes| attr(sizes, key));
        let size = size.map(|text| {
            decimal::<u32>(text.value)
                .ok_or_else(|| text.problem(format!("`{}` is not a size", text.excerpt())))
        });
        device = device.with(key, size.transpose()?.map(|size| Property::Number(size.into())));
    }
    // libvirt only tells QEMU that the disk is shared if the disk can be written.
    let shared = child(node, "shareable").is_some() && child(node, "readonly").is_none();
    device = device.with("share-rw", shared.then_some(Property::Flag(true)));
    for (node, what) in unsupported(node) {
        device.settings.push(what.clone());
        device.unsupported.push((node, what));
    }
    Ok(device)
}

/// The settings of a disk that vusb does not support, in words.
fn unsupported<'d>(disk: Node<'d>) -> Vec<(Node<'d>, String)> {
    let mut found = Vec::new();
    let driver = child(disk, "driver").into_iter();
    found.extend(driver.flat_map(|driver| {
        let known = ["name", "type", "cache", "io", "discard", "detect_zeroes"];
        let unknown = driver.attributes().filter(move |it| !known.contains(&it.name()));
        unknown.map(move |it| (driver, it.name().replace('_', " ")))
    }));
    found.extend(child(disk, "iotune").map(|it| (it, "limits of its throughput".to_owned())));
    found.extend(child(disk, "throttlefilters").map(|it| (it, "throttle groups".to_owned())));
    found.extend(child(disk, "geometry").map(|it| (it, "geometry".to_owned())));
    let backing = child(disk, "backingStore").filter(|it| child(*it, "source").is_some());
    found.extend(backing.map(|it| (it, "backing file".to_owned())));
    let source = child(disk, "source").into_iter().flat_map(elements);
    let unknown = source.filter(|it| !is(*it, "seclabel"));
    found.extend(unknown.map(|it| (it, format!("source's {}", excerpt(it.tag_name().name())))));
    let sizes = child(disk, "blockio").into_iter();
    found.extend(sizes.flat_map(|sizes| {
        let known = ["logical_block_size", "physical_block_size"];
        let unknown = sizes.attributes().filter(move |it| !known.contains(&it.name()));
        unknown.map(move |it| (sizes, it.name().replace('_', " ")))
    }));
    found
}

/// The file with a disk's content and its format, or the reason why the model cannot represent it.
fn content_of<'d>(node: Node<'d>) -> Result<(Attr<'d>, ImageFormat), String> {
    let kind = node.attribute("type").unwrap_or("file");
    let key = match kind {
        "file" => "file",
        "block" => "dev",
        other => return Err(format!("its content has the type {other}")),
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
    let file = file.ok_or_else(|| match node.attribute("device") {
        Some("cdrom") => "it is an empty CD drive".to_owned(),
        _ => "it is empty".to_owned(),
    })?;
    // Without a format libvirt assumes raw and does not probe: a guest could write the header of
    // another format.
    let format = child(node, "driver").and_then(|driver| driver.attribute("type")).unwrap_or("raw");
    let format = format.parse().map_err(|_| format!("its format is {format}"))?;
    Ok((file, format))
}

/// The serial number, or the reason why the model cannot represent it.
fn serial_of(node: Node<'_>) -> Result<Option<DiskSerial>, String> {
    let text = child(node, "serial").map(content).filter(|serial| !serial.is_empty());
    text.map(|text| text.parse()).transpose().map_err(|error| format!("{error}"))
}
