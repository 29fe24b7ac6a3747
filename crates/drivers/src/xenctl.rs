//! `xen:NAME-or-ID`: a guest of Xen, by way of xenstore, and for emulated controllers of its device model.
//!
//! ```text
//!                     ┌── PVUSB: three folders in xenstore ──▶ vusb-backend (any domain) ◀──▶ guest's xen-hcd
//!  Step ─▶ which type?┤
//!                     └── emulated (HVM alone): the device model's QMP, as `qemu` does it, and libxl's list
//! ```
//!
//! What is in xenstore is laid out in `docs/xenstore.md`: as libxl does it, so that `xl usb-list` shows it, and `xl destroy` and a
//! guest's shutdown clean it up. A controller of either type has its own index, whichever of the two it is. What vusb made has a `name`
//! there, or in QEMU an id that says it; all else is another tool's.
//!
//! A controller that a QEMU serves by the same protocol (libxl's `qusb`) is shown, and devices go on and off it. That QEMU says nothing of
//! what becomes of them.

mod controller;
mod device;
mod domain;
mod entry;
mod listed;
mod observe;
mod paths;
mod presence;
mod tree;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use vusb_host::{Host, HostDevice};
use vusb_model::address::{Address, Index};
use vusb_model::capabilities::{Capabilities, KINDS, Support};
use vusb_model::device::Kind;
use vusb_model::diff::Step;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{ControllerType, Model};
use vusb_model::selector::Selector;
use vusb_model::spec::Spec;
use vusb_model::speed::{Speed, SpeedSet};
use vusb_xen::DomId;

use self::controller::{Manner, Place};
use self::device::{Socket, Wait, Wanted};
use self::domain::{Domain, Guest};
use self::entry::{Ends, Entry};
use self::observe::{Handle, Handles, Known};
pub use self::presence::Lendable;
use self::tree::Tree;
pub(crate) use self::ways::support;
pub use self::ways::{Way, way};
use crate::driver::{Driver, Error, Observed};
use crate::qemu::Qemu;

/// libxl's name for the kind of backend that a vusb-backend is.
const BACKEND_KIND: &str = "vusb";

/// How long a device that is taken by force is waited for.
const BY_FORCE: Duration = Duration::from_secs(2);

/// Where Xen is reached.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The socket of xenstored; `None` is where it always is.
    pub xenstored: Option<PathBuf>,
    /// The folder of the device models' QMP sockets.
    pub qmp: PathBuf,
    /// The machine whose USB devices domain 0 has.
    pub host: Host,
}

impl Reach {
    /// Where libxl's device models listen (`libxl__run_dir_path` of `libxl_qmp.c`; the folder is chosen when Xen is built, and all
    /// distributions have this one).
    pub const QMP: &'static str = "/var/run/xen";

    /// This machine's Xen.
    pub fn system(host: Host) -> Reach {
        Reach { xenstored: None, qmp: Reach::QMP.into(), host }
    }

    fn open(&self, limit: Duration) -> Result<Tree, Error> {
        Tree::open(self.xenstored.as_deref(), limit)
    }

    /// The QMP socket that libxl makes for a guest's device model (`libxl_dm.c`).
    fn qmp(&self, guest: DomId) -> PathBuf {
        self.qmp.join(format!("qmp-libxl-{guest}"))
    }

    /// The name of the domain that has this number; `None` if it has none.
    ///
    /// # Errors
    /// There is no such domain, or xenstore cannot be reached.
    pub fn name_of(&self, id: &str, limit: Duration) -> Result<Option<String>, Error> {
        let mut tree = self.open(limit)?;
        let id = domain::find_id(&mut tree, id)?;
        domain::name(&mut tree, id)
    }

    /// The backend domain that `asked` names, by name or number, as it is recorded: by its name, which outlives a restart, else by its
    /// number. `None` is domain 0.
    ///
    /// # Errors
    /// As [`Reach::name_of`].
    pub fn backend(&self, asked: &str, limit: Duration) -> Result<Option<String>, Error> {
        backend(&mut self.open(limit)?, asked)
    }

