//! The numbers of libvirt's protocol, and what its messages contain.
//!
//! Sources, all of libvirt 11.3: `src/remote/remote_protocol.x` (procedures and their arguments),
//! `src/rpc/virkeepaliveprotocol.x`, `include/libvirt/virterror.h` (errors),
//! `include/libvirt/libvirt-domain.h` (states, flags, events). Numbers are never reused.

use std::fmt;

use crate::codec::DecodeError;
use crate::xdr::{Reader, Writer};

/// The main program.
pub const REMOTE: u32 = 0x2000_8086;
/// The program by which each side notices that its peer is dead.
pub const KEEPALIVE: u32 = 0x6b65_6570;

/// Procedures of [`REMOTE`].
pub mod procedure {
    /// Opens the connection to a hypervisor.
    pub const CONNECT_OPEN: i32 = 1;
    /// Stores a configuration.
    pub const DOMAIN_DEFINE_XML: i32 = 11;
    /// Returns the XML of a domain.
    pub const DOMAIN_GET_XML_DESC: i32 = 14;
    /// Finds a domain by its name.
    pub const DOMAIN_LOOKUP_BY_NAME: i32 = 23;
    /// Finds a domain by its UUID.
    pub const DOMAIN_LOOKUP_BY_UUID: i32 = 24;
    /// Whether the daemon has a feature.
    pub const CONNECT_SUPPORTS_FEATURE: i32 = 60;
    /// How the client may authenticate.
    pub const AUTH_LIST: i32 = 66;
    /// Asks polkit about the client's process.
    pub const AUTH_POLKIT: i32 = 70;
    /// Whether a domain has a stored configuration.
    pub const DOMAIN_IS_PERSISTENT: i32 = 151;
    /// The daemon's version.
    pub const CONNECT_GET_LIB_VERSION: i32 = 157;
    /// Attaches a device.
    pub const DOMAIN_ATTACH_DEVICE_FLAGS: i32 = 160;
    /// Detaches the device that the given XML describes.
    pub const DOMAIN_DETACH_DEVICE_FLAGS: i32 = 161;
    /// The state of a domain.
    pub const DOMAIN_GET_STATE: i32 = 212;
    /// All domains.
    pub const CONNECT_LIST_ALL_DOMAINS: i32 = 273;
    /// Registers for one kind of event.
    pub const CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY: i32 = 316;
    /// Event: a domain has started, stopped, ...
    pub const DOMAIN_EVENT_CALLBACK_LIFECYCLE: i32 = 318;
    /// Event: a device is gone.
    pub const DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED: i32 = 333;
    /// Event: a device was added.
    pub const DOMAIN_EVENT_CALLBACK_DEVICE_ADDED: i32 = 354;
    /// Event: the daemon has lost its own connection to the hypervisor.
    pub const CONNECT_EVENT_CONNECTION_CLOSED: i32 = 362;
    /// Event: the guest did not release a device.
    pub const DOMAIN_EVENT_CALLBACK_DEVICE_REMOVAL_FAILED: i32 = 367;
    /// Detaches the device with the given alias, without waiting for the guest.
    pub const DOMAIN_DETACH_DEVICE_ALIAS: i32 = 392;
}

/// Procedures of [`KEEPALIVE`].
pub mod keepalive {
    /// Asks whether the peer is alive.
    pub const PING: i32 = 1;
    /// The reply.
    pub const PONG: i32 = 2;
}

/// The number of the feature "keepalive protocol". Asking whether the daemon has it turns it on.
pub const FEATURE_KEEPALIVE: i32 = 10;

/// How a client authenticates.
pub mod auth {
    /// Without authentication.
    pub const NONE: i32 = 0;
    /// By a password or a ticket.
    pub const SASL: i32 = 1;
    /// By the rules of polkit for the client's process.
    pub const POLKIT: i32 = 2;
}

