//! The element of one device, for a program that attaches it by libvirt's API.

use vusb_model::address::Address;
use vusb_model::device::Kind;
use vusb_model::hardware::Device;
use vusb_model::selector::{BusAddress, UsbId};

use super::device::card_readers;
use super::element::Style;
use super::express::{self, FreeNumbers};
use super::names::disk_number;
use super::numbers::UsedNumbers;
use super::xml::{self, all, child, elements, is};
use crate::config::Inexpressible;

/// How an element names the host device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostSource {
    /// By vendor and product.
    pub id: Option<UsbId>,
    /// By bus and address, which the device has until it is unplugged. If `id` is given too,
    /// libvirt only accepts the device if both match.
    pub address: Option<BusAddress>,
}

/// The element of a device at an address, with a user alias that consists of `ua-` and the device's
/// name. A disk gets the first name that no disk in `domains` has, and a smart card reader the
/// first index that no reader there has: `domains` are the texts of the running and of the stored
/// configuration. A host device is named by `source`, if it is given, and otherwise by its
/// selector.
///
/// # Errors
/// libvirt cannot express the device.
pub fn device_element(
    at: Address,
    device: &Device,
    source: Option<HostSource>,
    domains: &[&str],
) -> Result<String, Inexpressible> {
    let element = match (&device.kind, source) {
        (Kind::Host(host), Some(source)) => express::host_device(at, &device.name, host, source)?,
        _ => {
            let free = free_numbers(domains);
            let (element, lost) = express::device(at, device, free)?;
            match lost.into_iter().next() {
                Some(lost) => return Err(lost),
                None => element,
            }
        }
    };
    Ok(element.render(&Style::libvirt(), ""))
}

/// The lowest numbers that none of the domains has.
fn free_numbers(domains: &[&str]) -> FreeNumbers {
    let (mut used, mut readers) = (UsedNumbers::default(), UsedNumbers::default());
    for text in domains {
        let Ok(document) = xml::parse(text) else { continue };
        for reader in card_readers(document.root_element()) {
            readers.insert(reader);
        }
        let devices = all(document.root_element(), "devices").flat_map(elements);
        let disks = devices.filter(|node| is(*node, "disk"));
        for node in disks {
            let name = child(node, "target").and_then(|target| target.attribute("dev"));
            name.and_then(disk_number).into_iter().for_each(|number| {
                used.insert(number);
            });
        }
    }
    FreeNumbers { disk: used.free(None), reader: readers.free(None) }
}
