//! Executes control requests, one at a time per device. The device executes a request, a job does,
//! or it is answered here.

use vusb_usbif::urb::{Kind, Status};
use vusb_usbif::{Page, Port};

use super::control_policy::{self, Verdict};
use super::in_flight::{self, InFlight};
use super::job::{Job, Work};
use super::port::{Change, CurrentControl, Pending, Slot};
use super::usb::{Memory, Usb};
use super::{Engine, Fault, index};
use vusb_xen::usb::PortStatus;

impl<P: Page, M: Memory, U: Usb> Engine<P, M, U> {
    /// Starts waiting control requests until one is in progress.
    pub(super) fn pump_control(&mut self, port: Port) -> Result<(), Fault> {
        loop {
            let Some(device) = self.device(port) else {
                return Ok(());
            };
            if device.job_running
                || device.detaching
                || device.starved
                || device.current_control.is_some()
            {
                return Ok(());
            }
            let Some(pending) = device.control_queue.pop_front() else { return Ok(()) };
            self.start_control(port, pending)?;
        }
    }

    /// Starts one control request. One that needs neither the device nor a job is answered at once.
    pub(super) fn start_control(&mut self, port: Port, pending: Pending) -> Result<(), Fault> {
        let Some(device) = self.slots.get_mut(index(port)).and_then(Slot::exported) else {
            return Ok(());
        };
        let Kind::Control(setup) = pending.transfer.kind else { return Ok(()) };
        let handle = device.usb.handle();
        match control_policy::verdict(&setup, pending.transfer.address, &device.view) {
            Verdict::Answer(status, bytes) => {
                in_flight::write_answer(&pending, bytes, &mut self.memory, &mut self.scratch)?;
                let length = bytes.len();
                self.answer_pending(pending, in_flight::response(status, length));
            }
            // A request at address 0 although the device has an address: the guest has reset the
            // port, so the device is reset too.
            Verdict::Address(address)
                if device.address.is_some() && pending.transfer.address == 0 =>
            {
                let work = Work::Reset(handle, device.claimed());
                self.start_control_job(port, pending, Change::Address(address), work);
            }
            Verdict::Address(address) => {
                device.address = Some(address).filter(|it| *it > 0);
                self.report_status(port, Some(PortStatus::Addressed));
                self.answer_pending(pending, in_flight::response(Status::Ok, 0));
            }
            Verdict::Configure(value) => match device.view.configuration_by_value(value) {
                Some(next) => {
                    let work = Work::Configure(handle, device.active.clone(), next.clone());
                    self.start_control_job(port, pending, Change::Configuration(next), work);
                }
                None => self.answer_pending(pending, in_flight::response(Status::Stall, 0)),
            },
            Verdict::SetInterface(interface, alternate) => {
                self.start_control_job(
                    port,
                    pending,
                    Change::Nothing,
                    Work::SetInterface(handle, interface, alternate),
                );
            }
            Verdict::ClearHalt(endpoint) => {
                self.start_control_job(
                    port,
                    pending,
                    Change::Nothing,
                    Work::ClearHalt(handle, endpoint),
                );
            }
            Verdict::Forward => {
                let Some(buffer) = self.pools.take(in_flight::control_bytes(&setup)) else {
                    device.starved = true;
                    device.control_queue.push_front(pending);
                    return Ok(());
                };
                let urb = in_flight::prepare_control(
                    &pending,
                    &setup,
                    buffer,
                    &mut self.memory,
                    &mut self.scratch,
                )?;
                self.submit(port, InFlight::Control(pending, setup), urb);
            }
        }
        Ok(())
    }

    /// Starts a job for a control request. `change` is applied if the job succeeds.
    pub(super) fn start_control_job(
        &mut self,
        port: Port,
        pending: Pending,
        change: Change,
        work: Work<U>,
    ) {
        if let Some(device) = self.device(port) {
            device.job_running = true;
            device.current_control = Some(CurrentControl::InJob(Box::new(pending), change));
            self.jobs.push(Job { port, work });
        }
    }
}
