//! What QEMU is told to make a controller or a device: the same properties for `device_add` and for `-device`.

mod as_libvirt;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use vusb_model::address::{Address, PortPath};
use vusb_model::device::{Chardev, Kind, NetBackend, Redir, Serial, Storage};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::ICH9_EHCI_FUNCTION;

pub use self::as_libvirt::{Details, arguments_as_libvirt};
use super::names::{controller_driver, controller_id, device_id, driver_of};
use crate::driver::Error;

/// The properties of something that QEMU makes.
pub(super) type Properties = Map<String, Value>;

fn properties(pairs: Value) -> Properties {
    match pairs {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A controller without its companions. `None` for a model that QEMU does not have.
pub(super) fn controller(controller: &Controller) -> Option<Properties> {
    let driver = controller_driver(controller.model)?;
    let id = controller_id(controller);
    let mut all = properties(json!({"driver": driver, "id": id}));
    if controller.model.is_xhci() {
        all.insert("p2".to_owned(), controller.ports.usb2().into());
        all.insert("p3".to_owned(), controller.ports.usb3().into());
    }
    if let Some(pci) = &controller.pci {
        all.insert("bus".to_owned(), pci.bus.clone().into());
        all.insert("addr".to_owned(), format!("{:02x}.{:x}", pci.slot, pci.function).into());
    }
    Some(all)
}

/// A device on QEMU's USB bus `bus`. The back ends that it needs come first: see [`backend`].
pub(super) fn device(device: &Device, bus: &str, port: PortPath) -> Properties {
    let id = device_id(device.name.as_str());
    let mut all = properties(
        json!({"driver": driver_of(&device.kind), "id": id, "bus": bus, "port": port.to_string()}),
    );
    let own = backend_id(device.name.as_str());
    let more = match &device.kind {
        Kind::Host(host) => host.at.map(|at| json!({"hostbus": at.bus, "hostaddr": at.address})),
        Kind::Storage(_) => Some(json!({"drive": own})),
        // Said, and not left to the machine type, whose default differs from one to the next.
        Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input) => {
            Some(json!({"usb_version": u8::from(input.usbversion)}))
        }
        Kind::Hub(hub) => Some(json!({"ports": hub.ports})),
        // Without the last, the guest loses the adapter whenever nobody holds the other end.
        Kind::Serial(serial) => {
            Some(json!({"chardev": chardev_id(&serial.chardev, own), "always-plugged": true}))
        }
        Kind::Redir(redir) => Some(json!({"chardev": chardev_id(&redir.chardev, own)})),
        Kind::Audio(audio) => audio.audiodev.as_ref().map(|id| json!({"audiodev": id})),
        Kind::Net(net) => {
            let mut more = properties(json!({}));
            match &net.backend {
                NetBackend::User => more.insert("netdev".to_owned(), own.into()),
                NetBackend::Existing(id) => more.insert("netdev".to_owned(), id.clone().into()),
                NetBackend::None => None,
            };
            more.extend(net.mac.map(|mac| ("mac".to_owned(), mac.to_string().into())));
            Some(Value::Object(more))
        }
        Kind::Mtp(mtp) => Some(json!({"rootdir": mtp.dir, "readonly": !mtp.writable})),
        Kind::Ccid | Kind::Other(_) => None,
    };
    all.extend(more.map(properties).unwrap_or_default());
    all
}

/// The id of a device's own back end: `vusb-` and its name; a name that does not fit is hashed, for a block node's name has 31
/// characters (`node_name` in QEMU's `block_int-common.h`).
pub(super) fn backend_id(name: &str) -> String {
    let plain = device_id(name);
    if plain.len() <= 31 {
        return plain;
    }
    let hash: [u8; 32] = Sha256::digest(name.as_bytes()).into();
    let hex: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    device_id(&hex)
}

fn chardev_id(chardev: &Chardev, own: String) -> String {
    match chardev {
        Chardev::Existing(id) => id.clone(),
        _ => own,
    }
}

/// What is behind a device and has to be made before it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Backend {
    /// A block node, as `blockdev-add` takes it.
    Block(Properties),
    /// A character device: its id, and its backend as `chardev-add` takes it.
    Chardev(String, Value),
    /// A network back end, as `netdev_add` takes it.
    Netdev(Properties),
}

