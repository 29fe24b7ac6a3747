//! A controller's rings without any books: each word of a request and each index is what an attack wants it to be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vusb_usbif::front::encode_submit;
use vusb_usbif::urb::{Direction, Kind, REQUEST_WORDS, RequestWords, Segment, Segments, Transfer};
use vusb_usbif::{Page as _, Port};
use vusb_xen::gntalloc::Shared;
use vusb_xen::store::Nodes as _;

use crate::frontend::{Failure, Frontend, GuestPage, until};
use crate::well::setup;

/// Words of a ring's head, where its slots begin, and how many there are (Xen `ring.h`, `usbif.h`).
pub(crate) const REQ_PROD: usize = 0;
const RSP_PROD: usize = 2;
pub(crate) const SLOTS: usize = 16;
pub(crate) const RING: u32 = 16;
/// How long a request may take. A device that is reset, or has a transfer that fails, takes a while.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at the store.
const LOOK: Duration = Duration::from_millis(20);
/// The number of the good request that ends an attack.
const GOOD: u16 = 0x600d;

/// What the backend has answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) id: u16,
    pub(crate) status: i32,
    pub(crate) actual: u32,
}

/// A connected controller.
pub(crate) struct Raw {
    pub(crate) front: Frontend,
    /// The port that has the device.
    pub(crate) port: Port,
    /// A page for data, which the backend may write.
    pub(crate) page: Shared,
    /// Requests written, and shown if [`Raw::show`] was called since.
    pub(crate) sent: u32,
    seen: u32,
    /// How often each status was the answer.
    statuses: BTreeMap<i32, u32>,
    last: Option<Answer>,
}

impl Raw {
    /// Connects as a good frontend does, and waits until the backend has a device for us.
    pub(crate) fn connect() -> Result<Raw, Failure> {
        Raw::on(Frontend::connect()?)
    }

    /// Goes on with a frontend that is connected; the backend may have dropped it by now.
    pub(crate) fn on(mut front: Frontend) -> Result<Raw, Failure> {
        let port = until("a device", || {
            let place = &mut front.place;
            let theirs = place.theirs.clone();
            for port in place.store.list(&format!("{theirs}/status"))? {
                let status = place.store.read(&format!("{theirs}/status/{port}"))?;
                let here = status.is_some_and(|it| it != "absent");
                if let (true, Some(port)) = (here, number(&port)) {
                    return Ok(Some(port));
                }
            }
            Ok(place.dropped()?.map(|_| Port::MAX))
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

    /// A request that any device answers: for its device descriptor.
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

    /// Shows the backend what was written.
    pub(crate) fn show(&mut self) -> Result<(), Failure> {
        self.claim(self.sent)
    }

    pub(crate) fn send(&mut self, words: &RequestWords) -> Result<(), Failure> {
        self.put(words);
        self.show()
    }

    /// Sends a request and waits until it is answered, or the controller is dropped.
    pub(crate) fn ask(&mut self, words: &RequestWords) -> Result<(), Failure> {
        self.send(words)?;
        self.settle().map(drop)
    }

    /// Says that there are requests up to this number.
    pub(crate) fn claim(&self, index: u32) -> Result<(), Failure> {
        self.ring().store(REQ_PROD, index);
        self.ring().fence();
        Ok(self.front.events.notify(self.front.channel)?)
    }

    /// Reads what was answered.
    pub(crate) fn read(&mut self) {
        let ring = self.front.urbs.page();
        let announced = ring.load(RSP_PROD);
        while self.seen != announced {
            let first = slot(self.seen);
            let id = (ring.load(first) & 0xffff) as u16;
            let status = ring.load(first + 1).cast_signed();
            self.last = Some(Answer { id, status, actual: ring.load(first + 2) });
            *self.statuses.entry(status).or_default() += 1;
            self.seen = self.seen.wrapping_add(1);
        }
    }

    /// How many requests have no answer.
    pub(crate) const fn open(&self) -> u32 {
        self.sent.wrapping_sub(self.seen)
    }

    /// Waits until all is answered; why the backend has dropped the controller, if it has.
    pub(crate) fn settle(&mut self) -> Result<Option<String>, Failure> {
        let end = Instant::now() + LIMIT;
        let mut look = Instant::now() + LOOK;
        loop {
            self.read();
            if self.open() == 0 {
                return Ok(None);
            }
            if look <= Instant::now() {
                if let Some(why) = self.front.place.dropped()? {
                    return Ok(Some(why));
                }
                look = Instant::now() + LOOK;
            }
            if Instant::now() > end {
                return Err(Failure::TooLong("answers"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends requests, as many at a time as the ring has room for. Whether the controller is still there.
    pub(crate) fn send_all(
        &mut self,
        requests: impl Iterator<Item = RequestWords>,
    ) -> Result<bool, Failure> {
        for words in requests {
            self.put(&words);
            if self.open() == RING {
                self.show()?;
                if self.settle()?.is_some() {
                    return Ok(false);
                }
            }
        }
        self.show()?;
        Ok(self.settle()?.is_none())
    }

    /// The end of an attack: what it has led to. Lets go of the controller.
    pub(crate) fn verdict(mut self) -> Result<String, Failure> {
        let said = self.judge()?;
        self.front.place.leave()?;
        Ok(said)
    }

    fn judge(&mut self) -> Result<String, Failure> {
        if let Some(why) = self.settle()? {
            return Ok(format!("dropped: {why}"));
        }
        let answers = self.statuses.iter().map(|(status, count)| format!("{count} times {status}"));
        let answers = answers.collect::<Vec<_>>().join(", ");
        let good = self.good(GOOD);
        let _ = self.page.copy_in(0, &[0; 18]);
        self.send(&good)?;
        if let Some(why) = self.settle()? {
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

    /// Sends SET_ADDRESS and SET_CONFIGURATION, so that endpoints can be reached, and gives the address.
    pub(crate) fn configure(&mut self) -> Result<u8, Failure> {
        const ADDRESS: u8 = 9;
        let address = setup(0, 5, ADDRESS.into(), 0).to_bytes();
        self.ask(&self.control(1, address))?;
        let mut configuration = self.control(2, setup(0, 9, 1, 0).to_bytes());
        readdress(&mut configuration, ADDRESS);
        self.ask(&configuration)?;
        Ok(ADDRESS)
    }
}

/// The slot of an index.
pub(crate) const fn slot(index: u32) -> usize {
    SLOTS + (index % RING) as usize * REQUEST_WORDS
}

pub(crate) fn encode(id: u16, transfer: &Transfer) -> RequestWords {
    let mut words = RequestWords([0; REQUEST_WORDS]);
    encode_submit(&mut words, id, transfer);
    words
}

/// Sends a request to another address.
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

/// Numbers that look random and are the same each time (xorshift, Marsaglia 2003).
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
