//! One controller of one guest: its rings, its ports, and the devices in them.
//!
//! The engine decides; it has no thread, no file and no clock. Whoever runs it tells it what has happened, and then does what it asks for:
//!
//! ```text
//!    guest rang ───▶ ring() ─┐                            ┌─▶ jobs: open, configure, reset, give back (other threads)
//!    device ready ─▶ device()├─▶ requests wait, fly, are ─┼─▶ notices: what has become of each port (for the store)
//!    job ended ────▶ ended() │   finished and answered    └─▶ settle(): wake the guest?
//!    toolstack ────▶ want() ─┘
//! ```
//!
//! A round is: everything that has happened, then [`Engine::settle`], which hands transfers to the devices, shows the guest all answers at once and
//! says whether it must be woken. So the work of a round costs one wake-up at most, however much it is.
//!
//! What the parts do: `requests` takes what the guest asks for, `controls` and `transfers` hand it over and answer it, `lending` knows what is in a
//! port. They decide with `control`, `queue` and `offer`, which are pure, and make and unmake transfers with `flight`.
//!
//! What the guest says is checked before it is used. A guest that breaks the protocol ends its controller ([`Fault`]), and nothing else.

mod control;
mod controls;
mod flight;
mod job;
mod lending;
mod offer;
mod port;
mod queue;
mod requests;
#[cfg(test)]
mod test;
mod transfers;
mod usb;

use std::collections::VecDeque;
use std::sync::Arc;

use thiserror::Error;
use vusb_host::usbfs::{Buffer, Buffers, Gone, PAGE};
use vusb_usbif::urb::{self, Invalid, Request, Status};
use vusb_usbif::{Broken, Notify, Page, Port, Speed, connect};

use flight::Scratch;
pub use job::{Chosen, Failure, Job, Opened, Outcome, Work};
pub use offer::{CannotOffer, Offer};
use port::{Slot, State};
pub use usb::{BadMemory, Memory, Piece, Usb};

use crate::counters::Counters;
use crate::nodes::{PortStatus, Want};

/// How many requests are looked at in one round: as many as the ring holds, four times over. A guest whose requests are all answered at once could
/// otherwise keep the engine in one round for ever.
const ROUND: usize = 64;
/// Addresses of endpoints go from 1 to 15, with this bit for IN.
const IN: u8 = flight::IN;

/// Why a controller ends.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// A ring's index cannot be true.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// A request that no driver makes.
    #[error("{0}; drop this controller")]
    Nonsense(Invalid),
    /// A number that is in use.
    #[error("the guest used request number {0} again before it was answered; drop this controller")]
    Duplicate(u16),
    /// Memory that it did not lend.
    #[error("{0}; drop this controller")]
    Memory(#[from] BadMemory),
}

/// What has become of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The port.
    pub port: Port,
    /// `None`: it is empty.
    pub status: Option<PortStatus>,
}

/// What a round leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Whether the guest must be woken.
    pub notify: Notify,
    /// Whether something is to be tried again in a moment.
    pub again: bool,
}

/// One controller of one guest.
pub struct Engine<P, M, U: Usb> {
    urbs: urb::Ring<P>,
    connects: connect::Ring<P>,
    memory: M,
    slots: Vec<Slot<U>>,
    /// What the guest is still to be told.
    tell: VecDeque<(Port, Speed)>,
    /// The numbers of the guest's requests that are not answered.
    ids: Vec<u16>,
    /// Jobs to be done.
    jobs: Vec<Job<U>>,
    notices: Vec<Notice>,
    pools: Pools,
    scratch: Scratch,
    counters: Arc<Counters>,
    next_token: u64,
    next_number: u64,
    notify: Notify,
}

/// Memory for transfers, by size.
struct Pools {
    small: Buffers,
    large: Buffers,
}

impl Pools {
    fn new() -> Pools {
        // A page for the offset in the first page.
        Pools {
            small: Buffers::new(2 * PAGE, 48),
            large: Buffers::new(queue::MERGED_BYTES + PAGE, 16),
        }
    }

    fn take(&self, bytes: usize) -> Option<Buffer> {
        let pool = if bytes <= PAGE { &self.small } else { &self.large };
        pool.take()
    }
}

impl<P: Page, M: Memory, U: Usb> Engine<P, M, U> {
    /// A controller with so many ports (1 to 31), whose rings are in these pages.
    pub fn new(urbs: P, connects: P, ports: u8, memory: M, counters: Arc<Counters>) -> Self {
        Engine {
            urbs: urb::Ring::new(urbs),
            connects: connect::Ring::new(connects),
            memory,
            slots: (0..ports.min(Port::MAX.number())).map(|_| Slot::new()).collect(),
            tell: VecDeque::new(),
            ids: Vec::new(),
            jobs: Vec::new(),
            notices: Vec::new(),
            pools: Pools::new(),
            scratch: Scratch::default(),
            counters,
            next_token: 0,
            next_number: 0,
            notify: Notify::NotDue,
        }
    }

    /// The jobs that have to be done since the last call.
    pub fn take_jobs(&mut self) -> Vec<Job<U>> {
        std::mem::take(&mut self.jobs)
    }

