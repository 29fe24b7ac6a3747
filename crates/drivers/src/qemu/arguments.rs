//! The properties of controllers, devices and back ends: the same for `device_add` and for
//! `-device`.

mod libvirt;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use vusb_model::address::{Address, PortPath};
use vusb_model::device::{Chardev, HostRef, Kind, Media, NetBackend, Redir, Serial, Storage};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::ICH9_EHCI_FUNCTION;
use vusb_model::remedy::{Reason, Remedy};
use vusb_model::selector::Selector;

pub use self::libvirt::{DeviceProperties, libvirt_arguments};
use super::names::{CD_DRIVE, controller_driver, controller_id, device_id, driver_of};
use crate::driver::Error;

/// The properties of an object in QEMU.
pub(super) type Properties = Map<String, Value>;

fn properties(pairs: Value) -> Properties {
    match pairs {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The properties of a controller, without its companions. `None` for a model that QEMU does not
/// have.
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

/// Why QEMU cannot have the ports of a controller: those of VirtualBox's OHCI and EHCI.
pub(super) fn other_ports(controller: &Controller) -> Option<String> {
    let Controller { model, ports, .. } = controller;
    let most = *model.port_range().end();
    (!model.is_qemu_ports(*ports))
        .then(|| format!("QEMU's {model} has {most} ports, and this one {}", ports.count()))
}

/// The properties of a device on QEMU's USB bus `bus`. Its back end has to be added before it: see
/// [`backend`].
pub(super) fn device(device: &Device, bus: &str, port: PortPath) -> Properties {
    let id = device_id(device.name.as_str());
    let mut all = properties(
        json!({"driver": driver_of(&device.kind), "id": id, "bus": bus, "port": port.to_string()}),
    );
    let own = backend_id(device.name.as_str());
    let more = match &device.kind {
        Kind::Host(host) => {
            host.bus_address.map(|at| json!({"hostbus": at.bus, "hostaddr": at.address}))
        }
        Kind::Storage(storage) => Some(Value::Object(disk(storage, &own))),
        // Always set, because the default depends on the machine type.
        Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input) => {
            Some(json!({"usb_version": u8::from(input.usbversion)}))
        }
        Kind::Hub(hub) => Some(json!({"ports": hub.ports})),
        // Without `always-plugged`, the guest loses the adapter whenever no peer is connected.
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

/// The properties of a disk, or of the USB part of a CD drive.
fn disk(storage: &Storage, node: &str) -> Properties {
    let mut all = match storage.media {
        Media::Disk => properties(json!({"drive": node})),
        Media::Cdrom => properties(json!({})),
    };
    // QEMU's default is a disk that is not removable.
    all.extend(storage.removable.then(|| ("removable".to_owned(), true.into())));
    all.extend(storage.serial.as_ref().map(|it| ("serial".to_owned(), it.as_str().into())));
    all
}

/// The properties of the drive behind a CD drive's USB part, to be added after that part. `None`
/// for any other device, which is complete by itself.
pub(super) fn drive(device: &Device) -> Option<Properties> {
    let Kind::Storage(storage) = &device.kind else { return None };
    let id = device_id(device.name.as_str());
    let mut drive = properties(json!({
        "driver": CD_DRIVE,
        "bus": format!("{id}.0"),
        "lun": 0,
        "drive": backend_id(device.name.as_str()),
    }));
    drive.extend(storage.serial.as_ref().map(|it| ("serial".to_owned(), it.as_str().into())));
    (storage.media == Media::Cdrom).then_some(drive)
}

/// The id of a device's own back end: `vusb-` and the device's name. A name that is too long is
/// hashed, because the name of a block node has at most 31 characters (`node_name` in QEMU's
/// `block_int-common.h`).
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

/// The back end of a device, which has to be added before it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum DeviceBackend {
    /// A block node, as `blockdev-add` takes it.
    Block(Properties),
    /// A character device: its id, and its backend as `chardev-add` takes it.
    Chardev(String, Value),
    /// A network back end, as `netdev_add` takes it.
    Netdev(Properties),
}

/// The back end that a device needs, if vusb has to add one.
pub(super) fn backend(device: &Device) -> Option<DeviceBackend> {
    let own = backend_id(device.name.as_str());
    let stream = |chardev: &Chardev| {
        chardev_backend(chardev).map(|backend| DeviceBackend::Chardev(own.clone(), backend))
    };
    match &device.kind {
        Kind::Storage(storage) => Some(DeviceBackend::Block(block(storage, &own))),
        Kind::Serial(serial) => stream(&serial.chardev),
        Kind::Redir(redir) => stream(&redir.chardev),
        Kind::Net(net) if net.backend == NetBackend::User => {
            Some(DeviceBackend::Netdev(properties(json!({"type": "user", "id": own}))))
        }
        _ => None,
    }
}

/// The back end to remove together with a device that vusb created.
pub(super) fn backend_to_remove(device: &Device) -> Option<DeviceBackend> {
    if has_unknown_chardev(device) {
        let own = backend_id(device.name.as_str());
        return Some(DeviceBackend::Chardev(own, Value::Null));
    }
    backend(device)
}

/// Whether only the id of the device's own character device is known: it is of a type that QEMU
/// does not show in full (such as a file), and it is not recorded.
fn has_unknown_chardev(device: &Device) -> bool {
    match &device.kind {
        Kind::Serial(Serial { chardev: Chardev::Existing(id) })
        | Kind::Redir(Redir { chardev: Chardev::Existing(id) }) => {
            *id == backend_id(device.name.as_str())
        }
        _ => false,
    }
}

/// Why a device that vusb created could not be recreated exactly as it is. `None` if it could.
pub(super) fn not_restorable(device: &Device) -> Option<&'static str> {
    if has_unknown_chardev(device) {
        return Some("QEMU does not show what its character device is, and it is not recorded");
    }
    matches!(device.kind, Kind::Other(_)).then_some("vusb does not know all of its properties")
}

fn block(storage: &Storage, node: &str) -> Properties {
    properties(json!({
        "driver": storage.format.to_string(),
        "node-name": node,
        "read-only": storage.readonly,
        "file": {"driver": protocol(&storage.file), "filename": storage.file},
    }))
}

/// QEMU's driver for a file or a block device: each refuses the other.
fn protocol(path: &str) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    let is_block = match std::fs::metadata(path) {
        Ok(metadata) => metadata.file_type().is_block_device(),
        // The arguments may be for another machine.
        Err(_) => path.starts_with("/dev/"),
    };
    if is_block { "host_device" } else { "file" }
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

/// What to add to the arguments of a cold start.
#[derive(Clone, Debug, Default)]
pub struct ArgumentOptions {
    /// The number of empty PCI Express root ports for controllers that are added while the guest
    /// runs. They are needed on q35 and other machines whose root bus does not support hot plug,
    /// but not on i440fx.
    pub spare_slots: u8,
}

/// The slots of ICH9 groups, in order of preference: first those of the two groups in a real ICH9
/// (datasheet, section 5.1.8), then others from the top down: QEMU gives the lowest free slots to
/// devices without an address.
const ICH9_SLOTS: [u8; 8] = [0x1d, 0x1a, 0x1b, 0x19, 0x18, 0x17, 0x16, 0x15];

/// QEMU's arguments for this hardware, to be added to those of a machine without USB of its own. In
/// a QEMU that is started with them, vusb observes exactly this hardware.
///
/// # Errors
/// QEMU cannot be started with a paravirtual controller, a host device that is not plugged in, or a
/// device of another tool. There is no slot for more than 8 ICH9 groups without a PCI address.
pub fn arguments(hardware: &Hardware, options: &ArgumentOptions) -> Result<Vec<String>, Error> {
    let mut out = Vec::new();
    for slot in 0..options.spare_slots {
        let port = json!({"driver": "pcie-root-port", "id": format!("vusb-slot{slot}"), "chassis": 100 + u16::from(slot)});
        out.extend(["-device".to_owned(), port.to_string()]);
    }
    let mut group_slots = ICH9_SLOTS.into_iter();
    for controller in hardware.controllers() {
        command_line_controller(controller, &mut group_slots, &mut out)?;
        let bus = format!("{}.0", controller_id(controller));
        for (port, device) in controller.devices() {
            command_line_device(device, &bus, Address { bus: controller.index, port }, &mut out)?;
        }
    }
    Ok(out)
}

fn refuse(what: String, why: &str) -> Error {
    Error::NotImplemented { what, by: "QEMU".to_owned(), why: why.into() }
}

fn command_line_controller(
    item: &Controller,
    group_slots: &mut impl Iterator<Item = u8>,
    out: &mut Vec<String>,
) -> Result<(), Error> {
    if let Some(why) = other_ports(item) {
        return Err(refuse(item.describe(), &why));
    }
    let Some(mut main) = controller(item) else {
        return Err(refuse(
            format!("a {} controller", item.model),
            "it has no paravirtual USB controller outside Xen",
        ));
    };
    let mut push =
        |device: Properties| out.extend(["-device".to_owned(), Value::Object(device).to_string()]);
    // The functions of a group share a slot, so the slot has to be explicit.
    let slot = match (&item.pci, item.companions.is_empty()) {
        (_, true) => None,
        (Some(pci), false) => Some(pci.slot),
        (None, false) => Some(
            group_slots
                .next()
                .ok_or_else(|| refuse(item.describe(), "there are already 8 such groups"))?,
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
    for companion in &item.companions {
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

fn command_line_device(
    item: &Device,
    bus: &str,
    at: Address,
    out: &mut Vec<String>,
) -> Result<(), Error> {
    match &item.kind {
        Kind::Host(host) if host.bus_address.is_none() => {
            let why = Reason::from(
                "it is not plugged into this machine; plug it in, or remove it from the spec",
            )
            .remedy(Remedy::RestoreLater);
            return Err(Error::Missing { what: host.selector.to_string(), why });
        }
        Kind::Other(other) => {
            return Err(refuse(
                format!("a {}", other.driver),
                "vusb cannot recreate a device of another tool",
            ));
        }
        _ => {}
    }
    match backend(item) {
        Some(DeviceBackend::Block(node)) => {
            out.extend(["-blockdev".to_owned(), Value::Object(node).to_string()]);
        }
        Some(DeviceBackend::Netdev(netdev)) => {
            let id = netdev.get("id").and_then(Value::as_str).unwrap_or_default();
            out.extend(["-netdev".to_owned(), format!("user,id={id}")]);
        }
        Some(DeviceBackend::Chardev(id, _)) => {
            if let Kind::Serial(Serial { chardev }) | Kind::Redir(Redir { chardev }) = &item.kind {
                out.extend(["-chardev".to_owned(), command_line_chardev(chardev, &id)]);
            }
        }
        None => {}
    }
    let mut device = device(item, bus, at.port);
    if let Kind::Host(host) = &item.kind {
        use_stable_properties(&mut device, host);
    }
    out.extend(["-device".to_owned(), Value::Object(device).to_string()]);
    if let Some(drive) = drive(item) {
        out.extend(["-device".to_owned(), Value::Object(drive).to_string()]);
    }
    Ok(())
}

/// Makes QEMU find a host device by vendor and product if it was selected by these, and by its port
/// otherwise: the address changes with each plug, and may be another one when the guest is started.
/// The address is kept only if the port is unknown. QEMU has no property for a serial number, so
/// the port replaces that too.
fn use_stable_properties(device: &mut Properties, host: &HostRef) {
    let port = match &host.selector {
        Selector::Port(port) => Some(port),
        _ => host.port.as_ref(),
    };
    let stable = match (&host.selector, port) {
        (Selector::Id { id, serial: None }, _) => {
            json!({"vendorid": id.vendor, "productid": id.product})
        }
        (_, Some(port)) => json!({"hostbus": port.bus(), "hostport": port.chain_text()}),
        (_, None) => return,
    };
    device.retain(|key, _| !matches!(key.as_str(), "hostbus" | "hostaddr"));
    device.extend(properties(stable));
}

/// The value of `-chardev`, which is not JSON: a comma in a value has to be doubled.
fn command_line_chardev(chardev: &Chardev, id: &str) -> String {
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
