//! The record of a domain: one readable JSON file, replaced atomically.
//!
//! ```json
//! {
//!   "vusb": 1,
//!   "domain": "qemu:/run/web1.qmp",
//!   "name": "web1",
//!   "profile": "vusb-1",
//!   "hardware": [ … ],
//!   "managed": ["hci0", "stick"],
//!   "added": ["hci0"],
//!   "specified": ["stick"],
//!   "places": { "stick": "pci-0000:00:14.0-usb-0:4.2" }
//! }
//! ```
//!
//! `hardware` has the items of the guest, whoever created them, and the items that it should have
//! but that are missing. `managed` names the items that vusb manages. `added` names those among
//! them that no person requested: controllers that were added because a device needed one, and
//! devices that a rule attached. `specified` names the items that an applied spec has; older
//! versions did not write it, so their items count as added by hand. `places` has the port path
//! that each host device had when it was attached, or the bus and the chain of ports; `seen` what
//! the device was then, and `also` the other ids that it may return with. `required` names the
//! devices whose absence is a failure. `claims` has the names of the claims on each device, and
//! `index` the keys under which the record is indexed. `identity` identifies the guest that was
//! last seen. Unknown fields are kept. `suspended` is whether the host devices were taken out until
//! the domain is resumed.
//!
//! While a change is under way ([`crate::pending`]), there is a second file beside the record: the
//! intent, `.intent`. It is a copy of the record that also has the change, as `pending`. Its
//! `change` number is higher, and `base` is the number of the record. To cancel the change, the
//! intent is renamed to `.cancelled`. The call that follows a kill reads it. It is not synced to
//! the disk, because that takes several times as long as plugging in a device. If the machine goes
//! down, so does the guest, and no change is left half done. So an unreadable intent is ignored. So
//! is one whose record is gone or has changed: it was not deleted when it should have been.
//!
//! A damaged record is an error that names the file; it is never overwritten.

mod file;
pub(crate) mod header;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vusb_drivers::GuestIdentity;
use vusb_model::hardware::Hardware;
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::selector::UsbId;

use crate::address::DomainAddress;
use crate::call::Call;
use crate::claim_keys;
use crate::error::Error;
use crate::host_identity::{HostIdentity, ObservedDevice};
use crate::index::{Index, short_hash};
use crate::inventory::{Inventory, Origin};
use crate::own_files;
use crate::pending::Pending;
use crate::state::StateDir;
use crate::step::StepView;
use file::{CANCELLED, Durability, INTENT, RECORD};
pub(crate) use header::Header;

/// Whether serde omits the field.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// The version of the layout.
const LAYOUT: u32 = 1;

/// The record of a domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub(crate) struct Record {
    /// Counts the times it was saved.
    change: u64,
    /// In an intent: the `change` of the record that it was made on. Intents of older versions lack
    /// it.
    base: Option<u64>,
    /// The address that it is filed under.
    pub(crate) domain: String,
    /// The name, if the domain has one.
    pub(crate) name: Option<Name>,
    /// The profile that the hardware was resolved with.
    pub(crate) profile: Profile,
    /// Whether its host devices were taken out until it is resumed.
    pub(crate) suspended: bool,
    /// The items that the guest has and should have.
    pub(crate) inventory: Inventory,
    /// A change that was begun.
    pub(crate) pending: Option<Pending>,
    /// The guest, when it was last seen.
    pub(crate) identity: Option<GuestIdentity>,
    /// The keys under which it is indexed.
    index: BTreeSet<String>,
    /// Unknown fields.
    rest: Map<String, Value>,
}

impl Record {
    /// An empty record.
    pub(crate) fn new(domain: &DomainAddress) -> Record {
        Record {
            change: 0,
            base: None,
            domain: domain.to_string(),
            name: None,
            profile: Profile::default(),
            suspended: false,
            inventory: Inventory::default(),
            pending: None,
            identity: None,
            index: BTreeSet::new(),
            rest: Map::new(),
        }
    }

    /// Whether this intent was made on that record, and the record was not replaced since.
    fn was_made_on(&self, record: &Record) -> bool {
        let fits = match self.base {
            Some(base) => base == record.change,
            None => self.change > record.change,
        };
        fits && self.pending.is_some()
    }

    /// The intent, with its change cancelled.
    fn cancelled(mut self) -> Record {
        if let Some(pending) = &mut self.pending {
            pending.back = true;
        }
        self
    }

    /// The domain's name, or its address if it has none.
    pub(crate) fn display_name(&self) -> &str {
        self.name.as_ref().map_or(&self.domain, Name::as_str)
    }

