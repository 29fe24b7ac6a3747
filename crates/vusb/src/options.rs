//! Options, cancellation and progress of a call.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vusb_drivers::When;
use vusb_model::diff::Step;

use crate::error::Error;

/// Options of a call.
#[derive(Clone, Debug)]
pub struct Options {
    /// The limit for each single wait: a hypervisor's reply, a guest that releases a device, a
    /// lock.
    pub wait: Duration,
    /// The deadline of the whole call; `None` if only single waits are limited. When it passes, the
    /// steps taken so far are undone. The undo has a deadline of its own, 30 times `wait`.
    pub deadline: Option<Instant>,
    /// Only report what would be done. Nothing is written, neither to the guest nor to a record.
    pub dry_run: bool,
    /// Override refusals, for instance: remove a controller with its devices, attach a protected
    /// device, forget a device of a guest that has ended, apply a spec that has another domain
    /// name.
    pub force: bool,
    /// Accept a host device that is not plugged in: its port is kept, and
    /// [`Context::restore`](crate::Context::restore) attaches it once it is there.
    pub accept_absent: bool,
    /// Whether a rule causes the call, rather than a person: what the call attaches is not recorded
    /// as given by hand.
    pub by_rule: bool,
    /// When a spec is applied, also remove what was added by hand and is not in the spec.
    pub prune: bool,
    /// When changes take effect, for a domain whose tool stores configurations beside the running
    /// guests (libvirt). Other domains only have the default.
    pub when: When,
    /// The folder that relative paths start from; `None` is the current folder of the process.
    /// Paths in a spec are relative to the folder of the spec.
    pub folder: Option<PathBuf>,
    /// Notified when steps begin and end, and when the call waits for a lock.
    pub observer: Option<Arc<dyn Observer>>,
    /// Cancels the call from another thread.
    pub cancel: Cancel,
}

impl Options {
    /// The default limit for a single wait: ten seconds. A responsive guest releases a device in
    /// less than half of that.
    pub const DEFAULT_WAIT: Duration = Duration::from_secs(10);
}

impl Default for Options {
    fn default() -> Options {
        Options {
            wait: Options::DEFAULT_WAIT,
            deadline: None,
            dry_run: false,
            force: false,
            accept_absent: false,
            by_rule: false,
            prune: false,
            when: When::default(),
            folder: None,
            observer: None,
            cancel: Cancel::default(),
        }
    }
}

/// Cancels calls. Clones share their state.
///
/// The step under way is finished and then undone with the steps before it. The call fails with
/// [`Error::Cancelled`](crate::Error::Cancelled), or with that as the cause if it had begun to take
/// steps. If the process ends first, the next call undoes them.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<State>);

#[derive(Debug, Default)]
struct State {
    cancelled: AtomicBool,
    /// How many changes are under way.
    changes: AtomicUsize,
    actions: Mutex<Actions>,
}

/// The actions to run as soon as calls are cancelled, each under a number of its own.
#[derive(Default)]
struct Actions {
    last: u64,
    all: BTreeMap<u64, Box<dyn Fn() + Send>>,
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.all.keys()).finish()
    }
}

impl Cancel {
    /// Cancels all calls that use this value or a clone of it, now and later.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        self.actions().all.values().for_each(|action| action());
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Whether a change is under way, which is undone if it is cancelled. If this is false after
    /// [`Cancel::cancel`], no change will begin, and the process may end at once.
    pub fn is_changing(&self) -> bool {
        self.0.changes.load(Ordering::SeqCst) > 0
    }

    /// Marks that a change is under way until the returned value is dropped. Check afterwards
    /// whether the calls were cancelled.
    pub(crate) fn begin_change(&self) -> ChangeUnderWay {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
        ChangeUnderWay(self.clone())
    }

    /// Runs `action` when the calls are cancelled, on the cancelling thread; at once if they
    /// already are. It never runs after the returned value was dropped.
    pub(crate) fn on_cancel(&self, action: impl Fn() + Send + 'static) -> OnCancel {
        let mut actions = self.actions();
        if self.is_cancelled() {
            action();
        }
        actions.last += 1;
        let number = actions.last;
        actions.all.insert(number, Box::new(action));
        OnCancel { cancel: self.clone(), number }
    }

    fn actions(&self) -> MutexGuard<'_, Actions> {
        self.0.actions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change is under way while it exists.
#[derive(Debug)]
pub(crate) struct ChangeUnderWay(Cancel);

impl Drop for ChangeUnderWay {
    fn drop(&mut self) {
        self.0.0.changes.fetch_sub(1, Ordering::SeqCst);
    }
}

/// While it exists, an action is run when calls are cancelled.
#[derive(Debug)]
pub(crate) struct OnCancel {
    cancel: Cancel,
    number: u64,
}

impl Drop for OnCancel {
    fn drop(&mut self) {
        self.cancel.actions().all.remove(&self.number);
    }
}

/// Receives the progress of a call. It is called on the thread of the call and should return soon.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Something began or ended.
    fn progress(&self, progress: &Progress<'_>);
}

/// The progress of a call.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Another call holds a lock that this one needs.
    WaitingForLock {
        /// The lock, as in [`Error::Busy`](crate::Error::Busy).
        what: &'a str,
    },
    /// A step begins. If the steps are one change, as in a configuration file, all of them begin
    /// before it, and end after it.
    StepBegins {
        /// The step.
        step: &'a Step,
        /// Whether it undoes an earlier one.
        undo: bool,
    },
    /// A step has ended. Every step that begins also ends.
    StepEnds {
        /// The step.
        step: &'a Step,
        /// Whether it undoes an earlier one.
        undo: bool,
        /// Why it failed, if it did.
        error: Option<&'a Error>,
    },
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn an_action_runs_once_when_calls_are_cancelled_and_never_after_its_end() {
        let (cancel, count) = (Cancel::default(), Arc::new(AtomicUsize::new(0)));
        let act = || {
            let count = Arc::clone(&count);
            cancel.on_cancel(move || {
                count.fetch_add(1, Ordering::SeqCst);
            })
        };
        drop(act());
        let kept = act();
        cancel.clone().cancel();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        // Cancelled before: it runs at once.
        drop(act());
        assert_eq!(count.load(Ordering::SeqCst), 2);
        drop(kept);
    }

    #[test]
    fn the_actions_of_all_calls_run() {
        let (cancel, count) = (Cancel::default(), Arc::new(AtomicUsize::new(0)));
        let act = || {
            let count = Arc::clone(&count);
            cancel.on_cancel(move || {
                count.fetch_add(1, Ordering::SeqCst);
            })
        };
        let kept = [act(), act()];
        cancel.cancel();
        assert_eq!(count.load(Ordering::SeqCst), 2);
        drop(kept);
    }
}
