//! A device that keeps every transfer until a test completes it.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::LazyLock;

use vusb_host::usbfs::{Completion, Gone, Kind, Status, SubmitError, Urb};

use super::super::Usb;

/// Length of a setup packet in bytes. It precedes the data of a control transfer.
const SETUP: usize = 8;
/// A prime, so that repetitions are at different offsets in pages.
const PERIOD: usize = 65521;

/// A device. A clone is the same device: the engine has one clone, the test the other.
#[derive(Clone, Default)]
pub(super) struct Device(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    in_flight: Vec<(u64, Urb)>,
    finished: VecDeque<Completion>,
    /// The device is unplugged, and accepts no transfers.
    gone: bool,
    /// Why it does not accept transfers at the moment.
    refuses: Option<SubmitError>,
    /// A job is working on it: nothing else may touch it.
    locked: bool,
    /// A configuration is selected and its interfaces are claimed: there are endpoints other than
    /// 0.
    configured: bool,
    /// How many bytes of the oldest transfer of an endpoint have been moved when that transfer is
    /// discarded.
    moved: usize,
    submitted: usize,
    streams: Streams,
}

/// The data that has passed through the endpoints of all devices in a port.
#[derive(Clone, Default)]
pub(super) struct Streams(Rc<RefCell<BTreeMap<u8, Stream>>>);

/// The data that has passed through one endpoint.
#[derive(Clone, Default)]
pub(super) struct Stream {
    /// How many bytes of [`stream`] the device has sent.
    pub(super) sent: usize,
    /// The bytes that the device has received.
    pub(super) received: Vec<u8>,
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
            stream.received.extend_from_slice(data);
        }
    }
}

/// The data that endpoints send: a sequence with period [`PERIOD`].
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
    /// A device that continues the streams of earlier devices in the same port.
    pub(super) fn continuing(streams: &Streams) -> Device {
        let device = Device::default();
        device.inner().streams = streams.clone();
        device
    }

    fn inner(&self) -> RefMut<'_, Inner> {
        self.0.borrow_mut()
    }

    /// Endpoint and length of each transfer in flight, in the order of submission. The length of a
    /// control transfer includes the setup packet.
    pub(super) fn queued(&self) -> Vec<(u8, usize)> {
        self.inner().in_flight.iter().map(|(_, urb)| (urb.endpoint, urb.buffer.len())).collect()
    }

    /// A transfer in flight.
    pub(super) fn urb(&self, at: usize) -> Ref<'_, Urb> {
        Ref::map(self.0.borrow(), |it| &it.in_flight[at].1)
    }

    /// How many transfers were ever submitted.
    pub(super) fn submitted(&self) -> usize {
        self.inner().submitted
    }

    /// Completes a read with these bytes.
    pub(super) fn complete_in(&self, at: usize, bytes: &[u8]) {
        self.complete_in_with(at, Status::Ok, bytes);
    }

    /// Completes a read with this status and these bytes.
    pub(super) fn complete_in_with(&self, at: usize, status: Status, bytes: &[u8]) {
        let mut inner = self.inner();
        let (token, mut urb) = inner.in_flight.remove(at);
        let skip = if urb.kind == Kind::Control { SETUP } else { 0 };
        urb.buffer.data_mut()[skip..skip + bytes.len()].copy_from_slice(bytes);
        inner.finished.push_back(done(token, status, bytes.len(), urb));
    }

    /// Completes a write of which this many bytes were received.
    pub(super) fn complete_out(&self, at: usize, status: Status, bytes: usize) {
        let mut inner = self.inner();
        let (token, urb) = inner.in_flight.remove(at);
        inner.finished.push_back(done(token, status, bytes, urb));
    }

    /// The position of the oldest transfer of each endpoint.
    pub(super) fn oldest_per_endpoint(&self) -> Vec<usize> {
        let queued = self.queued();
        let first = |at: &usize| queued[..*at].iter().all(|it| it.0 != queued[*at].0);
        (0..queued.len()).filter(first).collect()
    }

    /// Completes a transfer with this many bytes of its endpoint's stream.
    pub(super) fn complete_from_stream(&self, at: usize, status: Status, bytes: usize) {
        let mut inner = self.inner();
        let (token, mut urb) = inner.in_flight.remove(at);
        inner.streams.run(&mut urb, bytes);
        inner.finished.push_back(done(token, status, bytes, urb));
    }

    /// The kernel cancels all transfers, as it does for a new alternate setting.
    pub(super) fn kernel_cancels_all(&self) {
        let mut inner = self.inner();
        for (token, urb) in std::mem::take(&mut inner.in_flight) {
            inner.finished.push_back(done(token, Status::Cancelled, 0, urb));
        }
    }

    /// Completes an isochronous transfer with the length and status of each packet. The data of
    /// packet n consists of bytes with the value n.
    pub(super) fn complete_iso(&self, at: usize, status: Status, results: &[(u32, Status)]) {
        let mut inner = self.inner();
        let (token, mut urb) = inner.in_flight.remove(at);
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
        inner.finished.push_back(Completion { packets, error_count: failed as u32, ..done });
    }

    /// Unplugs the device; the kernel ends all its transfers.
    pub(super) fn unplug(&self) {
        self.unplug_silently();
        self.kernel_ends_all();
    }

    /// Unplugs the device; the kernel has not ended its transfers yet.
    pub(super) fn unplug_silently(&self) {
        self.inner().gone = true;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.inner().gone
    }

    pub(super) fn kernel_ends_all(&self) {
        let mut inner = self.inner();
        for (token, urb) in std::mem::take(&mut inner.in_flight) {
            inner.finished.push_back(done(token, Status::Gone, 0, urb));
        }
    }

    /// Makes it refuse transfers from now on; `None` to accept them again.
    pub(super) fn set_refusal(&self, why: Option<SubmitError>) {
        self.inner().refuses = why;
    }

    /// Sets how many bytes of an endpoint's oldest transfer have been moved when that transfer is
    /// discarded.
    pub(super) fn set_moved(&self, bytes: usize) {
        self.inner().moved = bytes;
    }

    /// A configuration is selected or removed.
    pub(super) fn configure(&self, configured: bool) {
        self.inner().configured = configured;
    }

    /// A job starts or ends.
    pub(super) fn lock(&self, locked: bool) {
        self.inner().locked = locked;
    }
}

