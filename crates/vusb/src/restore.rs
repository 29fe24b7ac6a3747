//! Restoring what is recorded for a domain: after a restart of its guest, after host devices were
//! plugged in again, and when the domain is resumed.
//!
//! ```text
//!   a recorded item that the guest lacks
//!     ├─ a controller, or a device that can be attached ─────▶ is restored
//!     ├─ a host device that is not plugged in ───────────────▶ stays missing: a note, and if it is
//!     │                                                        required, `Outcome::not_restored`
//!     ├─ a host device of a suspended domain ────────────────▶ stays out until it is resumed: a note
//!     └─ held by another domain, in use, protected, denied ──▶ stays missing:
//!        by a rule, or its file does not exist                `Outcome::not_restored`
//! ```
//!
//! A device that cannot be restored does not keep the others from being restored. The result lists
//! the devices that were not restored, and a command then ends with the exit code that all of them
//! have in common, or 1.

use std::collections::BTreeSet;

use vusb_model::address::{Address, Index};
use vusb_model::device::{HostRef, Kind};
use vusb_model::hardware::Device;
use vusb_model::name::Name;

use crate::address::DomainAddress;
use crate::advice::Advice;
use crate::call::{Call, is_gone};
use crate::error::Error;
use crate::host_devices::absent;
use crate::inventory::{Inventory, Key};
use crate::listing::in_parallel;
use crate::note::Note;
use crate::outcome::{NotRestored, Outcome};
use crate::record::{Header, Record};
use crate::session::{Change, Open};
use crate::view::{API, AppliedAllView, AppliedState, AppliedView, ErrorView};

/// How many times a call is tried if another domain claims one of its devices after the check.
const ATTEMPTS: usize = 3;

/// Restores the recorded controllers, and those devices that `wanted` names.
pub(crate) fn restore(
    call: &Call<'_>,
    domain: &DomainAddress,
    wanted: &dyn Fn(&Name) -> bool,
) -> Result<Outcome, Error> {
    repeated(|| {
        let open = Open::begin(call, domain)?;
        let header = open.record.header();
        restore_open(open, header, wanted)
    })
}

/// Does it again if another domain has claimed one of the devices meanwhile.
fn repeated(once: impl Fn() -> Result<Outcome, Error>) -> Result<Outcome, Error> {
    for _ in 1..ATTEMPTS {
        match once() {
            Err(Error::Claimed { .. }) => {}
            other => return other,
        }
    }
    once()
}

fn restore_open(
    mut open: Open<'_>,
    header: Header,
    wanted: &dyn Fn(&Name) -> bool,
) -> Result<Outcome, Error> {
    let mut target = open.inventory().clone();
    let is_wanted = |all: &Inventory, at: &Address| {
        all.hardware().device(*at).is_some_and(|device| wanted(&device.name))
    };
    let mut missing = target.missing_devices();
    missing.retain(|at| is_wanted(&target, at));
    let recreate = open.disconnected();
    let controllers: Vec<Key> = target
        .keys()
        .map(|(key, _)| key)
        .filter(|key| matches!(key, Key::Controller(_)) && target.is_missing(*key))
        .collect();
    for key in controllers {
        target.facts_mut(key).missing = false;
    }
    let mut reattach = open.stale(&target);
    reattach.retain(|at| is_wanted(&target, at));
    let mut not_restored = Vec::new();
    let mut suspended = Vec::new();
    let candidates = candidates(&target, &missing, &reattach, &recreate);
    let waits = |at: &Address| !candidates.contains(at) && is_wanted(&target, at);
    note_other_devices(&mut open, &target, &waits);
    for at in candidates {
        let Some(device) = target.hardware().device(at).cloned() else { continue };
        let free = if header.suspended && matches!(device.kind, Kind::Host(_)) {
            suspended.push(device.name.clone());
            false
        } else {
            is_free(&mut open, &target, at, &device, &mut not_restored)
        };
        if !free {
            reattach.remove(&at);
        }
        // A device that the guest has stays as it is, unless its controller is recreated.
        if missing.contains(&at) || recreate.contains(&at.bus) {
            target.facts_mut(Key::Device(at)).missing = !free;
        }
    }
    let absent = required_absent(&open, &target).into_iter().filter(|(name, _)| wanted(name));
    not_restored.extend(absent.map(|(_, it)| it));
    if !suspended.is_empty() {
        open.note(Note::Suspended { names: suspended });
    }
    let change = Change { reattach, recreate, header: Some(header), ..Change::to(target) };
    let committed = open.plan(change)?.commit()?;
    let already = committed.steps.is_empty() && not_restored.is_empty();
    Ok(Outcome { already, not_restored, ..committed.outcome() })
}

/// Notes each host device for which the guest waits, if another device could be taken for it. Those
/// that the guest lacks have a note of their own.
fn note_other_devices(open: &mut Open<'_>, target: &Inventory, waits: &dyn Fn(&Address) -> bool) {
    let waiting = target.host_refs().map(|(at, _)| at).filter(waits);
    let notes = waiting.filter_map(|at| open.host_devices.absence_note(target, at, false));
    let notes: Vec<Note> = notes.collect();
    notes.into_iter().for_each(|note| open.note(note));
}

/// The devices that would be attached, hubs before the devices behind them.
fn candidates(
    target: &Inventory,
    missing: &[Address],
    reattach: &BTreeSet<Address>,
    recreate: &BTreeSet<Index>,
) -> Vec<Address> {
    let devices = target.hardware().devices().map(|(at, _)| at);
    let attaches =
        |at: &Address| missing.contains(at) || reattach.contains(at) || recreate.contains(&at.bus);
    devices.filter(attaches).collect()
}

