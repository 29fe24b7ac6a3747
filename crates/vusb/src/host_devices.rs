//! The USB devices of this machine and of backend domains at one moment, and which of them may be
//! attached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use vusb_drivers::{BackendDevice, BackendDomains, Error as DriverError, Scheme};
use vusb_host::{Host, HostDevice, SelectError, select};
use vusb_model::address::Address;
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::Step;
use vusb_model::hardware::{Device, Hardware};
use vusb_model::rules::ProtectionKind;
use vusb_model::selector::{BusAddress, BusId, Selector};

use crate::address::DomainAddress;
use crate::backend_domain::{BackendDomain, backend_of};
use crate::call::Call;
use crate::command_lines::CommandLines;
use crate::device_list::DeviceList;
use crate::error::Error;
use crate::host_identity::{
    HostIdentity, ObservedDevice, Presence, port_key, presence, select_in_any_mode,
};
use crate::inventory::{Inventory, Key};
use crate::note::Note;

/// How long a device may take until the kernel has configured it, and the pause between two looks.
/// It usually takes some milliseconds. A device that stays unconfigured, because it draws more
/// power than its port has, is judged by its descriptors after that time.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);
const SETTLE_INTERVAL: Duration = Duration::from_millis(20);

/// The devices that are plugged into one machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) devices: Arc<DeviceList>,
    /// Why a device should not be attached, where a backend domain decides that.
    protected: BTreeMap<BusId, String>,
}

impl Snapshot {
    /// Every reason not to attach the device.
    pub(crate) fn protection(&self, device: &HostDevice) -> Vec<String> {
        self.protection_but(device, &[])
    }

    /// Every reason not to attach the device, except for those that rules have lifted.
    pub(crate) fn protection_but(
        &self,
        device: &HostDevice,
        lifted: &[ProtectionKind],
    ) -> Vec<String> {
        let own = device.protection.iter().filter(|it| !lifted.contains(&it.kind()));
        let own = own.map(ToString::to_string);
        own.chain(self.protected.get(&device.bus_id).cloned()).collect()
    }
}

/// The devices of this machine and of backend domains. Each machine is read when it is first
/// needed: most calls need none.
#[derive(Debug)]
pub(crate) struct HostDevices<'a> {
    call: Call<'a>,
    /// The scheme of the domain, if its hypervisor has backend domains.
    scheme: Option<String>,
    snapshots: Mutex<BTreeMap<BackendDomain, Result<Arc<Snapshot>, DriverError>>>,
    /// The devices whose configuration was waited for.
    settled: Mutex<BTreeSet<BusAddress>>,
    /// The guests whose configurations or command lines name devices. Read when they are first
    /// needed.
    command_lines: OnceLock<CommandLines>,
}

impl<'a> HostDevices<'a> {
    /// For a call on `domain`. `None` is a guest that does not run: all its devices are this
    /// machine's.
    pub(crate) fn new(call: &Call<'a>, domain: Option<&DomainAddress>) -> HostDevices<'a> {
        let scheme = domain.map(DomainAddress::scheme).filter(|it| it.backends().is_some());
        HostDevices::of_scheme(call, scheme.map(|it| it.name().to_owned()))
    }

    /// For a call that is about backend domains of this scheme.
    pub(crate) fn of_scheme(call: &Call<'a>, scheme: Option<String>) -> HostDevices<'a> {
        HostDevices {
            call: call.clone(),
            scheme,
            snapshots: Mutex::default(),
            settled: Mutex::default(),
            command_lines: OnceLock::new(),
        }
    }

    /// The guests whose configurations or command lines name devices of this machine.
    pub(crate) fn command_lines(&self) -> &CommandLines {
        self.command_lines.get_or_init(|| CommandLines::read(&self.call))
    }

    /// The call that they were read for.
    pub(crate) const fn call(&self) -> &Call<'a> {
        &self.call
    }

    /// The scheme of the domain, if its hypervisor has backend domains.
    pub(crate) fn scheme(&self) -> Option<&dyn Scheme> {
        self.call.context.registry().scheme(self.scheme.as_deref()?).map(AsRef::as_ref)
    }

    /// This machine.
    pub(crate) const fn host(&self) -> &'a Host {
        self.call.context.host()
    }

    fn backends(&self) -> Option<&dyn BackendDomains> {
        self.scheme()?.backends()
    }

    /// Whether the controllers of the recorded domain at `address` may have backend domains.
    pub(crate) fn has_backends(&self, address: &str) -> bool {
        let domain = self.call.recorded_address(address);
        domain.is_some_and(|it| it.scheme().backends().is_some())
    }

