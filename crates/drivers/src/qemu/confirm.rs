//! Confirms QEMU's device tree with its object model.
//!
//! The tree is text that contains strings of host devices; a line break in one can imitate devices
//! and hide others (see [`qtree`](super::qtree)). The object model has no such strings: it has the
//! path, driver and bus of each device. It does not have the ports that QEMU chose, so the tree is
//! still needed.
//!
//! ```text
//! qom-list /machine/{unattached,peripheral-anon,peripheral} ─▶ the USB controllers and devices
//!     qom-get parent_bus ───────────────────────────────────▶ the bus of each
//!         compare ─┬─ only in the tree ───────────────────────────▶ dropped
//!                  └─ only in the object model, or ambiguous ─────▶ a contradiction
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use vusb_model::remedy::Reason;

use super::features::type_names;
use super::names::{companion_model, model_of};
use super::scan::{Scan, ScannedController};
use super::session::Session;
use crate::driver::Error;

/// Where QEMU keeps its devices: the machine's own, those that were added without an id (on the
/// command line or by `device_add`), and those with an id. The machine's own are the oldest.
const PARENTS: [&str; 3] = ["/machine/unattached", "/machine/peripheral-anon", PERIPHERAL];

const PERIPHERAL: &str = "/machine/peripheral";

/// How many devices an error names.
const MAX_NAMED: usize = 5;

/// A USB controller or device in the object model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) qom_path: String,
    /// Empty if it has none.
    pub(super) id: String,
    pub(super) driver: String,
    /// The path of the bus that it is on.
    pub(super) bus: String,
    /// The PCI slot times 8 plus the function. Only looked up for an object without an id.
    pub(super) devfn: Option<u64>,
}

impl Object {
    /// The name of the bus that the object is on.
    pub(super) fn bus_name(&self) -> &str {
        self.bus.rsplit('/').next().unwrap_or_default()
    }
}

/// The objects that are USB controllers or devices. Those without an id come first, the oldest at
/// the start.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    pub(super) list: Vec<Object>,
    /// QEMU's drivers for USB devices.
    pub(super) device_drivers: BTreeSet<String>,
}

/// Queries the objects. Every list has to be there: without one, the devices in it would count as
/// imitations.
pub(super) fn query(session: &mut Session) -> Result<Objects, Error> {
    let mut commands = vec![("qom-list-types", json!({"implements": "usb-device"}))];
    commands.extend(PARENTS.map(|path| ("qom-list", json!({"path": path}))));
    let answers = session.pipeline(&commands)?;
    let answers: Result<Vec<Value>, _> = answers.into_iter().collect();
    let answers = answers.map_err(|error| Error::Confused {
        domain: session.domain().to_owned(),
        why: format!("its device tree cannot be confirmed, because it answered: {}", error.desc)
            .into(),
    })?;
    let mut answers = answers.into_iter();
    let types = answers.next().unwrap_or_default();
    let device_drivers: BTreeSet<String> = type_names(&types).into_iter().collect();
    let mut list = Vec::new();
    for (parent, answer) in PARENTS.into_iter().zip(answers) {
        let relevant = |driver: &str| device_drivers.contains(driver) || is_controller(driver);
        list.extend(children(parent, &answer, relevant));
    }
    locate(session, &mut list)?;
    // An object without a bus was removed in the meantime, or is not plugged in.
    list.retain(|object| !object.bus.is_empty());
    Ok(Objects { list, device_drivers })
}

/// Whether this is the driver of a USB controller that vusb has a model of.
fn is_controller(driver: &str) -> bool {
    model_of(driver).is_some() || companion_model(driver).is_some()
}

