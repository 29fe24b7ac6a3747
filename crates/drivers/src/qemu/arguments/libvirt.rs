//! QEMU's arguments as libvirt writes them, with its ids, order and syntax. The guest then has the
//! hardware that libvirt would have given it, including the names that QEMU uses in a migration
//! stream.
//!
//! ```text
//!   controllers ─▶ hubs ─▶ usb-ccid ─▶ disks ─▶ mtp ─▶ nets
//!     ─▶ serials ─▶ inputs ─▶ sounds ─▶ redirdevs ─▶ hostdevs
//! ```
//!
//! The order is that of libvirt's `qemuBuildCommandLine` (`src/qemu/qemu_command.c`, 11.3). Devices
//! of one kind are in the order of the configuration.
//!
//! PCI bridges come first: one for each bus that the address of a controller names, except the root
//! bus. The buses have libvirt's names. QEMU chooses the slots of the bridges, because PCI devices
//! other than USB controllers are not known here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use vusb_formats::config::{
    AUDIO_DRIVER, AUDIO_NUMBER, MULTIFUNCTION, OF_BLOCK_NODE, OF_CHARDEV, Property,
};
use vusb_formats::libvirt::alias;
use vusb_model::address::{Address, PortPath};
use vusb_model::device::{DiskSerial, ImageFormat, Kind, Media, NetBackend, Storage};
use vusb_model::hardware::{Controller, Device, Hardware, PciAddress};
use vusb_model::models::{Companion, ICH9_EHCI_FUNCTION, QEMU_XHCI_PORTS};
use vusb_model::name::Name;
use vusb_model::resolve::libvirt::alias_prefix;

use super::{ICH9_SLOTS, command_line_chardev, other_ports, protocol, refuse};
use crate::driver::Error;
use crate::qemu::names::{CD_DRIVE, controller_driver, driver_of};

/// The properties of controllers and devices that a configuration sets beyond those in the model,
/// by name.
pub type DeviceProperties = BTreeMap<Name, Vec<(&'static str, Property)>>;

/// QEMU's arguments for the hardware of a libvirt domain. `order` lists the devices in the order of
/// its configuration. `root` is the machine's root PCI bus.
///
/// # Errors
/// QEMU cannot be started with a paravirtual controller, a host device that is not plugged in, or a
/// device that vusb does not know. There is no slot for more than 8 ICH9 groups without a PCI
/// address.
pub fn libvirt_arguments(
    hardware: &Hardware,
    order: &[Address],
    properties: &DeviceProperties,
    root: &str,
) -> Result<Vec<String>, Error> {
    let mut out = CommandLine(Vec::new());
    for (chassis, at) in (1_u8..).zip(additional_buses(hardware, root)) {
        out.bridge(at, chassis, root);
    }
    let addresses = hardware.controllers().filter_map(|controller| controller.pci.as_ref());
    let used: BTreeSet<u8> = addresses.filter(|at| at.bus == root).map(|at| at.slot).collect();
    let mut group_slots = ICH9_SLOTS.into_iter().filter(|slot| !used.contains(slot));
    for controller in hardware.controllers() {
        let multifunction = is_multifunction(properties, controller);
        out.controller(controller, multifunction, &mut group_slots)?;
    }
    let mut devices: Vec<(Address, &Device)> =
        order.iter().filter_map(|at| Some((*at, hardware.device(*at)?))).collect();
    devices.sort_by_key(|(_, device)| position(&device.kind));
    let mut disks = devices.iter().filter(|(_, it)| matches!(it.kind, Kind::Storage(_))).count();
    for (at, device) in devices {
        let Some(controller) = hardware.controller(at.bus) else { continue };
        let bus = format!("{}.0", id_of(&controller.name, "usb"));
        let writer = DeviceWriter { device, bus, port: at.port, properties, disk: disks };
        if let Kind::Storage(_) = device.kind {
            // libvirt numbers its block nodes so that the last disk has 1. It also counts those on
            // other buses, which are not known here.
            disks = disks.saturating_sub(1);
        }
        writer.write(&mut out)?;
    }
    Ok(out.0)
}

/// Whether the configuration says that the slot of a controller has more than one function.
fn is_multifunction(properties: &DeviceProperties, controller: &Controller) -> bool {
    let properties = properties.get(&controller.name).into_iter().flatten();
    properties.into_iter().any(|(key, _)| *key == MULTIFUNCTION)
}

/// The PCI address of a controller on each PCI bus except `root`.
fn additional_buses<'a>(
    hardware: &'a Hardware,
    root: &str,
) -> impl Iterator<Item = &'a PciAddress> {
    let addresses = hardware.controllers().filter_map(|controller| controller.pci.as_ref());
    let buses: BTreeMap<&str, &PciAddress> = addresses.map(|at| (at.bus.as_str(), at)).collect();
    let root = root.to_owned();
    buses.into_values().filter(move |at| !at.bus.is_empty() && at.bus != root)
}

