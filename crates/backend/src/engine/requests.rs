//! Accepts the guest's requests: queues transfers, cancels requests, and writes the responses.

use vusb_usbif::Page;
use vusb_usbif::urb::{Direction, Kind, Response, Status, Ticket, Transfer};

use super::port::{Exported, Pending, Slot};
use super::usb::{Memory, Usb};
use super::{Engine, Fault, IN, in_flight, index};

impl<P: Page, M: Memory, U: Usb> Engine<P, M, U> {
    /// Queues a transfer for its device.
    pub(super) fn handle_submit(
        &mut self,
        ticket: Ticket,
        transfer: Transfer,
    ) -> Result<(), Fault> {
        let device = self.slots.get_mut(index(transfer.port)).and_then(Slot::exported);
        let Some(device) = device.filter(|it| !it.detaching && matches_address(it, &transfer))
        else {
            self.answer(ticket, in_flight::response(Status::NoDevice, 0));
            return Ok(());
        };
        let (endpoint, direction) = (transfer.endpoint, transfer.direction);
        let transfer = Box::new(transfer);
        let pending = Pending { ticket, transfer, number: self.next_number, unlinked: false };
        self.next_number += 1;
        match &pending.transfer.kind {
            Kind::Control(_) => device.control_queue.push_back(pending),
            Kind::Isochronous(iso) if iso.packets == 0 => {
                self.answer_pending(pending, in_flight::response(Status::Ok, 0));
            }
            _ => {
                let direction = if direction == Direction::In { IN } else { 0 };
                device.endpoint(endpoint | direction).push(pending);
            }
        }
        Ok(())
    }

    /// Cancels a request. The unlink is answered immediately. The cancelled request is answered
    /// immediately if it is still waiting, and otherwise when its transfer or job has ended.
    pub(super) fn handle_unlink(&mut self, ticket: Ticket, target: u16) {
        let waiting =
            self.slots.iter_mut().filter_map(Slot::exported).find_map(|it| it.take_waiting(target));
        if let Some(pending) = waiting {
            self.answer_pending(pending, in_flight::response(Status::IoError, 0));
        } else {
            for device in self.slots.iter_mut().filter_map(Slot::exported) {
                let Some(token) = device.mark_unlinked(target) else { continue };
                if !device.job_running {
                    device.usb.discard(token);
                } else if !device.deferred_discards.contains(&token) {
                    device.deferred_discards.push(token);
                }
            }
        }
        self.answer(ticket, in_flight::response(Status::Ok, 0));
    }

    pub(super) fn answer(&mut self, ticket: Ticket, response: Response) {
        self.unanswered.retain(|id| *id != ticket.id());
        if response.status != Status::Ok {
            self.counters.error();
        }
        // This cannot fail: all tickets of this engine come from its own ring.
        let _ = self.urbs.respond(ticket, response);
    }

    pub(super) fn answer_pending(&mut self, pending: Pending, response: Response) {
        self.counters.moved(pending.transfer.direction, response.actual_length);
        self.answer(pending.ticket, response);
    }
}

/// Whether a transfer goes to the device's address. Control requests may also go to address 0,
/// where a device is before it is given an address, and after its port was reset.
fn matches_address<U>(device: &Exported<U>, transfer: &Transfer) -> bool {
    let at_zero = transfer.address == 0 && matches!(transfer.kind, Kind::Control(_));
    at_zero || device.address == Some(transfer.address)
}
