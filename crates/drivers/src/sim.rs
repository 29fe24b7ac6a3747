//! A simulated hypervisor, `sim:FILE`: for learning, and for tests of everything above a driver.
//!
//! Its whole state is in one JSON file, which can be edited at any time. If the file does not
//! exist, the guest is new, runs, and can do what QEMU can; the file is written by the first step.
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
//! | `hypervisor` | its name in messages | `QEMU (simulated)` |
//! | `type` | what type `auto` means: `emulated` or `pv` | `emulated` |
//! | `running` | whether only `hot` models and kinds are available | `true` |
//! | `models` | `hot`, `cold` or `no` for a model | as QEMU; with type `pv` as PVUSB |
//! | `kinds` | `hot`, `cold` or `no` for a kind of device | `hot` |
//! | `slots` | the maximum number of emulated controllers | no limit |
//! | `hardware` | the controllers and their devices, as in a record | none |
//! | `foreign` | names in `hardware` that vusb did not create | none: vusb created all |
//! | `absent` | names of devices that the guest does not see at the moment | none |
//! | `backends` | the names of devices whose back end exists, such as an open image | none |
//! | `given` | the bus and address that host devices had when they were attached | none |
//! | `unreachable` | why it cannot be reached | it can be reached |
//! | `identity` | two files with equal identities are one guest | every file is a guest |
//! | `process` | the process that the guest ends with: `boot`, `pid` and `start`, as in a claim | none |
//! | `faults` | what goes wrong, and when | nothing |
//!
//! A fault's `step` is the beginning of the step's text ([`Step`]'s `Display`, or `observe`). The
//! fault affects the `nth` such step (1 if left out; 0 is each of them), counted in `seen` across
//! processes:
//!
//! | `fault` | what happens |
//! |---|---|
//! | `fail` | the step is refused |
//! | `timeout` | the step is not taken, and a time-out is reported |
//! | `unreachable` | the step is not taken, and the connection is lost midway |
//! | `happens-anyway` | the step is taken, and a time-out is reported |
//! | `slow` | the step is taken, and reported a second later |
//! | `hang` | nothing, for a minute; then a time-out is reported |
//! | `hang-after` | the step is taken, and then nothing happens for a minute |
//!
//! Each step replaces the file atomically under a lock (`FILE.lock`), so that two processes can
//! work on one guest, and a process can be killed at any moment. Fields that are not in the table
//! are kept.

mod fault;
mod file;
mod scheme;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vusb_model::address::Address;
use vusb_model::capabilities::{Capabilities, Slots, Support};
use vusb_model::device::Kind;
use vusb_model::diff::Step;
use vusb_model::guest::Guest;
use vusb_model::hardware::{Controller, Device, Hardware, Item, PciAddress};
use vusb_model::models::{ControllerType, ICH9_EHCI_FUNCTION, Model};
use vusb_model::spec::Spec;

pub use self::scheme::SimScheme;
use crate::driver::{DeviceState, Driver, Error, Observed};
use crate::identity::{GuestIdentity, Process};
use fault::Effect;
use file::{SimSupport, State};

/// A simulated hypervisor.
#[derive(Debug)]
pub struct Sim {
    path: PathBuf,
}

/// How long a slow step takes: long enough to interrupt it.
const SLOW: Duration = Duration::from_secs(1);

/// How long a hang lasts: longer than any test waits.
const HANG: Duration = Duration::from_secs(60);

/// The first PCI slot for controllers. The machine uses those below it, as on QEMU's `pc`.
const FIRST_SLOT: u8 = 4;
/// One more than the last slot of a PCI bus.
const END_SLOT: u8 = 32;

impl Sim {
    /// The hypervisor in the file at `path`, which need not exist yet.
    ///
    /// # Errors
    /// The file exists but cannot be read or parsed.
    pub fn open(path: &Path) -> Result<Sim, Error> {
        let sim = Sim { path: path.to_owned() };
        file::read(&sim.path)?;
        Ok(sim)
    }

    /// The content of the file, if the hypervisor can be reached.
    fn state(&self) -> Result<State, Error> {
        let state = file::read(&self.path)?;
        let unreachable = state.unreachable.clone().or_else(|| {
            let ended = state.process.as_ref().is_some_and(Process::has_ended);
            ended.then(|| "its process has ended".to_owned())
        });
        match unreachable {
            Some(why) => Err(Error::Unreachable {
                domain: file::domain(&self.path),
                why: why.into(),
                midway: false,
            }),
            None => Ok(state),
        }
    }

    /// The fault of the step with this text, if it has one. It counts as seen from then on.
    fn fault_of(&self, text: &str) -> Result<Option<Effect>, Error> {
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
        match self.fault_of("observe")? {
            None => {}
            Some(Effect::Slow) => std::thread::sleep(SLOW),
            Some(Effect::Fail) => return Err(failed("observe", "it was told to fail")),
            Some(Effect::Unreachable) => return Err(self.lost()),
            Some(Effect::Timeout | Effect::HappensAnyway) => return Err(timed_out("observe")),
            Some(Effect::Hang | Effect::HangAfter) => return Err(self.hang("observe")),
        }
        Ok(observed(&self.state()?))
    }

    fn capabilities(&mut self, _: Option<&Spec>) -> Result<Capabilities, Error> {
        self.state().map(|state| capabilities(&state))
    }

