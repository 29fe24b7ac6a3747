//! The address scheme `libvirt:NAME`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vusb_formats::libvirt;
use vusb_libvirt::{Client, Deadline, Domain, Error as LibvirtError, Uri, XmlKind};

use super::address::{Key, Target};
use super::{LibvirtDomain, identity};
use crate::driver::{Driver, Error};
use crate::identity::GuestIdentity;
use crate::limits::Limits;
use crate::locations::Locations;
use crate::qemu::running_qemus;
use crate::scheme::{
    AddressError, ConfiguredGuest, GuestOwner, GuestWatch, OpenOptions, RunningGuest, Scheme,
    WatchOptions, When,
};

/// The domains of this machine's libvirt.
#[derive(Clone, Debug)]
pub struct LibvirtScheme {
    locations: Locations,
    /// The last connection of [`Scheme::canonical`], for the driver that is opened next.
    idle: Arc<Mutex<Option<(Uri, Client)>>>,
}

impl LibvirtScheme {
    /// The libvirt at these locations.
    pub fn new(locations: Locations) -> LibvirtScheme {
        LibvirtScheme { locations, idle: Arc::default() }
    }

    /// The sockets of a connection. Those of the system are below the root of this machine.
    pub(super) fn sockets(&self, uri: &Uri) -> Vec<PathBuf> {
        let root = self.locations.host.root();
        let below = |path: PathBuf| match path.strip_prefix("/") {
            Ok(rest) if !uri.is_session() && !uri.has_socket() => root.join(rest),
            _ => path,
        };
        let sockets = uri.sockets(self.locations.runtime.as_deref());
        sockets.into_iter().map(below).collect()
    }

    fn domain(&self, operand: &str, limits: &Limits) -> Result<LibvirtDomain, Error> {
        let target = Target::parse(operand).map_err(|error| Error::Missing {
            what: operand.to_owned(),
            why: error.to_string().into(),
        })?;
        Ok(LibvirtDomain {
            sockets: self.sockets(&target.uri),
            target,
            limits: limits.clone(),
            when: When::default(),
            host: self.locations.host.clone(),
            client: None,
            observation: None,
            is_changed: false,
            removed: Vec::new(),
        })
    }

    /// The domains of a connection that run. Empty if there is no daemon.
    fn running_on(&self, uri: &Uri, deadline: Deadline) -> Result<Vec<RunningGuest>, LibvirtError> {
        let mut client = match Client::connect(uri, &self.sockets(uri), deadline) {
            Ok(client) => client,
            Err(LibvirtError::NoSocket { .. } | LibvirtError::Refused { .. }) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let domains = client.domains(deadline)?.into_iter();
        Ok(domains.filter(|it| it.id >= 0).map(|domain| guest(uri, &domain)).collect())
    }

    /// The domains of a connection that run, with the devices of this machine that their XML names.
    /// Empty if there is no daemon.
    fn holders_on(&self, uri: &Uri, deadline: Deadline) -> Result<Vec<RunningGuest>, LibvirtError> {
        let sockets = self.sockets(uri);
        let is_root = rustix::process::geteuid().is_root();
        // For a read-only connection, a user is not asked for a password.
        let connected = match is_root || uri.is_session() {
            true => Client::connect(uri, &sockets, deadline),
            false => Client::connect_read_only(uri, &sockets, deadline),
        };
        let mut client = match connected {
            Ok(client) => client,
            Err(LibvirtError::NoSocket { .. } | LibvirtError::Refused { .. }) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let mut holders = Vec::new();
        for domain in client.domains(deadline)?.into_iter().filter(|it| it.id >= 0) {
            let text = match client.xml(&domain, XmlKind::Live, deadline) {
                Ok(text) => text,
                // It has just ended.
                Err(LibvirtError::Remote(_)) => continue,
                Err(error) => return Err(error),
            };
            let passed = libvirt::passed_through(&text);
            let owner = match uri.is_session() {
                true => GuestOwner::User(rustix::process::geteuid().as_raw()),
                false => GuestOwner::System,
            };
            let guest = guest(uri, &domain);
            holders.push(RunningGuest {
                identity: match uri.is_xen() {
                    true => Some(GuestIdentity::new("xen", domain.uuid)),
                    false => guest.identity,
                },
                // libvirt's ID of a domain is not the ID of its process.
                process: 0,
                host_devices: passed.host_devices,
                disks: passed.disks.into_iter().map(PathBuf::from).collect(),
                owner,
                ..guest
            });
        }
        Ok(holders)
    }
}

/// A domain that runs, without the devices of this machine that it has.
fn guest(uri: &Uri, domain: &Domain) -> RunningGuest {
    let by_name = Target { uri: uri.clone(), key: Key::Name(domain.name.clone()) };
    let operand = by_name.to_string();
    // A name that could be read as something else is replaced by the UUID.
    let is_clear = Target::parse(&operand).is_ok_and(|it| it == by_name);
    let operand = if is_clear { operand } else { by_name.with_uuid(domain.uuid).to_string() };
    RunningGuest {
        operand: Some(operand),
        name: Some(domain.name.clone()),
        manager: Some(MANAGER),
        identity: Some(identity(domain)),
        uuid: Some(domain.uuid.to_string()),
        process: u32::try_from(domain.id).unwrap_or_default(),
        host_devices: Vec::new(),
        disks: Vec::new(),
        owner: GuestOwner::Unknown,
    }
}

/// The tool that has started these domains.
const MANAGER: &str = "libvirt";

impl Scheme for LibvirtScheme {
    fn name(&self) -> &'static str {
        "libvirt"
    }

    fn syntax(&self) -> &'static str {
        "libvirt:NAME"
    }

