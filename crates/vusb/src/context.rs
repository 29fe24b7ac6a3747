//! The library's entry point. Its verbs are in `verbs.rs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vusb_drivers::Registry;
use vusb_host::Host;

use crate::device_list::DeviceList;
use crate::error::Error;
use crate::rules::load::{self, FOLDERS, LoadedRules};
use crate::state::StateDir;

/// The library's context: the folder of the records, the machine whose devices can be attached, and
/// the known drivers and formats. It is created once and may be shared by any number of threads.
///
/// Calls that change a domain hold its lock. If such a call fails, the guest is as before, or the
/// error lists the steps that are or may be in effect.
#[derive(Clone, Debug)]
pub struct Context {
    state: StateDir,
    host: Host,
    registry: Registry,
    claims: Option<PathBuf>,
    rule_folders: Option<Vec<PathBuf>>,
    /// The rules, if they were read in advance. `None`: each call reads the rule files.
    loaded_rules: Option<Arc<LoadedRules>>,
    /// The devices of this machine, if they were read in advance. `None`: each call reads them.
    devices: Option<Arc<DeviceList>>,
    /// The addresses of guests that are known to run.
    guests: Arc<BTreeSet<String>>,
}

impl Context {
    /// A context with these records, this machine's devices, and these drivers and formats.
    pub fn new(state: StateDir, host: Host, registry: Registry) -> Context {
        Context {
            state,
            host,
            registry,
            claims: None,
            rule_folders: None,
            loaded_rules: None,
            devices: None,
            guests: Arc::default(),
        }
    }

    /// A context with the built-in drivers and formats, which use the standard locations on `host`.
    pub fn with_builtin_drivers(state: StateDir, host: Host) -> Context {
        let registry = Registry::builtin(host.clone().into());
        Context::new(state, host, registry)
    }

    /// The same context with its claims in the folder at `path`. The default is `run/vusb/claims`
    /// below the host's root, which all users and state directories share. If that folder does not
    /// exist and cannot be created, the claims are in the user's runtime directory, or else in the
    /// state directory.
    #[must_use]
    pub fn with_claims_in(self, path: impl Into<PathBuf>) -> Context {
        Context { claims: Some(path.into()), ..self }
    }

    /// The same context with its rules in these folders; a file in a later one replaces the file
    /// with the same name in an earlier one. By default they are in `/usr/lib/vusb/rules.d` and
    /// `/etc/vusb/rules.d` of the context's machine.
    #[must_use]
    pub fn with_rules_in(self, folders: Vec<PathBuf>) -> Context {
        Context { rule_folders: Some(folders), ..self }
    }

    /// The same context with these rules. The rule files are not read.
    #[must_use]
    pub fn with_loaded_rules(self, rules: LoadedRules) -> Context {
        Context { loaded_rules: Some(Arc::new(rules)), ..self }
    }

    /// The same context, which uses this list of the machine's devices instead of reading them for
    /// each call, so the time of a call does not depend on the number of devices. A device that is
    /// to be attached is read again: it is refused if it was unplugged or is in use.
    #[must_use]
    pub fn with_known_devices(self, devices: Arc<DeviceList>) -> Context {
        Context { devices: Some(devices), ..self }
    }

    /// The same context with the addresses of guests that are known to run. Guests that the drivers
    /// do not find by themselves are known only from this list.
    #[must_use]
    pub fn with_known_guests(self, guests: Arc<BTreeSet<String>>) -> Context {
        Context { guests, ..self }
    }

    /// The addresses of guests that are known to run.
    pub(crate) fn known_guests(&self) -> &BTreeSet<String> {
        &self.guests
    }

    /// The list that was passed to [`Context::with_known_devices`].
    pub(crate) const fn known_devices(&self) -> Option<&Arc<DeviceList>> {
        self.devices.as_ref()
    }

    /// The folders of the rules.
    pub fn rule_folders(&self) -> Vec<PathBuf> {
        let default = || FOLDERS.map(|it| self.host.root().join(it)).to_vec();
        self.rule_folders.clone().unwrap_or_else(default)
    }

    /// The folder of the records.
    pub const fn state(&self) -> &StateDir {
        &self.state
    }

    /// The machine whose devices can be attached.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The drivers and formats.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The folder of the claims; `None` for the default.
    pub(crate) fn claims(&self) -> Option<&Path> {
        self.claims.as_deref()
    }

    /// The rules of this machine.
    ///
    /// # Errors
    /// [`Error::Rules`]: a rule file cannot be read or has a mistake. [`Error::Io`]: a folder of
    /// rules cannot be read.
    pub fn rules(&self) -> Result<LoadedRules, Error> {
        match &self.loaded_rules {
            Some(loaded) => Ok(LoadedRules::clone(loaded)),
            None => load::load(&self.rule_folders()),
        }
    }
}
