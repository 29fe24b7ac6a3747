//! Steps, their undo, digests, and hardware that is stored.

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

/// The same hardware, with all names beginning with `prefix`.
fn renamed(hardware: &Hardware, prefix: &str) -> Hardware {
    let mut renamed = hardware.clone();
    let controllers = hardware.controllers().map(|controller| &controller.name);
    for name in controllers.chain(hardware.devices().map(|(_, device)| &device.name)) {
        renamed.rename(name, &format!("{prefix}-{name}").parse().unwrap()).unwrap();
    }
    renamed
}

/// The hardware without some of its things, and with what was behind them.
fn thinned(hardware: &Hardware, keep: &[bool]) -> Hardware {
    let mut thin = hardware.clone();
    let mut keep = keep.iter().cycle();
    for (at, _) in hardware.devices() {
        if !keep.next().unwrap() {
            thin.unplug(at);
        }
    }
    for controller in hardware.controllers() {
        let bare = thin.controller(controller.index).is_some_and(|c| c.devices().len() == 0);
        if bare && !keep.next().unwrap() {
            thin.remove_controller(controller.index);
        }
    }
    thin
}

/// The hardware with other hubs in place of some, and the same behind them.
fn other_hubs(hardware: &Hardware, keep: &[bool]) -> Hardware {
    let mut other = hardware.clone();
    let hubs = hardware.devices().filter(|(_, device)| (1..8).contains(&device.kind.hub_ports()));
    for ((at, _), _) in hubs.zip(keep.iter().cycle()).filter(|(_, keep)| !**keep) {
        for (place, mut device) in other.unplug(at).into_iter().rev() {
            if let (true, Kind::Hub(hub)) = (place == at, &mut device.kind) {
                hub.ports += 1;
            }
            other.plug(place, device).unwrap();
        }
    }
    other
}

/// Two pieces of hardware that have much in common, or nothing.
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

/// All places in a JSON text, as paths.
fn places(value: &Value, path: String, all: &mut Vec<String>) {
    all.push(path.clone());
    match value {
        Value::Array(list) => {
            for (number, entry) in list.iter().enumerate() {
                places(entry, format!("{path}/{number}"), all);
            }
        }
        Value::Object(map) => {
            for (key, entry) in map {
                places(entry, format!("{path}/{key}"), all);
            }
        }
        _ => {}
    }
}

