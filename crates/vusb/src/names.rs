//! Names of domains. Each name belongs to one domain, whether its guest runs or not.

use vusb_drivers::Driver;
use vusb_model::name::Name;

use crate::address::DomainAddress;
use crate::call::Call;
use crate::claims::why_ended;
use crate::error::Error;
use crate::lock::Lock;
use crate::note::Note;
use crate::record::{Record, Records, name_key};

/// Another domain that has the requested name.
#[derive(Debug)]
struct Namesake {
    name: Name,
    record: Record,
}

impl Namesake {
    /// The error for the call that wanted the name. The other domain's hypervisor is asked whether
    /// its guest has ended, so the claims lock must not be held.
    fn into_error(self, call: &Call<'_>) -> Error {
        let gone = why_ended(call, &self.record).is_some();
        Error::NameInUse { name: self.name, domain: self.record.domain, gone }
    }
}

/// Takes the claims lock of the state directory, and checks that no domain has `name`, if there is
/// one, except the one at the address `own`. Until the lock is released, no other domain gets that
/// name. Returns `None` in a dry run, because a dry run takes no lock.
///
/// # Errors
/// Another domain has the name, the lock cannot be taken in time, or the state directory cannot be
/// accessed. The lock is released before the other domain's hypervisor is queried.
pub(crate) fn reserve(
    call: &Call<'_>,
    records: &Records,
    own: &str,
    name: Option<&Name>,
) -> Result<Option<Lock>, Error> {
    let lock = if call.is_dry() {
        None
    } else {
        records.create_folder()?;
        let lock = Lock::take(&records.claims_lock(), "the claims lock", call)?;
        records.complete_index(call)?;
        Some(lock)
    };
    let Some(name) = name else { return Ok(lock) };
    match namesake(records, own, name)? {
        None => Ok(lock),
        Some(namesake) => {
            drop(lock);
            Err(namesake.into_error(call))
        }
    }
}

/// The domain that has the name or gets it from a pending change, unless its address is `own`.
///
/// # Errors
/// The index cannot be read. A record that cannot be read is skipped.
fn namesake(records: &Records, own: &str, name: &Name) -> Result<Option<Namesake>, Error> {
    let found = records.with_key(&name_key(name.as_str()))?;
    let mut others = found.into_iter().filter_map(|(_, record)| record.ok());
    let record = others.find(|it| it.domain != own && it.is_named(name));
    Ok(record.map(|record| Namesake { name: name.clone(), record }))
}

/// The name that the guest has in its own tool. A note instead, if another domain already has that
/// name. Neither, if the guest has no valid name.
///
/// # Errors
/// As [`namesake`].
pub(crate) fn of_guest(
    driver: &dyn Driver,
    records: &Records,
    domain: &DomainAddress,
) -> Result<(Option<Name>, Option<Note>), Error> {
    let name: Option<Name> = driver.guest_name().and_then(|name| name.parse().ok());
    let Some(name) = name else { return Ok((None, None)) };
    // A config file has no record, so its name is not reserved and cannot conflict.
    if !domain.has_record() {
        return Ok((Some(name), None));
    }
    let own = domain.as_str();
    Ok(match namesake(records, own, &name)? {
        None => (Some(name), None),
        Some(other) => {
            let (other, domain) = (other.record.domain, own.to_owned());
            (None, Some(Note::NameShared { name, other, domain }))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::options::Options;
    use crate::state::StateDir;

    /// A command that is killed may leave index entries that match no record.
    #[test]
    fn a_stale_entry_of_the_index_gives_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("state"));
        let context =
            Context::with_builtin_drivers(state.clone(), vusb_host::Host::new(dir.path()));
        let domain = context.domain("qemu:/run/web1.qmp", &Options::default()).unwrap();
        let records = Records::new(&state);
        let mut record = Record::new(&domain);
        record.name = "web1".parse().ok();
        records.save(&mut record, false).unwrap();
        records.index.add(domain.as_str(), &[name_key("web2")]).unwrap();
        let is_taken = |own: &str, name: &str| {
            namesake(&records, own, &name.parse().unwrap()).unwrap().is_some()
        };
        assert!(is_taken("qemu:/run/other.qmp", "web1"));
        assert!(!is_taken("qemu:/run/other.qmp", "web2"));
        assert!(!is_taken(domain.as_str(), "web1"), "its own name");
    }
}
