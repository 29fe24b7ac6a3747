//! The steps of a change, and the checks before the first of them.

use std::path::PathBuf;

use vusb_model::address::{Address, Index};
use vusb_model::device::Kind;
use vusb_model::diff::{Step, diff};
use vusb_model::hardware::{Device, Hardware};
use vusb_model::refusal::Refusal;
use vusb_model::remedy::Remedy;
use vusb_model::rules::Domain;

use super::{Change, Open, Planned};
use crate::error::Error;
use crate::files;
use crate::host_identity::{Presence, port_key};
use crate::image::References;
use crate::inventory::Inventory;
use crate::note::Note;
use crate::permission::Recipient;

impl<'a> Open<'a> {
    /// Finds the steps of a change, and checks that they are allowed and possible.
    ///
    /// # Errors
    /// A step is not allowed or not possible. Nothing was changed.
    pub(crate) fn plan(mut self, mut change: Change) -> Result<Planned<'a>, Error> {
        let goal = change.target.present();
        let mut hardware = self.observed.hardware.clone();
        // Only a device that stays in its place is reattached here. `diff` finds the steps for all
        // others.
        let stays = |at: &&Address| {
            goal.device(**at).map(|it| &it.kind)
                == self.observed.hardware.device(**at).map(|it| &it.kind)
        };
        let reattach = change.reattach.iter().filter(|at| !change.recreate.contains(&at.bus));
        let detached = reattach.filter(stays).flat_map(|at| hardware.unplug(*at));
        let mut steps: Vec<Step> = detached.map(|(at, device)| Step::Unplug(at, device)).collect();
        for index in &change.recreate {
            steps.extend(removal(&mut hardware, *index));
        }
        let with_present =
            |step: &Step| self.host_devices.with_present_device(step, &change.target);
        steps.extend(diff(&hardware, &goal).iter().map(with_present));
        self.vet(&steps, &change)?;
        self.check_restorable(&steps)?;
        self.note_other_ports(&steps, &change.target);
        self.note_image_files(&steps);
        self.host_devices.identify_plugged(&mut change.target, &steps);
        self.driver.check(&steps)?;
        Ok(Planned { open: self, change, steps })
    }

    /// Checks that everything that the steps attach exists and may be attached. Skipped for a
    /// config file: editing it attaches nothing.
    fn vet(&self, steps: &[Step], change: &Change) -> Result<(), Error> {
        if self.is_file() {
            return Ok(());
        }
        steps.iter().try_for_each(|step| match step {
            Step::Plug(at, device) if !change.available.contains(at) => {
                self.vet_device(&change.target, *at, device)
            }
            _ => Ok(()),
        })
    }

    /// Checks that one device exists and may be attached, and that its port supports its speed.
    fn vet_device(&self, goal: &Inventory, at: Address, device: &Device) -> Result<(), Error> {
        let recipient = Recipient {
            domain: Domain {
                name: self.record.display_name().to_owned(),
                address: Some(self.record.domain.clone()),
            },
            before: self.inventory(),
            guest: self.guest.as_ref(),
            given: &self.observed.given,
            later: self.gives_nothing_now(),
        };
        let claims = || self.check_claims(&[Step::Plug(at, device.clone())], &[], goal);
        let force = self.call.is_forced();
        self.host_devices.check_permitted(goal, (at, device), &recipient, force, &claims)?;
        check_speed(goal.hardware(), at, device)
    }

    /// Checks that the device that `goal` has at `at` can be attached now: it exists, may be
    /// attached, and no other domain has it.
    pub(crate) fn check_available(
        &self,
        goal: &Inventory,
        at: Address,
        device: &Device,
    ) -> Result<(), Error> {
        self.vet_device(goal, at, device)?;
        self.check_claims(&[Step::Plug(at, device.clone())], &[], goal)
    }

    /// Checks that each device that the steps replace or move could be restored if a later step
    /// failed. A host device needs no check: it is attached again if it is still plugged in.
    fn check_restorable(&self, steps: &[Step]) -> Result<(), Error> {
        if self.is_file() || self.call.is_forced() {
            return Ok(());
        }
        let is_replaced = |at: Address, device: &Device| {
            let succeeds = |to: Address, it: &Device| to == at || it.name == device.name;
            steps.iter().any(|step| matches!(step, Step::Plug(to, it) if succeeds(*to, it)))
        };
        for step in steps {
            let Step::Unplug(at, device) = step else { continue };
            if matches!(device.kind, Kind::Host(_)) || !is_replaced(*at, device) {
                continue;
            }
            let missing = || files::check(&device.kind, true).err().map(|it| it.to_string());
            if let Some(why) = self.driver.not_restorable(device).or_else(missing) {
                return Err(Error::NotRestorable { device: device.name.clone(), why });
            }
        }
        Ok(())
    }

    /// Notes the host devices that are plugged into another port than the recorded one.
    fn note_other_ports(&mut self, steps: &[Step], goal: &Inventory) {
        for step in steps {
            let Step::Plug(at, device) = step else { continue };
            let (from, to) = match (goal.identity(*at), self.host_devices.presence(goal, *at)) {
                (Some(from), Ok(Presence::Moved(to))) => (from.place.clone(), port_key(&to)),
                _ => continue,
            };
            self.note(Note::OtherPort { name: device.name.clone(), from, to });
        }
    }

    /// Notes the files that an image uses besides itself.
    fn note_image_files(&mut self, steps: &[Step]) {
        if self.is_file() {
            return;
        }
        for step in steps {
            let Step::Plug(_, Device { name, kind: Kind::Storage(storage) }) = step else {
                continue;
            };
            let files: Vec<PathBuf> =
                References::of(storage).files.into_iter().map(|it| it.path).collect();
            if !files.is_empty() {
                self.note(Note::AlsoUses { name: name.clone(), files });
            }
        }
    }
}

/// Checks that the port supports the speed that a host device has now: it may have been plugged in
/// again, at another speed than before.
fn check_speed(goal: &Hardware, at: Address, device: &Device) -> Result<(), Error> {
    if !matches!(device.kind, Kind::Host(_)) || goal.controller(at.bus).is_none() {
        return Ok(());
    }
    let mut trial = goal.clone();
    trial.unplug(at);
    trial.plug(at, device.clone()).map_err(|mut refusal| {
        if let Refusal::WrongSpeed { alternatives, .. } = &mut refusal {
            // The controller of the device is already decided.
            alternatives.retain(|remedy| *remedy != Remedy::OmitController);
        }
        refusal.into()
    })
}

/// Removes a controller from `hardware`. Returns the steps for that: its devices are unplugged
/// first, those behind hubs before their hubs.
fn removal(hardware: &mut Hardware, index: Index) -> Vec<Step> {
    let Some(controller) = hardware.remove_controller(index) else { return Vec::new() };
    let devices: Vec<_> = controller.devices().map(|(port, it)| (port, it.clone())).collect();
    let unplug = |(port, device)| Step::Unplug(Address { bus: index, port }, device);
    let unplugs = devices.into_iter().rev().map(unplug);
    unplugs.chain([Step::RemoveController(controller.without_devices())]).collect()
}
