//! What a program can do with a [`Context`]: one method per verb.

use std::path::Path;

use vusb_drivers::{Error as DriverError, GuestWatch, StartOptions, WatchOptions};
use vusb_model::digest::{Digest, digest, digest_with_pci};
use vusb_model::hardware::Hardware;
use vusb_model::name::Name;
use vusb_model::rules::Domain;
use vusb_model::selector::Selector;
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec};

use crate::address::DomainAddress;
use crate::assignments::{self, Assignments};
use crate::call::Call;
use crate::context::Context;
use crate::convert::StartArguments;
use crate::convert::{self, ConversionTarget, Converted};
use crate::device_list::DeviceList;
use crate::device_ref::DeviceRef;
use crate::error::Error;
use crate::guest_config::GuestConfig;
use crate::moving::Destination;
use crate::options::Options;
use crate::outcome::{Outcome, Plan};
use crate::recorded::{self, RecordedDomain};
use crate::rules::{self, EffectsView, ExplainView, Explained};
use crate::session::Open;
use crate::view::{
    AllView, AppliedAllView, DomainView, DomainsView, ExportView, GuestModelsView, HostView,
    ModelsView, RunningView,
};
use crate::{
    apply, controllers, devices, domains, listing, lookup, models, moving, restore, transfer,
};

impl Context {
    /// The domain that `text` names: an address, a config file, a recorded name, or the name that a
    /// guest without a record has in its own tool.
    ///
    /// # Errors
    /// No domain has this name, more than one has it, a hypervisor that must be asked is
    /// unreachable, or the folder of the records cannot be read.
    pub fn domain(&self, text: &str, options: &Options) -> Result<DomainAddress, Error> {
        lookup::domain(&Call::new(self, options), text)
    }

    /// Reads a config file. If the registry sets a format for all files, that is used. Otherwise
    /// the format is recognized by the file's name, or else by its content.
    ///
    /// # Errors
    /// As [`GuestConfig::read`].
    pub fn read_config(&self, path: &Path) -> Result<GuestConfig, Error> {
        match self.registry().file_format() {
            Some(format) => GuestConfig::read_as(path, format.clone()),
            None => GuestConfig::read(path, self.registry().formats()),
        }
    }

    /// Adds a controller.
    ///
    /// # Errors
    /// The domain cannot have it, or the hypervisor failed to add it.
    pub fn controller_add(
        &self,
        domain: &DomainAddress,
        spec: &ControllerSpec,
        options: &Options,
    ) -> Result<Outcome, Error> {
        controllers::add(&Call::new(self, options), domain, spec)
    }

    /// Removes a controller; with [`Options::force`] together with its devices.
    ///
    /// # Errors
    /// It does not exist, it has devices, or the hypervisor failed to remove it.
    pub fn controller_remove(
        &self,
        domain: &DomainAddress,
        controller: &ControllerRef,
        options: &Options,
    ) -> Result<Outcome, Error> {
        controllers::remove(&Call::new(self, options), domain, controller)
    }

    /// Attaches a device. A controller is added first if the device needs one.
    ///
    /// # Errors
    /// The device is absent, protected, in use, denied by a rule or claimed by another domain; no
    /// port takes it; or the hypervisor failed to attach it.
    pub fn device_add(
        &self,
        domain: &DomainAddress,
        spec: &DeviceSpec,
        options: &Options,
    ) -> Result<Outcome, Error> {
        self.device_add_all(domain, std::slice::from_ref(spec), options)
    }

    /// Attaches all of these devices, or none of them. [`Outcome::devices`] has the result of each.
    ///
    /// # Errors
    /// As [`Context::device_add`], for any of them.
    pub fn device_add_all(
        &self,
        domain: &DomainAddress,
        specs: &[DeviceSpec],
        options: &Options,
    ) -> Result<Outcome, Error> {
        devices::add(&Call::new(self, options), domain, specs)
    }

