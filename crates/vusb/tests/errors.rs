//! Compares `docs/errors.md` with the error types.
//!
//! ```text
//!   source of each enum ──▶ names of its variants ──┐
//!   an example of each ──▶ exit code, message ──────┴──▶ one row of the page each
//! ```
//!
//! A new variant fails here until it has an example and a row. With `UPDATE_DOCS=1` in the
//! environment the messages on the page are replaced by the present ones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use vusb::drivers::Error as DriverError;
use vusb::model::capabilities::Capabilities;
use vusb::model::diff::{Step, diff};
use vusb::model::hardware::Hardware;
use vusb::model::models::{ControllerType, Model, UsbVersion};
use vusb::model::refusal::Refusal;
use vusb::model::remedy::Remedy;
use vusb::model::resolve::resolve;
use vusb::model::spec::{DeviceSpec, Spec};
use vusb::model::speed::{Speed, SpeedSet};
use vusb::{Advice, Error, NotUndone};
use vusb_host::{Candidate, HostError, NodeError, SelectError};

/// The enums of errors, by the name that the page has for each.
const ENUMS: [(&str, &str, &str); 5] = [
    ("Error", "src/error.rs", "pub enum Error {"),
    ("Refusal", "../model/src/refusal.rs", "pub enum Refusal {"),
    ("drivers::Error", "../drivers/src/driver.rs", "pub enum Error {"),
    ("SelectError", "../host/src/select.rs", "pub enum SelectError {"),
    ("HostError", "../host/src/lib.rs", "pub enum HostError {"),
];

