//! Listings of one domain, of all domains, and of host devices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use vusb_drivers::{DeviceState, Foreign, RunningGuest, Scheme};
use vusb_formats::{Format, VusbSpec};
use vusb_model::address::{Address, Index};
use vusb_model::device::{HostRef, Kind};
use vusb_model::guest::Guest;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::selector::Selector;

use crate::address::DomainAddress;
use crate::advice::Advice;
use crate::call::{Call, is_gone};
use crate::claims;
use crate::command_lines::CommandLineHolder;
use crate::error::Error;
use crate::guest_config::GuestConfig;
use crate::host_devices::HostDevices;
use crate::inventory::{Inventory, Key};
use crate::note::Note;
use crate::record::Record;
use crate::session::Open;
use crate::view::{
    API, AllView, CompanionView, ControllerState, ControllerView, CountersView, Creator,
    DeviceView, DomainState, DomainView, ForeignDeviceView, ForeignView, HostDeviceView, HostView,
    RunningView, State, UnreachableView,
};

/// The domain as it is now; if its guest has ended, what its record has.
pub(crate) fn list(call: &Call<'_>, domain: &DomainAddress) -> Result<DomainView, Error> {
    match list_now(call, domain) {
        Err(Error::Driver(error)) if is_gone(domain, &error) => {
            let name = |record: &Record| record.display_name().to_owned();
            let why = error.to_string();
            let note = |record: &Record| Note::Gone { domain: name(record), why };
            let states = (DomainState::Gone, State::Missing, ControllerState::Missing);
            from_record(call, domain, Error::Driver(error), states, note)
        }
        other => other,
    }
}

/// The domain as it is now. It is not an error if its hypervisor is busy with another command, and
/// the domain has a record.
fn list_now(call: &Call<'_>, domain: &DomainAddress) -> Result<DomainView, Error> {
    let open = match Open::look(call, domain) {
        Err(busy @ Error::Busy { .. }) => {
            let why = busy.to_string();
            let states = (DomainState::Unknown, State::Unknown, ControllerState::Unknown);
            return from_record(call, domain, busy, states, |_| Note::FromRecord { why });
        }
        other => other?,
    };
    let stale = open.stale(open.inventory());
    let display_name = open.record.display_name();
    let denied = open.cannot_open();
    let is_denied = |name: &vusb_model::name::Name| {
        denied
            .iter()
            .any(|it| matches!(it, Note::CannotOpen { name: denied, .. } if denied == name))
    };
    let replugged =
        stale.iter().filter_map(|at| Some((*at, open.inventory().hardware().device(*at)?)));
    // `vusb apply` is only advised where it can restore the device.
    let replugged = replugged.filter(|(_, it)| !is_denied(&it.name)).map(|(at, it)| {
        let name = it.name.clone();
        match open.check_available(open.inventory(), at, it) {
            Ok(()) => Note::Replugged { name, domain: display_name.to_owned() },
            Err(error) => Note::NotRestored { name, why: error.to_string() },
        }
    });
    let observed = open.observed_notes();
    let notes = open.notes().iter().cloned();
    let hosts = open.inventory().host_refs();
    let other_devices =
        hosts.filter_map(|(at, _)| open.host_devices.absence_note(open.inventory(), at, false));
    let not_taken = open.not_taken().into_iter();
    let not_taken =
        not_taken.filter(|it| !matches!(it, Note::NotTaken { name, .. } if is_denied(name)));
    let notes = notes.chain(replugged).chain(not_taken).chain(other_devices).chain(observed);
    let notes = notes.chain(disconnected(&open)).chain(denied.iter().cloned()).collect();
    let states = Observed { open: &open, stale: &stale };
    Ok(DomainView {
        api: API,
        domain: display_name.to_owned(),
        address: domain.to_string(),
        state: match (open.is_file(), open.observed.off) {
            (true, _) => DomainState::File,
            (false, true) => DomainState::Off,
            (false, false) => DomainState::Running,
        },
        suspended: open.record.suspended,
        profile: open.record.profile,
        controllers: open.hardware().controllers().map(|it| controller(it, &states)).collect(),
        foreign: open.observed.foreign.iter().map(foreign).collect(),
        notes,
    })
}

