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
//! What the guest says is checked before it is used. A guest that breaks the protocol ends its controller ([`Fault`]), and nothing else.

mod control;
mod flight;
mod job;
mod offer;
mod port;
mod queue;
#[cfg(test)]
mod test;
mod usb;

use std::collections::VecDeque;
use std::sync::Arc;

use thiserror::Error;
use vusb_host::usbfs::{Buffer, Buffers, Gone, PAGE, Refused, Urb};
use vusb_usbif::urb::{
    self, Direction, Invalid, Kind, Request, Response, Status, Ticket, Transfer,
};
use vusb_usbif::{Broken, Notify, Page, Port, Speed, connect};

use control::Verdict;
use flight::{Flight, Scratch};
pub use job::{Chosen, Failure, Job, Opened, Outcome, Work};
pub use offer::Offer;
use port::{Change, Control, Lent, Pending, Slot, State};
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
            Outcome::Absent => {
                if let State::Opening(want) = std::mem::replace(&mut slot.state, State::Empty) {
                    slot.state = State::Absent(want);
                    self.notice(port, Some(PortStatus::Absent));
                }
                self.reconcile(port);
            }
            Outcome::Refused(why) => {
                if let State::Opening(want) = std::mem::replace(&mut slot.state, State::Empty) {
                    slot.state = State::Refused(want);
                    self.notice(port, Some(PortStatus::Refused(why)));
                }
                self.reconcile(port);
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
            if matches!(&slot.state, State::Absent(want) | State::Refused(want) if is(want)) {
                slot.state = State::Empty;
                self.reconcile(port);
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
                connect::Posted::NoCredit if self.connects.rearm() => {}
                connect::Posted::NoCredit => break,
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

/// Requests.
impl<P: Page, M: Memory, U: Usb> Engine<P, M, U> {
    fn submitted(&mut self, ticket: Ticket, transfer: Transfer) -> Result<(), Fault> {
        let lent = self.slots.get_mut(index(transfer.port)).and_then(Slot::lent);
        let Some(lent) = lent.filter(|it| !it.leaving && answers_at(it, &transfer)) else {
            self.answer(ticket, flight::response(Status::NoDevice, 0));
            return Ok(());
        };
        let pending = Pending { ticket, transfer, unlinked: false };
        match transfer.kind {
            Kind::Control(_) => lent.control.push_back(pending),
            Kind::Isochronous(iso) if iso.packets == 0 => {
                self.answer_pending(pending, flight::response(Status::Ok, 0));
            }
            kind => {
                let direction = if transfer.direction == Direction::In { IN } else { 0 };
                lent.endpoint(transfer.endpoint | direction, kind == Kind::Bulk).push(pending);
            }
        }
        Ok(())
    }

    /// The guest wants a request cancelled. It is answered at once; the cancelled one when the device has let go of it.
    fn unlinked(&mut self, ticket: Ticket, target: u16) {
        let waiting =
            self.slots.iter_mut().filter_map(Slot::lent).find_map(|it| it.take_waiting(target));
        if let Some(pending) = waiting {
            self.answer_pending(pending, flight::response(Status::IoError, 0));
        } else {
            for lent in self.slots.iter_mut().filter_map(Slot::lent) {
                let Some(token) = lent.mark_unlinked(target) else { continue };
                if lent.busy {
                    lent.discards.push(token);
                } else {
                    lent.usb.discard(token);
                }
            }
        }
        self.answer(ticket, flight::response(Status::Ok, 0));
    }

    fn answer(&mut self, ticket: Ticket, response: Response) {
        self.ids.retain(|id| *id != ticket.id());
        if response.status != Status::Ok {
            self.counters.error();
        }
        // A ticket of this engine is a ticket of its ring.
        let _ = self.urbs.respond(ticket, response);
    }

    fn answer_pending(&mut self, pending: Pending, response: Response) {
        self.counters.moved(pending.transfer.direction, response.actual_length);
        self.answer(pending.ticket, response);
    }
}

/// Whether the request is to the address that the device has, or to the one that it has before it is given one.
fn answers_at<U>(lent: &Lent<U>, transfer: &Transfer) -> bool {
    let at_zero = transfer.address == 0 && matches!(transfer.kind, Kind::Control(_));
    at_zero || lent.address == Some(transfer.address)
}

/// Transfers.
impl<P: Page, M: Memory, U: Usb> Engine<P, M, U> {
    /// Hands over what waits for a device. Whether to try again in a moment.
    fn pump(&mut self, port: Port) -> Result<bool, Fault> {
        let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) else {
            return Ok(false);
        };
        if lent.busy {
            return Ok(false);
        }
        lent.starved = false;
        if lent.leaving {
            return Ok(self.depart(port));
        }
        self.pump_control(port)?;
        self.pump_endpoints(port)?;
        let lent = self.slots.get_mut(index(port)).and_then(Slot::lent);
        Ok(lent.is_some_and(|it| it.starved))
    }

    fn pump_control(&mut self, port: Port) -> Result<(), Fault> {
        loop {
            let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) else {
                return Ok(());
            };
            if lent.busy || lent.leaving || lent.starved || lent.current.is_some() {
                return Ok(());
            }
            let Some(pending) = lent.control.pop_front() else { return Ok(()) };
            self.control(port, pending)?;
        }
    }

    /// Does one control request, or begins to.
    fn control(&mut self, port: Port, pending: Pending) -> Result<(), Fault> {
        let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) else {
            return Ok(());
        };
        let Kind::Control(setup) = pending.transfer.kind else { return Ok(()) };
        let handle = lent.usb.handle();
        match control::verdict(&setup, pending.transfer.address, &lent.offer) {
            Verdict::Answer(status, bytes) => {
                flight::write_answer(&pending, bytes, &mut self.memory, &mut self.scratch)?;
                let length = bytes.len();
                self.answer_pending(pending, flight::response(status, length));
            }
            // A device that has an address is at 0 again because the guest has reset its port.
            Verdict::Address(address)
                if lent.address.is_some() && pending.transfer.address == 0 =>
            {
                let work = Work::Reset(handle, lent.taken());
                self.at_job(port, pending, Change::Address(address), work);
            }
            Verdict::Address(address) => {
                lent.address = Some(address).filter(|it| *it > 0);
                self.notice(port, Some(PortStatus::Addressed));
                self.answer_pending(pending, flight::response(Status::Ok, 0));
            }
            Verdict::Configure(value) => match lent.offer.chosen(value) {
                Some(to) => {
                    let work = Work::Configure(handle, lent.active.clone(), to.clone());
                    self.at_job(port, pending, Change::Configuration(to), work);
                }
                None => self.answer_pending(pending, flight::response(Status::Stall, 0)),
            },
            Verdict::SetInterface(interface, alternate) => {
                self.at_job(
                    port,
                    pending,
                    Change::Nothing,
                    Work::SetInterface(handle, interface, alternate),
                );
            }
            Verdict::ClearHalt(endpoint) => {
                self.at_job(port, pending, Change::Nothing, Work::ClearHalt(handle, endpoint));
            }
            Verdict::Forward => {
                let Some(buffer) = self.pools.take(flight::control_bytes(&setup)) else {
                    lent.starved = true;
                    lent.control.push_front(pending);
                    return Ok(());
                };
                let urb = flight::prepare_control(
                    &pending,
                    &setup,
                    buffer,
                    &mut self.memory,
                    &mut self.scratch,
                )?;
                self.fly(port, Flight::Control(pending, setup), urb);
            }
        }
        Ok(())
    }

    fn at_job(&mut self, port: Port, pending: Pending, change: Change, work: Work<U>) {
        if let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) {
            lent.busy = true;
            lent.current = Some(Control::AtJob(Box::new(pending), change));
            self.jobs.push(Job { port, work });
        }
    }

    fn pump_endpoints(&mut self, port: Port) -> Result<(), Fault> {
        loop {
            let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) else {
                return Ok(());
            };
            if lent.busy || lent.leaving || lent.starved {
                return Ok(());
            }
            let next =
                lent.endpoints.iter_mut().find_map(|(at, queue)| Some((*at, queue.next_batch()?)));
            let Some((endpoint, batch)) = next else { return Ok(()) };
            self.begin(port, endpoint, batch)?;
        }
    }

    /// Makes one transfer of requests, and hands it over.
    fn begin(
        &mut self,
        port: Port,
        endpoint: u8,
        batch: queue::Batch<Pending>,
    ) -> Result<(), Fault> {
        let queue::Batch { mut items, holds } = batch;
        let bytes = items.iter().map(queue::Item::length).sum();
        let Some(buffer) = self.pools.take(bytes) else {
            self.shortage(port, endpoint, items);
            return Ok(());
        };
        let (memory, scratch) = (&mut self.memory, &mut self.scratch);
        let iso = match (items.len(), items.first().map(|it| it.transfer.kind)) {
            (1, Some(Kind::Isochronous(iso))) => items.pop().map(|item| (item, iso)),
            _ => None,
        };
        let Some((item, iso)) = iso else {
            let urb = flight::prepare_data(endpoint, &items, buffer, memory, scratch)?;
            self.fly(port, Flight::Data { endpoint, items, holds }, urb);
            return Ok(());
        };
        let Some(packets) = flight::iso_packets(&item, &iso, memory, scratch)? else {
            self.answer_pending(item, flight::response(Status::Invalid, 0));
            return Ok(());
        };
        let urb = flight::prepare_iso(endpoint, &item, &packets, buffer, memory, scratch)?;
        self.fly(port, Flight::Iso(item, iso, packets), urb);
        Ok(())
    }

    /// Hands a transfer to the device.
    fn fly(&mut self, port: Port, flight: Flight, urb: Option<Urb>) {
        let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) else { return };
        let token = self.next_token;
        self.next_token += 1;
        let submitted = match urb {
            Some(urb) => lent.usb.submit(urb, token).map_err(|(refused, _)| refused),
            None => Err(Refused::Other(0)),
        };
        match submitted {
            Ok(()) => {
                if matches!(flight, Flight::Control(..)) {
                    lent.current = Some(Control::AtDevice);
                }
                lent.flights.push((token, flight));
            }
            Err(Refused::NoMemory | Refused::TooMany(_)) => self.put_back(port, flight),
            Err(Refused::Gone) => {
                lent.gone = true;
                self.refuse(port, flight, Status::NoDevice);
                self.leave(port);
            }
            Err(_) => self.refuse(port, flight, Status::Invalid),
        }
    }

    fn put_back(&mut self, port: Port, flight: Flight) {
        match flight {
            Flight::Data { endpoint, items, .. } => self.shortage(port, endpoint, items),
            Flight::Iso(item, ..) => {
                let endpoint = item.transfer.endpoint
                    | if item.transfer.direction == Direction::In { IN } else { 0 };
                self.shortage(port, endpoint, vec![item]);
            }
            Flight::Control(item, _) => {
                if let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) {
                    lent.starved = true;
                    lent.control.push_front(item);
                }
            }
        }
    }

    /// There is no memory for a transfer at present: it waits, and smaller ones are tried.
    fn shortage(&mut self, port: Port, endpoint: u8, items: Vec<Pending>) {
        if let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) {
            lent.starved = true;
            let queue = lent.endpoint(endpoint, false);
            queue.put_back(items);
            queue.release();
            queue.merge_less();
        }
    }

    fn refuse(&mut self, port: Port, flight: Flight, status: Status) {
        if let (Flight::Data { endpoint, holds: true, .. }, Some(lent)) =
            (&flight, self.slots.get_mut(index(port)).and_then(Slot::lent))
        {
            lent.endpoint(*endpoint, false).release();
        }
        for item in flight.into_items() {
            self.answer_pending(item, flight::response(status, 0));
        }
    }

    /// A transfer is finished.
    fn landed(&mut self, port: Port, done: &vusb_host::usbfs::Done) -> Result<(), Fault> {
        let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) else {
            return Ok(());
        };
        let Some(at) = lent.flights.iter().position(|(token, _)| *token == done.token) else {
            return Ok(());
        };
        let (_, flight) = lent.flights.swap_remove(at);
        let endpoint = match &flight {
            Flight::Control(..) => {
                lent.current = None;
                None
            }
            Flight::Data { endpoint, holds, .. } => Some((*endpoint, *holds)),
            Flight::Iso(..) => None,
        };
        let leaving = lent.leaving;
        let finished = flight::finish(flight, done, &mut self.memory, &mut self.scratch)?;
        for (item, mut response) in finished.answers {
            if leaving && response.status != Status::Ok {
                response.status = Status::NoDevice;
            }
            self.answer_pending(item, response);
        }
        if let (Some((endpoint, holds)), Some(lent)) =
            (endpoint, self.slots.get_mut(index(port)).and_then(Slot::lent))
        {
            let queue = lent.endpoint(endpoint, false);
            queue.put_back(finished.again);
            if holds {
                queue.release();
            }
        }
        if leaving {
            self.answer_waiting(port);
        }
        Ok(())
    }

    /// Answers all that the device does not have: it is going away.
    fn answer_waiting(&mut self, port: Port) {
        let waiting = self.slots.get_mut(index(port)).and_then(Slot::lent).map(Lent::drain_waiting);
        for pending in waiting.into_iter().flatten() {
            self.answer_pending(pending, flight::response(Status::NoDevice, 0));
        }
    }
}

