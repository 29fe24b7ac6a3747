//! Layer 2: controllers, with the verbs of the proposal of 2014.

use std::ffi::{c_char, c_int};
use std::ptr;

use vusb::model::address::Index;
use vusb::model::models::{ControllerType, UsbVersion};
use vusb::model::spec::{ControllerRef, ControllerSpec};
use vusb::{ExitCode, Outcome};
use vusb_methods::{CallOptions, Failure};

use crate::entry;
use crate::error::{VUSB_ALREADY, VUSB_DONE, VusbError};
use crate::handle::{Vusb, VusbHow, call};
use crate::memory::{array, is_null, needed, optional, replace, string, string_or_null};

/// The type is left open: the library chooses it.
pub const VUSB_TYPE_AUTO: c_int = 0;
/// Paravirtual.
pub const VUSB_TYPE_PV: c_int = 1;
/// Emulated.
pub const VUSB_TYPE_EMULATED: c_int = 2;

/// `vusb_controller` of the header. Strings are NULL or allocated with `malloc`.
#[derive(Debug)]
#[repr(C)]
pub struct VusbController {
    /// Its name.
    pub name: *mut c_char,
    /// `VUSB_TYPE_PV` and so on.
    pub r#type: c_int,
    /// Its USB version: 1, 2 or 3; 0 leaves it open.
    pub usbversion: c_int,
    /// Its number of ports; 0 leaves it open.
    pub numports: c_int,
    /// Its index; -1 leaves it open.
    pub index: c_int,
    /// Its model.
    pub model: *mut c_char,
    /// Its backend domain, by name or id.
    pub backend: *mut c_char,
    /// Its state in the guest. Only set in a list.
    pub state: *mut c_char,
}

const OPEN: VusbController = VusbController {
    name: ptr::null_mut(),
    r#type: VUSB_TYPE_AUTO,
    usbversion: 0,
    numports: 0,
    index: -1,
    model: ptr::null_mut(),
    backend: ptr::null_mut(),
    state: ptr::null_mut(),
};

/// The error of a field whose value is invalid.
pub(crate) fn invalid(field: &str, value: impl std::fmt::Display) -> Failure {
    Failure::own(ExitCode::Usage, format!("{value} is not valid for `{field}`"))
}

/// Parses a string of a structure. The result is `None` if the string is NULL or empty.
///
/// # Safety
/// As [`optional`].
pub(crate) unsafe fn parsed<T: std::str::FromStr>(
    text: *const c_char,
    field: &str,
) -> Result<Option<T>, Failure>
where
    T::Err: std::fmt::Display,
{
    // SAFETY: the caller guarantees what `optional` needs.
    let text = unsafe { optional(text, field) }?.filter(|it| !it.is_empty());
    let parse = |text: &str| {
        text.parse().map_err(|error: T::Err| Failure::own(ExitCode::Usage, error.to_string()))
    };
    text.map(parse).transpose()
}

/// An index from a C integer; -1 is `None`.
pub(crate) fn index(value: c_int, field: &str) -> Result<Option<Index>, Failure> {
    if value == -1 {
        return Ok(None);
    }
    let index = u16::try_from(value).ok().and_then(Index::new);
    index.map(Some).ok_or_else(|| invalid(field, value))
}

/// An index as a C integer: 0 to 0xfff.
pub(crate) fn number(index: Index) -> c_int {
    c_int::from(index.get())
}

const fn type_number(of: ControllerType) -> c_int {
    match of {
        ControllerType::Pv => VUSB_TYPE_PV,
        ControllerType::Emulated => VUSB_TYPE_EMULATED,
    }
}

impl VusbController {
    /// # Safety
    /// The strings are valid.
    unsafe fn spec(&self) -> Result<ControllerSpec, Failure> {
        let controller_type = match self.r#type {
            VUSB_TYPE_AUTO => None,
            VUSB_TYPE_PV => Some(ControllerType::Pv),
            VUSB_TYPE_EMULATED => Some(ControllerType::Emulated),
            other => return Err(invalid("type", other)),
        };
        let usbversion = match self.usbversion {
            0 => None,
            other => {
                let version = u8::try_from(other).ok().and_then(|it| UsbVersion::try_from(it).ok());
                Some(version.ok_or_else(|| invalid("usbversion", other))?)
            }
        };
        let ports = match self.numports {
            0 => None,
            other => Some(u8::try_from(other).map_err(|_| invalid("numports", other))?),
        };
        // SAFETY: the caller guarantees it.
        let (name, model, backend) = unsafe {
            (
                parsed(self.name, "name")?,
                parsed(self.model, "model")?,
                optional(self.backend, "backend")?.filter(|it| !it.is_empty()),
            )
        };
        Ok(ControllerSpec {
            index: index(self.index, "index")?,
            name,
            controller_type,
            usbversion,
            model,
            ports,
            backend: backend.map(str::to_owned),
            ..ControllerSpec::default()
        })
    }

    /// Fills in what was chosen.
    ///
    /// # Safety
    /// The strings were allocated with `malloc`.
    unsafe fn fill(&mut self, outcome: &Outcome) {
        let chosen = outcome.chosen.as_ref().and_then(|it| outcome.hardware.controller(it.bus));
        let Some(it) = chosen else { return };
        // SAFETY: the caller guarantees it.
        unsafe {
            replace(&mut self.name, Some(it.name.as_str()));
            replace(&mut self.model, Some(it.model.name()));
            replace(&mut self.backend, it.backend.as_deref());
            replace(&mut self.state, None);
        }
        self.r#type = type_number(it.model.controller_type());
        self.usbversion = c_int::from(u8::from(it.model.usbversion()));
        self.numports = c_int::from(it.ports.count());
        self.index = number(it.index);
    }

    /// The controller that this structure identifies: by its name, or else by its index.
    ///
    /// # Safety
    /// The strings are valid.
    unsafe fn which(&self) -> Result<ControllerRef, Failure> {
        // SAFETY: the caller guarantees it.
        if let Some(name) = unsafe { parsed(self.name, "name") }? {
            return Ok(ControllerRef::Name(name));
        }
        let index = index(self.index, "index")?.map(ControllerRef::Index);
        index.ok_or_else(|| {
            let message = "neither the name nor the index of the controller is given".to_owned();
            Failure::own(ExitCode::Usage, message)
        })
    }
}