/// The position of a kind in the order.
const fn position(kind: &Kind) -> u8 {
    match kind {
        Kind::Hub(_) => 0,
        Kind::Ccid => 1,
        Kind::Storage(_) => 2,
        Kind::Mtp(_) => 3,
        Kind::Net(_) => 4,
        Kind::Serial(_) => 5,
        Kind::Tablet(_) | Kind::Mouse(_) | Kind::Keyboard(_) => 6,
        Kind::Audio(_) => 7,
        Kind::Redir(_) => 8,
        Kind::Host(_) => 9,
        Kind::Other(_) => 10,
    }
}

/// libvirt's id: a name that is one of libvirt's own aliases stays as it is, and a name that a user
/// gave is prefixed with `ua-`.
fn id_of(name: &Name, prefix: &str) -> String {
    let own = name.as_str().strip_prefix(prefix).is_some_and(|rest| {
        (prefix == "usb" && rest.is_empty())
            || (!rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    });
    if own { name.to_string() } else { alias(name).unwrap_or_else(|| format!("ua-{name}")) }
}

/// The number at the end of an id.
fn trailing_number(id: &str) -> &str {
    let digits = id.bytes().rev().take_while(u8::is_ascii_digit).count();
    id.get(id.len() - digits..).filter(|it| !it.is_empty()).unwrap_or("0")
}

/// A JSON object that keeps the order of its fields.
#[derive(Default)]
struct Object(Vec<(String, Value)>);

impl Object {
    fn new(driver: &str) -> Object {
        let mut object = Object::default();
        object.put("driver", driver);
        object
    }

    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.push((key.to_owned(), value.into()));
    }

    fn text(&self) -> String {
        let field = |(key, value): &(String, Value)| format!("{}:{value}", Value::from(&**key));
        let fields: Vec<String> = self.0.iter().map(field).collect();
        format!("{{{}}}", fields.join(","))
    }
}

struct CommandLine(Vec<String>);

impl CommandLine {
    fn push(&mut self, option: &str, value: String) {
        self.0.extend([option.to_owned(), value]);
    }

    fn device(&mut self, object: &Object) {
        self.push("-device", object.text());
    }

    /// Writes the bridge that provides the bus of `at`. On PCI Express, slot 0 means a root port,
    /// whose bus has no other slot.
    fn bridge(&mut self, at: &PciAddress, chassis: u8, root: &str) {
        let (driver, chassis_property) = match (root, at.slot) {
            ("pcie.0", 0) => ("pcie-root-port", Some("chassis")),
            ("pcie.0", _) => ("pcie-pci-bridge", None),
            _ => ("pci-bridge", Some("chassis_nr")),
        };
        let mut object = Object::new(driver);
        if let Some(property) = chassis_property {
            object.put(property, chassis);
        }
        object.put("id", at.bus.clone());
        self.device(&object);
    }

    fn controller(
        &mut self,
        controller: &Controller,
        multifunction: bool,
        group_slots: &mut impl Iterator<Item = u8>,
    ) -> Result<(), Error> {
        let Some(driver) = controller_driver(controller.model) else {
            let why = "it has no paravirtual USB controller outside Xen";
            return Err(refuse(format!("a {} controller", controller.model), why));
        };
        if let Some(why) = other_ports(controller) {
            return Err(refuse(controller.describe(), &why));
        }
        let id = id_of(&controller.name, "usb");
        let pci = match (&controller.pci, controller.companions.is_empty()) {
            (None, false) => {
                let full = || refuse(controller.describe(), "there are already 8 such groups");
                let slot = group_slots.next().ok_or_else(full)?;
                Some(PciAddress { bus: String::new(), slot, function: ICH9_EHCI_FUNCTION })
            }
            (pci, _) => pci.clone(),
        };
        let mut main = Object::new(driver);
        // libvirt only writes port counts that are configured. Without them, QEMU uses its default.
        let default = (QEMU_XHCI_PORTS, QEMU_XHCI_PORTS);
        if controller.model.is_xhci()
            && (controller.ports.usb2(), controller.ports.usb3()) != default
        {
            main.put("p2", controller.ports.usb2());
            main.put("p3", controller.ports.usb3());
        }
        main.put("id", id.clone());
        put_pci_address(&mut main, pci.as_ref(), multifunction);
        self.device(&main);
        for companion in &controller.companions {
            self.companion(companion, &id, pci.as_ref());
        }
        Ok(())
    }

    fn companion(&mut self, it: &Companion, master: &str, pci: Option<&PciAddress>) {
        let mut object = Object::new(controller_driver(it.model.model()).unwrap_or_default());
        object.put("masterbus", format!("{master}.0"));
        object.put("firstport", it.first_port);
        let function = it.model.function();
        let mut pci = pci.cloned();
        if let Some(pci) = &mut pci {
            pci.function = function;
        }
        put_pci_address(&mut object, pci.as_ref(), function == 0);
        self.device(&object);
    }
}

