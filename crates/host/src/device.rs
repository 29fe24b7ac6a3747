//! One USB device of this machine, as its folder in sysfs describes it.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use usb_ids::FromId;
use vusb_model::device::HostRef;
use vusb_model::selector::{BusAddress, BusId, Selector, StablePath, UsbId};
use vusb_model::speed::{Speed, SpeedSet};

use crate::descriptors::{self, Descriptors};
use crate::protect::Protection;
use crate::text::DEVICE_STRING;
use crate::{place, speeds, sysfs};

/// The device class of hubs (USB class code 9, base class "Hub").
const HUB_CLASS: u8 = 9;

/// How often a device is read again that was replaced while it was read.
const ATTEMPTS: usize = 3;

/// A USB device that is plugged into this machine.
///
/// Its strings come from the device and are safe to show, but not to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDevice {
    /// The bus and the chain of ports that it hangs on.
    pub bus_id: BusId,
    /// The bus and the address of this plug.
    pub at: BusAddress,
    /// Vendor and product.
    pub id: UsbId,
    /// The serial number.
    pub serial: Option<String>,
    /// Who made it, in its own words.
    pub manufacturer: Option<String>,
    /// What it is, in its own words.
    pub product: Option<String>,
    /// The speed that it runs at; `None` if the kernel does not know.
    pub speed: Option<Speed>,
    /// The speeds that a guest can be shown: its own, and slower ones that it bears; empty if its own is not known.
    pub speeds: SpeedSet,
    /// `bDeviceClass`: 0 if each interface has its own class.
    pub class: u8,
    /// `bConfigurationValue` of the active configuration; `None` if the device is in none.
    pub configuration: Option<u8>,
    /// The interfaces of the active configuration, by number.
    pub interfaces: Vec<Interface>,
    /// Where it is plugged in, in words that a reboot does not change.
    pub path: Option<StablePath>,
    /// Why it is not to be given away without force.
    pub protection: Vec<Protection>,
    /// Whether it has ports of its own.
    pub is_hub: bool,
}

/// One function of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `bInterfaceNumber`.
    pub number: u8,
    /// `bInterfaceClass`.
    pub class: u8,
    /// `bInterfaceSubClass`.
    pub subclass: u8,
    /// `bInterfaceProtocol`.
    pub protocol: u8,
    /// The kernel's driver that serves it; `usbfs` while a program has it, a hypervisor for one.
    pub driver: Option<String>,
}

impl Interface {
    /// Class, subclass and protocol, as tables of class codes list them.
    pub const fn triple(&self) -> (u8, u8, u8) {
        (self.class, self.subclass, self.protocol)
    }
}

impl HostDevice {
    /// Who made it: in its own words, else as the list of USB ids has it.
    pub fn vendor_name(&self) -> Option<Cow<'_, str>> {
        let listed = || usb_ids::Vendor::from_id(self.id.vendor).map(|it| it.name().into());
        self.manufacturer.as_deref().map(Cow::from).or_else(listed)
    }

    /// What it is: in its own words, else as the list of USB ids has it.
    pub fn product_name(&self) -> Option<Cow<'_, str>> {
        let listed = || {
            usb_ids::Device::from_vid_pid(self.id.vendor, self.id.product)
                .map(|it| it.name().into())
        };
        self.product.as_deref().map(Cow::from).or_else(listed)
    }

    /// The device in a few words: `0781:5581 SanDisk Ultra`.
    pub fn describe(&self) -> String {
        let names = [self.vendor_name(), self.product_name()];
        names.into_iter().flatten().fold(self.id.to_string(), |text, name| format!("{text} {name}"))
    }

    /// Where the device can be opened ([`UsbFs::open`](crate::usbfs::UsbFs::open)): `/dev/bus/usb/003/014`.
    pub fn node(&self) -> PathBuf {
        node(self.at)
    }

    /// What a model of a guest's hardware says of this device, which `selector` names.
    pub fn reference(&self, selector: Selector) -> HostRef {
        HostRef {
            selector,
            speeds: Some(self.speeds).filter(|speeds| !speeds.is_empty()),
            at: Some(self.at),
        }
    }
}

