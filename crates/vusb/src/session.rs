//! One operation on one domain: what it has, what is remembered of it, and how it is changed.
//!
//! ```text
//!  open:    lock ─▶ read record ─▶ connect ─▶ observe ─▶ recover what was cut short ─▶ base = observed and missing
//!  commit:  diff ─▶ vet ─▶ check ─▶ claims and intent saved ─▶ steps, one at a time ─▶ observe ─▶ record saved
//! ```
//!
//! In a dry run there is no lock and nothing is saved; steps are taken on what was observed, in memory, so that what a dry
//! run says is found out in the same way as what is then done.

use std::collections::BTreeSet;
use std::path::PathBuf;

use vusb_drivers::{DeviceState, Driver, Observed};
use vusb_model::address::{Address, Index};
use vusb_model::capabilities::Capabilities;
use vusb_model::device::Kind;
use vusb_model::diff::{Step, diff};
use vusb_model::hardware::{Device, Hardware};
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::refusal::Category;
use vusb_model::resolve::{Resolved, resolve};
use vusb_model::spec::Spec;

use crate::domain::DomainId;
use crate::error::Error;
use crate::hosts::Present;
use crate::lock::{self, Lock};
use crate::matching::Owned;
use crate::merge::{Missing, merge, names};
use crate::outcome::{Chosen, Outcome};
use crate::pending::{Pending, Stored};
use crate::record::{Record, Records};
use crate::vusb::Vusb;
use crate::{claims, connect, files};

/// An operation under way.
pub(crate) struct Session<'a> {
    pub(crate) vusb: &'a Vusb,
    pub(crate) domain: DomainId,
    records: Records,
    /// Held until the operation ends; none in a dry run.
    _lock: Option<Lock>,
    /// What is in the record's file, if there is one.
    saved: Option<Record>,
    /// What is remembered.
    pub(crate) record: Record,
    pub(crate) driver: Box<dyn Driver>,
    /// What the guest has.
    pub(crate) observed: Observed,
    /// What it has and what is missing.
    pub(crate) base: Hardware,
    pub(crate) missing: Missing,
    /// What of the base is vusb's own.
    pub(crate) managed: BTreeSet<Name>,
    pub(crate) present: Present<'a>,
    /// What the domain is called, and the rules that it is decided by, once the change is done.
    pub(crate) called: Option<(Option<Name>, Profile)>,
    notes: Vec<String>,
}

/// What is to become of a domain.
pub(crate) struct Change {
    /// All that is to be recorded: what the guest is to have, and what stays missing.
    pub(crate) target: Hardware,
    /// What of it stays missing.
    pub(crate) missing: Missing,
    /// What of it is vusb's own.
    pub(crate) managed: BTreeSet<Name>,
    /// Devices that the guest has and that are to be plugged in anew: see [`Session::stale`].
    pub(crate) renew: BTreeSet<Address>,
    /// Controllers that the guest has and that are to be made anew, with all that is on them: see [`Session::broken`].
    pub(crate) rebuild: BTreeSet<Index>,
}