fn parse<T: FromStr>(text: &str) -> T
where
    T::Err: Debug,
{
    text.parse().unwrap()
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// The names of an enum's variants, without those that only wrap another error.
fn variants(path: &str, begin: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let source = fs::read_to_string(&path).unwrap();
    let (_, body) = source.split_once(begin).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let lines = body.lines().filter(|line| !line.contains("#[from]"));
    let names = lines.filter_map(|line| {
        let name = line.strip_prefix("    ")?;
        let end = name.find(|it: char| !it.is_alphanumeric()).unwrap_or(name.len());
        name.starts_with(|it: char| it.is_uppercase()).then(|| name[..end].to_owned())
    });
    names.collect()
}

/// An example of each error, by its name.
fn examples() -> BTreeMap<String, Error> {
    let mut all = BTreeMap::new();
    let mut add = |kind: &str, list: Vec<(&str, Error)>| {
        all.extend(list.into_iter().map(|(name, error)| (format!("{kind}::{name}"), error)));
    };
    add("Error", own());
    add("Refusal", refusals().into_iter().map(|(name, it)| (name, it.into())).collect());
    add("drivers::Error", drivers().into_iter().map(|(name, it)| (name, it.into())).collect());
    let selector = || parse("0781:5581");
    let candidate = |bus_id: &str, at: u8| Candidate {
        bus_id: parse(bus_id),
        bus_address: vusb::model::selector::BusAddress { bus: 1, address: at },
        id: vusb::model::selector::UsbId { vendor: 0x0781, product: 0x5581 },
        serial: None,
    };
    let candidates = vec![candidate("1-3", 5), candidate("1-4", 6)];
    let select = [
        ("Absent", SelectError::Absent { selector: selector() }),
        ("Ambiguous", SelectError::Ambiguous { selector: selector(), candidates }),
    ];
    add("SelectError", select.into_iter().map(|(name, it)| (name, it.into())).collect());
    let unreadable =
        HostError::Unreadable { path: "/sys/bus/usb/devices".into(), source: denied() };
    add("HostError", vec![("Unreadable", unreadable.into())]);
    all
}

fn denied() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

/// Two steps: a controller is added, and a tablet is plugged into it.
fn steps() -> Vec<Step> {
    let devices = vec![DeviceSpec::new(parse("tablet"))];
    let spec = Spec { devices, ..Spec::default() };
    let hardware = resolve(&Hardware::new(), &spec, &Capabilities::everything()).unwrap().hardware;
    diff(&Hardware::new(), &hardware)
}

/// An example of each error of the library itself.
#[allow(clippy::too_many_lines)]
fn own() -> Vec<(&'static str, Error)> {
    let path = || PathBuf::from("/images/stick.img");
    let unreadable = || Error::Io { doing: "read", path: path(), source: denied() };
    let mut steps = steps();
    let (second, first) = (steps.remove(1), steps.remove(0));
    let why = text("hci0 is still in use");
    let cause = DriverError::Failed { what: second.to_string(), why: "the port is in use".into() };
    vec![
        (
            "Usage",
            Error::Usage {
                problem: text("`qemu:` lacks the path of a socket"),
                advice: None,
                remedies: Vec::new(),
            },
        ),
        (
            "NoSuchDomain",
            Error::NoSuchDomain {
                requested: text("web2"),
                known: vec![text("web1")],
                several: false,
                damaged: Vec::new(),
                addresses: vec![text("qemu:SOCKET")],
            },
        ),
        (
            "NoSuchDevice",
            Error::NoSuchDevice {
                domain: text("web1"),
                requested: text("licence"),
                known: vec![text("stick (hci0:1)")],
            },
        ),
        ("HubInUse", Error::HubInUse { hub: text("hub0"), devices: text("mouse0, tablet0") }),
        (
            "Failed",
            Error::Failed {
                step: Box::new(second.clone()),
                cause: Box::new(cause.into()),
                unknown: false,
                undone: Vec::new(),
                not_undone: vec![NotUndone { step: first, why }],
                unrecorded: None,
            },
        ),
        ("NotRecorded", Error::NotRecorded { steps: vec![second], cause: Box::new(unreadable()) }),
        ("Cancelled", Error::Cancelled),
        ("DeadlineExceeded", Error::DeadlineExceeded),
        (
            "AbsentInBackend",
            Error::AbsentInBackend { selector: parse("0781:5581"), domain: text("usbvm") },
        ),
        ("Node", Error::Node(NodeError::NotUsb { path: "/dev/sda".into() })),
        ("HostHub", Error::HostHub { device: text("1-4 (0424:2514)") }),
        (
            "Protected",
            Error::Protected {
                device: text("1-4 (0781:5581)"),
                reasons: vec![text("/dev/sda1 is mounted on /")],
            },
        ),
        (
            "DeniedByRule",
            Error::DeniedByRule {
                device: text("1-4 (0781:5581)"),
                port: parse("1-4"),
                domain: text("web1"),
                rule: parse("no sticks"),
                file: Some(text("/etc/vusb/rules.d/10.toml:3")),
                is_final: false,
            },
        ),
        (
            "Rules",
            Error::Rules {
                mistakes: vec![text(
                    "error: `vendor` is not a key of a rule\n --> /etc/vusb/rules.d/10.toml:3:1",
                )],
            },
        ),
        (
            "InUse",
            Error::InUse {
                device: text("1-4 (0781:5581)"),
                by: text("qemu-system-x86 (pid 4711)"),
            },
        ),
        (
            "OtherTools",
            Error::OtherTools { device: parse("stick"), domain: text("qemu:/run/web1.qmp") },
        ),
        ("ForeignHeader", Error::ForeignHeader { path: path(), format: "qcow2" }),
        ("UnknownImage", Error::UnknownImage { path: "/images/disk.vmdk".into(), ending: ".vmdk" }),
        (
            "RefersElsewhere",
            Error::RefersElsewhere {
                path: "/images/disk.qcow2".into(),
                refers: vec!["/etc/shadow, which would be read".to_owned()],
            },
        ),
        (
            "NotRestorable",
            Error::NotRestorable {
                device: parse("stick"),
                why: text("/images/stick.img does not exist"),
            },
        ),
        (
            "Claimed",
            Error::Claimed {
                what: text("host:0781:5581"),
                holder: text("web2 (as stick at hci0:1)"),
                domain: text("web2"),
                device: parse("stick"),
                gone: None,
                recorded: None,
            },
        ),
        (
            "Claim",
            Error::Claim {
                path: "/run/vusb/claims/usb-pci-0000_00_14.0-usb-0_4-1a2b3c4d5e6f".into(),
                why: text("it is not a regular file"),
            },
        ),
        (
            "UnsafeFolder",
            Error::UnsafeFolder {
                path: "/tmp/vusb".into(),
                why: text("other users may write to it, and it is not sticky"),
            },
        ),
        (
            "OtherDevice",
            Error::OtherDevice {
                device: parse("stick"),
                given: text("0781:5581:A1"),
                found: text("0781:5581:A2"),
                port: parse("1-4"),
            },
        ),
        (
            "AmbiguousDevice",
            Error::AmbiguousDevice {
                domain: text("web1"),
                requested: text("0781:5581"),
                matching: vec![text("stick (hci0:1)"), text("key (hci0:2)")],
            },
        ),
        (
            "OtherName",
            Error::OtherName {
                domain: text("qemu:/run/web1.qmp"),
                name: text("web1"),
                requested: text("shop"),
            },
        ),
        (
            "NameInUse",
            Error::NameInUse { name: parse("web1"), domain: text("qemu:/run/old.qmp"), gone: true },
        ),
        ("NoRecord", Error::NoRecord { domain: text("qemu:/run/web1.qmp") }),
        ("RecordExists", Error::RecordExists { domain: text("qemu:/run/web1.qmp") }),
        (
            "NotExported",
            Error::NotExported { path: "web1.toml".into(), why: text("missing field `record`") },
        ),
        ("StillRuns", Error::StillRuns { domain: text("web1"), why: None }),
        ("NoSuchFile", Error::NoSuchFile { path: path() }),
        (
            "WrongFile",
            Error::WrongFile { path: "/images".into(), is: "a folder", needed: "a file" },
        ),
        (
            "UnknownFormat",
            Error::UnknownFormat { path: "web1.txt".into(), known: vec![text("vusb"), text("xl")] },
        ),
        (
            "Busy",
            Error::Busy {
                what: text("the claims lock"),
                pid: Some(4711),
                waited: Duration::from_secs(10),
            },
        ),
        ("Io", unreadable()),
        (
            "Record",
            Error::Record {
                path: "/var/lib/vusb/qemu-web1.qmp-1a2b3c4d5e6f.json".into(),
                why: text("expected value at line 1 column 1"),
            },
        ),
        (
            "Lossy",
            Error::Lossy {
                to: text("xl"),
                lost: vec![text("hub0: xl has no hubs")],
                remedies: Vec::new(),
            },
        ),
        ("NoStartArguments", Error::NoStartArguments { scheme: Some(text("xen")) }),
        ("NotWatchable", Error::NotWatchable { scheme: text("sim") }),
        (
            "Spec",
            Error::Spec {
                origin: text("web1.toml"),
                message: text("error: `usbversion` is 1, 2 or 3, not 4\n --> web1.toml:3:14"),
                remedies: Vec::new(),
            },
        ),
    ]
}

fn drivers() -> Vec<(&'static str, DriverError)> {
    let domain = || text("qemu:/run/web1.qmp");
    vec![
        (
            "Unreachable",
            DriverError::Unreachable {
                domain: domain(),
                why: "connection refused".into(),
                midway: false,
            },
        ),
        (
            "Denied",
            DriverError::Denied {
                domain: "libvirt:web1".to_owned(),
                why: "no permission to connect to /run/libvirt/libvirt-sock: run as root, or as a member of the group libvirt".into(),
            },
        ),
        (
            "Busy",
            DriverError::Busy {
                domain: domain(),
                why: "socat (pid 4711) is connected to its monitor, and QEMU serves one client per socket".into(),
            },
        ),
        (
            "Locked",
            DriverError::Locked {
                what: text("plug storage0 into 0:1"),
                why: "QEMU answered: Failed to get \"write\" lock; it is locked by qemu-system-x86 (pid 4711)".into(),
            },
        ),
        (
            "TimedOut",
            DriverError::TimedOut {
                what: text("unplug stick from 0:1"),
                limit: Duration::from_secs(10),
                why: "the guest did not release it".into(),
            },
        ),
        (
            "NotImplemented",
            DriverError::NotImplemented {
                what: text("an ehci in a running guest"),
                by: text("Xen"),
                why: "a device model gets it only when the guest starts".into(),
            },
        ),
        (
            "WrongSpeed",
            DriverError::WrongSpeed {
                what: text("0781:5581"),
                why: "hci0 takes only high speed".into(),
            },
        ),
        (
            "Missing",
            DriverError::Missing {
                what: text("the domain web7"),
                why: "no running guest has this name".into(),
            },
        ),
        (
            "Failed",
            DriverError::Failed {
                what: text("plug stick into 0:1"),
                why: "Device 'usb-host' could not be initialized".into(),
            },
        ),
        (
            "Text",
            DriverError::Text {
                message: text("error: port 16 is too high\n --> web1.xml:9:5"),
                category: None,
                remedies: Vec::new(),
            },
        ),
        (
            "Confused",
            DriverError::Confused { domain: domain(), why: "the reply is not JSON".into() },
        ),
    ]
}

fn refusals() -> Vec<(&'static str, Refusal)> {
    let controller = || parse("hci0");
    let stick = || text("stick (storage:stick.img)");
    let model = Model::Piix3Uhci;
    vec![
        ("PortCount", Refusal::PortCount { model, requested: 3, supported: 2..=2 }),
        ("SeparatePorts", Refusal::SeparatePorts { model }),
        ("HubPorts", Refusal::HubPorts { requested: 9 }),
        ("TypeAndModel", Refusal::TypeAndModel { requested: ControllerType::Pv, model }),
        ("VersionAndModel", Refusal::VersionAndModel { requested: UsbVersion::V3, model }),
        ("BackendOfEmulated", Refusal::BackendOfEmulated { model }),
        ("Companions", Refusal::Companions { model, why: "only an ich9-ehci1 has companions" }),
        ("PortWithoutController", Refusal::PortWithoutController { port: parse("1"), count: 2 }),
        ("Duplicate", Refusal::Duplicate { what: text("the name stick") }),
        ("NotRequestable", Refusal::NotRequestable { driver: text("usb-braille") }),
        (
            "NoSuchController",
            Refusal::NoSuchController { requested: text("hci7"), existing: vec![controller()] },
        ),
        (
            "NoSuchPort",
            Refusal::NoSuchPort {
                controller: controller(),
                port: parse("16"),
                on: text("hci0"),
                ports: 15,
            },
        ),
        ("NoHub", Refusal::NoHub { controller: controller(), hub: parse("2"), port: parse("2.1") }),
        (
            "PortInUse",
            Refusal::PortInUse { controller: controller(), port: parse("1"), by: stick() },
        ),
        (
            "NameInUse",
            Refusal::NameInUse { name: controller(), by: text("a controller at index 0") },
        ),
        ("IndexInUse", Refusal::IndexInUse { index: 0, by: text("hci0, an ehci with 6 ports") }),
        (
            "AlreadyPlugged",
            Refusal::AlreadyPlugged { device: text("host:0781:5581"), location: text("hci0:1") },
        ),
        ("NotEmpty", Refusal::NotEmpty { controller: controller(), devices: text("stick") }),
        ("Full", Refusal::Full { controller: controller(), model, ports: 2 }),
        (
            "WrongSpeed",
            Refusal::WrongSpeed {
                device: text("a mouse"),
                speed: SpeedSet::of(&[Speed::Full]),
                location: text("hci0 (ehci)"),
                supported: SpeedSet::of(&[Speed::High]),
                fitting: Vec::new(),
                alternatives: Vec::new(),
            },
        ),
        ("NoEhci", Refusal::NoEhci { model: Model::Ich9Uhci1, index: 1 }),
        (
            "PciAddress",
            Refusal::PciAddress {
                model,
                index: 0,
                requested: text("pci.0/01.0"),
                why: "it must be function 2 of the PIIX3",
            },
        ),
        ("UsbDisabled", Refusal::UsbDisabled { what: text("a tablet") }),
        (
            "NoController",
            Refusal::NoController { what: text("a tablet"), guest: text("an s390x guest") },
        ),
        ("NoPort", Refusal::NoPort { scope: text("usb1 and its hubs"), ports: 10 }),
        (
            "NoSlot",
            Refusal::NoSlot {
                what: text(
                    "all 4 ports of hci0 are in use, and this guest has no slot for another controller",
                ),
                why: "all slots of its PCI bus are in use".into(),
            },
        ),
        ("NoIndex", Refusal::NoIndex),
        (
            "NotImplemented",
            Refusal::NotImplemented {
                what: text("a pv controller"),
                by: text("QEMU"),
                why: "QEMU has no paravirtual USB".into(),
            },
        ),
    ]
}

/// A row of the page.
#[derive(Debug)]
struct Row {
    /// The exit code of its section.
    code: u8,
    line: String,
    message: String,
    advice: String,
}

/// The rows of the page, by the name of the error.
fn rows(page: &str) -> BTreeMap<String, Row> {
    let (mut rows, mut code) = (BTreeMap::new(), 0);
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            code = title.split(':').next().and_then(|it| it.parse().ok()).unwrap_or(0);
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, message, advice, name, _] = cells.as_slice() else {
            continue;
        };
        if name.contains("::") {
            let (message, advice) = (text(message), text(advice));
            let row = Row { code, line: text(line), message, advice };
            assert!(rows.insert(name.replace('`', ""), row).is_none(), "{name} has two rows");
        }
    }
    rows
}

