//! Making a domain match a spec, and resolving the config of a guest that is yet to be started.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;
use std::path::Path;

use vusb_model::address::{Address, PortPath};
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::{Step, diff};
use vusb_model::hardware::{Device, Hardware};
use vusb_model::name::Name;
use vusb_model::remedy::Remedy;
use vusb_model::resolve::{Placed, Resolved, resolve};
use vusb_model::spec::{ControllerRef, ControllerSpec, Spec};

use crate::address::DomainAddress;
use crate::advice::Advice;
use crate::backend_domain::BackendDomain;
use crate::call::Call;
use crate::error::Error;
use crate::guest_config::GuestConfig;
use crate::host_devices::HostDevices;
use crate::inventory::{Inventory, Key, Origin};
use crate::note::{Note, WhyRemoved};
use crate::outcome::{NotRestored, Outcome, Plan};
use crate::record::Header;
use crate::restore::required_absent;
use crate::session::{Change, Open};
use crate::{controllers, files, listing, matching, speeds};

pub(crate) fn apply(call: &Call<'_>, config: &GuestConfig) -> Result<Plan, Error> {
    let domain = domain_of(call, config)?;
    let mut open = Open::begin(call, &domain)?;
    let name = name_after(&mut open, config)?;
    let request = open.with_canonical_backends(config.spec().clone())?;
    let mut spec = prepared(&request, config.folder(), &open.host_devices, open.inventory())?;
    spec.address = Some(domain.to_string());
    let capabilities = open.capabilities()?;
    let matched = matching::pin(open.inventory(), &spec, &capabilities, call.options.prune);
    let resolved = resolve(&matched.stays, &matched.spec, &capabilities)
        .map_err(|refused| refused.report_missing_slot(&capabilities))?;
    let target = target(&mut open, &resolved, &matched.spec);
    note_not_touched(&mut open, &target);
    note_removed(&mut open, &target);
    note_kept(&mut open, &target);
    let added = added(&resolved, open.hardware());
    let not_restored: Vec<NotRestored> =
        required_absent(&open, &target).into_iter().map(|(_, it)| it).collect();
    let change = Change {
        reattach: open.stale(&target),
        target,
        recreate: open.disconnected(),
        available: BTreeSet::new(),
        header: Some(Header { name, profile: spec.profile, ..open.record.header() }),
    };
    let committed = open.plan(change)?.commit()?;
    let already = committed.steps.is_empty() && not_restored.is_empty();
    let mut outcome = Outcome { already, not_restored, ..committed.outcome() };
    let removes = outcome.steps.iter().any(|it| matches!(it, Step::RemoveController(_)));
    let notes = controllers::added_notes(&outcome.hardware, &added, removes, outcome.dry_run);
    outcome.notes.splice(0..0, notes);
    Ok(Plan::new(Outcome { added_controllers: added, ..outcome }, false))
}

/// The domain's name from now on. A spec with a different name is refused without force: it is
/// probably meant for another domain, and its address is wrong.
fn name_after(open: &mut Open<'_>, config: &GuestConfig) -> Result<Option<Name>, Error> {
    let requested = config.spec().domain.clone();
    match (open.record.name.clone(), requested) {
        (Some(from), Some(to)) if from != to => {
            let domain = open.domain.to_string();
            if !open.call.is_forced() {
                let (name, requested) = (from.to_string(), to.to_string());
                return Err(Error::OtherName { domain, name, requested });
            }
            open.note(Note::Renamed { domain, from: Some(from), to: to.clone() });
            Ok(Some(to))
        }
        (name, requested) => Ok(requested.or(name)),
    }
}

/// The domain at the address of the spec's driver. A name alone does not lead to a running guest:
/// a spec without a driver is for a guest that is started with it, and may have the name of
/// another one.
fn domain_of(call: &Call<'_>, config: &GuestConfig) -> Result<DomainAddress, Error> {
    if !config.format().names_running_domain() {
        let problem = "another tool's configuration describes a guest that does not run";
        return Err(Error::Usage {
            problem: problem.to_owned(),
            advice: None,
            remedies: vec![Remedy::ConvertToSpec],
        });
    }
    let Some(driver) = config.driver() else {
        let problem = "the spec has no driver: it is for a guest that is started with it";
        return Err(Error::usage(problem, driver_advice(call, config)));
    };
    let domain = call.context.registry().parse(driver, config.folder())?.map(DomainAddress::from);
    match domain.filter(DomainAddress::has_record) {
        Some(domain) => call.canonical(domain),
        None => {
            let problem = format!("the spec's driver, `{driver}`, is not the address of a domain");
            Err(Error::usage(problem, driver_advice(call, config)))
        }
    }
}

