//! Indexes, slots that change while they are read, and bells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use vusb_usbif::Page as _;
use vusb_usbif::urb::{REQUEST_WORDS, RequestWords};
use vusb_xen::State;

use crate::frontend::{Failure, Frontend, GuestPage};
use crate::raw::{REQ_PROD, Random, Raw, SLOTS, slot};

/// Words of a page.
const WORDS: u32 = 1024;

/// One good request, and an index that is off by this much.
pub(crate) fn urb_index(by: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let good = raw.good(1);
    raw.ask(&good)?;
    raw.sent = raw.sent.wrapping_add(by);
    raw.show()?;
    raw.verdict()
}

/// The connection ring says that there is room for so many events.
pub(crate) fn connect_index(index: u32) -> Result<String, Failure> {
    let mut front = Frontend::prepare()?;
    front.connects.page().store(REQ_PROD, index);
    front.announce()?;
    front.place.await_state(
        "the backend to connect",
        &[State::Connected, State::Closing, State::Closed],
    )?;
    Raw::on(front)?.verdict()
}

/// Random bytes all over the ring. The backend drops it each time, and lets it come back later each time.
pub(crate) fn scribble(rounds: u32) -> Result<String, Failure> {
    let mut said = String::new();
    for seed in 1..=rounds {
        let raw = Raw::connect()?;
        let mut random = Random(u64::from(seed) << 32 | 0x5eed);
        for word in 0..WORDS as usize {
            raw.ring().store(word, random.next());
        }
        raw.front.events.notify(raw.front.channel)?;
        // What was answered before cannot be told from what was scribbled: only the store says what has become of it.
        said = scribbled(raw)?;
    }
    Ok(said)
}

fn scribbled(mut raw: Raw) -> Result<String, Failure> {
    let why = crate::frontend::until("the backend to drop a ring of random bytes", || {
        raw.front.place.dropped()
    })?;
    raw.front.place.leave()?;
    Ok(format!("dropped: {why}"))
}

/// Does something while another thread changes the ring.
fn meanwhile<T>(
    ring: &GuestPage,
    change: impl Fn(&GuestPage, &mut Random) + Sync,
    act: impl FnOnce() -> T,
) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(0xf11b);
            while !stop.load(Relaxed) {
                change(ring, &mut random);
            }
        });
        let result = act();
        stop.store(true, Relaxed);
        result
    })
}

/// A second view of the ring's page, for another thread.
fn with_changes(
    mut raw: Raw,
    change: impl Fn(&GuestPage, &mut Random) + Sync,
    act: impl FnOnce(&mut Raw) -> Result<bool, Failure>,
) -> Result<String, Failure> {
    let ring = Arc::clone(raw.ring());
    meanwhile(&ring, change, || act(&mut raw))?;
    raw.verdict()
}

/// Single bits of all slots flip while good requests are read.
pub(crate) fn flip_bytes(count: u32) -> Result<String, Failure> {
    let flip = |ring: &GuestPage, random: &mut Random| {
        let word = SLOTS + random.below(WORDS - 16) as usize;
        ring.store(word, ring.load(word) ^ 1 << random.below(32));
    };
    with_changes(Raw::connect()?, flip, |raw| {
        let good: RequestWords = raw.good(0);
        raw.send_all((0..count).map(|id| with_id(good, id)))
    })
}

/// The lengths in requests change between two that are both fine by themselves, one more and one less than there is room for.
pub(crate) fn flip_lengths(count: u32) -> Result<String, Failure> {
    let flip = |ring: &GuestPage, random: &mut Random| {
        let first = slot(random.below(16));
        // wLength, and the length of the only segment.
        ring.store(first + 4, if random.below(2) == 0 { 4096 << 16 } else { 8 << 16 });
        ring.store(first + 6, if random.below(2) == 0 { 4096 << 16 } else { 8 << 16 });
    };
    with_changes(Raw::connect()?, flip, |raw| {
        let good = raw.good(0);
        raw.send_all((0..count).map(|id| with_id(good, id)))
    })
}

/// The index goes up and down between two values that are both possible, as fast as it can, for so many seconds.
pub(crate) fn flutter(seconds: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let unlink = unlink_nothing(1);
    for _ in 0..16 {
        raw.put(&unlink);
    }
    raw.sent = 0;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    while Instant::now() < end {
        for index in [1, 16, 0] {
            raw.ring().store(REQ_PROD, index);
        }
        raw.front.events.notify(raw.front.channel)?;
    }
    raw.sent = 1;
    raw.show()?;
    raw.verdict()
}

/// Rings as fast as it can, and asks for nothing.
pub(crate) fn bells(seconds: u32) -> Result<String, Failure> {
    let raw = Raw::connect()?;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    while Instant::now() < end {
        raw.front.events.notify(raw.front.channel)?;
    }
    raw.verdict()
}

/// Rings as fast as it can, and asks for something now and then, so that it is not all for nothing.
pub(crate) fn bells_and_requests(seconds: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let unlink = unlink_nothing(7);
    while Instant::now() < end {
        for _ in 0..32 {
            raw.front.events.notify(raw.front.channel)?;
        }
        raw.read();
        if raw.open() < 8 {
            raw.ask(&unlink)?;
        }
    }
    raw.verdict()
}

/// An unlink of a request that is not there.
fn unlink_nothing(id: u16) -> RequestWords {
    let mut words = RequestWords([0; REQUEST_WORDS]);
    words.0[0] = id.into();
    words.0[1] = 1 | 1 << 5;
    words.0[3] = 0xffff;
    words
}

fn with_id(mut words: RequestWords, id: u32) -> RequestWords {
    words.0[0] = words.0[0] & !0xffff | id & 0xffff;
    words
}