impl fmt::Display for HostDevice {
    /// As [`HostDevice::describe`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

/// Reads the device `bus_id` from its folder `dir`, below `devices` (`/sys/devices`); its protection is left open. `None`
/// if it is gone or has no identity.
pub(crate) fn read(devices: &Path, dir: &Path, bus_id: &BusId) -> Option<HostDevice> {
    let still = |device: &HostDevice| address(dir) == Some(device.at);
    settled(|| read_once(devices, dir, bus_id), still)
}

/// What `read` gives, once it is `still` so afterwards. A port can change hands in the middle: the ids of the one and the
/// address of the other name a device that never was.
fn settled<T>(mut read: impl FnMut() -> Option<T>, mut still: impl FnMut(&T) -> bool) -> Option<T> {
    (0..ATTEMPTS).find_map(|_| read().filter(&mut still))
}

fn node(at: BusAddress) -> PathBuf {
    format!("/dev/bus/usb/{:03}/{:03}", at.bus, at.address).into()
}

/// The node of the hub that the device in the folder `dir` hangs on, and its port there.
pub(crate) fn hub(dir: &Path, device: &HostDevice) -> Option<(PathBuf, u8)> {
    let name = device.bus_id.to_string();
    let port = name.rsplit(['-', '.']).next()?.parse().ok()?;
    // `usb1/1-4/1-4.2`: a device's folder is in that of its hub.
    let hub = address(dir.parent()?)?;
    (address(dir) == Some(device.at)).then(|| (node(hub), port))
}

/// The content of the attribute `descriptors` in the folder `dir`, if the device there has the address `at`.
pub(crate) fn raw_descriptors(dir: &Path, at: BusAddress) -> Option<Vec<u8>> {
    let bytes = sysfs::read(&dir.join("descriptors"), descriptors::MAX_BYTES).ok()?;
    (address(dir) == Some(at)).then_some(bytes)
}

fn address(dir: &Path) -> Option<BusAddress> {
    let address = sysfs::decimal(dir, "devnum")?;
    let at =
        BusAddress { bus: sysfs::decimal(dir, "busnum")?, address: u8::try_from(address).ok()? };
    (at.bus > 0 && (1..=127).contains(&at.address)).then_some(at)
}

fn read_once(devices: &Path, dir: &Path, bus_id: &BusId) -> Option<HostDevice> {
    let at = address(dir)?;
    let id = UsbId {
        vendor: sysfs::hex(dir, "idVendor", 4)?,
        product: sysfs::hex(dir, "idProduct", 4)?,
    };
    let speed = sysfs::word(dir, "speed").and_then(|text| Speed::from_mbits(&text));
    let descriptors = descriptors(dir).filter(|descriptors| descriptors.id == id);
    let class = sysfs::byte(dir, "bDeviceClass").unwrap_or(0);
    let interfaces = interfaces(dir, bus_id);
    let is_hub = class == HUB_CLASS
        || interfaces.iter().any(|it| it.class == HUB_CLASS)
        || sysfs::decimal(dir, "maxchild").is_some_and(|ports| ports > 0);
    Some(HostDevice {
        bus_id: bus_id.clone(),
        at,
        id,
        // A serial number is compared letter for letter and keeps its blanks.
        serial: sysfs::shown(dir, "serial", DEVICE_STRING).filter(|text| !text.is_empty()),
        manufacturer: name(dir, "manufacturer"),
        product: name(dir, "product"),
        speed,
        speeds: speed.map_or(SpeedSet::NONE, |speed| speeds::offered(speed, descriptors.as_ref())),
        class,
        configuration: active_configuration(dir),
        interfaces,
        path: place::stable_path(devices, dir, bus_id),
        protection: Vec::new(),
        is_hub,
    })
}

/// The attribute is empty for a device in no configuration.
fn active_configuration(dir: &Path) -> Option<u8> {
    u8::try_from(sysfs::decimal(dir, "bConfigurationValue")?).ok().filter(|value| *value > 0)
}

/// A name that the device gives itself, without the blanks that many pad it with.
fn name(dir: &Path, attribute: &str) -> Option<String> {
    let text = sysfs::shown(dir, attribute, DEVICE_STRING)?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The device's descriptors; `None` if there are none or they contradict themselves.
fn descriptors(dir: &Path) -> Option<Descriptors> {
    let bytes = sysfs::read(&dir.join("descriptors"), descriptors::MAX_BYTES).ok()?;
    descriptors::parse(&bytes).ok()
}

/// The interfaces of the active configuration: the folders `1-4.2:1.0`, `1-4.2:1.1` and so on in the device's.
fn interfaces(dir: &Path, bus_id: &BusId) -> Vec<Interface> {
    let prefix = format!("{bus_id}:");
    let mut interfaces: Vec<Interface> = sysfs::names(dir)
        .into_iter()
        .filter(|name| name.starts_with(&prefix))
        .filter_map(|name| interface(&dir.join(name)))
        .collect();
    interfaces.sort_by_key(|it| it.number);
    interfaces
}

fn interface(dir: &Path) -> Option<Interface> {
    Some(Interface {
        number: sysfs::byte(dir, "bInterfaceNumber")?,
        class: sysfs::byte(dir, "bInterfaceClass")?,
        subclass: sysfs::byte(dir, "bInterfaceSubClass")?,
        protocol: sysfs::byte(dir, "bInterfaceProtocol")?,
        driver: sysfs::link_name(dir, "driver"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_hands_while_it_is_read_is_read_again() {
        let mut reads = 0..;
        assert_eq!(settled(|| reads.next(), |read| *read == 1), Some(1));
        let mut reads = 0..;
        assert_eq!(settled(|| reads.next(), |_| false), None);
        assert_eq!(reads.next(), Some(3));
    }
}
