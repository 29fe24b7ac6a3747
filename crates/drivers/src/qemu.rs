//! `qemu:SOCKET`: a QEMU that runs, over its QMP socket.
//!
//! ```text
//! info qtree ──▶ qtree ──▶ scan ──▶ details (what the tree leaves out) ──▶ assemble ──▶ Observed
//!                                                                              └──▶ View: how to address each thing
//! Step ──▶ arguments (properties) ──▶ perform: device_add, or device_del and DEVICE_DELETED
//! Hardware ──▶ arguments ──▶ a command line for a cold start
//! ```
//!
//! What vusb makes in QEMU has an id that begins with `vusb-` and says its name, and for a controller its index and ports
//! (`vusb-0x15-hci0`, `vusb-stick`); the back end of a device has the device's id. So that a lost record loses little, and what
//! was left behind by a command that was cut off is known for what it is.
//!
//! Everything that QEMU can do is asked of it, never concluded from its version; but only when it matters, for each question
//! costs a turn of QEMU's main loop (0.2 to 0.4 ms), and plugging a device in costs one.

mod arguments;
mod assemble;
mod details;
#[doc(hidden)]
pub mod fuzzing;
pub mod installed;
mod names;
mod offers;
mod perform;
mod places;
mod qtree;
mod scan;
mod session;

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use vusb_model::capabilities::{Capabilities, KINDS, Slots, Support};
use vusb_model::device::Kind;
use vusb_model::diff::Step;
use vusb_model::guest::Guest;
use vusb_model::hardware::Hardware;
use vusb_model::models::{ControllerType, Model};
use vusb_model::spec::Spec;

pub use self::arguments::{ArgumentOptions, Details, arguments, arguments_as_libvirt};
use self::assemble::View;
use self::details::Foreseen;
pub use self::names::{controller_driver, hot};
use self::offers::Offers;
use self::scan::{PciBus, Place, Scan};
use self::session::Session;
use crate::driver::{Driver, Error, Observed};

/// A running QEMU.
pub struct Qemu {
    session: Session,
    view: View,
    places: Vec<Place>,
    buses: Vec<PciBus>,
    offers: Offers,
}

impl Qemu {
    /// The QEMU behind a QMP socket. It is connected to when it is first asked something; no wait on it will be longer than
    /// `limit`.
    pub fn at(socket: &Path, limit: Duration) -> Qemu {
        Qemu {
            session: Session::new(socket, limit),
            view: View::default(),
            places: Vec::new(),
            buses: Vec::new(),
            offers: Offers::default(),
        }
    }

    /// Asks for the device tree, and for what will most likely be needed to understand it.
    fn scan(&mut self, recorded: &Hardware) -> Result<(Scan, Foreseen), Error> {
        let mut commands = vec![("human-monitor-command", json!({"command-line": "info qtree"}))];
        commands.extend(details::foresee(recorded));
        let mut answers = self.session.pipeline(&commands)?.into_iter();
        let tree = answers.next().and_then(Result::ok).unwrap_or_default();
        let scan = tree.as_str().and_then(qtree::read).map(|root| scan::scan(&root));
        let scan = scan.ok_or_else(|| Error::Confused {
            domain: self.session.domain().to_owned(),
            why: "its device tree (`info qtree`) has no bus at the top".to_owned(),
        })?;
        let mut foreseen = Foreseen::default();
        for ((command, arguments), answer) in commands.iter().skip(1).zip(answers) {
            if let Ok(answer) = answer {
                foreseen.add(command, arguments, answer);
            }
        }
        self.offers.has_pci = !scan.buses.is_empty();
        self.places.clone_from(&scan.places);
        self.buses.clone_from(&scan.buses);
        Ok((scan, foreseen))
    }

    /// `QEMU 7.2.22 (machine pc-i440fx-7.2)`, or without the machine where that was not asked.
    fn who(&self) -> String {
        let version = self.session.version();
        match self.offers.machine.as_str() {
            "" => version,
            machine => format!("{version} (machine {machine})"),
        }
    }

    /// Whether the step can be taken, from what is known of this QEMU.
    fn check_one(&self, step: &Step) -> Result<(), Error> {
        let refuse = |why: String| {
            Err(Error::NotImplemented { what: step.to_string(), by: self.who(), why })
        };
        let supported = |support: Support| match support {
            Support::Hot | Support::Emulated { .. } => Ok(()),
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

impl Driver for Qemu {
    fn observe(&mut self, recorded: &Hardware) -> Result<Observed, Error> {
        let (mut scan, foreseen) = self.scan(recorded)?;
        let details = details::ask(&mut self.session, &mut scan, foreseen, recorded)?;
        let (observed, view) = assemble::assemble(&scan, &details, recorded);
        self.view = view;
        Ok(observed)
    }

    /// With a spec, nothing is asked: [`Driver::check`] asks about what the steps need, and a refusal makes the caller come back
    /// for everything.
    fn capabilities(&mut self, needed: Option<&Spec>) -> Result<Capabilities, Error> {
        if needed.is_none() {
            self.offers.ask_machine(&mut self.session)?;
            self.offers.ask_about(&mut self.session, &Model::ALL, &KINDS)?;
        }
        let free = self.places.iter().map(|place| place.free).sum();
        let offers = &self.offers;
        Ok(Capabilities {
            hypervisor: self.who(),
            default_type: ControllerType::Emulated,
            running: true,
            models: Model::ALL.into_iter().map(|model| (model, offers.model(model))).collect(),
            kinds: KINDS.into_iter().map(|word| (word, offers.kind(word))).collect(),
            slots: Some(Slots { free, remedy: offers.remedy() }),
            guest: Guest::default(),
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
        // One step that is one command to QEMU needs no question first: QEMU refuses it before it touches anything.
        let one_command = match steps {
            [Step::Plug(_, device)] => arguments::backend(device).is_none(),
            steps => steps.len() <= 1,
        };
        if !one_command {
            self.offers.ask_about(&mut self.session, &models, &kinds)?;
        }
        let removes = |step: &Step| matches!(step, Step::RemoveController(it) if self.view.controllers.contains_key(&it.index));
        if steps.iter().any(removes) {
            let state = self.guest_state()?;
            for step in steps.iter() {
                if let Step::RemoveController(controller) = step {
                    perform::can_let_go(controller, &state)?;
                }
            }
        }
        steps.iter().try_for_each(|step| self.check_one(step))?;
        places::check(&self.buses, steps, &self.who())
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