    /// Whether a vusb-backend answers in domain 0. `None` if there is no xenstored to ask.
    ///
    /// # Errors
    /// There is one, and it does not let itself be asked.
    pub fn pv_served(&self, limit: Duration) -> Result<Option<bool>, Error> {
        let tree = Tree::open_if_there(self.xenstored.as_deref(), limit)?;
        tree.map(|mut tree| presence::is_alive(&mut tree, DomId::ZERO, limit)).transpose()
    }

    /// The devices that the vusb-backend of a domain could lend.
    ///
    /// # Errors
    /// There is no such domain, or no vusb-backend answers there.
    pub fn lendable(&self, backend: &str, limit: Duration) -> Result<Vec<Lendable>, Error> {
        let mut tree = self.open(limit)?;
        let id = domain::find_id(&mut tree, backend)?;
        presence::lendable(&mut tree, id, limit)
    }
}

/// See [`Reach::backend`]. Domain 0 need have no name.
fn backend(tree: &mut Tree, asked: &str) -> Result<Option<String>, Error> {
    if domain::number(asked) == Some(DomId::ZERO) {
        return Ok(None);
    }
    let id = domain::find_id(tree, asked)?;
    if id == DomId::ZERO {
        return Ok(None);
    }
    Ok(Some(domain::name(tree, id)?.unwrap_or_else(|| id.to_string())))
}

/// Whether a text is the number of a domain, rather than its name.
pub fn is_number(text: &str) -> bool {
    domain::number(text).is_some()
}

/// A guest of Xen.
pub struct Xen {
    reach: Reach,
    asked: String,
    limit: Duration,
    force: bool,
    /// What was found out when it was last observed.
    seen: Option<Seen>,
}

struct Seen {
    tree: Tree,
    domain: Domain,
    entries: Vec<Entry>,
    handles: Handles,
    emulation: Emulation,
}

/// Who emulates controllers for the guest.
enum Emulation {
    /// Its device model.
    Qemu(Box<Qemu>),
    /// Nobody, for this reason.
    None(String),
}

impl Xen {
    /// The guest that `asked` names, by name or number. No wait will be longer than `limit`. With `force`, what is removed is removed
    /// without asking the guest.
    pub fn at(asked: &str, reach: &Reach, limit: Duration, force: bool) -> Xen {
        Xen { reach: reach.clone(), asked: asked.to_owned(), limit, force, seen: None }
    }

    fn seen(&mut self) -> Result<&mut Seen, Error> {
        self.seen.as_mut().ok_or_else(|| Error::Failed {
            what: "a step".to_owned(),
            why: "the guest has not been looked at yet".to_owned(),
        })
    }

    fn emulation(reach: &Reach, domain: &Domain, limit: Duration) -> Emulation {
        let socket = reach.qmp(domain.id);
        match domain.guest {
            Guest::Hvm if socket.exists() => Emulation::Qemu(Box::new(Qemu::at(&socket, limit))),
            Guest::Hvm => Emulation::None(format!(
                "its device model has no QMP socket {} (is it in a stub domain?)",
                socket.display()
            )),
            guest => Emulation::None(format!("a {} guest has no device model", guest.name())),
        }
    }

    /// The device as its backend knows it, by where it is plugged in.
    fn socket(&mut self, backend: DomId, device: &Device) -> Result<(Socket, Selector), Error> {
        let Kind::Host(host) = &device.kind else { return Err(only_host(device)) };
        let absent =
            |why: &str| Error::Missing { what: host.selector.to_string(), why: why.to_owned() };
        let at = host.at.ok_or_else(|| absent("it is not plugged in; plug it in"))?;
        let devices: Vec<HostDevice> = if backend == DomId::ZERO {
            here(&self.reach.host)?
        } else {
            let limit = self.limit;
            let seen = self.seen()?;
            let all = presence::lendable(&mut seen.tree, backend, limit)?;
            all.into_iter().map(|it| it.device).collect()
        };
        let found = devices.into_iter().find(|it| it.at == at);
        let found = found.ok_or_else(|| absent("it was pulled out just now; plug it in"))?;
        let socket = Socket { bus_id: found.bus_id, id: found.id, serial: found.serial };
        Ok((socket, host.selector.clone()))
    }

