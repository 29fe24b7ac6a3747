//! A device that finishes its transfers when and as the input says.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;

use vusb_backend::engine::Usb;
use vusb_host::usbfs::{Done, Gone, Kind, Refused, Status, Urb};

use crate::input::Input;

const SETUP: usize = 8;
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
const REFUSED: [Option<Refused>; 4] =
    [None, None, Some(Refused::NoMemory), Some(Refused::Other(22))];

/// A device. A clone is the same one.
#[derive(Clone, Default)]
pub struct Device(Rc<RefCell<Inside>>);

#[derive(Default)]
struct Inside {
    flights: Vec<(u64, Urb)>,
    finished: VecDeque<Done>,
    gone: bool,
    locked: bool,
    refuses: Option<Refused>,
    /// Bytes that a transfer has moved when it is discarded.
    moved: usize,
}

impl Device {
    fn inside(&self) -> RefMut<'_, Inside> {
        self.0.borrow_mut()
    }

    /// One transfer ends, in any order and in any way that usbfs could tell.
    pub fn finish(&self, input: &Input) {
        let mut inside = self.inside();
        if inside.flights.is_empty() {
            return;
        }
        let at = usize::from(input.byte()) % inside.flights.len();
        let (token, urb) = inside.flights.remove(at);
        let status = input.pick(&STATUSES);
        let moved = usize::from(input.byte()) * usize::from(input.byte()) * 2;
        let mut done = done(token, urb, status, moved);
        for packet in &mut done.packets {
            packet.actual_length = packet.length.min(input.byte().into());
            packet.status = input.pick(&STATUSES);
        }
        inside.finished.push_back(done);
    }

    /// Something happens to it, or not.
    pub fn change(&self, input: &Input) {
        let mut inside = self.inside();
        inside.refuses = input.pick(&REFUSED);
        inside.moved = usize::from(input.byte()) * 64;
        inside.gone |= input.byte() >= 0xf0;
    }

    /// The kernel ends what a device had that is gone.
    pub fn end_if_gone(&self) {
        let mut inside = self.inside();
        if inside.gone {
            for (token, urb) in std::mem::take(&mut inside.flights) {
                inside.finished.push_back(done(token, urb, Status::Gone, 0));
            }
        }
    }

    pub fn lock(&self, locked: bool) {
        self.inside().locked = locked;
    }

    pub fn is_gone(&self) -> bool {
        self.inside().gone
    }
}

/// As usbfs tells it: no more than there was room for, each packet at its own place.
fn done(token: u64, urb: Urb, status: Status, moved: usize) -> Done {
    let head = if urb.kind == Kind::Control { SETUP } else { 0 };
    let actual_length = moved.min(urb.buffer.len() - head);
    let packets = match urb.kind {
        Kind::Iso(packets) => packets,
        _ => Vec::new(),
    };
    Done { token, status, actual_length, error_count: 0, packets, buffer: urb.buffer }
}

impl Usb for Device {
    type Handle = Device;

    fn submit(&mut self, urb: Urb, token: u64) -> Result<(), (Refused, Urb)> {
        let mut inside = self.inside();
        assert!(!inside.locked);
        if let Kind::Iso(packets) = &urb.kind {
            let total: usize = packets.iter().map(|it| it.length as usize).sum();
            assert!((1..=128).contains(&packets.len()) && total <= urb.buffer.len());
        }
        if inside.gone {
            return Err((Refused::Gone, urb));
        }
        if let Some(why) = inside.refuses {
            return Err((why, urb));
        }
        assert!(inside.flights.len() + inside.finished.len() < 16, "more than the ring holds");
        inside.flights.push((token, urb));
        Ok(())
    }

    fn reap(&mut self) -> Result<Option<Done>, Gone> {
        let mut inside = self.inside();
        assert!(!inside.locked);
        match inside.finished.pop_front() {
            None if inside.gone => Err(Gone),
            done => Ok(done),
        }
    }

    fn discard(&mut self, token: u64) {
        let mut inside = self.inside();
        assert!(!inside.locked);
        let at = inside.flights.iter().position(|it| it.0 == token);
        if let (Some(at), false) = (at, inside.gone) {
            let (token, urb) = inside.flights.remove(at);
            let done = done(token, urb, Status::Cancelled, inside.moved);
            inside.finished.push_back(done);
        }
    }

    fn in_flight(&self) -> usize {
        let inside = self.inside();
        inside.flights.len() + inside.finished.len()
    }

    fn handle(&self) -> Device {
        self.clone()
    }
}