    /// The machine whose devices the controller of an address carries.
    pub(crate) fn backend(&self, hardware: &Hardware, at: Address) -> BackendDomain {
        backend_of(hardware, at, self.scheme.is_some())
    }

    /// The machine whose devices a controller with this backend domain carries.
    pub(crate) fn of_controller(&self, backend: Option<String>) -> BackendDomain {
        backend.filter(|_| self.scheme.is_some())
    }

    /// All devices of this machine, or of a backend domain.
    pub(crate) fn snapshot(&self, backend: &BackendDomain) -> Result<Arc<Snapshot>, Error> {
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = snapshots.get(backend) {
            return Ok(known.clone()?);
        }
        let read = match (backend, self.backends()) {
            (Some(domain), Some(backends)) => {
                backends.devices(domain, &self.call.limits).map(|all| Arc::new(of_backend(all)))
            }
            _ => {
                let devices = match self.call.context.known_devices() {
                    Some(known) => Arc::clone(known),
                    None => Arc::new(self.call.context.host().devices()?.into()),
                };
                Ok(Arc::new(Snapshot { devices, protected: BTreeMap::new() }))
            }
        };
        // Failures are kept too: each attempt to reach a silent backend costs seconds.
        snapshots.insert(backend.clone(), read.clone());
        Ok(read?)
    }

    /// The current state of a device. A device of this machine is read again if it was read before
    /// this call, or if the kernel had not configured it yet. It has no disks and network cards
    /// before it is configured, so this waits up to [`SETTLE_TIMEOUT`] for that, once in a call.
    /// `None` if the device has gone since.
    pub(crate) fn now(&self, device: HostDevice, backend: &BackendDomain) -> Option<HostDevice> {
        if backend.is_some() {
            return Some(device);
        }
        if !self.wait_until_settled(&device) && self.call.context.known_devices().is_none() {
            return Some(device);
        }
        let now = self.host().device_at(&device.bus_id)?;
        let is_same = now.bus_address == device.bus_address
            && (now.id, &now.serial) == (device.id, &device.serial);
        is_same.then_some(now)
    }

    /// Waits until the kernel has configured a device, at most [`SETTLE_TIMEOUT`]. Returns whether
    /// `device` was read before it was configured.
    fn wait_until_settled(&self, device: &HostDevice) -> bool {
        let is_settling = || !self.call.cancel().is_cancelled() && self.host().is_settling(device);
        if device.configuration.is_some() {
            return false;
        }
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if settled.insert(device.bus_address) {
            wait_while(is_settling, SETTLE_TIMEOUT.min(self.call.limits.next_wait()));
        }
        true
    }

    /// The one device that the selector matches.
    pub(crate) fn select(
        &self,
        selector: &Selector,
        backend: &BackendDomain,
    ) -> Result<HostDevice, Error> {
        let snapshot = self.snapshot(backend)?;
        select(&snapshot.devices, selector).cloned().map_err(|error| match error {
            SelectError::Absent { selector } => absent(&selector, backend),
            error => error.into(),
        })
    }

