//! One operation on one domain.
//!
//! ```text
//!            lock ─▶ read record ─▶ connect ─▶ observe ─▶ recover an interrupted change
//!                                                            │
//!   Open  ◀── inventory = observed and missing items ◀───────┘
//!    │ plan(change):  diff ─▶ vet ─▶ driver checks the steps         nothing is changed so far
//!    ▼
//!   Planned
//!    │ commit():  claims and intent saved ─▶ steps, one at a time ─▶ observe ─▶ record saved
//!    ▼            (dry run: claims checked, steps taken in memory)
//!   Committed ─▶ Outcome
//! ```
//!
//! A dry run takes no lock and saves nothing. Its steps are taken on the observed hardware in
//! memory, so that its result is found in the same way as that of the real run.

pub(crate) mod claims;
mod commit;
mod plan;
mod stale;

use std::collections::BTreeSet;

use vusb_drivers::{Driver, GuestIdentity, Observed, When};
use vusb_model::address::{Address, Index};
use vusb_model::capabilities::Capabilities;
use vusb_model::diff::Step;
use vusb_model::hardware::Hardware;
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::refusal::Refusal;
use vusb_model::resolve::{Refused, Resolved, resolve};
use vusb_model::spec::Spec;

use crate::address::DomainAddress;
use crate::call::{Call, is_gone};
use crate::error::Error;
use crate::host_devices::HostDevices;
use crate::inventory::Inventory;
use crate::lock::{self, Lock};
use crate::names;
use crate::note::Note;
use crate::outcome::Outcome;
use crate::record::{Header, Record, Records};
use crate::speeds;

/// An operation on an observed domain.
pub(crate) struct Open<'a> {
    pub(crate) call: Call<'a>,
    pub(crate) domain: DomainAddress,
    pub(crate) host_devices: HostDevices<'a>,
    records: Records,
    /// Held until the operation ends; `None` in a dry run, and after [`Open::look`].
    _lock: Option<Lock>,
    /// The record as it is on the disk.
    saved: Option<Record>,
    /// The claims of earlier records that this operation has replaced on the disk.
    earlier_claims: BTreeSet<String>,
    /// The record as it will be.
    pub(crate) record: Record,
    /// The guest that runs now.
    guest: Option<GuestIdentity>,
    pub(crate) driver: Box<dyn Driver>,
    /// What was last observed.
    pub(crate) observed: Observed,
    /// The devices that this call unplugged, with their back ends.
    pub(crate) unplugged: BTreeSet<Name>,
    notes: Vec<Note>,
}

/// An operation may move to another thread, with its driver, its locks and its view of the host.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Open<'_>>();
    is_send::<HostDevices<'_>>();
};

/// A change of a domain.
pub(crate) struct Change {
    /// The inventory to record: what the guest will have, and what stays missing.
    pub(crate) target: Inventory,
    /// Devices of the guest that are detached and attached again: see [`Open::stale`].
    pub(crate) reattach: BTreeSet<Address>,
    /// Controllers of the guest that are recreated with their devices: see [`Open::disconnected`].
    pub(crate) recreate: BTreeSet<Index>,
    /// Devices that were just found to be available ([`Open::check_available`]). Reading a host
    /// device and everything that may use it takes longer than most steps, so they are not checked
    /// again.
    pub(crate) available: BTreeSet<Address>,
    /// What the record says about the domain as a whole from now on; `None` if that does not
    /// change.
    pub(crate) header: Option<Header>,
}

impl Change {
    /// A change of the inventory alone.
    pub(crate) fn to(target: Inventory) -> Change {
        Change {
            target,
            reattach: BTreeSet::new(),
            recreate: BTreeSet::new(),
            available: BTreeSet::new(),
            header: None,
        }
    }
}

/// An operation whose steps are known and were checked.
pub(crate) struct Planned<'a> {
    open: Open<'a>,
    change: Change,
    steps: Vec<Step>,
}

/// A completed operation.
pub(crate) struct Committed<'a> {
    pub(crate) open: Open<'a>,
    pub(crate) steps: Vec<Step>,
}

