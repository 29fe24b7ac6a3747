//! Making a domain what a spec says, and putting back what a restart took away.

use std::collections::BTreeSet;
use std::num::NonZeroU8;
use std::path::Path;

use vusb_formats::Format;
use vusb_model::address::{Address, PortPath};
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::diff;
use vusb_model::hardware::{Device, Hardware};
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::resolve::{Resolved, resolve};
use vusb_model::spec::{ControllerRef, ControllerSpec, Spec};

use crate::domain::DomainId;
use crate::error::Error;
use crate::hosts::{Backend, Present};
use crate::matching;
use crate::merge::{Missing, only_named};
use crate::outcome::Outcome;
use crate::session::{Change, Session};
use crate::vusb::Vusb;
use crate::wanted::Wanted;
use crate::{connect, files, listing};

pub(crate) fn apply(vusb: &Vusb, wanted: &Wanted) -> Result<Outcome, Error> {
    let domain = domain_of(vusb, wanted)?;
    let mut session = Session::open(vusb, &domain)?;
    let called = called(&mut session, wanted)?;
    let asked = session.with_backends(wanted.spec().clone())?;
    let mut spec = prepared(&asked, &wanted.folder, &session.present, &session.base)?;
    spec.address = Some(domain.to_string());
    let capabilities = session.capabilities()?;
    let matched = matching::pin(&session.base, &session.owned(), &spec, &capabilities);
    let resolved = resolve(&matched.stays, &matched.spec, &capabilities)?;
    let missing = stay_away(&mut session, &resolved);
    let mut managed = only_named(&session.managed, &resolved.hardware);
    managed.extend(asked_for(&resolved));
    if let Some(name) = &spec.domain
        && let Some(other) = listing::namesake(vusb, &domain, name)
    {
        session.note(format!(
            "{other} is called {name} too: name either by its address, or give one another name"
        ));
    }
    note_others(&mut session, &resolved.hardware, &managed);
    // What another tool made stays, and stays that tool's, though it is what the spec asks for.
    let theirs: BTreeSet<Name> = crate::merge::names(&session.base)
        .filter(|name| !session.managed.contains(*name))
        .cloned()
        .collect();
    managed.retain(|name| !theirs.contains(name));
    session.called = Some((called, spec.profile));
    let added = added(&resolved, &session.base);
    for settled in &resolved.controllers {
        if let Some(controller) = resolved.hardware.controller(settled.at) {
            session.record.added.remove(&controller.name);
        }
    }
    session.record.added.extend(added.iter().cloned());
    let target = resolved.hardware;
    let (renew, rebuild) = (session.stale(), session.broken());
    let steps = session.commit(Change { target, missing, managed, renew, rebuild })?;
    let already = steps.is_empty();
    let outcome = session.outcome(steps, already, None);
    Ok(Outcome { added_controllers: added, ..outcome })
}

/// What the domain is called from now on. That a spec calls it otherwise than it is called is more likely a spec for another
/// domain, with the wrong address in it.
fn called(session: &mut Session<'_>, wanted: &Wanted) -> Result<Option<Name>, Error> {
    let asked = wanted.spec().domain.clone();
    match (&session.record.name, asked) {
        (Some(name), Some(asked)) if *name != asked => {
            if !session.vusb.settings.force {
                let (domain, name) = (session.domain.to_string(), name.to_string());
                return Err(Error::OtherName { domain, name, asked: asked.to_string() });
            }
            let note =
                format!("{} was called {name}, and is called {asked} from now on", session.domain);
            session.note(note);
            Ok(Some(asked))
        }
        (name, asked) => Ok(asked.or_else(|| name.clone())),
    }
}

