//! The entry point of every function that can fail: panics become errors, and SIGPIPE does not end
//! the program.

use std::any::Any;
use std::cell::Cell;
use std::ffi::c_int;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::Once;

use vusb_methods::Failure;

use crate::error::VusbError;
use crate::signals::PipeSignal;

thread_local! {
    /// Whether this thread is in a function of this library.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Panics in this library are not printed: the caller gets them as errors. Other panics are printed
/// as before. The shared library contains its own Rust runtime, so the panic hook of a program
/// written in Rust is not replaced.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !INSIDE.try_with(Cell::get).unwrap_or(false) {
                others(info);
            }
        }));
    });
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}

/// Runs the body of a function, and stores its error for the caller.
///
/// # Safety
/// `error` is NULL or a place for an error.
pub(crate) unsafe fn run(
    error: *mut *mut VusbError,
    body: impl FnOnce() -> Result<c_int, Failure>,
) -> c_int {
    silence();
    if !error.is_null() {
        // SAFETY: it is not NULL, and the caller guarantees the rest.
        unsafe { error.write(ptr::null_mut()) };
    }
    let signal = PipeSignal::block();
    let outer = INSIDE.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    INSIDE.set(outer);
    drop(signal);
    let failed = match result {
        Ok(Ok(code)) => return code,
        Ok(Err(failure)) => VusbError::of_failure(&failure),
        Err(panic) => VusbError::internal(text(panic.as_ref())),
    };
    let code = failed.code();
    if !error.is_null() {
        // SAFETY: as above.
        unsafe { error.write(Box::into_raw(Box::new(failed))) };
    }
    code
}

/// Runs the body of a function that cannot report an error. A panic has no effect.
pub(crate) fn quietly<T: Default>(body: impl FnOnce() -> T) -> T {
    silence();
    let outer = INSIDE.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    INSIDE.set(outer);
    result.unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::error::{VUSB_E_INTERNAL, vusb_error_free, vusb_error_message};

    #[test]
    fn a_panic_is_an_error() {
        let mut error = ptr::null_mut();
        // SAFETY: `error` is a place for an error, which is read and released once.
        unsafe {
            let code = run(&mut error, || panic!("an index of {}", 7));
            assert_eq!(code, VUSB_E_INTERNAL);
            let message = CStr::from_ptr(vusb_error_message(error)).to_str().unwrap();
            assert_eq!(message, "libvusb has failed: an index of 7");
            vusb_error_free(error);
            // Without a place for the error.
            assert_eq!(run(ptr::null_mut(), || panic!("again")), VUSB_E_INTERNAL);
        }
    }
}
