//! Emulated controllers of an HVM guest, through the QMP socket of a simulated device model.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use vusb_drivers::xenctl::Xen;
use vusb_drivers::{Driver, Error, Observed};
use vusb_model::address::{Address, PortPath};
use vusb_model::capabilities::Support;
use vusb_model::device::{Hub, Input, Kind};
use vusb_model::diff::Step;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{ControllerType, Model};

use crate::world::{LONG, World, add, at, controller, controller_of, domain, index, remove, stick};

/// The devices of a device model, in the order in which they were added.
type Devices = Arc<Mutex<Vec<Value>>>;

/// A device model with an empty PCI bus. It serves one connection at a time, as QEMU does.
fn start_device_model(socket: &Path) -> Devices {
    let listener = UnixListener::bind(socket).unwrap();
    let devices = Devices::default();
    let shared = Arc::clone(&devices);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = serve(stream.unwrap(), &shared);
        }
    });
    devices
}

fn serve(stream: UnixStream, devices: &Devices) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let version = json!({"qemu": {"major": 8, "minor": 2, "micro": 0}, "package": ""});
    writeln!(out, "{}", json!({"QMP": {"version": version, "capabilities": []}}))?;
    for line in BufReader::new(stream).lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let mut reply = match answer(&request, &mut devices.lock().unwrap()) {
            Some(value) => json!({"return": value}),
            None => json!({"error": {"class": "DeviceNotFound", "desc": "not found"}}),
        };
        reply["id"] = request["id"].clone();
        writeln!(out, "{reply}")?;
        if request["execute"] == "device_del" {
            let data = json!({"device": request["arguments"]["id"], "path": "/machine/x"});
            let timestamp = json!({"seconds": 1, "microseconds": 0});
            let event = json!({"event": "DEVICE_DELETED", "data": data, "timestamp": timestamp});
            writeln!(out, "{event}")?;
        }
    }
    Ok(())
}

/// What the device model answers; `None` is an error.
fn answer(request: &Value, devices: &mut Vec<Value>) -> Option<Value> {
    let arguments = &request["arguments"];
    match request["execute"].as_str()? {
        "qmp_capabilities" => Some(json!({})),
        "human-monitor-command" => Some(tree(devices).into()),
        "query-status" => Some(json!({"status": "running", "running": true})),
        "qom-list-types" => {
            let names = ["nec-usb-xhci", "qemu-xhci", "usb-host", "usb-tablet", "usb-hub"];
            Some(names.map(|name| json!({"name": name})).into())
        }
        "device_add" => {
            devices.push(arguments.clone());
            Some(json!({}))
        }
        "device_del" => {
            devices.retain(|it| it["id"] != arguments["id"]);
            Some(json!({}))
        }
        _ => None,
    }
}

/// `info qtree`.
fn tree(devices: &[Value]) -> String {
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    let mut tree = "bus: main-system-bus\n  type System\n  dev: i440FX-pcihost, id \"\"\n    bus: pci.0\n      type PCI\n"
        .to_owned();
    for (number, controller) in devices.iter().filter(|it| it["port"].is_null()).enumerate() {
        let (driver, id) = (text(&controller["driver"]), text(&controller["id"]));
        tree += &format!("      dev: {driver}, id \"{id}\"\n        addr = {:02}.0\n", 4 + number);
        for port in ["p2", "p3"] {
            if let Some(count) = controller[port].as_u64() {
                tree += &format!("        {port} = {count} ({count:#x})\n");
            }
        }
        tree += &format!("        bus: {id}.0\n          type usb-bus\n");
        for device in devices.iter().filter(|it| text(&it["bus"]) == format!("{id}.0")) {
            let (driver, id, port) =
                (text(&device["driver"]), text(&device["id"]), text(&device["port"]));
            tree +=
                &format!("          dev: {driver}, id \"{id}\"\n            port = \"{port}\"\n");
            for property in ["hostbus", "hostaddr", "usb_version"] {
                if let Some(value) = device[property].as_u64() {
                    tree += &format!("            {property} = {value} ({value:#x})\n");
                }
            }
            tree +=
                &format!("            addr 0.1, port {port}, speed 480, name Device, attached\n");
        }
    }
    tree
}

/// A machine with the HVM guest hvm1 (id 7) and its device model.
fn world() -> (World, Devices) {
    let world = World::new();
    world.machine.add_guest(domain(7), "hvm1", "hvm");
    world.plug_in(4, "0781:5581", "4C53");
    let devices = start_device_model(&world.path("qmp/qmp-libxl-7"));
    (world, devices)
}

fn observe(xen: &mut Xen) -> Observed {
    xen.observe(&Hardware::new()).unwrap()
}

