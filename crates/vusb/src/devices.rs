//! Adding and removing devices.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;

use vusb_host::SelectError;
use vusb_model::address::{Address, Index, PortPath};
use vusb_model::device::{HostRef, Kind};
use vusb_model::hardware::{Device, Hardware, Item};
use vusb_model::list::few;
use vusb_model::name::Name;
use vusb_model::resolve::Placed;
use vusb_model::selector::Selector;
use vusb_model::spec::{ControllerRef, DeviceSpec, Spec};

use crate::address::DomainAddress;
use crate::advice::Advice;
use crate::backend_domain::BackendDomain;
use crate::call::{Call, is_gone};
use crate::device_ref::DeviceRef;
use crate::error::Error;
use crate::host_devices::{HostDevices, absent};
use crate::inventory::{Inventory, Key, Origin};
use crate::note::Note;
use crate::outcome::{Chosen, DeviceOutcome, Outcome};
use crate::record::Record;
use crate::session::claims::{claimant, release};
use crate::session::{Change, Open, take_lock};
use crate::{controllers, files, recover};

pub(crate) fn add(
    call: &Call<'_>,
    domain: &DomainAddress,
    specs: &[DeviceSpec],
) -> Result<Outcome, Error> {
    let mut open = Open::begin(call, domain)?;
    let devices: Vec<DeviceSpec> =
        specs.iter().map(|spec| prepared(&open, spec)).collect::<Result<_, _>>()?;
    check_distinct(specs, &devices)?;
    let request = Spec {
        profile: open.profile(),
        domain: open.record.name.clone(),
        address: Some(domain.to_string()),
        devices,
        ..Spec::default()
    };
    let resolved = open.resolve(&request)?;
    let requested: BTreeSet<Address> = resolved.devices.iter().map(|it| it.address).collect();
    // A replugged device that is requested again is attached again.
    let mut reattach = open.stale(open.inventory());
    reattach.retain(|at| requested.contains(at));
    let mut target = open.inventory().with_hardware(resolved.hardware);
    let mut all = Vec::new();
    for placed in &resolved.devices {
        let waits = waits_for_plug(&open, &target, placed);
        let already = placed.existing
            && !reattach.contains(&placed.address)
            && (waits || !open.inventory().is_missing(Key::Device(placed.address)));
        all.push(Added::new(&target, placed.address, already));
        require(&mut open, &mut target, placed.address, waits, already);
    }
    for (placed, spec) in resolved.devices.iter().zip(specs) {
        if matches!(&spec.kind, Kind::Host(host) if host.required) {
            require_presence(&open, &mut target, placed.address)?;
        }
    }
    note_restored(&mut open, &target, &requested);
    for index in &resolved.added {
        target.facts_mut(Key::Controller(*index)).origin = Origin::OnDemand;
    }
    let planned_names = names(target.hardware(), &resolved.added);
    let mut committed = open.plan(Change { reattach, ..Change::to(target) })?.commit()?;
    // In a file, items are named by their order, so a new item may take the name of an old one.
    let renamed = committed.open.is_file() && !committed.open.is_dry();
    let mut outcomes = Vec::new();
    for (it, spec) in all.into_iter().zip(specs) {
        let found = address_of(it.device.as_ref(), it.address, committed.open.hardware());
        note_other_selector(&mut committed.open, spec, found);
        let chosen = Chosen::device(committed.open.hardware(), found).filter(|_| renamed);
        let outcome = |chosen| DeviceOutcome { chosen, already: it.already };
        outcomes.extend(chosen.or(it.planned).map(outcome));
    }
    let hardware = committed.open.hardware();
    let added = if renamed { names(hardware, &resolved.added) } else { planned_names };
    Ok(with_added(committed.outcome(), added).of_devices(outcomes))
}

/// A device of the request, as it is planned.
struct Added {
    address: Address,
    device: Option<Device>,
    planned: Option<Chosen>,
    already: bool,
}

