//! Submits waiting requests to the device, and turns completed transfers into responses.

use vusb_host::usbfs::{SubmitError, Urb};
use vusb_usbif::urb::{Direction, Kind, Status};
use vusb_usbif::{Page, Port};

use super::in_flight::{self, InFlight};
use super::port::{CurrentControl, Exported, Pending};
use super::queue;
use super::train;
use super::usb::{Memory, Usb};
use super::{Engine, Fault, IN};

impl<P: Page, M: Memory, U: Usb> Engine<P, M, U> {
    /// Submits waiting requests to a device. Returns whether to retry soon.
    pub(super) fn pump(&mut self, port: Port) -> Result<bool, Fault> {
        let Some(device) = self.device(port) else {
            return Ok(false);
        };
        if device.job_running {
            return Ok(false);
        }
        device.starved = false;
        self.pump_control(port)?;
        self.pump_endpoints(port)?;
        let Some(device) = self.device(port) else {
            return Ok(false);
        };
        if !device.detaching {
            return Ok(device.starved);
        }
        if device.unplugged {
            // An unplugged device is no longer polled, so its completions are reaped here.
            self.reap(port)?;
        }
        Ok(self.finish_detach(port))
    }

    pub(super) fn pump_endpoints(&mut self, port: Port) -> Result<(), Fault> {
        self.answer_ended_trains(port);
        loop {
            let Some(device) = self.device(port) else {
                return Ok(());
            };
            if device.job_running || device.detaching || device.starved {
                return Ok(());
            }
            let next = device
                .endpoints
                .iter_mut()
                .find_map(|(at, queue)| Some((*at, queue.next_batch()?)));
            let Some((endpoint, batch)) = next else { return Ok(()) };
            self.submit_batch(port, endpoint, batch)?;
        }
    }

    /// Answers, without data, what is left of reads that a short packet has ended.
    fn answer_ended_trains(&mut self, port: Port) {
        let queues = self.device(port).into_iter().flat_map(|it| it.endpoints.values_mut());
        let rest: Vec<Pending> = queues.flat_map(queue::Queue::take_rest).collect();
        for pending in rest {
            self.answer_pending(pending, in_flight::response(Status::Ok, 0));
        }
    }

    /// Builds one transfer from a batch of requests, and submits it.
    pub(super) fn submit_batch(
        &mut self,
        port: Port,
        endpoint: u8,
        batch: queue::Batch<Pending>,
    ) -> Result<(), Fault> {
        let queue::Batch { mut items, blocks_endpoint } = batch;
        let bytes = items.iter().map(queue::Item::length).sum();
        let Some(buffer) = self.pools.take(bytes) else {
            self.handle_memory_shortage(port, endpoint, items);
            return Ok(());
        };
        let (memory, scratch) = (&mut self.memory, &mut self.scratch);
        let iso = match items.first().map(|it| &it.transfer.kind) {
            Some(Kind::Isochronous(iso)) if items.len() == 1 => Some(*iso),
            _ => None,
        };
        let Some((item, iso)) = iso.and_then(|iso| Some((items.pop()?, iso))) else {
            let urb = in_flight::prepare_data(endpoint, &items, buffer, memory, scratch)?;
            if let Some(device) = self.device(port) {
                if let Some(train) = device.train_of(endpoint) {
                    train.submitted(bytes);
                }
                let may_be_command = bytes == train::COMMAND_BYTES && endpoint & IN == 0;
                if let Some(urb) = urb.as_ref().filter(|_| may_be_command) {
                    device.note_command(endpoint, urb.buffer.data());
                }
            }
            self.submit(port, InFlight::Data { endpoint, items, blocks_endpoint }, urb);
            return Ok(());
        };
        let Some(packets) = in_flight::iso_packets(&item, &iso, memory, scratch)? else {
            self.answer_pending(item, in_flight::response(Status::Invalid, 0));
            return Ok(());
        };
        let urb = in_flight::prepare_iso(endpoint, &item, &packets, buffer, memory, scratch)?;
        self.submit(port, InFlight::Iso(item, iso, packets), urb);
        Ok(())
    }

