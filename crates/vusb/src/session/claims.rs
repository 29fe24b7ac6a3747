//! The claims that a change adds and releases.

use std::collections::BTreeSet;

use vusb_drivers::GuestIdentity;
use vusb_model::address::Address;
use vusb_model::diff::Step;
use vusb_model::name::Name;

use super::Open;
use crate::call::Call;
use crate::claim_files::{ClaimFiles, Claimant, Locked};
use crate::claims::{self, ClaimRequest, Rival, RivalSearch};
use crate::error::Error;
use crate::inventory::Inventory;
use crate::pending::Pending;
use crate::record::Record;

impl Open<'_> {
    /// The names of the claims on the devices that the steps remove. Some may be missing in the
    /// record: another user, or a call with another state directory, may have attached a device and
    /// claimed it. A change for the next start removes nothing from the running guest.
    pub(super) fn leaving(&self, steps: &[Step]) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for step in steps.iter().filter(|_| !self.gives_nothing_now()) {
            let Step::Unplug(at, device) = step else { continue };
            let removed =
                ClaimRequest::existing(self.inventory(), *at, &device.kind, &self.host_devices);
            names.extend(removed.resources.iter().map(|it| it.name().to_owned()));
        }
        names
    }

    /// Checks that no other domain has claimed what the steps attach, or the `absent` devices that
    /// are to be recorded, and that `target` has none of these twice.
    pub(super) fn check_claims(
        &self,
        steps: &[Step],
        absent: &[Address],
        target: &Inventory,
    ) -> Result<(), Error> {
        if self.gives_nothing_now() {
            return Ok(());
        }
        let wanted = ClaimRequest::all(&self.host_devices, steps, absent, target)?;
        claims::check_distinct(&self.host_devices, &wanted, target)?;
        match self.find_rival(&self.call.claim_files(), &wanted)? {
            Some(rival) => Err(rival.into_error(&self.call, self.saved.as_ref())),
            None => Ok(()),
        }
    }

    /// Checks that no other guest's configuration or command line names one of the `absent` devices
    /// that are to be recorded: that guest would take it as soon as it is plugged in.
    pub(super) fn check_command_lines(
        &self,
        absent: &[Address],
        target: &Inventory,
    ) -> Result<(), Error> {
        if self.gives_nothing_now() || self.call.is_forced() {
            return Ok(());
        }
        let lines = || self.host_devices.command_lines();
        for at in absent {
            let Some(host) = target.host_ref(*at) else { continue };
            if self.host_devices.backend(target.hardware(), *at).is_some() {
                continue;
            }
            if let Some(by) = lines().holder_of_absent(&host.selector, self.guest.as_ref()) {
                return Err(Error::InUse { device: host.selector.to_string(), by: by.text });
            }
        }
        Ok(())
    }

    pub(super) fn find_rival(
        &self,
        files: &ClaimFiles,
        wanted: &[ClaimRequest<'_>],
    ) -> Result<Option<Rival>, Error> {
        let search = RivalSearch { records: &self.records, files, own: &self.claimant() };
        claims::find_rival(&search, &self.host_devices, wanted)
    }

    pub(super) fn claimant(&self) -> Claimant {
        claimant(&self.record, self.guest.clone())
    }

    /// Makes the claims of the pending change. If one cannot be made, the change is dropped: no
    /// step has been taken yet.
    pub(super) fn make_claims(
        &mut self,
        locked: &Locked<'_>,
        wanted: &[ClaimRequest<'_>],
        target: &Inventory,
    ) -> Result<(), Error> {
        let made = self.take_claims(locked, wanted, target);
        if made.is_err() {
            locked.release(&self.claimant(), &self.new_claims());
            self.record.pending = None;
            self.save()?;
        }
        made
    }

    fn take_claims(
        &self,
        locked: &Locked<'_>,
        wanted: &[ClaimRequest<'_>],
        target: &Inventory,
    ) -> Result<(), Error> {
        let own = self.claimant();
        for it in wanted {
            let Some(device) = target.hardware().device(it.address) else { continue };
            let at = target.hardware().location(it.address);
            let identity = target.identity(it.address);
            let claim = own.claim(device.kind.to_string(), device.name.clone(), at, identity);
            it.resources.iter().try_for_each(|resource| locked.take(&own, resource, &claim))?;
        }
        Ok(())
    }

    /// The names of the claims that the pending change adds.
    fn new_claims(&self) -> BTreeSet<String> {
        let Some(pending) = &self.record.pending else { return BTreeSet::new() };
        let old: BTreeSet<&String> = self.record.inventory.claims().collect();
        pending.target.claims().filter(|name| !old.contains(name)).cloned().collect()
    }

    /// Makes the missing claims of an interrupted change: its call may have been killed before it
    /// made them.
    ///
    /// # Errors
    /// Another domain has claimed the same resource since, or the claims cannot be read or written.
    pub(crate) fn renew_claims(&self, pending: &Pending) -> Result<(), Error> {
        let Pending { target, steps, .. } = pending;
        if self.is_dry() || self.gives_nothing_now() {
            return Ok(());
        }
        let wanted = ClaimRequest::all(&self.host_devices, steps, &[], target)?;
        if wanted.is_empty() {
            return Ok(());
        }
        let files = self.call.claim_files();
        let rival = {
            let locked = files.lock(&self.call)?;
            let rival = self.find_rival(&files, &wanted)?;
            if rival.is_none() {
                self.take_claims(&locked, &wanted, target)?;
            }
            rival
        };
        rival.map_or(Ok(()), |rival| Err(rival.into_error(&self.call, None)))
    }
}

/// The domain of a record, as a claimant. `guest` is the one that runs now.
pub(crate) fn claimant(record: &Record, guest: Option<GuestIdentity>) -> Claimant {
    // A pending change that renames the domain has made its claims under the new name.
    let name = record.names().last();
    let display_name = name.map_or(record.domain.as_str(), Name::as_str).to_owned();
    Claimant { domain: record.domain.clone(), display_name, guest }
}

/// Releases the claims that the domain had `before` and its record no longer has. Best effort: a
/// claim that cannot be released becomes stale when the guest's process ends.
pub(crate) fn release(call: &Call<'_>, own: &Claimant, before: &BTreeSet<String>, record: &Record) {
    let after = record.claims();
    let gone: BTreeSet<String> = before.difference(&after).cloned().collect();
    if gone.is_empty() {
        return;
    }
    let files = call.claim_files();
    match files.lock(call) {
        Ok(locked) => locked.release(own, &gone),
        Err(error) => tracing::warn!(%error, "cannot release claims"),
    }
}
