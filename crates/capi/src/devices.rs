//! Layer 2: devices, with the verbs of the proposal of 2014.

use std::ffi::{c_char, c_int};
use std::ptr;

use vusb::model::address::PortPath;
use vusb::model::device::Kind;
use vusb::model::spec::{ControllerRef, DeviceSpec};
use vusb::{DeviceRef, ExitCode, Outcome};
use vusb_methods::{CallOptions, Failure};

use crate::controllers::{index, number, parsed};
use crate::entry;
use crate::error::{VUSB_ALREADY, VUSB_DONE, VusbError};
use crate::handle::{Vusb, VusbHow, call};
use crate::memory::{array, is_null, needed, replace, string};

/// `vusb_device` of the header. Strings are NULL or allocated with `malloc`.
#[derive(Debug)]
#[repr(C)]
pub struct VusbDevice {
    /// Its name.
    pub name: *mut c_char,
    /// What it is, as the command `vusb device add` takes it.
    pub what: *mut c_char,
    /// The controller, by name or index.
    pub controller: *mut c_char,
    /// Its port.
    pub port: *mut c_char,
    /// The index of its controller; -1 leaves it open.
    pub bus: c_int,
    /// Its state in the guest. Only set in a list.
    pub state: *mut c_char,
}

const OPEN: VusbDevice = VusbDevice {
    name: ptr::null_mut(),
    what: ptr::null_mut(),
    controller: ptr::null_mut(),
    port: ptr::null_mut(),
    bus: -1,
    state: ptr::null_mut(),
};

impl VusbDevice {
    /// The controller, by `controller` or else by `bus`.
    ///
    /// # Safety
    /// The strings are valid.
    unsafe fn controller(&self) -> Result<Option<ControllerRef>, Failure> {
        // SAFETY: the caller guarantees it.
        let named = unsafe { parsed(self.controller, "controller") }?;
        match named {
            Some(it) => Ok(Some(it)),
            None => Ok(index(self.bus, "bus")?.map(ControllerRef::Index)),
        }
    }

    /// # Safety
    /// The strings are valid.
    unsafe fn spec(&self) -> Result<DeviceSpec, Failure> {
        // SAFETY: the caller guarantees it.
        unsafe {
            let kind: Option<Kind> = parsed(self.what, "what")?;
            Ok(DeviceSpec {
                name: parsed(self.name, "name")?,
                kind: kind.ok_or_else(|| is_null("the field `what` of the device"))?,
                controller: self.controller()?,
                port: parsed(self.port, "port")?,
            })
        }
    }

    /// Fills in what was chosen.
    ///
    /// # Safety
    /// The strings were allocated with `malloc`.
    unsafe fn fill(&mut self, outcome: &Outcome) {
        let Some(chosen) = &outcome.chosen else { return };
        let controller = outcome.hardware.controller(chosen.bus);
        let port = chosen.port.map(|it| it.to_string());
        // SAFETY: the caller guarantees it.
        unsafe {
            replace(&mut self.name, Some(chosen.name.as_str()));
            replace(&mut self.controller, controller.map(|it| it.name.as_str()));
            replace(&mut self.port, port.as_deref());
            replace(&mut self.state, None);
        }
        self.bus = number(chosen.bus);
    }

    /// The device that this structure identifies: by its name, else by its port, else by `what`.
    ///
    /// # Safety
    /// The strings are valid.
    unsafe fn which(&self) -> Result<DeviceRef, Failure> {
        // SAFETY: the caller guarantees it.
        unsafe {
            if let Some(name) = parsed(self.name, "name")? {
                return Ok(DeviceRef::Name(name));
            }
            let port: Option<PortPath> = parsed(self.port, "port")?;
            if let (Some(controller), Some(port)) = (self.controller()?, port) {
                return Ok(DeviceRef::Port(controller, port));
            }
            let what = parsed::<DeviceRef>(self.what, "what")?;
            what.ok_or_else(|| {
                let message =
                    "neither name, nor controller and port, nor what the device is are given";
                Failure::own(ExitCode::Usage, message.to_owned())
            })
        }
    }
}