/// Nearly the same device, that the guest can tell from it all the same.
fn sibling(kind: &Kind) -> Option<Kind> {
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

/// What a value is made of another's, or of nobody's.
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
    /// The steps lead there, with sound hardware in between, and their undo leads back.
    #[test]
    fn steps_lead_there_and_back((a, b) in two()) {
        let steps = diff(&a, &b);
        let mut on_the_way = a.clone();
        for step in &steps {
            prop_assert!(step.apply(&mut on_the_way).is_ok(), "{}", step);
            prop_assert_eq!(ports::check(&on_the_way), Ok(()));
        }
        prop_assert_eq!(digest(&on_the_way), digest(&b));
        prop_assert_eq!(diff(&on_the_way, &b), vec![]);
        prop_assert_eq!(diff(&b, &on_the_way), vec![]);
        for step in steps.iter().rev() {
            prop_assert!(step.undo().apply(&mut on_the_way).is_ok(), "undo of {}", step);
            prop_assert_eq!(ports::check(&on_the_way), Ok(()));
        }
        prop_assert_eq!(on_the_way, a);
    }

    /// No steps if and only if it is the same hardware, index by index.
    #[test]
    fn no_steps_between_equals((a, b) in two()) {
        prop_assert_eq!(diff(&a, &renamed(&a, "other")), vec![]);
        if diff(&a, &b).is_empty() {
            prop_assert_eq!(digest(&a), digest(&b));
        }
    }

    /// A guest sees neither names nor indexes, and so the digest does not.
    #[test]
    fn digests_ignore_names_and_indexes(made in hardware(), first in 100u16..1000) {
        let mut moved = Hardware::new();
        for (number, controller) in renamed(&made, "other").controllers().enumerate() {
            // Backwards, so that the order is another too.
            let index = Index::new(first + 100 - u16::try_from(number).unwrap()).unwrap();
            let mut controller = controller.clone();
            controller.index = index;
            moved.add_controller(controller).unwrap();
        }
        prop_assert_eq!(digest(&moved), digest(&made));
    }

    /// A guest sees a device that goes, that comes, or that is another, and a controller that does.
    #[test]
    fn digests_see_what_the_guest_sees(made in hardware(), pick in any::<Pick>()) {
        let there = digest(&made);
        let mut one_more = made.clone();
        let free = Index::all().find(|index| made.controller(*index).is_none()).unwrap();
        let ports = RootPorts::of(Model::NecXhci, 4.try_into().unwrap());
        let new = Controller::new(free, "one-more".parse().unwrap(), Model::NecXhci, ports);
        one_more.add_controller(new).unwrap();
        prop_assert_ne!(digest(&one_more), there);

        let devices: Vec<_> = made.devices().collect();
        if devices.is_empty() {
            return Ok(());
        }
        let (at, device) = devices[pick.index(devices.len())];
        let mut without = made.clone();
        without.unplug(at);
        prop_assert_ne!(digest(&without), there);
        // Something else in its place. A redirected device fits any port.
        let other = if device.kind.word() == "redir" { "host:ffff:ffff" } else { "redir:spicevmc" };
        let other = Device { name: "other".parse().unwrap(), kind: other.parse().unwrap() };
        without.plug(at, other).unwrap();
        prop_assert_ne!(digest(&without), there);
        let mut no_controller = made.clone();
        no_controller.remove_controller(at.bus);
        prop_assert_ne!(digest(&no_controller), there);
    }

    /// A guest sees how a controller is made, and how a device is.
    #[test]
    fn digests_see_how_things_are_made(made in hardware(), pick in any::<Pick>()) {
        let there = digest(&made);
        for controller in made.controllers().filter(|controller| controller.devices().len() == 0) {
            let again = |new: Controller| {
                let mut other = made.clone();
                other.remove_controller(controller.index);
                other.add_controller(new).map(|()| digest(&other))
            };
            let mut new = controller.clone();
            if new.companions.pop().is_some() {
                prop_assert_ne!(again(new).unwrap(), there);
            }
            if controller.ports.count() > 1 && *controller.model.port_range().start() == 1 {
                let fewer = (controller.ports.count() - 1).try_into().unwrap();
                let ports = RootPorts::of(controller.model, fewer);
                let new = Controller::new(controller.index, controller.name.clone(), controller.model, ports);
                prop_assert_ne!(again(new).unwrap(), there);
            }
        }
        let devices: Vec<_> = made.devices().filter(|(_, device)| sibling(&device.kind).is_some()).collect();
        if devices.is_empty() {
            return Ok(());
        }
        let (at, device) = devices[pick.index(devices.len())];
        let mut other = made.clone();
        other.unplug(at);
        let kind = sibling(&device.kind).unwrap();
        other.plug(at, Device { name: device.name.clone(), kind }).unwrap();
        prop_assert_ne!(digest(&other), there);
    }

    #[test]
    fn stored_hardware_comes_back(made in hardware()) {
        let text = serde_json::to_string(&made).unwrap();
        let back: Hardware = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&back, &made);
        prop_assert_eq!(json(&back), json(&made));
        let explicit = resolve(&Hardware::new(), &Spec::from(&back), &Capabilities::everything());
        prop_assert_eq!(explicit.unwrap().hardware, made);
    }

    /// Stored hardware that somebody mangled is refused, or is sound.
    #[test]
    fn mangled_hardware_is_never_unsound(
        made in hardware(),
        changes in prop::collection::vec((any::<Pick>(), any::<Pick>(), odd_value(), 0..3), 1..4),
    ) {
        let mut value = json(&made);
        for (pick, other, odd, how) in changes {
            let mut all = Vec::new();
            places(&value, String::new(), &mut all);
            let new = match how {
                0 => odd,
                // What is somewhere else: a device, a controller, a name for the second time.
                1 => value.pointer(&all[other.index(all.len())]).unwrap().clone(),
                _ => Value::Null,
            };
            let place = all[pick.index(all.len())].clone();
            if how == 2 && let Some((parent, key)) = place.rsplit_once('/') {
                match value.pointer_mut(parent).unwrap() {
                    Value::Array(list) => drop(list.remove(key.parse().unwrap())),
                    Value::Object(map) => drop(map.remove(key)),
                    _ => {}
                }
            } else {
                *value.pointer_mut(&place).unwrap() = new;
            }
        }
        if let Ok(read) = serde_json::from_value::<Hardware>(value) {
            prop_assert_eq!(ports::check(&read), Ok(()));
        }
    }
}
