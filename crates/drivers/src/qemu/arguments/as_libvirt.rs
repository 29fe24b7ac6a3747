//! QEMU's arguments as libvirt would write them: its ids, its order, its forms. So the guest's hardware is the one that libvirt would
//! have started, down to the names under which QEMU sends it to another machine.
//!
//! ```text
//!   controllers ─▶ hubs ─▶ usb-ccid ─▶ disks ─▶ mtp ─▶ nets ─▶ serials ─▶ inputs ─▶ sounds ─▶ redirdevs ─▶ hostdevs
//! ```
//!
//! The order is that of libvirt's `qemuBuildCommandLine` (`src/qemu/qemu_command.c`, 11.3). Within a kind, things come in the order
//! of the configuration. A PCI bus that a controller is on and that the machine does not have by itself comes before all: by libvirt's
//! name, and behind a bridge in a slot that QEMU chooses, for what is on PCI beside USB is not known here.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vusb_formats::config::Property;
use vusb_formats::libvirt::alias;
use vusb_model::address::{Address, PortPath};
use vusb_model::device::{ImageFormat, Kind, NetBackend, Storage};
use vusb_model::hardware::{Controller, Device, Hardware, PciAddress};
use vusb_model::models::{Companion, ICH9_EHCI_FUNCTION, QEMU_XHCI_PORTS};
use vusb_model::name::Name;
use vusb_model::resolve::libvirt::stem;

use super::{GROUP_SLOTS, cold_chardev, refuse};
use crate::driver::Error;
use crate::qemu::names::{controller_driver, driver_of};

/// What a configuration says of a device beyond the model, by the device's name.
pub type Details = BTreeMap<Name, Vec<(&'static str, Property)>>;

/// QEMU's arguments for the hardware of a libvirt domain. `order` has the devices in the order of its configuration; `root` is the PCI
/// bus that the machine has by itself.
///
/// # Errors
/// QEMU cannot have it: a paravirtual controller, a host device that is not plugged in, a device that vusb does not know.
pub fn arguments_as_libvirt(
    hardware: &Hardware,
    order: &[Address],
    details: &Details,
    root: &str,
) -> Result<Vec<String>, Error> {
    let mut out = Out(Vec::new());
    for (chassis, at) in (1_u8..).zip(beyond(hardware, root)) {
        out.bridge(at, chassis, root);
    }
    let mut group_slots = GROUP_SLOTS.into_iter();
    for controller in hardware.controllers() {
        out.controller(controller, &mut group_slots)?;
    }
    let mut devices: Vec<(Address, &Device)> =
        order.iter().filter_map(|at| Some((*at, hardware.device(*at)?))).collect();
    devices.sort_by_key(|(_, device)| turn(&device.kind));
    let mut disks = devices.iter().filter(|(_, it)| matches!(it.kind, Kind::Storage(_))).count();
    for (at, device) in devices {
        let Some(controller) = hardware.controller(at.bus) else { continue };
        let bus = format!("{}.0", id_of(&controller.name, "usb"));
        let mut plug = Plug { device, bus, port: at.port, details, disk: disks };
        if let Kind::Storage(_) = device.kind {
            // libvirt numbers its block nodes so that the last disk has 1.
            disks = disks.saturating_sub(1);
        }
        plug.write(&mut out)?;
    }
    Ok(out.0)
}

/// A controller's place on each PCI bus that is not the `root`.
fn beyond<'a>(hardware: &'a Hardware, root: &str) -> impl Iterator<Item = &'a PciAddress> {
    let places = hardware.controllers().filter_map(|it| it.pci.as_ref());
    let buses: BTreeMap<&str, &PciAddress> = places.map(|at| (at.bus.as_str(), at)).collect();
    let root = root.to_owned();
    buses.into_values().filter(move |at| !at.bus.is_empty() && at.bus != root)
}