impl<'a> Open<'a> {
    /// Begins an operation that changes the domain, or in a dry run only plans to.
    ///
    /// # Errors
    /// The domain is locked, its record is damaged, or it cannot be reached; or an interrupted
    /// change could be neither finished nor undone.
    pub(crate) fn begin(call: &Call<'a>, domain: &DomainAddress) -> Result<Open<'a>, Error> {
        let records = call.records();
        let lock = if call.is_dry() { None } else { Some(take_lock(&records, call, domain)?) };
        let mut open = Open::observe_first(call, domain, records, lock)?;
        open.recover()?;
        open.merge();
        open.identify();
        Ok(open)
    }

    /// Looks at a domain without its lock and without changing anything, so that a domain can be
    /// shown while a command works on it.
    ///
    /// # Errors
    /// Its record is damaged, or it cannot be reached; [`Error::Busy`] if it does not reply while
    /// another command works on it.
    pub(crate) fn look(call: &Call<'a>, domain: &DomainAddress) -> Result<Open<'a>, Error> {
        let records = call.records();
        let lock = records.path(&domain.for_lock(), "lock");
        let looked = Open::observe_first(call, domain, records, None);
        let mut open = looked.map_err(|error| {
            // A hypervisor that serves one client at a time is serving that command.
            let silent = matches!(&error, Error::Driver(it) if !is_gone(domain, it));
            match lock::held(&lock).filter(|_| silent) {
                Some(pid) => {
                    let what = format!("the lock of {domain}");
                    Error::Busy { what, pid, waited: call.options.wait }
                }
                None => error,
            }
        })?;
        open.include_pending();
        open.merge();
        open.identify();
        open.leave_out_pending();
        Ok(open)
    }

    fn observe_first(
        call: &Call<'a>,
        domain: &DomainAddress,
        records: Records,
        mut lock: Option<Lock>,
    ) -> Result<Open<'a>, Error> {
        let mut saved = if domain.has_record() { records.read(domain.as_str())? } else { None };
        let mut driver = call.open_driver(domain, lock.is_some())?;
        let mut observed = driver.observe(&recorded_hardware(saved.as_ref()))?;
        let identity = driver.identity();
        // An address without a record may be a second address of a guest that has a record.
        if let (None, Some(guest)) = (&saved, &identity) {
            if let Some(address) = records.address_of(guest) {
                if lock.is_some() {
                    let path = records.path(&address, "lock");
                    lock = Some(Lock::take(&path, &format!("the lock of {address}"), call)?);
                }
                saved = records.read(&address)?;
                observed = driver.observe(&recorded_hardware(saved.as_ref()))?;
            }
        }
        let mut record = saved.clone().unwrap_or_else(|| Record::new(domain));
        if let Some(profile) = driver.profile() {
            record.profile = profile;
        }
        let mut notes = Vec::new();
        if record.name.is_none() {
            let (name, note) = names::of_guest(driver.as_ref(), &records, domain)?;
            record.name = name;
            notes.extend(note);
        }
        record.identity = identity.clone().or(record.identity);
        Ok(Open {
            call: call.clone(),
            domain: domain.clone(),
            host_devices: HostDevices::new(call, Some(domain)),
            records,
            _lock: lock,
            saved,
            earlier_claims: BTreeSet::new(),
            record,
            guest: identity,
            driver,
            observed,
            unplugged: BTreeSet::new(),
            notes,
        })
    }

    /// Merges the observed hardware into the record's inventory.
    pub(crate) fn merge(&mut self) {
        self.merge_after(&[]);
    }

    /// As [`Open::merge`], after these steps. An item that the driver has just added through
    /// another tool belongs to that tool, but is not noted as taken over.
    fn merge_after(&mut self, steps: &[Step]) {
        let Observed { hardware, ours, .. } = &self.observed;
        let (merged, notes) = Inventory::merge(hardware, ours, &self.record.inventory);
        self.record.inventory = merged;
        let is_added = |name: &Name| {
            steps.iter().any(|step| match step {
                Step::Plug(_, device) => device.name == *name,
                Step::AddController(controller) => controller.name == *name,
                Step::Unplug(..) | Step::RemoveController(_) => false,
            })
        };
        for note in notes {
            if !matches!(&note, Note::TakenOver { name } if is_added(name)) {
                self.note(note);
            }
        }
    }

    /// Finds out which host devices the guest has, as far as that is not recorded.
    fn identify(&mut self) {
        if !self.is_file() {
            self.host_devices.identify(&mut self.record.inventory, &self.observed.given);
        }
    }

    /// What the domain has and should have.
    pub(crate) const fn inventory(&self) -> &Inventory {
        &self.record.inventory
    }

    /// The hardware that the domain has or should have.
    pub(crate) const fn hardware(&self) -> &Hardware {
        self.record.inventory.hardware()
    }

    /// Adds a note, once.
    pub(crate) fn note(&mut self, note: Note) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// What the driver noticed when it observed the guest.
    pub(crate) fn observed_notes(&self) -> impl Iterator<Item = Note> {
        self.observed.notes.iter().map(|message| Note::Other { message: message.clone() })
    }

    /// The notes so far.
    pub(crate) fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Whether the domain is a config file.
    pub(crate) fn is_file(&self) -> bool {
        !self.domain.has_record()
    }

    /// Whether the change gives nothing to a guest now: the domain is a config file or does not
    /// run, or the change is for its next start. Then it needs no claims, and another guest may
    /// have the device now.
    pub(crate) fn gives_nothing_now(&self) -> bool {
        self.is_file() || self.observed.off || self.call.options.when == When::Next
    }

    pub(crate) const fn is_dry(&self) -> bool {
        self.call.is_dry()
    }

    /// Everything that the hypervisor can do.
    pub(crate) fn capabilities(&mut self) -> Result<Capabilities, Error> {
        Ok(self.driver.capabilities(None)?)
    }

    /// Resolves a request on top of the domain's hardware. The hypervisor is asked only for the
    /// capabilities that the request needs. If it lacks them, it is asked for all, so that the
    /// refusal can name alternatives.
    pub(crate) fn resolve(&mut self, request: &Spec) -> Result<Resolved, Error> {
        self.resolve_on(&self.hardware().clone(), request)
    }

    /// As [`Open::resolve`], on top of `base`, a part of the domain's hardware.
    pub(crate) fn resolve_on(
        &mut self,
        base: &Hardware,
        request: &Spec,
    ) -> Result<Resolved, Error> {
        let request = &self.with_canonical_backends(request.clone())?;
        let needed = self.driver.capabilities(Some(request))?;
        match resolve(base, request, &needed) {
            Err(Refused {
                refusal: Refusal::NotImplemented { .. } | Refusal::NoSlot { .. },
                ..
            }) => {
                let all = self.capabilities()?;
                let resolved = resolve(base, request, &all);
                Ok(resolved.map_err(|refused| refused.report_missing_slot(&all))?)
            }
            resolved => Ok(resolved?),
        }
    }

    /// The request with its backend domains in the form that records use.
    pub(crate) fn with_canonical_backends(&mut self, mut request: Spec) -> Result<Spec, Error> {
        for controller in &mut request.controllers {
            if let Some(backend) = &controller.backend {
                controller.backend = self.driver.backend(backend)?;
            }
        }
        Ok(request)
    }

    /// The profile that the domain's hardware is resolved with.
    pub(crate) const fn profile(&self) -> Profile {
        self.record.profile
    }

    /// The inventory that has the device of a step that is to be taken, or at least its controller:
    /// the target of the pending change, or the present inventory.
    pub(crate) fn inventory_for(&self, step: &Step) -> &Inventory {
        let Step::Plug(at, device) = step else { return self.inventory() };
        let target = self.record.pending.as_ref().map(|it| &it.target);
        let all = || target.into_iter().chain([self.inventory()]);
        let has = |it: &&Inventory| {
            it.hardware().device(*at).is_some_and(|there| there.kind == device.kind)
        };
        let controls = |it: &&Inventory| it.hardware().controller(at.bus).is_some();
        all().find(has).or_else(|| all().find(controls)).unwrap_or_else(|| self.inventory())
    }

    /// Observes again.
    pub(crate) fn observe(&mut self) -> Result<(), Error> {
        self.observed = self.driver.observe(self.record.combined().hardware())?;
        Ok(())
    }

    /// Takes a step in memory, for a dry run.
    pub(crate) fn apply_in_memory(&mut self, step: &Step) -> Result<(), Error> {
        step.apply(&mut self.observed.hardware)?;
        match step {
            Step::AddController(it) => self.observed.ours.insert(it.name.clone()),
            Step::Plug(_, it) => self.observed.ours.insert(it.name.clone()),
            Step::RemoveController(_) | Step::Unplug(..) => false,
        };
        Ok(())
    }
}

impl Committed<'_> {
    /// The result of the operation.
    pub(crate) fn outcome(self) -> Outcome {
        let Committed { open, steps } = self;
        let hardware = open.record.inventory.hardware().clone();
        let slower = speeds::notes(&hardware, &steps);
        let terminals = terminals(&open.observed, &steps);
        // A warning about a file also matters to the user who edits it.
        let warnings: Vec<Note> =
            if open.is_file() { open.observed_notes().collect() } else { Vec::new() };
        Outcome {
            steps,
            dry_run: open.call.is_dry(),
            notes: warnings.into_iter().chain(open.notes).chain(slower).chain(terminals).collect(),
            ..Outcome::new(open.record.display_name().to_owned(), hardware)
        }
    }
}

/// A note for each terminal that a new serial adapter is connected to.
fn terminals(observed: &Observed, steps: &[Step]) -> Vec<Note> {
    let note = |step: &Step| match step {
        Step::Plug(at, device) => {
            let path = observed.terminals.get(at)?.clone();
            Some(Note::Terminal { name: device.name.clone(), path })
        }
        _ => None,
    };
    steps.iter().filter_map(note).collect()
}

/// Takes the domain's lock.
pub(crate) fn take_lock(
    records: &Records,
    call: &Call<'_>,
    domain: &DomainAddress,
) -> Result<Lock, Error> {
    records.create_folder()?;
    let path = records.path(&domain.for_lock(), "lock");
    Lock::take(&path, &format!("the lock of {domain}"), call)
}

/// The hardware in a record, including the items that a pending change adds or removes.
fn recorded_hardware(record: Option<&Record>) -> Hardware {
    record.map_or_else(Hardware::new, |record| record.combined().hardware().clone())
}
