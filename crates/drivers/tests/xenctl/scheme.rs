//! The address scheme `xen:NAME`.

use vusb_drivers::xenctl::XenScheme;
use vusb_drivers::{Availability, Driver, Error, Limits, Locations, OpenOptions, Scheme, When};
use vusb_model::capabilities::Support;
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;

use crate::world::{LONG, SHORT, World, add, controller, domain, exported};

fn scheme(world: &World) -> XenScheme {
    let access = world.access();
    XenScheme::new(Locations {
        xenstored: access.xenstored,
        xen_qmp: Some(access.qmp),
        ..access.host.into()
    })
}

fn limits() -> Limits {
    LONG.into()
}

#[test]
fn a_guest_is_known_by_its_name() {
    let world = World::new();
    let scheme = scheme(&world);
    assert_eq!((scheme.name(), scheme.title(), scheme.syntax()), ("xen", "Xen", "xen:NAME"));
    for operand in ["web1", "5"] {
        assert_eq!(scheme.canonical(operand, &limits()).unwrap(), "web1");
    }
    // A name is not looked up: the guest may be off.
    assert_eq!(scheme.canonical("web2", &limits()).unwrap(), "web2");
    world.write("/local/domain/7/device", "");
    assert_eq!(scheme.canonical("7", &limits()).unwrap(), "7", "it has no name");
    let error = scheme.canonical("8", &limits()).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

#[test]
fn a_guest_that_is_not_in_xenstore_is_gone() {
    let world = World::new();
    let scheme = scheme(&world);
    let error = |name: &str| world.guest(name, LONG).observe(&Hardware::new()).unwrap_err();
    assert!(scheme.is_gone("web2", &error("web2")));
    assert!(!scheme.is_gone("0", &error("0")));
    let unreachable =
        Error::Unreachable { domain: "Xen".to_owned(), why: "no xenstore".into(), midway: false };
    assert!(!scheme.is_gone("web1", &unreachable));
}

#[test]
fn a_guest_is_opened_with_the_callers_options() {
    let world = World::new();
    world.add_controller(0, "pv0");
    world.behaviour(|it| it.guest_releases = false);
    let scheme = scheme(&world);
    let host = world.access().host;
    let open = |force| {
        let options = OpenOptions {
            limits: SHORT.into(),
            force,
            changes: true,
            when: When::default(),
            host: &host,
        };
        let mut driver = scheme.open("web1", &options).unwrap();
        driver.observe(&Hardware::new()).unwrap();
        driver
    };
    let remove = add(&controller(0, "pv0")).undo();
    assert!(matches!(open(false).perform(&remove), Err(Error::TimedOut { limit: SHORT, .. })));
    open(true).perform(&remove).unwrap();
}

#[test]
fn backend_domains_are_resolved_and_listed() {
    let world = World::new();
    world.machine.add_guest(domain(3), "usbvm", "pv");
    world.machine.announce_backend(domain(3));
    world.machine.export(domain(3), &exported("2-1", "0951:1666", "002.007"));
    let scheme = scheme(&world);
    let backends = scheme.backends().unwrap();
    assert_eq!(backends.resolve("3", &limits()).unwrap().as_deref(), Some("usbvm"));
    assert_eq!(backends.resolve("0", &limits()).unwrap(), None);
    assert_eq!(backends.devices("usbvm", &limits()).unwrap().len(), 1);
    assert!(backends.devices("0", &limits()).unwrap().is_empty());
}

#[test]
fn a_survey_depends_on_xenstored_and_the_backend() {
    let world = World::new();
    let scheme = scheme(&world);
    let survey = scheme.survey(&world.path(""), LONG).unwrap();
    let running = "xenstored answers, a vusb-backend answers in domain 0".to_owned();
    assert_eq!(survey.availability, Availability::Available(running));
    assert_eq!(survey.models[&Model::Xenusb2], Support::Hot);
    assert_eq!(survey.models.len(), Model::ALL.len());
    world.behaviour(|it| it.backend_runs = false);
    let survey = scheme.survey(&world.path(""), SHORT).unwrap();
    assert!(survey.availability.to_string().contains("no vusb-backend answers in domain 0"));
    assert!(matches!(survey.models[&Model::Xenusb2], Support::Unsupported { .. }));
}

#[test]
fn running_guests_are_those_with_a_name_and_a_type() {
    let world = World::new();
    world.write("/local/domain/7/name", "starting");
    let running = scheme(&world).running("/".as_ref(), LONG).unwrap();
    let running: Vec<_> =
        running.iter().map(|it| (it.process, it.operand.as_deref(), it.name.as_deref())).collect();
    assert_eq!(running, [(5, Some("web1"), Some("web1"))]);
    let nowhere =
        Locations { xenstored: Some("/nonexistent".into()), ..world.access().host.into() };
    assert_eq!(XenScheme::new(nowhere).running("/".as_ref(), LONG).unwrap(), []);
}

#[test]
fn a_models_source_and_hot_plug_are_known_without_xen() {
    let world = World::new();
    let scheme = scheme(&world);
    let facts = |model| {
        let facts = scheme.model_facts(model).unwrap();
        (facts.name, facts.hot)
    };
    assert_eq!(facts(Model::Xenusb2), (Some("PVUSB".to_owned()), Some(true)));
    assert_eq!(facts(Model::NecXhci), (Some("device model, version 3".to_owned()), Some(true)));
    assert_eq!(facts(Model::QemuXhci), (Some("through QMP".to_owned()), Some(true)));
    assert_eq!(facts(Model::Ich9Ehci1), (Some("at boot".to_owned()), Some(false)));
    assert_eq!(facts(Model::PciOhci), (None, Some(false)));
}
