//! Whether the devices and images that a config names are free: another domain may hold one, this
//! machine may need it, or a rule may deny it.
//!
//! Nothing is claimed: the guest is started later, and perhaps elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

use vusb_model::device::Kind;
use vusb_model::diff::Step;
use vusb_model::hardware::{Device, Hardware};
use vusb_model::name::Name;
use vusb_model::rules::Domain;

use crate::address::DomainAddress;
use crate::call::Call;
use crate::claim_files::Claimant;
use crate::claims::{ClaimRequest, RivalSearch, find_rival};
use crate::error::Error;
use crate::files;
use crate::guest_config::GuestConfig;
use crate::host_devices::HostDevices;
use crate::inventory::Inventory;
use crate::note::Note;
use crate::permission::Recipient;
use crate::session::claims as session_claims;

/// A device or an image that is not free.
pub(crate) struct Obstacle {
    /// The device's name in the guest.
    name: Name,
    /// Why it is not free: who holds it, why this machine needs it, or which rule denies it.
    error: Error,
    /// Whether the refusal stands even with force.
    is_final: bool,
}

impl Obstacle {
    /// The obstacle as a note.
    pub(crate) fn into_note(self) -> Note {
        Note::NotFree { name: self.name, why: self.error.to_string() }
    }

    /// The obstacle as a note, if the caller overrides it.
    ///
    /// # Errors
    /// The caller does not override it, or cannot, for instance because no hypervisor passes a hub
    /// through or because a final rule denies the device.
    pub(crate) fn overridden(self, call: &Call<'_>) -> Result<Note, Error> {
        if self.is_final || !call.is_forced() { Err(self.error) } else { Ok(self.into_note()) }
    }
}

/// The devices and images in `hardware` that are not free for a guest that is started with
/// `config`. Host devices that are not plugged in are left out.
pub(crate) fn obstacles(
    call: &Call<'_>,
    config: &GuestConfig,
    host_devices: &HostDevices<'_>,
    hardware: &Hardware,
) -> Result<Vec<Obstacle>, Error> {
    let owner = Owner::of(call, config);
    let inventory = Inventory::new(hardware.clone());
    let nothing = BTreeMap::new();
    let to = Recipient {
        domain: owner.rule_domain(),
        before: &owner.before,
        guest: owner.claimant.guest.as_ref(),
        given: &nothing,
        later: false,
    };
    let mut obstacles = Vec::new();
    for (at, device) in hardware.devices() {
        let kind = files::absolute(&device.kind, config.folder());
        let device = &Device { kind, ..device.clone() };
        let step = Step::Plug(at, device.clone());
        let claims = || check_claims(call, host_devices, &owner.claimant, &inventory, &step);
        // An image or a folder may exist only on the machine where the guest will be started.
        let is_here = match &device.kind {
            Kind::Host(host) => host.bus_address.is_some(),
            Kind::Storage(storage) => Path::new(&storage.file).exists(),
            Kind::Mtp(mtp) => Path::new(&mtp.dir).exists(),
            _ => false,
        };
        let permitted = |force| match is_here {
            true => host_devices.check_permitted(&inventory, (at, device), &to, force, &claims),
            false => Ok(()),
        };
        let found = match permitted(true) {
            Err(error) => Some((error, true)),
            // An absent host device is not an obstacle.
            Ok(()) if !is_here && matches!(device.kind, Kind::Host(_)) => None,
            Ok(()) => permitted(false).and_then(|()| claims()).err().map(|error| (error, false)),
        };
        let name = device.name.clone();
        obstacles.extend(found.map(|(error, is_final)| Obstacle { name, error, is_final }));
    }
    Ok(obstacles)
}

/// The domain that a config is for. A device that this domain already has is free for it.
struct Owner {
    claimant: Claimant,
    /// What is recorded for it.
    before: Inventory,
}

impl Owner {
    fn of(call: &Call<'_>, config: &GuestConfig) -> Owner {
        let parsed = config.driver().and_then(|driver| {
            let parsed = call.context.registry().parse(driver, config.folder()).ok()??;
            Some(DomainAddress::from(parsed))
        });
        let claimant =
            |domain: String| Claimant { domain, display_name: config.name(), guest: None };
        let Some(domain) = parsed else {
            return Owner { claimant: claimant(String::new()), before: Inventory::default() };
        };
        let domain = call.canonical(domain.clone()).unwrap_or(domain);
        match call.records().read(domain.as_str()) {
            Ok(Some(record)) => Owner {
                claimant: session_claims::claimant(&record, record.identity.clone()),
                before: record.inventory,
            },
            _ => Owner { claimant: claimant(domain.to_string()), before: Inventory::default() },
        }
    }

    /// The domain as rules name it.
    fn rule_domain(&self) -> Domain {
        let Claimant { domain, display_name, .. } = &self.claimant;
        let address = Some(domain.clone()).filter(|it| !it.is_empty());
        Domain { name: display_name.clone(), address }
    }
}

/// Checks that no other domain holds what `step` plugs in.
fn check_claims(
    call: &Call<'_>,
    host_devices: &HostDevices<'_>,
    own: &Claimant,
    inventory: &Inventory,
    step: &Step,
) -> Result<(), Error> {
    let (records, files) = (call.records(), call.claim_files());
    let search = RivalSearch { records: &records, files: &files, own };
    let steps = std::slice::from_ref(step);
    let wanted = ClaimRequest::all(host_devices, steps, &[], inventory)?;
    match find_rival(&search, host_devices, &wanted)? {
        Some(rival) => Err(rival.into_error(call, None)),
        None => Ok(()),
    }
}
