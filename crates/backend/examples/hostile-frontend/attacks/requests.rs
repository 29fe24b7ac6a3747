//! Requests that no correct driver sends.

use vusb_usbif::urb::{Direction, Kind, RequestWords, Segment, Segments};

use crate::frontend::Failure;
use crate::raw::{Random, Raw, encode, readdress};
use crate::reference_frontend::setup;

/// Sends a valid request with one change.
pub(crate) fn one(change: fn(&mut RequestWords)) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let mut words = raw.good(1);
    change(&mut words);
    raw.send(&words)?;
    raw.verdict()
}

/// Sends many generated requests to a configured device. `make` gets the id and the device's
/// address.
pub(crate) fn many(
    count: u32,
    make: fn(&Raw, &mut Random, u16, u8) -> RequestWords,
) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let address = raw.configure()?;
    let mut random = Random(0x7ea5e);
    for id in 0..count {
        let words = make(&raw, &mut random, (id & 0xff) as u16, address);
        if !raw.send_all(std::iter::once(words))? {
            break;
        }
    }
    raw.verdict()
}

/// Sixteen empty segments, for bulk, interrupt and control transfers.
pub(crate) fn empty_segments() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let address = raw.configure()?;
    let nothing = Segment { gref: raw.page.gref().0, offset: 4096, length: 0 };
    let data = Segments::new(&[nothing; 16])?;
    let kinds =
        [Kind::Bulk, Kind::Interrupt { interval: 1 }, Kind::Control(setup(0x80, 6, 1 << 8, 0))];
    for (id, kind) in (10..).zip(kinds) {
        let mut words = encode(id, &raw.transfer(kind, 2, Direction::Out, data));
        readdress(&mut words, address);
        raw.request(&words)?;
    }
    raw.verdict()
}

/// This many requests with the same id.
pub(crate) fn duplicate(count: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let words = raw.good(3);
    (0..count).for_each(|_| raw.put(&words));
    raw.publish()?;
    raw.verdict()
}

/// Requests that a device without an address does not accept: everything except its descriptors.
pub(crate) fn address_0() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    for endpoint in [1, 2, 15] {
        for (kind, direction) in kinds_and_directions() {
            let words = raw.data(10, kind, endpoint, direction);
            raw.request(&words)?;
        }
    }
    // SET_CONFIGURATION, GET_STATUS, a class request (reset), a vendor request.
    for words in
        [setup(0, 9, 1, 0), setup(0x80, 0, 0, 2), setup(0x21, 255, 0, 0), setup(0xc0, 1, 0, 8)]
    {
        let words = raw.control(30, words.to_bytes());
        raw.request(&words)?;
    }
    raw.verdict()
}

/// Bulk and interrupt transfers, in both directions.
fn kinds_and_directions() -> impl Iterator<Item = (Kind, Direction)> {
    let kinds = [Kind::Bulk, Kind::Interrupt { interval: 1 }];
    kinds.into_iter().flat_map(|kind| [(kind, Direction::In), (kind, Direction::Out)])
}

/// Sets an address that no device can have.
pub(crate) fn set_address(address: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let words = setup(0, 5, u16::try_from(address).unwrap_or(u16::MAX), 0).to_bytes();
    let words = raw.control(1, words);
    raw.send(&words)?;
    raw.verdict()
}

/// Endpoints that the device does not have, with bulk and interrupt transfers in both directions.
pub(crate) fn no_such_endpoint() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let address = raw.configure()?;
    for endpoint in [5, 15] {
        for (kind, direction) in kinds_and_directions() {
            let words = addressed_to(raw.data(20, kind, endpoint, direction), address);
            raw.request(&words)?;
        }
    }
    raw.verdict()
}

/// An unlink whose target is its own id.
pub(crate) fn unlink_itself() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let words = unlink(&raw, 5, 5);
    raw.send(&words)?;
    raw.verdict()
}

