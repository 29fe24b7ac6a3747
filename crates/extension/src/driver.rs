//! `shelf:NAME`: guests in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vusb::drivers::{AddressError, Driver, Error, GuestIdentity, Observed, OpenOptions, Scheme};
use vusb::model::capabilities::Capabilities;
use vusb::model::diff::Step;
use vusb::model::hardware::Hardware;
use vusb::model::name::Name;
use vusb::model::spec::Spec;

/// Guests in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Arc<Mutex<BTreeMap<String, Guest>>>);

#[derive(Clone, Debug, Default)]
struct Guest {
    /// Identifies the guest, whichever name it has at the moment.
    serial: u32,
    hardware: Hardware,
}

impl Shelf {
    /// Starts a guest without USB.
    pub fn start(&self, name: &str) {
        let mut guests = self.guests();
        let serial = u32::try_from(guests.len()).unwrap_or(u32::MAX);
        guests.insert(name.to_owned(), Guest { serial, hardware: Hardware::new() });
    }

    /// Ends a guest. It loses its hardware.
    pub fn end(&self, name: &str) {
        self.guests().remove(name);
    }

    /// Gives a running guest another name.
    pub fn rename(&self, from: &str, to: &str) {
        let mut guests = self.guests();
        if let Some(guest) = guests.remove(from) {
            guests.insert(to.to_owned(), guest);
        }
    }

    fn guests(&self) -> MutexGuard<'_, BTreeMap<String, Guest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The scheme `shelf:NAME`.
#[derive(Clone, Debug, Default)]
pub struct ShelfScheme {
    /// The guests.
    pub shelf: Shelf,
}

impl Scheme for ShelfScheme {
    fn name(&self) -> &'static str {
        "shelf"
    }

    fn syntax(&self) -> &'static str {
        "shelf:NAME"
    }

    fn parse(&self, operand: &str, _: &Path) -> Result<String, AddressError> {
        if operand.is_empty() {
            return Err(AddressError {
                problem: "`shelf:` does not name a guest".to_owned(),
                expected: "shelf:NAME".to_owned(),
            });
        }
        Ok(operand.to_owned())
    }

    fn open(&self, operand: &str, _: &OpenOptions<'_>) -> Result<Box<dyn Driver>, Error> {
        Ok(Box::new(ShelfDriver { scheme: self.clone(), name: operand.to_owned() }))
    }

    fn is_gone(&self, operand: &str, error: &Error) -> bool {
        matches!(error, Error::Unreachable { .. }) && !self.shelf.guests().contains_key(operand)
    }
}

/// The driver of one guest.
struct ShelfDriver {
    scheme: ShelfScheme,
    name: String,
}

impl ShelfDriver {
    fn with_guest<T>(&self, then: impl FnOnce(&mut Guest) -> T) -> Result<T, Error> {
        let mut guests = self.scheme.shelf.guests();
        let guest = guests.get_mut(&self.name).ok_or_else(|| Error::Unreachable {
            domain: format!("shelf:{}", self.name),
            why: "no such guest is on the shelf".into(),
            midway: false,
        })?;
        Ok(then(guest))
    }
}

impl Driver for ShelfDriver {
    fn observe(&mut self, _: &Hardware) -> Result<Observed, Error> {
        let hardware = self.with_guest(|guest| guest.hardware.clone())?;
        let controllers = hardware.controllers().map(|it| it.name.clone());
        let devices = hardware.devices().map(|(_, it)| it.name.clone());
        let ours: BTreeSet<Name> = controllers.chain(devices).collect();
        Ok(Observed { hardware, ours, ..Observed::default() })
    }

    fn identity(&mut self) -> Option<GuestIdentity> {
        let serial = self.with_guest(|guest| guest.serial).ok()?;
        Some(GuestIdentity::new("shelf", serial))
    }

    fn capabilities(&mut self, _: Option<&Spec>) -> Result<Capabilities, Error> {
        let hypervisor = "the shelf".to_owned();
        Ok(Capabilities { hypervisor, running: true, ..Capabilities::everything() })
    }

    fn check(&mut self, _: &[Step]) -> Result<(), Error> {
        Ok(())
    }

    fn perform(&mut self, step: &Step) -> Result<(), Error> {
        let applied = self.with_guest(|guest| step.apply(&mut guest.hardware))?;
        applied.map_err(|refusal| Error::Failed {
            what: step.to_string(),
            why: refusal.to_string().into(),
        })
    }
}
