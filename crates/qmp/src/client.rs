//! A blocking client on a Unix socket: commands, their answers, and the events in between.
//!
//! ```text
//!  connect ──▶ greeting ──▶ qmp_capabilities ──▶ ready ──▶ execute, pipeline, wait_event
//!     │            │                               ▲ │            │
//!     │            └ none: NoGreeting              └─┼─ TimedOut ─┤ (a late answer is skipped)
//!     └ missing, refused, no socket                  │            │
//!                                                    └── Closed, Protocol ──▶ every later call fails
//! ```
//!
//! Each command carries a number as its `id`, and only the answer with that number is its answer. So
//! the answer to a command whose time was over is passed over when it comes late, and the connection
//! stays in use.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;

use serde_json::Value;
use tracing::{debug, trace};

use crate::codec::{self, Event, Greeting, Limits, Message};
use crate::connection::{Connection, Wait};
use crate::deadline::Deadline;
use crate::error::{CommandError, Error};
use crate::events::EventQueue;

/// A connection to one QEMU's monitor.
///
/// QEMU talks to one client a socket at a time: drop the client as soon as its work is done.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    greeting: Greeting,
    calls: Calls,
    events: EventQueue,
}

/// Which numbers were given out, and which of those QEMU still owes an answer.
#[derive(Debug, Default)]
struct Calls {
    next_id: u64,
    /// In the order sent, those whose time was over included: QEMU answers in order (out-of-band
    /// execution is never enabled), so an answer without an `id` belongs to the first.
    owed: VecDeque<u64>,
}

/// What came back for one command.
type Answer = Result<Value, CommandError>;

impl Client {
    /// Connects, waits for QEMU's greeting, and leaves negotiation mode. No capability is enabled.
    ///
    /// # Errors
    /// [`Error::NoSocket`], [`Error::Refused`], [`Error::NotASocket`], [`Error::Permission`],
    /// [`Error::PathTooLong`] or [`Error::Connect`] at once; [`Error::NoGreeting`] at the deadline, as a
    /// rule because another client is connected; [`Error::Protocol`] if this is no QMP.
    pub fn connect(path: &Path, deadline: impl Into<Deadline>) -> Result<Self, Error> {
        Self::connect_with(path, Limits::default(), deadline)
    }