    /// Submits a transfer to the device.
    pub(super) fn submit(&mut self, port: Port, transfer: InFlight, urb: Option<Urb>) {
        let token = self.next_token;
        self.next_token += 1;
        let Some(device) = self.device(port) else { return };
        let submitted = match urb {
            Some(urb) => device.usb.submit(urb, token).map_err(|(refused, _)| refused),
            None => Err(SubmitError::Other(0)),
        };
        match submitted {
            Ok(()) => {
                if matches!(transfer, InFlight::Control(..)) {
                    device.current_control = Some(CurrentControl::Submitted);
                }
                device.in_flight.push((token, transfer));
            }
            Err(SubmitError::NoMemory | SubmitError::TooMany(_)) => self.requeue(port, transfer),
            Err(SubmitError::Gone) => {
                device.unplugged = true;
                self.reject(port, transfer, Status::NoDevice);
                self.begin_detach(port);
            }
            Err(_) => self.reject(port, transfer, Status::Invalid),
        }
    }

    /// Puts the requests of a transfer that could not be submitted back into their queues.
    pub(super) fn requeue(&mut self, port: Port, transfer: InFlight) {
        match transfer {
            InFlight::Data { endpoint, items, .. } => {
                self.handle_memory_shortage(port, endpoint, items);
            }
            InFlight::Iso(item, ..) => {
                let endpoint = item.transfer.endpoint
                    | if item.transfer.direction == Direction::In { IN } else { 0 };
                self.handle_memory_shortage(port, endpoint, vec![item]);
            }
            InFlight::Control(item, _) => {
                if let Some(device) = self.device(port) {
                    device.starved = true;
                    device.control_queue.push_front(item);
                }
            }
        }
    }

    /// Queues requests again because there is no memory for their transfer now, and makes the next
    /// transfers of the endpoint smaller.
    pub(super) fn handle_memory_shortage(&mut self, port: Port, endpoint: u8, items: Vec<Pending>) {
        if let Some(device) = self.device(port) {
            device.starved = true;
            let bytes = items.iter().map(queue::Item::length).sum();
            if let Some(train) = device.train_of(endpoint) {
                train.put_back(bytes);
            }
            let queue = device.endpoint(endpoint);
            queue.put_back(items);
            queue.unblock();
            queue.shrink_batches();
        }
    }

    /// Answers the requests of a transfer that the kernel does not accept.
    pub(super) fn reject(&mut self, port: Port, transfer: InFlight, status: Status) {
        if let (InFlight::Data { endpoint, blocks_endpoint: true, .. }, Some(device)) =
            (&transfer, self.device(port))
        {
            device.endpoint(*endpoint).unblock();
        }
        for item in transfer.into_items() {
            self.answer_pending(item, in_flight::response(status, 0));
        }
    }

    /// Answers the requests of a completed transfer.
    pub(super) fn transfer_done(
        &mut self,
        port: Port,
        done: &vusb_host::usbfs::Completion,
    ) -> Result<(), Fault> {
        let Some(device) = self.device(port) else {
            return Ok(());
        };
        let Some(at) = device.in_flight.iter().position(|(token, _)| *token == done.token) else {
            return Ok(());
        };
        let (_, transfer) = device.in_flight.swap_remove(at);
        let endpoint = match &transfer {
            InFlight::Control(..) => {
                device.current_control = None;
                None
            }
            InFlight::Data { endpoint, blocks_endpoint, .. } => Some((*endpoint, *blocks_endpoint)),
            InFlight::Iso(..) => None,
        };
        let detaching = device.detaching;
        let finished = in_flight::finish(transfer, done, &mut self.memory, &mut self.scratch)?;
        for (item, mut response) in finished.answers {
            if detaching && response.status != Status::Ok {
                response.status = Status::NoDevice;
            }
            self.answer_pending(item, response);
        }
        if let (Some((endpoint, blocks_endpoint)), Some(device)) = (endpoint, self.device(port)) {
            let queue = device.endpoint(endpoint);
            queue.put_back(finished.resubmit);
            queue.grow_batches();
            if blocks_endpoint {
                queue.unblock();
            }
            if blocks_endpoint && finished.ended_short {
                device.end_train(endpoint);
            }
        }
        if detaching {
            self.answer_waiting(port);
        }
        Ok(())
    }

    /// Answers all requests that have not been submitted, because the device is being detached.
    pub(super) fn answer_waiting(&mut self, port: Port) {
        let waiting = self.device(port).map(Exported::drain_waiting);
        for pending in waiting.into_iter().flatten() {
            self.answer_pending(pending, in_flight::response(Status::NoDevice, 0));
        }
    }
}
