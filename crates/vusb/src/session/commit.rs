//! A change is saved as an intent, its steps are taken, and the result is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use vusb_model::address::Address;
use vusb_model::device::HostRef;
use vusb_model::diff::Step;
use vusb_model::hardware::Device;

use super::claims::release;
use super::{Change, Committed, Open, Planned};
use crate::claims::{self, ClaimRequest};
use crate::error::Error;
use crate::inventory::{Inventory, Key};
use crate::names;
use crate::note::Note;
use crate::options::OnCancel;
use crate::pending::Pending;
use crate::record::{Header, Record};

impl<'a> Planned<'a> {
    /// Takes the steps.
    ///
    /// # Errors
    /// Another domain has a claim on a device or image or has the new name; another guest's command
    /// line names an absent device; the call is cancelled; a step failed, and the steps before it
    /// are undone; or the result cannot be recorded.
    pub(crate) fn commit(self) -> Result<Committed<'a>, Error> {
        let Planned { mut open, mut change, steps } = self;
        let mut leaving = BTreeSet::new();
        let absent = open.newly_absent(&change.target);
        open.check_command_lines(&absent, &change.target)?;
        if open.is_dry() {
            open.check_claims(&steps, &absent, &change.target)?;
            for step in &steps {
                open.apply_in_memory(step)?;
            }
        } else if !steps.is_empty() || !absent.is_empty() {
            let _change = open.call.cancel().begin_change();
            open.call.check()?;
            leaving = open.leaving(&steps);
            open.save_intent(&steps, &absent, &mut change)?;
            open.carry_out(&steps)?;
            let before = open.observed.notes.clone();
            open.observe().map_err(|error| open.not_recorded(&steps, error))?;
            // For a file, the outcome has all observed notes anyway.
            let new = open.observed_notes().filter(|note| match note {
                Note::Other { message } => !open.is_file() && !before.contains(message),
                _ => true,
            });
            new.collect::<Vec<_>>().into_iter().for_each(|note| open.note(note));
            open.cannot_open().into_iter().for_each(|note| open.note(note));
        }
        let Change { target, header, .. } = change;
        open.settle_as(target, header).map_err(|error| open.not_recorded(&steps, error))?;
        release(&open.call, &open.claimant(), &leaving, &open.record);
        Ok(Committed { open, steps })
    }
}

impl<'a> Open<'a> {
    /// Whether the domain has a record on the disk.
    pub(crate) const fn has_record(&self) -> bool {
        self.saved.is_some()
    }