    /// What the record says about the domain as a whole.
    pub(crate) fn header(&self) -> Header {
        Header { name: self.name.clone(), profile: self.profile, suspended: self.suspended }
    }

    /// Changes what the record says about the domain as a whole.
    pub(crate) fn set_header(&mut self, header: Header) {
        (self.name, self.profile, self.suspended) = (header.name, header.profile, header.suspended);
    }

    /// Gives the domain this name, and returns the previous one. A pending change that sets the
    /// name sets this one too, because it must not restore the old name.
    pub(crate) fn rename(&mut self, name: Name) -> Option<Name> {
        if let Some(header) = self.pending.as_mut().and_then(|it| it.header.as_mut()) {
            header.name = Some(name.clone());
        }
        self.name.replace(name)
    }

    /// Whether the domain has this name, or gets it from a pending change.
    pub(crate) fn is_named(&self, name: &Name) -> bool {
        self.names().any(|it| it == name)
    }

    /// The name, and the one that a pending change gives.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        let pending = self.pending.as_ref().and_then(|it| it.header.as_ref()?.name.as_ref());
        self.name.iter().chain(pending)
    }

    /// The record without what holds only on this machine: the guest's process, the claims and the
    /// index. An interrupted change counts as finished.
    pub(crate) fn for_export(mut self) -> Record {
        if let Some(pending) = self.pending.take() {
            self.inventory = pending.target;
            if let Some(header) = pending.header {
                self.set_header(header);
            }
        }
        let keys: Vec<_> = self.inventory.keys().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.inventory.facts_mut(key).claims.clear());
        Record { change: 0, base: None, identity: None, index: BTreeSet::new(), ..self }
    }

    /// Reads an exported record.
    ///
    /// # Errors
    /// It is not a record of this layout. The error is a sentence.
    pub(crate) fn imported(exported: Map<String, Value>) -> Result<Record, String> {
        match exported.get("vusb").and_then(Value::as_u64) {
            Some(layout) if layout == u64::from(LAYOUT) => {}
            Some(layout) => return Err(file::other_layout(layout)),
            None => return Err("it lacks the version of its layout".to_owned()),
        }
        let record: Record =
            serde_json::from_value(Value::Object(exported)).map_err(|it| it.to_string())?;
        Ok(record.for_export())
    }

    /// The items that the domain has or should have, and those that a pending change gives it.
    pub(crate) fn inventories(&self) -> impl Iterator<Item = &Inventory> {
        std::iter::once(&self.inventory).chain(self.pending.as_ref().map(|it| &it.target))
    }

    /// The names of the domain's claims.
    pub(crate) fn claims(&self) -> BTreeSet<String> {
        self.inventories().flat_map(Inventory::claims).cloned().collect()
    }

    /// Whether the process in which the guest ran has ended. If it has, the record holds no claims.
    pub(crate) fn has_ended(&self) -> bool {
        let process = self.identity.as_ref().and_then(GuestIdentity::process);
        process.is_some_and(|process| process.has_ended())
    }

    /// All items of the record as one inventory: those that the domain has after a pending change,
    /// and those that the change removes. In a conflict, the items after the change take
    /// precedence, and no item is marked missing. Without a pending change, this is the inventory
    /// as it is.
    pub(crate) fn combined(&self) -> Inventory {
        let Some(pending) = &self.pending else {
            return self.inventory.clone();
        };
        let target = &pending.target;
        let names: BTreeSet<Name> = target.keys().map(|(_, name)| name.clone()).collect();
        let all = Inventory::managed(self.inventory.hardware().clone());
        let (mut combined, _) = Inventory::merge(target.hardware(), &names, &all);
        let keys: Vec<_> = combined.keys().map(|(key, name)| (key, name.clone())).collect();
        for (key, name) in keys {
            let source = if target.named(&name) == Some(key) { target } else { &self.inventory };
            let facts = source.named(&name).map(|key| source.facts(key).clone());
            let facts = facts.unwrap_or_default();
            *combined.facts_mut(key) = crate::inventory::Facts { missing: false, ..facts };
        }
        combined
    }
}

