//! The USB devices of this machine, as they are at one moment, and of the domains whose devices pv controllers carry; and what may be
//! given of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use vusb_drivers::Error as DriverError;
use vusb_drivers::xenctl::Lendable;
use vusb_host::{HostDevice, SelectError, matches, select};
use vusb_model::address::Address;
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::Step;
use vusb_model::hardware::{Device, Hardware};
use vusb_model::name::Name;
use vusb_model::selector::{BusId, Selector};

use crate::connect;
use crate::domain::DomainId;
use crate::error::Error;
use crate::vusb::Vusb;

/// The backend domain whose devices are meant; `None` is this machine.
pub(crate) type Backend = Option<String>;

/// What is plugged into one machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    pub(crate) devices: Vec<HostDevice>,
    /// Why a device should not be given, where that is not this machine's to say.
    protected: BTreeMap<BusId, String>,
}

impl List {
    /// Every reason not to give the device.
    pub(crate) fn protection(&self, device: &HostDevice) -> Vec<String> {
        let own = device.protection.iter().map(ToString::to_string);
        own.chain(self.protected.get(&device.bus_id).cloned()).collect()
    }
}

/// What is plugged in, here and in backend domains. Read when it is first needed: most operations do without.
#[derive(Debug)]
pub(crate) struct Present<'a> {
    vusb: &'a Vusb,
    /// Whether a controller's backend domain says whose devices it carries: with Xen alone.
    apart: bool,
    lists: RefCell<BTreeMap<Backend, Result<Rc<List>, DriverError>>>,
}

