//! Repeating a scenario whose guest QEMU has lost.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// How many times a scenario is tried.
const ATTEMPTS: u32 = 4;

/// Runs a scenario with a hardware-assisted guest. If it fails and `is_lost` blames QEMU's emulated
/// processor (see [`super::is_guest_lost`]), it is repeated on a new machine. So is a start that
/// fails, because it uses only the rig. Any other failure fails the test at once.
pub fn run_with_retry<S>(
    start: impl Fn() -> S,
    is_lost: impl Fn(&S) -> bool,
    scenario: impl Fn(&S),
) {
    for attempts_left in (0..ATTEMPTS).rev() {
        let scene = match catch_unwind(AssertUnwindSafe(&start)) {
            Ok(scene) => scene,
            Err(panic) if attempts_left == 0 => resume_unwind(panic),
            Err(_) => {
                eprintln!("vusb-rig: the guest has not started; trying again");
                continue;
            }
        };
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(&scene))) else { return };
        if attempts_left == 0 || !is_lost(&scene) {
            resume_unwind(panic);
        }
        eprintln!("vusb-rig: QEMU lost the guest; trying again");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a scenario fails by panicking")]

    use super::*;
    use std::cell::Cell;

    /// Runs a scenario that fails this often. Returns the number of attempts, or `None` if the
    /// failure was passed on.
    fn attempts(failures: u32, lost: bool) -> Option<u32> {
        let count = Cell::new(0);
        let scenario = |(): &()| {
            count.set(count.get() + 1);
            assert!(count.get() > failures, "lost");
        };
        let run = catch_unwind(AssertUnwindSafe(|| run_with_retry(|| (), |()| lost, scenario)));
        run.ok().map(|()| count.get())
    }

    #[test]
    fn a_start_that_fails_is_repeated() {
        let count = Cell::new(0);
        let start = || {
            count.set(count.get() + 1);
            assert!(count.get() > 2, "not started");
        };
        run_with_retry(start, |()| false, |()| {});
        assert_eq!(count.get(), 3);
        let fails = || -> () { panic!("not started") };
        let run = catch_unwind(AssertUnwindSafe(|| run_with_retry(fails, |()| true, |()| {})));
        assert!(run.is_err());
    }

    #[test]
    fn only_a_lost_guest_is_a_reason_to_try_again() {
        assert_eq!(attempts(0, true), Some(1));
        assert_eq!(attempts(2, true), Some(3));
        assert_eq!(attempts(1, false), None);
        assert_eq!(attempts(ATTEMPTS, true), None);
    }
}