impl Added {
    fn new(target: &Inventory, address: Address, already: bool) -> Added {
        let device = target.hardware().device(address).cloned();
        Added { address, device, planned: Chosen::device(target.hardware(), address), already }
    }
}

/// Whether the device is a host device that is not plugged in and is only recorded, because the
/// caller accepts that.
fn waits_for_plug(open: &Open<'_>, target: &Inventory, placed: &Placed<Address>) -> bool {
    let at = placed.address;
    let attached = placed.existing && !open.inventory().is_missing(Key::Device(at));
    open.call.options.accept_absent
        && !open.is_file()
        && !attached
        && target.host_ref(at).is_some()
        && open.host_devices.is_unplugged(target, at)
}

/// Requires the device at `at`, with the hubs and the controller that it is plugged into. A device
/// that `waits` for its plug stays missing.
fn require(open: &mut Open<'_>, target: &mut Inventory, at: Address, waits: bool, already: bool) {
    target.require(at);
    let by_rule = open.call.options.by_rule;
    let facts = target.facts_mut(Key::Device(at));
    facts.missing = waits;
    facts.origin = match (by_rule, facts.origin) {
        // An item of a spec remains one when it is restored by hand.
        (_, Origin::Spec) => Origin::Spec,
        // A request of a person counts, even if a rule attached the device before.
        (false, Origin::OnDemand) => Origin::Hand,
        (false, _) if !already => Origin::Hand,
        (true, Origin::Other) if !already => Origin::OnDemand,
        (_, before) => before,
    };
    if waits {
        let note = open.host_devices.absence_note(target, at, true);
        note.into_iter().for_each(|note| open.note(note));
    }
}

/// Marks the device at `at` as one whose absence is a failure.
fn require_presence(open: &Open<'_>, target: &mut Inventory, at: Address) -> Result<(), Error> {
    if open.is_file() {
        let problem = "only a spec and a guest that runs can have devices that are required";
        let form = "required = true in the spec".to_owned();
        return Err(Error::usage(problem, Advice::Write { form }));
    }
    target.facts_mut(Key::Device(at)).required = true;
    Ok(())
}

/// Checks that no two of the requests are for the same host device, by whatever selectors.
fn check_distinct(specs: &[DeviceSpec], devices: &[DeviceSpec]) -> Result<(), Error> {
    let mut seen = BTreeMap::new();
    for (spec, device) in specs.iter().zip(devices) {
        let Kind::Host(HostRef { bus_address: Some(at), .. }) = &device.kind else { continue };
        if let Some(other) = seen.insert(*at, &spec.kind) {
            let problem = format!("{other} and {} are the same device", spec.kind);
            return Err(Error::usage(problem, Advice::NameDevicesOnce));
        }
    }
    Ok(())
}

/// The outcome, with a note for each controller that was added.
fn with_added(mut outcome: Outcome, added: Vec<Name>) -> Outcome {
    let notes = controllers::added_notes(&outcome.hardware, &added, false, outcome.dry_run);
    outcome.notes.splice(0..0, notes);
    Outcome { added_controllers: added, ..outcome }
}

/// The actual address of the device that was planned at `address`. The two differ if the format
/// does not specify ports and its tool chose another one.
pub(crate) fn address_of(
    device: Option<&Device>,
    address: Address,
    hardware: &Hardware,
) -> Address {
    let is_it = |there: &Device| device.is_some_and(|device| there.kind == device.kind);
    if hardware.device(address).is_some_and(is_it) {
        return address;
    }
    hardware.devices().find(|(_, there)| is_it(there)).map_or(address, |(at, _)| at)
}

/// The names of controllers.
fn names(hardware: &Hardware, controllers: &[Index]) -> Vec<Name> {
    let name = |index: &Index| Some(hardware.controller(*index)?.name.clone());
    controllers.iter().filter_map(name).collect()
}