    /// The one device that the selector matches; `None` if it is not plugged in.
    pub(crate) fn find(
        &self,
        selector: &Selector,
        backend: &BackendDomain,
    ) -> Result<Option<HostDevice>, Error> {
        match self.select(selector, backend) {
            Ok(device) => Ok(Some(device)),
            Err(Error::Select(SelectError::Absent { .. }) | Error::AbsentInBackend { .. }) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether it is certain that no plugged-in device matches. False if the devices cannot be
    /// read.
    pub(crate) fn is_absent(&self, selector: &Selector, backend: &BackendDomain) -> bool {
        let snapshot = self.snapshot(backend);
        snapshot.is_ok_and(|all| !all.devices.iter().any(|it| it.matches(selector)))
    }

    /// Where the host device at `at` is: the one that was given, not another that its selector
    /// matches. Any other kind of device counts as absent.
    ///
    /// # Errors
    /// The devices cannot be read; or it is unknown which device was given, and the selector
    /// matches several.
    pub(crate) fn presence(&self, all: &Inventory, at: Address) -> Result<Presence, Error> {
        let Some(Device { kind: Kind::Host(host), .. }) = all.hardware().device(at) else {
            return Ok(Presence::Absent);
        };
        let snapshot = self.snapshot(&self.backend(all.hardware(), at))?;
        Ok(presence(all.identity(at), host, &snapshot.devices)?)
    }

    /// The host device at `at`, if it is plugged in and can be found.
    pub(crate) fn present(&self, all: &Inventory, at: Address) -> Option<HostDevice> {
        self.presence(all, at).ok().and_then(Presence::device)
    }

    /// Whether it is certain that the host device at `at` is not plugged in. False if the devices
    /// cannot be read, or if several match and it is unknown which one was given.
    pub(crate) fn is_unplugged(&self, all: &Inventory, at: Address) -> bool {
        self.presence(all, at).is_ok_and(|it| it.device().is_none())
    }

    /// The step with the present position and speeds of its host device. If `all` has the device,
    /// the device is found by its identity, otherwise by its selector.
    pub(crate) fn with_present_device(&self, step: &Step, all: &Inventory) -> Step {
        let Step::Plug(at, device) = step else {
            return step.clone();
        };
        let Kind::Host(host) = &device.kind else {
            return step.clone();
        };
        let known = all.hardware().device(*at).is_some_and(|it| it.kind == device.kind);
        let here = if known {
            self.present(all, *at)
        } else {
            self.find(&host.selector, &self.backend(all.hardware(), *at)).ok().flatten()
        };
        let present = |here: HostDevice| HostRef {
            also: host.also.clone(),
            ..here.reference(host.selector.clone())
        };
        let kind = Kind::Host(here.map_or_else(|| host.clone(), present));
        Step::Plug(*at, Device { name: device.name.clone(), kind })
    }

    /// Records which host devices the guest has, as far as that is not recorded yet. `given` has
    /// the address that each had when it was attached.
    pub(crate) fn identify(&self, all: &mut Inventory, given: &BTreeMap<Address, BusAddress>) {
        let mut found = Vec::new();
        for (at, host) in all.host_refs() {
            let mut identity = all.identity(at).cloned().or_else(|| {
                let device = self.given_device(all, at, given.get(&at))?;
                Some(HostIdentity::given(host, &device))
            });
            let seen = identity.as_mut().and_then(|it| it.seen.as_mut());
            if let (Some(seen), Some(address)) = (seen, given.get(&at)) {
                seen.address = *address;
            }
            found.extend(identity.map(|identity| (at, identity)));
        }
        for (at, identity) in found {
            all.facts_mut(Key::Device(at)).identity = Some(identity);
        }
    }

    /// The host device that the guest has without a recorded identity: the one that still has the
    /// address, or the one that the selector matches.
    fn given_device(
        &self,
        all: &Inventory,
        at: Address,
        given: Option<&BusAddress>,
    ) -> Option<HostDevice> {
        let snapshot = self.snapshot(&self.backend(all.hardware(), at)).ok()?;
        let has_address = |it: &&HostDevice| given == Some(&it.bus_address);
        let exactly = snapshot.devices.iter().find(has_address).cloned();
        exactly.or_else(|| self.present(all, at))
    }

    /// Records the present identities of the devices that these steps plug in: a device that was
    /// followed to another port belongs there from now on.
    pub(crate) fn identify_plugged(&self, all: &mut Inventory, steps: &[Step]) {
        for step in steps {
            let Step::Plug(at, Device { kind: Kind::Host(host), .. }) = step else { continue };
            let found = self.presence(all, *at);
            let facts = all.facts_mut(Key::Device(*at));
            match (found, &mut facts.identity) {
                (Ok(Presence::Here(device)), Some(identity)) => {
                    if let Some(seen) = &mut identity.seen {
                        seen.port = device.bus_id.clone();
                        seen.address = device.bus_address;
                    } else {
                        identity.seen = Some(ObservedDevice::of(&device));
                    }
                }
                (Ok(Presence::Moved(device)), Some(identity)) => {
                    identity.place = port_key(&device);
                    identity.seen = Some(ObservedDevice::of(&device));
                }
                (Ok(Presence::Here(device)), identity @ None) => {
                    *identity = Some(HostIdentity::given(host, &device));
                }
                _ => {}
            }
        }
    }

    /// The address at which `all` has `device` of `backend`, however it was selected.
    pub(crate) fn attached(
        &self,
        all: &Inventory,
        device: &HostDevice,
        backend: &BackendDomain,
    ) -> Option<Address> {
        // If it is unknown which device was given, it may be any that the selector matches.
        let may_be = |(at, host): &(Address, &HostRef)| {
            self.backend(all.hardware(), *at) == *backend
                && self.presence(all, *at).is_err()
                && device.matches(&host.selector)
        };
        let found = self.attached_for_certain(all, device, backend);
        found.or_else(|| all.host_refs().find(may_be).map(|(at, _)| at))
    }

    /// As [`HostDevices::attached`], but only if it is certain that `all` has this device, and not
    /// another one that its selector matches.
    fn attached_for_certain(
        &self,
        all: &Inventory,
        device: &HostDevice,
        backend: &BackendDomain,
    ) -> Option<Address> {
        let mut its =
            all.host_refs().filter(|(at, _)| self.backend(all.hardware(), *at) == *backend);
        let is_it = |it: &(Address, &HostRef)| {
            self.present(all, it.0).is_some_and(|it| it.bus_id == device.bus_id)
        };
        its.find(is_it).map(|(at, _)| at)
    }

    /// The address at which `all` has a device of `backend` under exactly this selector.
    pub(crate) fn named(
        &self,
        selector: &Selector,
        all: &Inventory,
        backend: &BackendDomain,
    ) -> Option<Address> {
        let its = |(at, host): &(Address, &HostRef)| {
            host.selector == *selector && self.backend(all.hardware(), *at) == *backend
        };
        all.host_refs().find(its).map(|(at, _)| at)
    }

    /// The device of `all` that the selector named when it was given, if that is only one.
    fn named_when_given<'b>(
        &self,
        selector: &Selector,
        all: &'b Inventory,
        backend: &BackendDomain,
    ) -> Option<&'b HostRef> {
        let was = |(at, _): &(Address, &HostRef)| {
            all.identity(*at).is_some_and(|it| it.is_named_by(selector))
                && self.backend(all.hardware(), *at) == *backend
        };
        let mut was = all.host_refs().filter(was);
        was.next().filter(|_| was.next().is_none()).map(|(_, host)| host)
    }

