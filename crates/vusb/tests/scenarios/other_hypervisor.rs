//! Details that a hypervisor may report besides the hardware: the guest's name, the terminals of
//! its serial adapters, whether it is off, notes, and the running guests. The simulated hypervisor
//! reports none of them, so these tests wrap it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vusb::drivers::{
    AddressError, Driver, Error as DriverError, GuestIdentity, GuestOwner, Observed, OpenOptions,
    RunningGuest, Scheme,
};
use vusb::model::address::Address;
use vusb::model::capabilities::Capabilities;
use vusb::model::device::Kind;
use vusb::model::diff::Step;
use vusb::model::hardware::Hardware;
use vusb::model::selector::BusAddress;
use vusb::model::spec::{DeviceSpec, Spec};
use vusb::{DomainAddress, Note, Registry};

use crate::sandbox::{Sandbox, Vusb, library_with, texts};

/// The simulated hypervisor, which also reports these details.
#[derive(Debug)]
struct DetailedSim {
    sim: Arc<dyn Scheme>,
    name: Option<&'static str>,
    terminals: BTreeMap<Address, String>,
    running: Vec<RunningGuest>,
    /// Whether its guests are off.
    off: bool,
    /// The notes that each observation returns.
    notes: Vec<String>,
    calls: Arc<Calls>,
}

/// What the driver of this hypervisor was called with.
#[derive(Debug, Default)]
struct Calls {
    /// The recorded hardware of each observation.
    observed: Mutex<Vec<Hardware>>,
    performed: Mutex<Vec<Step>>,
}

impl Scheme for DetailedSim {
    fn name(&self) -> &'static str {
        self.sim.name()
    }

    fn syntax(&self) -> &'static str {
        self.sim.syntax()
    }

    fn parse(&self, operand: &str, folder: &Path) -> Result<String, AddressError> {
        self.sim.parse(operand, folder)
    }

    fn open(
        &self,
        operand: &str,
        options: &OpenOptions<'_>,
    ) -> Result<Box<dyn Driver>, DriverError> {
        let (terminals, notes) = (self.terminals.clone(), self.notes.clone());
        let details = Observed { terminals, notes, off: self.off, ..Observed::default() };
        let (sim, calls) = (self.sim.open(operand, options)?, Arc::clone(&self.calls));
        Ok(Box::new(Guest { sim, name: self.name, details, calls }))
    }

    fn is_gone(&self, operand: &str, error: &DriverError) -> bool {
        self.sim.is_gone(operand, error)
    }

    fn running(&self, _: &Path, _: Duration) -> Result<Vec<RunningGuest>, DriverError> {
        Ok(self.running.clone())
    }
}

/// A guest of this hypervisor.
struct Guest {
    sim: Box<dyn Driver>,
    name: Option<&'static str>,
    /// The details that are observed besides the hardware.
    details: Observed,
    calls: Arc<Calls>,
}

impl Driver for Guest {
    fn observe(&mut self, recorded: &Hardware) -> Result<Observed, DriverError> {
        self.calls.observed.lock().unwrap().push(recorded.clone());
        let Observed { terminals, notes, off, .. } = self.details.clone();
        Ok(Observed { terminals, notes, off, ..self.sim.observe(recorded)? })
    }

    fn capabilities(&mut self, needed: Option<&Spec>) -> Result<Capabilities, DriverError> {
        self.sim.capabilities(needed)
    }

    fn check(&mut self, steps: &[Step]) -> Result<(), DriverError> {
        self.sim.check(steps)
    }

    fn perform(&mut self, step: &Step) -> Result<(), DriverError> {
        self.calls.performed.lock().unwrap().push(step.clone());
        self.sim.perform(step)
    }

    fn guest_name(&self) -> Option<String> {
        self.name.map(str::to_owned)
    }

    fn identity(&mut self) -> Option<GuestIdentity> {
        self.sim.identity()
    }
}

/// The library for this sandbox, with the details that `change` sets.
fn with_details(sandbox: &Sandbox, change: impl FnOnce(&mut DetailedSim)) -> Vusb {
    library_with(sandbox.path(), Duration::from_secs(5), |host| {
        let mut registry = Registry::builtin(host.into());
        let sim = Arc::clone(registry.scheme("sim").unwrap());
        let (terminals, running) = (BTreeMap::new(), Vec::new());
        let notes = Vec::new();
        let calls = Arc::default();
        let mut scheme =
            DetailedSim { sim, name: None, terminals, running, off: false, notes, calls };
        change(&mut scheme);
        registry.register(Arc::new(scheme));
        registry
    })
}