/// The advice to add an address to the spec: that of the domain that has the spec's name, if there
/// is one.
fn driver_advice(call: &Call<'_>, config: &GuestConfig) -> Advice {
    let name = config.spec().domain.as_ref();
    let namesake = name.and_then(|name| call.context.domain(name.as_str(), call.options).ok());
    Advice::AddDriver { domain: namesake.map(|domain| domain.to_string()) }
}

/// The spec with its host devices looked up and its paths made absolute. A host device that is not
/// plugged in is the one that the domain was given, if the selector named that one; otherwise it
/// stays as it is written.
pub(crate) fn prepared(
    spec: &Spec,
    folder: &Path,
    host_devices: &HostDevices<'_>,
    all: &Inventory,
) -> Result<Spec, Error> {
    let mut spec = spec.clone();
    let controllers = spec.controllers.clone();
    for device in &mut spec.devices {
        device.kind = match &device.kind {
            Kind::Host(host) => {
                let controller = device.controller.as_ref();
                let backend = backend(controller, &controllers, host_devices, all.hardware());
                // The domain already has a device under this selector: the spec means that one.
                let here = match host_devices.named(&host.selector, all, &backend) {
                    Some(at) => {
                        let here = host_devices.presence(all, at)?.device();
                        here.map(|it| it.reference(host.selector.clone()))
                    }
                    None => match host_devices.reference(&host.selector, all, &backend)? {
                        None => host_devices.reference_in_other_mode(host, all, &backend)?,
                        here => here,
                    },
                };
                let here = here.unwrap_or_else(|| HostRef::new(host.selector.clone()));
                Kind::Host(HostRef { also: host.also.clone(), required: host.required, ..here })
            }
            other => files::absolute(other, folder),
        };
    }
    Ok(spec)
}

/// The machine whose devices the named controller carries. The controller is in the spec, or the
/// domain has it already.
fn backend(
    named: Option<&ControllerRef>,
    controllers: &[ControllerSpec],
    host_devices: &HostDevices<'_>,
    hardware: &Hardware,
) -> BackendDomain {
    let named = named?;
    let is_named = |it: &&ControllerSpec| match named {
        ControllerRef::Name(name) => it.name.as_ref() == Some(name),
        ControllerRef::Index(index) => it.index == Some(*index),
    };
    let existing = || {
        let bus = crate::controllers::find(hardware, named).ok()?;
        host_devices.backend(hardware, Address { bus, port: PortPath::root(NonZeroU8::MIN) })
    };
    match controllers.iter().find(is_named) {
        Some(spec) => host_devices.of_controller(spec.backend.clone()).or_else(existing),
        None => existing(),
    }
}

