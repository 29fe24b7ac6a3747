//! Adding and removing devices.

use std::collections::BTreeSet;
use std::num::NonZeroU8;

use vusb_formats::Format;
use vusb_host::SelectError;
use vusb_model::address::{Address, Index, PortPath};
use vusb_model::device::{HostRef, Input, Kind};
use vusb_model::hardware::{Device, Hardware};
use vusb_model::models::UsbVersion;
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::refusal::Refusal;
use vusb_model::selector::Selector;
use vusb_model::spec::{ControllerRef, DeviceSpec, Spec};

use crate::device_ref::DeviceRef;
use crate::domain::DomainId;
use crate::error::Error;
use crate::hosts::{Backend, Present};
use crate::merge::{Missing, device_named};
use crate::outcome::{Chosen, Outcome};
use crate::record::Records;
use crate::session::{self, Change, Session, remembered};
use crate::vusb::Vusb;
use crate::{connect, controllers, files, recover};

pub(crate) fn add(vusb: &Vusb, domain: &DomainId, spec: &DeviceSpec) -> Result<Outcome, Error> {
    let mut session = Session::open(vusb, domain)?;
    let spec = &at_home(&session, spec)?;
    let kind = prepared(&session, spec)?;
    let asked = Spec {
        profile: session.profile(),
        domain: session.record.name.clone(),
        address: Some(domain.to_string()),
        devices: vec![DeviceSpec { kind, ..spec.clone() }],
        ..Spec::default()
    };
    let resolved = session.resolve(&asked)?;
    let Some(settled) = resolved.devices.first().copied() else {
        return Err(Refusal::NoIndex.into());
    };
    // Asked for again, one that was pulled out and plugged in since is given anew.
    let renew: BTreeSet<Address> =
        session.stale().into_iter().filter(|at| *at == settled.at).collect();
    let already =
        settled.already && renew.is_empty() && !session.missing.devices.contains(&settled.at);
    let mut missing = session.missing.clone();
    missing.want(settled.at);
    note_brought_back(&mut session, &missing, settled.at);
    let new = resolved.added.clone();
    let added = names(&resolved.hardware, &new);
    let mut managed = session.managed.clone();
    managed.extend(added.iter().cloned());
    session.record.added.extend(added.iter().cloned());
    let at = chosen(&resolved.hardware, settled.at);
    let asked = resolved.hardware.device(settled.at).cloned();
    if let (false, Some(device)) = (already, &asked) {
        managed.insert(device.name.clone());
    }
    let steps = session.commit(Change {
        target: resolved.hardware,
        missing,
        managed,
        renew,
        rebuild: BTreeSet::new(),
    })?;
    let place = place_of(asked.as_ref(), settled.at, &session.base);
    note_other_name(&mut session, spec, place);
    // What is in a file is called after its order there: what came may have taken the name of another.
    let (at, added) = if session.domain.is_file() && !session.is_dry() {
        (chosen(&session.base, place).or(at), names(&session.base, &new))
    } else {
        (at, added)
    };
    let outcome = session.outcome(steps, already, at);
    Ok(Outcome { added_controllers: added, ..outcome })
}

/// Where a device is that was to be at `place`: elsewhere if the format leaves its port to its tool, and that chose another.
fn place_of(asked: Option<&Device>, place: Address, hardware: &Hardware) -> Address {
    let is_it = |there: &Device| asked.is_some_and(|asked| there.kind == asked.kind);
    if hardware.device(place).is_some_and(is_it) {
        return place;
    }
    hardware.devices().find(|(_, there)| is_it(there)).map_or(place, |(at, _)| at)
}

/// The names of the controllers that are there.
fn names(hardware: &Hardware, controllers: &[Index]) -> Vec<Name> {
    let name = |index: &Index| Some(hardware.controller(*index)?.name.clone());
    controllers.iter().filter_map(name).collect()
}

/// Says that a file names a host device otherwise than it was asked for, for its format knows no other name.
fn note_other_name(session: &mut Session<'_>, spec: &DeviceSpec, at: Address) {
    let (Kind::Host(asked), Some(Device { kind: Kind::Host(written), .. })) =
        (&spec.kind, session.observed.hardware.device(at))
    else {
        return;
    };
    if session.domain.is_file() && written.selector != asked.selector {
        let note = format!(
            "{} is written as {}: the file's format knows no other name for it, and it is another after each plug",
            asked.selector, written.selector
        );
        session.note(note);
    }
}