    /// Detaches a device. One that the guest no longer has is removed from the record. With
    /// [`Options::force`], a hub is detached together with the devices behind it, and a device of a
    /// guest that has ended is removed from the record. A hypervisor that does not reply is no
    /// proof that the guest has ended.
    ///
    /// # Errors
    /// The domain has no such device, or several; it is a hub with devices behind it, and
    /// [`Options::force`] is not set; or the hypervisor failed to detach it.
    pub fn device_remove(
        &self,
        domain: &DomainAddress,
        device: &DeviceRef,
        options: &Options,
    ) -> Result<Outcome, Error> {
        self.device_remove_all(domain, std::slice::from_ref(device), options)
    }

    /// Detaches all of these devices, or none of them. [`Outcome::devices`] has the result of each.
    ///
    /// # Errors
    /// As [`Context::device_remove`], for any of them.
    pub fn device_remove_all(
        &self,
        domain: &DomainAddress,
        devices: &[DeviceRef],
        options: &Options,
    ) -> Result<Outcome, Error> {
        devices::remove(&Call::new(self, options), domain, devices)
    }

    /// Moves a device to another port, with the devices behind it. If it cannot be attached there,
    /// it is attached to its old port again.
    ///
    /// # Errors
    /// The domain has no such device, or no such port; the port is in use or does not take the
    /// device; the device was created by another tool and [`Options::force`] is not set; or the
    /// hypervisor failed to detach or attach it.
    pub fn device_move(
        &self,
        domain: &DomainAddress,
        device: &DeviceRef,
        to: &Destination,
        options: &Options,
    ) -> Result<Outcome, Error> {
        moving::move_device(&Call::new(self, options), domain, device, to)
    }

    /// The domain's controllers and devices, including those that are recorded but missing. If its
    /// guest has ended, the items are those of the record.
    ///
    /// # Errors
    /// The hypervisor cannot be reached, and the guest is not known to have ended or has no record;
    /// or the record is damaged.
    pub fn list(&self, domain: &DomainAddress, options: &Options) -> Result<DomainView, Error> {
        listing::list(&Call::new(self, options), domain)
    }

    /// All domains that have a record, and the guests that run on this machine without one. An
    /// unreachable domain is not an error.
    ///
    /// # Errors
    /// The folder of the records cannot be read.
    pub fn list_all(&self, options: &Options) -> Result<AllView, Error> {
        listing::list_all(&Call::new(self, options))
    }

    /// Every recorded domain, as its record describes it. Unlike [`Context::list_all`], this asks
    /// no hypervisor and waits for nothing.
    ///
    /// # Errors
    /// The folder of the records cannot be read. A damaged record is left out.
    pub fn recorded(&self) -> Result<Vec<RecordedDomain>, Error> {
        recorded::recorded(&Call::new(self, &Options::default()))
    }

    /// The guests that run on this machine and have no record, whoever started them. No monitor of
    /// a guest is connected to.
    ///
    /// # Errors
    /// The folder of the records cannot be read.
    pub fn unrecorded(&self, options: &Options) -> Result<Vec<RunningView>, Error> {
        let call = Call::new(self, options);
        Ok(listing::unrecorded(&call, &call.records().all()?))
    }

    /// The domains that have a record, and whether their guests run.
    ///
    /// # Errors
    /// The folder of the records or that of the claims cannot be read.
    pub fn domains(&self, options: &Options) -> Result<DomainsView, Error> {
        domains::list(&Call::new(self, options))
    }

    /// Gives a domain another name. Its guest need not run if it has a record.
    ///
    /// # Errors
    /// Another domain has the name; the name has the form of an address; the domain is a config
    /// file; or there is no record, and the guest cannot be reached.
    pub fn domain_rename(
        &self,
        domain: &DomainAddress,
        name: &Name,
        options: &Options,
    ) -> Result<Outcome, Error> {
        domains::rename(&Call::new(self, options), domain, name)
    }

