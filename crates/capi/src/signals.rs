//! Blocks SIGPIPE, which would end the program if a hypervisor closes its socket while vusb writes
//! to the socket.

use std::mem::MaybeUninit;
use std::ptr;

/// While this value exists, SIGPIPE is blocked in this thread. A SIGPIPE that is raised meanwhile
/// is discarded; a SIGPIPE that was already pending stays pending.
pub(crate) struct PipeSignal {
    /// The mask to restore, if this value has changed it.
    restore: Option<libc::sigset_t>,
}

fn only_pipe() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initializes the set that it gets, and `sigaddset` changes it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

fn is_pending() -> bool {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigpending` initializes the set if it returns 0; it is only read in that case.
    unsafe {
        libc::sigpending(set.as_mut_ptr()) == 0
            && libc::sigismember(set.as_ptr(), libc::SIGPIPE) == 1
    }
}

impl PipeSignal {
    pub(crate) fn block() -> PipeSignal {
        if is_pending() {
            // SIGPIPE is already blocked, and the pending signal belongs to the program.
            return PipeSignal { restore: None };
        }
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: both sets are valid; the second is initialized if 0 is returned, and only read in
        // that case.
        let restore = unsafe {
            let failed = libc::pthread_sigmask(libc::SIG_BLOCK, &only_pipe(), before.as_mut_ptr());
            (failed == 0).then(|| before.assume_init())
        };
        PipeSignal { restore }
    }
}

impl Drop for PipeSignal {
    fn drop(&mut self) {
        let Some(before) = self.restore else { return };
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        if is_pending() {
            // SAFETY: the set and the time are valid, and no information is requested.
            unsafe { libc::sigtimedwait(&only_pipe(), ptr::null_mut(), &now) };
        }
        // SAFETY: `before` was initialized by `pthread_sigmask`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_pipe_does_not_end_the_program_and_leaves_no_pending_signal() {
        // Rust's test programs ignore SIGPIPE; programs in C do not.
        // SAFETY: SIG_DFL is a valid action. The other tests of this program write to no pipe.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let mut ends = [0; 2];
        // SAFETY: the array has two elements; the descriptors are this test's own.
        unsafe {
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            libc::close(ends[0]);
            let guard = PipeSignal::block();
            assert_eq!(libc::write(ends[1], c"x".as_ptr().cast(), 1), -1);
            assert!(is_pending());
            drop(guard);
            assert!(!is_pending());
            libc::close(ends[1]);
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        }
    }
}