fn hvm1(world: &World) -> Xen {
    let mut xen = world.guest("hvm1", LONG);
    observe(&mut xen);
    xen
}

fn hci(number: u16, ports: u8) -> Controller {
    controller_of(number, &format!("hci{number}"), Model::NecXhci, ports)
}

fn tablet() -> Device {
    Device { name: "tablet".parse().unwrap(), kind: Kind::Tablet(Input::default()) }
}

const LISTED: &str = "/libxl/7/device/vusb/1";

#[test]
fn what_the_device_model_adds_is_in_libxls_list() {
    let (world, devices) = world();
    let before = world.tree();
    let mut hvm1 = hvm1(&world);
    hvm1.perform(&add(&controller(0, "pv0"))).unwrap();
    let with_pv = world.tree();
    hvm1.perform(&add(&hci(1, 2))).unwrap();
    let mut listed = world.tree();
    listed.retain(|path, _| !with_pv.contains_key(path));
    let expected = [
        ("num-ports", "2"),
        ("port/1", ""),
        ("port/2", ""),
        ("type", "devicemodel"),
        ("usb-ver", "3"),
    ];
    let expected = expected.map(|(key, value)| (format!("{LISTED}/{key}"), value.to_owned()));
    assert_eq!(listed.into_iter().collect::<Vec<_>>(), expected);

    let (stick, tablet) = (stick(), tablet());
    hvm1.perform(&Step::Plug(at(1, 2), stick.clone())).unwrap();
    assert_eq!(world.node(&format!("{LISTED}/port/2")).as_deref(), Some("1-4"));
    hvm1.perform(&Step::Plug(at(1, 1), tablet.clone())).unwrap();
    assert_eq!(
        world.node(&format!("{LISTED}/port/1")).as_deref(),
        Some(""),
        "libxl has no tablets"
    );
    assert_eq!(devices.lock().unwrap().len(), 3);

    hvm1.perform(&Step::Unplug(at(1, 1), tablet)).unwrap();
    assert_eq!(world.node(&format!("{LISTED}/port/2")).as_deref(), Some("1-4"));
    hvm1.perform(&Step::Unplug(at(1, 2), stick)).unwrap();
    assert_eq!(world.node(&format!("{LISTED}/port/2")).as_deref(), Some(""));
    hvm1.perform(&remove(&hci(1, 2))).unwrap();
    assert_eq!(world.tree(), with_pv);
    assert!(devices.lock().unwrap().is_empty());
    hvm1.perform(&remove(&controller(0, "pv0"))).unwrap();
    assert_eq!(world.tree(), before);
}

#[test]
fn a_number_that_is_taken_in_libxls_list_is_replaced() {
    let (world, _) = world();
    world.write("/libxl/7/device/vusb/1/type", "something");
    let mut hvm1 = hvm1(&world);
    hvm1.perform(&add(&hci(1, 2))).unwrap();
    assert_eq!(world.node("/libxl/7/device/vusb/0/index").as_deref(), Some("1"));
    hvm1.perform(&Step::Plug(at(1, 1), stick())).unwrap();
    assert_eq!(world.node("/libxl/7/device/vusb/0/port/1").as_deref(), Some("1-4"));
    hvm1.perform(&Step::Unplug(at(1, 1), stick())).unwrap();
    hvm1.perform(&remove(&hci(1, 2))).unwrap();
    assert_eq!(world.node("/libxl/7/device/vusb/0/type"), None);
    assert!(world.node("/libxl/7/device/vusb/1/type").is_some());
}

#[test]
fn each_emulated_controller_has_its_own_entry() {
    let (world, _) = world();
    let mut hvm1 = hvm1(&world);
    hvm1.perform(&add(&hci(1, 2))).unwrap();
    hvm1.perform(&add(&hci(2, 2))).unwrap();
    hvm1.perform(&Step::Plug(at(2, 1), stick())).unwrap();
    assert_eq!(world.node("/libxl/7/device/vusb/1/port/1").as_deref(), Some(""));
    assert_eq!(world.node("/libxl/7/device/vusb/2/port/1").as_deref(), Some("1-4"));
    hvm1.perform(&Step::Unplug(at(2, 1), stick())).unwrap();
    hvm1.perform(&remove(&hci(2, 2))).unwrap();
    assert!(world.node("/libxl/7/device/vusb/1/type").is_some());
    assert_eq!(world.node("/libxl/7/device/vusb/2/type"), None);
}