fn done(token: u64, status: Status, actual_length: usize, urb: Urb) -> Completion {
    Completion {
        token,
        status,
        actual_length,
        error_count: 0,
        packets: Vec::new(),
        buffer: urb.buffer,
    }
}

impl Inner {
    fn touch(&mut self) -> &mut Inner {
        assert!(!self.locked, "a job is working on the device");
        self
    }
}

impl Usb for Device {
    type Handle = Device;

    fn submit(&mut self, urb: Urb, token: u64) -> Result<(), (SubmitError, Urb)> {
        let mut inner = self.inner();
        let inner = inner.touch();
        if inner.gone {
            return Err((SubmitError::Gone, urb));
        }
        let busy = (!inner.configured && urb.endpoint != 0).then_some(SubmitError::Busy);
        if let Some(why) = busy.or(inner.refuses) {
            return Err((why, urb));
        }
        inner.submitted += 1;
        inner.in_flight.push((token, urb));
        Ok(())
    }

    fn reap(&mut self) -> Result<Option<Completion>, Gone> {
        let mut inner = self.inner();
        let inner = inner.touch();
        match inner.finished.pop_front() {
            None if inner.gone => Err(Gone),
            done => Ok(done),
        }
    }

    fn discard(&mut self, token: u64) {
        let mut inner = self.inner();
        let inner = inner.touch();
        if inner.gone {
            // ENODEV: the kernel ends the transfer itself.
            return;
        }
        let Some(at) = inner.in_flight.iter().position(|it| it.0 == token) else { return };
        // Only the first transfer of an endpoint has started.
        let endpoint = inner.in_flight[at].1.endpoint;
        let started = inner.in_flight[..at].iter().all(|it| it.1.endpoint != endpoint);
        let (_, mut urb) = inner.in_flight.remove(at);
        let header = if urb.kind == Kind::Control { SETUP } else { 0 };
        let moved = if started { inner.moved.min(urb.buffer.len() - header) } else { 0 };
        inner.streams.run(&mut urb, moved);
        inner.finished.push_back(done(token, Status::Cancelled, moved, urb));
    }

    fn in_flight(&self) -> usize {
        let inner = self.inner();
        inner.in_flight.len() + inner.finished.len()
    }

    fn handle(&self) -> Device {
        self.clone()
    }
}
