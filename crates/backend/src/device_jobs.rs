//! Work on devices that may block: finding and opening them, configuring them, returning them to
//! their drivers. Each job runs on its own thread.

use std::time::Duration;

use tracing::{debug, warn};
use vusb_host::usbfs::{CallError, Handle, UsbFs};
use vusb_host::{Host, HostDevice};

use crate::engine::{Configuration, Failure, GuestView, Opened, Outcome, Work};
use crate::opener::{Item, Opener};
use vusb_xen::usb::{DeviceIdentity, RequestedDevice};

/// How many times opening a device is attempted, and the pause between two attempts. The kernel
/// announces a device before it chooses the configuration, and a program such as udev creates the
/// device node or sets its permissions later still.
const ATTEMPTS: u32 = 10;
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Finds and opens devices, and runs the jobs of open ones.
#[derive(Clone, Debug)]
pub struct JobRunner {
    /// This machine.
    pub host: Host,
    /// Opens device files.
    pub opener: Opener,
    /// The USB version of the controller, 1 or 2.
    pub version: u8,
}

/// Why a device was not opened.
enum OpenError {
    /// It is not plugged in.
    Absent,
    /// Temporary failure; retry.
    Retry(String),
    /// The device cannot be exported.
    Refused(String),
}

impl JobRunner {
    /// Runs one job to completion. Blocks.
    pub fn run(&self, job: Work<UsbFs>) -> Outcome<UsbFs> {
        match job {
            Work::Open(requested) => self.open(&requested),
            Work::Configure(handle, from, to) => Outcome::Done(configure(&handle, &from, &to)),
            Work::SetInterface(handle, interface, alternate) => {
                Outcome::Done(handle.set_interface(interface, alternate).map_err(|it| failure(&it)))
            }
            Work::ClearHalt(handle, endpoint) => {
                Outcome::Done(handle.clear_halt(endpoint).map_err(|it| failure(&it)))
            }
            Work::Reset(handle, claimed) => Outcome::Done(reset(&handle, &claimed)),
            Work::Release(usb, from, original) => {
                release(&usb, &from, &original);
                Outcome::Released
            }
        }
    }

    fn open(&self, requested: &RequestedDevice) -> Outcome<UsbFs> {
        let mut attempt = 1;
        loop {
            match self.try_open(requested, attempt == ATTEMPTS) {
                Err(OpenError::Retry(_)) if attempt < ATTEMPTS => {
                    std::thread::sleep(RETRY_INTERVAL);
                }
                Err(OpenError::Retry(why) | OpenError::Refused(why)) => {
                    return Outcome::Refused(why);
                }
                Err(OpenError::Absent) => return Outcome::Absent,
                Ok(opened) => return Outcome::Opened(Box::new(opened)),
            }
            attempt += 1;
        }
    }

    /// Opens a device once. A device without a configuration is opened by the last attempt only.
    fn try_open(
        &self,
        requested: &RequestedDevice,
        last_attempt: bool,
    ) -> Result<Opened<UsbFs>, OpenError> {
        let devices = self.host.devices().map_err(|it| OpenError::Refused(it.to_string()))?;
        let device =
            devices.iter().find(|it| it.bus_id == requested.bus_id).ok_or(OpenError::Absent)?;
        check_exportable(device, requested.identity.as_ref())?;
        let active = active_configuration(device.configuration, last_attempt)?;
        let raw = self.host.raw_descriptors(device).ok_or(OpenError::Absent)?;
        let file = self
            .opener
            .open(Item::Usb(device.bus_address))
            .map_err(|it| OpenError::Retry(it.to_string()))?;
        let usb = UsbFs::from_fd(file).map_err(|it| OpenError::Retry(it.to_string()))?;
        // Since the lookup, another device, with another address, may have taken its place.
        let again = self.host.raw_descriptors(device).ok_or(OpenError::Absent)?;
        if again != raw {
            return Err(OpenError::Retry(
                "the device changed while it was being opened".to_owned(),
            ));
        }
        let view = GuestView::new(&raw, device.speed, active, self.version);
        let view = view.map_err(|it| OpenError::Refused(it.to_string()))?;
        Ok(Opened { usb, view })
    }
}

