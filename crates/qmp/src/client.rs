//! A blocking client on a Unix socket: commands, answers, and the events in between.
//!
//! ```text
//!  connect ──▶ greeting ──▶ qmp_capabilities ──▶ ready ──▶ execute, pipeline, wait_event
//!     │            │                               ▲ │            │
//!     │            └ none: NoGreeting              └─┼─ TimedOut ─┤ (a late answer is ignored)
//!     └ missing, refused, not a socket               │            │
//!                                                    └── Closed, Protocol ──▶ every later call fails
//! ```
//!
//! Each command has a number as its `id`, and its answer has the same `id`. If a command times out,
//! its late answer can therefore be ignored, and the connection stays usable. The first number is
//! random: if an earlier client disconnected during a command, QEMU may send the answer to this
//! client.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use serde_json::Value;
use tracing::{debug, trace};

use crate::codec::{self, Event, Greeting, Limits, Message};
use crate::connection::{Connection, Wait};
use crate::deadline::Deadline;
use crate::error::{CommandError, Error};
use crate::events::EventQueue;

/// A connection to the monitor of one QEMU.
///
/// QEMU serves one client per socket at a time: drop the client as soon as its work is done.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    greeting: Greeting,
    pending: PendingCommands,
    events: EventQueue,
}

/// The commands that were sent and not answered yet.
#[derive(Debug)]
struct PendingCommands {
    next_id: u64,
    /// Their ids in the order sent, including those that timed out. QEMU answers in order, because
    /// out-of-band execution is never enabled; so an answer without an `id` belongs to the oldest.
    ids: VecDeque<u64>,
}

/// QEMU's answer to one command.
type Answer = Result<Value, CommandError>;

impl Client {
    /// Connects, waits for QEMU's greeting, and leaves negotiation mode without enabling a
    /// capability.
    ///
    /// # Errors
    /// [`Error::NoSocket`], [`Error::Refused`], [`Error::NotASocket`], [`Error::Permission`],
    /// [`Error::PathTooLong`] or [`Error::Connect`] at once; [`Error::NoGreeting`] at the deadline,
    /// usually because another client is connected; [`Error::TimedOut`] if QEMU begins to answer
    /// but does not finish in time; [`Error::Closed`] if QEMU closes the connection;
    /// [`Error::Protocol`] if the peer does not speak QMP.
    pub fn connect(path: &Path, deadline: impl Into<Deadline>) -> Result<Self, Error> {
        Self::connect_with(path, Limits::default(), deadline)
    }

