//! Finishing a change that was interrupted by a kill. The states are drawn in [`crate::pending`].

use vusb_model::address::Address;
use vusb_model::diff::Step;
use vusb_model::hardware::Hardware;

use crate::error::Error;
use crate::inventory::{Key, Origin};
use crate::note::{Note, Recovery};
use crate::pending::{Pending, in_effect, is_done, key};
use crate::record::Record;
use crate::session::Open;
use crate::step::StepView;

impl Open<'_> {
    /// Continues where a killed command stopped, in the same direction. If going forward fails, it
    /// goes back.
    ///
    /// # Errors
    /// The hypervisor stopped replying, or the result cannot be recorded. The intent stays saved.
    pub(crate) fn recover(&mut self) -> Result<(), Error> {
        let Some(pending) = self.record.pending.clone() else {
            return Ok(());
        };
        if self.guest_restarted(&pending.steps) {
            return self.recover_after_restart(&pending);
        }
        match in_effect(&pending.steps, &self.observed.hardware) {
            None => self.accept_present(&pending),
            Some(count) if pending.back => {
                self.go_back(pending.steps.get(..count).unwrap_or_default())
            }
            Some(count) => self.go_forward(pending, count),
        }
    }

    /// Whether the guest was restarted since: it has no item that vusb manages, and none that the
    /// steps add or remove.
    fn guest_restarted(&self, steps: &[Step]) -> bool {
        let hardware = &self.observed.hardware;
        let untouched = steps.iter().all(|step| match step {
            Step::AddController(_) | Step::Plug(..) => !is_done(step, hardware),
            Step::RemoveController(_) | Step::Unplug(..) => is_done(step, hardware),
        });
        // A guest that had no managed items before looks like a restarted one. Continuing is
        // harmless then.
        let had = self.record.inventory.managed_names().next().is_some();
        untouched && had && self.observed.ours.is_empty()
    }

    /// After a restart there is nothing to finish and nothing to undo. Removals stand, additions
    /// are dropped, and everything else that was recorded is missing.
    fn recover_after_restart(&mut self, pending: &Pending) -> Result<(), Error> {
        let recorded = self.record.inventory.hardware().clone();
        let target = pending.target.hardware();
        let mut left = recorded.clone();
        let devices: Vec<Address> = left.devices().map(|(at, _)| at).collect();
        // In reverse order, so that devices behind a hub are removed before the hub.
        for at in devices.into_iter().rev() {
            let kind = |hardware: &Hardware| hardware.device(at).map(|it| it.kind.clone());
            if kind(target) != kind(&left) {
                left.unplug(at);
            }
        }
        for controller in recorded.controllers() {
            let wanted = target.controller(controller.index);
            if !wanted.is_some_and(|it| it.same_hardware(controller)) {
                left.remove_controller(controller.index);
            }
        }
        self.note(interrupted(Recovery::GuestRestarted, &pending.steps));
        self.settle(self.record.inventory.with_hardware(left))
    }

    /// Another tool changed the same items meanwhile: the guest's present hardware is recorded.
    fn accept_present(&mut self, pending: &Pending) -> Result<(), Error> {
        self.note(interrupted(Recovery::GuestChanged, &pending.steps));
        let mut all = self.record.inventory.clone();
        let managed: Vec<(Key, Origin)> = pending
            .target
            .keys()
            .filter(|(key, _)| pending.target.is_managed(*key))
            .filter_map(|(key, name)| Some((all.named(name)?, pending.target.facts(key).origin)))
            .collect();
        for (key, origin) in managed {
            let facts = all.facts_mut(key);
            if !facts.origin.is_managed() {
                facts.origin = origin;
            }
        }
        self.settle(all)
    }

    fn go_forward(&mut self, pending: Pending, count: usize) -> Result<(), Error> {
        let steps = &pending.steps;
        if let (Err(error), Some(next)) = (self.renew_claims(&pending), steps.get(count)) {
            let (step, why) = (StepView::from(next), error.to_string());
            self.note(Note::InterruptedStep { step, undo: false, why });
            return self.go_back(steps.get(..count).unwrap_or_default());
        }
        for (number, step) in steps.iter().enumerate().skip(count) {
            let Err(failure) = self.take(step, false) else { continue };
            if failure.unknown {
                return Err(failure.cause);
            }
            let why = failure.cause.without_step();
            self.note(Note::InterruptedStep { step: step.into(), undo: false, why });
            return self.go_back(steps.get(..number).unwrap_or_default());
        }
        if !self.is_dry() {
            self.observe()?;
        }
        let rest = steps.get(count..).unwrap_or_default();
        self.note(if rest.is_empty() {
            interrupted(Recovery::Recorded, steps)
        } else {
            interrupted(Recovery::Finished, rest)
        });
        if let Some(header) = pending.header {
            self.record.set_header(header);
        }
        self.settle(pending.target)
    }

    fn go_back(&mut self, done: &[Step]) -> Result<(), Error> {
        let result = self.undo(done);
        if let Some(left) = result.not_undone.first().filter(|_| result.unknown) {
            return Err(Error::Driver(vusb_drivers::Error::Unreachable {
                domain: self.domain.to_string(),
                why: format!("while undoing an interrupted change ({left})").into(),
                midway: true,
            }));
        }
        if result.undone.is_empty() && result.not_undone.is_empty() {
            self.note(interrupted(Recovery::NotInEffect, &[]));
        }
        if !result.undone.is_empty() {
            self.note(interrupted(Recovery::Undone, &result.undone));
        }
        for left in result.not_undone {
            let step = StepView::from(&left.step);
            self.note(Note::InterruptedStep { step, undo: true, why: left.why });
        }
        self.roll_back()
    }

    /// For a call that only lists: extends the inventory by all items of a pending change.
    pub(crate) fn include_pending(&mut self) {
        if let Some(pending) = &self.record.pending {
            let open = if pending.back { Recovery::OpenUndo } else { Recovery::Open };
            let note = interrupted(open, &pending.steps);
            self.record.inventory = self.record.combined();
            self.note(note);
        }
    }

    /// Removes the items of a pending change that the guest lacks: they are not missing but in
    /// transit.
    pub(crate) fn leave_out_pending(&mut self) {
        let Some(pending) = &self.record.pending else { return };
        let keys: Vec<Key> = pending.steps.iter().map(key).collect();
        let all = &mut self.record.inventory;
        for key in keys {
            if all.is_missing(key) {
                all.change(|hardware| match key {
                    Key::Controller(index) => {
                        hardware.remove_controller(index);
                    }
                    Key::Device(address) => {
                        hardware.unplug(address);
                    }
                });
            }
        }
    }
}

fn interrupted(outcome: Recovery, steps: &[Step]) -> Note {
    Note::Interrupted { outcome, steps: steps.iter().map(StepView::from).collect() }
}

/// Removes items from a record without asking the hypervisor, and drops its pending change.
pub(crate) fn forget(record: &mut Record, change: impl FnOnce(&mut Hardware)) {
    record.inventory = record.combined();
    record.pending = None;
    record.inventory.change(change);
}
