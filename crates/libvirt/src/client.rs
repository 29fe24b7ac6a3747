//! A blocking client on a Unix socket: calls, replies, and the events in between.
//!
//! ```text
//!  connect ──▶ how to authenticate? ──▶ (polkit) ──▶ open ──▶ ready ──▶ calls, wait_event
//!                     │                                         ▲ │            │
//!                     └ only SASL: Authentication               └─┼─ TimedOut ─┤ (a late reply is ignored)
//!                                                                 └── Closed, Protocol ──▶ every later call fails
//!                                                                                          until reconnect
//! ```
//!
//! Each call has a serial number of its own, and its reply has the same. If a call times out, its
//! late reply can therefore be ignored, and the connection stays usable.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use tracing::{debug, trace};

use crate::codec::{DecodeError, Message, MessageType, Status};
use crate::connection::{Connection, Wait};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::events::EventQueue;
use crate::protocol::{
    Affect, Domain, DomainState, Event, EventId, FEATURE_KEEPALIVE, REMOTE, RemoteError, Uuid,
    XmlKind, auth, procedure, read_auth_types,
};
use crate::uri::{Uri, read_only};
use crate::xdr::{Reader, Writer};

/// The flag of [`procedure::CONNECT_OPEN`] for a connection that changes nothing
/// (`VIR_CONNECT_RO`).
const OPEN_READ_ONLY: u32 = 1;

/// A connection to a libvirt daemon.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    last_serial: u32,
    events: EventQueue,
    parameters: ConnectParameters,
}

/// What is needed to connect again.
#[derive(Debug, Clone)]
struct ConnectParameters {
    uri: Uri,
    sockets: Vec<PathBuf>,
    registered: Vec<(EventId, Option<Domain>)>,
    keepalive: bool,
    read_only: bool,
}

impl Client {
    /// Connects to the first of these sockets on which a program listens ([`Uri::sockets`]),
    /// authenticates, and opens the connection with this name.
    ///
    /// # Errors
    /// [`Error::NoSocket`], [`Error::Refused`], [`Error::Permission`] or [`Error::Connect`] at
    /// once; [`Error::Authentication`]; [`Error::Remote`] if polkit refuses or the daemon does not
    /// have the hypervisor; as for all calls, [`Error::TimedOut`], [`Error::Closed`] and
    /// [`Error::Protocol`].
    pub fn connect(uri: &Uri, sockets: &[PathBuf], deadline: Deadline) -> Result<Self, Error> {
        let parameters = ConnectParameters {
            uri: uri.clone(),
            sockets: sockets.to_vec(),
            registered: Vec::new(),
            keepalive: false,
            read_only: false,
        };
        Self::open(parameters, deadline)
    }

    /// As [`Client::connect`], for calls that change nothing. No user is asked for a password: the
    /// daemon has separate sockets for such calls (`SOCKET-ro`).
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_read_only(
        uri: &Uri,
        sockets: &[PathBuf],
        deadline: Deadline,
    ) -> Result<Self, Error> {
        let parameters = ConnectParameters {
            uri: uri.clone(),
            sockets: sockets.iter().map(|it| read_only(it)).collect(),
            registered: Vec::new(),
            keepalive: false,
            read_only: true,
        };
        Self::open(parameters, deadline)
    }

    fn open(parameters: ConnectParameters, deadline: Deadline) -> Result<Self, Error> {
        let connection = Connection::open(&parameters.sockets, deadline)?;
        let (last_serial, events) = (0, EventQueue::default());
        let mut client = Self { connection, last_serial, events, parameters };
        client.authenticate(deadline)?;
        let arguments = Writer::new()
            .option(Some(client.parameters.uri.name()), |it, uri| it.string(&uri))
            .u32(if client.parameters.read_only { OPEN_READ_ONLY } else { 0 });
        let opening = "the connection to the hypervisor";
        client.call(procedure::CONNECT_OPEN, arguments, opening, deadline, |_| Ok(()))?;
        debug!(uri = %client.parameters.uri, "connected to libvirt");
        Ok(client)
    }