#[test]
fn every_error_is_on_the_page_with_its_exit_code_and_its_message() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
    let page = fs::read_to_string(&path).unwrap();
    let (rows, examples) = (rows(&page), examples());
    let mut wrong = Vec::new();
    let mut updated = page.clone();
    for (name, error) in &examples {
        let Some(row) = rows.get(name) else {
            wrong.push(format!("{name} has no row"));
            continue;
        };
        let message = error.to_string().lines().next().unwrap().replace("error: ", "");
        if row.message != message {
            wrong.push(format!("{name}: the message is: {message}"));
            let line = row.line.replacen(&row.message, &message, 1);
            updated = updated.replace(&row.line, &line);
        }
        let code = error.exit_code().code();
        if row.code != code {
            wrong.push(format!("{name} ends with {code}, and is in the section of {}", row.code));
        }
        if row.advice.is_empty() {
            wrong.push(format!("{name} has no advice"));
        }
    }
    let stale = rows.keys().filter(|name| !examples.contains_key(*name));
    wrong.extend(stale.map(|name| format!("{name} does not exist")));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, updated).unwrap();
    }
    assert!(wrong.is_empty(), "docs/errors.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_variant_has_an_example() {
    let names = ENUMS.iter().flat_map(|(name, path, begin)| {
        variants(path, begin).into_iter().map(move |variant| format!("{name}::{variant}"))
    });
    let names: BTreeSet<String> = names.collect();
    assert!(names.len() > 50, "{names:?}");
    assert_eq!(examples().into_keys().collect::<BTreeSet<_>>(), names);
}

