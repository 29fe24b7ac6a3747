//! What a guest can be given, and steps that are refused before anything is changed.

use vusb_drivers::{Driver, Error};
use vusb_model::capabilities::Support;
use vusb_model::device::{Input, Kind};
use vusb_model::diff::Step;
use vusb_model::hardware::Device;
use vusb_model::models::{ControllerType, Model};
use vusb_model::speed::{Speed, SpeedSet};

use crate::world::{
    LONG, SHORT, World, add, at, controller, controller_of, domain, host, remove, stick,
};

#[test]
fn a_pv_guest_has_paravirtual_controllers_only() {
    let world = World::new();
    let capabilities = world.web1(LONG).capabilities(None).unwrap();
    assert_eq!(capabilities.hypervisor, "Xen (PV guest)");
    assert_eq!(capabilities.default_type, ControllerType::Pv);
    assert!(capabilities.running && capabilities.slots.is_none());
    for model in Model::ALL {
        let support = &capabilities.models[&model];
        match (model, support) {
            (Model::Xenusb1 | Model::Xenusb2, Support::Hot) => {}
            (Model::Xenusb3, Support::Unsupported { why }) if why.contains("no version 3") => {}
            (Model::Xenusb1 | Model::Xenusb2 | Model::Xenusb3, _) => panic!("{model}: {support:?}"),
            (_, Support::Unsupported { why }) if why == "a PV guest has no device model" => {}
            _ => panic!("{model}: {support:?}"),
        }
    }
    for (kind, support) in &capabilities.kinds {
        match support {
            Support::Hot => assert_eq!(*kind, "host"),
            Support::Unsupported { why } => assert!(why.contains("cannot emulate any"), "{kind}"),
            _ => panic!("{kind}: {support:?}"),
        }
    }
    assert!(capabilities.kinds.len() > 5);
}

#[test]
fn an_hvm_guest_without_a_device_model_still_defaults_to_emulated_controllers() {
    let world = World::new();
    world.machine.add_guest(domain(7), "hvm1", "hvm");
    let mut hvm1 = world.guest("hvm1", LONG);
    hvm1.observe(&vusb_model::hardware::Hardware::new()).unwrap();
    let capabilities = hvm1.capabilities(None).unwrap();
    assert_eq!(capabilities.default_type, ControllerType::Emulated);
    assert_eq!(capabilities.models[&Model::Xenusb2], Support::Hot);
    let Support::Unsupported { why } = &capabilities.models[&Model::NecXhci] else { panic!() };
    let socket = world.path("qmp/qmp-libxl-7");
    assert!(why.contains(socket.to_str().unwrap()) && why.contains("stub domain"), "{why}");
    let error = hvm1.check(&[add(&controller_of(0, "hci0", Model::NecXhci, 4))]).unwrap_err();
    assert!(error.to_string().contains("Xen (HVM guest)"), "{error}");
    let error = hvm1.perform(&add(&controller_of(0, "hci0", Model::NecXhci, 4))).unwrap_err();
    assert!(matches!(error, Error::NotImplemented { .. }), "{error}");
}

#[test]
fn supported_steps_pass_the_check() {
    let world = World::new();
    world.plug_in(4, "0781:5581", "4C53");
    let before = world.tree();
    let mut web1 = world.web1(LONG);
    let steps = [add(&controller(0, "pv0")), Step::Plug(at(0, 1), stick())];
    web1.check(&steps).unwrap();
    assert_eq!(world.tree(), before);
    for step in &steps {
        web1.perform(step).unwrap();
    }
    let steps = [Step::Unplug(at(0, 1), stick()), remove(&controller(0, "pv0"))];
    web1.check(&steps).unwrap();
    // Removing does not need the backend.
    world.behaviour(|it| it.backend_runs = false);
    world.web1(SHORT).check(&steps).unwrap();
}

#[test]
fn a_controller_needs_a_backend_that_answers() {
    let world = World::new();
    world.machine.add_guest(domain(3), "usbvm", "pv");
    let mut far = controller(1, "pv1");
    far.backend = Some("usbvm".to_owned());
    let error = world.web1(LONG).check(&[add(&controller(0, "pv0")), add(&far)]).unwrap_err();
    assert!(matches!(&error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("usbvm"), "{error}");
    far.backend = Some("nobody".to_owned());
    let error = world.web1(LONG).check(&[add(&far)]).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    world.behaviour(|it| it.backend_runs = false);
    let error = world.web1(SHORT).check(&[add(&controller(0, "pv0"))]).unwrap_err();
    assert!(error.to_string().contains("no vusb-backend answers in domain Domain-0"), "{error}");
}

#[test]
fn a_device_that_cannot_be_plugged_in_is_refused() {
    let world = World::new();
    world.add_controller(0, "pv0");
    let mut web1 = world.web1(LONG);
    let mut refused = |bus, device: Device| {
        let slow = controller_of(1, "pv1", Model::Xenusb1, 4);
        web1.check(&[add(&slow), Step::Plug(at(bus, 1), device)]).unwrap_err()
    };
    for bus in [0, 1] {
        let error = refused(bus, host("stick", "0781:5581", None));
        assert!(matches!(error, Error::Missing { .. }), "{error}");
        let tablet = Kind::Tablet(Input::default());
        let error = refused(bus, Device { name: "tablet".parse().unwrap(), kind: tablet });
        assert!(matches!(error, Error::NotImplemented { .. }), "{error}");
        assert!(error.to_string().contains("PVUSB carries real devices"), "{error}");
    }
    let error = world.web1(LONG).check(&[Step::Plug(at(5, 1), stick())]).unwrap_err();
    assert!(error.to_string().contains("a PV guest has no device model"), "{error}");
}

#[test]
fn a_controller_of_usb_1_carries_no_fast_device() {
    let world = World::new();
    let mut web1 = world.web1(LONG);
    let mut check = |model, speeds: Option<&[Speed]>| {
        let mut device = stick();
        let Kind::Host(host) = &mut device.kind else { panic!() };
        host.speeds = speeds.map(SpeedSet::of);
        web1.check(&[add(&controller_of(0, "pv0", model, 4)), Step::Plug(at(0, 1), device)])
    };
    for fast in [&[Speed::High][..], &[Speed::Super], &[Speed::Full, Speed::High]] {
        let error = check(Model::Xenusb1, Some(fast)).unwrap_err();
        assert!(matches!(&error, Error::WrongSpeed { .. }), "{error}");
        assert!(error.to_string().contains("only low and full speed"), "{error}");
        check(Model::Xenusb2, Some(fast)).unwrap();
    }
    check(Model::Xenusb1, Some(&[Speed::Low, Speed::Full])).unwrap();
    check(Model::Xenusb1, None).unwrap();
}

#[test]
fn a_backend_is_recorded_by_its_name() {
    let world = World::new();
    world.machine.add_guest(domain(3), "usbvm", "pv");
    let mut web1 = world.web1(LONG);
    assert_eq!(web1.backend("3").unwrap().as_deref(), Some("usbvm"));
    assert_eq!(web1.backend("0").unwrap(), None);
    assert!(web1.backend("nobody").is_err());
}