/// The configuration of a guest with the hardware that the domain has or should have.
pub(crate) fn config_of(call: &Call<'_>, domain: &DomainAddress) -> Result<GuestConfig, Error> {
    let (all, record, guest) = match Open::look(call, domain) {
        Ok(mut open) => {
            let guest = open.capabilities()?.guest;
            (open.inventory().clone(), open.record, guest)
        }
        Err(error) => {
            let record = call.records().read(domain.as_str())?;
            let record = record.filter(|_| matches!(error, Error::Driver(_))).ok_or(error)?;
            (record.combined(), record, Guest::default())
        }
    };
    let host_devices = HostDevices::new(call, Some(domain));
    let mut hardware = all.hardware().clone();
    for (at, host) in all.host_refs() {
        let here = host_devices.present(&all, at);
        let here = here.map(|it| it.reference(host.selector.clone()));
        let here = here.unwrap_or_else(|| HostRef::new(host.selector.clone()));
        replace_host(&mut hardware, at, as_given(&all, at, host, here));
    }
    let name = record.name.clone();
    let guest = Guest { name: name.as_ref().map(ToString::to_string), ..guest };
    let format = Format::new(VusbSpec);
    Ok(GuestConfig::of_domain(hardware, domain.to_string(), name, guest, format))
}

/// `here` with what the domain was told about the host device at `at`, which the hypervisor does
/// not know: its other ids, and whether it is required.
fn as_given(all: &Inventory, at: Address, host: &HostRef, here: HostRef) -> HostRef {
    let mut also = host.also.clone();
    also.extend(all.identity(at).into_iter().flat_map(|it| &it.also));
    if let Selector::Id { id, .. } = &host.selector {
        also.remove(id);
    }
    let required = host.required || all.facts(Key::Device(at)).required;
    HostRef { also, required, ..here }
}

/// Replaces the host device at `at`. It stays as it is if its port does not take the speed that it
/// has now.
pub(crate) fn replace_host(hardware: &mut Hardware, at: Address, host: HostRef) {
    for (at, old) in hardware.unplug(at) {
        let new = Device { kind: Kind::Host(host.clone()), name: old.name.clone() };
        // Its port has just become free.
        let _ = hardware.plug(at, new).or_else(|_| hardware.plug(at, old));
    }
}

/// A note for each disconnected controller.
fn disconnected(open: &Open<'_>) -> Vec<Note> {
    let ours = open.disconnected();
    let note = |(index, why): (&Index, &String)| {
        let name = open.hardware().controller(*index)?.name.clone();
        let domain = open.record.display_name();
        let restored_by = ours.contains(index).then(|| domain.to_owned());
        Some(Note::Disconnected { name, why: why.clone(), restored_by })
    };
    open.observed.broken.iter().filter_map(note).collect()
}

/// The record of a domain that cannot be asked. The error is returned if there is no record.
fn from_record(
    call: &Call<'_>,
    domain: &DomainAddress,
    error: Error,
    (state, device, controller): (DomainState, State, ControllerState),
    note: impl FnOnce(&Record) -> Note,
) -> Result<DomainView, Error> {
    let Some(record) = call.records().read(domain.as_str())? else { return Err(error) };
    Ok(DomainView {
        api: API,
        domain: record.display_name().to_owned(),
        address: domain.to_string(),
        state,
        suspended: record.suspended,
        profile: record.profile,
        controllers: recorded(&record, device, controller),
        foreign: Vec::new(),
        notes: vec![note(&record)],
    })
}

/// Everything in a record, with the same state for all devices and for all controllers.
fn recorded(
    record: &Record,
    device: State,
    controller_state: ControllerState,
) -> Vec<ControllerView> {
    let all = record.combined();
    let states = Recorded { all: &all, device, controller: controller_state };
    all.hardware().controllers().map(|it| controller(it, &states)).collect()
}

/// The state of each item.
trait States {
    fn inventory(&self) -> &Inventory;
    fn of_controller(&self, controller: &Controller) -> ControllerState;
    fn of_device(&self, address: Address, device: &Device) -> State;
    fn counters(&self, index: Index) -> Option<CountersView>;
    fn terminal(&self, address: Address) -> Option<String>;
}

/// The observed states.
struct Observed<'a> {
    open: &'a Open<'a>,
    stale: &'a BTreeSet<Address>,
}