/// Codes of [`RemoteError`] (`virErrorNumber`).
pub mod code {
    /// An error inside libvirt or QEMU.
    pub const INTERNAL: i32 = 1;
    /// The hypervisor's driver does not have the function.
    pub const NO_SUPPORT: i32 = 3;
    /// An argument is invalid.
    pub const INVALID_ARG: i32 = 8;
    /// An operation failed: QEMU or the guest refused.
    pub const OPERATION_FAILED: i32 = 9;
    /// The XML is invalid.
    pub const XML_ERROR: i32 = 27;
    /// The connection is read-only.
    pub const OPERATION_DENIED: i32 = 29;
    /// A system call failed.
    pub const SYSTEM_ERROR: i32 = 38;
    /// An error of the protocol.
    pub const RPC: i32 = 39;
    /// There is no such domain.
    pub const NO_DOMAIN: i32 = 42;
    /// Authentication failed.
    pub const AUTH_FAILED: i32 = 45;
    /// There is no such device of the host.
    pub const NO_NODE_DEVICE: i32 = 53;
    /// Not possible in this state: the domain does not run, or the host device is in use.
    pub const OPERATION_INVALID: i32 = 55;
    /// The configuration is not supported.
    pub const CONFIG_UNSUPPORTED: i32 = 67;
    /// Another operation on the domain did not end in time.
    pub const OPERATION_TIMEOUT: i32 = 68;
    /// An argument is not supported.
    pub const ARGUMENT_UNSUPPORTED: i32 = 74;
    /// The user has cancelled the authentication.
    pub const AUTH_CANCELLED: i32 = 79;
    /// The operation is not supported.
    pub const OPERATION_UNSUPPORTED: i32 = 84;
    /// Something is in use.
    pub const RESOURCE_BUSY: i32 = 87;
    /// Access was denied.
    pub const ACCESS_DENIED: i32 = 88;
    /// No polkit agent can ask the user.
    pub const AUTH_UNAVAILABLE: i32 = 94;
    /// There is no such device in the domain.
    pub const DEVICE_MISSING: i32 = 99;
    /// Several domains match.
    pub const MULTIPLE_DOMAINS: i32 = 110;
}

/// The highest number of domains that a daemon may list (`REMOTE_DOMAIN_LIST_MAX`).
const MAX_DOMAINS: usize = 16_384;
/// The highest number of authentication methods (`REMOTE_AUTH_TYPE_LIST_MAX`).
const MAX_AUTH_TYPES: usize = 20;

