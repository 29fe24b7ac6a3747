//! Steps, taken by libvirt's API.
//!
//! ```text
//!   plug    one call for both configurations, or one for each if their elements differ. Those of a
//!           host device do: the guest gets exactly this device, and the stored XML one that is found
//!           again after the next plug
//!   unplug  stored XML first, because that can be undone; then the guest, by alias
//!              └─▶ DEVICE_REMOVED, or a time-out ──▶ does the XML still have the alias?
//! ```

use vusb_formats::config::{Edit, Inexpressible};
use vusb_formats::libvirt::{HostSource, device_element};
use vusb_formats::{ConfigFormat as _, Libvirt as LibvirtFormat};
use vusb_host::select;
use vusb_libvirt::{
    Affect, Client, Deadline, Domain, Error as LibvirtError, Event, EventId, XmlKind,
};
use vusb_model::address::Address;
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::Step;
use vusb_model::hardware::Device;
use vusb_model::selector::{Selector, UsbId};

use super::configuration::{Configuration, prefixed};
use super::{LibvirtDomain, is_hot, subject};
use crate::driver::Error;

/// A device that was removed, with its elements.
#[derive(Debug)]
pub(super) struct Removed {
    at: Address,
    kind: Kind,
    live: Option<String>,
    stored: Option<String>,
}

/// The guest's reaction to the removal of a device.
enum Removal {
    Gone,
    Refused,
}

fn inexpressible(step: &Step, error: &Inexpressible) -> Error {
    let why = format!("{}: {}", error.what, error.why);
    Error::NotImplemented { what: step.to_string(), by: "libvirt".to_owned(), why: why.into() }
}

