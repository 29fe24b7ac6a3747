//! Properties that hold after any calls and faults: the record matches what the guest has and what
//! is missing, and no host device belongs to two domains.

use proptest::prelude::*;
use serde_json::{Value, json};
use vusb::model::hardware::Hardware;
use vusb::model::spec::DeviceSpec;
use vusb::{Error, ExitCode};

use crate::sandbox::Sandbox;

const GUESTS: [&str; 2] = ["web", "mail"];
const DEVICES: [&str; 7] = ["tablet", "hub", "mouse", "0781:5581", "1-4", "1-5", "storage:a.img"];
const FAULTS: [&str; 4] = ["fail", "timeout", "unreachable", "happens-anyway"];
const STEPS: [&str; 4] = ["plug", "unplug", "add", "remove"];
const SPECS: [&str; 4] = [
    "",
    "[[device]]\nkind = \"tablet\"\n[[device]]\nkind = \"hub\"\n[[device]]\nhost = \"0781:5581\"",
    "[[controller]]\nusbversion = 1\n[[device]]\nkind = \"mouse\"\n[[device]]\nkind = \"storage\"\nfile = \"a.img\"",
    "[[controller]]\nname = \"fast\"\nmodel = \"nec-xhci\"\n[[device]]\nhost = \"1-5\"\ncontroller = \"fast\"",
];

#[derive(Clone, Debug)]
enum Act {
    Add(usize, usize, bool),
    Remove(usize, usize),
    RemoveController(usize, usize),
    Apply(usize, usize),
    Restore(usize),
    Restart(usize),
    Fault(usize, usize, usize, u32),
}

fn act() -> impl Strategy<Value = Act> {
    let guest = || 0..GUESTS.len();
    prop_oneof![
        4 => (guest(), 0..DEVICES.len(), any::<bool>()).prop_map(|(g, d, f)| Act::Add(g, d, f)),
        2 => (guest(), 0..8usize).prop_map(|(g, n)| Act::Remove(g, n)),
        1 => (guest(), 0..3usize).prop_map(|(g, n)| Act::RemoveController(g, n)),
        2 => (guest(), 0..SPECS.len()).prop_map(|(g, s)| Act::Apply(g, s)),
        1 => guest().prop_map(Act::Restore),
        1 => guest().prop_map(Act::Restart),
        3 => (guest(), 0..STEPS.len(), 0..FAULTS.len(), 1..3u32)
            .prop_map(|(g, s, f, n)| Act::Fault(g, s, f, n)),
    ]
}

fn hardware(value: &Value) -> Hardware {
    serde_json::from_value(value.clone()).unwrap()
}

/// The name of the guest's item with this number, if there is one.
fn nth<T: ToString>(all: impl Iterator<Item = T>, number: usize) -> Option<String> {
    all.map(|it| it.to_string()).nth(number)
}

fn take(sandbox: &Sandbox, act: &Act) -> Option<Result<vusb::Outcome, Error>> {
    let vusb = sandbox.vusb();
    let guest = |it: &usize| sandbox.guest(GUESTS[*it]);
    let list = |it: &usize| vusb.list(&guest(it)).unwrap();
    Some(match act {
        Act::Add(g, d, forced) => {
            let library = if *forced { sandbox.forced() } else { vusb };
            library.device_add(&guest(g), &DeviceSpec::new(DEVICES[*d].parse().unwrap()))
        }
        Act::Remove(g, number) => {
            let view = list(g);
            let names = view.controllers.iter().flat_map(|it| &it.devices).map(|it| &it.name);
            let name = nth(names, *number)?;
            sandbox.forced().device_remove(&guest(g), &name.parse().unwrap())
        }
        Act::RemoveController(g, number) => {
            let name = nth(list(g).controllers.iter().map(|it| &it.name), *number)?;
            sandbox.forced().controller_remove(&guest(g), &name.parse().unwrap())
        }
        Act::Apply(g, spec) => vusb.apply(&sandbox.spec(GUESTS[*g], SPECS[*spec])),
        Act::Restore(g) => vusb.restore(&guest(g)),
        Act::Restart(g) => {
            sandbox.restart(GUESTS[*g]);
            return None;
        }
        Act::Fault(g, step, fault, nth) => {
            let fault = json!([{"step": STEPS[*step], "fault": FAULTS[*fault], "nth": nth}]);
            sandbox.set(GUESTS[*g], "faults", fault);
            return None;
        }
    })
}

