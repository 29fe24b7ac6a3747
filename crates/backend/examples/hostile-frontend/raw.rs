//! Raw access to a controller's rings: an attack chooses every word of a request and every index.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vusb_usbif::frontend::encode_submit;
use vusb_usbif::urb::{Direction, Kind, REQUEST_WORDS, RequestWords, Segment, Segments, Transfer};
use vusb_usbif::{Page as _, Port};
use vusb_xen::gntalloc::Shared;
use vusb_xen::store::Nodes as _;

use crate::frontend::{Failure, Frontend, GuestPage, until};
use crate::reference_frontend::setup;

/// Words of a ring's header, the first word of its slots, and their number (Xen `ring.h`,
/// `usbif.h`).
pub(crate) const REQ_PROD: usize = 0;
const RSP_PROD: usize = 2;
pub(crate) const SLOTS: usize = 16;
pub(crate) const RING: u32 = 16;
/// How long a request may take. Resets and failed transfers take a while.
const LIMIT: Duration = Duration::from_secs(60);
/// Interval between two reads of xenstore.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The id of the valid request that ends an attack.
const GOOD: u16 = 0x600d;

/// A response of the backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) id: u16,
    pub(crate) status: i32,
    pub(crate) actual: u32,
}

/// A connected controller.
pub(crate) struct Raw {
    pub(crate) front: Frontend,
    /// The port of the device.
    pub(crate) port: Port,
    /// A page for data, which the backend may write to.
    pub(crate) page: Shared,
    /// Requests written; published only up to the last call of [`Raw::publish`].
    pub(crate) sent: u32,
    seen: u32,
    /// How many times each status was returned.
    statuses: BTreeMap<i32, u32>,
    last: Option<Answer>,
}

impl Raw {
    /// Connects as a correct frontend does, and waits until the backend has a device for it.
    pub(crate) fn connect() -> Result<Raw, Failure> {
        Raw::from_frontend(Frontend::connect()?)
    }

    /// Continues with a connected frontend. The backend may have dropped it by now.
    pub(crate) fn from_frontend(mut front: Frontend) -> Result<Raw, Failure> {
        let port = until("a device", || {
            let nodes = &mut front.nodes;
            let backend = nodes.backend_path.clone();
            for port in nodes.store.list(&format!("{backend}/status"))? {
                let status = nodes.store.read(&format!("{backend}/status/{port}"))?;
                let here = status.is_some_and(|it| it != "absent");
                if let (true, Some(port)) = (here, number(&port)) {
                    return Ok(Some(port));
                }
            }
            Ok(nodes.drop_reason()?.map(|_| Port::MAX))
        })?;
        let page = front.page(true)?;
        Ok(Raw { front, port, page, sent: 0, seen: 0, statuses: BTreeMap::new(), last: None })
    }

    pub(crate) const fn ring(&self) -> &Arc<GuestPage> {
        self.front.urbs.page()
    }

    /// A transfer to the device's port, at address 0.
    pub(crate) fn transfer(
        &self,
        kind: Kind,
        endpoint: u8,
        direction: Direction,
        data: Segments,
    ) -> Transfer {
        let port = self.port;
        Transfer { port, address: 0, endpoint, direction, kind, short_not_ok: false, data }
    }

    /// A transfer of one page, bulk or interrupt.
    pub(crate) fn data(
        &self,
        id: u16,
        kind: Kind,
        endpoint: u8,
        direction: Direction,
    ) -> RequestWords {
        encode(id, &self.transfer(kind, endpoint, direction, piece(&self.page, 0, 4096)))
    }

    /// A request that every device answers: for its device descriptor.
    pub(crate) fn good(&self, id: u16) -> RequestWords {
        self.control(id, [0x80, 6, 0, 1, 0, 0, 18, 0])
    }

    /// Any control request, with a page for its data.
    pub(crate) fn control(&self, id: u16, setup: [u8; 8]) -> RequestWords {
        let setup = vusb_usbif::urb::Setup::from_bytes(setup);
        let kind = Kind::Control(setup);
        encode(id, &self.transfer(kind, 0, setup.direction(), piece(&self.page, 0, 4096)))
    }

    /// Writes a request into the next slot.
    pub(crate) fn put(&mut self, words: &RequestWords) {
        for (word, value) in words.0.into_iter().enumerate() {
            self.ring().store(slot(self.sent) + word, value);
        }
        self.sent = self.sent.wrapping_add(1);
    }

    /// Publishes the requests written so far.
    pub(crate) fn publish(&mut self) -> Result<(), Failure> {
        self.announce_index(self.sent)
    }

    pub(crate) fn send(&mut self, words: &RequestWords) -> Result<(), Failure> {
        self.put(words);
        self.publish()
    }

    /// Sends a request and waits until it is answered, or the controller is dropped.
    pub(crate) fn request(&mut self, words: &RequestWords) -> Result<(), Failure> {
        self.send(words)?;
        self.wait_for_answers().map(drop)
    }

