//! What is remembered of a domain: one readable JSON file, replaced atomically.
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
//!   "places": { "stick": "pci-0000:00:14.0-usb-0:4.2" }
//! }
//! ```
//!
//! `hardware` is what the guest has, whoever gave it, and what it should have and has not at the moment. `managed` names
//! what is vusb's own, and `added` the controllers of it that nobody asked for and a device needed. `places` says where each
//! host device was plugged in when it was given. Fields that are not known here are kept.
//!
//! While a change is under way ([`crate::pending`]), a second file, `.intent`, is beside the record: the record as it will be, with
//! `pending`, and with a higher `change` than the record that it builds on. It is for the command that comes after one that
//! was killed. It is not forced to the disk, which takes several times as long as plugging a device in: when the machine goes
//! down, the guest goes with it, and nothing is left half done. So an intent that cannot be read is none.
//!
//! A record that cannot be understood is an error that names the file; it is never overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use vusb_model::hardware::Hardware;
use vusb_model::name::Name;
use vusb_model::profile::Profile;

use crate::domain::DomainId;
use crate::error::Error;
use crate::pending::Pending;
use crate::state::StateDir;

/// The version of the layout.
const LAYOUT: u32 = 1;

/// The longest record that is read: 64 MiB, many times what 4096 full controllers take.
const MAX_BYTES: u64 = 64 << 20;

/// What is remembered of a domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    vusb: u32,
    /// Counts the times it was saved.
    #[serde(default)]
    change: u64,
    /// Its address.
    pub(crate) domain: String,
    /// Its name, if a spec gave it one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<Name>,
    /// The rules that its hardware was decided by.
    #[serde(default)]
    pub(crate) profile: Profile,
    /// What it has, and should have.
    #[serde(default)]
    pub(crate) hardware: Hardware,
    /// What of it is vusb's own.
    #[serde(default)]
    pub(crate) managed: BTreeSet<Name>,
    /// The controllers that nobody asked for: devices needed them when they were plugged in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) added: BTreeSet<Name>,
    /// Where each host device was plugged in when it was given: a reboot-proof path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) places: BTreeMap<Name, String>,
    /// A change that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<Pending>,
    /// What is not known here.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Record {
    /// The record of a domain of which nothing is known.
    pub(crate) fn new(domain: &DomainId) -> Record {
        Record {
            vusb: LAYOUT,
            change: 0,
            domain: domain.to_string(),
            name: None,
            profile: Profile::default(),
            hardware: Hardware::new(),
            managed: BTreeSet::new(),
            added: BTreeSet::new(),
            places: BTreeMap::new(),
            pending: None,
            rest: Map::new(),
        }
    }

    /// The domain as a person knows it: by name, else by address.
    pub(crate) fn called(&self) -> &str {
        self.name.as_ref().map_or(&self.domain, Name::as_str)
    }

    /// Every piece of hardware that the domain has, should have or is about to have.
    pub(crate) fn all_hardware(&self) -> impl Iterator<Item = &Hardware> {
        std::iter::once(&self.hardware).chain(self.pending.as_ref().map(|it| &it.target))
    }
}

/// The records of all domains.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    folder: PathBuf,
}

impl Records {
    pub(crate) fn new(state: &StateDir) -> Records {
        Records { folder: state.path().to_owned() }
    }

    /// The file of a domain's record, or another that goes with it.
    pub(crate) fn path(&self, domain: &DomainId, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", stem(&domain.to_string())))
    }

    /// The lock file of all claims.
    pub(crate) fn claims_lock(&self) -> PathBuf {
        self.folder.join("claims.lock")
    }