/// Notes that a file names a host device by another selector than the requested one.
fn note_other_selector(open: &mut Open<'_>, spec: &DeviceSpec, at: Address) {
    let (Kind::Host(requested), Some(Device { kind: Kind::Host(written), .. })) =
        (&spec.kind, open.observed.hardware.device(at))
    else {
        return;
    };
    if open.is_file() && written.selector != requested.selector {
        let (given, written) = (requested.selector.clone(), written.selector.clone());
        open.note(Note::OtherSelector { given, written });
    }
}

/// Notes which missing items are restored because the `requested` devices need them.
fn note_restored(open: &mut Open<'_>, target: &Inventory, requested: &BTreeSet<Address>) {
    let is_requested = |key| matches!(key, Key::Device(at) if requested.contains(&at));
    let restored = |(key, _): &(Key, &Name)| {
        !is_requested(*key) && open.inventory().is_missing(*key) && !target.is_missing(*key)
    };
    let names = open.inventory().keys().filter(restored).map(|(_, name)| name.clone());
    let names: Vec<Name> = names.collect();
    if !names.is_empty() {
        let dry_run = open.is_dry();
        open.note(Note::Restored { names, dry_run });
    }
}

/// The request, with its host device looked up or its path made absolute.
fn prepared(open: &Open<'_>, spec: &DeviceSpec) -> Result<DeviceSpec, Error> {
    let spec = with_controller_of_backend(open, spec)?;
    let kind = prepared_kind(open, &spec)?;
    Ok(DeviceSpec { kind, ..spec })
}

fn prepared_kind(open: &Open<'_>, spec: &DeviceSpec) -> Result<Kind, Error> {
    let Kind::Host(host) = &spec.kind else {
        let kind = files::absolute(&spec.kind, &open.call.folder());
        return Ok(open.profile().with_input_speed(kind));
    };
    let backend = backend(open, spec);
    let is_it = |it: &Device| matches!(&it.kind, Kind::Host(it) if it.selector == host.selector);
    let has_it = || open.observed.hardware.devices().any(|(_, it)| is_it(it));
    if open.is_file() && has_it() {
        return Ok(spec.kind.clone());
    }
    match open.host_devices.reference(&host.selector, open.inventory(), &backend)? {
        Some(reference) => Ok(Kind::Host(in_the_terms_of_the_format(open, host, reference))),
        // It was unplugged, and its place is kept.
        None if has_it() => Ok(spec.kind.clone()),
        // A guest that does not run may be given a device that is not plugged in now.
        None if open.is_file() => Ok(spec.kind.clone()),
        None if open.call.options.accept_absent => {
            check_lasting(&host.selector)?;
            Ok(spec.kind.clone())
        }
        None => Err(absent(&host.selector, &backend)),
    }
}

/// Checks that the selector still names the device once it is plugged in.
fn check_lasting(selector: &Selector) -> Result<(), Error> {
    let Selector::Address(_) = selector else { return Ok(()) };
    let problem = format!("a device that is not plugged in has no address, such as {selector}");
    Err(Error::usage(problem, Advice::NameDeviceForLater))
}

/// A new host device with a selector that the file's own tool understands.
fn in_the_terms_of_the_format(open: &Open<'_>, requested: &HostRef, found: HostRef) -> HostRef {
    let is_it = |it: &Device| matches!(&it.kind, Kind::Host(it) if it.selector == found.selector);
    if open.hardware().devices().any(|(_, it)| is_it(it)) {
        return found;
    }
    let selector = open.driver.host_naming().selector(&requested.selector, &found);
    HostRef { selector, ..found }
}

/// The machine whose device is requested: the backend domain of the named controller, or by default
/// this machine.
fn backend(open: &Open<'_>, spec: &DeviceSpec) -> BackendDomain {
    let bus = controllers::find(open.hardware(), spec.controller.as_ref()?).ok()?;
    // All ports of a controller have the same backend.
    let port = PortPath::root(NonZeroU8::MIN);
    open.host_devices.backend(open.hardware(), Address { bus, port })
}