impl<'a> Session<'a> {
    /// Begins an operation that changes the domain, or in a dry run says how.
    ///
    /// # Errors
    /// Another command is at work on it, its record is damaged, or it cannot be reached. What an earlier command had begun
    /// could neither be finished nor taken back.
    pub(crate) fn open(vusb: &'a Vusb, domain: &DomainId) -> Result<Session<'a>, Error> {
        let records = Records::new(&vusb.state);
        let lock = if vusb.settings.dry_run { None } else { Some(lock(&records, vusb, domain)?) };
        let mut session = Session::begin(vusb, domain, records, lock)?;
        session.recover()?;
        session.rebase();
        Ok(session)
    }

    /// Looks at a domain without the lock and changes nothing, so that one can look while a command is at work.
    ///
    /// # Errors
    /// Its record is damaged, or it cannot be reached; [`Error::Busy`] if it is silent while another command is at work on it.
    pub(crate) fn look(vusb: &'a Vusb, domain: &DomainId) -> Result<Session<'a>, Error> {
        let records = Records::new(&vusb.state);
        let lock = records.path(domain, "lock");
        let mut session = Session::begin(vusb, domain, records, None).map_err(|error| {
            // A hypervisor that talks to one at a time talks to that command.
            let silent = matches!(&error, Error::Driver(it) if !connect::is_gone(domain, it));
            match lock::held(&lock).filter(|_| silent) {
                Some(pid) => {
                    let (what, waited) = (domain.to_string(), vusb.settings.timeout);
                    Error::Busy { what, pid, waited }
                }
                None => error,
            }
        })?;
        session.see_through();
        session.rebase();
        session.leave_out_touched();
        Ok(session)
    }

    fn begin(
        vusb: &'a Vusb,
        domain: &DomainId,
        records: Records,
        lock: Option<Lock>,
    ) -> Result<Session<'a>, Error> {
        // A file is its own record.
        let saved = if domain.is_file() { None } else { records.read(domain)? };
        let mut record = saved.clone().unwrap_or_else(|| Record::new(domain));
        let mut driver = connect::driver(vusb, domain, vusb.settings.timeout)?;
        let observed = driver.observe(&remembered(&record))?;
        if let Some(profile) = driver.profile() {
            record.profile = profile;
        }
        if record.name.is_none() {
            record.name = driver.called().and_then(|name| name.parse().ok());
        }
        Ok(Session {
            vusb,
            domain: domain.clone(),
            records,
            _lock: lock,
            saved,
            record,
            driver,
            observed,
            base: Hardware::new(),
            missing: Missing::default(),
            managed: BTreeSet::new(),
            present: Present::new(vusb, domain),
            called: None,
            notes: Vec::new(),
        })
    }

    /// Finds out anew what the base is, from what is observed and what is remembered.
    pub(crate) fn rebase(&mut self) {
        let Observed { hardware, ours, .. } = &self.observed;
        let base = merge(hardware, ours, &self.record.hardware, &self.record.managed);
        base.notes.into_iter().for_each(|note| self.note(note));
        let called = |name: &Name| base.called.get(name).cloned();
        // Of a thing that is no more, nothing passes on to a newcomer that took its name.
        let added = self.record.added.iter().filter_map(called);
        self.record.added = added.filter(|it| base.managed.contains(it)).collect();
        let places = self.record.places.iter();
        self.record.places =
            places.filter_map(|(name, place)| Some((called(name)?, place.clone()))).collect();
        self.record.hardware = base.hardware.clone();
        self.record.managed = base.managed.clone();
        self.base = base.hardware;
        self.missing = base.missing;
        self.managed = base.managed;
    }

    /// What of the base is vusb's own, and which controllers of that were added for devices alone.
    pub(crate) const fn owned(&self) -> Owned<'_> {
        Owned { managed: &self.managed, added: &self.record.added }
    }

    /// Adds a sentence for the person, once.
    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// All that is to be said.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// All that the hypervisor can do.
    pub(crate) fn capabilities(&mut self) -> Result<Capabilities, Error> {
        Ok(self.driver.capabilities(None)?)
    }

    /// Decides on what is asked for on top of the base. The hypervisor is asked for what that needs; where it cannot have it, for
    /// everything, so that the refusal can say what can be had instead.
    pub(crate) fn resolve(&mut self, asked: &Spec) -> Result<Resolved, Error> {
        let asked = &self.with_backends(asked.clone())?;
        let needed = self.driver.capabilities(Some(asked))?;
        match resolve(&self.base, asked, &needed) {
            Err(refusal) if refusal.category() == Category::NotImplemented => {
                let all = self.capabilities()?;
                Ok(resolve(&self.base, asked, &all)?)
            }
            decided => Ok(decided?),
        }
    }

    /// The folder that the caller's relative paths are relative to.
    pub(crate) fn folder(&self) -> PathBuf {
        self.vusb.settings.folder.clone().unwrap_or_else(|| PathBuf::from("."))
    }

    /// The rules that the domain's hardware is decided by.
    pub(crate) const fn profile(&self) -> Profile {
        self.record.profile
    }

    pub(crate) const fn is_dry(&self) -> bool {
        self.vusb.settings.dry_run
    }

