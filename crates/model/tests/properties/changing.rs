//! Steps, their undo, digests, and stored hardware.

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use serde_json::Value;
use vusb_model::address::Index;
use vusb_model::capabilities::Capabilities;
use vusb_model::device::Kind;
use vusb_model::diff::diff;
use vusb_model::digest::digest;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Model, RootPorts};
use vusb_model::resolve::resolve;
use vusb_model::spec::Spec;

use crate::generate::hardware;
use crate::ports;

/// The same hardware, with `prefix` before all names.
fn renamed(hardware: &Hardware, prefix: &str) -> Hardware {
    let mut renamed = hardware.clone();
    let controllers = hardware.controllers().map(|controller| &controller.name);
    for name in controllers.chain(hardware.devices().map(|(_, device)| &device.name)) {
        renamed.rename(name, &format!("{prefix}-{name}").parse().unwrap()).unwrap();
    }
    renamed
}

/// The hardware without some of its devices (and the devices behind them) and empty controllers.
fn thinned(hardware: &Hardware, keep: &[bool]) -> Hardware {
    let mut thin = hardware.clone();
    let mut keep = keep.iter().cycle();
    for (at, _) in hardware.devices() {
        if !keep.next().unwrap() {
            thin.unplug(at);
        }
    }
    for controller in hardware.controllers() {
        let empty = thin.controller(controller.index).is_some_and(|c| c.devices().len() == 0);
        if empty && !keep.next().unwrap() {
            thin.remove_controller(controller.index);
        }
    }
    thin
}

/// The hardware with some hubs replaced by larger ones, and the same devices behind them.
fn other_hubs(hardware: &Hardware, keep: &[bool]) -> Hardware {
    let mut other = hardware.clone();
    let hubs = hardware.devices().filter(|(_, device)| (1..8).contains(&device.kind.hub_ports()));
    for ((at, _), _) in hubs.zip(keep.iter().cycle()).filter(|(_, keep)| !**keep) {
        for (address, mut device) in other.unplug(at).into_iter().rev() {
            if let (true, Kind::Hub(hub)) = (address == at, &mut device.kind) {
                hub.ports += 1;
            }
            other.plug(address, device).unwrap();
        }
    }
    other
}

/// Two pieces of hardware that have much in common or nothing in common.
fn two() -> impl Strategy<Value = (Hardware, Hardware)> {
    let bools = || prop::collection::vec(prop::bool::weighted(0.8), 1..40);
    let alike = (hardware(), bools(), bools())
        .prop_map(|(whole, a, b)| (thinned(&whole, &a), other_hubs(&thinned(&whole, &b), &a)));
    prop_oneof![3 => alike, 1 => (hardware(), hardware())]
        .prop_map(|(a, b)| (renamed(&a, "a"), renamed(&b, "b")))
}

fn json(hardware: &Hardware) -> Value {
    serde_json::to_value(hardware).unwrap()
}

/// The JSON pointers of all values in `value`.
fn pointers(value: &Value, path: String, all: &mut Vec<String>) {
    all.push(path.clone());
    match value {
        Value::Array(list) => {
            for (number, entry) in list.iter().enumerate() {
                pointers(entry, format!("{path}/{number}"), all);
            }
        }
        Value::Object(map) => {
            for (key, entry) in map {
                pointers(entry, format!("{path}/{key}"), all);
            }
        }
        _ => {}
    }
}

/// A similar device that the guest can distinguish from this one.
fn similar(kind: &Kind) -> Option<Kind> {
    let mut other = kind.clone();
    match &mut other {
        Kind::Storage(storage) => storage.readonly = !storage.readonly,
        Kind::Mtp(mtp) => mtp.writable = !mtp.writable,
        Kind::Net(net) => net.mac.as_mut()?.0[5] ^= 1,
        Kind::Hub(hub) if hub.ports > 1 => hub.ports -= 1,
        Kind::Mouse(_) | Kind::Keyboard(_) => {
            return "tablet".parse().ok().filter(|_| full_speed(kind));
        }
        _ => return None,
    }
    Some(other)
}

fn full_speed(kind: &Kind) -> bool {
    ports::speeds(kind) == "f"
}

/// A value to replace another one: valid in some places, or nowhere.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..300).prop_map(Value::from),
        "[a-z0-9.:-]{0,6}".prop_map(Value::from),
        prop::sample::select(vec![
            "1", "2", "1.1", "1.2.3.4", "hub", "storage", "hci0", "ehci", "nec-xhci"
        ])
        .prop_map(Value::from),
        Just(Value::Array(Vec::new())),
    ]
}