/// Ports.
impl<P: Page, M: Memory, U: Usb> Engine<P, M, U> {
    fn notice(&mut self, port: Port, status: Option<PortStatus>) {
        self.notices.push(Notice { port, status });
    }

    /// Brings a port nearer to what is wanted in it.
    fn reconcile(&mut self, port: Port) {
        let Some(slot) = self.slots.get_mut(index(port)) else { return };
        match &slot.state {
            State::Lent(lent) if slot.wanted.as_ref() != Some(&lent.want) => self.leave(port),
            State::Lent(_) | State::Opening(_) | State::GivingBack => {}
            State::Absent(want) | State::Refused(want) if slot.wanted.as_ref() == Some(want) => {}
            State::Empty | State::Absent(_) | State::Refused(_) => match slot.wanted.clone() {
                Some(want) => {
                    slot.state = State::Opening(want.clone());
                    self.jobs.push(Job { port, work: Work::Open(want) });
                }
                None if matches!(slot.state, State::Empty) => {}
                None => {
                    slot.state = State::Empty;
                    self.notice(port, None);
                }
            },
        }
    }

    fn opened(&mut self, port: Port, opened: Opened<U>) {
        let Opened { usb, offer } = opened;
        let Some(slot) = self.slots.get_mut(index(port)) else { return };
        let State::Opening(want) = std::mem::replace(&mut slot.state, State::Empty) else { return };
        let speed = offer.speed();
        slot.state = State::Lent(Box::new(Lent::new(usb, want, offer)));
        self.tell.push_back((port, speed));
        self.notice(port, Some(PortStatus::Offered));
        self.reconcile(port);
    }

