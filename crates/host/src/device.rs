//! One USB device of this machine, as its directory in sysfs describes it.

use std::borrow::Cow;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vusb_model::device::HostRef;
use vusb_model::rules::Removable;
use vusb_model::selector::{BusAddress, BusId, Selector, StablePath, UsbId};
use vusb_model::speed::{Speed, SpeedSet};

use crate::database;
use crate::descriptors::{self, AlternateSetting, Descriptors};
use crate::protection::Protection;
use crate::text::MAX_DEVICE_STRING;
use crate::used_by::UsedBy;
use crate::{speeds, stable_path, sysfs};

/// The device class of hubs (USB class code 9, base class "Hub").
const HUB_CLASS: u8 = 9;

/// How many times a device is read if it is replaced while it is being read.
const ATTEMPTS: usize = 3;

/// A USB device that is plugged into this machine.
///
/// Its strings come from the device. They are safe to print but not trustworthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDevice {
    /// The bus and the chain of ports that it is plugged into.
    pub bus_id: BusId,
    /// The bus and the address, which changes with every plug.
    pub bus_address: BusAddress,
    /// Vendor and product.
    pub id: UsbId,
    /// The serial number.
    pub serial: Option<String>,
    /// The manufacturer's name, as the device reports it.
    pub manufacturer: Option<String>,
    /// The product's name, as the device reports it.
    pub product: Option<String>,
    /// The speed that it runs at; `None` if the kernel does not know it.
    pub speed: Option<Speed>,
    /// The speeds at which a guest can see it: its own, and slower ones that its descriptors allow.
    /// Empty if its own speed is unknown.
    pub speeds: SpeedSet,
    /// `bDeviceClass`: 0 if each interface has its own class.
    pub class: u8,
    /// `bConfigurationValue` of the active configuration; `None` if the device is not configured.
    pub configuration: Option<u8>,
    /// The interfaces of the active configuration, by number. If the kernel has not configured the
    /// device (yet): all interfaces that its descriptors declare, in any configuration.
    pub interfaces: Vec<Interface>,
    /// The path of its port, which stays the same across reboots.
    pub path: Option<StablePath>,
    /// Why this machine needs it for itself; empty if it does not.
    pub protection: Vec<Protection>,
    /// Who uses it instead of this machine's own drivers. `None` if it is available.
    pub used_by: Option<UsedBy>,
    /// Whether it is a hub.
    pub is_hub: bool,
    /// Whether this machine lets drivers and programs use it. A device that is not authorized, by
    /// USBGuard for example, is not configured. False if this is unreadable.
    pub is_authorized: bool,
}

/// One interface of a device.
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
    /// The kernel driver that is bound to it; `usbfs` while a program uses it, such as a
    /// hypervisor.
    pub driver: Option<String>,
}

impl Interface {
    /// Class, subclass and protocol, as tables of class codes list them.
    pub const fn class_triple(&self) -> (u8, u8, u8) {
        (self.class, self.subclass, self.protocol)
    }

    /// The interface of a device that is not configured.
    const fn declared(setting: &AlternateSetting) -> Interface {
        let AlternateSetting { interface, class, subclass, protocol, .. } = *setting;
        Interface { number: interface, class, subclass, protocol, driver: None }
    }
}

impl HostDevice {
    /// The manufacturer's name: as the device reports it, otherwise from the USB ID database.
    pub fn vendor_name(&self) -> Option<Cow<'_, str>> {
        let from_database = || database::vendor(self.id).map(Cow::from);
        self.manufacturer.as_deref().map(Cow::from).or_else(from_database)
    }

    /// The product's name: as the device reports it, otherwise from the USB ID database.
    pub fn product_name(&self) -> Option<Cow<'_, str>> {
        let from_database = || database::product(self.id).map(Cow::from);
        self.product.as_deref().map(Cow::from).or_else(from_database)
    }

    /// A short description of the device: `0781:5581 SanDisk Ultra`.
    pub fn describe(&self) -> String {
        let names = [self.vendor_name(), self.product_name()];
        names.into_iter().flatten().fold(self.id.to_string(), |text, name| format!("{text} {name}"))
    }

    /// The node for [`UsbFs::open`](crate::usbfs::UsbFs::open): `/dev/bus/usb/003/014`.
    pub fn node(&self) -> PathBuf {
        node(self.bus_address)
    }

    /// This device in the model of a guest's hardware, under the given selector.
    pub fn reference(&self, selector: Selector) -> HostRef {
        HostRef {
            speeds: Some(self.speeds).filter(|speeds| !speeds.is_empty()),
            bus_address: Some(self.bus_address),
            port: Some(self.bus_id.clone()),
            ..HostRef::new(selector)
        }
    }
}