    /// The host devices that the guest was given and that were pulled out and plugged in again since: the hypervisor holds on to
    /// one that is no more, and the new one is here and can be given in its place. What is on a controller that carries nothing comes back with that.
    pub(crate) fn stale(&self) -> BTreeSet<Address> {
        let is_stale = |at: &Address| {
            if self.observed.broken.contains_key(&at.bus) {
                return false;
            }
            let Some(Device { kind: Kind::Host(host), .. }) = self.observed.hardware.device(*at)
            else {
                return false;
            };
            let lost = self.observed.states.get(at) == Some(&DeviceState::Absent);
            let backend = self.present.backend(&self.observed.hardware, *at);
            let here = self.present.find(&host.selector, &backend).ok().flatten();
            here.is_some_and(|here| {
                lost || self.observed.given.get(at).is_some_and(|given| *given != here.at)
            })
        };
        self.observed.hardware.devices().map(|(at, _)| at).filter(is_stale).collect()
    }

    /// Controllers of vusb's own that carry nothing any more: what is on them comes back when they are made anew.
    pub(crate) fn broken(&self) -> BTreeSet<Index> {
        let ours = |index: &&Index| {
            self.base.controller(**index).is_some_and(|it| self.managed.contains(&it.name))
        };
        self.observed.broken.keys().filter(ours).copied().collect()
    }

    /// What is asked for, with each backend domain as it is recorded.
    pub(crate) fn with_backends(&mut self, mut asked: Spec) -> Result<Spec, Error> {
        for controller in &mut asked.controllers {
            if let Some(backend) = &controller.backend {
                controller.backend = self.driver.backend(backend)?;
            }
        }
        Ok(asked)
    }

    /// The hardware that has the controller of a step that is to be taken: what is under way, or what there is.
    pub(crate) fn placing(&self, step: &Step) -> &Hardware {
        let Step::Plug(at, _) = step else { return &self.base };
        let target = self.record.pending.as_ref().map(|it| &it.target);
        let all = target.into_iter().chain([&self.record.hardware, &self.base]);
        all.into_iter()
            .find(|it| it.controller(at.bus).is_some())
            .unwrap_or(&self.observed.hardware)
    }

    /// Observes once more.
    pub(crate) fn observe(&mut self) -> Result<(), Error> {
        self.observed = self.driver.observe(&remembered(&self.record))?;
        Ok(())
    }

    /// Makes the domain what `change` says. The steps that were taken, or in a dry run would be.
    ///
    /// # Errors
    /// It must not be, cannot be, or was not done; what was done before is taken back then.
    pub(crate) fn commit(&mut self, change: Change) -> Result<Vec<Step>, Error> {
        let goal = change.missing.taken_from(&change.target);
        let mut from = self.observed.hardware.clone();
        let keeps = |at: &&Address| {
            goal.device(**at).map(|it| &it.kind)
                == self.observed.hardware.device(**at).map(|it| &it.kind)
        };
        let renew = change.renew.iter().filter(|at| !change.rebuild.contains(&at.bus));
        let out = renew.filter(keeps).flat_map(|at| from.unplug(*at));
        let mut steps: Vec<Step> = out.map(|(at, device)| Step::Unplug(at, device)).collect();
        for index in &change.rebuild {
            steps.extend(taken_apart(&mut from, *index));
        }
        steps.extend(diff(&from, &goal).iter().map(|step| self.present.placed(step, &goal)));
        self.vet(&steps, &goal)?;
        self.driver.check(&steps)?;
        if self.is_dry() {
            claims::check(self.vusb, &self.domain, &self.present, &steps, &change.target)?;
            for step in &steps {
                self.imagine(step)?;
            }
        } else if !steps.is_empty() {
            self.intend(&steps, &change)?;
            self.carry_out(&steps)?;
            self.observe()?;
        }
        if let Some((name, profile)) = self.called.take() {
            self.record.name = name;
            self.record.profile = profile;
        }
        self.settle(change.target, change.managed)?;
        Ok(steps)
    }

    /// Takes a step in memory, for a dry run.
    pub(crate) fn imagine(&mut self, step: &Step) -> Result<(), Error> {
        step.apply(&mut self.observed.hardware)?;
        match step {
            Step::AddController(it) => self.observed.ours.insert(it.name.clone()),
            Step::Plug(_, it) => self.observed.ours.insert(it.name.clone()),
            Step::RemoveController(_) | Step::Unplug(..) => false,
        };
        Ok(())
    }