    /// Like [`connect`](Self::connect), with custom limits on the size of a message from QEMU.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with(
        path: &Path,
        limits: Limits,
        deadline: impl Into<Deadline>,
    ) -> Result<Self, Error> {
        let connected = Self::connect_and_execute(path, limits, &[], deadline);
        connected.map(|(client, _)| client)
    }

    /// Like [`connect_with`](Self::connect_with), but sends `commands` along with the handshake:
    /// their answers take one round trip instead of three. Only for queries: if QEMU is serving
    /// another client, it executes them when that client leaves, even if this call has timed out by
    /// then.
    ///
    /// # Errors
    /// As [`connect`](Self::connect). A command that QEMU refuses is an `Err` among the answers.
    pub fn connect_and_execute(
        path: &Path,
        limits: Limits,
        commands: &[(&str, Value)],
        deadline: impl Into<Deadline>,
    ) -> Result<(Self, Vec<Result<Value, CommandError>>), Error> {
        let deadline = deadline.into();
        let mut connection = Connection::open(path, limits, deadline)?;
        let mut pending = PendingCommands::new();
        let first_id = pending.next_id;
        // QEMU executes commands in order, so it has left negotiation mode before it executes the
        // first of `commands`.
        let negotiation = [("qmp_capabilities", Value::Null)];
        let all: Vec<(&str, Value)> = negotiation.iter().chain(commands).cloned().collect();
        for (command, arguments) in &all {
            connection.queue(&codec::encode(pending.add(), command, arguments))?;
        }
        let greeting = read_greeting(&mut connection, &pending, path, deadline)?;
        debug!(path = %path.display(), version = %greeting.version, "connected to QEMU");
        let mut client = Self { connection, greeting, pending, events: EventQueue::default() };
        let mut wait = Wait::new(deadline, &"the answers to the first commands");
        let mut answers = client.collect(&all, first_id, &mut wait)?.into_iter();
        answers.next().transpose()?;
        Ok((client, answers.collect()))
    }

    /// QEMU's greeting.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// The socket, for questions about the peer process (`SO_PEERCRED`).
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.connection.socket()
    }

    /// Runs one command and waits for its answer. [`Value::Null`] for `arguments` sends none.
    ///
    /// # Errors
    /// [`Error::Command`] if QEMU refuses. [`Error::TimedOut`] at the deadline: QEMU may still
    /// execute the command, and the client stays usable. [`Error::Closed`] or [`Error::Protocol`]
    /// if the connection is lost; the client is then unusable.
    pub fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        deadline: impl Into<Deadline>,
    ) -> Result<Value, Error> {
        let what = format!("the answer to {command}");
        let mut answers = self.run(&[(command, arguments)], &what, deadline.into())?;
        match answers.pop() {
            Some(answer) => Ok(answer?),
            None => Err(self.connection.protocol_error(format!("{what} is missing"))),
        }
    }

    /// Runs one command that receives an open file, such as `add-fd`. This process's descriptor is
    /// closed once it has been sent; QEMU then has a descriptor of its own.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn execute_with_file(
        &mut self,
        command: &str,
        arguments: Value,
        file: OwnedFd,
        deadline: impl Into<Deadline>,
    ) -> Result<Value, Error> {
        let what = format!("the answer to {command}");
        let commands = [(command, arguments)];
        let mut answers = self.run_with_file(&commands, &what, deadline.into(), Some(file))?;
        match answers.pop() {
            Some(answer) => Ok(answer?),
            None => Err(self.connection.protocol_error(format!("{what} is missing"))),
        }
    }

    /// Sends all commands at once and returns their answers in the order of the commands. QEMU
    /// executes them one after another, and goes on if one fails.
    ///
    /// # Errors
    /// As [`execute`](Self::execute), but a command that QEMU refuses is an `Err` among the
    /// answers. After a timeout, any number of the commands may have been executed.
    pub fn pipeline(
        &mut self,
        commands: &[(&str, Value)],
        deadline: impl Into<Deadline>,
    ) -> Result<Vec<Result<Value, CommandError>>, Error> {
        let what = format!("the answers to {} commands", commands.len());
        self.run(commands, &what, deadline.into())
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
    /// timeout therefore does not prove that nothing happened: query QEMU's state.
    ///
    /// If the deadline has passed, received events are examined without waiting.
    ///
    /// # Errors
    /// [`Error::TimedOut`] at the deadline; [`Error::Closed`] or [`Error::Protocol`] if the
    /// connection is lost, but only after all events that were received before.
    pub fn wait_event<T>(
        &mut self,
        deadline: impl Into<Deadline>,
        mut pick: impl FnMut(&Event) -> Option<T>,
    ) -> Result<T, Error> {
        if let Some(found) = self.events.pick(&mut pick) {
            return Ok(found);
        }
        let mut wait = Wait::new(deadline.into(), &"an event");
        loop {
            while let Some((message, bytes)) = self.connection.received()? {
                match message {
                    Message::Event(event) => {
                        debug!(event = ?event.name, "from QEMU");
                        if let Some(found) = pick(&event) {
                            return Ok(found);
                        }
                        self.events.push(event, bytes);
                    }
                    other => drop(self.pending.complete(other)),
                }
            }
            self.connection.turn(&mut wait)?;
        }
    }

    /// Sends commands and collects their answers. If that fails, commands that were not sent are
    /// withdrawn.
    fn run(
        &mut self,
        commands: &[(&str, Value)],
        what: &dyn fmt::Display,
        deadline: Deadline,
    ) -> Result<Vec<Answer>, Error> {
        self.run_with_file(commands, what, deadline, None)
    }

    /// Like [`run`](Self::run), with an open file for the first command.
    fn run_with_file(
        &mut self,
        commands: &[(&str, Value)],
        what: &dyn fmt::Display,
        deadline: Deadline,
        mut file: Option<OwnedFd>,
    ) -> Result<Vec<Answer>, Error> {
        self.connection.check()?;
        let mut wait = Wait::new(deadline, what);
        if deadline.is_over() {
            return Err(wait.timed_out());
        }
        let first_id = self.pending.next_id;
        for (command, arguments) in commands {
            let id = self.pending.add();
            debug!(id, command, "to QEMU");
            trace!(id, %arguments, "arguments");
            let bytes = codec::encode(id, command, arguments);
            match file.take() {
                Some(file) => self.connection.queue_with_file(&bytes, file)?,
                None => self.connection.queue(&bytes)?,
            }
        }
        let collected = self.collect(commands, first_id, &mut wait);
        if collected.is_err() && self.connection.withdraw() {
            self.pending.remove_from(first_id);
        }
        collected
    }

    fn collect(
        &mut self,
        commands: &[(&str, Value)],
        first_id: u64,
        wait: &mut Wait<'_>,
    ) -> Result<Vec<Answer>, Error> {
        let mut answers: Vec<Option<Answer>> = commands.iter().map(|_| None).collect();
        let mut missing = answers.len();
        while missing > 0 {
            let Some((message, bytes)) = self.connection.received()? else {
                self.connection.turn(wait)?;
                continue;
            };
            let Some((id, outcome)) = self.dispatch(message, bytes) else {
                continue;
            };
            let position = id.checked_sub(first_id).and_then(|number| usize::try_from(number).ok());
            let Some(position) = position else { continue };
            if let (Some(slot), Some((command, _))) =
                (answers.get_mut(position), commands.get(position))
            {
                // At most once for each command: `dispatch` returns each id once.
                missing -= 1;
                *slot = Some(outcome.map_err(|(class, desc)| CommandError {
                    command: (*command).to_owned(),
                    class,
                    desc,
                }));
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Queues an event, or returns an answer with the id of its command.
    fn dispatch(&mut self, message: Message, bytes: usize) -> Option<(u64, Outcome)> {
        if let Message::Event(event) = message {
            debug!(event = ?event.name, "from QEMU");
            self.events.push(event, bytes);
            return None;
        }
        self.pending.complete(message)
    }
}

/// A command's answer without the command's name.
type Outcome = Result<Value, (codec::ErrorClass, String)>;

impl PendingCommands {
    fn new() -> Self {
        // Below 2^52, because programs between vusb and QEMU may read numbers as doubles.
        let random = RandomState::new().hash_one(std::process::id()) >> 12;
        Self { next_id: random, ids: VecDeque::new() }
    }

    /// Whether a message answers one of these commands.
    fn is_answer(&self, message: &Message) -> bool {
        let (Message::Return { id, .. } | Message::Error { id, .. }) = message else {
            return false;
        };
        // QEMU omits the id only if it could not parse the command.
        id.as_ref().is_none_or(|id| id.as_u64().is_some_and(|id| self.ids.contains(&id)))
    }

    fn add(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.ids.push_back(id);
        id
    }

    /// Removes commands that were not sent.
    fn remove_from(&mut self, first_id: u64) {
        self.ids.retain(|id| *id < first_id);
    }

    /// Removes the command that a message answers. `None` if the message does not answer a pending
    /// command.
    fn complete(&mut self, message: Message) -> Option<(u64, Outcome)> {
        let (id, outcome) = match message {
            Message::Return { id, value } => (id, Ok(value)),
            Message::Error { id, class, desc } => (id, Err((class, desc))),
            other => {
                debug!("ignored a message of unknown form");
                trace!(message = ?other, "ignored");
                return None;
            }
        };
        let position = match &id {
            None => 0,
            Some(id) => {
                let id = id.as_u64()?;
                self.ids.iter().position(|pending| *pending == id)?
            }
        };
        let id = self.ids.remove(position)?;
        debug!(id, refused = outcome.is_err(), "from QEMU");
        Some((id, outcome))
    }
}

/// Waits for the greeting. Silence has a separate error, because the remedy is different.
///
/// QEMU sends its queued output as soon as a client connects, so events and answers to the commands
/// of an earlier client may come first. Only an answer to a command of *this* client shows that the
/// peer is not QEMU: QEMU sends its greeting before it reads a command.
fn read_greeting(
    connection: &mut Connection,
    pending: &PendingCommands,
    path: &Path,
    deadline: Deadline,
) -> Result<Greeting, Error> {
    let mut wait = Wait::new(deadline, &"QEMU's greeting");
    loop {
        while let Some((message, _)) = connection.received()? {
            match message {
                Message::Greeting(greeting) => return Ok(greeting),
                message if pending.is_answer(&message) => {
                    let reason = "it answered a command without a QMP greeting".to_owned();
                    return Err(connection.protocol_error(reason));
                }
                Message::Unknown(_) => {
                    let reason = "its first message is not a QMP greeting".to_owned();
                    return Err(connection.protocol_error(reason));
                }
                stale => {
                    debug!("ignored a message before the greeting");
                    trace!(message = ?stale, "ignored");
                }
            }
        }
        match connection.turn(&mut wait) {
            Err(Error::TimedOut { .. }) if !connection.is_mid_message() => {
                return Err(Error::NoGreeting { path: path.to_owned() });
            }
            outcome => outcome?,
        }
    }
}
