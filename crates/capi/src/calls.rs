//! Layer 1: the methods of `io.github.vusb.Manager`.

use std::ffi::{c_char, c_int};
use std::ptr;

use serde_json::{Value, json};
use vusb::ExitCode;
use vusb_interface as interface;
use vusb_methods::{Answer, Call, Failure, Parameters};

use crate::entry;
use crate::error::{VUSB_ALREADY, VUSB_DONE, VusbError};
use crate::handle::{Vusb, VusbHow, call};
use crate::memory::{needed, optional, string};

/// Methods about the state of vusbd, which the library does not have.
const DAEMON_ONLY: [&str; 5] = ["Answer", "LiftHolds", "Metrics", "Reload", "Watch"];

/// Parses the parameters of a call or of a watch.
///
/// # Errors
/// They are not JSON.
pub(crate) fn parameters(text: Option<&str>) -> Result<Parameters, Failure> {
    let parsed = text.map(serde_json::from_str::<Value>).transpose();
    let value = parsed.map_err(|error| {
        Failure::own(ExitCode::Usage, format!("the parameters are not JSON: {error}"))
    })?;
    Ok(Parameters::new(value))
}

fn carry_out(call: &Call, name: &str, parameters: Parameters) -> Result<Answer, Failure> {
    let short = name.strip_prefix(interface::NAME).and_then(|it| it.strip_prefix('.'));
    let Some(method) = interface::method_named(short.unwrap_or(name)) else {
        let parameters = json!({ "method": short.unwrap_or(name) });
        let name = "org.varlink.service.MethodNotFound".to_owned();
        return Err(Failure { name, parameters });
    };
    if method.name == "GetAccess" {
        parameters.finish()?;
        let methods = interface::METHODS.iter().map(|it| it.name);
        let methods: Vec<&str> = methods.filter(|it| !DAEMON_ONLY.contains(it)).collect();
        return Ok(Answer::One(json!({ "access": "all", "methods": methods })));
    }
    vusb_methods::carry_out(call, method.name, parameters)
}

/// Calls a method.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_call(
    vusb: *const Vusb,
    method: *const c_char,
    json_in: *const c_char,
    how: *const VusbHow,
    json_out: *mut *mut c_char,
    error: *mut *mut VusbError,
) -> c_int {
    let body = || {
        // SAFETY: the header says what the pointers are.
        let (call, method, json_in) = unsafe {
            if !json_out.is_null() {
                json_out.write(ptr::null_mut());
            }
            (call(vusb, how)?, needed(method, "the method")?, optional(json_in, "json_in")?)
        };
        let (value, already) = match carry_out(&call, method, parameters(json_in)?)? {
            Answer::One(value) => {
                let already = value.get("already") == Some(&Value::Bool(true));
                (value, already)
            }
            Answer::Several(values) => (Value::Array(values), false),
        };
        if !json_out.is_null() {
            // SAFETY: the header says that it is NULL or a place for a string.
            unsafe { json_out.write(string(&value.to_string())) };
        }
        Ok(if already { VUSB_ALREADY } else { VUSB_DONE })
    };
    // SAFETY: the header says what `error` is.
    unsafe { entry::run(error, body) }
}