/// What to record: who manages each item, which host devices are required, under which ids they may
/// return, and which stay missing because they are not plugged in.
fn target(open: &mut Open<'_>, resolved: &Resolved, spec: &Spec) -> Inventory {
    let before = open.inventory();
    // An item of another tool is not taken over, even if the spec requests it.
    let others: BTreeSet<Name> = before
        .keys()
        .filter(|(key, _)| !before.is_managed(*key))
        .map(|(_, name)| name.clone())
        .collect();
    let mut target = before.with_hardware(resolved.hardware.clone());
    target.keep_identities(before);
    let added = resolved.added.iter().map(|it| (Key::Controller(*it), Origin::OnDemand));
    let controllers =
        resolved.controllers.iter().map(|it| (Key::Controller(it.address), Origin::Spec));
    let devices = resolved.devices.iter().map(|it| (Key::Device(it.address), Origin::Spec));
    let requested: Vec<(Key, Origin)> = added.chain(controllers).chain(devices).collect();
    let names: BTreeMap<Key, Name> = target.keys().map(|(key, name)| (key, name.clone())).collect();
    for (key, origin) in requested {
        let facts = target.facts_mut(key);
        facts.missing = false;
        if !names.get(&key).is_some_and(|name| others.contains(name)) {
            facts.origin = origin;
        }
    }
    for placed in &resolved.devices {
        target.require(placed.address);
    }
    for (placed, requested) in resolved.devices.iter().zip(&spec.devices) {
        let Kind::Host(host) = &requested.kind else { continue };
        let facts = target.facts_mut(Key::Device(placed.address));
        facts.required = host.required;
        if let Some(identity) = &mut facts.identity {
            identity.allow(host);
        }
    }
    let mut unplugged = Vec::new();
    for placed in &resolved.devices {
        let at = placed.address;
        let Some(Device { kind, .. }) = target.hardware().device(at) else { continue };
        if !matches!(kind, Kind::Host(_)) || !open.host_devices.is_unplugged(&target, at) {
            continue;
        }
        let attached = open.observed.hardware.device(at).is_some_and(|it| it.kind == *kind);
        unplugged.push((at, attached));
    }
    for (at, attached) in unplugged {
        target.facts_mut(Key::Device(at)).missing |= !attached;
        let note = open.host_devices.absence_note(&target, at, !attached);
        note.into_iter().for_each(|note| open.note(note));
    }
    target
}

impl Note {
    fn absent(name: &Name, host: &HostRef) -> Note {
        Note::Absent { name: name.clone(), selector: host.selector.clone() }
    }
}

/// The controllers that were added on demand and did not exist before.
fn added(resolved: &Resolved, before: &Hardware) -> Vec<Name> {
    let added = resolved.added.iter().filter_map(|index| resolved.hardware.controller(*index));
    added
        .filter(|it| !before.controller(it.index).is_some_and(|before| before.same_hardware(it)))
        .map(|it| it.name.clone())
        .collect()
}

/// Notes the items of other tools.
fn note_not_touched(open: &mut Open<'_>, target: &Inventory) {
    let others = target.keys().filter(|(key, _)| !target.is_managed(*key));
    let names: Vec<Name> = others.map(|(_, name)| name.clone()).collect();
    if !names.is_empty() {
        open.note(Note::NotTouched { names });
    }
}

/// Notes each item that the domain no longer has, and why.
fn note_removed(open: &mut Open<'_>, target: &Inventory) {
    let dry_run = open.is_dry();
    let before = open.inventory();
    let gone = before.keys().filter(|(_, name)| target.named(name).is_none());
    let removed = gone.filter_map(|(key, name)| {
        let reason = match before.facts(key).origin {
            Origin::Hand => WhyRemoved::Pruned,
            Origin::Spec => WhyRemoved::NotInSpec,
            Origin::OnDemand => WhyRemoved::NotNeeded,
            Origin::Other => return None,
        };
        let at = match key {
            Key::Controller(_) => name.to_string(),
            Key::Device(address) => before.hardware().location(address),
        };
        Some(Note::Removed { name: name.clone(), at, reason, dry_run })
    });
    let removed: Vec<Note> = removed.collect();
    removed.into_iter().for_each(|note| open.note(note));
}

/// Notes the items that were added by hand and that the spec does not have.
fn note_kept(open: &mut Open<'_>, target: &Inventory) {
    let by_hand = target.keys().filter(|(key, _)| target.facts(*key).origin == Origin::Hand);
    let names: Vec<Name> = by_hand.map(|(_, name)| name.clone()).collect();
    if !names.is_empty() {
        open.note(Note::KeptByHand { names });
    }
}

/// The hardware of a guest that is started with the config.
pub(crate) fn plan_start(call: &Call<'_>, config: &GuestConfig) -> Result<Plan, Error> {
    // No hypervisor is asked, so all devices are looked up on this machine.
    let resolved = resolve_start(call, config, &HostDevices::new(call, None))?;
    let nothing = Hardware::new();
    let warnings = config.warnings().map(|message| Note::Other { message });
    let absent = resolved.hardware.devices().filter_map(|(_, it)| absent(it));
    let added = added(&resolved, &nothing);
    let steps = diff(&nothing, &resolved.hardware);
    let slower = speeds::notes(&resolved.hardware, &steps);
    let outcome = Outcome {
        dry_run: true,
        notes: warnings.chain(absent).chain(slower).collect(),
        steps,
        added_controllers: added,
        ..Outcome::new(config.name(), resolved.hardware.clone())
    };
    Ok(Plan::new(outcome, true))
}