/// The spec. If only the backend domain of a controller has the host device, the spec names that
/// controller; if there are several, preferably the one with the fewest devices.
fn with_controller_of_backend(open: &Open<'_>, spec: &DeviceSpec) -> Result<DeviceSpec, Error> {
    let (Kind::Host(host), None) = (&spec.kind, &spec.controller) else { return Ok(spec.clone()) };
    let on = |index| DeviceSpec { controller: Some(ControllerRef::Index(index)), ..spec.clone() };
    let mut elsewhere: Vec<_> = open.hardware().controllers().map(|it| on(it.index)).collect();
    elsewhere.retain(|spec| backend(open, spec).is_some());
    if elsewhere.is_empty() || !open.host_devices.is_absent(&host.selector, &None) {
        return Ok(spec.clone());
    }
    let device_count = |spec: &DeviceSpec| match &spec.controller {
        Some(ControllerRef::Index(index)) => {
            open.hardware().controller(*index).map_or(0, |it| it.devices().len())
        }
        _ => 0,
    };
    elsewhere.sort_by_key(device_count);
    for spec in &elsewhere {
        if open.host_devices.find(&host.selector, &backend(open, spec))?.is_some() {
            return Ok(spec.clone());
        }
    }
    Ok(spec.clone())
}

pub(crate) fn remove(
    call: &Call<'_>,
    domain: &DomainAddress,
    requested: &[DeviceRef],
) -> Result<Outcome, Error> {
    let mut open = match Open::begin(call, domain) {
        Err(Error::Driver(error)) if call.is_forced() && is_gone(domain, &error) => {
            return forget(call, domain, requested, &error.to_string());
        }
        other => other?,
    };
    let mut requested_at = Vec::new();
    for device in requested {
        let at = existing(&open, device)?;
        // One device may be named twice.
        if !requested_at.contains(&at) {
            requested_at.push(at);
        }
    }
    let mut left = open.hardware().clone();
    let mut outcomes = Vec::new();
    for at in &requested_at {
        let chosen = Chosen::device(open.hardware(), *at);
        let already = open.inventory().is_missing(Key::Device(*at));
        outcomes.extend(chosen.map(|chosen| DeviceOutcome { chosen, already }));
        let unplugged = left.unplug(*at);
        let behind = unplugged.iter().filter(|(it, _)| !requested_at.contains(it));
        let behind: Vec<&str> = behind.map(|(_, it)| it.name.as_str()).collect();
        if let (Some((_, hub)), false, false) =
            (unplugged.last(), behind.is_empty(), call.is_forced())
        {
            return Err(Error::HubInUse { hub: hub.name.to_string(), devices: few(&behind) });
        }
    }
    for it in outcomes.iter().filter(|it| it.already) {
        open.note(Note::AlreadyGone { name: it.chosen.name.clone() });
    }
    let target = open.inventory().with_hardware(left);
    let committed = open.plan(Change::to(target))?.commit()?;
    Ok(committed.outcome().of_devices(outcomes))
}

/// The address of a device that the domain has.
pub(crate) fn existing(open: &Open<'_>, requested: &DeviceRef) -> Result<Address, Error> {
    let name = open.record.display_name();
    find(open.inventory(), &open.host_devices, requested, name)?
        .ok_or_else(|| no_such_device(name, open.hardware(), requested))
}

