//! The file of a simulated hypervisor: read whole, replaced whole, changed under a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vusb_model::capabilities::KINDS;
use vusb_model::hardware::Hardware;
use vusb_model::models::{ControllerType, Model};
use vusb_model::name::Name;
use vusb_model::selector::BusAddress;

use super::fault::Fault;
use crate::driver::Error;

/// The version of the layout.
const LAYOUT: u32 = 1;

/// The longest file that is read: 64 MiB, many times what 4096 full controllers take.
const MAX_BYTES: u64 = 64 << 20;

/// How long the lock is waited for. It is held for one replacement of the file.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is in the file. The module [`super`] says what each field means.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    sim: u32,
    #[serde(default = "called")]
    pub(super) hypervisor: String,
    #[serde(default = "emulated", rename = "type")]
    pub(super) default_type: ControllerType,
    #[serde(default = "yes")]
    pub(super) running: bool,
    #[serde(default)]
    models: BTreeMap<Model, Had>,
    #[serde(default)]
    kinds: BTreeMap<String, Had>,
    #[serde(default)]
    pub(super) slots: Option<usize>,
    #[serde(default)]
    pub(super) hardware: Hardware,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) foreign: BTreeSet<Name>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) absent: BTreeSet<Name>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) given: BTreeMap<Name, BusAddress>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unreachable: Option<String>,
    #[serde(default)]
    pub(super) faults: Vec<Fault>,
    /// What is not known here.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Whether something can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Had {
    Hot,
    Cold,
    No,
}

fn called() -> String {
    "QEMU (simulated)".to_owned()
}

const fn emulated() -> ControllerType {
    ControllerType::Emulated
}

const fn yes() -> bool {
    true
}

impl State {
    /// A fresh guest.
    fn fresh() -> State {
        State {
            sim: LAYOUT,
            hypervisor: called(),
            default_type: emulated(),
            running: yes(),
            models: BTreeMap::new(),
            kinds: BTreeMap::new(),
            slots: None,
            hardware: Hardware::new(),
            foreign: BTreeSet::new(),
            absent: BTreeSet::new(),
            given: BTreeMap::new(),
            unreachable: None,
            faults: Vec::new(),
            rest: Map::new(),
        }
    }

    /// What it can do with each model.
    pub(super) fn models(&self) -> impl Iterator<Item = (Model, Had)> {
        let said = |model: Model| self.models.get(&model).copied();
        Model::ALL
            .map(|model| (model, said(model).unwrap_or_else(|| self.usual(model))))
            .into_iter()
    }

    /// What it can do with each kind of device.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&'static str, Had)> {
        let said = |kind: &str| self.kinds.get(kind).copied();
        KINDS.map(|kind| (kind, said(kind).unwrap_or(Had::Hot))).into_iter()
    }

    /// What a hypervisor of its type does with a model: QEMU for emulated ones, PVUSB for pv.
    const fn usual(&self, model: Model) -> Had {
        match (self.default_type, model) {
            (ControllerType::Pv, Model::Xenusb1 | Model::Xenusb2) => Had::Hot,
            (ControllerType::Pv, _) => Had::No,
            (
                ControllerType::Emulated,
                Model::Piix3Uhci
                | Model::Piix4Uhci
                | Model::Ehci
                | Model::NecXhci
                | Model::QemuXhci,
            ) => Had::Hot,
            (
                ControllerType::Emulated,
                Model::Ich9Ehci1
                | Model::Ich9Uhci1
                | Model::Ich9Uhci2
                | Model::Ich9Uhci3
                | Model::PciOhci,
            ) => Had::Cold,
            (
                ControllerType::Emulated,
                Model::Vt82c686bUhci | Model::Xenusb1 | Model::Xenusb2 | Model::Xenusb3,
            ) => Had::No,
        }
    }
}

/// The domain, as the user names it.
pub(super) fn domain(path: &Path) -> String {
    format!("sim:{}", path.display())
}

/// What is in the file at `path`; a fresh guest if there is none.
pub(super) fn read(path: &Path) -> Result<State, Error> {
    let mut text = String::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::fresh()),
        Err(error) => return Err(unreachable(path, &error)),
    };
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| unreachable(path, &error))?;
    let confused = |why: String| Error::Confused { domain: domain(path), why };
    let state: State = serde_json::from_str(&text).map_err(|error| confused(error.to_string()))?;
    if state.sim != LAYOUT {
        return Err(confused(format!("its layout is {}, and {LAYOUT} is known here", state.sim)));
    }
    Ok(state)
}

/// Changes the file: read, changed and replaced under the lock. It is left as it is if `change` fails.
pub(super) fn change<T>(
    path: &Path,
    change: impl FnOnce(&mut State) -> Result<T, Error>,
) -> Result<T, Error> {
    let _lock = lock(path)?;
    let mut state = read(path)?;
    let answer = change(&mut state)?;
    write(path, &state).map_err(|error| unreachable(path, &error))?;
    Ok(answer)
}

/// Takes the lock; it is free again when the file is closed, also by a kill.
fn lock(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let open =
        OpenOptions::new().create(true).truncate(false).write(true).open(PathBuf::from(name));
    let file = open.map_err(|error| unreachable(path, &error))?;
    let end = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(unreachable(path, &error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= end => {
                let what = format!("the lock of {}", domain(path));
                let why = "another process holds it".to_owned();
                return Err(Error::TimedOut { what, limit: PATIENCE, why });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn write(path: &Path, state: &State) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    let mut text = serde_json::to_vec_pretty(state)?;
    text.push(b'\n');
    file.write_all(&text)?;
    // An existing file keeps its mode: a temporary one would be nobody else's to read.
    if let Ok(metadata) = fs::metadata(path) {
        file.as_file().set_permissions(metadata.permissions())?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn unreachable(path: &Path, error: &io::Error) -> Error {
    Error::Unreachable { domain: domain(path), why: error.to_string(), midway: false }
}
