//! The recorded domains: listing, renaming and forgetting them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use vusb_drivers::GuestIdentity;
use vusb_model::name::Name;

use crate::address::DomainAddress;
use crate::advice::Advice;
use crate::call::{Call, is_gone};
use crate::error::Error;
use crate::inventory::Key;
use crate::listing::in_parallel;
use crate::names;
use crate::note::Note;
use crate::outcome::Outcome;
use crate::record::{Header, Record};
use crate::session::claims::claimant;
use crate::session::{Change, Open, take_lock};
use crate::view::{API, DamagedView, DomainState, DomainsView, RecordedView};

/// How long a guest may take to prove that it runs.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Every domain that has a record. Guests are asked whether they run, many at the same time.
pub(crate) fn list(call: &Call<'_>) -> Result<DomainsView, Error> {
    let mut damaged = Vec::new();
    let mut records = Vec::new();
    for record in call.records().all()? {
        match record {
            Ok(record) => records.push(record),
            Err(Error::Record { path, why }) => damaged.push(DamagedView { path, why }),
            Err(Error::Io { path, source, .. }) => {
                damaged.push(DamagedView { path, why: source.to_string() });
            }
            Err(other) => return Err(other),
        }
    }
    let mut claims = call.claim_files().by_domain()?;
    let states = in_parallel(&records, |record| probe(call, record));
    let with_state = records.iter().zip(states);
    let mut domains: Vec<RecordedView> = with_state
        .map(|(record, (state, why))| {
            let claims = claims.remove(&record.domain).unwrap_or_default();
            recorded(record, state, why, claims)
        })
        .collect();
    domains.sort_by(|a, b| (&a.domain, &a.address).cmp(&(&b.domain, &b.address)));
    Ok(DomainsView { api: API, domains, damaged })
}

fn recorded(
    record: &Record,
    state: DomainState,
    why: Option<String>,
    claims: Vec<String>,
) -> RecordedView {
    let all = record.combined();
    RecordedView {
        domain: record.display_name().to_owned(),
        address: record.domain.clone(),
        state,
        why,
        suspended: record.suspended,
        profile: record.profile,
        controllers: all.hardware().controllers().len(),
        devices: all.hardware().devices().count(),
        claims,
    }
}

/// Whether the guest of a record runs; if it does not, or if that is unknown, also why.
fn probe(call: &Call<'_>, record: &Record) -> (DomainState, Option<String>) {
    let Some(domain) = call.recorded_address(&record.domain) else {
        return (DomainState::Unknown, Some("no driver is registered for it".to_owned()));
    };
    let call = call.with_wait(PROBE_TIMEOUT);
    let observed =
        call.open_driver(&domain, false).and_then(|mut it| it.observe(record.inventory.hardware()));
    match observed {
        Ok(observed) if observed.off => (DomainState::Off, None),
        Ok(_) => (DomainState::Running, None),
        Err(error) if is_gone(&domain, &error) => (DomainState::Gone, Some(error.to_string())),
        Err(error) => (DomainState::Unknown, Some(error.to_string())),
    }
}

/// Refuses a config file: it is its own record.
fn require_record(domain: &DomainAddress, verb: &str) -> Result<(), Error> {
    if domain.has_record() {
        return Ok(());
    }
    let problem = format!("{domain} is a file, and a file has no record to {verb}");
    Err(Error::usage(problem, Advice::NameRecordedDomain))
}

/// Gives a domain another name. Its hypervisor is only asked if the domain has no record yet.
pub(crate) fn rename(
    call: &Call<'_>,
    domain: &DomainAddress,
    name: &Name,
) -> Result<Outcome, Error> {
    require_record(domain, "rename")?;
    if call.context.registry().parse(name.as_str(), Path::new("/"))?.is_some() {
        let problem =
            format!("{name} has the form of an address, so no domain can have it as name");
        return Err(Error::usage(problem, Advice::ChooseNameOfNoFile));
    }
    if call.records().read(domain.as_str())?.is_none() {
        return name_first(call, domain, name);
    }
    let records = call.records();
    let _lock = if call.is_dry() { None } else { Some(take_lock(&records, call, domain)?) };
    let Some(mut record) = records.read(domain.as_str())? else {
        return name_first(call, domain, name);
    };
    let from = record.rename(name.clone());
    let already = from.as_ref() == Some(name);
    let _name_lock = names::reserve(call, &records, &record.domain, Some(name))?;
    if !call.is_dry() && !already {
        records.save(&mut record, domain.scheme().backends().is_some())?;
    }
    Ok(renamed(call, &record, from, name, already))
}