/// What a device needs behind it.
pub(super) fn backend(device: &Device) -> Option<Backend> {
    let own = backend_id(device.name.as_str());
    let stream = |chardev: &Chardev| {
        chardev_backend(chardev).map(|backend| Backend::Chardev(own.clone(), backend))
    };
    match &device.kind {
        Kind::Storage(storage) => Some(Backend::Block(block(storage, &own))),
        Kind::Serial(serial) => stream(&serial.chardev),
        Kind::Redir(redir) => stream(&redir.chardev),
        Kind::Net(net) if net.backend == NetBackend::User => {
            Some(Backend::Netdev(properties(json!({"type": "user", "id": own}))))
        }
        _ => None,
    }
}

/// What was made for a device of vusb's own and is to be removed with it. A stream that QEMU does not describe (a file) is known by
/// its id alone.
pub(super) fn left_behind(device: &Device) -> Option<Backend> {
    let own = backend_id(device.name.as_str());
    match &device.kind {
        Kind::Serial(Serial { chardev: Chardev::Existing(id) })
        | Kind::Redir(Redir { chardev: Chardev::Existing(id) })
            if *id == own =>
        {
            Some(Backend::Chardev(own, Value::Null))
        }
        _ => backend(device),
    }
}

fn block(storage: &Storage, node: &str) -> Properties {
    properties(json!({
        "driver": storage.format.to_string(),
        "node-name": node,
        "read-only": storage.readonly,
        "file": {"driver": "file", "filename": storage.file},
    }))
}

fn chardev_backend(chardev: &Chardev) -> Option<Value> {
    let socket = |addr: Value, server: bool| {
        let mut data = properties(json!({"addr": addr, "server": server}));
        if server {
            data.insert("wait".to_owned(), false.into());
        }
        json!({"type": "socket", "data": data})
    };
    Some(match chardev {
        Chardev::Existing(_) => return None,
        Chardev::Pty => json!({"type": "pty", "data": {}}),
        Chardev::Null => json!({"type": "null", "data": {}}),
        Chardev::File(path) => json!({"type": "file", "data": {"out": path}}),
        Chardev::Spicevmc => json!({"type": "spicevmc", "data": {"type": "usbredir"}}),
        Chardev::Unix { path, server } => {
            socket(json!({"type": "unix", "data": {"path": path}}), *server)
        }
        Chardev::Tcp { host, port, server } => {
            let host =
                host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            socket(
                json!({"type": "inet", "data": {"host": host, "port": port.to_string()}}),
                *server,
            )
        }
    })
}

/// How to write the arguments for a cold start.
#[derive(Clone, Debug, Default)]
pub struct ArgumentOptions {
    /// How many empty PCI Express root ports to give the guest, for controllers that are added while it runs. For q35 and
    /// other machines whose root bus takes no hot plug; i440fx needs none.
    pub spare_slots: u8,
}

/// The slots of ICH9 groups, in the order in which they are taken: where a real ICH9 has its two (datasheet, section 5.1.8), and
/// then downwards, far from where QEMU puts what has no address.
const GROUP_SLOTS: [u8; 8] = [0x1d, 0x1a, 0x1b, 0x19, 0x18, 0x17, 0x16, 0x15];

/// QEMU's arguments for this hardware, to be added to those of a machine that is started with no USB of its own: a QEMU
/// that is started with them is observed to have just this hardware.
///
/// # Errors
/// QEMU cannot have it: a paravirtual controller, a host device that is not plugged in, a device of another tool.
pub fn arguments(hardware: &Hardware, options: &ArgumentOptions) -> Result<Vec<String>, Error> {
    let mut out = Vec::new();
    for slot in 0..options.spare_slots {
        let port = json!({"driver": "pcie-root-port", "id": format!("vusb-slot{slot}"), "chassis": 100 + u16::from(slot)});
        out.extend(["-device".to_owned(), port.to_string()]);
    }
    let mut group_slots = GROUP_SLOTS.into_iter();
    for controller in hardware.controllers() {
        cold_controller(controller, &mut group_slots, &mut out)?;
        let bus = format!("{}.0", controller_id(controller));
        for (port, device) in controller.devices() {
            cold_device(device, &bus, Address { bus: controller.index, port }, &mut out)?;
        }
    }
    Ok(out)
}

