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
use vusb_model::spec::{ControllerSpec, Spec};

pub use self::arguments::{ArgumentOptions, arguments};
use self::assemble::View;
use self::details::Foreseen;
pub use self::names::{controller_driver, hot};
use self::scan::{Place, Scan};
use self::session::Session;
use crate::driver::{Driver, Error, Observed};

/// A running QEMU.
pub struct Qemu {
    session: Session,
    view: View,
    places: Vec<Place>,
    offers: Offers,
}

/// What is known of what this QEMU has.
#[derive(Clone, Debug, Default)]
struct Offers {
    /// QEMU's names for devices, and whether it has them; only those that were asked about.
    drivers: BTreeMap<String, bool>,
    /// `pc-i440fx-7.2`; empty before it was asked.
    machine: String,
    has_pci: bool,
}

/// Up to so many drivers, each is asked about by name; beyond, for the lists of all. An answer by name takes QEMU 0.15 ms, the two
/// lists 0.7 ms (seen with version 7.2).
const BY_NAME: usize = 4;

impl Qemu {
    /// The QEMU behind a QMP socket. It is connected to when it is first asked something; no wait on it will be longer than
    /// `limit`.
    pub fn at(socket: &Path, limit: Duration) -> Qemu {
        Qemu {
            session: Session::new(socket, limit),
            view: View::default(),
            places: Vec::new(),
            offers: Offers::default(),
        }
    }

    /// Asks for the device tree, and for what will most likely be needed to understand it.
    fn scan(&mut self, recorded: &Hardware) -> Result<(Scan, Foreseen), Error> {
        let mut commands = vec![
            ("human-monitor-command", json!({"command-line": "info qtree"})),
            ("qom-get", json!({"path": "/machine", "property": "type"})),
        ];
        commands.extend(details::foresee(recorded));
        let mut answers = self.session.pipeline(&commands)?.into_iter();
        let [tree, machine] =
            [(); 2].map(|()| answers.next().and_then(Result::ok).unwrap_or_default());
        let scan = tree.as_str().and_then(qtree::read).map(|root| scan::scan(&root));
        let scan = scan.ok_or_else(|| Error::Confused {
            domain: self.session.domain().to_owned(),
            why: "its device tree (`info qtree`) has no bus at the top".to_owned(),
        })?;
        let mut foreseen = Foreseen::default();
        for ((command, arguments), answer) in commands.iter().skip(2).zip(answers) {
            if let Ok(answer) = answer {
                foreseen.add(command, arguments, answer);
            }
        }
        let machine = machine.as_str().unwrap_or("unknown");
        machine.trim_end_matches("-machine").clone_into(&mut self.offers.machine);
        self.offers.has_pci = scan.has_pci;
        self.places.clone_from(&scan.places);
        Ok((scan, foreseen))
    }

    /// Finds out which of these drivers QEMU has, if that is not known yet.
    fn ask_about(&mut self, drivers: &[&'static str]) -> Result<(), Error> {
        let unknown: Vec<&str> = drivers
            .iter()
            .copied()
            .filter(|name| !self.offers.drivers.contains_key(*name))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        if unknown.len() <= BY_NAME {
            let question = |name: &&str| ("device-list-properties", json!({"typename": name}));
            let answers =
                self.session.pipeline(&unknown.iter().map(question).collect::<Vec<_>>())?;
            let has = unknown
                .iter()
                .zip(answers)
                .map(|(name, answer)| ((*name).to_owned(), answer.is_ok()));
            self.offers.drivers.extend(has);
            return Ok(());
        }
        let question = |of: &str| ("qom-list-types", json!({"implements": of, "abstract": false}));
        let lists = self.session.pipeline(&[question("usb-device"), question("pci-device")])?;
        let all: Vec<String> =
            lists.into_iter().flatten().flat_map(|list| type_names(&list)).collect();
        let has =
            unknown.iter().map(|name| ((*name).to_owned(), all.iter().any(|has| has == name)));
        self.offers.drivers.extend(has);
        Ok(())
    }

    /// `QEMU 7.2.22 (machine pc-i440fx-7.2)`.
    fn who(&self) -> String {
        format!("{} (machine {})", self.session.version(), self.offers.machine)
    }
}

/// The names in a `qom-list-types` answer.
fn type_names(answer: &Value) -> Vec<String> {
    let entries = answer.as_array().into_iter().flatten();
    entries.filter_map(|entry| Some(entry.get("name")?.as_str()?.to_owned())).collect()
}

/// What the spec may come to: the models that it names or implies, and the kinds of its devices. Everything without a spec.
fn needed(spec: Option<&Spec>) -> (Vec<Model>, Vec<&'static str>) {
    let Some(spec) = spec else { return (Model::ALL.to_vec(), KINDS.to_vec()) };
    let model = |controller: &ControllerSpec| {
        let of_version = |version| Model::of_version(ControllerType::Emulated, version);
        controller.model.or(controller.usbversion.map(of_version)).unwrap_or(Model::QemuXhci)
    };
    let mut models: Vec<Model> = spec.controllers.iter().map(model).collect();
    // A device may need a controller that nobody asked for.
    models.extend(spec.devices.first().map(|_| Model::QemuXhci));
    let kinds = spec.devices.iter().map(|device| device.kind.word());
    let kinds = kinds.filter_map(|word| KINDS.into_iter().find(|kind| *kind == word)).collect();
    (models, kinds)
}

/// QEMU's names for these.
fn drivers(models: &[Model], kinds: &[&str]) -> Vec<&'static str> {
    let controllers = models.iter().filter_map(|model| names::controller_driver(*model));
    controllers.chain(kinds.iter().filter_map(|word| names::device_driver(word))).collect()
}