/// Checks that this is the requested device, and that PVUSB can carry it at all. Whether it should
/// be exported is the toolstack's decision.
fn check_exportable(
    device: &HostDevice,
    identity: Option<&DeviceIdentity>,
) -> Result<(), OpenError> {
    if let Some(identity) = identity {
        let same = device.id == identity.id;
        let same =
            same && identity.serial.as_ref().is_none_or(|it| device.serial.as_ref() == Some(it));
        // Otherwise another device is plugged in at its port path.
        same.then_some(()).ok_or(OpenError::Absent)?;
    }
    if device.is_hub {
        return Err(OpenError::Refused(
            "hubs cannot be exported over PVUSB; export the devices behind the hub".to_owned(),
        ));
    }
    Ok(())
}

/// The value of the active configuration, 0 if the device has none.
///
/// The kernel lists a new device before it configures it. If the backend took it for unconfigured,
/// the kernel's drivers would bind to it unnoticed, and the guest could not configure it. A device
/// that stays without a configuration is accepted: the guest can choose one.
fn active_configuration(seen: Option<u8>, last_attempt: bool) -> Result<u8, OpenError> {
    match seen {
        None if !last_attempt => {
            Err(OpenError::Retry("the kernel has not configured the device yet".to_owned()))
        }
        configuration => Ok(configuration.unwrap_or(0)),
    }
}

fn configure(handle: &Handle, from: &Configuration, to: &Configuration) -> Result<(), Failure> {
    if to.value == 0 {
        let mut release = from.interfaces.iter().map(|it| handle.release(*it));
        return release.try_for_each(|it| it.map_err(|it| failure(&it)));
    }
    if from.value != to.value {
        // The kernel refuses to change the configuration while an interface is claimed.
        for interface in &from.interfaces {
            handle.disconnect_claim(*interface).map_err(|it| failure(&it))?;
            handle.release(*interface).map_err(|it| failure(&it))?;
        }
        handle.set_configuration(to.value).map_err(|it| failure(&it))?;
    }
    claim(handle, to)
}

/// Detaches the host's drivers from all interfaces of a configuration, and claims them.
fn claim(handle: &Handle, configuration: &Configuration) -> Result<(), Failure> {
    configuration
        .interfaces
        .iter()
        .try_for_each(|it| handle.disconnect_claim(*it).map_err(|it| failure(&it)))
}

/// Resets a device. During a reset the kernel releases the interfaces and binds its own drivers to
/// them, so they have to be claimed again.
fn reset(handle: &Handle, claimed: &Configuration) -> Result<(), Failure> {
    handle.reset().map_err(|it| failure(&it))?;
    claim(handle, claimed)
}

/// Restores the original configuration, and binds the host's drivers again. Best effort.
fn release(usb: &UsbFs, from: &Configuration, original: &Configuration) {
    if from.value != original.value && original.value > 0 {
        for interface in &from.interfaces {
            let _ = usb.release(*interface);
        }
        if let Err(error) = usb.set_configuration(original.value) {
            debug!("cannot restore a device's configuration: {error}");
        }
    }
    let interfaces = if original.value > 0 { original } else { from };
    for interface in &interfaces.interfaces {
        match usb.connect(*interface) {
            Ok(_) | Err(CallError::Gone { .. }) => {}
            Err(error) => {
                warn!("no driver for interface {interface} of a returned device: {error}");
            }
        }
    }
}

fn failure(error: &CallError) -> Failure {
    debug!("{error}");
    match error {
        CallError::Gone { .. } => Failure::Gone,
        CallError::Stalled { .. } => Failure::Stalled,
        _ => Failure::Failed,
    }
}

/// Binds the host's drivers to all interfaces of a device that have none. A backend that was killed
/// leaves its devices in that state.
pub fn reconnect_drivers(jobs: &JobRunner, requested: &RequestedDevice) {
    let Ok(opened) = jobs.try_open(requested, true) else { return };
    let active = opened.view.initial_configuration();
    for interface in active.interfaces {
        if matches!(opened.usb.driver(interface), Ok(None)) {
            let _ = opened.usb.connect(interface);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_the_kernel_has_not_configured_yet_is_tried_again_before_it_is_accepted() {
        assert!(matches!(active_configuration(None, false), Err(OpenError::Retry(_))));
        assert!(matches!(active_configuration(None, true), Ok(0)));
        assert!(matches!(active_configuration(Some(1), false), Ok(1)));
    }
}
