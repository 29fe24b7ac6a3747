//! A device that keeps every transfer until a test finishes it.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::LazyLock;

use vusb_host::usbfs::{Done, Gone, Kind, Refused, Status, Urb};

use super::super::Usb;

/// Length of a setup packet in bytes: in front of the data of a control transfer.
const SETUP: usize = 8;
/// A prime, so that it falls on other places in pages each time.
const PERIOD: usize = 65521;

/// A device. A clone is the same one: the engine has one, the test the other.
#[derive(Clone, Default)]
pub(super) struct Device(Rc<RefCell<Inside>>);

#[derive(Default)]
struct Inside {
    flights: Vec<(u64, Urb)>,
    finished: VecDeque<Done>,
    /// Unplugged: takes nothing any more.
    gone: bool,
    /// Why it does not take transfers at present.
    refuses: Option<Refused>,
    /// A job is at it: nothing else may touch it.
    locked: bool,
    /// A configuration is chosen and its interfaces are taken: there are endpoints other than 0.
    configured: bool,
    /// How many bytes of the transfer that it is at have been moved, if that is discarded.
    moved: usize,
    submitted: usize,
    streams: Streams,
}

/// What has gone through the endpoints of the devices in a port, one after the other.
#[derive(Clone, Default)]
pub(super) struct Streams(Rc<RefCell<BTreeMap<u8, Stream>>>);

/// What has gone through one endpoint.
#[derive(Clone, Default)]
pub(super) struct Stream {
    /// Bytes sent: so many of [`stream`].
    pub(super) sent: usize,
    /// What was taken.
    pub(super) taken: Vec<u8>,
}

impl Streams {
    pub(super) fn of(&self, endpoint: u8) -> Stream {
        self.0.borrow().get(&endpoint).cloned().unwrap_or_default()
    }

    /// Moves bytes through the endpoint of a transfer.
    fn run(&self, urb: &mut Urb, bytes: usize) {
        let skip = if urb.kind == Kind::Control { SETUP } else { 0 };
        let mut all = self.0.borrow_mut();
        let is_in = urb.is_in();
        let stream = all.entry(urb.endpoint).or_default();
        let data = &mut urb.buffer.data_mut()[skip..skip + bytes];
        if is_in {
            data.copy_from_slice(&self::stream(stream.sent..stream.sent + bytes));
            stream.sent += bytes;
        } else {
            stream.taken.extend_from_slice(data);
        }
    }
}

/// What endpoints send: the same again and again, but with no two places alike that are less than [`PERIOD`] bytes apart.
pub(super) fn stream(range: Range<usize>) -> Vec<u8> {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        (0..PERIOD as u32).map(|at| at.wrapping_mul(0x9e37_79b9).to_be_bytes()[0]).collect()
    });
    let mut bytes = Vec::with_capacity(range.len());
    while bytes.len() < range.len() {
        let at = (range.start + bytes.len()) % PERIOD;
        let end = PERIOD.min(at + range.len() - bytes.len());
        bytes.extend_from_slice(&BYTES[at..end]);
    }
    bytes
}

impl Device {
    /// A device that goes on where others in the same port ended.
    pub(super) fn going_on(streams: &Streams) -> Device {
        let device = Device::default();
        device.inside().streams = streams.clone();
        device
    }