    fn job_done(&mut self, port: Port, result: Result<(), Failure>) {
        let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) else { return };
        lent.busy = false;
        let discards = std::mem::take(&mut lent.discards);
        discards.into_iter().for_each(|token| lent.usb.discard(token));
        let Some(Control::AtJob(pending, change)) = lent.current.take() else { return };
        let status = match result {
            Ok(()) => {
                let news = apply(lent, change);
                if let Some(news) = news {
                    self.notice(port, Some(news));
                }
                Status::Ok
            }
            Err(Failure::Stalled) => Status::Stall,
            Err(Failure::Gone) => {
                lent.gone = true;
                self.leave(port);
                Status::NoDevice
            }
            Err(Failure::Failed) => Status::IoError,
        };
        self.answer_pending(*pending, flight::response(status, 0));
        let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) else { return };
        if lent.leaving {
            lent.flights.iter().for_each(|(token, _)| lent.usb.discard(*token));
        }
    }

    /// Begins to take the device in a port back.
    fn leave(&mut self, port: Port) {
        let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) else { return };
        if lent.leaving {
            return;
        }
        lent.leaving = true;
        if !lent.busy {
            lent.flights.iter().for_each(|(token, _)| lent.usb.discard(*token));
        }
        self.tell.push_back((port, Speed::None));
        self.answer_waiting(port);
    }

    /// Gives the device back once all its transfers have come to their end. Whether to look again in a moment.
    fn depart(&mut self, port: Port) -> bool {
        let Some(slot) = self.slots.get_mut(index(port)) else { return false };
        let State::Lent(lent) = &mut slot.state else { return false };
        if lent.usb.in_flight() > 0 {
            // A device that is gone wakes nobody: the kernel is about to finish its transfers.
            return lent.gone;
        }
        let State::Lent(lent) = std::mem::replace(&mut slot.state, State::GivingBack) else {
            return false;
        };
        let original = lent.offer.active();
        self.jobs.push(Job { port, work: Work::GiveBack(lent.usb, lent.active, original) });
        false
    }
}

/// What a job that ended well changes, and what the store is told of it.
fn apply<U>(lent: &mut Lent<U>, change: Change) -> Option<PortStatus> {
    match change {
        Change::Nothing => None,
        Change::Address(address) => {
            lent.address = Some(address).filter(|it| *it > 0);
            Some(PortStatus::Addressed)
        }
        Change::Configuration(chosen) => {
            let value = chosen.value;
            lent.configuration = value;
            // Without a configuration the device stays in the one that it was in: nobody has its interfaces.
            if value > 0 {
                lent.active = chosen;
            }
            // Other settings, other packets. What waits belongs to the old ones, of which the guest's driver wants nothing more.
            lent.endpoints.retain(|_, queue| !queue.is_empty());
            (value > 0).then_some(PortStatus::Configured)
        }
    }
}
