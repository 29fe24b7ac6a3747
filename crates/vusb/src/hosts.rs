//! The USB devices of this machine, as they are at one moment, and what may be given of them.

use std::collections::BTreeMap;

use vusb_host::{Host, HostDevice, HostError, SelectError, matches, select};
use vusb_model::address::Address;
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::Step;
use vusb_model::hardware::{Device, Hardware};
use vusb_model::name::Name;
use vusb_model::selector::Selector;

use crate::error::Error;

/// What is plugged into this machine. Read when it is first needed: most operations do without.
#[derive(Debug)]
pub(crate) struct Present<'a> {
    host: &'a Host,
    devices: std::cell::OnceCell<Vec<HostDevice>>,
}

impl<'a> Present<'a> {
    pub(crate) const fn new(host: &'a Host) -> Present<'a> {
        Present { host, devices: std::cell::OnceCell::new() }
    }

    /// All devices.
    pub(crate) fn devices(&self) -> Result<&[HostDevice], HostError> {
        if let Some(devices) = self.devices.get() {
            return Ok(devices);
        }
        let devices = self.host.devices()?;
        Ok(self.devices.get_or_init(|| devices))
    }

    /// The one device that the selector names.
    pub(crate) fn select(&self, selector: &Selector) -> Result<&HostDevice, Error> {
        Ok(select(self.devices()?, selector)?)
    }

    /// The one device that the selector names; `None` if it is not plugged in.
    pub(crate) fn find(&self, selector: &Selector) -> Result<Option<&HostDevice>, Error> {
        match self.select(selector) {
            Ok(device) => Ok(Some(device)),
            Err(Error::Select(SelectError::Absent { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether nothing that is plugged in matches. What cannot be read is taken to be there.
    pub(crate) fn is_absent(&self, selector: &Selector) -> bool {
        self.devices().is_ok_and(|devices| !devices.iter().any(|it| matches(it, selector)))
    }

    /// The step with everything that is known of its host device at this moment: where it is plugged in and its speeds.
    pub(crate) fn placed(&self, step: &Step) -> Step {
        let Step::Plug(address, device) = step else {
            return step.clone();
        };
        let Kind::Host(host) = &device.kind else {
            return step.clone();
        };
        let here = self.find(&host.selector).ok().flatten();
        let reference = here.map(|it| it.reference(host.selector.clone()));
        let kind = Kind::Host(reference.unwrap_or_else(|| host.clone()));
        Step::Plug(*address, Device { name: device.name.clone(), kind })
    }

    /// The reboot-proof path of each host device in `hardware` that is plugged in, by name; for the others what `before`
    /// says.
    pub(crate) fn places(
        &self,
        hardware: &Hardware,
        before: &BTreeMap<Name, String>,
    ) -> BTreeMap<Name, String> {
        let place = |(_, device): (Address, &Device)| {
            let Kind::Host(host) = &device.kind else { return None };
            let kept = before.get(&device.name).cloned();
            let now =
                || self.find(&host.selector).ok().flatten()?.path.as_ref().map(ToString::to_string);
            Some((device.name.clone(), kept.or_else(now)?))
        };
        hardware.devices().filter_map(place).collect()
    }
}

/// How a device is called in what is stored: an address is new at each plug, so the path or the port stands for it.
pub(crate) fn lasting(selector: &Selector, device: &HostDevice, all: &[HostDevice]) -> Selector {
    if !matches!(selector, Selector::Address(_)) {
        return selector.clone();
    }
    let path = device.path.clone().map(Selector::Path);
    path.filter(|path| select(all, path).is_ok())
        .unwrap_or_else(|| Selector::Port(device.bus_id.clone()))
}

/// The host device of `hardware` that is `device`, whatever it was called when it was given.
pub(crate) fn given(hardware: &Hardware, device: &HostDevice) -> Option<(Address, Selector)> {
    hardware.devices().find_map(|(address, it)| match &it.kind {
        Kind::Host(host) if matches(device, &host.selector) => {
            Some((address, host.selector.clone()))
        }
        _ => None,
    })
}

/// What is known of a host device that `selector` names and that is to be given; `None` where it is not plugged in.
///
/// If `has`, what the domain has already, has it under another selector, that one is used.
pub(crate) fn reference(
    present: &Present<'_>,
    selector: &Selector,
    has: &Hardware,
) -> Result<Option<HostRef>, Error> {
    let named = |it: &Device| matches!(&it.kind, Kind::Host(host) if host.selector == *selector);
    let Some(device) = present.find(selector)? else {
        return Ok(None);
    };
    if has.devices().any(|(_, it)| named(it)) {
        return Ok(Some(device.reference(selector.clone())));
    }
    let selector = match given(has, device) {
        Some((_, selector)) => selector,
        None => lasting(selector, device, present.devices()?),
    };
    Ok(Some(device.reference(selector)))
}

/// Whether the device may be given at all.
///
/// # Errors
/// It is a hub, or it is protected and `force` is not used.
pub(crate) fn may_be_given(device: &HostDevice, force: bool) -> Result<(), Error> {
    let called = || format!("{} ({})", device.bus_id, device.describe());
    if device.is_hub {
        return Err(Error::HostHub { device: called() });
    }
    if !force && !device.protection.is_empty() {
        return Err(Error::Protected { device: called(), reasons: device.protection.clone() });
    }
    Ok(())
}