    fn inside(&self) -> RefMut<'_, Inside> {
        self.0.borrow_mut()
    }

    /// Endpoint and length of each transfer that it has, in the order in which it got them.
    pub(super) fn has(&self) -> Vec<(u8, usize)> {
        self.inside().flights.iter().map(|(_, urb)| (urb.endpoint, urb.buffer.len())).collect()
    }

    /// A transfer that it has.
    pub(super) fn urb(&self, at: usize) -> Ref<'_, Urb> {
        Ref::map(self.0.borrow(), |it| &it.flights[at].1)
    }

    /// How many transfers it was ever given.
    pub(super) fn submitted(&self) -> usize {
        self.inside().submitted
    }

    /// Finishes a read with these bytes.
    pub(super) fn sends(&self, at: usize, bytes: &[u8]) {
        self.fails(at, Status::Ok, bytes);
    }

    /// Finishes a read that failed after these bytes.
    pub(super) fn fails(&self, at: usize, status: Status, bytes: &[u8]) {
        let mut inside = self.inside();
        let (token, mut urb) = inside.flights.remove(at);
        let skip = if urb.kind == Kind::Control { SETUP } else { 0 };
        urb.buffer.data_mut()[skip..skip + bytes.len()].copy_from_slice(bytes);
        inside.finished.push_back(done(token, status, bytes.len(), urb));
    }

    /// Finishes a write of which so many bytes were taken.
    pub(super) fn takes(&self, at: usize, status: Status, bytes: usize) {
        let mut inside = self.inside();
        let (token, urb) = inside.flights.remove(at);
        inside.finished.push_back(done(token, status, bytes, urb));
    }

    /// The oldest transfer of each endpoint that has any.
    pub(super) fn heads(&self) -> Vec<usize> {
        let has = self.has();
        let first = |at: &usize| has[..*at].iter().all(|it| it.0 != has[*at].0);
        (0..has.len()).filter(first).collect()
    }

    /// Finishes a transfer with so many bytes of its endpoint's stream.
    pub(super) fn runs(&self, at: usize, status: Status, bytes: usize) {
        let mut inside = self.inside();
        let (token, mut urb) = inside.flights.remove(at);
        inside.streams.run(&mut urb, bytes);
        inside.finished.push_back(done(token, status, bytes, urb));
    }

    /// The kernel cancels all that it has, as it does for a new setting of the interface.
    pub(super) fn kernel_cancels_all(&self) {
        let mut inside = self.inside();
        for (token, urb) in std::mem::take(&mut inside.flights) {
            inside.finished.push_back(done(token, Status::Cancelled, 0, urb));
        }
    }

    /// Finishes an isochronous transfer: how many bytes each packet has moved, and what became of it. Packet n reads as bytes of n.
    pub(super) fn plays(&self, at: usize, status: Status, results: &[(u32, Status)]) {
        let mut inside = self.inside();
        let (token, mut urb) = inside.flights.remove(at);
        let Kind::Iso(mut packets) = std::mem::replace(&mut urb.kind, Kind::Bulk) else {
            panic!("not isochronous")
        };
        let mut start = 0;
        for (number, (packet, result)) in packets.iter_mut().zip(results).enumerate() {
            (packet.actual_length, packet.status) = *result;
            let end = start + packet.length as usize;
            if urb.is_in() {
                urb.buffer.data_mut()[start..end].fill(number as u8);
            }
            start = end;
        }
        let total = results.iter().map(|it| it.0 as usize).sum();
        let failed = results.iter().filter(|it| it.1 != Status::Ok).count();
        let done = done(token, status, total, urb);
        inside.finished.push_back(Done { packets, error_count: failed as u32, ..done });
    }

    /// It is pulled out, and the kernel ends all that it has.
    pub(super) fn unplug(&self) {
        self.vanish();
        self.kernel_ends_all();
    }

    /// It is pulled out, and the kernel has not ended yet what it has.
    pub(super) fn vanish(&self) {
        self.inside().gone = true;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.inside().gone
    }

    pub(super) fn kernel_ends_all(&self) {
        let mut inside = self.inside();
        for (token, urb) in std::mem::take(&mut inside.flights) {
            inside.finished.push_back(done(token, Status::Gone, 0, urb));
        }
    }

    /// Why it takes no transfers from now on; `None`: it does.
    pub(super) fn refuses(&self, why: Option<Refused>) {
        self.inside().refuses = why;
    }

    /// How many bytes of its oldest transfer have been moved, should that be discarded.
    pub(super) fn moves(&self, bytes: usize) {
        self.inside().moved = bytes;
    }

    /// A configuration is chosen, or none.
    pub(super) fn configure(&self, configured: bool) {
        self.inside().configured = configured;
    }

    /// A job begins or ends.
    pub(super) fn lock(&self, locked: bool) {
        self.inside().locked = locked;
    }
}

fn done(token: u64, status: Status, actual_length: usize, urb: Urb) -> Done {
    Done { token, status, actual_length, error_count: 0, packets: Vec::new(), buffer: urb.buffer }
}

impl Inside {
    fn touch(&mut self) -> &mut Inside {
        assert!(!self.locked, "a job is at the device");
        self
    }
}

impl Usb for Device {
    type Handle = Device;

    fn submit(&mut self, urb: Urb, token: u64) -> Result<(), (Refused, Urb)> {
        let mut inside = self.inside();
        let inside = inside.touch();
        if inside.gone {
            return Err((Refused::Gone, urb));
        }
        let busy = (!inside.configured && urb.endpoint != 0).then_some(Refused::Busy);
        if let Some(why) = busy.or(inside.refuses) {
            return Err((why, urb));
        }
        inside.submitted += 1;
        inside.flights.push((token, urb));
        Ok(())
    }

    fn reap(&mut self) -> Result<Option<Done>, Gone> {
        let mut inside = self.inside();
        let inside = inside.touch();
        match inside.finished.pop_front() {
            None if inside.gone => Err(Gone),
            done => Ok(done),
        }
    }

    fn discard(&mut self, token: u64) {
        let mut inside = self.inside();
        let inside = inside.touch();
        if inside.gone {
            // ENODEV: the kernel ends it by itself.
            return;
        }
        let Some(at) = inside.flights.iter().position(|it| it.0 == token) else { return };
        // Those behind the first of an endpoint have not begun.
        let endpoint = inside.flights[at].1.endpoint;
        let begun = inside.flights[..at].iter().all(|it| it.1.endpoint != endpoint);
        let (_, mut urb) = inside.flights.remove(at);
        let room = if urb.kind == Kind::Control { SETUP } else { 0 };
        let moved = if begun { inside.moved.min(urb.buffer.len() - room) } else { 0 };
        inside.streams.run(&mut urb, moved);
        inside.finished.push_back(done(token, Status::Cancelled, moved, urb));
    }

    fn in_flight(&self) -> usize {
        let inside = self.inside();
        inside.flights.len() + inside.finished.len()
    }

    fn handle(&self) -> Device {
        self.clone()
    }
}
