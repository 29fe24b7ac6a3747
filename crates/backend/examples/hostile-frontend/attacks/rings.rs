//! Impossible indexes, slots that change while they are read, and floods of events.

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

/// One valid request, and an index that is off by this much.
pub(crate) fn urb_index(by: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let good = raw.good(1);
    raw.request(&good)?;
    raw.sent = raw.sent.wrapping_add(by);
    raw.publish()?;
    raw.verdict()
}

/// The connection ring announces credit for this many events.
pub(crate) fn connect_index(index: u32) -> Result<String, Failure> {
    let mut front = Frontend::prepare()?;
    front.connects.page().store(REQ_PROD, index);
    front.announce()?;
    front.nodes.await_state(
        "the backend to connect",
        &[State::Connected, State::Closing, State::Closed],
    )?;
    Raw::from_frontend(front)?.verdict()
}

/// Fills the ring with random words. The backend drops the controller each time, and makes the
/// guest wait longer each time before it may reconnect.
pub(crate) fn scribble(rounds: u32) -> Result<String, Failure> {
    let mut output = String::new();
    for seed in 1..=rounds {
        let raw = Raw::connect()?;
        let mut random = Random(u64::from(seed) << 32 | 0x5eed);
        for word in 0..WORDS as usize {
            raw.ring().store(word, random.next());
        }
        raw.front.events.notify(raw.front.channel)?;
        // Responses cannot be distinguished from the random words, so the outcome is only in
        // xenstore.
        output = wait_for_drop(raw)?;
    }
    Ok(output)
}

fn wait_for_drop(mut raw: Raw) -> Result<String, Failure> {
    let why = crate::frontend::until("the backend to drop a ring of random bytes", || {
        raw.front.nodes.drop_reason()
    })?;
    raw.front.nodes.close()?;
    Ok(format!("dropped: {why}"))
}

/// Runs `act` while another thread changes the ring.
fn while_changing<T>(
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

/// Runs `act` while another thread changes the ring, and returns the verdict.
fn with_changes(
    mut raw: Raw,
    change: impl Fn(&GuestPage, &mut Random) + Sync,
    act: impl FnOnce(&mut Raw) -> Result<bool, Failure>,
) -> Result<String, Failure> {
    let ring = Arc::clone(raw.ring());
    while_changing(&ring, change, || act(&mut raw))?;
    raw.verdict()
}

/// Flips single bits of all slots while valid requests are read.
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

/// Changes `wLength` and the segment's length between 8 and 4096 independently, so that the data
/// may be longer than the memory for it.
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

/// Changes the index between possible values as fast as it can, for this many seconds.
pub(crate) fn oscillate(seconds: u32) -> Result<String, Failure> {
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
    raw.publish()?;
    raw.verdict()
}

/// Sends events as fast as it can, without any requests.
pub(crate) fn event_flood(seconds: u32) -> Result<String, Failure> {
    let raw = Raw::connect()?;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    while Instant::now() < end {
        raw.front.events.notify(raw.front.channel)?;
    }
    raw.verdict()
}

/// Sends events as fast as it can, with a request from time to time, so that the backend does not
/// regard the guest as idle.
pub(crate) fn event_flood_with_requests(seconds: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let unlink = unlink_nothing(7);
    while Instant::now() < end {
        for _ in 0..32 {
            raw.front.events.notify(raw.front.channel)?;
        }
        raw.read();
        if raw.unanswered() < 8 {
            raw.request(&unlink)?;
        }
    }
    raw.verdict()
}

/// An unlink of a request that does not exist.
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
