//! Errors and result codes.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use serde_json::{Value, json};
use vusb::ExitCode;
use vusb_interface as interface;
use vusb_methods::Failure;

/// The result of a call that succeeded.
pub const VUSB_DONE: c_int = 0;
/// The result of a request that was fulfilled already, and of [`crate::watch::vusb_events_next`]
/// without an event.
pub const VUSB_ALREADY: c_int = 1;
/// The result of a call that was ended by a bug in this library.
pub const VUSB_E_INTERNAL: c_int = -100;

/// An error: `vusb_error` of the header.
#[derive(Debug)]
pub struct VusbError {
    code: c_int,
    message: CString,
    hint: Option<CString>,
    json: CString,
}

/// A string for C. A NUL would end it, so each one is replaced.
fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// The result code of a kind of failure: its exit code, negated.
pub(crate) fn result_code(kind: ExitCode) -> c_int {
    -c_int::from(kind.code())
}

impl VusbError {
    /// The error of a method of the interface that failed.
    pub(crate) fn of_failure(failure: &Failure) -> VusbError {
        let of_service = failure.name.strip_prefix("org.varlink.service.");
        let parameters = &failure.parameters;
        let text = |key: &str| parameters.get(key).and_then(Value::as_str).unwrap_or_default();
        let list = |key: &str| {
            let all = parameters.get(key).and_then(Value::as_array).into_iter().flatten();
            all.filter_map(Value::as_str).collect::<Vec<_>>()
        };
        let (code, message) = match of_service {
            Some("InvalidParameter") => {
                let message =
                    format!("the parameter `{}` is missing or invalid", text("parameter"));
                (result_code(ExitCode::Usage), message)
            }
            Some("MethodNotFound") => {
                let message = format!("there is no method {}", text("method"));
                (result_code(ExitCode::Usage), message)
            }
            _ => {
                let mistakes = list("mistakes").join("\n\n");
                let message =
                    if mistakes.is_empty() { text("message").to_owned() } else { mistakes };
                (result_code(interface::error_kind(&failure.name)), message)
            }
        };
        let hints = list("hints").join("\n");
        let json = json!({ "error": failure.name, "parameters": parameters });
        VusbError {
            code,
            message: c_string(&message),
            hint: (!hints.is_empty()).then(|| c_string(&hints)),
            json: c_string(&json.to_string()),
        }
    }

    /// The error for a bug in this library.
    pub(crate) fn internal(what: &str) -> VusbError {
        let message = format!("libvusb has failed: {what}");
        let parameters = json!({ "message": message, "hints": [] });
        let json = json!({ "error": interface::full("Failed"), "parameters": parameters });
        VusbError {
            code: VUSB_E_INTERNAL,
            message: c_string(&message),
            hint: Some(c_string("report this as a bug of libvusb")),
            json: c_string(&json.to_string()),
        }
    }

    pub(crate) const fn code(&self) -> c_int {
        self.code
    }
}

/// The result code of an error; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_error_code(error: *const VusbError) -> c_int {
    // SAFETY: it is NULL or an error that was not released, as the header says.
    unsafe { error.as_ref() }.map_or(VUSB_DONE, VusbError::code)
}

/// What happened and why; empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_error_message(error: *const VusbError) -> *const c_char {
    // SAFETY: as in `vusb_error_code`.
    unsafe { error.as_ref() }.map_or(c"".as_ptr(), |it| it.message.as_ptr())
}

/// What to do, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_error_hint(error: *const VusbError) -> *const c_char {
    // SAFETY: as in `vusb_error_code`.
    let error = unsafe { error.as_ref() };
    error.and_then(|it| it.hint.as_ref()).map_or(ptr::null(), |it| it.as_ptr())
}

/// The error as JSON; an empty object for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_error_json(error: *const VusbError) -> *const c_char {
    // SAFETY: as in `vusb_error_code`.
    unsafe { error.as_ref() }.map_or(c"{}".as_ptr(), |it| it.json.as_ptr())
}

/// Releases an error. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_error_free(error: *mut VusbError) {
    if !error.is_null() {
        // SAFETY: it was made by `Box::into_raw` in `entry` and is released once.
        drop(unsafe { Box::from_raw(error) });
    }
}

/// The exit code of a program that ends with this result.
#[unsafe(no_mangle)]
pub extern "C" fn vusb_exit_code(result: c_int) -> c_int {
    match result {
        VUSB_DONE.. => 0,
        -9..=-1 => -result,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_has_its_code() {
        for code in 1..=9 {
            assert_eq!(vusb_exit_code(-code), code);
        }
        assert_eq!([1, 0, VUSB_E_INTERNAL, c_int::MIN].map(|it| vusb_exit_code(it)), [0, 0, 1, 1]);
        let busy = VusbError::of_failure(&Failure::own(ExitCode::Busy, "in use".to_owned()));
        assert_eq!((busy.code, busy.message.to_str().unwrap(), &busy.hint), (-4, "in use", &None));
        let invalid = VusbError::of_failure(&Failure::invalid_parameter("port"));
        assert_eq!(invalid.code, -2);
        assert!(invalid.message.to_str().unwrap().contains("`port`"));
    }
}
