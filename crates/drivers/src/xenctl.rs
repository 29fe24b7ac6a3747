//! `xen:NAME-or-ID`: a Xen guest, through xenstore, and through its device model for emulated
//! controllers.
//!
//! ```text
//!                     ┌── PVUSB: folders in xenstore ──▶ vusb-backend (any domain) ◀──▶ xen-hcd
//!  Step ─▶ which type?┤
//!                     └── emulated (HVM only): QMP of the device model, through the driver `qemu`; libxl's list
//! ```
//!
//! `docs/xenstore.md` describes the nodes in xenstore. They are libxl's, so that `xl usb-list`
//! shows the controllers, and `xl destroy` and a guest's shutdown clean them up. Controllers of
//! both types share one range of indexes. A controller that vusb created has a `name` there, or an
//! id of vusb's form in QEMU; any other was created by another tool.
//!
//! A controller that a QEMU serves by the same protocol (libxl's `qusb`) is shown, and devices can
//! be plugged into it and unplugged. That QEMU does not report the status of its ports.

mod access;
mod backend;
mod controller;
mod controller_source;
mod device;
mod domain;
mod entry;
mod libxl_list;
mod observe;
mod printable;
mod scheme;
mod watch;
mod xenstore;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vusb_host::{Host, HostDevice};
use vusb_model::address::{Address, Index};
use vusb_model::capabilities::{Capabilities, KINDS, Support};
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::Step;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{ControllerType, Model};
use vusb_model::remedy::{Reason, Remedy};
use vusb_model::selector::BusId;
use vusb_model::spec::Spec;
use vusb_model::speed::{Speed, SpeedSet};
use vusb_xen::DomId;
use vusb_xen::usb::{BackendKind, ControllerId, ControllerPaths};

use self::access::recorded_backend;
pub use self::access::{XenAccess, is_domain_id};
use self::controller::Removal;
use self::controller_source::NO_VERSION_3;
pub(crate) use self::controller_source::support;
pub use self::controller_source::{ControllerSource, controller_source};
use self::device::{PlugRequest, Wait, plugging_in};
use self::domain::{Domain, GuestKind};
use self::entry::ControllerEntry;
use self::observe::{Context, Handle, Handles};
pub use self::scheme::XenScheme;
use self::xenstore::Xenstore;
use crate::driver::{Driver, Error, Observed};
use crate::identity::GuestIdentity;
use crate::limits::Limits;
use crate::qemu::Qemu;

/// How long a forced unplug waits for the backend.
const FORCED_DETACH_TIMEOUT: Duration = Duration::from_secs(2);

/// A Xen guest.
pub struct Xen {
    access: XenAccess,
    /// The guest's name or id.
    guest: String,
    limits: Limits,
    force: bool,
    /// The result of the last [`Driver::observe`].
    observation: Option<Observation>,
}

struct Observation {
    store: Xenstore,
    domain: Domain,
    entries: Vec<ControllerEntry>,
    handles: Handles,
    emulation: Emulation,
}

/// Who emulates controllers for the guest.
enum Emulation {
    /// Its device model.
    Qemu(Box<Qemu>),
    /// It has no emulated controllers, for this reason.
    Unavailable(String),
}

impl Xen {
    /// The guest with this name or id. No wait is longer than `limits` allow. With `force`,
    /// removals do not wait for the guest.
    pub fn at(guest: &str, access: &XenAccess, limits: impl Into<Limits>, force: bool) -> Xen {
        let (access, guest) = (access.clone(), guest.to_owned());
        Xen { access, guest, limits: limits.into(), force, observation: None }
    }

    fn connect(&self) -> Result<Xenstore, Error> {
        let mut store = self.access.open(self.limits.next_wait())?;
        store.set_limits(self.limits.clone());
        Ok(store)
    }

    fn observation(&mut self) -> Result<&mut Observation, Error> {
        self.observation.as_mut().ok_or_else(|| Error::Failed {
            what: "a step".to_owned(),
            why: "the guest has not been observed yet".into(),
        })
    }

