//! Whatever is done, and whatever goes wrong: the record is what the guest has and what is missing, and no device of this
//! machine is two domains'.

use proptest::prelude::*;
use serde_json::{Value, json};
use vusb::model::hardware::Hardware;
use vusb::model::spec::DeviceSpec;
use vusb::{Error, ExitCode};

use crate::house::House;

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
    PutBack(usize),
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
        1 => guest().prop_map(Act::PutBack),
        1 => guest().prop_map(Act::Restart),
        3 => (guest(), 0..STEPS.len(), 0..FAULTS.len(), 1..3u32)
            .prop_map(|(g, s, f, n)| Act::Fault(g, s, f, n)),
    ]
}

fn hardware(value: &Value) -> Hardware {
    serde_json::from_value(value.clone()).unwrap()
}

/// The name of the `number`th thing of the guest, if it has so many.
fn nth<T: ToString>(all: impl Iterator<Item = T>, number: usize) -> Option<String> {
    all.map(|it| it.to_string()).nth(number)
}

fn take(house: &House, act: &Act) -> Option<Result<vusb::Outcome, Error>> {
    let vusb = house.vusb();
    let guest = |it: &usize| house.guest(GUESTS[*it]);
    let list = |it: &usize| vusb.list(&guest(it)).unwrap();
    Some(match act {
        Act::Add(g, d, forced) => {
            let library = if *forced { house.forced() } else { vusb };
            library.device_add(&guest(g), &DeviceSpec::new(DEVICES[*d].parse().unwrap()))
        }
        Act::Remove(g, number) => {
            let view = list(g);
            let names = view.controllers.iter().flat_map(|it| &it.devices).map(|it| &it.name);
            let name = nth(names, *number)?;
            house.forced().device_remove(&guest(g), &name.parse().unwrap())
        }
        Act::RemoveController(g, number) => {
            let name = nth(list(g).controllers.iter().map(|it| &it.name), *number)?;
            house.forced().controller_remove(&guest(g), &name.parse().unwrap())
        }
        Act::Apply(g, spec) => vusb.apply(&house.spec(GUESTS[*g], SPECS[*spec])),
        Act::PutBack(g) => vusb.apply_recorded(&guest(g)),
        Act::Restart(g) => {
            house.restart(GUESTS[*g]);
            return None;
        }
        Act::Fault(g, step, fault, nth) => {
            let fault = json!([{"step": STEPS[*step], "fault": FAULTS[*fault], "nth": nth}]);
            house.set(GUESTS[*g], "faults", fault);
            return None;
        }
    })
}

/// The record of a guest that was worked on last is what it has, and what is missing.
fn holds_true(house: &House, name: &str) {
    let record = house.record(name);
    assert_eq!(record["pending"], Value::Null);
    let (recorded, observed) =
        (hardware(&record["hardware"]), hardware(&house.sim(name)["hardware"]));
    let view = house.vusb().list(&house.guest(name)).unwrap();
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
        assert_eq!(recorded.controller(controller.index).unwrap().bare(), controller.bare());
    }
    assert_eq!(view.controllers.len(), recorded.controllers().len());
    assert!(view.notes.is_empty(), "{:?}", view.notes);
}

/// The sticks in ports 4 and 5, and the file, are in one guest each, at the most.
fn nothing_is_given_twice(house: &House) {
    let mut given: Vec<String> = Vec::new();
    for name in GUESTS {
        let Ok(text) = std::fs::read_to_string(house.at(&format!("{name}.sim"))) else { continue };
        let sim: Value = serde_json::from_str(&text).unwrap();
        for (_, device) in hardware(&sim["hardware"]).devices() {
            let thing = match device.kind.to_string().as_str() {
                "host:0781:5581" | "host:1-4" => "port 4".to_owned(),
                text if text.starts_with("host:") || text.starts_with("storage:") => {
                    text.to_owned()
                }
                _ => continue,
            };
            given.push(thing);
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
        let house = House::new();
        house.plug(4, "0781:5581", "A1");
        house.plug(5, "1d6b:0104", "B1");
        house.file("a.img", "");
        for act in &acts {
            let Some(result) = take(&house, act) else { continue };
            if let Err(error) = &result {
                prop_assert!(!matches!(error.exit_code(), ExitCode::Done), "{}", error);
            }
            let (Act::Add(g, ..) | Act::Remove(g, _) | Act::RemoveController(g, _) | Act::Apply(g, _)
                | Act::PutBack(g) | Act::Restart(g) | Act::Fault(g, ..)) = act;
            // What was refused before anything was begun leaves no record behind.
            if result.is_ok() || matches!(result, Err(Error::Failed { .. })) {
                holds_true(&house, GUESTS[*g]);
            }
            nothing_is_given_twice(&house);
        }
    }

    /// A record may be cut short, scribbled over or written by somebody: it is understood, or it is an error that leaves it
    /// as it is.
    #[test]
    fn a_record_of_any_content_is_understood_or_left_alone(
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 0..4),
        cut in any::<bool>(),
    ) {
        let house = House::new();
        house.file("a.img", "");
        house.add("web", "storage:a.img").unwrap();
        let path = house.records().remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        let from = at.index(bytes.len());
        let to = if cut { bytes.len() } else { (from + with.len()).min(bytes.len()) };
        bytes.splice(from..to, with);
        std::fs::write(&path, &bytes).unwrap();
        let result = house.add("web", "tablet");
        if matches!(result, Err(Error::Record { .. })) {
            prop_assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        let _ = house.vusb().list_all().unwrap();
        let _ = house.vusb().host_list().unwrap();
    }
}
