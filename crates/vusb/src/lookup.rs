//! Finds the domain that a user names by an address, a file, or a name.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;

use vusb_drivers::text;
use vusb_model::name::Name;

use crate::address::DomainAddress;
use crate::call::Call;
use crate::error::Error;
use crate::listing::running_without_record;
use crate::record::{Record, name_key};

/// The domain that `text` names: an address, a config file, a recorded name, or the name that a
/// guest without a record has in its own tool.
///
/// # Errors
/// No domain has this name, more than one has it, a hypervisor that must be asked is unreachable,
/// or the folder of the records cannot be read.
pub(crate) fn domain(call: &Call<'_>, text: &str) -> Result<DomainAddress, Error> {
    let registry = call.context.registry();
    if let Some(parsed) = registry.parse(text, &call.folder())? {
        return call.canonical(parsed.into());
    }
    find_by_name(call, text).or_else(|error| {
        // `web1.qmp` may also be a socket in the folder of the call, and `web1` a configuration
        // whose name does not tell its format.
        let path = call.folder().join(text);
        let kind = fs::metadata(&path).map(|it| it.file_type());
        let is_there = match kind {
            Ok(kind) if kind.is_file() => {
                text::read(&path).is_ok_and(|text| registry.formats().recognize(&text).is_some())
            }
            Ok(kind) => kind.is_socket(),
            Err(_) => false,
        };
        match registry.parse(&format!("./{text}"), &call.folder())? {
            Some(parsed) if is_there => call.canonical(parsed.into()),
            _ => Err(error),
        }
    })
}

/// Finds a domain by name: in the index of the records, or else by a search.
fn find_by_name(call: &Call<'_>, name: &str) -> Result<DomainAddress, Error> {
    let found = call.records().with_key(&name_key(name))?;
    let found: Vec<Record> = found.into_iter().filter_map(|(_, record)| record.ok()).collect();
    let is_named = |it: &&Record| it.name.as_ref().is_some_and(|it| it.as_str() == name);
    if let [only] = found.iter().filter(is_named).collect::<Vec<_>>().as_slice() {
        if let Some(domain) = call.recorded_address(&only.domain) {
            return Ok(domain);
        }
    }
    search_by_name(call, name)
}

/// Finds a domain by name among all records, because some may not be indexed yet, and then among
/// the guests that run without a record. The error lists the known domains.
fn search_by_name(call: &Call<'_>, name: &str) -> Result<DomainAddress, Error> {
    let (known, damaged): (Vec<_>, Vec<_>) =
        call.records().all()?.into_iter().partition(Result::is_ok);
    let known: Vec<Record> = known.into_iter().flatten().collect();
    let is_named = |it: &&Record| it.name.as_ref().is_some_and(|it| it.as_str() == name);
    let named: Vec<&Record> = known.iter().filter(is_named).collect();
    if let [only] = named.as_slice() {
        if let Some(domain) = call.recorded_address(&only.domain) {
            return Ok(domain);
        }
    }
    let text = |name: Option<&str>, address: &str| match name {
        Some(name) => format!("{name} ({address})"),
        None => address.to_owned(),
    };
    let recorded = |it: &Record| text(it.name.as_ref().map(Name::as_str), &it.domain);
    if named.len() > 1 {
        let named = named.into_iter().map(recorded).collect();
        return Err(no_such_domain(call, name, named, true, damaged));
    }
    // A guest without a record has the name that its own tool gave it.
    let running = running_without_record(call, &known.iter().collect::<Vec<_>>());
    let running: Vec<(Option<String>, String)> =
        running.into_iter().filter_map(|it| Some((it.guest.name, it.address?))).collect();
    let shown = |(name, address): &(Option<String>, String)| text(name.as_deref(), address);
    let matching: Vec<_> = running.iter().filter(|(it, _)| it.as_deref() == Some(name)).collect();
    match matching.as_slice() {
        [] => {
            let known = known.iter().map(recorded).chain(running.iter().map(shown)).collect();
            Err(no_such_domain(call, name, known, false, damaged))
        }
        [(_, address)] => call
            .recorded_address(address)
            .ok_or_else(|| no_such_domain(call, name, vec![address.clone()], false, damaged)),
        several => {
            let several = several.iter().map(|it| shown(it)).collect();
            Err(no_such_domain(call, name, several, true, damaged))
        }
    }
}

/// The error for a name that no domain has, or `several`.
fn no_such_domain(
    call: &Call<'_>,
    name: &str,
    known: Vec<String>,
    several: bool,
    damaged: Vec<Result<Record, Error>>,
) -> Error {
    let path = |it: Result<Record, Error>| match it {
        Err(Error::Record { path, .. } | Error::Io { path, .. }) => Some(path),
        _ => None,
    };
    Error::NoSuchDomain {
        requested: name.chars().take(80).collect::<String>().escape_debug().to_string(),
        known,
        several,
        damaged: damaged.into_iter().filter_map(path).collect(),
        addresses: call.context.registry().schemes().map(|it| it.syntax().to_owned()).collect(),
    }
}
