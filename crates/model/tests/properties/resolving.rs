//! Results are sound, repeatable, independent of the order, and follow the rules.

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

use crate::generate::{accepted, accepted_spec, any_spec, capabilities, hardware};
use crate::{naive, ports};

/// Guards against a generator that tests little: random specs must give much hardware, with nested
/// hubs.
#[test]
fn random_specs_cover_enough() {
    let mut runner = TestRunner::deterministic();
    let (mut devices, mut deep, mut large) = (0, 0, 0);
    for _ in 0..100 {
        let hardware = hardware().new_tree(&mut runner).unwrap().current();
        devices += hardware.devices().count();
        deep += hardware.devices().filter(|(at, _)| at.port.depth() > 2).count();
        large += usize::from(hardware.controllers().len() > 3);
    }
    assert!(devices > 1000 && deep > 20 && large > 20, "{devices} devices, {deep} deep, {large}");
}

proptest! {
    /// The result for any spec is a refusal, or hardware in which each device is on its own port,
    /// which supports it.
    #[test]
    fn results_are_sound(spec in any_spec(), more in any_spec(), capabilities in capabilities()) {
        let mut base = Hardware::new();
        // A whole spec is often refused because of one device, so the first has no such device.
        let first = accepted(&base, spec, &capabilities);
        for spec in [first, more] {
            if let Ok(resolved) = resolve(&base, &spec, &capabilities) {
                prop_assert_eq!(ports::check(&resolved.hardware), Ok(()));
                for placed in &resolved.devices {
                    prop_assert!(resolved.hardware.device(placed.address).is_some());
                }
                // The base is unchanged.
                for (at, device) in base.devices() {
                    prop_assert_eq!(resolved.hardware.device(at), Some(device));
                }
                base = resolved.hardware;
            }
        }
    }

    /// A spec that leaves nothing open resolves to exactly that hardware, and on top of it changes
    /// nothing.
    #[test]
    fn resolving_again_changes_nothing((spec, capabilities) in accepted_spec()) {
        let original = resolve(&Hardware::new(), &spec, &capabilities).unwrap().hardware;
        let explicit = Spec::from(&original);
        let again = resolve(&Hardware::new(), &explicit, &capabilities).unwrap();
        prop_assert_eq!(&again.hardware, &original);
        prop_assert_eq!(digest(&again.hardware), digest(&original));
        prop_assert!(again.devices.iter().all(|placed| !placed.existing));
        let on_top = resolve(&original, &explicit, &capabilities).unwrap();
        prop_assert_eq!(&on_top.hardware, &original);
        prop_assert!(on_top.added.is_empty());
        prop_assert!(on_top.controllers.iter().all(|placed| placed.existing));
        prop_assert!(on_top.devices.iter().all(|placed| placed.existing));
    }

    /// Items that do not depend on each other can be added in any order, or one at a time.
    #[test]
    fn the_order_of_explicit_adds_does_not_matter(original in hardware(), picks in prop::collection::vec(any::<Pick>(), 100)) {
        let capabilities = Capabilities::everything();
        let mut explicit = Spec::from(&original);
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
        prop_assert_eq!(&shuffled, &original);

        let controllers = Spec { devices: Vec::new(), ..explicit.clone() };
        let mut step = resolve(&Hardware::new(), &controllers, &capabilities).unwrap().hardware;
        explicit.devices.sort_by_key(|device| device.port.map(|port| port.depth()));
        for device in explicit.devices {
            let one = Spec { devices: vec![device], ..Spec::default() };
            step = resolve(&step, &one, &capabilities).unwrap().hardware;
        }
        prop_assert_eq!(digest(&step), digest(&original));
    }

    /// Removing everything that was added restores the base.
    #[test]
    fn removing_what_was_added_restores_the_base((first, capabilities) in accepted_spec(), second in any_spec()) {
        let base = resolve(&Hardware::new(), &first, &capabilities).unwrap().hardware;
        let second = accepted(&base, second, &capabilities);
        let resolved = resolve(&base, &second, &capabilities).unwrap();
        let mut hardware = resolved.hardware;
        let new = |at: &Address| base.device(*at).is_none();
        for at in resolved.devices.iter().map(|placed| placed.address).filter(new) {
            hardware.unplug(at);
        }
        let requested = resolved.controllers.iter().filter(|placed| !placed.existing);
        for index in requested.map(|placed| placed.address).chain(resolved.added) {
            hardware.remove_controller(index);
        }
        prop_assert_eq!(&hardware, &base);
        prop_assert_eq!(digest(&hardware), digest(&base));
    }

    /// The library and the naive implementation of rules 7 and 8 give the same addresses.
    #[test]
    fn results_match_the_naive_rules((spec, capabilities) in accepted_spec()) {
        let is_explicit = |device: &DeviceSpec| device.controller.is_some() || device.port.is_some();
        let (explicit, open): (Vec<_>, Vec<_>) = spec.devices.iter().cloned().partition(is_explicit);
        let explicit = accepted(&Hardware::new(), Spec { devices: explicit, ..spec.clone() }, &capabilities);
        let base = resolve(&Hardware::new(), &explicit, &capabilities).unwrap().hardware;
        let is_existing = |device: &DeviceSpec| {
            base.devices().any(|(_, it)| it.kind.unique_resource().is_some() && it.kind.unique_resource() == device.kind.unique_resource())
        };
        let open = open.into_iter().filter(|device| !is_existing(device)).collect();
        let open = accepted(&base, Spec { controllers: Vec::new(), devices: open, ..spec }, &capabilities);
        let resolved = resolve(&base, &open, &capabilities).unwrap();

        let mut hardware = renamed(&base);
        let mut added = Vec::new();
        let mut expected = vec![None; open.devices.len()];
        // Rule 6: hubs first.
        for hubs in [true, false] {
            for (number, device) in open.devices.iter().enumerate() {
                if (device.kind.hub_ports() > 0) == hubs && !resolved.devices[number].existing {
                    expected[number] = Some(naive::place(&mut hardware, &device.kind, capabilities.default_type, &mut added));
                }
            }
        }
        let new = resolved.devices.iter().map(|placed| (!placed.existing).then_some(placed.address));
        prop_assert_eq!(new.collect::<Vec<_>>(), expected);
        prop_assert_eq!(resolved.added, added);
    }
}

/// The same hardware with names that cannot conflict with any other name.
fn renamed(hardware: &Hardware) -> Hardware {
    let mut renamed = hardware.clone();
    let controllers = hardware.controllers().map(|controller| &controller.name);
    let names = controllers.chain(hardware.devices().map(|(_, device)| &device.name));
    for (number, name) in names.enumerate() {
        renamed.rename(name, &format!("x{number}x").parse().unwrap()).unwrap();
    }
    renamed
}

/// If pv is the default type, controllers are shared only once there are eight.
#[test]
fn pv_controllers_are_shared_from_the_ninth_device() {
    let pv = Capabilities { default_type: ControllerType::Pv, ..Capabilities::everything() };
    for count in 1..30 {
        let device = |number| DeviceSpec::new(format!("1-{number}").parse().unwrap());
        let devices = (1..=count).map(device).collect();
        let resolved =
            resolve(&Hardware::new(), &Spec { devices, ..Spec::default() }, &pv).unwrap();
        assert_eq!(resolved.hardware.controllers().len(), count.min(8));
    }
}