    /// Makes the folder, readable for its owner alone.
    pub(crate) fn make_folder(&self) -> Result<(), Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|error| Error::io("make the folder", &self.folder, error))
    }

    /// The record of a domain, with what is under way; `None` if there is none.
    pub(crate) fn read(&self, domain: &DomainId) -> Result<Option<Record>, Error> {
        let path = self.path(domain, RECORD);
        let Some(record) = read_newer(&path)? else {
            return Ok(None);
        };
        if record.domain != domain.to_string() {
            let why = format!("it says that it is of {}, and not of {domain}", record.domain);
            return Err(Error::Record { path, why });
        }
        Ok(Some(record))
    }

    /// Every record, by file name; an error for each that cannot be read.
    pub(crate) fn all(&self) -> Result<Vec<Result<Record, Error>>, Error> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("read", &self.folder, error)),
        };
        let is_record =
            |path: &PathBuf| path.extension().is_some_and(|it| it == RECORD || it == INTENT);
        let paths = entries.flatten().map(|entry| entry.path()).filter(is_record);
        let paths = paths.filter(|path| path.is_file());
        let paths: BTreeSet<PathBuf> = paths.map(|path| path.with_extension(RECORD)).collect();
        Ok(paths.iter().filter_map(|path| read_named(path).transpose()).collect())
    }

    /// Replaces the record of a domain for good: it is on the disk when this returns. One with a change under way is put beside it
    /// instead, where a command finds it that comes after a kill.
    pub(crate) fn save(&self, domain: &DomainId, record: &mut Record) -> Result<(), Error> {
        self.make_folder()?;
        record.change += 1;
        let (path, intent) = (self.path(domain, RECORD), self.path(domain, INTENT));
        let saved = if record.pending.is_some() {
            replace(&intent, record, Durability::Kill)
        } else {
            replace(&path, record, Durability::PowerLoss).and_then(|()| {
                match fs::remove_file(&intent) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                }
            })
        };
        saved.map_err(|error| Error::io("write", &path, error))
    }
}

/// The extension of a record, and of what is under way.
const RECORD: &str = "json";
const INTENT: &str = "intent";

/// The record at `path`, or the intent beside it if that is newer.
fn read_newer(path: &Path) -> Result<Option<Record>, Error> {
    let record = read_file(path)?;
    let saved = record.as_ref().map_or(0, |record| record.change);
    let intent = read_file(&path.with_extension(INTENT)).unwrap_or_else(|error| {
        tracing::warn!(%error, "an intent that cannot be read is passed over");
        None
    });
    Ok(intent.filter(|intent| intent.change > saved).or(record))
}

/// The same, for one that was found by its file and not by its domain.
fn read_named(path: &Path) -> Result<Option<Record>, Error> {
    let record = read_newer(path)?;
    let named =
        |it: &Record| path.file_stem().is_some_and(|name| name == stem(&it.domain).as_str());
    match record {
        Some(record) if !named(&record) => {
            let why = format!(
                "it is of {}, whose record is {}.{RECORD}: is it a copy?",
                record.domain,
                stem(&record.domain)
            );
            Err(Error::Record { path: path.to_owned(), why })
        }
        other => Ok(other),
    }
}

/// `qemu-web1.qmp-1a2b3c4d5e6f`: what a person recognizes, and what makes it the only one.
fn stem(address: &str) -> String {
    let (driver, path) = address.split_once(':').unwrap_or(("", address));
    let name = path.rsplit('/').next().unwrap_or_default();
    let readable: String = name
        .chars()
        .map(|it| if it.is_ascii_alphanumeric() || "-_.".contains(it) { it } else { '_' })
        .take(40)
        .collect();
    let hash: [u8; 32] = Sha256::digest(address.as_bytes()).into();
    let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{driver}-{readable}-{short}")
}