/// Sets the PCI address in libvirt's form: `0x4`, `0x4.0x7`, and whether its slot has more than one
/// function.
fn put_pci_address(object: &mut Object, pci: Option<&PciAddress>, multifunction: bool) {
    let Some(pci) = pci else { return };
    if !pci.bus.is_empty() {
        object.put("bus", pci.bus.clone());
    }
    if multifunction {
        object.put(MULTIFUNCTION, true);
    }
    let function = if pci.function == 0 { String::new() } else { format!(".{:#x}", pci.function) };
    object.put("addr", format!("{:#x}{function}", pci.slot));
}

/// Writes a device.
struct DeviceWriter<'a> {
    device: &'a Device,
    bus: String,
    port: PortPath,
    properties: &'a DeviceProperties,
    /// libvirt's number of the device, if it is a disk.
    disk: usize,
}

impl DeviceWriter<'_> {
    fn write(&self, out: &mut CommandLine) -> Result<(), Error> {
        let kind = &self.device.kind;
        let id = id_of(&self.device.name, alias_prefix(kind));
        let mut object = Object::new(driver_of(kind));
        if let Kind::Storage(storage) = kind {
            self.storage(id, storage, object, out);
            return Ok(());
        }
        self.back_end(&id, &mut object, out)?;
        object.put("id", id);
        self.put_properties(&mut object);
        self.plug(object, out);
        Ok(())
    }

    /// Sets the properties of the configuration that are not in the model.
    fn put_properties(&self, object: &mut Object) {
        let of_back_end = |key: &str| key.contains('.');
        for (key, property) in self.properties().filter(|(key, _)| !of_back_end(key)) {
            object.put(key, value(property));
        }
        if let (Kind::Storage(_), Some(cache)) = (&self.device.kind, self.cache()) {
            object.put("write-cache", if cache.writeback { "on" } else { "off" });
        }
    }

    fn properties(&self) -> impl Iterator<Item = &(&'static str, Property)> {
        self.properties.get(&self.device.name).into_iter().flatten()
    }

    /// The text properties whose keys start with `prefix`, by the rest of the key.
    fn options(&self, prefix: &'static str) -> impl Iterator<Item = (&'static str, &str)> {
        self.properties().filter_map(move |(key, property)| match property {
            Property::Text(text) => Some((key.strip_prefix(prefix)?, text.as_str())),
            _ => None,
        })
    }

    /// The cache mode of a disk, if it is specified.
    fn cache(&self) -> Option<Cache> {
        let word = self.options(OF_BLOCK_NODE).find(|(key, _)| *key == "cache")?.1;
        Cache::of(word)
    }

    /// Sets the configured options of a disk's block node: that of its file, or with `is_format`
    /// that of its format, which only takes options that every block driver has.
    fn put_block_options(&self, object: &mut Object, is_format: bool) {
        if let Some(cache) = self.cache() {
            object.put("cache", json!({"direct": cache.direct, "no-flush": cache.no_flush}));
        }
        for (key, word) in self.options(OF_BLOCK_NODE).filter(|(key, _)| *key != "cache") {
            if !is_format || matches!(key, "discard" | "detect-zeroes") {
                object.put(key, word);
            }
        }
    }

    /// The configured options of the character device, to be appended to those of the model.
    fn chardev_options(&self) -> String {
        let option = |(key, text): (&str, &str)| format!(",{key}={}", text.replace(',', ",,"));
        self.options(OF_CHARDEV).map(option).collect()
    }

    /// Writes the USB device, on its port.
    fn plug(&self, mut object: Object, out: &mut CommandLine) {
        object.put("bus", self.bus.clone());
        object.put("port", self.port.to_string());
        out.device(&object);
    }

    /// Writes a disk, or the two parts of a CD drive.
    fn storage(&self, id: String, storage: &Storage, mut usb: Object, out: &mut CommandLine) {
        let drive = self.drive(storage, out);
        let serial = storage.serial.as_ref().map(DiskSerial::as_str);
        if storage.media == Media::Disk {
            usb.put("drive", drive);
            usb.put("id", id);
            self.put_properties(&mut usb);
            // libvirt writes this property even if it is off.
            usb.put("removable", storage.removable);
            serial.into_iter().for_each(|serial| usb.put("serial", serial));
            return self.plug(usb, out);
        }
        usb.put("id", id.clone());
        serial.into_iter().for_each(|serial| usb.put("serial", serial));
        self.plug(usb, out);
        let mut cd = Object::new(CD_DRIVE);
        cd.put("bus", format!("{id}.0"));
        cd.put("scsi-id", 0);
        cd.put("lun", 0);
        cd.put("drive", drive);
        cd.put("id", format!("{id}-device"));
        self.put_properties(&mut cd);
        serial.into_iter().for_each(|serial| cd.put("serial", serial));
        out.device(&cd);
    }

    /// Writes the device's back end, and sets the properties that refer to it.
    fn back_end(&self, id: &str, object: &mut Object, out: &mut CommandLine) -> Result<(), Error> {
        let mut chardev = |object: &mut Object, prefix: &str, chardev| {
            let name = format!("char{prefix}{}", trailing_number(id));
            let options = self.chardev_options();
            out.push("-chardev", command_line_chardev(chardev, &name) + &options);
            object.put("chardev", name);
        };
        match &self.device.kind {
            Kind::Host(host) => {
                let Some(at) = host.bus_address else {
                    let why = "it is not plugged into this machine; plug it in, or remove it from the configuration";
                    return Err(Error::Missing {
                        what: host.selector.to_string(),
                        why: why.into(),
                    });
                };
                let node = format!("/dev/bus/usb/{:03}/{:03}", at.bus, at.address);
                object.put("hostdevice", node);
            }
            Kind::Serial(serial) => chardev(object, "serial", &serial.chardev),
            Kind::Redir(redir) => chardev(object, "redir", &redir.chardev),
            Kind::Audio(audio) => {
                let number = self.properties().find_map(|(key, property)| match property {
                    Property::Number(number) if *key == AUDIO_NUMBER => Some(*number),
                    _ => None,
                });
                let own = || format!("audio{}", number.unwrap_or(1));
                let id = audio.audiodev.clone().unwrap_or_else(own);
                let known = self.properties().find(|(key, _)| *key == AUDIO_DRIVER);
                let driver = match known {
                    Some((_, Property::Text(driver))) => driver.as_str(),
                    _ => "none",
                };
                let definition = json!({"id": id, "driver": driver}).to_string();
                // Several sound cards can share a back end.
                if !out.0.contains(&definition) {
                    out.push("-audiodev", definition);
                }
                object.put("audiodev", id);
            }
            Kind::Net(net) => {
                let name = format!("hostnet{}", trailing_number(id));
                match &net.backend {
                    NetBackend::User => {
                        out.push("-netdev", json!({"type": "user", "id": name}).to_string());
                        object.put("netdev", name);
                    }
                    NetBackend::Existing(id) => object.put("netdev", id.clone()),
                    NetBackend::None => {}
                }
                if let Some(mac) = net.mac {
                    object.put("mac", mac.to_string());
                }
            }
            Kind::Mtp(mtp) => {
                object.put("rootdir", mtp.dir.clone());
                object.put("readonly", !mtp.writable);
            }
            Kind::Other(other) => {
                let why = "vusb does not support all of its settings";
                return Err(refuse(format!("{} ({})", self.device.name, other.driver), why));
            }
            Kind::Storage(_)
            | Kind::Hub(_)
            | Kind::Ccid
            | Kind::Tablet(_)
            | Kind::Mouse(_)
            | Kind::Keyboard(_) => {}
        }
        Ok(())
    }

    /// Writes the block nodes of a disk, and returns the name of the one that the device uses.
    fn drive(&self, storage: &Storage, out: &mut CommandLine) -> String {
        let node = format!("libvirt-{}-storage", self.disk);
        let mut file = Object::new(protocol(&storage.file));
        file.put("filename", storage.file.clone());
        file.put("node-name", node.clone());
        file.put("read-only", storage.readonly);
        self.put_block_options(&mut file, false);
        out.push("-blockdev", file.text());
        if storage.format == ImageFormat::Raw {
            return node;
        }
        let name = format!("libvirt-{}-format", self.disk);
        let mut format = Object::new(&storage.format.to_string());
        format.put("node-name", name.clone());
        format.put("read-only", storage.readonly);
        self.put_block_options(&mut format, true);
        format.put("file", node);
        out.push("-blockdev", format.text());
        name
    }
}

/// QEMU's settings for one of libvirt's cache modes (`qemuDomainDiskCachemodeFlags`).
struct Cache {
    writeback: bool,
    direct: bool,
    no_flush: bool,
}

impl Cache {
    fn of(word: &str) -> Option<Cache> {
        let (writeback, direct, no_flush) = match word {
            "none" => (true, true, false),
            "writeback" => (true, false, false),
            "writethrough" => (false, false, false),
            "directsync" => (false, true, false),
            "unsafe" => (true, false, true),
            _ => return None,
        };
        Some(Cache { writeback, direct, no_flush })
    }
}

fn value(property: &Property) -> Value {
    match property {
        Property::Text(text) => text.clone().into(),
        Property::Number(number) => (*number).into(),
        Property::Flag(flag) => (*flag).into(),
    }
}