/// The domain that a spec is for: the one at its driver's address, else the one that is known by its name.
fn domain_of(vusb: &Vusb, wanted: &Wanted) -> Result<DomainId, Error> {
    let hint = "add the line driver = \"qemu:SOCKET\" to the spec";
    if wanted.format != Format::Vusb {
        let what = "another tool's configuration describes a guest that does not run";
        let hint = "`vusb convert FILE --to vusb` makes a spec of it, in which you say which running guest it is for";
        return Err(Error::usage(what, hint));
    }
    let named = wanted.spec().domain.as_ref();
    let domain = match (wanted.driver(), named) {
        (Some(driver), _) => DomainId::parse(driver, &wanted.folder)?,
        (None, Some(name)) => Some(vusb.domain(name.as_str())?),
        (None, None) => {
            return Err(Error::usage("the spec does not say which domain it is for", hint));
        }
    };
    match domain {
        Some(domain @ (DomainId::Qemu(_) | DomainId::Sim(_) | DomainId::Xen(_))) => {
            connect::canonical(vusb, domain)
        }
        Some(DomainId::File(..)) | None => {
            let driver = wanted.driver().unwrap_or_default();
            Err(Error::usage(
                format!("the spec's driver, `{driver}`, is no domain's address"),
                hint,
            ))
        }
    }
}

/// The spec with everything that is known of what is behind its devices. A host device that is not plugged in is left as it
/// is written.
pub(crate) fn prepared(
    spec: &Spec,
    folder: &Path,
    present: &Present<'_>,
    has: &Hardware,
) -> Result<Spec, Error> {
    let mut spec = spec.clone();
    let controllers = spec.controllers.clone();
    for device in &mut spec.devices {
        device.kind = match &device.kind {
            Kind::Host(host) => {
                let backend = backend(device.controller.as_ref(), &controllers, present, has);
                let here = present.reference(&host.selector, has, &backend)?;
                Kind::Host(here.unwrap_or_else(|| HostRef::new(host.selector.clone())))
            }
            other => files::absolute(other, folder),
        };
    }
    Ok(spec)
}

/// Whose devices are on a controller that a spec names: one of its own, or one that is there.
fn backend(
    named: Option<&ControllerRef>,
    controllers: &[ControllerSpec],
    present: &Present<'_>,
    has: &Hardware,
) -> Backend {
    let named = named?;
    let meant = |it: &&ControllerSpec| match named {
        ControllerRef::Name(name) => it.name.as_ref() == Some(name),
        ControllerRef::Index(index) => it.index == Some(*index),
    };
    let there = crate::controllers::find(has, named).ok();
    let there =
        || present.backend(has, Address { bus: there?, port: PortPath::root(NonZeroU8::MIN) });
    match controllers.iter().find(meant) {
        Some(spec) => present.whose(spec.backend.clone()).or_else(there),
        None => there(),
    }
}

/// What of the resolved hardware the guest is not to have yet: host devices that are not plugged in.
fn stay_away(session: &mut Session<'_>, resolved: &Resolved) -> Missing {
    let mut missing = session.missing.clone();
    missing.keep_to(&resolved.hardware);
    // All of it is asked for, so none of it stays missing for having been so before.
    let all: Vec<(Address, &Device)> = resolved.hardware.devices().collect();
    for settled in &resolved.controllers {
        missing.controllers.remove(&settled.at);
    }
    let asked: Vec<Address> = resolved.devices.iter().map(|settled| settled.at).collect();
    for address in &asked {
        missing.want(*address);
    }
    for (address, device) in all {
        let Kind::Host(host) = &device.kind else { continue };
        let there = session.observed.hardware.device(address);
        let has = there.is_some_and(|it| it.kind == device.kind);
        let backend = session.present.backend(&resolved.hardware, address);
        if asked.contains(&address) && !has && session.present.is_absent(&host.selector, &backend) {
            missing.devices.insert(address);
            session.note(absent(&device.name, host));
        }
    }
    missing
}

fn absent(name: &Name, host: &HostRef) -> String {
    format!("{name} ({}) is not plugged into this machine: its port is kept for it", host.selector)
}

fn asked_for(resolved: &Resolved) -> impl Iterator<Item = Name> {
    let controllers = resolved.controllers.iter().map(|it| it.at).chain(resolved.added.clone());
    let controllers =
        controllers.filter_map(|it| Some(resolved.hardware.controller(it)?.name.clone()));
    let devices = resolved.devices.iter();
    let devices = devices.filter_map(|it| Some(resolved.hardware.device(it.at)?.name.clone()));
    controllers.chain(devices)
}

/// The controllers that nobody asked for and that were not there before.
fn added(resolved: &Resolved, before: &Hardware) -> Vec<Name> {
    let added = resolved.added.iter().filter_map(|index| resolved.hardware.controller(*index));
    added
        .filter(|it| !before.controller(it.index).is_some_and(|before| before.same_hardware(it)))
        .map(|it| it.name.clone())
        .collect()
}