/// Removes devices from the record of a guest that has ended, which releases their claims.
fn forget(
    call: &Call<'_>,
    domain: &DomainAddress,
    requested: &[DeviceRef],
    why: &str,
) -> Result<Outcome, Error> {
    let records = call.records();
    let _lock = match call.is_dry() {
        true => None,
        false => Some(take_lock(&records, call, domain)?),
    };
    let record = records.read(domain.as_str())?;
    let mut record = record.unwrap_or_else(|| Record::new(domain));
    let combined = record.combined();
    let hardware = combined.hardware();
    let host_devices = HostDevices::new(call, Some(domain));
    let mut found = Vec::new();
    for device in requested {
        let at = find(&combined, &host_devices, device, record.display_name())?;
        let missing = || no_such_device(record.display_name(), hardware, device);
        let at = at.ok_or_else(missing)?;
        if !found.contains(&at) {
            found.push(at);
        }
    }
    let chosen = found.iter().filter_map(|at| Chosen::device(hardware, *at));
    let outcomes = chosen.map(|chosen| DeviceOutcome { chosen, already: false }).collect();
    let before = record.claims();
    recover::forget(&mut record, |hardware| {
        for at in &found {
            hardware.unplug(*at);
        }
    });
    if !call.is_dry() {
        release(call, &claimant(&record, record.identity.clone()), &before, &record);
        records.save(&mut record, domain.scheme().backends().is_some())?;
    }
    let notes = vec![Note::OnlyRecordChanged { why: why.to_owned() }];
    let (name, dry_run) = (record.display_name().to_owned(), call.is_dry());
    let outcome = Outcome::new(name, record.inventory.hardware().clone());
    Ok(Outcome { notes, dry_run, ..outcome }.of_devices(outcomes))
}

/// The address of the requested device.
fn find(
    all: &Inventory,
    host_devices: &HostDevices<'_>,
    requested: &DeviceRef,
    domain: &str,
) -> Result<Option<Address>, Error> {
    let hardware = all.hardware();
    match requested {
        DeviceRef::Name(name) => Ok(match hardware.named(name) {
            Some(Item::Device(address)) => Some(address),
            _ => None,
        }),
        DeviceRef::Port(controller, port) => {
            let address = Address { bus: controllers::find(hardware, controller)?, port: *port };
            Ok(hardware.device(address).map(|_| address))
        }
        DeviceRef::Host(selector) => find_host_device(all, host_devices, selector, domain),
    }
}

/// The address of the host device that the selector names: one that is plugged in, or one as it was
/// when it was given. A device that is recorded with exactly this selector takes precedence, unless
/// the selector also named another device when that one was given.
fn find_host_device(
    all: &Inventory,
    host_devices: &HostDevices<'_>,
    selector: &Selector,
    domain: &str,
) -> Result<Option<Address>, Error> {
    let hardware = all.hardware();
    let named = all.host_refs().find(|(_, host)| host.selector == *selector).map(|(at, _)| at);
    let was = |(at, _): &(Address, &HostRef)| {
        all.identity(*at).is_some_and(|it| it.is_named_by(selector))
    };
    let was: Vec<Address> = all.host_refs().filter(was).map(|(at, _)| at).collect();
    if let Some(at) = named {
        if was.iter().all(|it| *it == at) {
            return Ok(Some(at));
        }
    }
    let mut backends: BTreeSet<BackendDomain> =
        hardware.devices().map(|(at, _)| host_devices.backend(hardware, at)).collect();
    backends.insert(None);
    for backend in backends {
        // Several devices may match now. What counts then is which device the selector named when
        // that device was given.
        let found = match host_devices.find(selector, &backend) {
            Err(Error::Select(SelectError::Ambiguous { .. })) => continue,
            found => found?,
        };
        let attached = found.and_then(|it| host_devices.attached(all, &it, &backend));
        if attached.is_some() && was.len() < 2 {
            return Ok(attached);
        }
    }
    match was.as_slice() {
        [] => Ok(named),
        [only] => Ok(Some(*only)),
        _ => Err(Error::AmbiguousDevice {
            domain: domain.to_owned(),
            requested: selector.to_string(),
            matching: was.iter().filter_map(|at| described(hardware, *at)).collect(),
        }),
    }
}

fn described(hardware: &Hardware, at: Address) -> Option<String> {
    Some(format!("{} ({})", hardware.device(at)?.name, hardware.location(at)))
}

fn no_such_device(domain: &str, hardware: &Hardware, requested: &DeviceRef) -> Error {
    Error::NoSuchDevice {
        domain: domain.to_owned(),
        requested: requested.to_string(),
        known: hardware.devices().filter_map(|(at, _)| described(hardware, at)).collect(),
    }
}
