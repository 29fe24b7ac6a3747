//! A libvirt domain, over its daemon's RPC protocol.
//!
//! ```text
//!   observe   name or UUID ──lookup──▶ domain ──▶ XML of the running guest ┐
//!                                            └──▶ stored XML ──────────────┴─▶ Observed
//!
//!   check     steps ──▶ can libvirt do each of them, on the running guest or at the next start?
//!
//!   plug      element ──attach──▶ running guest and stored XML
//!   unplug    stored XML: detach; running guest: detach by alias ──▶ event ──▶ gone from its XML
//!   the rest  stored XML ──edit──▶ define
//! ```
//!
//! The guest is observed by its XML only. A query to QEMU's monitor would mark the domain as
//! tainted, and a guest that was saved with devices unknown to libvirt cannot be restored.
//!
//! A domain may run, and may be stored. What is changed follows from that and from [`When`]:
//!
//! | | running and stored | running only | stored only |
//! |---|---|---|---|
//! | [`When::NowAndNext`] | both | the guest | the stored XML |
//! | [`When::Now`] | the guest | the guest | refused |
//! | [`When::Next`] | the stored XML | refused | the stored XML |
//!
//! libvirt attaches to a running guest host devices, disks, inputs, serial adapters, network cards
//! and redirected devices; controllers and everything else only at its start. The name of an item
//! that vusb creates is its alias, after `ua-vusb-`.

mod act;
mod address;
mod configuration;
mod observe;
mod refusal;
mod scheme;
mod watch;

use vusb_formats::{ConfigFormat as _, HostNaming, Libvirt as LibvirtFormat};
use vusb_host::Host;
use vusb_libvirt::{Client, Deadline, Domain, Error as LibvirtError, XmlKind};
use vusb_model::capabilities::{Capabilities, KINDS, Support};
use vusb_model::device::{Kind, Media};
use vusb_model::diff::Step;
use vusb_model::hardware::{Device, Hardware};
use vusb_model::models::Model;
use vusb_model::profile::Profile;
use vusb_model::remedy::{Reason, Remedy};
use vusb_model::spec::Spec;

use self::act::Removed;
use self::address::{Key, Target};
use self::configuration::Configuration;
use self::observe::LastObservation;
use self::refusal::{Failure, Subject};
pub use self::scheme::LibvirtScheme;
use crate::driver::{Driver, Error, Observed};
use crate::identity::GuestIdentity;
use crate::limits::Limits;
use crate::scheme::When;

/// Why a controller is not added to a running guest, nor removed from it.
const NO_HOT_CONTROLLER: &str = "libvirt does not hot-plug USB controllers";
/// Why a device of most kinds is not added to a running guest, nor removed from it.
const NO_HOT_DEVICE: &str = "libvirt does not hot-plug USB devices of this kind";

/// The first version of libvirt that has CD drives on USB: 11.5.0.
const CDROM_VERSION: u64 = 11_005_000;

/// A libvirt domain.
#[derive(Debug)]
pub(crate) struct LibvirtDomain {
    target: Target,
    sockets: Vec<std::path::PathBuf>,
    limits: Limits,
    when: When,
    host: Host,
    /// The connection; `None` after it was lost, and before the first call unless
    /// [`LibvirtScheme`] had one.
    client: Option<Client>,
    observation: Option<LastObservation>,
    /// Whether a step was taken since the last observation.
    is_changed: bool,
    /// The devices that were removed, so that a rollback can attach them again as they were.
    removed: Vec<Removed>,
}

/// Whether libvirt attaches devices of this kind to a running guest.
fn is_hot(kind: &str) -> bool {
    matches!(
        kind,
        "host" | "storage" | "tablet" | "mouse" | "keyboard" | "serial" | "net" | "redir" | "other"
    )
}

