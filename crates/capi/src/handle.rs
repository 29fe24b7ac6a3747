//! The handle, and how a call is carried out.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::path::PathBuf;
use std::ptr;
use std::time::{Duration, Instant};

use vusb::drivers::When;
use vusb::{Cancel, Context, ExitCode, Host, Options, StateDir};
use vusb_methods::{Call, Caller, Failure};

use crate::entry;
use crate::error::{VUSB_DONE, VusbError};
use crate::memory::{is_null, optional};

/// `vusb_options` of the header.
#[derive(Debug)]
#[repr(C)]
pub struct VusbOptions {
    /// The folder of the records.
    pub state_dir: *const c_char,
    /// The folder of the claims.
    pub claims_dir: *const c_char,
    /// The folder of the rule files.
    pub rules_dir: *const c_char,
    /// The root of the machine whose devices are attached.
    pub host_root: *const c_char,
    /// Must be NULL.
    pub reserved: [*const c_void; 4],
}

/// `vusb_how` of the header.
#[derive(Debug)]
#[repr(C)]
pub struct VusbHow {
    /// `VUSB_DRY_RUN` and so on.
    pub flags: c_uint,
    /// The limit of a single wait, in milliseconds.
    pub wait_ms: c_int,
    /// The limit of the whole call, in milliseconds.
    pub deadline_ms: c_int,
    /// The folder that relative paths are relative to.
    pub folder: *const c_char,
    /// Cancels the call.
    pub cancel: *const VusbCancel,
}

/// Report what would be done, and change nothing.
pub const VUSB_DRY_RUN: c_uint = 1;
/// Override refusals.
pub const VUSB_FORCE: c_uint = 2;
/// Only change the running guest.
pub const VUSB_NOW: c_uint = 4;
/// Only change the configuration that the guest starts with next.
pub const VUSB_NEXT: c_uint = 8;
/// Accept a host device that is not plugged in.
pub const VUSB_WHEN_THERE: c_uint = 16;

const ALL_FLAGS: c_uint = VUSB_DRY_RUN | VUSB_FORCE | VUSB_NOW | VUSB_NEXT | VUSB_WHEN_THERE;

/// The handle: `vusb` of the header.
#[derive(Debug)]
pub struct Vusb {
    pub(crate) context: Context,
}

/// Cancels calls: `vusb_cancel` of the header.
#[derive(Debug)]
pub struct VusbCancel(Cancel);

fn usage(message: impl Into<String>) -> Failure {
    Failure::own(ExitCode::Usage, message.into())
}

/// A folder from the options; `None` if it is NULL.
///
/// # Safety
/// As [`optional`].
unsafe fn folder(text: *const c_char, what: &str) -> Result<Option<PathBuf>, Failure> {
    // SAFETY: the caller guarantees what `optional` needs.
    let path = unsafe { optional(text, what) }?.map(PathBuf::from);
    match path {
        Some(path) if !path.is_absolute() => Err(usage(format!("{what} is not an absolute path"))),
        path => Ok(path),
    }
}

/// # Safety
/// `options` is NULL or valid, with valid strings.
unsafe fn open(options: *const VusbOptions) -> Result<Vusb, Failure> {
    // SAFETY: the caller guarantees it.
    let options = unsafe { options.as_ref() };
    let (state, claims, rules, root) = match options {
        None => (None, None, None, None),
        Some(it) if it.reserved.iter().any(|it| !it.is_null()) => {
            return Err(usage("a reserved field of the options is not NULL"));
        }
        // SAFETY: the caller guarantees that the strings are valid.
        Some(it) => unsafe {
            (
                folder(it.state_dir, "state_dir")?,
                folder(it.claims_dir, "claims_dir")?,
                folder(it.rules_dir, "rules_dir")?,
                folder(it.host_root, "host_root")?,
            )
        },
    };
    let state = state.map_or_else(|| StateDir::of_user(|_| None), StateDir::new);
    let host = root.map_or_else(Host::system, Host::new);
    let mut context = Context::with_builtin_drivers(state, host);
    if let Some(claims) = claims {
        context = context.with_claims_in(claims);
    }
    if let Some(rules) = rules {
        context = context.with_rules_in(vec![rules]);
    }
    Ok(Vusb { context })
}