    fn emulation(access: &XenAccess, domain: &Domain, limits: Limits) -> Emulation {
        let socket = access.qmp_socket(domain.id);
        match domain.kind {
            GuestKind::Hvm if socket.exists() => {
                Emulation::Qemu(Box::new(Qemu::at(&socket, limits)))
            }
            GuestKind::Hvm => Emulation::Unavailable(format!(
                "its device model has no QMP socket {} (does it run in a stub domain?)",
                socket.display()
            )),
            kind => Emulation::Unavailable(format!("a {} guest has no device model", kind.name())),
        }
    }

    /// The host device as its backend domain reports it, found by its bus and address there.
    fn host_device(&mut self, backend: DomId, host: &HostRef) -> Result<HostDevice, Error> {
        let absent =
            |why: &str| Error::Missing { what: host.selector.to_string(), why: why.into() };
        let at = host.bus_address.ok_or_else(|| absent(NOT_PLUGGED_IN))?;
        let devices: Vec<HostDevice> = if backend == DomId::ZERO {
            self.access.host.devices().map_err(|error| Error::Failed {
                what: "listing this machine's USB devices".to_owned(),
                why: error.to_string().into(),
            })?
        } else {
            let limit = self.limits.next_wait();
            let all = backend::devices(&mut self.observation()?.store, backend, limit)?;
            all.into_iter().map(|it| it.device).collect()
        };
        let found = devices.into_iter().find(|it| it.bus_address == at);
        found.ok_or_else(|| absent("it was unplugged just now; plug it in"))
    }

    fn add_pv(&mut self, controller: &Controller) -> Result<(), Error> {
        let limit = self.limits.next_wait();
        let observation = self.observation()?;
        let (store, guest) = (&mut observation.store, observation.domain.id);
        let backend = backend_id(store, controller.backend.as_deref())?;
        backend::require(store, backend, limit)?;
        // Another tool may have added a controller since the last observation.
        observation.entries = entry::read_all(store, guest)?;
        let devid = libxl_list::allocate_devid(&observation.entries, controller.index);
        let id = ControllerId { guest, devid };
        let paths = ControllerPaths { id, backend, kind: BackendKind::Vusb };
        controller::add(store, &paths, controller, limit)?;
        let handle = Handle { paths, model: controller.model, reports_status: true, broken: None };
        observation.handles.insert(controller.index, handle);
        Ok(())
    }

    fn remove_pv(&mut self, controller: &Controller, handle: &Handle) -> Result<(), Error> {
        let immediate = self.force || handle.broken.is_some();
        let removal = if immediate { Removal::Immediate } else { Removal::Graceful };
        let what = format!("removing controller {} ({})", controller.name, controller.model);
        let limit = self.limits.next_wait();
        let observation = self.observation()?;
        controller::remove(&mut observation.store, &handle.paths, &what, removal, limit)?;
        observation.handles.remove(&controller.index);
        Ok(())
    }

    fn plug_pv(&mut self, at: Address, device: &Device, handle: &Handle) -> Result<(), Error> {
        if let Some(why) = &handle.broken {
            let why = Reason::from(format!("the controller is disconnected: {why}"));
            let domain = format!("xen:{}", self.guest);
            let why = why.remedy(Remedy::Restore { domain });
            return Err(Error::Failed { what: plugging_in(device), why });
        }
        let Kind::Host(host) = &device.kind else { return Err(only_host(device)) };
        let host_device = self.host_device(handle.paths.backend, host)?;
        let limit = self.limits.next_wait();
        let request = PlugRequest {
            device,
            selector: &host.selector,
            host_device: &host_device,
            port: at.port.root_port(),
            reports_status: handle.reports_status,
        };
        device::plug(&mut self.observation()?.store, &handle.paths, &request, limit)
    }