impl LibvirtDomain {
    /// The domain's address, for messages.
    fn domain(&self) -> String {
        format!("libvirt:{}", self.target)
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.limits.next_wait())
    }

    /// Calls libvirt. A connection that was lost is opened again: by this call, if it changes
    /// nothing and the connection was used before, and otherwise by the next call.
    fn call<T>(
        &mut self,
        doing: &str,
        subject: Subject,
        changes: bool,
        call: impl Fn(&mut Client, Deadline) -> Result<T, LibvirtError>,
    ) -> Result<T, Error> {
        let deadline = self.deadline();
        let mut may_retry = self.client.is_some() && !changes;
        loop {
            let connected = match self.client.take() {
                Some(client) => Ok(client),
                None => Client::connect(&self.target.uri, &self.sockets, deadline),
            };
            let domain = self.domain();
            let failure = |changes| {
                let limits = &self.limits;
                Failure { domain: &domain, doing, subject, changes, limits }
            };
            let mut client = connected.map_err(|error| failure(false).error(error))?;
            let result = call(&mut client, deadline);
            let is_lost = result.as_ref().is_err_and(LibvirtError::is_lost);
            if is_lost && may_retry {
                may_retry = false;
                continue;
            }
            let result = result.map_err(|error| failure(changes).error(error));
            if !is_lost {
                self.client = Some(client);
            }
            return result;
        }
    }

    fn look_up(&mut self) -> Result<Domain, Error> {
        let key = self.target.key.clone();
        let what = format!("finding {}", self.domain());
        self.call(&what, Subject::Domain, false, |client, deadline| match &key {
            Key::Name(name) => client.domain_by_name(name, deadline),
            Key::Uuid(uuid) => client.domain_by_uuid(*uuid, deadline),
        })
    }

    /// Reads one of the domain's two configurations.
    fn configuration(&mut self, domain: &Domain, kind: XmlKind) -> Result<Configuration, Error> {
        let what = format!("reading the configuration of {}", self.domain());
        let text = self.call(&what, Subject::Domain, false, |client, deadline| {
            client.xml(domain, kind, deadline)
        })?;
        Configuration::parse(text, kind == XmlKind::Live, &self.domain())
    }

    fn observation(&self) -> Result<&LastObservation, Error> {
        self.observation.as_ref().ok_or_else(|| Error::Confused {
            domain: self.domain(),
            why: "it has not been observed yet".into(),
        })
    }

    /// The configuration that describes the guest: that of the running guest if it runs.
    fn primary(&self) -> Result<&Configuration, Error> {
        let observation = self.observation()?;
        observation.live.as_ref().or(observation.stored.as_ref()).ok_or_else(|| Error::Confused {
            domain: self.domain(),
            why: "it neither runs nor is stored".into(),
        })
    }

    /// Whether a step that adds something affects the running guest, and the stored XML.
    fn affected(&self) -> Result<(bool, bool), Error> {
        let observation = self.observation()?;
        Ok((
            observation.live.is_some() && self.when != When::Next,
            observation.stored.is_some() && self.when != When::Now,
        ))
    }

    /// Whether this step affects the running guest, and the stored XML. As
    /// [`LibvirtDomain::affected`], but a step that removes an item only affects the configurations
    /// that contain the item.
    fn affected_by(&self, step: &Step) -> Result<(bool, bool), Error> {
        let (live, stored) = self.affected()?;
        let observation = self.observation()?;
        Ok(match step {
            Step::Unplug(at, _) => (
                live && !observation.not_live.contains(at),
                stored && observation.in_stored.contains(at),
            ),
            Step::RemoveController(it) => {
                let is_stored = |configuration: &Configuration| {
                    configuration.hardware.controller(it.index).is_some()
                };
                (
                    live && !observation.controllers_not_live.contains(&it.index),
                    stored && observation.stored.as_ref().is_some_and(is_stored),
                )
            }
            Step::AddController(_) | Step::Plug(..) => (live, stored),
        })
    }

    fn check_step(&self, step: &Step) -> Result<(), Error> {
        let (live, stored) = self.affected_by(step)?;
        let observation = self.observation()?;
        let refuse = |why: Reason| {
            let (what, by) = (step.to_string(), "libvirt".to_owned());
            Err(Error::NotImplemented { what, by, why })
        };
        if !live && !stored {
            return match (self.when, &observation.live, &observation.stored) {
                (When::Now, None, _) => Err(Error::Unreachable {
                    domain: self.domain(),
                    why: "it does not run".into(),
                    midway: false,
                }),
                (When::Next, _, None) => {
                    refuse("the domain is transient: it has no stored configuration".into())
                }
                (When::Now, ..) => refuse("the running guest does not have it".into()),
                _ => refuse("the stored configuration does not have it".into()),
            };
        }
        let cold = match step {
            Step::AddController(_) | Step::RemoveController(_) => {
                Some(NO_HOT_CONTROLLER.to_owned())
            }
            Step::Plug(at, _) if observation.controllers_not_live.contains(&at.bus) => {
                Some("the guest does not have the controller before its next start".to_owned())
            }
            Step::Plug(_, device) | Step::Unplug(_, device) => {
                (!is_hot(device.kind.name())).then(|| NO_HOT_DEVICE.to_owned())
            }
        };
        match cold.filter(|_| live) {
            Some(why) if observation.stored.is_some() => {
                refuse(Reason::from(why).remedy(Remedy::NextStart))
            }
            Some(why) => refuse(why.into()),
            None => self.check_expressible(step),
        }
    }
}

