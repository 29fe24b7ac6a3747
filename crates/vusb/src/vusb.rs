//! The operations: the one thing that callers hold.

use std::path::Path;

use vusb_drivers::qemu::ArgumentOptions;
use vusb_formats::Format;
use vusb_host::Host;
use vusb_model::digest::{Digest, digest, digest_with_pci};
use vusb_model::hardware::Hardware;
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec};

use crate::convert::{self, Converted};
use crate::device_ref::DeviceRef;
use crate::domain::DomainId;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::session::Session;
use crate::state::{Settings, StateDir};
use crate::view::{AllView, DomainView, HostView, ModelsView};
use crate::wanted::Wanted;
use crate::{apply, connect, controllers, devices, listing, models};

/// USB for the virtual machines of this machine. See the library's text.
///
/// All that change something honour [`Settings::dry_run`], wait for at most [`Settings::timeout`] a step, work under the
/// domain's lock, and leave the guest as it was when they fail, or say what they could not take back.
#[derive(Clone, Debug)]
pub struct Vusb {
    pub(crate) state: StateDir,
    pub(crate) host: Host,
    pub(crate) settings: Settings,
}

impl Vusb {
    /// With these records, and the USB devices of this machine.
    pub fn new(state: StateDir, host: Host) -> Vusb {
        Vusb { state, host, settings: Settings::default() }
    }

    /// The same with other settings.
    pub fn with_settings(self, settings: Settings) -> Vusb {
        Vusb { settings, ..self }
    }

    /// The settings.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The domain that `text` means: an address, a spec, or the name of a domain that has a record.
    ///
    /// # Errors
    /// No domain is called so, or several are; or this build has no driver for it.
    pub fn domain(&self, text: &str) -> Result<DomainId, Error> {
        let folder = self.settings.folder.clone().unwrap_or_else(|| Path::new(".").to_owned());
        match DomainId::parse(text, &folder)? {
            Some(domain) => connect::canonical(self, domain),
            None => listing::named(self, text),
        }
    }

    /// Adds a controller.
    ///
    /// # Errors
    /// It cannot be, or the hypervisor did not do it.
    pub fn controller_add(
        &self,
        domain: &DomainId,
        spec: &ControllerSpec,
    ) -> Result<Outcome, Error> {
        controllers::add(self, domain, spec)
    }

    /// Removes a controller; by force with all that is on it.
    ///
    /// # Errors
    /// There is none, it has devices on it, or the hypervisor did not do it.
    pub fn controller_remove(
        &self,
        domain: &DomainId,
        controller: &ControllerRef,
    ) -> Result<Outcome, Error> {
        controllers::remove(self, domain, controller)
    }

    /// Plugs a device in; a controller is added first where it needs one.
    ///
    /// # Errors
    /// It is not there, protected, given to another domain, or does not fit; or the hypervisor did not do it.
    pub fn device_add(&self, domain: &DomainId, spec: &DeviceSpec) -> Result<Outcome, Error> {
        devices::add(self, domain, spec)
    }

    /// Pulls a device out, with all that is behind it if it is a hub and force is used. One that the guest does not have any
    /// more is forgotten. By force, one of a domain that nobody serves any more is forgotten too; never one of a hypervisor that is
    /// there and silent.
    ///
    /// # Errors
    /// There is none, or the hypervisor did not do it.
    pub fn device_remove(&self, domain: &DomainId, device: &DeviceRef) -> Result<Outcome, Error> {
        devices::remove(self, domain, device)
    }

    /// What the domain has, and what it should have and has not.
    ///
    /// # Errors
    /// The hypervisor cannot be reached, or the record is damaged.
    pub fn list(&self, domain: &DomainId) -> Result<DomainView, Error> {
        listing::list(self, domain)
    }

    /// All domains that have a record. One that cannot be reached is no error.
    ///
    /// # Errors
    /// The folder of the records cannot be read.
    pub fn list_all(&self) -> Result<AllView, Error> {
        listing::list_all(self)
    }

