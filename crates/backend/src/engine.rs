//! One controller of one guest: its rings, its ports, and the devices in them.
//!
//! The engine makes decisions. It has no thread, no files and no clock. Its caller tells it what
//! has happened, and then carries out what it asks for:
//!
//! ```text
//!   guest event ──▶ take_requests() ─┐                     ┌─▶ jobs (on other threads):
//!   transfer done ▶ reap() ──────────┤                     │   open, configure, reset, release
//!   job ended ────▶ job_ended() ─────┼─▶ requests: queue, ─┼─▶ status changes of ports (xenstore)
//!   toolstack ────▶ set_device() ────┘   submit, complete, └─▶ finish_round(): wake the guest?
//!                                        answer
//! ```
//!
//! In a round, the caller reports everything that has happened, and then calls
//! [`Engine::finish_round`]. That submits transfers to the devices, publishes all responses at
//! once, and returns whether the guest must be woken. So a round wakes the guest at most once,
//! however much it does, or twice if the caller waits for a train ([`Engine::publish`]): the
//! requests that carry the data of one storage command.
//!
//! `requests` accepts the guest's requests, `control_requests` and `transfers` submit and answer
//! them, and `port_lifecycle` attaches and detaches devices. They decide with `control_policy`,
//! `queue`, `train` and `guest_view`, which are pure, and convert between requests and transfers
//! with `in_flight`.
//!
//! Data from the guest is checked before it is used. A guest that breaks the protocol ends its own
//! controller ([`Fault`]), and nothing else.

mod control_policy;
mod control_requests;
mod guest_view;
mod in_flight;
mod job;
mod port;
mod port_lifecycle;
mod queue;
mod requests;
#[cfg(test)]
mod test;
mod train;
mod transfers;
mod usb;

use std::collections::VecDeque;
use std::sync::Arc;

use thiserror::Error;
use vusb_host::usbfs::{Buffer, BufferPool, Gone, PAGE};
use vusb_usbif::urb::{self, Invalid, Request, Status};
use vusb_usbif::{Broken, Notify, Page, Port, Speed, connect};

pub use guest_view::{ExportError, GuestView};
use in_flight::Scratch;
pub use job::{Configuration, Failure, Job, Opened, Outcome, Work};
use port::{Exported, Slot, State};
pub use usb::{BadMemory, Memory, Piece, Usb};

use crate::counters::Counters;
use vusb_xen::usb::{PortStatus, RequestedDevice};

/// The most requests that one call of [`Engine::take_requests`] reads. The ring already returns at
/// most 16 between two calls of [`Engine::publish`] ([`urb::Ring::next`]); this limit holds even if
/// it did not.
const MAX_REQUESTS_PER_CALL: usize = 64;
/// The direction bit of an endpoint address: set for IN.
const IN: u8 = in_flight::IN;

/// A protocol violation by the guest: the reason why its controller ends.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// A ring has an impossible index.
    #[error(transparent)]
    Ring(#[from] Broken),
    /// A request that no correct driver sends.
    #[error("{0}")]
    InvalidRequest(Invalid),
    /// A request id that is still in use.
    #[error("the guest reused request id {0} before the request was answered")]
    DuplicateId(u16),
    /// A request that refers to memory which is not granted.
    #[error(transparent)]
    Memory(#[from] BadMemory),
}

/// A change of a port's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// The port.
    pub port: Port,
    /// The new status; `None` if the port is empty.
    pub status: Option<PortStatus>,
}

/// What the caller has to do after a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundEnd {
    /// Whether the guest must be woken.
    pub notify: Notify,
    /// Whether the guest has no unanswered request, and got responses at the end of this round: its
    /// next request may follow at once.
    pub drained: bool,
    /// Whether to run another round soon, although no event will ask for it.
    pub retry: bool,
}

/// One controller of one guest.
pub struct Engine<P, M, U: Usb> {
    urbs: urb::Ring<P>,
    connects: connect::Ring<P>,
    memory: M,
    slots: Vec<Slot<U>>,
    /// The ports whose state is [`State::Exported`]. Bit 0 is port 1. Only these ports need
    /// work in a round, and most ports are empty.
    exported: u32,
    /// Connection events that have not been posted to the guest yet.
    port_events: VecDeque<(Port, Speed)>,
    /// The ids of the guest's requests that are not answered.
    unanswered: Vec<u16>,
    /// Jobs for the caller to start.
    jobs: Vec<Job<U>>,
    status_changes: Vec<StatusChange>,
    pools: Pools,
    scratch: Scratch,
    counters: Arc<Counters>,
    /// The token of the next transfer.
    next_token: u64,
    /// The number of the next request ([`queue::Item::number`]).
    next_number: u64,
    notify: Notify,
}

/// Memory for transfers, in two sizes.
struct Pools {
    small: BufferPool,
    large: BufferPool,
}

impl Pools {
    fn new() -> Pools {
        // One extra page, because data keeps the guest's offset within its first page.
        Pools {
            small: BufferPool::new(2 * PAGE, 48),
            large: BufferPool::new(queue::MERGED_BYTES + PAGE, 16),
        }
    }

