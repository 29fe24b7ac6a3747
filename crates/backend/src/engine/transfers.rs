//! Transfers: from what waits to the device, and from the device to answers.

use vusb_host::usbfs::{Refused, Urb};
use vusb_usbif::urb::{Direction, Kind, Status};
use vusb_usbif::{Page, Port};

use super::flight::{self, Flight};
use super::port::{Control, Lent, Pending, Slot};
use super::queue;
use super::usb::{Memory, Usb};
use super::{Engine, Fault, IN, index};

impl<P: Page, M: Memory, U: Usb> Engine<P, M, U> {
    /// Hands over what waits for a device. Whether to try again in a moment.
    pub(super) fn pump(&mut self, port: Port) -> Result<bool, Fault> {
        let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) else {
            return Ok(false);
        };
        if lent.busy {
            return Ok(false);
        }
        lent.starved = false;
        self.pump_control(port)?;
        self.pump_endpoints(port)?;
        let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) else {
            return Ok(false);
        };
        if !lent.leaving {
            return Ok(lent.starved);
        }
        if lent.gone {
            // Nobody waits for it any more, so what the kernel has ended is looked for here.
            self.device(port)?;
        }
        Ok(self.depart(port))
    }

    pub(super) fn pump_endpoints(&mut self, port: Port) -> Result<(), Fault> {
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
    pub(super) fn begin(
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
    pub(super) fn fly(&mut self, port: Port, flight: Flight, urb: Option<Urb>) {
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

    pub(super) fn put_back(&mut self, port: Port, flight: Flight) {
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
    pub(super) fn shortage(&mut self, port: Port, endpoint: u8, items: Vec<Pending>) {
        if let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) {
            lent.starved = true;
            let queue = lent.endpoint(endpoint);
            queue.put_back(items);
            queue.release();
            queue.merge_less();
        }
    }

    pub(super) fn refuse(&mut self, port: Port, flight: Flight, status: Status) {
        if let (Flight::Data { endpoint, holds: true, .. }, Some(lent)) =
            (&flight, self.slots.get_mut(index(port)).and_then(Slot::lent))
        {
            lent.endpoint(*endpoint).release();
        }
        for item in flight.into_items() {
            self.answer_pending(item, flight::response(status, 0));
        }
    }

    /// A transfer is finished.
    pub(super) fn landed(
        &mut self,
        port: Port,
        done: &vusb_host::usbfs::Done,
    ) -> Result<(), Fault> {
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
            let queue = lent.endpoint(endpoint);
            queue.put_back(finished.again);
            queue.merge_more();
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
    pub(super) fn answer_waiting(&mut self, port: Port) {
        let waiting = self.slots.get_mut(index(port)).and_then(Slot::lent).map(Lent::drain_waiting);
        for pending in waiting.into_iter().flatten() {
            self.answer_pending(pending, flight::response(Status::NoDevice, 0));
        }
    }
}