/// The address of a guest of this library's hypervisor.
fn guest(vusb: &Vusb, name: &str) -> DomainAddress {
    vusb.domain(&format!("sim:{name}.sim")).unwrap()
}

fn add(vusb: &Vusb, guest: &DomainAddress, device: &str) -> Vec<Note> {
    vusb.device_add(guest, &DeviceSpec::new(device.parse().unwrap())).unwrap().notes
}

#[test]
fn the_terminal_of_a_new_serial_adapter_is_noted_and_listed() {
    let sandbox = Sandbox::new();
    let at = Address { bus: "0".parse().unwrap(), port: "1".parse().unwrap() };
    let path = "/dev/pts/3".to_owned();
    let vusb = with_details(&sandbox, |it| it.terminals = BTreeMap::from([(at, path.clone())]));
    let guest = guest(&vusb, "web");
    let terminal_notes = |notes: Vec<Note>| -> Vec<Note> {
        notes.into_iter().filter(|it| matches!(it, Note::Terminal { .. })).collect()
    };
    let noted = terminal_notes(add(&vusb, &guest, "serial:pty"));
    assert_eq!(noted, [Note::Terminal { name: "serial0".parse().unwrap(), path }]);
    assert_eq!(terminal_notes(add(&vusb, &guest, "mouse")), [], "the adapter is no longer new");
    let view = vusb.list(&guest).unwrap();
    let terminals: Vec<Option<&str>> =
        view.controllers[0].devices.iter().map(|it| it.terminal.as_deref()).collect();
    assert_eq!(terminals, [Some("/dev/pts/3"), None]);
}

#[test]
fn a_domain_has_the_name_of_its_guest_until_it_is_renamed() {
    let sandbox = Sandbox::new();
    let vusb = with_details(&sandbox, |it| it.name = Some("shop"));
    let (guest, other) = (guest(&vusb, "web"), guest(&vusb, "mail"));
    assert_eq!(add(&vusb, &guest, "tablet").len(), 1, "only the note about the controller");
    assert_eq!(sandbox.record("web")["name"], "shop");
    assert_eq!(vusb.domain("shop").unwrap(), guest);
    // Another guest with this name is known by its address alone.
    let notes = add(&vusb, &other, "tablet");
    assert!(notes.iter().any(|it| matches!(it, Note::NameShared { .. })), "{:?}", texts(&notes));
    assert_eq!(sandbox.record("mail").get("name"), None);
    assert_eq!(vusb.domain("shop").unwrap(), guest);
    // A name that a person chose is kept.
    vusb.context.domain_rename(&guest, &"store".parse().unwrap(), &vusb.options).unwrap();
    add(&vusb, &guest, "mouse");
    assert_eq!(sandbox.record("web")["name"], "store");
}

/// A driver needs the recorded items for the names and indexes that the hypervisor does not store.
#[test]
fn a_driver_observes_with_the_recorded_items() {
    let sandbox = Sandbox::new();
    let calls = Arc::<Calls>::default();
    let vusb = with_details(&sandbox, |it| it.calls = Arc::clone(&calls));
    let guest = guest(&vusb, "web");
    add(&vusb, &guest, "tablet");
    calls.observed.lock().unwrap().clear();
    add(&vusb, &guest, "mouse");
    let recorded = calls.observed.lock().unwrap()[0].clone();
    assert!(recorded.named(&"tablet0".parse().unwrap()).is_some(), "{recorded:?}");
}

/// The selector alone also matches another device with the same ids.
#[test]
fn a_restored_device_is_the_one_that_was_given() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "");
    let calls = Arc::<Calls>::default();
    let vusb = with_details(&sandbox, |it| it.calls = Arc::clone(&calls));
    let guest = guest(&vusb, "web");
    add(&vusb, &guest, "0781:5581");
    sandbox.plug(5, "0781:5581", "");
    sandbox.restart("web");
    calls.performed.lock().unwrap().clear();
    vusb.restore(&guest).unwrap();
    let steps = calls.performed.lock().unwrap();
    let Some(Step::Plug(_, device)) = steps.last() else { panic!("{steps:?}") };
    let Kind::Host(host) = &device.kind else { panic!("{device:?}") };
    let address = BusAddress { bus: 1, address: 14 };
    assert_eq!(host.bus_address, Some(address), "the device in port 4");
}

