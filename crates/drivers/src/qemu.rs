//! `qemu:SOCKET`: a QEMU that runs, over its QMP socket.
//!
//! ```text
//! info qtree ──▶ qtree ──▶ scan ──▶ details (what the tree leaves out) ──▶ assemble ──▶ Observed
//!                                                                              └──▶ View: how to address each thing
//! Step ──▶ arguments (properties) ──▶ perform: device_add, or device_del and DEVICE_DELETED
//! Hardware ──▶ arguments ──▶ a command line for a cold start
//! ```
//!
//! What vusb makes in QEMU has an id that begins with `vusb-` and says its name, and for a controller its index
//! (`vusb-0-hci0`, `vusb-stick`); the back end of a device has the device's id. So that a lost record loses little, and what
//! was left behind by a command that was cut off is known for what it is.
//!
//! Everything that QEMU can do is asked of it, never concluded from its version.

mod arguments;
mod assemble;
mod details;
mod names;
mod perform;
mod qtree;
mod scan;
mod session;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use vusb_model::capabilities::{Capabilities, KINDS, Slots, Support};
use vusb_model::device::Kind;
use vusb_model::diff::Step;
use vusb_model::hardware::Hardware;
use vusb_model::models::{ControllerType, Model};

pub use self::arguments::{ArgumentOptions, arguments};
use self::assemble::View;
pub use self::names::controller_driver;
use self::scan::{Place, Scan};
use self::session::Session;
use crate::driver::{Driver, Error, Observed};

/// A running QEMU.
pub struct Qemu {
    session: Session,
    view: View,
    places: Vec<Place>,
    offers: Option<Offers>,
}

/// What this QEMU has.
#[derive(Clone, Debug)]
struct Offers {
    /// QEMU's names of all devices that could be made.
    drivers: Vec<String>,
    /// `pc-i440fx-7.2`.
    machine: String,
    has_pci: bool,
}

impl Qemu {
    /// Connects to the QMP socket of a QEMU. No wait on it will be longer than `limit`.
    ///
    /// # Errors
    /// [`Error::Unreachable`]: nobody listens, or another program holds the monitor.
    pub fn connect(socket: &Path, limit: Duration) -> Result<Qemu, Error> {
        let session = Session::open(socket, limit)?;
        Ok(Qemu { session, view: View::default(), places: Vec::new(), offers: None })
    }

    /// Asks for the device tree and, if that is not known yet, for what QEMU has.
    fn scan(&mut self) -> Result<Scan, Error> {
        let mut commands = vec![("human-monitor-command", json!({"command-line": "info qtree"}))];
        if self.offers.is_none() {
            commands
                .push(("qom-list-types", json!({"implements": "usb-device", "abstract": false})));
            commands
                .push(("qom-list-types", json!({"implements": "pci-device", "abstract": false})));
            commands.push(("qom-get", json!({"path": "/machine", "property": "type"})));
        }
        let mut answers =
            self.session.pipeline(&commands)?.into_iter().map(Result::unwrap_or_default);
        let tree = answers.next().unwrap_or_default();
        let scan = tree.as_str().and_then(qtree::read).map(|root| scan::scan(&root));
        let scan = scan.ok_or_else(|| Error::Confused {
            domain: self.session.domain().to_owned(),
            why: "its device tree (`info qtree`) has no bus at the top".to_owned(),
        })?;
        if self.offers.is_none() {
            let [usb, pci, machine] = [(); 3].map(|()| answers.next().unwrap_or_default());
            let drivers = [usb, pci].iter().flat_map(type_names).collect();
            let machine =
                machine.as_str().unwrap_or("unknown").trim_end_matches("-machine").to_owned();
            self.offers = Some(Offers { drivers, machine, has_pci: scan.has_pci });
        }
        self.places.clone_from(&scan.places);
        Ok(scan)
    }

    fn offers(&mut self) -> Result<Offers, Error> {
        if self.offers.is_none() {
            self.scan()?;
        }
        self.offers.clone().ok_or_else(|| Error::Confused {
            domain: self.session.domain().to_owned(),
            why: "it does not say what devices it has".to_owned(),
        })
    }

    /// `QEMU 7.2.22 (pc-i440fx-7.2)`.
    fn who(&self) -> String {
        let machine = self.offers.as_ref().map_or("unknown machine", |offers| &offers.machine);
        format!(
            "{} (machine {machine})",
            self.session.version().split(" (").next().unwrap_or("QEMU")
        )
    }
}