/// Leaves everything open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_controller_init(controller: *mut VusbController) {
    if !controller.is_null() {
        // SAFETY: it is not NULL, and the header says that it is a place for a controller.
        unsafe { controller.write(OPEN) };
    }
}

/// Releases what is inside, and leaves everything open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_controller_dispose(controller: *mut VusbController) {
    // SAFETY: it is NULL or was initialized, as the header says.
    let Some(it) = (unsafe { controller.as_mut() }) else { return };
    for text in [it.name, it.model, it.backend, it.state] {
        // SAFETY: NULL or allocated with `malloc`, and overwritten below.
        unsafe { libc::free(text.cast()) };
    }
    *it = OPEN;
}

/// Adds a controller.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_controller_add(
    vusb: *const Vusb,
    domain: *const c_char,
    controller: *mut VusbController,
    how: *const VusbHow,
    error: *mut *mut VusbError,
) -> c_int {
    let body = || {
        // SAFETY: the header says what the pointers are.
        let (call, domain, controller) = unsafe {
            let controller = controller.as_mut().ok_or_else(|| is_null("the controller"))?;
            (call(vusb, how)?, needed(domain, "the domain")?, controller)
        };
        // SAFETY: the header says what the strings are.
        let spec = unsafe { controller.spec() }?;
        let options = call.options(&CallOptions::default())?;
        let domain = call.domain(domain, &options)?;
        let outcome = call.context.controller_add(&domain, &spec, &options)?;
        // SAFETY: the header says what the strings are.
        unsafe { controller.fill(&outcome) };
        Ok(if outcome.already { VUSB_ALREADY } else { VUSB_DONE })
    };
    // SAFETY: the header says what `error` is.
    unsafe { entry::run(error, body) }
}

/// # Safety
/// The pointers are as the header says.
unsafe fn remove(
    vusb: *const Vusb,
    domain: *const c_char,
    which: *const VusbController,
    how: *const VusbHow,
    force: bool,
) -> Result<c_int, Failure> {
    // SAFETY: the caller guarantees it.
    let (call, domain, which) = unsafe {
        let which = which.as_ref().ok_or_else(|| is_null("the controller"))?;
        (call(vusb, how)?, needed(domain, "the domain")?, which.which()?)
    };
    let options = call.options(&CallOptions { force, ..CallOptions::default() })?;
    let domain = call.domain(domain, &options)?;
    let outcome = call.context.controller_remove(&domain, &which, &options)?;
    Ok(if outcome.already { VUSB_ALREADY } else { VUSB_DONE })
}

/// Removes a controller without devices.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_controller_remove(
    vusb: *const Vusb,
    domain: *const c_char,
    which: *const VusbController,
    how: *const VusbHow,
    error: *mut *mut VusbError,
) -> c_int {
    // SAFETY: the header says what the pointers are.
    unsafe { entry::run(error, || remove(vusb, domain, which, how, false)) }
}

/// Removes a controller with its devices, without the guest's consent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_controller_destroy(
    vusb: *const Vusb,
    domain: *const c_char,
    which: *const VusbController,
    how: *const VusbHow,
    error: *mut *mut VusbError,
) -> c_int {
    // SAFETY: the header says what the pointers are.
    unsafe { entry::run(error, || remove(vusb, domain, which, how, true)) }
}

/// Lists the controllers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_controller_list(
    vusb: *const Vusb,
    domain: *const c_char,
    list: *mut *mut VusbController,
    count: *mut usize,
    how: *const VusbHow,
    error: *mut *mut VusbError,
) -> c_int {
    let body = || {
        if list.is_null() || count.is_null() {
            return Err(is_null("the place for the list or for its length"));
        }
        // SAFETY: the header says what the pointers are; the places are not NULL.
        let (call, domain) = unsafe {
            list.write(ptr::null_mut());
            count.write(0);
            (call(vusb, how)?, needed(domain, "the domain")?)
        };
        let options = call.options(&CallOptions::default())?;
        let domain = call.domain(domain, &options)?;
        let view = call.context.list(&domain, &options)?;
        let controllers: Vec<VusbController> = view
            .controllers
            .iter()
            .map(|it| VusbController {
                name: string(it.name.as_str()),
                r#type: type_number(it.controller_type),
                usbversion: c_int::from(u8::from(it.usbversion)),
                numports: c_int::from(it.ports),
                index: number(it.index),
                model: string(it.model.name()),
                backend: string_or_null(it.backend.as_deref()),
                state: string(&it.state.to_string()),
            })
            .collect();
        // SAFETY: as above.
        unsafe {
            count.write(controllers.len());
            list.write(array(controllers));
        }
        Ok(VUSB_DONE)
    };
    // SAFETY: the header says what `error` is.
    unsafe { entry::run(error, body) }
}

/// Releases a list. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_controller_list_free(list: *mut VusbController, count: usize) {
    if list.is_null() {
        return;
    }
    for number in 0..count {
        // SAFETY: the list has this many controllers, as the header says.
        unsafe { vusb_controller_dispose(list.add(number)) };
    }
    // SAFETY: it was allocated with `malloc`, and is released once.
    unsafe { libc::free(list.cast()) };
}
