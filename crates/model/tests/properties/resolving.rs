//! Resolving: sound, the same again, the same in any order, and by the rules.

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use vusb_model::address::Address;
use vusb_model::capabilities::Capabilities;
use vusb_model::digest::digest;
use vusb_model::hardware::Hardware;
use vusb_model::models::ControllerType;
use vusb_model::resolve::resolve;
use vusb_model::spec::{DeviceSpec, Spec};

use crate::generate::{any_spec, capabilities, hardware, possible, spec};
use crate::{naive, ports};

/// The properties below mean something: random specs come to much hardware, with hubs behind hubs and devices on them.
#[test]
fn random_specs_are_worth_it() {
    let mut runner = TestRunner::deterministic();
    let (mut devices, mut deep, mut full) = (0, 0, 0);
    for _ in 0..100 {
        let hardware = hardware().new_tree(&mut runner).unwrap().current();
        devices += hardware.devices().count();
        deep += hardware.devices().filter(|(at, _)| at.port.depth() > 2).count();
        full += usize::from(hardware.controllers().len() > 3);
    }
    assert!(devices > 1000 && deep > 20 && full > 20, "{devices} devices, {deep} deep, {full}");
}

proptest! {
    /// Whatever is asked: a refusal, or hardware in which each device is on a free port of its own that takes it.
    #[test]
    fn what_is_resolved_is_sound(spec in any_spec(), more in any_spec(), capabilities in capabilities()) {
        let mut base = Hardware::new();
        // A whole spec is often refused for one of its devices; so what is possible of it comes first.
        let first = possible(&base, spec, &capabilities);
        for spec in [first, more] {
            if let Ok(resolved) = resolve(&base, &spec, &capabilities) {
                prop_assert_eq!(ports::check(&resolved.hardware), Ok(()));
                for settled in &resolved.devices {
                    prop_assert!(resolved.hardware.device(settled.at).is_some());
                }
                // What was there is there.
                for (at, device) in base.devices() {
                    prop_assert_eq!(resolved.hardware.device(at), Some(device));
                }
                base = resolved.hardware;
            }
        }
    }

    /// A spec that leaves nothing open comes to what it says, and on top of that it changes nothing.
    #[test]
    fn resolving_again_changes_nothing((spec, capabilities) in spec()) {
        let made = resolve(&Hardware::new(), &spec, &capabilities).unwrap().hardware;
        let explicit = Spec::from(&made);
        let again = resolve(&Hardware::new(), &explicit, &capabilities).unwrap();
        prop_assert_eq!(&again.hardware, &made);
        prop_assert_eq!(digest(&again.hardware), digest(&made));
        prop_assert!(again.devices.iter().all(|settled| !settled.already));
        let on_top = resolve(&made, &explicit, &capabilities).unwrap();
        prop_assert_eq!(&on_top.hardware, &made);
        prop_assert!(on_top.added.is_empty());
        prop_assert!(on_top.controllers.iter().all(|settled| settled.already));
        prop_assert!(on_top.devices.iter().all(|settled| settled.already));
    }

    /// What does not depend on each other may be added in any order, and one at a time.
    #[test]
    fn the_order_of_explicit_adds_does_not_matter(made in hardware(), picks in prop::collection::vec(any::<Pick>(), 100)) {
        let capabilities = Capabilities::everything();
        let mut explicit = Spec::from(&made);
        for (number, pick) in picks.iter().enumerate() {
            let (controllers, devices) = (&mut explicit.controllers, &mut explicit.devices);
            if number < controllers.len() {
                let other = pick.index(controllers.len());
                controllers.swap(number, other);
            }
            if number < devices.len() {
                let other = pick.index(devices.len());
                devices.swap(number, other);
            }
        }
        let shuffled = resolve(&Hardware::new(), &explicit, &capabilities).unwrap().hardware;
        prop_assert_eq!(&shuffled, &made);

        let controllers = Spec { devices: Vec::new(), ..explicit.clone() };
        let mut step = resolve(&Hardware::new(), &controllers, &capabilities).unwrap().hardware;
        explicit.devices.sort_by_key(|device| device.port.map(|port| port.depth()));
        for device in explicit.devices {
            let one = Spec { devices: vec![device], ..Spec::default() };
            step = resolve(&step, &one, &capabilities).unwrap().hardware;
        }
        prop_assert_eq!(digest(&step), digest(&made));
    }

    /// What was added goes again, and leaves what was.
    #[test]
    fn adding_and_removing_leaves_what_was((first, capabilities) in spec(), second in any_spec()) {
        let base = resolve(&Hardware::new(), &first, &capabilities).unwrap().hardware;
        let second = possible(&base, second, &capabilities);
        let resolved = resolve(&base, &second, &capabilities).unwrap();
        let mut hardware = resolved.hardware;
        let new = |at: &Address| base.device(*at).is_none();
        for at in resolved.devices.iter().map(|settled| settled.at).filter(new) {
            hardware.unplug(at);
        }
        let asked = resolved.controllers.iter().filter(|settled| !settled.already);
        for index in asked.map(|settled| settled.at).chain(resolved.added) {
            hardware.remove_controller(index);
        }
        prop_assert_eq!(&hardware, &base);
        prop_assert_eq!(digest(&hardware), digest(&base));
    }

    /// The fast way of rules 7 and 8 and the obvious one come to the same places.
    #[test]
    fn the_fast_rules_are_the_obvious_ones((spec, capabilities) in spec()) {
        let says = |device: &DeviceSpec| device.controller.is_some() || device.port.is_some();
        let (explicit, open): (Vec<_>, Vec<_>) = spec.devices.iter().cloned().partition(says);
        let explicit = possible(&Hardware::new(), Spec { devices: explicit, ..spec.clone() }, &capabilities);
        let base = resolve(&Hardware::new(), &explicit, &capabilities).unwrap().hardware;
        let there = |device: &DeviceSpec| {
            base.devices().any(|(_, there)| there.kind.identity().is_some() && there.kind.identity() == device.kind.identity())
        };
        let open = open.into_iter().filter(|device| !there(device)).collect();
        let open = possible(&base, Spec { controllers: Vec::new(), devices: open, ..spec }, &capabilities);
        let fast = resolve(&base, &open, &capabilities).unwrap();

        let mut slow = renamed(&base);
        let mut added = Vec::new();
        let mut places = vec![None; open.devices.len()];
        // Rule 6: hubs first.
        for hubs in [true, false] {
            for (number, device) in open.devices.iter().enumerate() {
                if (device.kind.hub_ports() > 0) == hubs && !fast.devices[number].already {
                    places[number] = Some(naive::place(&mut slow, &device.kind, capabilities.default_type, &mut added));
                }
            }
        }
        let new = fast.devices.iter().map(|settled| (!settled.already).then_some(settled.at));
        prop_assert_eq!(new.collect::<Vec<_>>(), places);
        prop_assert_eq!(fast.added, added);
    }
}

/// The same hardware without a name that another could want.
fn renamed(hardware: &Hardware) -> Hardware {
    let mut renamed = hardware.clone();
    let controllers = hardware.controllers().map(|controller| &controller.name);
    let names = controllers.chain(hardware.devices().map(|(_, device)| &device.name));
    for (number, name) in names.enumerate() {
        renamed.rename(name, &format!("x{number}x").parse().unwrap()).unwrap();
    }
    renamed
}

/// Where pv is the default, nothing is shared before there are eight controllers.
#[test]
fn eight_of_their_own() {
    let pv = Capabilities { default_type: ControllerType::Pv, ..Capabilities::everything() };
    for count in 1..30 {
        let device = |number| DeviceSpec::new(format!("1-{number}").parse().unwrap());
        let devices = (1..=count).map(device).collect();
        let made = resolve(&Hardware::new(), &Spec { devices, ..Spec::default() }, &pv).unwrap();
        assert_eq!(made.hardware.controllers().len(), count.min(8));
    }
}