    /// Deletes the record of a domain and releases its claims. The guest is not changed: it keeps
    /// what vusb added. The claims on what it has stay as long as its process runs.
    ///
    /// # Errors
    /// There is no record; or, without [`Options::force`], the guest is not known to have ended.
    pub fn domain_forget(
        &self,
        domain: &DomainAddress,
        options: &Options,
    ) -> Result<Outcome, Error> {
        domains::forget(&Call::new(self, options), domain)
    }

    /// The record of a domain for another machine: [`Context::domain_import`] reads it there.
    ///
    /// # Errors
    /// There is no record, or it is damaged.
    pub fn domain_export(
        &self,
        domain: &DomainAddress,
        options: &Options,
    ) -> Result<ExportView, Error> {
        transfer::export(&Call::new(self, options), domain)
    }

    /// Imports a record that was exported on another machine. It becomes the record of `domain`, or
    /// else of the domain with the address in the file. [`Context::restore`] then attaches the
    /// items to the guest.
    ///
    /// # Errors
    /// The file is not an exported record; another domain has its name; or, without
    /// [`Options::force`], the domain has a record.
    pub fn domain_import(
        &self,
        file: &Path,
        domain: Option<&DomainAddress>,
        options: &Options,
    ) -> Result<Outcome, Error> {
        transfer::import(&Call::new(self, options), file, domain)
    }

    /// Makes the domain match the spec. Items that an earlier version of the spec had and this one
    /// lacks are removed. Items that were added by hand are kept, unless [`Options::prune`] is set;
    /// items of other tools are always kept.
    ///
    /// # Errors
    /// The spec names no domain; something in it is impossible; a device is protected, in use,
    /// denied by a rule or claimed by another domain; the domain has another name than the spec and
    /// [`Options::force`] is not set; or the hypervisor failed.
    pub fn apply(&self, spec: &GuestConfig, options: &Options) -> Result<Plan, Error> {
        apply::apply(&Call::new(self, options), spec)
    }

    /// Restores recorded items that the guest lacks, for instance after a restart. A device that
    /// cannot be attached now is listed in [`Outcome::not_restored`], and the others are restored.
    ///
    /// # Errors
    /// As [`Context::apply`].
    pub fn restore(&self, domain: &DomainAddress, options: &Options) -> Result<Outcome, Error> {
        restore::restore(&Call::new(self, options), domain, &|_| true)
    }

    /// As [`Context::restore`], but restores only the recorded controllers, and the devices whose
    /// names `wanted` accepts.
    ///
    /// # Errors
    /// As [`Context::apply`].
    pub fn restore_devices(
        &self,
        domain: &DomainAddress,
        wanted: &dyn Fn(&Name) -> bool,
        options: &Options,
    ) -> Result<Outcome, Error> {
        restore::restore(&Call::new(self, options), domain, wanted)
    }

    /// The domains that have a record, and the devices that they were given. `devices` are those
    /// that are plugged into this machine. No hypervisor is asked.
    ///
    /// # Errors
    /// The folder of the records cannot be read.
    pub fn assignments(
        &self,
        devices: &DeviceList,
        options: &Options,
    ) -> Result<Assignments, Error> {
        assignments::assignments(&Call::new(self, options), devices)
    }

    /// Restores every record whose guest runs. One that fails does not stop the others.
    ///
    /// # Errors
    /// The folder of the records cannot be read.
    pub fn restore_all(&self, options: &Options) -> Result<AppliedAllView, Error> {
        restore::restore_all(&Call::new(self, options))
    }

    /// Takes the host devices that vusb manages out of the guest, for a snapshot or a migration.
    /// They keep their places, and no other domain gets them. They stay out until
    /// [`Context::resume`].
    ///
    /// # Errors
    /// The guest cannot be reached, or does not release a device. It then keeps all of them.
    pub fn suspend(&self, domain: &DomainAddress, options: &Options) -> Result<Outcome, Error> {
        restore::suspend(&Call::new(self, options), domain)
    }

