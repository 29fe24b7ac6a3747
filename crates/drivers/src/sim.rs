//! A simulated hypervisor, `sim:FILE`: for learning, and for tests of everything above a driver.
//!
//! All that it knows is in one JSON file, which a person may write and change at any time. A file that is not there is a
//! fresh guest that runs and can do what QEMU can; it is written when the first step is taken.
//!
//! ```json
//! {
//!   "sim": 1,
//!   "hypervisor": "QEMU (simulated)",
//!   "type": "emulated",
//!   "running": true,
//!   "models": { "ich9-ehci1": "cold", "xenusb2": "no" },
//!   "kinds": { "mtp": "no" },
//!   "slots": 4,
//!   "hardware": [],
//!   "foreign": ["hci0"],
//!   "absent": ["stick"],
//!   "faults": [{ "step": "plug", "nth": 2, "fault": "timeout" }]
//! }
//! ```
//!
//! | field | meaning | if left out |
//! |---|---|---|
//! | `hypervisor` | what it is called in sentences | `QEMU (simulated)` |
//! | `type` | what type `auto` means: `emulated` or `pv` | `emulated` |
//! | `running` | whether only what is `hot` can be had | `true` |
//! | `models`, `kinds` | `hot`, `cold` or `no` for a model or a kind of device | as QEMU |
//! | `slots` | how many emulated controllers there is room for in all | no limit |
//! | `hardware` | the controllers and what is on them, as a record has them | none |
//! | `foreign` | names in `hardware` that vusb did not make | none: all is vusb's own |
//! | `absent` | names of devices that the guest does not see at the moment | none |
//! | `given` | for host devices, where they were plugged in when they were given | none |
//! | `unreachable` | why nobody can reach it | it can be reached |
//! | `faults` | what goes wrong, and when | nothing |
//!
//! A fault's `step` is how the step's text begins ([`Step`]'s `Display`, or `observe`); it befalls the `nth` such step
//! (1 if left out; 0 is each of them), counted in `seen` across processes. What befalls it:
//!
//! | `fault` | what happens |
//! |---|---|
//! | `fail` | the step is refused |
//! | `timeout` | the step is not taken, and a time-out is reported |
//! | `unreachable` | the step is not taken, and the connection is lost midway |
//! | `happens-anyway` | the step is taken, and a time-out is reported |
//! | `hang` | nothing, for a minute; then a time-out is reported |
//! | `hang-after` | the step is taken, and then nothing for a minute |
//!
//! Each step is one atomic replacement of the file under a lock (`FILE.lock`), so that two processes may work on one
//! guest, and a process may be killed at any moment. Fields that are not in the table are kept.

mod fault;
mod file;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vusb_model::address::Address;
use vusb_model::capabilities::{Capabilities, Slots, Support};
use vusb_model::device::Kind;
use vusb_model::diff::Step;
use vusb_model::guest::Guest;
use vusb_model::hardware::{Controller, Hardware, Item, PciAddress};
use vusb_model::models::{ControllerType, ICH9_EHCI_FUNCTION, Model};
use vusb_model::spec::Spec;

use crate::driver::{DeviceState, Driver, Error, Observed};
use fault::What;
use file::{Had, State};

/// A simulated hypervisor.
#[derive(Debug)]
pub struct Sim {
    path: PathBuf,
}

/// How long a hang lasts: longer than any test waits, and not for ever.
const HANG: Duration = Duration::from_secs(60);

/// The first PCI slot that a controller gets: those below are the machine's own, as on QEMU's `pc`.
const FIRST_SLOT: u8 = 4;
/// One more than the last slot of a PCI bus.
const END_SLOT: u8 = 32;

impl Sim {
    /// The hypervisor in the file at `path`, which need not be there yet.
    ///
    /// # Errors
    /// The file is there and is none.
    pub fn open(path: &Path) -> Result<Sim, Error> {
        let sim = Sim { path: path.to_owned() };
        file::read(&sim.path)?;
        Ok(sim)
    }