/// The devices below `parent` whose driver is `relevant`. Devices without ids are in the order in
/// which they were created.
pub(super) fn children(
    parent: &str,
    answer: &Value,
    relevant: impl Fn(&str) -> bool,
) -> Vec<Object> {
    let children = typed_properties(answer, "child<");
    let mut numbered: Vec<(u64, Object)> = children
        .into_iter()
        .filter(|(_, driver)| relevant(driver))
        .filter_map(|(name, driver)| {
            let qom_path = format!("{parent}/{name}");
            let (number, id) = match parent {
                PERIPHERAL => (0, name),
                _ => (device_number(&name)?, String::new()),
            };
            Some((number, Object { qom_path, id, driver, ..Object::default() }))
        })
        .collect();
    numbered.sort_by_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, object)| object).collect()
}

/// Queries the bus of each object, and the PCI slot and function of each one without an id.
pub(super) fn locate(session: &mut Session, objects: &mut [Object]) -> Result<(), Error> {
    let mut queries = Vec::new();
    for object in objects.iter() {
        let mut query = |property: &str| {
            queries.push(("qom-get", json!({"path": object.qom_path, "property": property})));
        };
        query("parent_bus");
        if object.id.is_empty() {
            query("addr");
        }
    }
    if queries.is_empty() {
        return Ok(());
    }
    let mut answers = session.pipeline(&queries)?.into_iter();
    for object in objects {
        if let Some(Ok(Value::String(bus))) = answers.next() {
            object.bus = bus;
        }
        if object.id.is_empty() {
            object.devfn = answers.next().and_then(|answer| answer.ok()?.as_u64());
        }
    }
    Ok(())
}

/// The properties in a `qom-list` answer whose types are `child<T>`, if `prefix` is `child<`: each
/// with its name and its `T`.
fn typed_properties(answer: &Value, prefix: &str) -> Vec<(String, String)> {
    let entries = answer.as_array().into_iter().flatten();
    let entry = |entry: &Value| {
        let driver = entry.get("type")?.as_str()?.strip_prefix(prefix)?.strip_suffix('>')?;
        Some((entry.get("name")?.as_str()?.to_owned(), driver.to_owned()))
    };
    entries.filter_map(entry).collect()
}

/// The 4 of `device[4]`.
fn device_number(name: &str) -> Option<u64> {
    name.strip_prefix("device[")?.strip_suffix(']')?.parse().ok()
}

/// Bus, driver and id of a device. Devices without ids can be equal in all three, so devices are
/// counted by this.
type Key = (String, String, String);

fn key(bus: &str, driver: &str, id: &str) -> Key {
    (bus.to_owned(), driver.to_owned(), id.to_owned())
}

/// Drops the devices that the object model does not have, because product strings imitate them.
/// Returns a description of each contradiction: a device or controller that the tree lacks, or
/// devices that the tree has more often than the object model, so that it is unknown which of them
/// are real.
pub(super) fn compare(scan: &mut Scan, objects: &Objects) -> Vec<String> {
    let is_device = |object: &&Object| objects.device_drivers.contains(&object.driver);
    let devices = objects.list.iter().filter(is_device);
    let real = count(devices.map(|it| key(it.bus_name(), &it.driver, &it.id)));
    let mut shown = BTreeMap::new();
    for controller in &mut scan.controllers {
        let bus = controller.usb_bus.as_deref().unwrap_or_default();
        controller.devices.retain(|device| {
            let key = key(bus, &device.dev.driver, &device.dev.id);
            let confirmed = real.contains_key(&key);
            *shown.entry(key).or_insert(0) += usize::from(confirmed);
            confirmed
        });
    }
    let mut contradictions: Vec<String> = real
        .iter()
        .filter(|(key, number)| shown.get(*key) != Some(number))
        .map(|((bus, driver, id), _)| describe(driver, id, Some(bus)))
        .collect();
    contradictions.extend(missing_controllers(scan, objects));
    contradictions
}

/// The controllers that the tree lacks.
fn missing_controllers(scan: &Scan, objects: &Objects) -> Vec<String> {
    let real = objects.list.iter().filter(|object| is_controller(&object.driver));
    let real = count(real.map(|object| (object.driver.clone(), object.id.clone())));
    let key = |scanned: &ScannedController| (scanned.driver.clone(), scanned.id.clone());
    let shown = count(scan.controllers.iter().map(key));
    // The tree can have more: controllers that are parts of other devices, such as the PIIX3's, are
    // not in the lists of the object model.
    let lacks =
        |(key, number): &(&(String, String), &usize)| shown.get(*key).is_none_or(|it| it < *number);
    real.iter().filter(lacks).map(|((driver, id), _)| describe(driver, id, None)).collect()
}