    /// Puts the host devices of a suspended domain back at their places, and restores all other
    /// recorded items as [`Context::restore`] does. Does nothing if the domain is not suspended.
    ///
    /// # Errors
    /// As [`Context::restore`].
    pub fn resume(&self, domain: &DomainAddress, options: &Options) -> Result<Outcome, Error> {
        restore::resume(&Call::new(self, options), domain)
    }

    /// The hardware of a guest that is started with this config. No hypervisor is asked.
    ///
    /// # Errors
    /// Something in it is impossible on every hypervisor.
    pub fn plan_start(&self, config: &GuestConfig, options: &Options) -> Result<Plan, Error> {
        apply::plan_start(&Call::new(self, options), config)
    }

    /// The guest's present hardware; for a config file, the hardware of a guest that is started
    /// with it.
    ///
    /// # Errors
    /// The guest has ended or cannot be reached; the record is damaged; or the config file cannot
    /// be read or asks for something impossible.
    pub fn hardware(&self, domain: &DomainAddress, options: &Options) -> Result<Hardware, Error> {
        let call = Call::new(self, options);
        if !domain.has_record() {
            let config = self.read_config(Path::new(domain.operand()))?;
            return Ok(apply::plan_start(&call, &config)?.outcome.hardware);
        }
        // The observation alone is not enough: a PCI address may be known only from the record.
        Ok(Open::look(&call, domain)?.inventory().present())
    }

    /// The configuration of a guest with the hardware that the domain has or should have. For a
    /// domain that cannot be reached, that is the recorded hardware. For a config file, it is the
    /// file's own configuration.
    ///
    /// # Errors
    /// As [`Context::list`], if nothing is recorded.
    pub fn config_of(
        &self,
        domain: &DomainAddress,
        options: &Options,
    ) -> Result<GuestConfig, Error> {
        if !domain.has_record() {
            return self.read_config(Path::new(domain.operand()));
        }
        listing::config_of(&Call::new(self, options), domain)
    }

    /// A hash of all hardware that the guest can see; the domain may be a config file, as in
    /// [`Context::hardware`]. With `pci` it includes the PCI addresses of controllers, as far as
    /// they are known.
    ///
    /// # Errors
    /// As [`Context::hardware`].
    pub fn digest(
        &self,
        domain: &DomainAddress,
        pci: bool,
        options: &Options,
    ) -> Result<Digest, Error> {
        let hardware = self.hardware(domain, options)?;
        Ok(if pci { digest_with_pci(&hardware) } else { digest(&hardware) })
    }

    /// The USB devices of this machine, or of the backend domain `backend`, and their holders.
    ///
    /// # Errors
    /// The devices cannot be read; no registered hypervisor has backend domains; or there is no
    /// such domain.
    pub fn host_list(&self, backend: Option<&str>, options: &Options) -> Result<HostView, Error> {
        listing::host_list(&Call::new(self, options), backend)
    }

    /// The domains that rules can name: those that have a record, and the guests that run without
    /// one. Domains that share a name are named by their addresses. Records that cannot be read are
    /// left out.
    ///
    /// # Errors
    /// The folder of the records cannot be read.
    pub fn named_domains(&self, options: &Options) -> Result<Vec<Domain>, Error> {
        let call = Call::new(self, options);
        let records: Vec<_> = call.records().all()?.into_iter().flatten().collect();
        Ok(rules::named_domains(&call, &records))
    }

    /// What the rules mean for a device, and why; for `domain` alone if one is specified. The
    /// device need not be plugged in, and the domain need not exist.
    ///
    /// # Errors
    /// A rule file has a mistake; several devices match; no device matches, and the selector is an
    /// address or a pattern; or the records or devices cannot be read.
    pub fn explain(
        &self,
        explained: &Explained,
        domain: Option<&str>,
        options: &Options,
    ) -> Result<ExplainView, Error> {
        let rules = self.rules()?.set;
        rules::explain(&Call::new(self, options), &rules, explained, domain)
    }