impl fmt::Display for HostDevice {
    /// As [`HostDevice::describe`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

/// Reads the device `bus_id` from its directory `dir`, which is below `devices` (`/sys/devices`).
/// Its protection and its users are not filled in. `None` if it is gone, is replaced
/// again and again, or has no valid identity.
pub(crate) fn read(devices: &Path, dir: &Path, bus_id: &BusId) -> Option<HostDevice> {
    let still_plugged = |device: &HostDevice| address(dir) == Some(device.bus_address);
    read_consistently(|| read_once(devices, dir, bus_id), still_plugged)
}

/// Retries until the device is still the same after reading (`still_valid`). Otherwise the result
/// could combine the IDs of one device with the address of its successor.
fn read_consistently<T>(
    mut read: impl FnMut() -> Option<T>,
    mut still_valid: impl FnMut(&T) -> bool,
) -> Option<T> {
    (0..ATTEMPTS).find_map(|_| read().filter(&mut still_valid))
}

fn node(at: BusAddress) -> PathBuf {
    format!("/dev/bus/usb/{:03}/{:03}", at.bus, at.address).into()
}

/// The attribute `removable` in the directory `dir`, if the device there has the address `at`.
pub(crate) fn removable(dir: &Path, at: BusAddress) -> Removable {
    let word = sysfs::word(dir, "removable");
    match word.filter(|_| address(dir) == Some(at)).as_deref() {
        Some("removable") => Removable::Removable,
        Some("fixed") => Removable::Fixed,
        _ => Removable::Unknown,
    }
}

/// How long the device in the directory `dir` has been plugged in, if it has the address `at`
/// (Linux, `Documentation/ABI/testing/sysfs-bus-usb`: in milliseconds).
pub(crate) fn connected_for(dir: &Path, at: BusAddress) -> Option<Duration> {
    let milliseconds = sysfs::word(&dir.join("power"), "connected_duration")?.parse().ok()?;
    (address(dir) == Some(at)).then(|| Duration::from_millis(milliseconds))
}

/// The node of the hub that the device with the directory `dir` is plugged into, and its port
/// there.
pub(crate) fn hub(dir: &Path, device: &HostDevice) -> Option<(PathBuf, u8)> {
    let name = device.bus_id.to_string();
    let port = name.rsplit(['-', '.']).next()?.parse().ok()?;
    // `usb1/1-4/1-4.2`: a device's directory is inside that of its hub.
    let hub = address(dir.parent()?)?;
    (address(dir) == Some(device.bus_address)).then(|| (node(hub), port))
}

/// The attribute `descriptors` in the directory `dir`, if the device there has the address `at`.
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
    // While the kernel is changing the configuration, it does not show one. So if there is a
    // configuration, its interfaces are complete.
    let configuration = active_configuration(dir);
    let interfaces = interfaces(dir, bus_id, configuration);
    let is_hub = class == HUB_CLASS
        || interfaces.iter().any(|it| it.class == HUB_CLASS)
        || sysfs::decimal(dir, "maxchild").is_some_and(|ports| ports > 0);
    Some(HostDevice {
        bus_id: bus_id.clone(),
        bus_address: at,
        id,
        // Not trimmed: serial numbers are compared byte for byte.
        serial: sysfs::text(dir, "serial", MAX_DEVICE_STRING).filter(|text| !text.is_empty()),
        manufacturer: name(dir, "manufacturer"),
        product: name(dir, "product"),
        speed,
        speeds: speed
            .map_or(SpeedSet::NONE, |speed| speeds::presentable(speed, descriptors.as_ref())),
        class,
        configuration,
        interfaces,
        path: stable_path::of(devices, dir, bus_id),
        protection: Vec::new(),
        used_by: None,
        is_hub,
        // Kernels without the attribute authorize every device.
        is_authorized: is_authorized(dir),
    })
}

/// The active configuration. `None` for a device that is not configured: its attribute is empty.
fn active_configuration(dir: &Path) -> Option<u8> {
    u8::try_from(sysfs::decimal(dir, "bConfigurationValue")?).ok().filter(|value| *value > 0)
}

/// A name that the device reports, without the padding that many devices add.
fn name(dir: &Path, attribute: &str) -> Option<String> {
    let text = sysfs::text(dir, attribute, MAX_DEVICE_STRING)?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Whether the device is authorized. A kernel without the attribute authorizes every device.
fn is_authorized(dir: &Path) -> bool {
    match sysfs::read(&dir.join("authorized"), 16) {
        Ok(value) => value.trim_ascii() != b"0",
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// Whether the kernel has listed the device but not configured it yet. False for a device that is
/// not authorized, which the kernel does not configure, and if another device has taken its port.
pub(crate) fn is_settling(dir: &Path, device: &HostDevice) -> bool {
    let attribute = sysfs::read(&dir.join("bConfigurationValue"), 16);
    device.is_authorized
        && attribute.is_ok_and(|value| value.trim_ascii().is_empty())
        && address(dir) == Some(device.bus_address)
}

/// The device's descriptors; `None` if they are missing or malformed.
fn descriptors(dir: &Path) -> Option<Descriptors> {
    let bytes = sysfs::read(&dir.join("descriptors"), descriptors::MAX_BYTES).ok()?;
    descriptors::parse(&bytes).ok()
}

/// The interfaces of the active configuration: the subdirectories `1-4.2:1.0`, `1-4.2:1.1` and so
/// on. The kernel lists a device before it configures it. Until then there are no subdirectories,
/// and the interfaces that the device declares are returned.
fn interfaces(dir: &Path, bus_id: &BusId, configuration: Option<u8>) -> Vec<Interface> {
    let prefix = format!("{bus_id}:");
    let mut interfaces: Vec<Interface> = sysfs::names(dir)
        .into_iter()
        .filter(|name| name.starts_with(&prefix))
        .filter_map(|name| interface(&dir.join(name)))
        .collect();
    if interfaces.is_empty() {
        let bytes = sysfs::read(&dir.join("descriptors"), descriptors::MAX_BYTES);
        let declared = descriptors::declared_interfaces(&bytes.unwrap_or_default(), configuration);
        interfaces = declared.iter().map(Interface::declared).collect();
    }
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
    fn a_device_that_is_replaced_while_it_is_read_is_read_again() {
        let mut reads = 0..;
        assert_eq!(read_consistently(|| reads.next(), |read| *read == 1), Some(1));
        let mut reads = 0..;
        assert_eq!(read_consistently(|| reads.next(), |_| false), None);
        assert_eq!(reads.next(), Some(3));
    }
}
