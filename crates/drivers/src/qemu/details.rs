//! Queries QMP for the facts that the device tree does not contain: paths in the object model, the
//! port counts of an xHCI, the files behind drives, and what character devices are connected to.
//!
//! Each query costs a turn of QEMU's main loop. Queries that do not depend on each other are
//! therefore sent together.

use std::collections::HashMap;

use serde_json::{Value, json};
use vusb_model::device::Kind;
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;

use super::confirm::{self, Object, Objects};
use super::names::{model_of, parse_device_id};
use super::passed_files::{self, PassedFile};
use super::scan::{Scan, peripheral};
use super::session::Session;
use crate::driver::Error;

/// A block device.
#[derive(Debug)]
pub(super) struct Block {
    /// The names that a USB device's `drive` property may have for it: of the node and of the
    /// `-drive`.
    pub(super) names: [String; 2],
    /// QEMU's name for the image format.
    pub(super) format: String,
    pub(super) file: String,
    pub(super) readonly: bool,
}

/// The results of the queries.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub(super) blocks: Vec<Block>,
    /// What each character device is connected to, as QEMU prints it (`filename`), by id.
    pub(super) chardevs: HashMap<String, String>,
    /// The address of each socket as QEMU's `SocketAddress`, by id. Only queried for devices that
    /// are not recorded. For a client, it is the configured address. `filename` contains the
    /// connected address instead, and no address at all for a Unix socket.
    pub(super) addresses: HashMap<String, Value>,
    /// The files that vusb has passed to QEMU. Only queried if a device may use one.
    pub(super) passed: Vec<PassedFile>,
    /// The paths of these files, by the paths that QEMU has for them.
    pub(super) passed_paths: HashMap<String, String>,
}

/// Answers to queries that were sent before it was known whether they are needed, by command and
/// arguments. They are only valid for the observation that they were sent for.
#[derive(Default)]
pub(super) struct Prefetched(HashMap<String, Value>);

impl Prefetched {
    /// Stores an answer.
    pub(super) fn insert(&mut self, command: &str, arguments: &Value, answer: Value) {
        self.0.insert(format!("{command} {arguments}"), answer);
    }

    fn take(&mut self, command: &str, arguments: &Value) -> Option<Value> {
        self.0.remove(&format!("{command} {arguments}"))
    }
}