impl Offers {
    fn has(&self, driver: &str) -> bool {
        self.drivers.get(driver).copied().unwrap_or(false)
    }

    fn model(&self, model: Model) -> Support {
        let Some(driver) = names::controller_driver(model) else {
            let why = "it has no paravirtual USB controller outside Xen".to_owned();
            return Support::No { why };
        };
        if !self.has(driver) {
            return Support::No { why: format!("this QEMU was built without {driver}") };
        }
        if hot(model) {
            return Support::Hot;
        }
        let what = if model == Model::PciOhci { "OHCI" } else { "the ICH9 group" };
        Support::Cold {
            why: format!("QEMU cannot hot add {what}: it marks {driver} as not hot pluggable"),
        }
    }

    fn kind(&self, word: &str) -> Support {
        match names::device_driver(word) {
            Some(driver) if self.has(driver) => Support::Hot,
            Some(driver) => Support::No { why: format!("this QEMU was built without {driver}") },
            None => Support::No { why: "QEMU has no such device".to_owned() },
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
            "no PCI slot of machine {} that takes hot plug is free; start the guest with `-device pcie-root-port,id=slot0,chassis=100` (one for each \
             controller to come; `vusb qemu-args --spare-slots N` prints them), or on `-machine pc`, whose root bus takes hot plug",
            self.machine
        )
    }
}

impl Driver for Qemu {
    fn observe(&mut self, recorded: &Hardware) -> Result<Observed, Error> {
        let (mut scan, foreseen) = self.scan(recorded)?;
        let details = details::ask(&mut self.session, &mut scan, foreseen)?;
        let (observed, view) = assemble::assemble(&scan, &details, recorded);
        self.view = view;
        Ok(observed)
    }

    fn capabilities(&mut self, spec: Option<&Spec>) -> Result<Capabilities, Error> {
        if self.offers.machine.is_empty() {
            self.scan(&Hardware::new())?;
        }
        let (models, kinds) = needed(spec);
        self.ask_about(&drivers(&models, &kinds))?;
        let free = self.places.iter().map(|place| place.free).sum();
        Ok(Capabilities {
            hypervisor: self.who(),
            default_type: ControllerType::Emulated,
            running: true,
            models: models.into_iter().map(|model| (model, self.offers.model(model))).collect(),
            kinds: kinds.into_iter().map(|word| (word, self.offers.kind(word))).collect(),
            slots: Some(Slots { free, remedy: self.offers.remedy() }),
        })
    }

    fn check(&mut self, steps: &[Step]) -> Result<(), Error> {
        let mut models = Vec::new();
        let mut kinds = Vec::new();
        for step in steps {
            match step {
                Step::AddController(controller) => models.push(controller.model),
                Step::Plug(_, device) => kinds.push(device.kind.word()),
                Step::RemoveController(_) | Step::Unplug(..) => {}
            }
        }
        self.ask_about(&drivers(&models, &kinds))?;
        steps.iter().try_for_each(|step| self.check_one(step))
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

impl Qemu {
    /// Whether the step can be taken, from what is known of this QEMU.
    fn check_one(&self, step: &Step) -> Result<(), Error> {
        let refuse = |why: String| {
            Err(Error::NotImplemented { what: step.to_string(), by: self.who(), why })
        };
        let supported = |support: Support| match support {
            Support::Hot => Ok(()),
            Support::Cold { why } | Support::No { why } => refuse(why),
        };
        match step {
            Step::AddController(controller) => supported(self.offers.model(controller.model)),
            Step::RemoveController(controller) if !hot(controller.model) => refuse(
                "it marks this controller as not hot pluggable; start the guest without it"
                    .to_owned(),
            ),
            Step::Plug(_, device) => match &device.kind {
                Kind::Other(_) => refuse("another tool's device is not made anew".to_owned()),
                Kind::Host(host) if host.at.is_none() => {
                    let why = "it is not plugged into this machine; plug it in".to_owned();
                    Err(Error::Missing { what: host.selector.to_string(), why })
                }
                kind => supported(self.offers.kind(kind.word())),
            },
            Step::RemoveController(_) | Step::Unplug(..) => Ok(()),
        }
    }
}