    /// What is in the file, if the hypervisor can be reached.
    fn state(&self) -> Result<State, Error> {
        let state = file::read(&self.path)?;
        match &state.unreachable {
            Some(why) => Err(Error::Unreachable {
                domain: file::domain(&self.path),
                why: why.clone(),
                midway: false,
            }),
            None => Ok(state),
        }
    }

    /// What befalls the step whose text is `text`, if anything does; it counts as seen from then on.
    fn befalls(&self, text: &str) -> Result<Option<What>, Error> {
        if !self.state()?.faults.iter().any(|fault| fault.matches(text)) {
            return Ok(None);
        }
        file::change(&self.path, |state| Ok(fault::next(&mut state.faults, text)))
    }

    fn take(&self, step: &Step) -> Result<(), Error> {
        file::change(&self.path, |state| take(state, step))
    }

    fn hang(&self, text: &str) -> Error {
        std::thread::sleep(HANG);
        timed_out(text)
    }
}

impl Driver for Sim {
    fn observe(&mut self, _recorded: &Hardware) -> Result<Observed, Error> {
        if let Some(what) = self.befalls("observe")? {
            return Err(match what {
                What::Fail => failed("observe", "it was told to fail"),
                What::Unreachable => self.lost(),
                What::Timeout | What::HappensAnyway => timed_out("observe"),
                What::Hang | What::HangAfter => self.hang("observe"),
            });
        }
        Ok(observed(&self.state()?))
    }

    fn capabilities(&mut self, _: Option<&Spec>) -> Result<Capabilities, Error> {
        self.state().map(|state| capabilities(&state))
    }

    fn check(&mut self, steps: &[Step]) -> Result<(), Error> {
        let state = self.state()?;
        let capabilities = capabilities(&state);
        steps.iter().try_for_each(|step| check(&capabilities, step))
    }

    fn perform(&mut self, step: &Step) -> Result<(), Error> {
        let text = step.to_string();
        match self.befalls(&text)? {
            None => self.take(step),
            Some(What::Fail) => Err(failed(&text, "it was told to fail")),
            Some(What::Timeout) => Err(timed_out(&text)),
            Some(What::Unreachable) => Err(self.lost()),
            Some(What::HappensAnyway) => self.take(step).and(Err(timed_out(&text))),
            Some(What::Hang) => Err(self.hang(&text)),
            Some(What::HangAfter) => {
                self.take(step)?;
                Err(self.hang(&text))
            }
        }
    }
}

impl Sim {
    fn lost(&self) -> Error {
        let why = "it was told to lose the connection".to_owned();
        Error::Unreachable { domain: file::domain(&self.path), why, midway: true }
    }
}

fn failed(what: &str, why: &str) -> Error {
    Error::Failed { what: what.to_owned(), why: why.to_owned() }
}

fn timed_out(what: &str) -> Error {
    let why = "it was told to take long".to_owned();
    Error::TimedOut { what: what.to_owned(), limit: HANG, why }
}

fn observed(state: &State) -> Observed {
    let hardware = state.hardware.clone();
    let names: BTreeSet<_> = hardware
        .controllers()
        .map(|controller| &controller.name)
        .chain(hardware.devices().map(|(_, device)| &device.name))
        .filter(|name| !state.foreign.contains(*name))
        .cloned()
        .collect();
    let at = |name| match hardware.named(name) {
        Some(Item::Device(address)) => Some(address),
        _ => None,
    };
    let states = state.absent.iter().filter_map(at).map(|at| (at, DeviceState::Absent)).collect();
    let given = state.given.iter().filter_map(|(name, place)| Some((at(name)?, *place))).collect();
    Observed { ours: names, states, given, hardware, ..Observed::default() }
}