/// Says what is left alone, for it is somebody else's.
fn note_others(session: &mut Session<'_>, target: &Hardware, managed: &BTreeSet<Name>) {
    let others: Vec<String> = crate::merge::names(target)
        .filter(|name| !managed.contains(*name))
        .map(|name| name.to_string())
        .collect();
    if !others.is_empty() {
        session.note(format!("left alone, for another tool made it: {}", others.join(", ")));
    }
}

pub(crate) fn apply_recorded(vusb: &Vusb, domain: &DomainId) -> Result<Outcome, Error> {
    let mut session = Session::open(vusb, domain)?;
    let target = session.base.clone();
    let mut missing = Missing::default();
    for address in session.missing.devices.clone() {
        let Some(Device { name, kind }) = target.device(address) else { continue };
        let Kind::Host(host) = kind else {
            // One file that is not there does not keep all the rest away.
            if let Err(error) = files::check(kind, vusb.settings.force) {
                missing.devices.insert(address);
                session.note(format!("{name} is not put back: {error}"));
            }
            continue;
        };
        let backend = session.present.backend(&target, address);
        match session.present.find(&host.selector, &backend) {
            Ok(Some(_)) => {}
            Ok(None) => {
                missing.devices.insert(address);
                session.note(absent(name, host));
            }
            Err(error) => {
                missing.devices.insert(address);
                session.note(format!("{name} is not put back: {error}"));
            }
        }
    }
    let managed = session.managed.clone();
    let (renew, rebuild) = (session.stale(), session.broken());
    let steps = session.commit(Change { target, missing, managed, renew, rebuild })?;
    let already = steps.is_empty();
    Ok(session.outcome(steps, already, None))
}

/// What other tools make of a file does not depend on what is plugged in at the moment.
fn forget_speeds(spec: &mut Spec) {
    for device in &mut spec.devices {
        if let Kind::Host(host) = &mut device.kind {
            host.speeds = None;
        }
    }
}

/// What a guest gets that is started with the file.
pub(crate) fn started_with(vusb: &Vusb, wanted: &Wanted) -> Result<Outcome, Error> {
    let resolved = at_start(vusb, wanted)?;
    let nothing = Hardware::new();
    let not_here = |device: &Device| match &device.kind {
        Kind::Host(host) if host.at.is_none() => Some(absent(&device.name, host)),
        _ => None,
    };
    Ok(Outcome {
        domain: wanted.called(),
        steps: diff(&nothing, &resolved.hardware),
        already: false,
        dry_run: true,
        at: None,
        added_controllers: added(&resolved, &nothing),
        notes: wanted
            .warnings()
            .chain(resolved.hardware.devices().filter_map(|(_, it)| not_here(it)))
            .collect(),
        hardware: resolved.hardware,
    })
}

/// Host devices named as they were written: another tool's format need not know the names that last longer.
fn keep_names(spec: &mut Spec, written: &Spec) {
    for (device, written) in spec.devices.iter_mut().zip(&written.devices) {
        if let (Kind::Host(host), Kind::Host(written)) = (&mut device.kind, &written.kind) {
            host.selector.clone_from(&written.selector);
        }
    }
}

/// Everything that the file leaves open, decided for a guest that is started with it.
pub(crate) fn at_start(vusb: &Vusb, wanted: &Wanted) -> Result<Resolved, Error> {
    let driver = wanted.driver().and_then(|it| DomainId::parse(it, &wanted.folder).ok()?);
    // Nobody is asked, so all devices are looked for here.
    let nobody = DomainId::File(wanted.folder.clone(), wanted.format);
    let present = Present::new(vusb, &nobody);
    let nothing = Hardware::new();
    let mut spec = prepared(wanted.spec(), &wanted.folder, &present, &nothing)?;
    if spec.profile != Profile::Vusb1 {
        forget_speeds(&mut spec);
    }
    if wanted.format != Format::Vusb {
        keep_names(&mut spec, wanted.spec());
    }
    spec.address = driver.map(|domain| domain.to_string());
    resolve(&nothing, &spec, &wanted.capabilities()).map_err(|refused| wanted.refused(refused))
}
