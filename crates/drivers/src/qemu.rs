//! `qemu:SOCKET`: a running QEMU, over its QMP socket.
//!
//! ```text
//! info qtree ─▶ qtree ─▶ scan ─▶ confirm ─▶ details (further queries) ─▶ assemble ─┬▶ Observed
//!                                (object model)                                    └▶ View
//!                                                                  how to address each object
//! Step ──▶ arguments (properties) ──▶ perform: device_add, or device_del and DEVICE_DELETED
//! Hardware ──▶ arguments ──▶ a command line for a cold start
//! ```
//!
//! Every controller and device that vusb adds to QEMU has an id that begins with `vusb-` and ends
//! with its name: `vusb-stick`. The id of a controller also contains its index, and that of an xHCI
//! its number of ports: `vusb-0x15-hci0` has index 0 and 15 ports. The back end of a device has the
//! id of the device or, if that is too long, an id with a hash of the name. From these ids, most of
//! a lost record can be restored, and the leftovers of an interrupted command can be recognized.
//!
//! The features of a QEMU are queried, never derived from its version. They are only queried if
//! they matter, because each query costs a turn of QEMU's main loop (0.2 to 0.4 ms), as much as
//! plugging in a device.

mod arguments;
mod assemble;
mod confirm;
mod details;
mod features;
#[doc(hidden)]
pub mod fuzzing;
pub mod installed;
mod monitor_client;
mod names;
mod passed_files;
mod pci_slots;
mod peer;
mod perform;
mod qtree;
mod refusal;
mod run_state;
mod running;
mod safe_open;
mod scan;
mod scheme;
mod session;
mod sockets;
mod watch;

use std::path::Path;

use serde_json::json;
use vusb_model::capabilities::{Capabilities, KINDS, Slots, Support};
use vusb_model::device::Kind;
use vusb_model::diff::Step;
use vusb_model::guest::Guest;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{ControllerType, Model};
use vusb_model::name::Name;
use vusb_model::spec::Spec;

pub use self::arguments::{ArgumentOptions, DeviceProperties, arguments, libvirt_arguments};
use self::assemble::View;
use self::details::Prefetched;
use self::features::Features;
pub use self::names::{controller_driver, hot_pluggable};
use self::passed_files::PassedFile;
use self::scan::{HotplugBus, PciBus, Scan};
pub use self::scheme::QemuScheme;

use self::session::Session;
// For the drivers of other tools that start QEMUs: whether a monitor listens, which QEMUs run,
// where Proxmox VE has its monitors, and when a monitor appears or disappears.
pub(crate) use self::{
    peer::has_listener,
    running::{PROXMOX_FOLDER, all as running_qemus},
    watch::watch_folder,
};
use crate::driver::{Driver, Error, Observed};
use crate::identity::GuestIdentity;
use crate::limits::Limits;

/// How much of a machine's name, or of its state, is shown, in characters. QEMU's longest names
/// have about thirty.
const MAX_SHOWN: usize = 64;

/// How many times the tree is compared with the object model before a contradiction is an error:
/// another tool may add or remove a device between the two.
const MAX_OBSERVATIONS: usize = 3;

/// A running QEMU.
pub struct Qemu {
    session: Session,
    view: View,
    hotplug_buses: Vec<HotplugBus>,
    pci_buses: Vec<PciBus>,
    features: Features,
    /// A sentence for each leftover that could not be removed from QEMU. The next observation
    /// reports them.
    left_behind: Vec<String>,
    /// The files that vusb has passed to QEMU, according to the last observation and later steps.
    passed: Vec<PassedFile>,
}

impl Qemu {
    /// The QEMU behind a QMP socket. The connection is opened when it is first needed. No wait is
    /// longer than `limits` allow.
    pub fn at(socket: &Path, limits: impl Into<Limits>) -> Qemu {
        Qemu {
            session: Session::new(socket, limits.into()),
            view: View::default(),
            hotplug_buses: Vec::new(),
            pci_buses: Vec::new(),
            features: Features::default(),
            left_behind: Vec::new(),
            passed: Vec::new(),
        }
    }

    /// Like [`Qemu::at`], for a monitor that other programs need too: it is only held for a moment
    /// at a time. `domain` is the guest's address, for messages.
    pub(crate) fn shared(socket: &Path, domain: String, limits: Limits) -> Qemu {
        let qemu = Qemu::at(socket, limits);
        Qemu { session: qemu.session.shared(domain), ..qemu }
    }

    /// Closes the connection to the monitor. The next query opens another one.
    pub(crate) fn release(&mut self) {
        self.session.close();
    }

