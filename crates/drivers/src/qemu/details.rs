//! What the device tree leaves out and QMP has to be asked for: places in the object model, the halves of an xHCI's ports,
//! files behind drives, ends of streams.
//!
//! Everything that can be asked at once is asked at once, for each answer costs a turn of QEMU's main loop.

use std::collections::HashMap;

use serde_json::{Value, json};
use vusb_model::device::Kind;
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;

use super::names::{model_of, own_device};
use super::scan::{Found, Scan, peripheral};
use super::session::Session;
use crate::driver::Error;

/// A drive of the guest.
#[derive(Debug)]
pub(super) struct Block {
    /// The names that a device can know it by.
    pub(super) names: [String; 2],
    /// QEMU's name for the format.
    pub(super) format: String,
    pub(super) file: String,
    pub(super) readonly: bool,
}

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub(super) blocks: Vec<Block>,
    /// Where each character device goes, as QEMU prints it, by id.
    pub(super) chardevs: HashMap<String, String>,
    /// For those that are sockets, the address in QEMU's own terms (`SocketAddress`), by id. A client's is the one that it was
    /// told; what is printed is where it is connected to, and nothing at all for a Unix socket.
    pub(super) addresses: HashMap<String, Value>,
}

/// A thing in the object model that may be one of those without an id.
struct Candidate {
    path: String,
    driver: String,
    /// The path of the bus that it is on.
    bus: String,
    /// Slot and function as QEMU counts them: slot times 8 and function.
    devfn: Option<u64>,
}

/// What was asked before it was known to be needed, by command and arguments. Only good for the look at the guest that it was
/// asked in.
#[derive(Default)]
pub(super) struct Foreseen(HashMap<String, Value>);

impl Foreseen {
    /// Takes note of an answer.
    pub(super) fn add(&mut self, command: &str, arguments: &Value, answer: Value) {
        self.0.insert(format!("{command} {arguments}"), answer);
    }

    fn take(&mut self, command: &str, arguments: &Value) -> Option<Value> {
        self.0.remove(&format!("{command} {arguments}"))
    }
}

/// What will most likely have to be asked of a guest that has what is recorded. A wrong guess costs an answer that nobody
/// reads.
pub(super) fn foresee(recorded: &Hardware) -> Vec<(&'static str, Value)> {
    let mut commands = Vec::new();
    for controller in recorded.controllers().filter(|controller| controller.model.is_xhci()) {
        // Ours say it in their ids; another tool's may have lent its id for a name.
        commands.extend(
            ["p2", "p3"].map(|property| half(&peripheral(controller.name.as_str()), property)),
        );
    }
    let kinds = || recorded.devices().map(|(_, device)| &device.kind);
    if kinds().any(|kind| matches!(kind, Kind::Storage(_))) {
        commands.push(blocks_question());
    }
    if kinds().any(|kind| matches!(kind, Kind::Serial(_) | Kind::Redir(_))) {
        commands.push(chardevs_question());
    }
    commands
}

/// The question for one half of an xHCI's ports.
fn half(path: &str, property: &str) -> (&'static str, Value) {
    ("qom-get", json!({"path": path, "property": property}))
}