/// When a kind has its turn.
const fn turn(kind: &Kind) -> u8 {
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

/// libvirt's id for something: its own alias as it is, a name that a person gave with `ua-` before it.
fn id_of(name: &Name, stem: &str) -> String {
    let own = name.as_str().strip_prefix(stem).is_some_and(|rest| {
        (stem == "usb" && rest.is_empty())
            || (!rest.is_empty() && rest.bytes().all(|it| it.is_ascii_digit()))
    });
    if own { name.to_string() } else { alias(name).unwrap_or_else(|| format!("ua-{name}")) }
}

/// The number at the end of an id.
fn number(id: &str) -> &str {
    let digits = id.bytes().rev().take_while(u8::is_ascii_digit).count();
    id.get(id.len() - digits..).filter(|it| !it.is_empty()).unwrap_or("0")
}

/// A JSON object whose fields stay in their order.
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

struct Out(Vec<String>);

impl Out {
    fn push(&mut self, option: &str, value: String) {
        self.0.extend([option.to_owned(), value]);
    }

    fn device(&mut self, object: &Object) {
        self.push("-device", object.text());
    }

    /// A bridge to the bus that `at` is on. A root port's bus has one slot, the first.
    fn bridge(&mut self, at: &PciAddress, chassis: u8, root: &str) {
        let (driver, number) = match (root, at.slot) {
            ("pcie.0", 0) => ("pcie-root-port", Some("chassis")),
            ("pcie.0", _) => ("pcie-pci-bridge", None),
            _ => ("pci-bridge", Some("chassis_nr")),
        };
        let mut object = Object::new(driver);
        if let Some(number) = number {
            object.put(number, chassis);
        }
        object.put("id", at.bus.clone());
        self.device(&object);
    }

    fn controller(
        &mut self,
        it: &Controller,
        group_slots: &mut impl Iterator<Item = u8>,
    ) -> Result<(), Error> {
        let Some(driver) = controller_driver(it.model) else {
            let why = "it has no paravirtual USB controller outside Xen";
            return Err(refuse(format!("a {} controller", it.model), why));
        };
        let id = id_of(&it.name, "usb");
        let pci = match (&it.pci, it.companions.is_empty()) {
            (None, false) => {
                let full = || refuse(it.describe(), "there are 8 such groups already");
                let slot = group_slots.next().ok_or_else(full)?;
                Some(PciAddress { bus: String::new(), slot, function: ICH9_EHCI_FUNCTION })
            }
            (pci, _) => pci.clone(),
        };
        let mut main = Object::new(driver);
        // What is QEMU's own default, libvirt leaves to it.
        let default = (QEMU_XHCI_PORTS, QEMU_XHCI_PORTS);
        if it.model.is_xhci() && (it.ports.usb2(), it.ports.usb3()) != default {
            main.put("p2", it.ports.usb2());
            main.put("p3", it.ports.usb3());
        }
        main.put("id", id.clone());
        place(&mut main, pci.as_ref());
        self.device(&main);
        for companion in &it.companions {
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
        place(&mut object, pci.as_ref());
        if function == 0 {
            object.0.insert(
                object.0.len().saturating_sub(1),
                ("multifunction".to_owned(), true.into()),
            );
        }
        self.device(&object);
    }
}

/// Where on PCI, as libvirt writes it: `0x4`, `0x4.0x7`.
fn place(object: &mut Object, pci: Option<&PciAddress>) {
    let Some(pci) = pci else { return };
    if !pci.bus.is_empty() {
        object.put("bus", pci.bus.clone());
    }
    let function = if pci.function == 0 { String::new() } else { format!(".{:#x}", pci.function) };
    object.put("addr", format!("{:#x}{function}", pci.slot));
}

/// A device that is being written.
struct Plug<'a> {
    device: &'a Device,
    bus: String,
    port: PortPath,
    details: &'a Details,
    /// libvirt's number of the disk, if it is one.
    disk: usize,
}

impl Plug<'_> {
    fn write(&mut self, out: &mut Out) -> Result<(), Error> {
        let kind = &self.device.kind;
        let id = id_of(&self.device.name, stem(kind));
        let mut object = Object::new(driver_of(kind));
        self.behind(&id, &mut object, out)?;
        object.put("id", id);
        for (key, property) in self.details.get(&self.device.name).into_iter().flatten() {
            object.put(key, value(property));
        }
        object.put("bus", self.bus.clone());
        object.put("port", self.port.to_string());
        out.device(&object);
        Ok(())
    }

    /// What is behind the device, and the properties that say so.
    fn behind(&self, id: &str, object: &mut Object, out: &mut Out) -> Result<(), Error> {
        let mut stream = |object: &mut Object, stem: &str, chardev| {
            let name = format!("char{stem}{}", number(id));
            out.push("-chardev", cold_chardev(chardev, &name));
            object.put("chardev", name);
        };
        match &self.device.kind {
            Kind::Host(host) => {
                let Some(at) = host.at else {
                    let why = "plug it in, or take it out of the configuration";
                    return Err(Error::Missing {
                        what: host.selector.to_string(),
                        why: why.to_owned(),
                    });
                };
                let node = format!("/dev/bus/usb/{:03}/{:03}", at.bus, at.address);
                object.put("hostdevice", node);
            }
            Kind::Storage(storage) => {
                let drive = self.drive(storage, out);
                object.put("drive", drive);
            }
            Kind::Serial(serial) => stream(object, "serial", &serial.chardev),
            Kind::Redir(redir) => stream(object, "redir", &redir.chardev),
            Kind::Audio(audio) => {
                let own = "audio1".to_owned();
                if audio.audiodev.is_none() {
                    out.push("-audiodev", json!({"id": own, "driver": "none"}).to_string());
                }
                object.put("audiodev", audio.audiodev.clone().unwrap_or(own));
            }
            Kind::Net(net) => {
                let name = format!("hostnet{}", number(id));
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
                let why = "what is behind it is of a sort that vusb does not know";
                return Err(refuse(format!("{} ({})", self.device.name, other.driver), why));
            }
            Kind::Hub(_) | Kind::Ccid | Kind::Tablet(_) | Kind::Mouse(_) | Kind::Keyboard(_) => {}
        }
        Ok(())
    }

    /// The block nodes of a disk, and the name of the one that the device has.
    fn drive(&self, storage: &Storage, out: &mut Out) -> String {
        let node = format!("libvirt-{}-storage", self.disk);
        let mut file = Object::new("file");
        file.put("filename", storage.file.clone());
        file.put("node-name", node.clone());
        file.put("read-only", storage.readonly);
        out.push("-blockdev", file.text());
        if storage.format == ImageFormat::Raw {
            return node;
        }
        let name = format!("libvirt-{}-format", self.disk);
        let mut format = Object::new(&storage.format.to_string());
        format.put("node-name", name.clone());
        format.put("read-only", storage.readonly);
        format.put("file", node);
        out.push("-blockdev", format.text());
        name
    }
}

fn value(property: &Property) -> Value {
    match property {
        Property::Text(text) => text.clone().into(),
        Property::Number(number) => (*number).into(),
        Property::Flag(flag) => (*flag).into(),
    }
}