    /// What the rules mean for each device of this machine that is not a hub.
    ///
    /// # Errors
    /// A rule file has a mistake; or the records or devices cannot be read.
    pub fn effects(&self, options: &Options) -> Result<EffectsView, Error> {
        let rules = self.rules()?.set;
        rules::effects(&Call::new(self, options), &rules)
    }

    /// The host device that a node in `/dev` belongs to, such as `/dev/sdb` or `/dev/ttyUSB0`, as a
    /// selector that is valid until the device is unplugged. `/dev/bus/usb/001/004` needs no such
    /// lookup: it is a selector itself.
    ///
    /// # Errors
    /// There is no such node; it belongs to no USB device; or the devices cannot be read.
    pub fn device_of_node(&self, path: &Path) -> Result<Selector, Error> {
        Ok(Selector::Address(self.host().device_of_node(path)?.bus_address))
    }

    /// The host device that a name in a hypervisor's own tool stands for, such as `mapping:zigbee`
    /// in a Proxmox VE cluster.
    ///
    /// # Errors
    /// No hypervisor of this machine has such names; or the one that does lacks this name.
    pub fn device_of_name(&self, text: &str) -> Result<Selector, Error> {
        let mut schemes = self.registry().schemes();
        match schemes.find_map(|it| it.named_host_device(text, self.host())) {
            Some(named) => Ok(named?),
            None => Err(Error::Driver(DriverError::Missing {
                what: text.to_owned(),
                why: "no hypervisor of this machine has such names".into(),
            })),
        }
    }

    /// The controller models, and what this machine's hypervisors can do with each.
    pub fn models(&self, options: &Options) -> ModelsView {
        models::models(&Call::new(self, options))
    }

    /// The controller models and kinds of devices that a domain can be given, now and at its next
    /// start.
    ///
    /// # Errors
    /// The domain cannot be observed.
    pub fn models_of(
        &self,
        domain: &DomainAddress,
        options: &Options,
    ) -> Result<GuestModelsView, Error> {
        models::of_guest(&Call::new(self, options), domain)
    }

    /// The same guest in another format, or with the nearest hardware that the format can express.
    ///
    /// # Errors
    /// Something in the config is impossible on every hypervisor; or the format's tool starts no
    /// guests on the hypervisor.
    pub fn convert(
        &self,
        config: &GuestConfig,
        to: &ConversionTarget,
        options: &Options,
    ) -> Result<Converted, Error> {
        convert::convert(&Call::new(self, options), config, to)
    }

    /// The command line arguments with which a hypervisor starts a guest with this config. The
    /// hypervisor is that of `scheme`, or of the first registered scheme whose guests are started
    /// with arguments. A host device that is not plugged in is left out, with a note, unless
    /// [`StartOptions::strict`] is set or the config's own tool requires it.
    ///
    /// # Errors
    /// Something in it is impossible; a device is not free, and [`Options::force`] is not set or
    /// does not help; or guests of this scheme are not started that way.
    pub fn start_arguments(
        &self,
        scheme: Option<&str>,
        config: &GuestConfig,
        start: &StartOptions,
        options: &Options,
    ) -> Result<StartArguments, Error> {
        convert::start_arguments(&Call::new(self, options), scheme, config, start)
    }

    /// Watches for guests of `scheme` that start and end. Guests are not disturbed.
    ///
    /// # Errors
    /// [`Error::NotWatchable`]: there is no such scheme; its guests cannot be watched; it needs
    /// folders and `options` has none; or `options` has folders and it does not use any. Or the
    /// hypervisor or a folder cannot be watched.
    pub fn watch(
        &self,
        scheme: &str,
        options: &WatchOptions,
    ) -> Result<Box<dyn GuestWatch>, Error> {
        let missing = || Error::NotWatchable { scheme: scheme.to_owned() };
        let driver = self.registry().scheme(scheme).ok_or_else(missing)?;
        driver.watch(options)?.ok_or_else(missing)
    }
}
