//! The simulated hypervisor, as somebody who learns about drivers would use it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::fs;
use std::path::PathBuf;

use vusb_drivers::sim::Sim;
use vusb_drivers::{DeviceState, Driver, Error};
use vusb_model::address::Index;
use vusb_model::capabilities::Support;
use vusb_model::diff::{Step, diff};
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;
use vusb_model::resolve::resolve;
use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};

struct Place {
    _dir: tempfile::TempDir,
    file: PathBuf,
}

fn place(text: Option<&str>) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("guest.sim");
    if let Some(text) = text {
        fs::write(&file, text).unwrap();
    }
    Place { _dir: dir, file }
}

impl Place {
    fn sim(&self) -> Sim {
        Sim::open(&self.file).unwrap()
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    /// What somebody finds who looks in afresh.
    fn hardware(&self) -> Hardware {
        self.sim().observe(&Hardware::new()).unwrap().hardware
    }

    /// The steps that give the guest these devices.
    fn steps(&self, devices: &[&str]) -> Vec<Step> {
        let mut sim = self.sim();
        let devices = devices.iter().map(|it| DeviceSpec::new(it.parse().unwrap())).collect();
        let spec = Spec { devices, ..Spec::default() };
        let has = sim.observe(&Hardware::new()).unwrap().hardware;
        let wanted = resolve(&has, &spec, &sim.capabilities(None).unwrap()).unwrap().hardware;
        diff(&has, &wanted)
    }
}

fn faulty(step: &str, fault: &str) -> Place {
    place(Some(&format!(
        "{{\"sim\":1,\"faults\":[{{\"step\":\"{step}\",\"fault\":\"{fault}\"}}]}}"
    )))
}

#[test]
fn a_file_that_is_not_there_is_a_fresh_guest_and_is_written_at_the_first_step() {
    let place = place(None);
    let mut sim = place.sim();
    assert_eq!(sim.observe(&Hardware::new()).unwrap().hardware, Hardware::new());
    assert!(!place.file.exists(), "to look writes nothing");

    for step in place.steps(&["tablet"]) {
        sim.perform(&step).unwrap();
    }
    assert_eq!(place.hardware().devices().count(), 1);
    let pci = place.hardware().controller(Index::ZERO).unwrap().pci.clone();
    assert_eq!(pci.unwrap().to_string(), "pci.0/04.0", "it chooses where controllers sit");
    assert!(sim.observe(&Hardware::new()).unwrap().ours.contains(&"hci0".parse().unwrap()));
}

#[test]
fn it_can_do_what_qemu_can_and_what_its_file_says() {
    let fresh = place(None).sim().capabilities(None).unwrap();
    assert_eq!(fresh.models[&Model::QemuXhci], Support::Hot);
    assert!(matches!(fresh.models[&Model::Ich9Ehci1], Support::Cold { .. }));
    assert!(matches!(fresh.models[&Model::Xenusb2], Support::No { .. }));

    let text = r#"{"sim":1,"models":{"qemu-xhci":"no"},"kinds":{"mtp":"no"},"slots":3}"#;
    let said = place(Some(text)).sim().capabilities(None).unwrap();
    assert!(said.model(Model::QemuXhci).is_err() && said.model(Model::NecXhci).is_ok());
    assert!(said.kind("mtp").is_err() && said.kind("hub").is_ok());
    assert_eq!(said.slots.unwrap().free, 3);

    let pv = place(Some(r#"{"sim":1,"type":"pv"}"#)).sim().capabilities(None).unwrap();
    assert!(pv.model(Model::Xenusb2).is_ok() && pv.model(Model::QemuXhci).is_err());
}

#[test]
fn what_it_cannot_do_is_refused_by_check_and_by_perform() {
    let place = place(None);
    let ich9 = ControllerSpec { model: Some(Model::Ich9Ehci1), ..ControllerSpec::default() };
    let spec = Spec { controllers: vec![ich9], ..Spec::default() };
    let everything = vusb_model::capabilities::Capabilities::everything();
    let hardware = resolve(&Hardware::new(), &spec, &everything).unwrap().hardware;
    let steps = diff(&Hardware::new(), &hardware);
    let mut sim = place.sim();
    assert!(matches!(sim.check(&steps), Err(Error::NotImplemented { .. })));
    assert!(matches!(sim.perform(&steps[0]), Err(Error::NotImplemented { .. })));
    assert_eq!(place.hardware(), Hardware::new());
}

#[test]
fn a_step_that_does_not_fit_is_refused() {
    let place = place(None);
    let steps = place.steps(&["tablet"]);
    let mut sim = place.sim();
    assert!(matches!(sim.perform(&steps[1]), Err(Error::Failed { .. })), "no controller yet");
    sim.perform(&steps[0]).unwrap();
    assert!(matches!(sim.perform(&steps[0]), Err(Error::Failed { .. })), "twice");
    sim.perform(&steps[1]).unwrap();
    assert!(matches!(sim.perform(&steps[0].undo()), Err(Error::Failed { .. })), "not empty");
    sim.perform(&steps[1].undo()).unwrap();
    assert!(matches!(sim.perform(&steps[1].undo()), Err(Error::Failed { .. })), "gone");
    sim.perform(&steps[0].undo()).unwrap();
    assert!(matches!(sim.perform(&steps[0].undo()), Err(Error::Failed { .. })), "gone too");
}

#[test]
fn a_fault_befalls_the_step_that_it_is_for_and_only_once() {
    for (fault, uncertain, happens) in [
        ("fail", false, false),
        ("timeout", true, false),
        ("unreachable", true, false),
        ("happens-anyway", true, true),
    ] {
        let place = faulty("plug", fault);
        let steps = place.steps(&["tablet"]);
        let mut sim = place.sim();
        sim.perform(&steps[0]).unwrap();
        // A fresh connection each time: faults are counted in the file.
        let error = place.sim().perform(&steps[1]).unwrap_err();
        assert_eq!(error.is_uncertain(), uncertain, "{fault}: {error}");
        assert_eq!(place.hardware().devices().count(), usize::from(happens), "{fault}");
        if !happens {
            place.sim().perform(&steps[1]).unwrap();
        }
    }
}

#[test]
fn looking_can_go_wrong_too() {
    let place = faulty("observe", "fail");
    assert!(matches!(place.sim().observe(&Hardware::new()), Err(Error::Failed { .. })));
    place.sim().observe(&Hardware::new()).unwrap();

    let gone = self::place(Some(r#"{"sim":1,"unreachable":"its host burnt down"}"#));
    let error = gone.sim().observe(&Hardware::new()).unwrap_err();
    assert!(error.to_string().contains("burnt down") && !error.is_uncertain(), "{error}");
}

#[test]
fn foreign_and_absent_things_are_told_and_unknown_fields_are_kept() {
    let place = place(None);
    for step in place.steps(&["tablet", "mouse"]) {
        place.sim().perform(&step).unwrap();
    }
    let more = "{\"colour\":\"blue\",\"foreign\":[\"hci0\"],\"absent\":[\"mouse0\"],";
    fs::write(&place.file, place.text().replacen('{', more, 1)).unwrap();
    let observed = place.sim().observe(&Hardware::new()).unwrap();
    assert!(!observed.ours.contains(&"hci0".parse().unwrap()));
    assert!(observed.ours.contains(&"tablet0".parse().unwrap()));
    let absent: Vec<_> = observed.states.iter().collect();
    assert!(matches!(absent.as_slice(), [(_, DeviceState::Absent)]));

    let mouse = observed.hardware.devices().find(|(_, it)| it.name.as_str() == "mouse0").unwrap();
    place.sim().perform(&Step::Unplug(mouse.0, mouse.1.clone())).unwrap();
    assert!(place.text().contains("\"colour\": \"blue\""));
    assert!(!place.text().contains("mouse0"), "a device that is gone is not absent");
}

#[test]
fn a_file_that_is_none_is_said_and_left_alone() {
    for text in ["", "{}", "[1]", r#"{"sim":2}"#, r#"{"sim":1,"running":3}"#, "\u{0}"] {
        let place = place(Some(text));
        let error = Sim::open(&place.file).unwrap_err();
        assert!(matches!(error, Error::Confused { .. }), "{text}: {error}");
        assert_eq!(place.text(), text);
    }
}

#[test]
fn two_at_once_lose_no_step() {
    let place = place(None);
    place.sim().perform(&place.steps(&["tablet"])[0]).unwrap();
    std::thread::scope(|scope| {
        for port in 1..=8 {
            let file = place.file.clone();
            scope.spawn(move || {
                let address = format!("{{\"bus\":0,\"port\":\"{port}\"}}");
                let device = format!("{{\"name\":\"t{port}\",\"kind\":\"ccid\"}}");
                let step = Step::Plug(
                    serde_json::from_str(&address).unwrap(),
                    serde_json::from_str(&device).unwrap(),
                );
                Sim::open(&file).unwrap().perform(&step).unwrap();
            });
        }
    });
    assert_eq!(place.hardware().devices().count(), 8);
}