    /// The reference of `host` to the device that has one of its other ids, if no device matches
    /// its selector and nothing in `all` is named by it.
    ///
    /// # Errors
    /// Several devices have one of these ids; the domain has another device in the same port; or
    /// the devices cannot be read.
    pub(crate) fn reference_in_other_mode(
        &self,
        host: &HostRef,
        all: &Inventory,
        backend: &BackendDomain,
    ) -> Result<Option<HostRef>, Error> {
        if host.also.is_empty() || self.named(&host.selector, all, backend).is_some() {
            return Ok(None);
        }
        match select_in_any_mode(&self.snapshot(backend)?.devices, host) {
            Ok(device) => {
                self.check_port_is_free(all, device, backend)?;
                Ok(Some(device.reference(host.selector.clone())))
            }
            Err(SelectError::Absent { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A reference to the host device that `selector` matches, or matched when it was given. If the
    /// device is in `all`, which is what the domain already has, the selector is the one in `all`,
    /// also if the device is not plugged in. `None` if it is neither plugged in nor in `all`.
    ///
    /// # Errors
    /// The selector matches several devices; the domain has another device in the same port; or the
    /// devices cannot be read.
    pub(crate) fn reference(
        &self,
        selector: &Selector,
        all: &Inventory,
        backend: &BackendDomain,
    ) -> Result<Option<HostRef>, Error> {
        if let Some(at) = self.named(selector, all, backend) {
            if let Some(device) = self.presence(all, at)?.device() {
                return Ok(Some(device.reference(selector.clone())));
            }
        }
        let Some(device) = self.find(selector, backend)? else {
            return Ok(self.named_when_given(selector, all, backend).cloned());
        };
        let attached = self.attached_for_certain(all, &device, backend);
        if let Some(host) = attached.and_then(|at| all.host_ref(at)) {
            return Ok(Some(device.reference(host.selector.clone())));
        }
        self.check_port_is_free(all, &device, backend)?;
        let taken = |it: &Selector| all.host_refs().any(|(_, host)| host.selector == *it);
        let devices = &self.snapshot(backend)?.devices;
        let selector = durable(selector, &device, devices, taken);
        Ok(Some(device.reference(selector)))
    }

    /// Checks that no other device of the domain has the port of `device`. A recorded device that
    /// is unplugged keeps its port, because it may come back.
    fn check_port_is_free(
        &self,
        all: &Inventory,
        device: &HostDevice,
        backend: &BackendDomain,
    ) -> Result<(), Error> {
        for (at, host) in all.host_refs() {
            let in_port = all.identity(at).filter(|it| it.place == port_key(device));
            if in_port.is_none() || self.backend(all.hardware(), at) != *backend {
                continue;
            }
            if !matches!(self.presence(all, at), Ok(Presence::Replaced(_))) {
                continue;
            }
            if let Some(its) = all.hardware().device(at) {
                return Err(other_device(its, host, in_port, device));
            }
        }
        Ok(())
    }

    /// A note for a host device that is not plugged in, if it is `missing` or another device could
    /// be taken for it.
    pub(crate) fn absence_note(&self, all: &Inventory, at: Address, missing: bool) -> Option<Note> {
        let Device { name, kind: Kind::Host(host) } = all.hardware().device(at)? else {
            return None;
        };
        let (name, selector) = (name.clone(), host.selector.clone());
        let other = |name, device: HostDevice, in_its_port| Note::OtherDevice {
            name,
            given: given_text(all.identity(at), host),
            found: found_text(&device),
            port: device.bus_id,
            in_its_port,
        };
        match self.presence(all, at).ok()? {
            Presence::Here(_) | Presence::Moved(_) => None,
            Presence::Absent => missing.then_some(Note::Absent { name, selector }),
            Presence::Replaced(found) => Some(other(name, found, true)),
            Presence::Elsewhere(found) => Some(other(name, found, false)),
        }
    }
}

/// Waits while the condition holds, at most `limit`.
fn wait_while(mut condition: impl FnMut() -> bool, limit: Duration) {
    let start = Instant::now();
    while condition() && start.elapsed() < limit {
        std::thread::sleep(SETTLE_INTERVAL);
    }
}

/// The error for a device that is not plugged in.
pub(crate) fn absent(selector: &Selector, backend: &BackendDomain) -> Error {
    let selector = selector.clone();
    match backend {
        Some(domain) => Error::AbsentInBackend { selector, domain: domain.clone() },
        None => SelectError::Absent { selector }.into(),
    }
}

/// The error for `found`, which is not the device that the domain was given as `device`.
pub(crate) fn other_device(
    device: &Device,
    host: &HostRef,
    identity: Option<&HostIdentity>,
    found: &HostDevice,
) -> Error {
    Error::OtherDevice {
        device: device.name.clone(),
        given: given_text(identity, host),
        found: found_text(found),
        port: found.bus_id.clone(),
    }
}

/// A device as it was given: its ids and serial number, or the selector if they are unknown.
fn given_text(identity: Option<&HostIdentity>, host: &HostRef) -> String {
    let seen = identity.and_then(HostIdentity::id_selector);
    seen.as_ref().unwrap_or(&host.selector).to_string()
}

/// A device by its ids and serial number.
fn found_text(device: &HostDevice) -> String {
    Selector::Id { id: device.id, serial: device.serial.clone() }.to_string()
}

fn of_backend(all: Vec<BackendDevice>) -> Snapshot {
    let protected =
        all.iter().filter_map(|it| Some((it.device.bus_id.clone(), it.protection.clone()?)));
    Snapshot {
        protected: protected.collect(),
        devices: Arc::new(all.into_iter().map(|it| it.device).collect::<Vec<_>>().into()),
    }
}

/// The selector that is stored: the requested one, unless it is an address, which changes with each
/// plug, or is `taken` by another device of the domain. Then the port path, or else the port, is
/// stored instead.
fn durable(
    selector: &Selector,
    device: &HostDevice,
    all: &[HostDevice],
    taken: impl Fn(&Selector) -> bool,
) -> Selector {
    if !matches!(selector, Selector::Address(_)) && !taken(selector) {
        return selector.clone();
    }
    let path = device.path.clone().map(Selector::Path);
    path.filter(|path| select(all, path).is_ok() && !taken(path))
        .unwrap_or_else(|| Selector::Port(device.bus_id.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_identity::tests::device;

    #[test]
    fn a_device_is_waited_for_until_it_is_configured_or_the_time_is_over() {
        let mut looks = 0;
        let unconfigured = || {
            looks += 1;
            looks < 4
        };
        wait_while(unconfigured, Duration::from_secs(600));
        assert_eq!(looks, 4);
        wait_while(|| true, Duration::ZERO);
    }

    #[test]
    fn an_address_or_a_selector_in_use_is_stored_as_a_durable_unused_selector() {
        let stick = device(4, "0781:5581", "A1");
        let path = "pci-0000:00:14.0-usb-0:4";
        // The USB 3 port of the same socket has the same path on some machines.
        let beside = HostDevice { bus_id: "2-4".parse().unwrap(), ..stick.clone() };
        let stored = |requested: &str, devices: &[HostDevice], taken: &[&str]| {
            let taken = |it: &Selector| taken.contains(&it.to_string().as_str());
            durable(&requested.parse().unwrap(), &stick, devices, taken).to_string()
        };
        let alone = [stick.clone()];
        let both = [stick.clone(), beside];
        assert_eq!(stored("0781:5581", &alone, &[]), "0781:5581");
        assert_eq!(stored("001.014", &alone, &[]), path);
        assert_eq!(stored("0781:5581", &alone, &["0781:5581"]), path);
        assert_eq!(stored("001.014", &both, &[]), "1-4", "the path names two devices");
        assert_eq!(stored("001.014", &alone, &[path]), "1-4", "another device has the path");
    }
}