impl States for Observed<'_> {
    fn inventory(&self) -> &Inventory {
        self.open.inventory()
    }

    fn of_controller(&self, controller: &Controller) -> ControllerState {
        if self.inventory().is_missing(Key::Controller(controller.index)) {
            ControllerState::Missing
        } else if self.open.observed.broken.contains_key(&controller.index) {
            ControllerState::Broken
        } else if self.open.observed.configured.contains(&controller.index) {
            ControllerState::Configured
        } else {
            ControllerState::Present
        }
    }

    fn of_device(&self, address: Address, device: &Device) -> State {
        if self.stale.contains(&address) {
            return State::Absent;
        }
        let unplugged = || {
            matches!(device.kind, Kind::Host(_))
                && self.open.host_devices.is_unplugged(self.inventory(), address)
        };
        if self.inventory().is_missing(Key::Device(address)) {
            let is_host = matches!(device.kind, Kind::Host(_));
            return match (unplugged(), is_host && self.open.record.suspended) {
                (true, _) => State::Absent,
                (false, true) => State::Suspended,
                (false, false) => State::Missing,
            };
        }
        match self.open.observed.states.get(&address) {
            Some(DeviceState::Absent) => State::Absent,
            Some(DeviceState::Attached) => State::Attached,
            Some(DeviceState::Offered) => State::Offered,
            Some(DeviceState::Configured) | None if unplugged() => State::Absent,
            Some(DeviceState::Configured) => State::Configured,
            None => State::Attached,
        }
    }

    fn counters(&self, index: Index) -> Option<CountersView> {
        self.open.observed.counters.get(&index).map(CountersView::from)
    }

    fn terminal(&self, address: Address) -> Option<String> {
        self.open.observed.terminals.get(&address).cloned()
    }
}

/// The same states for all items of a record.
struct Recorded<'a> {
    all: &'a Inventory,
    device: State,
    controller: ControllerState,
}

impl States for Recorded<'_> {
    fn inventory(&self) -> &Inventory {
        self.all
    }

    fn of_controller(&self, _: &Controller) -> ControllerState {
        self.controller
    }

    fn of_device(&self, _: Address, _: &Device) -> State {
        self.device
    }

    fn counters(&self, _: Index) -> Option<CountersView> {
        None
    }

    fn terminal(&self, _: Address) -> Option<String> {
        None
    }
}

fn controller(it: &Controller, states: &impl States) -> ControllerView {
    let origin = |key| {
        if states.inventory().is_managed(key) { Creator::Vusb } else { Creator::Other }
    };
    let is_required = |key| states.inventory().facts(key).required;
    ControllerView {
        index: it.index,
        name: it.name.clone(),
        controller_type: it.model.controller_type(),
        model: it.model,
        usbversion: it.model.usbversion(),
        ports: it.ports.count(),
        companions: it.companions.iter().map(CompanionView::from).collect(),
        backend: it.backend.clone(),
        pci: it.pci.clone(),
        origin: origin(Key::Controller(it.index)),
        state: states.of_controller(it),
        counters: states.counters(it.index),
        devices: it
            .devices()
            .map(|(port, device)| {
                let address = Address { bus: it.index, port };
                let mut kind = device.kind.clone();
                if let Kind::Host(host) = &mut kind {
                    host.required |= is_required(Key::Device(address));
                }
                DeviceView {
                    port,
                    name: device.name.clone(),
                    kind,
                    state: states.of_device(address, device),
                    origin: origin(Key::Device(address)),
                    terminal: states.terminal(address),
                }
            })
            .collect(),
    }
}

fn foreign(it: &Foreign) -> ForeignView {
    let device = |(port, driver): &(String, String)| ForeignDeviceView {
        port: port.clone(),
        driver: driver.clone(),
    };
    ForeignView {
        driver: it.driver.clone(),
        id: it.id.clone(),
        devices: it.devices.iter().map(device).collect(),
    }
}

/// How many items [`in_parallel`] works on at the same time.
const MAX_CONCURRENT: usize = 64;