    fn unplug_pv(&mut self, at: Address, device: &Device, handle: &Handle) -> Result<(), Error> {
        let what = format!("unplugging {} ({})", device.name, device.kind);
        let (limit, force) = (self.limits.next_wait(), self.force);
        let store = &mut self.observation()?.store;
        let wait = if !handle.reports_status || handle.broken.is_some() {
            Wait::No
        } else if !force {
            Wait::Required(limit)
        } else if backend::is_running(store, handle.paths.backend, limit)? {
            Wait::BestEffort(limit.min(FORCED_DETACH_TIMEOUT))
        } else {
            Wait::No
        };
        device::unplug(store, &handle.paths, at.port.root_port(), &what, wait)
    }

    /// Performs a step through the device model, and updates libxl's list.
    fn emulate(&mut self, step: &Step) -> Result<(), Error> {
        let host = self.access.host.clone();
        let observation = self.observation()?;
        let Emulation::Qemu(qemu) = &mut observation.emulation else {
            return Err(observation.no_emulation(step));
        };
        qemu.perform(step)?;
        let (store, guest) = (&mut observation.store, observation.domain.id);
        let listed = match step {
            Step::AddController(it) => libxl_list::add(store, guest, it),
            Step::RemoveController(it) => libxl_list::remove(store, guest, it.index),
            Step::Plug(at, device) => match bus_id(&host, device) {
                Some(bus_id) => libxl_list::set_port(store, guest, *at, Some(&bus_id)),
                None => Ok(()),
            },
            Step::Unplug(at, Device { kind: Kind::Host(_), .. }) => {
                libxl_list::set_port(store, guest, *at, None)
            }
            Step::Unplug(..) => Ok(()),
        };
        if let Err(error) = listed {
            tracing::warn!(%error, "the step succeeded, but libxl's list of USB controllers in xenstore could not be updated");
        }
        Ok(())
    }
}

impl Observation {
    fn no_emulation(&self, step: &Step) -> Error {
        let why = match &self.emulation {
            Emulation::Unavailable(why) => why.clone(),
            Emulation::Qemu(_) => String::new(),
        };
        Error::NotImplemented { what: step.to_string(), by: self.hypervisor(), why: why.into() }
    }

    fn hypervisor(&self) -> String {
        format!("Xen ({} guest)", self.domain.kind.name())
    }
}

fn only_host(device: &Device) -> Error {
    Error::NotImplemented {
        what: plugging_in(device),
        by: "PVUSB".to_owned(),
        why: NOT_CARRIED.into(),
    }
}

/// Why a pv controller cannot have an emulated device, such as a tablet.
const NOT_CARRIED: &str =
    "PVUSB carries real devices of the backend's machine and cannot emulate any";

const NOT_PLUGGED_IN: &str = "it is not plugged in; plug it in";

/// The domain of a recorded backend; `None` is domain 0.
fn backend_id(store: &mut Xenstore, backend: Option<&str>) -> Result<DomId, Error> {
    backend.map_or(Ok(DomId::ZERO), |name| domain::find_id(store, name))
}

/// Where a host device of this machine is plugged in, for libxl's list; `None` if that is not
/// known.
fn bus_id(host: &Host, device: &Device) -> Option<BusId> {
    let Kind::Host(reference) = &device.kind else { return None };
    let at = reference.bus_address?;
    host.devices().ok()?.into_iter().find(|it| it.bus_address == at).map(|it| it.bus_id)
}

impl Driver for Xen {
    fn identity(&mut self) -> Option<GuestIdentity> {
        let observation = self.observation.as_mut()?;
        let uuid = domain::uuid(&mut observation.store, observation.domain.id).ok()??;
        Some(GuestIdentity::new("xen", uuid))
    }