    fn add_pv(&mut self, controller: &Controller) -> Result<(), Error> {
        let limit = self.limit;
        let seen = self.seen()?;
        let backend = match &controller.backend {
            None => DomId::ZERO,
            Some(asked) => domain::find_id(&mut seen.tree, asked)?,
        };
        presence::ensure(&mut seen.tree, backend, limit)?;
        // Another tool may have added one since.
        seen.entries = entry::read_all(&mut seen.tree, seen.domain.id)?;
        let devid = listed::number(&seen.entries, controller.index);
        let path = paths::backend(backend, BACKEND_KIND, seen.domain.id, devid);
        let place = Place { guest: seen.domain.id, devid, ends: Ends { backend, path } };
        controller::add(&mut seen.tree, &place, controller, limit)?;
        let handle = Handle { place, model: controller.model, told: true, broken: None };
        seen.handles.insert(controller.index, handle);
        Ok(())
    }

    fn remove_pv(&mut self, controller: &Controller, handle: &Handle) -> Result<(), Error> {
        let manner =
            if self.force || handle.broken.is_some() { Manner::AtOnce } else { Manner::Asked };
        let what = format!("removing controller {} ({})", controller.name, controller.model);
        let limit = self.limit;
        let seen = self.seen()?;
        controller::remove(&mut seen.tree, &handle.place, &what, manner, limit)?;
        seen.handles.remove(&controller.index);
        Ok(())
    }

    fn plug_pv(&mut self, at: Address, device: &Device, handle: &Handle) -> Result<(), Error> {
        if let Some(why) = &handle.broken {
            let what = format!("plugging in {} ({})", device.name, device.kind);
            let why = format!(
                "the controller carries nothing any more: {why}; `vusb apply xen:{}` makes it anew",
                self.asked
            );
            return Err(Error::Failed { what, why });
        }
        let (socket, selector) = self.socket(handle.place.ends.backend, device)?;
        let limit = self.limit;
        let (port, told) = (at.port.root_port(), handle.told);
        let wanted = Wanted { device, selector: &selector, socket: &socket, port, told };
        device::plug(&mut self.seen()?.tree, &handle.place, &wanted, limit)
    }

    fn unplug_pv(&mut self, at: Address, device: &Device, handle: &Handle) -> Result<(), Error> {
        let what = format!("unplugging {} ({})", device.name, device.kind);
        let (limit, force) = (self.limit, self.force);
        let seen = self.seen()?;
        let alive = |tree: &mut Tree| presence::is_alive(tree, handle.place.ends.backend, limit);
        let wait = match force {
            _ if !handle.told || handle.broken.is_some() => Wait::No,
            true if alive(&mut seen.tree)? => Wait::Politely(limit.min(BY_FORCE)),
            true => Wait::No,
            false => Wait::For(limit),
        };
        device::unplug(&mut seen.tree, &handle.place, at.port.root_port(), &what, wait)
    }

    /// Takes a step on the device model, and keeps libxl's list right.
    fn emulate(&mut self, step: &Step) -> Result<(), Error> {
        let host = self.reach.host.clone();
        let seen = self.seen()?;
        let Emulation::Qemu(qemu) = &mut seen.emulation else {
            return Err(seen.no_emulation(step));
        };
        qemu.perform(step)?;
        let (tree, guest) = (&mut seen.tree, seen.domain.id);
        let listed = match step {
            Step::AddController(it) => listed::add(tree, guest, it),
            Step::RemoveController(it) => listed::remove(tree, guest, it.index),
            Step::Plug(at, device) => match bus_id(&host, device) {
                Some(bus_id) => listed::set_port(tree, guest, *at, Some(&bus_id)),
                None => Ok(()),
            },
            Step::Unplug(at, Device { kind: Kind::Host(_), .. }) => {
                listed::set_port(tree, guest, *at, None)
            }
            Step::Unplug(..) => Ok(()),
        };
        if let Err(error) = listed {
            tracing::warn!(%error, "it is done, and libxl's list does not say so");
        }
        Ok(())
    }
}

impl Seen {
    fn no_emulation(&self, step: &Step) -> Error {
        let why = match &self.emulation {
            Emulation::None(why) => why.clone(),
            Emulation::Qemu(_) => String::new(),
        };
        Error::NotImplemented { what: step.to_string(), by: self.hypervisor(), why }
    }

    fn hypervisor(&self) -> String {
        format!("Xen ({} guest)", self.domain.guest.name())
    }
}