    fn identity(&mut self) -> Option<GuestIdentity> {
        let state = file::read(&self.path).ok()?;
        let own = state.identity.map(|identity| GuestIdentity::new("sim", identity));
        own.or_else(|| Some(GuestIdentity::of_process("sim", &state.process?)))
    }

    fn check(&mut self, steps: &[Step]) -> Result<(), Error> {
        let state = self.state()?;
        let capabilities = capabilities(&state);
        steps.iter().try_for_each(|step| check(&capabilities, step))
    }

    fn perform(&mut self, step: &Step) -> Result<(), Error> {
        if let Step::Plug(_, device) = step {
            self.add_backend(device)?;
        }
        let taken = self.perform_faulty(step);
        match (step, &taken) {
            (Step::Unplug(_, device), Ok(()))
            | (Step::Plug(_, device), Err(Error::Failed { .. })) => {
                self.remove_backends(std::slice::from_ref(device))?;
            }
            _ => {}
        }
        taken
    }

    fn remove_backends(&mut self, devices: &[Device]) -> Result<(), Error> {
        if !devices.iter().any(|device| has_backend(&device.kind)) {
            return Ok(());
        }
        file::change(&self.path, |state| {
            state.backends.retain(|name| devices.iter().all(|device| device.name != *name));
            Ok(())
        })
    }
}

impl Sim {
    /// Takes the step, with the fault that it has.
    fn perform_faulty(&self, step: &Step) -> Result<(), Error> {
        let text = step.to_string();
        match self.fault_of(&text)? {
            None => self.take(step),
            Some(Effect::Fail) => Err(failed(&text, "it was told to fail")),
            Some(Effect::Timeout) => Err(timed_out(&text)),
            Some(Effect::Unreachable) => Err(self.lost()),
            Some(Effect::HappensAnyway) => self.take(step).and(Err(timed_out(&text))),
            Some(Effect::Slow) => {
                self.take(step)?;
                std::thread::sleep(SLOW);
                Ok(())
            }
            Some(Effect::Hang) => Err(self.hang(&text)),
            Some(Effect::HangAfter) => {
                self.take(step)?;
                Err(self.hang(&text))
            }
        }
    }
}

impl Sim {
    /// As in QEMU, a back end is added before its device, and removed after it.
    fn add_backend(&self, device: &Device) -> Result<(), Error> {
        if !has_backend(&device.kind) {
            return Ok(());
        }
        file::change(&self.path, |state| {
            state.backends.insert(device.name.clone());
            Ok(())
        })
    }

    fn lost(&self) -> Error {
        let why = "it was told to lose the connection".to_owned();
        Error::Unreachable { domain: file::domain(&self.path), why: why.into(), midway: true }
    }
}

/// Whether a device of this kind has a back end of its own.
const fn has_backend(kind: &Kind) -> bool {
    matches!(kind, Kind::Storage(_) | Kind::Serial(_) | Kind::Redir(_) | Kind::Net(_))
}

fn failed(what: &str, why: &str) -> Error {
    Error::Failed { what: what.to_owned(), why: why.into() }
}

fn timed_out(what: &str) -> Error {
    let why = "it was told to take long".to_owned();
    Error::TimedOut { what: what.to_owned(), limit: HANG, why: why.into() }
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
    let given =
        state.given.iter().filter_map(|(name, bus_address)| Some((at(name)?, *bus_address)));
    let given = given.collect();
    Observed { ours: names, states, given, hardware, ..Observed::default() }
}

fn capabilities(state: &State) -> Capabilities {
    let used = || {
        let emulated = |it: &&Controller| it.model.controller_type() == ControllerType::Emulated;
        state.hardware.controllers().filter(emulated).count()
    };
    let support = |it: SimSupport| match it {
        SimSupport::Hot => Support::Hot,
        SimSupport::Cold => Support::Cold { why: "it takes this only when it starts".to_owned() },
        SimSupport::No => Support::Unsupported { why: "it does not have this".to_owned() },
    };
    Capabilities {
        hypervisor: state.hypervisor.clone(),
        default_type: state.default_type,
        running: state.running,
        models: state.models().map(|(model, it)| (model, support(it))).collect(),
        kinds: state.kinds().map(|(kind, it)| (kind, support(it))).collect(),
        slots: state.slots.map(|slots| Slots {
            free: slots.saturating_sub(used()),
            reason: "no PCI slot is free; raise `slots` in its file".into(),
        }),
        guest: Guest::default(),
    }
}

fn check(capabilities: &Capabilities, step: &Step) -> Result<(), Error> {
    let (what, answer) = match step {
        Step::AddController(it) => {
            (format!("a {} controller", it.model), capabilities.check_model(it.model))
        }
        Step::Plug(_, it) => (
            format!("a device of kind {}", it.kind.name()),
            capabilities.check_kind(it.kind.name()),
        ),
        Step::RemoveController(_) | Step::Unplug(..) => return Ok(()),
    };
    let by = capabilities.hypervisor.clone();
    answer.map_err(|why| Error::NotImplemented { what, by, why: why.into() })
}

/// Takes the step as a hypervisor would: it refuses what does not fit its hardware.
fn take(state: &mut State, step: &Step) -> Result<(), Error> {
    let text = step.to_string();
    check(&capabilities(state), step)?;
    let refuse = |why: String| Error::Failed { what: text.clone(), why: why.into() };
    match step {
        Step::AddController(wanted) => {
            let mut controller = wanted.without_devices();
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
                state.given.extend(host.bus_address.map(|at| (device.name.clone(), at)));
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

/// The PCI address of a new controller: the requested one, or the lowest free slot.
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
