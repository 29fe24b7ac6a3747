//! A simulated device. The input determines when its transfers complete, and how.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;

use vusb_backend::engine::Usb;
use vusb_host::usbfs::{Completion, Gone, Kind, Status, SubmitError, Urb};

use crate::input::Input;

/// The length of a setup packet, which precedes the data of a control transfer.
const SETUP_BYTES: usize = 8;
const STATUSES: [Status; 8] = [
    Status::Ok,
    Status::Ok,
    Status::Stalled,
    Status::Overflow,
    Status::ShortRead,
    Status::Gone,
    Status::Cancelled,
    Status::Protocol(71),
];
/// Why submitting fails; `None` if it succeeds.
const SUBMIT_ERRORS: [Option<SubmitError>; 4] =
    [None, None, Some(SubmitError::NoMemory), Some(SubmitError::Other(22))];

/// A handle of a device. Clones are handles of the same device.
#[derive(Clone, Default)]
pub struct Device(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    in_flight: Vec<(u64, Urb)>,
    finished: VecDeque<Completion>,
    gone: bool,
    /// A job is working on the device, so the engine must not touch it.
    locked: bool,
    submit_error: Option<SubmitError>,
    /// How many bytes a transfer has moved when it is discarded.
    moved_when_discarded: usize,
}

impl Device {
    fn inner(&self) -> RefMut<'_, Inner> {
        self.0.borrow_mut()
    }

    /// Completes one transfer, in any order and with any result that usbfs could report.
    pub fn finish(&self, input: &Input) {
        let mut inner = self.inner();
        if inner.in_flight.is_empty() {
            return;
        }
        let at = usize::from(input.byte()) % inner.in_flight.len();
        let (token, urb) = inner.in_flight.remove(at);
        let status = input.pick(&STATUSES);
        let moved = usize::from(input.byte()) * usize::from(input.byte()) * 2;
        let mut done = done(token, urb, status, moved);
        for packet in &mut done.packets {
            packet.actual_length = packet.length.min(input.byte().into());
            packet.status = input.pick(&STATUSES);
        }
        inner.finished.push_back(done);
    }

    /// Chooses how the device reacts from now on. It may also be unplugged.
    pub fn change(&self, input: &Input) {
        let mut inner = self.inner();
        inner.submit_error = input.pick(&SUBMIT_ERRORS);
        inner.moved_when_discarded = usize::from(input.byte()) * 64;
        inner.gone |= input.byte() >= 0xf0;
    }

    /// If the device is gone, ends its transfers, as the kernel does some time after the unplug.
    pub fn end_if_gone(&self) {
        let mut inner = self.inner();
        if inner.gone {
            for (token, urb) in std::mem::take(&mut inner.in_flight) {
                inner.finished.push_back(done(token, urb, Status::Gone, 0));
            }
        }
    }

    /// Asserts, while `locked`, that the engine does not touch the device.
    pub fn lock(&self, locked: bool) {
        self.inner().locked = locked;
    }

    pub fn is_gone(&self) -> bool {
        self.inner().gone
    }
}

/// A completion as usbfs reports it: with at most as much data as the buffer has space for.
fn done(token: u64, urb: Urb, status: Status, moved: usize) -> Completion {
    let head = if urb.kind == Kind::Control { SETUP_BYTES } else { 0 };
    let actual_length = moved.min(urb.buffer.len() - head);
    let packets = match urb.kind {
        Kind::Iso(packets) => packets,
        _ => Vec::new(),
    };
    Completion { token, status, actual_length, error_count: 0, packets, buffer: urb.buffer }
}

impl Usb for Device {
    type Handle = Device;

    fn submit(&mut self, urb: Urb, token: u64) -> Result<(), (SubmitError, Urb)> {
        let mut inner = self.inner();
        assert!(!inner.locked);
        if let Kind::Iso(packets) = &urb.kind {
            let total: usize = packets.iter().map(|it| it.length as usize).sum();
            assert!((1..=128).contains(&packets.len()) && total <= urb.buffer.len());
        }
        if inner.gone {
            return Err((SubmitError::Gone, urb));
        }
        if let Some(why) = inner.submit_error {
            return Err((why, urb));
        }
        let unreaped = inner.in_flight.len() + inner.finished.len();
        assert!(unreaped < 16, "more transfers than the ring has slots");
        inner.in_flight.push((token, urb));
        Ok(())
    }

    fn reap(&mut self) -> Result<Option<Completion>, Gone> {
        let mut inner = self.inner();
        assert!(!inner.locked);
        match inner.finished.pop_front() {
            None if inner.gone => Err(Gone),
            done => Ok(done),
        }
    }

    fn discard(&mut self, token: u64) {
        let mut inner = self.inner();
        assert!(!inner.locked);
        let at = inner.in_flight.iter().position(|it| it.0 == token);
        if let (Some(at), false) = (at, inner.gone) {
            let (token, urb) = inner.in_flight.remove(at);
            let done = done(token, urb, Status::Cancelled, inner.moved_when_discarded);
            inner.finished.push_back(done);
        }
    }

    fn in_flight(&self) -> usize {
        let inner = self.inner();
        inner.in_flight.len() + inner.finished.len()
    }

    fn handle(&self) -> Device {
        self.clone()
    }
}