#[test]
fn every_kind_has_a_section() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md"));
    let page = page.unwrap();
    for error in examples().values() {
        let kind = error.exit_code();
        let title = format!("\n## {}: {}\n", kind.code(), kind.word());
        assert!(page.contains(&title), "{title}");
    }
}

/// What the caller can do. Errors that are not listed explain themselves in their text, or carry
/// their own remedies.
fn hints() -> BTreeMap<&'static str, (Vec<Advice>, Vec<Remedy>)> {
    let force = || vec![Remedy::Force];
    let stick = || parse("stick");
    let found = text("0781:5581:A2");
    let remove_stick =
        Remedy::RemoveDevice { domain: text("web2"), device: stick(), forget: false };
    let explain = Remedy::Explain { device: parse("1-4"), domain: text("web1") };
    let old = || text("qemu:/run/old.qmp");
    let renamed =
        vec![Remedy::ForgetDomain { domain: old() }, Remedy::RenameDomain { domain: old() }];
    let addresses = vec![text("qemu:SOCKET")];
    let usbvm = Remedy::ListHost { backend: Some(text("usbvm")) };
    let storage = Advice::UseStorage { path: "/dev/sda".into() };
    let distrust = Advice::DistrustHeader { format: text("qcow2") };
    BTreeMap::from([
        ("NoSuchDomain", (vec![Advice::NameDomain { addresses }], vec![Remedy::ListDomain])),
        ("NoSuchDevice", (vec![Advice::NameDevice], vec![])),
        ("HubInUse", (vec![Advice::RemoveDevicesBehindHub], force())),
        ("Failed", (vec![Advice::CheckDomain], vec![Remedy::ListDomain])),
        ("NotRecorded", (vec![Advice::RemoveCause], vec![])),
        ("DeadlineExceeded", (vec![], vec![Remedy::MoreTime])),
        ("AbsentInBackend", (vec![], vec![usbvm])),
        ("Node", (vec![storage], vec![Remedy::ListHost { backend: None }])),
        ("HostHub", (vec![Advice::AttachDevicesBehindHub], vec![])),
        ("Protected", (vec![], force())),
        ("DeniedByRule", (vec![], vec![explain, Remedy::Force])),
        ("InUse", (vec![Advice::EndUse], force())),
        ("OtherTools", (vec![], force())),
        ("ForeignHeader", (vec![distrust, Advice::ConvertToRaw], force())),
        ("UnknownImage", (vec![Advice::ConvertToRaw], force())),
        ("RefersElsewhere", (vec![Advice::CheckImage], force())),
        ("NotRestorable", (vec![Advice::RemoveFirst { device: stick() }], force())),
        ("Claimed", (vec![], vec![remove_stick])),
        ("Claim", (vec![Advice::DeleteClaim], vec![])),
        ("UnsafeFolder", (vec![Advice::UseSafeFolder], vec![])),
        ("OtherDevice", (vec![Advice::ReplaceDevice { device: stick(), found }], vec![])),
        ("AmbiguousDevice", (vec![Advice::NameDeviceUniquely], vec![])),
        ("OtherName", (vec![Advice::CorrectSpec], force())),
        ("NameInUse", (vec![Advice::ChooseAnotherName], renamed)),
        ("NoRecord", (vec![], vec![Remedy::ListDomains])),
        ("RecordExists", (vec![], force())),
        ("NotExported", (vec![Advice::NameExportedRecord], vec![])),
        ("StillRuns", (vec![], force())),
        ("Busy", (vec![Advice::WaitForProcess], vec![Remedy::MoreTime])),
        ("Record", (vec![Advice::RepairRecord], vec![])),
    ])
}

