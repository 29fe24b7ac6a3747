//! Plugging a host device into a port of a paravirtual controller, and unplugging it.
//!
//! ```text
//! plug:    port and identity in one transaction ─▶ offered ─▶ addressed ─▶ configured: done
//!              │                                     └──────────┴─ not in time: unplugged again
//!              └─ absent, refused WHY: unplugged again
//! unplug:  port empty ─▶ status gone: the device is with its own driver again
//! ```
//!
//! A QEMU that serves a controller (`qusb`) does not report the status of a port: the port is
//! written and nothing is waited for, as with xl.

use std::time::{Duration, Instant};

use vusb_host::HostDevice;
use vusb_model::hardware::Device;
use vusb_model::remedy::{Reason, Remedy};
use vusb_model::selector::{Selector, UsbId};
use vusb_xen::usb::{
    ControllerPaths, DeviceIdentity, Folder, Key, PortLabel, PortStatus, RequestedDevice,
};

use super::entry::parse_status;
use super::xenstore::{Edit, Xenstore};
use crate::driver::Error;

/// How long to wait until a device that could not be plugged in is given back.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the backend may report a device as absent before that is final: it may have looked just
/// before the device appeared.
const ABSENT_GRACE: Duration = Duration::from_millis(500);

/// A device to plug in.
pub(super) struct PlugRequest<'a> {
    pub(super) device: &'a Device,
    /// What the device was requested by.
    pub(super) selector: &'a Selector,
    /// The device, as its backend domain reports it.
    pub(super) host_device: &'a HostDevice,
    pub(super) port: u8,
    /// Whether the backend reports the status of the port. A QEMU does not.
    pub(super) reports_status: bool,
}

impl PlugRequest<'_> {
    fn what(&self) -> String {
        plugging_in(self.device)
    }
}

/// The operation, for errors.
pub(super) fn plugging_in(device: &Device) -> String {
    format!("plugging in {} ({})", device.name, device.kind)
}

/// Which device the backend may export: any device with the requested ids, or the device that is
/// now at the requested place.
fn identity(selector: &Selector, id: UsbId, serial: Option<&str>) -> DeviceIdentity {
    match selector {
        Selector::Id { id, serial } => DeviceIdentity { id: *id, serial: serial.clone() },
        _ => DeviceIdentity { id, serial: serial.map(str::to_owned) },
    }
}

/// Plugs a device in and waits until the guest has chosen its configuration.
///
/// # Errors
/// After an error, the port does not have the device. It is empty, unless another tool has filled
/// it, or it cannot be emptied, which is logged.
pub(super) fn plug(
    store: &mut Xenstore,
    paths: &ControllerPaths,
    request: &PlugRequest<'_>,
    limit: Duration,
) -> Result<(), Error> {
    store.change(|edit| fill(edit, paths, request))?;
    if !request.reports_status {
        return Ok(());
    }
    match wait_configured(store, paths, request, limit) {
        Ok(()) => Ok(()),
        Err(error) => {
            let wait = Wait::BestEffort(limit.min(ROLLBACK_TIMEOUT));
            let undone =
                store.roll_back(|store| unplug(store, paths, request.port, &request.what(), wait));
            if let Err(error) = undone {
                tracing::warn!(%error, "a device that could not be plugged in is not given back yet");
            }
            Err(error)
        }
    }
}

/// Writes the nodes of a port that must be empty.
fn fill(
    edit: &mut Edit<'_, '_>,
    paths: &ControllerPaths,
    request: &PlugRequest<'_>,
) -> Result<(), Error> {
    let (port, backend) = (request.port, paths.backend());
    let failed = |why: String| Err(Error::Failed { what: request.what(), why: why.into() });
    match edit.read(&backend.node(Key::Port(port)))? {
        None => return failed("the controller is gone".to_owned()),
        Some(other) if !other.is_empty() => {
            return failed(format!(
                "another tool put {} into port {port} in the meantime",
                other.escape_debug()
            ));
        }
        Some(_) => {}
    }
    let HostDevice { bus_id, id, serial, .. } = request.host_device;
    let identity = identity(request.selector, *id, serial.as_deref());
    let requested = RequestedDevice { bus_id: bus_id.clone(), identity: Some(identity) };
    let label = PortLabel { name: request.device.name.clone(), selector: request.selector.clone() };
    edit.write_all(&paths.libxl(), &label.entries(port, &requested))?;
    // QEMU does not know the identity.
    let identity = requested.identity.filter(|_| request.reports_status);
    edit.write_all(&backend, &RequestedDevice { identity, ..requested }.entries(port))
}

/// Whether a status that was read after this time will not change any more.
fn is_final(status: &PortStatus, waited: Duration) -> bool {
    match status {
        PortStatus::Configured | PortStatus::Refused(_) => true,
        PortStatus::Absent => waited >= ABSENT_GRACE,
        PortStatus::Offered | PortStatus::Addressed => false,
    }
}

