//! The fuzzer's entry points, which need no socket: from a device tree to the hardware in it. Not
//! part of the API.

use serde_json::{Value, json};
use vusb_model::hardware::Hardware;

use super::assemble::assemble;
use super::confirm::{self, Object, Objects};
use super::details::Details;
use super::{qtree, scan};

/// Parses a tree and assembles its hardware, without a record and with one.
pub fn tree(text: &str) {
    let Some(root) = qtree::parse(text) else { return };
    let scan = scan::scan(&root);
    let details = Details::default();
    let (first, _) = assemble(&scan, &details, &Hardware::new());
    // The second time, everything is recorded.
    let _ = assemble(&scan, &details, &first.hardware);
}

/// Makes a guest from `data` whose host devices have hostile product strings, and compares the
/// devices that are found in its tree with those that it has.
///
/// # Errors
/// A description, if the tree cannot be parsed, if a device was lost or found elsewhere without a
/// contradiction, or if there is a contradiction although the end of every product string is known.
pub fn hostile(data: &[u8]) -> Result<(), String> {
    let guest = HostileGuest::from_bytes(data);
    let text = guest.tree();
    let mut scan = match qtree::parse(&text) {
        Some(root) => scan::scan(&root),
        None => return Err(format!("cannot be parsed:\n{text}")),
    };
    let contradictions = confirm::compare(&mut scan, &guest.objects());
    let contradicts = !contradictions.is_empty();
    if contradicts && guest.has_unknown_ends() {
        return Ok(());
    }
    let mut found = Vec::new();
    for controller in &scan.controllers {
        for device in &controller.devices {
            let port = device.dev.usb.as_ref().map(|usb| usb.port.clone());
            let port = port.and_then(Result::ok).map(|port| port.to_string()).unwrap_or_default();
            let bus = controller.usb_bus.as_deref().unwrap_or_default();
            found.push(format!("{bus} {port} {} {}", device.dev.driver, device.dev.id));
        }
    }
    found.sort();
    if contradicts || found != guest.devices() {
        return Err(format!("{contradictions:?}\n{found:#?}\n{text}"));
    }
    Ok(())
}

/// The controllers of a [`HostileGuest`]: driver, id, slot, USB bus, and path in the object model.
const CONTROLLERS: [(&str, &str, u8, &str, &str); 2] = [
    ("qemu-xhci", "x", 4, "x.0", "/machine/peripheral/x"),
    ("nec-usb-xhci", "", 5, "usb-bus.0", "/machine/peripheral-anon/device[0]"),
];

/// The drivers of its USB devices. The product strings of the first two do not come from QEMU.
const DRIVERS: [&str; 4] = ["usb-host", "usb-redir", "usb-kbd", "usb-mouse"];

/// A QEMU whose guest has host devices with hostile product strings: its device tree, and the
/// answers of its object model.
#[derive(Debug)]
pub struct HostileGuest {
    devices: Vec<HostileDevice>,
}

#[derive(Debug)]
struct HostileDevice {
    driver: &'static str,
    named: bool,
    controller: usize,
    attached: bool,
    product: String,
}

impl HostileGuest {
    /// Makes up to 15 devices from `data`. Each takes a byte that chooses its form. One whose
    /// product string does not come from QEMU then takes a byte for the length of the string, and
    /// the string: ASCII without zeros, as libusb returns it.
    pub fn from_bytes(data: &[u8]) -> HostileGuest {
        let mut bytes = data.iter().copied();
        let mut devices = Vec::new();
        while let Some(form) = bytes.next().filter(|_| devices.len() < 15) {
            let driver = DRIVERS.get(usize::from(form % 4)).copied().unwrap_or_default();
            let product = if qtree::has_untrusted_product(driver) {
                let length =
                    usize::from(bytes.next().unwrap_or_default()) % (qtree::MAX_PRODUCT + 1);
                let text = bytes.by_ref().take(length).map(|byte| char::from(byte & 0x7f));
                text.take_while(|character| *character != '\0').collect()
            } else {
                format!("QEMU {driver}")
            };
            devices.push(HostileDevice {
                driver,
                named: form & 4 != 0,
                controller: usize::from(form & 8 != 0),
                attached: form & 16 != 0 || !qtree::has_untrusted_product(driver),
                product,
            });
        }
        HostileGuest { devices }
    }

