//! What a guest asks for: to which device it goes, where it waits, and how it is answered.

use vusb_usbif::Page;
use vusb_usbif::urb::{Direction, Kind, Response, Status, Ticket, Transfer};

use super::port::{Lent, Pending, Slot};
use super::usb::{Memory, Usb};
use super::{Engine, Fault, IN, flight, index};

impl<P: Page, M: Memory, U: Usb> Engine<P, M, U> {
    pub(super) fn submitted(&mut self, ticket: Ticket, transfer: Transfer) -> Result<(), Fault> {
        let lent = self.slots.get_mut(index(transfer.port)).and_then(Slot::lent);
        let Some(lent) = lent.filter(|it| !it.leaving && answers_at(it, &transfer)) else {
            self.answer(ticket, flight::response(Status::NoDevice, 0));
            return Ok(());
        };
        let pending = Pending { ticket, transfer, number: self.next_number, unlinked: false };
        self.next_number += 1;
        match transfer.kind {
            Kind::Control(_) => lent.control.push_back(pending),
            Kind::Isochronous(iso) if iso.packets == 0 => {
                self.answer_pending(pending, flight::response(Status::Ok, 0));
            }
            _ => {
                let direction = if transfer.direction == Direction::In { IN } else { 0 };
                lent.endpoint(transfer.endpoint | direction).push(pending);
            }
        }
        Ok(())
    }

    /// The guest wants a request cancelled. It is answered at once; the cancelled one when the device has let go of it.
    pub(super) fn unlinked(&mut self, ticket: Ticket, target: u16) {
        let waiting =
            self.slots.iter_mut().filter_map(Slot::lent).find_map(|it| it.take_waiting(target));
        if let Some(pending) = waiting {
            self.answer_pending(pending, flight::response(Status::IoError, 0));
        } else {
            for lent in self.slots.iter_mut().filter_map(Slot::lent) {
                let Some(token) = lent.mark_unlinked(target) else { continue };
                if !lent.busy {
                    lent.usb.discard(token);
                } else if !lent.discards.contains(&token) {
                    lent.discards.push(token);
                }
            }
        }
        self.answer(ticket, flight::response(Status::Ok, 0));
    }

    pub(super) fn answer(&mut self, ticket: Ticket, response: Response) {
        self.ids.retain(|id| *id != ticket.id());
        if response.status != Status::Ok {
            self.counters.error();
        }
        // A ticket of this engine is a ticket of its ring.
        let _ = self.urbs.respond(ticket, response);
    }

    pub(super) fn answer_pending(&mut self, pending: Pending, response: Response) {
        self.counters.moved(pending.transfer.direction, response.actual_length);
        self.answer(pending.ticket, response);
    }
}

/// Whether the request is to the address that the device has, or to the one that it has before it is given one.
fn answers_at<U>(lent: &Lent<U>, transfer: &Transfer) -> bool {
    let at_zero = transfer.address == 0 && matches!(transfer.kind, Kind::Control(_));
    at_zero || lent.address == Some(transfer.address)
}