    fn observe(&mut self, recorded: &Hardware) -> Result<Observed, Error> {
        let (mut store, before) = match self.observation.take() {
            Some(Observation { store, domain, emulation, .. }) => {
                (store, Some((domain.id, emulation)))
            }
            None => (self.connect()?, None),
        };
        let domain = match domain::find(&mut store, &self.guest) {
            // The connection was lost: connect again.
            Err(Error::Unreachable { .. }) => {
                store = self.connect()?;
                domain::find(&mut store, &self.guest)
            }
            found => found,
        }?;
        let entries = entry::read_all(&mut store, domain.id)?;
        // A device model serves one connection at a time: a second one would wait for the first.
        let mut emulation = match before {
            Some((id, emulation @ Emulation::Qemu(_))) if id == domain.id => emulation,
            before => {
                drop(before);
                Xen::emulation(&self.access, &domain, self.limits.clone())
            }
        };
        let mut observed = match &mut emulation {
            Emulation::Qemu(qemu) => qemu.observe(&observe::reserve_indexes(&entries, recorded))?,
            Emulation::Unavailable(_) => Observed::default(),
        };
        let backends = backend_names(&mut store, &entries)?;
        let context = Context { recorded, backends: &backends };
        let handles = observe::add_entries(&entries, &context, &mut observed);
        self.observation = Some(Observation { store, domain, entries, handles, emulation });
        Ok(observed)
    }

    fn capabilities(&mut self, needed: Option<&Spec>) -> Result<Capabilities, Error> {
        let observation = self.observation()?;
        let hypervisor = observation.hypervisor();
        let mut capabilities = match &mut observation.emulation {
            Emulation::Qemu(qemu) => {
                let qemu = qemu.capabilities(needed)?;
                let kinds = qemu.kinds.into_iter();
                let kinds = kinds.map(|(word, support)| (word, with_emulation(word, support)));
                let hypervisor = format!("{hypervisor}, {}", qemu.hypervisor);
                Capabilities { hypervisor, kinds: kinds.collect(), ..qemu }
            }
            Emulation::Unavailable(why) => Capabilities {
                hypervisor,
                default_type: ControllerType::Pv,
                running: true,
                models: Model::ALL
                    .map(|model| (model, Support::Unsupported { why: why.clone() }))
                    .into(),
                kinds: KINDS.map(|word| (word, without_emulation(word))).into(),
                slots: None,
                guest: vusb_model::guest::Guest::default(),
            },
        };
        // Emulated stays the default while the device model cannot be reached.
        if observation.domain.kind == GuestKind::Hvm {
            capabilities.default_type = ControllerType::Emulated;
        }
        capabilities.models.insert(Model::Xenusb1, Support::Hot);
        capabilities.models.insert(Model::Xenusb2, Support::Hot);
        let no_version_3 = Support::Unsupported { why: NO_VERSION_3.to_owned() };
        capabilities.models.insert(Model::Xenusb3, no_version_3);
        Ok(capabilities)
    }

    fn check(&mut self, steps: &[Step]) -> Result<(), Error> {
        let limit = self.limits.next_wait();
        let observation = self.observation()?;
        let (mut backends, mut emulated) = (BTreeSet::new(), Vec::new());
        let mut added: BTreeMap<Index, Model> = BTreeMap::new();
        for step in steps {
            if let Step::AddController(it) = step {
                added.insert(it.index, it.model);
            }
            let Some(model) = pv_model(&observation.handles, &added, step) else {
                emulated.push(step.clone());
                continue;
            };
            match step {
                Step::AddController(it) => {
                    backends.insert(it.backend.clone());
                }
                Step::Plug(_, device) => check_pv_plug(device, model)?,
                Step::RemoveController(_) | Step::Unplug(..) => {}
            }
        }
        for backend in backends {
            let id = backend_id(&mut observation.store, backend.as_deref())?;
            backend::require(&mut observation.store, id, limit)?;
        }
        match (&mut observation.emulation, emulated.first()) {
            (_, None) => Ok(()),
            (Emulation::Qemu(qemu), Some(_)) => qemu.check(&emulated),
            (Emulation::Unavailable(_), Some(step)) => Err(observation.no_emulation(step)),
        }
    }