impl LibvirtDomain {
    /// Checks that libvirt can express the device that a step attaches. What a step writes into the
    /// stored XML by an edit is not checked here.
    pub(super) fn check_expressible(&self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Plug(at, device) if is_hot(device.kind.name()) => {
                let (live, stored) = self.affected()?;
                if live {
                    self.element(step, *at, device, true)?;
                }
                if stored {
                    self.element(step, *at, device, false)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn take(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Plug(at, device) if is_hot(device.kind.name()) => self.plug(step, *at, device),
            Step::Unplug(at, device) if is_hot(device.kind.name()) => {
                self.unplug(step, *at, device)
            }
            Step::Plug(at, device) => {
                let device = Device { name: prefixed(&device.name)?, ..device.clone() };
                self.define(step, |_| vec![Edit::AddDevice(*at, &device)])
            }
            Step::Unplug(at, _) => self.define(step, |configuration| {
                configuration.device_number(*at).map(Edit::RemoveDevice).into_iter().collect()
            }),
            Step::AddController(controller) => {
                let name = prefixed(&controller.name)?;
                let mut controller = controller.without_devices();
                controller.name = name;
                self.define(step, |_| vec![Edit::AddController(&controller)])
            }
            Step::RemoveController(controller) => self.define(step, |configuration| {
                let numbers = configuration.controller_numbers(controller.index);
                numbers.into_iter().map(Edit::RemoveController).collect()
            }),
        }
    }

    /// Changes the stored XML as text. Everything else in it stays as it is.
    fn define<'a>(
        &mut self,
        step: &Step,
        edits: impl FnOnce(&Configuration) -> Vec<Edit<'a>>,
    ) -> Result<(), Error> {
        let domain = self.observation()?.domain.clone();
        let configuration = self.configuration(&domain, XmlKind::Editable)?;
        let edited = LibvirtFormat.edit(&configuration.text, &edits(&configuration));
        let text = edited.map_err(|error| inexpressible(step, &error))?;
        self.change(step, |client, deadline| client.define(&text, deadline).map(drop))
    }

    /// Calls libvirt to take a step.
    fn change<T>(
        &mut self,
        step: &Step,
        call: impl Fn(&mut Client, Deadline) -> Result<T, LibvirtError>,
    ) -> Result<T, Error> {
        self.is_changed = true;
        self.call(&step.to_string(), subject(step), true, call)
    }

    /// The element of a new device, for the running guest or for the stored XML.
    fn element(
        &self,
        step: &Step,
        at: Address,
        device: &Device,
        live: bool,
    ) -> Result<String, Error> {
        let observation = self.observation()?;
        let removed = self.removed.iter().rev().find(|it| it.at == at && it.kind == device.kind);
        let before =
            removed.and_then(|it| if live { it.live.as_ref() } else { it.stored.as_ref() });
        if let Some(before) = before.filter(|_| !matches!(device.kind, Kind::Host(_))) {
            return Ok(before.clone());
        }
        let configurations = observation.live.iter().chain(&observation.stored);
        let texts: Vec<&str> =
            configurations.map(|configuration| configuration.text.as_str()).collect();
        let source = match &device.kind {
            Kind::Host(host) => Some(self.source(step, host, live)?),
            _ => None,
        };
        let device = Device { name: prefixed(&device.name)?, ..device.clone() };
        device_element(at, &device, source, &texts).map_err(|it| inexpressible(step, &it))
    }

    /// How a host device is named. For the running guest, the name is that of exactly the device
    /// that is plugged in now. The name in the stored XML must still match after the device was
    /// plugged in again: vendor and product. The address is added if several devices have these, or
    /// if the device was selected by it.
    fn source(&self, step: &Step, host: &HostRef, live: bool) -> Result<HostSource, Error> {
        let by_id = match &host.selector {
            Selector::Id { id, .. } => Some(*id),
            _ => None,
        };
        let all = self.host.devices().unwrap_or_default();
        let here = match host.bus_address {
            Some(at) => all.iter().find(|it| it.bus_address == at),
            None => select(&all, &host.selector).ok(),
        };
        let id = here.map(|it| it.id).or(by_id);
        let address = here.map(|it| it.bus_address).or(host.bus_address);
        if live && address.is_none() {
            return Err(Error::Missing {
                what: step.to_string(),
                why: "the device is not plugged in".into(),
            });
        }
        let several = |id: UsbId| all.iter().filter(|it| it.id == id).count() > 1;
        let keeps_address =
            live || matches!(host.selector, Selector::Address(_)) || id.is_none_or(several);
        Ok(HostSource { id, address: address.filter(|_| keeps_address) })
    }

    fn plug(&mut self, step: &Step, at: Address, device: &Device) -> Result<(), Error> {
        let (live, stored) = self.affected()?;
        let domain = self.observation()?.domain.clone();
        let for_guest = if live { Some(self.element(step, at, device, true)?) } else { None };
        let for_stored = if stored { Some(self.element(step, at, device, false)?) } else { None };
        let outcome = match (for_guest, for_stored) {
            (Some(guest), Some(stored)) if guest == stored => {
                self.attach(step, &domain, &guest, Affect::BOTH)
            }
            (guest, stored) => self.attach_each(step, &domain, guest.as_deref(), stored.as_deref()),
        };
        outcome.map_err(|error| self.explain(error, at))
    }

    fn attach(
        &mut self,
        step: &Step,
        domain: &Domain,
        element: &str,
        affect: Affect,
    ) -> Result<(), Error> {
        self.change(step, |client, deadline| client.attach(domain, element, affect, deadline))
    }

    /// Attaches to the running guest and then to the stored XML. If the second fails, the first is
    /// undone.
    fn attach_each(
        &mut self,
        step: &Step,
        domain: &Domain,
        guest: Option<&str>,
        stored: Option<&str>,
    ) -> Result<(), Error> {
        if let Some(element) = guest {
            self.attach(step, domain, element, Affect::LIVE)?;
        }
        let Some(element) = stored else { return Ok(()) };
        let stored = self.attach(step, domain, element, Affect::CONFIG);
        if let (Err(error), Some(guest)) = (&stored, guest) {
            let undone = self.change(step, |client, deadline| {
                client.detach(domain, guest, Affect::LIVE, deadline)
            });
            if let Err(left) = undone {
                tracing::warn!(%error, %left, "the running guest keeps the device");
            }
        }
        stored
    }

    /// The error to report: that another client was faster, if this is why libvirt refused.
    fn explain(&mut self, error: Error, at: Address) -> Error {
        if !matches!(error, Error::Failed { .. }) {
            return error;
        }
        let Ok(domain) = self.look_up() else { return error };
        let kinds = [XmlKind::Live, XmlKind::Inactive];
        let configurations = kinds.map(|kind| self.configuration(&domain, kind).ok());
        let taken = configurations
            .iter()
            .flatten()
            .find_map(|configuration| configuration.hardware.device(at));
        match taken {
            Some(taken) => {
                let name = &taken.name;
                let why = format!("{name} was plugged in at {at} meanwhile; {error}");
                Error::Busy { domain: self.domain(), why: why.into() }
            }
            None => error,
        }
    }

    fn unplug(&mut self, step: &Step, at: Address, device: &Device) -> Result<(), Error> {
        let (live, stored) = self.affected_by(step)?;
        let observation = self.observation()?;
        let domain = observation.domain.clone();
        let text = |configuration: &Option<Configuration>| {
            Some(configuration.as_ref()?.element(at)?.to_owned())
        };
        let removed = Removed {
            at,
            kind: device.kind.clone(),
            live: text(&observation.live),
            stored: text(&observation.stored),
        };
        let alias = observation
            .live
            .as_ref()
            .and_then(|configuration| configuration.alias(at))
            .map(str::to_owned);
        let in_stored = removed.stored.clone().filter(|_| stored);
        if let Some(element) = &in_stored {
            self.change(step, |client, deadline| {
                client.detach(&domain, element, Affect::CONFIG, deadline)
            })?;
        }
        if let Some(alias) = alias.filter(|_| live) {
            if let Err(error) = self.detach_live(step, &domain, &alias) {
                if let Some(element) = &in_stored {
                    if let Err(left) = self.attach(step, &domain, element, Affect::CONFIG) {
                        tracing::warn!(%left, "the stored configuration lacks the device");
                    }
                }
                return Err(error);
            }
        }
        self.removed.push(removed);
        Ok(())
    }

    /// Detaches a device from the running guest and waits until the guest has released it.
    fn detach_live(&mut self, step: &Step, domain: &Domain, alias: &str) -> Result<(), Error> {
        let waited = self.change(step, |client, deadline| {
            client.take_events();
            for event in [EventId::DeviceRemoved, EventId::DeviceRemovalFailed] {
                client.register_once(event, domain, deadline)?;
            }
            client.detach_alias(domain, alias, Affect::LIVE, deadline)?;
            client.wait_event(deadline, |event| match event {
                Event::DeviceRemoved { domain: of, alias: it }
                    if of.uuid == domain.uuid && it == alias =>
                {
                    Some(Removal::Gone)
                }
                Event::DeviceRemovalFailed { domain: of, alias: it }
                    if of.uuid == domain.uuid && it == alias =>
                {
                    Some(Removal::Refused)
                }
                _ => None,
            })
        });
        let failed = |why: &str| Error::Failed { what: step.to_string(), why: why.into() };
        let error = match waited {
            Ok(Removal::Gone) => {
                failed("libvirt reported the removal, but the guest still has the device")
            }
            Ok(Removal::Refused) => failed("the guest has refused to release the device"),
            Err(lost @ Error::Unreachable { .. }) => return Err(lost),
            Err(error) => error,
        };
        // Only the XML proves the removal, even after a time-out or if another client was faster.
        let configuration = self.configuration(domain, XmlKind::Live)?;
        if configuration.has_alias(alias) { Err(error) } else { Ok(()) }
    }
}