/// A command and its arguments.
type Command = (&'static str, Value);

/// The queries that a guest with the recorded hardware will most likely need. A wrong guess costs
/// an answer that is not used.
pub(super) fn prefetch_commands(recorded: &Hardware) -> Vec<Command> {
    let mut commands = Vec::new();
    for controller in recorded.controllers().filter(|controller| controller.model.is_xhci()) {
        // The ids of vusb's own controllers contain the port counts. For another tool's controller,
        // the name may be the id.
        let path = peripheral(controller.name.as_str());
        commands.extend(["p2", "p3"].map(|property| property_query(&path, property)));
    }
    let kinds = || recorded.devices().map(|(_, device)| &device.kind);
    if kinds().any(|kind| matches!(kind, Kind::Storage(_))) {
        commands.push(block_query());
    }
    if kinds().any(|kind| matches!(kind, Kind::Serial(_) | Kind::Redir(_))) {
        commands.push(chardev_query());
    }
    commands
}

fn property_query(path: &str, property: &str) -> Command {
    ("qom-get", json!({"path": path, "property": property}))
}

fn block_query() -> Command {
    ("query-block", json!({}))
}

fn chardev_query() -> Command {
    ("query-chardev", json!({}))
}

/// What the answer to a query is used for.
enum Purpose {
    /// The number of USB 2 ports of the controller with this position in the scan.
    Usb2Ports(usize),
    /// The number of USB 3 ports.
    Usb3Ports(usize),
    Blocks,
    Chardevs,
    /// The address of the socket with this id.
    Address(String),
}

/// Sends the queries, and completes `scan` with their answers. `objects` are those of the object
/// model, if they were queried already.
pub(super) fn query(
    session: &mut Session,
    scan: &mut Scan,
    mut prefetched: Prefetched,
    recorded: &Hardware,
    objects: Option<&Objects>,
) -> Result<Details, Error> {
    if scan.has_missing_paths() {
        match objects {
            Some(objects) => assign_qom_paths(scan, &objects.list),
            None => {
                let candidates = list_candidates(session, scan)?;
                assign_qom_paths(scan, &candidates);
            }
        }
    }
    let mut commands = Vec::new();
    let mut purposes = Vec::new();
    let mut answers = Vec::new();
    for (purpose, (command, arguments)) in needed(scan, recorded) {
        match prefetched.take(command, &arguments) {
            Some(answer) => answers.push((purpose, Ok(answer))),
            None => {
                commands.push((command, arguments));
                purposes.push(purpose);
            }
        }
    }
    if !commands.is_empty() {
        answers.extend(purposes.into_iter().zip(session.pipeline(&commands)?));
    }
    let mut details = Details::default();
    for (purpose, answer) in answers {
        // QEMU refuses a query for an object that was removed in the meantime. Its details stay
        // unknown.
        let Ok(answer) = answer else { continue };
        match purpose {
            Purpose::Usb2Ports(position) => {
                set_port_count(scan, position, &answer, |(usb2, _)| usb2);
            }
            Purpose::Usb3Ports(position) => {
                set_port_count(scan, position, &answer, |(_, usb3)| usb3);
            }
            Purpose::Blocks => details.blocks = parse_blocks(&answer),
            Purpose::Chardevs => details.chardevs = parse_chardevs(&answer),
            Purpose::Address(id) => {
                details.addresses.insert(id, answer);
            }
        }
    }
    let mut nodes = scan.devices().filter_map(|it| it.dev.property("hostdevice"));
    let mut files = details.blocks.iter().map(|block| block.file.as_str());
    if nodes.any(passed_files::is_set) || files.any(passed_files::is_set) {
        details.passed = passed_files::query(session)?;
        details.passed_paths = passed_files::paths(&details.passed);
        for block in &mut details.blocks {
            if let Some(path) = details.passed_paths.get(&block.file) {
                block.file.clone_from(path);
            }
        }
    }
    Ok(details)
}

/// The queries that this guest needs.
fn needed(scan: &Scan, recorded: &Hardware) -> Vec<(Purpose, Command)> {
    let mut needed = Vec::new();
    for (position, controller) in scan.controllers.iter().enumerate() {
        let Some(path) = controller.qom_path.as_deref() else { continue };
        let is_xhci = model_of(&controller.driver).is_some_and(Model::is_xhci);
        if controller.port_counts.is_none() && is_xhci {
            needed.push((Purpose::Usb2Ports(position), property_query(path, "p2")));
            needed.push((Purpose::Usb3Ports(position), property_query(path, "p3")));
        }
    }
    if scan.has_device("usb-storage") || scan.has_device("usb-bot") {
        needed.push((Purpose::Blocks, block_query()));
    }
    if scan.has_device("usb-serial") || scan.has_device("usb-redir") {
        needed.push((Purpose::Chardevs, chardev_query()));
    }
    for id in unrecorded_chardevs(scan, recorded) {
        let address = property_query(&format!("/chardevs/{id}"), "addr");
        needed.push((Purpose::Address(id), address));
    }
    needed
}

/// The ids of the character devices of USB devices that are not recorded.
fn unrecorded_chardevs(scan: &Scan, recorded: &Hardware) -> Vec<String> {
    let is_recorded = |id: &str| {
        let name = parse_device_id(id).and_then(|name| name.parse().ok());
        name.is_some_and(|name| recorded.named(&name).is_some())
    };
    let devices = scan.controllers.iter().flat_map(|controller| &controller.devices);
    devices
        .filter(|device| matches!(device.dev.driver.as_str(), "usb-serial" | "usb-redir"))
        .filter(|device| !is_recorded(&device.dev.id))
        .filter_map(|device| device.dev.property("chardev"))
        // An empty id, or one with a slash, would be the path of another object.
        .filter(|id| !id.is_empty() && !id.contains('/'))
        .map(str::to_owned)
        .collect()
}

fn set_port_count(
    scan: &mut Scan,
    position: usize,
    answer: &Value,
    part: impl Fn(&mut (u8, u8)) -> &mut u8,
) {
    // QEMU creates at most 15 ports, even if more were requested.
    let ports = answer.as_u64().and_then(|ports| u8::try_from(ports.min(15)).ok());
    if let (Some(controller), Some(ports)) = (scan.controllers.get_mut(position), ports) {
        *part(controller.port_counts.get_or_insert((0, 0))) = ports;
    }
}

/// The objects without ids that controllers and devices of the scan may be, the oldest first.
fn list_candidates(session: &mut Session, scan: &Scan) -> Result<Vec<Object>, Error> {
    // The machine's own devices are older than those of the command line.
    const PARENTS: [&str; 2] = ["/machine/unattached", "/machine/peripheral-anon"];
    let lists = session.pipeline(&PARENTS.map(|path| ("qom-list", json!({"path": path}))))?;
    let mut candidates = Vec::new();
    for (parent, list) in PARENTS.iter().zip(lists) {
        let list = list.unwrap_or_default();
        candidates.extend(confirm::children(parent, &list, |driver| lacks_path(scan, driver)));
    }
    confirm::locate(session, &mut candidates)?;
    Ok(candidates)
}

/// Whether the scan has a controller or device of this driver that has no id.
fn lacks_path(scan: &Scan, driver: &str) -> bool {
    let without_id = |id: &str, of: &str| id.is_empty() && of == driver;
    scan.controllers.iter().any(|controller| {
        without_id(&controller.id, &controller.driver)
            || controller
                .devices
                .iter()
                .any(|device| without_id(&device.dev.id, &device.dev.driver))
    })
}

/// Gives the controllers and devices without ids their paths in the object model.
fn assign_qom_paths(scan: &mut Scan, objects: &[Object]) {
    let candidates = || objects.iter().filter(|object| object.id.is_empty());
    let on_bus = |candidate: &Object, bus: &str| candidate.bus_name() == bus;
    for controller in &mut scan.controllers {
        if let (None, Some((bus, slot, function))) = (&controller.qom_path, &controller.pci) {
            let devfn = u64::from(*slot) * 8 + u64::from(*function);
            let same = |candidate: &&Object| {
                candidate.driver == controller.driver
                    && candidate.devfn == Some(devfn)
                    && on_bus(candidate, bus)
            };
            controller.qom_path =
                candidates().find(same).map(|candidate| candidate.qom_path.clone());
        }
        // Without a PCI address, several controllers of one driver could not be told apart.
        if let (None, None, Some(model)) =
            (&controller.qom_path, &controller.pci, model_of(&controller.driver))
        {
            let mut same = candidates().filter(|it| it.driver == controller.driver);
            let only = same.next().filter(|_| model.is_built_in() && same.next().is_none());
            controller.qom_path = only.map(|candidate| candidate.qom_path.clone());
        }
        let Some(bus) = controller.usb_bus.clone() else { continue };
        let mut used: HashMap<String, usize> = HashMap::new();
        for device in controller.devices.iter_mut().filter(|device| device.qom_path.is_none()) {
            // The tree has the newest device first, and the candidates have the oldest first.
            let driver = &device.dev.driver;
            let nth = used.entry(driver.clone()).or_default();
            let mut matching =
                candidates().rev().filter(|c| c.driver == *driver && on_bus(c, &bus));
            device.qom_path = matching.nth(*nth).map(|candidate| candidate.qom_path.clone());
            *nth += 1;
        }
    }
}

fn parse_blocks(answer: &Value) -> Vec<Block> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let block = |entry: &Value| {
        let inserted = entry.get("inserted")?;
        Some(Block {
            names: [text(inserted.get("node-name")), text(entry.get("device"))],
            format: match text(inserted.get("drv")).as_str() {
                // libvirt creates no format node for a raw image: the node that reads the file is
                // the only one.
                "file" | "host_device" => "raw".to_owned(),
                format => format.to_owned(),
            },
            file: text(inserted.get("file")),
            readonly: inserted.get("ro").and_then(Value::as_bool).unwrap_or(false),
        })
    };
    answer.as_array().into_iter().flatten().filter_map(block).collect()
}