/// The UUID of a domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Reads a UUID in its usual form, with dashes.
    pub fn parse(text: &str) -> Option<Uuid> {
        let groups: Vec<usize> = text.split('-').map(str::len).collect();
        if groups != [8, 4, 4, 4, 12] || !text.is_ascii() {
            return None;
        }
        let digits: String = text.chars().filter(|it| *it != '-').collect();
        let mut bytes = [0; 16];
        for (nth, byte) in bytes.iter_mut().enumerate() {
            let pair = digits.get(2 * nth..2 * nth + 2)?;
            let is_hex = pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(pair, 16).ok().filter(|_| is_hex)?;
        }
        Some(Uuid(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, byte) in self.0.iter().enumerate() {
            if matches!(nth, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The identity of a domain in calls and events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its name, which can change.
    pub name: String,
    /// Its UUID, which cannot.
    pub uuid: Uuid,
    /// Its id, a new one at each start; -1 if it does not run.
    pub id: i32,
}

impl Domain {
    /// Appends it to a message.
    #[must_use]
    pub fn write(&self, writer: Writer) -> Writer {
        writer.string(&self.name).fixed(&self.uuid.0).i32(self.id)
    }

    /// Reads it from a message.
    ///
    /// # Errors
    /// The message is too short or has a string that is too long.
    pub fn read(reader: &mut Reader<'_>) -> Result<Domain, DecodeError> {
        Ok(Domain {
            name: reader.string("a domain's name")?,
            uuid: Uuid(reader.uuid("a domain's UUID")?),
            id: reader.i32("a domain's id")?,
        })
    }

    /// Reads a list of domains, as [`procedure::CONNECT_LIST_ALL_DOMAINS`] returns it.
    ///
    /// # Errors
    /// As for [`Domain::read`], or the list is too long.
    pub fn read_list(reader: &mut Reader<'_>) -> Result<Vec<Domain>, DecodeError> {
        reader.list("the domains", MAX_DOMAINS, Domain::read)
    }
}

/// Reads the result of [`procedure::AUTH_LIST`].
///
/// # Errors
/// The message is too short or the list is too long.
pub fn read_auth_types(reader: &mut Reader<'_>) -> Result<Vec<i32>, DecodeError> {
    reader
        .list("the authentication methods", MAX_AUTH_TYPES, |it| it.i32("an authentication method"))
}

/// An error that the daemon returned for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteError {
    /// What kind of failure: see [`code`].
    pub code: i32,
    /// The part of libvirt that failed (`virErrorDomain`). For the log.
    pub domain: i32,
    /// libvirt's message, unchanged. It may quote strings from a guest.
    pub message: String,
}

impl RemoteError {
    /// Reads it from a message. The fields after the text are ignored.
    ///
    /// # Errors
    /// The message is too short or has a string that is too long.
    pub fn read(reader: &mut Reader<'_>) -> Result<RemoteError, DecodeError> {
        let code = reader.i32("an error's code")?;
        let domain = reader.i32("an error's domain")?;
        let message = reader.option("an error's message", |it| it.string("an error's message"))?;
        let message = message.unwrap_or_else(|| format!("error {code}"));
        Ok(RemoteError { code, domain, message })
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RemoteError {}

/// The state of a domain (`virDomainState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainState {
    /// It runs.
    Running,
    /// It runs, but its processors are stopped.
    Paused,
    /// It does not run.
    Off,
    /// It has crashed.
    Crashed,
    /// The guest has suspended itself.
    Suspended,
    /// Any other state, by its number, such as blocked or shutting down.
    Other(i32),
}

impl DomainState {
    /// The state with this number.
    pub const fn from_number(number: i32) -> DomainState {
        match number {
            1 => DomainState::Running,
            3 => DomainState::Paused,
            5 => DomainState::Off,
            6 => DomainState::Crashed,
            7 => DomainState::Suspended,
            other => DomainState::Other(other),
        }
    }
}

/// Which of the two configurations of a domain is affected (`virDomainModificationImpact`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affect(u32);

impl Affect {
    /// That of the running guest.
    pub const LIVE: Affect = Affect(1);
    /// The stored one, with which the domain starts next.
    pub const CONFIG: Affect = Affect(2);
    /// Both.
    pub const BOTH: Affect = Affect(3);

    pub(crate) const fn flags(self) -> u32 {
        self.0
    }
}

/// Which of the two configurations of a domain is read (`virDomainXMLFlags`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XmlKind {
    /// That of the running guest; the stored one if it does not run.
    Live,
    /// The stored one, with which the domain starts next.
    Inactive,
    /// The stored one with its passwords, so that it can be stored again.
    Editable,
}

impl XmlKind {
    pub(crate) const fn flags(self) -> u32 {
        match self {
            XmlKind::Live => 0,
            XmlKind::Inactive => 2,
            XmlKind::Editable => 3,
        }
    }
}

/// The events that a client can register for (`virDomainEventID`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventId {
    /// [`Event::Lifecycle`].
    Lifecycle,
    /// [`Event::DeviceRemoved`].
    DeviceRemoved,
    /// [`Event::DeviceAdded`].
    DeviceAdded,
    /// [`Event::DeviceRemovalFailed`].
    DeviceRemovalFailed,
}

impl EventId {
    pub(crate) const fn number(self) -> i32 {
        match self {
            EventId::Lifecycle => 0,
            EventId::DeviceRemoved => 15,
            EventId::DeviceAdded => 19,
            EventId::DeviceRemovalFailed => 22,
        }
    }
}

/// What has happened to a domain (`virDomainEventType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// Its configuration was stored or changed.
    Defined,
    /// Its configuration is no longer stored.
    Undefined,
    /// It runs now.
    Started,
    /// Its processors were stopped.
    Suspended,
    /// Its processors run again.
    Resumed,
    /// It no longer runs.
    Stopped,
    /// The guest has shut down, but the domain has not stopped yet.
    Shutdown,
    /// The guest has suspended itself.
    PmSuspended,
    /// It has crashed.
    Crashed,
    /// An event of a newer libvirt, by its number.
    Other(i32),
}