/// Asks, and fills in what is missing in `scan`.
pub(super) fn ask(
    session: &mut Session,
    scan: &mut Scan,
    mut foreseen: Foreseen,
    recorded: &Hardware,
) -> Result<Details, Error> {
    if scan.has_nameless() {
        let candidates = candidates(session, scan)?;
        find_paths(scan, &candidates);
    }
    let mut commands = Vec::new();
    let mut kinds = Vec::new();
    let mut answers = Vec::new();
    let mut add = |kind: Asked, (command, arguments): (&'static str, Value)| match foreseen
        .take(command, &arguments)
    {
        Some(answer) => answers.push((kind, Ok(answer))),
        None => {
            commands.push((command, arguments));
            kinds.push(kind);
        }
    };
    for (number, found) in scan.controllers.iter().enumerate() {
        let Some(path) = found.path.as_deref() else { continue };
        if found.halves.is_none() && model_of(&found.driver).is_some_and(Model::is_xhci) {
            add(Asked::Half2(number), half(path, "p2"));
            add(Asked::Half3(number), half(path, "p3"));
        }
        if let Some(bus) = found.usb_bus.as_deref().filter(|_| has_strings_from_outside(found)) {
            add(Asked::Children(number), ("qom-list", json!({"path": format!("{path}/{bus}")})));
        }
    }
    if scan.has_device("usb-storage") {
        add(Asked::Blocks, blocks_question());
    }
    if scan.has_device("usb-serial") || scan.has_device("usb-redir") {
        add(Asked::Chardevs, chardevs_question());
    }
    for id in streams(scan, recorded) {
        let question = json!({"path": format!("/chardevs/{id}"), "property": "addr"});
        add(Asked::Address(id), ("qom-get", question));
    }
    let mut details = Details::default();
    if !commands.is_empty() {
        answers.extend(kinds.into_iter().zip(session.pipeline(&commands)?));
    }
    for (kind, answer) in answers {
        // What does not answer is a thing that has just gone; what it would have said is left open.
        let Ok(answer) = answer else { continue };
        match kind {
            Asked::Half2(number) => set_half(scan, number, &answer, |halves| &mut halves.0),
            Asked::Half3(number) => set_half(scan, number, &answer, |halves| &mut halves.1),
            Asked::Children(number) => keep_confirmed(scan, number, &answer),
            Asked::Blocks => details.blocks = blocks(&answer),
            Asked::Chardevs => details.chardevs = chardevs(&answer),
            Asked::Address(id) => {
                details.addresses.insert(id, answer);
            }
        }
    }
    Ok(details)
}

fn blocks_question() -> (&'static str, Value) {
    ("query-block", json!({}))
}

fn chardevs_question() -> (&'static str, Value) {
    ("query-chardev", json!({}))
}

/// What a command in the pipeline asks for.
enum Asked {
    Half2(usize),
    Half3(usize),
    Children(usize),
    Blocks,
    Chardevs,
    Address(String),
}

/// The character devices behind devices of which no record says where their streams go.
fn streams(scan: &Scan, recorded: &Hardware) -> Vec<String> {
    let known = |id: &str| {
        let name = own_device(id).and_then(|name| name.parse().ok());
        name.is_some_and(|name| recorded.named(&name).is_some())
    };
    let devices = scan.controllers.iter().flat_map(|found| &found.devices);
    devices
        .filter(|device| matches!(device.dev.driver.as_str(), "usb-serial" | "usb-redir"))
        .filter(|device| !known(&device.dev.id))
        .filter_map(|device| device.dev.property("chardev"))
        .filter(|id| !id.is_empty() && !id.contains('/'))
        .map(str::to_owned)
        .collect()
}

fn set_half(
    scan: &mut Scan,
    number: usize,
    answer: &Value,
    half: impl Fn(&mut (u8, u8)) -> &mut u8,
) {
    // 15 is the most that QEMU makes, whatever it was asked for.
    let ports = answer.as_u64().and_then(|ports| u8::try_from(ports.min(15)).ok());
    if let (Some(found), Some(ports)) = (scan.controllers.get_mut(number), ports) {
        *half(found.halves.get_or_insert((0, 0))) = ports;
    }
}

/// Whether a device on the bus has a product string that somebody else chose.
fn has_strings_from_outside(found: &Found) -> bool {
    found
        .devices
        .iter()
        .any(|device| matches!(device.dev.driver.as_str(), "usb-host" | "usb-redir"))
}

/// Drops the devices of the tree that QEMU's object model does not have on that bus: lines that a device's product string
/// made up. The object model says how many of each driver there are; what is real is listed before what a string after it
/// pretends, and the newest comes first in both.
fn keep_confirmed(scan: &mut Scan, number: usize, answer: &Value) {
    let mut real: HashMap<String, usize> = HashMap::new();
    for (_, driver) in children(answer, "link<") {
        *real.entry(driver).or_default() += 1;
    }
    if let Some(found) = scan.controllers.get_mut(number) {
        found.devices.retain(|device| {
            let left = real.get_mut(&device.dev.driver).filter(|left| **left > 0);
            left.map(|left| *left -= 1).is_some()
        });
    }
}

/// Name and type of what a `qom-list` answer lists as `child<T>` or `link<T>`.
fn children(answer: &Value, prefix: &str) -> Vec<(String, String)> {
    let entries = answer.as_array().into_iter().flatten();
    let entry = |entry: &Value| {
        let driver = entry.get("type")?.as_str()?.strip_prefix(prefix)?.strip_suffix('>')?;
        Some((entry.get("name")?.as_str()?.to_owned(), driver.to_owned()))
    };
    entries.filter_map(entry).collect()
}

/// The things without ids whose drivers are among those looked for, oldest first.
fn candidates(session: &mut Session, scan: &Scan) -> Result<Vec<Candidate>, Error> {
    // What the machine brings is older than what was asked for.
    const PARENTS: [&str; 2] = ["/machine/unattached", "/machine/peripheral-anon"];
    let lists = session.pipeline(&PARENTS.map(|path| ("qom-list", json!({"path": path}))))?;
    let mut candidates = Vec::new();
    for (parent, list) in PARENTS.iter().zip(lists) {
        let mut found: Vec<(u64, String, String)> = children(&list.unwrap_or_default(), "child<")
            .into_iter()
            .filter(|(_, driver)| is_wanted(scan, driver))
            .filter_map(|(name, driver)| {
                Some((number_of(&name)?, format!("{parent}/{name}"), driver))
            })
            .collect();
        found.sort();
        candidates.extend(found.into_iter().map(|(_, path, driver)| Candidate {
            path,
            driver,
            bus: String::new(),
            devfn: None,
        }));
    }
    let commands: Vec<(&str, Value)> = candidates
        .iter()
        .flat_map(|candidate| {
            ["parent_bus", "addr"]
                .map(|property| ("qom-get", json!({"path": candidate.path, "property": property})))
        })
        .collect();
    let mut answers = session.pipeline(&commands)?.into_iter();
    for candidate in &mut candidates {
        if let Some(Ok(Value::String(bus))) = answers.next() {
            candidate.bus = bus;
        }
        candidate.devfn = answers.next().and_then(|answer| answer.ok()?.as_u64());
    }
    Ok(candidates)
}

fn is_wanted(scan: &Scan, driver: &str) -> bool {
    scan.controllers.iter().any(|found| {
        let nameless = |id: &str, of: &str| id.is_empty() && of == driver;
        nameless(&found.id, &found.driver)
            || found.devices.iter().any(|device| nameless(&device.dev.id, &device.dev.driver))
    })
}

/// The 4 of `device[4]`.
fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("device[")?.strip_suffix(']')?.parse().ok()
}

