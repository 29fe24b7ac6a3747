//! Taking steps, and taking them back.
//!
//! ```text
//!   step ──▶ done ──▶ next step
//!     │
//!     ├─▶ failed ────────────────────────────────────────▶ take back those before it, last first
//!     └─▶ nobody knows (a time-out, a lost connection)
//!              └─▶ look: in effect ──▶ done
//!                        not ────────▶ failed
//!                        cannot look ▶ blind: nothing more is touched; the intent stays saved
//! ```

use vusb_model::diff::Step;

use crate::error::{Error, NotUndone};
use crate::pending::{Place, is_done, place};
use crate::session::Session;

/// Why a step was not taken.
pub(crate) struct Trouble {
    pub(crate) cause: Error,
    /// Whether it is not known what is in effect, for nobody answers.
    pub(crate) blind: bool,
}

/// What became of taking steps back.
#[derive(Default)]
pub(crate) struct TakenBack {
    pub(crate) undone: Vec<Step>,
    pub(crate) not_undone: Vec<NotUndone>,
    /// Whether nobody answers any more.
    pub(crate) blind: bool,
}

impl Session<'_> {
    /// Takes the steps. When one fails, those before it are taken back and what is there then is recorded.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub(crate) fn carry_out(&mut self, steps: &[Step]) -> Result<(), Error> {
        match self.driver.perform_all(steps) {
            Some(Ok(())) => return Ok(()),
            // All of it failed, so there is nothing to take back.
            Some(Err(error)) => return Err(error.into()),
            None => {}
        }
        for (number, step) in steps.iter().enumerate() {
            if let Err(trouble) = self.take(step) {
                let done = steps.get(..number).unwrap_or_default();
                return Err(self.failed(step, done, trouble));
            }
        }
        Ok(())
    }

    /// Takes one step; in a dry run on the model of what was observed.
    pub(crate) fn take(&mut self, step: &Step) -> Result<(), Trouble> {
        if self.is_dry() {
            return self.imagine(step).map_err(|cause| Trouble { cause, blind: false });
        }
        tracing::debug!(domain = %self.domain, %step, "taking a step");
        let placed = self.present.placed(step, self.placing(step));
        let cause = match self.driver.perform(&placed) {
            Ok(()) => return Ok(()),
            Err(error) => Error::from(error),
        };
        if !cause.is_uncertain() {
            return Err(Trouble { cause, blind: false });
        }
        match self.observe() {
            Ok(()) if is_done(step, &self.observed.hardware) => {
                self.note(format!("{cause}; but it is done: {step}"));
                Ok(())
            }
            Ok(()) => Err(Trouble { cause, blind: false }),
            Err(_) => Err(Trouble { cause, blind: true }),
        }
    }

    fn failed(&mut self, step: &Step, done: &[Step], trouble: Trouble) -> Error {
        let mut back = TakenBack { blind: trouble.blind, ..TakenBack::default() };
        if trouble.blind {
            let why = "the hypervisor does not answer any more";
            back.not_undone = done.iter().map(|step| not_undone(step, why)).collect();
        }
        // Saved before the first step is taken back: whoever comes after a kill is to go on in this direction. If it cannot
        // be saved, the next command goes forward and fails at the same step.
        if let Some(pending) = self.record.pending.as_mut() {
            pending.back = true;
        }
        let saved = self.save();
        if !trouble.blind {
            back = self.take_back(done);
        }
        let recorded = saved.and_then(|()| if back.blind { Ok(()) } else { self.as_before() });
        if let Err(error) = recorded {
            tracing::warn!(%error, "what is there now could not be recorded");
        }
        Error::Failed {
            step: Box::new(step.clone()),
            cause: Box::new(trouble.cause),
            undone: back.undone,
            not_undone: back.not_undone,
        }
    }

    /// Takes the steps back, last first. One that cannot be is left, and so is what it depends on.
    pub(crate) fn take_back(&mut self, done: &[Step]) -> TakenBack {
        let mut back = TakenBack::default();
        for step in done.iter().rev() {
            if back.blind {
                back.not_undone.push(not_undone(step, "the hypervisor does not answer any more"));
                continue;
            }
            if let Some(why) = in_the_way(step, &back.not_undone) {
                back.not_undone.push(not_undone(step, &why));
                continue;
            }
            match self.take(&step.undo()) {
                Ok(()) => back.undone.push(step.clone()),
                Err(trouble) => {
                    back.blind = trouble.blind;
                    back.not_undone.push(not_undone(step, &trouble.cause.beside_its_step()));
                }
            }
        }
        back
    }

    /// Records what is there after all that could be was taken back: what the record said, as far as it is still so.
    pub(crate) fn as_before(&mut self) -> Result<(), Error> {
        if !self.is_dry() {
            self.observe()?;
        }
        self.settle(self.record.hardware.clone(), self.record.managed.clone())
    }
}

fn not_undone(step: &Step, why: &str) -> NotUndone {
    NotUndone { step: step.clone(), why: why.to_owned() }
}

/// Why the step cannot be taken back after these could not: a controller that something is on stays.
fn in_the_way(step: &Step, left: &[NotUndone]) -> Option<String> {
    let bus = |step: &Step| match place(step) {
        Place::Controller(index) => index,
        Place::Device(address) => address.bus,
    };
    let there = left.iter().find(|other| bus(&other.step) == bus(step))?;
    Some(format!("not tried, for `{}` is still in effect", there.step))
}