#[test]
fn every_error_says_what_to_do() {
    let hints = hints();
    for (name, error) in &examples() {
        let Some(name) = name.strip_prefix("Error::") else { continue };
        let (advice, remedies) = hints.get(name).cloned().unwrap_or_default();
        assert_eq!((error.advice(), error.remedies()), (advice, remedies), "{name}");
    }
    let absent = &examples()["SelectError::Absent"];
    assert_eq!(absent.advice(), [Advice::PlugIn]);
    assert_eq!(absent.remedies(), [Remedy::ListHost { backend: None }]);
}

#[test]
fn the_remedies_of_a_cause_are_those_of_the_failed_step() {
    let step = Box::new(steps().remove(0));
    let failed = |cause: Error, not_undone| Error::Failed {
        step: step.clone(),
        cause: Box::new(cause),
        unknown: false,
        undone: Vec::new(),
        not_undone,
        unrecorded: None,
    };
    let all_undone = failed(Error::DeadlineExceeded, Vec::new());
    assert_eq!(all_undone.remedies(), [Remedy::MoreTime]);
    assert_eq!(all_undone.advice(), []);
    let left = NotUndone { step: steps().remove(0), why: text("hci0 is still in use") };
    let half = failed(Error::DeadlineExceeded, vec![left.clone()]);
    assert_eq!(half.remedies(), [Remedy::MoreTime, Remedy::ListDomain]);
    // What the cause already offers is not offered twice.
    let missing = Error::NoSuchDomain {
        requested: text("web2"),
        known: Vec::new(),
        several: false,
        damaged: Vec::new(),
        addresses: Vec::new(),
    };
    assert_eq!(failed(missing, vec![left]).remedies(), [Remedy::ListDomain]);
}

