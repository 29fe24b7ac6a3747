//! Restoring what is recorded for a domain: after a restart of its guest, after host devices were
//! plugged in again, and when the domain is resumed.
//!
//! ```text
//!   a recorded item that the guest lacks
//!     ├─ a controller, or a device that can be attached ─▶ is restored
//!     ├─ a host device that is not plugged in ───────────▶ stays missing: a note, and an entry in
//!     │                                                    `not_restored` if it is required
//!     ├─ a host device of a suspended domain ────────────▶ stays detached until the domain is
//!     │                                                    resumed: a note
//!     ├─ any other device that cannot be attached ───────▶ stays missing: a note, and an entry in
//!     │                                                    `not_restored`
//!     └─ a device that the hypervisor refuses ───────────▶ the steps are undone, and the devices
//!                                                          are restored one by one: as above
//! ```
//!
//! A device cannot be attached if another domain holds it, if it is in use or protected, if a rule
//! denies it, or if its file does not exist.
//!
//! A device that cannot be restored does not prevent the others from being restored.
//! `Outcome::not_restored` lists the devices that were not. The exit code of the command is then
//! the one that all of them have in common, or 1.

use std::collections::{BTreeMap, BTreeSet};

use vusb_model::address::{Address, Index};
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::Step;
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

/// The maximum number of attempts if another domain claims a device after it was checked.
const ATTEMPTS: usize = 3;

/// Restores the recorded controllers, and those devices that `wanted` names.
pub(crate) fn restore(
    call: &Call<'_>,
    domain: &DomainAddress,
    wanted: &dyn Fn(&Name) -> bool,
) -> Result<Outcome, Error> {
    restore_possible(call, domain, wanted, &|header| header)
}

/// The devices that cannot be restored, each with the reason.
type Refused = BTreeMap<Name, Error>;

/// Restores what can be restored: all at once, or else one device after the other. `header` is what
/// the record says about the domain from now on.
fn restore_possible(
    call: &Call<'_>,
    domain: &DomainAddress,
    wanted: &dyn Fn(&Name) -> bool,
    header: &dyn Fn(Header) -> Header,
) -> Result<Outcome, Error> {
    let attempt = |wanted: &dyn Fn(&Name) -> bool, refused: &Refused, attached: &mut Vec<Name>| {
        retry_if_claimed(|| {
            // Each attempt has the time that is left, and a rollback of its own.
            let call = &call.with_wait(call.limits.single_wait());
            let open = Open::begin(call, domain)?;
            if !open.has_record() {
                return Ok(Outcome { already: true, ..open.unchanged().outcome() });
            }
            let header = header(open.record.header());
            attached.clear();
            restore_open(open, header, wanted, refused, attached)
        })
    };
    let mut refused = Refused::new();
    let mut attached = Vec::new();
    let error = match attempt(wanted, &refused, &mut attached) {
        Err(error) if may_be_of_one_device(&error) && !attached.is_empty() => error,
        other => return other,
    };
    if let Some(name) = changed_device(&error) {
        refused.insert(name, cause(error));
    }
    let (mut steps, mut notes) = (Vec::new(), Vec::new());
    // Hubs come before the devices behind them.
    for name in &attached {
        if refused.contains_key(name) {
            continue;
        }
        match attempt(&|it| it == name, &refused, &mut Vec::new()) {
            Ok(outcome) => {
                steps.extend(outcome.steps);
                notes.extend(outcome.notes);
            }
            Err(error) if may_be_of_one_device(&error) => {
                refused.insert(name.clone(), cause(error));
            }
            Err(error) => return Err(error),
        }
    }
    // All others have been restored. This attempt notes what is missing, and each device once.
    let mut last = attempt(wanted, &refused, &mut Vec::new())?;
    notes.retain(|it| !matches!(it, Note::NotRestored { .. }) && !last.notes.contains(it));
    steps.append(&mut last.steps);
    notes.append(&mut last.notes);
    let already = last.already && steps.is_empty();
    Ok(Outcome { steps, notes, already, ..last })
}

/// Whether the cause may be one of the devices, so that the others can be restored without it. It
/// is not if the domain cannot be reached or does not reply, or if the caller has cancelled.
const fn may_be_of_one_device(error: &Error) -> bool {
    use vusb_drivers::Error as DriverError;
    match error {
        Error::Failed { unknown: false, cause, .. } => !matches!(
            **cause,
            Error::Cancelled
                | Error::DeadlineExceeded
                | Error::Driver(DriverError::Unreachable { .. })
        ),
        Error::Driver(error) => !matches!(
            error,
            DriverError::Unreachable { .. }
                | DriverError::Denied { .. }
                | DriverError::Busy { .. }
                | DriverError::TimedOut { .. }
        ),
        Error::Refused(_) | Error::Claimed { .. } | Error::NotRestorable { .. } => true,
        _ => false,
    }
}

/// The device whose step has failed.
fn changed_device(error: &Error) -> Option<Name> {
    let Error::Failed { step, .. } = error else { return None };
    match step.as_ref() {
        Step::Plug(_, device) | Step::Unplug(_, device) => Some(device.name.clone()),
        Step::AddController(_) | Step::RemoveController(_) => None,
    }
}