#[test]
fn libxls_list_has_no_ports_behind_a_hub_and_no_unknown_ones() {
    let (world, _) = world();
    let mut hvm1 = hvm1(&world);
    hvm1.perform(&add(&hci(1, 2))).unwrap();
    let hub = Device { name: "hub".parse().unwrap(), kind: Kind::Hub(Hub::default()) };
    hvm1.perform(&Step::Plug(at(1, 1), hub)).unwrap();
    let before = world.tree();
    let port = PortPath::root(1.try_into().unwrap()).child(2.try_into().unwrap()).unwrap();
    hvm1.perform(&Step::Plug(Address { bus: index(1), port }, stick())).unwrap();
    assert_eq!(world.tree(), before);
    // A port that the entry in libxl's list lacks, and then a controller without an entry.
    world.remove(&format!("{LISTED}/port/2"));
    let before = world.tree();
    hvm1.perform(&Step::Plug(at(1, 2), stick())).unwrap();
    assert_eq!(world.tree(), before);
    world.remove(LISTED);
    hvm1.perform(&Step::Unplug(at(1, 2), stick())).unwrap();
    assert_eq!(world.node(&format!("{LISTED}/port/2")), None);
}

#[test]
fn a_paravirtual_controllers_index_is_not_given_to_an_emulated_one() {
    let (world, devices) = world();
    let mut xen = hvm1(&world);
    // An emulated controller of another tool, which has no index of its own.
    devices.lock().unwrap().push(json!({"driver": "qemu-xhci", "id": "other"}));
    xen.perform(&add(&controller(0, "usb"))).unwrap();
    let observed = observe(&mut xen);
    let all: Vec<(u16, Model)> =
        observed.hardware.controllers().map(|it| (it.index.get(), it.model)).collect();
    assert_eq!(all, [(0, Model::Xenusb2), (1, Model::QemuXhci)]);
    assert_eq!(observed.hardware.controller(index(0)).unwrap().name.as_str(), "usb");
}

#[test]
fn an_hvm_guest_has_both_types() {
    let (world, _) = world();
    let mut xen = hvm1(&world);
    let capabilities = xen.capabilities(None).unwrap();
    assert_eq!(capabilities.hypervisor, "Xen (HVM guest), QEMU 8.2.0 (machine unknown)");
    assert_eq!(capabilities.default_type, ControllerType::Emulated);
    assert_eq!(capabilities.models[&Model::NecXhci], Support::Hot);
    assert_eq!(capabilities.models[&Model::Xenusb2], Support::Hot);
    assert!(matches!(capabilities.models[&Model::Xenusb3], Support::Unsupported { .. }));
    assert_eq!(capabilities.kinds["host"], Support::Hot);
    let Support::EmulatedOnly { why } = &capabilities.kinds["tablet"] else { panic!() };
    assert!(why.contains("PVUSB carries real devices"), "{why}");
    assert!(matches!(capabilities.kinds["mtp"], Support::Unsupported { .. }));
}

#[test]
fn steps_are_checked_by_the_driver_that_takes_them() {
    let (world, _) = world();
    let mut xen = hvm1(&world);
    xen.capabilities(None).unwrap();
    let steps = [
        add(&controller(0, "pv0")),
        add(&hci(1, 2)),
        Step::Plug(at(0, 1), stick()),
        Step::Plug(at(1, 1), tablet()),
    ];
    xen.check(&steps).unwrap();
    let error = xen.check(&[steps[0].clone(), Step::Plug(at(0, 1), tablet())]).unwrap_err();
    assert!(matches!(&error, Error::NotImplemented { by, .. } if by == "PVUSB"), "{error}");
    let ohci = controller_of(1, "hci1", Model::PciOhci, 3);
    let error = xen.check(&[add(&ohci)]).unwrap_err();
    assert!(error.to_string().contains("pci-ohci"), "{error}");
}

#[test]
fn one_connection_to_the_device_model_is_kept() {
    let (world, _) = world();
    let mut xen = hvm1(&world);
    // A second connection would wait for the first, which is still open.
    for _ in 0..3 {
        observe(&mut xen);
    }
    xen.perform(&add(&hci(0, 2))).unwrap();
    assert_eq!(observe(&mut xen).hardware.controllers().len(), 1);
    world.machine.destroy_guest(domain(7));
    world.machine.add_guest(domain(8), "hvm1", "hvm");
    start_device_model(&world.path("qmp/qmp-libxl-8"));
    assert_eq!(observe(&mut xen).hardware.controllers().len(), 0, "it is another guest's");
}

#[test]
fn a_step_succeeds_even_if_libxls_list_cannot_be_updated() {
    let (world, devices) = world();
    let mut xen = hvm1(&world);
    world.machine.xenstored().cause_conflicts(u32::MAX);
    xen.perform(&add(&hci(1, 2))).unwrap();
    assert_eq!(devices.lock().unwrap().len(), 1);
    assert_eq!(world.node(&format!("{LISTED}/type")), None);
}