/// The record of the guest that was changed last has the guest's items and the missing ones.
fn record_matches(sandbox: &Sandbox, name: &str) {
    let record = sandbox.record(name);
    assert_eq!(record["pending"], Value::Null);
    let (recorded, observed) =
        (hardware(&record["hardware"]), hardware(&sandbox.sim(name)["hardware"]));
    let view = sandbox.vusb().list(&sandbox.guest(name)).unwrap();
    let mut missing = Vec::new();
    for controller in &view.controllers {
        for device in &controller.devices {
            if json!(device.state) == "missing" {
                missing.push((controller.index, device.port));
            }
        }
    }
    for (address, device) in recorded.devices() {
        let there = observed.device(address) == Some(device);
        assert!(there || missing.contains(&(address.bus, address.port)), "{address} {device:?}");
    }
    for (address, device) in observed.devices() {
        assert_eq!(recorded.device(address), Some(device));
    }
    for controller in observed.controllers() {
        assert_eq!(
            recorded.controller(controller.index).unwrap().without_devices(),
            controller.without_devices()
        );
    }
    assert_eq!(view.controllers.len(), recorded.controllers().len());
    assert!(view.notes.is_empty(), "{:?}", view.notes);
}

/// The sticks in ports 4 and 5 and the image are each in at most one guest.
fn nothing_is_attached_twice(sandbox: &Sandbox) {
    let mut given: Vec<String> = Vec::new();
    for name in GUESTS {
        let Ok(text) = std::fs::read_to_string(sandbox.at(&format!("{name}.sim"))) else {
            continue;
        };
        let sim: Value = serde_json::from_str(&text).unwrap();
        for (_, device) in hardware(&sim["hardware"]).devices() {
            let source = match device.kind.to_string().as_str() {
                "host:0781:5581" | "host:1-4" => "port 4".to_owned(),
                text if text.starts_with("host:") || text.starts_with("storage:") => {
                    text.to_owned()
                }
                _ => continue,
            };
            given.push(source);
        }
    }
    let all = given.len();
    given.sort();
    given.dedup();
    assert_eq!(given.len(), all, "{given:?}");
}

proptest! {
    #[test]
    fn record_and_guest_agree(acts in prop::collection::vec(act(), 1..16)) {
        let sandbox = Sandbox::new();
        sandbox.plug(4, "0781:5581", "A1");
        sandbox.plug(5, "1d6b:0104", "B1");
        sandbox.file("a.img", "");
        for act in &acts {
            let Some(result) = take(&sandbox, act) else { continue };
            if let Err(error) = &result {
                prop_assert!(!matches!(error.exit_code(), ExitCode::Done), "{}", error);
            }
            let (Act::Add(g, ..) | Act::Remove(g, _) | Act::RemoveController(g, _) | Act::Apply(g, _)
                | Act::Restore(g) | Act::Restart(g) | Act::Fault(g, ..)) = act;
            // A request that is refused before its first step leaves no record, and neither does
            // restoring a guest that has none.
            let has_changed = result.is_ok() || matches!(result, Err(Error::Failed { .. }));
            let writes_none = matches!(act, Act::Restore(_));
            if has_changed && !(writes_none && sandbox.find_record(GUESTS[*g]).is_none()) {
                record_matches(&sandbox, GUESTS[*g]);
            }
            nothing_is_attached_twice(&sandbox);
        }
    }

    /// A record that was truncated, overwritten or edited is read, or it causes an error and stays
    /// unchanged.
    #[test]
    fn a_record_with_any_content_is_read_or_left_unchanged(
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 0..4),
        cut in any::<bool>(),
    ) {
        let sandbox = Sandbox::new();
        sandbox.file("a.img", "");
        sandbox.add("web", "storage:a.img").unwrap();
        let path = sandbox.records().remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        let from = at.index(bytes.len());
        let to = if cut { bytes.len() } else { (from + with.len()).min(bytes.len()) };
        bytes.splice(from..to, with);
        std::fs::write(&path, &bytes).unwrap();
        let result = sandbox.add("web", "tablet");
        if matches!(result, Err(Error::Record { .. })) {
            prop_assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        let _ = sandbox.vusb().list_all().unwrap();
        let _ = sandbox.vusb().host_list().unwrap();
    }

    /// A file with any content is imported or refused. If it is refused, nothing is recorded.
    #[test]
    fn an_exported_record_with_any_content_is_imported_or_refused(
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 0..4),
        cut in any::<bool>(),
    ) {
        let sandbox = Sandbox::new();
        sandbox.plug(4, "0781:5581", "A1");
        sandbox.file("a.img", "");
        sandbox.add("web", "storage:a.img").unwrap();
        sandbox.add("web", "1-4").unwrap();
        let vusb = sandbox.vusb();
        let exported = vusb.context.domain_export(&sandbox.guest("web"), &vusb.options).unwrap();
        let mut bytes = serde_json::to_vec(&exported).unwrap();
        let from = at.index(bytes.len());
        let to = if cut { bytes.len() } else { (from + with.len()).min(bytes.len()) };
        bytes.splice(from..to, with);
        let file = sandbox.at("web.record");
        std::fs::write(&file, &bytes).unwrap();
        let mail = sandbox.guest("mail");
        let before = sandbox.records().len();
        match vusb.context.domain_import(&file, Some(&mail), &vusb.options) {
            Ok(_) => {
                prop_assert_eq!(sandbox.records().len(), before + 1);
                let _ = vusb.list(&mail).unwrap();
                let _ = vusb.restore(&mail);
            }
            Err(_) => prop_assert_eq!(sandbox.records().len(), before),
        }
    }
}