/// The names in a `qom-list-types` answer.
fn type_names(answer: &Value) -> Vec<String> {
    let entries = answer.as_array().into_iter().flatten();
    entries.filter_map(|entry| Some(entry.get("name")?.as_str()?.to_owned())).collect()
}

impl Offers {
    fn has(&self, driver: &str) -> bool {
        self.drivers.iter().any(|name| name == driver)
    }

    fn model(&self, model: Model) -> Support {
        let Some(driver) = names::controller_driver(model) else {
            let why = "it has no paravirtual USB controller outside Xen".to_owned();
            return Support::No { why };
        };
        if !self.has(driver) {
            return Support::No { why: format!("this QEMU was built without {driver}") };
        }
        if arguments::hot(model) {
            return Support::Hot;
        }
        let what = if model == Model::PciOhci { "OHCI" } else { "the ICH9 group" };
        Support::Cold {
            why: format!("QEMU cannot hot add {what}: it marks {driver} as not hot pluggable"),
        }
    }

    fn kind(&self, word: &'static str) -> Support {
        match names::device_driver(word).filter(|driver| self.has(driver)) {
            Some(_) => Support::Hot,
            None => Support::No { why: format!("this QEMU was built without usb-{word}") },
        }
    }

    /// What to tell a person who needs a slot and has none.
    fn remedy(&self) -> String {
        if !self.has_pci {
            return format!(
                "machine {} has no PCI bus; start the guest on one that has (`-machine pc` or `q35`)",
                self.machine
            );
        }
        format!(
            "no PCI slot of machine {} that takes hot plug is free; start the guest with `-device pcie-root-port,id=slot0,chassis=100` (one for each controller to come; \
             `vusb qemu-args --spare-slots N` prints them), or on `-machine pc`, whose root bus takes hot plug",
            self.machine
        )
    }
}

impl Driver for Qemu {
    fn observe(&mut self, recorded: &Hardware) -> Result<Observed, Error> {
        let mut scan = self.scan()?;
        let details = details::ask(&mut self.session, &mut scan)?;
        let (observed, view) = assemble::assemble(&scan, &details, recorded);
        self.view = view;
        Ok(observed)
    }

    fn capabilities(&mut self) -> Result<Capabilities, Error> {
        let offers = self.offers()?;
        let free = self.places.iter().map(|place| place.free).sum();
        Ok(Capabilities {
            hypervisor: self.who(),
            default_type: ControllerType::Emulated,
            running: true,
            models: Model::ALL.into_iter().map(|model| (model, offers.model(model))).collect(),
            kinds: KINDS
                .into_iter()
                .map(|word| (word, offers.kind(word)))
                .collect::<BTreeMap<_, _>>(),
            slots: Some(Slots { free, remedy: offers.remedy() }),
        })
    }

    fn check(&mut self, steps: &[Step]) -> Result<(), Error> {
        let offers = self.offers()?;
        let refuse =
            |what: String, why: String| Err(Error::NotImplemented { what, by: self.who(), why });
        for step in steps {
            match step {
                Step::AddController(controller) => match offers.model(controller.model) {
                    Support::Hot => {}
                    Support::Cold { why } | Support::No { why } => {
                        return refuse(step.to_string(), why);
                    }
                },
                Step::RemoveController(controller) if !arguments::hot(controller.model) => {
                    let why =
                        "it marks this controller as not hot pluggable; start the guest without it"
                            .to_owned();
                    return refuse(step.to_string(), why);
                }
                Step::Plug(_, device) => match (&device.kind, offers.kind(device.kind.word())) {
                    (Kind::Other(_), _) => {
                        return refuse(
                            step.to_string(),
                            "another tool's device is not made anew".to_owned(),
                        );
                    }
                    (_, Support::Cold { why } | Support::No { why }) => {
                        return refuse(step.to_string(), why);
                    }
                    (Kind::Host(host), _) if host.at.is_none() => {
                        let why = "it is not plugged into this machine; plug it in".to_owned();
                        return Err(Error::Missing { what: host.selector.to_string(), why });
                    }
                    _ => {}
                },
                Step::RemoveController(_) | Step::Unplug(..) => {}
            }
        }
        Ok(())
    }

    fn perform(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::AddController(controller) => self.add_controller(controller),
            Step::RemoveController(controller) => self.remove_controller(controller),
            Step::Plug(address, device) => self.plug(*address, device),
            Step::Unplug(address, device) => self.unplug(*address, device),
        }
    }
}