    /// What has become of ports since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The guest's memory.
    pub fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }

    /// The device in a port, if there is one that may be touched now: for waiting until it is ready.
    pub fn watched(&self, port: Port) -> Option<&U> {
        match &self.slots.get(index(port))?.state {
            State::Lent(lent) if !lent.busy && !lent.gone => Some(&lent.usb),
            _ => None,
        }
    }

    /// The ports for which [`Engine::watched`] has a device: bit 0 is port 1.
    pub fn touchable(&self) -> u32 {
        let watched = self.ports().filter(|port| self.watched(*port).is_some());
        watched.map(|port| 1 << index(port)).sum()
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = Port> + use<P, M, U> {
        (0..self.slots.len()).filter_map(number)
    }

    /// Whether no port has anything of the host's any more.
    pub fn is_empty(&self) -> bool {
        let none = |slot: &Slot<U>| {
            !matches!(slot.state, State::Opening(_) | State::Lent(_) | State::GivingBack)
        };
        self.slots.iter().all(none)
    }

    // ---- what has happened

    /// The guest may have put requests into its ring.
    ///
    /// # Errors
    /// The guest broke the protocol: end the controller.
    pub fn ring(&mut self) -> Result<(), Fault> {
        for _ in 0..ROUND {
            let Some((ticket, request)) = self.urbs.next()? else { return Ok(()) };
            if self.ids.contains(&ticket.id()) {
                return Err(Fault::Duplicate(ticket.id()));
            }
            self.ids.push(ticket.id());
            self.counters.request();
            match request {
                Request::Submit(transfer) => self.submitted(ticket, transfer)?,
                Request::Unlink { target } => self.unlinked(ticket, target),
                Request::Invalid(why) if is_lie(why) => return Err(Fault::Nonsense(why)),
                Request::Invalid(_) => self.answer(ticket, flight::response(Status::Invalid, 0)),
            }
        }
        Ok(())
    }

    /// A device may have finished transfers, or may be gone.
    ///
    /// # Errors
    /// The guest's memory is not there: end the controller.
    pub fn device(&mut self, port: Port) -> Result<(), Fault> {
        loop {
            let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) else {
                return Ok(());
            };
            if lent.busy {
                return Ok(());
            }
            match lent.usb.reap() {
                Ok(None) => return Ok(()),
                Ok(Some(done)) => self.landed(port, &done)?,
                Err(Gone) => {
                    lent.gone = true;
                    self.leave(port);
                    return Ok(());
                }
            }
            // With nothing left at the device there is nothing more to reap: saves a system call a transfer.
            let lent = self.slots.get_mut(index(port)).and_then(Slot::lent);
            if lent.is_none_or(|it| it.usb.in_flight() == 0) {
                return Ok(());
            }
        }
    }

    /// A job has ended.
    pub fn ended(&mut self, port: Port, outcome: Outcome<U>) {
        let Some(slot) = self.slots.get_mut(index(port)) else { return };
        match outcome {
            Outcome::Opened(opened) => self.opened(port, *opened),
            Outcome::Absent => self.not_opened(port, State::Absent, PortStatus::Absent),
            Outcome::Refused(why) => {
                self.not_opened(port, State::Refused, PortStatus::Refused(why));
            }
            Outcome::Done(result) => self.job_done(port, result),
            Outcome::GaveBack => {
                slot.state = State::Empty;
                if slot.wanted.is_none() {
                    self.notice(port, None);
                }
                self.reconcile(port);
            }
        }
    }

    /// The toolstack wants this device in the port, or none.
    pub fn want(&mut self, port: Port, want: Option<Want>) {
        let Some(slot) = self.slots.get_mut(index(port)) else { return };
        slot.wanted = want;
        self.reconcile(port);
    }

    /// The toolstack wants no device in any port: the controller is to end.
    pub fn want_none(&mut self) {
        for port in self.ports() {
            self.want(port, None);
        }
    }

    /// Something was plugged in here, or something about a device has changed: what was not there may be now.
    pub fn plugged(&mut self, is: impl Fn(&Want) -> bool) {
        for port in self.ports() {
            let Some(slot) = self.slots.get_mut(index(port)) else { continue };
            match &slot.state {
                State::Absent(want) | State::Refused(want) if is(want) => {
                    slot.state = State::Empty;
                    self.reconcile(port);
                }
                State::Opening(want) if is(want) => slot.look_again = true,
                _ => {}
            }
        }
    }

    // ---- the end of a round

    /// Hands over what waits, shows the guest all answers, and says whether it must be woken.
    ///
    /// # Errors
    /// The guest broke the protocol: end the controller.
    pub fn settle(&mut self) -> Result<Settled, Fault> {
        let mut again = false;
        for port in self.ports() {
            again |= self.pump(port)?;
        }
        while let Some((port, speed)) = self.tell.front().copied() {
            // A guest whose ring is broken is told of nothing any more, and its devices are given back all the same.
            let posted = self.connects.post(port, speed).inspect_err(|_| self.tell.clear())?;
            match posted {
                connect::Posted::Sent(notify) => {
                    self.notify = self.notify.or(notify);
                    self.tell.pop_front();
                }
                // Credit that has come just now is used in a moment: a guest that gives and takes it does not keep us here.
                connect::Posted::NoCredit => {
                    again |= self.connects.rearm();
                    break;
                }
            }
        }
        let notify = self.notify.or(self.urbs.publish());
        self.notify = Notify::NotDue;
        self.counters.in_flight(self.ids.len());
        Ok(Settled { notify, again })
    }

    /// Before sleeping: asks to be woken, and says whether there is something to do already.
    #[must_use = "if a request is there already, no event will come for it"]
    pub fn rearm(&mut self) -> bool {
        self.urbs.rearm()
    }
}

/// Whether a request shows that the guest's driver is broken or lies; what is left is merely more than can be done.
const fn is_lie(why: Invalid) -> bool {
    !matches!(
        why,
        Invalid::TooManyPackets(_) | Invalid::ControlTooShort { .. } | Invalid::ControlDirection
    )
}

fn index(port: Port) -> usize {
    usize::from(port.number()) - 1
}

fn number(index: usize) -> Option<Port> {
    Port::new(u8::try_from(index + 1).ok()?).ok()
}