fn refuse(what: String, why: &str) -> Error {
    Error::NotImplemented { what, by: "QEMU".to_owned(), why: why.to_owned() }
}

fn cold_controller(
    it: &Controller,
    group_slots: &mut impl Iterator<Item = u8>,
    out: &mut Vec<String>,
) -> Result<(), Error> {
    let Some(mut main) = controller(it) else {
        return Err(refuse(
            format!("a {} controller", it.model),
            "it has no paravirtual USB controller outside Xen",
        ));
    };
    let mut push =
        |device: Properties| out.extend(["-device".to_owned(), Value::Object(device).to_string()]);
    // The functions of a group share a slot, which therefore has to be said.
    let slot = match (&it.pci, it.companions.is_empty()) {
        (_, true) => None,
        (Some(pci), false) => Some(pci.slot),
        (None, false) => Some(
            group_slots
                .next()
                .ok_or_else(|| refuse(it.describe(), "there are 8 such groups already"))?,
        ),
    };
    if let Some(slot) = slot {
        main.insert("addr".to_owned(), format!("{slot:02x}.{ICH9_EHCI_FUNCTION}").into());
        main.insert("multifunction".to_owned(), true.into());
    }
    let (id, pci_bus) = (
        main.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
        main.get("bus").cloned(),
    );
    push(main);
    for companion in &it.companions {
        let mut device = properties(json!({
            "driver": controller_driver(companion.model.model()),
            "masterbus": format!("{id}.0"),
            "firstport": companion.first_port,
            "multifunction": true,
        }));
        device.extend(slot.map(|slot| {
            ("addr".to_owned(), format!("{slot:02x}.{}", companion.model.function()).into())
        }));
        device.extend(pci_bus.clone().map(|bus| ("bus".to_owned(), bus)));
        push(device);
    }
    Ok(())
}

fn cold_device(it: &Device, bus: &str, at: Address, out: &mut Vec<String>) -> Result<(), Error> {
    match &it.kind {
        Kind::Host(host) if host.at.is_none() => {
            let why = "plug it in, or take it out of the spec; `vusb apply` can add it to the running guest later";
            return Err(Error::Missing { what: host.selector.to_string(), why: why.to_owned() });
        }
        Kind::Other(other) => {
            return Err(refuse(
                format!("a {}", other.driver),
                "another tool's device is not made anew",
            ));
        }
        _ => {}
    }
    match backend(it) {
        Some(Backend::Block(node)) => {
            out.extend(["-blockdev".to_owned(), Value::Object(node).to_string()]);
        }
        Some(Backend::Netdev(netdev)) => {
            let id = netdev.get("id").and_then(Value::as_str).unwrap_or_default();
            out.extend(["-netdev".to_owned(), format!("user,id={id}")]);
        }
        Some(Backend::Chardev(id, _)) => {
            if let Kind::Serial(Serial { chardev }) | Kind::Redir(Redir { chardev }) = &it.kind {
                out.extend(["-chardev".to_owned(), cold_chardev(chardev, &id)]);
            }
        }
        None => {}
    }
    out.extend(["-device".to_owned(), Value::Object(device(it, bus, at.port)).to_string()]);
    Ok(())
}

/// `-chardev` takes no JSON: a comma in a value is written twice.
fn cold_chardev(chardev: &Chardev, id: &str) -> String {
    let escaped = |text: &str| text.replace(',', ",,");
    let mode = |server: bool| if server { ",server=on,wait=off" } else { "" };
    match chardev {
        Chardev::Existing(_) | Chardev::Null => format!("null,id={id}"),
        Chardev::Pty => format!("pty,id={id}"),
        Chardev::File(path) => format!("file,id={id},path={}", escaped(path)),
        Chardev::Spicevmc => format!("spicevmc,id={id},name=usbredir"),
        Chardev::Unix { path, server } => {
            format!("socket,id={id},path={}{}", escaped(path), mode(*server))
        }
        Chardev::Tcp { host, port, server } => {
            let host =
                host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            format!("socket,id={id},host={},port={port}{}", escaped(host), mode(*server))
        }
    }
}
