//! Finishing what an earlier command had begun when it was killed. The states are drawn in [`crate::pending`].

use vusb_model::address::Address;
use vusb_model::diff::Step;
use vusb_model::hardware::Hardware;

use crate::error::Error;
use crate::merge::names;
use crate::pending::{Pending, Place, in_effect, is_done, place};
use crate::session::{Session, remembered};

impl Session<'_> {
    /// Goes on where a command that was killed stopped: forward to what it wanted, and where that cannot be, back.
    ///
    /// # Errors
    /// Nobody answers halfway. The intent stays saved.
    pub(crate) fn recover(&mut self) -> Result<(), Error> {
        let Some(pending) = self.record.pending.clone() else {
            return Ok(());
        };
        let steps = pending.steps();
        if self.is_fresh(&steps) {
            return self.start_afresh(&pending);
        }
        match in_effect(&steps, &self.observed.hardware) {
            None => self.cannot_tell(&pending),
            Some(count) if pending.back => self.go_back(steps.get(..count).unwrap_or_default()),
            Some(count) => self.go_forward(pending, &steps, count),
        }
    }

    /// Whether the guest was started anew since: nothing is there of what was vusb's own, nor of what the steps are about.
    fn is_fresh(&self, steps: &[Step]) -> bool {
        let has = &self.observed.hardware;
        let none = steps.iter().all(|step| match step {
            Step::AddController(_) | Step::Plug(..) => !is_done(step, has),
            Step::RemoveController(_) | Step::Unplug(..) => is_done(step, has),
        });
        // A guest that had nothing before looks the same as one that was started anew: going on does no harm there.
        let had = !self.record.managed.is_empty();
        none && had && self.observed.ours.is_empty()
    }

    /// After a restart there is nothing to go on with, and nothing to take back. What was to go is gone, what was to come does
    /// not, and all else that was recorded is missing.
    fn start_afresh(&mut self, pending: &Pending) -> Result<(), Error> {
        let mut left = self.record.hardware.clone();
        let devices: Vec<Address> = left.devices().map(|(at, _)| at).collect();
        // From the end, so that what is behind a hub goes before the hub.
        for at in devices.into_iter().rev() {
            let kind = |hardware: &Hardware| hardware.device(at).map(|it| it.kind.clone());
            if kind(&pending.target) != kind(&left) {
                left.unplug(at);
            }
        }
        for controller in self.record.hardware.controllers() {
            let wanted = pending.target.controller(controller.index);
            if !wanted.is_some_and(|it| it.same_hardware(controller)) {
                left.remove_controller(controller.index);
            }
        }
        self.note(format!(
            "the guest was started anew after an earlier command was cut short: what was to go is gone, and nothing was added; \
             that command's steps were {}",
            list(&pending.steps())
        ));
        self.settle(left, self.record.managed.clone())
    }

    /// Somebody else changed the same places meanwhile: what is there now counts.
    fn cannot_tell(&mut self, pending: &Pending) -> Result<(), Error> {
        self.note(format!(
            "an earlier command was cut short, and the guest was changed since: what it has now counts; it had begun to {}",
            list(&pending.steps())
        ));
        let managed = self.record.managed.union(&pending.managed).cloned().collect();
        self.settle(self.record.hardware.clone(), managed)
    }

    fn go_forward(&mut self, pending: Pending, steps: &[Step], count: usize) -> Result<(), Error> {
        for (number, step) in steps.iter().enumerate().skip(count) {
            let Err(trouble) = self.take(step) else { continue };
            if trouble.blind {
                return Err(trouble.cause);
            }
            self.note(format!(
                "an earlier command was cut short and cannot be finished: could not {step}: {}",
                trouble.cause.beside_its_step()
            ));
            return self.go_back(steps.get(..number).unwrap_or_default());
        }
        if !self.is_dry() {
            self.observe()?;
        }
        let rest = steps.get(count..).unwrap_or_default();
        self.note(if rest.is_empty() {
            format!(
                "an earlier command was cut short after its last step; it is recorded now: {}",
                list(steps)
            )
        } else {
            format!("finished what an earlier command had begun: {}", list(rest))
        });
        self.settle(pending.target, pending.managed)
    }

    fn go_back(&mut self, done: &[Step]) -> Result<(), Error> {
        let back = self.take_back(done);
        if let Some(left) = back.not_undone.first().filter(|_| back.blind) {
            return Err(Error::Driver(vusb_drivers::Error::Unreachable {
                domain: self.domain.to_string(),
                why: format!("while an earlier command's steps were taken back ({left})"),
                midway: true,
            }));
        }
        if back.undone.is_empty() && back.not_undone.is_empty() {
            self.note(
                "an earlier command failed or was cut short; none of it is in effect".to_owned(),
            );
        }
        if !back.undone.is_empty() {
            self.note(format!(
                "took back what an earlier command had done: {}",
                list(&back.undone)
            ));
        }
        for left in &back.not_undone {
            self.note(format!("an earlier command's step could not be taken back: {left}"));
        }
        self.as_before()
    }

    /// For one who only looks: what is remembered, with what a change that is under way is about.
    pub(crate) fn see_through(&mut self) {
        if let Some(pending) = &self.record.pending {
            let what = list(&pending.steps());
            let managed = pending.managed.clone();
            self.record.hardware = remembered(&self.record);
            self.record.managed.extend(managed);
            self.note(format!(
                "a change is under way, or was cut short, and the next command finishes it: {what}"
            ));
        }
    }

    /// What a change that is under way touches, and what is not there, is not missing: it is just not there now.
    pub(crate) fn leave_out_touched(&mut self) {
        let steps = self.record.pending.as_ref().map(Pending::steps).unwrap_or_default();
        for step in steps {
            match place(&step) {
                Place::Controller(index) if self.missing.controllers.contains(&index) => {
                    self.base.remove_controller(index);
                }
                Place::Device(address) if self.missing.devices.contains(&address) => {
                    self.base.unplug(address);
                }
                Place::Controller(_) | Place::Device(_) => {}
            }
        }
        self.missing.keep_to(&self.base);
    }
}

/// Forgets in a record, without asking anybody, what `forget` takes out of the hardware.
pub(crate) fn forget(record: &mut crate::record::Record, forget: impl FnOnce(&mut Hardware)) {
    record.hardware = remembered(record);
    if let Some(pending) = record.pending.take() {
        record.managed.extend(pending.managed);
    }
    forget(&mut record.hardware);
    let left: Vec<_> = names(&record.hardware).cloned().collect();
    record.managed.retain(|name| left.contains(name));
    record.added.retain(|name| left.contains(name));
    record.places.retain(|name, _| left.contains(name));
}

fn list(steps: &[Step]) -> String {
    steps.iter().map(Step::to_string).collect::<Vec<_>>().join(", ")
}