    /// What `info qtree` prints, with the line ends of QEMU's monitor.
    pub fn tree(&self) -> String {
        let mut text = String::from(
            "bus: main-system-bus\n  type System\n  dev: i440FX-pcihost, id \"\"\n    bus: pci.0\n      type PCI\n",
        );
        // The newest are first.
        for (number, (driver, id, slot, bus, _)) in CONTROLLERS.iter().enumerate().rev() {
            text.push_str(&format!(
                "      dev: {driver}, id \"{id}\"\n        addr = {slot:02}.0\n        bus: {bus}\n          type usb-bus\n"
            ));
            for (position, device) in self.devices.iter().enumerate().rev() {
                if device.controller != number {
                    continue;
                }
                let (driver, product) = (device.driver, &device.product);
                let (id, port) = (self.id(position), position + 1);
                let attached = if device.attached { ", attached" } else { "" };
                text.push_str(&format!(
                    "          dev: {driver}, id \"{id}\"\n            hostbus = 1 (0x1)\n            hostaddr = {port} (0x{port:x})\n\
                     \x20           addr 0.{port}, port {port}, speed 480, name {product}{attached}\n"
                ));
            }
        }
        text.push_str("  dev: kvmvapic, id \"\"\n");
        text.replace('\n', "\r\n")
    }

    /// QEMU's answer to a command. `None` if it refuses the command.
    pub fn answer(&self, command: &str, arguments: &Value) -> Option<Value> {
        let text = |key: &str| arguments.get(key).and_then(Value::as_str).unwrap_or_default();
        match (command, text("path"), text("property")) {
            ("human-monitor-command", ..) => Some(self.tree().into()),
            ("query-chardev" | "query-block", ..) => Some(json!([])),
            ("qom-list-types", ..) => {
                Some(DRIVERS.iter().map(|driver| json!({"name": driver})).collect())
            }
            ("qom-list", parent, _) => {
                let objects = self.objects().list.into_iter().filter_map(|object| {
                    let (of, name) = object.qom_path.rsplit_once('/')?;
                    (of == parent)
                        .then(|| json!({"name": name, "type": format!("child<{}>", object.driver)}))
                });
                Some(objects.collect())
            }
            ("qom-get", path, property) => {
                let mut objects = self.objects().list.into_iter();
                let object = objects.find(|object| object.qom_path == path)?;
                match property {
                    "parent_bus" => Some(object.bus.into()),
                    "addr" => Some(object.devfn?.into()),
                    "p2" | "p3" if object.devfn.is_some() => Some(15.into()),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Bus, port, driver and id of each device, sorted.
    pub fn devices(&self) -> Vec<String> {
        let devices = self.devices.iter().enumerate().map(|(position, device)| {
            let bus = CONTROLLERS.get(device.controller).map_or("", |(_, _, _, bus, _)| bus);
            format!("{bus} {} {} {}", position + 1, device.driver, self.id(position))
        });
        let mut devices: Vec<String> = devices.collect();
        devices.sort();
        devices
    }

    /// Whether a product string with a line break has no known end: its device is not attached.
    pub fn has_unknown_ends(&self) -> bool {
        self.devices.iter().any(|device| !device.attached && device.product.contains('\n'))
    }

    fn id(&self, position: usize) -> String {
        match self.devices.get(position) {
            Some(device) if device.named => format!("vusb-d{}", position + 1),
            _ => String::new(),
        }
    }

    fn objects(&self) -> Objects {
        let controllers = CONTROLLERS.iter().map(|(driver, id, slot, _, path)| Object {
            qom_path: (*path).to_owned(),
            id: (*id).to_owned(),
            driver: (*driver).to_owned(),
            bus: "/machine/i440fx/pci.0".to_owned(),
            devfn: Some(u64::from(*slot) * 8),
        });
        let devices = self.devices.iter().enumerate().map(|(position, device)| {
            let id = self.id(position);
            let qom_path = match id.as_str() {
                "" => format!("/machine/peripheral-anon/device[{}]", position + 1),
                id => scan::peripheral(id),
            };
            let bus = CONTROLLERS.get(device.controller);
            let bus = bus.map(|(_, _, _, bus, path)| format!("{path}/{bus}")).unwrap_or_default();
            Object { qom_path, id, driver: device.driver.to_owned(), bus, devfn: None }
        });
        Objects {
            list: controllers.chain(devices).collect(),
            device_drivers: DRIVERS.map(str::to_owned).into(),
        }
    }
}