/// Says which missing things come back though nobody asked for them: the device at `at` needs them.
fn note_brought_back(session: &mut Session<'_>, still: &Missing, at: Address) {
    let controllers = session.missing.controllers.difference(&still.controllers);
    let controllers = controllers.filter_map(|it| Some(&session.base.controller(*it)?.name));
    let hubs = session.missing.devices.difference(&still.devices).filter(|it| **it != at);
    let hubs = hubs.filter_map(|it| Some(&session.base.device(*it)?.name));
    let names: Vec<String> = controllers.chain(hubs).map(ToString::to_string).collect();
    if !names.is_empty() {
        let verb = if session.is_dry() { "would put back" } else { "put back" };
        session.note(format!(
            "{verb} what the device needs, and the guest had no more: {}",
            names.join(", ")
        ));
    }
}

/// The kind with everything that is known of what is behind it: a host device as it is plugged in now, paths absolute.
fn prepared(session: &Session<'_>, spec: &DeviceSpec) -> Result<Kind, Error> {
    let Kind::Host(host) = &spec.kind else {
        let kind = files::absolute(&spec.kind, &session.folder());
        return Ok(if session.profile() == Profile::Vusb1 { kind } else { as_qemu_has_it(kind) });
    };
    let has = |it: &Device| matches!(&it.kind, Kind::Host(it) if it.selector == host.selector);
    if session.observed.hardware.devices().any(|(_, it)| has(it)) {
        return Ok(spec.kind.clone());
    }
    let backend = backend(session, spec);
    match session.present.reference(&host.selector, &session.base, &backend)? {
        Some(reference) => Ok(Kind::Host(as_the_file_says(session, host, reference))),
        // A guest that does not run may be meant for a device that is not plugged in now.
        None if session.domain.is_file() => Ok(spec.kind.clone()),
        None => Err(match backend {
            Some(domain) => Error::AbsentThere { selector: host.selector.clone(), domain },
            None => SelectError::Absent { selector: host.selector.clone() }.into(),
        }),
    }
}

/// A new host device as the file's own tool names it. libxl knows addresses alone; libvirt too has no name that stands for an address and
/// lasts longer, as this project's own specs and records have it.
fn as_the_file_says(session: &Session<'_>, asked: &HostRef, found: HostRef) -> HostRef {
    let has = |it: &Device| matches!(&it.kind, Kind::Host(it) if it.selector == found.selector);
    if session.base.devices().any(|(_, it)| has(it)) {
        return found;
    }
    let selector = match (&session.domain, found.at, &asked.selector) {
        (DomainId::File(_, Format::Xl | Format::Json), Some(at), _) => Selector::Address(at),
        (DomainId::File(_, Format::Libvirt), _, Selector::Address(at)) => Selector::Address(*at),
        _ => found.selector,
    };
    HostRef { selector, ..found }
}

/// Other tools leave it to QEMU how fast an input device is, and QEMU's are high-speed ones (`usb_version`, `hw/usb/dev-hid.c`).
fn as_qemu_has_it(kind: Kind) -> Kind {
    let input = Input { usbversion: UsbVersion::V2 };
    match kind {
        Kind::Tablet(_) => Kind::Tablet(input),
        Kind::Mouse(_) => Kind::Mouse(input),
        Kind::Keyboard(_) => Kind::Keyboard(input),
        other => other,
    }
}

/// Whose device is meant: that of the backend domain of the controller that is named, else this machine's.
fn backend(session: &Session<'_>, spec: &DeviceSpec) -> Backend {
    let controller = spec.controller.as_ref()?;
    let bus = controllers::find(&session.base, controller).ok()?;
    let controller = session.base.controller(bus)?;
    // Whatever port it is: all are of the same controller.
    let port = PortPath::root(NonZeroU8::MIN);
    session.present.backend(&session.base, Address { bus: controller.index, port })
}

/// What is asked for; a host device that this machine does not have, and that the backend domain of a controller has, goes to such a
/// controller: an empty one if there is any.
fn at_home(session: &Session<'_>, spec: &DeviceSpec) -> Result<DeviceSpec, Error> {
    let (Kind::Host(host), None) = (&spec.kind, &spec.controller) else { return Ok(spec.clone()) };
    let on = |index| DeviceSpec { controller: Some(ControllerRef::Index(index)), ..spec.clone() };
    let mut elsewhere: Vec<_> = session.base.controllers().map(|it| on(it.index)).collect();
    elsewhere.retain(|spec| backend(session, spec).is_some());
    if elsewhere.is_empty() || !session.present.is_absent(&host.selector, &None) {
        return Ok(spec.clone());
    }
    let devices = |spec: &DeviceSpec| match &spec.controller {
        Some(ControllerRef::Index(index)) => {
            session.base.controller(*index).map_or(0, |it| it.devices().len())
        }
        _ => 0,
    };
    elsewhere.sort_by_key(devices);
    for spec in &elsewhere {
        if session.present.find(&host.selector, &backend(session, spec))?.is_some() {
            return Ok(spec.clone());
        }
    }
    Ok(spec.clone())
}