/// Names a domain that has no record at its address. It gets a record, unless its guest has one at
/// another address.
fn name_first(call: &Call<'_>, domain: &DomainAddress, name: &Name) -> Result<Outcome, Error> {
    let open = Open::begin(call, domain)?;
    let from = open.record.name.clone();
    let header = Header { name: Some(name.clone()), ..open.record.header() };
    let target = open.inventory().clone();
    let committed = open.plan(Change { header: Some(header), ..Change::to(target) })?.commit()?;
    let already = from.as_ref() == Some(name);
    Ok(renamed(call, &committed.open.record, from, name, already))
}

fn renamed(
    call: &Call<'_>,
    record: &Record,
    from: Option<Name>,
    name: &Name,
    already: bool,
) -> Outcome {
    let domain = record.domain.clone();
    let note = Note::Renamed { domain, from, to: name.clone() };
    let notes = if already || call.is_dry() { Vec::new() } else { vec![note] };
    let hardware = record.inventory.hardware().clone();
    let dry_run = call.is_dry();
    Outcome { already, dry_run, notes, ..Outcome::new(record.display_name().to_owned(), hardware) }
}

/// Deletes the record of a domain and its intent, and releases its claims. The guest is not
/// changed. As long as the process of the guest runs, the claims of what the guest has, or may
/// have, stay: otherwise another guest could get it. They end with the process.
pub(crate) fn forget(call: &Call<'_>, domain: &DomainAddress) -> Result<Outcome, Error> {
    require_record(domain, "delete")?;
    let records = call.records();
    let no_record = || Error::NoRecord { domain: domain.to_string() };
    if records.read(domain.as_str())?.is_none() {
        return Err(no_record());
    }
    let _lock = if call.is_dry() { None } else { Some(take_lock(&records, call, domain)?) };
    let record = records.read(domain.as_str())?.ok_or_else(no_record)?;
    let (state, why) = probe(call, &record);
    // A domain that is off has nothing of what its record claims, until it starts.
    let has_ended = matches!(state, DomainState::Gone | DomainState::Off);
    if !has_ended && !call.is_forced() {
        return Err(Error::StillRuns { domain: record.display_name().to_owned(), why });
    }
    let mut notes = Vec::new();
    if state != DomainState::Gone {
        let names = left_in_guest(call, domain, &record);
        let seen = state == DomainState::Running;
        notes.extend((!names.is_empty()).then_some(Note::StillThere { names, seen }));
    }
    if !call.is_dry() {
        let kept = still_used(call, domain, &record);
        let files = call.claim_files();
        files.lock(call)?.release_all(&claimant(&record, record.identity.clone()), &kept)?;
        records.remove(&record)?;
    }
    let hardware = record.inventory.hardware().clone();
    let outcome = Outcome::new(record.display_name().to_owned(), hardware);
    Ok(Outcome { notes, dry_run: call.is_dry(), ..outcome })
}

/// The names of the claims that the guest of a record still needs: on what it has or, if it cannot
/// be asked, on what it may have. A guest that has ended needs none. Neither does a guest without a
/// process, because its end could not be seen.
pub(crate) fn still_used(
    call: &Call<'_>,
    domain: &DomainAddress,
    record: &Record,
) -> BTreeSet<String> {
    let process = record.identity.as_ref().and_then(GuestIdentity::process);
    if process.is_none_or(|process| process.has_ended()) {
        return BTreeSet::new();
    }
    let Ok(open) = Open::look(call, domain) else { return record.claims() };
    let all = open.inventory();
    let devices = all.hardware().devices().map(|(at, _)| Key::Device(at));
    let present = devices.filter(|key| !all.is_missing(*key));
    present.flat_map(|key| all.facts(key).claims.iter().cloned()).collect()
}

/// The items that vusb manages and that the guest has or, if it cannot be asked, may have.
fn left_in_guest(call: &Call<'_>, domain: &DomainAddress, record: &Record) -> Vec<Name> {
    let Ok(open) = Open::look(call, domain) else {
        return record.combined().managed_names().cloned().collect();
    };
    let all = open.inventory();
    let is_left = |(key, _): &(Key, &Name)| all.is_managed(*key) && !all.is_missing(*key);
    all.keys().filter(is_left).map(|(_, name)| name.clone()).collect()
}
