//! Whether a domain may have a device: the one rule for running guests, for plans, and for the
//! configs of guests that are started later.
//!
//! ```text
//!   the file or folder exists and is what it is said to be
//!     ─▶ the host device is plugged in, not a hub, and not protected (rules may lift a protection)
//!     ─▶ the rules of this machine permit it
//!     ─▶ no program and no other machine uses it, and no other guest's configuration or command
//!        line names it
//! ```
//!
//! A disk or an image has to exist and to be what it is said to be, and this machine must not use
//! it.
//!
//! Claims are another matter: see [`crate::claims`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use vusb_drivers::GuestIdentity;
use vusb_host::{HostDevice, UsedBy};
use vusb_model::address::Address;
use vusb_model::device::{Kind, Storage};
use vusb_model::hardware::Device;
use vusb_model::rules::{Domain, ProtectionKind, RuleSet};
use vusb_model::selector::BusAddress;

use crate::backend_domain::BackendDomain;
use crate::error::Error;
use crate::files;
use crate::host_devices::{HostDevices, absent, other_device};
use crate::host_identity::Presence;
use crate::inventory::{Inventory, Key};
use crate::rules::permission as rule_permission;

/// The domain that would get a device, with everything that the decision depends on.
pub(crate) struct Recipient<'a> {
    /// The domain, as rules name it.
    pub(crate) domain: Domain,
    /// What it has or is recorded to have.
    pub(crate) before: &'a Inventory,
    /// Its guest that runs now.
    pub(crate) guest: Option<&'a GuestIdentity>,
    /// The address that each of its host devices had when it was attached.
    pub(crate) given: &'a BTreeMap<Address, BusAddress>,
    /// Whether it only gets the device when it starts. Then another guest may have the device now.
    pub(crate) later: bool,
}

impl Recipient<'_> {
    /// The process of its guest.
    fn process(&self) -> Option<u32> {
        let process = self.guest.and_then(GuestIdentity::process)?;
        u32::try_from(process.pid).ok()
    }
}