fn count<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counted = BTreeMap::new();
    for key in keys {
        *counted.entry(key).or_default() += 1;
    }
    counted
}

/// `vusb-stick (usb-host)`, or `a usb-host on x.0` without an id.
fn describe(driver: &str, id: &str, bus: Option<&str>) -> String {
    match (id, bus) {
        ("", Some(bus)) => format!("a {driver} on {bus}"),
        ("", None) => format!("a {driver}"),
        (id, _) => format!("{id} ({driver})"),
    }
}

/// The error for a tree that contradicts the object model about these devices.
pub(super) fn contradiction(domain: &str, devices: &[String]) -> Error {
    let mut named = devices.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    if devices.len() > MAX_NAMED {
        named.push_str(&format!(" and {} more", devices.len() - MAX_NAMED));
    }
    let why = format!(
        "its device tree (`info qtree`) and its object model contradict each other about {named}. The product string of a \
         host device can hide devices in the tree if it contains line breaks. Nothing was changed; use QEMU's \
         `device_del` to remove the host device that `info qtree` does not show as attached"
    );
    Error::Confused { domain: domain.to_owned(), why: Reason::from(why) }
}

#[cfg(test)]
mod tests {
    use super::super::qtree::Dev;
    use super::super::scan::ScannedDevice;
    use super::*;

    fn scan_of(devices: &[&str]) -> Scan {
        let device = |text: &&str| {
            let (driver, id) = text.split_once(' ').unwrap_or((text, ""));
            ScannedDevice {
                dev: Dev { driver: driver.to_owned(), id: id.to_owned(), ..Dev::default() },
                qom_path: None,
            }
        };
        let controller = ScannedController {
            driver: "qemu-xhci".to_owned(),
            id: "x".to_owned(),
            usb_bus: Some("x.0".to_owned()),
            devices: devices.iter().map(device).collect(),
            ..ScannedController::default()
        };
        Scan { controllers: vec![controller], ..Scan::default() }
    }

    /// Objects from `driver id`, all USB devices on the bus `x.0`.
    fn objects(devices: &[&str]) -> Objects {
        let object = |text: &&str| {
            let (driver, id) = text.split_once(' ').unwrap_or((text, ""));
            let (driver, id) = (driver.to_owned(), id.to_owned());
            let bus = "/machine/peripheral/x/x.0".to_owned();
            Object { id, driver, bus, ..Object::default() }
        };
        let list: Vec<Object> = devices.iter().map(object).collect();
        let device_drivers = list.iter().map(|object| object.driver.clone()).collect();
        Objects { list, device_drivers }
    }

    fn drivers(scan: &Scan) -> Vec<&str> {
        scan.controllers[0].devices.iter().map(|device| device.dev.driver.as_str()).collect()
    }

    #[test]
    fn only_confirmed_devices_stay() {
        let mut scan = scan_of(&["usb-tablet", "usb-host a", "usb-kbd", "usb-host b", "usb-host"]);
        let contradictions = compare(&mut scan, &objects(&["usb-host a", "usb-tablet"]));
        assert_eq!(contradictions, [""; 0]);
        assert_eq!(drivers(&scan), ["usb-tablet", "usb-host"]);
    }

