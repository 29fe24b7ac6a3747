//! Untrue words in the store of where rings and channel are.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use vusb_xen::State;
use vusb_xen::gntalloc::Shared;
use vusb_xen::store::{Nodes as _, Store};

use crate::frontend::{Failure, Frontend, PATIENCE};
use crate::raw::Raw;

/// Grants that Xen's toolstack has given dom0 for the guest's console and the store (Xen `grant_table.h`): somebody else's.
const CONSOLE: &str = "0";

/// What stands in the three nodes; `None`: the truth.
type Words = [Option<Vec<u8>>; 3];

/// The lie of this number.
pub(crate) fn silly(number: u32) -> Result<String, Failure> {
    let mut front = Frontend::prepare()?;
    let _ = front.connects.fill();
    let read_only = front.page(false)?;
    let stranger = stranger(&front)?;
    let said = lie(&front, number, &read_only, &stranger)?;
    announce(&mut front, said)?;
    front.place.await_state(
        "the backend to connect",
        &[State::Connected, State::Closing, State::Closed],
    )?;
    Raw::on(front)?.verdict()
}

fn lie(
    front: &Frontend,
    number: u32,
    read_only: &Shared,
    stranger: &Shared,
) -> Result<Words, Failure> {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let all = |word: &str| [text(word), text(word), text(word)];
    let first = |word: &str| [text(word), None, None];
    Ok(match number {
        0 => all(""),
        1 => all("-1"),
        2 => all("4294967296"),
        3 => all("99999999999999999999999999999"),
        4 => all("7 "),
        5 => all(&"9".repeat(1500)),
        6 => [Some(vec![0xff, 0xfe, 0x80]), Some(vec![0xc3]), Some(vec![0])],
        7 => first("4294967295"),
        8 => first(&read_only.gref().to_string()),
        9 => first(&stranger.gref().to_string()),
        // Both rings in one page: the second begins with the indexes of the first.
        10 => [None, text(&front.grefs[0].to_string()), None],
        11 => [text(&front.grefs[1].to_string()), text(&front.grefs[0].to_string()), None],
        12 => [None, None, text("0")],
        // The guest's own channel to the store is bound already.
        13 => [None, None, text("1")],
        14 => [None, None, text("4294967295")],
        15 => [None, text(CONSOLE), text("4095")],
        _ => return Err(Failure::NoAttack(format!("nodes {number}"))),
    })
}

/// A page that is lent to another domain than the backend's.
fn stranger(front: &Frontend) -> Result<Shared, Failure> {
    let other = vusb_xen::DomId::new(front.place.backend.get() + 1).unwrap_or(front.place.backend);
    Ok(front.allocator.allocate(other, true)?)
}

fn announce(front: &mut Frontend, words: Words) -> Result<(), Failure> {
    let [urbs, connects] = front.grefs;
    let truth = [urbs.to_string(), connects.to_string(), front.channel.to_string()];
    let names = ["urb-ring-ref", "conn-ring-ref", "event-channel"];
    for ((name, truth), word) in names.iter().zip(truth).zip(words) {
        let path = format!("{}/{name}", front.place.ours);
        front.place.store.write_bytes(&path, &word.unwrap_or_else(|| truth.into_bytes()))?;
    }
    front.place.say(State::Connected)
}

/// The nodes change as fast as they can while the backend reads them, so many times.
pub(crate) fn change(rounds: u32) -> Result<String, Failure> {
    for _ in 1..rounds {
        let mut front = Frontend::prepare()?;
        let _ = front.connects.fill();
        hammered(&mut front)?;
        front.place.leave()?;
    }
    let mut front = Frontend::prepare()?;
    let _ = front.connects.fill();
    hammered(&mut front)?;
    Raw::on(front)?.verdict()
}

fn hammered(front: &mut Frontend) -> Result<(), Failure> {
    let stop = AtomicBool::new(false);
    let ours = front.place.ours.clone();
    let truth = front.grefs[0].to_string();
    std::thread::scope(|scope| {
        let hammer = scope.spawn(|| {
            let mut store = Store::connect(PATIENCE)?;
            while !stop.load(Relaxed) {
                store.write(&format!("{ours}/urb-ring-ref"), &truth)?;
            }
            Ok::<_, Failure>(())
        });
        std::thread::sleep(Duration::from_millis(50));
        let known = [State::Connected, State::Closing, State::Closed];
        // Not in a transaction: the other thread would disturb it.
        let done = announce(front, [None, None, None])
            .and_then(|()| front.place.await_state("the backend to make up its mind", &known));
        stop.store(true, Relaxed);
        hammer
            .join()
            .map_err(|_| Failure::Unexpected("a thread that ended badly".to_owned()))??;
        done.map(drop)
    })
}