    fn parse(&self, operand: &str, _: &Path) -> Result<String, AddressError> {
        Target::parse(operand).map(|target| target.to_string())
    }

    /// A domain is known by its UUID, which it keeps when it is renamed.
    fn canonical(&self, operand: &str, limits: &Limits) -> Result<String, Error> {
        let mut domain = self.domain(operand, limits)?;
        if matches!(domain.target.key, Key::Uuid(_)) {
            return Ok(operand.to_owned());
        }
        let uuid = domain.look_up()?.uuid;
        let idle = domain.client.take().map(|client| (domain.target.uri.clone(), client));
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = idle;
        Ok(domain.target.with_uuid(uuid).to_string())
    }

    fn open(&self, operand: &str, options: &OpenOptions<'_>) -> Result<Box<dyn Driver>, Error> {
        let domain = self.domain(operand, &options.limits)?;
        let (when, host) = (options.when, options.host.clone());
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let client = idle.filter(|(uri, _)| *uri == domain.target.uri).map(|(_, client)| client);
        Ok(Box::new(LibvirtDomain { when, host, client, ..domain }))
    }

    /// libvirt knows which domains exist. While it cannot be reached, no guest counts as gone.
    fn is_gone(&self, _: &str, error: &Error) -> bool {
        matches!(error, Error::Missing { .. })
    }

    fn stores_configurations(&self) -> bool {
        true
    }

    /// The domains of the system, and those of this user's session. `None` on a machine without
    /// libvirt, or if `options` name folders.
    fn watch(&self, options: &WatchOptions) -> Result<Option<Box<dyn GuestWatch>>, Error> {
        if !options.folders.is_empty() {
            return Ok(None);
        }
        let has_folder = |uri: &Uri| {
            self.sockets(uri).iter().filter_map(|it| it.parent()).any(std::path::Path::is_dir)
        };
        let uris: Vec<Uri> =
            [Uri::QEMU_SYSTEM, Uri::QEMU_SESSION].into_iter().filter(has_folder).collect();
        if uris.is_empty() {
            return Ok(None);
        }
        super::watch::watch(self, uris, options).map(Some)
    }

    /// The domains of the system, and those of this user's session.
    fn running(&self, _: &Path, limit: Duration) -> Result<Vec<RunningGuest>, Error> {
        let deadline = Deadline::after(limit);
        let mut all = Vec::new();
        for uri in [Uri::QEMU_SYSTEM, Uri::QEMU_SESSION] {
            match self.running_on(&uri, deadline) {
                Ok(guests) => all.extend(guests),
                // The domains of the other connection can still be listed.
                Err(error) => tracing::warn!(%uri, %error, "cannot list the domains"),
            }
        }
        Ok(all)
    }

    /// The domains of the system, of its Xen, and of this user's session, with the devices of this
    /// machine that their XML names.
    fn named_by_configurations(
        &self,
        root: &Path,
        limit: Duration,
    ) -> Result<Vec<ConfiguredGuest>, Error> {
        let deadline = Deadline::after(limit);
        let mut all = Vec::new();
        for uri in [Uri::QEMU_SYSTEM, Uri::XEN_SYSTEM, Uri::QEMU_SESSION] {
            match self.holders_on(&uri, deadline) {
                Ok(guests) => all.extend(guests),
                // A libvirt without Xen refuses the connection.
                Err(LibvirtError::Remote(_)) if uri.is_xen() => {}
                Err(error) => tracing::warn!(%uri, %error, "cannot read the domains' devices"),
            }
        }
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let processes = running_qemus(root, |_| false);
        let with_process = |guest: RunningGuest| {
            // Any user can start a process with the UUID of a domain.
            let is_trusted =
                |owner: GuestOwner| owner == GuestOwner::System || owner == guest.owner;
            let is_of_guest = |it: &&RunningGuest| {
                it.manager == Some(MANAGER) && it.uuid == guest.uuid && is_trusted(it.owner)
            };
            let process = processes.iter().find(is_of_guest).map_or(0, |it| it.process);
            ConfiguredGuest { guest: RunningGuest { process, ..guest }, is_complete: true }
        };
        Ok(all.into_iter().map(with_process).collect())
    }
}