    /// Whether what the steps plug in is there and may be given. A guest that does not run takes nothing from anybody.
    fn vet(&self, steps: &[Step], goal: &Hardware) -> Result<(), Error> {
        if self.domain.is_file() {
            return Ok(());
        }
        let force = self.vusb.settings.force;
        for step in steps {
            let Step::Plug(at, device) = step else { continue };
            files::check(&device.kind, force)?;
            if let Kind::Host(host) = &device.kind {
                let backend = self.present.backend(goal, *at);
                self.present.may_be_given(&host.selector, &backend, force)?;
            }
        }
        Ok(())
    }

    /// Saves what is about to be done, under the lock of all claims.
    fn intend(&mut self, steps: &[Step], change: &Change) -> Result<(), Error> {
        let limit = self.vusb.settings.timeout;
        let lock = Lock::take(&self.records.claims_lock(), "the list of what is given", limit)?;
        claims::check(self.vusb, &self.domain, &self.present, steps, &change.target)?;
        self.record.places = self.present.places(&change.target, &self.record.places);
        self.record.pending = Some(Pending {
            target: change.target.clone(),
            managed: change.managed.clone(),
            steps: steps.iter().map(Stored::from).collect(),
            back: false,
        });
        self.save()?;
        drop(lock);
        Ok(())
    }

    /// Records what is observed now, with what is missing of `target`; nothing is under way any more.
    pub(crate) fn settle(
        &mut self,
        target: Hardware,
        managed: BTreeSet<Name>,
    ) -> Result<(), Error> {
        self.record.hardware = target;
        self.record.managed = managed;
        self.record.pending = None;
        if self.domain.is_file() {
            self.record.hardware = self.observed.hardware.clone();
        }
        self.rebase();
        self.record.places = self.present.places(&self.base, &self.record.places);
        self.save()
    }

    /// Writes the record, if it is another than the one that is there. Nothing in a dry run.
    pub(crate) fn save(&mut self) -> Result<(), Error> {
        if self.is_dry() || self.domain.is_file() || self.saved.as_ref() == Some(&self.record) {
            return Ok(());
        }
        self.records.save(&self.domain, &mut self.record)?;
        self.saved = Some(self.record.clone());
        Ok(())
    }

    /// What the operation came to.
    pub(crate) fn outcome(self, steps: Vec<Step>, already: bool, at: Option<Chosen>) -> Outcome {
        Outcome {
            domain: self.record.called().to_owned(),
            steps,
            already,
            dry_run: self.is_dry(),
            at,
            added_controllers: Vec::new(),
            notes: self.notes,
            hardware: self.base,
        }
    }
}

/// Takes the domain's lock: one for each domain, whichever of its names it is called by.
pub(crate) fn lock(records: &Records, vusb: &Vusb, domain: &DomainId) -> Result<Lock, Error> {
    records.make_folder()?;
    let path = records.path(&domain.followed(), "lock");
    Lock::take(&path, &domain.to_string(), vusb.settings.timeout)
}

/// The steps that take a controller away with all that is on it, what is deepest first.
fn taken_apart(from: &mut Hardware, index: Index) -> Vec<Step> {
    let Some(controller) = from.remove_controller(index) else { return Vec::new() };
    let devices: Vec<_> = controller.devices().map(|(port, it)| (port, it.clone())).collect();
    let out = devices.into_iter().rev();
    let out = out.map(|(port, device)| Step::Unplug(Address { bus: index, port }, device));
    out.chain([Step::RemoveController(controller.bare())]).collect()
}

/// All that a record knows of: what a driver should keep names and indexes of. What a pending change adds comes first, and
/// beside it what that removes.
pub(crate) fn remembered(record: &Record) -> Hardware {
    match &record.pending {
        None => record.hardware.clone(),
        Some(pending) => {
            let all = names(&record.hardware).cloned().collect();
            let target = names(&pending.target).cloned().collect();
            merge(&pending.target, &target, &record.hardware, &all).hardware
        }
    }
}