pub(crate) fn list_all(call: &Call<'_>) -> Result<AllView, Error> {
    let records = call.records().all()?;
    let (unrecorded, answers) = std::thread::scope(|scope| {
        let unrecorded = scope.spawn(|| unrecorded(call, &records));
        let answers = in_parallel(&records, |record| match record {
            // Each may take no longer than a single wait.
            Ok(record) => list_recorded(&call.brief(), record),
            Err(error) => Err(damaged(error)),
        });
        (unrecorded.join().unwrap_or_default(), answers)
    });
    let mut all = AllView { api: API, domains: Vec::new(), unreachable: Vec::new(), unrecorded };
    for answer in answers {
        match answer {
            Ok(domain) => all.domains.push(domain),
            Err(unreachable) => all.unreachable.push(unreachable),
        }
    }
    all.domains.sort_by(|a, b| a.domain.cmp(&b.domain));
    Ok(all)
}

/// The guests that run on this machine without one of these records.
pub(crate) fn unrecorded(call: &Call<'_>, records: &[Result<Record, Error>]) -> Vec<RunningView> {
    let records: Vec<&Record> = records.iter().flatten().collect();
    let guests = running_without_record(call, &records);
    let named = if guests.is_empty() { BTreeMap::new() } else { named_by_command_lines(call) };
    let view = |Running { guest, address, hypervisor }| {
        let key = (hypervisor, guest.process);
        let host_devices = match guest.host_devices {
            none if none.is_empty() => named.get(&key).cloned().unwrap_or_default(),
            known => known,
        };
        RunningView {
            address,
            name: guest.name,
            host_devices,
            hypervisor: key.0,
            id: guest.process,
            manager: guest.manager.map(str::to_owned),
        }
    };
    let mut unrecorded: Vec<RunningView> = guests.into_iter().map(view).collect();
    // Guests without an address come last.
    unrecorded.sort_by_key(|it| (it.address.is_none(), it.address.clone(), it.id));
    unrecorded
}

/// The host devices on the command lines of running guests, by hypervisor and process.
fn named_by_command_lines(call: &Call<'_>) -> BTreeMap<(String, u32), Vec<Selector>> {
    let root = call.context.host().root();
    let asked = call.ask_schemes(|scheme| scheme.named_by_command_lines(root)).into_iter();
    let named = asked.flat_map(|(scheme, guests)| guests.into_iter().map(move |it| (scheme, it)));
    named.map(|(of, it)| ((of.title().to_owned(), it.process), it.host_devices)).collect()
}

/// A guest that runs on this machine.
pub(crate) struct Running {
    pub(crate) guest: RunningGuest,
    /// Its address, if one reaches it.
    pub(crate) address: Option<String>,
    /// The name of its hypervisor.
    pub(crate) hypervisor: String,
}

/// The guests that run on this machine without one of these records.
pub(crate) fn running_without_record(call: &Call<'_>, records: &[&Record]) -> Vec<Running> {
    let is_recorded = |guest: &RunningGuest, address: Option<&str>| {
        records.iter().any(|record| {
            address == Some(&record.domain)
                || (guest.identity.is_some() && guest.identity == record.identity)
        })
    };
    let (limit, root) = (call.limits.next_wait(), call.context.host().root());
    let asked = call.ask_schemes(|scheme| {
        scheme.running(root, limit).unwrap_or_else(|error| {
            tracing::warn!(scheme = scheme.name(), %error, "cannot list the running guests");
            Vec::new()
        })
    });
    // A guest that its manager lists is listed once: by the manager's scheme. It is recognized by
    // its UUID, or by its process if that is what the manager knows.
    let keys = |guest: &RunningGuest| {
        let identity = guest.identity.as_ref().map(ToString::to_string);
        [guest.uuid.clone(), identity].into_iter().flatten().collect::<Vec<String>>()
    };
    let managed: BTreeSet<(&str, String)> = asked
        .iter()
        .flat_map(|(scheme, guests)| guests.iter().map(|it| (scheme.title(), it)))
        .flat_map(|(title, guest)| keys(guest).into_iter().map(move |key| (title, key)))
        .collect();
    let is_listed = |scheme: &dyn Scheme, guest: &RunningGuest| {
        let manager = guest.manager.filter(|it| *it != scheme.title());
        let is_managed =
            |manager| keys(guest).into_iter().any(|it| managed.contains(&(manager, it)));
        manager.is_some_and(is_managed)
    };
    let mut running = Vec::new();
    for (scheme, guests) in asked.iter().cloned() {
        for guest in guests.into_iter().filter(|guest| !is_listed(scheme, guest)) {
            let address = guest.operand.as_deref().map(|operand| scheme.address(operand));
            if !is_recorded(&guest, address.as_deref()) {
                let hypervisor = scheme.title().to_owned();
                running.push(Running { guest, address, hypervisor });
            }
        }
    }
    running
}