    /// The slots of a PCI bus that were in use at the last observation. `None` if no bus of this
    /// name supports hot plug.
    pub(crate) fn slots_in_use(&self, bus: &str) -> Option<Vec<u8>> {
        let bus = self.pci_buses.iter().find(|it| it.name == bus && it.hotplug)?;
        Some(bus.occupied.iter().map(|(slot, _)| *slot).collect())
    }

    /// Queries the device tree, and in the same batch the details that will most likely be needed.
    fn scan(&mut self, recorded: &Hardware) -> Result<(Scan, Prefetched), Error> {
        let mut commands = vec![("human-monitor-command", json!({"command-line": "info qtree"}))];
        commands.extend(details::prefetch_commands(recorded));
        let mut answers = self.session.pipeline(&commands)?.into_iter();
        let tree = answers.next().and_then(Result::ok).unwrap_or_default();
        let scan = tree.as_str().and_then(qtree::parse).map(|root| scan::scan(&root));
        let scan = scan.ok_or_else(|| Error::Confused {
            domain: self.session.domain().to_owned(),
            why: "its device tree (`info qtree`) does not begin with a bus".into(),
        })?;
        let mut prefetched = Prefetched::default();
        for ((command, arguments), answer) in commands.iter().skip(1).zip(answers) {
            if let Ok(answer) = answer {
                prefetched.insert(command, arguments, answer);
            }
        }
        self.features.pci = scan.pci;
        self.hotplug_buses.clone_from(&scan.hotplug_buses);
        self.pci_buses.clone_from(&scan.pci_buses);
        Ok((scan, prefetched))
    }

    /// Observes once. The inner error lists the devices about which QEMU's device tree and its
    /// object model contradict each other.
    fn observe_once(
        &mut self,
        recorded: &Hardware,
    ) -> Result<Result<Observed, Vec<String>>, Error> {
        let (mut scan, prefetched) = self.scan(recorded)?;
        let mut objects = None;
        if scan.untrusted {
            let contradictions =
                confirm::compare(&mut scan, objects.insert(confirm::query(&mut self.session)?));
            if !contradictions.is_empty() {
                return Ok(Err(contradictions));
            }
        }
        let session = &mut self.session;
        let details = details::query(session, &mut scan, prefetched, recorded, objects.as_ref())?;
        let (observed, view) = assemble::assemble(&scan, &details, recorded);
        self.passed.clone_from(&details.passed);
        // An item that the tree lacks only counts as gone if the object model lacks it too.
        if objects.is_none() && lacks_recorded(&observed.hardware, recorded) {
            let contradictions = confirm::compare(&mut scan, &confirm::query(&mut self.session)?);
            if !contradictions.is_empty() {
                return Ok(Err(contradictions));
            }
        }
        self.view = view;
        Ok(Ok(observed))
    }

    /// `QEMU 7.2.22 (machine pc-i440fx-7.2)`, or without the machine if that was not queried.
    fn description(&self) -> String {
        let version = self.session.version();
        match self.features.machine.as_str() {
            "" => version,
            machine => {
                // QEMU is not trusted: a hostile one may send megabytes.
                let line = machine.lines().next().unwrap_or_default();
                let brief: String = line.chars().take(MAX_SHOWN).collect();
                format!("{version} (machine {brief})")
            }
        }
    }

    /// Checks that the step is supported, from the features that were queried so far.
    fn check_one(&self, step: &Step) -> Result<(), Error> {
        let refuse = |why: String| {
            Err(Error::NotImplemented {
                what: step.to_string(),
                by: self.description(),
                why: why.into(),
            })
        };
        let supported = |support: Support| match support {
            Support::Hot | Support::EmulatedOnly { .. } => Ok(()),
            Support::Cold { why } | Support::Unsupported { why } => refuse(why),
        };
        match step {
            Step::AddController(controller) => match arguments::other_ports(controller) {
                Some(why) => refuse(why),
                None => supported(self.features.model(controller.model)),
            },
            Step::RemoveController(controller) if controller.model.is_built_in() => {
                refuse("it is part of the machine, or was added by another tool".to_owned())
            }
            Step::RemoveController(controller) if !hot_pluggable(controller.model) => refuse(
                "it marks this controller as not hot pluggable; start the guest without it"
                    .to_owned(),
            ),
            Step::Plug(_, device) => match &device.kind {
                Kind::Other(_) => {
                    refuse("vusb cannot recreate a device of another tool".to_owned())
                }
                Kind::Host(host) if host.bus_address.is_none() => {
                    let why = "it is not plugged into this machine; plug it in".to_owned();
                    Err(Error::Missing { what: host.selector.to_string(), why: why.into() })
                }
                kind => supported(self.features.kind(kind.name())),
            },
            Step::RemoveController(_) | Step::Unplug(..) => Ok(()),
        }
    }
}