/// Why a step has failed, without the steps that were undone: the next attempt takes those again.
fn cause(error: Error) -> Error {
    match error {
        Error::Failed { cause, .. } => *cause,
        error => error,
    }
}

/// Retries a change that fails because another domain has claimed a device after it was checked.
/// The next attempt treats that device as held.
fn retry_if_claimed(mut attempt: impl FnMut() -> Result<Outcome, Error>) -> Result<Outcome, Error> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(Error::Claimed { .. }) => {}
            other => return other,
        }
    }
    attempt()
}

fn restore_open(
    mut open: Open<'_>,
    header: Header,
    wanted: &dyn Fn(&Name) -> bool,
    refused: &Refused,
    attached: &mut Vec<Name>,
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
    let mut available = BTreeSet::new();
    let candidates = candidates(&target, &missing, &reattach, &recreate);
    let is_other = |at: &Address| !candidates.contains(at) && is_wanted(&target, at);
    // The candidates get their notes from `can_attach`.
    note_similar_devices(&mut open, &target, &is_other);
    for at in candidates {
        let Some(device) = target.hardware().device(at).cloned() else { continue };
        let attachable = if header.suspended && matches!(device.kind, Kind::Host(_)) {
            suspended.push(device.name.clone());
            false
        } else if let Some(error) = refused.get(&device.name) {
            let location = target.hardware().location(at);
            not_restored.push(leave_out(&mut open, device.name.clone(), location, error));
            false
        } else {
            can_attach(&mut open, &target, at, &device, &mut not_restored)
        };
        if attachable {
            available.insert(at);
            attached.push(device.name);
        } else {
            reattach.remove(&at);
        }
        // If the guest has the device, it does not become missing, unless its controller is
        // recreated.
        if missing.contains(&at) || recreate.contains(&at.bus) {
            target.facts_mut(Key::Device(at)).missing = !attachable;
        }
    }
    let absent = required_absent(&open, &target).into_iter().filter(|(name, _)| wanted(name));
    not_restored.extend(absent.map(|(_, it)| it));
    if !suspended.is_empty() {
        open.note(Note::Suspended { names: suspended });
    }
    let header = Some(header);
    let change = Change { reattach, recreate, available, header, ..Change::to(target) };
    let committed = open.plan(change)?.commit()?;
    let already = committed.steps.is_empty() && not_restored.is_empty();
    Ok(Outcome { already, not_restored, ..committed.outcome() })
}

/// Adds a note for each of these host devices that is not plugged in, if another device could be
/// mistaken for it.
fn note_similar_devices(
    open: &mut Open<'_>,
    target: &Inventory,
    included: &dyn Fn(&Address) -> bool,
) {
    let devices = target.host_refs().map(|(at, _)| at).filter(included);
    let notes = devices.filter_map(|at| open.host_devices.absence_note(target, at, false));
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

/// An entry for each required host device that is not plugged in, even if the guest still has it
/// because it was unplugged a moment ago.
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

/// Whether a device can be attached now. If not, adds a note, and an entry in `not_restored` unless
/// the only reason is that it is not plugged in.
fn can_attach(
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
    // It may have returned at another speed.
    let step = Step::Plug(at, device.clone());
    let present = match open.host_devices.with_present_device(&step, target) {
        Step::Plug(_, present) => present,
        _ => device.clone(),
    };
    let Err(error) = open.check_available(target, at, &present) else { return true };
    let location = target.hardware().location(at);
    not_restored.push(leave_out(open, device.name.clone(), location, &error));
    false
}

/// Notes that a device stays missing because of an error.
fn leave_out(open: &mut Open<'_>, name: Name, at: String, error: &Error) -> NotRestored {
    open.note(Note::NotRestored { name: name.clone(), why: error.to_string() });
    NotRestored { name, at, error: ErrorView::from(error) }
}

/// Restores every record whose guest runs, many at the same time. Skips a record whose scheme is
/// not registered.
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

/// Detaches the host devices that vusb manages. They keep their ports, and stay detached until the
/// domain is resumed.
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

/// Attaches the host devices of a suspended domain to their ports again, and restores whatever else
/// is recorded. If the domain is not suspended, this changes nothing.
pub(crate) fn resume(call: &Call<'_>, domain: &DomainAddress) -> Result<Outcome, Error> {
    require_guest(domain)?;
    let open = Open::begin(call, domain)?;
    if open.record.suspended {
        // Each attempt locks the domain again.
        drop(open);
        return restore_possible(call, domain, &|_| true, &|header| Header {
            suspended: false,
            ..header
        });
    }
    let target = open.inventory().clone();
    let committed = open.plan(Change::to(target))?.commit()?;
    Ok(Outcome { already: true, ..committed.outcome() })
}

/// Refuses a config file: there is no running guest behind it.
fn require_guest(domain: &DomainAddress) -> Result<(), Error> {
    if domain.has_record() {
        return Ok(());
    }
    let problem = format!("{domain} is the configuration of a guest that does not run");
    Err(Error::usage(problem, Advice::NameGuest))
}
