//! Tells udev which devices belong to guests, so that other programs of this machine leave them
//! alone.
//!
//! ```text
//!   records ─▶ /run/udev/rules.d/71-vusb-guests.rules    sets VUSB_GUEST for each recorded device
//!              /usr/lib/udev/rules.d/72-vusb-guests.rules    keeps other programs away
//! ```
//!
//! udev reads the first file again by itself when it has changed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use vusb::model::selector::{BusId, StablePath};
use vusb::{AssignedDomain, AssignedIdentity};

use crate::atomic_file;

/// The folder of the rules that only last until the next boot.
const FOLDER: &str = "run/udev/rules.d";

const FILE: &str = "71-vusb-guests.rules";

/// The prefixes in a controller's stable path. The name of a sysfs device follows each of them.
const SUBSYSTEM_PREFIXES: [&str; 4] = ["pci-", "platform-", "acpi-", "xen-"];

/// The rules for the devices that these domains were given.
pub(crate) fn text(domains: &[AssignedDomain]) -> String {
    let identities =
        domains.iter().flat_map(|it| &it.devices).filter_map(|it| it.identity.as_ref());
    // Ordered, so that the file only changes if the devices do.
    let lines: BTreeSet<String> = identities.flat_map(rules_for).collect();
    let mut text = "# Written by vusbd: the USB devices that were given to guests.\n".to_owned();
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// A rule for each vendor and product that the device has, or may return with.
fn rules_for(identity: &AssignedIdentity) -> Vec<String> {
    let Some(devpath) = devpath(&identity.place) else { return Vec::new() };
    let line = |id: &vusb::model::selector::UsbId| {
        format!(
            "ACTION!=\"remove\", SUBSYSTEM==\"usb\", ENV{{DEVTYPE}}==\"usb_device\", \
             DEVPATH==\"{devpath}\", ATTR{{idVendor}}==\"{:04x}\", ATTR{{idProduct}}==\"{:04x}\", \
             ENV{{VUSB_GUEST}}=\"1\"",
            id.vendor, id.product
        )
    };
    identity.ids.iter().map(line).collect()
}

/// A pattern for the path of the device in sysfs. A stable path matches on every bus, because the
/// number of the bus may change. A bus id only matches on its own bus.
fn devpath(place: &str) -> Option<String> {
    if let Ok(path) = place.parse::<StablePath>() {
        let controller = path.controller();
        // The last prefix is that of the controller itself: `platform-….pcie-pci-0000:01:00.0`.
        let begin = |word: &&str| controller.rfind(*word).map(|at| at + word.len());
        let name = controller.get(SUBSYSTEM_PREFIXES.iter().filter_map(begin).max()?..)?;
        // Without characters that have a meaning in a rule of udev.
        let is_literal = |it: char| it.is_ascii_alphanumeric() || ":._@-".contains(it);
        let valid = !name.is_empty() && name.chars().all(is_literal);
        return valid.then(|| format!("*/{name}/usb*/*-{}", path.chain()));
    }
    place.parse::<BusId>().ok().map(|id| format!("*/usb{}/*{id}", id.bus()))
}

/// Writes the file with vusbd's rules for udev. Does nothing on a machine without udev.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(root: &Path, text: &str) -> io::Result<()> {
    if !root.join("run/udev").is_dir() {
        return Ok(());
    }
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder)?;
    atomic_file::replace(&folder.join(FILE), text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_matched_by_its_port_and_ids() {
        for (place, expected) in [
            ("pci-0000:00:14.0-usb-0:4.2", Some("*/0000:00:14.0/usb*/*-4.2")),
            ("platform-dummy_hcd.0-usb-0:1", Some("*/dummy_hcd.0/usb*/*-1")),
            ("platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1", Some("*/0000:01:00.0/usb*/*-1")),
            ("3-1.4", Some("*/usb3/*3-1.4")),
            ("nonsense", None),
        ] {
            assert_eq!(devpath(place).as_deref(), expected, "{place}");
        }
    }
}