fn read_file(path: &Path) -> Result<Option<Record>, Error> {
    let wrong = |why: String| Error::Record { path: path.to_owned(), why };
    // Opened without waiting: a pipe in its place would keep one waiting for its other end.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    if !file.metadata().is_ok_and(|it| it.is_file()) {
        return Err(wrong("it is no file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|error| Error::io("read", path, error))?;
    let layout = serde_json::from_slice::<Value>(&bytes)
        .map_err(|error| wrong(format!("it is no JSON: {error}")))?
        .get("vusb")
        .and_then(Value::as_u64);
    match layout {
        Some(layout) if layout == u64::from(LAYOUT) => {}
        Some(layout) => {
            return Err(wrong(format!(
                "its layout is version {layout}, and this vusb knows version {LAYOUT}"
            )));
        }
        None => return Err(wrong("it does not say that it is a record".to_owned())),
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(error.to_string()))
}

/// What a file has to outlive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// The process that wrote it.
    Kill,
    /// The machine's power.
    PowerLoss,
}

/// Writes a new file beside the old one and puts it in its place, so that there is always one whole file; to outlive power, each
/// is on the disk before the next is done. Whoever saves holds the domain's lock, so the new file is nobody else's; one that
/// a kill left behind is written over.
fn replace(path: &Path, record: &Record, durability: Durability) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut text = serde_json::to_vec_pretty(record)?;
    text.push(b'\n');
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&text)?;
    if durability == Durability::Kill {
        return fs::rename(&new, path);
    }
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn there(dir: &Path) -> (Records, DomainId) {
        (Records::new(&StateDir::new(dir.join("state"))), DomainId::Qemu("/run/web 1.qmp".into()))
    }

    #[test]
    fn a_record_is_private_readable_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (records, domain) = there(dir.path());
        assert_eq!(records.read(&domain).unwrap(), None);
        let mut record = Record { name: "web1".parse().ok(), ..Record::new(&domain) };
        records.save(&domain, &mut record).unwrap();
        assert_eq!(records.read(&domain).unwrap(), Some(record));
        let path = records.path(&domain, "json");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("qemu-web_1.qmp-"), "{name}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let folder = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_is_not_known_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (records, domain) = there(dir.path());
        records.save(&domain, &mut Record::new(&domain)).unwrap();
        let path = records.path(&domain, "json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen('{', "{\"colour\": \"blue\",", 1)).unwrap();
        let mut record = records.read(&domain).unwrap().unwrap();
        records.save(&domain, &mut record).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("\"colour\": \"blue\""));
    }

    #[test]
    fn only_files_that_fit_their_domains_are_records() {
        let dir = tempfile::tempdir().unwrap();
        let (records, domain) = there(dir.path());
        records.save(&domain, &mut Record::new(&domain)).unwrap();
        let path = records.path(&domain, "json");
        let made = std::process::Command::new("mkfifo").arg(path.with_file_name("p.json")).status();
        assert!(made.unwrap().success());
        fs::create_dir(path.with_file_name("d.json")).unwrap();
        assert_eq!(records.all().unwrap().len(), 1);
        fs::copy(&path, path.with_file_name("copy.json")).unwrap();
        let all = records.all().unwrap();
        let errors: Vec<String> =
            all.iter().filter_map(|it| it.as_ref().err()).map(ToString::to_string).collect();
        assert_eq!((all.len(), errors.len()), (2, 1));
        assert!(errors[0].contains("copy.json") && errors[0].contains("a copy?"), "{errors:?}");
        // A pipe in the place of the record itself is no record either, and nobody waits for it.
        fs::remove_file(&path).unwrap();
        fs::rename(path.with_file_name("p.json"), &path).unwrap();
        assert!(records.read(&domain).unwrap_err().to_string().ends_with("it is no file"));
    }

    #[test]
    fn a_damaged_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (records, domain) = there(dir.path());
        records.make_folder().unwrap();
        let path = records.path(&domain, "json");
        for text in [
            "",
            "{",
            "{}",
            "[]",
            "{\"vusb\":2}",
            "{\"vusb\":1}",
            "{\"vusb\":1,\"domain\":\"qemu:/other\"}",
        ] {
            fs::write(&path, text).unwrap();
            let error = records.read(&domain).unwrap_err();
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
