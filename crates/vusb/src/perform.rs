//! Taking steps, and undoing them.
//!
//! ```text
//!   step ──▶ done ──▶ next step
//!     │
//!     ├─▶ failed, cancelled or past the deadline ───▶ undo the steps before it, last first
//!     └─▶ unknown (a time-out, a lost connection)
//!              └─▶ observe: in effect ──▶ done
//!                           not ────────▶ failed
//!                           cannot ─────▶ unknown: nothing more is touched; the intent stays saved
//! ```
//!
//! A driver that takes all steps at once, as for a configuration file, takes all of them or none:
//! nothing has to be undone.
//!
//! The undo has a deadline of its own: a guest must not be left half changed because the steps took
//! long.

use vusb_drivers::AllAtOnce;
use vusb_model::diff::Step;

use crate::call::Call;
use crate::error::{Error, NotUndone};
use crate::inventory::Key;
use crate::note::Note;
use crate::options::Progress;
use crate::pending::{is_done, key};
use crate::session::Open;

/// Why a step was not taken.
pub(crate) struct StepFailure {
    pub(crate) cause: Error,
    /// Whether it is unknown what is in effect, because the hypervisor does not reply.
    pub(crate) unknown: bool,
}

impl From<Error> for StepFailure {
    fn from(cause: Error) -> StepFailure {
        StepFailure { cause, unknown: false }
    }
}

/// The result of undoing steps.
#[derive(Default)]
pub(crate) struct Undone {
    pub(crate) undone: Vec<Step>,
    pub(crate) not_undone: Vec<NotUndone>,
    /// Whether the hypervisor stopped replying.
    pub(crate) unknown: bool,
}

impl Open<'_> {
    /// Takes the steps. If one fails, those before it are undone, and the resulting hardware is
    /// recorded.
    ///
    /// # Errors
    /// [`Error::Failed`]; or [`Error::Driver`], if the driver takes all steps at once or none.
    pub(crate) fn carry_out(&mut self, steps: &[Step]) -> Result<(), Error> {
        if let Some(driver) = self.driver.all_at_once() {
            // All or nothing: there is nothing to undo.
            return take_at_once(driver, steps, &self.call);
        }
        let _cancels_intent = self.cancel_with_intent();
        for (number, step) in steps.iter().enumerate() {
            let taken = match self.call.check() {
                Ok(()) => self.take(step, false),
                Err(stopped) => Err(stopped.into()),
            };
            if let Err(failure) = taken {
                let done = steps.get(..number).unwrap_or_default();
                return Err(self.failed(step, done, failure));
            }
        }
        match steps.last() {
            // Cancelled during the last step: the caller no longer wants any of them.
            Some(last) if self.call.cancel().is_cancelled() => {
                Err(self.failed(last, steps, Error::Cancelled.into()))
            }
            _ => Ok(()),
        }
    }

    /// Takes one step; in a dry run, only on the observed hardware in memory. `undo` tells the
    /// observer whether the step undoes an earlier one.
    pub(crate) fn take(&mut self, step: &Step, undo: bool) -> Result<(), StepFailure> {
        if self.is_dry() {
            return Ok(self.apply_in_memory(step)?);
        }
        let _change = self.call.cancel().begin_change();
        tracing::debug!(domain = %self.domain, %step, "taking a step");
        self.call.report(&Progress::StepBegins { step, undo });
        let taken = self.perform(step);
        let error = taken.as_ref().err().map(|failure| &failure.cause);
        self.call.report(&Progress::StepEnds { step, undo, error });
        taken
    }

    fn perform(&mut self, step: &Step) -> Result<(), StepFailure> {
        let present = self.host_devices.with_present_device(step, self.inventory_for(step));
        let cause = match self.driver.perform(&present) {
            Ok(()) => {
                if let Step::Unplug(_, device) = step {
                    self.unplugged.insert(device.name.clone());
                }
                return Ok(());
            }
            Err(error) => Error::from(error),
        };
        if !cause.is_uncertain() {
            return Err(cause.into());
        }
        // The deadline may have caused the time-out; the outcome must still be determined.
        self.call.limits.begin_rollback();
        match self.observe() {
            Ok(()) if is_done(step, &self.observed.hardware) => {
                self.note(Note::TookEffect { step: step.into(), error: cause.to_string() });
                Ok(())
            }
            Ok(()) => Err(cause.into()),
            Err(_) => Err(StepFailure { cause, unknown: true }),
        }
    }

    fn failed(&mut self, step: &Step, done: &[Step], failure: StepFailure) -> Error {
        let mut result = Undone { unknown: failure.unknown, ..Undone::default() };
        if failure.unknown {
            let why = "the hypervisor no longer replies";
            result.not_undone = done.iter().map(|step| not_undone(step, why)).collect();
        }
        self.save_going_back();
        if !failure.unknown {
            self.call.limits.begin_rollback();
            result = self.undo(done);
        }
        let recorded = if result.unknown { Ok(()) } else { self.roll_back() };
        Error::Failed {
            step: Box::new(step.clone()),
            cause: Box::new(failure.cause),
            unknown: failure.unknown,
            undone: result.undone,
            not_undone: result.not_undone,
            unrecorded: recorded.err().map(Box::new),
        }
    }

    /// Undoes the steps, last first. A step that cannot be undone stays in effect, and so do all
    /// earlier steps on the same controller: it may depend on them.
    pub(crate) fn undo(&mut self, done: &[Step]) -> Undone {
        let mut result = Undone::default();
        for step in done.iter().rev() {
            if result.unknown {
                result.not_undone.push(not_undone(step, "the hypervisor no longer replies"));
                continue;
            }
            if let Some(why) = blocked_by(step, &result.not_undone) {
                result.not_undone.push(not_undone(step, &why));
                continue;
            }
            match self.take(&step.undo(), true) {
                Ok(()) => result.undone.push(step.clone()),
                Err(failure) => {
                    result.unknown = failure.unknown;
                    result.not_undone.push(not_undone(step, &failure.cause.without_step()));
                }
            }
        }
        result
    }

    /// Records the hardware after the undo, with the missing items of the record.
    pub(crate) fn roll_back(&mut self) -> Result<(), Error> {
        if !self.is_dry() {
            self.observe()?;
        }
        self.settle(self.record.inventory.clone())
    }
}

/// Takes all steps as one change. Each of them begins before it and ends after it, with its result.
fn take_at_once(driver: &mut dyn AllAtOnce, steps: &[Step], call: &Call<'_>) -> Result<(), Error> {
    for step in steps {
        tracing::debug!(%step, "taking a step, together with the others");
        call.report(&Progress::StepBegins { step, undo: false });
    }
    let taken = driver.perform_all(steps).map_err(Error::from);
    let error = taken.as_ref().err();
    for step in steps {
        call.report(&Progress::StepEnds { step, undo: false, error });
    }
    taken
}

fn not_undone(step: &Step, why: &str) -> NotUndone {
    NotUndone { step: step.clone(), why: why.to_owned() }
}

/// Why the step is not undone while `left` is in effect: a step on the same controller is left, and
/// a controller with devices cannot be removed.
fn blocked_by(step: &Step, left: &[NotUndone]) -> Option<String> {
    let bus = |step: &Step| match key(step) {
        Key::Controller(index) => index,
        Key::Device(address) => address.bus,
    };
    let there = left.iter().find(|other| bus(&other.step) == bus(step))?;
    Some(format!("not tried because `{}` is still in effect", there.step))
}