impl HostDevices<'_> {
    /// Checks that the domain `to` may have `device`, which `all` has at `at`. `claims` tells
    /// whether another domain has claimed the device: a claim says more about who uses it than the
    /// kernel does.
    ///
    /// # Errors
    /// The device does not exist, or another one is in its place; or, without `force`, it may not
    /// be attached or is in use, or a rule file has a mistake. A hub, and a device that a final
    /// rule denies, may not be attached with `force` either.
    pub(crate) fn check_permitted(
        &self,
        all: &Inventory,
        (at, device): (Address, &Device),
        to: &Recipient<'_>,
        force: bool,
        claims: &dyn Fn() -> Result<(), Error>,
    ) -> Result<(), Error> {
        files::check(&device.kind, force)?;
        let host = match &device.kind {
            Kind::Storage(storage) if !force => return self.check_storage(storage),
            Kind::Host(host) => host,
            _ => return Ok(()),
        };
        let none = RuleSet::default();
        let rules = match self.call().rules() {
            Err(Error::Rules { .. }) if force => &none,
            rules => rules?,
        };
        let found = match self.presence(all, at)? {
            Presence::Here(found) | Presence::Moved(found) => found,
            Presence::Replaced(found) | Presence::Elsewhere(found) => {
                return Err(other_device(device, host, all.identity(at), &found));
            }
            Presence::Absent => {
                return Err(absent(&host.selector, &self.backend(all.hardware(), at)));
            }
        };
        let backend = self.backend(all.hardware(), at);
        let found = self.now(found, &backend).ok_or_else(|| absent(&host.selector, &backend))?;
        self.check_protection(&found, &backend, force, &rules.lifted)?;
        if backend.is_none() {
            self.check_rules(rules, &found, to, force)?;
        }
        if force || backend.is_some() {
            return Ok(());
        }
        match self.used_by_others(&found, to) {
            Some(in_use) => claims().and(Err(in_use)),
            None => Ok(()),
        }
    }

    /// Checks that the host device `found` of `backend` is neither a hub nor protected.
    ///
    /// # Errors
    /// It is a hub; or, without `force`, it is protected for a reason that is not `lifted`.
    fn check_protection(
        &self,
        found: &HostDevice,
        backend: &BackendDomain,
        force: bool,
        lifted: &[ProtectionKind],
    ) -> Result<(), Error> {
        if found.is_hub {
            return Err(Error::HostHub { device: shown(found) });
        }
        if force {
            return Ok(());
        }
        let mut reasons = self.snapshot(backend)?.protection_but(found, lifted);
        let may_be_busy = !lifted.contains(&ProtectionKind::UsedDisk);
        if reasons.is_empty() && backend.is_none() && may_be_busy {
            let busy = self.host().exclusive_use(found);
            reasons.extend(busy.iter().map(ToString::to_string));
        }
        if reasons.is_empty() {
            return Ok(());
        }
        Err(Error::Protected { device: shown(found), reasons })
    }

    /// Checks that the rules let the domain have the host device `found` of this machine.
    ///
    /// # Errors
    /// The rules do not let it have the device.
    fn check_rules(
        &self,
        rules: &RuleSet,
        found: &HostDevice,
        to: &Recipient<'_>,
        force: bool,
    ) -> Result<(), Error> {
        let recorded = self.attached(to.before, found, &None);
        let is_given = |at| to.before.facts(Key::Device(at)).origin.is_given();
        let recorded = recorded.is_some_and(is_given);
        rule_permission::check(self.host(), rules, found, &to.domain, recorded, force)
    }

    /// The error if a program or another machine uses the host device, or another guest may take
    /// it. The guest that it is for may use it.
    fn used_by_others(&self, found: &HostDevice, to: &Recipient<'_>) -> Option<Error> {
        let Some(used_by) = &found.used_by else { return self.named_by_others(found, to) };
        if to.later {
            return None;
        }
        let is_given = to.given.values().any(|it| *it == found.bus_address);
        let users = used_by.processes();
        let own = to.process();
        let is_own = !users.is_empty() && users.iter().all(|it| Some(it.pid) == own);
        if is_given || is_own || self.is_own_server(used_by) {
            return None;
        }
        // A guest says more than a process.
        let all = self.snapshot(&None).ok();
        let all = all.as_ref().map_or(&[][..], |it| &it.devices);
        let guest = self.command_lines().configured(found, all, to.guest);
        let by = guest.map_or_else(|| used_by.to_string(), |it| it.text);
        Some(Error::InUse { device: shown(found), by })
    }

    /// The error if the configuration or the command line of another guest names the host device.
    fn named_by_others(&self, found: &HostDevice, to: &Recipient<'_>) -> Option<Error> {
        let is_given = to.given.values().any(|it| *it == found.bus_address);
        if is_given || to.later {
            return None;
        }
        let all = &self.snapshot(&None).ok()?.devices;
        let holder = self.command_lines().holder(found, all, to.guest, self)?;
        Some(Error::InUse { device: shown(found), by: holder.text })
    }

    /// Whether only the process that serves all guests of this scheme uses a device.
    fn is_own_server(&self, used_by: &UsedBy) -> bool {
        let server = self.scheme().and_then(|it| it.device_server());
        let users = used_by.processes();
        !users.is_empty() && users.iter().all(|it| Some(it.name.as_str()) == server)
    }

    /// Checks that a file or block device of this machine may be attached as a disk. An image that
    /// is only read may be in use.
    ///
    /// # Errors
    /// This machine itself uses the file or the device.
    fn check_storage(&self, storage: &Storage) -> Result<(), Error> {
        let path = Path::new(&storage.file);
        if storage.readonly && path.is_file() {
            return Ok(());
        }
        let reasons = match fs::canonicalize(path) {
            Ok(path) => self.host().storage_protection(&path),
            Err(_) => Vec::new(),
        };
        if reasons.is_empty() {
            return Ok(());
        }
        let reasons = reasons.iter().map(ToString::to_string).collect();
        Err(Error::Protected { device: storage.file.clone(), reasons })
    }
}

/// The text for a host device in errors.
fn shown(device: &HostDevice) -> String {
    format!("{} ({})", device.bus_id, device.describe())
}