/// The note on a host device that is not plugged in; `None` for any other device.
pub(crate) fn absent(device: &Device) -> Option<Note> {
    match &device.kind {
        Kind::Host(host) if host.bus_address.is_none() => Some(Note::absent(&device.name, host)),
        _ => None,
    }
}

/// Resolves everything that the config leaves open, for a guest that is started with it.
pub(crate) fn resolve_start(
    call: &Call<'_>,
    config: &GuestConfig,
    host_devices: &HostDevices<'_>,
) -> Result<Resolved, Error> {
    let keep_written = config.format().host_naming().keeps_written();
    resolve_file(call, config, host_devices, keep_written)
}

/// Like [`resolve_start`], but host devices keep the selectors that the user wrote: the format of
/// another tool may be able to express these, but not the lasting ones.
pub(crate) fn resolve_as_written(
    call: &Call<'_>,
    config: &GuestConfig,
    host_devices: &HostDevices<'_>,
) -> Result<Resolved, Error> {
    resolve_file(call, config, host_devices, true)
}

fn resolve_file(
    call: &Call<'_>,
    config: &GuestConfig,
    host_devices: &HostDevices<'_>,
    keep_written: bool,
) -> Result<Resolved, Error> {
    if let Some(hardware) = config.hardware() {
        return Ok(as_resolved(hardware.clone()));
    }
    let registry = call.context.registry();
    let driver = config.driver().and_then(|it| registry.parse(it, config.folder()).ok()?);
    let nothing = Hardware::new();
    let mut spec = prepared(config.spec(), config.folder(), host_devices, &Inventory::default())?;
    if !spec.profile.is_own() {
        drop_speeds(&mut spec);
    }
    if keep_written {
        keep_selectors(&mut spec, config.spec());
    }
    spec.address = driver.map(|parsed| DomainAddress::from(parsed).to_string());
    let mut resolved = resolve(&nothing, &spec, &config.capabilities())
        .map_err(|refused| config.refused(refused))?;
    config.config().complete(&mut resolved.hardware);
    let known: BTreeSet<Address> = resolved.devices.iter().map(|it| it.address).collect();
    let devices = resolved.hardware.devices().map(|(at, _)| at);
    let unrequested: Vec<Address> = devices.filter(|at| !known.contains(at)).collect();
    for at in unrequested {
        look_up(&mut resolved.hardware, at, host_devices);
    }
    Ok(resolved)
}

/// Completes the host device at `at`, if there is one and it is plugged in.
fn look_up(hardware: &mut Hardware, at: Address, host_devices: &HostDevices<'_>) {
    let host = match hardware.device(at).map(|it| &it.kind) {
        Some(Kind::Host(host)) => host.clone(),
        _ => return,
    };
    if let Ok(Some(here)) = host_devices.find(&host.selector, &None) {
        listing::replace_host(hardware, at, here.reference(host.selector));
    }
}

/// Hardware in the form of a result of resolving, where nothing was left open.
fn as_resolved(hardware: Hardware) -> Resolved {
    let controllers = hardware.controllers().map(|it| it.index);
    let controllers = controllers.map(|address| Placed { address, existing: false }).collect();
    let devices = hardware.devices().map(|(address, _)| Placed { address, existing: false });
    let devices = devices.collect();
    Resolved { hardware, controllers, devices, added: Vec::new(), added_devices: Vec::new() }
}

/// Other tools place the devices of a file without regard to what is plugged in at the moment.
fn drop_speeds(spec: &mut Spec) {
    for device in &mut spec.devices {
        if let Kind::Host(host) = &mut device.kind {
            host.speeds = None;
        }
    }
}

/// Keeps the selectors as they were written: another tool's format may not have the reboot-proof
/// forms.
fn keep_selectors(spec: &mut Spec, written: &Spec) {
    for (device, written) in spec.devices.iter_mut().zip(&written.devices) {
        if let (Kind::Host(host), Kind::Host(written)) = (&mut device.kind, &written.kind) {
            host.selector.clone_from(&written.selector);
        }
    }
}