/// The failures of required devices that are not plugged in. The guest may still have one that was
/// just unplugged.
pub(crate) fn required_absent(open: &Open<'_>, target: &Inventory) -> Vec<(Name, NotRestored)> {
    let required = target.host_refs().filter(|(at, _)| target.facts(Key::Device(*at)).required);
    let unplugged = required.filter(|(at, _)| open.host_devices.is_unplugged(target, *at));
    let failure = |(at, host): (Address, &HostRef)| {
        let name = target.hardware().device(at)?.name.clone();
        let backend = open.host_devices.backend(target.hardware(), at);
        let error = ErrorView::from(&absent(&host.selector, &backend));
        let at = target.hardware().location(at);
        Some((name.clone(), NotRestored { name, at, error }))
    };
    unplugged.filter_map(failure).collect()
}

/// Whether a device can be attached now. If it cannot, that is noted. Unless the reason is only
/// that it is not plugged in, it is also added to `not_restored`.
fn is_free(
    open: &mut Open<'_>,
    target: &Inventory,
    at: Address,
    device: &Device,
    not_restored: &mut Vec<NotRestored>,
) -> bool {
    if let Some(note) = open.host_devices.absence_note(target, at, true) {
        open.note(note);
        return false;
    }
    let Err(error) = open.check_available(target, at, device) else { return true };
    let name = device.name.clone();
    open.note(Note::NotRestored { name: name.clone(), why: error.to_string() });
    let at = target.hardware().location(at);
    not_restored.push(NotRestored { name, at, error: ErrorView::from(&error) });
    false
}

/// Restores every record whose guest runs, many at the same time. A record of a scheme that is not
/// registered is left out.
pub(crate) fn restore_all(call: &Call<'_>) -> Result<AppliedAllView, Error> {
    let records = call.records().all()?;
    let mut domains = in_parallel(&records, |record| match record {
        Ok(record) => restore_recorded(call, record),
        Err(error) => Some(damaged(error)),
    });
    domains.retain(Option::is_some);
    let mut domains: Vec<AppliedView> = domains.into_iter().flatten().collect();
    domains.sort_by(|a, b| (&a.domain, &a.address).cmp(&(&b.domain, &b.address)));
    Ok(AppliedAllView { api: API, dry_run: call.is_dry(), domains })
}

fn restore_recorded(call: &Call<'_>, record: &Record) -> Option<AppliedView> {
    let domain = call.recorded_address(&record.domain)?;
    let result = restore(call, &domain, &|_| true);
    let (state, outcome, error) = match result {
        Ok(outcome) => {
            let state = match (outcome.not_restored.is_empty(), outcome.already) {
                (false, _) => AppliedState::Incomplete,
                (true, true) => AppliedState::Already,
                (true, false) => AppliedState::Done,
            };
            (state, Some(outcome), None)
        }
        Err(Error::Driver(error)) if is_gone(&domain, &error) => (AppliedState::Gone, None, None),
        Err(error) => (AppliedState::Failed, None, Some(ErrorView::from(&error))),
    };
    let (name, address) = (record.display_name().to_owned(), record.domain.clone());
    Some(AppliedView { domain: name, address, state, outcome, error })
}

fn damaged(error: &Error) -> AppliedView {
    let path = match error {
        Error::Record { path, .. } | Error::Io { path, .. } => path.display().to_string(),
        _ => String::new(),
    };
    let (state, error) = (AppliedState::Failed, Some(ErrorView::from(error)));
    AppliedView { domain: path.clone(), address: path, state, outcome: None, error }
}

/// Takes the host devices that vusb manages out of the guest. They keep their places, and stay out
/// until the domain is resumed.
pub(crate) fn suspend(call: &Call<'_>, domain: &DomainAddress) -> Result<Outcome, Error> {
    require_guest(domain)?;
    let mut open = Open::begin(call, domain)?;
    let mut target = open.inventory().clone();
    let hosts: Vec<Address> = target.host_refs().map(|(at, _)| at).collect();
    let (ours, others): (Vec<Address>, Vec<Address>) =
        hosts.into_iter().partition(|at| target.is_managed(Key::Device(*at)));
    for at in ours {
        target.facts_mut(Key::Device(at)).missing = true;
    }
    let name = |at: &Address| Some(target.hardware().device(*at)?.name.clone());
    let names: Vec<Name> = others.iter().filter_map(name).collect();
    if !names.is_empty() {
        open.note(Note::NotTouched { names });
    }
    let was = open.record.suspended;
    let header = Header { suspended: true, ..open.record.header() };
    let change = Change { header: Some(header), ..Change::to(target) };
    let committed = open.plan(change)?.commit()?;
    let already = was && committed.steps.is_empty();
    Ok(Outcome { already, ..committed.outcome() })
}

/// Puts the host devices of a suspended domain back at their places, and restores what else is
/// recorded. Does nothing if the domain is not suspended.
pub(crate) fn resume(call: &Call<'_>, domain: &DomainAddress) -> Result<Outcome, Error> {
    require_guest(domain)?;
    repeated(|| {
        let open = Open::begin(call, domain)?;
        let header = open.record.header();
        if header.suspended {
            return restore_open(open, Header { suspended: false, ..header }, &|_| true);
        }
        let target = open.inventory().clone();
        let committed = open.plan(Change::to(target))?.commit()?;
        Ok(Outcome { already: true, ..committed.outcome() })
    })
}

/// Refuses a config file: its guest does not run.
fn require_guest(domain: &DomainAddress) -> Result<(), Error> {
    if domain.has_record() {
        return Ok(());
    }
    let problem = format!("{domain} is the configuration of a guest that does not run");
    Err(Error::usage(problem, Advice::NameGuest))
}