fn only_host(device: &Device) -> Error {
    Error::NotImplemented {
        what: format!("plugging in {} ({})", device.name, device.kind),
        by: "PVUSB".to_owned(),
        why: NOT_CARRIED.to_owned(),
    }
}

/// Why a pv controller takes no tablet.
const NOT_CARRIED: &str = "PVUSB carries real devices of the backend's machine and makes none up";

/// This machine's devices.
fn here(host: &Host) -> Result<Vec<HostDevice>, Error> {
    let failed = |error: vusb_host::HostError| Error::Failed {
        what: "looking for this machine's USB devices".to_owned(),
        why: error.to_string(),
    };
    host.devices().map_err(failed)
}

/// The bus and port of a device of this machine, for a list; `None` if that is not known.
fn bus_id(host: &Host, device: &Device) -> Option<vusb_model::selector::BusId> {
    let Kind::Host(reference) = &device.kind else { return None };
    let at = reference.at?;
    host.devices().ok()?.into_iter().find(|it| it.at == at).map(|it| it.bus_id)
}

impl Driver for Xen {
    fn observe(&mut self, recorded: &Hardware) -> Result<Observed, Error> {
        let (mut tree, before) = match self.seen.take() {
            Some(Seen { tree, domain, emulation, .. }) => (tree, Some((domain.id, emulation))),
            None => (self.reach.open(self.limit)?, None),
        };
        let domain = match domain::find(&mut tree, &self.asked) {
            // A connection that was lost is made anew.
            Err(Error::Unreachable { .. }) => {
                tree = self.reach.open(self.limit)?;
                domain::find(&mut tree, &self.asked)
            }
            found => found,
        }?;
        let entries = entry::read_all(&mut tree, domain.id)?;
        // A device model talks to one at a time: a second connection would wait for the first.
        let mut emulation = match before {
            Some((id, emulation @ Emulation::Qemu(_))) if id == domain.id => emulation,
            before => {
                drop(before);
                Xen::emulation(&self.reach, &domain, self.limit)
            }
        };
        let mut observed = match &mut emulation {
            Emulation::Qemu(qemu) => qemu.observe(&observe::reserved(&entries, recorded))?,
            Emulation::None(_) => Observed::default(),
        };
        let backends = backends(&mut tree, &entries)?;
        let known = Known { guest: domain.id, recorded, backends: &backends };
        let handles = observe::add_entries(&entries, &known, &mut observed);
        self.seen = Some(Seen { tree, domain, entries, handles, emulation });
        Ok(observed)
    }

    fn capabilities(&mut self, needed: Option<&Spec>) -> Result<Capabilities, Error> {
        let seen = self.seen()?;
        let pv = |model| match model {
            Model::Xenusb1 | Model::Xenusb2 => Some(Support::Hot),
            Model::Xenusb3 => Some(Support::No {
                why: "the PVUSB protocol (usbif.h) has no version 3".to_owned(),
            }),
            _ => None,
        };
        let hypervisor = seen.hypervisor();
        let mut capabilities = match &mut seen.emulation {
            Emulation::Qemu(qemu) => {
                let qemu = qemu.capabilities(needed)?;
                let kinds = qemu
                    .kinds
                    .into_iter()
                    .map(|(word, support)| (word, on_emulated(word, support)));
                let hypervisor = format!("{hypervisor}, {}", qemu.hypervisor);
                Capabilities { hypervisor, kinds: kinds.collect(), ..qemu }
            }
            Emulation::None(why) => Capabilities {
                hypervisor,
                default_type: ControllerType::Pv,
                running: true,
                models: Model::ALL.map(|model| (model, Support::No { why: why.clone() })).into(),
                kinds: KINDS.map(|word| (word, carried(word))).into(),
                slots: None,
                guest: vusb_model::guest::Guest::default(),
            },
        };
        // What is emulated by default stays so while the device model cannot be asked.
        if seen.domain.guest == Guest::Hvm {
            capabilities.default_type = ControllerType::Emulated;
        }
        capabilities.models.extend(Model::ALL.into_iter().filter_map(|it| Some((it, pv(it)?))));
        Ok(capabilities)
    }