/// Calls `one` for each item. Each of several threads takes the next item that is left, so that an
/// item that hangs occupies only one thread. The results are in the order of the items.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], one: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let left = Mutex::new(items.iter().enumerate());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || std::iter::from_fn(next).map(|(at, it)| (at, one(it))).collect::<Vec<_>>();
    let mut answers: Vec<_> = std::thread::scope(|scope| {
        let threads = (0..MAX_CONCURRENT.min(items.len())).map(|_| scope.spawn(work));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().filter_map(|it| it.join().ok()).flatten().collect()
    });
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn list_recorded(call: &Call<'_>, record: &Record) -> Result<DomainView, UnreachableView> {
    let failed = |why: String, gone: bool| UnreachableView {
        domain: record.display_name().to_owned(),
        why,
        holds: holds(record),
        controllers: if gone {
            recorded(record, State::Missing, ControllerState::Missing)
        } else {
            recorded(record, State::Unknown, ControllerState::Unknown)
        },
    };
    let domain = call
        .recorded_address(&record.domain)
        .ok_or_else(|| failed(format!("no driver is registered for {}", record.domain), false))?;
    list_now(call, &domain).map_err(|error| {
        let gone = matches!(&error, Error::Driver(it) if is_gone(&domain, it));
        failed(error.to_string(), gone)
    })
}

fn damaged(error: &Error) -> UnreachableView {
    let domain = match error {
        Error::Record { path, .. } | Error::Io { path, .. } => path.display().to_string(),
        _ => String::new(),
    };
    UnreachableView { domain, why: error.to_string(), holds: Vec::new(), controllers: Vec::new() }
}

/// The selectors of the host devices that a record claims. Empty once the process of its guest has
/// ended.
fn holds(record: &Record) -> Vec<String> {
    if record.has_ended() {
        return Vec::new();
    }
    let selector = |device: &Device| match &device.kind {
        Kind::Host(host) => Some(host.selector.to_string()),
        _ => None,
    };
    let devices = record.inventories().flat_map(|it| it.hardware().devices());
    let holds: BTreeSet<String> = devices.filter_map(|(_, it)| selector(it)).collect();
    holds.into_iter().collect()
}

pub(crate) fn host_list(call: &Call<'_>, backend: Option<&str>) -> Result<HostView, Error> {
    // Backend domains belong to the first hypervisor that has them.
    let registry = call.context.registry();
    let scheme = registry.schemes().find(|it| it.backends().is_some());
    let of = match (backend, scheme.and_then(|it| it.backends())) {
        (None, _) => None,
        (Some(requested), Some(backends)) => backends.resolve(requested, &call.limits)?,
        (Some(_), None) => {
            let problem = "no hypervisor has backend domains";
            return Err(Error::usage(problem, Advice::RegisterBackendDriver));
        }
    };
    let host_devices = HostDevices::of_scheme(call, scheme.map(|it| it.name().to_owned()));
    let snapshot = host_devices.snapshot(&of)?;
    let (records, files) = (call.records(), call.claim_files());
    let mut notes = Vec::new();
    let devices = snapshot.devices.iter().map(|it| {
        let holder = claims::holder(&records, &files, &host_devices, it, &of, &snapshot);
        let holder = holder.unwrap_or_else(|error| {
            let note = Note::RecordUnreadable { why: error.to_string() };
            if !notes.contains(&note) {
                notes.push(note);
            }
            None
        });
        let is_free = it.used_by.is_none() && holder.is_none() && of.is_none();
        let view = HostDeviceView::new(it, snapshot.protection(it), holder);
        let lines = is_free.then(|| host_devices.command_lines());
        let named = lines.and_then(|all| all.holder(it, &snapshot.devices, None, &host_devices));
        match named {
            Some(CommandLineHolder { process, text }) => {
                let processes = process.into_iter().collect();
                HostDeviceView { used_by: Some(text), processes, ..view }
            }
            None => view,
        }
    });
    let devices = devices.collect();
    Ok(HostView { api: API, backend: of, devices, notes })
}