fn parse_chardevs(answer: &Value) -> HashMap<String, String> {
    let entry = |entry: &Value| {
        Some((
            entry.get("label")?.as_str()?.to_owned(),
            entry.get("filename")?.as_str()?.to_owned(),
        ))
    };
    answer.as_array().into_iter().flatten().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::super::qtree::Dev;
    use super::super::scan::{ScannedController, ScannedDevice};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_file_without_a_format_is_raw() {
        let of = |driver: &str| {
            let inserted = json!({"node-name": "n", "drv": driver, "file": "/a.img", "ro": true});
            let blocks = parse_blocks(&json!([{"device": "", "inserted": inserted}]));
            blocks.into_iter().map(|block| block.format).collect::<String>()
        };
        for (driver, format) in [
            ("raw", "raw"),
            ("file", "raw"),
            ("host_device", "raw"),
            ("qcow2", "qcow2"),
            ("nbd", "nbd"),
        ] {
            assert_eq!(of(driver), format);
        }
    }

    fn scan_of(driver: &str, devices: &[&str]) -> Scan {
        let device = |driver: &&str| ScannedDevice {
            dev: Dev { driver: (*driver).to_owned(), ..Dev::default() },
            qom_path: None,
        };
        let controller = ScannedController {
            driver: driver.to_owned(),
            pci: Some(("pci.0".to_owned(), 4, 1)),
            usb_bus: Some("usb.0".to_owned()),
            devices: devices.iter().map(device).collect(),
            ..ScannedController::default()
        };
        Scan { controllers: vec![controller], ..Scan::default() }
    }

    #[test]
    fn qemu_creates_at_most_15_ports() {
        let mut scan = scan_of("qemu-xhci", &[]);
        set_port_count(&mut scan, 0, &json!(20), |(usb2, _)| usb2);
        set_port_count(&mut scan, 0, &json!(3), |(_, usb3)| usb3);
        set_port_count(&mut scan, 0, &json!("many"), |(_, usb3)| usb3);
        assert_eq!(scan.controllers[0].port_counts, Some((15, 3)));
    }

    /// Objects of the same driver are told apart by bus, by PCI address, and by their order.
    #[test]
    fn paths_are_found_by_bus_and_order() {
        let candidate = |qom_path: &str, driver: &str, bus: &str, devfn: Option<u64>| Object {
            qom_path: qom_path.to_owned(),
            id: String::new(),
            driver: driver.to_owned(),
            bus: bus.to_owned(),
            devfn,
        };
        let mut scan = scan_of("usb-ehci", &["usb-kbd", "usb-mouse", "usb-kbd", "usb-kbd"]);
        assign_qom_paths(
            &mut scan,
            &[
                candidate("/x/0", "usb-ehci", "/machine/pci.0", Some(32)),
                candidate("/x/1", "usb-ehci", "/machine/pci.1", Some(33)),
                candidate("/x/2", "qemu-xhci", "/machine/pci.0", Some(33)),
                candidate("/x/3", "usb-ehci", "/machine/pci.0", Some(33)),
                candidate("/k/0", "usb-kbd", "/x/3/usb.0", None),
                candidate("/k/1", "usb-kbd", "/x/2/usb.1", None),
                candidate("/m/0", "usb-mouse", "/x/3/usb.0", None),
                candidate("/k/2", "usb-kbd", "/x/3/usb.0", None),
            ],
        );
        let controller = &scan.controllers[0];
        assert_eq!(controller.qom_path.as_deref(), Some("/x/3"));
        let paths: Vec<Option<&str>> =
            controller.devices.iter().map(|device| device.qom_path.as_deref()).collect();
        // The newest first. The tree has one keyboard more than the object model.
        assert_eq!(paths, [Some("/k/2"), Some("/m/0"), Some("/k/0"), None]);
    }

    /// A controller without a PCI address is found by its driver, if that is built into machines
    /// and only one controller has it.
    #[test]
    fn a_built_in_controller_is_found_if_it_is_the_only_one() {
        let object = |qom_path: &str, driver: &str| Object {
            qom_path: qom_path.to_owned(),
            driver: driver.to_owned(),
            ..Object::default()
        };
        for (driver, count, found) in
            [("dwc2-usb", 1, true), ("dwc2-usb", 2, false), ("usb-ehci", 1, false)]
        {
            let mut scan = scan_of(driver, &[]);
            scan.controllers[0].pci = None;
            assign_qom_paths(&mut scan, &vec![object("/machine/soc", driver); count]);
            let path = scan.controllers[0].qom_path.as_deref();
            assert_eq!(path, found.then_some("/machine/soc"), "{count} {driver}");
        }
    }

    /// The record tells what is probably needed: the port counts of xHCIs by their names, and files
    /// and character devices if recorded devices use them.
    #[test]
    fn a_record_decides_what_is_prefetched() {
        let commands = |lines: &str| {
            let commands = prefetch_commands(&recorded(lines)).into_iter();
            commands
                .map(|(command, arguments)| format!("{command} {arguments}"))
                .collect::<Vec<_>>()
        };
        let port_count = |property: &str| {
            format!(r#"qom-get {{"path":"/machine/peripheral/a","property":"{property}"}}"#)
        };
        assert_eq!(commands("xhci"), [port_count("p2"), port_count("p3")]);
        assert_eq!(commands("uhci"), [""; 0]);
        assert_eq!(commands("uhci storage:/a.img"), ["query-block {}"]);
        assert_eq!(commands("uhci serial:pty"), ["query-chardev {}"]);
        assert_eq!(commands("uhci redir:tcp:a:1"), ["query-chardev {}"]);
        assert_eq!(commands("uhci mouse"), [""; 0]);
    }

    /// A controller `a`, and a device `d` if there is one.
    fn recorded(text: &str) -> Hardware {
        use vusb_model::address::{Address, Index};
        use vusb_model::hardware::{Controller, Device};
        use vusb_model::models::RootPorts;

        let (model, device) = text.split_once(' ').unwrap_or((text, ""));
        let (model, ports) = match model {
            "xhci" => (Model::QemuXhci, RootPorts::xhci(4, 4).unwrap()),
            _ => (Model::Piix3Uhci, RootPorts::uniform(Model::Piix3Uhci, 2.try_into().unwrap())),
        };
        let mut hardware = Hardware::new();
        let controller = Controller::new(Index::ZERO, "a".parse().unwrap(), model, ports);
        hardware.add_controller(controller).unwrap();
        if !device.is_empty() {
            let address = Address { bus: Index::ZERO, port: "1".parse().unwrap() };
            let device = Device { name: "d".parse().unwrap(), kind: device.parse().unwrap() };
            hardware.plug(address, device).unwrap();
        }
        hardware
    }

    #[test]
    fn only_unrecorded_character_devices_are_looked_up() {
        let mut scan = scan_of(
            "usb-ehci",
            &["usb-serial", "usb-redir", "usb-kbd", "usb-serial", "usb-serial"],
        );
        let ids = [("vusb-d", "c0"), ("vusb-e", "c1"), ("", "c2"), ("", "a/b"), ("", "")];
        for (device, (id, chardev)) in scan.controllers[0].devices.iter_mut().zip(ids) {
            device.dev.id = id.to_owned();
            device.dev.properties = vec![("chardev".to_owned(), format!("\"{chardev}\""))];
        }
        assert_eq!(unrecorded_chardevs(&scan, &Hardware::new()), ["c0", "c1"]);
        assert_eq!(unrecorded_chardevs(&scan, &recorded("uhci serial:pty")), ["c1"]);
    }
}