impl Driver for LibvirtDomain {
    fn observe(&mut self, recorded: &Hardware) -> Result<Observed, Error> {
        let domain = self.look_up()?;
        let what = format!("asking whether {} is stored", self.domain());
        let is_stored = self.call(&what, Subject::Domain, false, |client, deadline| {
            client.is_persistent(&domain, deadline)
        })?;
        let runs = domain.id >= 0;
        let live = if runs { Some(self.configuration(&domain, XmlKind::Live)?) } else { None };
        let stored =
            if is_stored { Some(self.configuration(&domain, XmlKind::Inactive)?) } else { None };
        let (observation, observed) = LastObservation::new(domain, live, stored, recorded);
        (self.observation, self.is_changed) = (Some(observation), false);
        Ok(observed)
    }

    /// With a spec, assumes support: [`Driver::check`] knows the steps and checks what they need.
    fn capabilities(&mut self, needed: Option<&Spec>) -> Result<Capabilities, Error> {
        let guest = &self.primary()?.config.guest;
        let mut capabilities = LibvirtFormat.capabilities(guest);
        capabilities.running = self.observation()?.live.is_some() && self.when != When::Next;
        if needed.is_none() {
            let cold = |why: &str| Support::Cold { why: why.to_owned() };
            for model in Model::ALL {
                if capabilities.check_model(model).is_ok() {
                    capabilities.models.insert(model, cold(NO_HOT_CONTROLLER));
                }
            }
            for kind in KINDS.into_iter().filter(|kind| !is_hot(kind)) {
                capabilities.kinds.insert(kind, cold(NO_HOT_DEVICE));
            }
        }
        Ok(capabilities)
    }

    fn check(&mut self, steps: &[Step]) -> Result<(), Error> {
        steps.iter().try_for_each(|step| self.check_step(step))?;
        let is_cdrom = |step: &&Step| match step {
            Step::Plug(_, Device { kind: Kind::Storage(it), .. }) => it.media == Media::Cdrom,
            _ => false,
        };
        let Some(step) = steps.iter().find(is_cdrom) else { return Ok(()) };
        let version = self.call(
            "asking for libvirt's version",
            Subject::Domain,
            false,
            |client, deadline| client.version(deadline),
        )?;
        if version >= CDROM_VERSION {
            return Ok(());
        }
        let (what, by) = (step.to_string(), "libvirt".to_owned());
        let why = "libvirt before 11.5 makes a CD drive on USB a disk".into();
        Err(Error::NotImplemented { what, by, why })
    }

    /// Observes again if earlier steps were taken: they may have changed the elements that this
    /// step is about, and which disk names are free.
    fn perform(&mut self, step: &Step) -> Result<(), Error> {
        if self.is_changed {
            self.observe(&Hardware::new())?;
        }
        self.take(step)
    }

    fn profile(&self) -> Option<Profile> {
        Some(Profile::Libvirt)
    }

    fn guest_name(&self) -> Option<String> {
        Some(self.observation.as_ref()?.domain.name.clone())
    }

    fn identity(&mut self) -> Option<GuestIdentity> {
        Some(identity(&self.observation.as_ref()?.domain))
    }

    fn host_naming(&self) -> HostNaming {
        HostNaming::Durable
    }
}

/// The identity of a domain: its UUID stays, whatever its name is and however often it starts.
fn identity(domain: &Domain) -> GuestIdentity {
    GuestIdentity::new("libvirt", domain.uuid)
}

/// What a step is about, to interpret libvirt's errors.
const fn subject(step: &Step) -> Subject {
    match step {
        Step::Plug(_, device) | Step::Unplug(_, device) => match &device.kind {
            Kind::Host(_) => Subject::Host,
            Kind::Storage(_) => Subject::Storage,
            _ => Subject::Other,
        },
        Step::AddController(_) | Step::RemoveController(_) => Subject::Other,
    }
}