impl<'a> Present<'a> {
    /// For operations on `domain`.
    pub(crate) fn new(vusb: &'a Vusb, domain: &DomainId) -> Present<'a> {
        let apart = matches!(domain, DomainId::Xen(_));
        Present { vusb, apart, lists: RefCell::default() }
    }

    /// Whose devices are on the controller of an address.
    pub(crate) fn backend(&self, hardware: &Hardware, at: Address) -> Backend {
        self.whose(hardware.controller(at.bus).and_then(|it| it.backend.clone()))
    }

    /// Whose devices a controller with this backend domain carries.
    pub(crate) fn whose(&self, backend: Option<String>) -> Backend {
        backend.filter(|_| self.apart)
    }

    /// All devices of this machine, or of a backend domain.
    pub(crate) fn list(&self, backend: &Backend) -> Result<Rc<List>, Error> {
        if let Some(known) = self.lists.borrow().get(backend) {
            return Ok(known.clone()?);
        }
        let read = match backend {
            None => {
                let devices = self.vusb.host.devices()?;
                Ok(Rc::new(List { devices, protected: BTreeMap::new() }))
            }
            // One that does not answer is not asked again and again: each time costs seconds.
            Some(domain) => connect::reach(self.vusb)
                .lendable(domain, self.vusb.settings.timeout)
                .map(|all| Rc::new(of_backend(all))),
        };
        self.lists.borrow_mut().insert(backend.clone(), read.clone());
        Ok(read?)
    }

    /// The one device that the selector names.
    pub(crate) fn select(
        &self,
        selector: &Selector,
        backend: &Backend,
    ) -> Result<HostDevice, Error> {
        let list = self.list(backend)?;
        select(&list.devices, selector).cloned().map_err(|error| match (error, backend) {
            (SelectError::Absent { selector }, Some(domain)) => {
                Error::AbsentThere { selector, domain: domain.clone() }
            }
            (error, _) => error.into(),
        })
    }

    /// The one device that the selector names; `None` if it is not plugged in.
    pub(crate) fn find(
        &self,
        selector: &Selector,
        backend: &Backend,
    ) -> Result<Option<HostDevice>, Error> {
        match self.select(selector, backend) {
            Ok(device) => Ok(Some(device)),
            Err(Error::Select(SelectError::Absent { .. }) | Error::AbsentThere { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether nothing that is plugged in matches. What cannot be read is taken to be there.
    pub(crate) fn is_absent(&self, selector: &Selector, backend: &Backend) -> bool {
        self.list(backend).is_ok_and(|list| !list.devices.iter().any(|it| matches(it, selector)))
    }

    /// The step with everything that is known of its host device at this moment: where it is plugged in and its speeds. `hardware` has
    /// the controller that it is for.
    pub(crate) fn placed(&self, step: &Step, hardware: &Hardware) -> Step {
        let Step::Plug(address, device) = step else {
            return step.clone();
        };
        let Kind::Host(host) = &device.kind else {
            return step.clone();
        };
        let here = self.find(&host.selector, &self.backend(hardware, *address)).ok().flatten();
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
        let place = |(at, device): (Address, &Device)| {
            let Kind::Host(host) = &device.kind else { return None };
            let kept = before.get(&device.name).cloned();
            let now = || {
                let here = self.find(&host.selector, &self.backend(hardware, at)).ok().flatten()?;
                here.path.as_ref().map(ToString::to_string)
            };
            Some((device.name.clone(), kept.or_else(now)?))
        };
        hardware.devices().filter_map(place).collect()
    }

    /// The host device of `hardware` that is `device` of `backend`, whatever it was called when it was given.
    pub(crate) fn given(
        &self,
        hardware: &Hardware,
        device: &HostDevice,
        backend: &Backend,
    ) -> Option<(Address, Selector)> {
        hardware.devices().find_map(|(address, it)| match &it.kind {
            Kind::Host(host)
                if matches(device, &host.selector)
                    && self.backend(hardware, address) == *backend =>
            {
                Some((address, host.selector.clone()))
            }
            _ => None,
        })
    }

    /// What is known of a host device that `selector` names and that is to be given; `None` where it is not plugged in.
    ///
    /// If `has`, what the domain has already, has it under another selector, that one is used.
    pub(crate) fn reference(
        &self,
        selector: &Selector,
        has: &Hardware,
        backend: &Backend,
    ) -> Result<Option<HostRef>, Error> {
        let named =
            |it: &Device| matches!(&it.kind, Kind::Host(host) if host.selector == *selector);
        let Some(device) = self.find(selector, backend)? else {
            return Ok(None);
        };
        if has.devices().any(|(_, it)| named(it)) {
            return Ok(Some(device.reference(selector.clone())));
        }
        let selector = match self.given(has, &device, backend) {
            Some((_, selector)) => selector,
            None => lasting(selector, &device, &self.list(backend)?.devices),
        };
        Ok(Some(device.reference(selector)))
    }

    /// Whether the device may be given at all.
    ///
    /// # Errors
    /// It is a hub, or it is protected and `force` is not used.
    pub(crate) fn may_be_given(
        &self,
        selector: &Selector,
        backend: &Backend,
        force: bool,
    ) -> Result<(), Error> {
        let device = self.select(selector, backend)?;
        let called = || format!("{} ({})", device.bus_id, device.describe());
        if device.is_hub {
            return Err(Error::HostHub { device: called() });
        }
        let reasons = self.list(backend)?.protection(&device);
        if !force && !reasons.is_empty() {
            return Err(Error::Protected { device: called(), reasons });
        }
        Ok(())
    }
}

fn of_backend(all: Vec<Lendable>) -> List {
    let protected =
        all.iter().filter_map(|it| Some((it.device.bus_id.clone(), it.protection.clone()?)));
    List { protected: protected.collect(), devices: all.into_iter().map(|it| it.device).collect() }
}

/// How a device is called in what is stored: an address is new at each plug, so the path or the port stands for it.
fn lasting(selector: &Selector, device: &HostDevice, all: &[HostDevice]) -> Selector {
    if !matches!(selector, Selector::Address(_)) {
        return selector.clone();
    }
    let path = device.path.clone().map(Selector::Path);
    path.filter(|path| select(all, path).is_ok())
        .unwrap_or_else(|| Selector::Port(device.bus_id.clone()))
}