    fn take(&self, bytes: usize) -> Option<Buffer> {
        let pool = if bytes <= PAGE { &self.small } else { &self.large };
        pool.take()
    }
}

impl<P: Page, M: Memory, U: Usb> Engine<P, M, U> {
    /// A controller with this number of ports (1 to 31), whose rings are in these pages.
    pub fn new(urbs: P, connects: P, ports: u8, memory: M, counters: Arc<Counters>) -> Self {
        Engine {
            urbs: urb::Ring::new(urbs),
            connects: connect::Ring::new(connects),
            memory,
            slots: (0..ports.min(Port::MAX.number())).map(|_| Slot::new()).collect(),
            exported: 0,
            port_events: VecDeque::new(),
            unanswered: Vec::new(),
            jobs: Vec::new(),
            status_changes: Vec::new(),
            pools: Pools::new(),
            scratch: Scratch::default(),
            counters,
            next_token: 0,
            next_number: 0,
            notify: Notify::NotDue,
        }
    }

    /// The jobs to start since the last call.
    pub fn take_jobs(&mut self) -> Vec<Job<U>> {
        std::mem::take(&mut self.jobs)
    }

    /// The changes of port status since the last call.
    pub fn take_status_changes(&mut self) -> Vec<StatusChange> {
        std::mem::take(&mut self.status_changes)
    }

