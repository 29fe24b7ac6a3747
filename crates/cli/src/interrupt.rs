//! Ctrl-C: cancels the command, so that it undoes what it has done, instead of ending the process.
//!
//! ```text
//!   1st SIGINT, SIGTERM or SIGHUP ──▶ Cancel ─┬─ a change is under way: its step ends ──▶ undo
//!                                             └─ none: error: cancelled, or the process ends
//!   2nd ───────────────────────────────────────▶ the process ends at once
//! ```
//!
//! A signal that comes after the last step is too late: the command says so.
//!
//! The first signal also marks the saved intent as cancelled. So after the second one, or after a
//! kill, the next command undoes what was done instead of continuing.

use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vusb::Cancel;

use crate::screen::print_to_stderr;

/// How long a command that changes nothing may take to report that it was cancelled. It checks for
/// cancellation wherever it waits for a lock.
const GRACE: Duration = Duration::from_millis(500);

/// What the user is told while the command still runs.
const NOTICE: &str = "vusb: interrupted: undoing what was done, after the step under way \
                      (interrupt again to stop at once)";

/// What the user is told if there is nothing to undo.
const NOTHING_CHANGED: &str = "vusb: interrupted: no change was under way";

/// What the user is told if the command succeeds anyway.
const TOO_LATE: &str = "vusb: the last step was done before the interrupt: nothing is undone";

/// Cancels at the first signal, and ends the process at the second one. `notice`: whether the user
/// is told on standard error.
pub(crate) fn cancel_on_signal(cancel: Cancel, notice: bool) {
    let signals = match Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        Ok(signals) => signals,
        Err(error) => {
            // The signals then end the process, which the next command recovers from.
            tracing::warn!(%error, "cannot handle signals");
            return;
        }
    };
    thread::spawn(move || handle(signals, &cancel, notice));
}

/// Tells the user that the signal came too late.
pub(crate) fn report_too_late() {
    print_to_stderr(TOO_LATE);
}

fn handle(mut signals: Signals, cancel: &Cancel, notice: bool) {
    for signal in signals.forever() {
        if cancel.is_cancelled() {
            // Ends the process as the signal would have: the shell sees that it was interrupted.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
        cancel.cancel();
        if cancel.is_changing() {
            if notice {
                print_to_stderr(NOTICE);
            }
            continue;
        }
        // The command ends by itself, unless it waits for a hypervisor that does not reply.
        thread::sleep(GRACE);
        if cancel.is_changing() {
            continue;
        }
        if notice {
            print_to_stderr(NOTHING_CHANGED);
        }
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
}