    fn perform(&mut self, step: &Step) -> Result<(), Error> {
        let handles = &self.observation()?.handles;
        let handle = |index: Index| handles.get(&index).cloned();
        match step {
            Step::AddController(it) if it.model.controller_type() == ControllerType::Pv => {
                self.add_pv(it)
            }
            Step::RemoveController(it) => match handle(it.index) {
                Some(handle) => self.remove_pv(it, &handle),
                None if it.model.controller_type() == ControllerType::Pv => Ok(()),
                None => self.emulate(step),
            },
            Step::Plug(at, device) => match handle(at.bus) {
                Some(handle) => self.plug_pv(*at, device, &handle),
                None => self.emulate(step),
            },
            Step::Unplug(at, device) => match handle(at.bus) {
                Some(handle) => self.unplug_pv(*at, device, &handle),
                None => self.emulate(step),
            },
            Step::AddController(_) => self.emulate(step),
        }
    }

    fn remove_backends(&mut self, devices: &[Device]) -> Result<(), Error> {
        match &mut self.observation()?.emulation {
            Emulation::Qemu(qemu) => qemu.remove_backends(devices),
            Emulation::Unavailable(_) => Ok(()),
        }
    }

    fn backend(&mut self, requested: &str) -> Result<Option<String>, Error> {
        recorded_backend(&mut self.observation()?.store, requested)
    }
}

/// The model of the paravirtual controller that a step concerns; `None` if it is an emulated one.
fn pv_model(handles: &Handles, added: &BTreeMap<Index, Model>, step: &Step) -> Option<Model> {
    let model = match step {
        Step::AddController(it) | Step::RemoveController(it) => Some(it.model),
        Step::Plug(at, _) | Step::Unplug(at, _) => {
            added.get(&at.bus).copied().or_else(|| handles.get(&at.bus).map(|handle| handle.model))
        }
    };
    model.filter(|model| model.controller_type() == ControllerType::Pv)
}

/// Refuses a device that a pv controller of this model cannot have.
fn check_pv_plug(device: &Device, model: Model) -> Result<(), Error> {
    let Kind::Host(host) = &device.kind else { return Err(only_host(device)) };
    if host.bus_address.is_none() {
        let what = host.selector.to_string();
        return Err(Error::Missing { what, why: NOT_PLUGGED_IN.into() });
    }
    // A device runs at its own speed whatever the guest is told, and its packets have that speed's
    // sizes. PVUSB can only hide the difference between high speed and faster ones.
    if model == Model::Xenusb1 && host.speeds.is_some_and(is_fast) {
        return Err(Error::WrongSpeed {
            what: format!("{} ({})", device.name, device.kind),
            why: format!(
                "it runs at high speed or faster, and a {model} carries only low and full speed; plug it into a USB 2 controller"
            )
            .into(),
        });
    }
    Ok(())
}

/// Whether a device runs at high speed or faster.
fn is_fast(speeds: SpeedSet) -> bool {
    !speeds.intersection(SpeedSet::of(&[Speed::High, Speed::Super])).is_empty()
}

/// The recorded name of each backend domain of these controllers. A domain that is gone has no
/// entry.
fn backend_names(
    store: &mut Xenstore,
    entries: &[ControllerEntry],
) -> Result<BTreeMap<DomId, Option<String>>, Error> {
    let ids: BTreeSet<DomId> = entries.iter().filter_map(|it| Some(it.paths()?.backend)).collect();
    let mut names = BTreeMap::from([(DomId::ZERO, None)]);
    for id in ids.into_iter().filter(|id| *id != DomId::ZERO) {
        match recorded_backend(store, &id.to_string()) {
            Ok(name) => {
                names.insert(id, name);
            }
            Err(Error::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

/// Support for a kind that QEMU has, in a guest that can have pv controllers as well.
fn with_emulation(word: &str, support: Support) -> Support {
    match support {
        Support::Hot if word != "host" => Support::EmulatedOnly { why: NOT_CARRIED.to_owned() },
        support => support,
    }
}

/// Support for a kind in a guest that can only have pv controllers.
fn without_emulation(word: &str) -> Support {
    if word == "host" { Support::Hot } else { Support::Unsupported { why: NOT_CARRIED.to_owned() } }
}