    /// The guest's memory.
    pub fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }

    /// The device in a port, if the caller may wait for its transfers now. A device may not be
    /// polled while a job works on it, or after it was unplugged.
    pub fn pollable(&self, port: Port) -> Option<&U> {
        match &self.slots.get(index(port))?.state {
            State::Exported(device) if !device.job_running && !device.unplugged => {
                Some(&device.usb)
            }
            _ => None,
        }
    }

    /// The ports for which [`Engine::pollable`] returns a device. Bit 0 is port 1.
    pub fn pollable_mask(&self) -> u32 {
        let pollable = self.exported_ports().filter(|port| self.pollable(*port).is_some());
        pollable.map(|port| 1 << index(port)).sum()
    }

    /// The ports whose state is [`State::Exported`].
    fn exported_ports(&self) -> impl Iterator<Item = Port> + use<P, M, U> {
        let mut left = self.exported;
        std::iter::from_fn(move || {
            let first = left.trailing_zeros();
            // Removes the lowest bit that is set.
            left &= left.checked_sub(1)?;
            port_at(first as usize)
        })
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = Port> + use<P, M, U> {
        (0..self.slots.len()).filter_map(port_at)
    }

    /// Whether no port holds, opens or releases a host device.
    pub fn is_empty(&self) -> bool {
        let holds_no_device = |slot: &Slot<U>| {
            !matches!(slot.state, State::Opening(_) | State::Exported(_) | State::Releasing)
        };
        self.slots.iter().all(holds_no_device)
    }

    /// The device in a port, if there is one.
    fn device(&mut self, port: Port) -> Option<&mut Exported<U>> {
        self.slots.get_mut(index(port)).and_then(Slot::exported)
    }

    // ---- what has happened

    /// Reads the requests that the guest has put into its ring.
    ///
    /// # Errors
    /// The guest broke the protocol: end the controller.
    pub fn take_requests(&mut self) -> Result<(), Fault> {
        for _ in 0..MAX_REQUESTS_PER_CALL {
            let Some((ticket, request)) = self.urbs.next()? else { return Ok(()) };
            if self.unanswered.contains(&ticket.id()) {
                return Err(Fault::DuplicateId(ticket.id()));
            }
            self.unanswered.push(ticket.id());
            self.counters.request();
            match request {
                Request::Submit(transfer) => self.handle_submit(ticket, transfer)?,
                Request::Unlink { target } => self.handle_unlink(ticket, target),
                Request::Invalid(why) if is_protocol_violation(why) => {
                    return Err(Fault::InvalidRequest(why));
                }
                Request::Invalid(_) => self.answer(ticket, in_flight::response(Status::Invalid, 0)),
            }
        }
        Ok(())
    }

    /// Takes the completed transfers of a device, and detects that it was unplugged.
    ///
    /// # Errors
    /// The guest's memory is not granted: end the controller.
    pub fn reap(&mut self, port: Port) -> Result<(), Fault> {
        loop {
            let Some(device) = self.device(port) else {
                return Ok(());
            };
            if device.job_running {
                return Ok(());
            }
            match device.usb.reap() {
                Ok(None) => return Ok(()),
                Ok(Some(done)) => self.transfer_done(port, &done)?,
                Err(Gone) => {
                    device.unplugged = true;
                    self.begin_detach(port);
                    return Ok(());
                }
            }
            // If the device has no more transfers, there is nothing to reap. This saves one system
            // call per transfer.
            let device = self.device(port);
            if device.is_none_or(|it| it.usb.in_flight() == 0) {
                return Ok(());
            }
        }
    }

    /// Processes the outcome of a job.
    pub fn job_ended(&mut self, port: Port, outcome: Outcome<U>) {
        let Some(slot) = self.slots.get_mut(index(port)) else { return };
        match outcome {
            Outcome::Opened(opened) => self.opened(port, *opened),
            Outcome::Absent => self.not_opened(port, State::Absent, PortStatus::Absent),
            Outcome::Refused(why) => {
                self.not_opened(port, State::Refused, PortStatus::Refused(why));
            }
            Outcome::Done(result) => self.job_done(port, result),
            Outcome::Released => {
                slot.state = State::Empty;
                if slot.requested.is_none() {
                    self.report_status(port, None);
                }
                self.reconcile(port);
            }
        }
    }

    /// The toolstack requests this device for the port; `None` to empty the port.
    pub fn set_device(&mut self, port: Port, requested: Option<RequestedDevice>) {
        let Some(slot) = self.slots.get_mut(index(port)) else { return };
        slot.requested = requested;
        self.reconcile(port);
    }

    /// Empties all ports, because the controller is about to end.
    pub fn clear_devices(&mut self) {
        for port in self.ports() {
            self.set_device(port, None);
        }
    }

    /// Retries requests for devices that were absent or refused. To be called when a device was
    /// plugged in or changed; `affected` selects the requests.
    pub fn devices_changed(&mut self, affected: impl Fn(&RequestedDevice) -> bool) {
        for port in self.ports() {
            let Some(slot) = self.slots.get_mut(index(port)) else { continue };
            match &slot.state {
                State::Absent(requested) | State::Refused(requested) if affected(requested) => {
                    slot.state = State::Empty;
                    self.reconcile(port);
                }
                State::Opening(requested) if affected(requested) => slot.rescan = true,
                _ => {}
            }
        }
    }

    // ---- the end of a round

    /// Ends a round: submits waiting transfers, posts connection events and publishes all
    /// responses.
    ///
    /// # Errors
    /// The guest broke the protocol: end the controller.
    pub fn finish_round(&mut self) -> Result<RoundEnd, Fault> {
        let mut retry = false;
        for port in self.exported_ports() {
            retry |= self.pump(port)?;
        }
        while let Some((port, speed)) = self.port_events.front().copied() {
            // A guest whose ring is broken gets no more events, but its devices still have to be
            // released: an event that stays in the queue would fail every later round.
            let posted =
                self.connects.post(port, speed).inspect_err(|_| self.port_events.clear())?;
            match posted {
                connect::Posted::Sent(notify) => {
                    self.notify = self.notify.or(notify);
                    self.port_events.pop_front();
                }
                // Credit that arrives right now is used in the next round. Otherwise a guest that
                // keeps granting and revoking credit could hold the engine in this loop.
                connect::Posted::NoCredit => {
                    retry |= self.connects.rearm();
                    break;
                }
            }
        }
        let drained = self.unanswered.is_empty() && self.urbs.has_unpublished();
        let notify = self.publish();
        self.counters.in_flight(self.unanswered.len());
        Ok(RoundEnd { notify, drained, retry })
    }

    /// Publishes the responses so far. Returns whether the guest must be woken.
    pub fn publish(&mut self) -> Notify {
        std::mem::replace(&mut self.notify, Notify::NotDue).or(self.urbs.publish())
    }

    /// Whether the requests taken so far begin a train, and the others are about to arrive and fit
    /// into the ring. The caller may wait briefly for them before it ends the round.
    pub fn awaits_train(&self) -> bool {
        let free = (urb::RING_SLOTS as usize).saturating_sub(self.unanswered.len());
        self.exported_ports().any(|port| match self.slots.get(index(port)).map(|it| &it.state) {
            Some(State::Exported(device)) => device.awaits_train(free),
            _ => false,
        })
    }

    /// Whether the guest has sent a request that was not taken. One load of the guest's memory.
    pub fn has_request(&self) -> bool {
        self.urbs.has_request()
    }

    /// Asks the guest to send no events until [`Engine::rearm`], because the caller is awake.
    pub fn park(&mut self) {
        self.urbs.park();
    }

    /// Asks the guest for an event with its next request. The caller calls this before it sleeps,
    /// and must not sleep if it returns true: a request has already arrived.
    #[must_use = "if a request is there already, no event will come for it"]
    pub fn rearm(&mut self) -> bool {
        self.urbs.rearm()
    }
}

/// Whether an invalid request means that the guest's driver is broken or malicious. Other invalid
/// requests are answered with an error, and the controller continues.
const fn is_protocol_violation(why: Invalid) -> bool {
    !matches!(
        why,
        Invalid::TooManyPackets(_) | Invalid::ControlTooShort { .. } | Invalid::ControlDirection
    )
}

fn index(port: Port) -> usize {
    usize::from(port.number()) - 1
}

fn port_at(index: usize) -> Option<Port> {
    Port::new(u8::try_from(index + 1).ok()?).ok()
}