    /// The error names hidden devices, and devices that cannot be told from their imitations.
    #[test]
    fn a_contradiction_names_the_devices() {
        for (shown, real, named) in [
            (vec!["usb-host a"], vec!["usb-host a", "usb-kbd keys"], "keys (usb-kbd)"),
            (vec!["usb-host a"], vec!["usb-host a", "usb-kbd"], "a usb-kbd on x.0"),
            (vec!["usb-mouse", "usb-host a", "usb-mouse"], vec!["usb-mouse"], "a usb-mouse on x.0"),
            (vec!["usb-host a", "usb-kbd b", "usb-kbd b"], vec!["usb-kbd b"], "b (usb-kbd)"),
        ] {
            assert_eq!(compare(&mut scan_of(&shown), &objects(&real)), [named], "{shown:?}");
        }
        let mut many = objects(&["usb-kbd a", "usb-kbd b", "usb-kbd c", "usb-kbd d", "usb-kbd e"]);
        many.list.extend(objects(&["usb-kbd f", "usb-kbd g"]).list);
        let contradictions = compare(&mut scan_of(&[]), &many);
        let error = contradiction("qemu:/q", &contradictions).to_string();
        assert!(error.contains("about a (usb-kbd), b (usb-kbd)"), "{error}");
        assert!(error.contains("e (usb-kbd) and 2 more. The"), "{error}");
        let five = &contradictions[..MAX_NAMED];
        let error = contradiction("qemu:/q", five).to_string();
        assert!(error.contains("e (usb-kbd). The"), "{error}");
    }

    /// A device that the tree shows on the wrong bus is missing on the right one.
    #[test]
    fn a_device_on_the_wrong_bus_is_a_contradiction() {
        let mut elsewhere = objects(&["usb-kbd keys"]);
        elsewhere.list[0].bus = "/machine/peripheral/y/y.0".to_owned();
        let mut scan = scan_of(&["usb-kbd keys"]);
        assert_eq!(compare(&mut scan, &elsewhere), ["keys (usb-kbd)"]);
        assert_eq!(drivers(&scan), [""; 0]);
    }

    /// The tree may have controllers that the object model's lists lack: parts of other devices.
    #[test]
    fn a_hidden_controller_is_a_contradiction() {
        let controller = |driver: &str, id: &str| Object {
            driver: driver.to_owned(),
            id: id.to_owned(),
            ..Object::default()
        };
        let compared =
            |list: Vec<Object>| compare(&mut scan_of(&[]), &Objects { list, ..Objects::default() });
        assert_eq!(compared(vec![controller("qemu-xhci", "x")]), [""; 0]);
        assert_eq!(compared(vec![]), [""; 0]);
        assert_eq!(compared(vec![controller("qemu-xhci", "y")]), ["y (qemu-xhci)"]);
        let piix3 = vec![controller("piix3-usb-uhci", "")];
        assert_eq!(compared(piix3), ["a piix3-usb-uhci"]);
        // One of two is hidden.
        let both = vec![controller("qemu-xhci", "x"), controller("qemu-xhci", "x")];
        assert_eq!(compared(both), ["x (qemu-xhci)"]);
    }

    #[test]
    fn objects_are_found_below_their_parents() {
        let entry = |name: &str, of: &str| json!({"name": name, "type": of});
        let answer = json!([
            entry("device[10]", "child<usb-kbd>"),
            entry("device[2]", "child<usb-mouse>"),
            entry("device[3]", "child<isa-pit>"),
            entry("device[4]", "link<usb-kbd>"),
            entry("type", "string"),
            entry("sysbus", "child<usb-hub>"),
        ]);
        let found = |parent: &str| {
            let objects = children(parent, &answer, |driver| driver.starts_with("usb-"));
            objects.into_iter().map(|it| (it.id, it.qom_path)).collect::<Vec<_>>()
        };
        let unnamed = |path: &str| (String::new(), path.to_owned());
        // By number, which is the order in which they were created.
        assert_eq!(
            found("/machine/unattached"),
            [unnamed("/machine/unattached/device[2]"), unnamed("/machine/unattached/device[10]"),]
        );
        assert_eq!(found("/machine/peripheral").len(), 3);
    }

    #[test]
    fn objects_without_ids_have_numbers() {
        assert_eq!(device_number("device[10]"), Some(10));
        assert_eq!(device_number("device[x]"), None);
        assert_eq!(device_number("mouse[1]"), None);
    }
}
