//! What is in a port, from when it is wanted until it is given back. The states are drawn in [`port`](super::port).

use vusb_usbif::urb::Status;
use vusb_usbif::{Page, Port, Speed};

use super::flight;
use super::job::{Failure, Job, Opened, Work};
use super::port::{Change, Control, Lent, Slot, State};
use super::usb::{Memory, Usb};
use super::{Engine, Notice, index};
use crate::nodes::{PortStatus, Want};

impl<P: Page, M: Memory, U: Usb> Engine<P, M, U> {
    pub(super) fn notice(&mut self, port: Port, status: Option<PortStatus>) {
        self.notices.push(Notice { port, status });
    }

    /// Notes what the guest is to be told. Of a device that has gone before it was told of it, it need not know.
    pub(super) fn tell(&mut self, port: Port, speed: Speed) {
        let last = self.tell.iter().rposition(|it| it.0 == port);
        match last.filter(|at| self.tell.get(*at).is_some_and(|it| it.1 != Speed::None)) {
            Some(at) if speed == Speed::None => {
                self.tell.remove(at);
            }
            _ => self.tell.push_back((port, speed)),
        }
    }

    /// Brings a port nearer to what is wanted in it.
    pub(super) fn reconcile(&mut self, port: Port) {
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

    pub(super) fn opened(&mut self, port: Port, opened: Opened<U>) {
        let Opened { usb, offer } = opened;
        let Some(slot) = self.slots.get_mut(index(port)) else { return };
        slot.look_again = false;
        let State::Opening(want) = std::mem::replace(&mut slot.state, State::Empty) else { return };
        let speed = offer.speed();
        slot.state = State::Lent(Box::new(Lent::new(usb, want, offer)));
        self.tell(port, speed);
        self.notice(port, Some(PortStatus::Offered));
        self.reconcile(port);
    }

    /// The wanted device is not there, or is not lent.
    pub(super) fn not_opened(
        &mut self,
        port: Port,
        into: fn(Want) -> State<U>,
        status: PortStatus,
    ) {
        let Some(slot) = self.slots.get_mut(index(port)) else { return };
        let look_again = std::mem::take(&mut slot.look_again);
        match std::mem::replace(&mut slot.state, State::Empty) {
            State::Opening(_) if look_again => {}
            State::Opening(want) => {
                slot.state = into(want);
                self.notice(port, Some(status));
            }
            other => slot.state = other,
        }
        self.reconcile(port);
    }

    pub(super) fn job_done(&mut self, port: Port, result: Result<(), Failure>) {
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
    pub(super) fn leave(&mut self, port: Port) {
        let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) else { return };
        if lent.leaving {
            return;
        }
        lent.leaving = true;
        if !lent.busy {
            lent.flights.iter().for_each(|(token, _)| lent.usb.discard(*token));
        }
        self.tell(port, Speed::None);
        self.answer_waiting(port);
    }

    /// Gives the device back once all its transfers have come to their end. Whether to look again in a moment.
    pub(super) fn depart(&mut self, port: Port) -> bool {
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
            // Without a configuration the device stays in the one that it was in: nobody has its interfaces.
            if value > 0 {
                lent.active = chosen;
            }
            lent.configured(value);
            (value > 0).then_some(PortStatus::Configured)
        }
    }
}