    /// Ends the operation without a change. Its record is not written: if the domain has none, it
    /// still has none, and one that is put there meanwhile is not replaced.
    pub(crate) const fn unchanged(self) -> Committed<'a> {
        Committed { open: self, steps: Vec::new() }
    }

    /// Records the observed hardware and the missing items of `target`. The record then has no
    /// pending change.
    pub(crate) fn settle(&mut self, target: Inventory) -> Result<(), Error> {
        self.remove_backends(&target);
        let pending = self.record.pending.take();
        self.record.inventory = target;
        if self.is_file() {
            self.record.inventory = Inventory::new(self.observed.hardware.clone());
        }
        self.merge_after(pending.as_ref().map_or(&[], |it| &it.steps));
        self.identify();
        if !self.is_dry() && !self.is_file() {
            let mut before = self.saved.as_ref().map(Record::claims).unwrap_or_default();
            before.extend(self.earlier_claims.iter().cloned());
            release(&self.call, &self.claimant(), &before, &self.record);
        }
        self.save()
    }

    /// Removes the back ends of devices that the guest no longer has, although this call did not
    /// unplug them: those of the pending change, and those that the record loses. An interrupted
    /// step or another client removed them.
    fn remove_backends(&mut self, target: &Inventory) {
        let Some(saved) = self.saved.as_ref().filter(|_| !self.is_dry() && !self.is_file()) else {
            return;
        };
        let before = saved.inventory.hardware().devices();
        let dropped = before.filter(|(at, device)| {
            let key = Key::Device(*at);
            saved.inventory.is_managed(key) && target.named(&device.name).is_none()
        });
        let steps = saved.pending.iter().flat_map(|pending| &pending.steps);
        let changed = steps.filter_map(|step| match step {
            Step::Plug(_, device) | Step::Unplug(_, device) => Some(device),
            Step::AddController(_) | Step::RemoveController(_) => None,
        });
        let all = dropped.map(|(_, device)| device).chain(changed);
        let is_left = |device: &&Device| {
            self.observed.hardware.named(&device.name).is_none()
                && !self.unplugged.contains(&device.name)
        };
        let mut left: Vec<Device> = Vec::new();
        for device in all.filter(is_left) {
            if !left.contains(device) {
                left.push(device.clone());
            }
        }
        if left.is_empty() {
            return;
        }
        if let Err(error) = self.driver.remove_backends(&left) {
            self.note(Note::Other { message: error.to_string() });
        }
    }

    /// Writes the record if it has changed. In a dry run, nothing is written.
    pub(crate) fn save(&mut self) -> Result<(), Error> {
        if self.is_dry() || self.is_file() || self.saved.as_ref() == Some(&self.record) {
            return Ok(());
        }
        let has_backends = self.domain.scheme().backends().is_some();
        self.records.save(&mut self.record, has_backends)?;
        let replaced = self.saved.replace(self.record.clone());
        self.earlier_claims.extend(replaced.iter().flat_map(Record::claims));
        Ok(())
    }

    /// The error for a change whose steps are all in effect but that cannot be recorded. Its intent
    /// stays.
    fn not_recorded(&self, steps: &[Step], error: Error) -> Error {
        if steps.is_empty() || self.is_file() || self.is_dry() {
            return error;
        }
        Error::NotRecorded { steps: steps.to_vec(), cause: Box::new(error) }
    }

    /// Until the returned value is dropped, cancelling also marks the intent: if this process ends
    /// before the steps are undone, the next call undoes them.
    pub(crate) fn cancel_with_intent(&self) -> Option<OnCancel> {
        if self.is_file() || self.is_dry() {
            return None;
        }
        let (records, domain) = (self.records.clone(), self.record.domain.clone());
        Some(self.call.cancel().on_cancel(move || {
            if let Err(error) = records.cancel_intent(&domain) {
                tracing::warn!(%error, "cannot mark the change as cancelled");
            }
        }))
    }

    /// Saves that the pending change is being undone: a call that follows a kill has to continue in
    /// this direction.
    pub(crate) fn save_going_back(&mut self) {
        if let Some(pending) = self.record.pending.as_mut() {
            pending.back = true;
        }
        let Err(error) = self.save() else { return };
        tracing::warn!(%error, "cannot save that the change is being undone");
        // A rename works on a full disk, too. If the intent was already renamed, that suffices.
        if let Err(error) = self.records.cancel_intent(&self.record.domain) {
            tracing::warn!(%error, "cannot mark the change as cancelled");
        }
    }

    /// The host devices that are not plugged in and are to be recorded for the first time.
    fn newly_absent(&self, target: &Inventory) -> Vec<Address> {
        let known = |host: &HostRef| self.inventory().host_refs().any(|(_, it)| it == host);
        let is_new = |at: &Address| target.host_ref(*at).is_some_and(|host| !known(host));
        target.missing_devices().into_iter().filter(is_new).collect()
    }

    /// Records the result of a change with this header. A new name is checked under the
    /// claims lock, so that no two domains get it.
    fn settle_as(&mut self, target: Inventory, header: Option<Header>) -> Result<(), Error> {
        let Some(header) = header else { return self.settle(target) };
        // With an intent, the name was checked when the intent was saved.
        let is_new = header.name != self.record.name && self.record.pending.is_none();
        let _lock = if is_new && !self.is_file() {
            names::reserve(&self.call, &self.records, &self.record.domain, header.name.as_ref())?
        } else {
            None
        };
        self.record.set_header(header);
        self.settle(target)
    }

    /// Saves what is about to be done and makes the claims, under the claims lock of the records
    /// and, if there is anything to claim, that of all claims. A rival is asked after the locks are
    /// released, so that a silent hypervisor delays no other domain.
    fn save_intent(
        &mut self,
        steps: &[Step],
        absent: &[Address],
        change: &mut Change,
    ) -> Result<(), Error> {
        if self.is_file() {
            return Ok(());
        }
        let Change { target, header, .. } = change;
        let files = self.call.claim_files();
        let name = header.as_ref().and_then(|it| it.name.as_ref());
        let new_name = name.filter(|it| self.record.name.as_ref() != Some(it));
        let rival = {
            let _lock = names::reserve(&self.call, &self.records, &self.record.domain, new_name)?;
            let known = target.clone();
            let wanted = if self.gives_nothing_now() {
                Vec::new()
            } else {
                ClaimRequest::all(&self.host_devices, steps, absent, &known)?
            };
            claims::check_distinct(&self.host_devices, &wanted, &known)?;
            let locked = if wanted.is_empty() { None } else { Some(files.lock(&self.call)?) };
            let rival = self.find_rival(&files, &wanted)?;
            if rival.is_none() {
                self.host_devices.identify(target, &BTreeMap::new());
                for it in &wanted {
                    let names = it.resources.iter().map(|it| it.name().to_owned());
                    target.facts_mut(Key::Device(it.address)).claims = names.collect();
                }
                let (target, steps) = (target.clone(), steps.to_vec());
                let header = header.clone();
                self.record.pending = Some(Pending { target, steps, back: false, header });
                self.save()?;
                if let Some(locked) = &locked {
                    self.make_claims(locked, &wanted, &known)?;
                }
            }
            rival
        };
        if files.private().is_some() && target.claims().next().is_some() {
            let path = files.private().map(Path::to_owned).unwrap_or_default();
            self.note(Note::PrivateClaims { path });
        }
        rival.map_or(Ok(()), |rival| Err(rival.into_error(&self.call, self.saved.as_ref())))
    }
}