/// The layout of a record in its file.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    vusb: u32,
    #[serde(default)]
    change: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<u64>,
    domain: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Name>,
    #[serde(default)]
    profile: Profile,
    #[serde(default, skip_serializing_if = "is_false")]
    suspended: bool,
    #[serde(default)]
    hardware: Hardware,
    #[serde(default)]
    managed: BTreeSet<Name>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    added: BTreeSet<Name>,
    /// The items that an applied spec has.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    specified: BTreeSet<Name>,
    /// The places of host devices.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    places: BTreeMap<Name, String>,
    /// What host devices were when they were attached. Older versions recorded only the places.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    seen: BTreeMap<Name, ObservedDevice>,
    /// The other ids that host devices may return with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    also: BTreeMap<Name, BTreeSet<UsbId>>,
    /// The host devices whose absence is a failure.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    required: BTreeSet<Name>,
    /// The names of the claims on each device.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    claims: BTreeMap<Name, BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<StoredPending>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<GuestIdentity>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    index: BTreeSet<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The layout of a pending change.
#[derive(Clone, Serialize, Deserialize)]
struct StoredPending {
    target: Hardware,
    managed: BTreeSet<Name>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    specified: BTreeSet<Name>,
    steps: Vec<StepView>,
    #[serde(default)]
    back: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
}

impl From<Record> for Stored {
    fn from(record: Record) -> Stored {
        let inventories: Vec<&Inventory> = record.inventories().collect();
        let facts = inventories
            .iter()
            .flat_map(|all| all.keys().map(|(key, name)| (name.clone(), all.facts(key).clone())));
        let (mut added, mut identities) = (BTreeSet::new(), BTreeMap::new());
        let mut required = BTreeSet::new();
        let mut claims: BTreeMap<Name, BTreeSet<String>> = BTreeMap::new();
        for (name, facts) in facts {
            if facts.origin == Origin::OnDemand {
                added.insert(name.clone());
            }
            if facts.required {
                required.insert(name.clone());
            }
            if !facts.claims.is_empty() {
                claims.entry(name.clone()).or_default().extend(facts.claims);
            }
            // What a pending change attaches comes last and takes precedence.
            identities.extend(facts.identity.map(|identity| (name, identity)));
        }
        let (mut places, mut seen) = (BTreeMap::new(), BTreeMap::new());
        let mut also = BTreeMap::new();
        for (name, identity) in identities {
            seen.extend(identity.seen.map(|it| (name.clone(), it)));
            if !identity.also.is_empty() {
                also.insert(name.clone(), identity.also);
            }
            places.insert(name, identity.place);
        }
        let managed = |all: &Inventory| all.managed_names().cloned().collect();
        let specified = |all: &Inventory| {
            let named = all.keys().filter(|(key, _)| all.facts(*key).origin == Origin::Spec);
            named.map(|(_, name)| name.clone()).collect()
        };
        let (managed_now, specified_now) =
            (managed(&record.inventory), specified(&record.inventory));
        let pending = record.pending.as_ref().map(|pending| StoredPending {
            target: pending.target.hardware().clone(),
            managed: managed(&pending.target),
            specified: specified(&pending.target),
            steps: pending.steps.iter().map(StepView::from).collect(),
            back: pending.back,
            header: pending.header.clone(),
        });
        Stored {
            vusb: LAYOUT,
            change: record.change,
            base: record.base,
            domain: record.domain,
            name: record.name,
            profile: record.profile,
            suspended: record.suspended,
            hardware: record.inventory.hardware().clone(),
            managed: managed_now,
            added,
            specified: specified_now,
            places,
            seen,
            also,
            required,
            claims,
            pending,
            identity: record.identity,
            index: record.index,
            rest: record.rest,
        }
    }
}

impl From<Stored> for Record {
    fn from(stored: Stored) -> Record {
        let inventory =
            |hardware: Hardware, managed: &BTreeSet<Name>, specified: &BTreeSet<Name>| {
                let mut all = Inventory::new(hardware);
                let items: Vec<_> = all.keys().map(|(key, name)| (key, name.clone())).collect();
                for (key, name) in items {
                    let facts = all.facts_mut(key);
                    facts.origin = match (managed.contains(&name), stored.added.contains(&name)) {
                        (false, _) => Origin::Other,
                        (true, true) => Origin::OnDemand,
                        (true, false) if specified.contains(&name) => Origin::Spec,
                        (true, false) => Origin::Hand,
                    };
                    facts.identity = stored.places.get(&name).map(|place| HostIdentity {
                        place: place.clone(),
                        seen: stored.seen.get(&name).cloned(),
                        also: stored.also.get(&name).cloned().unwrap_or_default(),
                    });
                    facts.required = stored.required.contains(&name);
                    facts.claims = stored.claims.get(&name).cloned().unwrap_or_default();
                }
                all
            };
        Record {
            change: stored.change,
            base: stored.base,
            domain: stored.domain,
            name: stored.name,
            profile: stored.profile,
            suspended: stored.suspended,
            inventory: inventory(stored.hardware, &stored.managed, &stored.specified),
            pending: stored.pending.map(|pending| Pending {
                target: inventory(pending.target, &pending.managed, &pending.specified),
                steps: pending.steps.iter().filter_map(StepView::step).collect(),
                back: pending.back,
                header: pending.header,
            }),
            identity: stored.identity,
            index: stored.index,
            rest: stored.rest,
        }
    }
}

