//! The simulated hypervisor through the driver interface.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::fs;
use std::path::PathBuf;

use vusb_drivers::sim::{Sim, SimScheme};
use vusb_drivers::{DeviceState, Driver, Error, Scheme as _};
use vusb_model::address::Index;
use vusb_model::capabilities::Support;
use vusb_model::diff::{Step, diff};
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;
use vusb_model::resolve::resolve;
use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};

/// A simulated guest in its own file.
struct TestGuest {
    _dir: tempfile::TempDir,
    file: PathBuf,
}

fn guest(text: Option<&str>) -> TestGuest {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("guest.sim");
    if let Some(text) = text {
        fs::write(&file, text).unwrap();
    }
    TestGuest { _dir: dir, file }
}

impl TestGuest {
    fn sim(&self) -> Sim {
        Sim::open(&self.file).unwrap()
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    /// The hardware that a new connection observes.
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

fn faulty(step: &str, fault: &str) -> TestGuest {
    guest(Some(&format!(
        "{{\"sim\":1,\"faults\":[{{\"step\":\"{step}\",\"fault\":\"{fault}\"}}]}}"
    )))
}

#[test]
fn a_missing_file_is_a_new_guest_and_is_written_by_the_first_step() {
    let guest = guest(None);
    let mut sim = guest.sim();
    assert_eq!(sim.observe(&Hardware::new()).unwrap().hardware, Hardware::new());
    assert!(!guest.file.exists(), "observing writes nothing");

    for step in guest.steps(&["tablet"]) {
        sim.perform(&step).unwrap();
    }
    assert_eq!(guest.hardware().devices().count(), 1);
    let pci = guest.hardware().controller(Index::ZERO).unwrap().pci.clone();
    assert_eq!(pci.unwrap().to_string(), "pci.0/04.0", "it chooses the PCI address");
    assert!(sim.observe(&Hardware::new()).unwrap().ours.contains(&"hci0".parse().unwrap()));
}

#[test]
fn its_capabilities_are_those_of_qemu_unless_its_file_changes_them() {
    let fresh = guest(None).sim().capabilities(None).unwrap();
    assert_eq!(fresh.models[&Model::QemuXhci], Support::Hot);
    assert!(matches!(fresh.models[&Model::Ich9Ehci1], Support::Cold { .. }));
    assert!(matches!(fresh.models[&Model::Xenusb2], Support::Unsupported { .. }));

    let text = r#"{"sim":1,"models":{"qemu-xhci":"no"},"kinds":{"mtp":"no"},"slots":3}"#;
    let limited = guest(Some(text)).sim().capabilities(None).unwrap();
    assert!(
        limited.check_model(Model::QemuXhci).is_err()
            && limited.check_model(Model::NecXhci).is_ok()
    );
    assert!(limited.check_kind("mtp").is_err() && limited.check_kind("hub").is_ok());
    assert_eq!(limited.slots.unwrap().free, 3);

    let pv = guest(Some(r#"{"sim":1,"type":"pv"}"#)).sim().capabilities(None).unwrap();
    assert!(pv.check_model(Model::Xenusb2).is_ok() && pv.check_model(Model::QemuXhci).is_err());
}

#[test]
fn unsupported_steps_are_refused_by_check_and_by_perform() {
    let guest = guest(None);
    let ich9 = ControllerSpec { model: Some(Model::Ich9Ehci1), ..ControllerSpec::default() };
    let spec = Spec { controllers: vec![ich9], ..Spec::default() };
    let everything = vusb_model::capabilities::Capabilities::everything();
    let hardware = resolve(&Hardware::new(), &spec, &everything).unwrap().hardware;
    let steps = diff(&Hardware::new(), &hardware);
    let mut sim = guest.sim();
    assert!(matches!(sim.check(&steps), Err(Error::NotImplemented { .. })));
    assert!(matches!(sim.perform(&steps[0]), Err(Error::NotImplemented { .. })));
    assert_eq!(guest.hardware(), Hardware::new());
}

#[test]
fn a_step_that_does_not_fit_is_refused() {
    let guest = guest(None);
    let steps = guest.steps(&["tablet"]);
    let mut sim = guest.sim();
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
fn a_fault_affects_only_its_own_step_and_only_once() {
    for (fault, uncertain, happens) in [
        ("fail", false, false),
        ("timeout", true, false),
        ("unreachable", true, false),
        ("happens-anyway", true, true),
    ] {
        let guest = faulty("plug", fault);
        let steps = guest.steps(&["tablet"]);
        let mut sim = guest.sim();
        sim.perform(&steps[0]).unwrap();
        // A new connection for each step: faults are counted in the file.
        let error = guest.sim().perform(&steps[1]).unwrap_err();
        assert_eq!(error.is_uncertain(), uncertain, "{fault}: {error}");
        assert_eq!(guest.hardware().devices().count(), usize::from(happens), "{fault}");
        if !happens {
            guest.sim().perform(&steps[1]).unwrap();
        }
    }
}

#[test]
fn observing_can_fail() {
    let guest = faulty("observe", "fail");
    assert!(matches!(guest.sim().observe(&Hardware::new()), Err(Error::Failed { .. })));
    guest.sim().observe(&Hardware::new()).unwrap();

    let gone = self::guest(Some(r#"{"sim":1,"unreachable":"its host burnt down"}"#));
    let error = gone.sim().observe(&Hardware::new()).unwrap_err();
    assert!(error.to_string().contains("burnt down") && !error.is_uncertain(), "{error}");
}

#[test]
fn foreign_and_absent_devices_are_reported_and_unknown_fields_are_kept() {
    let guest = guest(None);
    for step in guest.steps(&["tablet", "mouse"]) {
        guest.sim().perform(&step).unwrap();
    }
    let more = "{\"colour\":\"blue\",\"foreign\":[\"hci0\"],\"absent\":[\"mouse0\"],";
    fs::write(&guest.file, guest.text().replacen('{', more, 1)).unwrap();
    let observed = guest.sim().observe(&Hardware::new()).unwrap();
    assert!(!observed.ours.contains(&"hci0".parse().unwrap()));
    assert!(observed.ours.contains(&"tablet0".parse().unwrap()));
    let absent: Vec<_> = observed.states.iter().collect();
    assert!(matches!(absent.as_slice(), [(_, DeviceState::Absent)]));

    let mouse = observed.hardware.devices().find(|(_, it)| it.name.as_str() == "mouse0").unwrap();
    guest.sim().perform(&Step::Unplug(mouse.0, mouse.1.clone())).unwrap();
    assert!(guest.text().contains("\"colour\": \"blue\""));
    assert!(!guest.text().contains("mouse0"), "a removed device is not absent");
}

#[test]
fn an_invalid_file_is_reported_and_not_changed() {
    for text in ["", "{}", "[1]", r#"{"sim":2}"#, r#"{"sim":1,"running":3}"#, "\u{0}"] {
        let guest = guest(Some(text));
        let error = Sim::open(&guest.file).unwrap_err();
        assert!(matches!(error, Error::Confused { .. }), "{text}: {error}");
        assert_eq!(guest.text(), text);
    }
}

#[test]
fn concurrent_steps_are_not_lost() {
    let guest = guest(None);
    guest.sim().perform(&guest.steps(&["tablet"])[0]).unwrap();
    std::thread::scope(|scope| {
        for port in 1..=8 {
            let file = guest.file.clone();
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
    assert_eq!(guest.hardware().devices().count(), 8);
}

/// A guest has only ended if its file says so.
#[test]
fn an_unreadable_file_does_not_mean_that_the_guest_has_ended() {
    let folder = guest(None).file;
    fs::create_dir_all(&folder).unwrap();
    let error = Sim::open(&folder).unwrap_err();
    let scheme = SimScheme;
    assert!(!scheme.is_gone(&folder.display().to_string(), &error), "{error}");
    assert!(error.to_string().contains("a folder"), "{error}");
    fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    // The guest does not exist yet, and its file cannot be made.
    let nowhere = PathBuf::from("/proc/self/nowhere/guest.sim");
    let step = guest(None).steps(&["tablet"]).remove(0);
    let error = Sim::open(&nowhere).unwrap().perform(&step).unwrap_err();
    assert!(!scheme.is_gone(&nowhere.display().to_string(), &error), "{error}");
}