    /// Announces requests up to this index.
    pub(crate) fn announce_index(&self, index: u32) -> Result<(), Failure> {
        self.ring().store(REQ_PROD, index);
        self.ring().fence();
        Ok(self.front.events.notify(self.front.channel)?)
    }

    /// Reads the responses.
    pub(crate) fn read(&mut self) {
        let ring = self.front.urbs.page();
        let announced = ring.load(RSP_PROD);
        while self.seen != announced {
            let first = slot(self.seen);
            let id = (ring.load(first) & 0xffff) as u16;
            let status = ring.load(first + 1) as i32;
            self.last = Some(Answer { id, status, actual: ring.load(first + 2) });
            *self.statuses.entry(status).or_default() += 1;
            self.seen = self.seen.wrapping_add(1);
        }
    }

    /// The number of requests without a response.
    pub(crate) const fn unanswered(&self) -> u32 {
        self.sent.wrapping_sub(self.seen)
    }

    /// Waits until all requests are answered. Returns the reason if the backend drops the
    /// controller.
    pub(crate) fn wait_for_answers(&mut self) -> Result<Option<String>, Failure> {
        let end = Instant::now() + LIMIT;
        let mut look = Instant::now() + POLL_INTERVAL;
        loop {
            self.read();
            if self.unanswered() == 0 {
                return Ok(None);
            }
            if look <= Instant::now() {
                if let Some(why) = self.front.nodes.drop_reason()? {
                    return Ok(Some(why));
                }
                look = Instant::now() + POLL_INTERVAL;
            }
            if Instant::now() > end {
                return Err(Failure::Timeout("answers"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends requests, as many at a time as the ring has space for. Returns false if the backend
    /// has dropped the controller.
    pub(crate) fn send_all(
        &mut self,
        requests: impl Iterator<Item = RequestWords>,
    ) -> Result<bool, Failure> {
        for words in requests {
            self.put(&words);
            if self.unanswered() == RING {
                self.publish()?;
                if self.wait_for_answers()?.is_some() {
                    return Ok(false);
                }
            }
        }
        self.publish()?;
        Ok(self.wait_for_answers()?.is_none())
    }

    /// Ends an attack: closes the controller, and returns how the backend has reacted.
    pub(crate) fn verdict(mut self) -> Result<String, Failure> {
        let output = self.check_service()?;
        self.front.nodes.close()?;
        Ok(output)
    }

    fn check_service(&mut self) -> Result<String, Failure> {
        if let Some(why) = self.wait_for_answers()? {
            return Ok(format!("dropped: {why}"));
        }
        let answers = self.statuses.iter().map(|(status, count)| format!("{count} times {status}"));
        let answers = answers.collect::<Vec<_>>().join(", ");
        let good = self.good(GOOD);
        let _ = self.page.copy_in(0, &[0; 18]);
        self.send(&good)?;
        if let Some(why) = self.wait_for_answers()? {
            return Ok(format!("dropped: {why}"));
        }
        let mut descriptor = [0; 18];
        let _ = self.page.copy_out(0, &mut descriptor);
        match self.last {
            Some(Answer { id: GOOD, status: 0, actual: 18 })
                if descriptor.starts_with(&[18, 1]) =>
            {
                Ok(format!("served: a device descriptor, after answers [{answers}]"))
            }
            other => {
                Err(Failure::Unexpected(format!("{other:?} to a good request, {descriptor:?}")))
            }
        }
    }

    /// Sends SET_ADDRESS and SET_CONFIGURATION, so that endpoints can be used. Returns the address.
    pub(crate) fn configure(&mut self) -> Result<u8, Failure> {
        const ADDRESS: u8 = 9;
        let address = setup(0, 5, ADDRESS.into(), 0).to_bytes();
        self.request(&self.control(1, address))?;
        let mut configuration = self.control(2, setup(0, 9, 1, 0).to_bytes());
        readdress(&mut configuration, ADDRESS);
        self.request(&configuration)?;
        Ok(ADDRESS)
    }
}

/// The first word of the slot with this index.
pub(crate) const fn slot(index: u32) -> usize {
    SLOTS + (index % RING) as usize * REQUEST_WORDS
}

pub(crate) fn encode(id: u16, transfer: &Transfer) -> RequestWords {
    let mut words = RequestWords([0; REQUEST_WORDS]);
    encode_submit(&mut words, id, transfer);
    words
}

/// Changes the address of a request.
pub(crate) const fn readdress(words: &mut RequestWords, address: u8) {
    words.0[1] = words.0[1] & !(0x7f << 8) | (address as u32) << 8;
}

/// A piece of a page.
pub(crate) fn piece(page: &Shared, offset: u16, length: u16) -> Segments {
    Segments::new(&[Segment { gref: page.gref().0, offset, length }]).unwrap_or_default()
}

fn number(text: &str) -> Option<Port> {
    Port::new(text.parse().ok()?).ok()
}

/// Reproducible pseudorandom numbers (xorshift, Marsaglia 2003).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) const fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }

    pub(crate) const fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }
}