    fn authenticate(&mut self, deadline: Deadline) -> Result<(), Error> {
        let what = "the authentication methods";
        let types =
            self.call(procedure::AUTH_LIST, Writer::new(), what, deadline, read_auth_types)?;
        if types.is_empty() || types.contains(&auth::NONE) {
            return Ok(());
        }
        if !types.contains(&auth::POLKIT) {
            return Err(Error::Authentication);
        }
        let what = "polkit's decision";
        let complete = |it: &mut Reader<'_>| it.i32("whether the authentication is complete");
        self.call(procedure::AUTH_POLKIT, Writer::new(), what, deadline, complete).map(drop)
    }

    /// Connects again, after the connection was lost, and registers for the same events as before.
    /// Queued events are dropped, and those in between are lost: query the state afterwards.
    ///
    /// # Errors
    /// As [`connect`](Self::connect). The client is then as unusable as before.
    pub fn reconnect(&mut self, deadline: Deadline) -> Result<(), Error> {
        let registered = self.parameters.registered.clone();
        let keepalive = self.parameters.keepalive;
        let parameters = ConnectParameters {
            registered: Vec::new(),
            keepalive: false,
            ..self.parameters.clone()
        };
        let mut client = Self::open(parameters, deadline)?;
        if keepalive {
            client.enable_keepalive(deadline)?;
        }
        for (event, domain) in &registered {
            client.register(*event, domain.as_ref(), deadline)?;
        }
        *self = client;
        Ok(())
    }

    /// Turns on the daemon's keepalive messages: it then closes the connection of a client that
    /// does not answer for about 30 s. They are answered whenever the client waits, so only ask for
    /// them if it waits at least every few seconds. Returns whether the daemon has them.
    ///
    /// # Errors
    /// As all calls.
    pub fn enable_keepalive(&mut self, deadline: Deadline) -> Result<bool, Error> {
        let arguments = Writer::new().i32(FEATURE_KEEPALIVE);
        let what = "the daemon's features";
        let number = procedure::CONNECT_SUPPORTS_FEATURE;
        let has = self.call(number, arguments, what, deadline, |it| it.i32("a feature"))? != 0;
        self.parameters.keepalive = has;
        Ok(has)
    }