    /// Like [`connect`](Self::connect), with limits on the size of what QEMU may send.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with(
        path: &Path,
        limits: Limits,
        deadline: impl Into<Deadline>,
    ) -> Result<Self, Error> {
        let asked = Self::connect_and_ask(path, limits, &[], deadline);
        asked.map(|(client, _)| client)
    }

    /// Like [`connect_with`](Self::connect_with), and sends `commands` in the same breath: the answers are here after one
    /// round trip instead of three. For commands that only ask: if QEMU serves another client at the moment, it reads
    /// them when that one leaves, though nobody waits for the answers any more.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); a command that QEMU refuses is an `Err` in its own place.
    pub fn connect_and_ask(
        path: &Path,
        limits: Limits,
        commands: &[(&str, Value)],
        deadline: impl Into<Deadline>,
    ) -> Result<(Self, Vec<Result<Value, CommandError>>), Error> {
        let deadline = deadline.into();
        let mut connection = Connection::open(path, limits, deadline)?;
        let mut calls = Calls::default();
        // QEMU reads one command after the other, so that the first has taken effect before it looks at the second.
        let negotiation = [("qmp_capabilities", Value::Null)];
        let all: Vec<(&str, Value)> = negotiation.iter().chain(commands).cloned().collect();
        for (command, arguments) in &all {
            connection.queue(&codec::encode(calls.begin(), command, arguments))?;
        }
        let greeting = read_greeting(&mut connection, path, deadline)?;
        debug!(path = %path.display(), version = %greeting.version, "connected to QEMU");
        let mut client = Self { connection, greeting, calls, events: EventQueue::default() };
        let mut wait = Wait::new(deadline, &"the answers to the first commands");
        let mut answers = client.collect(&all, 0, &mut wait)?.into_iter();
        answers.next().transpose()?;
        Ok((client, answers.collect()))
    }

    /// What QEMU said of itself.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Runs one command and waits for its answer. [`Value::Null`] for `arguments` sends none.
    ///
    /// # Errors
    /// [`Error::Command`] if QEMU refuses. [`Error::TimedOut`] at the deadline: QEMU may still carry the
    /// command out, and the client stays usable. [`Error::Closed`] or [`Error::Protocol`] if the
    /// connection is lost, and the client with it.
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
            None => Err(self.connection.protocol_error(format!("{what} got lost"))),
        }
    }

    /// Sends all commands at once and gives their answers in the order of the commands. QEMU carries
    /// them out one after another, and one that fails does not keep it from the next.
    ///
    /// # Errors
    /// As [`execute`](Self::execute), but a command that QEMU refuses is an `Err` in its own place. After
    /// a timeout any number of the commands may have been carried out.
    pub fn pipeline(
        &mut self,
        commands: &[(&str, Value)],
        deadline: impl Into<Deadline>,
    ) -> Result<Vec<Result<Value, CommandError>>, Error> {
        let what = format!("the answers to {} commands", commands.len());
        self.run(commands, &what, deadline.into())
    }

    /// The events that came in so far, oldest first. Does not read from the socket.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.take()
    }

    /// How many events were dropped because nobody took them; see [`wait_event`](Self::wait_event).
    pub fn dropped_events(&self) -> u64 {
        self.events.dropped()
    }

    /// Waits for an event that `pick` wants. It is shown each event once, queued ones first, and the
    /// one that it answers with `Some` leaves the queue; all others stay for later calls.
    ///
    /// The queue holds [`MAX_EVENTS`](crate::MAX_EVENTS) events of together
    /// [`MAX_EVENT_BYTES`](crate::MAX_EVENT_BYTES); the oldest are dropped for new ones. So a wait that
    /// timed out is no proof that nothing happened: ask QEMU for its state.
    ///
    /// With a deadline that is over, it looks at what has come in and does not wait.
    ///
    /// # Errors
    /// [`Error::TimedOut`] at the deadline; [`Error::Closed`] or [`Error::Protocol`] if the connection is
    /// lost, but only after the events that came before.
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
                    other => drop(self.calls.settle(other)),
                }
            }
            self.connection.turn(&mut wait)?;
        }
    }

    /// Sends commands and collects an answer for each. What a failure leaves unsent is taken back.
    fn run(
        &mut self,
        commands: &[(&str, Value)],
        what: &dyn fmt::Display,
        deadline: Deadline,
    ) -> Result<Vec<Answer>, Error> {
        self.connection.check()?;
        let mut wait = Wait::new(deadline, what);
        if deadline.is_over() {
            return Err(wait.timed_out());
        }
        let first_id = self.calls.next_id;
        for (command, arguments) in commands {
            let id = self.calls.begin();
            debug!(id, command, "to QEMU");
            trace!(id, %arguments, "arguments");
            self.connection.queue(&codec::encode(id, command, arguments))?;
        }
        let collected = self.collect(commands, first_id, &mut wait);
        if collected.is_err() && self.connection.withdraw() {
            self.calls.forget_from(first_id);
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
            let Some((id, outcome)) = self.sort(message, bytes) else {
                continue;
            };
            let place = id.checked_sub(first_id).and_then(|place| usize::try_from(place).ok());
            let Some(place) = place else { continue };
            if let (Some(slot), Some((command, _))) = (answers.get_mut(place), commands.get(place))
            {
                // Never twice for one place: `sort` gives each number once.
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

    /// Queues an event; gives the answer to a command with that command's number.
    fn sort(&mut self, message: Message, bytes: usize) -> Option<(u64, Outcome)> {
        if let Message::Event(event) = message {
            debug!(event = ?event.name, "from QEMU");
            self.events.push(event, bytes);
            return None;
        }
        self.calls.settle(message)
    }
}

/// A command's answer before the command's name is put to it.
type Outcome = Result<Value, (codec::ErrorClass, String)>;

impl Calls {
    fn begin(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.owed.push_back(id);
        id
    }

    /// For commands that never left.
    fn forget_from(&mut self, first_id: u64) {
        self.owed.retain(|id| *id < first_id);
    }

    /// Takes an answer off the list; `None` for one that nobody is owed, and for other messages.
    fn settle(&mut self, message: Message) -> Option<(u64, Outcome)> {
        let (id, outcome) = match message {
            Message::Return { id, value } => (id, Ok(value)),
            Message::Error { id, class, desc } => (id, Err((class, desc))),
            other => {
                debug!("a message of no use here, passed over");
                trace!(message = ?other, "passed over");
                return None;
            }
        };
        let position = match &id {
            None => 0,
            Some(id) => {
                let id = id.as_u64()?;
                self.owed.iter().position(|owed| *owed == id)?
            }
        };
        let id = self.owed.remove(position)?;
        debug!(id, refused = outcome.is_err(), "from QEMU");
        Some((id, outcome))
    }
}

/// The first message must be the greeting. Silence is an error of its own, for it has its own remedy.
fn read_greeting(
    connection: &mut Connection,
    path: &Path,
    deadline: Deadline,
) -> Result<Greeting, Error> {
    let mut wait = Wait::new(deadline, &"QEMU's greeting");
    loop {
        match connection.received()? {
            Some((Message::Greeting(greeting), _)) => return Ok(greeting),
            Some(_) => {
                let reason = "its first message is not a QMP greeting".to_owned();
                return Err(connection.protocol_error(reason));
            }
            None => {}
        }
        match connection.turn(&mut wait) {
            Err(Error::TimedOut { .. }) if !connection.is_mid_message() => {
                return Err(Error::NoGreeting { path: path.to_owned() });
            }
            outcome => outcome?,
        }
    }
}