/// The address of a record, and the record, or the reason why it cannot be read.
type Indexed = (String, Result<Record, Error>);

/// The records of all domains.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    folder: PathBuf,
    pub(crate) index: Index,
}

impl Call<'_> {
    /// The records.
    pub(crate) fn records(&self) -> Records {
        Records::new(self.context.state())
    }
}

impl Records {
    pub(crate) fn new(state: &StateDir) -> Records {
        Records { folder: state.path().to_owned(), index: Index::new(state.path()) }
    }

    /// The path of a domain's record, or of another file of the domain.
    pub(crate) fn path(&self, address: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", stem(address)))
    }

    /// The claims lock of this folder. It is held while names and devices are checked against all
    /// records and the intent is saved.
    pub(crate) fn claims_lock(&self) -> PathBuf {
        self.folder.join("claims.lock")
    }

    /// Creates the folder, readable by its owner only.
    pub(crate) fn create_folder(&self) -> Result<(), Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|error| Error::io("create the folder", &self.folder, error))?;
        self.check_folder()
    }

    /// Checks that no other user can replace a record.
    fn check_folder(&self) -> Result<(), Error> {
        own_files::check_folder(&self.folder)
    }

    /// The address that the record of a guest is filed under; `None` if it has no record.
    pub(crate) fn address_of(&self, guest: &GuestIdentity) -> Option<String> {
        let found = self.index.lookup(&identity_key(guest)).ok()?;
        found.into_iter().find(|address| {
            let record = self.read(address).ok().flatten();
            record.is_some_and(|record| record.identity.as_ref() == Some(guest))
        })
    }

    /// The record that is filed under an address, with its pending change; `None` if there is none.
    pub(crate) fn read(&self, address: &str) -> Result<Option<Record>, Error> {
        self.check_folder()?;
        let path = self.path(address, RECORD);
        let Some(record) = file::read_newer(&path)? else {
            return Ok(None);
        };
        if record.domain != address {
            let why = format!("it is the record of {}, not of {address}", record.domain);
            return Err(Error::Record { path, why });
        }
        Ok(Some(record))
    }

    /// Every record, by file name; an error for each that cannot be read.
    pub(crate) fn all(&self) -> Result<Vec<Result<Record, Error>>, Error> {
        self.check_folder()?;
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("read", &self.folder, error)),
        };
        let is_record = |path: &PathBuf| path.extension().is_some_and(|it| it == RECORD);
        // What is no regular file is not skipped: it has taken the place of a record, which may
        // hold devices.
        let paths: BTreeSet<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(is_record).collect();
        Ok(paths.iter().filter_map(|path| file::read_named(path).transpose()).collect())
    }

    /// The records that have the key; an error for each that cannot be read.
    ///
    /// # Errors
    /// The index cannot be read, or the folder is not safe to use.
    pub(crate) fn with_key(&self, key: &str) -> Result<Vec<Indexed>, Error> {
        self.check_folder()?;
        let found = self.index.lookup(key);
        let found = found.map_err(|error| Error::io("read the index in", &self.folder, error))?;
        let read = |address: String| {
            let record = self.read(&address).transpose()?;
            Some((address, record))
        };
        Ok(found.into_iter().filter_map(read).collect())
    }

    /// Saves the record of a domain, with its index entries. It is on the disk when this returns. A
    /// record with a pending change is instead written as an intent, which is not synced.
    ///
    /// `has_backends` is whether the domain's controllers may carry other domains' devices.
    ///
    /// # Errors
    /// A file cannot be written. `record` is unchanged then.
    pub(crate) fn save(&self, record: &mut Record, has_backends: bool) -> Result<(), Error> {
        self.create_folder()?;
        let mut next = record.clone();
        next.index = index_keys(record, has_backends);
        let failed = |error| Error::io("write the index in", &self.folder, error);
        self.index.add(&next.domain, next.index.difference(&record.index)).map_err(failed)?;
        let old: BTreeSet<String> = record.index.difference(&next.index).cloned().collect();
        let path = self.path(&next.domain, RECORD);
        let saved = if next.pending.is_some() {
            // The file of the record still has the old keys.
            next.index.extend(old.iter().cloned());
            self.save_intent(&mut next, &path)
        } else {
            next.base = None;
            next.change += 1;
            file::replace(&path, &next, Durability::PowerLoss)
        };
        saved.map_err(|error| Error::io("write", &path, error))?;
        if next.pending.is_none() {
            // An intent that cannot be deleted is based on an older record, and is ignored.
            remove_stale(&path.with_extension(INTENT));
            self.index.remove(&next.domain, &old);
        }
        remove_stale(&path.with_extension(CANCELLED));
        *record = next;
        Ok(())
    }

    /// Writes an intent. For the first one of a domain, it first writes an empty record to base it
    /// on.
    fn save_intent(&self, intent: &mut Record, path: &Path) -> io::Result<()> {
        if intent.change == 0 {
            intent.change = 1;
            let empty = Inventory::default();
            let empty = Record { inventory: empty, pending: None, ..intent.clone() };
            file::replace(path, &empty, Durability::PowerLoss)?;
        }
        intent.base = intent.base.or(Some(intent.change));
        intent.change += 1;
        file::replace(&path.with_extension(INTENT), intent, Durability::Kill)
    }

    /// Marks the pending change of a domain as cancelled by renaming its intent. Nothing is
    /// written, so this works from another thread and on a full disk.
    ///
    /// # Errors
    /// There is no intent, or it cannot be renamed.
    pub(crate) fn cancel_intent(&self, address: &str) -> Result<(), Error> {
        let path = self.path(address, INTENT);
        let renamed = fs::rename(&path, self.path(address, CANCELLED));
        renamed.map_err(|error| Error::io("rename", path, error))
    }

    /// Deletes the record of a domain, with its index entries. Its intents are deleted first: one
    /// that stayed behind could match the change number of the domain's next record.
    pub(crate) fn remove(&self, record: &Record) -> Result<(), Error> {
        for extension in [CANCELLED, INTENT, RECORD] {
            let path = self.path(&record.domain, extension);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("delete", path, error));
                }
                _ => {}
            }
        }
        let keys = record.index.iter().cloned().chain(index_keys(record, true));
        self.index
            .remove(&record.domain, &keys.chain(index_keys(record, false)).collect::<Vec<_>>());
        Ok(())
    }

    /// Indexes the records of older versions, once. The caller must hold the claims lock.
    ///
    /// # Errors
    /// The records or the index cannot be accessed. A damaged record is skipped.
    pub(crate) fn complete_index(&self, call: &Call<'_>) -> Result<(), Error> {
        if self.index.is_complete() {
            return Ok(());
        }
        let failed = |error| Error::io("write the index in", &self.folder, error);
        for record in self.all()?.into_iter().flatten() {
            let address = call.recorded_address(&record.domain);
            let has_backends = address.is_some_and(|it| it.scheme().backends().is_some());
            self.index.add(&record.domain, &index_keys(&record, has_backends)).map_err(failed)?;
        }
        self.index.set_complete().map_err(failed)
    }
}