fn wait_configured(
    store: &mut Xenstore,
    paths: &ControllerPaths,
    request: &PlugRequest<'_>,
    limit: Duration,
) -> Result<(), Error> {
    let node = paths.backend().node(Key::Status(request.port));
    let begun = Instant::now();
    let look = |store: &mut Xenstore| {
        let status = store.read(&node)?.as_deref().and_then(parse_status);
        Ok(status.filter(|status| is_final(status, begun.elapsed())))
    };
    // Waits in two parts, because a device that stays absent causes no event.
    let mut result = store.wait(&[&node], limit.min(ABSENT_GRACE), look)?;
    if result.is_none() {
        result = store.wait(&[&node], limit.saturating_sub(ABSENT_GRACE), look)?;
    }
    match result {
        Some(PortStatus::Refused(why)) => Err(Error::Failed {
            what: request.what(),
            why: format!("the backend refuses it: {why}").into(),
        }),
        Some(PortStatus::Absent) => Err(Error::Missing {
            what: format!("{} ({})", request.selector, request.host_device.bus_id),
            why: "it was unplugged from the backend's machine; plug it in and try again".into(),
        }),
        Some(_) => Ok(()),
        None => {
            let status = store.read(&node)?.as_deref().and_then(parse_status);
            let why = not_configured(status.as_ref()).into();
            Err(Error::TimedOut { what: request.what(), limit, why })
        }
    }
}

/// Why the guest has not configured the device.
const fn not_configured(status: Option<&PortStatus>) -> &'static str {
    match status {
        None => "the vusb-backend has not looked at it; check its log",
        Some(PortStatus::Offered) => {
            "the guest was notified of it but has not reacted: it may hang, or its driver for PVUSB (in Linux xen-hcd) may be gone"
        }
        Some(PortStatus::Addressed) => {
            "the guest gave it an address but chose no configuration: it may have no driver for it, or the device does not answer"
        }
        Some(_) => "its status changed just now; try again",
    }
}

/// How long to wait until the backend has given a device back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// This long; it is an error if that is not enough.
    Required(Duration),
    /// This long at most; the device counts as unplugged either way.
    BestEffort(Duration),
    /// Not at all: no backend would report it.
    No,
}

/// Empties a port and waits until the backend has given the device back. Only then is the device
/// removed from libxl's folder: until then it counts as plugged in. `what` names the operation in
/// errors.
///
/// # Errors
/// [`Error::TimedOut`]: the port is empty, and the backend still holds the device.
pub(super) fn unplug(
    store: &mut Xenstore,
    paths: &ControllerPaths,
    port: u8,
    what: &str,
    wait: Wait,
) -> Result<(), Error> {
    let backend = paths.backend();
    store.change(|edit| empty(edit, &backend, port))?;
    if let Wait::Required(limit) | Wait::BestEffort(limit) = wait {
        let status = backend.node(Key::Status(port));
        let given_back = store
            .wait(&[&status], limit, |store| Ok(store.read(&status)?.is_none().then_some(())))?;
        if given_back.is_none() && matches!(wait, Wait::Required(_)) {
            let why = "its port is empty, and the vusb-backend has not given it back to its own driver yet; check the backend's log. \
                       It may still do so later; a forced removal does not wait for it";
            let why = Reason::from(why).remedy(Remedy::ListDomain).remedy(Remedy::Force);
            return Err(Error::TimedOut { what: what.to_owned(), limit, why });
        }
    }
    store.change(|edit| empty(edit, &paths.libxl(), port))
}

fn empty(edit: &mut Edit<'_, '_>, folder: &Folder, port: u8) -> Result<(), Error> {
    let node = folder.node(Key::Port(port));
    // Writing into a folder that is gone would create it again.
    if edit.read(&node)?.is_some() {
        edit.write(&node, "")?;
    }
    let devices = folder.node(Key::Devices);
    let others = edit.list(&devices)?.iter().any(|it| *it != port.to_string());
    edit.remove(&if others { folder.node(Key::Device(port)) } else { devices })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_without_ids_identifies_the_device_that_is_plugged_in_now() {
        let Ok(Selector::Id { id, .. }) = "0781:5581".parse() else { panic!() };
        let identity =
            |selector: &str, serial| identity(&selector.parse().unwrap(), id, serial).to_string();
        assert_eq!(identity("0781:5581", Some("4C53")), "0781:5581");
        assert_eq!(identity("0781:5581:AB", Some("4C53")), "0781:5581:AB");
        assert_eq!(identity("1-4.2", Some("4C53")), "0781:5581:4C53");
        assert_eq!(identity("003.014", None), "0781:5581");
    }

    #[test]
    fn only_the_wait_for_an_absent_device_ends_before_the_limit() {
        let (early, late) = (ABSENT_GRACE - Duration::from_millis(1), ABSENT_GRACE);
        for waited in [Duration::ZERO, early, late, Duration::from_secs(60)] {
            assert!(is_final(&PortStatus::Configured, waited));
            assert!(is_final(&PortStatus::Refused("it is a hub".to_owned()), waited));
            assert_eq!(is_final(&PortStatus::Absent, waited), waited >= late);
            assert!(!is_final(&PortStatus::Offered, waited));
            assert!(!is_final(&PortStatus::Addressed, waited));
        }
    }
}
