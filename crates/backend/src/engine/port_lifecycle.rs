//! Attaches and detaches the device of a port. See [`port`](super::port) for the state machine.

use vusb_usbif::urb::Status;
use vusb_usbif::{Page, Port, Speed};

use super::in_flight;
use super::job::{Failure, Job, Opened, Work};
use super::port::{Change, CurrentControl, Exported, State};
use super::usb::{Memory, Usb};
use super::{Engine, StatusChange, index};
use vusb_xen::usb::{PortStatus, RequestedDevice};

impl<P: Page, M: Memory, U: Usb> Engine<P, M, U> {
    /// Reports the status of a port to the toolstack.
    pub(super) fn report_status(&mut self, port: Port, status: Option<PortStatus>) {
        self.status_changes.push(StatusChange { port, status });
    }

    /// Queues a connection event for the guest. If a device is gone before the guest was told that
    /// it was plugged in, the two events cancel each other out.
    pub(super) fn queue_port_event(&mut self, port: Port, speed: Speed) {
        let last = self.port_events.iter().rposition(|it| it.0 == port);
        match last.filter(|at| self.port_events.get(*at).is_some_and(|it| it.1 != Speed::None)) {
            Some(at) if speed == Speed::None => {
                self.port_events.remove(at);
            }
            _ => self.port_events.push_back((port, speed)),
        }
    }

    /// Takes the next step to bring a port to the requested state: the requested device, or none.
    pub(super) fn reconcile(&mut self, port: Port) {
        let Some(slot) = self.slots.get_mut(index(port)) else { return };
        match &slot.state {
            State::Exported(device) if slot.requested.as_ref() != Some(&device.requested) => {
                self.begin_detach(port);
            }
            State::Exported(_) | State::Opening(_) | State::Releasing => {}
            State::Absent(requested) | State::Refused(requested)
                if slot.requested.as_ref() == Some(requested) => {}
            State::Empty | State::Absent(_) | State::Refused(_) => match slot.requested.clone() {
                Some(requested) => {
                    slot.state = State::Opening(requested.clone());
                    self.jobs.push(Job { port, work: Work::Open(requested) });
                }
                None if matches!(slot.state, State::Empty) => {}
                None => {
                    slot.state = State::Empty;
                    self.report_status(port, None);
                }
            },
        }
    }

    /// Plugs an opened device into its port.
    pub(super) fn opened(&mut self, port: Port, opened: Opened<U>) {
        let Opened { usb, view } = opened;
        let Some(slot) = self.slots.get_mut(index(port)) else { return };
        slot.rescan = false;
        let State::Opening(requested) = std::mem::replace(&mut slot.state, State::Empty) else {
            return;
        };
        let speed = view.speed();
        slot.state = State::Exported(Box::new(Exported::new(usb, requested, view)));
        self.exported |= 1 << index(port);
        self.queue_port_event(port, speed);
        self.report_status(port, Some(PortStatus::Offered));
        self.reconcile(port);
    }

    /// Handles a requested device that is absent or cannot be exported.
    pub(super) fn not_opened(
        &mut self,
        port: Port,
        into: fn(RequestedDevice) -> State<U>,
        status: PortStatus,
    ) {
        let Some(slot) = self.slots.get_mut(index(port)) else { return };
        let rescan = std::mem::take(&mut slot.rescan);
        match std::mem::replace(&mut slot.state, State::Empty) {
            State::Opening(_) if rescan => {}
            State::Opening(requested) => {
                slot.state = into(requested);
                self.report_status(port, Some(status));
            }
            other => slot.state = other,
        }
        self.reconcile(port);
    }

    /// Handles the result of a job on an exported device.
    pub(super) fn job_done(&mut self, port: Port, result: Result<(), Failure>) {
        let Some(device) = self.device(port) else { return };
        device.job_running = false;
        let discards = std::mem::take(&mut device.deferred_discards);
        discards.into_iter().for_each(|token| device.usb.discard(token));
        let Some(CurrentControl::InJob(pending, change)) = device.current_control.take() else {
            return;
        };
        let status = match result {
            Ok(()) => {
                let news = apply(device, change);
                if let Some(news) = news {
                    self.report_status(port, Some(news));
                }
                Status::Ok
            }
            Err(Failure::Stalled) => Status::Stall,
            Err(Failure::Gone) => {
                device.unplugged = true;
                self.begin_detach(port);
                Status::NoDevice
            }
            Err(Failure::Failed) => Status::IoError,
        };
        self.answer_pending(*pending, in_flight::response(status, 0));
        let Some(device) = self.device(port) else { return };
        if device.detaching {
            device.in_flight.iter().for_each(|(token, _)| device.usb.discard(*token));
        }
    }

    /// Starts to detach the device in a port: cancels its transfers, and tells the guest.
    pub(super) fn begin_detach(&mut self, port: Port) {
        let Some(device) = self.device(port) else { return };
        if device.detaching {
            return;
        }
        device.detaching = true;
        if !device.job_running {
            device.in_flight.iter().for_each(|(token, _)| device.usb.discard(*token));
        }
        self.queue_port_event(port, Speed::None);
        self.answer_waiting(port);
    }

    /// Releases the device once all its transfers have ended. Returns whether to retry soon.
    pub(super) fn finish_detach(&mut self, port: Port) -> bool {
        let Some(slot) = self.slots.get_mut(index(port)) else { return false };
        let State::Exported(device) = &mut slot.state else { return false };
        if device.usb.in_flight() > 0 {
            // The kernel is about to end the transfers of an unplugged device, but that causes no
            // event.
            return device.unplugged;
        }
        let State::Exported(device) = std::mem::replace(&mut slot.state, State::Releasing) else {
            return false;
        };
        self.exported &= !(1 << index(port));
        let original = device.view.initial_configuration();
        self.jobs.push(Job { port, work: Work::Release(device.usb, device.active, original) });
        false
    }
}

/// Applies the change of a successful job. Returns the new port status, if it changes.
fn apply<U>(device: &mut Exported<U>, change: Change) -> Option<PortStatus> {
    match change {
        Change::Nothing => None,
        Change::Address(address) => {
            device.address = Some(address).filter(|it| *it > 0);
            Some(PortStatus::Addressed)
        }
        Change::Configuration(chosen) => {
            let value = chosen.value;
            // SET_CONFIGURATION(0) only releases the interfaces. The device itself keeps its
            // configuration.
            if value > 0 {
                device.active = chosen;
            }
            device.set_configuration(value);
            (value > 0).then_some(PortStatus::Configured)
        }
    }
}