proptest! {
    /// The steps turn `a` into `b` with sound hardware after each of them, and their undo restores
    /// `a`.
    #[test]
    fn steps_reach_the_target_and_their_undo_restores((a, b) in two()) {
        let steps = diff(&a, &b);
        let mut current = a.clone();
        for step in &steps {
            prop_assert!(step.apply(&mut current).is_ok(), "{}", step);
            prop_assert_eq!(ports::check(&current), Ok(()));
        }
        prop_assert_eq!(digest(&current), digest(&b));
        prop_assert_eq!(diff(&current, &b), vec![]);
        prop_assert_eq!(diff(&b, &current), vec![]);
        for step in steps.iter().rev() {
            prop_assert!(step.undo().apply(&mut current).is_ok(), "undo of {}", step);
            prop_assert_eq!(ports::check(&current), Ok(()));
        }
        prop_assert_eq!(current, a);
    }

    /// There are no steps between equal hardware, and no steps imply equal digests.
    #[test]
    fn no_steps_between_equal_hardware((a, b) in two()) {
        prop_assert_eq!(diff(&a, &renamed(&a, "other")), vec![]);
        if diff(&a, &b).is_empty() {
            prop_assert_eq!(digest(&a), digest(&b));
        }
    }

    /// A guest sees neither names nor indexes, so the digest ignores them.
    #[test]
    fn digests_ignore_names_and_indexes(original in hardware(), first in 100u16..1000) {
        let mut moved = Hardware::new();
        for (number, controller) in renamed(&original, "other").controllers().enumerate() {
            // Backwards, so that the order differs too.
            let index = Index::new(first + 100 - u16::try_from(number).unwrap()).unwrap();
            let mut controller = controller.clone();
            controller.index = index;
            moved.add_controller(controller).unwrap();
        }
        prop_assert_eq!(digest(&moved), digest(&original));
    }

    /// A guest sees when a device or controller is added, removed or replaced.
    #[test]
    fn digests_depend_on_the_controllers_and_devices(original in hardware(), pick in any::<Pick>()) {
        let before = digest(&original);
        let mut one_more = original.clone();
        let free = Index::all().find(|index| original.controller(*index).is_none()).unwrap();
        let ports = RootPorts::uniform(Model::NecXhci, 4.try_into().unwrap());
        let new = Controller::new(free, "one-more".parse().unwrap(), Model::NecXhci, ports);
        one_more.add_controller(new).unwrap();
        prop_assert_ne!(digest(&one_more), before);

        let devices: Vec<_> = original.devices().collect();
        if devices.is_empty() {
            return Ok(());
        }
        let (at, device) = devices[pick.index(devices.len())];
        let mut without = original.clone();
        without.unplug(at);
        prop_assert_ne!(digest(&without), before);
        // A different device at the same port. A redirected device fits any port.
        let other = if device.kind.name() == "redir" { "host:ffff:ffff" } else { "redir:spicevmc" };
        let other = Device { name: "other".parse().unwrap(), kind: other.parse().unwrap() };
        without.plug(at, other).unwrap();
        prop_assert_ne!(digest(&without), before);
        let mut no_controller = original.clone();
        no_controller.remove_controller(at.bus);
        prop_assert_ne!(digest(&no_controller), before);
    }

    /// A guest sees the properties of controllers and devices.
    #[test]
    fn digests_depend_on_properties(original in hardware(), pick in any::<Pick>()) {
        let before = digest(&original);
        for controller in original.controllers().filter(|controller| controller.devices().len() == 0) {
            let digest_with = |new: Controller| {
                let mut other = original.clone();
                other.remove_controller(controller.index);
                other.add_controller(new).map(|()| digest(&other))
            };
            let mut new = controller.clone();
            if new.companions.pop().is_some() {
                prop_assert_ne!(digest_with(new).unwrap(), before);
            }
            if controller.ports.count() > 1 && *controller.model.port_range().start() == 1 {
                let fewer = (controller.ports.count() - 1).try_into().unwrap();
                let ports = RootPorts::uniform(controller.model, fewer);
                let new = Controller::new(controller.index, controller.name.clone(), controller.model, ports);
                prop_assert_ne!(digest_with(new).unwrap(), before);
            }
        }
        let devices: Vec<_> = original.devices().filter(|(_, device)| similar(&device.kind).is_some()).collect();
        if devices.is_empty() {
            return Ok(());
        }
        let (at, device) = devices[pick.index(devices.len())];
        let mut other = original.clone();
        other.unplug(at);
        let kind = similar(&device.kind).unwrap();
        other.plug(at, Device { name: device.name.clone(), kind }).unwrap();
        prop_assert_ne!(digest(&other), before);
    }

    #[test]
    fn stored_hardware_reads_back(original in hardware()) {
        let text = serde_json::to_string(&original).unwrap();
        let back: Hardware = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&back, &original);
        prop_assert_eq!(json(&back), json(&original));
        let explicit = resolve(&Hardware::new(), &Spec::from(&back), &Capabilities::everything());
        prop_assert_eq!(explicit.unwrap().hardware, original);
    }

    /// Corrupted stored hardware is either refused or sound.
    #[test]
    fn corrupted_hardware_is_never_unsound(
        original in hardware(),
        changes in prop::collection::vec((any::<Pick>(), any::<Pick>(), odd_value(), 0..3), 1..4),
    ) {
        let mut value = json(&original);
        for (pick, other, odd, how) in changes {
            let mut all = Vec::new();
            pointers(&value, String::new(), &mut all);
            let new = match how {
                0 => odd,
                // A value from elsewhere: a device, a controller or a name occurs twice.
                1 => value.pointer(&all[other.index(all.len())]).unwrap().clone(),
                _ => Value::Null,
            };
            let pointer = all[pick.index(all.len())].clone();
            if let Some((parent, key)) = pointer.rsplit_once('/').filter(|_| how == 2) {
                match value.pointer_mut(parent).unwrap() {
                    Value::Array(list) => drop(list.remove(key.parse().unwrap())),
                    Value::Object(map) => drop(map.remove(key)),
                    _ => {}
                }
            } else {
                *value.pointer_mut(&pointer).unwrap() = new;
            }
        }
        if let Ok(read) = serde_json::from_value::<Hardware>(value) {
            prop_assert_eq!(ports::check(&read), Ok(()));
        }
    }
}