/// Deletes an intent that is no longer valid.
fn remove_stale(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "cannot delete a stale intent");
        }
        _ => {}
    }
}

/// The key of a domain's name.
pub(crate) fn name_key(name: &str) -> String {
    format!("name/{name}")
}

fn identity_key(identity: &GuestIdentity) -> String {
    format!("identity/{identity}")
}

fn index_keys(record: &Record, has_backends: bool) -> BTreeSet<String> {
    let names = record.names().map(|name| name_key(name.as_str()));
    let identity = record.identity.as_ref().map(identity_key);
    let claims = record.inventories().flat_map(|all| claim_keys::keys_of(all, has_backends));
    names.chain(identity).chain(claims).collect()
}

/// `qemu-web1.qmp-1a2b3c4d5e6f`: a readable part, and a hash that makes it unique.
fn stem(address: &str) -> String {
    let (scheme, path) = address.split_once(':').unwrap_or(("", address));
    let name = path.rsplit('/').next().unwrap_or_default();
    let readable: String = name
        .chars()
        .map(|it| if it.is_ascii_alphanumeric() || "-_.".contains(it) { it } else { '_' })
        .take(40)
        .collect();
    format!("{scheme}-{readable}-{}", short_hash(address, 6))
}

#[cfg(test)]
mod tests;