/// Leaves everything open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_device_init(device: *mut VusbDevice) {
    if !device.is_null() {
        // SAFETY: it is not NULL, and the header says that it is a place for a device.
        unsafe { device.write(OPEN) };
    }
}

/// Releases what is inside, and leaves everything open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_device_dispose(device: *mut VusbDevice) {
    // SAFETY: it is NULL or was initialized, as the header says.
    let Some(it) = (unsafe { device.as_mut() }) else { return };
    for text in [it.name, it.what, it.controller, it.port, it.state] {
        // SAFETY: NULL or allocated with `malloc`, and overwritten below.
        unsafe { libc::free(text.cast()) };
    }
    *it = OPEN;
}

/// Attaches a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_device_add(
    vusb: *const Vusb,
    domain: *const c_char,
    device: *mut VusbDevice,
    how: *const VusbHow,
    error: *mut *mut VusbError,
) -> c_int {
    let body = || {
        // SAFETY: the header says what the pointers are.
        let (call, domain, device) = unsafe {
            let device = device.as_mut().ok_or_else(|| is_null("the device"))?;
            (call(vusb, how)?, needed(domain, "the domain")?, device)
        };
        // SAFETY: the header says what the strings are.
        let spec = unsafe { device.spec() }?;
        let options = call.options(&CallOptions::default())?;
        let domain = call.domain(domain, &options)?;
        let outcome = call.context.device_add(&domain, &spec, &options)?;
        // SAFETY: the header says what the strings are.
        unsafe { device.fill(&outcome) };
        Ok(if outcome.already { VUSB_ALREADY } else { VUSB_DONE })
    };
    // SAFETY: the header says what `error` is.
    unsafe { entry::run(error, body) }
}

/// Detaches a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_device_remove(
    vusb: *const Vusb,
    domain: *const c_char,
    which: *const VusbDevice,
    how: *const VusbHow,
    error: *mut *mut VusbError,
) -> c_int {
    let body = || {
        // SAFETY: the header says what the pointers are.
        let (call, domain, which) = unsafe {
            let which = which.as_ref().ok_or_else(|| is_null("the device"))?;
            (call(vusb, how)?, needed(domain, "the domain")?, which.which()?)
        };
        let options = call.options(&CallOptions::default())?;
        let domain = call.domain(domain, &options)?;
        let outcome = call.context.device_remove(&domain, &which, &options)?;
        Ok(if outcome.already { VUSB_ALREADY } else { VUSB_DONE })
    };
    // SAFETY: the header says what `error` is.
    unsafe { entry::run(error, body) }
}

/// Lists the devices.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_device_list(
    vusb: *const Vusb,
    domain: *const c_char,
    list: *mut *mut VusbDevice,
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
        let view = call.context.list(&domain, &options)?.into_devices();
        let devices: Vec<VusbDevice> = view
            .devices
            .iter()
            .map(|it| VusbDevice {
                name: string(it.device.name.as_str()),
                what: string(&it.device.kind.to_string()),
                controller: string(it.controller.as_str()),
                port: string(&it.device.port.to_string()),
                bus: number(it.bus),
                state: string(&it.device.state.to_string()),
            })
            .collect();
        // SAFETY: as above.
        unsafe {
            count.write(devices.len());
            list.write(array(devices));
        }
        Ok(VUSB_DONE)
    };
    // SAFETY: the header says what `error` is.
    unsafe { entry::run(error, body) }
}

/// Releases a list. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_device_list_free(list: *mut VusbDevice, count: usize) {
    if list.is_null() {
        return;
    }
    for number in 0..count {
        // SAFETY: the list has this many devices, as the header says.
        unsafe { vusb_device_dispose(list.add(number)) };
    }
    // SAFETY: it was allocated with `malloc`, and is released once.
    unsafe { libc::free(list.cast()) };
}