impl Lifecycle {
    /// The event with this number.
    pub const fn from_number(number: i32) -> Lifecycle {
        match number {
            0 => Lifecycle::Defined,
            1 => Lifecycle::Undefined,
            2 => Lifecycle::Started,
            3 => Lifecycle::Suspended,
            4 => Lifecycle::Resumed,
            5 => Lifecycle::Stopped,
            6 => Lifecycle::Shutdown,
            7 => Lifecycle::PmSuspended,
            8 => Lifecycle::Crashed,
            other => Lifecycle::Other(other),
        }
    }
}

/// A message of the daemon that is not a reply to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A domain has started, stopped, and so on.
    Lifecycle {
        /// The domain.
        domain: Domain,
        /// What has happened.
        event: Lifecycle,
        /// Why: its meaning depends on the event.
        detail: i32,
    },
    /// The guest has a new device.
    DeviceAdded {
        /// The domain.
        domain: Domain,
        /// The device.
        alias: String,
    },
    /// The guest no longer has a device.
    DeviceRemoved {
        /// The domain.
        domain: Domain,
        /// The device.
        alias: String,
    },
    /// The guest did not release a device that was to be removed.
    DeviceRemovalFailed {
        /// The domain.
        domain: Domain,
        /// The device.
        alias: String,
    },
    /// The daemon has lost its own connection to the hypervisor.
    HypervisorLost {
        /// Why.
        reason: i32,
    },
}

impl Event {
    /// Reads the event with this procedure number. `None` if it is not the number of an [`Event`].
    ///
    /// # Errors
    /// The message is too short or has a string that is too long.
    pub fn read(number: i32, payload: &[u8]) -> Result<Option<Event>, DecodeError> {
        let mut reader = Reader::new(payload);
        if number == procedure::CONNECT_EVENT_CONNECTION_CLOSED {
            let reason = reader.i32("the reason")?;
            return Ok(Some(Event::HypervisorLost { reason }));
        }
        let known = [
            procedure::DOMAIN_EVENT_CALLBACK_LIFECYCLE,
            procedure::DOMAIN_EVENT_CALLBACK_DEVICE_ADDED,
            procedure::DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED,
            procedure::DOMAIN_EVENT_CALLBACK_DEVICE_REMOVAL_FAILED,
        ];
        if !known.contains(&number) {
            return Ok(None);
        }
        reader.i32("a callback's number")?;
        let domain = Domain::read(&mut reader)?;
        if number == procedure::DOMAIN_EVENT_CALLBACK_LIFECYCLE {
            let event = Lifecycle::from_number(reader.i32("an event's type")?);
            let detail = reader.i32("an event's detail")?;
            return Ok(Some(Event::Lifecycle { domain, event, detail }));
        }
        let alias = reader.string("a device's alias")?;
        Ok(Some(match number {
            procedure::DOMAIN_EVENT_CALLBACK_DEVICE_ADDED => Event::DeviceAdded { domain, alias },
            procedure::DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED => {
                Event::DeviceRemoved { domain, alias }
            }
            _ => Event::DeviceRemovalFailed { domain, alias },
        }))
    }
}