fn capabilities(state: &State) -> Capabilities {
    let used = || {
        let emulated = |it: &&Controller| it.model.controller_type() == ControllerType::Emulated;
        state.hardware.controllers().filter(emulated).count()
    };
    let support = |had: Had| match had {
        Had::Hot => Support::Hot,
        Had::Cold => Support::Cold { why: "it takes this at a start only".to_owned() },
        Had::No => Support::No { why: "it does not have this".to_owned() },
    };
    Capabilities {
        hypervisor: state.hypervisor.clone(),
        default_type: state.default_type,
        running: state.running,
        models: state.models().map(|(model, had)| (model, support(had))).collect(),
        kinds: state.kinds().map(|(kind, had)| (kind, support(had))).collect(),
        slots: state.slots.map(|slots| Slots {
            free: slots.saturating_sub(used()),
            remedy: "no PCI slot is free; raise `slots` in its file".to_owned(),
        }),
        guest: Guest::default(),
    }
}

fn check(capabilities: &Capabilities, step: &Step) -> Result<(), Error> {
    let (what, answer) = match step {
        Step::AddController(it) => {
            (format!("a {} controller", it.model), capabilities.model(it.model))
        }
        Step::Plug(_, it) => {
            (format!("a device of kind {}", it.kind.word()), capabilities.kind(it.kind.word()))
        }
        Step::RemoveController(_) | Step::Unplug(..) => return Ok(()),
    };
    let by = capabilities.hypervisor.clone();
    answer.map_err(|why| Error::NotImplemented { what, by, why })
}

/// Takes the step, as a hypervisor would: it says no to what does not fit what it has.
fn take(state: &mut State, step: &Step) -> Result<(), Error> {
    let text = step.to_string();
    check(&capabilities(state), step)?;
    let refuse = |why: String| Error::Failed { what: text.clone(), why };
    match step {
        Step::AddController(wanted) => {
            let mut controller = wanted.bare();
            if controller.model.controller_type() == ControllerType::Emulated {
                let pci = slot_for(state, &controller).map_err(refuse)?;
                controller.pci = Some(pci);
            }
            state.hardware.add_controller(controller)
        }
        Step::RemoveController(it) => {
            if state.hardware.controller(it.index).is_none() {
                return Err(refuse("there is no such controller".to_owned()));
            }
            step.apply(&mut state.hardware)
        }
        Step::Plug(address, device) => {
            if let Kind::Host(host) = &device.kind {
                state.given.extend(host.at.map(|at| (device.name.clone(), at)));
            }
            state.hardware.plug(*address, device.clone())
        }
        Step::Unplug(address, _) => return unplug(state, *address).map_err(refuse),
    }
    .map_err(|refusal| refuse(refusal.to_string()))
}

fn unplug(state: &mut State, address: Address) -> Result<(), String> {
    let gone = state.hardware.unplug(address);
    if gone.is_empty() {
        return Err("nothing is plugged in there".to_owned());
    }
    for (_, device) in gone {
        state.given.remove(&device.name);
        state.absent.remove(&device.name);
    }
    Ok(())
}

/// Where a new controller goes on PCI: where it is told to, or in the lowest free slot.
fn slot_for(state: &State, controller: &Controller) -> Result<PciAddress, String> {
    let taken = |pci: &PciAddress| {
        let mut others = state.hardware.controllers().filter_map(|it| it.pci.as_ref());
        others.any(|other| other.bus == pci.bus && other.slot == pci.slot)
    };
    if let Some(pci) = &controller.pci {
        return if taken(pci) { Err(format!("{pci} is in use")) } else { Ok(pci.clone()) };
    }
    let function = if controller.model == Model::Ich9Ehci1 { ICH9_EHCI_FUNCTION } else { 0 };
    // A PCI bus has 32 slots; a simulated machine has as many buses as it needs.
    (0..=u8::MAX)
        .flat_map(|bus| (FIRST_SLOT..END_SLOT).map(move |slot| (bus, slot)))
        .map(|(bus, slot)| PciAddress { bus: format!("pci.{bus}"), slot, function })
        .find(|pci| !taken(pci))
        .ok_or_else(|| "no PCI slot is free".to_owned())
}