/// The call of a function: the context, and how it is carried out.
///
/// # Errors
/// The handle is NULL, or `how` is invalid.
///
/// # Safety
/// Both are NULL or valid, as the header says.
pub(crate) unsafe fn call(vusb: *const Vusb, how: *const VusbHow) -> Result<Call, Failure> {
    // SAFETY: the caller guarantees it.
    let vusb = unsafe { vusb.as_ref() }.ok_or_else(|| is_null("the handle"))?;
    // SAFETY: as above.
    let defaults = match unsafe { how.as_ref() } {
        // SAFETY: as above.
        Some(how) => unsafe { options(how) }?,
        None => Options::default(),
    };
    Ok(Call { context: vusb.context.clone(), caller: Caller::Program, defaults })
}

/// # Safety
/// The pointers in `how` are NULL or valid.
unsafe fn options(how: &VusbHow) -> Result<Options, Failure> {
    let has = |flag| how.flags & flag != 0;
    if how.flags & !ALL_FLAGS != 0 {
        return Err(usage(format!("unknown flags: {:#x}", how.flags & !ALL_FLAGS)));
    }
    let limit = |milliseconds: c_int, what: &str| match u64::try_from(milliseconds) {
        Ok(0) => Ok(None),
        Ok(some) => Ok(Some(Duration::from_millis(some))),
        Err(_) => Err(usage(format!("{what} is negative"))),
    };
    let deadline = limit(how.deadline_ms, "deadline_ms")?;
    // SAFETY: the caller guarantees it.
    let cancel = unsafe { how.cancel.as_ref() };
    Ok(Options {
        wait: limit(how.wait_ms, "wait_ms")?.unwrap_or(Options::DEFAULT_WAIT),
        deadline: deadline.and_then(|it| Instant::now().checked_add(it)),
        dry_run: has(VUSB_DRY_RUN),
        force: has(VUSB_FORCE),
        accept_absent: has(VUSB_WHEN_THERE),
        when: match (has(VUSB_NOW), has(VUSB_NEXT)) {
            (true, false) => When::Now,
            (false, true) => When::Next,
            _ => When::NowAndNext,
        },
        // SAFETY: the caller guarantees it.
        folder: unsafe { folder(how.folder, "folder") }?,
        cancel: cancel.map(|it| it.0.clone()).unwrap_or_default(),
        ..Options::default()
    })
}

/// Creates a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_open(
    options: *const VusbOptions,
    out: *mut *mut Vusb,
    error: *mut *mut VusbError,
) -> c_int {
    let body = || {
        if out.is_null() {
            return Err(is_null("the place for the handle"));
        }
        // SAFETY: the header says what the pointers are; `out` is not NULL.
        unsafe {
            out.write(ptr::null_mut());
            out.write(Box::into_raw(Box::new(open(options)?)));
        }
        Ok(VUSB_DONE)
    };
    // SAFETY: the header says what `error` is.
    unsafe { entry::run(error, body) }
}

/// Releases a handle. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_close(vusb: *mut Vusb) {
    if !vusb.is_null() {
        // SAFETY: it was made by `vusb_open` and is released once, while no call uses it.
        entry::quietly(|| drop(unsafe { Box::from_raw(vusb) }));
    }
}

/// Creates a value that cancels calls.
#[unsafe(no_mangle)]
pub extern "C" fn vusb_cancel_new() -> *mut VusbCancel {
    Box::into_raw(Box::new(VusbCancel(Cancel::default())))
}

/// Cancels all calls that use this value, now and later. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_cancel_trigger(cancel: *mut VusbCancel) {
    // SAFETY: it is NULL or was not released, as the header says.
    if let Some(it) = unsafe { cancel.as_ref() } {
        entry::quietly(|| it.0.cancel());
    }
}

/// Releases the value. Calls that use it continue. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_cancel_free(cancel: *mut VusbCancel) {
    if !cancel.is_null() {
        // SAFETY: it was made by `vusb_cancel_new` and is released once. Calls have clones.
        drop(unsafe { Box::from_raw(cancel) });
    }
}

/// The version of the library.
#[unsafe(no_mangle)]
pub extern "C" fn vusb_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