/// Whether a recorded item was not found. Controllers that QEMU cannot have are ignored: the record
/// of a Xen guest also contains paravirtual ones.
fn lacks_recorded(found: &Hardware, recorded: &Hardware) -> bool {
    let lacks = |name: &Name| found.named(name).is_none();
    let lacks_part = |controller: &Controller| {
        lacks(&controller.name) || controller.devices().any(|(_, device)| lacks(&device.name))
    };
    let mut controllers = recorded.controllers();
    controllers.any(|it| controller_driver(it.model).is_some() && lacks_part(it))
}

impl Driver for Qemu {
    fn identity(&mut self) -> Option<GuestIdentity> {
        peer::process(self.session.peer()?)
    }

    fn guest_name(&self) -> Option<String> {
        running::name_of(self.session.peer()?)
    }

    fn observe(&mut self, recorded: &Hardware) -> Result<Observed, Error> {
        let mut contradictions = Vec::new();
        for _ in 0..MAX_OBSERVATIONS {
            match self.observe_once(recorded)? {
                Ok(mut observed) => {
                    observed.notes.append(&mut self.left_behind);
                    return Ok(observed);
                }
                Err(found) => contradictions = found,
            }
        }
        Err(confirm::contradiction(self.session.domain(), &contradictions))
    }

    /// With a spec, nothing is queried: [`Driver::check`] queries what the steps need. If that
    /// refuses, the caller asks for all capabilities.
    fn capabilities(&mut self, needed: Option<&Spec>) -> Result<Capabilities, Error> {
        if needed.is_none() {
            self.features.query_machine(&mut self.session)?;
            self.features.query_drivers(&mut self.session, &Model::ALL, &KINDS)?;
        }
        let free = self.hotplug_buses.iter().map(|bus| bus.free).sum();
        let features = &self.features;
        Ok(Capabilities {
            hypervisor: self.description(),
            default_type: ControllerType::Emulated,
            running: true,
            models: Model::ALL.into_iter().map(|model| (model, features.model(model))).collect(),
            kinds: KINDS.into_iter().map(|kind| (kind, features.kind(kind))).collect(),
            slots: Some(Slots { free, reason: features.no_slot_reason() }),
            guest: Guest::default(),
        })
    }

    fn check(&mut self, steps: &[Step]) -> Result<(), Error> {
        let mut models = Vec::new();
        let mut kinds = Vec::new();
        for step in steps {
            match step {
                Step::AddController(controller) => models.push(controller.model),
                Step::Plug(_, device) => kinds.push(device.kind.name()),
                Step::RemoveController(_) | Step::Unplug(..) => {}
            }
        }
        // A single step that is a single command needs no query: if QEMU refuses the command,
        // nothing has changed.
        let one_command = match steps {
            [Step::Plug(_, device)] => arguments::backend(device).is_none(),
            steps => steps.len() <= 1,
        };
        if !one_command {
            self.features.query_drivers(&mut self.session, &models, &kinds)?;
        }
        // Before the guest's state: what QEMU can never do does not depend on that.
        steps.iter().try_for_each(|step| self.check_one(step))?;
        let removed_controller = |step: &Step| match step {
            Step::RemoveController(it) if self.view.controllers.contains_key(&it.index) => {
                Some(it.clone())
            }
            _ => None,
        };
        let removed: Vec<Controller> = steps.iter().filter_map(removed_controller).collect();
        if !removed.is_empty() {
            let state = self.guest_state()?;
            removed.iter().try_for_each(|it| perform::require_running(it, &state))?;
        }
        pci_slots::check(&self.pci_buses, steps, &self.description())
    }

    fn perform(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::AddController(controller) => self.add_controller(controller),
            Step::RemoveController(controller) => self.remove_controller(controller),
            Step::Plug(address, device) => self.plug(*address, device),
            Step::Unplug(address, device) => self.unplug(*address, device),
        }
    }

    fn not_restorable(&self, device: &Device) -> Option<String> {
        arguments::not_restorable(device).map(str::to_owned)
    }

    fn remove_backends(&mut self, devices: &[Device]) -> Result<(), Error> {
        for device in devices {
            let Some(backend) = arguments::backend_to_remove(device) else { continue };
            let what = || format!("removing the back end of {} ({})", device.name, device.kind);
            self.remove_backend(&backend)?.map_err(|error| self.refused(what(), &error))?;
        }
        Ok(())
    }
}
