//! The file of a simulated hypervisor: read whole, replaced whole, changed under a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vusb_model::capabilities::KINDS;
use vusb_model::hardware::Hardware;
use vusb_model::models::{ControllerType, Model};
use vusb_model::name::Name;
use vusb_model::selector::BusAddress;

use super::fault::Fault;
use crate::driver::Error;
use crate::identity::Process;
use crate::text::{self, TextError};

/// The version of the layout.
const LAYOUT: u32 = 1;

/// The longest file that is read: 64 MiB, many times what 4096 full controllers take.
const MAX_BYTES: u64 = 64 << 20;

/// How long to wait for the lock, which is held for one replacement of the file.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The content of the file. The table in [`super`] describes the fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    sim: u32,
    #[serde(default = "default_name")]
    pub(super) hypervisor: String,
    #[serde(default = "emulated", rename = "type")]
    pub(super) default_type: ControllerType,
    #[serde(default = "default_running")]
    pub(super) running: bool,
    #[serde(default)]
    models: BTreeMap<Model, SimSupport>,
    #[serde(default)]
    kinds: BTreeMap<String, SimSupport>,
    #[serde(default)]
    pub(super) slots: Option<usize>,
    #[serde(default)]
    pub(super) hardware: Hardware,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) foreign: BTreeSet<Name>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) absent: BTreeSet<Name>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) backends: BTreeSet<Name>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) given: BTreeMap<Name, BusAddress>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unreachable: Option<String>,
    /// Two files with equal identities are one guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<String>,
    /// The process that the guest ends with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<Process>,
    #[serde(default)]
    pub(super) faults: Vec<Fault>,
    /// Unknown fields.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Whether a model or a kind of device is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SimSupport {
    Hot,
    Cold,
    No,
}

fn default_name() -> String {
    "QEMU (simulated)".to_owned()
}

const fn emulated() -> ControllerType {
    ControllerType::Emulated
}

const fn default_running() -> bool {
    true
}

impl State {
    /// A new guest.
    fn new_guest() -> State {
        State {
            sim: LAYOUT,
            hypervisor: default_name(),
            default_type: emulated(),
            running: default_running(),
            models: BTreeMap::new(),
            kinds: BTreeMap::new(),
            slots: None,
            hardware: Hardware::new(),
            foreign: BTreeSet::new(),
            absent: BTreeSet::new(),
            backends: BTreeSet::new(),
            given: BTreeMap::new(),
            unreachable: None,
            identity: None,
            process: None,
            faults: Vec::new(),
            rest: Map::new(),
        }
    }

    /// Whether each model is available.
    pub(super) fn models(&self) -> impl Iterator<Item = (Model, SimSupport)> {
        let listed = |model: Model| self.models.get(&model).copied();
        Model::ALL
            .map(|model| (model, listed(model).unwrap_or_else(|| self.default_support(model))))
            .into_iter()
    }

    /// Whether each kind of device is available.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&'static str, SimSupport)> {
        let listed = |kind: &str| self.kinds.get(kind).copied();
        KINDS.map(|kind| (kind, listed(kind).unwrap_or(SimSupport::Hot))).into_iter()
    }

    /// The default for a model: as in QEMU for emulated controllers, as in PVUSB for pv ones.
    const fn default_support(&self, model: Model) -> SimSupport {
        match (self.default_type, model) {
            (ControllerType::Pv, Model::Xenusb1 | Model::Xenusb2) => SimSupport::Hot,
            (ControllerType::Pv, _) => SimSupport::No,
            (
                ControllerType::Emulated,
                Model::Piix3Uhci
                | Model::Piix4Uhci
                | Model::Ehci
                | Model::NecXhci
                | Model::QemuXhci,
            ) => SimSupport::Hot,
            (
                ControllerType::Emulated,
                Model::Ich9Ehci1
                | Model::Ich9Uhci1
                | Model::Ich9Uhci2
                | Model::Ich9Uhci3
                | Model::PciOhci,
            ) => SimSupport::Cold,
            (ControllerType::Emulated, _) => SimSupport::No,
        }
    }
}

/// The domain's address.
pub(super) fn domain(path: &Path) -> String {
    format!("sim:{}", path.display())
}

/// The content of the file at `path`; a new guest if it does not exist.
pub(super) fn read(path: &Path) -> Result<State, Error> {
    let mut text = String::new();
    let file = match text::open(path) {
        Ok(file) => file,
        Err(TextError::Missing) => return Ok(State::new_guest()),
        Err(TextError::Io(error)) => return Err(failed("reading", path, &error)),
        Err(error) => return Err(confused(path, &error)),
    };
    file.take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| failed("reading", path, &error))?;
    let state: State = serde_json::from_str(&text).map_err(|error| confused(path, &error))?;
    if state.sim != LAYOUT {
        let layout = state.sim;
        let why = format!("its layout is version {layout}; this vusb reads version {LAYOUT}");
        return Err(confused(path, &why));
    }
    Ok(state)
}

/// Reads, changes and replaces the file under the lock. If `change` fails, the file stays as it is.
pub(super) fn change<T>(
    path: &Path,
    change: impl FnOnce(&mut State) -> Result<T, Error>,
) -> Result<T, Error> {
    let _lock = lock(path)?;
    let mut state = read(path)?;
    let answer = change(&mut state)?;
    write(path, &state).map_err(|error| failed("writing", path, &error))?;
    Ok(answer)
}

/// Takes the lock, which is released when the file is closed, even if the process is killed.
fn lock(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let open =
        OpenOptions::new().create(true).truncate(false).write(true).open(PathBuf::from(name));
    let file = open.map_err(|error| failed("locking", path, &error))?;
    let end = Instant::now() + LOCK_TIMEOUT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if Instant::now() >= end => {
                let what = format!("the lock of {}", domain(path));
                let why = "another process holds it".to_owned();
                return Err(Error::TimedOut { what, limit: LOCK_TIMEOUT, why: why.into() });
            }
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(2)),
            Err(errno) => return Err(failed("locking", path, &errno.into())),
        }
    }
}

/// Replaces the file. The lock is held, so a new file that exists was left by a kill.
fn write(path: &Path, state: &State) -> io::Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let new = path.with_file_name(name);
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let mut text = serde_json::to_vec_pretty(state)?;
    text.push(b'\n');
    file.write_all(&text)?;
    // An existing file keeps its mode: the temporary file is readable by its owner only.
    if let Ok(metadata) = fs::metadata(path) {
        file.set_permissions(metadata.permissions())?;
    }
    fs::rename(&new, path)
}

/// The error of an access to the file. It does not mean that the guest has ended: only the content
/// of the file can say so.
fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let why = error.to_string().into();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Error::Denied { domain: domain(path), why },
        _ => Error::Failed { what: format!("{what} the file of {}", domain(path)), why },
    }
}

fn confused(path: &Path, why: &dyn fmt::Display) -> Error {
    Error::Confused { domain: domain(path), why: why.to_string().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_access_does_not_mean_that_the_guest_has_ended() {
        let path = Path::new("/web.sim");
        let denied = failed("reading", path, &io::ErrorKind::PermissionDenied.into());
        assert_eq!(denied.to_string(), "no access to sim:/web.sim: permission denied");
        let full = failed("writing", path, &io::ErrorKind::StorageFull.into());
        assert_eq!(full.to_string(), "writing the file of sim:/web.sim failed: no storage space");
    }
}
