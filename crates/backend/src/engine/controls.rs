//! Control requests: one after the other, by the device, by a job, or without either.

use vusb_usbif::urb::{Kind, Status};
use vusb_usbif::{Page, Port};

use super::control::{self, Verdict};
use super::flight::{self, Flight};
use super::job::{Job, Work};
use super::port::{Change, Control, Pending, Slot};
use super::usb::{Memory, Usb};
use super::{Engine, Fault, index};
use crate::nodes::PortStatus;

impl<P: Page, M: Memory, U: Usb> Engine<P, M, U> {
    pub(super) fn pump_control(&mut self, port: Port) -> Result<(), Fault> {
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
    pub(super) fn control(&mut self, port: Port, pending: Pending) -> Result<(), Fault> {
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

    pub(super) fn at_job(&mut self, port: Port, pending: Pending, change: Change, work: Work<U>) {
        if let Some(lent) = self.slots.get_mut(index(port)).and_then(Slot::lent) {
            lent.busy = true;
            lent.current = Some(Control::AtJob(Box::new(pending), change));
            self.jobs.push(Job { port, work });
        }
    }
}