#[test]
fn what_helps_depends_on_the_guest_that_is_in_the_way() {
    let claimed = |gone: Option<&str>, recorded| Error::Claimed {
        what: text("host:0781:5581"),
        holder: text("web2 (as stick at hci0:1)"),
        domain: text("web2"),
        device: parse("stick"),
        gone: gone.map(text),
        recorded,
    };
    let remove = |domain: &str, device: &str, forget| Remedy::RemoveDevice {
        domain: text(domain),
        device: parse(device),
        forget,
    };
    let ended = claimed(Some("connection refused"), None);
    assert_eq!(ended.remedies(), [remove("web2", "stick", true)]);
    let both = claimed(None, Some((text("web1"), parse("key"))));
    assert_eq!(both.remedies(), [remove("web2", "stick", false), remove("web1", "key", false)]);

    let named = Error::NameInUse { name: parse("web1"), domain: text("sim:a"), gone: false };
    assert_eq!(named.remedies(), [Remedy::RenameDomain { domain: text("sim:a") }]);
    assert_eq!(named.to_string(), "sim:a is already named web1");

    let unknown = Error::StillRuns { domain: text("web1"), why: Some(text("no answer")) };
    assert_eq!(unknown.to_string(), "web1 may be running: no answer");
    let busy = Error::Busy { what: text("the lock"), pid: None, waited: Duration::from_secs(1) };
    assert_eq!(
        busy.to_string(),
        "timed out after 1 s waiting for the lock (held by another process)"
    );
}