    /// What [`Vusb::apply`] would do: the same as in a dry run.
    ///
    /// # Errors
    /// As [`Vusb::apply`].
    pub fn plan(&self, wanted: &Wanted) -> Result<Outcome, Error> {
        let settings = Settings { dry_run: true, ..self.settings.clone() };
        apply::apply(&self.clone().with_settings(settings), wanted)
    }

    /// Makes the domain what the spec says. What vusb added earlier and the spec does not have is removed; what others
    /// made is left alone.
    ///
    /// # Errors
    /// The spec names no domain; something cannot be; or the hypervisor did not do it.
    pub fn apply(&self, wanted: &Wanted) -> Result<Outcome, Error> {
        apply::apply(self, wanted)
    }

    /// Puts back what is recorded and what the guest does not have: after a restart.
    ///
    /// # Errors
    /// As [`Vusb::apply`].
    pub fn apply_recorded(&self, domain: &DomainId) -> Result<Outcome, Error> {
        apply::apply_recorded(self, domain)
    }

    /// What the guest has at this moment; of a spec, what one has that is started with it.
    ///
    /// # Errors
    /// As [`Vusb::list`]; or the spec cannot be.
    pub fn hardware(&self, domain: &DomainId) -> Result<Hardware, Error> {
        Ok(match domain {
            DomainId::File(file, format) => {
                apply::started_with(self, &Wanted::read_as(file, *format)?)?.hardware
            }
            _ => {
                let session = Session::look(self, domain)?;
                // Rather than what was observed alone: where a controller sits may be known from its record.
                session.missing.taken_from(&session.base)
            }
        })
    }

    /// What a guest gets that is started with the spec: the steps from no USB at all. Nobody is asked, so a spec that names
    /// no domain will do.
    ///
    /// # Errors
    /// Something cannot be on any hypervisor.
    pub fn plan_start(&self, wanted: &Wanted) -> Result<Outcome, Error> {
        apply::started_with(self, wanted)
    }

    /// A hash of what the guest can see: of a domain as it is, or of a spec resolved for a guest that does not run yet.
    ///
    /// # Errors
    /// As [`Vusb::list`]; or the spec cannot be.
    pub fn digest(&self, domain: &DomainId) -> Result<Digest, Error> {
        self.hardware(domain).map(|hardware| digest(&hardware))
    }

    /// The same, with where the controllers sit on PCI as far as that is known.
    ///
    /// # Errors
    /// As [`Vusb::digest`].
    pub fn digest_with_pci(&self, domain: &DomainId) -> Result<Digest, Error> {
        self.hardware(domain).map(|hardware| digest_with_pci(&hardware))
    }

    /// The USB devices of this machine, and which domain has each.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn host_list(&self) -> Result<HostView, Error> {
        listing::host_list(self, None)
    }

    /// The USB devices that the vusb-backend of a Xen domain could lend, and which domain has each. `backend` is its name or number.
    ///
    /// # Errors
    /// There is no such domain, or no vusb-backend answers there.
    pub fn host_list_of(&self, backend: &str) -> Result<HostView, Error> {
        listing::host_list(self, Some(backend))
    }

    /// The controller models, what each is called everywhere, and what the hypervisors of this machine can do with it: the QEMU that
    /// is installed is started without a guest and asked, and so is xenstored. Neither is waited for longer than three seconds, and one that
    /// is not there or silent is no error.
    pub fn models(&self) -> ModelsView {
        models::models(self)
    }

    /// The arguments that start a QEMU with what the spec says.
    ///
    /// # Errors
    /// Something cannot be.
    pub fn qemu_args(
        &self,
        wanted: &Wanted,
        options: &ArgumentOptions,
    ) -> Result<Vec<String>, Error> {
        convert::qemu_args(self, wanted, options)
    }

    /// The same in another format, and what of it that cannot say.
    ///
    /// # Errors
    /// The file says something that cannot be.
    pub fn convert(&self, wanted: &Wanted, to: Format) -> Result<Converted, Error> {
        convert::convert(self, wanted, to)
    }
}