/// Unlinks of this many ids, spread over all 16 bits, mixed with requests that have these ids.
pub(crate) fn unlink_all(count: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let address = raw.configure()?;
    let count = count.clamp(1, 1 << 16);
    let id = |number: u32| ((number * ((1 << 16) / count)) & 0xffff) as u16;
    let all: Vec<RequestWords> = (0..count)
        .map(|number| {
            // Every fifth request is a read without data to read, which is in flight when it is
            // unlinked.
            let words = match number % 5 {
                0 => raw.data(id(number), Kind::Bulk, 1, Direction::In),
                _ => unlink(&raw, id(number), id(number - number % 5)),
            };
            addressed_to(words, address)
        })
        .collect();
    raw.send_all(all.into_iter())?;
    raw.verdict()
}

fn unlink(raw: &Raw, id: u16, target: u16) -> RequestWords {
    let mut words = raw.good(id);
    words.0[1] |= 1 << 5;
    words.0[3] = target.into();
    words
}

/// Selects configurations and alternate settings and clears halts, whether they exist or not.
pub(crate) fn configure(raw: &Raw, random: &mut Random, id: u16, address: u8) -> RequestWords {
    let value = [0, 1, 2, 255, 256, 0xffff][random.below(6) as usize];
    let bytes = match random.below(3) {
        0 => setup(0, 9, value, 0),
        1 => setup(1, 11, value, 0),
        _ => setup(2, 1, 0, 0),
    };
    let mut bytes = bytes.to_bytes();
    bytes[4] = [0, 1, 0x81, 2, 0xff][random.below(5) as usize];
    addressed_to(raw.control(id, bytes), address)
}

/// Sets an address and a configuration alternately. Each changes the port status, which the backend
/// reports.
pub(crate) fn configure_and_address(count: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let address = raw.configure()?;
    let turns = [setup(0, 5, address.into(), 0), setup(0, 9, 1, 0)];
    let all: Vec<_> = (0..count)
        .zip(turns.into_iter().cycle())
        .map(|(id, setup)| {
            addressed_to(raw.control((id & 0xffff) as u16, setup.to_bytes()), address)
        })
        .collect();
    raw.send_all(all.into_iter())?;
    raw.verdict()
}

/// Resets the port repeatedly: the backend interprets SET_ADDRESS at address 0 as a reset.
pub(crate) fn reset_often(count: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    for id in 0..count {
        let words = raw.control((id & 0xffff) as u16, setup(0, 5, 3, 0).to_bytes());
        raw.request(&words)?;
    }
    raw.verdict()
}

/// A random control request that reads.
pub(crate) fn any_control(raw: &Raw, random: &mut Random, id: u16, address: u8) -> RequestWords {
    let [a, b, c, d] = random.next().to_le_bytes();
    let kind = [0x80, 0x81, 0x82, 0xa1, 0xc0, 0x9f, a][random.below(7) as usize];
    let length = [0, 1, 255, 4096][random.below(4) as usize];
    let words = raw.control(id, setup(kind, b % 16, u16::from_le_bytes([c, d]), length).to_bytes());
    addressed_to(words, if random.below(8) == 0 { 0 } else { address })
}

/// A random transfer: to any endpoint, sometimes to any port and address, with any segments within
/// the page.
pub(crate) fn any_request(raw: &Raw, random: &mut Random, id: u16, address: u8) -> RequestWords {
    let segment = |random: &mut Random| {
        let offset = random.below(4097);
        let length = random.below(4097 - offset);
        let small = |number: u32| u16::try_from(number).unwrap_or(0);
        Segment { gref: raw.page.gref().0, offset: small(offset), length: small(length) }
    };
    let list: Vec<Segment> = (0..random.below(17)).map(|_| segment(random)).collect();
    let data = Segments::new(&list).unwrap_or_default();
    let direction = if random.below(2) == 0 { Direction::In } else { Direction::Out };
    let kind = if random.below(2) == 0 { Kind::Bulk } else { Kind::Interrupt { interval: 1 } };
    // Not endpoint 1: a read there would wait until a command asks for data.
    let endpoint = 2 + u8::try_from(random.below(14)).unwrap_or(0);
    let mut words = encode(id, &raw.transfer(kind, endpoint, direction, data));
    words.0[2] = random.next();
    if random.below(8) > 0 {
        return addressed_to(words, address);
    }
    words.0[1] = words.0[1] & !0x1f | (1 + random.below(31));
    addressed_to(words, (random.next() & 0x7f) as u8)
}

fn addressed_to(mut words: RequestWords, address: u8) -> RequestWords {
    readdress(&mut words, address);
    words
}