#[test]
fn force_does_not_override_a_final_rule() {
    let Error::DeniedByRule { device, port, domain, rule, file, .. } =
        examples().remove("Error::DeniedByRule").unwrap()
    else {
        panic!()
    };
    let error = Error::DeniedByRule { device, port, domain, rule, file, is_final: true };
    assert!(!error.remedies().contains(&Remedy::Force));
}

/// The page mentions `--force` for an error of the library itself if the error offers it.
#[test]
fn the_page_and_the_errors_agree_on_force() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md"));
    let rows = rows(&page.unwrap());
    for (name, error) in examples().iter().filter(|(name, _)| name.starts_with("Error::")) {
        let offers = error.remedies().contains(&Remedy::Force);
        // Rules are overridden for each device, and a claim only if its guest has ended.
        let is_other = ["Error::Rules", "Error::Claimed"].contains(&name.as_str());
        assert_eq!(rows[name].advice.contains("`--force`"), offers || is_other, "{name}");
    }
}

#[test]
fn errors_that_show_a_file_are_told_apart_from_sentences() {
    for (name, error) in &examples() {
        let shows =
            ["Error::Spec", "Error::Rules", "drivers::Error::Text"].contains(&name.as_str());
        assert_eq!(error.shows_source(), shows, "{name}");
    }
}

#[test]
fn the_remedies_of_other_layers_are_passed_on() {
    let usage = Error::Usage {
        problem: text("these were added by hand"),
        advice: None,
        remedies: vec![Remedy::Prune],
    };
    assert_eq!(usage.remedies(), [Remedy::Prune]);
    let why =
        vusb::model::remedy::Reason { text: text("it is in use"), remedies: vec![Remedy::Force] };
    let failed = Error::from(DriverError::Failed { what: text("unplug stick"), why });
    assert_eq!(failed.remedies(), [Remedy::Force]);
    let why = vusb::model::remedy::Reason {
        text: text("QEMU has no paravirtual USB"),
        remedies: vec![Remedy::UseType { controller_type: ControllerType::Emulated }],
    };
    let remedies = why.remedies.clone();
    let refused = Refusal::NotImplemented { what: text("a pv controller"), by: text("QEMU"), why };
    assert_eq!(Error::from(refused).remedies(), remedies);
}