    fn check(&mut self, steps: &[Step]) -> Result<(), Error> {
        let (limit, mut backends) = (self.limit, BTreeSet::new());
        let mut emulated = Vec::new();
        let mut added: BTreeMap<Index, Model> = BTreeMap::new();
        for step in steps {
            let seen = self.seen()?;
            if let Step::AddController(it) = step {
                added.insert(it.index, it.model);
            }
            let Some(model) = pv_model(seen, &added, step) else {
                emulated.push(step.clone());
                continue;
            };
            match step {
                Step::AddController(it) => {
                    backends.insert(it.backend.clone());
                }
                Step::Plug(_, Device { kind: Kind::Host(host), .. }) if host.at.is_none() => {
                    let why = "it is not plugged in; plug it in".to_owned();
                    return Err(Error::Missing { what: host.selector.to_string(), why });
                }
                Step::Plug(_, device @ Device { kind: Kind::Host(host), .. })
                    if model == Model::Xenusb1 && host.speeds.is_some_and(is_fast) =>
                {
                    return Err(too_fast(device, model));
                }
                Step::Plug(_, device) if !matches!(device.kind, Kind::Host(_)) => {
                    return Err(only_host(device));
                }
                _ => {}
            }
        }
        let seen = self.seen()?;
        for backend in backends {
            let id = match backend {
                None => DomId::ZERO,
                Some(asked) => domain::find_id(&mut seen.tree, &asked)?,
            };
            presence::ensure(&mut seen.tree, id, limit)?;
        }
        match (&mut seen.emulation, emulated.first()) {
            (_, None) => Ok(()),
            (Emulation::Qemu(qemu), Some(_)) => qemu.check(&emulated),
            (Emulation::None(_), Some(step)) => Err(seen.no_emulation(step)),
        }
    }

    fn perform(&mut self, step: &Step) -> Result<(), Error> {
        let seen = self.seen()?;
        let handle = |index: Index| seen.handles.get(&index).cloned();
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

    fn backend(&mut self, asked: &str) -> Result<Option<String>, Error> {
        backend(&mut self.seen()?.tree, asked)
    }
}

/// The model of the paravirtual controller that a step is about; `None`: it is an emulated one.
fn pv_model(seen: &Seen, added: &BTreeMap<Index, Model>, step: &Step) -> Option<Model> {
    let model = match step {
        Step::AddController(it) | Step::RemoveController(it) => Some(it.model),
        Step::Plug(at, _) | Step::Unplug(at, _) => added
            .get(&at.bus)
            .copied()
            .or_else(|| seen.handles.get(&at.bus).map(|handle| handle.model)),
    };
    model.filter(|model| model.controller_type() == ControllerType::Pv)
}

/// Whether a device runs at high speed or faster.
fn is_fast(speeds: SpeedSet) -> bool {
    !speeds.and(SpeedSet::of(&[Speed::High, Speed::Super])).is_empty()
}

/// A device runs as fast as it does whatever the guest is told, and its packets have the sizes of its own speed. PVUSB can hide no more of that
/// than the difference between high speed and what is faster.
fn too_fast(device: &Device, model: Model) -> Error {
    Error::WrongSpeed {
        what: format!("{} ({})", device.name, device.kind),
        why: format!(
            "it runs at high speed, and a {model} carries low and full speed; plug it into a controller of USB 2"
        ),
    }
}

/// What each backend domain of these controllers is called; none that is gone.
fn backends(tree: &mut Tree, entries: &[Entry]) -> Result<BTreeMap<DomId, Option<String>>, Error> {
    let ids: BTreeSet<DomId> = entries.iter().filter_map(|it| Some(it.ends()?.backend)).collect();
    let mut called = BTreeMap::from([(DomId::ZERO, None)]);
    for id in ids.into_iter().filter(|id| *id != DomId::ZERO) {
        match backend(tree, &id.to_string()) {
            Ok(name) => {
                called.insert(id, name);
            }
            Err(Error::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(called)
}

/// What a kind that QEMU has comes to where pv controllers are beside its own.
fn on_emulated(word: &str, support: Support) -> Support {
    match support {
        Support::Hot if word != "host" => Support::Emulated { why: NOT_CARRIED.to_owned() },
        support => support,
    }
}

/// What PVUSB alone carries.
fn carried(word: &str) -> Support {
    if word == "host" { Support::Hot } else { Support::No { why: NOT_CARRIED.to_owned() } }
}