    /// The socket, for a program with an event loop.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.connection.socket()
    }

    /// The daemon's version: 11003000 is 11.3.0.
    ///
    /// # Errors
    /// As all calls.
    pub fn version(&mut self, deadline: Deadline) -> Result<u64, Error> {
        let number = procedure::CONNECT_GET_LIB_VERSION;
        self.call(number, Writer::new(), "the version", deadline, |it| it.u64("the version"))
    }

    /// All domains, those that run and those that do not.
    ///
    /// # Errors
    /// As all calls.
    pub fn domains(&mut self, deadline: Deadline) -> Result<Vec<Domain>, Error> {
        // 1: the domains are wanted, not only their number. 0: no filter.
        let arguments = Writer::new().i32(1).u32(0);
        let number = procedure::CONNECT_LIST_ALL_DOMAINS;
        self.call(number, arguments, "the list of domains", deadline, Domain::read_list)
    }

    /// The domain with this name.
    ///
    /// # Errors
    /// [`Error::Remote`] with [`code::NO_DOMAIN`](crate::code::NO_DOMAIN) if there is none; as all
    /// calls.
    pub fn domain_by_name(&mut self, name: &str, deadline: Deadline) -> Result<Domain, Error> {
        let (number, arguments) = (procedure::DOMAIN_LOOKUP_BY_NAME, Writer::new().string(name));
        self.call(number, arguments, "a domain", deadline, Domain::read)
    }

    /// The domain with this UUID.
    ///
    /// # Errors
    /// As [`domain_by_name`](Self::domain_by_name).
    pub fn domain_by_uuid(&mut self, uuid: Uuid, deadline: Deadline) -> Result<Domain, Error> {
        let (number, arguments) = (procedure::DOMAIN_LOOKUP_BY_UUID, Writer::new().fixed(&uuid.0));
        self.call(number, arguments, "a domain", deadline, Domain::read)
    }

    /// A configuration of a domain.
    ///
    /// # Errors
    /// As all calls.
    pub fn xml(
        &mut self,
        domain: &Domain,
        kind: XmlKind,
        deadline: Deadline,
    ) -> Result<String, Error> {
        let arguments = domain.write(Writer::new()).u32(kind.flags());
        let number = procedure::DOMAIN_GET_XML_DESC;
        self.call(number, arguments, "a domain's XML", deadline, |it| it.string("the XML"))
    }

    /// Stores the configuration of a new domain, or replaces that of the domain with the same UUID
    /// and name. A running guest keeps its hardware until it starts again.
    ///
    /// # Errors
    /// As all calls.
    pub fn define(&mut self, xml: &str, deadline: Deadline) -> Result<Domain, Error> {
        let (number, arguments) = (procedure::DOMAIN_DEFINE_XML, Writer::new().string(xml));
        self.call(number, arguments, "a configuration to be stored", deadline, Domain::read)
    }

    /// The state of a domain.
    ///
    /// # Errors
    /// As all calls.
    pub fn state(&mut self, domain: &Domain, deadline: Deadline) -> Result<DomainState, Error> {
        let arguments = domain.write(Writer::new()).u32(0);
        let number = procedure::DOMAIN_GET_STATE;
        let state =
            self.call(number, arguments, "a domain's state", deadline, |it| it.i32("the state"))?;
        Ok(DomainState::from_number(state))
    }

    /// Whether the configuration of a domain is stored, so that it survives the end of the guest.
    ///
    /// # Errors
    /// As all calls.
    pub fn is_persistent(&mut self, domain: &Domain, deadline: Deadline) -> Result<bool, Error> {
        let arguments = domain.write(Writer::new());
        let number = procedure::DOMAIN_IS_PERSISTENT;
        let read = |it: &mut Reader<'_>| it.i32("whether it is persistent");
        Ok(self.call(number, arguments, "whether a domain is persistent", deadline, read)? != 0)
    }

    /// Attaches the device that this element of a domain's XML describes.
    ///
    /// # Errors
    /// As all calls.
    pub fn attach(
        &mut self,
        domain: &Domain,
        element: &str,
        affect: Affect,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let arguments = domain.write(Writer::new()).string(element).u32(affect.flags());
        let number = procedure::DOMAIN_ATTACH_DEVICE_FLAGS;
        self.call(number, arguments, "a device to be attached", deadline, |_| Ok(()))
    }

    /// Detaches the device that this element of a domain's XML describes. A running guest may still
    /// have the device afterwards: wait for [`Event::DeviceRemoved`].
    ///
    /// # Errors
    /// As all calls.
    pub fn detach(
        &mut self,
        domain: &Domain,
        element: &str,
        affect: Affect,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let arguments = domain.write(Writer::new()).string(element).u32(affect.flags());
        let number = procedure::DOMAIN_DETACH_DEVICE_FLAGS;
        self.call(number, arguments, "a device to be detached", deadline, |_| Ok(()))
    }

    /// Starts to detach the device with this alias: wait for [`Event::DeviceRemoved`].
    ///
    /// # Errors
    /// As all calls.
    pub fn detach_alias(
        &mut self,
        domain: &Domain,
        alias: &str,
        affect: Affect,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let arguments = domain.write(Writer::new()).string(alias).u32(affect.flags());
        let number = procedure::DOMAIN_DETACH_DEVICE_ALIAS;
        self.call(number, arguments, "a device to be detached", deadline, |_| Ok(()))
    }

    /// Asks for events of one domain, or of all domains. They are queued from now on.
    ///
    /// # Errors
    /// As all calls.
    pub fn register(
        &mut self,
        event: EventId,
        domain: Option<&Domain>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let arguments =
            Writer::new().i32(event.number()).option(domain, |it, domain| domain.write(it));
        let number = procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY;
        let read = |it: &mut Reader<'_>| it.i32("a callback's number");
        self.call(number, arguments, "the registration for events", deadline, read)?;
        self.parameters.registered.push((event, domain.cloned()));
        Ok(())
    }

    /// Like [`register`](Self::register), unless this connection is already registered for this
    /// event of the domain.
    ///
    /// # Errors
    /// As all calls.
    pub fn register_once(
        &mut self,
        event: EventId,
        domain: &Domain,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let is_same = |(other, of): &(EventId, Option<Domain>)| {
            *other == event && of.as_ref().is_none_or(|of| of.uuid == domain.uuid)
        };
        if self.parameters.registered.iter().any(is_same) {
            return Ok(());
        }
        self.register(event, Some(domain), deadline)
    }

    /// Takes the events that were received so far, the oldest first. Does not read from the socket.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.take()
    }

    /// The number of events that were dropped because the queue was full; see
    /// [`wait_event`](Self::wait_event).
    pub fn dropped_events(&self) -> u64 {
        self.events.dropped()
    }

    /// Waits for an event that `pick` selects. `pick` is called once for each event, queued ones
    /// first. The first event for which it returns `Some` is removed from the queue; all others
    /// stay for later calls.
    ///
    /// The queue holds at most [`MAX_EVENTS`](crate::MAX_EVENTS) events, and at most
    /// [`MAX_EVENT_BYTES`](crate::MAX_EVENT_BYTES) in total; the oldest are dropped for new ones. A
    /// timeout therefore does not prove that nothing happened: query the state.
    ///
    /// If the deadline has passed, received events are examined without waiting.
    ///
    /// # Errors
    /// [`Error::TimedOut`] at the deadline; [`Error::Closed`] or [`Error::Protocol`] if the
    /// connection is lost, but only after all events that were received before.
    pub fn wait_event<T>(
        &mut self,
        deadline: Deadline,
        mut pick: impl FnMut(&Event) -> Option<T>,
    ) -> Result<T, Error> {
        if let Some(found) = self.events.pick(&mut pick) {
            return Ok(found);
        }
        let mut wait = Wait::new(deadline, &"an event");
        loop {
            while let Some(message) = self.connection.received()? {
                if message.kind != MessageType::Event {
                    debug!(serial = message.serial, "ignored a late reply");
                    continue;
                }
                let Some(event) = self.event(&message)? else { continue };
                if let Some(found) = pick(&event) {
                    return Ok(found);
                }
                self.events.push(event, message.payload.len());
            }
            self.connection.turn(&mut wait)?;
        }
    }

    /// Reads an event. `None` if it is unknown.
    fn event(&mut self, message: &Message) -> Result<Option<Event>, Error> {
        if message.program != REMOTE {
            return Ok(None);
        }
        let read = Event::read(message.procedure, &message.payload);
        let event = read.map_err(|error| self.connection.protocol_error(error.to_string()))?;
        trace!(?event, procedure = message.procedure, "from libvirt");
        Ok(event)
    }

    /// Calls a procedure and reads its result.
    fn call<T>(
        &mut self,
        number: i32,
        arguments: Writer,
        what: &str,
        deadline: Deadline,
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, Error> {
        self.connection.check()?;
        if deadline.is_over() {
            return Err(Error::TimedOut { what: what.to_owned() });
        }
        self.last_serial = self.last_serial.wrapping_add(1);
        let serial = self.last_serial;
        debug!(serial, procedure = number, "to libvirt");
        let call = Message::call(REMOTE, number, serial, arguments.into_bytes());
        self.connection.queue(&call, &what)?;
        let reply = self.reply(serial, &what, deadline);
        if reply.is_err() {
            self.connection.withdraw();
        }
        let reply = reply?;
        let mut reader = Reader::new(&reply.payload);
        let result = match reply.status {
            Status::Error => RemoteError::read(&mut reader).map(Err),
            Status::Ok | Status::Continue => read(&mut reader).map(Ok),
        };
        let result = result.map_err(|error| self.connection.protocol_error(error.to_string()))?;
        debug!(serial, refused = result.is_err(), "from libvirt");
        Ok(result?)
    }

    /// Waits for the reply with this serial. Events that come before it are queued.
    fn reply(
        &mut self,
        serial: u32,
        what: &dyn fmt::Display,
        deadline: Deadline,
    ) -> Result<Message, Error> {
        let mut wait = Wait::new(deadline, what);
        loop {
            while let Some(message) = self.connection.received()? {
                match message.kind {
                    MessageType::Reply | MessageType::ReplyWithFds
                        if message.serial == serial && message.program == REMOTE =>
                    {
                        return Ok(message);
                    }
                    MessageType::Event => {
                        if let Some(event) = self.event(&message)? {
                            self.events.push(event, message.payload.len());
                        }
                    }
                    _ => debug!(serial = message.serial, "ignored a message"),
                }
            }
            self.connection.turn(&mut wait)?;
        }
    }
}
