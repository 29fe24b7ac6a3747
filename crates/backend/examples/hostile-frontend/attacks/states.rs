//! States that no driver goes through, and controllers that come and go.

use vusb_xen::State;
use vusb_xen::store::Nodes as _;

use crate::frontend::{Failure, Frontend, Place};
use crate::raw::{Random, Raw};

/// States as a guest might write them: all that there are, and some that there are not.
const STATES: [&str; 9] = ["1", "4", "5", "6", "3", "2", "99", "", "4 "];

fn write(place: &mut Place, state: &[u8]) -> Result<(), Failure> {
    Ok(place.store.write_bytes(&format!("{}/state", place.ours), state)?)
}

/// From a controller in use to all other states, as fast as can be; then it is used anew.
pub(crate) fn flap(count: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let good = raw.good(1);
    raw.send(&good)?;
    let place = &mut raw.front.place;
    let mut random = Random(0xf1a9);
    for _ in 0..count {
        let state = STATES[random.below(9) as usize];
        write(place, state.as_bytes())?;
    }
    anew(raw)
}

/// States that are no text, too long, or no number at all.
pub(crate) fn garbage() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let place = &mut raw.front.place;
    for state in
        [&[0xff_u8, 0xfe, 0x80][..], &[0; 3], "vier".as_bytes(), &[b'4'; 2000], &[0xc3; 2000]]
    {
        write(place, state)?;
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    anew(raw)
}

/// The state is taken away, and the guest's folder is closed to everybody.
pub(crate) fn gone() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let place = &mut raw.front.place;
    let path = format!("{}/state", place.ours);
    place.store.remove(&path)?;
    place.await_state("the backend to close", &[State::Closed])?;
    write(place, b"1")?;
    let perms = vusb_xen::store::Perms::private(place.store.own_domain()?);
    place.store.set_permissions(&path, &perms)?;
    place.await_state("the backend to wait for us", &[State::InitWait])?;
    anew(raw)
}

/// Connects, asks, and goes without waiting, so many times.
pub(crate) fn comes_and_goes(count: u32) -> Result<String, Failure> {
    for _ in 0..count {
        let mut raw = Raw::connect()?;
        let words: Vec<_> = (0..16).map(|id| raw.good(id)).collect();
        words.iter().for_each(|it| raw.put(it));
        raw.show()?;
        write(&mut raw.front.place, b"6")?;
    }
    Raw::connect()?.verdict()
}

/// Closes its channel while the backend has something to say, and connects anew.
pub(crate) fn channel_closed() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let words: Vec<_> = (0..16).map(|id| raw.good(id)).collect();
    words.iter().for_each(|it| raw.put(it));
    raw.show()?;
    raw.front.events.unbind(raw.front.channel)?;
    raw.settle()?;
    anew(raw)
}

/// Leaves in good order, connects again, and sees whether that works.
fn anew(mut raw: Raw) -> Result<String, Failure> {
    raw.front.place.leave()?;
    drop(raw);
    Raw::on(Frontend::connect()?)?.verdict()
}