/// A domain that is off only uses the image when it starts.
#[test]
fn a_domain_that_is_off_may_get_an_image_in_use_and_claims_nothing() {
    let sandbox = Sandbox::new();
    sandbox.file("a.img", "");
    sandbox.add("mail", "storage:a.img").unwrap();
    let claims = || std::fs::read_dir(sandbox.at("machine/run/vusb/claims")).unwrap().count();
    let before = claims();
    let vusb = with_details(&sandbox, |it| it.off = true);
    add(&vusb, &guest(&vusb, "web"), "storage:a.img");
    assert_eq!(claims(), before);
    let domains = vusb.context.domains(&vusb.options).unwrap().domains;
    let web = domains.iter().find(|it| it.address.ends_with("/web.sim")).unwrap();
    assert_eq!(serde_json::json!(web.state), "off");
    let vusb = with_details(&sandbox, |_| ());
    let stick = DeviceSpec::new("storage:a.img".parse().unwrap());
    vusb.device_add(&guest(&vusb, "ftp"), &stick).unwrap_err();
}

#[test]
fn the_record_of_a_domain_that_is_off_can_be_deleted() {
    let sandbox = Sandbox::new();
    let vusb = with_details(&sandbox, |it| it.off = true);
    let web = guest(&vusb, "web");
    add(&vusb, &web, "tablet");
    assert_eq!(sandbox.records().len(), 1);
    vusb.context.domain_forget(&web, &vusb.options).unwrap();
    assert_eq!(sandbox.records().len(), 0);
}

#[test]
fn notes_that_were_observed_before_a_change_are_not_repeated_by_it() {
    let sandbox = Sandbox::new();
    let vusb = with_details(&sandbox, |it| it.notes = vec!["the guest is slow".to_owned()]);
    let notes = add(&vusb, &guest(&vusb, "web"), "tablet");
    let is_observed = |it: &&Note| matches!(it, Note::Other { .. });
    assert_eq!(notes.iter().find(is_observed), None);
    let listed = vusb.list(&guest(&vusb, "web")).unwrap().notes;
    assert_eq!(texts(&listed), ["the guest is slow"]);
}

/// A running guest with the address of `guest`, and with the name that its tool gave it.
fn running_guest(sandbox: &Sandbox, guest: &str, name: Option<&str>) -> RunningGuest {
    RunningGuest {
        operand: Some(sandbox.guest(guest).operand().to_owned()),
        name: name.map(str::to_owned),
        manager: None,
        identity: None,
        uuid: None,
        process: 1,
        host_devices: Vec::new(),
        disks: Vec::new(),
        owner: GuestOwner::Unknown,
    }
}

#[test]
fn a_guest_without_a_record_is_found_by_the_name_that_its_tool_gave_it() {
    let sandbox = Sandbox::new();
    let vusb = with_details(&sandbox, |it| {
        it.running = vec![
            running_guest(&sandbox, "web", Some("shop")),
            running_guest(&sandbox, "mail", Some("post")),
            running_guest(&sandbox, "ftp", Some("post")),
            running_guest(&sandbox, "anonymous", None),
        ];
    });
    assert_eq!(vusb.domain("shop").unwrap(), sandbox.guest("web"));
    let error = vusb.domain("post").unwrap_err().to_string();
    assert!(error.starts_with("several domains are named post: "), "{error}");
    assert!(error.contains("/mail.sim") && error.contains("/ftp.sim"), "{error}");
    assert!(!error.contains("/web.sim"), "{error}");
    let error = vusb.domain("other").unwrap_err().to_string();
    assert!(error.starts_with("there is no domain other"), "{error}");
    assert!(error.contains("/web.sim") && error.contains("/anonymous.sim"), "{error}");
    let unrecorded = || vusb.context.unrecorded(&vusb.options).unwrap();
    assert_eq!(unrecorded().len(), 4);
    add(&vusb, &guest(&vusb, "web"), "tablet");
    let addresses: Vec<_> = unrecorded().into_iter().filter_map(|it| it.address).collect();
    let others = ["anonymous", "ftp", "mail"].map(|it| sandbox.guest(it).to_string());
    assert_eq!(addresses, others, "a guest with a record is left out");
}

/// The record was made by a version with a driver that this one lacks.
#[test]
fn the_name_of_a_domain_without_a_driver_is_not_reported_as_ambiguous() {
    let sandbox = Sandbox::new();
    sandbox.vusb().apply(&sandbox.spec("web", "")).unwrap();
    let formats = sandbox.vusb().context.registry().formats().clone();
    let vusb =
        library_with(sandbox.path(), Duration::from_secs(5), |_| Registry::empty(formats.clone()));
    let error = vusb.domain("web").unwrap_err().to_string();
    assert!(error.starts_with("there is no domain web"), "{error}");
}