pub(crate) fn chosen(hardware: &Hardware, address: Address) -> Option<Chosen> {
    let name = hardware.device(address)?.name.clone();
    Some(Chosen::Device { address, place: hardware.place(address), name })
}

pub(crate) fn remove(vusb: &Vusb, domain: &DomainId, asked: &DeviceRef) -> Result<Outcome, Error> {
    let mut session = match Session::open(vusb, domain) {
        Err(Error::Driver(error)) if vusb.settings.force && connect::is_gone(domain, &error) => {
            return forget(vusb, domain, asked, &error.to_string());
        }
        other => other?,
    };
    let address = find(&session.base, &session.present, asked)?
        .ok_or_else(|| no_such(session.record.called(), &session.base, asked))?;
    let at = chosen(&session.base, address);
    let mut target = session.base.clone();
    let behind = target.unplug(address);
    let names: Vec<&str> = behind.iter().map(|(_, it)| it.name.as_str()).collect();
    if let [behind @ .., hub] = names.as_slice()
        && !behind.is_empty()
        && !vusb.settings.force
    {
        let (hub, devices) = ((*hub).to_owned(), behind.join(", "));
        return Err(Error::HubInUse { hub, devices });
    }
    let gone = session.missing.devices.contains(&address);
    if gone {
        let name = names.last().copied().unwrap_or_default();
        session.note(format!("{name} was gone already"));
    }
    let mut missing = session.missing.clone();
    missing.keep_to(&target);
    let managed = session.managed.clone();
    let steps = session.commit(Change {
        target,
        missing,
        managed,
        renew: BTreeSet::new(),
        rebuild: BTreeSet::new(),
    })?;
    Ok(session.outcome(steps, gone, at))
}

/// Forgets a device of a domain that nobody serves any more: it is nobody's claim any more.
fn forget(vusb: &Vusb, domain: &DomainId, asked: &DeviceRef, why: &str) -> Result<Outcome, Error> {
    let dry_run = vusb.settings.dry_run;
    let records = Records::new(&vusb.state);
    let _lock = if dry_run { None } else { Some(session::lock(&records, vusb, domain)?) };
    let known = records.read(domain)?;
    let Some(mut record) = known else {
        return Err(no_such(&domain.to_string(), &Hardware::new(), asked));
    };
    let has = remembered(&record);
    let address = find(&has, &Present::new(vusb, domain), asked)?
        .ok_or_else(|| no_such(record.called(), &has, asked))?;
    recover::forget(&mut record, |hardware| {
        hardware.unplug(address);
    });
    if !dry_run {
        records.save(domain, &mut record)?;
    }
    let note = format!(
        "the hypervisor could not be asked ({why}): only the record was changed, and a guest that still runs keeps the device"
    );
    Ok(Outcome {
        domain: record.called().to_owned(),
        steps: Vec::new(),
        already: false,
        dry_run,
        at: chosen(&has, address),
        added_controllers: Vec::new(),
        notes: vec![note],
        hardware: record.hardware,
    })
}

/// The device that is meant.
fn find(
    hardware: &Hardware,
    present: &Present<'_>,
    asked: &DeviceRef,
) -> Result<Option<Address>, Error> {
    match asked {
        DeviceRef::Name(name) => Ok(device_named(hardware, name)),
        DeviceRef::Port(controller, port) => {
            let address = Address { bus: controllers::find(hardware, controller)?, port: *port };
            Ok(hardware.device(address).map(|_| address))
        }
        DeviceRef::Host(selector) => {
            let named =
                |it: &Device| matches!(&it.kind, Kind::Host(it) if it.selector == *selector);
            if let Some((address, _)) = hardware.devices().find(|(_, it)| named(it)) {
                return Ok(Some(address));
            }
            let mut backends: BTreeSet<Backend> =
                hardware.devices().map(|(at, _)| present.backend(hardware, at)).collect();
            backends.insert(None);
            for backend in backends {
                let device = present.find(selector, &backend)?;
                let given = device.and_then(|it| present.given(hardware, &it, &backend));
                if let Some((address, _)) = given {
                    return Ok(Some(address));
                }
            }
            Ok(None)
        }
    }
}

fn no_such(domain: &str, hardware: &Hardware, asked: &DeviceRef) -> Error {
    let known =
        |(address, it): (Address, &Device)| format!("{} ({})", it.name, hardware.place(address));
    Error::NoSuchDevice {
        domain: domain.to_owned(),
        asked: asked.to_string(),
        known: hardware.devices().map(known).collect(),
    }
}
