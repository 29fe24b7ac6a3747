//! Takes a record to another machine, so that a guest that moves there keeps its controllers and
//! ports.
//!
//! ```text
//!   record ──export──▶ JSON without what holds only here ──▶ import ──▶ record of the other machine
//!                      (process, claims)                       └─ host devices: see below
//! ```
//!
//! A recorded host device counts as present on this machine if a device with its ids and serial
//! number is plugged in at the recorded port. If it was given by its serial number, any port will
//! do. The record of a device that is present does not change. The recorded port of any other
//! device is a port of the machine that the record comes from. Such a device is selected by its ids
//! and serial number from now on, whatever its port on this machine. Devices of backend domains are
//! not changed.

use std::path::Path;

use serde_json::Value;
use vusb_model::address::Address;
use vusb_model::device::{HostRef, Kind};
use vusb_model::hardware::Device;
use vusb_model::selector::Selector;

use crate::address::DomainAddress;
use crate::advice::Advice;
use crate::call::Call;
use crate::domains;
use crate::error::Error;
use crate::guest_config;
use crate::host_devices::HostDevices;
use crate::host_identity::Presence;
use crate::inventory::{Inventory, Key};
use crate::names;
use crate::note::Note;
use crate::outcome::Outcome;
use crate::record::Record;
use crate::session::claims::claimant;
use crate::session::take_lock;
use crate::view::{API, ExportView};

/// The record of a domain for another machine. An interrupted change counts as finished.
pub(crate) fn export(call: &Call<'_>, domain: &DomainAddress) -> Result<ExportView, Error> {
    let no_record = || Error::NoRecord { domain: domain.to_string() };
    let record = if domain.has_record() { call.records().read(domain.as_str())? } else { None };
    let record = record.ok_or_else(no_record)?;
    let path = || call.records().path(domain.as_str(), "json");
    let damaged = |why: String| Error::Record { path: path(), why };
    let value = serde_json::to_value(record.for_export()).map_err(|it| damaged(it.to_string()))?;
    match value {
        Value::Object(record) => Ok(ExportView { api: API, record }),
        _ => Err(damaged("it is not an object".to_owned())),
    }
}

/// Stores a record that was exported on another machine, for the domain with this address or else
/// with the recorded one. The guest need not run.
pub(crate) fn import(
    call: &Call<'_>,
    file: &Path,
    domain: Option<&DomainAddress>,
) -> Result<Outcome, Error> {
    let mut record = read(file)?;
    let domain = match domain {
        Some(domain) => domain.clone(),
        None => recorded_address(call, &record.domain)?,
    };
    if !domain.has_record() {
        let problem = format!("{domain} is a file, and a file has no record");
        return Err(Error::usage(problem, Advice::NameGuestOfRecord));
    }
    record.domain = domain.to_string();
    let records = call.records();
    let _lock = if call.is_dry() { None } else { Some(take_lock(&records, call, &domain)?) };
    let old = records.read(domain.as_str())?;
    if old.is_some() && !call.is_forced() {
        return Err(Error::RecordExists { domain: domain.to_string() });
    }
    let notes = adapt(&mut record.inventory, &HostDevices::new(call, Some(&domain)));
    let _name_lock = names::reserve(call, &records, domain.as_str(), record.name.as_ref())?;
    if !call.is_dry() {
        if let Some(old) = old {
            let kept = domains::still_used(call, &domain, &old);
            let files = call.claim_files();
            files.lock(call)?.release_all(&claimant(&old, old.identity.clone()), &kept)?;
            records.remove(&old)?;
        }
        records.save(&mut record, domain.scheme().backends().is_some())?;
    }
    let hardware = record.inventory.hardware().clone();
    let outcome = Outcome::new(record.display_name().to_owned(), hardware);
    Ok(Outcome { notes, dry_run: call.is_dry(), ..outcome })
}

/// The record in an exported file.
fn read(file: &Path) -> Result<Record, Error> {
    let text = guest_config::text(file)?;
    let not_exported = |why: String| Error::NotExported { path: file.to_owned(), why };
    let exported: ExportView =
        serde_json::from_str(&text).map_err(|error| not_exported(error.to_string()))?;
    Record::imported(exported.record).map_err(not_exported)
}

/// The address that the domain had on the other machine. It is used on this one too.
fn recorded_address(call: &Call<'_>, text: &str) -> Result<DomainAddress, Error> {
    call.recorded_address(text).ok_or_else(|| {
        let problem = format!("no driver is registered for {text}");
        Error::usage(problem, Advice::NameGuestOfRecord)
    })
}

/// Adapts the host devices of an imported record to this machine. Returns a note for each device
/// whose selector was changed.
fn adapt(all: &mut Inventory, host_devices: &HostDevices<'_>) -> Vec<Note> {
    let identified: Vec<Address> =
        all.host_refs().map(|(at, _)| at).filter(|at| all.identity(*at).is_some()).collect();
    let mut notes = Vec::new();
    for at in identified {
        let here = host_devices.presence(all, at);
        if matches!(here, Ok(Presence::Here(_) | Presence::Moved(_)))
            || host_devices.backend(all.hardware(), at).is_some()
        {
            continue;
        }
        let by_id = all.identity(at).and_then(|it| it.id_selector());
        all.facts_mut(Key::Device(at)).identity = None;
        let Some(Device { name, kind: Kind::Host(host) }) = all.hardware().device(at).cloned()
        else {
            continue;
        };
        let (Some(to), false) = (by_id, matches!(host.selector, Selector::Id { .. })) else {
            continue;
        };
        let from = host.selector.clone();
        let host = HostRef { selector: to.clone(), ..host };
        if replace_device(all, at, Device { name: name.clone(), kind: Kind::Host(host) }) {
            notes.push(Note::OtherMachine { name, from, to });
        }
    }
    notes
}

/// Replaces the device at `at` with one that differs only in its selector. Returns false, and
/// changes nothing, if another device of the domain has that selector.
fn replace_device(all: &mut Inventory, at: Address, device: Device) -> bool {
    let mut hardware = all.hardware().clone();
    hardware.unplug(at);
    if hardware.plug(at, device).is_err() {
        return false;
    }
    *all = all.with_hardware(hardware);
    true
}