/// Gives the things without ids their places in the object model.
fn find_paths(scan: &mut Scan, candidates: &[Candidate]) {
    let on_bus = |candidate: &Candidate, bus: &str| candidate.bus.rsplit('/').next() == Some(bus);
    for found in &mut scan.controllers {
        if let (None, Some((bus, slot, function))) = (&found.path, &found.pci) {
            let devfn = u64::from(*slot) * 8 + u64::from(*function);
            let same = |candidate: &&Candidate| {
                candidate.driver == found.driver
                    && candidate.devfn == Some(devfn)
                    && on_bus(candidate, bus)
            };
            found.path = candidates.iter().find(same).map(|candidate| candidate.path.clone());
        }
        let Some(bus) = found.usb_bus.clone() else { continue };
        let mut used: HashMap<String, usize> = HashMap::new();
        for device in found.devices.iter_mut().filter(|device| device.path.is_none()) {
            // Both are in order, the tree newest first and the candidates oldest first.
            let driver = &device.dev.driver;
            let nth = used.entry(driver.clone()).or_default();
            let mut alike =
                candidates.iter().rev().filter(|c| c.driver == *driver && on_bus(c, &bus));
            device.path = alike.nth(*nth).map(|candidate| candidate.path.clone());
            *nth += 1;
        }
    }
}

fn blocks(answer: &Value) -> Vec<Block> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let block = |entry: &Value| {
        let inserted = entry.get("inserted")?;
        Some(Block {
            names: [text(inserted.get("node-name")), text(entry.get("device"))],
            format: match text(inserted.get("drv")).as_str() {
                // libvirt gives a raw image no node of a format: what reads the file is all there is.
                "file" | "host_device" => "raw".to_owned(),
                format => format.to_owned(),
            },
            file: text(inserted.get("file")),
            readonly: inserted.get("ro").and_then(Value::as_bool).unwrap_or(false),
        })
    };
    answer.as_array().into_iter().flatten().filter_map(block).collect()
}

fn chardevs(answer: &Value) -> HashMap<String, String> {
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
    use super::*;
    use serde_json::json;

    #[test]
    fn a_file_without_a_format_of_its_own_is_raw() {
        let of = |driver: &str| {
            let inserted = json!({"node-name": "n", "drv": driver, "file": "/a.img", "ro": true});
            let found = blocks(&json!([{"device": "", "inserted": inserted}]));
            found.into_iter().map(|block| block.format).collect::<String>()
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
}
